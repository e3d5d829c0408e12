/*
 * mlxr.h: the public C interface of the MLXR inference engine.
 *
 * Objects.   mlxr_engine    one device: backend, thread team, KV arena
 *            mlxr_model     a loaded model; immutable, reference-counted
 *            mlxr_sequence  one timeline of tokens with its KV pages and sampler
 *            mlxr_stream    turns sampled tokens into text, watching for stop strings
 *
 * Errors.    Every fallible call returns mlxr_status and fills a caller-owned mlxr_error (which may be NULL) with
 *            what failed, where and how much. A failed call changes nothing the caller can see.
 * Threads.   There are no globals. An engine, its models' load/unref and its sequences belong to one thread at a
 *            time. Functions that take `const mlxr_model *` may be called from any thread at any time.
 * Ownership. Out-pointers are owned by the caller and ended with the matching close/unref, which also nulls them.
 *            `const T *` results are borrowed and live as long as the object they came from.
 */
#ifndef MLXR_H
#define MLXR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MLXR_API __attribute__((visibility("default")))
#else
#define MLXR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define MLXR_VERSION "0.1.0" /* before 1.0 structs may grow anywhere: mlxr_version() has to be the same */

/* ---- status and errors ------------------------------------------------------------------------------------- */

#define MLXR_STATUS_LIST(X)                                                                                            \
    X(OK, "ok")                                                                                                        \
    X(NOMEM, "out of memory")                                                                                          \
    X(IO, "input/output failed")                                                                                       \
    X(FORMAT, "malformed data")                                                                                        \
    X(ARG, "bad argument")                                                                                             \
    X(UNSUPPORTED, "not supported")                                                                                    \
    X(KV_FULL, "no free KV page")                                                                                      \
    X(LIMIT, "limit exceeded")                                                                                         \
    X(DEVICE, "device failed")

typedef enum mlxr_status {
#define MLXR_STATUS_ENUM(name, text) MLXR_##name,
    MLXR_STATUS_LIST(MLXR_STATUS_ENUM)
#undef MLXR_STATUS_ENUM
} mlxr_status;

typedef struct mlxr_error {
    mlxr_status status;
    char text[504]; /* one line, no trailing newline */
} mlxr_error;

/* The status as words, never NULL. */
MLXR_API const char *mlxr_status_text(mlxr_status status);
MLXR_API const char *mlxr_version(void);

/* Frees memory that a call below says the caller frees with mlxr_free. */
MLXR_API void mlxr_free(void *memory);

/* ---- engine -------------------------------------------------------------------------------------------------- */

typedef struct mlxr_engine mlxr_engine;
typedef struct mlxr_model mlxr_model;
typedef struct mlxr_sequence mlxr_sequence;
typedef struct mlxr_stream mlxr_stream;

typedef enum { MLXR_LOG_ERROR, MLXR_LOG_WARN, MLXR_LOG_INFO, MLXR_LOG_DEBUG } mlxr_log_level;

#define MLXR_EXPERTS_UNBOUND UINT64_MAX

typedef struct mlxr_engine_options { /* {0} is a valid default */
    const char *backend;             /* NULL: the best present; "cpu", "cpu-scalar", "mlx" in builds with it */
    uint32_t n_threads;              /* 0: one per core this process may run on */
    size_t kv_bytes;                 /* 0: sized from free memory; the byte budget of the KV arena */
    /* "f32", "f16", "bf16", "i16", "q8_0", "q4_0": 4, 2, 2, 2 (and 4 a head), 1.06, 0.56 bytes an element. NULL or
     * "auto": of each model "i16" where that is known to be faster than f16 and no further from float32 (wide heads
     * with normalised keys, on x86), else "f16" (docs/performance.md). */
    const char *kv_type;
    /* Bits of what meets quantised weights. NULL: "16", where nothing that can be measured tells it from float32. "8",
     * as most engines have it ("W4A8" for weights of 4 bits): prompts 1.3 to 1.6 times as fast on x86 with AVX2,
     * AVX-VNNI or AVX-512 VNNI, for a mean KL divergence of some thousandths (docs/performance.md); AMX and ARM64
     * round, too, but gain nothing yet. Logits, the first layers, what comes before them and latent attention's
     * products by head keep 16 then, and weights of 16 bits or more are not touched. A backend that cannot is refused
     * by mlxr_engine_open with MLXR_UNSUPPORTED. */
    const char *activations;
    const char *cpu_features; /* NULL: all granted; "-avx512,-amx" masks levels */
    /* Of a mixture's experts at most so many bytes are kept in memory, those used most; the others are read from the
     * file when they are needed. 0: all, where the weights fit in the memory that is free (or in weight_memory), else
     * what fits; MLXR_EXPERTS_UNBOUND: the system has its own way. Only of experts whose bytes are used as they lie in
     * the file, by the CPU backends. Results do not depend on it. A budget that is named here is locked in memory as
     * far as RLIMIT_MEMLOCK allows. */
    uint64_t expert_bytes;
    uint64_t weight_memory; /* bytes for a model's weights, where expert_bytes is 0; 0: what is free */
    bool no_prefix_cache;   /* sequences share nothing and nothing is kept */
    /* Insist that results do not depend on the batch: the logits of a token are the same bits whatever else its step
     * computes, however its prompt was cut into steps, and for any n_threads. Then only kernels that keep this are
     * used; a backend that has none for something is refused by mlxr_engine_open with MLXR_UNSUPPORTED. The CPU
     * backends keep it always, so that there it costs nothing and changes nothing. */
    bool batch_invariant;
    /* NULL: none; the file in which mlxr_kernels_check keeps what it found out about this device's kernels. Read when
     * the engine is opened; a damaged one is ignored, which goes to `log`. */
    const char *kernel_file;
    /* NULL: none; a directory of this user that keeps evicted KV pages. Of several engines on it one writes, the others
     * read; trouble with the disk goes to `log`. */
    const char *kv_dir;
    uint64_t kv_disk_bytes;         /* its byte budget; 0: 8 GiB */
    double kv_high, kv_low;         /* above `high` of the KV budget, evict cached pages down to `low`; 0: 0.95, 0.85 */
    uint64_t kv_working_set_ms;     /* prefixes used within this time are evicted last; 0: 60,000 */
    uint64_t (*now_ms)(void *user); /* NULL: a monotonic clock; only eviction looks at it */
    void *now_user;
    void (*log)(void *user, mlxr_log_level level, const char *line);
    void *log_user;
} mlxr_engine_options;

MLXR_API mlxr_status mlxr_engine_open(mlxr_engine **out, const mlxr_engine_options *options, mlxr_error *error);
MLXR_API void mlxr_engine_close(mlxr_engine **engine);

typedef struct mlxr_engine_info {
    const char *backend;
    const char *cpu_features; /* in use: granted and not masked, such as "avx2,avx512"; "" */
    uint32_t n_threads;
    uint32_t activation_bits; /* 16, or 8 where that was asked for */
    bool batch_invariant;     /* results never depend on the batch, whether that was insisted on or not */
} mlxr_engine_info;
MLXR_API const mlxr_engine_info *mlxr_engine_info_get(const mlxr_engine *engine);

/* Measures what this engine's device and threads reach at best, in a tenth of a second or so; between steps only.
 * `what`: "read" gives bytes a second over n_bytes of memory, read again and again; "int8", "bf16" and "f32" give
 * operations a second (a multiply-add is two), 0 where there are no such instructions. MLXR_UNSUPPORTED where the
 * backend cannot tell. */
MLXR_API mlxr_status mlxr_engine_limit(mlxr_engine *engine, const char *what, size_t n_bytes, double *per_s,
                                       mlxr_error *error);

/* A JSON object that tells what this machine offers: CPU features as the OS grants them, memory, threads, backends
 * and why a backend is absent. The caller frees *json with mlxr_free. */
MLXR_API mlxr_status mlxr_system_describe(char **json, mlxr_error *error);

/* Checks MLXR's own kernels on this machine's device (backend "mlx-metal", where `backend` is NULL): that each
 * compiles, gives what was recorded and what is done without it, in every size of threadgroup, and is faster. With a
 * `file` (or NULL) engines that are given it as kernel_file do without those that failed or are slower. *json, which
 * the caller frees with mlxr_free, is a report. Takes half a minute or so. MLXR_UNSUPPORTED where there are no such
 * kernels. */
MLXR_API mlxr_status mlxr_kernels_check(const char *backend, const char *file, char **json, mlxr_error *error);

/* ---- models -------------------------------------------------------------------------------------------------- */

typedef enum { MLXR_MTP_OFF, MLXR_MTP_NEEDED, MLXR_MTP_IF_ANY } mlxr_mtp;

/* Contexts longer than the model was trained for: its rotary position embedding is stretched, by one factor F.
 *   LINEAR  every frequency ÷ F: positions come to lie closer together (Chen et al. 2023, position interpolation)
 *   NTK     theta × F^(d/(d − 2)), d elements of a head turning: the slowest pair ÷ F, the fastest as it was (bloc97
 *           2023). F is the same at every length, unlike in "dynamic" NTK, so that computed keys stay valid
 *   YARN    pairs that turn less than once in the original context ÷ F, those that turn 32 times as they were, a ramp
 *           between; attention × (0.1 ln F + 1)², of the elements that turn (Peng et al. 2023)
 *   NONE    no scaling, and the context that is asked for all the same; a file's YaRN is taken away
 * Without training none of them answers as well as the model does within its own context, also on short texts; LINEAR
 * costs most (docs/contexts.md). What a file's own scaling becomes: LINEAR is applied to what it gives, whatever it is;
 * NTK and YARN go on a scaling of their own kind, to F times its factor, and are refused beside another one, unless
 * n_original replaces that. Layers with a theta of their own for windows stay as they are. */
typedef enum {
    MLXR_ROPE_OF_FILE, /* as the model's file has it, and no context beyond the one it names */
    MLXR_ROPE_NONE,
    MLXR_ROPE_LINEAR,
    MLXR_ROPE_NTK,
    MLXR_ROPE_YARN
} mlxr_rope_scaling;

typedef struct mlxr_rope_options { /* {0}: as the file has it */
    mlxr_rope_scaling scaling;
    /* F, from 1; 0: n_ctx_max ÷ the original context. At most 2^30 tokens come of it; n_ctx_max 0: all of them. Where F
     * is 1 or less, because the model reads n_ctx_max tokens anyway, nothing changes. */
    float scale;
    /* theta, above 1, in the place of the file's; one that is above it allows any n_ctx_max; 0: the file's */
    float base;
    /* Tokens from which F counts, at most those that it reads without options; the file's scaling is taken away. 0: the
     * file's context, or what its YaRN reads where that is more, and its scaling. */
    uint32_t n_original;
    /* Of YARN alone, each 0 for the file's number, or the paper's where it has none: turns within the original context
     * from which a pair stays as it is (32), and up to which it is divided by F (1), the first more than the second;
     * and what attention's own factor, 0.1 ln F + 1, is multiplied with, once for queries and once for keys. */
    float yarn_beta_fast, yarn_beta_slow, yarn_attn_factor;
    /* A model that cannot be stretched is loaded as its file has it, and the log says why; else MLXR_UNSUPPORTED does.
     * NONE leaves a YaRN by which the model reads n_ctx_max tokens. */
    bool if_possible;
} mlxr_rope_options;

/* "none", "linear", "ntk", "yarn"; false: no such name. */
MLXR_API bool mlxr_rope_scaling_find(const char *name, mlxr_rope_scaling *out);

typedef struct mlxr_model_options { /* {0} is a valid default */
    /* 0: the model's own context length. Beyond it, and beyond what a YaRN of its file reads, only with `rope`. */
    uint32_t n_ctx_max;
    /* With the model's multi-token-prediction head, for mlxr_sequence_draft_mtp: its keys and values are computed and
     * kept with the others, about one layer more. Where there is none, or the backend runs none, MLXR_UNSUPPORTED says
     * so; MLXR_MTP_IF_ANY loads the model without. */
    mlxr_mtp mtp;
    mlxr_rope_options rope;
} mlxr_model_options;

/* Which option it is that was refused, each named as `mlxr serve` has it in its file (the command line writes '-' for
 * '_'): "ctx", "rope_scaling", "rope_scale", "rope_base", "rope_original", "yarn_beta_fast", "yarn_beta_slow",
 * "yarn_attn_factor". Constants; NULL where there is none. */
typedef struct mlxr_option_fault {
    const char *name;
    const char *needs;   /* one that has to be given, or given otherwise, for it to mean anything */
    const char *against; /* one that it contradicts: either of them may be meant */
} mlxr_option_fault;

/* MLXR_ARG or MLXR_LIMIT where what `options` say of context and RoPE suits no model; what does not suit one is refused
 * when that is loaded. NULL is right. `fault` is written in both cases; it may be NULL. Any thread. */
MLXR_API mlxr_status mlxr_model_options_check(const mlxr_model_options *options, mlxr_option_fault *fault,
                                              mlxr_error *error);

typedef struct mlxr_model_info {
    const char *path;
    const char *family;       /* "llama", "qwen2", … */
    const char *name;         /* general.name, or "" */
    const char *weight_types; /* most bytes first: "Q4_1, Q6_K, F32" */
    uint32_t n_layers, n_embd, n_head, n_head_kv, head_dim, n_ff, n_vocab, n_ctx_train;
    uint32_t n_ctx; /* of its sequences: n_ctx_train, or n_ctx_max where that is less, or RoPE is stretched */
    /* RoPE of the layers that see everything: "none", "linear", "ntk", "yarn", "llama3", "longrope", "factors" (of each
     * pair, as GGUF has Llama 3's); "" where no such layer turns. Its factor is that of the file and the options
     * together, but for "linear" upon another scaling; 1 where there is none, and of "factors". */
    const char *rope_scaling;
    float rope_factor, rope_base;
    bool rope_changed; /* by the options */
    uint64_t n_params;
    uint64_t file_bytes;         /* all parts of the model on disk */
    uint64_t weight_bytes;       /* tensor data */
    uint64_t bytes_per_token;    /* weights read to decode one token at batch 1 */
    uint64_t kv_bytes_per_token; /* with its KV type, full-attention and window layers alike */
    const char *kv_type;         /* the engine's, or what "auto" is for this model */
    bool has_chat_template;
    bool adds_bos;
    bool has_mtp;            /* the file has a multi-token-prediction head that can be used … */
    bool mtp;                /* … and the model was loaded with it */
    uint64_t mtp_bytes;      /* of weight_bytes: layers that predict further tokens, used or not */
    uint64_t resident_bytes; /* of weight_bytes: without experts beyond their budget; and what may be kept beside them
                                (mlxr_logits_stats) */
} mlxr_model_info;

/* Loads a GGUF file (or the first file of a split one), or a directory or index with safetensors and config.json.
 * The file stays mapped; weights are not copied. */
MLXR_API mlxr_status mlxr_model_load(mlxr_model **out, mlxr_engine *engine, const char *path,
                                     const mlxr_model_options *options, mlxr_error *error);
/* The same in two halves, so that a model can be read while the engine works for others. Reading takes any thread; of
 * what it gives only mlxr_model_info_get, mlxr_tokenize and the like work, until the engine's thread attaches it, which
 * takes microseconds. mlxr_model_unref ends it before or after. */
MLXR_API mlxr_status mlxr_model_read(mlxr_model **out, mlxr_engine *engine, const char *path,
                                     const mlxr_model_options *options, mlxr_error *error);
MLXR_API mlxr_status mlxr_model_attach(mlxr_model *model, mlxr_error *error);
MLXR_API mlxr_model *mlxr_model_ref(mlxr_model *model);
MLXR_API void mlxr_model_unref(mlxr_model **model);
MLXR_API const mlxr_model_info *mlxr_model_info_get(const mlxr_model *model);
/* Bytes of the KV pages that one sequence of this model holds while a step computes n_more tokens behind the first
 * n_computed (0: between two steps). Exact: whole pages, and only those that windows still see. Pages shared with other
 * sequences are counted in full. */
MLXR_API uint64_t mlxr_model_kv_bytes(const mlxr_model *model, size_t n_computed, size_t n_more);
/* The most that it holds on its way to n_tokens, in steps of n_rows tokens at most, wherever these begin: with
 * attention in chunks that is at the end of one, not at the end of the sequence. Never less, and more only where layer
 * groups have their most at different places. */
MLXR_API uint64_t mlxr_model_kv_bytes_most(const mlxr_model *model, size_t n_tokens, size_t n_rows);

/* Floating-point operations, two a multiply-add, of computing n_more tokens behind the first n_computed of a sequence
 * and the logits of n_logits of them: matrices, and attention to what each token sees. */
MLXR_API double mlxr_model_flops(const mlxr_model *model, size_t n_computed, size_t n_more, size_t n_logits);

/* Describes a model file as JSON (metadata, tensors, memory need) without loading it into an engine; works for
 * families MLXR cannot run. The caller frees *json with mlxr_free. */
MLXR_API mlxr_status mlxr_model_describe(const char *path, char **json, mlxr_error *error);

#define MLXR_FILE_LARGE_PAGE ((uint64_t)2 << 20)

/* For who writes a model's file in small pieces, as a download does: before the first of a page. Where the file system
 * may keep large pages (on Linux ext4, XFS, btrfs, tmpfs), zeros are written over bytes [at, at +
 * MLXR_FILE_LARGE_PAGE) of a file open for writing, at once: what is then written there in pieces of any size can lie
 * in one of the system's large pages, and so can the model that is mapped later. What stood there is lost, and a
 * shorter file becomes longer. Elsewhere nothing is written, and where writing fails (a full disk, a descriptor that
 * cannot write) nothing or a part: so nobody may rely on reading zeros. `at` is a multiple of the page. A hint: a
 * failure is left to those pieces to meet. Any thread. */
MLXR_API void mlxr_file_begin_large_page(int fd, uint64_t at);

/* ---- text ---------------------------------------------------------------------------------------------------- */

enum {
    MLXR_TOKENIZE_ADD_SPECIAL = 1u << 0,   /* add BOS/EOS where the model's tokenizer does */
    MLXR_TOKENIZE_PARSE_SPECIAL = 1u << 1, /* text such as "<|im_end|>" becomes the control token */
};

/* Writes up to `cap` ids to `ids` and the full count to *n_ids, which may exceed cap: call again with more room.
 * Invalid UTF-8 is tokenised byte by byte where the vocabulary has bytes, else as U+FFFD. */
MLXR_API mlxr_status mlxr_tokenize(const mlxr_model *model, const char *text, size_t n_bytes, unsigned flags,
                                   int32_t *ids, size_t cap, size_t *n_ids, mlxr_error *error);
/* The bytes of a whole token list; special tokens appear only with `with_special`. *text is NUL-terminated and freed
 * with mlxr_free; it may hold NUL bytes, *n_bytes is its length. */
MLXR_API mlxr_status mlxr_detokenize(const mlxr_model *model, const int32_t *ids, size_t n_ids, bool with_special,
                                     char **text, size_t *n_bytes, mlxr_error *error);
/* The bytes one token stands for; not NUL-terminated, may be half a character. NULL for an id out of range. */
MLXR_API const char *mlxr_token_text(const mlxr_model *model, int32_t id, size_t *n_bytes);
MLXR_API bool mlxr_token_is_end(const mlxr_model *model, int32_t id); /* ends a generation: EOS, EOT, … */
MLXR_API bool mlxr_token_is_special(const mlxr_model *model, int32_t id);

/* Renders the model's chat template. `messages_json`: an array of {"role","content",…}; `tools_json`: an array or
 * NULL; `extra_json`: an object of further template variables, or NULL. As in apply_chat_template() of transformers,
 * members of messages that are null count as missing, tools and documents as null where there are none. *text is freed
 * with mlxr_free. Tokenise it with PARSE_SPECIAL and without ADD_SPECIAL. A model without a template gives
 * MLXR_UNSUPPORTED. */
MLXR_API mlxr_status mlxr_chat_render(const mlxr_model *model, const char *messages_json, const char *tools_json,
                                      const char *extra_json, bool add_generation_prompt, char **text,
                                      mlxr_error *error);

/* ---- sampling ------------------------------------------------------------------------------------------------ */

typedef struct mlxr_logit_bias {
    int32_t id;
    float bias; /* added to the logit; -INFINITY forbids the token */
} mlxr_logit_bias;

/* Field names and meanings are the field's usual ones. mlxr_sampling_default() gives the defaults named here. */
typedef struct mlxr_sampling {
    uint64_t seed;                   /* same seed, same tokens, whatever the thread count; default 0 = from the OS */
    float temperature;               /* 0: greedy; default 0.8 */
    int32_t top_k;                   /* 0: off; default 40 */
    float top_p;                     /* 1: off; default 0.95 */
    float min_p;                     /* 0: off; default 0.05 */
    float typical_p;                 /* 1: off; default 1 */
    float xtc_probability;           /* 0: off */
    float xtc_threshold;             /* default 0.1 */
    float dry_multiplier;            /* 0: off */
    float dry_base;                  /* default 1.75 */
    int32_t dry_allowed_length;      /* default 2 */
    int32_t dry_penalty_last_n;      /* -1: whole context (default) */
    const char *const *dry_breakers; /* strings that end a repetition; NULL: "\n", ":", "\"", "*" */
    size_t n_dry_breakers;
    int32_t mirostat;        /* 0 off, 1, 2 */
    float mirostat_tau;      /* default 5 */
    float mirostat_eta;      /* default 0.1 */
    float repeat_penalty;    /* 1: off (default) */
    float presence_penalty;  /* 0: off */
    float frequency_penalty; /* 0: off */
    int32_t penalty_last_n;  /* window of the three penalties; default 64; -1: whole context */
    const mlxr_logit_bias *logit_bias;
    size_t n_logit_bias;
    uint32_t n_logprobs; /* how many alternatives to report per sampled token, with their log-probabilities */
    bool logprobs;       /* report the sampled token's log-probability */
} mlxr_sampling;

MLXR_API mlxr_sampling mlxr_sampling_default(void);
/* Would a sequence of this model take it? MLXR_ARG: as opening says. MLXR_UNSUPPORTED: it has no logits */
MLXR_API mlxr_status mlxr_sampling_check(const mlxr_model *model, const mlxr_sampling *sampling, mlxr_error *error);

/* ---- sequences and steps --------------------------------------------------------------------------------------
 * A sequence has tokens appended and tokens computed. mlxr_step computes some pending tokens of some sequences in
 * one pass over the weights: prompt chunks and single decoded tokens are the same thing. */

/* `sampling` NULL: defaults. The arrays it points to are copied. */
MLXR_API mlxr_status mlxr_sequence_open(mlxr_sequence **out, mlxr_model *model, const mlxr_sampling *sampling,
                                        mlxr_error *error);
MLXR_API void mlxr_sequence_close(mlxr_sequence **sequence);
/* Fails with MLXR_LIMIT and the numbers when the context length would be exceeded. */
MLXR_API mlxr_status mlxr_sequence_append(mlxr_sequence *sequence, const int32_t *ids, size_t n_ids, mlxr_error *error);
MLXR_API size_t mlxr_sequence_pending(const mlxr_sequence *sequence); /* appended, not computed */
MLXR_API size_t mlxr_sequence_length(const mlxr_sequence *sequence);  /* appended */
MLXR_API size_t mlxr_sequence_computed(const mlxr_sequence *sequence);
MLXR_API const int32_t *mlxr_sequence_tokens(const mlxr_sequence *sequence);
/* How many of the computed tokens were found in the KV cache instead of being computed. */
MLXR_API size_t mlxr_sequence_cached(const mlxr_sequence *sequence);
/* Why the cache had no more for the newest prompt, in a word: "none", "new", "evicted", "rejected", "no-room", "off".
 */
MLXR_API const char *mlxr_sequence_miss(const mlxr_sequence *sequence);
/* A copy that shares all KV pages; whoever writes into a shared page first gets a copy of it. `sampling` NULL: goes on
 * with a copy of the original's sampler; else a new one, fed the same history. */
MLXR_API mlxr_status mlxr_sequence_fork(mlxr_sequence **out, const mlxr_sequence *sequence,
                                        const mlxr_sampling *sampling, mlxr_error *error);
/* Gives the KV pages back: all tokens are pending afterwards. */
MLXR_API void mlxr_sequence_release(mlxr_sequence *sequence);
/* Takes what the KV cache still has of the pending tokens; append does the same by itself. */
MLXR_API void mlxr_sequence_resume(mlxr_sequence *sequence);
/* Forgets tokens from position `length` on; their KV is dropped. */
MLXR_API mlxr_status mlxr_sequence_truncate(mlxr_sequence *sequence, size_t length, mlxr_error *error);

typedef struct mlxr_token_logprob {
    int32_t id;
    float logprob; /* natural log; of the distribution before temperature and filters */
} mlxr_token_logprob;

typedef struct mlxr_sampled {
    int32_t id;
    float logprob;                 /* if asked for */
    const mlxr_token_logprob *top; /* [n_top], most likely first, if asked for */
    uint32_t n_top;
} mlxr_sampled;

enum {
    MLXR_SLICE_NO_SAMPLE = 1u << 0,  /* compute only */
    MLXR_SLICE_LOGITS_ALL = 1u << 1, /* logits of every computed token, not only of the last */
    /* Instead of logits and samples: what the last layer leaves behind its norm, of every computed token. All slices of
     * a step have it, or none. What comes from the cache is not computed: mlxr_sequence_release first. */
    MLXR_SLICE_HIDDEN = 1u << 2,
    /* The caller does not read logits: they stay NULL. Where all slices of a step have it and take the likeliest token
     * (temperature 0, nothing that changes logits or tells their probabilities), a backend need not compute them all.
     * Tokens are the same. Not with LOGITS_ALL. */
    MLXR_SLICE_NO_LOGITS = 1u << 3,
};

typedef struct mlxr_slice {
    mlxr_sequence *sequence;
    uint32_t n_compute; /* in: how many pending tokens; 0 < n ≤ pending */
    unsigned flags;     /* in: MLXR_SLICE_… */
    /* out, valid until the next step of this engine */
    const float *logits; /* [n_logits][n_vocab]: all computed tokens, or the last if it was the last pending one */
    uint32_t n_logits;
    const mlxr_sampled *sampled;   /* [n_sampled], appended to the sequence; several where a draft was accepted */
    uint32_t n_sampled;            /* 0: still pending, or NO_SAMPLE */
    int32_t token;                 /* the last of them; -1: none */
    float logprob;                 /* of `token`, if asked for */
    const mlxr_token_logprob *top; /* [n_top] of `token`, if asked for */
    uint32_t n_top;
    const float *hidden; /* [n_hidden][n_embd], if asked for */
    uint32_t n_hidden;
} mlxr_slice;

/* ---- grammars: what is sampled is a sentence of the grammar, or the beginning of one ---- */
typedef struct mlxr_grammar mlxr_grammar;
/* GBNF, start rule "root"; errors give line and column. May be shared by any number of sequences of the model. */
MLXR_API mlxr_status mlxr_grammar_open_gbnf(mlxr_grammar **out, mlxr_model *model, const char *text, size_t n_bytes,
                                            mlxr_error *error);
/* JSON Schema; a keyword beyond the supported ones is an error that names it. "{}" is any JSON value. */
MLXR_API mlxr_status mlxr_grammar_open_schema(mlxr_grammar **out, mlxr_model *model, const char *json, size_t n_bytes,
                                              mlxr_error *error);
MLXR_API void mlxr_grammar_close(mlxr_grammar **grammar); /* sequences that use it keep what they need */
/* Constrains all that is sampled from now on; NULL: no longer. Tokens that the caller appends are not constrained, and
 * the grammar starts anew behind them. */
MLXR_API mlxr_status mlxr_sequence_constrain(mlxr_sequence *sequence, const mlxr_grammar *grammar, mlxr_error *error);
/* Is what was sampled since then a whole sentence? True without a grammar. */
MLXR_API bool mlxr_sequence_may_end(const mlxr_sequence *sequence);

/* From now on decoding steps of this sequence try drafted tokens and may sample several at once, with the very same
 * results. `draft_model` NULL: prompt lookup; else a model of this engine with the same vocabulary (checked). n_max:
 * the longest draft, 1 … 15; 0: 8. How long a draft pays is learned; where it does not, none is made. */
MLXR_API mlxr_status mlxr_sequence_draft(mlxr_sequence *sequence, mlxr_model *draft_model, uint32_t n_max,
                                         mlxr_error *error);
/* The same with the multi-token-prediction head of the sequence's own model, which was loaded with it. */
MLXR_API mlxr_status mlxr_sequence_draft_mtp(mlxr_sequence *sequence, uint32_t n_max, mlxr_error *error);
typedef struct mlxr_draft_stats {
    uint64_t n_steps, n_drafting_steps, n_drafted, n_accepted;
    double acceptance;                        /* probability of the next drafted token, a moving average */
    double row_cost, draft_cost;              /* measured prices in plain steps: one more row, one drafted token */
    uint64_t drafted_at[15], accepted_at[15]; /* by position in the draft */
} mlxr_draft_stats;
MLXR_API mlxr_draft_stats mlxr_draft_stats_get(const mlxr_sequence *sequence);

/* Computes n slices of sequences that share this engine (and, for now, one model). All or nothing: on failure
 * (MLXR_KV_FULL among them) no sequence has changed. */
MLXR_API mlxr_status mlxr_step(mlxr_engine *engine, mlxr_slice *slices, size_t n_slices, mlxr_error *error);
/* The most pending tokens one step takes over all slices. */
MLXR_API uint32_t mlxr_step_tokens_max(const mlxr_engine *engine);

typedef struct mlxr_kv_stats {
    uint32_t page_tokens;
    uint64_t n_pages, n_pages_free;     /* free: without evicting anything */
    uint64_t bytes_budget, bytes_used;  /* used: by sequences and by the prefix cache */
    uint64_t bytes_cached;              /* of bytes_used: held by the prefix cache alone, can be evicted */
    uint64_t n_blocks_cached;           /* named blocks in memory */
    uint64_t tokens_hit, tokens_missed; /* of prompts: found in the cache, computed */
    uint64_t n_evicted_bytes;
    uint64_t disk_files, disk_bytes, disk_hits, disk_rejected, disk_write_errors, disk_dropped;
} mlxr_kv_stats;
MLXR_API mlxr_kv_stats mlxr_kv_stats_get(const mlxr_engine *engine);
typedef struct mlxr_expert_stats { /* of the engine's models whose experts do not all stay in memory; else zeros */
    uint64_t n_hits, n_misses;     /* experts that a layer's rows used: kept from before, or not */
    uint64_t n_given_back;         /* kept ones that fell out of the budget */
    uint64_t bytes_all, bytes_budget;
    uint64_t bytes_hot;    /* of the kept ones */
    uint64_t bytes_locked; /* of them, locked in memory */
    uint64_t bytes_read;   /* asked for because they were not in memory */
} mlxr_expert_stats;
MLXR_API mlxr_expert_stats mlxr_expert_stats_get(const mlxr_engine *engine);
/* Steps of few rows whose logits nobody reads (MLXR_SLICE_NO_LOGITS) may find the greatest, or those that the filters
 * of samplers leave, from half of the matrix's bits, which are then kept apart in memory instead of the file's pages.
 * Zeros where that is not done, and for adapted models. Not during a step of the model's engine. Members of their own
 * for layers' weights, which decoding steps bring into the order in which the kernels read them. */
typedef struct mlxr_logits_stats {
    uint64_t n_steps;     /* that did so */
    uint64_t bytes_saved; /* of the weights, that these had no need to read */
    uint64_t bytes_kept;  /* memory of both halves, or of a copy for many sequences, now */
    bool prepares;        /* steps that do so are not yet as fast as they will be */
    bool lays;            /* decoding steps still lay weights of layers for the kernels */
} mlxr_logits_stats;
MLXR_API mlxr_logits_stats mlxr_logits_stats_get(const mlxr_model *model);

/* Lowers the KV budget, or raises it again up to what the engine was opened with: evicts cached pages, gives memory
 * that is not needed back to the system, and returns the budget now in force, which is what sequences hold where that
 * is more. */
MLXR_API uint64_t mlxr_kv_budget_set(mlxr_engine *engine, uint64_t n_bytes);
/* Writes every cached block to kv_dir and waits until all is on disk; closing an engine's models does the same. */
MLXR_API void mlxr_kv_flush(mlxr_engine *engine);

/* ---- streams -------------------------------------------------------------------------------------------------- */

/* Text of sampled tokens: whole UTF-8 characters only, text that may begin a stop string is held back. */
MLXR_API mlxr_status mlxr_stream_open(mlxr_stream **out, const mlxr_model *model, const char *const *stops,
                                      size_t n_stops, mlxr_error *error);
MLXR_API void mlxr_stream_close(mlxr_stream **stream);
/* Feeds one token. *text (borrowed until the next call) is what can be shown now; may be empty. *stopped: a stop
 * string was met; text before it has been given, and nothing more will come. */
MLXR_API mlxr_status mlxr_stream_push(mlxr_stream *stream, int32_t id, const char **text, size_t *n_bytes,
                                      bool *stopped, mlxr_error *error);
/* What was held back; an unfinished character becomes U+FFFD. */
MLXR_API mlxr_status mlxr_stream_finish(mlxr_stream *stream, const char **text, size_t *n_bytes, mlxr_error *error);

#ifdef __cplusplus
}
#endif
#endif
