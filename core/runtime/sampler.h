/*
 * Sampler: from logits to one token, with the history that penalties need.
 * Owner: a sequence. Lifetime: sampler_open to sampler_close. One thread at a time; samplers of different sequences may
 * run on different threads.
 */
#ifndef MLXR_RUNTIME_SAMPLER_H
#define MLXR_RUNTIME_SAMPLER_H

#include "mlxr.h"

typedef struct sampler sampler;

typedef struct sampler_result {
    int32_t id;
    float logprob; /* natural log, of the raw distribution (before every change to it) */
    const mlxr_token_logprob
        *top; /* [n_top], of the raw distribution, most likely first; borrowed until the next call */
    uint32_t n_top;
} sampler_result;

/* Gives the token ids of a DRY breaker string: appends every id whose text contains it. */
typedef struct sampler_vocab {
    uint32_t n_vocab;
    /* bytes of a token, for DRY breakers; may be NULL if DRY is off */
    const char *(*piece)(const void *user, int32_t id, size_t *n);
    const void *user;
} sampler_vocab;

/* Checks ranges (NaN, negatives, probabilities above 1, ids outside the vocabulary): MLXR_ARG names the field. */
/* Are these values that sampler_open takes? */
mlxr_status sampler_check(const mlxr_sampling *params, uint32_t n_vocab, mlxr_error *error);
mlxr_status sampler_open(sampler **out, const mlxr_sampling *params, const sampler_vocab *vocab, mlxr_error *error);
void sampler_close(sampler **s);
mlxr_status sampler_clone(sampler **out, const sampler *s, mlxr_error *error);

/* Tokens that enter the context without being sampled (the prompt) and sampled ones alike. */
mlxr_status sampler_accept(sampler *s, int32_t id, mlxr_error *error);
/* Forgets the history after its first n tokens. */
void sampler_truncate(sampler *s, size_t n);

/* What was given as logit_bias. */
const mlxr_logit_bias *sampler_bias(const sampler *s, size_t *n);

/* Does it choose the greatest logit, whatever the others are, for this token and those that follow it? */
bool sampler_is_greedy(const sampler *s);
/* What sampler_sample gives such a sampler for logits of which `id` is the greatest, by lower id of equal ones. */
void sampler_take(sampler *s, int32_t id, sampler_result *out);

/* What of a row of logits it reads, for this token and those that follow it: whatever the others are below those, it
 * chooses the same. n = 0: all. */
typedef struct sampler_reads {
    uint32_t n; /* the greatest ones, by lower id of equal ones … */
    float near; /* … and those that are at most so far below the greatest */
} sampler_reads;
sampler_reads sampler_reads_of(const sampler *s);

/* logits[n_vocab] is read only. −INFINITY forbids a token; NaN counts as −INFINITY; if nothing is left: MLXR_FORMAT.
 * Does not accept the token. `allowed`: bit mask of n_vocab bits (a grammar's), or NULL. */
mlxr_status sampler_sample(sampler *s, const float *logits, const uint32_t *allowed, sampler_result *out,
                           mlxr_error *error);

#endif
