/*
 * What changes single logits before any choice: bias, penalties, DRY, the mask of a grammar.
 * Owner: the sampler. Lifetime: the call.
 *
 * The history is counted anew for every token: that is a few operations per token of the window, far less than the
 * attention over the same tokens, and leaves no counters to keep right when a sequence is truncated or forked.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "runtime/sampler_parts.h"

#define DRY_PENALTY_MAX 1e30 /* base^length overflows soon; beyond this no token comes back */

static bool penalties_on(const mlxr_sampling *p)
{
    return p->penalty_last_n != 0 &&
           (p->repeat_penalty != 1.0f || p->presence_penalty != 0.0f || p->frequency_penalty != 0.0f);
}

static bool dry_on(const mlxr_sampling *p)
{
    return p->dry_multiplier > 0.0f && p->dry_penalty_last_n != 0;
}

bool sampler_needs_history(const mlxr_sampling *p)
{
    return penalties_on(p) || dry_on(p);
}

bool sampler_edits(const sampler *s)
{
    return s->params.n_logit_bias > 0 || (s->n_history > 0 && sampler_needs_history(&s->params));
}

/* Adds to a finite logit and stays finite; an infinite one stays what it is. */
static float shifted(float logit, double change)
{
    if (!isfinite(logit)) {
        return logit;
    }
    double sum = (double)logit + change;
    return sum > (double)FLT_MAX ? FLT_MAX : sum < -(double)FLT_MAX ? -FLT_MAX : (float)sum;
}

/* ---- a hash table from token ids to numbers --------------------------------------------------------------------- */

typedef struct id_table {
    uint32_t *slots; /* [2 × n_slots]: id + 1 or 0, and its number */
    size_t n_slots;  /* a power of two, at least twice the number of ids */
} id_table;

static uint32_t *table_find(const id_table *t, int32_t id)
{
    size_t at = ((uint32_t)id * 2654435769u) & (t->n_slots - 1);
    while (t->slots[2 * at] != 0 && t->slots[2 * at] != (uint32_t)id + 1) {
        at = (at + 1) & (t->n_slots - 1);
    }
    t->slots[2 * at] = (uint32_t)id + 1;
    return &t->slots[2 * at + 1];
}

/* Empties a table for `window` ids in the sampler's scratch, and gives `extra` numbers of room behind it. */
static mlxr_status table_reset(sampler *s, size_t window, size_t extra, id_table *t, uint32_t **room, mlxr_error *error)
{
    size_t n_slots = 16;
    while (n_slots < 2 * window) {
        n_slots *= 2;
    }
    size_t need = 2 * n_slots + extra;
    if (need > s->cap_counts) {
        uint32_t *grown = malloc(need * 2 * sizeof *grown); /* twice: the history grows token by token */
        if (!grown) {
            return error_nomem(error, "counts of the sampler", need * 2 * sizeof *grown);
        }
        free(s->counts);
        s->counts = grown;
        s->cap_counts = need * 2;
    }
    memset(s->counts, 0, 2 * n_slots * sizeof *s->counts);
    *t = (id_table){.slots = s->counts, .n_slots = n_slots};
    *room = s->counts + 2 * n_slots;
    return MLXR_OK;
}

static size_t window_of(const sampler *s, int32_t last_n)
{
    return last_n < 0 || (size_t)last_n > s->n_history ? s->n_history : (size_t)last_n;
}

/* ---- penalties -------------------------------------------------------------------------------------------------- */

static mlxr_status apply_penalties(sampler *s, float *row, mlxr_error *error)
{
    const mlxr_sampling *p = &s->params;
    size_t window = window_of(s, p->penalty_last_n);
    const int32_t *ids = s->history + s->n_history - window;
    id_table table = {0};
    uint32_t *none = NULL;
    mlxr_status status = table_reset(s, window, 0, &table, &none, error);
    if (status != MLXR_OK) {
        return status;
    }
    for (size_t i = 0; i < window; i++) {
        ++*table_find(&table, ids[i]);
    }
    for (size_t i = 0; i < window; i++) {
        uint32_t *count = table_find(&table, ids[i]);
        if (*count == 0) {
            continue; /* done at its first occurrence */
        }
        float *logit = &row[ids[i]];
        if (isfinite(*logit)) { /* a penalty above 1 must lower negative logits, too */
            double repeat = (double)p->repeat_penalty, x = (double)*logit;
            *logit = shifted(0.0f, x > 0 ? x / repeat : x * repeat);
        }
        *logit = shifted(*logit, -(double)*count * (double)p->frequency_penalty - (double)p->presence_penalty);
        *count = 0;
    }
    return MLXR_OK;
}

/* ---- DRY: what would continue a repetition ---------------------------------------------------------------------- */

static bool breaks(const sampler *s, int32_t id)
{
    return s->breakers[(uint32_t)id / 32] >> ((uint32_t)id % 32) & 1;
}

static double dry_penalty(const mlxr_sampling *p, uint32_t length)
{
    double penalty = (double)p->dry_multiplier, factor = (double)p->dry_base;
    for (uint32_t exponent = length - (uint32_t)p->dry_allowed_length; exponent > 0; exponent /= 2) {
        if (exponent & 1) {
            penalty *= factor;
        }
        if (penalty > DRY_PENALTY_MAX) {
            return DRY_PENALTY_MAX;
        }
        factor = factor < DRY_PENALTY_MAX ? factor * factor : factor;
    }
    return penalty;
}

/* z[i] = how many tokens before position i (from the end: i = 0 is the last token) equal the last tokens, up to the
 * first breaker. The Z-algorithm on the reversed window: linear in its length. */
static void match_lengths(const int32_t *last, size_t window, size_t limit, uint32_t *z)
{
    size_t left = 0, right = 0; /* [left, right) is the rightmost match found so far */
    z[0] = 0;
    for (size_t i = 1; i < window; i++) {
        size_t length = 0;
        if (i < right) {
            length = z[i - left] < right - i ? z[i - left] : right - i;
        }
        while (length < limit && i + length < window && last[-(ptrdiff_t)length] == last[-(ptrdiff_t)(i + length)]) {
            length++;
        }
        if (i + length > right) {
            left = i;
            right = i + length;
        }
        z[i] = (uint32_t)length;
    }
}

static mlxr_status apply_dry(sampler *s, float *row, mlxr_error *error)
{
    const mlxr_sampling *p = &s->params;
    size_t window = window_of(s, p->dry_penalty_last_n), limit = 0;
    const int32_t *last = s->history + s->n_history - 1; /* last[−i] is the token i before the end */
    while (limit < window && !breaks(s, last[-(ptrdiff_t)limit])) {
        limit++;
    }
    if (limit < (size_t)p->dry_allowed_length) {
        return MLXR_OK;
    }
    id_table longest = {0};
    uint32_t *z = NULL;
    mlxr_status status = table_reset(s, window, window, &longest, &z, error);
    if (status != MLXR_OK) {
        return status;
    }
    match_lengths(last, window, limit, z);
    for (size_t i = 1; i < window; i++) {
        int32_t next = last[1 - (ptrdiff_t)i]; /* followed the earlier occurrence */
        if (z[i] >= (uint32_t)p->dry_allowed_length && !breaks(s, next)) {
            uint32_t *length = table_find(&longest, next);
            *length = z[i] > *length ? z[i] : *length;
        }
    }
    for (size_t i = 1; i < window; i++) {
        int32_t next = last[1 - (ptrdiff_t)i];
        if (z[i] >= (uint32_t)p->dry_allowed_length && !breaks(s, next)) {
            uint32_t *length = table_find(&longest, next);
            if (*length > 0) {
                row[next] = shifted(row[next], -dry_penalty(p, *length));
                *length = 0;
            }
        }
    }
    return MLXR_OK;
}

static bool contains(const char *text, size_t n_text, const char *part, size_t n_part)
{
    for (size_t i = 0; i + n_part <= n_text; i++) {
        if (memcmp(text + i, part, n_part) == 0) {
            return true;
        }
    }
    return false;
}

mlxr_status sampler_mark_breakers(uint32_t *mask, const mlxr_sampling *p, const sampler_vocab *vocab, mlxr_error *error)
{
    static const char *const usual[] = {"\n", ":", "\"", "*"};
    const char *const *breakers = p->dry_breakers ? p->dry_breakers : usual;
    size_t n_breakers = p->dry_breakers ? p->n_dry_breakers : sizeof usual / sizeof *usual;
    if (!vocab->piece) {
        return error_set(error, MLXR_ARG,
                         "dry_multiplier is above 0, but there is no vocabulary to find its breakers in");
    }
    for (size_t b = 0; b < n_breakers; b++) {
        if (!breakers[b] || !*breakers[b]) {
            return error_set(error, MLXR_ARG, "dry_breakers[%zu] is empty", b);
        }
    }
    for (uint32_t id = 0; id < vocab->n_vocab; id++) {
        size_t n = 0;
        const char *piece = vocab->piece(vocab->user, (int32_t)id, &n);
        for (size_t b = 0; piece && b < n_breakers; b++) {
            if (contains(piece, n, breakers[b], strlen(breakers[b]))) {
                mask[id / 32] |= 1u << id % 32;
                break;
            }
        }
    }
    return MLXR_OK;
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

static void apply_mask(float *row, uint32_t n_vocab, const uint32_t *allowed)
{
    for (uint32_t i = 0; i < n_vocab; i += 32) {
        uint32_t bits = allowed[i / 32], end = n_vocab - i < 32 ? n_vocab - i : 32;
        for (uint32_t j = 0; bits != UINT32_MAX && j < end; j++) {
            row[i + j] = bits >> j & 1 ? row[i + j] : -INFINITY;
        }
    }
}

mlxr_status sampler_edit(sampler *s, float *row, const uint32_t *allowed, mlxr_error *error)
{
    const mlxr_sampling *p = &s->params;
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < p->n_logit_bias; i++) {
        float *logit = &row[s->bias[i].id], bias = s->bias[i].bias;
        *logit = isfinite(bias) ? shifted(*logit, (double)bias) : -INFINITY;
    }
    if (s->n_history > 0 && penalties_on(p)) {
        status = apply_penalties(s, row, error);
    }
    if (status == MLXR_OK && s->n_history > 0 && dry_on(p)) {
        status = apply_dry(s, row, error);
    }
    if (allowed) {
        apply_mask(row, s->n_vocab, allowed);
    }
    return status;
}
