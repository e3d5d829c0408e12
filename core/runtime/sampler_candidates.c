/*
 * Candidates: the list of tokens that filters shrink.
 * Owner: the sampler. Lifetime: as the sampler's; its contents, one call of sampler_sample.
 */
#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "runtime/sampler_math.h"
#include "runtime/sampler_parts.h"
#include "runtime/sampler_select.h"

static mlxr_status reserve(candidates *c, size_t n, mlxr_error *error)
{
    if (n <= c->cap) {
        return MLXR_OK;
    }
    size_t cap = c->cap ? c->cap : 256;
    while (cap < n) {
        cap *= 2;
    }
    float *floats = malloc(cap * 3 * sizeof *floats);
    int32_t *ids = malloc(cap * sizeof *ids);
    if (!floats || !ids) {
        free(floats);
        free(ids);
        return error_nomem(error, "candidates of the sampler", cap * (3 * sizeof *floats + sizeof *ids));
    }
    free(c->logit); /* gathering starts anew: nothing to keep */
    free(c->id);
    c->logit = floats;
    c->weight = floats + cap;
    c->score = floats + 2 * cap;
    c->id = ids;
    c->cap = cap;
    return MLXR_OK;
}

void candidates_close(candidates *c)
{
    free(c->logit);
    free(c->id);
    *c = (candidates){0};
}

static size_t n_blocks(const sampler *s)
{
    return (s->n_vocab + SELECT_BLOCK - 1) / SELECT_BLOCK;
}

mlxr_status candidates_gather(sampler *s, const float *row, float floor, mlxr_error *error)
{
    candidates *c = &s->candidates;
    size_t room = 0;
    for (size_t b = 0; b < n_blocks(s); b++) {
        room += s->maxima[b] >= floor ? SELECT_BLOCK : 0;
    }
    mlxr_status status = reserve(c, room, error);
    if (status != MLXR_OK) {
        return status;
    }
    size_t n = 0;
    for (size_t b = 0; b < n_blocks(s); b++) {
        if (!(s->maxima[b] >= floor)) {
            continue;
        }
        size_t end = (b + 1) * SELECT_BLOCK < s->n_vocab ? (b + 1) * SELECT_BLOCK : s->n_vocab;
        for (size_t i = b * SELECT_BLOCK; i < end; i++) { /* writes first and then decides: no branch to mispredict */
            c->logit[n] = row[i];
            c->id[n] = (int32_t)i;
            n += row[i] >= floor && row[i] > -INFINITY;
        }
    }
    c->n = n;
    return MLXR_OK;
}

mlxr_status candidates_gather_top(sampler *s, const float *row, size_t k, mlxr_error *error)
{
    /* The k largest block maxima are k elements, so the k-th largest element is not below the smallest of them. */
    float floor = -INFINITY;
    size_t n = 0;
    for (size_t b = 0; b < n_blocks(s); b++) {
        if (s->maxima[b] > -INFINITY) {
            s->scratch[n++] = s->maxima[b];
        }
    }
    if (k <= n) {
        floor = select_prefix(s->scratch, NULL, n, (double)k).value;
    }
    mlxr_status status = candidates_gather(s, row, floor, error);
    if (status == MLXR_OK && s->candidates.n > k) {
        candidates_keep_prefix(&s->candidates, s->candidates.logit, NULL, (double)k);
    }
    return status;
}

void candidates_weigh(candidates *c)
{
    for (size_t i = 0; i < c->n; i++) {
        c->weight[i] = sampler_exp_float(c->logit[i] - c->max);
    }
    c->total = 0;
    for (size_t i = 0; i < c->n; i++) {
        c->total += (double)c->weight[i];
    }
}

void candidates_keep_prefix(candidates *c, const float *keys, const float *weights, double target)
{
    if (c->n == 0) {
        return;
    }
    select_cut cut = select_prefix(keys, weights, c->n, target);
    double reached = cut.above;
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        bool keep = keys[i] > cut.value;
        if (keys[i] == cut.value && reached < target) {
            reached += weights ? (double)weights[i] : 1.0;
            keep = true;
        }
        c->logit[n] = c->logit[i];
        c->weight[n] = c->weight[i];
        c->score[n] = c->score[i];
        c->id[n] = c->id[i];
        n += keep;
    }
    c->n = n;
}

void candidates_keep_range(candidates *c, float floor, float ceiling)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        c->logit[n] = c->logit[i];
        c->weight[n] = c->weight[i];
        c->id[n] = c->id[i];
        n += c->logit[i] >= floor && c->logit[i] <= ceiling;
    }
    c->n = n;
}
