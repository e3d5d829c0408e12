// What /metrics tells, over time. Counters are kept as sums that never fall: one that begins anew with a new daemon goes on from
// where the old one was, and a pause between two readings is filled in between, so that no chart has a gap.

export const EVERY_S = 2;
export const KEPT_S = 3600;
const ROWS_MAX = KEPT_S / EVERY_S;

/** Of requests, by model; in seconds. */
export const LATENCIES = {
  first: 'time_to_first_token_seconds',
  between: 'inter_token_latency_seconds',
  whole: 'e2e_request_latency_seconds',
} as const;
export type Latency = keyof typeof LATENCIES;

const COUNTERS = new Set([
  'prompt_tokens_total', 'prompt_tokens_cached_total', 'generation_tokens_total', 'prefix_cache_queries_total',
  'prefix_cache_hits_total', 'prefix_cache_misses_total', ...Object.values(LATENCIES).map((name) => `${name}_bucket`),
]); // prettier-ignore
const GAUGES = new Set(['num_requests_running', 'num_requests_waiting', 'kv_cache_bytes']);

/** A series: its name and the values of its labels. */
const keyOf = (...parts: readonly string[]): string => parts.join('\n');
const partsOf = (key: string): string[] => key.split('\n');

export interface Reading {
  /** When it was read, and when the daemon was started, since 1970. */
  at: number;
  started: number;
  values: ReadonlyMap<string, number>;
}

export interface History {
  times: readonly number[];
  started: number;
  /** By series, as long as `times`. */
  columns: ReadonlyMap<string, readonly number[]>;
  /** What counters were when the daemon that runs now was started. */
  offsets: ReadonlyMap<string, number>;
}

export const EMPTY: History = { times: [], started: 0, columns: new Map(), offsets: new Map() };

const unescaped = (text: string) => text.replace(/\\(.)/g, (_, one: string) => (one === 'n' ? ' ' : one));

/** The series of Prometheus' text that are shown here. */
export function parseMetrics(text: string, at: number): Reading {
  const values = new Map<string, number>();
  let started = 0;
  for (const line of text.split('\n')) {
    const [, name, labels = '', number] = /^mlxr_(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (name === undefined) continue;
    if (name === 'process_start_time_seconds') started = Number(number);
    if (!COUNTERS.has(name) && !GAUGES.has(name)) continue;
    const found = [...labels.matchAll(/\w+="((?:[^"\\]|\\.)*)"/g)].map((label) => unescaped(label[1] ?? ''));
    values.set(keyOf(name, ...found), Number(number));
  }
  return { at, started, values };
}

const isCounter = (key: string) => COUNTERS.has(partsOf(key)[0] ?? '');

/** With a reading behind it, without what is older than is kept. */
export function addReading(history: History, { at, started, values }: Reading): History {
  const before = history.times.at(-1);
  if (before !== undefined && at <= before) return history;
  const keys = new Set([...history.columns.keys(), ...values.keys()]);
  const last = (key: string) => history.columns.get(key)?.at(-1) ?? 0;
  const anew =
    before !== undefined &&
    (started !== history.started ||
      [...values].some(([key, value]) => isCounter(key) && value + (history.offsets.get(key) ?? 0) < last(key)));
  const offsets = anew ? new Map([...keys].filter(isCounter).map((key) => [key, last(key)])) : history.offsets;

  const n = before === undefined ? 1 : Math.max(1, Math.min(ROWS_MAX, Math.round((at - before) / EVERY_S)));
  const from = before ?? at;
  const steps = Array.from({ length: n }, (_, step) => (step + 1) / n);
  const times = [...history.times, ...steps.map((part) => from + (at - from) * part)].slice(-ROWS_MAX);
  const columns = new Map<string, readonly number[]>();
  for (const key of keys) {
    const counted = isCounter(key);
    const old = history.columns.get(key) ?? history.times.map(() => 0);
    const value = counted ? (values.get(key) ?? 0) + (offsets.get(key) ?? 0) : (values.get(key) ?? 0);
    // A series that the daemon does not tell any more stays where it was.
    const now = counted && !values.has(key) ? last(key) : value;
    const was = before === undefined ? now : last(key);
    columns.set(key, [...old, ...steps.map((part) => was + (now - was) * part)].slice(-ROWS_MAX));
  }
  return { times, started, columns, offsets };
}

/** Its newest rows; the one before the window, too, so that rates begin with it. */
export function windowOf(history: History, seconds: number): History {
  const end = history.times.at(-1) ?? 0;
  const first = history.times.findIndex((time) => time >= end - seconds);
  if (first <= 0) return history;
  const columns = new Map([...history.columns].map(([key, column]) => [key, column.slice(first)]));
  return { ...history, times: history.times.slice(first), columns };
}

/** The series of a name, added up; of one model only, if one is named. */
export function sumOf(history: History, name: string, model = ''): number[] {
  const sum = history.times.map(() => 0);
  for (const [key, column] of history.columns) {
    const [found, label] = partsOf(key);
    if (found === name && (model === '' || label === model)) column.forEach((value, at) => (sum[at] = (sum[at] ?? 0) + value));
  }
  return sum;
}

/** A second, between each row and the one before. */
export function ratesOf(times: readonly number[], values: readonly number[]): (number | null)[] {
  return values.map((value, at) => {
    const time = times[at - 1];
    return time === undefined ? null : (value - (values[at - 1] ?? 0)) / ((times[at] ?? 0) - time);
  });
}

const growth = (column: readonly number[]) => (column.at(-1) ?? 0) - (column[0] ?? 0);

/** How much the series of a name have grown, by the value of their label; the largest first, those that have not left out. */
export function growthBy(history: History, name: string): { label: string; n: number }[] {
  return [...history.columns]
    .flatMap(([key, column]) => {
      const [found, label = ''] = partsOf(key);
      return found === name ? [{ label, n: growth(column) }] : [];
    })
    .filter(({ n }) => n > 0)
    .sort((a, b) => b.n - a.n);
}

export function modelsOf(history: History): string[] {
  const names = [...history.columns.keys()].map(partsOf).filter(([name]) => name === 'generation_tokens_total');
  return names.map(([, model = '']) => model).sort((a, b) => a.localeCompare(b));
}

/** How many of the rows' answers took at most `to` seconds, and more than the bucket before. */
export interface Bucket {
  to: number;
  n: number;
}

export function bucketsOf(history: History, latency: Latency, model = ''): Bucket[] {
  const upTo = new Map<number, number>();
  for (const [key, column] of history.columns) {
    const [name, label, le] = partsOf(key);
    if (name !== `${LATENCIES[latency]}_bucket` || (model !== '' && label !== model)) continue;
    const to = le === '+Inf' ? Infinity : Number(le);
    upTo.set(to, (upTo.get(to) ?? 0) + growth(column));
  }
  let before = 0;
  return [...upTo]
    .sort(([a], [b]) => a - b)
    .map(([to, n]) => {
      const bucket = { to, n: n - before };
      before = n;
      return bucket;
    });
}

/** Between the bounds of its bucket by its place among the bucket's; null: there is nothing. */
export function quantileOf(buckets: readonly Bucket[], share: number): number | null {
  const total = buckets.reduce((sum, { n }) => sum + n, 0);
  if (total <= 0) return null;
  let left = total * share;
  let from = 0;
  for (const { to, n } of buckets) {
    if (left <= n && n > 0) return to === Infinity ? from : from + (to - from) * (left / n);
    left -= n;
    if (to !== Infinity) from = to;
  }
  return from;
}

/** Of the tokens looked for between each row and the one before: how many the cache had. */
export function hitRates(history: History): (number | null)[] {
  const queries = sumOf(history, 'prefix_cache_queries_total');
  const hits = sumOf(history, 'prefix_cache_hits_total');
  let known: number | null = null;
  return queries.map((n, at) => {
    const asked = n - (queries[at - 1] ?? n);
    // Where nobody asks, it is what it was.
    if (asked > 0) known = ((hits[at] ?? 0) - (hits[at - 1] ?? 0)) / asked;
    return known;
  });
}

export function shareOfHits(history: History): number | null {
  const asked = growth(sumOf(history, 'prefix_cache_queries_total'));
  return asked > 0 ? growth(sumOf(history, 'prefix_cache_hits_total')) / asked : null;
}

/** A gauge by the value of its label. */
export const gaugeOf = (history: History, name: string, label: string): readonly number[] =>
  history.columns.get(keyOf(name, label)) ?? history.times.map(() => 0);
