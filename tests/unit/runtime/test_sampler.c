/*
 * Tests of the sampler against plain double-precision references: sort everything, filter, walk.
 * Owner: the test program. Lifetime: the process.
 */
#include <float.h>
#include <math.h>

#include "runtime/sampler.h"
#include "runtime/sampler_math.h"
#include "support/test.h"

#define VOCAB_MAX 600u

/* ---- the reference ------------------------------------------------------------------------------------------ */

typedef struct ref_token {
    int32_t id;
    double logit, p, score;
} ref_token;

typedef struct reference {
    mlxr_sampling params;
    uint32_t n_vocab;
    int32_t history[4096];
    size_t n_history;
    bool breaker[VOCAB_MAX];
    double mu;
    uint64_t n_draws;
    bool ambiguous; /* a comparison was too close to call in single precision */
    ref_token tokens[VOCAB_MAX];
    size_t n;
} reference;

static int by_logit(const void *a, const void *b)
{
    const ref_token *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit ? 1 : -1) : x->id - y->id;
}

static int by_score(const void *a, const void *b)
{
    const ref_token *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score ? 1 : -1) : x->id - y->id;
}

static int by_id(const void *a, const void *b)
{
    return ((const ref_token *)a)->id - ((const ref_token *)b)->id;
}

static void ref_softmax(reference *r, double temperature)
{
    double max = -HUGE_VAL, total = 0;
    for (size_t i = 0; i < r->n; i++) {
        max = fmax(max, r->tokens[i].logit);
    }
    for (size_t i = 0; i < r->n; i++) {
        r->tokens[i].p = exp((r->tokens[i].logit - max) / temperature);
        total += r->tokens[i].p;
    }
    for (size_t i = 0; i < r->n; i++) {
        r->tokens[i].p /= total;
    }
}

static void ref_close(reference *r, double a, double b, double tolerance)
{
    r->ambiguous |= fabs(a - b) < tolerance;
}

/* Cuts a sorted list where the sum of probabilities reaches `p`. */
static void ref_cut(reference *r, double p)
{
    double sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        sum += r->tokens[i].p;
        ref_close(r, sum, p, 1e-5);
        if (sum >= p) {
            r->n = i + 1;
            return;
        }
    }
}

static void ref_penalties(reference *r)
{
    const mlxr_sampling *p = &r->params;
    size_t window = p->penalty_last_n < 0 || (size_t)p->penalty_last_n > r->n_history ? r->n_history
                                                                                      : (size_t)p->penalty_last_n;
    for (size_t i = 0; i < r->n; i++) {
        double count = 0;
        for (size_t j = r->n_history - window; j < r->n_history; j++) {
            count += r->history[j] == r->tokens[i].id;
        }
        if (count > 0) {
            double x = r->tokens[i].logit;
            x = x > 0 ? x / (double)p->repeat_penalty : x * (double)p->repeat_penalty;
            r->tokens[i].logit = (double)(float)(x - count * (double)p->frequency_penalty -
                                                 (double)p->presence_penalty);
        }
    }
}

/* The definition, token by token: how long is the longest repetition that `id` would continue? */
static void ref_dry(reference *r)
{
    const mlxr_sampling *p = &r->params;
    if (p->dry_multiplier == 0.0f) {
        return;
    }
    size_t window = p->dry_penalty_last_n < 0 || (size_t)p->dry_penalty_last_n > r->n_history
                        ? r->n_history
                        : (size_t)p->dry_penalty_last_n;
    const int32_t *h = r->history + r->n_history - window;
    for (size_t t = 0; t < r->n; t++) {
        size_t longest = 0;
        for (size_t i = 0; i + 1 < window; i++) { /* h[i] would be the earlier last token, h[i + 1] what followed */
            if (h[i + 1] != r->tokens[t].id || r->breaker[h[i + 1]]) {
                continue;
            }
            size_t length = 0;
            while (length <= i && h[i - length] == h[window - 1 - length] && !r->breaker[h[i - length]]) {
                length++;
            }
            longest = length > longest ? length : longest;
        }
        if (longest >= (size_t)p->dry_allowed_length) {
            r->tokens[t].logit -= (double)p->dry_multiplier *
                                  pow((double)p->dry_base, (double)(longest - (size_t)p->dry_allowed_length));
        }
    }
}

static void ref_typical(reference *r)
{
    double entropy = 0;
    for (size_t i = 0; i < r->n; i++) {
        entropy -= r->tokens[i].p > 0 ? r->tokens[i].p * log(r->tokens[i].p) : 0;
    }
    for (size_t i = 0; i < r->n; i++) {
        r->tokens[i].score = fabs(-log(r->tokens[i].p) - entropy);
    }
    qsort(r->tokens, r->n, sizeof *r->tokens, by_score);
    for (size_t i = 0; i + 1 < r->n; i++) {
        if (r->tokens[i].logit != r->tokens[i + 1].logit) {
            ref_close(r, r->tokens[i].score, r->tokens[i + 1].score, 1e-5);
        }
    }
    ref_cut(r, (double)r->params.typical_p);
    qsort(r->tokens, r->n, sizeof *r->tokens, by_logit);
}

static void ref_min_p(reference *r)
{
    double floor = r->tokens[0].p * (double)r->params.min_p;
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        ref_close(r, log(r->tokens[i].p / floor), 0, 1e-5);
        n += r->tokens[i].p >= floor;
    }
    r->n = n;
}

static void ref_xtc(reference *r, double u)
{
    size_t n_above = 0;
    for (size_t i = 0; i < r->n; i++) {
        ref_close(r, r->tokens[i].p, (double)r->params.xtc_threshold, 1e-5);
        n_above += r->tokens[i].p >= (double)r->params.xtc_threshold;
    }
    if (u < (double)r->params.xtc_probability && n_above >= 2) {
        memmove(r->tokens, r->tokens + n_above - 1, (r->n - n_above + 1) * sizeof *r->tokens);
        r->n -= n_above - 1;
    }
}

static void ref_mirostat(reference *r)
{
    const mlxr_sampling *p = &r->params;
    ref_softmax(r, (double)p->temperature);
    if (p->mirostat == 1) {
        double tb = 0, tt = 0;
        for (size_t i = 0; i + 1 < r->n && i + 1 < 100; i++) {
            double t = log((double)(i + 2) / (double)(i + 1));
            tb += t * log(r->tokens[i].p / r->tokens[i + 1].p);
            tt += t * t;
        }
        double s = tb / tt, e = s - 1;
        double k = pow(e * pow(2, r->mu) / (1 - pow(r->n_vocab, -e)), 1 / s);
        ref_close(r, k, round(k), 1e-6 * (1 + fabs(k)));
        k = fmax(1, floor(fmin(k, (double)r->n)));
        r->n = (size_t)k;
    } else {
        size_t n = 0;
        for (size_t i = 0; i < r->n; i++) {
            ref_close(r, -log2(r->tokens[i].p), r->mu, 1e-5);
            n += -log2(r->tokens[i].p) <= r->mu;
        }
        r->n = n > 0 ? n : 1;
    }
    ref_softmax(r, (double)p->temperature);
}

/* Fills in the distribution of the next token, ids ascending. */
static void ref_distribution(reference *r, const float *logits, double u_xtc)
{
    const mlxr_sampling *p = &r->params;
    r->ambiguous = false;
    r->n = 0;
    for (uint32_t i = 0; i < r->n_vocab; i++) {
        double x = (double)logits[i];
        for (size_t b = 0; b < p->n_logit_bias; b++) {
            x += p->logit_bias[b].id == (int32_t)i ? (double)p->logit_bias[b].bias : 0;
            x = (double)(float)x;
        }
        if (x > -HUGE_VAL) {
            r->tokens[r->n++] = (ref_token){(int32_t)i, x, 0, 0};
        }
    }
    ref_penalties(r);
    ref_dry(r);
    for (size_t i = 0; i < r->n; i++) {
        r->tokens[i].logit = (double)(float)r->tokens[i].logit;
    }
    qsort(r->tokens, r->n, sizeof *r->tokens, by_logit);
    if (p->temperature == 0.0f) {
        r->n = 1;
        r->tokens[0].p = 1;
        return;
    }
    if (p->mirostat) {
        ref_mirostat(r);
    } else {
        r->n = p->top_k > 0 && (size_t)p->top_k < r->n ? (size_t)p->top_k : r->n;
        if (p->typical_p < 1.0f) {
            ref_softmax(r, 1);
            ref_typical(r);
        }
        if (p->top_p < 1.0f) {
            ref_softmax(r, 1);
            ref_cut(r, (double)p->top_p);
        }
        ref_softmax(r, 1);
        ref_min_p(r);
        ref_softmax(r, 1);
        ref_xtc(r, u_xtc);
        ref_softmax(r, (double)p->temperature);
    }
    qsort(r->tokens, r->n, sizeof *r->tokens, by_id);
}

/* The token the next random number stands for. */
static int32_t ref_draw(reference *r, const float *logits)
{
    uint64_t key = sampler_mix(r->params.seed + 0x9e3779b97f4a7c15u);
    double u = sampler_uniform(key, 2 * r->n_draws), u_xtc = sampler_uniform(key, 2 * r->n_draws + 1);
    ref_distribution(r, logits, u_xtc);
    double sum = 0;
    size_t i = 0;
    for (; i + 1 < r->n; i++) {
        sum += r->tokens[i].p;
        ref_close(r, sum, u, 1e-5);
        if (sum > u) {
            break;
        }
    }
    if (r->params.mirostat && r->params.temperature > 0.0f) {
        r->mu -= (double)r->params.mirostat_eta * (-log2(r->tokens[i].p) - (double)r->params.mirostat_tau);
    }
    return r->tokens[i].id;
}

/* ---- helpers ------------------------------------------------------------------------------------------------ */

/* A vocabulary whose tokens 3, 13, 23, … hold a line feed. */
static const char *piece(const void *user, int32_t id, size_t *n)
{
    (void)user;
    *n = id % 10 == 3 ? 3 : 1;
    return id % 10 == 3 ? "a\nb" : "c";
}

static sampler *open_sampler(const mlxr_sampling *p, uint32_t n_vocab)
{
    mlxr_error error;
    sampler *s = NULL;
    sampler_vocab vocab = {.n_vocab = n_vocab, .piece = piece};
    assert_ok(sampler_open(&s, p, &vocab, &error), &error);
    return s;
}

static sampler_result sample(sampler *s, const float *logits, const uint32_t *allowed)
{
    mlxr_error error;
    sampler_result result;
    assert_ok(sampler_sample(s, logits, allowed, &result, &error), &error);
    return result;
}

static void accept_token(sampler *s, int32_t id)
{
    mlxr_error error;
    assert_ok(sampler_accept(s, id, &error), &error);
}

/* What turns every filter off. */
static mlxr_sampling plain(uint64_t seed)
{
    mlxr_sampling p = mlxr_sampling_default();
    p.seed = seed;
    p.temperature = 1;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    return p;
}

static double random_unit(uint64_t *state)
{
    return (double)(test_random(state) >> 11) * 0x1p-53;
}

static float random_normal(uint64_t *state)
{
    double u = random_unit(state) + 1e-300, v = random_unit(state);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static void random_logits(uint64_t *state, float *logits, uint32_t n, float scale)
{
    for (uint32_t i = 0; i < n; i++) {
        logits[i] = scale * random_normal(state);
    }
}

static size_t pick(uint64_t *state, size_t n)
{
    return (size_t)(test_random(state) % n);
}

/* ---- the choice is the reference's -------------------------------------------------------------------------- */

static mlxr_sampling random_params(uint64_t *state, uint32_t n_vocab, mlxr_logit_bias *bias)
{
    static const float temperatures[] = {0, 0.3f, 0.8f, 1, 1.7f, 5};
    mlxr_sampling p = plain(test_random(state) | 1);
    p.temperature = temperatures[pick(state, 6)];
    p.top_k = pick(state, 2) ? (int32_t)(1 + pick(state, n_vocab + 10)) : 0;
    p.typical_p = pick(state, 3) ? 1.0f : (float)random_unit(state);
    p.top_p = pick(state, 2) ? 1.0f : (float)random_unit(state);
    p.min_p = pick(state, 2) ? 0.0f : (float)(random_unit(state) * random_unit(state));
    p.xtc_probability = pick(state, 3) ? 0.0f : (float)random_unit(state);
    p.xtc_threshold = (float)(random_unit(state) * 0.3);
    if (pick(state, 2)) {
        p.repeat_penalty = (float)(0.7 + random_unit(state));
        p.presence_penalty = (float)(random_unit(state) - 0.5);
        p.frequency_penalty = (float)(random_unit(state) - 0.5);
        p.penalty_last_n = (int32_t)pick(state, 60) - 1;
    }
    if (pick(state, 2)) {
        p.dry_multiplier = (float)random_unit(state);
        p.dry_base = 1.0f + (float)random_unit(state);
        p.dry_allowed_length = 1 + (int32_t)pick(state, 3);
        p.dry_penalty_last_n = (int32_t)pick(state, 60) - 1;
    }
    p.mirostat = pick(state, 3) ? 0 : (int32_t)pick(state, 3);
    p.mirostat_tau = (float)(6 * random_unit(state));
    for (p.n_logit_bias = 0; p.n_logit_bias < pick(state, 4); p.n_logit_bias++) {
        bias[p.n_logit_bias].id = (int32_t)pick(state, n_vocab);
        bias[p.n_logit_bias].bias = pick(state, 3) ? random_normal(state) : -INFINITY;
    }
    p.logit_bias = bias;
    return p;
}

static void every_token_is_the_one_the_reference_draws(void **unused)
{
    (void)unused;
    static reference r;
    static float logits[VOCAB_MAX];
    mlxr_logit_bias bias[4];
    uint64_t state = 1;
    size_t n_compared = 0, n_ambiguous = 0;
    for (unsigned round = 0; round < 1500; round++) {
        uint32_t n_vocab = (uint32_t)(20 + pick(&state, VOCAB_MAX - 20));
        memset(&r, 0, sizeof r);
        r.params = random_params(&state, n_vocab, bias);
        r.n_vocab = n_vocab;
        r.mu = 2 * (double)r.params.mirostat_tau;
        for (uint32_t i = 0; i < n_vocab; i++) {
            r.breaker[i] = i % 10 == 3;
        }
        sampler *s = open_sampler(&r.params, n_vocab);
        size_t n_prompt = pick(&state, 80), n_different = 2 + pick(&state, 6);
        for (size_t i = 0; i < n_prompt; i++) {
            int32_t id = (int32_t)(pick(&state, n_different) % n_vocab);
            accept_token(s, id);
            r.history[r.n_history++] = id;
        }
        float scale = (float)(0.2 + 4 * random_unit(&state));
        for (unsigned step = 0; step < 20; step++) {
            random_logits(&state, logits, n_vocab, scale);
            double mu = r.mu;
            int32_t expected = ref_draw(&r, logits);
            int32_t got = sample(s, logits, NULL).id;
            n_compared++;
            if (r.ambiguous) {
                n_ambiguous++;
                break; /* mirostat's threshold and the history would differ from here on */
            }
            if (got != expected) {
                fail_msg("round %u, step %u: token %d, not %d (mu %g)", round, step, got, expected, mu);
            }
            accept_token(s, got);
            r.history[r.n_history++] = got;
            r.n_draws++;
        }
        sampler_close(&s);
    }
    assert_true(n_ambiguous * 20 < n_compared);
}

/* χ² of counts against expected probabilities; degrees of freedom in *df. */
static double chi_square(const unsigned *counts, const double *expected, uint32_t n, unsigned n_draws, unsigned *df)
{
    double sum = 0, small_expected = 0, small_count = 0;
    *df = 0;
    for (uint32_t i = 0; i < n; i++) {
        double e = expected[i] * n_draws;
        if (e < 10) {
            small_expected += e;
            small_count += counts[i];
        } else {
            sum += (counts[i] - e) * (counts[i] - e) / e;
            ++*df;
        }
    }
    if (small_expected > 10) {
        sum += (small_count - small_expected) * (small_count - small_expected) / small_expected;
        ++*df;
    }
    *df -= 1;
    return sum;
}

static void draws_follow_the_distribution_of(mlxr_sampling p, uint32_t n_vocab)
{
    static reference r;
    static float logits[VOCAB_MAX];
    static unsigned counts[VOCAB_MAX];
    static double expected[VOCAB_MAX];
    const unsigned n_draws = 100000;
    uint64_t state = 7;
    random_logits(&state, logits, n_vocab, 2);
    memset(&r, 0, sizeof r);
    memset(counts, 0, sizeof counts);
    memset(expected, 0, sizeof expected);
    r.params = p;
    r.n_vocab = n_vocab;
    for (int xtc = 0; xtc < 2; xtc++) { /* a mixture of two distributions */
        ref_distribution(&r, logits, xtc ? 0.0 : 1.0);
        assert_false(r.ambiguous);
        double share = xtc ? (double)p.xtc_probability : 1 - (double)p.xtc_probability;
        for (size_t i = 0; i < r.n; i++) {
            expected[r.tokens[i].id] += share * r.tokens[i].p;
        }
    }
    sampler *s = open_sampler(&p, n_vocab);
    for (unsigned i = 0; i < n_draws; i++) {
        int32_t id = sample(s, logits, NULL).id;
        counts[id]++;
        accept_token(s, id);
    }
    sampler_close(&s);
    for (uint32_t i = 0; i < n_vocab; i++) {
        assert_true(counts[i] == 0 || expected[i] > 0);
    }
    unsigned df;
    double chi = chi_square(counts, expected, n_vocab, n_draws, &df);
    double limit = df + 4 * sqrt(2.0 * df); /* four standard deviations; the seed is fixed */
    if (chi > limit) {
        fail_msg("chi-square %g with %u degrees of freedom", chi, df);
    }
}

static void draws_follow_the_distribution(void **unused)
{
    (void)unused;
    mlxr_sampling p = plain(11);
    draws_follow_the_distribution_of(p, 200);
    p.temperature = 1.5f;
    p.top_k = 40;
    p.top_p = 0.9f;
    p.min_p = 0.02f;
    draws_follow_the_distribution_of(p, 200);
    p.xtc_probability = 0.4f;
    p.xtc_threshold = 0.08f;
    draws_follow_the_distribution_of(p, 100);
    p = plain(12);
    p.typical_p = 0.7f;
    draws_follow_the_distribution_of(p, 300);
}

/* ---- reproducibility ---------------------------------------------------------------------------------------- */

static void the_same_seed_gives_these_tokens_on_every_machine(void **unused)
{
    (void)unused;
    static const int32_t expected[12] = {250, 310, 451, 122, 69, 407, 75, 503, 372, 385, 387, 457};
    static float logits[VOCAB_MAX];
    mlxr_sampling p = mlxr_sampling_default();
    p.seed = 42;
    p.repeat_penalty = 1.1f;
    p.temperature = 1.3f;
    sampler *s = open_sampler(&p, VOCAB_MAX);
    for (unsigned i = 0; i < 12; i++) {
        for (uint32_t j = 0; j < VOCAB_MAX; j++) { /* exact in binary: no libm in between */
            logits[j] = (float)(int)(sampler_mix(i * VOCAB_MAX + j) % 4096) / 512.0f;
        }
        int32_t id = sample(s, logits, NULL).id;
        assert_int_equal(id, expected[i]);
        accept_token(s, id);
    }
    sampler_close(&s);
}

static void asking_again_gives_the_same_token_and_going_back_a_new_one(void **unused)
{
    (void)unused;
    static float logits[VOCAB_MAX];
    mlxr_sampling p = plain(5);
    sampler *s = open_sampler(&p, VOCAB_MAX);
    unsigned n_same = 0;
    for (unsigned i = 0; i < 50; i++) {
        int32_t first = sample(s, logits, NULL).id;
        for (unsigned again = 0; again < 3; again++) {
            assert_int_equal(sample(s, logits, NULL).id, first);
        }
        accept_token(s, first);
        sampler_truncate(s, 0);
        n_same += sample(s, logits, NULL).id == first;
    }
    assert_true(n_same < 5);
    sampler_close(&s);
}

static void seed_zero_comes_from_the_operating_system(void **unused)
{
    (void)unused;
    static float logits[VOCAB_MAX];
    mlxr_sampling p = plain(0);
    unsigned n_same = 0;
    for (unsigned i = 0; i < 20; i++) {
        sampler *a = open_sampler(&p, VOCAB_MAX), *b = open_sampler(&p, VOCAB_MAX);
        n_same += sample(a, logits, NULL).id == sample(b, logits, NULL).id;
        sampler_close(&a);
        sampler_close(&b);
    }
    assert_true(n_same < 5);
}

static void a_clone_goes_on_like_its_original(void **unused)
{
    (void)unused;
    static float logits[VOCAB_MAX];
    mlxr_error error;
    mlxr_logit_bias bias = {17, 2};
    uint64_t state = 3;
    for (int mirostat = 0; mirostat < 3; mirostat++) {
        mlxr_sampling p = plain(9);
        p.mirostat = mirostat;
        p.repeat_penalty = 1.3f;
        p.dry_multiplier = 0.5f;
        p.logit_bias = &bias;
        p.n_logit_bias = 1;
        p.n_logprobs = 3;
        sampler *s = open_sampler(&p, VOCAB_MAX), *copy = NULL;
        for (unsigned i = 0; i < 40; i++) {
            random_logits(&state, logits, VOCAB_MAX, 3);
            int32_t id = sample(s, logits, NULL).id;
            if (i == 20) {
                assert_ok(sampler_clone(&copy, s, &error), &error); /* between a choice and its acceptance, too */
            } else if (copy) {
                assert_int_equal(sample(copy, logits, NULL).id, id);
            }
            accept_token(s, id);
            if (copy) {
                accept_token(copy, id);
            }
        }
        sampler_close(&s);
        sampler_close(&copy);
        assert_null(copy);
    }
}

/* ---- greedy, ties, masks, extremes -------------------------------------------------------------------------- */

static void greedy_takes_the_first_of_the_largest_wherever_it_is(void **unused)
{
    (void)unused;
    static float logits[VOCAB_MAX];
    mlxr_sampling p = plain(1);
    p.temperature = 0;
    for (uint32_t n = 1; n <= VOCAB_MAX; n += n < 140 ? 1 : 37) {
        sampler *s = open_sampler(&p, n);
        for (uint32_t at = 0; at < n; at++) {
            for (uint32_t i = 0; i < n; i++) {
                logits[i] = i % 3 ? -5 : NAN;
            }
            logits[at] = 1;
            logits[n - 1] = 1;
            assert_int_equal(sample(s, logits, NULL).id, at);
        }
        sampler_close(&s);
    }
}

static void nothing_to_choose_is_an_error(void **unused)
{
    (void)unused;
    float logits[100];
    uint32_t none[4] = {0}, one[4] = {0, 0, 1u << 5, 0};
    mlxr_error error;
    sampler_result result = {.id = 77};
    for (int mode = 0; mode < 4; mode++) {
        mlxr_sampling p = plain(1);
        p.temperature = mode == 0 ? 0 : 1;
        p.mirostat = mode == 2 ? 2 : 0;
        p.n_logprobs = mode == 3 ? 5 : 0;
        sampler *s = open_sampler(&p, 100);
        for (unsigned i = 0; i < 100; i++) {
            logits[i] = i % 2 ? -INFINITY : NAN;
        }
        assert_int_equal(sampler_sample(s, logits, NULL, &result, &error), MLXR_FORMAT);
        assert_non_null(strstr(error.text, "the model's file, or an adapter, may be damaged"));
        assert_non_null(strstr(error.text, "100"));
        for (unsigned i = 0; i < 100; i++) {
            logits[i] = 1;
        }
        assert_int_equal(sampler_sample(s, logits, none, &result, &error), MLXR_FORMAT);
        assert_int_equal(result.id, 77);
        assert_int_equal(sample(s, logits, one).id, 69);
        logits[69] = NAN;
        assert_int_equal(sampler_sample(s, logits, one, &result, &error), MLXR_FORMAT);
        sampler_close(&s);
    }
}

static void forbidden_tokens_are_never_drawn(void **unused)
{
    (void)unused;
    float logits[100];
    uint32_t allowed[4];
    uint64_t state = 21;
    for (unsigned round = 0; round < 300; round++) {
        mlxr_sampling p = plain(round + 1);
        p.top_k = pick(&state, 2) ? 5 : 0;
        p.mirostat = (int32_t)pick(&state, 3);
        p.temperature = pick(&state, 4) ? 1.5f : 0;
        sampler *s = open_sampler(&p, 100);
        random_logits(&state, logits, 100, 3);
        logits[pick(&state, 100)] = NAN;
        logits[pick(&state, 100)] = -INFINITY;
        for (unsigned i = 0; i < 4; i++) {
            allowed[i] = (uint32_t)(test_random(&state) & test_random(&state));
        }
        allowed[pick(&state, 3)] = UINT32_MAX;
        for (unsigned i = 0; i < 20; i++) {
            int32_t id = sample(s, logits, allowed).id;
            assert_in_range(id, 0, 99);
            assert_true(allowed[id / 32] >> id % 32 & 1);
            assert_true(isfinite(logits[id]));
            accept_token(s, id);
        }
        sampler_close(&s);
    }
}

static void ties_are_cut_at_the_lower_ids(void **unused)
{
    (void)unused;
    float logits[300];
    unsigned seen[300] = {0};
    for (unsigned i = 0; i < 300; i++) {
        logits[i] = i % 2 ? 2 : -0.0f;
    }
    mlxr_sampling p = plain(4);
    p.top_k = 10;
    for (int mode = 0; mode < 2; mode++) {
        if (mode == 1) { /* the same ten tokens as a share of the probability */
            p.top_k = 0;
            p.top_p = (float)(9.5 * exp(2) / (150 * exp(2) + 150));
        }
        memset(seen, 0, sizeof seen);
        sampler *s = open_sampler(&p, 300);
        for (unsigned i = 0; i < 2000; i++) {
            int32_t id = sample(s, logits, NULL).id;
            seen[id]++;
            accept_token(s, id);
        }
        for (unsigned i = 0; i < 300; i++) {
            assert_true((seen[i] > 0) == (i % 2 == 1 && i < 20));
        }
        sampler_close(&s);
    }
}

static void extreme_logits_and_temperatures_give_possible_tokens(void **unused)
{
    (void)unused;
    static const float extremes[] = {FLT_MAX, -FLT_MAX, INFINITY, -INFINITY, NAN,   0,
                                     -0.0f,   FLT_MIN,  1e-45f,   1e30f,     -1e30f};
    static const float temperatures[] = {0, 1e-45f, FLT_MIN, 1e-3f, 1, 1e10f, FLT_MAX};
    float logits[200];
    uint64_t state = 99;
    mlxr_logit_bias bias = {3, FLT_MAX};
    for (unsigned round = 0; round < 4000; round++) {
        mlxr_sampling p = plain(round + 1);
        p.temperature = temperatures[pick(&state, 7)];
        p.top_k = (int32_t)pick(&state, 3) * 7;
        p.top_p = (float)pick(&state, 3) / 2;
        p.min_p = (float)pick(&state, 3) / 2;
        p.typical_p = (float)pick(&state, 3) / 2;
        p.mirostat = (int32_t)pick(&state, 3);
        p.mirostat_tau = pick(&state, 2) ? FLT_MAX : 0;
        p.mirostat_eta = pick(&state, 2) ? FLT_MAX : 0;
        p.xtc_probability = (float)pick(&state, 2);
        p.xtc_threshold = (float)pick(&state, 2);
        p.repeat_penalty = pick(&state, 2) ? FLT_MAX : FLT_MIN;
        p.frequency_penalty = pick(&state, 2) ? FLT_MAX : -FLT_MAX;
        p.dry_multiplier = pick(&state, 2) ? FLT_MAX : 0;
        p.dry_base = FLT_MAX;
        p.dry_allowed_length = 1;
        p.logit_bias = &bias;
        p.n_logit_bias = pick(&state, 2);
        p.logprobs = true;
        p.n_logprobs = 4;
        sampler *s = open_sampler(&p, 200);
        bool possible = false;
        size_t kinds = 1 + pick(&state, 11);
        for (unsigned i = 0; i < 200; i++) {
            logits[i] = extremes[pick(&state, kinds)];
            possible |= logits[i] > -INFINITY;
        }
        for (unsigned step = 0; possible && step < 4; step++) {
            sampler_result result = sample(s, logits, NULL);
            assert_in_range(result.id, 0, 199);
            assert_true(logits[result.id] > -INFINITY);
            assert_true(result.logprob <= 0);
            accept_token(s, result.id);
        }
        sampler_close(&s);
    }
}

static void infinite_logits_leave_nothing_to_the_others(void **unused)
{
    (void)unused;
    float logits[100] = {0};
    logits[20] = INFINITY;
    logits[70] = INFINITY;
    logits[30] = FLT_MAX;
    mlxr_sampling p = plain(3);
    p.logprobs = true;
    p.n_logprobs = 5;
    unsigned n_first = 0;
    sampler *s = open_sampler(&p, 100);
    for (unsigned i = 0; i < 400; i++) {
        sampler_result r = sample(s, logits, NULL);
        assert_true(r.id == 20 || r.id == 70);
        assert_true(fabsf(r.logprob + 0.693147f) < 1e-5f);
        assert_int_equal(r.n_top, 2);
        n_first += r.id == 20;
        accept_token(s, r.id);
    }
    assert_in_range(n_first, 150, 250);
    sampler_close(&s);
}

/* ---- log-probabilities -------------------------------------------------------------------------------------- */

static void log_probabilities_are_of_the_raw_distribution(void **unused)
{
    (void)unused;
    static float logits[VOCAB_MAX];
    uint64_t state = 31;
    mlxr_logit_bias bias = {5, 8};
    for (unsigned round = 0; round < 200; round++) {
        uint32_t n = (uint32_t)(10 + pick(&state, VOCAB_MAX - 10));
        mlxr_sampling p = mlxr_sampling_default();
        p.seed = round + 1;
        p.logprobs = true;
        p.n_logprobs = (uint32_t)pick(&state, n + 1);
        p.logit_bias = &bias;
        p.n_logit_bias = 1;
        p.repeat_penalty = 2;
        sampler *s = open_sampler(&p, n);
        accept_token(s, 1);
        random_logits(&state, logits, n, 4);
        logits[2] = logits[3]; /* a tie */
        logits[4] = NAN;
        double total = 0;
        for (uint32_t i = 0; i < n; i++) {
            total += i == 4 ? 0 : exp((double)logits[i]);
        }
        sampler_result r = sample(s, logits, NULL);
        assert_true(fabs((double)r.logprob - ((double)logits[r.id] - log(total))) <
                    2e-6 * (1 + fabs((double)r.logprob)));
        assert_int_equal(r.n_top, p.n_logprobs < n ? p.n_logprobs : n - 1);
        for (uint32_t i = 0; i < r.n_top; i++) {
            double expected = (double)logits[r.top[i].id] - log(total);
            assert_true(fabs((double)r.top[i].logprob - expected) < 2e-6 * (1 + fabs(expected)));
            if (i > 0) {
                float before = logits[r.top[i - 1].id], here = logits[r.top[i].id];
                assert_true(before > here || (before == here && r.top[i - 1].id < r.top[i].id));
            }
        }
        for (uint32_t i = 0; r.n_top > 0 && i < n; i++) { /* nothing outside the list beats its end */
            assert_false(logits[i] > logits[r.top[0].id]);
        }
        sampler_close(&s);
    }
}

/* ---- parameters --------------------------------------------------------------------------------------------- */

static void refused(mlxr_sampling p, const char *field)
{
    mlxr_error error = {0};
    sampler *s = NULL;
    sampler_vocab vocab = {.n_vocab = 100, .piece = piece};
    assert_int_equal(sampler_open(&s, &p, &vocab, &error), MLXR_ARG);
    assert_null(s);
    if (!strstr(error.text, field)) {
        fail_msg("\"%s\" does not name %s", error.text, field);
    }
}

static void parameters_out_of_range_are_refused_by_name(void **unused)
{
    (void)unused;
#define REFUSE(field, value)                                                                                           \
    do {                                                                                                               \
        mlxr_sampling p = mlxr_sampling_default();                                                                     \
        p.field = (value);                                                                                             \
        refused(p, #field);                                                                                            \
    } while (0)
#define REFUSE_NUMBER(field, low, high)                                                                                \
    REFUSE(field, NAN);                                                                                                \
    REFUSE(field, low);                                                                                                \
    REFUSE(field, high)
    REFUSE_NUMBER(temperature, -0.1f, INFINITY);
    REFUSE_NUMBER(top_p, -0.1f, 1.1f);
    REFUSE_NUMBER(min_p, -0.1f, 1.1f);
    REFUSE_NUMBER(typical_p, -0.1f, 1.1f);
    REFUSE_NUMBER(xtc_probability, -0.1f, 1.1f);
    REFUSE_NUMBER(xtc_threshold, -0.1f, 1.1f);
    REFUSE_NUMBER(dry_multiplier, -0.1f, INFINITY);
    REFUSE_NUMBER(dry_base, 0.9f, INFINITY);
    REFUSE_NUMBER(mirostat_tau, -0.1f, INFINITY);
    REFUSE_NUMBER(mirostat_eta, -0.1f, INFINITY);
    REFUSE_NUMBER(repeat_penalty, 0.0f, INFINITY);
    REFUSE_NUMBER(presence_penalty, -INFINITY, INFINITY);
    REFUSE_NUMBER(frequency_penalty, -INFINITY, INFINITY);
    REFUSE(top_k, -1);
    REFUSE(mirostat, 3);
    REFUSE(mirostat, -1);
    REFUSE(penalty_last_n, -2);
    REFUSE(dry_penalty_last_n, -2);
    REFUSE(dry_allowed_length, 0);
    REFUSE(n_logprobs, 101);
    REFUSE(n_logit_bias, 1);
    static const mlxr_logit_bias wrong[] = {{100, 0}, {-1, 0}, {5, NAN}, {5, INFINITY}};
    for (size_t i = 0; i < 4; i++) {
        mlxr_sampling p = mlxr_sampling_default();
        p.logit_bias = &wrong[i];
        p.n_logit_bias = 1;
        refused(p, "logit_bias[0]");
    }
    const char *empty[] = {"\n", ""};
    mlxr_sampling p = mlxr_sampling_default();
    p.dry_multiplier = 1;
    p.dry_breakers = empty;
    p.n_dry_breakers = 2;
    refused(p, "dry_breakers[1]");
}

static void tokens_outside_the_vocabulary_are_not_accepted(void **unused)
{
    (void)unused;
    mlxr_error error;
    mlxr_sampling p = plain(1);
    p.repeat_penalty = 2;
    sampler *s = open_sampler(&p, 100);
    assert_int_equal(sampler_accept(s, 100, &error), MLXR_ARG);
    assert_int_equal(sampler_accept(s, -1, &error), MLXR_ARG);
    assert_int_equal(sampler_accept(s, INT32_MIN, &error), MLXR_ARG);
    accept_token(s, 99);
    sampler_close(&s);
}

static void truncating_forgets_what_penalties_saw(void **unused)
{
    (void)unused;
    float logits[10] = {0};
    logits[4] = 2;
    logits[5] = 1.5f;
    mlxr_sampling p = plain(1);
    p.temperature = 0;
    p.presence_penalty = 1;
    sampler *s = open_sampler(&p, 10);
    accept_token(s, 1);
    accept_token(s, 4);
    assert_int_equal(sample(s, logits, NULL).id, 5);
    sampler_truncate(s, 5);
    assert_int_equal(sample(s, logits, NULL).id, 5);
    sampler_truncate(s, 1);
    assert_int_equal(sample(s, logits, NULL).id, 4);
    sampler_close(&s);
}

static void exp_and_log_are_close_to_libm(void **unused)
{
    (void)unused;
    for (double x = 0; x > -90; x -= 0.00137) {
        double got = (double)sampler_exp_float((float)x), expected = exp((double)(float)x);
        assert_true(x <= -87 ? got <= expected : fabs(got / expected - 1) < 2e-7);
        assert_true(fabs(sampler_exp(x) / exp(x) - 1) < 1e-15);
        assert_true(fabs(sampler_exp(-7 * x) / exp(-7 * x) - 1) < 2e-15);
    }
    for (double x = 1e-300; x < 1e300; x *= 1.37) {
        assert_true(fabs(sampler_log(x) - log(x)) < 1e-15 * fmax(1, fabs(log(x))));
    }
    assert_true(sampler_exp_float(NAN) == 0 && sampler_exp_float(-INFINITY) == 0 && sampler_exp_float(0) == 1);
    assert_true(sampler_exp(-HUGE_VAL) == 0 && sampler_exp(HUGE_VAL) == HUGE_VAL && sampler_log(0) == -HUGE_VAL);
    assert_true(sampler_exp(709) < HUGE_VAL && sampler_exp(-707) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_and_log_are_close_to_libm),
        cmocka_unit_test(every_token_is_the_one_the_reference_draws),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(the_same_seed_gives_these_tokens_on_every_machine),
        cmocka_unit_test(asking_again_gives_the_same_token_and_going_back_a_new_one),
        cmocka_unit_test(seed_zero_comes_from_the_operating_system),
        cmocka_unit_test(a_clone_goes_on_like_its_original),
        cmocka_unit_test(greedy_takes_the_first_of_the_largest_wherever_it_is),
        cmocka_unit_test(nothing_to_choose_is_an_error),
        cmocka_unit_test(forbidden_tokens_are_never_drawn),
        cmocka_unit_test(ties_are_cut_at_the_lower_ids),
        cmocka_unit_test(extreme_logits_and_temperatures_give_possible_tokens),
        cmocka_unit_test(infinite_logits_leave_nothing_to_the_others),
        cmocka_unit_test(log_probabilities_are_of_the_raw_distribution),
        cmocka_unit_test(parameters_out_of_range_are_refused_by_name),
        cmocka_unit_test(tokens_outside_the_vocabulary_are_not_accepted),
        cmocka_unit_test(truncating_forgets_what_penalties_saw),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
