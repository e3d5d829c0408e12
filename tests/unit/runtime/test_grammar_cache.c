/*
 * Grammar cache: a text is compiled once, told apart from every other, kept within its bounds, and never given out
 * again once it has used up a part of its limits; sequences bound by a found one say what they would have said. Owner:
 * the test program. Lifetime: the process.
 */
#include "mlxr_grammar.h"
#include "one_model.inc"
#include "runtime/engine.h"
#include "support/test.h"

static mlxr_grammar *open_text(const char *text, bool is_schema)
{
    mlxr_error error;
    mlxr_grammar *made = NULL;
    assert_ok((is_schema ? mlxr_grammar_open_schema : mlxr_grammar_open_gbnf)(&made, model, text, strlen(text), &error),
              &error);
    return made;
}

/* Opens and closes; true: it was found. */
static bool was_found(const char *text, bool is_schema)
{
    uint64_t n_found = mlxr_grammar_stats_get(model).n_found;
    mlxr_grammar *made = open_text(text, is_schema);
    mlxr_grammar_close(&made);
    return mlxr_grammar_stats_get(model).n_found > n_found;
}

static void a_text_is_compiled_once(void **state)
{
    (void)state;
    mlxr_error error;
    mlxr_grammar *made = NULL;
    assert_false(was_found("root ::= \"a\"", false));
    assert_true(was_found("root ::= \"a\"", false));
    assert_false(was_found("root ::= \"a\" ", false)); /* one byte more */
    assert_false(was_found("{}", true));
    assert_true(was_found("{}", true));
    for (int i = 0; i < 2; i++) { /* the same bytes as GBNF are another text, and what is wrong stays wrong */
        assert_int_not_equal(mlxr_grammar_open_gbnf(&made, model, "{}", 2, &error), MLXR_OK);
        assert_int_not_equal(mlxr_grammar_open_schema(&made, model, "{\"type\":\"no\"}", 13, &error), MLXR_OK);
    }
    mlxr_grammar_stats stats = mlxr_grammar_stats_get(model);
    assert_int_equal(stats.n_made, 3);
    assert_int_equal(stats.n_found, 2);
    assert_int_equal(stats.n_kept, 3);
    assert_int_equal(stats.n_dropped, 0);
    assert_true(stats.bytes_kept > 0);
}

static void the_longest_unused_goes_first(void **state)
{
    (void)state;
    char text[64];
    mlxr_grammar *held = open_text("root ::= \"held\"", false);
    for (int i = 0; i < (int)GRAMMAR_CACHE_MOST; i++) {
        snprintf(text, sizeof text, "root ::= \"n%d\"", i);
        assert_false(was_found(text, false));
        assert_true(was_found("root ::= \"n0\"", false)); /* stays, for it is in use again and again */
    }
    assert_int_equal(mlxr_grammar_stats_get(model).n_kept, GRAMMAR_CACHE_MOST);
    assert_true(was_found("root ::= \"n0\"", false));
    assert_true(was_found(text, false));
    assert_false(was_found("root ::= \"held\"", false)); /* gone from the cache … */
    mlxr_error error;
    mlxr_sequence *s = NULL;
    assert_ok(mlxr_sequence_open(&s, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_constrain(s, held, &error), &error); /* … and whole for who holds it */
    assert_false(mlxr_sequence_may_end(s));
    mlxr_sequence_close(&s);
    mlxr_grammar_close(&held);
}

static void bytes_are_bounded_as_well(void **state)
{
    (void)state;
    enum { EACH = 3 << 20 };
    char *text = malloc(EACH + 1);
    assert_non_null(text);
    for (int i = 0; i < 40; i++) { /* comments: long texts of a small grammar */
        int n = snprintf(text, 64, "root ::= \"b%d\" #", i);
        memset(text + n, 'x', (size_t)(EACH - n));
        text[EACH] = 0;
        mlxr_grammar *made = open_text(text, false);
        mlxr_grammar_close(&made);
        assert_true(mlxr_grammar_stats_get(model).bytes_kept <= GRAMMAR_CACHE_BYTES);
    }
    assert_true(was_found(text, false));
    free(text);
}

/* Every nesting is a state more. */
static void a_grown_grammar_is_made_anew(void **state)
{
    (void)state;
    static const char text[] = "root ::= \"[\" root \"]\" | \"x\"";
    mlxr_grammar *made = open_text(text, false);
    uint32_t at = GRAMMAR_START;
    uint32_t n = 0;
    while (!grammar_is_grown(made->g)) {
        assert_true(++n < 1u << 20);
        at = grammar_advance_bytes(made->g, at, "[", 1);
        assert_int_not_equal(at, GRAMMAR_DEAD);
    }
    mlxr_grammar_close(&made);
    uint64_t n_dropped = mlxr_grammar_stats_get(model).n_dropped;
    assert_false(was_found(text, false));
    assert_true(mlxr_grammar_stats_get(model).n_dropped > n_dropped);
    assert_true(was_found(text, false));
}

/* They are small when they are compiled; what their texts need comes later. */
static void what_grammars_learn_is_bounded_as_well(void **state)
{
    (void)state;
    enum { N = 12, NESTINGS = 100000 };
    mlxr_error error;
    mlxr_sequence *s = NULL;
    mlxr_grammar *made[N];
    char text[N][64];
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof text[i], "root ::= \"[\" root \"]\" | [0-9a-f]+ \"%d\"", i);
        made[i] = open_text(text[i], false);
    }
    for (int i = 0; i < N; i++) {
        uint32_t at = GRAMMAR_START;
        for (int k = 0; k < NESTINGS; k++) {
            at = grammar_advance_bytes(made[i]->g, at, "[", 1);
            assert_int_not_equal(at, GRAMMAR_DEAD);
        }
    }
    assert_true(mlxr_grammar_stats_get(model).bytes_kept > GRAMMAR_CACHE_BYTES);
    int32_t prompt[4];
    tiny_model_tokens(tiny_model_find("llama"), prompt, 4);
    assert_ok(mlxr_sequence_open(&s, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(s, prompt, 4, &error), &error);
    assert_ok(mlxr_sequence_constrain(s, made[N - 1], &error), &error);
    mlxr_slice slice = {.sequence = s, .n_compute = 4};
    assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
    mlxr_grammar_stats stats = mlxr_grammar_stats_get(model);
    assert_true(stats.bytes_kept <= GRAMMAR_CACHE_BYTES);
    assert_true(stats.n_kept >= 1);                                                               /* the newest */
    assert_int_not_equal(grammar_advance_bytes(made[0]->g, GRAMMAR_START, "[", 1), GRAMMAR_DEAD); /* whole for us */
    mlxr_sequence_close(&s);
    for (int i = 0; i < N; i++) {
        mlxr_grammar_close(&made[i]);
    }
}

static void a_found_grammar_binds_as_a_new_one_does(void **state)
{
    (void)state;
    enum { PROMPT = 16, ANSWER = 40 };
    static const char text[] = "root ::= (\"a\" [0-9]+ \",\")+ | \"(\" root \")\"";
    int32_t prompt[PROMPT], first[ANSWER];
    uint32_t n_first = 0;
    tiny_model_tokens(tiny_model_find("llama"), prompt, PROMPT);
    for (int round = 0; round < 3; round++) {
        mlxr_error error;
        mlxr_sequence *s = NULL;
        mlxr_sampling sampling = mlxr_sampling_default();
        sampling.seed = 5;
        assert_ok(mlxr_sequence_open(&s, model, &sampling, &error), &error);
        assert_ok(mlxr_sequence_append(s, prompt, PROMPT, &error), &error);
        mlxr_grammar *made = open_text(text, false);
        assert_ok(mlxr_sequence_constrain(s, made, &error), &error);
        mlxr_grammar_close(&made);
        uint32_t n = 0;
        for (bool ended = false; n < ANSWER && !ended; n++) {
            mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)mlxr_sequence_pending(s)};
            assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
            ended = mlxr_token_is_end(model, slice.token);
            if (round == 0) {
                first[n_first++] = slice.token;
            } else {
                assert_int_equal(slice.token, first[n]);
            }
        }
        assert_int_equal(n, n_first);
        mlxr_sequence_close(&s);
    }
    assert_true(mlxr_grammar_stats_get(model).n_found >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_compiled_once),      cmocka_unit_test(the_longest_unused_goes_first),
        cmocka_unit_test(bytes_are_bounded_as_well),    cmocka_unit_test(what_grammars_learn_is_bounded_as_well),
        cmocka_unit_test(a_grown_grammar_is_made_anew), cmocka_unit_test(a_found_grammar_binds_as_a_new_one_does),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
