/*
 * Tests of core/base/memory_size, as far as any machine can show them.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/memory_size.h"

#include "support/test.h"

static void sizes_are_plausible(void **state)
{
    (void)state;
    uint64_t total = memory_total(), available = memory_available();
    assert_true(total >= (uint64_t)64 << 20);
    assert_true(total < (uint64_t)1 << 50);
    assert_true(available >= (uint64_t)256 << 20);
    assert_true(available <= total || available == (uint64_t)256 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes_are_plausible)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
