import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import { api } from '@/api/client';
import { Button } from '@/components/ui/Button';
import { Facts } from '@/components/ui/Facts';
import { useDaemon } from '@/hooks/useDaemon';
import { useOptions } from '@/hooks/useOptions';
import { useT } from '@/i18n';
import { formatBytes, formatDuration } from '@/lib/format';
import { showError } from '@/stores/toasts';
import { RestartButton } from './RestartNote';
import { Panel } from './SettingRow';

/** How the daemon is, its restart and its end: running answers may finish first. */
export function DaemonControl() {
  const t = useT();
  const { data: status, error } = useDaemon();
  const { data: options } = useOptions();
  const [asking, setAsking] = useState(false);
  const drain = useMutation({
    mutationFn: () => api('POST /ui-api/drain', { body: { now: false } }),
    onError: showError,
    onSettled: () => setAsking(false),
  });
  const rows = status && ([
    [t('daemon.state'), t(`daemon.${status.state}`)],
    [t('daemon.version'), status.version],
    [t('daemon.uptime'), formatDuration(status.uptime_s)],
    [t('daemon.backend'), `${status.engine.backend}, ${status.engine.n_threads} × ${status.engine.cpu_features || 'CPU'}`],
    ...(status.engine.activations === 8 ? [[t('options.activations'), t('daemon.activations', { n: 8 })] as const] : []),
    [t('daemon.models'), String(status.models.loaded)],
    [t('daemon.weights'), formatBytes(status.memory.weight_bytes)],
    [t('daemon.kv'), `${formatBytes(status.memory.kv_bytes_used)} / ${formatBytes(status.memory.kv_bytes_budget)}`],
    [t('daemon.answers'), `${status.streams.running} (+${status.streams.queued})`],
  ] as const);
  return (
    <Panel title={t('daemon.title')}>
      {error && <p className="text-danger">{error.message}</p>}
      {rows && <Facts rows={rows} />}
      {options && !options.can_restart && <p className="pt-3 text-sm text-muted">{t('daemon.restart.cannot', { why: options.note })}</p>}
      <div className="flex flex-wrap items-center gap-2 pt-3">
        {options?.can_restart && <RestartButton disabled={status?.state !== 'ready'} />}
        {asking ? (
          <>
            <span className="text-sm">{t('daemon.drain.sure')}</span>
            <Button small look="danger" disabled={drain.isPending} onClick={() => drain.mutate()}>
              {t('daemon.drain')}
            </Button>
            <Button small onClick={() => setAsking(false)}>
              {t('cancel')}
            </Button>
          </>
        ) : (
          <Button small look="danger" disabled={status?.state !== 'ready'} onClick={() => setAsking(true)}>
            {t('daemon.drain')}
          </Button>
        )}
      </div>
    </Panel>
  );
}
