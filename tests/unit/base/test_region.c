/*
 * Tests of core/base/region.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/region.h"

#include "support/test.h"

static void pieces_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    enum { N = 3000 };
    static struct {
        unsigned char *at;
        size_t n;
    } pieces[N];
    region r = {0};
    uint64_t seed = 3;
    size_t total = 0;
    for (size_t i = 0; i < N; i++) {
        uint64_t random = test_random(&seed);
        pieces[i].n = random % 100 == 0 ? random >> 32 & 0x3ffff : random >> 32 & 0x1ff;
        pieces[i].at = region_alloc(&r, pieces[i].n);
        assert_non_null(pieces[i].at);
        assert_int_equal((uintptr_t)pieces[i].at % 16, 0);
        memset(pieces[i].at, (int)(i % 251), pieces[i].n);
        total += pieces[i].n;
    }
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < pieces[i].n; k++) {
            assert_int_equal(pieces[i].at[k], i % 251);
        }
    }
    assert_true(r.bytes_used >= total && r.bytes_used <= total + N * 16);
    region_close(&r);
    assert_null(r.blocks);
    assert_int_equal(r.bytes_used, 0);
    region_close(&r);
}

static void an_empty_piece_is_a_valid_pointer(void **state)
{
    (void)state;
    region r = {0};
    assert_non_null(region_alloc(&r, 0));
    assert_non_null(region_array(&r, 0, 8));
    assert_non_null(region_array(&r, 8, 0));
    region_close(&r);
}

static void absurd_sizes_are_refused_and_change_nothing(void **state)
{
    (void)state;
    region r = {0};
    char *kept = region_strndup(&r, "kept", 4);
    size_t used = r.bytes_used;
    assert_null(region_alloc(&r, SIZE_MAX));
    assert_null(region_alloc(&r, SIZE_MAX - 8));
    assert_null(region_alloc(&r, SIZE_MAX / 2 + 1));
    assert_null(region_array(&r, SIZE_MAX / 2, 3));
    assert_null(region_array(&r, (size_t)1 << 33, (size_t)1 << 33));
    assert_int_equal(r.bytes_used, used);
    assert_string_equal(kept, "kept");
    region_close(&r);
}

static void arrays_are_zeroed_even_in_used_memory(void **state)
{
    (void)state;
    for (size_t round = 0; round < 20; round++) {
        region r = {0};
        memset(region_alloc(&r, 1000), 0xff, 1000);
        const unsigned char *bytes = region_array(&r, 500, 7);
        for (size_t i = 0; i < 3500; i++) {
            assert_int_equal(bytes[i], 0);
        }
        region_close(&r);
    }
}

static void copies_end_where_they_should(void **state)
{
    (void)state;
    region r = {0};
    assert_string_equal(region_strndup(&r, "hello world", 5), "hello");
    assert_string_equal(region_strndup(&r, NULL, 0), "");
    const char *with_nul = region_strndup(&r, "a\0b", 3);
    assert_memory_equal(with_nul, "a\0b", 4);
    region_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_do_not_overlap),
        cmocka_unit_test(an_empty_piece_is_a_valid_pointer),
        cmocka_unit_test(absurd_sizes_are_refused_and_change_nothing),
        cmocka_unit_test(arrays_are_zeroed_even_in_used_memory),
        cmocka_unit_test(copies_end_where_they_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
