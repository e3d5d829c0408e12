/*
 * Command-line options: one table of all of them, and what a command line said.
 * Owner: main. Lifetime: options_parse to options_close; texts are argv's.
 */
#ifndef MLXR_CLI_OPTIONS_H
#define MLXR_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mlxr.h"
#include "registry/words.h"

/* Groups that verbs choose from. */
enum {
    GROUP_JSON = 1u << 0,
    GROUP_ENGINE = 1u << 1,   /* device, threads, KV */
    GROUP_CONTEXT = 1u << 2,  /* --ctx as the context of a model */
    GROUP_SAMPLING = 1u << 3, /* can be changed in a chat, too */
    GROUP_RUN = 1u << 4,
    GROUP_TOKENIZE = 1u << 5,
    GROUP_DETOKENIZE = 1u << 6,
    GROUP_PERPLEXITY = 1u << 7,
    GROUP_BENCH = 1u << 8,
    GROUP_SHOW = 1u << 9,
    GROUP_COMPUTE = 1u << 10, /* how results come about */
    GROUP_CACHE = 1u << 11,   /* what is kept of prompts */
    GROUP_DRAFT = 1u << 12,
    GROUP_GRAMMAR = 1u << 13,
    GROUP_BATCH = 1u << 14,
    GROUP_SERVE = 1u << 15,
    GROUP_KEY = 1u << 16,
    GROUP_PULL = 1u << 17,
    GROUP_LIST = 1u << 18,
    GROUP_COPY = 1u << 19,
    GROUP_CREATE = 1u << 20,
    GROUP_DOCTOR = 1u << 21,
    GROUP_CLIENT = 1u << 22, /* which daemon is asked */
    GROUP_LOAD = 1u << 23,
    GROUP_LOGS = 1u << 24,
    GROUP_STOP = 1u << 25,
    GROUP_QUANTIZE = 1u << 26,
    GROUP_EMBED = 1u << 27,
    GROUP_RERANK = 1u << 28,
    GROUP_LORA = 1u << 29,
    GROUP_ALWAYS = 1u << 30, /* every verb has these */
};
#define GROUP_IMATRIX (1u << 31) /* an enumerator has no room for it */
/* Verbs that load a model and read texts with it: how far it reads. */
#define GROUPS_ROPE (GROUP_CONTEXT | GROUP_PERPLEXITY | GROUP_IMATRIX | GROUP_BENCH | GROUP_EMBED)

#define COUNTS_MAX 32u
#define DRAFT_MAX (sizeof((mlxr_draft_stats *)0)->drafted_at / sizeof(uint64_t)) /* tokens of a guess */

typedef struct count_list { /* 1,8,32 */
    uint32_t items[COUNTS_MAX], n;
} count_list;

typedef struct options {
    bool help, json, verbose, tensors, metal;
    /* engine */
    const char *backend, *cpu_features, *kv_type, *activations;
    uint32_t n_threads, n_ctx;
    const char *rope_scaling; /* NULL: as the model's file has it */
    float rope_scale, rope_base;
    uint32_t rope_original;
    float yarn_beta_fast, yarn_beta_slow, yarn_attn_factor;
    text_list adapters; /* FILE, or FILE=SCALE */
    uint64_t kv_bytes, kv_disk_bytes;
    uint64_t expert_bytes; /* UINT64_MAX: not given */
    const char *kv_dir;
    bool batch_invariant;
    /* what constrains and what speeds up */
    const char *grammar, *schema; /* files */
    const char *draft;            /* "ngram", "mtp" or a model */
    uint32_t n_draft_max;
    /* run */
    mlxr_sampling sampling;
    mlxr_logit_bias *bias; /* sampling.logit_bias points here */
    size_t cap_bias;
    text_list stops, breakers;
    const char *system;
    int32_t n_predict, n_logprobs; /* −1: not given */
    bool raw, chat;
    /* text */
    const char *file;
    const char *save_logits, *kld; /* files of reference logits */
    uint32_t n_windows, n_skip;    /* of perplexity; 0: all, none */
    bool add_special, parse_special, with_special, ids_only;
    /* rerank */
    const char *instruction;
    uint32_t n_top; /* 0: all */
    /* bench */
    uint32_t n_prompt, n_generate, n_repeat; /* n_prompt UINT32_MAX: not given */
    count_list batches, depths;
    bool csv, md, logits;
    const char *profile, *trace;
    const char *log_level, *log_file, *log_format;
    /* batch */
    const char *output, *model;
    uint32_t n_parallel;
    bool retry_errors;
    /* model files out of model files */
    const char *type, *imatrix;
    uint64_t split_max_bytes; /* 0: one file */
    /* the store of models */
    const char *as, *digest, *from;
    bool catalogue, alias, modelfile, pull;
    /* serve */
    const char *server; /* a client's: where the daemon is */
    bool serve;         /* of run */
    bool follow, now;   /* of logs, of stop */
    uint32_t n_lines;
    const char *host, *socket, *tls_cert, *tls_key;
    uint32_t port, ollama_port, n_queue, drain_s;
    int32_t keep_alive_s;
    uint64_t memory_bytes;
    text_list models, allow_hosts, allow_origins;
    bool no_tcp, no_sandbox, routes, no_wrap;
    /* key */
    const char *scopes, *key_models;
    uint32_t n_rpm, n_days;
    uint64_t n_tpd;
    uint64_t given[4]; /* a bit for each entry of the table that the command line has */
    /* what is no option */
    const char **args;
    size_t n_args;
} options;

typedef enum option_kind {
    OPTION_FLAG, /* bool, no value */
    OPTION_U32,
    OPTION_I32,
    OPTION_U64,
    OPTION_BYTES, /* uint64_t; 512M, 4G */
    OPTION_FLOAT,
    OPTION_TEXT,
    OPTION_FILE,   /* a text that names a file */
    OPTION_MODEL,  /* a text that names a model */
    OPTION_DRAFT,  /* the same, ngram or mtp */
    OPTION_COUNTS, /* count_list: whole numbers above 0, with commas between */
    OPTION_DEPTHS, /* the same, 0 among them */
    OPTION_LIST,   /* text_list, may be given several times */
    OPTION_BIAS,   /* ID=BIAS, may be given several times */
} option_kind;

typedef struct option_spec {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    option_kind kind;
    size_t offset; /* in struct options */
    unsigned groups;
    const char *argument; /* what help calls its value */
    const char *help;
} option_spec;

extern const option_spec option_table[];
extern const size_t n_option_table;

/* Fills *o with the defaults of the verbs. */
void options_init(options *o);
void options_close(options *o);
/* Reads argv[0..n) with the options of `groups`; `verb` is for the error line. False after telling what is wrong. */
bool options_parse(options *o, const char *verb, unsigned groups, int n, char **argv);
/* Reads the value of one option, as given after its name. False after telling what is wrong. */
bool options_set(options *o, const option_spec *spec, const char *value);
/* Whether the command line has this option. */
bool options_given(const options *o, const option_spec *spec);
/* From now on it counts as given. */
void options_mark(options *o, const option_spec *spec);
/* NULL: no such option in these groups. */
const option_spec *options_find(const char *name, size_t n, unsigned groups);
/* The default that help tells beside its text; "" where the text tells it. */
void options_default(const option_spec *spec, char *out, size_t cap);
/* Prints the options of these groups. */
void options_print_help(unsigned groups);
/* The value an option has now, as text. */
void options_format(const options *o, const option_spec *spec, char *out, size_t cap);

#endif
