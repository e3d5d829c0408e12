/*
 * Requests of a cell, and what they give alone.
 * Owner: the cell. Lifetime: the cell's.
 */
#include "matrix/alone.h"

#include <math.h>

#include "support/test.h"

/* Sentences of 24 to 40 letters and a number; and JSON that is short, but has all kinds of values in it. */
static const char gbnf[] = "root ::= [a-z ]{24,40} (\".\" | \" \" [0-9]{1,3} \"!\")";
static const char schema[] =
    "{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[\"x\",\"yes\",7]},\"b\":{\"type\":\"boolean\"},"
    "\"c\":{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":99},\"maxItems\":2}},"
    "\"required\":[\"a\",\"b\"],\"additionalProperties\":false}";

static const size_t lengths[] = {70, 33, 5, 96, 1, 64, 40, 17};
enum { N_LENGTHS = sizeof lengths / sizeof *lengths, SHARED = 5, PERIOD = 9 };
/* Of a crowd's other requests: they are there to be many. */
enum { CROWD_PROMPT = 3, CROWD_ANSWER = 6 };

void matrix_request_make(matrix_request *r, const matrix_values *v, uint32_t which, uint32_t variant)
{
    memset(r, 0, sizeof *r);
    bool crowd = which >= N_LENGTHS;
    r->n_prompt = crowd ? CROWD_PROMPT + which % 11 : lengths[which];
    uint64_t begin = 1000 + which % SHARED, rest = 77 * which + 5 + 100000 * variant;
    for (size_t i = 0; i < r->n_prompt; i++) {
        r->prompt[i] = (int32_t)(test_random(i < 32 ? &begin : &rest) % 250 + 1);
        if (which % 2 && i >= PERIOD + 32) { /* text that repeats, for prompt lookup */
            r->prompt[i] = r->prompt[i - PERIOD];
        }
    }
    r->sampling = mlxr_sampling_default();
    r->sampling.temperature = v->sampling == SAMPLING_GREEDY ? 0 : 0.9f;
    r->sampling.seed = 1000 + 10 * which;
    r->sampling.logprobs = true;
    r->sampling.n_logprobs = TOP;
    r->n_choices = v->n_choices;
    r->rule = v->rule == RULE_GBNF ? gbnf : v->rule == RULE_SCHEMA ? schema : NULL;
    r->rule_is_schema = v->rule == RULE_SCHEMA;
    r->n_answer = crowd ? CROWD_ANSWER : v->rule == RULE_OFF ? 12 : v->rule == RULE_GBNF ? 20 : ANSWER_MAX;
}

bool answer_add(answer *a, const mlxr_model *model, const mlxr_sampled *sampled, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, a->n++) {
        if (a->n == ANSWER_MAX || a->ended || sampled[i].n_top != TOP) {
            return false;
        }
        a->token[a->n] = (mlxr_token_logprob){sampled[i].id, sampled[i].logprob};
        memcpy(a->top[a->n], sampled[i].top, sizeof a->top[0]);
        a->ended = mlxr_token_is_end(model, sampled[i].id);
    }
    return true;
}

static mlxr_sequence *open_alone(const matrix_request *r, mlxr_model *model, uint32_t choice)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    mlxr_sampling sampling = r->sampling;
    sampling.seed += choice;
    assert_ok(mlxr_sequence_open(&sequence, model, &sampling, &error), &error);
    if (r->rule) {
        mlxr_grammar *grammar = NULL;
        assert_ok((r->rule_is_schema ? mlxr_grammar_open_schema : mlxr_grammar_open_gbnf)(&grammar, model, r->rule,
                                                                                          strlen(r->rule), &error),
                  &error);
        assert_ok(mlxr_sequence_constrain(sequence, grammar, &error), &error);
        mlxr_grammar_close(&grammar);
    }
    assert_ok(mlxr_sequence_append(sequence, r->prompt, r->n_prompt, &error), &error);
    return sequence;
}

void alone_run(matrix_request *r, mlxr_engine *engine, mlxr_model *model)
{
    mlxr_error error;
    for (uint32_t choice = 0; choice < r->n_choices; choice++) {
        answer *a = &r->expected[choice];
        if (choice && r->sampling.temperature <= 0) { /* whatever the seed */
            *a = r->expected[0];
            continue;
        }
        mlxr_sequence *sequence = open_alone(r, model, choice);
        while (a->n < r->n_answer && !a->ended) {
            mlxr_slice slice = {.sequence = sequence, .n_compute = (uint32_t)mlxr_sequence_pending(sequence)};
            assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
            assert_true(answer_add(a, model, slice.sampled, slice.n_sampled));
        }
        assert_true(!a->ended || mlxr_sequence_may_end(sequence));
        mlxr_sequence_close(&sequence);
    }
}

static bool close_to(float a, float b, double tolerance, difference *d)
{
    if (memcmp(&a, &b, sizeof a) == 0) {
        return true;
    }
    double off = fabs((double)a - (double)b);
    d->worst = off > d->worst && off <= tolerance ? off : d->worst;
    return off <= tolerance;
}

/* Has the answer gone another way for a reason that the tolerance is there for? */
static bool may_part(const answer *expected, size_t i, double tolerance, bool greedy)
{
    double gap = (double)(expected->top[i][0].logprob - expected->top[i][1].logprob);
    return tolerance > 0 && (!greedy || gap <= 2 * tolerance);
}

bool answer_same(const answer *expected, const answer *got, double tolerance, bool greedy, difference *d, char *why,
                 size_t cap)
{
    for (size_t i = 0; i < expected->n && i < got->n; i++) {
        const mlxr_token_logprob *e = &expected->token[i], *g = &got->token[i];
        if (e->id != g->id && may_part(expected, i, tolerance, greedy)) {
            d->n_parted++; /* what follows has another history */
            return true;
        }
        bool same = e->id == g->id && close_to(e->logprob, g->logprob, tolerance, d);
        for (int t = 0; t < TOP && same; t++) {
            const mlxr_token_logprob *et = &expected->top[i][t], *gt = &got->top[i][t];
            same = (et->id == gt->id || tolerance > 0) && close_to(et->logprob, gt->logprob, tolerance, d);
        }
        if (!same) {
            snprintf(why, cap, "token %zu is %d (%.9g), alone %d (%.9g)", i, g->id, (double)g->logprob, e->id,
                     (double)e->logprob);
            return false;
        }
    }
    if (expected->n != got->n || expected->ended != got->ended) {
        snprintf(why, cap, "%zu tokens%s, alone %zu%s", got->n, got->ended ? " with an end" : "", expected->n,
                 expected->ended ? " with an end" : "");
        return false;
    }
    return true;
}
