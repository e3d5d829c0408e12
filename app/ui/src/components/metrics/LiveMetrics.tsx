import { useState } from 'react';
import { Select } from '@/components/ui/Select';
import { useMetrics } from '@/hooks/useMetrics';
import { useT } from '@/i18n';
import { formatBytes, formatRate, formatShare } from '@/lib/format';
import { gaugeOf, LATENCIES, ratesOf, shareOfHits, sumOf, type Latency } from '@/lib/metrics';
import { KernelTimeChart } from './KernelTimeChart';
import { KVChart } from './KVChart';
import { LatencyChart } from './LatencyChart';
import { MetricsCard } from './MetricsCard';
import { MetricsFilter } from './MetricsFilter';
import { StatsCard } from './StatsCard';
import { ThroughputChart } from './ThroughputChart';

const latencies = Object.keys(LATENCIES) as Latency[];

/** What the machine does, as it does it. */
export default function LiveMetrics() {
  const t = useT();
  const { history, models, error } = useMetrics();
  const [wanted, setWanted] = useState('');
  const [latency, setLatency] = useState<Latency>('first');
  const model = models.includes(wanted) ? wanted : '';
  const now = (name: string) => ratesOf(history.times, sumOf(history, name, model)).at(-1) ?? 0;
  const gauge = (name: string) => String(Math.round(sumOf(history, name).at(-1) ?? 0));
  const [running = 0, cached = 0, free = 0] = ['running', 'cached', 'free'].map((state) => gaugeOf(history, 'kv_cache_bytes', state).at(-1));
  const hits = shareOfHits(history);

  return (
    <div className="h-full overflow-auto" tabIndex={0} role="region" aria-label={t('nav.dashboard')}>
      <div className="mx-auto flex max-w-6xl flex-col gap-4 p-4">
        <div className="flex flex-wrap items-center gap-3">
          <h1 className="text-xl font-semibold">{t('nav.dashboard')}</h1>
          <span className="grow" />
          <MetricsFilter models={models} model={model} onModel={setWanted} />
        </div>
        {error && <p className="text-danger">{error}</p>}
        <dl className="grid grid-cols-2 gap-3 md:grid-cols-3 lg:grid-cols-6">
          <StatsCard label={t('metrics.generated')} value={formatRate(now('generation_tokens_total'))} />
          <StatsCard label={t('metrics.prompt')} value={formatRate(now('prompt_tokens_total'))} />
          <StatsCard label={t('metrics.running')} value={gauge('num_requests_running')} />
          <StatsCard label={t('metrics.waiting')} value={gauge('num_requests_waiting')} />
          <StatsCard
            label={t('metrics.kv')}
            value={formatBytes(running + cached)}
            more={t('metrics.of', { total: formatBytes(running + cached + free) })}
          />
          <StatsCard label={t('metrics.kv.hits')} value={hits === null ? '–' : formatShare(hits)} />
        </dl>
        <div className="grid gap-4 lg:grid-cols-2">
          <MetricsCard title={t('metrics.throughput')} about={t('metrics.throughput.about')}>
            <ThroughputChart history={history} model={model} />
          </MetricsCard>
          <MetricsCard
            title={t('metrics.latency')}
            about={t('metrics.latency.about')}
            control={
              <Select
                label={t('metrics.latency.of')}
                value={latency}
                options={latencies.map((one) => [one, t(`metrics.latency.${one}`)])}
                onChange={setLatency}
              />
            }
          >
            <LatencyChart history={history} model={model} latency={latency} />
          </MetricsCard>
          <MetricsCard title={t('metrics.kv')} about={t('metrics.kv.about')}>
            <KVChart history={history} />
          </MetricsCard>
          <MetricsCard title={t('profile.title')} about={t('profile.about')}>
            <KernelTimeChart />
          </MetricsCard>
        </div>
      </div>
    </div>
  );
}
