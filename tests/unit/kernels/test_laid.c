/*
 * Weights of layers that decoding passes lay in the order of kernels: no result changes, before, meanwhile or behind,
 * and memory never holds both. Owner: the test program. Lifetime: the process.
 */
#include "kernels/cpu/program.h"

#include "base/mapping.h"
#include "tiny_plan.h"

#define PASSES 64u /* one token each: 8 that wait, then a matrix or more in each */

static const tiny_options plain = {.n_layers = 2,
                                   .n_embd = 256,
                                   .n_head = 4,
                                   .n_head_kv = 2,
                                   .head_dim = 64,
                                   .n_ff = 512,
                                   .n_vocab = 300,
                                   .weights = DTYPE_Q4_1};

/* All that the processor has, then what is left without AVX-512: two sets of kernels, where there are two. */
enum { N_SETS = 2 };

static cpu_features set_of(uint32_t i)
{
    cpu_features features = cpu_detect();
    mlxr_error error;
    assert_ok(cpu_mask(&features, i ? "-avx512" : "", &error), &error);
    return features;
}

static bool can(cpu_features features)
{
    linear_kernels k;
    linear_init(&k, features);
    return features & CPU_LAID && k.lay;
}

/* All matrices of a plan's products become parts of one file's mapping that have the same bytes. */
typedef struct mapped {
    tiny t;
    mapping m;
    const char *path;
} mapped;

static void open_mapped(mapped *x, const tiny_options *o)
{
    mlxr_error error;
    size_t n_bytes = 0;
    tiny_open(&x->t, o);
    for (uint32_t i = 0; i < x->t.p.n_ops; i++) {
        n_bytes += x->t.ops[i].kind == OP_LINEAR ? x->t.ops[i].weight->n_bytes : 0;
    }
    uint8_t *all = region_alloc(&x->t.memory, n_bytes), *at = all;
    for (uint32_t i = 0; i < x->t.p.n_ops; i++) {
        const tensor *w = x->t.ops[i].weight;
        if (x->t.ops[i].kind == OP_LINEAR) {
            memcpy(at, w->data, w->n_bytes);
            at += w->n_bytes;
        }
    }
    x->path = test_write_file("weights", all, n_bytes);
    assert_ok(mapping_open(&x->m, x->path, &error), &error);
    const uint8_t *from = x->m.data;
    for (uint32_t i = 0; i < x->t.p.n_ops; i++) {
        tensor *w = (tensor *)(uintptr_t)x->t.ops[i].weight;
        if (x->t.ops[i].kind == OP_LINEAR) {
            w->data = from;
            from += w->n_bytes;
        }
    }
    x->t.p.mapped = &x->m;
    x->t.p.n_mapped = 1;
}

static void close_mapped(mapped *x)
{
    tiny_close(&x->t);
    mapping_close(&x->m);
}

/* Single tokens, then a prompt: the same logits with and without. */
static laid_counts compare(mapped *x, uint32_t n_threads, cpu_features features)
{
    rig r, reference;
    const uint32_t n = x->t.o.n_vocab, prompt = 40;
    int32_t *tokens = tiny_tokens(&x->t, PASSES + prompt);
    float *got = calloc((size_t)(PASSES + prompt) * n, sizeof *got);
    float *expected = calloc((size_t)(PASSES + prompt) * n, sizeof *expected);
    assert_true(got && expected);
    rig_open(&r, &x->t, false, n_threads, features, DTYPE_F32, 64, 2);
    rig_open(&reference, &x->t, false, n_threads, features & ~(cpu_features)CPU_LAID, DTYPE_F32, 64, 2);
    timeline line = timeline_make(&r, tokens, 0, 1), other = timeline_make(&reference, tokens, 0, 1);
    rig_compute(&r, &line, PASSES, 1, got);
    rig_compute(&reference, &other, PASSES, 1, expected);
    rig_compute(&r, &line, prompt, prompt, got + (size_t)PASSES * n);
    rig_compute(&reference, &other, prompt, prompt, expected + (size_t)PASSES * n);
    assert_memory_equal(got, expected, (size_t)(PASSES + prompt) * n * sizeof *got);
    assert_int_equal(laid_count(reference.prog).n_all, 0);
    laid_counts counts = laid_count(r.prog);
    rig_close(&r);
    rig_close(&reference);
    free(got);
    free(expected);
    return counts;
}

static void laid_weights_change_no_result(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1,
                                  DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
    for (uint32_t i = 0; i < sizeof types / sizeof *types; i++) {
        for (uint32_t run = 0; run < 2 * N_SETS; run++) {
            cpu_features features = set_of(run % N_SETS);
            tiny_options o = plain;
            o.weights = types[i];
            mapped x;
            open_mapped(&x, &o);
            laid_counts counts = compare(&x, run < N_SETS ? 1 : 3, features);
            assert_int_equal(counts.n_all, can(features) ? 7 * o.n_layers : 0);
            assert_int_equal(counts.n_laid, counts.n_all);
            assert_false(counts.prepares);
            close_mapped(&x);
        }
    }
}

static void all_sets_lay_weights_in_the_same_order(void **state)
{
    (void)state;
    enum { N_IN = 768, MOST = LINEAR_ROW_GRAIN * N_IN * 2 };
    linear_kernels kernels[N_SETS];
    for (uint32_t i = 0; i < N_SETS; i++) {
        linear_init(&kernels[i], set_of(i));
        if (!can(set_of(i))) {
            skip();
        }
    }
    uint8_t *rows = malloc(MOST), *panels[N_SETS] = {malloc(MOST), malloc(MOST)};
    assert_true(rows && panels[0] && panels[1]);
    uint64_t random = 1;
    for (size_t i = 0; i < MOST; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        rows[i] = (uint8_t)(random >> 56);
    }
    for (uint32_t type = 0; type < LINEAR_TYPES; type++) {
        assert_int_equal(!kernels[0].laid_rows[type], !kernels[1].laid_rows[type]);
        if (kernels[0].laid_rows[type]) {
            size_t row_bytes = dtype_row_bytes(type, N_IN);
            for (uint32_t i = 0; i < N_SETS; i++) {
                memset(panels[i], (int)i, MOST);
                kernels[i].lay(type, rows, row_bytes, N_IN, panels[i]);
            }
            assert_memory_equal(panels[0], panels[1], LINEAR_ROW_GRAIN * row_bytes);
        }
    }
    free(rows);
    free(panels[0]);
    free(panels[1]);
}

static void matrices_that_are_not_whole_panels_stay_as_they_are(void **state)
{
    (void)state;
    tiny_options o = plain;
    o.head_dim = 8;
    o.n_head_kv = 1; /* keys and values have 8 rows */
    mapped x;
    open_mapped(&x, &o);
    assert_int_equal(compare(&x, 2, cpu_detect()).n_all, can(cpu_detect()) ? 5 * o.n_layers : 0);
    close_mapped(&x);
}

static void other_types_stay_as_they_are(void **state)
{
    (void)state;
    tiny_options o = plain;
    o.weights = DTYPE_F16;
    mapped x;
    open_mapped(&x, &o);
    assert_int_equal(compare(&x, 2, cpu_detect()).n_all, 0);
    close_mapped(&x);
}

static void weights_in_no_mapping_stay_where_they_are(void **state)
{
    (void)state;
    mapped x;
    open_mapped(&x, &plain);
    x.t.p.n_mapped = 0;
    assert_int_equal(compare(&x, 2, cpu_detect()).n_all, 0);
    close_mapped(&x);
}

static void a_matrix_that_two_products_read_is_not_laid(void **state)
{
    (void)state;
    mapped x;
    open_mapped(&x, &plain);
    tensor *first = NULL;
    for (uint32_t i = 0; i < x.t.p.n_ops; i++) {
        tensor *w = (tensor *)(uintptr_t)x.t.ops[i].weight;
        if (x.t.ops[i].kind == OP_LINEAR && x.t.ops[i].dst == SLOT_G) {
            w->data = first ? first->data : w->data;
            first = w;
        }
    }
    assert_int_equal(compare(&x, 2, cpu_detect()).n_all, 0);
    close_mapped(&x);
}

/* KiB of a file's mapping that are in this process's memory; −1: the system does not tell. */
static long resident_kib(const char *path)
{
    char line[1024];
    long kib = -1, of_part;
    bool inside = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long begin, end;
        inside = sscanf(line, "%llx-%llx ", &begin, &end) == 2 ? strstr(line, path) != NULL : inside;
        if (inside && sscanf(line, "Rss: %ld kB", &of_part) == 1) {
            kib = (kib < 0 ? 0 : kib) + of_part;
        }
    }
    if (f) {
        fclose(f);
    }
    return kib;
}

/* In the middle of laying (a layer may have some matrices laid and others not), and when it is done. */
static void a_program_that_is_to_keep_nothing_reads_the_files_rows_again(void **state)
{
    (void)state;
    static const uint32_t after[] = {15, PASSES};
    for (uint32_t run = 0; run < 2 * N_SETS; run++) {
        const uint32_t before = after[run / N_SETS];
        const cpu_features features = set_of(run % N_SETS);
        mapped x;
        rig r, reference;
        open_mapped(&x, &plain);
        const uint32_t n = plain.n_vocab, more = 12;
        int32_t *tokens = tiny_tokens(&x.t, before + more);
        float *got = calloc((size_t)(before + more) * n, sizeof *got);
        float *expected = calloc((size_t)(before + more) * n, sizeof *expected);
        assert_true(got && expected);
        rig_open(&r, &x.t, false, 2, features, DTYPE_F32, 64, 2);
        rig_open(&reference, &x.t, false, 2, features & ~(cpu_features)CPU_LAID, DTYPE_F32, 64, 2);
        timeline line = timeline_make(&r, tokens, 0, 1), other = timeline_make(&reference, tokens, 0, 1);
        rig_compute(&r, &line, before, 1, got);
        assert_int_equal(laid_count(r.prog).n_laid > 0, can(features));
        laid_refuse(r.prog);
        assert_false(laid_count(r.prog).prepares);
        rig_compute(&r, &line, more / 2, 1, got + (size_t)before * n);
        rig_compute(&r, &line, more / 2, more / 2, got + (size_t)(before + more / 2) * n);
        rig_compute(&reference, &other, before + more, 1, expected);
        assert_memory_equal(got, expected, (size_t)(before + more) * n * sizeof *got);
        assert_int_equal(laid_count(r.prog).n_laid, 0);
        rig_close(&r);
        rig_close(&reference);
        free(got);
        free(expected);
        close_mapped(&x);
    }
}

static void a_program_without_logits_lays_nothing(void **state)
{
    (void)state;
    mapped x;
    rig r;
    open_mapped(&x, &plain);
    plan *p = &x.t.p;
    while (p->n_ops > 0 && p->ops[p->n_ops - 1].kind != OP_NORM) {
        p->n_ops--;
    }
    op *last = (op *)(uintptr_t)&p->ops[p->n_ops - 1];
    last->dst = SLOT_LOGITS;
    p->slot_width[SLOT_LOGITS] = last->width;
    rig_open(&r, &x.t, false, 2, cpu_detect(), DTYPE_F32, 64, 2);
    assert_int_equal(laid_count(r.prog).n_all, 0);
    rig_close(&r);
    close_mapped(&x);
}

static void the_files_pages_of_what_is_laid_are_given_back(void **state)
{
    (void)state;
    mapped x;
    rig r;
    open_mapped(&x, &plain);
    int32_t *tokens = tiny_tokens(&x.t, PASSES);
    float *logits = calloc((size_t)PASSES * plain.n_vocab, sizeof *logits);
    rig_open(&r, &x.t, false, 2, cpu_detect(), DTYPE_F32, 64, 2);
    timeline line = timeline_make(&r, tokens, 0, 1);
    rig_compute(&r, &line, PASSES, 1, logits);
    laid_counts counts = laid_count(r.prog);
    if (can(cpu_detect()) && resident_kib(x.path) >= 0) {
        assert_true(resident_kib(x.path) <= (long)((x.m.n_bytes - counts.n_bytes) >> 10) + 8); /* pages at both ends */
    }
    rig_close(&r);
    free(logits);
    close_mapped(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(laid_weights_change_no_result),
        cmocka_unit_test(all_sets_lay_weights_in_the_same_order),
        cmocka_unit_test(matrices_that_are_not_whole_panels_stay_as_they_are),
        cmocka_unit_test(other_types_stay_as_they_are),
        cmocka_unit_test(weights_in_no_mapping_stay_where_they_are),
        cmocka_unit_test(a_matrix_that_two_products_read_is_not_laid),
        cmocka_unit_test(a_program_that_is_to_keep_nothing_reads_the_files_rows_again),
        cmocka_unit_test(a_program_without_logits_lays_nothing),
        cmocka_unit_test(the_files_pages_of_what_is_laid_are_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
