import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { setApiKey } from '@/api/client';
import { Button } from '@/components/ui/Button';
import { Dialog } from '@/components/ui/Dialog';
import { useT } from '@/i18n';
import { useConnection } from '@/stores/connection';

/** Asks for an API key where the daemon wants one. It is kept until the page is closed, in memory only. */
export function KeyDialog() {
  const t = useT();
  const client = useQueryClient();
  const needsKey = useConnection((connection) => connection.needsKey);
  const [key, setKey] = useState('');
  const [refused, setRefused] = useState(false);
  if (!needsKey) return null;
  return (
    <Dialog fixed label={t('key.title')} onClose={() => undefined}>
      <form
        className="flex flex-col gap-3 p-5"
        onSubmit={(event) => {
          event.preventDefault();
          setApiKey(key.trim());
          setKey('');
          setRefused(false);
          void client.refetchQueries({ queryKey: ['status'] }).then(() => {
            if (useConnection.getState().needsKey) setRefused(true);
            else void client.invalidateQueries();
          });
        }}
      >
        <h2 className="text-lg font-semibold">{t('key.title')}</h2>
        <p className="text-sm text-muted">{t('key.how')}</p>
        <input
          type="password"
          autoComplete="off"
          autoFocus
          aria-label={t('key.title')}
          value={key}
          onChange={(event) => setKey(event.target.value)}
          className="rounded-md border border-line bg-ground px-3 py-2"
        />
        {refused && (
          <p role="alert" className="text-sm text-danger">
            {t('key.refused')}
          </p>
        )}
        <Button type="submit" look="primary" disabled={!key.trim()}>
          {t('key.use')}
        </Button>
      </form>
    </Dialog>
  );
}
