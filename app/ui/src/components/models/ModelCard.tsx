import type { CatalogueEntry } from '@/api/types';
import { Button } from '@/components/ui/Button';
import { useT } from '@/i18n';
import { formatBytes, formatCount } from '@/lib/format';

/** A model of the catalogue: what it is, what it takes, and a button that gets it. */
export function ModelCard({ entry, onGet }: { entry: CatalogueEntry; onGet: () => void }) {
  const t = useT();
  return (
    <article className="flex items-center gap-3 rounded-lg border border-line bg-ground px-4 py-3">
      <div className="min-w-0 grow">
        <h3 className="font-medium">{entry.name}</h3>
        <p className="text-sm text-muted">{entry.about}</p>
        <p className="text-sm text-muted">
          {t('models.card', {
            params: formatCount(entry.n_params),
            size: formatBytes(entry.bytes),
            memory: formatBytes(entry.memory_bytes),
          })}
        </p>
      </div>
      <Button look="primary" aria-label={t('models.get_name', { name: entry.name })} onClick={onGet}>
        {t('models.get_one')}
      </Button>
    </article>
  );
}
