/*
 * What x86's kernels of few tokens fetch ahead lies in the rows that the thread multiplies, or in those that it is told
 * of: with AVX2, and of laid weights. Their sources are compiled here so that they tell each address
 * (fetched/fetched.h, in tests/CMakeLists.txt).
 * Owner: the test program. Lifetime: the process.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/linear.h"
#include "support/test.h"

void fetched(const void *address);

/* What may be fetched, and what was not of it. Rows that are no whole panel are met in a copy, in scratch. */
static struct {
    const uint8_t *rows, *soon, *scratch;
    size_t n_rows_bytes, n_soon_bytes, n_scratch_bytes;
    uint64_t n_within, n_beyond;
} seen;

void fetched(const void *address)
{
    const uintptr_t at = (uintptr_t)address;
    bool is_within = at - (uintptr_t)seen.rows < seen.n_rows_bytes || at - (uintptr_t)seen.soon < seen.n_soon_bytes ||
                     at - (uintptr_t)seen.scratch < seen.n_scratch_bytes;
    *(is_within ? &seen.n_within : &seen.n_beyond) += 1;
}

/* Rows [begin, end) of n_out, of which one row in `soon_rows` comes soon, if any. */
typedef struct shape {
    uint32_t n_in, n_out, begin, end, soon_rows;
} shape;

static const shape shapes[] = {
    {256, 64, 16, 48, 16}, {256, 48, 0, 48, 0},    {576, 64, 16, 48, 16}, {576, 64, 16, 48, 4},
    {576, 70, 16, 70, 16}, {768, 32, 0, 32, 16},   {1536, 64, 0, 48, 16}, {2048, 64, 16, 64, 0},
    {2048, 61, 16, 61, 1}, {4096, 48, 16, 32, 32}, {5632, 48, 16, 48, 8}, {2048, 5, 0, 5, 0},
};

static void multiply(const linear_kernels *k, dtype type, bool laid, uint32_t n_tokens, const shape *s)
{
    const size_t row_bytes = dtype_row_bytes(type, s->n_in);
    linear_weight w = {.row_bytes = row_bytes, .type = type, .n_in = s->n_in, .n_out = s->n_out, .laid = laid};
    uint8_t *rows = calloc(s->n_out, row_bytes), *soon = calloc(s->soon_rows + 1, row_bytes);
    float *x = calloc(s->n_in, sizeof *x), *dst = calloc((size_t)n_tokens * s->n_out, sizeof *dst);
    linear_format format = linear_format_for(k, type, n_tokens);
    void *data = aligned_alloc(LINEAR_ALIGN, linear_input_bytes(format, n_tokens, s->n_in) + LINEAR_ALIGN);
    const size_t n_scratch = (linear_scratch_bytes(s->n_in) + LINEAR_ALIGN) / LINEAR_ALIGN * LINEAR_ALIGN;
    void *scratch = aligned_alloc(LINEAR_ALIGN, n_scratch);
    assert_true(rows && soon && x && dst && data && scratch);
    w.data = rows;
    w.soon = (linear_soon){s->soon_rows ? soon : NULL, row_bytes, s->soon_rows};
    linear_input input = linear_input_make(format, n_tokens, s->n_in, data);
    for (uint32_t t = 0; t < n_tokens; t++) {
        linear_pack(k, &input, t, x);
    }
    seen.rows = rows + (s->soon_rows ? s->begin * row_bytes : 0);
    seen.n_rows_bytes = (s->soon_rows ? s->end - s->begin : s->n_out) * row_bytes;
    seen.soon = soon;
    seen.n_soon_bytes = s->soon_rows * row_bytes;
    seen.scratch = scratch;
    seen.n_scratch_bytes = s->end % LINEAR_ROW_GRAIN ? n_scratch : 0;
    linear_rows(k, &w, &input, &(linear_output){.dst = dst, .stride = s->n_out}, s->begin, s->end, scratch);
    free(rows);
    free(soon);
    free(x);
    free(dst);
    free(data);
    free(scratch);
}

static uint64_t check(const char *mask, bool rounded)
{
    uint64_t n_all = 0;
    cpu_features features = cpu_detect();
    mlxr_error error;
    linear_kernels k;
    assert_ok(cpu_mask(&features, mask, &error), &error);
    linear_init(&k, features);
    if (rounded) {
        linear_round(&k);
    }
    for (uint32_t id = 0; id < LINEAR_TYPES; id++) {
        const dtype_info *info = dtype_find(id);
        const dtype type = (dtype)id;
        for (uint32_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
            const shape *s = &shapes[i / 2];
            const bool laid = i % 2;
            if (!info || !k.isa[type] || s->n_in % info->block_size || (!laid && strcmp(k.isa[type], "avx2") != 0) ||
                (laid && (!k.laid_rows[type] || s->n_out % LINEAR_ROW_GRAIN))) {
                continue;
            }
            for (uint32_t n_tokens = 1; n_tokens <= LINEAR_DIRECT; n_tokens++) {
                seen.n_beyond = seen.n_within = 0;
                multiply(&k, type, laid, n_tokens, s);
                if (seen.n_beyond) {
                    print_error("%s, %s, %s: %u rows of %u, %u to %u, %u soon: %llu of %llu lines beyond\n", mask,
                                dtype_name(type), laid ? "laid" : "as they lie", s->n_out, s->n_in, s->begin, s->end,
                                s->soon_rows, (unsigned long long)seen.n_beyond,
                                (unsigned long long)(seen.n_beyond + seen.n_within));
                }
                assert_int_equal(seen.n_beyond, 0);
                n_all += seen.n_within;
            }
        }
    }
    return n_all;
}

static void kernels_fetch_nothing_behind_what_they_are_told_of(void **state)
{
    (void)state;
    for (int rounded = 0; rounded < 2; rounded++) {
        assert_true(check("-amx", rounded) > 0 || !(cpu_detect() & CPU_AVX512_VNNI));
        assert_true(check("-avx512,-avx-vnni", rounded) > 0 || !(cpu_detect() & CPU_AVX2));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_fetch_nothing_behind_what_they_are_told_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
