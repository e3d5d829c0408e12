/*
 * Perplexity and greedy tokens of the real models on tests/data/text against the reference (tests/oracle/reference,
 * made by tools/oracle/check_perplexity.py). A share of the windows; all of them with MLXR_SOAK set. MLXR_TEST_CPU
 * leaves instruction sets out, as "-avx512" does. Owner: the test program. Lifetime: the process.
 */
#include <math.h>
#include <time.h>
#include <unistd.h>

#include "base/mapping.h"
#include "support/test.h"

#define TEXT_PATH "tests/data/text/languages-and-code.text"
/* |perplexity ÷ reference − 1| */
#define PPL_TOLERANCE 0.005
/* Where the reference's two largest logits are further apart than this, the greedy token must be the same. */
#define CLEAR_GAP_THOUSANDTHS 300
#define CHUNK 64

typedef struct reference {
    uint32_t n_ctx, n_tokens, n_windows;
    int32_t bos;           /* −1: none */
    const uint8_t *nll;    /* f64 [n_windows], unaligned */
    const uint8_t *ids;    /* i32 [n_tokens] */
    const uint8_t *greedy; /* u32 [n_predicted]: id, and the gap in thousandths from bit 18 on */
    size_t n_predicted;
    mapping file;
} reference;

static uint32_t u32_at(const uint8_t *data, size_t index)
{
    uint32_t value;
    memcpy(&value, data + 4 * index, 4);
    return value;
}

static void reference_open(reference *r, const char *name)
{
    mlxr_error error;
    char path[256];
    snprintf(path, sizeof path, "tests/oracle/reference/%s.bin", name);
    assert_ok(mapping_open(&r->file, path, &error), &error);
    const uint8_t *data = r->file.data;
    assert_true(r->file.n_bytes > 24);
    assert_memory_equal(data, "MLXRPPL1", 8);
    r->n_ctx = u32_at(data, 2);
    r->n_tokens = u32_at(data, 3);
    r->n_windows = u32_at(data, 4);
    r->bos = (int32_t)u32_at(data, 5) - 1;
    r->nll = data + 24;
    r->ids = r->nll + 8 * (size_t)r->n_windows;
    r->greedy = r->ids + 4 * (size_t)r->n_tokens;
    r->n_predicted = (r->file.n_bytes - (size_t)(r->greedy - data)) / 4;
}

typedef struct totals {
    double nll, nll_expected;
    size_t n, n_clear, n_same_clear, n_same;
} totals;

/* Adds what the logits [n_vocab] at one position say of the token that follows. */
static void add_position(totals *t, const float *logits, uint32_t n_vocab, int32_t next, uint32_t expected)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n_vocab; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        sum += (double)expf(logits[i] - logits[best]);
    }
    t->nll += log(sum) + (double)logits[best] - (double)logits[next];
    uint32_t expected_id = expected & 0x3ffff, gap = expected >> 18;
    bool clear = gap > CLEAR_GAP_THOUSANDTHS, same = best == expected_id;
    t->n++;
    t->n_same += same;
    t->n_clear += clear;
    t->n_same_clear += clear && same;
    if (clear && !same && t->n_clear - t->n_same_clear <= 10) {
        printf("  predicted %zu: greedy id %u (%.3f above id %u), the reference's %u is %.3f ahead\n", t->n, best,
               (double)logits[best] - (double)logits[expected_id], expected_id, expected_id, gap / 1000.0);
    }
}

/* `window`: n ids to compute, with BOS; `at`: of its first predicted position in r->greedy. */
static void run_window(totals *t, mlxr_engine *engine, mlxr_model *model, const int32_t *window, uint32_t n,
                       const reference *r, size_t at)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    uint32_t n_vocab = mlxr_model_info_get(model)->n_vocab;
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, window, n, &error), &error);
    assert_int_equal(mlxr_sequence_pending(sequence), n);
    for (uint32_t done = 0; done < n;) {
        mlxr_slice slice = {.sequence = sequence, .n_compute = n - done < CHUNK ? n - done : CHUNK};
        slice.flags = MLXR_SLICE_LOGITS_ALL | MLXR_SLICE_NO_SAMPLE;
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        assert_int_equal(slice.n_logits, slice.n_compute);
        for (uint32_t i = 0; i < slice.n_logits && done + i + 1 < n; i++) {
            add_position(t, slice.logits + (size_t)i * n_vocab, n_vocab, window[done + i + 1],
                         u32_at(r->greedy, at + done + i));
        }
        done += slice.n_compute;
    }
    mlxr_sequence_close(&sequence);
}

/* Every step-th window of the text; returns the number of windows run. */
static uint32_t run_windows(totals *t, mlxr_engine *engine, mlxr_model *model, const reference *r, uint32_t step)
{
    uint32_t n_bos = r->bos >= 0, n_run = 0;
    int32_t *window = malloc((r->n_ctx + 1) * sizeof *window);
    assert_non_null(window);
    size_t at = 0;
    for (uint32_t w = 0; w < r->n_windows; w++) {
        size_t first = (size_t)w * r->n_ctx;
        uint32_t n = (uint32_t)(r->n_tokens - first < r->n_ctx ? r->n_tokens - first : r->n_ctx);
        if (w % step == 0) {
            window[0] = r->bos;
            for (uint32_t i = 0; i < n; i++) {
                window[n_bos + i] = (int32_t)u32_at(r->ids, first + i);
            }
            run_window(t, engine, model, window, n_bos + n, r, at);
            double nll;
            memcpy(&nll, r->nll + 8 * (size_t)w, 8);
            t->nll_expected += nll;
            n_run++;
        }
        at += n_bos + n - 1;
    }
    assert_int_equal(at, r->n_predicted);
    free(window);
    return n_run;
}

static const char *model_path(const char *name)
{
    static char path[4096];
    const char *folder = getenv("MLXR_MODELS"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (folder && *folder) {
        snprintf(path, sizeof path, "%s/%s.gguf", folder, name);
    } else if (data && *data) {
        snprintf(path, sizeof path, "%s/mlxr/models/%s.gguf", data, name);
    } else {
        snprintf(path, sizeof path, "%s/.local/share/mlxr/models/%s.gguf", home ? home : "", name);
    }
    return path;
}

typedef struct subject {
    const char *name;
    mlxr_engine *engine;
    mlxr_model *model;
    reference r;
} subject;

static void subject_open(subject *s, const char *name)
{
    mlxr_error error;
    const char *path = model_path(name);
    if (access(path, R_OK) != 0) {
        printf("%s is not there; make models fetches it\n", path);
        skip();
    }
    *s = (subject){.name = name};
    reference_open(&s->r, name);
    mlxr_engine_options options = {.n_threads = 2, .kv_bytes = 64u << 20};
    options.cpu_features = getenv("MLXR_TEST_CPU");
    assert_ok(mlxr_engine_open(&s->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&s->model, s->engine, path, NULL, &error), &error);
}

static void subject_close(subject *s)
{
    mlxr_model_unref(&s->model);
    mlxr_engine_close(&s->engine);
    mapping_close(&s->r.file);
}

static void the_text_has_the_references_ids(void **state)
{
    subject s;
    subject_open(&s, *state);
    mlxr_error error;
    mapping text;
    assert_ok(mapping_open(&text, TEXT_PATH, &error), &error);
    int32_t *ids = malloc(s.r.n_tokens * sizeof *ids);
    assert_non_null(ids);
    size_t n_ids = 0;
    assert_ok(mlxr_tokenize(s.model, (const char *)text.data, text.n_bytes, 0, ids, s.r.n_tokens, &n_ids, &error),
              &error);
    assert_int_equal(n_ids, s.r.n_tokens);
    assert_memory_equal(ids, s.r.ids, n_ids * sizeof *ids);
    assert_int_equal(mlxr_model_info_get(s.model)->adds_bos, s.r.bos >= 0);
    free(ids);
    mapping_close(&text);
    subject_close(&s);
}

static void perplexity_and_greedy_tokens_equal_the_reference(void **state)
{
    subject s;
    subject_open(&s, *state);
    struct timespec begin, end;
    totals t = {0};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    uint32_t n_run = run_windows(&t, s.engine, s.model, &s.r, getenv("MLXR_SOAK") ? 1 : 8);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    double found = exp(t.nll / (double)t.n), expected = exp(t.nll_expected / (double)t.n);
    printf(
        "%s: %u of %u windows, %zu predicted: perplexity %.5f, reference %.5f (%+.3f %%); greedy ids equal at %zu of "
        "%zu clear positions, %zu of all; %.1f s\n",
        s.name, n_run, s.r.n_windows, t.n, found, expected, 100 * (found / expected - 1), t.n_same_clear, t.n_clear,
        t.n_same, seconds);
    subject_close(&s);
    assert_true(fabs(found / expected - 1) <= PPL_TOLERANCE);
    assert_int_equal(t.n_same_clear, t.n_clear);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_perplexity MODEL\n");
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(the_text_has_the_references_ids, argv[1]),
        cmocka_unit_test_prestate(perplexity_and_greedy_tokens_equal_the_reference, argv[1]),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
