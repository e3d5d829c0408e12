/*
 * Half and bfloat16 conversions: every value there and back, and the roundings between them.
 * Owner: the test program. Lifetime: the process.
 */
#include "quant/half.h"

#include <math.h>

#include "support/test.h"

static void every_half_comes_back_from_its_float(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = half_to_float((uint16_t)h);
        if (isnan(f)) {
            assert_true(isnan(half_to_float(half_from_float(f))));
        } else {
            assert_int_equal(half_from_float(f), h);
        }
        uint32_t exponent = h >> 10 & 31, fraction = h & 1023;
        double exact = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, (int)exponent - 25);
        if (exponent < 31) {
            assert_true(fabs((double)f) == exact && (signbit(f) != 0) == (h >> 15));
        }
    }
}

static void floats_round_to_the_nearest_half_and_ties_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) { /* between each half and the next; the last one's next is 65536, infinity */
        double low = (double)half_to_float((uint16_t)h),
               high = h + 1 < 0x7c00 ? (double)half_to_float((uint16_t)(h + 1)) : 65536;
        float tie = (float)((low + high) / 2);
        uint32_t even = h & 1 ? h + 1 : h;
        assert_int_equal(half_from_float(tie), even);
        assert_int_equal(half_from_float(nextafterf(tie, 0)), h);
        assert_int_equal(half_from_float(nextafterf(tie, INFINITY)), h + 1);
        assert_int_equal(half_from_float(-tie), even | 0x8000);
    }
    assert_int_equal(half_from_float(1e30f), 0x7c00);
    assert_int_equal(half_from_float(-INFINITY), 0xfc00);
    assert_int_equal(half_from_float(1e-30f), 0);
    assert_true(isnan(half_to_float(half_from_float(NAN))));
}

static void bfloat16_rounds_to_nearest_and_keeps_nan(void **state)
{
    (void)state;
    for (uint32_t b = 0; b < 65536; b++) {
        float f = bf16_to_float((uint16_t)b);
        if (isnan(f)) {
            assert_true(isnan(bf16_to_float(bf16_from_float(f))));
            continue;
        }
        assert_int_equal(bf16_from_float(f), b);
        if (isfinite(f)) {
            uint32_t tie = b << 16 | 0x8000;
            assert_int_equal(bf16_from_float(float_from_bits(tie)), b & 1 ? b + 1 : b);
            assert_int_equal(bf16_from_float(float_from_bits(tie - 1)), b);
            assert_int_equal(bf16_from_float(float_from_bits(tie + 1)), b + 1);
        }
    }
    assert_true(isnan(bf16_to_float(bf16_from_float(float_from_bits(0x7f800001u))))); /* whose upper half is infinity */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_comes_back_from_its_float),
        cmocka_unit_test(floats_round_to_the_nearest_half_and_ties_to_even),
        cmocka_unit_test(bfloat16_rounds_to_nearest_and_keeps_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
