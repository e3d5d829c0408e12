import { KernelTimeChart } from '@/components/metrics/KernelTimeChart';
import { KVChart } from '@/components/metrics/KVChart';
import { LatencyChart } from '@/components/metrics/LatencyChart';
import LiveMetrics from '@/components/metrics/LiveMetrics';
import { MetricsCard } from '@/components/metrics/MetricsCard';
import { MetricsFilter } from '@/components/metrics/MetricsFilter';
import { StatsCard } from '@/components/metrics/StatsCard';
import { ThroughputChart } from '@/components/metrics/ThroughputChart';
import { EMPTY } from '@/lib/metrics';
import { useReadings } from '@/stores/metrics';
import { nothing, part, type Part } from './part';
import { press, sees, text } from './play';
import { history, never, profile, qwen, refused, smol, unreachable } from './world';

const record = () => press(text('profile.record'));

export const metrics: Part[] = [
  part('metrics/LiveMetrics', LiveMetrics, {
    full: { props: {}, before: () => useReadings.setState({ history }), height: 900 },
    empty: { props: {}, daemon: { 'GET /metrics': () => new Response('') }, height: 640 },
    error: { props: {}, before: () => useReadings.setState({ history }), daemon: { 'GET /metrics': unreachable }, play: () => sees('Failed to fetch'), height: 640 },
  }),
  part('metrics/ThroughputChart', ThroughputChart, {
    full: { props: { history, model: '' } },
    'of one model': { props: { history, model: smol.name } },
    empty: { props: { history: EMPTY, model: '' } },
  }),
  part('metrics/KVChart', KVChart, { full: { props: { history } }, empty: { props: { history: EMPTY } } }),
  part('metrics/LatencyChart', LatencyChart, {
    full: { props: { history, model: '', latency: 'first' } },
    between: { props: { history, model: qwen.name, latency: 'between' } },
    empty: { props: { history: EMPTY, model: '', latency: 'whole' } },
  }),
  part('metrics/KernelTimeChart', KernelTimeChart, {
    full: { props: {}, daemon: { 'POST /ui-api/profile': profile }, play: async () => { await record(); await sees('attention'); } },
    busy: { props: {}, daemon: { 'POST /ui-api/profile': never }, play: record },
    'nothing computed': { props: {}, daemon: { 'POST /ui-api/profile': { ...profile, phases: {} } }, play: async () => { await record(); await sees(text('profile.nothing')); } },
    error: { props: {}, daemon: { 'POST /ui-api/profile': refused(409, 'somebody else records') }, play: async () => { await record(); await sees('somebody else'); } },
    empty: { props: {} },
  }),
  part('metrics/MetricsCard', MetricsCard, {
    full: { props: { title: 'Latency', about: 'How long requests of the window took.', control: <button type="button" className="rounded-md border border-line px-2 text-sm">To the first token</button>, children: <LatencyChart history={history} model="" latency="first" /> } },
    empty: { props: { title: 'Latency', children: <p className="text-muted">No requests in this time.</p> } },
  }),
  part('metrics/StatsCard', StatsCard, {
    full: { props: { label: 'KV cache', value: '614 MiB', more: 'of 1.0 GiB' }, within: (card) => <dl>{card}</dl> },
    empty: { props: { label: 'Prompt tokens found', value: '–' }, within: (card) => <dl>{card}</dl> },
  }),
  part('metrics/MetricsFilter', MetricsFilter, {
    full: { props: { models: [qwen.name, smol.name], model: qwen.name, onModel: nothing } },
    empty: { props: { models: [], model: '', onModel: nothing } },
  }),
];
