/*
 * The verbs of the program.
 * Owner: main. Lifetime: the process.
 */
#ifndef MLXR_CLI_VERBS_H
#define MLXR_CLI_VERBS_H

#include "options.h"

typedef struct verb {
    const char *name, *arguments, *summary;
    unsigned groups; /* of options */
    size_t min_args, max_args;
    int (*run)(options *o); /* returns an exit code */
    bool names_model;       /* its first argument is a model: for completion */
    bool hidden;            /* for the completion scripts only */
} verb;

extern const verb verb_table[];
extern const size_t n_verb_table;

int verb_run(options *o);
int verb_show(options *o);
int verb_tokenize(options *o);
int verb_detokenize(options *o);
int verb_embed(options *o);
int verb_rerank(options *o);
int verb_perplexity(options *o);
int verb_bench(options *o);
int verb_quantize(options *o);
int verb_convert(options *o);
int verb_imatrix(options *o);
int verb_batch(options *o);
int verb_serve(options *o);
int verb_key(options *o);
int verb_pull(options *o);
int verb_push(options *o);
int verb_list(options *o);
int verb_cp(options *o);
int verb_rm(options *o);
int verb_create(options *o);
int verb_ps(options *o);
int verb_load(options *o);
int verb_unload(options *o);
int verb_stop(options *o);
int verb_status(options *o);
int verb_logs(options *o);
int verb_doctor(options *o);
int verb_version(options *o);
int verb_completion(options *o);
int verb_help(options *o);
int verb_manual(options *o);
int verb_models(options *o);

/* Reads a whole file ("-": stdin), malloc'ed with a NUL behind it. NULL after telling why not. */
char *read_all(const char *path, size_t *n);
/* The next line of *text that is not empty, without its end; NULL: none. */
const char *next_line(const char **text, size_t *n_bytes, size_t *n_line);

#endif
