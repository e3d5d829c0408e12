import { useMemo } from 'react';
import { useT } from '@/i18n';
import { formatRate } from '@/lib/format';
import { ratesOf, sumOf, type History } from '@/lib/metrics';
import { Chart, type Line } from './Chart';

/** Tokens a second: made, and read as prompts. */
export function ThroughputChart({ history, model }: { history: History; model: string }) {
  const t = useT();
  const lines = useMemo<Line[]>(() => {
    const rate = (name: string) => ratesOf(history.times, sumOf(history, name, model));
    return [
      { label: t('metrics.generated'), colour: 'accent', values: rate('generation_tokens_total') },
      { label: t('metrics.prompt'), colour: 'hl-title', values: rate('prompt_tokens_total') },
      { label: t('metrics.from_cache'), colour: 'hl-number', values: rate('prompt_tokens_cached_total') },
    ];
  }, [history, model, t]);
  return <Chart label={t('metrics.throughput')} x={history.times} lines={lines} format={formatRate} />;
}
