/*
 * Inside of the sampler, shared by its files.
 * Owner: the sequence that owns the sampler. Lifetime: sampler_open to sampler_close.
 *
 *   logits ─ edit: bias, penalties, DRY, mask ─┬─ temperature 0: the largest
 *                                              └─ gather ─ top-k ─ typical ─ top-p ─ min-p ─ XTC ─ temperature ─ draw
 *                                                        └ mirostat: temperature ─ mirostat ─ draw
 *
 * The edits change few logits, so they work on a copy of the row that is made only if there is something to edit. The
 * filters work on the candidates: a shrinking list in ascending order of ids, never sorted.
 */
#ifndef MLXR_RUNTIME_SAMPLER_PARTS_H
#define MLXR_RUNTIME_SAMPLER_PARTS_H

#include "runtime/sampler.h"

/* Tokens that are still in the running, ids ascending. */
typedef struct candidates {
    size_t n, cap;
    float *logit;
    float *weight; /* e^(logit − max), in proportion to the probability; valid after candidates_weigh */
    float *score;  /* scratch of a filter */
    int32_t *id;
    float max;    /* the largest logit */
    double total; /* Σ weight; before the first filter this covers candidates that were not gathered, too */
} candidates;

struct sampler {
    mlxr_sampling params; /* logit_bias is this sampler's own copy; dry_breakers is NULL */
    mlxr_logit_bias *bias;
    uint32_t n_vocab;
    uint32_t *breakers; /* bit mask of the tokens that end a repetition; NULL unless DRY is on */
    uint64_t key;       /* the random sequence */
    uint64_t n_draws;   /* sampled tokens that were accepted */
    double mu;          /* mirostat's running threshold */
    struct {            /* what sampler_sample decided; becomes true when that token is accepted */
        int32_t id;     /* −1: nothing */
        double mu;
    } pending;
    int32_t *history; /* [n_history], only if penalties or DRY look at it */
    size_t n_history, cap_history;
    float *row;       /* [n_vocab], the edited logits; NULL until needed */
    float *maxima;    /* [⌈n_vocab / 64⌉] */
    float *scratch;   /* [⌈n_vocab / 64⌉] */
    uint32_t *counts; /* scratch of the edits: a hash table or DRY's match lengths */
    size_t cap_counts;
    candidates candidates;
    mlxr_token_logprob *top; /* [n_logprobs] */
};

/* ---- sampler_edit.c ------------------------------------------------------------------------------------------- */

/* Whether bias, penalties or DRY change logits. */
bool sampler_edits(const sampler *s);
/* Whether the history has to be kept. */
bool sampler_needs_history(const mlxr_sampling *p);
/* Applies bias, penalties, DRY and mask to row[n_vocab]. Finite logits stay finite, except by the bias −INFINITY. */
mlxr_status sampler_edit(sampler *s, float *row, const uint32_t *allowed, mlxr_error *error);
/* Marks in mask[⌈n_vocab / 32⌉] the tokens whose text contains one of DRY's breakers. */
mlxr_status sampler_mark_breakers(uint32_t *mask, const mlxr_sampling *p, const sampler_vocab *vocab,
                                  mlxr_error *error);

/* ---- sampler_filter.c ----------------------------------------------------------------------------------------- */

/* Draws a token of row[n_vocab], whose largest value is finite and given, by the parameters. `maxima` of s is filled
 * in. Leaves in *mu what mirostat will use next. */
mlxr_status sampler_draw(sampler *s, const float *row, float max, int32_t *id, double *mu, mlxr_error *error);

/* What gathering candidates reads of a row. */
void sampler_filters_read(const mlxr_sampling *p, uint32_t n_vocab, sampler_reads *out);

/* ---- sampler_candidates.c ------------------------------------------------------------------------------------- */

/* Gathers the elements of row[n_vocab] that are at least `floor` and above −INFINITY. `maxima` of s must be filled in.
 */
mlxr_status candidates_gather(sampler *s, const float *row, float floor, mlxr_error *error);
/* Gathers the `k` largest, ties by lower id. */
mlxr_status candidates_gather_top(sampler *s, const float *row, size_t k, mlxr_error *error);
/* Fills in weights and their total. */
void candidates_weigh(candidates *c);
/* Keeps the shortest prefix, in descending order of keys[n], whose weights (NULL: counts) reach `target`. `keys` may be
 * the candidates' own logits or scores. */
void candidates_keep_prefix(candidates *c, const float *keys, const float *weights, double target);
/* Keeps the candidates whose logit is at least `floor`, or at most `ceiling`. */
void candidates_keep_range(candidates *c, float floor, float ceiling);
void candidates_close(candidates *c);

#endif
