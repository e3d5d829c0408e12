/*
 * Logits of the families in tests/oracle/families against transformers (tools/oracle/check_families.py): the prompt at
 * once, token by token, in chunks, among other sequences, behind a restart from pages on disk, and those of the last
 * token alone. MLXR_FAMILY_TABLE names a file to which a line is added for each check; tools/oracle/family_table makes
 * docs/models.md's table of them.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "graph/family.h"
#include "mlxr_adapter.h"
#include "mlxr_rerank.h"
#include "oracle/reference_logits.h"
#include "support/family_model.h"
#include "support/tiny_model.h"

/* Σ(found − expected)² ÷ Σ expected². MLXR promises 1e-6; seen: 2e-11. */
#define NMSE_LIMIT 1e-9
/* Of the one whose weights the CPU multiplies as words (linear_use_words); seen: 3e-8. Without them the first holds. */
#define NMSE_LIMIT_WORDS 1e-7
#define OF_WORDS "bert-blocks"
#define NO_WORDS "-avx512-vnni"

enum { OTHERS = 3, FAMILIES_MAX = 160, TEXTS_MAX = 96, DIMS_MAX = 96, STEP_TOKENS = 512 };

static const char *backends[] = {"cpu-scalar", "cpu"};
static size_t n_backends = sizeof backends / sizeof *backends;
static const char *cpu_features; /* of the engines opened from now on; NULL: all */

typedef struct setup {
    mlxr_engine *engine;
    mlxr_model *model, *plain; /* without its adapter, if it has one: the same */
    const reference *r;
    error_sum sum;
    bool encoder; /* compared are hidden states, whole sequences a step */
} setup;

/* With the adapter in the model's folder, if there is one. */
static void adapt(setup *s, const char *path)
{
    mlxr_error error;
    char folder[600];
    mlxr_adapter *adapter = NULL;
    snprintf(folder, sizeof folder, "%s/adapter", path);
    if (path_find(folder) == PATH_NONE) {
        s->model = mlxr_model_ref(s->plain);
        return;
    }
    assert_ok(mlxr_adapter_load(&adapter, s->plain, folder, &error), &error);
    assert_ok(mlxr_model_adapt(&s->model, s->plain, &(mlxr_adapter_use){adapter, 1}, 1, &error), &error);
    mlxr_adapter_unref(&adapter);
}

static void open_setup(setup *s, const char *backend, const char *path, const char *kv_dir, const reference *r)
{
    mlxr_error error;
    mlxr_engine_options options = {
        .backend = backend, .kv_type = "f32", .kv_bytes = 32u << 20, .kv_dir = kv_dir, .cpu_features = cpu_features};
    options.n_threads = 1 + (kv_dir != NULL); /* one where steps are tiny: two on a busy core wait for each other */
    *s = (setup){.r = r};
    assert_ok(mlxr_engine_open(&s->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&s->plain, s->engine, path, NULL, &error), &error);
    adapt(s, path);
    s->encoder = mlxr_embed_info_get(s->model).encoder;
    uint32_t width = r->kind == REFERENCE_SCORES    ? 1
                     : r->kind == REFERENCE_VECTORS ? mlxr_embed_info_get(s->model).n_dims
                     : s->encoder                   ? mlxr_model_info_get(s->model)->n_embd
                                                    : mlxr_model_info_get(s->model)->n_vocab;
    assert_int_equal(width, r->n_vocab);
}

static double close_setup(setup *s)
{
    mlxr_model_unref(&s->model);
    mlxr_model_unref(&s->plain);
    mlxr_engine_close(&s->engine);
    return s->sum.wrong / s->sum.all;
}

/* A sequence with the first n of the reference's tokens. */
static mlxr_sequence *start_of(const setup *s, mlxr_model *model, uint32_t n)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, s->r->ids, n, &error), &error);
    return sequence;
}

static mlxr_sequence *start(const setup *s, uint32_t n)
{
    return start_of(s, s->model, n);
}

static mlxr_slice slice_of(const setup *s, mlxr_sequence *sequence, uint32_t n)
{
    uint32_t pending = (uint32_t)mlxr_sequence_pending(sequence);
    if (s->encoder) {
        return (mlxr_slice){.sequence = sequence, .n_compute = pending, .flags = MLXR_SLICE_HIDDEN};
    }
    return (mlxr_slice){.sequence = sequence,
                        .n_compute = n < pending ? n : pending,
                        .flags = MLXR_SLICE_LOGITS_ALL | MLXR_SLICE_NO_SAMPLE};
}

/* Adds what a slice computed, which ends where its sequence is now. */
static void add_slice(setup *s, const mlxr_slice *slice)
{
    uint32_t first = (uint32_t)mlxr_sequence_computed(slice->sequence) - slice->n_compute;
    const float *rows = s->encoder ? slice->hidden : slice->logits;
    assert_int_equal(s->encoder ? slice->n_hidden : slice->n_logits, slice->n_compute);
    for (uint32_t i = 0; i < slice->n_compute; i++) {
        add_position(&s->sum, s->r, first + i, rows + (size_t)i * s->r->n_vocab);
    }
}

static void run_chunks(setup *s, mlxr_sequence *sequence, const uint32_t *chunks, size_t n_chunks)
{
    mlxr_error error;
    for (size_t i = 0; mlxr_sequence_pending(sequence) > 0; i++) {
        mlxr_slice slice = slice_of(s, sequence, chunks[i < n_chunks ? i : n_chunks - 1]);
        assert_ok(mlxr_step(s->engine, &slice, 1, &error), &error);
        add_slice(s, &slice);
    }
}

/* The sequence in the midst of others that are shorter, some of whose tokens are not its own. */
static void run_batched(setup *s)
{
    mlxr_error error;
    mlxr_sequence *all[OTHERS + 1];
    for (uint32_t i = 0; i <= OTHERS; i++) {
        all[i] = start_of(s, i == 1 ? s->model : s->plain, i == 1 ? s->r->n_tokens : s->r->n_tokens - 7 * i - 5);
        int32_t other = (int32_t)(11 * i + 3);
        assert_ok(i == 1 ? MLXR_OK : mlxr_sequence_append(all[i], &other, 1, &error), &error);
    }
    for (uint32_t step = 0; mlxr_sequence_pending(all[1]) > 0; step++) {
        mlxr_slice slices[OTHERS + 1];
        size_t n = 0, own = 0;
        for (uint32_t i = 0; i <= OTHERS; i++) {
            if (mlxr_sequence_pending(all[i]) > 0) {
                own = i == 1 ? n : own;
                slices[n++] = slice_of(s, all[i], step < 4 ? 1 : 5 + 9 * (i + step) % 17);
            }
        }
        assert_ok(mlxr_step(s->engine, slices, n, &error), &error);
        add_slice(s, &slices[own]);
    }
    for (uint32_t i = 0; i <= OTHERS; i++) {
        mlxr_sequence_close(&all[i]);
    }
}

static double check_chunks(const char *backend, const char *path, const reference *r, const uint32_t *chunks, size_t n)
{
    setup s;
    open_setup(&s, backend, path, NULL, r);
    mlxr_sequence *sequence = start(&s, r->n_tokens);
    run_chunks(&s, sequence, chunks, n);
    mlxr_sequence_close(&sequence);
    return close_setup(&s);
}

static double check_at_once(const char *backend, const char *path, const reference *r)
{
    return check_chunks(backend, path, r, (const uint32_t[]){1 << 16}, 1);
}

static double check_token_by_token(const char *backend, const char *path, const reference *r)
{
    return check_chunks(backend, path, r, (const uint32_t[]){1}, 1);
}

static double check_in_chunks(const char *backend, const char *path, const reference *r)
{
    return check_chunks(backend, path, r, (const uint32_t[]){1, 17, 32, 3, 11}, 5);
}

static double check_batched(const char *backend, const char *path, const reference *r)
{
    setup s;
    open_setup(&s, backend, path, NULL, r);
    run_batched(&s);
    return close_setup(&s);
}

/* Two thirds are computed and end on disk; another engine goes on from there. */
static double check_reloaded(const char *backend, const char *path, const reference *r)
{
    setup s;
    char kv_dir[512];
    static unsigned n;
    snprintf(kv_dir, sizeof kv_dir, "%s/kv%u", test_temp_dir(), n++);
    open_setup(&s, backend, path, kv_dir, r);
    mlxr_sequence *sequence = start(&s, r->n_tokens * 2 / 3);
    run_chunks(&s, sequence, (const uint32_t[]){1 << 16}, 1);
    mlxr_sequence_close(&sequence);
    close_setup(&s);
    open_setup(&s, backend, path, kv_dir, r);
    sequence = start(&s, r->n_tokens);
    assert_true(mlxr_sequence_cached(sequence) > 0);
    assert_true(mlxr_kv_stats_get(s.engine).disk_hits > 0);
    run_chunks(&s, sequence, (const uint32_t[]){1 << 16}, 1);
    mlxr_sequence_close(&sequence);
    return close_setup(&s);
}

/* What generation asks for: the logits behind the last token, of a prompt that is one step or two. Nobody wants the
 * other rows, and a backend may drop them as soon as no operation needs them. */
static double check_last_row(const char *backend, const char *path, const reference *r)
{
    setup s;
    mlxr_error error;
    open_setup(&s, backend, path, NULL, r);
    for (uint32_t first = 0; first < r->n_tokens; first += 23) {
        mlxr_sequence *sequence = start(&s, r->n_tokens);
        mlxr_sequence_release(sequence); /* of the prompt before it */
        for (uint32_t pending; (pending = (uint32_t)mlxr_sequence_pending(sequence)) > 0;) {
            bool all = pending < r->n_tokens || first == 0;
            mlxr_slice slice = {
                .sequence = sequence, .n_compute = all ? pending : first, .flags = MLXR_SLICE_NO_SAMPLE};
            assert_ok(mlxr_step(s.engine, &slice, 1, &error), &error);
            if (all) {
                assert_int_equal(slice.n_logits, 1);
                add_position(&s.sum, r, r->n_tokens - 1, slice.logits);
            }
        }
        mlxr_sequence_close(&sequence);
    }
    return close_setup(&s);
}

/* Scores or vectors of texts that are the reference's first 1, 2, … tokens, n_together in a call. */
static double check_texts(const char *backend, const char *path, const reference *r, size_t n_together)
{
    setup s;
    mlxr_error error;
    mlxr_embed_input inputs[TEXTS_MAX];
    static float found[TEXTS_MAX * DIMS_MAX];
    open_setup(&s, backend, path, NULL, r);
    assert_true(r->n_tokens <= TEXTS_MAX && r->n_vocab <= DIMS_MAX);
    for (uint32_t i = 0; i < r->n_tokens; i++) {
        inputs[i] = (mlxr_embed_input){.ids = r->ids, .n_ids = i + 1};
    }
    for (size_t first = 0; first < r->n_tokens; first += n_together) {
        size_t n = n_together < r->n_tokens - first ? n_together : r->n_tokens - first;
        float *out = found + first * r->n_vocab;
        assert_ok(r->kind == REFERENCE_SCORES ? mlxr_rerank(s.engine, s.model, inputs + first, n, out, &error)
                                              : mlxr_embed(s.engine, s.model, inputs + first, n, 0, out, &error),
                  &error);
    }
    for (uint32_t i = 0; i < r->n_tokens; i++) {
        add_position(&s.sum, r, i, found + (size_t)i * r->n_vocab);
    }
    return close_setup(&s);
}

static double check_texts_alone(const char *backend, const char *path, const reference *r)
{
    return check_texts(backend, path, r, 1);
}

static double check_texts_together(const char *backend, const char *path, const reference *r)
{
    return check_texts(backend, path, r, TEXTS_MAX);
}

typedef double check_run(const char *backend, const char *path, const reference *r);

static const struct {
    const char *name;
    check_run *run;
    bool encoders; /* is there such a thing with them? */
} checks[] = {
    {"at once", check_at_once, true},      {"token by token", check_token_by_token, false},
    {"in chunks", check_in_chunks, false}, {"batched", check_batched, true},
    {"reloaded", check_reloaded, false},   {"last row", check_last_row, false},
};

/* Of an encoder the reference has hidden states, which are narrower than any vocabulary here. */
static bool is_encoder(const reference *r)
{
    return r->n_vocab < TINY_N_VOCAB;
}

/* NULL: there is no such thing. */
static check_run *check_of(size_t i, const reference *r)
{
    bool together = checks[i].run != check_batched || r->n_tokens * (OTHERS + 1) <= STEP_TOKENS;
    if (is_encoder(r) && (!checks[i].encoders || !together)) {
        return NULL;
    }
    return r->kind == REFERENCE_LOGITS      ? checks[i].run
           : checks[i].run == check_at_once ? check_texts_alone
                                            : check_texts_together;
}

static void note(const char *model, const char *backend, const char *check, double nmse)
{
    const char *path = getenv("MLXR_FAMILY_TABLE"), *head = strstr(model, "-mtp"); /* the family once more */
    FILE *f = path && !head ? fopen(path, "a") : NULL;
    if (f) {
        fprintf(f, "%s\t%s\t%s\t%.2e\n", model, backend, check, nmse);
        fclose(f);
    }
}

static void run_checks(const char *name, const char *path, const reference *r, const char *backend, double limit)
{
    double worst = 0;
    printf("%-20s %-10s", name, backend);
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        check_run *run = check_of(i, r);
        if (!run) {
            continue;
        }
        double nmse = run(backend, path, r);
        printf("  %s %.1e", checks[i].name, nmse);
        if (!cpu_features) {
            note(name, backend, checks[i].name, nmse);
        }
        worst = nmse > worst || isnan(nmse) ? nmse : worst;
    }
    printf("\n");
    if (!(worst < limit)) {
        fail_msg("%s on %s%s: NMSE %.2e, limit %.0e", name, backend, cpu_features ? " without words" : "", worst,
                 limit);
    }
}

static void logits_equal_the_reference(void **state)
{
    const char *name = *state;
    char path[512];
    reference r;
    reference_open(&r, "families", name);
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    family_model_write(name, path);
    for (size_t b = 0; b < n_backends; b++) {
        bool words = strcmp(backends[b], "cpu") == 0 && strcmp(name, OF_WORDS) == 0;
        run_checks(name, path, &r, backends[b], words ? NMSE_LIMIT_WORDS : NMSE_LIMIT);
        if (words) {
            cpu_features = NO_WORDS;
            run_checks(name, path, &r, backends[b], NMSE_LIMIT);
            cpu_features = NULL;
        }
    }
    mapping_close(&r.file);
}

/* A row of the table that no reference was held against would be a promise without a proof. */
static void every_family_of_the_table_has_a_reference(void **state)
{
    (void)state;
    static char names[FAMILIES_MAX][FAMILY_NAME_MAX];
    size_t n_names = family_model_list(names, FAMILIES_MAX), n_families = 0;
    mlxr_error error;
    mlxr_engine *engine = NULL;
    static char proved[FAMILIES_MAX][FAMILY_NAME_MAX];
    assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.kv_bytes = 1 << 20, .n_threads = 1}, &error), &error);
    for (size_t i = 0; i < n_names; i++) {
        char path[512];
        mlxr_model *model = NULL;
        snprintf(path, sizeof path, "%s/%s", test_temp_dir(), names[i]);
        family_model_write(names[i], path);
        assert_ok(mlxr_model_read(&model, engine, path, NULL, &error), &error);
        snprintf(proved[i], sizeof proved[i], "%s", mlxr_model_info_get(model)->family);
        mlxr_model_unref(&model);
    }
    mlxr_engine_close(&engine);
    for (; family_at(n_families); n_families++) {
        const char *name = family_at(n_families)->name;
        bool found = false;
        for (size_t i = 0; i < n_names; i++) {
            found = found || strcmp(proved[i], name) == 0;
        }
        for (size_t i = 0; tiny_model_at(i); i++) { /* test_logits.c's */
            found = found || strcmp(tiny_model_at(i)->arch, name) == 0;
        }
        if (!found) {
            fail_msg("the family %s has no reference in tests/oracle", name);
        }
    }
    printf("%zu families, all with a reference\n", n_families);
}

/* argv[1]: only this family. */
int main(int argc, char **argv)
{
    static char names[FAMILIES_MAX][FAMILY_NAME_MAX], titles[FAMILIES_MAX][FAMILY_NAME_MAX + 32];
    static struct CMUnitTest tests[FAMILIES_MAX + 1];
    size_t n_names = family_model_list(names, FAMILIES_MAX), n = 0;
    if (getenv("MLXR_TEST_BACKEND")) {
        backends[0] = getenv("MLXR_TEST_BACKEND");
        n_backends = 1;
    }
    for (size_t i = 0; i < n_names && i < FAMILIES_MAX; i++) {
        if (argc > 1 && strcmp(argv[1], names[i]) != 0) {
            continue;
        }
        snprintf(titles[n], sizeof titles[n], "%s: logits_equal_the_reference", names[i]);
        tests[n] = (struct CMUnitTest){
            .name = titles[n], .test_func = logits_equal_the_reference, .initial_state = names[i]};
        n++;
    }
    if (argc == 1) {
        tests[n++] = (struct CMUnitTest){.name = "every_family_of_the_table_has_a_reference",
                                         .test_func = every_family_of_the_table_has_a_reference};
    }
    if (n == 0) {
        printf("no family is called so\n");
        return 2;
    }
    return _cmocka_run_group_tests("families", tests, n, NULL, NULL);
}
