/*
 * Drafts of a model's own head for multi-token prediction: tokens are those without it, bit for bit; a head that agrees
 * with its model saves steps, one that does not is left alone; grammar and bias bind it; and files whose head is not
 * whole are refused by the tensor's name. What the head computes is tests/oracle/test_ahead.c's.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "mlxr_convert.h"
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { PROMPT = 50, ANSWER = 60, SEQUENCES = 3 };

static const char *const families[] = {"qwen3next-mtp", "qwen35-mtp", "qwen35moe-mtp", "glm4moe-mtp", "deepseek3-mtp"};
enum { FAMILIES = sizeof families / sizeof *families };

static mlxr_engine *engine;

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    return path;
}

static mlxr_model *load(const char *name, mlxr_mtp mtp)
{
    mlxr_error error;
    mlxr_model *model = NULL;
    assert_ok(mlxr_model_load(&model, engine, path_of(name), &(mlxr_model_options){.mtp = mtp}, &error), &error);
    return model;
}

static int open_engine(void **state)
{
    (void)state;
    mlxr_error error;
    assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = 1, .kv_bytes = 64u << 20}, &error), &error);
    for (size_t i = 0; i < FAMILIES; i++) {
        family_model_write(families[i], path_of(families[i]));
    }
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    mlxr_engine_close(&engine);
    return 0;
}

/* ---- answers ---- */

typedef struct asked {
    mlxr_sampling sampling;
    const char *gbnf; /* NULL: none */
    bool head;
    size_t which;
    bool always; /* it drafts in every step, whether that pays or not */
} asked;

typedef struct answer {
    mlxr_sampled tokens[ANSWER];
    size_t n, n_steps;
    mlxr_draft_stats drafts;
} answer;

static mlxr_sequence *start(mlxr_model *model, const asked *ask)
{
    mlxr_error error;
    mlxr_sequence *s = NULL;
    int32_t ids[PROMPT];
    tiny_model_tokens(tiny_model_find("llama"), ids, PROMPT);
    ids[3] = (int32_t)ask->which + 5;
    assert_ok(mlxr_sequence_open(&s, model, &ask->sampling, &error), &error);
    assert_ok(mlxr_sequence_append(s, ids, PROMPT - 11 * ask->which, &error), &error);
    if (ask->gbnf) {
        mlxr_grammar *made = NULL;
        assert_ok(mlxr_grammar_open_gbnf(&made, model, ask->gbnf, strlen(ask->gbnf), &error), &error);
        assert_ok(mlxr_sequence_constrain(s, made, &error), &error);
        mlxr_grammar_close(&made);
    }
    if (ask->head) {
        assert_ok(mlxr_sequence_draft_mtp(s, 4, &error), &error);
        s->spec.tracker.draft_cost = 0; /* or it would see that a head costs much of so small a model */
    }
    return s;
}

static bool take(answer *a, const mlxr_model *model, const mlxr_slice *slice)
{
    bool ended = false;
    a->n_steps++;
    for (uint32_t i = 0; i < slice->n_sampled && a->n < ANSWER && !ended; i++) {
        a->tokens[a->n++] = slice->sampled[i];
        ended = mlxr_token_is_end(model, slice->sampled[i].id);
    }
    return ended || a->n == ANSWER;
}

/* n sequences together. */
static void answer_all(mlxr_model *model, const asked *asks, answer *answers, size_t n)
{
    mlxr_error error;
    mlxr_sequence *sequences[SEQUENCES];
    for (size_t i = 0; i < n; i++) {
        answers[i] = (answer){.n = 0};
        sequences[i] = start(model, &asks[i]);
    }
    for (size_t n_left = n; n_left > 0;) {
        mlxr_slice slices[SEQUENCES];
        size_t of[SEQUENCES], n_slices = 0;
        for (size_t i = 0; i < n; i++) {
            if (sequences[i]) {
                if (asks[i].always) {
                    acceptance_tracker *t = &sequences[i]->spec.tracker;
                    t->pause = 0;
                    t->row_cost = t->draft_cost = t->loss = 0;
                    t->acceptance = 0.9;
                }
                of[n_slices] = i;
                slices[n_slices++] = (mlxr_slice){.sequence = sequences[i],
                                                  .n_compute = (uint32_t)mlxr_sequence_pending(sequences[i])};
            }
        }
        assert_ok(mlxr_step(engine, slices, n_slices, &error), &error);
        for (size_t i = 0; i < n_slices; i++) {
            if (take(&answers[of[i]], model, &slices[i])) {
                answers[of[i]].drafts = mlxr_draft_stats_get(sequences[of[i]]);
                mlxr_sequence_close(&sequences[of[i]]);
                n_left--;
            }
        }
    }
}

static answer answer_of(mlxr_model *model, const asked *ask)
{
    answer a;
    answer_all(model, ask, &a, 1);
    return a;
}

static void assert_same(const answer *expected, const answer *got, const char *what)
{
    if (expected->n != got->n) {
        fail_msg("%s: %zu tokens, not %zu", what, got->n, expected->n);
    }
    for (size_t i = 0; i < expected->n; i++) {
        if (expected->tokens[i].id != got->tokens[i].id ||
            memcmp(&expected->tokens[i].logprob, &got->tokens[i].logprob, sizeof(float)) != 0) {
            fail_msg("%s: token %zu is %d (%.9g), not %d (%.9g)", what, i, got->tokens[i].id,
                     (double)got->tokens[i].logprob, expected->tokens[i].id, (double)expected->tokens[i].logprob);
        }
    }
}

static mlxr_sampling sampling_of(float temperature, uint64_t seed)
{
    mlxr_sampling sampling = mlxr_sampling_default();
    sampling.temperature = temperature;
    sampling.seed = seed;
    sampling.logprobs = true;
    return sampling;
}

static void tokens_are_those_without_a_head_whatever_is_sampled(void **state)
{
    (void)state;
    static const char *const grammars[] = {NULL, "root ::= (\"ab\" | \"c\" [0-9] | \"(\" root \")\")+"};
    const mlxr_logit_bias bias[] = {{.id = 7, .bias = 3}, {.id = 9, .bias = -100}};
    for (size_t f = 0; f < FAMILIES; f++) {
        mlxr_model *plain = load(families[f], MLXR_MTP_OFF), *model = load(families[f], MLXR_MTP_NEEDED);
        uint64_t n_drafted = 0;
        for (int kind = 0; kind < 8; kind++) { /* greedy or sampled, bound or not, biased or not */
            asked asks[SEQUENCES];
            answer expected[SEQUENCES], got[SEQUENCES];
            for (size_t i = 0; i < SEQUENCES; i++) {
                asks[i] = (asked){sampling_of(kind & 1 ? 0.9f : 0, 11 + i), grammars[kind >> 1 & 1], false, i, false};
                asks[i].sampling.logit_bias = bias;
                asks[i].sampling.n_logit_bias = kind & 4 ? 2 : 0;
                expected[i] = answer_of(plain, &asks[i]);
                asks[i].head = asks[i].always = true;
            }
            answer_all(model, asks, got, SEQUENCES);
            for (size_t i = 0; i < SEQUENCES; i++) {
                assert_same(&expected[i], &got[i], families[f]);
                n_drafted += got[i].drafts.n_drafted;
            }
        }
        print_message("%s: %d tokens drafted\n", families[f], (int)n_drafted);
        assert_true(n_drafted > 100);
        mlxr_model_unref(&plain);
        mlxr_model_unref(&model);
    }
}

/* ---- a head that agrees ---- */

static bool has(const char *name, const char *word)
{
    return strstr(name, word) != NULL;
}

/* No layer adds anything, so that a token alone decides what follows it; and the head hands the token's embedding on:
 * both say the same. */
static void agree(const char *name, float *values, size_t n)
{
    if (has(name, "o_proj") || has(name, "out_proj") || has(name, "down_proj") || has(name, "pre_fc_norm") ||
        strcmp(name, "mtp.norm.weight") == 0 || strcmp(name, "model.norm.weight") == 0) {
        memset(values, 0, n * sizeof *values);       /* norms are 1 + w */
    } else if (strcmp(name, "mtp.fc.weight") == 0) { /* [n_embd][2 × n_embd] */
        size_t n_embd = (size_t)sqrt((double)n / 2);
        memset(values, 0, n * sizeof *values);
        for (size_t i = 0; i < n_embd; i++) {
            values[i * 2 * n_embd + i] = 1;
        }
    }
}

static mlxr_model *load_agreeing(mlxr_mtp mtp)
{
    static bool written;
    if (!written) {
        family_model_write_changed("qwen35-mtp", path_of("agreeing"), agree);
        written = true;
    }
    return load("agreeing", mtp);
}

static void a_head_that_agrees_is_always_right_and_saves_steps(void **state)
{
    (void)state;
    mlxr_model *plain = load_agreeing(MLXR_MTP_OFF), *model = load_agreeing(MLXR_MTP_NEEDED);
    asked ask = {.sampling = sampling_of(0, 1)};
    answer expected = answer_of(plain, &ask);
    ask.head = true;
    answer got = answer_of(model, &ask);
    assert_same(&expected, &got, "agreeing");
    assert_int_equal(expected.n, ANSWER);
    print_message("%zu tokens in %zu steps, without a head %zu; %d of %d drafted tokens were right\n", got.n,
                  got.n_steps, expected.n_steps, (int)got.drafts.n_accepted, (int)got.drafts.n_drafted);
    assert_true(got.drafts.n_drafted >= 30);
    assert_int_equal(got.drafts.n_accepted, got.drafts.n_drafted);
    assert_true(got.n_steps * 3 <= expected.n_steps);
    mlxr_model_unref(&plain);
    mlxr_model_unref(&model);
}

/* A head that did not know them would be wrong wherever they forbid what it likes best. */
static void a_head_that_agrees_knows_grammar_and_bias(void **state)
{
    (void)state;
    static const char *const grammars[] = {NULL, "root ::= \"[\" ([a-z]+ \",\")* [a-z]+ \"]\""};
    mlxr_model *model = load_agreeing(MLXR_MTP_NEEDED);
    asked ask = {.sampling = sampling_of(0, 1)};
    answer favourites = answer_of(model, &ask);
    mlxr_logit_bias bias[8];
    for (size_t i = 0; i < 8; i++) {
        bias[i] = (mlxr_logit_bias){.id = favourites.tokens[i].id, .bias = -100};
    }
    for (int kind = 0; kind < 4; kind++) {
        asked bound = {.sampling = sampling_of(0, 1), .gbnf = grammars[kind & 1]};
        bound.sampling.logit_bias = bias;
        bound.sampling.n_logit_bias = kind & 2 ? 8 : 0;
        answer expected = answer_of(model, &bound);
        bound.head = bound.always = true; /* whatever steps take */
        answer got = answer_of(model, &bound);
        assert_same(&expected, &got, "bound");
        assert_true(got.drafts.n_drafted >= 4);
        assert_in_range(got.drafts.n_drafted - got.drafts.n_accepted, 0, 4); /* what lies behind an end token */
    }
    mlxr_model_unref(&model);
}

/* Forked, released, cut and gone on with, it drafts as before: all it needs is in the pages. */
static void what_is_copied_released_or_cut_goes_on_being_right(void **state)
{
    (void)state;
    mlxr_error error;
    mlxr_model *model = load_agreeing(MLXR_MTP_NEEDED);
    asked ask = {.sampling = sampling_of(0, 1), .head = true};
    mlxr_sequence *s = start(model, &ask), *copy = NULL;
    for (int i = 0; i < 12; i++) {
        mlxr_sequence *now = copy ? copy : s;
        mlxr_slice slice = {.sequence = now, .n_compute = (uint32_t)mlxr_sequence_pending(now)};
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        if (i == 3) {
            assert_ok(mlxr_sequence_fork(&copy, s, NULL, &error), &error);
            copy->spec.tracker.draft_cost = 0;
            mlxr_sequence_release(s);
        } else if (i == 6) {
            mlxr_sequence_release(now);
            mlxr_sequence_resume(now);
            assert_true(mlxr_sequence_cached(now) > 0);
        } else if (i == 9) {
            assert_ok(mlxr_sequence_truncate(now, mlxr_sequence_length(now) - 3, &error), &error);
        }
    }
    mlxr_draft_stats stats = mlxr_draft_stats_get(copy);
    assert_true(stats.n_drafted > 12);
    assert_int_equal(stats.n_accepted, stats.n_drafted);
    mlxr_sequence_close(&copy);
    mlxr_sequence_close(&s);
    mlxr_model_unref(&model);
}

/* ---- a head that does not ---- */

static void a_head_that_is_never_right_is_soon_left_alone(void **state)
{
    (void)state;
    mlxr_error error;
    mlxr_model *model = load("qwen3next-mtp", MLXR_MTP_NEEDED);
    asked ask = {.sampling = sampling_of(1.5f, 5), .head = true};
    mlxr_sequence *s = start(model, &ask);
    for (int i = 0; i < 150; i++) {
        mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)mlxr_sequence_pending(s)};
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        assert_true(model->times.head_loss == s->spec.tracker.loss); /* what the step's time told is in it */
    }
    mlxr_draft_stats stats = mlxr_draft_stats_get(s);
    print_message("%d of %d steps drafted, %d of %d tokens were right\n", (int)stats.n_drafting_steps,
                  (int)stats.n_steps, (int)stats.n_accepted, (int)stats.n_drafted);
    assert_true(stats.n_drafted > 0 && stats.n_drafting_steps * 5 < stats.n_steps);
    mlxr_sequence_close(&s);
    static const struct {
        double before, begins;
    } accounts[] = {{0.6, 0.3}, {0, 0}, {-4, 0}}; /* it is the same head, but what it gained was on another text */
    for (size_t i = 0; i < 3; i++) {
        model->times.head_loss = accounts[i].before;
        s = start(model, &ask);
        assert_true(s->spec.tracker.loss == accounts[i].begins);
        mlxr_sequence_close(&s);
    }
    mlxr_model_unref(&model);
}

/* ---- memory ---- */

/* A step of two sequences in a new engine: the first drafts across the end of a page where the second's own token needs
 * a page. How the step went, and how many tokens were drafted. */
static mlxr_status step_in(size_t kv_bytes, bool drafts, size_t first, uint32_t *n_drafted)
{
    mlxr_error error;
    mlxr_engine *small = NULL;
    mlxr_model *model = NULL;
    mlxr_sequence *s[2] = {NULL, NULL};
    mlxr_slice slices[2];
    int32_t ids[PROMPT];
    tiny_model_tokens(tiny_model_find("llama"), ids, PROMPT);
    mlxr_engine_options options = {.n_threads = 1, .kv_bytes = kv_bytes, .no_prefix_cache = true};
    assert_ok(mlxr_engine_open(&small, &options, &error), &error);
    mlxr_status status = mlxr_model_load(&model, small, path_of("deepseek3-mtp"),
                                         &(mlxr_model_options){.mtp = MLXR_MTP_NEEDED}, &error);
    for (size_t i = 0; i < 2 && status == MLXR_OK; i++) {
        const uint32_t n = ENGINE_PAGE_TOKENS - 2 + (uint32_t)i; /* the drafting one's page has room for a token more */
        assert_ok(mlxr_sequence_open(&s[i], model, NULL, &error), &error);
        assert_ok(mlxr_sequence_append(s[i], ids, n + 1, &error), &error);
        mlxr_slice slice = {.sequence = s[i], .n_compute = n, .flags = MLXR_SLICE_NO_SAMPLE};
        status = mlxr_step(small, &slice, 1, &error);
    }
    if (status == MLXR_OK && drafts) {
        assert_ok(mlxr_sequence_draft_mtp(s[0], 4, &error), &error);
        s[0]->spec.tracker.row_cost = s[0]->spec.tracker.draft_cost = 0;
        s[0]->spec.tracker.acceptance = 0.9;
    }
    if (status == MLXR_OK) {
        assert_ok(mlxr_sequence_append(s[1], ids, 1, &error), &error);
        slices[first] = (mlxr_slice){.sequence = s[0], .n_compute = 1};
        slices[1 - first] = (mlxr_slice){.sequence = s[1], .n_compute = 2};
        status = mlxr_step(small, slices, 2, &error);
        *n_drafted = (uint32_t)mlxr_draft_stats_get(s[0]).n_drafted;
    }
    if (status != MLXR_OK && status != MLXR_KV_FULL) {
        fail_msg("%zu bytes: %s", kv_bytes, error.text);
    }
    mlxr_sequence_close(&s[0]);
    mlxr_sequence_close(&s[1]);
    mlxr_model_unref(&model);
    mlxr_engine_close(&small);
    return status;
}

static void drafting_never_fails_a_step_for_want_of_pages(void **state)
{
    (void)state;
    int n_full = 0, n_without = 0, n_with = 0;
    for (size_t kv_bytes = 20 << 10; kv_bytes <= 130 << 10; kv_bytes += 1024) {
        for (size_t first = 0; first < 2; first++) {
            uint32_t n_plain = 0, n_drafted = 0;
            mlxr_status plain = step_in(kv_bytes, false, first, &n_plain);
            mlxr_status drafting = step_in(kv_bytes, true, first, &n_drafted);
            if (drafting != plain) {
                fail_msg("%zu bytes: status %d with drafts, %d without", kv_bytes, (int)drafting, (int)plain);
            }
            n_full += plain != MLXR_OK;
            n_without += plain == MLXR_OK && n_drafted == 0;
            n_with += plain == MLXR_OK && n_drafted > 0;
        }
    }
    print_message("%d too small, %d too small to draft, %d large enough\n", n_full, n_without, n_with);
    assert_true(n_full > 0 && n_without > 0 && n_with > 0);
}

/* The keys by head that latent attention makes of its weights are made for layers that are used. */
static void a_head_that_is_not_asked_for_takes_no_memory(void **state)
{
    (void)state;
    mlxr_model *off = load("deepseek3-mtp", MLXR_MTP_OFF), *on = load("deepseek3-mtp", MLXR_MTP_NEEDED);
    uint32_t head = off->graph->h.n_layers;
    assert_non_null(off->graph->weights.layers[head - 1].k_up->data);
    assert_null(off->graph->weights.layers[head].k_up->data);
    assert_non_null(on->graph->weights.layers[head].k_up->data);
    assert_true(mlxr_model_info_get(off)->weight_bytes < mlxr_model_info_get(on)->weight_bytes);
    mlxr_model_unref(&off);
    mlxr_model_unref(&on);
}

/* ---- what is refused ---- */

static void expect_refused(const char *name, mlxr_mtp mtp, const char *words)
{
    mlxr_error error;
    mlxr_model *model = NULL;
    mlxr_status status = mlxr_model_load(&model, engine, path_of(name), &(mlxr_model_options){.mtp = mtp}, &error);
    if (status == MLXR_OK || !strstr(error.text, words)) {
        fail_msg("%s: %s, not '%s'", name, status == MLXR_OK ? "not refused" : error.text, words);
    }
}

static void who_has_no_head_is_told_so(void **state)
{
    (void)state;
    mlxr_error error;
    family_model_write("qwen3next", path_of("headless"));
    family_model_write("lfm2", path_of("headless-lfm2"));
    expect_refused("headless", MLXR_MTP_NEEDED, "this qwen3next model has no multi-token-prediction head");
    expect_refused("headless-lfm2", MLXR_MTP_NEEDED, "this lfm2 model has no multi-token-prediction head");
    mlxr_model *without = load("headless", MLXR_MTP_IF_ANY), *off = load(families[0], MLXR_MTP_OFF);
    assert_false(mlxr_model_info_get(without)->mtp || mlxr_model_info_get(without)->has_mtp);
    assert_true(mlxr_model_info_get(off)->has_mtp && !mlxr_model_info_get(off)->mtp);
    assert_true(mlxr_model_info_get(off)->mtp_bytes > 0);
    mlxr_sequence *s = NULL;
    assert_ok(mlxr_sequence_open(&s, off, NULL, &error), &error);
    assert_int_equal(mlxr_sequence_draft_mtp(s, 4, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "loaded without a multi-token-prediction head, but has one"));
    mlxr_sequence_close(&s);
    mlxr_model *with = load(families[0], MLXR_MTP_IF_ANY);
    assert_true(mlxr_model_info_get(with)->mtp);
    assert_ok(mlxr_sequence_open(&s, with, NULL, &error), &error);
    assert_int_equal(mlxr_sequence_draft_mtp(s, 16, &error), MLXR_ARG);
    mlxr_sequence_close(&s);
    mlxr_model_unref(&with);
    mlxr_model_unref(&without);
    mlxr_model_unref(&off);
}

/* Without its head a model still has to be whole: a tensor too few, too many or of another shape names itself. */
static void a_head_that_is_not_whole_names_the_tensor(void **state)
{
    (void)state;
    static const struct {
        const char *family, *word, *told;
    } missing[] = {{"qwen35-mtp", "mtp.fc", "tensor 'blk.4.nextn.eh_proj.weight' is missing"},
                   {"qwen35-mtp", "mtp.pre_fc_norm_embedding", "tensor 'blk.4.nextn.enorm.weight' is missing"},
                   {"qwen35-mtp", "mtp.pre_fc_norm_hidden", "tensor 'blk.4.nextn.hnorm.weight' is missing"},
                   {"qwen35-mtp", "mtp.layers.0.self_attn.k_proj", "tensor 'blk.4.attn_k.weight' is missing"},
                   {"qwen35-mtp", "mtp.layers.0.mlp.up_proj", "tensor 'blk.4.ffn_up.weight' is missing"},
                   {"qwen3next-mtp", "mtp.layers.0.mlp.gate.", "tensor 'blk.4.ffn_gate_inp.weight' is missing"},
                   {"qwen3next-mtp", "mtp.layers.0.mlp.experts.3.down", "tensor 'blk.4.ffn_down.3.weight' is missing"},
                   {"glm4moe-mtp", "layers.4.eh_proj", "tensor 'blk.4.nextn.eh_proj.weight' is missing"},
                   {"deepseek3-mtp", "layers.4.self_attn.kv_b_proj", "tensor 'blk.4.attn_kv_b.weight' is missing"}};
    static const struct {
        const char *family, *from, *to, *told;
    } changed[] = {{"qwen35-mtp", "\"mtp.fc.weight\": {\"dtype\": \"F32\", \"shape\": [64, 128]",
                    "\"mtp.fc.weight\": {\"dtype\": \"F32\", \"shape\": [128, 64]",
                    "'blk.4.nextn.eh_proj.weight' has shape [64, 128"},
                   {"qwen35-mtp", "\"mtp.norm.weight\": {\"dtype\": \"F32\", \"shape\": [64]",
                    "\"mtp.nurm.weight\": {\"dtype\": \"F32\", \"shape\": [64]",
                    "tensor 'mtp.nurm.weight' has no place"},
                   {"deepseek3-mtp", "layers.4.shared_head.head.weight\": {\"dtype\": \"F32\", \"shape\": [320, 64]",
                    "layers.4.shared_head.head.weight\": {\"dtype\": \"F32\", \"shape\": [64, 320]",
                    "'blk.4.nextn.shared_head_head.weight' has shape [320, 64"}};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        family_model_write_without(missing[i].family, path_of("part"), (const char *const[]){missing[i].word, NULL});
        expect_refused("part", MLXR_MTP_NEEDED, missing[i].told);
        expect_refused("part", MLXR_MTP_OFF, missing[i].told);
    }
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        char file[600];
        family_model_write(changed[i].family, path_of("changed"));
        snprintf(file, sizeof file, "%s/model.safetensors", path_of("changed"));
        family_model_exchange(file, changed[i].from, changed[i].to);
        expect_refused("changed", MLXR_MTP_NEEDED, changed[i].told);
        expect_refused("changed", MLXR_MTP_OFF, changed[i].told);
    }
    family_model_write("qwen35-mtp", path_of("second"));
    char file[600];
    snprintf(file, sizeof file, "%s/model.safetensors", path_of("second"));
    family_model_exchange(file, "mtp.layers.0.", "mtp.layers.1.");
    expect_refused("second", MLXR_MTP_NEEDED, "tensor 'blk.4.attn_norm.weight' is missing");
}

/* GGUF may list the widths layer by layer; its list goes on to the head. */
static void a_list_of_dense_widths_has_one_for_the_head(void **state)
{
    (void)state;
    mlxr_error error;
    model_file *file = NULL;
    hparams h;
    assert_ok(model_file_open(&file, path_of("qwen35-mtp"), &error), &error);
    assert_ok(hparams_read(&h, file, &error), &error);
    uint32_t n = h.n_layers, width = h.n_ff, list[HPARAMS_LAYERS_MAX];
    assert_int_equal(h.layer_ff[n], width);
    for (uint32_t i = 0; i < n; i++) {
        list[i] = width;
    }
    list[n] = width + 32;
    meta_value *value = (meta_value *)(uintptr_t)model_file_meta(file, "qwen35.feed_forward_length");
    *value = (meta_value){.key = value->key, .type = META_ARRAY, .array = {.type = META_U32, .n = n + 1, .data = list}};
    assert_ok(hparams_read(&h, file, &error), &error);
    assert_int_equal(h.layer_ff[n - 1], width);
    assert_int_equal(h.layer_ff[n], width + 32);
    assert_int_equal(h.n_ff, width + 32);
    value->array.n = n; /* it may end before */
    assert_ok(hparams_read(&h, file, &error), &error);
    assert_int_equal(h.layer_ff[n], width);
    model_file_close(&file);
}

static void converted_files_draft_the_same(void **state)
{
    (void)state;
    static const char *const converted[] = {"qwen3next-mtp", "glm4moe-mtp", "deepseek3-mtp"};
    for (size_t f = 0; f < 3; f++) {
        mlxr_error error;
        char out[600];
        snprintf(out, sizeof out, "%s.gguf", path_of(converted[f]));
        assert_ok(mlxr_quantize(path_of(converted[f]), out, &(mlxr_quantize_options){.type = "F32"}, NULL, &error),
                  &error);
        mlxr_model *folder = load(converted[f], MLXR_MTP_NEEDED), *file = NULL;
        assert_ok(mlxr_model_load(&file, engine, out, &(mlxr_model_options){.mtp = MLXR_MTP_NEEDED}, &error), &error);
        asked ask = {.sampling = sampling_of(0, 1), .head = true};
        answer expected = answer_of(folder, &ask), got = answer_of(file, &ask);
        assert_int_equal(expected.n, got.n);
        for (size_t i = 0; i < got.n; i++) {
            assert_int_equal(expected.tokens[i].id, got.tokens[i].id);
        }
        assert_int_equal(expected.drafts.n_accepted, got.drafts.n_accepted);
        mlxr_model_unref(&folder);
        mlxr_model_unref(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_those_without_a_head_whatever_is_sampled),
        cmocka_unit_test(a_head_that_agrees_is_always_right_and_saves_steps),
        cmocka_unit_test(a_head_that_agrees_knows_grammar_and_bias),
        cmocka_unit_test(what_is_copied_released_or_cut_goes_on_being_right),
        cmocka_unit_test(a_head_that_is_never_right_is_soon_left_alone),
        cmocka_unit_test(drafting_never_fails_a_step_for_want_of_pages),
        cmocka_unit_test(a_head_that_is_not_asked_for_takes_no_memory),
        cmocka_unit_test(who_has_no_head_is_told_so),
        cmocka_unit_test(a_head_that_is_not_whole_names_the_tensor),
        cmocka_unit_test(a_list_of_dense_widths_has_one_for_the_head),
        cmocka_unit_test(converted_files_draft_the_same),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
