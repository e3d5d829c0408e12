/*
 * Logits of the tiny models against the reference (tests/oracle/logits, made by tools/oracle/check_logits.py): every
 * family, both file formats, both CPU backends, the prompt at once, token by token and in chunks.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>
#include <sys/stat.h>

#include "base/mapping.h"
#include "oracle/reference_logits.h"
#include "quant/codec.h"
#include "support/test.h"
#include "support/tiny_model.h"

/* NMSE: Σ(found − expected)² ÷ Σ expected², over every position and the fifth of the vocabulary the file keeps. 1e-6 is
 * what MLXR promises; these models need a hundredth of it to tell GELU by tanh from GELU by erf. Seen: 9e-12. */
#define NMSE_F32 1e-9
/* What a cache of F16 may cost: it rounds each key and value by up to 2⁻¹¹ of it, which these models, made to attend
 * sharply, turn into up to 5e-6. */
#define NMSE_F16_CACHE 1e-5
/* BF16 rounds by up to 2⁻⁸: 8 times as much, 64 times in squares. */
#define NMSE_BF16_CACHE 5e-4
/* Q8_0 takes 2.9e-5 of the squares of Gaussian elements, as turned ones nearly are; BF16 2.3e-6: 13 times as much. */
#define NMSE_Q8_0_CACHE (13 * NMSE_BF16_CACHE)
/* Q4_0 takes 6.7e-3 of them, 230 times what Q8_0 does, which shows 2e-3 here. So sharp a model is no use at that: this
 * tells little more than that layout and scales are right (no relation at all gives 2). */
#define NMSE_Q4_0_CACHE 0.5
/* Activations may be rounded to 8 bits in blocks of 32: 2.5e-5 in squares at each matrix product, which these models
 * turn into up to 3e-3. A wrong layout gives about 1. */
#define NMSE_QUANTISED 1e-2
/* A backend that keeps activations as floats owes the same logits as with the decoded weights. Seen: 7.3e-12. */
#define NMSE_DECODED 1e-9

/* Computes the prompt in the chunks given (the last one repeats) and returns the NMSE. */
static double run_chunks(mlxr_engine *engine, mlxr_model *model, const reference *r, const uint32_t *chunks,
                         size_t n_chunks)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, r->ids, r->n_tokens, &error), &error);
    assert_int_equal(mlxr_sequence_pending(sequence), r->n_tokens);
    error_sum sum = {0};
    for (uint32_t done = 0, chunk = 0; done < r->n_tokens; chunk++) {
        uint32_t n = chunks[chunk < n_chunks ? chunk : n_chunks - 1];
        n = n < r->n_tokens - done ? n : r->n_tokens - done;
        mlxr_slice slice = {.sequence = sequence, .n_compute = n};
        slice.flags = MLXR_SLICE_LOGITS_ALL | MLXR_SLICE_NO_SAMPLE;
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        assert_int_equal(slice.n_logits, n);
        for (uint32_t i = 0; i < n; i++) {
            add_position(&sum, r, done + i, slice.logits + (size_t)i * r->n_vocab);
        }
        done += n;
    }
    mlxr_sequence_close(&sequence);
    return sum.wrong / sum.all;
}

/* One thread where the steps are tiny: two that share a busy core wait for each other more than they compute. */
static const struct {
    const char *name;
    uint32_t n_threads;
    uint32_t chunks[8];
    size_t n;
} ways[] = {
    {"at once", 2, {1 << 16}, 1},
    {"token by token", 1, {1}, 1},
    {"in chunks", 2, {1, 17, 32, 3, 64, 7}, 6},
};

/* MLXR_TEST_BACKEND names another one, which then is the only one. */
static const char *backends[] = {"cpu-scalar", "cpu"};
static size_t n_backends = sizeof backends / sizeof *backends;
static double limit_quantised = NMSE_QUANTISED;

/* One way on one backend with an engine of its own: another would find the prompt in the cache. */
static double run_way(const char *backend, const char *kv_type, const char *path, const reference *r, size_t way)
{
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_engine_options options = {.backend = backend, .kv_type = kv_type, .kv_bytes = 32u << 20};
    options.n_threads = ways[way].n_threads;
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
    assert_int_equal(mlxr_model_info_get(model)->n_vocab, r->n_vocab);
    double nmse = run_chunks(engine, model, r, ways[way].chunks, ways[way].n);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return nmse;
}

/* The ways in the mask on one backend; prints the errors and returns the largest. */
static double worst_of_ways(const char *backend, const char *kv_type, const char *path, const char *what,
                            const reference *r, unsigned way_mask)
{
    double worst = 0;
    printf("%-28s %-10s %-4s", what, backend, kv_type);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (way_mask & 1u << i) {
            double nmse = run_way(backend, kv_type, path, r, i);
            printf("  %s %.1e", ways[i].name, nmse);
            worst = nmse > worst || isnan(nmse) ? nmse : worst;
        }
    }
    printf("\n");
    return worst;
}

/* One model in one format; `limit` is the largest NMSE allowed. */
static void check_model(const tiny_model *m, bool safetensors, const char *kv_type, unsigned way_mask, double limit)
{
    reference r;
    char path[512], what[64];
    reference_open(&r, "logits", m->name);
    snprintf(path, sizeof path, "%s/%s%s", test_temp_dir(), m->name, safetensors ? "" : ".gguf");
    snprintf(what, sizeof what, "%s%s", m->name, safetensors ? " safetensors" : " gguf");
    if (safetensors) {
        tiny_model_write_safetensors(m, &(tiny_options){.shards = 2}, path);
    } else {
        tiny_model_write_gguf(m, NULL, path);
    }
    for (size_t i = 0; i < n_backends; i++) {
        double worst = worst_of_ways(backends[i], kv_type, path, what, &r, way_mask);
        if (!(worst < limit)) {
            fail_msg("%s on %s with a %s cache: NMSE %.2e, limit %.0e", what, backends[i], kv_type, worst, limit);
        }
    }
    mapping_close(&r.file);
}

/* Heads that are no whole blocks are refused when the model is loaded: by name, with the numbers, with what to do. */
static void check_refusal(const tiny_model *m, const char *kv_type, const char *backend)
{
    mlxr_error error;
    char path[512];
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_engine_options options = {.backend = backend, .kv_type = kv_type, .n_threads = 1, .kv_bytes = 32u << 20};
    snprintf(path, sizeof path, "%s/%s.gguf", test_temp_dir(), m->name);
    tiny_model_write_gguf(m, NULL, path);
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    assert_int_equal(mlxr_model_load(&model, engine, path, NULL, &error), MLXR_UNSUPPORTED);
    assert_null(model);
    char text[64];
    snprintf(text, sizeof text, "heads have %u", m->head_dim);
    const char *const parts[] = {path, kv_type, "blocks of 32", text, "use f16, bf16 or f32"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!strstr(error.text, parts[i])) {
            fail_msg("'%s' is not in: %s", parts[i], error.text);
        }
    }
    printf("%-28s %-10s %-4s  refused\n", m->name, backend, kv_type);
    mlxr_engine_close(&engine);
}

static void check_blocks(const tiny_model *m, const char *kv_type, double limit)
{
    if (m->head_dim % 32 == 0) {
        check_model(m, false, kv_type, 4, limit);
        return;
    }
    for (size_t i = 0; i < n_backends; i++) {
        check_refusal(m, kv_type, backends[i]);
    }
}

static void gguf_logits_equal_the_reference(void **state)
{
    check_model(*state, false, "f32", 7, NMSE_F32);
}

static void safetensors_logits_equal_the_reference(void **state)
{
    check_model(*state, true, "f32", 7, NMSE_F32);
}

static void f16_cache_logits_are_close_to_the_reference(void **state)
{
    check_model(*state, false, "f16", 4, NMSE_F16_CACHE);
}

static void bf16_cache_logits_are_near_the_reference(void **state)
{
    check_model(*state, false, "bf16", 4, NMSE_BF16_CACHE);
}

static void i16_cache_logits_are_close_to_the_reference(void **state)
{
    if (strncmp(backends[0], "cpu", 3) != 0) { /* others refuse it: tests/mlx */
        skip();
    }
    check_blocks(*state, "i16", NMSE_F16_CACHE);
}

static void q8_0_cache_logits_are_near_the_reference(void **state)
{
    check_blocks(*state, "q8_0", NMSE_Q8_0_CACHE);
}

static void q4_0_cache_logits_are_near_the_reference(void **state)
{
    check_blocks(*state, "q4_0", NMSE_Q4_0_CACHE);
}

/* Logits [n][TINY_N_VOCAB] of a file, n_step at a time, malloc'ed. */
static float *file_logits(const char *backend, const char *path, const int32_t *ids, uint32_t n, uint32_t n_step)
{
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_sequence *sequence = NULL;
    mlxr_engine_options options = {.backend = backend, .kv_type = "f32", .n_threads = 2, .kv_bytes = 32u << 20};
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, n, &error), &error);
    float *logits = malloc((size_t)n * TINY_N_VOCAB * sizeof *logits);
    assert_non_null(logits);
    for (uint32_t done = 0; done < n; done += n_step) {
        mlxr_slice slice = {.sequence = sequence, .n_compute = n_step};
        slice.flags = MLXR_SLICE_LOGITS_ALL | MLXR_SLICE_NO_SAMPLE;
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        memcpy(logits + (size_t)done * TINY_N_VOCAB, slice.logits, (size_t)n_step * TINY_N_VOCAB * sizeof *logits);
    }
    mlxr_sequence_close(&sequence);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return logits;
}

static double nmse(const float *found, const float *expected, size_t n)
{
    double wrong = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = (double)found[i] - (double)expected[i];
        wrong += difference * difference;
        all += (double)expected[i] * (double)expected[i];
    }
    return wrong / all;
}

/* The weights of each type against the same values as F32: what is left is the rounding of activations. Products of
 * many rows and of few may be computed in different ways. */
static void quantised_logits_are_near_those_of_the_decoded_weights(void **state)
{
    enum { N = 48 };
    static const uint32_t steps[] = {N, 4};
    const tiny_model *m = *state;
    char path[512];
    int32_t ids[N];
    tiny_model_tokens(m, ids, N);
    snprintf(path, sizeof path, "%s/%s-weights.gguf", test_temp_dir(), m->name);
    for (uint32_t type = 0; type < 64; type++) {
        if (!dtype_find(type) || !codec_encodes((dtype)type) || m->n_embd % dtype_find(type)->block_size != 0) {
            continue;
        }
        tiny_model_write_gguf(m, &(tiny_options){.type = (dtype)type, .decoded = true}, path);
        float *expected = file_logits("cpu-scalar", path, ids, N, N);
        tiny_model_write_gguf(m, &(tiny_options){.type = (dtype)type}, path);
        printf("%-16s %-5s", m->name, dtype_name((dtype)type));
        double worst = 0;
        for (size_t i = 0; i < 2 * n_backends; i++) {
            float *found = file_logits(backends[i / 2], path, ids, N, steps[i % 2]);
            double error = nmse(found, expected, (size_t)N * TINY_N_VOCAB);
            printf("  %s %.1e", i % 2 ? "by fours" : backends[i / 2], error);
            worst = error > worst || isnan(error) ? error : worst;
            free(found);
        }
        printf("\n");
        free(expected);
        if (!(worst < limit_quantised)) {
            fail_msg("%s with %s weights: NMSE %.2e, limit %.0e", m->name, dtype_name((dtype)type), worst,
                     limit_quantised);
        }
    }
}

static void the_reference_prompt_is_the_generators(void **state)
{
    reference r;
    const tiny_model *m = *state;
    reference_open(&r, "logits", m->name);
    int32_t *ids = malloc(r.n_tokens * sizeof *ids);
    assert_non_null(ids);
    tiny_model_tokens(m, ids, r.n_tokens);
    assert_memory_equal(ids, r.ids, r.n_tokens * sizeof *ids);
    assert_true(r.n_tokens > m->window && r.n_tokens > 2 * m->n_ctx_orig);
    free(ids);
    mapping_close(&r.file);
}

/* argv[1]: only the kinds of test whose names contain it; argv[2]: only this model. */
int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        CMUnitTestFunction function;
    } kinds[] = {
        {"the_reference_prompt_is_the_generators", the_reference_prompt_is_the_generators},
        {"gguf_logits_equal_the_reference", gguf_logits_equal_the_reference},
        {"safetensors_logits_equal_the_reference", safetensors_logits_equal_the_reference},
        {"f16_cache_logits_are_close_to_the_reference", f16_cache_logits_are_close_to_the_reference},
        {"bf16_cache_logits_are_near_the_reference", bf16_cache_logits_are_near_the_reference},
        {"i16_cache_logits_are_close_to_the_reference", i16_cache_logits_are_close_to_the_reference},
        {"q8_0_cache_logits_are_near_the_reference", q8_0_cache_logits_are_near_the_reference},
        {"q4_0_cache_logits_are_near_the_reference", q4_0_cache_logits_are_near_the_reference},
        {"quantised_logits_are_near_those_of_the_decoded_weights",
         quantised_logits_are_near_those_of_the_decoded_weights},
    };
    if (getenv("MLXR_TEST_BACKEND")) {
        backends[0] = getenv("MLXR_TEST_BACKEND");
        n_backends = 1;
        limit_quantised = NMSE_DECODED;
    }
    enum { N_KINDS = sizeof kinds / sizeof *kinds, TESTS_MAX = 128 };
    static char names[TESTS_MAX][96];
    static struct CMUnitTest tests[TESTS_MAX];
    size_t n = 0;
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        bool wanted = argc < 2 || strstr(kinds[kind].name, argv[1]);
        for (size_t i = 0; wanted && tiny_model_at(i) && n < TESTS_MAX; i++) {
            if (argc > 2 && strcmp(tiny_model_at(i)->name, argv[2]) != 0) {
                continue;
            }
            snprintf(names[n], sizeof names[n], "%s: %s", tiny_model_at(i)->name, kinds[kind].name);
            tests[n] = (struct CMUnitTest){.name = names[n],
                                           .test_func = kinds[kind].function,
                                           .initial_state = (void *)(uintptr_t)tiny_model_at(i)};
            n++;
        }
    }
    if (n == 0) {
        printf("no test is called so\n");
        return 2;
    }
    return _cmocka_run_group_tests("logits", tests, n, NULL, NULL);
}
