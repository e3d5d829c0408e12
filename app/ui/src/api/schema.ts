// Made by `tools/ui types` from /openapi.json; do not edit.

export type UiAttachment = {
  name: string;
  type: string;
  n_bytes: number;
  content?: string;
};

export type UiAttachmentFields = {
  name: UiName;
  type?: string;
  n_bytes?: number;
  content: string;
};

export type UiChange = {
  kind: "chat" | "folder" | "message" | "preset" | "settings" | "generation" | "models" | "loaded" | "job";
  op: "created" | "changed" | "removed" | "restored" | "started" | "ended" | "progress";
  job?: Record<string, unknown>;
  id?: number;
  chat?: number;
  state?: string;
  revision?: number;
};

export type UiChanges = {
  changes: readonly (UiChange)[];
  next: string;
  reset: boolean;
};

export type UiChat = {
  id: UiId;
  title: string;
  folder: number | null;
  model: string;
  pinned: boolean;
  leaf: number | null;
  n_messages: number;
  generation: number | null;
  revision: number;
  created_ms: UiTime;
  modified_ms: UiTime;
  removed_ms: number | null;
  purge_ms: number | null;
  system?: string;
  parameters?: UiParameters;
};

export type UiChatChange = {
  revision?: UiRevision;
  title?: UiTitle;
  folder?: number | null;
  model?: UiModelName;
  system?: UiSystem;
  parameters?: UiParameters;
  pinned?: boolean;
  leaf?: number | null;
};

export type UiChatFields = {
  title?: UiTitle;
  folder?: number | null;
  model?: UiModelName;
  system?: UiSystem;
  parameters?: UiParameters;
  pinned?: boolean;
};

export type UiChatPage = {
  chats: readonly (UiChat)[];
  next: string | null;
};

export type UiDirectory = {
  path: string;
  parent: string | null;
  folders: readonly (string)[];
  files: readonly ({
    name: string;
    bytes: number;
  })[];
  left_out: number;
  places: readonly (string)[];
};

export type UiExport = {
  format: "mlxr-chat";
  version: 1;
  chat: {
    title?: UiTitle;
    model?: UiModelName;
    system?: UiSystem;
    parameters?: UiParameters;
    pinned?: boolean;
    leaf?: number;
    created_ms?: number;
  };
  messages: readonly ({
    id: UiId;
    parent?: UiId;
    role: "user" | "assistant" | "tool";
    state?: "complete" | "running" | "stopped" | "interrupted" | "failed";
    content: UiText;
    reasoning?: UiText;
    tool_calls?: readonly (UiToolCall)[];
    tool_call_id?: string;
    model?: UiModelName;
    parameters?: Record<string, unknown>;
    stats?: Record<string, unknown>;
    created_ms?: UiTime;
    attachments?: readonly (UiAttachmentFields)[];
  })[];
};

export type UiFolder = {
  id: UiId;
  name: string;
  position: number;
  n_chats: number;
  revision: number;
  created_ms: UiTime;
  modified_ms: UiTime;
};

export type UiFolderChange = {
  revision: UiRevision;
  name?: UiName;
  position?: number;
};

export type UiFolderFields = {
  name: UiName;
  position?: number;
};

export type UiFolders = {
  folders: readonly (UiFolder)[];
};

export type UiGenerate = {
  message?: UiQuestion;
  parent?: number;
  continue?: number;
  model?: UiModelName;
  parameters?: UiParameters;
  activate?: boolean;
};

export type UiGeneration = {
  id: UiId;
  chat: UiId;
  message: UiId;
  state: "running" | "complete" | "stopped" | "interrupted" | "failed";
  last: number;
  created_ms: UiTime;
  ended_ms: number | null;
};

export type UiGenerationEvent = {
  n: number;
  type: "start" | "text" | "reasoning" | "tool_call" | "warning" | "end";
  text?: string;
  tool_call?: UiToolCall;
  model?: string;
  prompt_tokens?: number;
  context_tokens?: number;
  content?: string;
  reasoning?: string;
  tool_calls?: readonly (UiToolCall)[];
  state?: "complete" | "stopped" | "interrupted" | "failed";
  stats?: UiStats;
};

export type UiGenerations = {
  generations: readonly (UiGeneration)[];
};

export type UiId = number;

export type UiImport = {
  chat?: UiExport;
  markdown?: string;
  folder?: number | null;
};

export type UiMarkdown = {
  markdown: string;
};

export type UiMessage = {
  id: UiId;
  parent: number | null;
  role: "user" | "assistant" | "tool";
  state: "complete" | "running" | "stopped" | "interrupted" | "failed";
  content: string;
  reasoning: string;
  tool_calls: null | readonly (UiToolCall)[];
  tool_call_id: string | null;
  model: string | null;
  parameters: Record<string, unknown> | null;
  stats: UiStats;
  generation: number | null;
  attachments: readonly (UiAttachment)[];
  revision: number;
  created_ms: UiTime;
  modified_ms: UiTime;
};

export type UiMessageChange = {
  revision: UiRevision;
  content?: UiText;
  reasoning?: UiText;
};

export type UiMessageFields = {
  parent?: number | null;
  role: "user" | "assistant" | "tool";
  content: UiText;
  reasoning?: UiText;
  tool_calls?: readonly (UiToolCall)[];
  tool_call_id?: string;
  model?: UiModelName;
  attachments?: readonly (UiAttachmentFields)[];
  activate?: boolean;
};

export type UiMessagePage = {
  messages: readonly (UiMessage)[];
  next: number | null;
};

export type UiModelName = string;

export type UiName = string;

export type UiOption = {
  name: string;
  option: string;
  group: "performance" | "limits" | "paths";
  applies: "now" | "restart";
  source: "default" | "file" | "command_line";
  pending: boolean;
};

export type UiOptionValues = {
  threads?: number;
  backend?: "" | "cpu" | "cpu-scalar" | "mlx";
  kv_type?: "auto" | "f32" | "f16" | "bf16" | "i16" | "q8_0" | "q4_0";
  activations?: 16 | 8;
  kv_bytes?: number;
  expert_bytes?: number;
  kv_dir?: string;
  kv_disk_bytes?: number;
  draft?: "none" | "ngram" | "mtp";
  batch_invariant?: boolean;
  memory_bytes?: number;
  ctx?: number;
  rope_scaling?: "" | "none" | "linear" | "ntk" | "yarn";
  rope_scale?: number;
  rope_base?: number;
  rope_original?: number;
  yarn_beta_fast?: number;
  yarn_beta_slow?: number;
  yarn_attn_factor?: number;
  keep_alive_s?: number;
  parallel?: number;
  queue?: number;
  drain_s?: number;
};

export type UiOptions = {
  file: string;
  writable: boolean;
  can_restart: boolean;
  restart_needed: boolean;
  note: string;
  options: readonly (UiOption)[];
  running: UiOptionValues;
  saved: UiOptionValues;
  defaults: UiOptionValues;
  places: readonly ({
    name: "models" | "kv_dir" | "file" | "log" | "socket";
    path: string;
    free_bytes: number | null;
  })[];
  build: {
    replaced: boolean;
    version: string;
    compiler: string;
    system: string;
    machine: string;
    backend: string;
    cpu_features: string;
    n_threads: number;
  };
};

export type UiOptionsChange = {
  values: Record<string, unknown>;
  check_only?: boolean;
};

export type UiParameters = {
  tools?: readonly (Record<string, unknown>)[] | null;
  tool_choice?: "none" | "auto" | "required" | Record<string, unknown> | null;
  parallel_tool_calls?: boolean | null;
  chat_template_kwargs?: Record<string, unknown> | null;
  truncation?: "disabled" | "auto" | null;
  modalities?: ["text"] | null;
  verbosity?: unknown | null;
  service_tier?: unknown | null;
  metadata?: unknown | null;
  prompt_cache_retention?: unknown | null;
  reasoning_format?: "auto" | "none" | null;
  return_token_ids?: boolean | null;
  reasoning_effort?: "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | null;
  temperature?: number | null;
  temp?: number | null;
  top_k?: number | null;
  top_p?: number | null;
  min_p?: number | null;
  typical_p?: number | null;
  xtc_probability?: number | null;
  xtc_threshold?: number | null;
  dry_multiplier?: number | null;
  dry_base?: number | null;
  dry_allowed_length?: number | null;
  dry_penalty_last_n?: number | null;
  dry_sequence_breakers?: string | readonly (string)[] | null;
  mirostat?: number | null;
  mirostat_tau?: number | null;
  mirostat_eta?: number | null;
  repeat_penalty?: number | null;
  repetition_penalty?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  repeat_last_n?: number | null;
  logit_bias?: Record<string, number> | null;
  seed?: number | null;
  logprobs?: boolean | number | null;
  top_logprobs?: number | null;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  stop?: string | readonly (string)[] | null;
  priority?: number | null;
  grammar?: string | null;
  schema?: Record<string, unknown> | string | true | null;
  response_format?: {
    type: "text" | "json_object";
  } | {
    type: "json_schema";
    json_schema: {
      name?: string | null;
      strict?: boolean | null;
      schema: Record<string, unknown>;
    };
  } | null;
  user?: string | null;
  draft?: "ngram" | "mtp" | "none" | null;
  n_ctx?: number | null;
  keep_volatile?: boolean | null;
  deadline_ms?: number | null;
  lora?: readonly (unknown)[] | null;
  prompt_cache_key?: unknown | null;
  safety_identifier?: string | null;
};

export type UiPreset = {
  id: UiId;
  name: string;
  model: string;
  system: string;
  parameters: UiParameters;
  revision: number;
  created_ms: UiTime;
  modified_ms: UiTime;
};

export type UiPresetChange = {
  revision: UiRevision;
  name?: UiName;
  model?: UiModelName;
  system?: UiSystem;
  parameters?: UiParameters;
};

export type UiPresetFields = {
  name: UiName;
  model?: UiModelName;
  system?: UiSystem;
  parameters?: UiParameters;
};

export type UiPresets = {
  presets: readonly (UiPreset)[];
};

export type UiQuestion = {
  content: UiText;
  parent?: number | null;
  attachments?: readonly (UiAttachmentFields)[];
};

export type UiRemoved = {
  removed: boolean;
};

export type UiRestart = {
  now: boolean;
};

export type UiRevision = number;

export type UiSearch = {
  results: readonly ({
    chat: UiId;
    title: string;
    folder: number | null;
    message: number | null;
    role: string | null;
    created_ms: UiTime;
    snippet: readonly ({
      text: string;
      hit: boolean;
    })[];
  })[];
  next: number | null;
};

export type UiSettingValues = {
  language?: string;
  theme?: "auto" | "light" | "dark";
  text_size?: number;
  send_key?: "enter" | "ctrl_enter";
  default_model?: string;
  default_preset?: number | null;
  show_reasoning?: "folded" | "open" | "hidden";
  show_stats?: boolean;
  wrap_code?: boolean;
  confirm_delete?: boolean;
  sidebar?: boolean;
  chart_window_s?: number;
  shortcuts?: Record<string, string>;
};

export type UiSettings = {
  version: 1;
  revision: number;
  values: UiSettingValues;
};

export type UiSettingsChange = {
  revision: UiRevision;
  values: Record<string, unknown>;
};

export type UiStarted = {
  generation: UiId;
  question: null | UiMessage;
  answer: UiMessage;
  chat: UiChat;
};

export type UiState = {
  status: string;
};

export type UiStats = {
  finish_reason?: "stop" | "stop_string" | "length" | "tool_calls" | "stopped" | "interrupted" | "error";
  stop?: string;
  prompt_tokens?: number;
  cached_tokens?: number;
  answer_tokens?: number;
  reasoning_tokens?: number;
  context_tokens?: number;
  load_ms?: number;
  first_token_ms?: number;
  total_ms?: number;
  tokens_per_second?: number | null;
  cache_miss?: string;
  dropped_messages?: number;
  warnings?: readonly (string)[];
  error?: {
    code: string;
    message: string;
    param?: string | null;
  };
} | null;

export type UiSystem = string;

export type UiText = string;

export type UiTime = number;

export type UiTitle = string;

export type UiToolCall = {
  id: string;
  type: "function";
  function: {
    name: string;
    arguments: string;
  };
};

export interface Routes {
  'DELETE /ui-api/chats/{id}': { answer: UiRemoved };
  'DELETE /ui-api/chats/{id}/messages/{message}': { answer: UiRemoved };
  'DELETE /ui-api/folders/{id}': { answer: UiRemoved };
  'DELETE /ui-api/jobs/{id}': { answer: unknown };
  'DELETE /ui-api/keys/{id}': { answer: unknown };
  'DELETE /ui-api/models/{name}': { answer: unknown };
  'DELETE /ui-api/presets/{id}': { answer: UiRemoved };
  'GET /ui-api/catalogue': { answer: unknown };
  'GET /ui-api/chats': { answer: UiChatPage };
  'GET /ui-api/chats/{id}': { answer: UiChat };
  'GET /ui-api/chats/{id}/export': { answer: UiExport | UiMarkdown };
  'GET /ui-api/chats/{id}/messages': { answer: UiMessagePage };
  'GET /ui-api/chats/{id}/messages/{message}': { answer: UiMessage };
  'GET /ui-api/directories': { answer: UiDirectory };
  'GET /ui-api/events': { answer: UiChanges; event: UiChange };
  'GET /ui-api/folders': { answer: UiFolders };
  'GET /ui-api/generations': { answer: UiGenerations };
  'GET /ui-api/generations/{id}': { answer: UiGeneration };
  'GET /ui-api/generations/{id}/events': { answer: unknown; event: UiGenerationEvent };
  'GET /ui-api/jobs': { answer: unknown };
  'GET /ui-api/jobs/{id}': { answer: unknown };
  'GET /ui-api/keys': { answer: unknown };
  'GET /ui-api/loaded': { answer: unknown };
  'GET /ui-api/logs': { answer: unknown };
  'GET /ui-api/models': { answer: unknown };
  'GET /ui-api/models/{name}': { answer: unknown };
  'GET /ui-api/options': { answer: UiOptions };
  'GET /ui-api/presets': { answer: UiPresets };
  'GET /ui-api/search': { answer: UiSearch };
  'GET /ui-api/settings': { answer: UiSettings };
  'GET /ui-api/status': { answer: unknown };
  'GET /ui-api/version': { answer: unknown };
  'PATCH /ui-api/chats/{id}': { body: UiChatChange; answer: UiChat };
  'PATCH /ui-api/chats/{id}/messages/{message}': { body: UiMessageChange; answer: UiMessage };
  'PATCH /ui-api/folders/{id}': { body: UiFolderChange; answer: UiFolder };
  'PATCH /ui-api/options': { body: UiOptionsChange; answer: UiOptions };
  'PATCH /ui-api/presets/{id}': { body: UiPresetChange; answer: UiPreset };
  'PATCH /ui-api/settings': { body: UiSettingsChange; answer: UiSettings };
  'POST /ui-api/chats': { body: UiChatFields; answer: UiChat };
  'POST /ui-api/chats/{id}/generations': { body: UiGenerate; answer: UiStarted };
  'POST /ui-api/chats/{id}/messages': { body: UiMessageFields; answer: UiMessage };
  'POST /ui-api/chats/{id}/restore': { answer: UiChat };
  'POST /ui-api/drain': { body: {
      now: boolean | null;
    }; answer: unknown };
  'POST /ui-api/folders': { body: UiFolderFields; answer: UiFolder };
  'POST /ui-api/generations/{id}/stop': { answer: UiGeneration };
  'POST /ui-api/import': { body: UiImport; answer: UiChat };
  'POST /ui-api/keys': { body: {
      label?: string | null;
      scopes?: string | null;
      models?: string | null;
      requests_per_minute?: number | null;
      tokens_per_day?: number | null;
      expires_at?: number | null;
    }; answer: unknown };
  'POST /ui-api/models/copy': { body: {
      from: string | null;
      to: string | null;
      alias?: boolean | null;
    }; answer: unknown };
  'POST /ui-api/models/create': { body: {
      name: string | null;
      from?: string | null;
      modelfile?: string | null;
      template?: string | null;
      system?: string | null;
      license?: string | null;
      parameters?: readonly (unknown)[] | null;
      messages?: readonly (unknown)[] | null;
      keep_going?: boolean | null;
    }; answer: unknown };
  'POST /ui-api/models/import': { answer: unknown };
  'POST /ui-api/models/load': { body: {
      model: string | null;
      keep_alive_s?: number | null;
    }; answer: unknown };
  'POST /ui-api/models/pull': { body: {
      source: string | null;
      name?: string | null;
      digest?: string | null;
      keep_going?: boolean | null;
    }; answer: unknown };
  'POST /ui-api/models/register': { body: {
      path: string | null;
      name: string | null;
    }; answer: unknown };
  'POST /ui-api/models/restore': { body: {
      model: string | null;
    }; answer: unknown };
  'POST /ui-api/models/unload': { body: {
      model: string | null;
    }; answer: unknown };
  'POST /ui-api/presets': { body: UiPresetFields; answer: UiPreset };
  'POST /ui-api/profile': { body: Record<string, unknown>; answer: unknown };
  'POST /ui-api/restart': { body: UiRestart; answer: UiState };
}
