import { useModelActions, useModels } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { formatDuration } from '@/lib/format';
import { stayText } from './stay';

const CHOICES = [60, 300, 1800, 7200, -1] as const;

/** How long a model stays in memory when nobody uses it; choosing loads it where it is not. */
export function KeepAlive({ name }: { name: string }) {
  const t = useT();
  const { rows = [] } = useModels();
  const { load } = useModelActions();
  const loaded = rows.find((row) => row.name === name)?.loaded;
  const now = !loaded ? t('models.on_disk') : loaded.loading ? t('models.loading') : stayText(t, loaded);
  return (
    <section aria-label={t('keep.title')} className="flex flex-wrap items-center gap-2 border-t border-line pt-2">
      <h3 className="font-medium">{t('keep.title')}</h3>
      <span role="status" className="grow text-sm text-muted">
        {now}
      </span>
      {!loaded?.pinned && (
        <select
          aria-label={t('keep.choose')}
          value=""
          disabled={load.isPending}
          onChange={({ target }) => load.mutate({ model: name, keep_alive_s: Number(target.value) })}
          className="min-h-9 rounded-md border border-line bg-ground px-2 text-sm"
        >
          <option value="" disabled>
            {t('keep.choose')}
          </option>
          {CHOICES.map((seconds) => (
            <option key={seconds} value={seconds}>
              {seconds < 0 ? t('keep.for_ever') : formatDuration(seconds)}
            </option>
          ))}
        </select>
      )}
    </section>
  );
}
