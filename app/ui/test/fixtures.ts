// What a daemon tells, made up: for tests, and for the gallery of components (gallery/). Nothing of it is in the page that is shipped.
import type { UiChat, UiMessage, UiOptions, UiOptionValues } from '@/api/schema';
import type { DaemonStatus, LoadedModel, Model } from '@/api/types';

export interface Asked {
  method: string;
  url: string;
  body: unknown;
}

/** By `METHOD /path`, without the query: JSON, a Response, or what makes one of them of the request; what is not named is not there. */
export type Answers = Readonly<Record<string, unknown>>;

/** In place of fetch(): answers so. What was asked is added to `asked`. */
export function answering(answers: Answers, asked: Asked[] = []) {
  return async (url: string, { method = 'GET', body }: { method?: string; body?: string } = {}): Promise<Response> => {
    const request: Asked = { method, url, body: body === undefined ? undefined : JSON.parse(body) };
    asked.push(request);
    const answer = answers[`${method} ${url.split('?')[0] ?? ''}`];
    if (answer === undefined) return new Response('not here', { status: 404 });
    const made: unknown = typeof answer === 'function' ? await (answer as (asked: Asked) => unknown)(request) : answer;
    return made instanceof Response ? made : Response.json(made);
  };
}

export interface SentFile {
  method: string;
  url: string;
  body: unknown;
  ask: { upload: { onprogress?: (event: { loaded: number }) => void }; answer: (status: number, body: unknown) => void };
}

/** In place of XMLHttpRequest, which the page uses for files alone: what was sent, for a test to answer. */
export const sentFiles = (sent: SentFile[]) =>
  class {
    upload = {};
    status = 0;
    responseText = '';
    onload?: () => void;
    private to = { method: '', url: '' };
    open(method: string, url: string) { this.to = { method, url }; }
    setRequestHeader() { /* of no account */ }
    abort() { /* nothing is under way */ }
    answer(status: number, body: unknown) {
      this.status = status;
      this.responseText = JSON.stringify(body);
      this.onload?.();
    }
    send(body: unknown) { sent.push({ ...this.to, body, ask: this }); }
  }; // prettier-ignore

export const chat = (fields: Partial<UiChat> = {}): UiChat => ({
  id: 1, title: 'Rivers', folder: null, model: 'm', pinned: false, leaf: null, n_messages: 0, generation: null, revision: 1,
  created_ms: 1, modified_ms: 1, removed_ms: null, purge_ms: null, system: '', parameters: {}, ...fields,
}); // prettier-ignore

export const message = (fields: Partial<UiMessage> = {}): UiMessage => ({
  id: 1, parent: null, role: 'user', state: 'complete', content: 'Which?', reasoning: '', tool_calls: null, tool_call_id: null,
  model: null, parameters: null, stats: null, generation: null, attachments: [], revision: 1, created_ms: 1, modified_ms: 1, ...fields,
}); // prettier-ignore

export const model = (fields: Partial<Model> = {}): Model => ({
  name: 'm', path: '/m.gguf', source: '', digest: 'sha256:0', id: '0', origin: '', alias_of: null, bytes: 98362432, modified: 1,
  family: 'llama', quantization: 'Q4_1', n_params: 134515008, n_ctx_train: 2048, has_template: true, why_not: null, template: 'T{{x}}',
  system: null, license: 'Apache-2.0', parameters: [], warnings: [], ...fields,
}); // prettier-ignore

export const loaded = (fields: Partial<LoadedModel> = {}): LoadedModel => ({
  name: 'm', path: '/m.gguf', n_ctx: 2048, weight_bytes: 1, kv_bytes_per_token: 1, n_uses: 0, loading: false, pinned: false, mtp: false, expires_in_ms: null, ...fields,
}); // prettier-ignore

export const status = (fields: Partial<DaemonStatus> = {}): DaemonStatus => ({
  version: '1.2.3', state: 'ready', uptime_s: 61, engine: { backend: 'cpu', cpu_features: 'avx2', n_threads: 2, activations: 16, alive: true },
  models: { loaded: 1, waiting: 0 }, memory: { budget_bytes: 4 << 20, weight_bytes: 1 << 20, kv_bytes_used: 512 << 10, kv_bytes_budget: 1 << 20 },
  streams: { answers: 0, running: 3, queued: 4, paused: 0 }, ...fields,
}); // prettier-ignore

const OPTION_VALUES: Required<UiOptionValues> = {
  threads: 0, backend: '', kv_type: 'f16', activations: 16, kv_bytes: 0, expert_bytes: -1, kv_dir: '', kv_disk_bytes: 0, draft: 'none',
  batch_invariant: false, memory_bytes: 0, ctx: 0, rope_scaling: '', rope_scale: 0, rope_base: 0, rope_original: 0, yarn_beta_fast: 0, yarn_beta_slow: 0, yarn_attn_factor: 0,
  keep_alive_s: 300, parallel: 4, queue: 64, drain_s: 30,
}; // prettier-ignore

/** The daemon's options, `saved` in its file; the names in `fixed` come from its command line. */
export const options = (saved: UiOptionValues = {}, fields: Partial<UiOptions> = {}, fixed: readonly string[] = []): UiOptions => ({
  file: '/etc/mlxr.json', writable: true, can_restart: true, restart_needed: false, note: '', saved, running: OPTION_VALUES, defaults: OPTION_VALUES,
  options: Object.keys(OPTION_VALUES).map((name) => ({
    name, option: name.replaceAll('_', '-'), group: 'performance', applies: 'restart', pending: false,
    source: fixed.includes(name) ? 'command_line' : name in saved ? 'file' : 'default',
  })),
  places: [{ name: 'models', path: '/srv/models', free_bytes: 3 << 20 }, { name: 'socket', path: '/run/mlxr.sock', free_bytes: null }],
  build: { replaced: false, version: '1.2.3', compiler: 'gcc 14', system: 'Linux', machine: 'x86_64', backend: 'cpu', cpu_features: 'avx2', n_threads: 2 },
  ...fields,
}); // prettier-ignore
