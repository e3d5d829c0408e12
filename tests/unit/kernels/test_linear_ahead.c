/*
 * Fetching ahead in the order in which rows lie stays within the rows that a thread multiplies.
 * Owner: the test program. Lifetime: the process.
 */
#include <string.h>

#include "kernels/cpu/linear_ahead.h"
#include "kernels/cpu/linear_panels.h"
#include "support/test.h"

enum { PANEL = 8, N_IN = 64, ROWS_MAX = 200 };

/* A matrix of which nothing is read, as only addresses are asked for, and rows elsewhere that come soon. */
static uint8_t matrix[ROWS_MAX * 4096], elsewhere[PANEL * 4096];
static const uint8_t *fetched[ROWS_MAX];
static uint32_t n_fetched;

static void record(const uint8_t *rows, size_t row_bytes, uint32_t n_in, const uint8_t *tile, const panel_output *out,
                   panel_next next)
{
    (void)rows, (void)row_bytes, (void)n_in, (void)tile, (void)out;
    fetched[n_fetched++] = next.far;
}

/* Multiplies rows [begin, end) by a kernel that only notes what it is to fetch. */
static linear_weight run(size_t row_bytes, uint32_t begin, uint32_t end, const void *soon)
{
    static uint8_t scratch[PANEL * 4096 + (1 << 19)];
    static float dst[ROWS_MAX];
    const panel_kernel kernel = {.rows = PANEL, .direct = {[1] = record}};
    const linear_weight weight = {.data = matrix,
                                  .row_bytes = row_bytes,
                                  .n_in = N_IN,
                                  .n_out = ROWS_MAX,
                                  .soon = {soon, row_bytes, soon ? PANEL : 0}};
    const linear_input input = {.format = LINEAR_Q16, .n_tokens = 1, .n_in = N_IN};
    const linear_output output = {.dst = dst, .stride = ROWS_MAX};
    n_fetched = 0;
    linear_panels_run(&kernel, &weight, &input, &output, begin, end, scratch);
    return weight;
}

static void each_row_is_fetched_ahead_and_none_behind_the_range(void **state)
{
    (void)state;
    static const size_t sizes[] = {18, 360, 1024, 2304, 4096};
    static const uint32_t ends[] = {48, 61, 104, 183};
    for (size_t s = 0; s < 5; s++) {
        for (size_t e = 0; e < 4; e++) {
            static uint8_t met[sizeof matrix];
            const size_t row_bytes = sizes[s], n_bytes = PANEL * row_bytes;
            const uint32_t begin = 16, end = ends[e];
            memset(met, 0, sizeof met);
            run(row_bytes, begin, end, elsewhere);
            assert_int_equal(n_fetched, (end - begin + PANEL - 1) / PANEL);
            for (uint32_t i = 0; i + 1 < n_fetched; i++) {
                size_t at = (size_t)(fetched[i] - matrix);
                assert_in_range(at, begin * row_bytes, end * row_bytes - n_bytes);
                memset(met + at, 1, n_bytes);
            }
            assert_ptr_equal(fetched[n_fetched - 1], elsewhere);
            for (size_t at = (begin + PANEL) * row_bytes + PANEL_FAR; at < end * row_bytes; at++) {
                assert_true(met[at]);
            }
        }
    }
}

static void without_rows_elsewhere_fetching_goes_straight_on(void **state)
{
    (void)state;
    run(360, 16, 61, NULL);
    for (uint32_t i = 0; i < n_fetched; i++) {
        uint32_t next = 16 + (i + 1) * PANEL < 61 ? 16 + (i + 1) * PANEL : 61;
        assert_ptr_equal(fetched[i], matrix + next * (size_t)360 + PANEL_FAR);
    }
}

static void rows_fewer_than_a_panel_fetch_what_comes_soon(void **state)
{
    (void)state;
    run(360, 0, 5, elsewhere);
    assert_int_equal(n_fetched, 1);
    assert_ptr_equal(fetched[0], elsewhere);
}

/* Tiles of any number of rows, as of floats, the last of which may be in part behind the end. */
static void the_last_tile_fetches_what_comes_soon_though_it_ends_behind_the_rows(void **state)
{
    (void)state;
    const linear_weight weight = run(1152, 16, 48, elsewhere);
    assert_ptr_equal(linear_ahead(&weight, 49, 48, 3 * (size_t)1152, 6144), elsewhere);
    assert_ptr_equal(linear_ahead(&weight, 46, 48, 3 * (size_t)1152, 6144), matrix + 45 * (size_t)1152);
    assert_ptr_equal(linear_ahead(&weight, 19, 48, 3 * (size_t)1152, 6144), matrix + 19 * (size_t)1152 + 6144);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_is_fetched_ahead_and_none_behind_the_range),
        cmocka_unit_test(without_rows_elsewhere_fetching_goes_straight_on),
        cmocka_unit_test(rows_fewer_than_a_panel_fetch_what_comes_soon),
        cmocka_unit_test(the_last_tile_fetches_what_comes_soon_though_it_ends_behind_the_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
