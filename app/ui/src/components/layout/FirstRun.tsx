import { useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { PullProgress } from '@/components/models/PullProgress';
import { Button } from '@/components/ui/Button';
import { useDaemon } from '@/hooks/useDaemon';
import { useCatalogue } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { formatBytes } from '@/lib/format';
import { useNavigation } from '@/stores/navigation';
import { usePulls } from '@/stores/pulls';
import { showError } from '@/stores/toasts';

/** Where there is no model yet: one click gets the one we recommend for this machine; the others are a page away. */
export default function FirstRun() {
  const t = useT();
  const client = useQueryClient();
  const go = useNavigation((navigation) => navigation.go);
  const { data: catalogue } = useCatalogue();
  const { data: status } = useDaemon();
  const { pulls, start, find } = usePulls();
  const budget = status?.memory.budget_bytes ?? 0;
  const fitting = catalogue?.filter((entry) => budget === 0 || entry.memory_bytes <= budget) ?? [];
  // The smallest answers at once on any machine; bigger ones are chosen by who knows theirs.
  const first = [...(fitting.length ? fitting : (catalogue ?? []))].sort((a, b) => a.bytes - b.bytes)[0];
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
      {first && !running && (
        <Button look="primary" className="text-lg" onClick={() => void start(client, first.name).catch(showError)}>
          {t('first.get', { name: first.name, size: formatBytes(first.bytes) })}
        </Button>
      )}
      <div className="flex flex-wrap justify-center gap-2">
        <Button onClick={() => go({ page: 'models' })}>{t('models.get')}</Button>
      </div>
      <p className="text-sm text-muted">{t('first.private')}</p>
    </section>
  );
}
