import { useQueryClient } from '@tanstack/react-query';
import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { useT } from '@/i18n';
import { formatBytes } from '@/lib/format';
import { showError } from '@/stores/toasts';
import { usePulls, type Pull } from '@/stores/pulls';

export function PullProgress({ pull }: { pull: Pull }) {
  const t = useT();
  const client = useQueryClient();
  const { start, cancel, forget } = usePulls();
  const { progress, end } = pull;
  const [came, size] = !progress ? [0, 0] : progress.total > 0 ? [progress.done, progress.total] : [progress.file_done, progress.file_total];
  const done = end !== null && !end.error && !end.cancelled;
  const text = done
    ? t('pull.done', { name: end.name })
    : end?.cancelled
      ? t('pull.cancelled')
      : end?.error
        ? end.error.message
        : size > 0
          ? t('pull.bytes', { done: formatBytes(came), total: formatBytes(size) })
          : t('pull.begins');
  return (
    <section aria-label={pull.source} className="rounded-lg border border-line bg-panel px-4 py-3">
      <div className="flex flex-wrap items-center gap-3">
        <span className="font-medium">{pull.source}</span>
        <span className={`text-sm ${end?.error && !end.cancelled ? 'text-danger' : 'text-muted'}`}>{text}</span>
        <span className="grow" />
        {!end && (
          <Button small onClick={() => void cancel(pull.id).catch(showError)}>
            {t('pull.pause')}
          </Button>
        )}
        {end && !done && (
          <Button
            small
            look="primary"
            onClick={() => {
              forget(pull.id);
              start(client, pull.source).catch(showError);
            }}
          >
            {t('pull.resume')}
          </Button>
        )}
        {end && (
          <Button small look="ghost" aria-label={t('close')} onClick={() => forget(pull.id)}>
            <Icon name="close" />
          </Button>
        )}
      </div>
      {!end && (
        <progress
          aria-label={pull.source}
          className="mt-2 h-2 w-full"
          {...(size > 0 ? { max: size, value: came } : {})}
        />
      )}
    </section>
  );
}
