import { useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import type { Catalogue, CatalogueEntry } from '@/api/types';
import { PullProgress } from '@/components/models/PullProgress';
import { Button } from '@/components/ui/Button';
import { useDaemon } from '@/hooks/useDaemon';
import { useCatalogue } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { formatBytes } from '@/lib/format';
import { useNavigation } from '@/stores/navigation';
import { usePulls } from '@/stores/pulls';
import { showError } from '@/stores/toasts';

/**
 * Those to begin with on this machine, the one that answers best first: it leaves half of the memory to others. The smallest is there
 * sooner, and where nothing is known of the memory it is the only one.
 */
export function toBeginWith({ models, machine_bytes }: Catalogue, budget_bytes: number): CatalogueEntry[] {
  const room = Math.min(budget_bytes || Infinity, machine_bytes / 2 || Infinity);
  const known = models.filter((entry) => entry.first).sort((a, b) => a.bytes - b.bytes);
  const best = room === Infinity ? undefined : known.findLast((entry) => entry.memory_bytes <= room);
  return [...new Set([best ?? known[0], known[0]])].filter((entry) => entry !== undefined);
}

/** Where there is no model yet: one click gets the one we recommend for this machine; the others are a page away. */
export default function FirstRun() {
  const t = useT();
  const client = useQueryClient();
  const go = useNavigation((navigation) => navigation.go);
  const { data: catalogue } = useCatalogue();
  const { data: status } = useDaemon();
  const { pulls, start, find } = usePulls();
  const offered = catalogue && status ? toBeginWith(catalogue, status.memory.budget_bytes) : [];
  const running = pulls.some((pull) => !pull.end);
  useEffect(() => {
    find(client).catch(() => undefined);
  }, [client, find]);
  return (
    <section aria-label={t('first.title')} className="flex w-full max-w-xl flex-col items-center gap-4 p-4 text-center">
      <img src="/favicon.svg" alt="" width={64} height={64} />
      <h1 className="text-2xl font-semibold">{t('first.title')}</h1>
      <p className="text-muted">{t('first.text')}</p>
      {pulls.map((pull) => (
        <div key={pull.id} className="w-full text-start">
          <PullProgress pull={pull} />
        </div>
      ))}
      {!running && (
        <ul className="flex flex-col gap-3">
          {offered.map(({ name, bytes, about }, at) => (
            <li key={name} className="flex flex-col items-center gap-1">
              <Button look={at === 0 ? 'primary' : 'plain'} className={at === 0 ? 'text-lg' : ''} onClick={() => void start(client, name).catch(showError)}>
                {t('first.get', { name, size: formatBytes(bytes) })}
              </Button>
              <span className="text-sm text-muted">{about}</span>
            </li>
          ))}
        </ul>
      )}
      <Button onClick={() => go({ page: 'models' })}>{t('models.get')}</Button>
      <p className="text-sm text-muted">{t('first.private')}</p>
    </section>
  );
}
