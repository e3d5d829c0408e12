import { useMemo } from 'react';
import { useT } from '@/i18n';
import { formatMs } from '@/lib/format';
import { bucketsOf, quantileOf, type History, type Latency } from '@/lib/metrics';
import { Chart, type Line } from './Chart';

const QUANTILES = [0.5, 0.95, 0.99];
const seconds = (s: number) => formatMs(s * 1000);

/** How long requests of the window took, by the buckets of the daemon's histogram. */
export function LatencyChart({ history, model, latency }: { history: History; model: string; latency: Latency }) {
  const t = useT();
  const buckets = useMemo(() => bucketsOf(history, latency, model), [history, latency, model]);
  // From the first to the last that have any.
  const shown = useMemo(() => {
    const has = ({ n }: { n: number }) => n > 0;
    return buckets.slice(Math.max(0, buckets.findIndex(has)), buckets.findLastIndex(has) + 1);
  }, [buckets]);
  const x = useMemo(() => shown.map((_, at) => at), [shown]);
  const lines = useMemo<Line[]>(() => [{ label: t('metrics.count'), colour: 'accent', values: shown.map(({ n }) => n) }], [shown, t]);
  if (shown.length === 0) return <p className="py-6 text-center text-muted">{t('metrics.no_requests')}</p>;
  const nameOf = (at: number) => {
    const to = shown[at]?.to ?? Infinity;
    return to === Infinity ? '∞' : `≤ ${seconds(to)}`;
  };
  return (
    <>
      <Chart bars label={t(`metrics.latency.${latency}`)} x={x} names={nameOf} lines={lines} format={(n) => (Number.isInteger(n) ? String(n) : '')} />
      <dl className="flex flex-wrap gap-x-5 text-sm">
        {QUANTILES.map((share) => (
          <div key={share} className="flex gap-1.5">
            <dt className="text-muted">p{share * 100}</dt>
            <dd className="tabular-nums">{seconds(quantileOf(buckets, share) ?? 0)}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}
