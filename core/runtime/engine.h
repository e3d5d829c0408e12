/*
 * Inside of the runtime's opaque objects: engine, model, sequence.
 * Owner: the caller of mlxr.h. Lifetime and threads: as mlxr.h states.
 */
#ifndef MLXR_RUNTIME_ENGINE_H
#define MLXR_RUNTIME_ENGINE_H

#include "base/region.h"
#include "graph/graph.h"
#include "runtime/expert_cache.h"
#include "runtime/grammar/constraint.h"
#include "runtime/grammar/grammar_cache.h"
#include "runtime/kv/cache.h"
#include "runtime/kv/eviction.h"
#include "runtime/profile.h"
#include "runtime/sampler.h"
#include "runtime/spec/speculation.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

/* Tokens a KV page holds: small enough that a sequence wastes little, large enough for the attention kernels' tiles. */
#define ENGINE_PAGE_TOKENS 32u
/* The most tokens of one step: beyond this, weights are amortised and only scratch memory would grow. */
#define ENGINE_STEP_TOKENS_MAX 512u

/* Arrays of the step under way; they grow and are kept. */
typedef struct step_scratch {
    int32_t *tokens, *positions; /* [cap_rows] */
    uint32_t *wanted;            /* [cap_rows] */
    int32_t *greatest;           /* [cap_rows], of the wanted ones: step.greatest */
    uint32_t cap_rows;
    step_slice *slices;  /* [cap_slices] */
    uint32_t *n_sampled; /* [cap_slices] */
    mlxr_error *errors;  /* [cap_slices], of samplers that ran in parallel */
    uint32_t cap_slices;
    float *logits; /* [cap_logits] */
    size_t cap_logits;
    float *carried; /* [cap_carried], of heads that predict ahead */
    size_t cap_carried;
} step_scratch;

struct mlxr_engine {
    const backend_ops *ops;
    backend *device;
    backend_options options;
    dtype kv_type;     /* of every model, or */
    bool kv_type_auto; /* of each what kv_type_choose says */
    mlxr_engine_info info;
    char features_text[160]; /* info.cpu_features */
    kv_arena arena;
    kv_store *store; /* NULL: no disk tier */
    eviction_policy eviction;
    expert_cache_options experts;
    bool no_expert_cache;
    mlxr_expert_stats experts_before; /* counts of models that are gone */
    bool no_prefix_cache;
    uint64_t n_evicted_bytes, tokens_hit, tokens_missed;
    uint64_t (*now_ms)(void *user);
    void *now_user;
    mlxr_model *models; /* list of those loaded */
    step_scratch scratch;
    engine_profile *profile;        /* NULL: off */
    const step_observer *observer;  /* NULL: nobody; its owner takes it away again */
    uint32_t n_models, n_sequences; /* attached, alive: an engine is closed after them */
    void (*log)(void *user, mlxr_log_level level, const char *line);
    void *log_user;
};

/* What decoding steps of a model took, with adapters or without: what drafting costs is learned from it. Of a base; the
 * one part of it that changes. */
typedef struct step_times {
    double plain_s; /* of one row for each of n_slices sequences; moving average */
    size_t n_slices;
    double row_cost;  /* of one more row a sequence, in plain steps; 0: not known */
    double head_loss; /* the account of the sequence whose head drafted last (acceptance_tracker.h) */
} step_times;

struct model_adapters;

/* Tells one loaded model from all others: its adapters hold it, too, so that no later model can have its address. */
typedef struct model_mark model_mark;

struct mlxr_model {
    mlxr_engine *engine;
    uint32_t refs;
    mlxr_model *base;                /* NULL: itself; else what it shares everything of but its cache (adapter.c) */
    model_mark *mark;                /* of a base */
    struct model_adapters *adapters; /* NULL: none */
    struct kept_adapters *kept;      /* of a base: files that were read, under its own lock, and models made of them */
    bool is_kept;                    /* in the base's list: without references it stays, and holds no base */
    model_file *file;
    graph *graph;
    tokenizer *tokenizer;
    chat_template *chat; /* NULL: none, or chat_error says why it cannot be used */
    mlxr_error chat_error;
    expert_cache *experts; /* of a base; NULL: all stay where they are */
    program *program;
    program *ahead;         /* of the head that predicts ahead; NULL: the model was loaded without */
    bool ahead_missed;      /* it was to be there if possible, and is not */
    mlxr_error rope_missed; /* why RoPE is not stretched that was to be if possible; or its status is MLXR_OK */
    plan *hidden_plan;      /* NULL: nobody wanted hidden states yet */
    program *hidden;
    const plan *adapted_plan[2]; /* of a base: with adapters, [1] to hidden states; NULL: nobody wanted them yet */
    program *adapted, *adapted_hidden; /* the same, ready; NULL also where the backend refused */
    token_trie *trie;                  /* made for the first grammar */
    grammar_cache grammars;
    dtype kv_type;
    kv_pool *pools[KV_GROUPS_MAX];
    kv_cache cache;
    bool cache_open;
    mlxr_model *next; /* in the engine's list */
    step_times times; /* of a base */
    uint32_t n_ctx;   /* of its sequences */
    uint32_t n_ctx_asked;
    mlxr_model_info info;
    region memory; /* of the texts in info */
};

struct mlxr_grammar {
    mlxr_model *model;
    grammar *g;
};

struct mlxr_sequence {
    mlxr_model *model;
    int32_t *tokens; /* [n_tokens] */
    size_t n_tokens, cap_tokens;
    size_t n_computed;
    size_t n_cached; /* of them, found in the cache */
    uint32_t second; /* where a second text begins; 0: there is one (mlxr_rerank_mark) */
    pager pages;
    kv_node *node; /* the deepest cached block it builds on; pinned */
    kv_miss miss;
    sampler *sampler;
    speculation spec;
    constraint rule;
    mlxr_sampled sampled[SPEC_DRAFT_MAX + 1]; /* of the newest step */
    mlxr_token_logprob *top;                  /* [SPEC_DRAFT_MAX + 1][n_top_max] */
    uint32_t n_top_max;
};

/* One formatted line to the engine's log, if it has one. */
void engine_log(const mlxr_engine *engine, mlxr_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* May a backend be opened with this option? If not, the error names both. */
mlxr_status engine_insist(const backend_ops *ops, bool batch_invariant, mlxr_error *error);

/* The model whose program runs. */
static inline const mlxr_model *model_base(const mlxr_model *m)
{
    return m->base ? m->base : m;
}

static inline mlxr_model *model_base_of(mlxr_model *m)
{
    return m->base ? m->base : m;
}

/* NULL: no memory. References are counted across threads. */
model_mark *model_mark_open(void);
void model_mark_unref(model_mark **mark);
/* What a step's slices of this model need. */
const step_adapter *model_adapters_of(const mlxr_model *model, uint32_t *n);
/* Does an adapter of this model change its output matrix? */
bool model_adapts_output(const mlxr_model *model);
/* The base's program that applies adapters, made the first time. */
mlxr_status model_adapted_program(mlxr_model *base, bool hidden, program **out, mlxr_error *error);
void model_adapters_close(mlxr_model *m);
struct kept_adapters *model_kept_open(void);
void model_kept_close(mlxr_model *base);
/* Ends a model that nobody refers to. */
void model_close(mlxr_model *m);

/* Makes m->hidden_plan, and m->hidden of it, the first time. */
mlxr_status model_hidden_plan(mlxr_model *m, mlxr_error *error);
mlxr_status model_hidden_program(mlxr_model *m, mlxr_error *error);

/* Room in the engine's scratch for a step of so many rows and slices, and for rows of logits of `width`. */
mlxr_status step_reserve(step_scratch *scratch, uint32_t n_rows, size_t n_slices, mlxr_error *error);
mlxr_status step_reserve_logits(step_scratch *scratch, uint32_t n_wanted, uint32_t width, mlxr_error *error);
/* Where the pages of a step of this model lie. */
kv_memory model_kv_memory(const mlxr_model *model);

/* Room for n tokens in all. */
mlxr_status sequence_reserve(mlxr_sequence *sequence, size_t n, mlxr_error *error);

/* Makes room in the KV arena by evicting cached pages, where usage is above the high threshold. */
void engine_trim(mlxr_engine *engine);

#endif
