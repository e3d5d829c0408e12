/*
 * The matrix: every cell is green or refused by name. Any two values of two axes meet in a cell, with MLXR_SOAK any
 * three; one less where a backend's price leaves cells out. MLXR_MATRIX=17 runs cell 17 alone.
 * Owner: the test program. Lifetime: the process.
 */
#include <time.h>

#include "matrix/cell.h"
#include "support/test.h"

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void report(const matrix_totals *t, size_t n_cells, uint32_t strength, double s)
{
    print_message("strength %u: %d cells, %d green, %d refused by name; %d choices of %d tokens equal those of lone "
                  "runs; %.1f s\n",
                  strength, (int)n_cells, (int)t->n_green, (int)t->n_refused, (int)t->n_choices, (int)t->n_tokens, s);
    if (t->differences.worst > 0) {
        print_message("without a promise of bits: log-probabilities off by %.2g at most, %d answers parted\n",
                      t->differences.worst, (int)t->differences.n_parted);
    }
    print_message("tokens found in memory %d, on disk %d; evicted %d KiB; pre-empted %d; forked %d; drafted and right: "
                  "n-gram %d, %d, model %d, %d, head %d, %d; sentences: GBNF %d, schema %d\n",
                  (int)t->n_hit_memory, (int)t->n_hit_disk, (int)(t->n_evicted_bytes >> 10), (int)t->n_preempted,
                  (int)t->n_forked, (int)t->n_drafted[DRAFT_NGRAM], (int)t->n_accepted[DRAFT_NGRAM],
                  (int)t->n_drafted[DRAFT_MODEL], (int)t->n_accepted[DRAFT_MODEL], (int)t->n_drafted[DRAFT_MTP],
                  (int)t->n_accepted[DRAFT_MTP], (int)t->n_sentences[RULE_GBNF], (int)t->n_sentences[RULE_SCHEMA]);
}

static void every_cell_is_green_or_refused_by_name(void **unused)
{
    (void)unused;
    uint32_t strength = (getenv("MLXR_SOAK") ? 3 : 2) - !matrix_is_whole();
    const char *only = getenv("MLXR_MATRIX");
    pairwise_space space;
    matrix_totals totals = {0};
    size_t n_cells = 0;
    double begin = seconds(), worst = 0;
    matrix_space(&space);
    pairwise_cell *table = pairwise_make(&space, strength, &n_cells);
    assert_non_null(table);
    for (size_t i = 0; i < n_cells; i++) {
        matrix_values v;
        matrix_values_of(&table[i], &v);
        if (only && strtoul(only, NULL, 10) != i) {
            continue;
        }
        double cell_begin = seconds();
        (pairwise_is_refused(&space, &table[i]) ? cell_refused : cell_run)(&v, &totals);
        if (getenv("MLXR_MATRIX_VERBOSE")) {
            print_message("%4d %6.0f ms  %s%s\n", (int)i, 1e3 * (seconds() - cell_begin), v.text,
                          totals.differences.worst > worst ? " (the largest difference so far)" : "");
            worst = totals.differences.worst;
        }
    }
    free(table);
    report(&totals, n_cells, strength, seconds() - begin);
    if (!only) {
        assert_int_equal(totals.n_green + totals.n_refused, n_cells);
        assert_true((totals.n_refused > 0 || !matrix_is_whole()) && totals.n_hit_memory > 0 && totals.n_hit_disk > 0);
        assert_true(totals.n_drafted[DRAFT_MTP] > 0 || getenv("MLXR_TEST_BACKEND"));
        assert_true(totals.n_drafted[DRAFT_NGRAM] > 0 && totals.n_accepted[DRAFT_MODEL] > 0);
        assert_true(totals.n_sentences[RULE_GBNF] > 0 && totals.n_sentences[RULE_SCHEMA] > 0);
        matrix_check_backend();
    }
}

static answer answer_of(float best, float second)
{
    answer a = {.n = 2};
    for (size_t i = 0; i < a.n; i++) {
        a.token[i] = a.top[i][0] = (mlxr_token_logprob){5, best};
        a.top[i][1] = (mlxr_token_logprob){6, second};
    }
    return a;
}

/* What a cell is judged by, judged. */
static void the_comparison_sees_a_bit_and_allows_a_tolerance(void **unused)
{
    (void)unused;
    char why[256];
    difference d = {0};
    answer expected = answer_of(-0.5f, -1), got = expected;
    assert_true(answer_same(&expected, &got, 0, true, &d, why, sizeof why));
    got.token[1].logprob = -0.50000006f;
    assert_false(answer_same(&expected, &got, 0, true, &d, why, sizeof why));
    assert_non_null(strstr(why, "token 1 is 5"));
    assert_true(answer_same(&expected, &got, 1e-3, true, &d, why, sizeof why));
    got.top[1][1].logprob = -1.01f;
    assert_false(answer_same(&expected, &got, 1e-3, true, &d, why, sizeof why));
    got = expected;
    got.n = 1;
    assert_false(answer_same(&expected, &got, 1e-3, true, &d, why, sizeof why));
    got = expected;
    got.token[0].id = 6;
    assert_false(answer_same(&expected, &got, 0.2, true, &d, why, sizeof why)); /* the two best were apart */
    assert_int_equal(d.n_parted, 0);
    assert_true(answer_same(&expected, &got, 0.3, true, &d, why, sizeof why));
    assert_true(answer_same(&expected, &got, 1e-3, false, &d, why, sizeof why)); /* a draw at a border */
    assert_int_equal(d.n_parted, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_comparison_sees_a_bit_and_allows_a_tolerance),
        cmocka_unit_test(every_cell_is_green_or_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
