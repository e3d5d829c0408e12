import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { Button } from '@/components/ui/Button';
import { Dialog } from '@/components/ui/Dialog';
import { useCatalogue } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { usePulls } from '@/stores/pulls';
import { showError } from '@/stores/toasts';
import { ModelCard } from './ModelCard';

/** Gets a model: one of the catalogue, or any source that `mlxr pull` takes. Progress is shown on the page behind. */
export function ModelPullDialog({ onClose }: { onClose: () => void }) {
  const t = useT();
  const client = useQueryClient();
  const start = usePulls((pulls) => pulls.start);
  const { data: catalogue, error } = useCatalogue();
  const [source, setSource] = useState('');
  const get = (from: string) => {
    onClose();
    start(client, from).catch(showError);
  };
  return (
    <Dialog label={t('models.get')} onClose={onClose}>
      <div className="flex flex-col gap-3 p-5">
        <h2 className="text-lg font-semibold">{t('models.get')}</h2>
        <form
          className="flex gap-2"
          onSubmit={(event) => {
            event.preventDefault();
            get(source.trim());
          }}
        >
          <input
            autoFocus
            aria-label={t('pull.source')}
            placeholder={t('pull.source')}
            value={source}
            onChange={(event) => setSource(event.target.value)}
            className="min-w-0 grow rounded-md border border-line bg-ground px-3 py-2"
          />
          <Button type="submit" look="primary" disabled={!source.trim()}>
            {t('models.get_one')}
          </Button>
        </form>
        {error && <p className="text-danger">{error.message}</p>}
        {catalogue?.models.map((entry) => (
          <ModelCard key={entry.name} entry={entry} onGet={() => get(entry.name)} />
        ))}
      </div>
    </Dialog>
  );
}
