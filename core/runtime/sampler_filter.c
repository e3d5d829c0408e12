/*
 * The filters, mirostat and the draw.
 * Owner: the sampler. Lifetime: the call.
 *
 * Sources: top-p, Holtzman et al. 2020 (arXiv:1904.09751); typical, Meister et al. 2022 (arXiv:2202.00666); min-p,
 * Nguyen et al. 2024 (arXiv:2407.01082); mirostat, Basu et al. 2021 (arXiv:2007.14966); XTC, p-e-w's
 * text-generation-webui#6335. The order is the one most engines have. Each filter sees probabilities normalised over
 * what the one before it left.
 */
#include <float.h>
#include <math.h>

#include "runtime/sampler_math.h"
#include "runtime/sampler_parts.h"
#include "runtime/sampler_select.h"

#define LN2 0.69314718055994531

enum { DRAW_TOKEN, DRAW_XTC, N_DRAWS }; /* independent uniform numbers of one token */

static double uniform(const sampler *s, unsigned which)
{
    return sampler_uniform(s->key, s->n_draws * N_DRAWS + which);
}

static bool typical_on(const mlxr_sampling *p)
{
    return p->typical_p < 1.0f;
}

static bool top_k_on(const mlxr_sampling *p, uint32_t n_vocab)
{
    return p->top_k > 0 && (uint32_t)p->top_k < n_vocab;
}

/* Logits under the greatest plus this cannot survive min-p. */
static double min_p_reach(const mlxr_sampling *p)
{
    return sampler_log((double)p->min_p) - 1e-3;
}

void sampler_filters_read(const mlxr_sampling *p, uint32_t n_vocab, sampler_reads *out)
{
    if (top_k_on(p, n_vocab)) {
        *out = (sampler_reads){.n = (uint32_t)p->top_k};
    } else if (!typical_on(p) && p->top_p >= 1.0f && p->min_p > 0.0f) {
        *out = (sampler_reads){.n = 1, .near = (float)(-min_p_reach(p) + 1e-3)}; /* above what rounding takes */
    }
}

/* Gathers what top-k leaves. Without it, only candidates that top-p and min-p could leave are gathered, because a list
 * of the whole vocabulary costs much more than a look at it. */
static mlxr_status gather(sampler *s, const float *row, mlxr_error *error)
{
    const mlxr_sampling *p = &s->params;
    candidates *c = &s->candidates;
    mlxr_status status = MLXR_OK;
    if (top_k_on(p, s->n_vocab)) {
        status = candidates_gather_top(s, row, (size_t)p->top_k, error);
        candidates_weigh(c);
        return status;
    }
    bool prefix_only = !typical_on(p) && (p->top_p < 1.0f || p->min_p > 0.0f);
    double total = prefix_only && p->top_p < 1.0f ? select_sum_exp(row, s->n_vocab, c->max, 1.0f) : 0;
    double below = -HUGE_VAL; /* logits under max + below cannot survive min-p */
    if (prefix_only && p->min_p > 0.0f) {
        below = min_p_reach(p);
    }
    for (double depth = 8; status == MLXR_OK; depth *= 2) {
        bool all = !prefix_only || depth > 87;
        double reach = total > 0 ? -depth : below;
        reach = reach > below ? reach : below;
        status = candidates_gather(s, row, all ? -INFINITY : (float)((double)c->max + reach), error);
        if (status != MLXR_OK) {
            break;
        }
        candidates_weigh(c);
        if (all || reach == below || c->total >= total * (double)p->top_p * (1 + 1e-6)) {
            c->total = total > c->total ? total : c->total;
            break;
        }
    }
    return status;
}

/* Keeps the tokens whose surprise is nearest to the distribution's entropy. */
static void keep_typical(candidates *c, double typical_p)
{
    double log_total = sampler_log(c->total), entropy = 0;
    for (size_t i = 0; i < c->n; i++) {
        double logp = (double)c->logit[i] - (double)c->max - log_total;
        if (c->weight[i] > 0) {
            entropy -= (double)c->weight[i] / c->total * logp;
        }
    }
    for (size_t i = 0; i < c->n; i++) {
        double logp = (double)c->logit[i] - (double)c->max - log_total;
        c->score[i] = (float)-fabs(-logp - entropy);
    }
    double target = typical_p * c->total;
    candidates_keep_prefix(c, c->score, c->weight, target > DBL_MIN ? target : DBL_MIN);
}

static float largest(const candidates *c)
{
    float max = -INFINITY;
    for (size_t i = 0; i < c->n; i++) {
        max = c->logit[i] > max ? c->logit[i] : max;
    }
    return max;
}

/* Sometimes removes all choices above the threshold but the least likely of them. */
static void exclude_top_choices(sampler *s)
{
    const mlxr_sampling *p = &s->params;
    candidates *c = &s->candidates;
    if (!(p->xtc_probability > 0.0f) || c->n < 2 || !(uniform(s, DRAW_XTC) < (double)p->xtc_probability)) {
        return;
    }
    size_t n_above = 0, last = 0;
    double floor = (double)p->xtc_threshold * c->total;
    for (size_t i = 0; i < c->n; i++) {
        if ((double)c->weight[i] >= floor) {
            last = n_above == 0 || c->logit[i] <= c->logit[last] ? i
                                                                 : last; /* of equals, the one with the highest id */
            n_above++;
        }
    }
    if (n_above < 2) {
        return;
    }
    float least = c->logit[last];
    int32_t keep = c->id[last];
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        bool above = (double)c->weight[i] >= floor;
        c->logit[n] = c->logit[i];
        c->id[n] = c->id[i];
        n += !above || (c->logit[i] == least && c->id[i] == keep);
    }
    c->n = n;
}

static void filter(sampler *s)
{
    const mlxr_sampling *p = &s->params;
    candidates *c = &s->candidates;
    if (typical_on(p)) {
        keep_typical(c, (double)p->typical_p);
        c->max = largest(c);
        candidates_weigh(c);
    }
    if (p->top_p < 1.0f) {
        double target = (double)p->top_p * c->total;
        candidates_keep_prefix(c, c->logit, c->weight, target > DBL_MIN ? target : DBL_MIN);
    }
    if (p->min_p > 0.0f) {
        candidates_keep_range(c, (float)((double)c->max + sampler_log((double)p->min_p)), INFINITY);
    }
    candidates_weigh(c);
    exclude_top_choices(s);
    c->max = largest(c);
}

/* Sets weights for this temperature. */
static void heat(candidates *c, double temperature)
{
    for (size_t i = 0; i < c->n; i++) { /* a division, so that the largest stays 0 whatever the temperature */
        double x = ((double)c->logit[i] - (double)c->max) / temperature;
        c->weight[i] = sampler_exp_float(x > -88.0 ? (float)x : -88.0f);
    }
    c->total = 0;
    for (size_t i = 0; i < c->n; i++) {
        c->total += (double)c->weight[i];
    }
}

/* The index of a candidate, drawn by its weight. */
static size_t draw(const sampler *s)
{
    const candidates *c = &s->candidates;
    double target = uniform(s, DRAW_TOKEN) * c->total, sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->weight[i] > 0) {
            last = i;
            sum += (double)c->weight[i];
            if (sum > target) {
                break;
            }
        }
    }
    return last;
}

#define ZIPF_TOKENS 100 /* how many of the likeliest tokens mirostat 1 fits a Zipf distribution to */

/* The exponent of the Zipf distribution that fits the most likely candidates. */
static double zipf_exponent(const candidates *c, double temperature)
{
    float top[ZIPF_TOKENS + 1];
    size_t n = 0, want = c->n < ZIPF_TOKENS ? c->n : ZIPF_TOKENS;
    select_cut cut = select_prefix(c->logit, NULL, c->n, (double)want);
    double reached = cut.above;
    for (size_t i = 0; i < c->n && n < want; i++) {
        bool tie = c->logit[i] == cut.value && reached < (double)want;
        if (c->logit[i] > cut.value || tie) {
            size_t at = n++;
            for (; at > 0 && top[at - 1] < c->logit[i]; at--) {
                top[at] = top[at - 1];
            }
            top[at] = c->logit[i];
            reached += tie ? 1 : 0;
        }
    }
    double tb = 0, tt = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        double t = sampler_log((double)(i + 2) / (double)(i + 1));
        tb += t * (((double)top[i] - (double)top[i + 1]) / temperature);
        tt += t * t;
    }
    return tt > 0 ? tb / tt : 0;
}

/* How many tokens keep the surprise near `mu` bits, if probabilities fall like rank^−exponent over n_vocab tokens. */
static double mirostat_count(double exponent, double mu, double n_vocab)
{
    if (exponent < 1e-6) {
        return n_vocab;
    }
    double e = exponent - 1.0;
    double log_n = sampler_log(n_vocab);
    double ratio = fabs(e) < 1e-9 ? 1.0 / log_n : e / (1.0 - sampler_exp(-e * log_n));
    double log_k = (sampler_log(ratio) + mu * LN2) / exponent;
    double k = log_k < log_n ? floor(sampler_exp(log_k)) : n_vocab;
    return k > 1 ? k : 1;
}

static mlxr_status draw_mirostat(sampler *s, const float *row, int32_t *id, double *mu, mlxr_error *error)
{
    const mlxr_sampling *p = &s->params;
    candidates *c = &s->candidates;
    mlxr_status status = candidates_gather(s, row, -INFINITY, error);
    if (status != MLXR_OK) {
        return status;
    }
    double temperature = (double)p->temperature;
    if (p->mirostat == 1) {
        double k = s->n_vocab > 1 ? mirostat_count(zipf_exponent(c, temperature), s->mu, (double)s->n_vocab) : 1;
        candidates_keep_prefix(c, c->logit, NULL, k);
    } else { /* surprise = −log2 p = −((logit − max) / T − ln total) / ln 2 ≤ mu */
        heat(c, temperature);
        double floor = (double)c->max + temperature * (sampler_log(c->total) - s->mu * LN2);
        floor = floor > -(double)FLT_MAX ? floor : -(double)FLT_MAX;
        candidates_keep_range(c, floor < (double)c->max ? (float)floor : c->max, INFINITY);
    }
    heat(c, temperature);
    size_t drawn = draw(s);
    double surprise = sampler_log(c->total / (double)c->weight[drawn]) / LN2;
    *id = c->id[drawn];
    *mu = s->mu - (double)p->mirostat_eta * (surprise - (double)p->mirostat_tau);
    return MLXR_OK;
}

/* ---- no filter at all: what most API clients ask for ------------------------------------------------------------ */

static bool unfiltered(const sampler *s)
{
    const mlxr_sampling *p = &s->params;
    bool top_k = top_k_on(p, s->n_vocab);
    bool usual = p->temperature >= 1e-3f && p->temperature <= 1e3f; /* so that its inverse is harmless */
    return usual && !top_k && !typical_on(p) && p->top_p >= 1.0f && p->min_p <= 0.0f && p->xtc_probability <= 0.0f;
}

/* Needs no list: the masses of blocks lead to the block that holds the token. */
static int32_t draw_unfiltered(sampler *s, const float *row, float max)
{
    float scale = 1.0f / s->params.temperature;
    double total = 0, sum = 0;
    size_t n_blocks = (s->n_vocab + SELECT_BLOCK - 1) / SELECT_BLOCK, last = 0;
    for (size_t b = 0; b < n_blocks; b++) {
        size_t begin = b * SELECT_BLOCK;
        size_t n = s->n_vocab - begin < SELECT_BLOCK ? s->n_vocab - begin : SELECT_BLOCK;
        s->scratch[b] = (float)select_sum_exp(row + begin, n, max, scale);
        total += (double)s->scratch[b];
    }
    double target = uniform(s, DRAW_TOKEN) * total;
    for (size_t b = 0; b < n_blocks; b++) {
        if (s->scratch[b] > 0) {
            last = b;
            if (sum + (double)s->scratch[b] > target) {
                break;
            }
            sum += (double)s->scratch[b];
        }
    }
    size_t id = last * SELECT_BLOCK;
    for (size_t i = id; i < s->n_vocab && i < (last + 1) * SELECT_BLOCK && sum <= target; i++) {
        double weight = (double)sampler_exp_float((row[i] - max) * scale);
        id = weight > 0 ? i : id;
        sum += weight;
    }
    return (int32_t)id;
}

mlxr_status sampler_draw(sampler *s, const float *row, float max, int32_t *id, double *mu, mlxr_error *error)
{
    candidates *c = &s->candidates;
    c->max = max;
    *mu = s->mu;
    if (s->params.mirostat) {
        return draw_mirostat(s, row, id, mu, error);
    }
    if (unfiltered(s)) {
        *id = draw_unfiltered(s, row, max);
        return MLXR_OK;
    }
    mlxr_status status = gather(s, row, error);
    if (status == MLXR_OK) {
        filter(s);
        heat(c, (double)s->params.temperature);
        *id = c->id[draw(s)];
    }
    return status;
}
