/*
 * Sampled speculation keeps the distribution: over tens of thousands of seeds, tokens and pairs of tokens drawn with
 * drafts follow the model's own probabilities and cannot be told from those drawn without, by Pearson's chi-square.
 * Owner: the test program. Lifetime: the process.
 *
 * The vocabulary is eight tokens, all others are forbidden by a bias. Probabilities of a token, and of the one behind
 * each, come from the model's logits. Every statistic is held against the value that chance passes once in 10,000 times
 * (Wilson and Hilferty's approximation); seeds are fixed, so the figures are the same on every run of a backend.
 */
#include <math.h>

#include "runtime/engine.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { WORDS = 8, PROMPT = 40, DRAWS = 64 * 313, TOGETHER = 64, N_DRAFT = 2 };
#define TEMPERATURE 2.0f
#define Z_RARE 3.719 /* standard deviations: once in 10,000 */

typedef struct counts { /* of 0 … WORDS − 1, and of pairs of them */
    double first[WORDS], pair[WORDS * WORDS];
} counts;

typedef struct setup {
    mlxr_engine *engine;
    mlxr_model *model, *draft;
    mlxr_logit_bias bias[TINY_N_VOCAB];
    size_t n_bias;
    int32_t prompt[PROMPT];
    counts expected; /* probabilities */
} setup;

static const int32_t words[WORDS] = {11, 47, 83, 120, 154, 190, 222, 249};

static size_t word_of(int32_t id)
{
    size_t i = 0;
    while (i < WORDS && words[i] != id) {
        i++;
    }
    return i;
}

/* ---- the statistic --------------------------------------------------------------------------------------------- */

typedef struct statistic {
    double chi, df;
} statistic;

static void add_cell(statistic *s, double n, double expected)
{
    s->chi += expected > 0 ? (n - expected) * (n - expected) / expected : 0;
    s->df++;
}

/* Observed counts [n] against probabilities; cells of fewer than 10 expected are put together. */
static statistic against_probabilities(const double *observed, const double *p, size_t n)
{
    statistic s = {.df = -1};
    double n_small = 0, expected_small = 0, n_all = 0;
    for (size_t i = 0; i < n; i++) {
        n_all += observed[i];
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i] * n_all < 10) {
            n_small += observed[i];
            expected_small += p[i] * n_all;
        } else {
            add_cell(&s, observed[i], p[i] * n_all);
        }
    }
    if (expected_small > 0) {
        add_cell(&s, n_small, expected_small);
    }
    return s;
}

/* Two samples of the same size: do they come from one distribution? */
static statistic against_each_other(const double *a, const double *b, size_t n)
{
    statistic s = {.df = -1};
    double small_a = 0, small_b = 0;
    for (size_t i = 0; i < n; i++) {
        if (a[i] + b[i] < 20) {
            small_a += a[i];
            small_b += b[i];
        } else {
            s.chi += (a[i] - b[i]) * (a[i] - b[i]) / (a[i] + b[i]);
            s.df++;
        }
    }
    if (small_a + small_b > 0) {
        s.chi += (small_a - small_b) * (small_a - small_b) / (small_a + small_b);
        s.df++;
    }
    return s;
}

static double rare(double df)
{
    double x = 2 / (9 * df);
    return df * pow(1 - x + Z_RARE * sqrt(x), 3);
}

static void judge(const char *what, statistic s)
{
    print_message("  %s: chi-square %.1f, %d degrees of freedom, bound %.1f\n", what, s.chi, (int)s.df, rare(s.df));
    assert_true(s.df >= 4 && s.chi < rare(s.df));
}

/* ---- the model ------------------------------------------------------------------------------------------------- */

static mlxr_model *load(mlxr_engine *engine, dtype type)
{
    char path[512];
    mlxr_error error;
    mlxr_model *model = NULL;
    snprintf(path, sizeof path, "%s/llama-%d.gguf", test_temp_dir(), (int)type);
    tiny_model_write_gguf(tiny_model_find("llama"), &(tiny_options){.type = type}, path);
    assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
    return model;
}

/* Probabilities of the words behind prompt and `more`. */
static void probabilities(setup *s, const int32_t *more, size_t n_more, double *p)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    double sum = 0;
    assert_ok(mlxr_sequence_open(&sequence, s->model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, s->prompt, PROMPT, &error), &error);
    if (n_more) {
        assert_ok(mlxr_sequence_append(sequence, more, n_more, &error), &error);
    }
    mlxr_slice slice = {.sequence = sequence, .n_compute = (uint32_t)mlxr_sequence_pending(sequence)};
    slice.flags = MLXR_SLICE_NO_SAMPLE;
    assert_ok(mlxr_step(s->engine, &slice, 1, &error), &error);
    for (size_t i = 0; i < WORDS; i++) {
        p[i] = exp((double)slice.logits[words[i]] / (double)TEMPERATURE);
        sum += p[i];
    }
    for (size_t i = 0; i < WORDS; i++) {
        p[i] /= sum;
    }
    mlxr_sequence_close(&sequence);
}

static void open_all(setup *s)
{
    mlxr_error error;
    mlxr_engine_options options = {.n_threads = 1, .kv_bytes = 64 << 20, .kv_type = "f32"};
    memset(s, 0, sizeof *s);
    assert_ok(mlxr_engine_open(&s->engine, &options, &error), &error);
    s->model = load(s->engine, DTYPE_F32);
    s->draft = load(s->engine, DTYPE_Q8_0);
    for (int32_t id = 0; id < (int32_t)TINY_N_VOCAB; id++) {
        if (word_of(id) == WORDS) {
            s->bias[s->n_bias++] = (mlxr_logit_bias){id, -INFINITY};
        }
    }
    uint64_t seed = 3;
    for (size_t i = 0; i < PROMPT; i++) { /* its last two words occur before: prompt lookup has something to offer */
        s->prompt[i] = words[test_random(&seed) % WORDS];
    }
    memcpy(s->prompt + PROMPT - 2, s->prompt + 10, 2 * sizeof *s->prompt);
    probabilities(s, NULL, 0, s->expected.first);
    for (size_t i = 0; i < WORDS; i++) {
        double *pair = &s->expected.pair[i * WORDS];
        probabilities(s, &words[i], 1, pair);
        for (size_t j = 0; j < WORDS; j++) {
            pair[j] *= s->expected.first[i];
        }
    }
}

static void close_all(setup *s)
{
    mlxr_model_unref(&s->draft);
    mlxr_model_unref(&s->model);
    mlxr_engine_close(&s->engine);
}

/* ---- draws ----------------------------------------------------------------------------------------------------- */

typedef enum { PLAIN, NGRAM, MODEL } kind;

typedef struct draws {
    counts n;
    uint64_t n_drafted, n_accepted;
} draws;

static mlxr_sampling sampling_of(const setup *s, uint64_t seed, float temperature)
{
    mlxr_sampling sampling = mlxr_sampling_default();
    sampling.seed = seed;
    sampling.temperature = temperature;
    sampling.top_k = 0;
    sampling.top_p = 1;
    sampling.min_p = 0;
    sampling.logit_bias = s->bias;
    sampling.n_logit_bias = s->n_bias;
    return sampling;
}

/* Drafts all the time, and only words: a draft model would otherwise offer what the target must not say. */
static void draft_with(const setup *s, mlxr_sequence *sequence, mlxr_model *model)
{
    mlxr_error error;
    assert_ok(mlxr_sequence_draft(sequence, model, N_DRAFT, &error), &error);
    sequence->spec.tracker.draft_cost = 0; /* or it may see that this does not pay */
    if (model) {
        mlxr_sampling greedy = sampling_of(s, 1, 0);
        mlxr_sequence_close(&sequence->spec.draft);
        assert_ok(mlxr_sequence_open(&sequence->spec.draft, model, &greedy, &error), &error);
    }
}

/* Draws two words with each of TOGETHER seeds in the same steps. */
static void draw_together(setup *s, mlxr_sequence *prompt, kind k, uint64_t first_seed, draws *out)
{
    mlxr_error error;
    mlxr_sequence *sequences[TOGETHER] = {NULL};
    int32_t ids[TOGETHER][2];
    size_t n_ids[TOGETHER] = {0}, n_slices = TOGETHER;
    for (size_t i = 0; i < TOGETHER; i++) {
        mlxr_sampling sampling = sampling_of(s, first_seed + i, TEMPERATURE);
        assert_ok(mlxr_sequence_fork(&sequences[i], prompt, &sampling, &error), &error);
        if (k != PLAIN) {
            draft_with(s, sequences[i], k == MODEL ? s->draft : NULL);
        }
    }
    while (n_slices > 0) {
        mlxr_slice slices[TOGETHER] = {{0}};
        size_t at[TOGETHER];
        n_slices = 0;
        for (size_t i = 0; i < TOGETHER; i++) {
            if (n_ids[i] < 2) {
                at[n_slices] = i;
                slices[n_slices++] = (mlxr_slice){.sequence = sequences[i], .n_compute = 1};
            }
        }
        if (n_slices) {
            assert_ok(mlxr_step(s->engine, slices, n_slices, &error), &error);
        }
        for (size_t i = 0; i < n_slices; i++) {
            for (uint32_t j = 0; j < slices[i].n_sampled && n_ids[at[i]] < 2; j++) {
                ids[at[i]][n_ids[at[i]]++] = slices[i].sampled[j].id;
            }
        }
    }
    for (size_t i = 0; i < TOGETHER; i++) {
        size_t a = word_of(ids[i][0]), b = word_of(ids[i][1]);
        assert_true(a < WORDS && b < WORDS);
        out->n.first[a]++;
        out->n.pair[a * WORDS + b]++;
        mlxr_draft_stats stats = mlxr_draft_stats_get(sequences[i]);
        out->n_drafted += stats.n_drafted;
        out->n_accepted += stats.n_accepted;
        mlxr_sequence_close(&sequences[i]);
    }
}

static void draw(setup *s, kind k, uint64_t first_seed, draws *out)
{
    mlxr_error error;
    mlxr_sequence *prompt = NULL;
    memset(out, 0, sizeof *out);
    assert_ok(mlxr_sequence_open(&prompt, s->model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(prompt, s->prompt, PROMPT, &error), &error);
    if (mlxr_sequence_pending(prompt) > 1) {
        mlxr_slice slice = {.sequence = prompt, .n_compute = (uint32_t)mlxr_sequence_pending(prompt) - 1};
        assert_ok(mlxr_step(s->engine, &slice, 1, &error), &error);
    }
    for (uint64_t i = 0; i < DRAWS; i += TOGETHER) {
        draw_together(s, prompt, k, first_seed + i, out);
    }
    mlxr_sequence_close(&prompt);
}

/* A verifier that takes the first word drafted without looking in one of `every` draws. */
static void spoil(const setup *s, const draws *good, size_t drafted, double every, draws *out)
{
    *out = *good;
    for (size_t a = 0; a < WORDS; a++) {
        double moved = floor(good->n.first[a] / every);
        out->n.first[a] -= moved;
        out->n.first[drafted] += moved;
    }
    statistic one = against_probabilities(out->n.first, s->expected.first, WORDS);
    print_message("  a verifier wrong once in %d: chi-square %.1f, bound %.1f\n", (int)every, one.chi, rare(one.df));
    assert_true(one.chi > rare(one.df));
}

static void draws_with_drafts_follow_the_models_distribution(void **unused)
{
    (void)unused;
    static setup s;
    static draws plain, drafted, spoilt;
    static const char *const names[] = {"plain", "prompt lookup", "draft model"};
    open_all(&s);
    draw(&s, PLAIN, 1, &plain);
    print_message("plain, %d draws\n", DRAWS);
    judge("tokens against probabilities", against_probabilities(plain.n.first, s.expected.first, WORDS));
    judge("pairs against probabilities", against_probabilities(plain.n.pair, s.expected.pair, WORDS * WORDS));
    for (kind k = NGRAM; k <= MODEL; k++) { /* seeds of its own: the same ones would give the same tokens */
        draw(&s, k, (uint64_t)k * 1000000, &drafted);
        print_message("%s, %d draws: %d drafted, %d accepted\n", names[k], DRAWS, (int)drafted.n_drafted,
                      (int)drafted.n_accepted);
        assert_true(drafted.n_accepted > DRAWS / 20 && drafted.n_drafted - drafted.n_accepted > DRAWS / 20);
        judge("tokens against probabilities", against_probabilities(drafted.n.first, s.expected.first, WORDS));
        judge("pairs against probabilities", against_probabilities(drafted.n.pair, s.expected.pair, WORDS * WORDS));
        judge("tokens against plain ones", against_each_other(drafted.n.first, plain.n.first, WORDS));
        judge("pairs against plain ones", against_each_other(drafted.n.pair, plain.n.pair, WORDS * WORDS));
    }
    spoil(&s, &plain, 0, 100, &spoilt);
    close_all(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(draws_with_drafts_follow_the_models_distribution)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
