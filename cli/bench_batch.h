/*
 * The part of `mlxr bench` that decodes many sequences together.
 * Owner: the verb. Lifetime: bench_batch_open to bench_batch_close.
 */
#ifndef MLXR_CLI_BENCH_BATCH_H
#define MLXR_CLI_BENCH_BATCH_H

#include "session.h"

/* What prompts are cut from; without ids they are random tokens. */
typedef struct bench_text {
    int32_t *ids; /* [n] */
    size_t n;
} bench_text;

typedef struct bench_batch {
    session *s;
    mlxr_sequence **sequences; /* [n] */
    mlxr_slice *slices;        /* [n] */
    uint32_t *n_done;          /* [n]: tokens generated */
    int32_t *prompts;          /* [n][n_prompt] */
    uint32_t n, n_prompt, n_generate;
    unsigned flags; /* of slices */
} bench_batch;

/* n sequences, each with a prompt of its own. Returns an exit code. */
int bench_batch_open(bench_batch *b, session *s, const options *o, const bench_text *text, uint32_t n,
                     uint32_t n_prompt, uint32_t n_generate);
void bench_batch_close(bench_batch *b);
/* Computes the prompts, then times generating: *rate is tokens a second of all sequences together. False after telling
 * what went wrong. */
bool bench_batch_run(bench_batch *b, double *rate);

/* Prompt `number`, of n tokens: of a text the ones from number × n on, which it must have; else ids all over the
 * vocabulary, the same for the same number. Control tokens are left out of these: some would be odd to compute. */
void bench_fill_prompt(const session *s, const bench_text *text, uint32_t number, int32_t *ids, size_t n);

#endif
