import { useMemo } from 'react';
import { useT } from '@/i18n';
import { BYTE_STEPS, formatBytes, formatShare } from '@/lib/format';
import { gaugeOf, growthBy, hitRates, type History } from '@/lib/metrics';
import { missText } from '@/lib/misses';
import { Chart, type Line } from './Chart';

/** What holds the KV cache, how much of prompts it has, and why it had no more. */
export function KVChart({ history }: { history: History }) {
  const t = useT();
  const bytes = useMemo<Line[]>(() => {
    const state = (name: string) => gaugeOf(history, 'kv_cache_bytes', name);
    return [
      { label: t('metrics.kv.running'), colour: 'accent', values: state('running') },
      { label: t('metrics.kv.cached'), colour: 'hl-title', values: state('cached') },
    ];
  }, [history, t]);
  const hits = useMemo<Line[]>(() => [{ label: t('metrics.kv.hits'), colour: 'hl-number', values: hitRates(history) }], [history, t]);
  const misses = growthBy(history, 'prefix_cache_misses_total');
  return (
    <>
      <Chart label={t('metrics.kv.bytes')} x={history.times} lines={bytes} format={formatBytes} steps={BYTE_STEPS} />
      <Chart label={t('metrics.kv.hits')} x={history.times} lines={hits} format={formatShare} max={1} />
      <table className="text-sm">
        <caption className="pb-1 text-start text-muted">{t('metrics.misses')}</caption>
        <tbody>
          {misses.map(({ label, n }) => (
            <tr key={label}>
              <th scope="row" className="pe-4 text-start font-normal">
                {missText(t, label)}
              </th>
              <td className="text-end tabular-nums">{Math.round(n)}</td>
            </tr>
          ))}
          {misses.length === 0 && (
            <tr>
              <td className="text-muted">{t('metrics.no_requests')}</td>
            </tr>
          )}
        </tbody>
      </table>
    </>
  );
}
