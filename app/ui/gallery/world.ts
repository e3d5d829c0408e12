// The machine that the gallery's components tell of: models, chats, figures and log lines as a real one has them, and what goes wrong.
import type { UiChat, UiMessage, UiToolCall } from '@/api/schema';
import type { CatalogueEntry, Profile } from '@/api/types';
import { addReading, EMPTY, EVERY_S, parseMetrics, type History } from '@/lib/metrics';
import type { LogLine } from '@/stores/logs';
import { chat, loaded, message, model, options, status, type Answers } from '../test/fixtures';

const GIB = 1 << 30;
const now = Date.now();

// ---- models

export const smol = model({ name: 'SmolLM2-135M-Instruct.Q4_1', path: '/home/ada/models/SmolLM2-135M-Instruct.Q4_1.gguf', license: 'Apache License 2.0' });
export const qwen = model({
  name: 'qwen3:4b', path: '/home/ada/.local/share/mlxr/blobs/sha256-7485fe6f', digest: 'sha256:7485fe6f11af29433bc51cab58009521f205840f5b4ae3a32fa7f92e8534fdf5',
  origin: 'hf:Qwen/Qwen3-4B-GGUF:Q4_K_M', bytes: 2_497_280_256, family: 'qwen3', quantization: 'Q4_K_M', n_params: 4_022_468_096, n_ctx_train: 40_960,
}); // prettier-ignore
export const alias = { ...qwen, name: 'assistant', alias_of: 'qwen3:4b' };
export const broken = model({
  name: 'gemma3-270m-cut-off', path: '/home/ada/models/gemma3-270m-cut-off.gguf', bytes: 12_345_678, family: 'gemma3', quantization: 'Q8_0', n_params: 268_098_176,
  why_not: 'the file ends within the tensor blk.3.ffn_up.weight: 279,200,000 bytes are told, 12,345,678 are there',
}); // prettier-ignore
export const models = [smol, qwen, alias, broken];
export const inMemory = loaded({
  name: qwen.name, path: qwen.path, n_ctx: 8192, weight_bytes: 2_497_280_256, kv_bytes_per_token: 147_456, n_uses: 1, expires_in_ms: 245_000,
}); // prettier-ignore
export const comes = loaded({ name: smol.name, path: smol.path, loading: true });
export const rows = [{ ...smol, loaded: comes }, { ...qwen, loaded: inMemory }, { ...alias, loaded: inMemory }, { ...broken, loaded: undefined }];

export const tiny: CatalogueEntry = {
  name: 'smollm2:135m', source: 'hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M', about: 'tiny; for trying things out', n_params: 134_515_008, bytes: 105_000_000,
  memory_bytes: 293_743_680, digest: null, exact: false, first: true,
}; // prettier-ignore
export const advised: CatalogueEntry = {
  name: 'qwen3:4b', source: 'hf:Qwen/Qwen3-4B-GGUF:Q4_K_M', about: 'the one to begin with: thinks, calls tools, fits 8 GB', n_params: 4_022_468_096, bytes: 2_497_280_256,
  memory_bytes: 3_705_239_808, digest: qwen.digest, exact: true, first: true,
}; // prettier-ignore

export const details = (which: typeof smol) => ({
  model: { ...which, template: "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}" },
  modelfile: `FROM ${which.path}\nPARAMETER temperature 0.6\n`,
  fit: { fits: 'when_others_are_unloaded', weight_bytes: which.bytes, loaded_weight_bytes: 98_362_432, budget_bytes: 6 * GIB },
  description: {
    metadata: { 'general.architecture': which.family, 'general.license': 'apache-2.0' },
    tensors: [{ type: 'Q4_K', bytes: 1_800_000_000 }, { type: 'Q6_K', bytes: 697_000_000 }, { type: 'F32', bytes: 280_256 }],
  },
});

// ---- the daemon

export const health = status({
  version: '0.9.0', uptime_s: 93_784, engine: { backend: 'cpu', cpu_features: 'avx512-vnni', n_threads: 8, activations: 16, alive: true }, models: { loaded: 2, waiting: 0 },
  memory: { ...status().memory, budget_bytes: 6 * GIB, weight_bytes: 2_595_642_688, kv_bytes_used: 402_653_184, kv_bytes_budget: GIB },
  streams: { answers: 412, running: 2, queued: 1, paused: 0 },
}); // prettier-ignore
export const settled = options({ threads: 8, kv_type: 'q8_0', kv_bytes: GIB, kv_dir: '/var/cache/mlxr/kv' }, {
  file: '/home/ada/.config/mlxr/serve.json',
  places: [
    { name: 'models', path: '/home/ada/.local/share/mlxr/models', free_bytes: 212 * GIB }, { name: 'kv_dir', path: '/var/cache/mlxr/kv', free_bytes: 40 * GIB },
    { name: 'file', path: '/home/ada/.config/mlxr/serve.json', free_bytes: null }, { name: 'log', path: '/home/ada/.local/state/mlxr/serve.log', free_bytes: null },
  ],
}, ['parallel']); // prettier-ignore

// ---- chats

export const call: UiToolCall = { id: 'call_1', type: 'function', function: { name: 'search_tides', arguments: '{"harbour":"Saint-Malo","day":"2026-03-21"}' } };
export const ANSWER = `The tides at **Saint-Malo** are among the largest of Europe. Three things make them so:

1. the bay *narrows* towards its end,
2. the sea floor rises, and
3. the channel's own swing comes at nearly the same period, $T \\approx 12.4$ h.

| day | high water | height |
|---|---|---|
| 20 March | 07:41 | 12.6 m |
| 21 March | 08:22 | 12.9 m |

The height over the day follows about this:

\`\`\`python
def height(hours, mean=6.9, swing=6.0, period=12.42):
    """Metres above chart datum."""
    return mean + swing * math.cos(2 * math.pi * hours / period)
\`\`\`

> Never trust a formula near rocks: see the [harbour's own tables](https://example.org/tides).`;
const stats = {
  finish_reason: 'stop', prompt_tokens: 1480, cached_tokens: 1312, answer_tokens: 236, context_tokens: 8192, load_ms: 0, first_token_ms: 143, total_ms: 7420,
  tokens_per_second: 32.4, cache_miss: 'rejected',
} as const; // prettier-ignore
export const question = message({ id: 11, content: 'Why are the tides at Saint-Malo so large? A short answer with a table, please.', created_ms: now });
export const answer = message({
  id: 12, parent: 11, role: 'assistant', content: ANSWER, model: qwen.name, parameters: { temperature: 0.6, top_p: 0.95 }, stats, created_ms: now,
}); // prettier-ignore
export const otherAnswer = message({ ...answer, id: 13, content: 'Because of the shape of the bay.' });
export const running = message({ id: 14, parent: 11, role: 'assistant', state: 'running', content: '', model: qwen.name, generation: 5 });
export const called = message({ id: 15, parent: 11, role: 'assistant', content: 'I look that up.', tool_calls: [call], model: qwen.name, stats });
export const result = message({ id: 16, parent: 15, role: 'tool', tool_call_id: call.id, content: '{"high":[{"at":"08:22","m":12.9},{"at":"20:47","m":12.7}]}' });
const talk: UiMessage[] = [question, answer, otherAnswer];
/** Question and answer by turns, each below the one before. */
export const longTalk = (n: number): UiMessage[] =>
  Array.from({ length: n }, (_, at) => ({ ...(at % 2 ? answer : question), id: 100 + at, parent: at ? 99 + at : null }));

export const chats: UiChat[] = [
  chat({ id: 7, title: 'Tides at Saint-Malo', folder: 2, pinned: true, model: qwen.name, leaf: answer.id, n_messages: 3, system: 'You are a careful pilot.' }),
  chat({ id: 6, title: 'A parser for tide tables in C, with tests for lines that are cut off in the middle of a number', model: qwen.name, generation: 5 }),
  chat({ id: 5, title: '', model: smol.name }),
];
export const folders = [
  { id: 2, name: 'Sailing', position: 0, n_chats: 1, revision: 1, created_ms: 1, modified_ms: 1 },
  { id: 3, name: 'Work', position: 1, n_chats: 24, revision: 1, created_ms: 1, modified_ms: 1 },
];
const hits = [{ text: 'The ', hit: false }, { text: 'tides', hit: true }, { text: ' at Saint-Malo are among the largest of Europe.', hit: false }];
export const results = [{ chat: 7, title: 'Tides at Saint-Malo', folder: 2, message: 12, role: 'assistant', created_ms: now, snippet: hits }];

// ---- figures

const STARTED = now / 1000 - 3000;
const waves = (at: number) => Math.max(0, 40 + 25 * Math.sin(at / 37) + 10 * Math.sin(at / 7));

/** As /metrics tells it `at` seconds since 1970. */
function metricsText(at: number): string {
  const s = at - STARTED;
  // Never less than before: they are counters.
  const sum = (f: (x: number) => number) => Math.round(Array.from({ length: Math.max(0, Math.floor(s / EVERY_S)) }, (_, i) => EVERY_S * f(i * EVERY_S)).reduce((a, b) => a + b, 0));
  const label = `model_name="${qwen.name}"`;
  const bounds = [0.05, 0.1, 0.2, 0.5, 1, 2, 5];
  const shares = [0.08, 0.31, 0.62, 0.87, 0.95, 0.99, 1];
  const histogram = (name: string, scale: number) =>
    [...bounds.map((le, i) => [String(le * scale), shares[i] ?? 1] as const), ['+Inf', 1] as const].map(
      ([le, share]) => `mlxr_${name}_bucket{${label},le="${le}"} ${Math.round(share * s)}`,
    );
  return [
    `mlxr_generation_tokens_total{${label}} ${sum(waves)}`,
    `mlxr_generation_tokens_total{model_name="${smol.name}"} ${sum((x) => waves(x + 50) / 3)}`,
    `mlxr_prompt_tokens_total{${label}} ${sum((x) => 2.2 * waves(x + 20))}`,
    `mlxr_prompt_tokens_cached_total{${label}} ${sum((x) => 1.5 * waves(x + 20))}`,
    `mlxr_kv_cache_bytes{state="running"} ${Math.round((0.2 + 0.1 * Math.sin(s / 60)) * GIB)}`,
    `mlxr_kv_cache_bytes{state="cached"} ${Math.round((0.4 + 0.15 * Math.sin(s / 90)) * GIB)}`,
    `mlxr_kv_cache_bytes{state="free"} ${Math.round(0.3 * GIB)}`,
    'mlxr_num_requests_running 2',
    'mlxr_num_requests_waiting 1',
    `mlxr_prefix_cache_queries_total ${sum(() => 100)}`,
    `mlxr_prefix_cache_hits_total ${sum((x) => 71 + 9 * Math.sin(x / 40))}`,
    ...[['new', 60], ['evicted', 11], ['rejected', 23]].map(([reason, n]) => `mlxr_prefix_cache_misses_total{reason="${reason ?? ''}"} ${Math.round((Number(n) * s) / 300)}`),
    ...histogram('time_to_first_token_seconds', 1),
    ...histogram('inter_token_latency_seconds', 0.1),
    ...histogram('e2e_request_latency_seconds', 8),
    `mlxr_process_start_time_seconds ${STARTED}`,
  ].join('\n'); // prettier-ignore
}
/** Five minutes until now. */
export const history: History = Array.from({ length: 151 }, (_, row) => now / 1000 - (150 - row) * EVERY_S).reduce(
  (made, at) => addReading(made, parseMetrics(metricsText(at), at)),
  EMPTY,
);

const operations = [['ffn', 0.46], ['attention', 0.21], ['qkv', 0.17], ['output', 0.11], ['norm', 0.03], ['rope', 0.02]] as const;
export const profile: Profile = {
  backend: 'cpu', threads: 8, duration_ms: 9800,
  phases: {
    decode: {
      steps: 312, rows: 624, ms: 9650, prepare_ms: 20, run_ms: 9600, sample_ms: 30,
      operations: operations.map(([operation, share]) => ({ operation, share, count: 312 * 36, ms: 9650 * share, wait_ms: 3 })),
      layers: [{ layer: null, ms: 900, wait_ms: 1 }, ...Array.from({ length: 36 }, (_, layer) => ({ layer, ms: 230 + 20 * Math.sin(layer), wait_ms: 1 }))],
    },
  },
}; // prettier-ignore

// ---- log

export const line = (seq: number, fields: Partial<LogLine> = {}): LogLine => ({
  seq, time: new Date(now - (300 - seq) * 731).toISOString().replace('Z', '000Z'), level: 'info', part: 'http', message: 'POST /v1/chat/completions 200',
  ms: 812 + seq, model: qwen.name, ...fields,
}); // prettier-ignore
const failure: Partial<LogLine> = {
  level: 'error', part: 'worker', message: 'the step of 3 sequences failed: out of KV pages', sequences: [41, 42, 43],
  stack: 'worker_step (worker.c:412)\nscheduler_take (scheduler.c:231)\nkv_arena_take (arena.c:118)',
}; // prettier-ignore
export const trace = line(90, failure);
const kinds: Partial<LogLine>[] = [
  failure, { part: 'models', message: `loaded ${qwen.name} in 1,204 ms` }, { level: 'debug', part: 'kv', message: '41 blocks found, 3 computed' },
  { level: 'warn', part: 'models', message: 'the template has no generation prompt: one is added' },
]; // prettier-ignore
export const lines: LogLine[] = Array.from({ length: 240 }, (_, at) => line(at + 1, kinds[(at * 7) % 17]));

// ---- what it answers

/** Server-sent events; the last is followed by no end, as of something that goes on. */
export const events = (...data: readonly unknown[]) => () =>
  new Response(
    new ReadableStream<Uint8Array>({
      start: (control) => data.forEach((one) => control.enqueue(new TextEncoder().encode(`data: ${typeof one === 'string' ? one : JSON.stringify(one)}\n\n`))),
    }),
  );
export const never = (): Promise<never> => new Promise(() => undefined);
export const refused = (status: number, words: string) => () => Response.json({ error: { message: words, code: null } }, { status });
export const unreachable = (): Promise<never> => Promise.reject(new TypeError('Failed to fetch'));

/** Of a machine on which all is well. */
export const machine: Answers = {
  'GET /ui-api/status': health,
  'GET /ui-api/options': settled,
  'PATCH /ui-api/options': settled,
  'GET /ui-api/models': { models },
  'GET /ui-api/loaded': { loaded: [inMemory, comes] },
  'GET /ui-api/catalogue': { models: [tiny, advised], machine_bytes: 16 * GIB },
  'GET /ui-api/jobs': { jobs: [] },
  'GET /ui-api/folders': { folders },
  'GET /ui-api/presets': { presets: [] },
  'GET /ui-api/chats': { chats, next: null },
  'GET /ui-api/chats/7': chats[0],
  'GET /ui-api/chats/7/messages': { messages: talk, next: null },
  'GET /ui-api/search': { results, next: null },
  'GET /ui-api/logs': events(...lines),
  'GET /metrics': () => new Response(metricsText(Date.now() / 1000)),
};
