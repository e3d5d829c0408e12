/*
 * Of a matrix of logits memory holds halves (screen_few.h), a copy with one scale a row (screen_copy.h) or neither:
 * which one, passes decide, and none changes a result.
 * Owner: the test program. Lifetime: the process.
 */
#include "kernels/cpu/program.h"

#include "logits_matrix.h"

#define MANY 6u    /* rows that the copy serves */
#define LEARNT 16u /* passes of few rows, of which the next makes halves */
#define AFTER 16u  /* passes of many rows, of which the last makes the copy */
#define WAIT 64u   /* passes of few rows that let the copy go, at first */

static const tiny_options plain = LOGITS_MODEL(2051);

static bool can(void)
{
    return can_copy() && can_halve(cpu_detect());
}

static void open_expecting(subject *s, uint32_t n_vocab)
{
    subject_open(s, &plain, n_vocab);
    logits_pair_expect(&s->l, s->l.tokens, ROWS_MOST);
}

static uint64_t halves_of(const subject *s)
{
    return few_count(s->l.r.prog).n_bytes_kept;
}

static uint64_t copy_of(const subject *s)
{
    return copy_count(s->l.r.prog).n_bytes_kept;
}

/* Passes of n rows each, of which the greatest is wanted; memory holds one at most behind each of them. */
static void passes(subject *s, uint32_t n_passes, uint32_t n)
{
    for (uint32_t i = 0; i < n_passes; i++) {
        logits_pair_check(&s->l, s->l.tokens, n, false);
        assert_true(halves_of(s) == 0 || copy_of(s) == 0);
    }
}

static void expect_halves(const subject *s)
{
    assert_true(halves_of(s) > 0 && copy_of(s) == 0);
    assert_int_equal(few_count(s->l.r.prog).n_made, s->l.n_vocab);
}

static void expect_copy(const subject *s)
{
    assert_true(halves_of(s) == 0 && copy_of(s) > 0);
}

/* How many passes of n rows there are until the one is gone; 0: it stays for `most`. */
static uint32_t passes_until(subject *s, uint32_t n, uint64_t (*held)(const subject *), uint32_t most)
{
    for (uint32_t i = 1; i <= most; i++) {
        passes(s, 1, n);
        if (held(s) == 0) {
            return i;
        }
    }
    return 0;
}

static void passes_of_many_rows_one_after_the_other_let_the_halves_go(void **state)
{
    (void)state;
    if (!can()) {
        skip();
    }
    subject s;
    open_expecting(&s, plain.n_vocab);
    passes(&s, LEARNT + 1, 1);
    expect_halves(&s);
    for (uint32_t i = 0; i < 3; i++) { /* one of few rows among them: halves serve both */
        passes(&s, AFTER - 1, MANY);
        passes(&s, 1, 1 + i);
        expect_halves(&s);
    }
    passes(&s, AFTER - 1, MANY);
    expect_halves(&s);
    passes(&s, 1, MANY);
    expect_copy(&s);
    uint64_t before = copy_count(s.l.r.prog).n_screened;
    passes(&s, 4, ROWS_MOST);
    assert_int_equal(copy_count(s.l.r.prog).n_screened, before + 4);
    subject_close(&s);
}

static void passes_of_few_rows_one_after_the_other_let_the_copy_go(void **state)
{
    (void)state;
    if (!can()) {
        skip();
    }
    subject s;
    open_expecting(&s, plain.n_vocab);
    passes(&s, AFTER, MANY);
    expect_copy(&s);
    passes(&s, WAIT, 1);
    expect_copy(&s);
    passes(&s, 1, MANY); /* counted anew */
    passes(&s, WAIT, 2);
    expect_copy(&s);
    passes(&s, 1, 1);
    expect_halves(&s);
    uint64_t before = few_count(s.l.r.prog).n_screened;
    passes(&s, 4, LINEAR_DIRECT);
    assert_int_equal(few_count(s.l.r.prog).n_screened, before + 4);
    subject_close(&s);
}

static void prompts_do_not_count(void **state)
{
    (void)state;
    if (!can()) {
        skip();
    }
    subject s;
    open_expecting(&s, plain.n_vocab);
    passes(&s, LEARNT + 1, 1);
    passes(&s, AFTER - 1, MANY);
    s.l.r.only_last = true;
    rig_logits(&s.l.r, s.l.tokens, 9, s.l.greatest, s.l.got);
    s.l.r.only_last = false;
    const float *last = s.l.whole + 8 * (size_t)plain.n_vocab;
    if (s.l.greatest[0] == -1) {
        assert_memory_equal(s.l.got, last, plain.n_vocab * sizeof *last);
    } else {
        assert_int_equal(s.l.greatest[0], greatest_of(last, plain.n_vocab));
    }
    passes(&s, 1, MANY);
    expect_copy(&s);
    subject_close(&s);
}

static void halves_that_are_half_made_are_let_go_and_made_from_the_start(void **state)
{
    (void)state;
    if (!can()) {
        skip();
    }
    subject s;
    open_expecting(&s, LARGE);
    passes(&s, LEARNT + 1, 1);
    uint32_t first = few_count(s.l.r.prog).n_made;
    assert_true(first > 0 && first < LARGE);
    passes(&s, AFTER, MANY);
    expect_copy(&s);
    assert_int_equal(few_count(s.l.r.prog).n_made, 0);
    assert_int_equal(passes_until(&s, 1, copy_of, 1000), 2 * WAIT + 1);
    assert_int_equal(few_count(s.l.r.prog).n_made, first);
    passes(&s, 1, 1);
    expect_halves(&s);
    passes(&s, 4, 2);
    subject_close(&s);
}

static void passes_of_many_rows_among_those_that_learn_do_not_count(void **state)
{
    (void)state;
    if (!can()) {
        skip();
    }
    subject s;
    open_expecting(&s, plain.n_vocab);
    for (uint32_t i = 0; i < AFTER - 1; i++) {
        passes(&s, 1, MANY);
        passes(&s, 1, 1);
    }
    passes(&s, 3, 1);
    expect_halves(&s);
    passes(&s, AFTER - 1, MANY);
    expect_halves(&s);
    subject_close(&s);
}

/* What is let go before it has paid waits twice as long the next time: loads that change in turn end with one of
 * them. */
static void what_did_not_pay_waits_longer_each_time(void **state)
{
    (void)state;
    if (!can()) {
        skip();
    }
    subject s;
    open_expecting(&s, plain.n_vocab);
    passes(&s, LEARNT + 1, 1);
    passes(&s, AFTER, MANY);
    expect_copy(&s);
    assert_int_equal(passes_until(&s, 1, copy_of, 1000), 2 * WAIT + 1);
    assert_int_equal(passes_until(&s, MANY, halves_of, 1000), WAIT + AFTER); /* the copy's own pause, then these */
    assert_int_equal(passes_until(&s, 1, copy_of, 1000), 4 * WAIT + 1);
    assert_int_equal(passes_until(&s, MANY, halves_of, 1000), 2 * WAIT + AFTER);
    for (uint32_t i = 0; i < 20; i++) { /* now neither reaches the other's wait */
        passes(&s, 100, 1);
        passes(&s, 50, MANY);
        expect_copy(&s);
    }
    subject_close(&s);
}

static void what_has_paid_does_not(void **state)
{
    (void)state;
    if (!can()) {
        skip();
    }
    subject s;
    open_expecting(&s, plain.n_vocab);
    passes(&s, LEARNT + 1, 1);
    passes(&s, AFTER, MANY);
    assert_int_equal(passes_until(&s, 1, copy_of, 1000), 2 * WAIT + 1);
    passes(&s, 8 * WAIT, 1);
    assert_int_equal(passes_until(&s, MANY, halves_of, 1000), AFTER);
    assert_int_equal(passes_until(&s, 1, copy_of, 1000), WAIT + 1);
    subject_close(&s);
}

static void all_logits_let_the_copy_go_and_halves_are_made_without_a_wait(void **state)
{
    (void)state;
    if (!can()) {
        skip();
    }
    subject s;
    open_expecting(&s, plain.n_vocab);
    passes(&s, LEARNT, 1);
    passes(&s, AFTER, MANY);
    assert_true(copy_of(&s) > 0 || halves_of(&s) > 0);
    logits_pair_check(&s.l, s.l.tokens, MANY, true);
    assert_int_equal(copy_of(&s), 0);
    passes(&s, 1, 1);
    expect_halves(&s);
    logits_pair_check(&s.l, s.l.tokens, MANY, true);
    expect_halves(&s);
    subject_close(&s);
}

static void what_is_refused_is_neither(void **state)
{
    (void)state;
    subject s;
    for (uint32_t copied = 0; copied < 2; copied++) { /* halves are refused, or a copy */
        open_expecting(&s, plain.n_vocab);
        passes(&s, LEARNT + 1, 1);
        passes(&s, copied * AFTER, MANY);
        assert_true(!can() || (copied ? copy_of(&s) : halves_of(&s)) > 0);
        few_refuse(s.l.r.prog);
        copy_refuse(s.l.r.prog);
        passes(&s, 2 * AFTER, MANY);
        passes(&s, 2 * WAIT, 1);
        assert_int_equal(halves_of(&s) + copy_of(&s), 0);
        assert_int_equal(few_kept_bytes(s.l.r.prog) + copy_kept_bytes(s.l.r.prog), 0);
        subject_close(&s);
    }
}

/* What a pass has found of the tokens whose logits are s->l.whole. */
static void expect_named(const subject *s, const int32_t *greatest, uint32_t n)
{
    for (uint32_t row = 0; row < n; row++) {
        size_t at = (size_t)row * s->l.n_vocab;
        if (greatest[row] == -1) {
            assert_memory_equal(s->l.got + at, s->l.whole + at, s->l.n_vocab * sizeof *s->l.got);
        } else {
            assert_int_equal(greatest[row], greatest_of(s->l.whole + at, s->l.n_vocab));
        }
    }
}

/* Neither beside the file's pages: what one gives up, the other reads from there, and gives back; and what is let go
 * goes back to the system. */
static void a_mapped_matrix_is_in_memory_once(void **state)
{
    (void)state;
    if (!can()) {
        skip();
    }
    subject expected;
    tiny t;
    rig r;
    tiny_options o = plain;
    o.n_vocab = LARGE;
    open_expecting(&expected, LARGE);
    open_normal(&t, &o);
    const char *path = test_write_file("matrix", tiny_logits_matrix(&t)->data, tiny_logits_matrix(&t)->n_bytes);
    mapping m = map_matrix(&t, path);
    rig_open(&r, &t, false, 2, cpu_detect(), DTYPE_F32, 64, 2);
    uint32_t n_copies = 0, n_halves = 0;
    bool was_copied = false;
    long before = 0;
    for (uint32_t i = 0; i < 3 * (2 * AFTER + 4 * WAIT); i++) {
        int32_t greatest[MANY];
        uint32_t n = i % (2 * AFTER + 4 * WAIT) < 2 * AFTER ? MANY : 1;
        rig_logits(&r, expected.l.tokens, n, greatest, expected.l.got);
        expect_named(&expected, greatest, n);
        before = i == 0 ? anonymous_kib() : before;
        bool copied = copy_count(r.prog).n_bytes_kept > 0, halved = few_count(r.prog).n_made == LARGE;
        n_copies += copied;
        n_halves += halved;
        assert_false(copied && halved);
        long kib = resident_kib(path);
        assert_true(!(was_copied && copied && n == MANY) || kib <= 64); /* behind the pass that made it */
        was_copied = copied;
        assert_true(!halved || kib <= 64);
    }
    assert_true(n_copies > 3 * AFTER && n_halves > WAIT);
    few_refuse(r.prog);
    copy_refuse(r.prog);
    rig_logits(&r, expected.l.tokens, 1, NULL, expected.l.got);
    assert_int_equal(few_count(r.prog).n_bytes_kept + copy_count(r.prog).n_bytes_kept, 0);
    assert_true(anonymous_kib() < before + (long)(m.n_bytes >> 11)); /* half of what either takes */
    rig_close(&r);
    tiny_close(&t);
    mapping_close(&m);
    subject_close(&expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_of_many_rows_one_after_the_other_let_the_halves_go),
        cmocka_unit_test(passes_of_few_rows_one_after_the_other_let_the_copy_go),
        cmocka_unit_test(prompts_do_not_count),
        cmocka_unit_test(halves_that_are_half_made_are_let_go_and_made_from_the_start),
        cmocka_unit_test(passes_of_many_rows_among_those_that_learn_do_not_count),
        cmocka_unit_test(what_did_not_pay_waits_longer_each_time),
        cmocka_unit_test(what_has_paid_does_not),
        cmocka_unit_test(all_logits_let_the_copy_go_and_halves_are_made_without_a_wait),
        cmocka_unit_test(what_is_refused_is_neither),
        cmocka_unit_test(a_mapped_matrix_is_in_memory_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
