import { RestartButton } from '@/components/settings/RestartNote';
import { Button } from '@/components/ui/Button';
import { useDaemon } from '@/hooks/useDaemon';
import { useModelActions, useModels } from '@/hooks/useModels';
import { useOptions } from '@/hooks/useOptions';
import { useT } from '@/i18n';
import { formatBytes, formatDuration } from '@/lib/format';
import { StatusLight, useLight } from './StatusLight';

/** The daemon in a few lines, and what is done to it: for the header, or alone (/tray) in a menu bar. */
export function TrayPopover({ alone = false }: { alone?: boolean }) {
  const t = useT();
  const light = useLight();
  const { data: status, error } = useDaemon();
  const { data: options } = useOptions();
  const { rows = [] } = useModels();
  const { unload } = useModelActions();
  const loaded = [...new Map(rows.flatMap((row) => (row.loaded ? [[row.loaded.path, row] as const] : []))).values()];
  // Alone it is a small window: what it links to is another one.
  const elsewhere = alone ? { target: '_blank', rel: 'noreferrer' } : {};
  return (
    <section aria-label={t('tray.title')} className="flex flex-col gap-3 p-4 text-sm">
      <div className="flex items-center gap-2">
        <StatusLight />
        <span className="grow font-semibold">MLXR {status?.version}</span>
        <span className="text-muted">{t(`tray.${light}`)}</span>
      </div>
      {error && (
        <p role="alert" className="text-danger">
          {t('banner.offline')}
        </p>
      )}
      {status && !error && (
        <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-1">
          <dt className="text-muted">{t('daemon.uptime')}</dt>
          <dd className="text-end">{formatDuration(status.uptime_s)}</dd>
          <dt className="text-muted">{t('daemon.answers')}</dt>
          <dd className="text-end tabular-nums">{`${status.streams.running} (+${status.streams.queued})`}</dd>
          <dt className="text-muted">{t('daemon.weights')}</dt>
          <dd className="text-end tabular-nums">{formatBytes(status.memory.weight_bytes)}</dd>
          <dt className="text-muted">{t('daemon.kv')}</dt>
          <dd className="text-end tabular-nums">{formatBytes(status.memory.kv_bytes_used)}</dd>
        </dl>
      )}
      <ul aria-label={t('daemon.models')} className="flex flex-col gap-1 empty:hidden">
        {loaded.map((row) => (
          <li key={row.path} className="flex items-center gap-2">
            <span className="min-w-0 grow truncate">{row.name}</span>
            <Button small aria-label={t('tray.unload', { name: row.name })} disabled={unload.isPending} onClick={() => unload.mutate(row.name)}>
              {t('models.unload')}
            </Button>
          </li>
        ))}
      </ul>
      <div className="flex flex-wrap items-center gap-2 border-t border-line pt-3">
        {options?.can_restart && <RestartButton disabled={status?.state !== 'ready' || error !== null} />}
        <span className="grow" />
        <a href="/chat" {...elsewhere} className="text-accent underline">
          {t('nav.chat')}
        </a>
        <a href="/settings" {...elsewhere} className="text-accent underline">
          {t('nav.settings')}
        </a>
      </div>
    </section>
  );
}
