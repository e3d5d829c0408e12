import type { DaemonStatus } from '@/api/types';
import type { RegistryRow } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { formatBytes } from '@/lib/format';
import { stayText } from './stay';

/** Bytes on the disk: of files that several names share once. */
function bytesOnDisk(rows: readonly RegistryRow[]): number {
  return [...new Map(rows.map((row) => [row.path, row.bytes])).values()].reduce((sum, bytes) => sum + bytes, 0);
}

function Figure({ label, value, share }: { label: string; value: string; share?: number | undefined }) {
  return (
    <div className="min-w-36 grow rounded-lg border border-line bg-raised px-4 py-2">
      <dt className="text-sm text-muted">{label}</dt>
      <dd className="text-lg font-semibold tabular-nums">
        {value}
        {share !== undefined && <meter aria-label={label} min={0} max={1} value={share} className="block h-2 w-full" />}
      </dd>
    </div>
  );
}

/** How much there is, how much of it is in memory, and until when. */
export function ModelStats({ rows, status }: { rows: readonly RegistryRow[]; status: DaemonStatus | undefined }) {
  const t = useT();
  const loaded = [...new Map(rows.flatMap((row) => (row.loaded ? [[row.loaded.path, row.loaded] as const] : []))).values()];
  const { weight_bytes = 0, kv_bytes_used = 0, kv_bytes_budget = 0, budget_bytes = 0 } = status?.memory ?? {};
  return (
    <section aria-label={t('stats.title')} className="flex flex-col gap-2">
      <dl className="flex flex-wrap gap-2">
        <Figure label={t('nav.models')} value={String(rows.length)} />
        <Figure label={t('stats.disk')} value={formatBytes(bytesOnDisk(rows))} />
        <Figure label={t('daemon.weights')} value={formatBytes(weight_bytes)} share={budget_bytes > 0 ? weight_bytes / budget_bytes : undefined} />
        <Figure
          label={t('daemon.kv')}
          value={`${formatBytes(kv_bytes_used)} / ${formatBytes(kv_bytes_budget)}`}
          share={kv_bytes_budget > 0 ? kv_bytes_used / kv_bytes_budget : undefined}
        />
      </dl>
      {loaded.length > 0 && (
        <ul className="flex flex-col gap-1 text-sm">
          {loaded.map((one) => (
            <li key={one.path} className="text-muted">
              <span className="font-medium text-text">{one.name}</span>{' '}
              {one.loading
                ? t('models.loading')
                : t('stats.loaded', { weights: formatBytes(one.weight_bytes), ctx: one.n_ctx, kv: formatBytes(one.kv_bytes_per_token), uses: one.n_uses })}
              {'; '}
              {stayText(t, one)}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
