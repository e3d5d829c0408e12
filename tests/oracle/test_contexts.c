/*
 * Contexts beyond the trained one, tests/oracle/contexts, against transformers with the same scaling in its
 * configuration (tools/oracle/check_contexts.py): the prompt at once, in chunks, and behind a restart from pages on
 * disk, which pages of another scaling are not taken for. Owner: the test program. Lifetime: the process.
 */
#include <dirent.h>
#include <math.h>

#include "mlxr_embed.h"
#include "oracle/reference_logits.h"
#include "support/family_model.h"
#include "support/tiny_model.h"

/* As of the families (test_families.c); MLXR promises 1e-6. */
#define NMSE_LIMIT 1e-9
#define FOLDER "tests/oracle/contexts"

enum { CASES_MAX = 64 };

static const char *backends[] = {"cpu-scalar", "cpu"};
static size_t n_backends = sizeof backends / sizeof *backends;

typedef struct stretched {
    char family[FAMILY_NAME_MAX], path[512], kv_dir[512];
    mlxr_model_options options;
    reference r;
} stretched;

typedef struct setup {
    mlxr_engine *engine;
    mlxr_model *model;
} setup;

static void read_case(stretched *c, const char *name)
{
    char path[256], scaling[16];
    mlxr_rope_options *rope = &c->options.rope;
    *c = (stretched){.options = {.n_ctx_max = 0}};
    snprintf(path, sizeof path, FOLDER "/%s.options", name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    int n = fscanf(f, "%63s %15s %g %g %u %u %g %g %g", c->family, scaling, &rope->scale, &rope->base,
                   &rope->n_original, &c->options.n_ctx_max, &rope->yarn_beta_fast, &rope->yarn_beta_slow,
                   &rope->yarn_attn_factor);
    assert_true(n == 6 || n == 9);
    fclose(f);
    assert_true(strcmp(scaling, "file") == 0 || mlxr_rope_scaling_find(scaling, &rope->scaling));
    reference_open(&c->r, "contexts", name);
    snprintf(c->path, sizeof c->path, "%s/%s", test_temp_dir(), name);
    family_model_write(c->family, c->path);
}

static void open_setup(setup *s, const stretched *c, const char *backend, bool with_options, bool with_disk)
{
    mlxr_error error;
    mlxr_engine_options options = {.backend = backend,
                                   .kv_type = "f32",
                                   .kv_bytes = 32u << 20,
                                   .kv_dir = with_disk ? c->kv_dir : NULL,
                                   .n_threads = 2};
    *s = (setup){.engine = NULL};
    assert_ok(mlxr_engine_open(&s->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&s->model, s->engine, c->path, with_options ? &c->options : NULL, &error), &error);
}

static void close_setup(setup *s)
{
    mlxr_model_unref(&s->model);
    mlxr_engine_close(&s->engine);
}

static mlxr_sequence *start(const setup *s, const stretched *c, uint32_t n)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    assert_ok(mlxr_sequence_open(&sequence, s->model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, c->r.ids, n, &error), &error);
    return sequence;
}

/* Computes what is pending, `chunk` tokens a step, and adds its errors. */
static void compute(const setup *s, const stretched *c, mlxr_sequence *sequence, uint32_t chunk, error_sum *sum)
{
    mlxr_error error;
    bool encoder = mlxr_embed_info_get(s->model).encoder;
    for (uint32_t pending; (pending = (uint32_t)mlxr_sequence_pending(sequence)) > 0;) {
        mlxr_slice slice = {.sequence = sequence,
                            .n_compute = !encoder && chunk < pending ? chunk : pending,
                            .flags = encoder ? MLXR_SLICE_HIDDEN : MLXR_SLICE_LOGITS_ALL | MLXR_SLICE_NO_SAMPLE};
        assert_ok(mlxr_step(s->engine, &slice, 1, &error), &error);
        uint32_t first = (uint32_t)mlxr_sequence_computed(sequence) - slice.n_compute;
        const float *rows = encoder ? slice.hidden : slice.logits;
        for (uint32_t i = 0; i < slice.n_compute; i++) {
            add_position(sum, &c->r, first + i, rows + (size_t)i * c->r.n_vocab);
        }
    }
}

static double check_chunks(const stretched *c, const char *backend, uint32_t chunk)
{
    setup s;
    error_sum sum = {0};
    open_setup(&s, c, backend, true, false);
    mlxr_sequence *sequence = start(&s, c, c->r.n_tokens);
    compute(&s, c, sequence, chunk, &sum);
    mlxr_sequence_close(&sequence);
    close_setup(&s);
    return sum.wrong / sum.all;
}

/* How much of the text is found on disk by an engine with these options, or without. */
static size_t found_on_disk(const stretched *c, const char *backend, bool with_options, error_sum *sum)
{
    setup s;
    open_setup(&s, c, backend, with_options, true);
    uint32_t n_ctx = mlxr_model_info_get(s.model)->n_ctx;
    mlxr_sequence *sequence = start(&s, c, c->r.n_tokens < n_ctx ? c->r.n_tokens : n_ctx);
    size_t n = mlxr_sequence_cached(sequence);
    if (sum) {
        compute(&s, c, sequence, 64, sum);
    }
    mlxr_sequence_close(&sequence);
    close_setup(&s);
    return n;
}

/* Two thirds are computed and end on disk; another engine goes on from there, and one with other frequencies does not.
 */
static double check_reloaded(stretched *c, const char *backend)
{
    setup s;
    error_sum before = {0}, sum = {0};
    static unsigned n;
    snprintf(c->kv_dir, sizeof c->kv_dir, "%s/kv%u", test_temp_dir(), n++);
    open_setup(&s, c, backend, true, true);
    bool changed = mlxr_model_info_get(s.model)->rope_changed;
    mlxr_sequence *sequence = start(&s, c, c->r.n_tokens * 2 / 3);
    compute(&s, c, sequence, 64, &before);
    mlxr_sequence_close(&sequence);
    close_setup(&s);
    if (changed) {
        assert_int_equal(found_on_disk(c, backend, false, NULL), 0);
    } else {
        assert_true(found_on_disk(c, backend, false, NULL) > 0);
    }
    mlxr_rope_options *rope = &c->options.rope;
    if (rope->scale != 0) {
        rope->scale *= 1.5f;
        assert_int_equal(found_on_disk(c, backend, true, NULL), 0);
        rope->scale /= 1.5f;
    }
    assert_true(found_on_disk(c, backend, true, &sum) > 0);
    return sum.wrong / sum.all;
}

static void answers_of_a_stretched_model_equal_the_reference(void **state)
{
    const char *name = *state;
    stretched c;
    read_case(&c, name);
    for (size_t b = 0; b < n_backends; b++) {
        bool encoder = c.r.n_vocab < TINY_N_VOCAB;
        double at_once = check_chunks(&c, backends[b], 1 << 16),
               chunks = encoder ? 0 : check_chunks(&c, backends[b], 7);
        double reloaded = encoder ? 0 : check_reloaded(&c, backends[b]);
        printf("%-22s %-10s  at once %.1e  in chunks %.1e  reloaded %.1e\n", name, backends[b], at_once, chunks,
               reloaded);
        if (!(at_once < NMSE_LIMIT && chunks < NMSE_LIMIT && reloaded < NMSE_LIMIT)) {
            fail_msg("%s on %s: the limit is %.0e", name, backends[b], NMSE_LIMIT);
        }
    }
    mapping_close(&c.r.file);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static size_t list_cases(char (*names)[FAMILY_NAME_MAX])
{
    size_t n = 0;
    DIR *folder = opendir(FOLDER);
    for (struct dirent *e; folder && (e = readdir(folder));) {
        char *end = strstr(e->d_name, ".options");
        if (end && end - e->d_name < FAMILY_NAME_MAX && n < CASES_MAX) {
            snprintf(names[n++], FAMILY_NAME_MAX, "%.*s", (int)(end - e->d_name), e->d_name);
        }
    }
    if (folder) {
        closedir(folder);
    }
    qsort(names, n, sizeof *names, by_name);
    return n;
}

/* argv[1]: only this case. */
int main(int argc, char **argv)
{
    static char names[CASES_MAX][FAMILY_NAME_MAX], titles[CASES_MAX][FAMILY_NAME_MAX + 64];
    static struct CMUnitTest tests[CASES_MAX];
    size_t n_names = list_cases(names), n = 0;
    if (getenv("MLXR_TEST_BACKEND")) {
        backends[0] = getenv("MLXR_TEST_BACKEND");
        n_backends = 1;
    }
    for (size_t i = 0; i < n_names; i++) {
        if (argc > 1 && strcmp(argv[1], names[i]) != 0) {
            continue;
        }
        snprintf(titles[n], sizeof titles[n], "%.60s: answers_of_a_stretched_model_equal_the_reference", names[i]);
        tests[n] = (struct CMUnitTest){.name = titles[n],
                                       .test_func = answers_of_a_stretched_model_equal_the_reference,
                                       .initial_state = names[i]};
        n++;
    }
    if (n == 0) {
        printf("no context is called so\n");
        return 2;
    }
    return _cmocka_run_group_tests("contexts", tests, n, NULL, NULL);
}
