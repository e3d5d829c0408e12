/*
 * Sampler: parameters, history and the choice of one token.
 * Owner: a sequence. Lifetime: sampler_open to sampler_close.
 *
 * Random numbers are a function of (seed, how many sampled tokens were accepted so far, purpose). So asking twice for
 * the same token gives the same token, and neither chunks, threads nor failed steps shift the sequence; going back and
 * sampling again draws new ones.
 */
#include "runtime/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/error.h"
#include "runtime/sampler_math.h"
#include "runtime/sampler_parts.h"
#include "runtime/sampler_select.h"

mlxr_sampling mlxr_sampling_default(void)
{
    return (mlxr_sampling){
        .temperature = 0.8f,
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .typical_p = 1.0f,
        .xtc_threshold = 0.1f,
        .dry_base = 1.75f,
        .dry_allowed_length = 2,
        .dry_penalty_last_n = -1,
        .mirostat_tau = 5.0f,
        .mirostat_eta = 0.1f,
        .repeat_penalty = 1.0f,
        .penalty_last_n = 64,
    };
}

/* ---- checking --------------------------------------------------------------------------------------------------- */

static mlxr_status check_numbers(const mlxr_sampling *p, mlxr_error *error)
{
    const struct {
        const char *name;
        float value, min, max;
    } numbers[] = {
        {"temperature", p->temperature, 0, FLT_MAX},
        {"top_p", p->top_p, 0, 1},
        {"min_p", p->min_p, 0, 1},
        {"typical_p", p->typical_p, 0, 1},
        {"xtc_probability", p->xtc_probability, 0, 1},
        {"xtc_threshold", p->xtc_threshold, 0, 1},
        {"dry_multiplier", p->dry_multiplier, 0, FLT_MAX},
        {"dry_base", p->dry_base, 1, FLT_MAX},
        {"mirostat_tau", p->mirostat_tau, 0, FLT_MAX},
        {"mirostat_eta", p->mirostat_eta, 0, FLT_MAX},
        {"repeat_penalty", p->repeat_penalty, FLT_MIN, FLT_MAX},
        {"presence_penalty", p->presence_penalty, -FLT_MAX, FLT_MAX},
        {"frequency_penalty", p->frequency_penalty, -FLT_MAX, FLT_MAX},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (!(numbers[i].value >= numbers[i].min && numbers[i].value <= numbers[i].max)) { /* also for NaN */
            return error_set(error, MLXR_ARG, "%s is %g; it must be from %g to %g", numbers[i].name,
                             (double)numbers[i].value, (double)numbers[i].min, (double)numbers[i].max);
        }
    }
    return MLXR_OK;
}

static mlxr_status check_integers(const mlxr_sampling *p, uint32_t n_vocab, mlxr_error *error)
{
    const struct {
        const char *name;
        int32_t value, min, max;
    } integers[] = {
        {"top_k", p->top_k, 0, INT32_MAX},
        {"dry_allowed_length", p->dry_allowed_length, 1, INT32_MAX},
        {"dry_penalty_last_n", p->dry_penalty_last_n, -1, INT32_MAX},
        {"mirostat", p->mirostat, 0, 2},
        {"penalty_last_n", p->penalty_last_n, -1, INT32_MAX},
    };
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        if (integers[i].value < integers[i].min || integers[i].value > integers[i].max) {
            return error_set(error, MLXR_ARG, "%s is %d; it must be from %d to %d", integers[i].name, integers[i].value,
                             integers[i].min, integers[i].max);
        }
    }
    if (p->n_logprobs > n_vocab) {
        return error_set(error, MLXR_ARG, "n_logprobs is %u; the vocabulary has %u tokens", p->n_logprobs, n_vocab);
    }
    return MLXR_OK;
}

static mlxr_status check_bias(const mlxr_sampling *p, uint32_t n_vocab, mlxr_error *error)
{
    if (p->n_logit_bias > 0 && !p->logit_bias) {
        return error_set(error, MLXR_ARG, "n_logit_bias is %zu, but logit_bias is NULL", p->n_logit_bias);
    }
    for (size_t i = 0; i < p->n_logit_bias; i++) {
        const mlxr_logit_bias *b = &p->logit_bias[i];
        if (b->id < 0 || (uint32_t)b->id >= n_vocab) {
            return error_set(error, MLXR_ARG, "logit_bias[%zu] is for token %d; the vocabulary has 0 to %u", i, b->id,
                             n_vocab - 1);
        }
        if (!(b->bias <= FLT_MAX)) {
            return error_set(error, MLXR_ARG, "logit_bias[%zu] is %g; it must be finite or -infinity", i,
                             (double)b->bias);
        }
    }
    return MLXR_OK;
}

mlxr_status sampler_check(const mlxr_sampling *params, uint32_t n_vocab, mlxr_error *error)
{
    mlxr_status status = check_numbers(params, error);
    status = status == MLXR_OK ? check_integers(params, n_vocab, error) : status;
    return status == MLXR_OK ? check_bias(params, n_vocab, error) : status;
}

/* ---- opening and closing ---------------------------------------------------------------------------------------- */

static size_t mask_words(uint32_t n_vocab)
{
    return ((size_t)n_vocab + 31) / 32;
}

/* A copy of items[n]; NULL and `true` for none. */
static bool copy_array(void *out, const void *items, size_t n, size_t size)
{
    void *copy = NULL;
    uint64_t n_bytes;
    if (n > 0 && items) {
        if (__builtin_mul_overflow(n, size, &n_bytes) || !(copy = malloc(n_bytes))) {
            return false;
        }
        memcpy(copy, items, n_bytes);
    }
    memcpy(out, &copy, sizeof copy);
    return true;
}

/* Memory that depends on the vocabulary and the parameters only. */
static mlxr_status allocate(sampler *s, const mlxr_logit_bias *bias, mlxr_error *error)
{
    size_t n_blocks = ((size_t)s->n_vocab + SELECT_BLOCK - 1) / SELECT_BLOCK;
    s->maxima = malloc(n_blocks * sizeof *s->maxima);
    s->scratch = malloc(n_blocks * sizeof *s->scratch);
    if (s->params.n_logprobs) {
        s->top = calloc(s->params.n_logprobs, sizeof *s->top);
    }
    if (!s->maxima || !s->scratch || (s->params.n_logprobs && !s->top) ||
        !copy_array(&s->bias, bias, s->params.n_logit_bias, sizeof *bias)) {
        return error_nomem(error, "sampler",
                           n_blocks * 2 * sizeof(float) + s->params.n_logprobs * sizeof *s->top +
                               s->params.n_logit_bias * sizeof *bias);
    }
    return MLXR_OK;
}

mlxr_status sampler_open(sampler **out, const mlxr_sampling *params, const sampler_vocab *vocab, mlxr_error *error)
{
    if (vocab->n_vocab == 0 || vocab->n_vocab > INT32_MAX) {
        return error_set(error, MLXR_ARG, "a vocabulary of %u tokens", vocab->n_vocab);
    }
    mlxr_status status = sampler_check(params, vocab->n_vocab, error);
    if (status != MLXR_OK) {
        return status;
    }
    sampler *s = calloc(1, sizeof *s);
    if (!s) {
        return error_nomem(error, "sampler", sizeof *s);
    }
    s->params = *params;
    s->params.logit_bias = NULL;
    s->params.dry_breakers = NULL;
    s->n_vocab = vocab->n_vocab;
    s->pending.id = -1;
    s->mu = 2.0 * (double)params->mirostat_tau;
    status = allocate(s, params->logit_bias, error);
    if (status == MLXR_OK && params->dry_multiplier > 0.0f) {
        s->breakers = calloc(mask_words(s->n_vocab), sizeof *s->breakers);
        status = s->breakers ? sampler_mark_breakers(s->breakers, params, vocab, error)
                             : error_nomem(error, "DRY breakers", mask_words(s->n_vocab) * sizeof *s->breakers);
    }
    uint64_t seed = params->seed;
    if (status == MLXR_OK && seed == 0 && getentropy(&seed, sizeof seed) != 0) {
        status = error_set(error, MLXR_IO, "no random numbers from the operating system; give a seed");
    }
    if (status != MLXR_OK) {
        sampler_close(&s);
        return status;
    }
    s->key = sampler_mix(seed + 0x9e3779b97f4a7c15u);
    *out = s;
    return MLXR_OK;
}

const mlxr_logit_bias *sampler_bias(const sampler *s, size_t *n)
{
    *n = s->params.n_logit_bias;
    return s->bias;
}

void sampler_close(sampler **pointer)
{
    sampler *s = *pointer;
    if (!s) {
        return;
    }
    candidates_close(&s->candidates);
    free(s->bias);
    free(s->breakers);
    free(s->history);
    free(s->row);
    free(s->maxima);
    free(s->scratch);
    free(s->counts);
    free(s->top);
    free(s);
    *pointer = NULL;
}

mlxr_status sampler_clone(sampler **out, const sampler *from, mlxr_error *error)
{
    sampler *s = calloc(1, sizeof *s);
    if (!s) {
        return error_nomem(error, "sampler", sizeof *s);
    }
    s->params = from->params;
    s->n_vocab = from->n_vocab;
    s->key = from->key;
    s->n_draws = from->n_draws;
    s->mu = from->mu;
    s->pending.id = from->pending.id;
    s->pending.mu = from->pending.mu;
    mlxr_status status = allocate(s, from->bias, error);
    if (status == MLXR_OK &&
        (!copy_array(&s->breakers, from->breakers, mask_words(from->n_vocab), sizeof *s->breakers) ||
         !copy_array(&s->history, from->history, from->n_history, sizeof *s->history))) {
        status = error_nomem(error, "copy of a sampler", from->n_history * sizeof *s->history);
    }
    if (status != MLXR_OK) {
        sampler_close(&s);
        return status;
    }
    s->n_history = from->n_history;
    s->cap_history = s->history ? from->n_history : 0;
    *out = s;
    return MLXR_OK;
}

/* ---- history ---------------------------------------------------------------------------------------------------- */

mlxr_status sampler_accept(sampler *s, int32_t id, mlxr_error *error)
{
    if (id < 0 || (uint32_t)id >= s->n_vocab) {
        return error_set(error, MLXR_ARG, "token %d; the vocabulary has 0 to %u", id, s->n_vocab - 1);
    }
    if (sampler_needs_history(&s->params)) {
        if (s->n_history == s->cap_history) {
            size_t cap = s->cap_history < 256 ? 256 : s->cap_history * 2;
            int32_t *grown = realloc(s->history, cap * sizeof *grown);
            if (!grown) {
                return error_nomem(error, "history of the sampler", cap * sizeof *grown);
            }
            s->history = grown;
            s->cap_history = cap;
        }
        s->history[s->n_history] = id;
    }
    s->n_history++;
    if (id == s->pending.id) {
        s->mu = s->pending.mu;
        s->n_draws++;
    }
    s->pending.id = -1;
    return MLXR_OK;
}

void sampler_truncate(sampler *s, size_t n)
{
    s->n_history = n < s->n_history ? n : s->n_history;
    s->pending.id = -1;
}

/* ---- one token -------------------------------------------------------------------------------------------------- */

static mlxr_status need_row(sampler *s, mlxr_error *error)
{
    if (!s->row) {
        s->row = malloc(s->n_vocab * sizeof *s->row);
    }
    return s->row ? MLXR_OK : error_nomem(error, "row of logits", s->n_vocab * sizeof *s->row);
}

/* The n_logprobs most likely tokens of a row whose maxima are known; fewer, if fewer are possible. */
static mlxr_status report_top(sampler *s, const float *row, float max, double log_total, uint32_t *n_top,
                              mlxr_error *error)
{
    candidates *c = &s->candidates;
    mlxr_status status = candidates_gather_top(s, row, s->params.n_logprobs, error);
    if (status != MLXR_OK) {
        return status;
    }
    uint32_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        mlxr_token_logprob one = {c->id[i], (float)((double)c->logit[i] - (double)max - log_total)};
        s->top[n++] = one;
    }
    for (uint32_t gap = n / 2; gap > 0;
         gap /= 2) { /* Shell sort: n is small as a rule, but the caller may ask for all */
        for (uint32_t i = gap; i < n; i++) {
            mlxr_token_logprob one = s->top[i];
            uint32_t at = i;
            for (; at >= gap && (s->top[at - gap].logprob < one.logprob ||
                                 (s->top[at - gap].logprob == one.logprob && s->top[at - gap].id > one.id));
                 at -= gap) {
                s->top[at] = s->top[at - gap];
            }
            s->top[at] = one;
        }
    }
    *n_top = n;
    return MLXR_OK;
}

static mlxr_status nothing_left(const sampler *s, mlxr_error *error)
{
    return error_set(
        error, MLXR_FORMAT,
        "no token can be chosen: all %u logits are NaN, -infinity or forbidden; where nothing forbids them, "
        "the model's file, or an adapter, may be damaged",
        s->n_vocab);
}

/* Replaces +infinity by 0 and everything else by -infinity: what is infinitely likely leaves nothing to the others. */
static float only_infinite(float *row, const float *logits, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        row[i] = logits[i] == INFINITY ? 0.0f : -INFINITY;
    }
    return 0.0f;
}

/* Prepares the row to choose from: *row is `logits` itself or the edited copy, s->maxima belong to it. */
static mlxr_status prepare(sampler *s, const float *logits, const uint32_t *allowed, const float **row, float *max,
                           sampler_result *out, double *log_total, mlxr_error *error)
{
    bool edits = allowed || sampler_edits(s), report = s->params.logprobs || s->params.n_logprobs;
    mlxr_status status = MLXR_OK;
    *row = logits;
    *max = select_block_maxima(logits, s->n_vocab, s->maxima);
    if (*max == -INFINITY) {
        return nothing_left(s, error);
    }
    if (*max == INFINITY || edits) {
        status = need_row(s, error);
    }
    if (status == MLXR_OK && *max == INFINITY) {
        *max = only_infinite(s->row, logits, s->n_vocab);
        *row = s->row;
        select_block_maxima(s->row, s->n_vocab, s->maxima);
    }
    if (status == MLXR_OK && report) {
        *log_total = sampler_log(select_sum_exp(*row, s->n_vocab, *max, 1.0f));
        if (s->params.n_logprobs) {
            status = report_top(s, *row, *max, *log_total, &out->n_top, error);
        }
        *log_total += (double)*max;
    }
    if (status == MLXR_OK && edits) {
        if (*row == logits) {
            memcpy(s->row, logits, s->n_vocab * sizeof *logits);
        }
        *row = s->row;
        status = sampler_edit(s, s->row, allowed, error);
        *max = select_block_maxima(s->row, s->n_vocab, s->maxima);
    }
    return status == MLXR_OK && *max == -INFINITY ? nothing_left(s, error) : status;
}

/* Is nothing but the choice made of the logits, as they are? */
static bool only_chooses(const mlxr_sampling *p)
{
    return p->n_logit_bias == 0 && !sampler_needs_history(p) && !p->logprobs && !p->n_logprobs;
}

bool sampler_is_greedy(const sampler *s)
{
    return s->params.temperature == 0.0f && only_chooses(&s->params);
}

sampler_reads sampler_reads_of(const sampler *s)
{
    const mlxr_sampling *p = &s->params;
    sampler_reads reads = {0};
    if (only_chooses(p) && p->temperature == 0.0f) {
        reads.n = 1;
    } else if (only_chooses(p) && !p->mirostat) {
        sampler_filters_read(p, s->n_vocab, &reads);
    }
    return reads;
}

void sampler_take(sampler *s, int32_t id, sampler_result *out)
{
    s->pending.id = id;
    s->pending.mu = s->mu;
    *out = (sampler_result){.id = id};
}

mlxr_status sampler_sample(sampler *s, const float *logits, const uint32_t *allowed, sampler_result *out,
                           mlxr_error *error)
{
    const mlxr_sampling *p = &s->params;
    sampler_result result = {.id = -1};
    double mu = s->mu, log_total = 0;
    size_t position;
    if (p->temperature == 0.0f && !allowed && !sampler_edits(s) && !p->logprobs && !p->n_logprobs) {
        if (select_max(logits, s->n_vocab, &position) == -INFINITY) {
            return nothing_left(s, error);
        }
        result.id = (int32_t)position;
    } else {
        const float *row;
        float max;
        mlxr_status status = prepare(s, logits, allowed, &row, &max, &result, &log_total, error);
        if (status == MLXR_OK && p->temperature == 0.0f) {
            select_max(row, s->n_vocab, &position);
            result.id = (int32_t)position;
        } else if (status == MLXR_OK) {
            status = sampler_draw(s, row, max, &result.id, &mu, error);
        }
        if (status != MLXR_OK) {
            return status;
        }
    }
    if (p->logprobs || p->n_logprobs) {
        float chosen = logits[result.id];
        result.logprob = chosen == INFINITY ? (float)-log_total : (float)((double)chosen - log_total);
    }
    result.top = result.n_top ? s->top : NULL;
    s->pending.id = result.id;
    s->pending.mu = mu;
    *out = result;
    return MLXR_OK;
}
