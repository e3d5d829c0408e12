import { useState } from 'react';
import type { UiOptions } from '@/api/schema';
import { Button } from '@/components/ui/Button';
import { useRestart } from '@/hooks/useOptions';
import { useT } from '@/i18n';
import { showError } from '@/stores/toasts';

/** Asks first: answers under way are finished, models are loaded anew. */
export function RestartButton({ disabled = false }: { disabled?: boolean }) {
  const t = useT();
  const restart = useRestart();
  const [asking, setAsking] = useState(false);
  if (!asking) {
    return (
      <Button small disabled={disabled || restart.isPending} onClick={() => setAsking(true)}>
        {t('daemon.restart')}
      </Button>
    );
  }
  return (
    <span className="flex flex-wrap items-center gap-2">
      <span className="text-sm">{t('daemon.restart.sure')}</span>
      <Button
        small
        look="primary"
        onClick={() => {
          setAsking(false);
          restart.mutate(undefined, { onError: showError });
        }}
      >
        {t('daemon.restart')}
      </Button>
      <Button small onClick={() => setAsking(false)}>
        {t('cancel')}
      </Button>
    </span>
  );
}

/** What stands between the file of options and the daemon that runs. */
export function RestartNote({ options }: { options: UiOptions }) {
  const t = useT();
  return (
    <div role="status" className="flex flex-col gap-2 empty:hidden">
      {!options.writable && <p className="rounded-md bg-warn px-3 py-2 text-sm text-warn-text">{t('options.read_only', { file: options.file || '—' })}</p>}
      {options.note && options.restart_needed && <p className="rounded-md bg-warn px-3 py-2 text-sm break-words text-warn-text">{options.note}</p>}
      {options.restart_needed && (
        <div className="flex flex-wrap items-center gap-3 rounded-md bg-warn px-3 py-2 text-sm text-warn-text">
          <span className="grow">{t('options.restart_needed')}</span>
          {options.can_restart && <RestartButton />}
        </div>
      )}
    </div>
  );
}
