import { useDaemon } from '@/hooks/useDaemon';
import { useT } from '@/i18n';
import { useConnection } from '@/stores/connection';

/** Says when the daemon does not answer, is still loading, or ends. */
export function ConnectionBanner() {
  const t = useT();
  const { data } = useDaemon();
  const online = useConnection((connection) => connection.online);
  const text = !online
    ? t('banner.offline')
    : data?.state === 'draining'
      ? t('banner.draining')
      : data?.state === 'loading'
        ? t('banner.loading')
        : data?.engine.alive === false
          ? t('banner.stalled')
          : '';
  return (
    <div role="status" aria-live="polite">
      {text && <p className="bg-warn px-3 py-1.5 text-sm text-warn-text">{text}</p>}
    </div>
  );
}
