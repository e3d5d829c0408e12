/*
 * One to four rows of logits of which only the greatest is wanted: which one that is does not depend on how it was
 * found. Owner: the test program. Lifetime: the process.
 */
#include "kernels/cpu/program.h"

#include "logits_matrix.h"

#define MANY 24u /* passes: 16 learn what is usual, 2 make all weights of two parts */

static const tiny_options plain = LOGITS_MODEL(5057);

/* Passes of n_rows rows name the greatest that whole rows have, while weights are made of two parts and behind it, or
 * leave whole rows. */
static few_counts check(tiny *t, uint32_t n_rows, uint32_t n_threads, cpu_features features)
{
    logits_pair p = logits_pair_open(t, LINEAR_DIRECT, MANY, n_threads, features);
    for (uint32_t at = 0; at < MANY; at++) {
        const int32_t *some = p.tokens + at % (MANY - LINEAR_DIRECT);
        logits_pair_expect(&p, some, n_rows);
        logits_pair_check(&p, some, n_rows, false);
    }
    few_counts counts = few_count(p.r.prog);
    logits_pair_close(&p);
    return counts;
}

/* named: passes with all weights in two parts are screened */
static void check_all_ways(tiny *t, bool named)
{
    const cpu_features features[] = {0, cpu_detect() & ~(cpu_features)(CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16),
                                     cpu_detect()};
    for (uint32_t i = 1; i < 3; i++) {
        for (uint32_t n = 1; n <= LINEAR_DIRECT; n += 3) {
            for (uint32_t threads = 1; threads < 4; threads += 2) {
                few_counts counts = check(t, n, threads, features[i]);
                assert_int_equal(counts.n_made, can_halve(features[i]) && named ? t->o.n_vocab : 0);
                assert_true(!named || !can_halve(features[i]) || counts.n_screened - counts.n_whole >= MANY - MADE);
            }
        }
    }
}

static void the_greatest_is_that_of_whole_rows(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {LARGE, 4096};
    for (uint32_t i = 0; i < 2; i++) {
        tiny_options o = plain;
        o.n_vocab = sizes[i];
        tiny t;
        open_normal(&t, &o);
        check_all_ways(&t, true);
        tiny_close(&t);
    }
}

static void rows_need_not_be_whole_steps_of_the_kernels(void **state)
{
    (void)state;
    tiny_options o = plain;
    o.n_embd = o.n_ff = 32 * 9;
    tiny t;
    open_normal(&t, &o);
    check_all_ways(&t, true);
    tiny_close(&t);
}

static void the_first_of_equal_ones_is_named(void **state)
{
    (void)state;
    tiny t;
    open_normal(&t, &plain);
    for (uint32_t i = 0; i < 1000; i++) {
        for (uint32_t copy = 1; copy < 5; copy++) {
            memcpy(tiny_logits_row(&t, 1000 * copy + (copy * 37 + i) % 1000), tiny_logits_row(&t, i),
                   tiny_logits_matrix(&t)->row_bytes);
        }
    }
    check_all_ways(&t, true);
    tiny_close(&t);
}

/* A few rows' integers do not fit into two parts, scales are negative or an integer is −128. */
static void rows_that_have_no_parts_are_read_as_they_are(void **state)
{
    (void)state;
    tiny t;
    open_normal(&t, &plain);
    for (uint32_t i = 0; i < 60; i++) {
        uint8_t *row = tiny_logits_row(&t, 80 * i + i % 7);
        row[1] = (uint8_t)(row[1] | (i % 3 == 0 ? 0x80 : 0));
        row[2 + i % 32] = i % 3 == 1 ? 0x80 : row[2 + i % 32];
        for (uint32_t b = 0; b < 8 && i % 3 == 2; b++) {
            for (uint32_t j = 0; j < 4; j++) {
                row[b * 34 + 2 + j] = (uint8_t)(int8_t)(j % 2 ? 125 : -125);
            }
        }
    }
    check_all_ways(&t, true);
    tiny_close(&t);
}

/* Then zeros. */
static void logits_that_are_all_alike_are_computed_whole(void **state)
{
    (void)state;
    tiny t;
    open_normal(&t, &plain);
    tiny_logits_alike(&t, plain.n_vocab);
    bool any = can_halve(cpu_detect());
    for (uint32_t threads = 1; threads < 4; threads += 2) {
        few_counts counts = check(&t, 1, threads, cpu_detect());
        assert_true(!any || counts.n_whole + counts.n_paused > 0);
    }
    memset(tiny_logits_row(&t, 0), 0, plain.n_vocab * tiny_logits_matrix(&t)->row_bytes);
    for (uint32_t threads = 1; threads < 4; threads += 2) {
        check(&t, 2, threads, cpu_detect());
    }
    tiny_close(&t);
}

static void weights_that_are_no_numbers_end_it(void **state)
{
    (void)state;
    static const uint16_t scales[] = {0x7e00, 0x7c00, 0xfc00}; /* NaN, ±infinity */
    for (uint32_t i = 0; i < 6; i++) {
        tiny t;
        open_normal(&t, &plain);
        memcpy(tiny_logits_row(&t, i < 3 ? 4500 : 4480), &scales[i % 3],
               sizeof *scales); /* within a block, or its first */
        check_all_ways(&t, false);
        tiny_close(&t);
    }
}

/* One weight, and so one logit, that is far from what is usual. */
static void outliers_are_found(void **state)
{
    (void)state;
    tiny t;
    open_normal(&t, &plain);
    const uint16_t large = 0x6800;
    memcpy(tiny_logits_row(&t, 4321) + 34 * 3, &large, sizeof large);
    check_all_ways(&t, true);
    tiny_close(&t);
}

static void a_small_part_of_what_a_token_reads_is_computed_whole(void **state)
{
    (void)state;
    tiny_options o = plain;
    o.n_vocab = 385;
    tiny t;
    open_normal(&t, &o);
    check_all_ways(&t, false);
    tiny_close(&t);
}

static void other_formats_are_computed_whole(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_Q4_0, DTYPE_Q6_K, DTYPE_F32, DTYPE_BF16};
    for (uint32_t i = 0; i < sizeof types / sizeof *types; i++) {
        tiny_options o = plain;
        o.weights = types[i];
        tiny t;
        tiny_open(&t, &o);
        assert_int_equal(check(&t, 1, 2, cpu_detect()).n_made, 0);
        tiny_close(&t);
    }
}

/* A pass gives what the file's rows give: of all rows the logits, or of those that are named the greatest. */
static void pass(subject *p, uint32_t n_rows, bool all)
{
    logits_pair_expect(&p->l, p->l.tokens, n_rows);
    logits_pair_check(&p->l, p->l.tokens, n_rows, all);
}

/* Of few rows and many, with some rows of weights in two parts and with all: and the parts stay. */
static void all_logits_come_from_the_parts(void **state)
{
    (void)state;
    static const uint32_t n_rows[] = {1, 2, 5, 40};
    bool any = can_halve(cpu_detect());
    subject p;
    subject_open(&p, &plain, LARGE);
    for (uint32_t n = 0; n < MADE; n++) {
        for (uint32_t i = 0; i < sizeof n_rows / sizeof *n_rows && n + 3 > MADE; i++) {
            pass(&p, n_rows[i], true);
        }
        pass(&p, 1, false);
    }
    few_counts before = few_count(p.l.r.prog);
    assert_int_equal(before.n_made, any ? LARGE : 0);
    assert_int_equal(before.n_bytes_kept, few_kept_bytes(p.l.r.prog)); /* this matrix is in no mapping */
    for (uint32_t i = 0; i < sizeof n_rows / sizeof *n_rows; i++) {
        pass(&p, n_rows[i], true);
        pass(&p, n_rows[i], false);
    }
    pass(&p, 2, true);
    memset(tiny_logits_row(&p.t, 0), 0,
           any ? (size_t)LARGE * tiny_logits_matrix(&p.t)->row_bytes : 0); /* nobody reads it */
    rig_logits(&p.l.r, p.l.tokens, 2, NULL, p.l.got);
    assert_memory_equal(p.l.got, p.l.whole, 2 * (size_t)LARGE * sizeof *p.l.got);
    few_counts after = few_count(p.l.r.prog);
    assert_int_equal(after.n_made, before.n_made);
    assert_int_equal(after.n_bytes_kept, before.n_bytes_kept);
    assert_true(!any || after.n_bytes_saved > 0);
    subject_close(&p);
}

/* Of a row, those that are read have their bits, and others either theirs or none. Returns how many have none. */
static uint32_t check_read(const float *got, const float *expected, uint32_t n, step_reads reads)
{
    uint32_t missing = 0;
    float most = expected[greatest_of(expected, n)];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t before = 0;
        for (uint32_t j = 0; j < n && got[i] != expected[i]; j++) {
            before += expected[j] > expected[i] || (expected[j] == expected[i] && j < i);
        }
        bool read = got[i] != expected[i] && (before < reads.n || expected[i] >= most - reads.near);
        assert_false(read);
        assert_true(got[i] == expected[i] || got[i] == -INFINITY);
        missing += got[i] != expected[i];
    }
    return missing;
}

/* While weights are made of two parts, and behind it. */
static void the_logits_that_are_read_have_their_bits(void **state)
{
    (void)state;
    static const step_reads reads[] = {{1, 0}, {1, 0.5f}, {5, 0}, {40, 0}, {40, 3}, {78, 0}, {79, 0}, {1, 1e30f}};
    for (uint32_t r = 0; r < sizeof reads / sizeof *reads; r++) {
        subject p;
        uint32_t n_vocab = reads[r].n > 40 ? plain.n_vocab : LARGE; /* of 79 whole blocks */
        subject_open(&p, &plain, n_vocab);
        p.l.r.reads = reads[r];
        uint32_t missing = 0;
        for (uint32_t n = 0; n < MADE + 3; n++) {
            uint32_t n_rows = n < MADE + 2 ? 1 + n % 2 : LINEAR_DIRECT;
            rig_logits(&p.l.reference, p.l.tokens, n_rows, NULL, p.l.whole);
            rig_logits(&p.l.r, p.l.tokens, n_rows, NULL, p.l.got);
            missing = 0;
            for (uint32_t i = 0; i < n_rows; i++) {
                size_t at = (size_t)i * n_vocab;
                missing += check_read(p.l.got + at, p.l.whole + at, n_vocab, reads[r]);
            }
        }
        assert_true(!can_halve(cpu_detect()) || reads[r].n > 5 || reads[r].near > 1 || missing > 0);
        subject_close(&p);
    }
}

static void what_does_not_pay_is_left_for_a_while(void **state)
{
    (void)state;
    subject p;
    subject_open(&p, &plain, plain.n_vocab);
    tiny_logits_alike(&p.t, plain.n_vocab);
    for (uint32_t n = 0; n < MADE + 20; n++) {
        pass(&p, 1, false);
    }
    few_counts counts = few_count(p.l.r.prog);
    assert_true(!can_halve(cpu_detect()) || (counts.n_whole == 3 && counts.n_paused > 10));
    for (uint32_t n = 0; n < 128; n++) {
        pass(&p, 1, false);
    }
    assert_true(!can_halve(cpu_detect()) || few_count(p.l.r.prog).n_whole > 3); /* and tried again */
    subject_close(&p);
}

static void a_mapped_matrix_is_not_in_memory_beside_its_parts(void **state)
{
    (void)state;
    subject p;
    tiny t;
    rig r;
    tiny_options o = plain;
    o.n_vocab = LARGE;                   /* two passes make the parts */
    subject_open(&p, &plain, o.n_vocab); /* whose logits are expected of the same weights */
    open_normal(&t, &o);
    const char *path = test_write_file("matrix", tiny_logits_matrix(&t)->data, tiny_logits_matrix(&t)->n_bytes);
    mapping m = map_matrix(&t, path);
    rig_open(&r, &t, false, 2, cpu_detect(), DTYPE_F32, 64, 2);
    const uint64_t kept = few_kept_bytes(r.prog);
    uint32_t some_made = 0;
    assert_true(kept < m.n_bytes / 40); /* a float a row */
    for (uint32_t n = 0; n < MADE + 12; n++) {
        int32_t greatest = -1;
        rig_logits(&p.l.reference, p.l.tokens, 1, NULL, p.l.whole);
        rig_logits(&r, p.l.tokens, 1, n % 5 == 4 ? NULL : &greatest, p.l.got);
        if (greatest == -1) {
            assert_memory_equal(p.l.got, p.l.whole, o.n_vocab * sizeof *p.l.got);
        } else {
            assert_int_equal(greatest, greatest_of(p.l.whole, o.n_vocab));
        }
        uint32_t n_made = few_count(r.prog).n_made;
        some_made += n_made > 0 && n_made < o.n_vocab;
        assert_true(n_made == 0 || resident_kib(path) <=
                                       (long)((o.n_vocab - n_made) * dtype_row_bytes(DTYPE_Q8_0, o.n_embd) >> 10) + 64);
    }
    few_counts counts = few_count(r.prog);
    assert_true(!can_halve(cpu_detect()) || (counts.n_made == o.n_vocab && some_made > 0));
    assert_true(counts.n_bytes_kept == (can_halve(cpu_detect()) ? kept + m.n_bytes : 0));
    rig_close(&r);
    tiny_close(&t);
    mapping_close(&m);
    subject_close(&p);
}

static void parts_that_are_refused_are_never_made_again(void **state)
{
    (void)state;
    subject p;
    subject_open(&p, &plain, plain.n_vocab);
    for (uint32_t n = 0; n < MADE; n++) {
        pass(&p, 1, false);
    }
    assert_int_equal(few_count(p.l.r.prog).n_made, can_halve(cpu_detect()) ? plain.n_vocab : 0);
    few_refuse(p.l.r.prog);
    for (uint32_t n = 0; n < 64 + MADE; n++) {
        pass(&p, 1, false);
        assert_int_equal(few_count(p.l.r.prog).n_bytes_kept, 0);
    }
    assert_int_equal(few_kept_bytes(p.l.r.prog), 0);
    subject_close(&p);
}

static const tensor *last_norm(const tiny *t)
{
    return t->ops[t->p.n_ops - 2].weight;
}

/* What an input is cannot be given here: a norm with such a weight makes one of its numbers so. */
static void inputs_that_are_no_numbers_give_what_whole_rows_give(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        subject p;
        subject_open(&p, &plain, plain.n_vocab);
        float *norm = (float *)(uintptr_t)last_norm(&p.t)->data, was = norm[7];
        for (uint32_t n = 0; n < MADE + 2; n++) {
            norm[7] = n == MADE ? bad[i] : was;
            pass(&p, 1, false);
        }
        subject_close(&p);
    }
}

static void parts_leave_as_much_memory_as_they_take(void **state)
{
    (void)state;
    assert_true(few_fits(100, 200));
    assert_false(few_fits(101, 201));
    assert_false(few_fits(UINT64_MAX, UINT64_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_greatest_is_that_of_whole_rows),
        cmocka_unit_test(rows_need_not_be_whole_steps_of_the_kernels),
        cmocka_unit_test(the_first_of_equal_ones_is_named),
        cmocka_unit_test(rows_that_have_no_parts_are_read_as_they_are),
        cmocka_unit_test(logits_that_are_all_alike_are_computed_whole),
        cmocka_unit_test(weights_that_are_no_numbers_end_it),
        cmocka_unit_test(outliers_are_found),
        cmocka_unit_test(a_small_part_of_what_a_token_reads_is_computed_whole),
        cmocka_unit_test(other_formats_are_computed_whole),
        cmocka_unit_test(all_logits_come_from_the_parts),
        cmocka_unit_test(the_logits_that_are_read_have_their_bits),
        cmocka_unit_test(what_does_not_pay_is_left_for_a_while),
        cmocka_unit_test(a_mapped_matrix_is_not_in_memory_beside_its_parts),
        cmocka_unit_test(parts_that_are_refused_are_never_made_again),
        cmocka_unit_test(inputs_that_are_no_numbers_give_what_whole_rows_give),
        cmocka_unit_test(parts_leave_as_much_memory_as_they_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
