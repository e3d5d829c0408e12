import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { cleanup, configure, fireEvent, render, screen, waitFor, within } from '@testing-library/react';
import type { ReactNode } from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { KernelTimeChart } from '@/components/metrics/KernelTimeChart';
import { KVChart } from '@/components/metrics/KVChart';
import { LatencyChart } from '@/components/metrics/LatencyChart';
import LiveMetrics from '@/components/metrics/LiveMetrics';
import { MetricsCard } from '@/components/metrics/MetricsCard';
import { MetricsFilter } from '@/components/metrics/MetricsFilter';
import { StatsCard } from '@/components/metrics/StatsCard';
import { ThroughputChart } from '@/components/metrics/ThroughputChart';
import {
  addReading, bucketsOf, EMPTY, growthBy, hitRates, modelsOf, parseMetrics, quantileOf, ratesOf, sumOf, windowOf, type History,
} from '@/lib/metrics'; // prettier-ignore
import { useReadings } from '@/stores/metrics';

// A busy machine takes its time.
configure({ asyncUtilTimeout: 15_000 });

const drawn = vi.hoisted(() => [] as { label: string; data: (number | null)[][]; steps: number[] | undefined }[]);
vi.mock('uplot', () => {
  class Plot {
    static paths = {};
    constructor(private readonly options: { axes: { incrs?: number[] }[] }, _: unknown, private readonly place: HTMLElement) {}
    setData(data: (number | null)[][]) {
      drawn.push({ label: this.place.getAttribute('aria-label') ?? '', data, steps: this.options.axes[1]?.incrs });
    }
    setSize() { /* nothing to see */ }
    destroy() { /* nothing to free */ }
  }
  return { default: Plot };
});

const text = (generated: number, { started = 1, n = 0, misses = 0, model = 'm' } = {}) => `# TYPE x counter
mlxr_generation_tokens_total{model_name="${model}"} ${generated}
mlxr_prompt_tokens_total{model_name="${model}"} ${2 * generated}
mlxr_kv_cache_bytes{state="running"} 1048576
mlxr_kv_cache_bytes{state="cached"} 2097152
mlxr_kv_cache_bytes{state="free"} 1048576
mlxr_num_requests_running 3
mlxr_num_requests_waiting 4
mlxr_prefix_cache_queries_total ${10 * n}
mlxr_prefix_cache_hits_total ${5 * n}
mlxr_prefix_cache_misses_total{reason="evicted"} ${misses}
mlxr_prefix_cache_misses_total{reason="new"} ${2 * misses}
mlxr_time_to_first_token_seconds_bucket{model_name="${model}",le="0.1"} ${n}
mlxr_time_to_first_token_seconds_bucket{model_name="${model}",le="0.2"} ${4 * n}
mlxr_time_to_first_token_seconds_bucket{model_name="${model}",le="+Inf"} ${4 * n}
mlxr_process_start_time_seconds ${started}
`;
const after = (history: History, at: number, ...args: Parameters<typeof text>) => addReading(history, parseMetrics(text(...args), at));
const busy = () => after(after(EMPTY, 100, 0), 102, 20, { n: 10, misses: 3 });

function show(children: ReactNode) {
  return render(<QueryClientProvider client={new QueryClient()}>{children}</QueryClientProvider>);
}
const newest = (label: string) => drawn.findLast((one) => one.label === label)?.data;

beforeEach(() => {
  drawn.length = 0;
  vi.stubGlobal('ResizeObserver', class { observe() { /* of no size here */ } disconnect() { /* the same */ } });
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  useReadings.setState({ history: EMPTY, error: null });
});

describe('figures over time', () => {
  const rates = (history: History) => ratesOf(history.times, sumOf(history, 'generation_tokens_total')).slice(1);

  it('have no gap where readings are missing', () => {
    const history = after(after(after(EMPTY, 100, 0), 102, 20), 112, 120);
    expect(history.times).toEqual([100, 102, 104, 106, 108, 110, 112]);
    expect(rates(history)).toEqual([10, 10, 10, 10, 10, 10]);
  });
  it('go on over a restart of the daemon', () => {
    const history = after(after(after(after(EMPTY, 100, 500), 102, 520), 104, 6, { started: 103 }), 106, 26, { started: 103 });
    expect(rates(history)).toEqual([10, 3, 10]);
    // Even where it was not told, and by a counter that the new one does not have yet.
    const other = after(after(after(EMPTY, 100, 500), 102, 520), 104, 6, { model: 'other', started: 103 });
    expect(sumOf(other, 'generation_tokens_total', 'm')).toEqual([500, 520, 520]);
    expect(sumOf(other, 'generation_tokens_total', 'other')).toEqual([0, 0, 6]);
    expect(modelsOf(other)).toEqual(['m', 'other']);
  });
  it('are those of the window', () => {
    const long = Array.from({ length: 50 }, (_, at) => at).reduce((history, at) => after(history, 100 + 2 * at, at), EMPTY);
    expect(windowOf(long, 10).times).toEqual([188, 190, 192, 194, 196, 198]);
    expect(growthBy(windowOf(busy(), 60), 'prefix_cache_misses_total')).toEqual([{ label: 'new', n: 6 }, { label: 'evicted', n: 3 }]);
    expect(hitRates(busy())).toEqual([null, 0.5]);
  });
  it('are kept for an hour, whatever the pause', () => {
    expect(after(after(EMPTY, 100, 0), 1e6, 10).times).toHaveLength(1800);
  });
  it('have quantiles between the bounds of buckets', () => {
    const buckets = bucketsOf(busy(), 'first');
    expect(buckets).toEqual([{ to: 0.1, n: 10 }, { to: 0.2, n: 30 }, { to: Infinity, n: 0 }]);
    expect(quantileOf(buckets, 0.25)).toBeCloseTo(0.1);
    expect(quantileOf(buckets, 0.5)).toBeCloseTo(0.1333, 3);
    expect(quantileOf([], 0.5)).toBeNull();
    expect(bucketsOf(busy(), 'first', 'no such model')).toEqual([]);
  });
  it('have the names that models have', () => {
    const reading = parseMetrics('mlxr_generation_tokens_total{model_name="a\\"b\\\\c\\nd"} 1\n', 1);
    expect([...reading.values]).toEqual([['generation_tokens_total\na"b\\c d', 1]]);
  });
});

describe('components of the metrics', () => {
  it('ThroughputChart draws tokens a second and tells the newest', async () => {
    show(<ThroughputChart history={busy()} model="" />);
    await waitFor(() => expect(newest('Throughput')).toBeTruthy());
    expect(newest('Throughput')).toEqual([[100, 102], [null, 10], [null, 20], [null, 0]]);
    expect(screen.getByText('10.0')).toBeTruthy();
  });
  it('KVChart draws what holds the cache, its hits, and why it missed', async () => {
    show(<KVChart history={busy()} />);
    await waitFor(() => expect(newest('Prompt tokens found')).toBeTruthy());
    expect(newest('KV cache in memory')?.slice(1)).toEqual([[1048576, 1048576], [2097152, 2097152]]);
    expect(newest('Prompt tokens found')?.[1]).toEqual([null, 0.5]);
    expect(drawn.findLast((one) => one.label === 'KV cache in memory')?.steps?.slice(8, 11)).toEqual([256, 512, 1024]);
    expect(screen.getByRole('row', { name: 'Never seen before 6' })).toBeTruthy();
    expect(screen.getByRole('row', { name: 'Evicted 3' })).toBeTruthy();
  });
  it('LatencyChart draws the histogram and tells its quantiles', async () => {
    show(<LatencyChart history={busy()} model="m" latency="first" />);
    await waitFor(() => expect(newest('To the first token')).toBeTruthy());
    expect(newest('To the first token')).toEqual([[0, 1], [10, 30]]);
    expect(screen.getByText('133 ms')).toBeTruthy();
    cleanup();
    show(<LatencyChart history={busy()} model="" latency="whole" />);
    expect(screen.getByText('No requests in this time.')).toBeTruthy();
  });
  it('MetricsCard frames what it is given, with its name', () => {
    show(<MetricsCard title="A" about="B" control="C">D</MetricsCard>);
    expect(screen.getByRole('region', { name: 'A' }).textContent).toBe('ACBD');
  });
  it('StatsCard tells one figure', () => {
    show(<dl><StatsCard label="A" value="7" more="of 9" /></dl>);
    expect(screen.getByRole('definition').textContent).toBe('7of 9');
    expect(screen.getByRole('term').textContent).toBe('A');
  });
  it('MetricsFilter tells the model that was chosen', () => {
    const onModel = vi.fn();
    show(<MetricsFilter models={['a', '<b>']} model="" onModel={onModel} />);
    fireEvent.change(screen.getByRole('combobox', { name: 'Model' }), { target: { value: '<b>' } });
    expect(onModel).toHaveBeenCalledWith('<b>');
    expect(within(screen.getByRole('combobox', { name: 'Window' })).getAllByRole('option')).toHaveLength(4);
  });
  it('KernelTimeChart records, and shows operations and layers, whatever their names are', async () => {
    const phase = {
      steps: 5, rows: 5, ms: 10, prepare_ms: 0, run_ms: 10, sample_ms: 0,
      operations: [{ operation: '<img src=x onerror=alert(1)>', count: 5, ms: 7.5, wait_ms: 0, share: 0.75 }],
      layers: [{ layer: null, ms: 4, wait_ms: 0 }, { layer: 0, ms: 2, wait_ms: 0 }, { layer: 1, ms: 4, wait_ms: 0 }],
    }; // prettier-ignore
    vi.stubGlobal('fetch', () => Promise.resolve(Response.json({ backend: 'cpu', threads: 2, duration_ms: 10, phases: { decode: phase } })));
    const { container } = show(<KernelTimeChart />);
    fireEvent.click(screen.getByRole('button', { name: 'Record' }));
    await screen.findByText('<img src=x onerror=alert(1)>');
    expect(container.querySelector('img')).toBeNull();
    expect(screen.getByText('75 %')).toBeTruthy();
    await waitFor(() => expect(newest('Time by layer')).toEqual([[0, 1], [2, 4]]));
  });
  it('LiveMetrics reads, shows, and filters by model', async () => {
    useReadings.setState({ history: busy() });
    vi.stubGlobal('fetch', () => Promise.resolve(new Response(text(0, { started: 9, model: 'second' }))));
    const { container } = show(<LiveMetrics />);
    await waitFor(() => expect(screen.getByRole('combobox', { name: 'Model' }).textContent).toContain('second'));
    const card = (name: string) => screen.getByText(name, { selector: 'dt' }).parentElement?.textContent;
    expect(card('Answers running')).toBe('Answers running3');
    expect(card('Waiting')).toBe('Waiting4');
    expect(card('KV cache')).toBe('KV cache3.0 MiBof 4.0 MiB');
    fireEvent.change(screen.getByRole('combobox', { name: 'Model' }), { target: { value: 'second' } });
    await waitFor(() => expect(newest('Throughput')?.[1]?.every((value) => value === null || value === 0)).toBe(true));
    expect(container.querySelectorAll('section')).toHaveLength(4);
  });
});
