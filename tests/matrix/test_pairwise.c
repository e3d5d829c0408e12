/*
 * Covering tables: every combination is counted again in the plainest way.
 * Owner: the test program. Lifetime: the process.
 */
#include "matrix/axes.h"
#include "matrix/pairwise.h"
#include "support/test.h"

/* No value of axis 2 above 4 with the first two of axis 3; as a cache that does not fit a model. */
static bool some_refused(uint32_t a, uint32_t value_a, uint32_t b, uint32_t value_b)
{
    return a == 2 && value_a > 4 && b == 3 && value_b < 2;
}

static bool pair_refused(const pairwise_space *space, const uint32_t *axes, const uint32_t *values, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = i + 1; j < n; j++) {
            if (space->refused && space->refused(axes[i], values[i], axes[j], values[j])) {
                return true;
            }
        }
    }
    return false;
}

/* Cells that hold these values, among those that are refused or among those that are not. */
static size_t cells_with(const pairwise_space *space, const pairwise_cell *table, size_t n_cells, const uint32_t *axes,
                         const uint32_t *values, uint32_t n, bool refused)
{
    size_t n_found = 0;
    for (size_t i = 0; i < n_cells; i++) {
        bool all = pairwise_is_refused(space, &table[i]) == refused;
        for (uint32_t j = 0; j < n && all; j++) {
            all = table[i].value[axes[j]] == values[j];
        }
        n_found += all;
    }
    return n_found;
}

static void check_combination(const pairwise_space *space, const pairwise_cell *table, size_t n_cells,
                              const uint32_t *axes, const uint32_t *values, uint32_t n)
{
    bool refused = pair_refused(space, axes, values, n);
    if (refused && n > 2) {
        return;
    }
    if (cells_with(space, table, n_cells, axes, values, n, refused) == 0) {
        fail_msg("no %s cell has %u=%u, %u=%u, %u=%u", refused ? "refused" : "running", axes[0], values[0], axes[1],
                 values[1], axes[n - 1], values[n - 1]);
    }
    if (refused) {
        assert_int_equal(cells_with(space, table, n_cells, axes, values, n, false), 0);
    }
}

/* Pairs always; with strength 3 triples too. Returns how many combinations there are. */
static size_t check_coverage(const pairwise_space *s, uint32_t strength, const pairwise_cell *table, size_t n_cells)
{
    size_t n = 0;
    for (uint32_t a = 0; a < s->n_axes; a++) {
        for (uint32_t b = a + 1; b < s->n_axes; b++) {
            for (uint32_t i = 0; i < s->n_values[a] * s->n_values[b]; i++) {
                uint32_t va = i / s->n_values[b], vb = i % s->n_values[b];
                check_combination(s, table, n_cells, (uint32_t[]){a, b}, (uint32_t[]){va, vb}, 2);
                n++;
                for (uint32_t c = b + 1; c < s->n_axes && strength == 3; c++) {
                    for (uint32_t vc = 0; vc < s->n_values[c]; vc++, n++) {
                        check_combination(s, table, n_cells, (uint32_t[]){a, b, c}, (uint32_t[]){va, vb, vc}, 3);
                    }
                }
            }
        }
    }
    return n;
}

static void check_space(const char *name, const pairwise_space *space, uint32_t strength, size_t most)
{
    size_t n_cells = 0, n_again = 0, n_refused = 0;
    pairwise_cell *table = pairwise_make(space, strength, &n_cells);
    pairwise_cell *again = pairwise_make(space, strength, &n_again);
    assert_non_null(table);
    assert_non_null(again);
    assert_int_equal(n_cells, n_again);
    for (size_t i = 0; i < n_cells; i++) {
        n_refused += pairwise_is_refused(space, &table[i]);
        for (uint32_t axis = 0; axis < space->n_axes; axis++) {
            assert_true(table[i].value[axis] < space->n_values[axis]);
            assert_int_equal(table[i].value[axis], again[i].value[axis]);
        }
    }
    size_t n = check_coverage(space, strength, table, n_cells);
    print_message("%s, strength %u: %d combinations in %d cells, %d of them refused\n", name, strength, (int)n,
                  (int)n_cells, (int)n_refused);
    assert_true(n_cells <= most);
    free(table);
    free(again);
}

static void every_pair_and_triple_has_its_cell(void **unused)
{
    (void)unused;
    const pairwise_space two = {.n_axes = 2, .n_values = {3, 4}},
                         bits = {.n_axes = 10, .n_values = {2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
                         mixed = {.n_axes = 6, .n_values = {3, 2, 9, 5, 1, 4}, .refused = some_refused};
    check_space("two axes", &two, 2, 12);
    check_space("ten bits", &bits, 2, 12);
    check_space("ten bits", &bits, 3, 30);
    check_space("mixed, with refused pairs", &mixed, 2, 70);
    check_space("mixed, with refused pairs", &mixed, 3, 270);
}

/* No table of all pairs has fewer cells than this: the values of the two longest axes all meet. */
static size_t least_cells(const pairwise_space *space)
{
    size_t most = 0, second = 0;
    for (uint32_t i = 0; i < space->n_axes; i++) {
        size_t n = space->n_values[i];
        second = n > most ? most : n > second ? n : second;
        most = n > most ? n : most;
    }
    return most * second;
}

static void the_matrix_covers_all_its_pairs(void **unused)
{
    (void)unused;
    pairwise_space space;
    matrix_space(&space);
    size_t least = least_cells(&space);
    print_message("two longest axes: %zu pairs\n", least);
    check_space("the matrix", &space, 2, least + least * 3 / 10);
    if (getenv("MLXR_SOAK")) {
        check_space("the matrix", &space, 3, 1000);
    }
}

static void what_cannot_be_completed_is_told(void **unused)
{
    (void)unused;
    size_t n_cells = 7;
    const pairwise_space one = {.n_axes = 1, .n_values = {3}};
    assert_null(pairwise_make(&one, 2, &n_cells));
    assert_int_equal(n_cells, 0);
    const pairwise_space none = {.n_axes = 3, .n_values = {2, 2, 0}};
    assert_null(pairwise_make(&none, 2, &n_cells));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_and_triple_has_its_cell),
        cmocka_unit_test(the_matrix_covers_all_its_pairs),
        cmocka_unit_test(what_cannot_be_completed_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
