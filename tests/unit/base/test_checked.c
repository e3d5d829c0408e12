/*
 * Tests of core/base/checked against 128-bit arithmetic.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/checked.h"

#include "support/test.h"

typedef unsigned __int128 wide;

/* Values around the places where 64-bit arithmetic breaks, and random ones of every magnitude. */
static uint64_t value_of_any_size(uint64_t *seed)
{
    uint64_t r = test_random(seed);
    uint64_t value = r % 3 == 0 ? (uint64_t)1 << (r >> 8) % 64 : test_random(seed) >> (r >> 8) % 64;
    return r % 5 == 0 ? ~value : value + (r >> 16) % 3 - 1;
}

static void results_are_true_or_refused(void **state)
{
    (void)state;
    uint64_t seed = 4;
    for (int round = 0; round < 500000; round++) {
        uint64_t a = value_of_any_size(&seed), b = value_of_any_size(&seed), limit = value_of_any_size(&seed);
        uint64_t out = 77;
        bool fits = (wide)a + b <= UINT64_MAX;
        assert_true(checked_add(a, b, &out) == fits);
        assert_true(!fits || out == a + b);

        fits = (wide)a * b <= UINT64_MAX;
        assert_true(checked_mul(a, b, &out) == fits);
        assert_true(!fits || out == a * b);

        assert_true(checked_range(a, b, limit) == ((wide)a + b <= limit));

        uint64_t alignment = (uint64_t)1 << test_random(&seed) % 64;
        wide aligned = ((wide)a + alignment - 1) / alignment * alignment;
        bool ok = checked_align(a, alignment, &out);
        if (ok) {
            assert_true(aligned == out && out % alignment == 0 && out >= a);
        } else {
            assert_true((wide)a + alignment - 1 > UINT64_MAX);
        }
    }
}

static void a_refused_alignment_leaves_the_result_alone(void **state)
{
    (void)state;
    uint64_t out = 77;
    assert_false(checked_align(UINT64_MAX, 32, &out));
    assert_int_equal(out, 77);
    assert_true(checked_align(UINT64_MAX, 1, &out));
    assert_true(out == UINT64_MAX);
    assert_true(checked_align(0, 4096, &out));
    assert_int_equal(out, 0);
}

static void little_endian_reads_work_at_any_address(void **state)
{
    (void)state;
    const unsigned char bytes[] = {0x00, 0xf1, 0xe2, 0xd3, 0xc4, 0xb5, 0xa6, 0x97, 0x88, 0x79};
    assert_int_equal(load_u16le(bytes + 1), 0xe2f1);
    assert_int_equal(load_u32le(bytes + 1), 0xc4d3e2f1);
    assert_true(load_u64le(bytes + 1) == UINT64_C(0x8897a6b5c4d3e2f1));
    assert_true(load_u64le(bytes + 2) == UINT64_C(0x798897a6b5c4d3e2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_true_or_refused),
        cmocka_unit_test(a_refused_alignment_leaves_the_result_alone),
        cmocka_unit_test(little_endian_reads_work_at_any_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
