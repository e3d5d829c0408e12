/*
 * Rows of Q8_0 in two parts: together they are the row, and the upper one is as far from it as its length says,
 * and whole rows have the bits of the file's.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "kernels/cpu/halves.h"
#include "kernels/cpu/quantize_act.h"
#include "quant/half.h"
#include "support/test.h"

enum { IN_MOST = 2048, ROWS = 7, ROW_MOST = IN_MOST / 32 * 34 };

static uint64_t seed = 11;

static float uniform(void)
{
    return (float)(test_random(&seed) >> 40) * 0x1p-23f - 1.0f;
}

static void set_scale(uint8_t *row, uint32_t block, uint16_t scale)
{
    memcpy(row + (size_t)block * 34, &scale, sizeof scale);
}

/* Integers of all sizes, with scales below 2^−5 × 0.9. */
static void make_row(uint8_t *row, uint32_t n_in)
{
    for (uint32_t b = 0; b < n_in / 32; b++) {
        set_scale(row, b, (uint16_t)(0x2000 + test_random(&seed) % 0x800 + (test_random(&seed) % 2 << 15)));
        for (uint32_t i = 0; i < 32; i++) {
            row[b * 34 + 2 + i] = (uint8_t)test_random(&seed);
        }
    }
}

/* Any integers with any scale, also those that no quantiser makes: bytes are bytes. */
static void a_rows_parts_are_the_row(void **state)
{
    (void)state;
    uint8_t row[ROW_MOST], upper[IN_MOST * 2], lower[IN_MOST], again[ROW_MOST];
    for (uint32_t n_in = 32; n_in <= IN_MOST; n_in += 32) {
        for (uint32_t i = 0; i < n_in / 32 * 34; i++) {
            row[i] = (uint8_t)(n_in <= 512 ? test_random(&seed) : i);
        }
        halves_split(row, n_in, upper, lower);
        halves_join(upper, lower, n_in, again);
        assert_memory_equal(again, row, n_in / 32 * 34);
    }
}

/* Products of a row of Q8_0, and of its upper part, with no rounding to speak of, and both parts' lengths. */
typedef struct exact {
    double whole, part, rest, lengths;
} exact;

static exact multiply(const uint8_t *row, const uint8_t *upper, uint32_t n_in, const double *x, const float *squares)
{
    exact e = {0};
    double wholes = 0, parts = 0, rests = 0;
    for (uint32_t i = 0; i < n_in; i++) {
        uint32_t b = i / 32, k = i % 32;
        uint16_t d;
        memcpy(&d, row + (size_t)b * 34, sizeof d);
        int u = k < 16 ? upper[b * 16 + k] & 15 : upper[b * 16 + k - 16] >> 4;
        double scale = half_to_float(d), w = scale * (int8_t)row[b * 34 + 2 + k], up = scale * (16 * u + 8 - 128);
        e.whole += w * x[i];
        e.part += up * x[i];
        wholes += w * w;
        parts += up * up;
        rests += (w - up) * (w - up) * (double)squares[i];
    }
    e.rest = sqrt(rests);
    e.lengths = sqrt(wholes) + sqrt(parts);
    return e;
}

static exact lengths_of(const uint8_t *row, const uint8_t *upper, uint32_t n_in, const float *squares)
{
    static const double zeros[IN_MOST];
    return multiply(row, upper, n_in, zeros, squares);
}

static const cpu_features sets[] = {CPU_AVX2, CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI};

/* Is `got` a bound of the length, and as close as promised? Both may be no number. */
static bool bounds(float got, double length)
{
    return isfinite(length) ? length <= (double)got && (double)got <= length * 1.0002 : !isfinite(got);
}

/* Neither reads or writes beyond the row, and lengths are bounds whatever the scale is. */
static void kernels_make_the_same_parts_and_rows(void **state)
{
    (void)state;
    static const uint16_t scales[] = {0x3c00, 0, 0x0001, 0x8003, 0x7bff, 0xfbff, 0x7c00, 0x7e00};
    static float squares[IN_MOST];
    for (uint32_t i = 0; i < IN_MOST; i++) {
        squares[i] = 0x1p-10f + fabsf(uniform());
    }
    for (uint32_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        halves_kernels k = halves_kernels_for((sets[i] | CPU_HALVES) & cpu_detect());
        for (uint32_t n_in = 32; k.split && n_in <= IN_MOST; n_in += 32) {
            uint32_t n_bytes = n_in / 32 * 34;
            uint8_t *row = malloc(n_bytes), *again = malloc(n_bytes), *upper = malloc(halves_upper_bytes(n_in));
            uint8_t *lower = malloc(n_in / 2), up[IN_MOST], low[IN_MOST / 2];
            assert_true(row && again && upper && lower);
            for (uint32_t j = 0; j < n_bytes; j++) {
                row[j] = (uint8_t)test_random(&seed);
            }
            for (uint32_t b = 0; b < n_in / 32; b++) {
                set_scale(row, b, b % 2 ? 0x2100 : scales[n_in / 32 % 8]);
            }
            halves_lengths got = k.split(row, n_in, squares, upper, lower);
            halves_split(row, n_in, up, low);
            assert_memory_equal(upper, up, halves_upper_bytes(n_in));
            assert_memory_equal(lower, low, n_in / 2);
            exact e = lengths_of(row, up, n_in, squares);
            assert_true(bounds(got.rest, e.rest) && bounds(got.parts, e.lengths));
            k.join(upper, lower, n_in, again);
            assert_memory_equal(again, row, n_bytes);
            free(row);
            free(again);
            free(upper);
            free(lower);
        }
    }
}

/* One token, packed, and its values. */
static linear_input make_input(uint32_t n_in, bool spikes, double *values)
{
    float x[IN_MOST];
    linear_kernels k;
    linear_init(&k, cpu_detect());
    size_t n_bytes = (linear_input_bytes(LINEAR_Q16, 1, n_in) + LINEAR_ALIGN - 1) / LINEAR_ALIGN * LINEAR_ALIGN;
    void *memory = aligned_alloc(LINEAR_ALIGN, n_bytes);
    assert_non_null(memory);
    for (uint32_t i = 0; i < n_in; i++) {
        x[i] = uniform() * (spikes && i % 97 == 5 ? 300.0f : 1.0f);
    }
    linear_input in = linear_input_make(LINEAR_Q16, 1, n_in, memory);
    quantize_act_q16_scalar(&in, 0, 1, x, n_in);
    q16_place at = q16_find(&in, 0);
    for (uint32_t i = 0; i < n_in; i++) {
        const int8_t *digits = (const int8_t *)at.q + i / 32 * at.record;
        float unit;
        memcpy(&unit, at.words + i / 32 * at.record, sizeof unit);
        values[i] = (double)unit * (256 * digits[i % 32] + digits[32 + i % 32]);
    }
    return in;
}

static double length_of(const double *x, uint32_t n, const float *squares)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += x[i] * x[i] / (squares ? (double)squares[i] : 1);
    }
    return sqrt(sum);
}

typedef struct matrix {
    uint8_t rows[ROWS * ROW_MOST], upper[ROWS * IN_MOST], lower[ROWS * IN_MOST];
} matrix;

/* What any order of rounded sums may do; screen_few_bound.c allows as much. */
static double rounding_of(uint32_t n_in, double lengths)
{
    return (n_in / 32 + 32) * 0x1p-24 * lengths;
}

static void check_upper(const halves_kernels *k, const matrix *m, uint32_t n_in, const halves_input *in,
                        const double *x, const float *squares)
{
    size_t upper_bytes = halves_upper_bytes(n_in), lower_bytes = halves_lower_bytes(n_in);
    float got[ROWS];
    k->products(m->upper, n_in, ROWS, in, got);
    for (uint32_t r = 0; r < ROWS; r++) {
        const uint8_t *up = m->upper + r * upper_bytes, *row = m->rows + r * (n_in / 32 * 34);
        halves_lengths l = halves_measure(up, m->lower + r * lower_bytes, n_in, squares);
        exact e = multiply(row, up, n_in, x, squares);
        assert_true(e.rest <= (double)l.rest && (double)l.rest <= e.rest * 1.0002);
        assert_true(e.lengths <= (double)l.parts && (double)l.parts <= e.lengths * 1.0002);
        assert_true(fabs(e.whole - e.part) <= (double)l.rest * length_of(x, n_in, squares));
        assert_true(fabs((double)got[r] - e.part) <= rounding_of(n_in, (double)l.parts) * length_of(x, n_in, NULL));
    }
}

/* Bit for bit what the file's row gives, in order and picked out. */
static void check_wholes(const halves_kernels *k, const matrix *m, uint32_t n_in, const halves_input *in,
                         const linear_input *packed)
{
    linear_kernels linear;
    float expected[ROWS], got[ROWS], some[HALVES_ROWS];
    linear_init(&linear, cpu_detect());
    void *scratch = aligned_alloc(LINEAR_ALIGN, (linear_scratch_bytes(n_in) + 63) / 64 * 64);
    assert_non_null(scratch);
    assert_true(linear_format_for(&linear, DTYPE_Q8_0, 1) == LINEAR_Q16);
    linear_weight w = {.data = m->rows, .row_bytes = n_in / 32 * 34, .type = DTYPE_Q8_0, .n_in = n_in, .n_out = ROWS};
    linear_output out = {.dst = expected, .stride = ROWS};
    linear_rows(&linear, &w, packed, &out, 0, ROWS, scratch);
    k->wholes(m->upper, m->lower, n_in, ROWS, in, got);
    assert_memory_equal(got, expected, sizeof got);
    for (uint32_t r = 0; r < ROWS; r++) {
        const uint8_t *up[HALVES_ROWS], *low[HALVES_ROWS];
        for (uint32_t i = 0; i < HALVES_ROWS; i++) {
            up[i] = m->upper + (r * (i + 1) % ROWS) * halves_upper_bytes(n_in);
            low[i] = m->lower + (r * (i + 1) % ROWS) * halves_lower_bytes(n_in);
        }
        k->some(up, low, n_in, in, some);
        for (uint32_t i = 0; i < HALVES_ROWS; i++) {
            assert_memory_equal(some + i, expected + r * (i + 1) % ROWS, sizeof *some);
        }
    }
    free(scratch);
}

static void check_kernels(const halves_kernels *k, uint32_t n_in, bool spikes)
{
    static matrix m;
    static _Alignas(LINEAR_ALIGN) uint8_t memory[IN_MOST * 4];
    double x[IN_MOST];
    float squares[IN_MOST];
    linear_input packed = make_input(n_in, spikes, x);
    assert_true(halves_input_bytes(n_in) <= sizeof memory);
    halves_input in = halves_input_make(&packed, memory);
    for (uint32_t i = 0; i < n_in; i++) {
        squares[i] = spikes && i % 97 == 5 ? 1.0f : 0.01f;
    }
    for (uint32_t r = 0; r < ROWS; r++) {
        uint8_t *row = m.rows + r * (n_in / 32 * 34);
        make_row(row, n_in);
        for (uint32_t b = 0; b < n_in / 32; b++) { /* zeros, whose upper parts are none */
            memset(row + (size_t)b * 34 + 2, r % 3 ? row[b * 34 + 2] : 0, r % 2 ? 0 : 32);
        }
        halves_split(row, n_in, m.upper + r * halves_upper_bytes(n_in), m.lower + r * halves_lower_bytes(n_in));
    }
    check_upper(k, &m, n_in, &in, x, squares);
    check_wholes(k, &m, n_in, &in, &packed);
    free(packed.data);
}

static void products_are_as_far_from_the_rows_as_the_lengths_say(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        halves_kernels k = halves_kernels_for((sets[i] | CPU_HALVES) & cpu_detect());
        for (uint32_t n_in = 32; k.products && n_in <= IN_MOST; n_in += n_in < 768 ? 32 : 256) {
            check_kernels(&k, n_in, false);
            check_kernels(&k, n_in, true);
        }
    }
}

static void what_reaches_a_bound_is_found(void **state)
{
    (void)state;
    float values[64], lengths[64];
    for (uint32_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        halves_kernels k = halves_kernels_for((sets[i] | CPU_HALVES) & cpu_detect());
        for (uint32_t at = 0; k.reaching && at < 64; at++) {
            for (uint32_t j = 0; j < 64; j++) {
                values[j] = -4;
                lengths[j] = 1;
            }
            values[at] = 1;
            assert_true(k.reaching(values, lengths, 2, 3) == (uint64_t)1 << at);
            assert_true(k.reaching(values, lengths, 2, 3.5f) == 0);
            assert_true(k.reaching(values, lengths, 8, 3) == UINT64_MAX);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rows_parts_are_the_row),
        cmocka_unit_test(kernels_make_the_same_parts_and_rows),
        cmocka_unit_test(products_are_as_far_from_the_rows_as_the_lengths_say),
        cmocka_unit_test(what_reaches_a_bound_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
