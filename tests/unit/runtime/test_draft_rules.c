/*
 * Drafts keep to what their target may say: a draft model that is the target itself, greedy, is right with every token,
 * whatever bias and grammar the target has, and a prompt lookup proposes nothing that is forbidden.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "one_model.inc"
#include "runtime/engine.h"
#include "support/test.h"

enum { PROMPT = 24, ANSWER = 48, BANNED_MOST = 64 };

typedef struct rules_of { /* of a sequence */
    const char *gbnf;     /* NULL: none */
    const mlxr_logit_bias *bias;
    size_t n_bias;
    const int32_t *prompt;
    mlxr_model *draft;
    bool drafting;
} rules_of;

/* Generates greedily; returns how many tokens, up to an end. */
static uint32_t generate(const rules_of *r, int32_t *tokens, mlxr_draft_stats *stats)
{
    mlxr_error error;
    mlxr_sequence *s = NULL;
    mlxr_sampling sampling = mlxr_sampling_default();
    uint32_t n = 0;
    sampling.temperature = 0;
    sampling.logit_bias = r->bias;
    sampling.n_logit_bias = r->n_bias;
    assert_ok(mlxr_sequence_open(&s, model, &sampling, &error), &error);
    assert_ok(mlxr_sequence_append(s, r->prompt, PROMPT, &error), &error);
    if (r->gbnf) {
        mlxr_grammar *made = NULL;
        assert_ok(mlxr_grammar_open_gbnf(&made, model, r->gbnf, strlen(r->gbnf), &error), &error);
        assert_ok(mlxr_sequence_constrain(s, made, &error), &error);
        mlxr_grammar_close(&made);
    }
    if (r->drafting) {
        assert_ok(mlxr_sequence_draft(s, r->draft, 4, &error), &error);
        s->spec.tracker.draft_cost = 0; /* or it would see that a model as large as its target does not pay */
    }
    for (bool ended = false; n < ANSWER && !ended;) {
        mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)mlxr_sequence_pending(s)};
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        for (uint32_t i = 0; i < slice.n_sampled && n < ANSWER && !ended; i++) {
            tokens[n++] = slice.sampled[i].id;
            ended = mlxr_token_is_end(model, slice.sampled[i].id);
        }
    }
    *stats = mlxr_draft_stats_get(s);
    mlxr_sequence_close(&s);
    return n;
}

static void check_always_right(rules_of r)
{
    int32_t plain[ANSWER], drafted[ANSWER];
    mlxr_draft_stats stats;
    uint32_t n = generate(&r, plain, &stats);
    r.draft = model;
    r.drafting = true;
    assert_int_equal(generate(&r, drafted, &stats), n);
    assert_memory_equal(plain, drafted, n * sizeof *plain);
    assert_true(stats.n_drafted >= 8);
    assert_in_range(stats.n_drafted - stats.n_accepted, 0, 4); /* what lies behind an end token */
}

/* What the model says by itself is what is forbidden it: a draft that does not know would be wrong every time. */
static size_t ban_favourites(const int32_t *prompt, mlxr_logit_bias *bias)
{
    size_t n = 0;
    for (int round = 0; round < 8; round++) {
        int32_t tokens[ANSWER];
        mlxr_draft_stats stats;
        uint32_t n_tokens = generate(&(rules_of){.bias = bias, .n_bias = n, .prompt = prompt}, tokens, &stats);
        size_t n_before = n;
        for (uint32_t i = 0; i < n_tokens; i++) {
            bool known = false;
            for (size_t j = 0; j < n; j++) {
                known = known || bias[j].id == tokens[i];
            }
            if (!known && n < BANNED_MOST) {
                bias[n++] = (mlxr_logit_bias){.id = tokens[i], .bias = -100};
            }
        }
        if (n == n_before) {
            break;
        }
    }
    return n;
}

static void a_draft_model_knows_the_bias_of_its_target(void **state)
{
    (void)state;
    int32_t prompt[PROMPT];
    mlxr_logit_bias bias[BANNED_MOST];
    tiny_model_tokens(tiny_model_find("llama"), prompt, PROMPT);
    size_t n = ban_favourites(prompt, bias);
    assert_true(n > 0);
    check_always_right((rules_of){.bias = bias, .n_bias = n, .prompt = prompt});
}

static void a_draft_model_knows_the_grammar_of_its_target(void **state)
{
    (void)state;
    static const char *const grammars[] = {
        "root ::= (\"ab\" | \"c\" [0-9] | \"(\" root \")\")+",
        "root ::= \"[\" ([a-z]+ \",\")* [a-z]+ \"]\"",
    };
    int32_t prompt[PROMPT];
    tiny_model_tokens(tiny_model_find("llama"), prompt, PROMPT);
    for (size_t i = 0; i < 2; i++) {
        check_always_right((rules_of){.gbnf = grammars[i], .prompt = prompt});
        mlxr_logit_bias both = {.id = prompt[0], .bias = -100};
        check_always_right((rules_of){.gbnf = grammars[i], .prompt = prompt, .bias = &both, .n_bias = 1});
    }
}

/* Tokens that prompt lookup proposes behind two tokens in turn. */
static uint32_t looked_up(const char *gbnf, float bias)
{
    mlxr_error error;
    mlxr_sequence *s = NULL;
    int32_t prompt[PROMPT];
    for (size_t i = 0; i < PROMPT; i++) {
        prompt[i] = 40 + (int32_t)(i % 2);
    }
    mlxr_logit_bias of = {.id = prompt[1], .bias = bias};
    mlxr_sampling sampling = mlxr_sampling_default();
    sampling.logit_bias = &of;
    sampling.n_logit_bias = 1;
    assert_ok(mlxr_sequence_open(&s, model, &sampling, &error), &error);
    assert_ok(mlxr_sequence_append(s, prompt, PROMPT, &error), &error);
    if (gbnf) {
        mlxr_grammar *made = NULL;
        assert_ok(mlxr_grammar_open_gbnf(&made, model, gbnf, strlen(gbnf), &error), &error);
        assert_ok(mlxr_sequence_constrain(s, made, &error), &error);
        mlxr_grammar_close(&made);
    }
    assert_ok(mlxr_sequence_draft(s, NULL, 4, &error), &error);
    mlxr_slice slice = {.sequence = s, .n_compute = PROMPT - 1, .flags = MLXR_SLICE_NO_SAMPLE};
    assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
    slice = (mlxr_slice){.sequence = s, .n_compute = 1};
    acceptance_tracker_init(&s->spec.tracker, 4, 0.1, 0); /* cheap rows, whatever a busy machine has measured */
    speculation_propose(engine, &slice, 1, 64);
    uint32_t n = s->spec.n_tokens;
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(s->spec.tokens[i], prompt[i % 2]);
    }
    s->spec.n_tokens = 0;
    mlxr_sequence_close(&s);
    return n;
}

static void a_lookup_proposes_nothing_that_is_forbidden(void **state)
{
    (void)state;
    assert_true(looked_up(NULL, 0) >= 2);
    assert_int_equal(looked_up(NULL, -5), looked_up(NULL, 0)); /* unlikely is not forbidden */
    assert_int_equal(looked_up(NULL, -INFINITY), 1);           /* the first of the two may be said, the second not */
    assert_int_equal(looked_up(NULL, -100), 1);
    assert_int_equal(looked_up("root ::= [^\\n]*", 0), looked_up(NULL, 0));
    assert_int_equal(looked_up("root ::= \"\\n\"", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_draft_model_knows_the_bias_of_its_target),
        cmocka_unit_test(a_draft_model_knows_the_grammar_of_its_target),
        cmocka_unit_test(a_lookup_proposes_nothing_that_is_forbidden),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
