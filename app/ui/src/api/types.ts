// Answers of the routes that look after the daemon; the rest comes from schema.ts.
export interface Model {
  name: string;
  path: string;
  source: string;
  digest: string;
  id: string;
  origin: string;
  alias_of: string | null;
  bytes: number;
  modified: number;
  family: string | null;
  quantization: string | null;
  n_params: number;
  n_ctx_train: number;
  has_template: boolean;
  why_not: string | null;
  template: string | null;
  system: string | null;
  license: string | null;
  parameters: { name: string; value: string }[];
  warnings: { what: string; why: string }[];
}

export interface LoadedModel {
  name: string;
  path: string;
  n_ctx: number;
  weight_bytes: number;
  kv_bytes_per_token: number;
  n_uses: number;
  loading: boolean;
  pinned: boolean;
  /** With its multi-token-prediction head. */
  mtp: boolean;
  expires_in_ms: number | null;
}

export interface ModelDetails {
  model: Model;
  modelfile: string | null;
  fit: null | {
    fits: 'now' | 'when_others_are_unloaded' | 'when_memory_is_free' | 'by_streaming_experts' | 'never';
    weight_bytes: number;
    loaded_weight_bytes: number;
    budget_bytes: number;
  };
  description?: Record<string, unknown>;
}

export interface CatalogueEntry {
  name: string;
  source: string;
  about: string;
  n_params: number;
  bytes: number;
  memory_bytes: number;
  digest: string | null;
  exact: boolean;
  /** One to begin with, on a machine that it fits. */
  first: boolean;
}

export interface Catalogue {
  models: CatalogueEntry[];
  /** Memory of the daemon's machine; 0: not known. */
  machine_bytes: number;
}

export interface DaemonStatus {
  version: string;
  state: 'loading' | 'ready' | 'draining';
  uptime_s: number;
  /** activations: bits. */
  engine: { backend: string; cpu_features: string; n_threads: number; activations: number; alive: boolean };
  models: { loaded: number; waiting: number };
  memory: { budget_bytes: number; weight_bytes: number; kv_bytes_used: number; kv_bytes_budget: number };
  streams: { answers: number; running: number; queued: number; paused: number };
}

export interface JobProgress {
  number: number;
  what: string;
  done: number;
  total: number;
  /** Of the file that comes now; the sum of all may not be known. */
  file_done: number;
  file_total: number;
  file: number;
  n_files: number;
}

export interface JobEnd {
  name: string;
  cancelled: boolean;
  error: null | { message: string; status: number };
}

/** What an answer of /v1/completions, or a piece of it, brings; with `logprobs` the tokens one by one. */
export interface Completion {
  choices: readonly {
    text: string;
    finish_reason: string | null;
    logprobs: null | {
      tokens: readonly string[];
      token_logprobs: readonly (number | null)[];
      top_logprobs: readonly (Readonly<Record<string, number>> | null)[];
    };
  }[];
  error?: { message: string };
}

export interface Embeddings {
  data: readonly { index: number; embedding: readonly number[] }[];
  warnings?: readonly string[];
}

export interface ProfileTimes {
  ms: number;
  wait_ms: number;
}

export interface ProfilePhase {
  steps: number;
  rows: number;
  ms: number;
  prepare_ms: number;
  run_ms: number;
  sample_ms: number;
  operations: readonly (ProfileTimes & { operation: string; count: number; share: number })[];
  /** null: what belongs to no layer. */
  layers: readonly (ProfileTimes & { layer: number | null })[];
}

export interface Profile {
  backend: string;
  threads: number;
  duration_ms: number;
  phases: Readonly<Partial<Record<'prompt' | 'decode' | 'draft', ProfilePhase>>>;
}

/** Routes outside of /ui-api that the page asks. */
export interface OtherRoutes {
  'GET /metrics': { answer: string };
  'POST /v1/completions': { body: Record<string, unknown>; answer: Completion; event: Completion };
  'POST /v1/embeddings': { body: { model: string; input: readonly string[] }; answer: Embeddings };
}
