/*
 * Rows of Q8_0 in two parts: together they are the row, and the upper one is as far from it as its length says.
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

/* Integers of up to `most`, and scales of all sizes that a half has 16 times of. */
static void make_row(uint8_t *row, uint32_t n_in, int most)
{
    for (uint32_t b = 0; b < n_in / 32; b++) {
        set_scale(row, b, (uint16_t)(test_random(&seed) % 0x6c00));
        for (uint32_t i = 0; i < 32; i++) {
            row[b * 34 + 2 + i] = (uint8_t)(int8_t)((int)(test_random(&seed) % (uint64_t)(2 * most + 1)) - most);
        }
    }
}

static bool comes_back(const uint8_t *row, uint32_t n_in)
{
    uint8_t upper[IN_MOST], lower[IN_MOST], again[ROW_MOST];
    if (!halves_split(row, n_in, upper, lower)) {
        return false;
    }
    halves_join(upper, lower, n_in, again);
    assert_memory_equal(again, row, n_in / 32 * 34);
    return true;
}

static void a_rows_parts_are_the_row(void **state)
{
    (void)state;
    uint8_t row[ROW_MOST];
    for (uint32_t n_in = 32; n_in <= IN_MOST; n_in += 32) {
        make_row(row, n_in, 119);
        assert_true(comes_back(row, n_in));
    }
    for (int q = -127; q <= 127; q++) { /* each with one sign, and all of them at every place */
        for (uint32_t i = 0; i < 32; i++) {
            make_row(row, 64, 100);
            row[34 + 2 + i] = (uint8_t)(int8_t)q;
            assert_true(comes_back(row, 64));
        }
    }
}

static void integers_that_do_not_fit_have_a_few_places(void **state)
{
    (void)state;
    uint8_t row[ROW_MOST];
    for (uint32_t n = 0; n <= HALVES_ODD + 1; n++) {
        make_row(row, 512, 100);
        for (uint32_t i = 0; i < n; i++) { /* whichever sign a block takes, one is left */
            row[i * 34 + 2] = (uint8_t)(int8_t)(120 + (int)(i % 8));
            row[i * 34 + 20] = (uint8_t)(int8_t)(-120 - (int)((i + 3) % 8));
        }
        assert_int_equal(comes_back(row, 512), n <= HALVES_ODD);
    }
}

static void what_has_no_parts_is_refused(void **state)
{
    (void)state;
    static const uint16_t scales[] = {0x8000, 0x8001, 0xbc00, 0x7c00, 0xfc00, 0x7e00, 0x7bff, 0x6c00};
    uint8_t row[ROW_MOST];
    for (uint32_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        make_row(row, 96, 100);
        assert_true(comes_back(row, 96));
        set_scale(row, 1, scales[i]);
        assert_false(comes_back(row, 96));
    }
    make_row(row, 96, 100);
    row[34 + 9] = 0x80;
    assert_false(comes_back(row, 96));
    make_row(row, 96, 100);
    set_scale(row, 2, 0x6bff);
    assert_true(comes_back(row, 96));
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
    quantize_act_q16_scalar(&in, 0, x);
    q16_place at = q16_find(&in, 0);
    for (uint32_t i = 0; i < n_in; i++) {
        const int8_t *digits = (const int8_t *)at.q + i / 32 * at.record;
        float unit;
        memcpy(&unit, at.words + i / 32 * at.record, sizeof unit);
        values[i] = (double)unit * (256 * digits[i % 32] + digits[32 + i % 32]);
    }
    return in;
}

/* Products of a row of Q8_0, and of its upper part, with no rounding to speak of. */
static void multiply(const uint8_t *row, const uint8_t *upper, uint32_t n_in, const double *x, double *whole,
                     double *part, double *size)
{
    *whole = *part = *size = 0;
    for (uint32_t i = 0; i < n_in; i++) {
        uint32_t b = i / 32, k = i % 32;
        uint16_t d, scale;
        memcpy(&d, row + (size_t)b * 34, sizeof d);
        memcpy(&scale, upper + n_in / 2 + b * 2, sizeof scale);
        int u = k < 16 ? upper[b * 16 + k] & 15 : upper[b * 16 + k - 16] >> 4;
        *whole += (double)half_to_float(d) * (int8_t)row[b * 34 + 2 + k] * x[i];
        *part += (double)half_to_float(scale) * (u - 8) * x[i];
        *size += fabs((double)half_to_float(scale) * 8 * x[i]);
    }
}

static void check_kernels(const halves_kernels *k, uint32_t n_in, bool spikes)
{
    static uint8_t rows[ROWS][ROW_MOST], upper[ROWS * IN_MOST], lower[ROWS * IN_MOST];
    static _Alignas(LINEAR_ALIGN) uint8_t memory[IN_MOST * 4];
    double x[IN_MOST];
    float squares[IN_MOST], got[ROWS];
    size_t upper_bytes = halves_upper_bytes(n_in), lower_bytes = halves_lower_bytes(n_in);
    linear_input packed = make_input(n_in, spikes, x);
    assert_true(halves_input_bytes(n_in) <= sizeof memory);
    halves_input in = halves_input_make(&packed, memory);
    double stretched = 0;
    for (uint32_t i = 0; i < n_in; i++) {
        squares[i] = spikes && i % 97 == 5 ? 1.0f : 0.01f;
        stretched += x[i] * x[i] / (double)squares[i];
    }
    for (uint32_t r = 0; r < ROWS; r++) {
        make_row(rows[r], n_in, r % 2 ? 127 : 119);
        for (uint32_t b = 0; b < n_in / 32; b++) {
            set_scale(rows[r], b, (uint16_t)(0x2000 + test_random(&seed) % 0x400));
        }
        if (!halves_split(rows[r], n_in, upper + r * upper_bytes, lower + r * lower_bytes)) {
            make_row(rows[r], n_in, 100);
            assert_true(halves_split(rows[r], n_in, upper + r * upper_bytes, lower + r * lower_bytes));
        }
    }
    k->products(upper, n_in, ROWS, &in, got);
    for (uint32_t r = 0; r < ROWS; r++) {
        const uint8_t *up = upper + r * upper_bytes, *low = lower + r * lower_bytes;
        const uint8_t *lows[HALVES_ROWS] = {low, low, low, low}, *scales[HALVES_ROWS];
        double whole, part, size;
        float length, rest = halves_rest(rows[r], up, n_in, squares, &length), more[HALVES_ROWS];
        for (uint32_t i = 0; i < HALVES_ROWS; i++) {
            scales[i] = up + n_in / 2;
        }
        multiply(rows[r], up, n_in, x, &whole, &part, &size);
        assert_true(fabs((double)got[r] - part) <= 1e-5 * size);
        assert_true(fabs(whole - part) <= (double)rest * sqrt(stretched));
        k->rests(lows, scales, n_in, &in, more);
        float logit = got[r] + more[r % HALVES_ROWS] / 16 + halves_odd(up, low, n_in, &in);
        assert_true(fabs((double)logit - whole) <= 1e-5 * size);
    }
    free(packed.data);
}

static const cpu_features sets[] = {CPU_AVX2, CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI};

static void products_are_as_far_from_the_rows_as_the_lengths_say(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        halves_kernels k = halves_kernels_for((sets[i] | CPU_HALVES) & cpu_detect());
        for (uint32_t n_in = 32; k.products && n_in <= IN_MOST; n_in += n_in < 512 ? 32 : 256) {
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
        cmocka_unit_test(integers_that_do_not_fit_have_a_few_places),
        cmocka_unit_test(what_has_no_parts_is_refused),
        cmocka_unit_test(products_are_as_far_from_the_rows_as_the_lengths_say),
        cmocka_unit_test(what_reaches_a_bound_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
