/*
 * What options make of a model's RoPE: contexts, what a file's own scaling becomes, and what is refused.
 * Owner: the test program. Lifetime: the process.
 */
#include "graph/rope_extend.h"

#include <math.h>

#include "graph/graph.h"
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

/* A Llama of 4 layers, trained for 2,048 tokens. */
static hparams plain(void)
{
    return (hparams){.fam = family_find("llama", 5),
                     .n_layers = 4,
                     .n_rot = 64,
                     .n_rot_window = 64,
                     .n_ctx_train = 2048,
                     .attn_scale = 0.125f,
                     .rope_theta = 10000,
                     .scaling = {.factor = 1, .beta_fast = 32, .beta_slow = 1, .n_ctx_orig = 2048}};
}

static hparams scaled(rope_scaling_kind kind, float factor, uint32_t n_ctx_orig)
{
    hparams h = plain();
    h.scaling.kind = kind;
    h.scaling.factor = factor;
    h.scaling.n_ctx_orig = n_ctx_orig;
    return h;
}

static mlxr_model_options asked(mlxr_rope_scaling scaling, float scale, uint32_t n_ctx)
{
    return (mlxr_model_options){.n_ctx_max = n_ctx, .rope = {.scaling = scaling, .scale = scale}};
}

static void extend(hparams *h, mlxr_model_options o)
{
    mlxr_error error;
    assert_ok(rope_extend(h, NULL, &o, &error), &error);
}

static void refuse(hparams h, const float *factors, mlxr_model_options o, mlxr_status status, const char *words)
{
    mlxr_error error = {.text = ""};
    assert_int_equal(rope_extend(&h, factors, &o, &error), status);
    if (!strstr(error.text, words)) {
        fail_msg("\"%s\" is not in: %s", words, error.text);
    }
}

/* ---- contexts ---------------------------------------------------------------------------------------------------- */

static void without_a_scaling_a_context_is_at_most_the_trained_one(void **state)
{
    (void)state;
    const uint32_t all[][2] = {{0, 2048}, {100, 100}, {2048, 2048}, {2049, 2048}, {UINT32_MAX, 2048}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        hparams h = plain();
        extend(&h, asked(MLXR_ROPE_OF_FILE, 0, all[i][0]));
        assert_int_equal(h.n_ctx, all[i][1]);
        assert_false(h.rope_changed);
        assert_true(h.rope_stretch == 1);
    }
    hparams h = plain();
    assert_int_equal(rope_extend(&h, NULL, NULL, NULL), MLXR_OK);
    assert_int_equal(h.n_ctx, 2048);
}

static void the_factor_is_the_context_by_the_trained_one_or_the_scale(void **state)
{
    (void)state;
    const struct {
        float scale;
        uint32_t n_ctx, n_found;
        float factor;
    } all[] = {{0, 8192, 8192, 4}, {0, 3000, 3000, 3000 / 2048.0f},
               {4, 0, 8192, 4},    {4, 5000, 5000, 4},
               {4, 9000, 8192, 4}, /* the scale allows no more */
               {4, 100, 100, 4},   {1.5f, 0, 3072, 1.5f},
               {0, 2048, 2048, 1}, /* it reads as many anyway */
               {0, 100, 100, 1},   {1, 0, 2048, 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        hparams h = plain();
        extend(&h, asked(MLXR_ROPE_YARN, all[i].scale, all[i].n_ctx));
        assert_int_equal(h.n_ctx, all[i].n_found);
        assert_true(rope_factor(&h) == all[i].factor);
        assert_int_equal(h.rope_changed, all[i].factor != 1);
        assert_int_equal(h.scaling.kind, all[i].factor == 1 ? ROPE_SCALING_NONE : ROPE_SCALING_YARN);
    }
    for (uint32_t n = 2049; n < 4096; n++) { /* floats round, contexts do not */
        hparams h = plain();
        extend(&h, asked(MLXR_ROPE_LINEAR, 0, n));
        assert_int_equal(h.n_ctx, n);
    }
}

static void a_context_is_rounded_only_where_the_scale_may_have_lost_it(void **state)
{
    (void)state;
    const struct {
        uint32_t n_train;
        float scale;
        uint32_t n_ctx, n_found;
    } all[] = {{8192, 128, 0, 1048576},    {2048, 1.0002f, 0, 2048},
               {2048, 1.1f, 0, 2252},      {10, 1.2f, 0, 12},
               {3, 1 / 3.0f * 4, 0, 4},    {8192, 0, 1u << 30, 1u << 30},
               {3, 0, 1u << 30, 1u << 30}, {7, 0, (1u << 30) - 1, (1u << 30) - 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        hparams h = plain();
        h.n_ctx_train = h.scaling.n_ctx_orig = all[i].n_train;
        extend(&h, asked(MLXR_ROPE_LINEAR, all[i].scale, all[i].n_ctx));
        assert_int_equal(h.n_ctx, all[i].n_found);
    }
}

static void none_reads_any_context_without_a_scaling(void **state)
{
    (void)state;
    hparams h = plain();
    extend(&h, asked(MLXR_ROPE_NONE, 0, 9000));
    assert_int_equal(h.n_ctx, 9000);
    assert_false(h.rope_changed);
    h = scaled(ROPE_SCALING_YARN, 4, 512); /* its own context is the original one again */
    extend(&h, asked(MLXR_ROPE_NONE, 0, 0));
    assert_int_equal(h.n_ctx, 512);
    assert_int_equal(h.scaling.kind, ROPE_SCALING_NONE);
    assert_true(h.rope_changed);
}

static void none_leaves_a_scaling_that_the_model_was_trained_with_where_the_context_needs_no_more(void **state)
{
    (void)state;
    static const rope_scaling_kind kinds[] = {ROPE_SCALING_LINEAR, ROPE_SCALING_LLAMA3, ROPE_SCALING_LONGROPE,
                                              ROPE_SCALING_NTK, ROPE_SCALING_YARN};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        for (uint32_t n = 0; n <= 2048; n += 1024) {
            hparams h = scaled(kinds[i], 4, 512);
            mlxr_model_options o = asked(MLXR_ROPE_NONE, 0, n);
            o.rope.if_possible = kinds[i] == ROPE_SCALING_YARN; /* a daemon's word is for all its models */
            extend(&h, o);
            assert_true(h.scaling.kind == kinds[i] && !h.rope_changed && h.n_ctx == (n ? n : 2048));
        }
    }
    hparams h = scaled(ROPE_SCALING_YARN, 4, 512);
    mlxr_model_options o = asked(MLXR_ROPE_NONE, 0, 4096);
    o.rope.if_possible = true;
    extend(&h, o);
    assert_true(h.scaling.kind == ROPE_SCALING_NONE && h.n_ctx == 4096);
}

static void a_base_above_the_files_allows_any_context_and_one_below_does_not(void **state)
{
    (void)state;
    for (int higher = 0; higher < 2; higher++) {
        hparams h = plain();
        mlxr_model_options o = asked(MLXR_ROPE_OF_FILE, 0, 9000);
        o.rope.base = higher ? 50000 : 5000;
        extend(&h, o);
        assert_int_equal(h.n_ctx, higher ? 9000 : 2048);
        assert_true(h.rope_theta == o.rope.base && h.rope_changed);
    }
}

/* ---- what a file's own scaling becomes --------------------------------------------------------------------------- */

static void a_scaling_of_the_same_kind_goes_on(void **state)
{
    (void)state;
    hparams h = scaled(ROPE_SCALING_YARN, 4, 512);
    h.scaling.beta_fast = 8;
    extend(&h, asked(MLXR_ROPE_YARN, 0, 4096));
    assert_true(h.scaling.factor == 8 && h.scaling.n_ctx_orig == 512 && h.scaling.beta_fast == 8);
    h = scaled(ROPE_SCALING_NTK, 2, 1024);
    extend(&h, asked(MLXR_ROPE_NTK, 2, 0));
    assert_true(h.scaling.kind == ROPE_SCALING_NTK && h.scaling.factor == 4);
    h = scaled(ROPE_SCALING_LINEAR, 8, 2048); /* as Gemma 3's */
    extend(&h, asked(MLXR_ROPE_LINEAR, 2, 0));
    assert_true(h.scaling.kind == ROPE_SCALING_LINEAR && h.scaling.factor == 8 && h.rope_stretch == 2);
}

/* As configurations have it whose max_position_embeddings is the original one (Qwen 2.5), or lies between (Qwen 3). */
static void a_files_yarn_reads_by_its_factor_though_its_context_does_not_say_so(void **state)
{
    (void)state;
    const uint32_t originals[] = {2048, 1536, 4096};
    for (size_t i = 0; i < sizeof originals / sizeof *originals; i++) {
        uint32_t reach = 4 * originals[i];
        const mlxr_rope_scaling all[] = {MLXR_ROPE_OF_FILE, MLXR_ROPE_YARN, MLXR_ROPE_LINEAR};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
            hparams h = scaled(ROPE_SCALING_YARN, 4, originals[i]);
            extend(&h, asked(all[k], 0, reach));
            assert_int_equal(h.n_ctx, reach);
            assert_true(h.n_ctx_from == reach && !h.rope_changed && h.scaling.factor == 4 && h.rope_stretch == 1);
        }
        hparams h = scaled(ROPE_SCALING_YARN, 4, originals[i]);
        extend(&h, asked(MLXR_ROPE_OF_FILE, 0, 0));
        assert_int_equal(h.n_ctx, 2048);
        extend(&h, asked(MLXR_ROPE_OF_FILE, 0, reach + 1));
        assert_int_equal(h.n_ctx, reach);
        extend(&h, asked(MLXR_ROPE_YARN, 0, 2 * reach));
        assert_true(h.n_ctx == 2 * reach && h.scaling.factor == 8 && h.scaling.n_ctx_orig == originals[i]);
        h = scaled(ROPE_SCALING_YARN, 4, originals[i]);
        extend(&h, asked(MLXR_ROPE_NONE, 0, 0));
        assert_true(h.n_ctx == originals[i] && h.scaling.kind == ROPE_SCALING_NONE);
    }
}

static void a_files_number_for_attention_keeps_its_proportion_to_the_papers(void **state)
{
    (void)state;
    hparams h = scaled(ROPE_SCALING_YARN, 4, 512);
    h.scaling.attn_factor = 0.5f * (float)(0.1 * log(4) + 1);
    extend(&h, asked(MLXR_ROPE_YARN, 2, 0));
    assert_true(fabs((double)h.scaling.attn_factor - 0.5 * (0.1 * log(8) + 1)) < 1e-6);
}

static void linear_goes_upon_any_scaling(void **state)
{
    (void)state;
    static const rope_scaling_kind kinds[] = {ROPE_SCALING_NONE,   ROPE_SCALING_LINEAR,   ROPE_SCALING_YARN,
                                              ROPE_SCALING_LLAMA3, ROPE_SCALING_LONGROPE, ROPE_SCALING_NTK};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        hparams h = scaled(kinds[i], 4, 512);
        extend(&h, asked(MLXR_ROPE_LINEAR, 0, 4096));
        assert_true(h.scaling.kind == kinds[i] && h.scaling.factor == 4 && h.rope_stretch == 2 && h.n_ctx == 4096);
        assert_string_equal(rope_name(&h), "linear");
        assert_true(rope_factor(&h) == (kinds[i] == ROPE_SCALING_LINEAR ? 8 : 2));
    }
}

static void other_scalings_beside_one_that_was_trained_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        rope_scaling_kind kind;
        const char *name;
    } own[] = {{ROPE_SCALING_LINEAR, "linear"},
               {ROPE_SCALING_LLAMA3, "llama3"},
               {ROPE_SCALING_LONGROPE, "longrope"},
               {ROPE_SCALING_NTK, "ntk"}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        hparams h = scaled(own[i].kind, 4, 512);
        refuse(h, NULL, asked(MLXR_ROPE_YARN, 2, 0), MLXR_UNSUPPORTED, own[i].name);
        refuse(h, NULL, asked(MLXR_ROPE_NONE, 0, 4096), MLXR_UNSUPPORTED, own[i].name);
    }
    refuse(scaled(ROPE_SCALING_YARN, 4, 512), NULL, asked(MLXR_ROPE_NTK, 2, 0), MLXR_UNSUPPORTED, "yarn");
    mlxr_model_options o = {.n_ctx_max = 4096, .rope.base = 1e6f};
    refuse(scaled(ROPE_SCALING_LLAMA3, 4, 512), NULL, o, MLXR_UNSUPPORTED, "belongs to its own base");
    refuse(scaled(ROPE_SCALING_LONGROPE, 4, 512), NULL, o, MLXR_UNSUPPORTED, "belongs to its own base");
}

/* GGUF has Llama 3's scaling as factors; those of pairs that do not turn are none. */
static void factors_of_the_file_count_as_a_scaling_unless_they_are_of_still_pairs(void **state)
{
    (void)state;
    float factors[32], still[32];
    for (size_t i = 0; i < 32; i++) {
        factors[i] = 1 + (float)i;
        still[i] = i < 8 ? 1 : ROPE_FACTOR_STILL;
    }
    refuse(plain(), factors, asked(MLXR_ROPE_YARN, 2, 0), MLXR_UNSUPPORTED, "factors");
    refuse(plain(), factors, asked(MLXR_ROPE_NONE, 0, 4096), MLXR_UNSUPPORTED, "factors");
    refuse(plain(), factors, (mlxr_model_options){.rope.base = 1e6f}, MLXR_UNSUPPORTED, "own base");
    mlxr_error error;
    mlxr_model_options o = asked(MLXR_ROPE_NONE, 0, 4096);
    hparams h = plain();
    assert_ok(rope_extend(&h, still, &o, &error), &error);
    assert_true(h.n_ctx == 4096 && !h.rope_changed);
    h = plain();
    o = asked(MLXR_ROPE_LINEAR, 2, 0);
    assert_ok(rope_extend(&h, factors, &o, &error), &error);
    assert_true(h.rope_stretch == 2 && !h.rope_unfactored);
    h = plain();
    o = asked(MLXR_ROPE_YARN, 2, 0);
    o.rope.n_original = 512;
    assert_ok(rope_extend(&h, factors, &o, &error), &error);
    assert_true(h.rope_unfactored && h.rope_changed);
    h = plain();
    assert_ok(rope_extend(&h, factors, NULL, &error), &error);
    assert_string_equal(rope_name(&h), "factors");
}

/* Proportional RoPE: the slowest pair that turns is a fast one of the whole head. NTK would divide it by less than F,
 * and YaRN, which finds that it has seen every angle, change nothing but magnitudes. */
static void ntk_and_yarn_are_refused_where_part_of_a_proportional_head_turns(void **state)
{
    (void)state;
    float still[32];
    for (size_t i = 0; i < 32; i++) {
        still[i] = i < 8 ? 1 : ROPE_FACTOR_STILL;
    }
    mlxr_model_options o = asked(MLXR_ROPE_YARN, 2, 0);
    const char *words = "8 of 32 pairs turn, with the frequencies of a whole head; linear reads further";
    refuse(plain(), still, o, MLXR_UNSUPPORTED, words);
    o.rope.n_original = 512;
    refuse(plain(), still, o, MLXR_UNSUPPORTED, words);
    refuse(plain(), still, asked(MLXR_ROPE_NTK, 2, 0), MLXR_UNSUPPORTED, "RoPE scaling ntk: ");
    mlxr_error error;
    hparams h = plain();
    assert_ok(rope_extend(&h, still, NULL, &error), &error);
    assert_non_null(strstr(rope_advice(&h), "--rope-scaling linear"));
}

static void an_original_context_replaces_any_scaling(void **state)
{
    (void)state;
    static const rope_scaling_kind kinds[] = {ROPE_SCALING_LINEAR, ROPE_SCALING_YARN, ROPE_SCALING_LLAMA3,
                                              ROPE_SCALING_LONGROPE, ROPE_SCALING_NTK};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        hparams h = scaled(kinds[i], 4, 512);
        mlxr_model_options o = asked(MLXR_ROPE_YARN, 0, 2048);
        o.rope.n_original = 256;
        extend(&h, o);
        assert_true(h.scaling.kind == ROPE_SCALING_YARN && h.scaling.factor == 8 && h.scaling.n_ctx_orig == 256);
        assert_int_equal(h.n_ctx, 2048);
        h = scaled(kinds[i], 4, 512);
        o.n_ctx_max = 100; /* within it nothing is scaled */
        extend(&h, o);
        assert_true(h.scaling.kind == ROPE_SCALING_NONE && h.n_ctx == 100 && h.rope_changed);
    }
}

/* Pages on disk have to know: what is attended to is scaled otherwise, though no frequency is another one. */
static void a_factor_taken_out_of_latent_attention_alone_counts_as_a_change(void **state)
{
    (void)state;
    hparams h = scaled(ROPE_SCALING_NONE, 4, 512);
    h.fam = family_find("deepseek2", 9);
    h.yarn_log_multiplier = 0.1f;
    mlxr_model_options o = asked(MLXR_ROPE_YARN, 0, 512);
    o.rope.n_original = 512;
    extend(&h, o);
    assert_true(h.attn_scale < 0.125f && h.rope_changed);
}

/* Of a file whose own scaling is taken away, the log has to name what of it is lost. */
static void what_options_took_away_is_kept(void **state)
{
    (void)state;
    mlxr_model_options o = asked(MLXR_ROPE_YARN, 0, 2048);
    o.rope.n_original = 256;
    hparams h = scaled(ROPE_SCALING_LINEAR, 8, 256);
    extend(&h, o);
    assert_string_equal(h.rope_lost, "linear");
    assert_true(h.rope_lost_factor == 8 && h.n_ctx_from_named);
    h = scaled(ROPE_SCALING_YARN, 4, 512);
    extend(&h, asked(MLXR_ROPE_NONE, 0, 2048));
    assert_string_equal(h.rope_lost, "yarn");
    assert_true(h.rope_lost_factor == 4 && !h.n_ctx_from_named);
    h = plain();
    extend(&h, o);
    assert_null(h.rope_lost);
    refuse(scaled(ROPE_SCALING_LLAMA3, 8, 512), NULL, asked(MLXR_ROPE_YARN, 2, 0), MLXR_UNSUPPORTED,
           "linear goes with it, and an original context, the 512 tokens from before it, replaces it");
    refuse(scaled(ROPE_SCALING_LINEAR, 8, 2048), NULL, asked(MLXR_ROPE_YARN, 2, 0), MLXR_UNSUPPORTED,
           "an original context, the tokens from before it, replaces it");
    refuse(scaled(ROPE_SCALING_LLAMA3, 8, 512), NULL, asked(MLXR_ROPE_NONE, 0, 4096), MLXR_UNSUPPORTED,
           "scaling none: the file's own is llama3, which the model was trained with; linear reads further");
}

/* ---- models without RoPE that could be stretched ----------------------------------------------------------------- */

static void models_that_learn_positions_are_refused(void **state)
{
    (void)state;
    hparams h = plain();
    h.fam = family_find("gpt2", 4);
    for (int i = MLXR_ROPE_NONE; i <= MLXR_ROPE_YARN; i++) {
        refuse(h, NULL, asked((mlxr_rope_scaling)i, 0, 4096), MLXR_UNSUPPORTED, "gpt2 models learn each position");
        hparams within = h;
        extend(&within, asked((mlxr_rope_scaling)i, 0, 1000)); /* it reads as many */
        assert_int_equal(within.n_ctx, 1000);
    }
    refuse(h, NULL, (mlxr_model_options){.rope.base = 1e6f}, MLXR_UNSUPPORTED, "2048 positions");
    assert_null(rope_advice(&h));
}

static void layers_that_do_not_turn_are_not_stretched_and_need_none(void **state)
{
    (void)state;
    hparams h = plain();
    for (uint32_t i = 0; i < h.n_layers; i++) {
        h.layer_is_unturned[i] = true;
    }
    refuse(h, NULL, asked(MLXR_ROPE_YARN, 2, 0), MLXR_UNSUPPORTED, "no RoPE to stretch; scaling none reads further");
    assert_non_null(strstr(rope_advice(&h), "--rope-scaling none"));
    extend(&h, asked(MLXR_ROPE_NONE, 0, 9000));
    assert_int_equal(h.n_ctx, 9000);
    assert_string_equal(rope_name(&h), "");
    h = plain(); /* turned layers see a window only, whatever the context */
    h.window = 512;
    for (uint32_t i = 0; i < h.n_layers; i++) {
        h.layer_has_window[i] = i < 3;
        h.layer_is_unturned[i] = i == 3;
    }
    refuse(h, NULL, asked(MLXR_ROPE_LINEAR, 2, 0), MLXR_UNSUPPORTED, "see 512 tokens back in any context");
    h.layer_is_unturned[3] = false;
    extend(&h, asked(MLXR_ROPE_LINEAR, 2, 0));
    assert_int_equal(h.n_ctx, 4096);
}

static void what_is_advised_reads_further(void **state)
{
    (void)state;
    static const struct {
        rope_scaling_kind own;
        bool factored;
        uint32_t n_rot;
        const char *scaling;
    } all[] = {{ROPE_SCALING_NONE, false, 64, "yarn"},     {ROPE_SCALING_YARN, false, 64, "yarn"},
               {ROPE_SCALING_NTK, false, 64, "ntk"},       {ROPE_SCALING_LINEAR, false, 64, "linear"},
               {ROPE_SCALING_LLAMA3, false, 64, "linear"}, {ROPE_SCALING_LONGROPE, true, 64, "linear"},
               {ROPE_SCALING_NONE, true, 64, "linear"},    {ROPE_SCALING_NONE, false, 2, "linear"}};
    float factors[32] = {1, 2, 3};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        hparams h = scaled(all[i].own, 4, 512);
        mlxr_rope_scaling found = MLXR_ROPE_OF_FILE;
        mlxr_error error;
        char words[64];
        h.n_rot = all[i].n_rot;
        assert_ok(rope_extend(&h, all[i].factored ? factors : NULL, NULL, &error), &error);
        snprintf(words, sizeof words, "--rope-scaling %s reads further", all[i].scaling);
        assert_non_null(strstr(rope_advice(&h), words));
        assert_true(mlxr_rope_scaling_find(all[i].scaling, &found));
        mlxr_model_options o = asked(found, 0, 4096);
        assert_ok(rope_extend(&h, all[i].factored ? factors : NULL, &o, &error), &error);
        assert_int_equal(h.n_ctx, 4096);
    }
}

/* ---- hostile values ---------------------------------------------------------------------------------------------- */

/* Contexts of 4,096 with YaRN's own numbers */
static mlxr_model_options turned(mlxr_rope_scaling scaling, float fast, float slow, float factor)
{
    mlxr_model_options o = asked(scaling, 0, 4096);
    o.rope.yarn_beta_fast = fast;
    o.rope.yarn_beta_slow = slow;
    o.rope.yarn_attn_factor = factor;
    return o;
}

static void yarns_numbers_stand_in_the_place_of_the_files(void **state)
{
    (void)state;
    hparams h = plain(); /* 2,048 tokens: by 2 */
    extend(&h, turned(MLXR_ROPE_YARN, 16, 0, 0));
    assert_true(h.scaling.beta_fast == 16 && h.scaling.beta_slow == 1 && h.scaling.attn_factor == 0);
    h = plain();
    extend(&h, turned(MLXR_ROPE_YARN, 0, 2, 1.5f));
    assert_true(h.scaling.beta_fast == 32 && h.scaling.beta_slow == 2);
    assert_true(fabs(h.scaling.attn_factor - 1.5 * (0.1 * log(2) + 1)) < 1e-6);
    h = scaled(ROPE_SCALING_YARN, 4, 512);
    h.scaling.beta_fast = 8;
    h.scaling.attn_factor = 1.2f;
    extend(&h, turned(MLXR_ROPE_YARN, 0, 3, 2)); /* the file's number goes on, and by it */
    assert_true(h.scaling.beta_fast == 8 && h.scaling.beta_slow == 3);
    assert_true(fabs(h.scaling.attn_factor - 2 * 1.2 * (0.1 * log(8) + 1) / (0.1 * log(4) + 1)) < 1e-6);
    h = scaled(ROPE_SCALING_YARN, 4, 512);
    h.scaling.beta_fast = 8;
    refuse(h, NULL, turned(MLXR_ROPE_YARN, 0, 9, 0), MLXR_UNSUPPORTED, "of which one is this model's own");
}

static void assert_same_name(const char *got, const char *wanted)
{
    assert_string_equal(got ? got : "(none)", wanted ? wanted : "(none)");
}

static void values_that_suit_no_model_are_refused_before_one_is_read(void **state)
{
    (void)state;
    const struct {
        mlxr_model_options options;
        mlxr_status status;
        mlxr_option_fault fault;
        const char *words;
    } all[] = {
        {asked(MLXR_ROPE_YARN, -4, 0), MLXR_ARG, {.name = "rope_scale"}, "RoPE scale -4"},
        {asked(MLXR_ROPE_YARN, 0.5f, 0), MLXR_ARG, {.name = "rope_scale"}, "RoPE scale 0.5"},
        {asked(MLXR_ROPE_YARN, NAN, 0), MLXR_ARG, {.name = "rope_scale"}, "RoPE scale"},
        {asked(MLXR_ROPE_YARN, INFINITY, 0), MLXR_ARG, {.name = "rope_scale"}, "RoPE scale inf"},
        {asked(MLXR_ROPE_YARN, 2e9f, 0), MLXR_ARG, {.name = "rope_scale"}, "RoPE scale 2e+09"},
        {asked(MLXR_ROPE_YARN, 0, 0), MLXR_ARG, {.name = "rope_scaling", .needs = "ctx"}, "has to say how far"},
        {asked(MLXR_ROPE_OF_FILE, 4, 0),
         MLXR_ARG,
         {.name = "rope_scale", .needs = "rope_scaling"},
         "goes with a scaling"},
        {asked(MLXR_ROPE_NONE, 4, 0), MLXR_ARG, {.name = "rope_scale", .needs = "rope_scaling"}, "goes with a scaling"},
        {asked((mlxr_rope_scaling)5, 4, 0), MLXR_ARG, {.name = "rope_scaling"}, "RoPE scaling 5"},
        {asked((mlxr_rope_scaling)-1, 4, 0), MLXR_ARG, {.name = "rope_scaling"}, "RoPE scaling -1"},
        {asked(MLXR_ROPE_NONE, 0, UINT32_MAX), MLXR_LIMIT, {.name = "ctx"}, "context of 4294967295"},
        {asked(MLXR_ROPE_LINEAR, 0, (1u << 30) + 1), MLXR_LIMIT, {.name = "ctx"}, "at most 1073741824"},
        {{.rope.n_original = 100},
         MLXR_ARG,
         {.name = "rope_original", .needs = "rope_scaling"},
         "original context goes with a scaling"},
        {{.rope.base = 1}, MLXR_ARG, {.name = "rope_base"}, "RoPE base 1"},
        {{.rope.base = -1e4f}, MLXR_ARG, {.name = "rope_base"}, "RoPE base -10000"},
        {{.rope.base = NAN}, MLXR_ARG, {.name = "rope_base"}, "RoPE base"},
        {{.rope.base = INFINITY}, MLXR_ARG, {.name = "rope_base"}, "RoPE base inf"},
        {{.rope.yarn_beta_fast = 16},
         MLXR_ARG,
         {.name = "yarn_beta_fast", .needs = "rope_scaling"},
         "beta-fast 16 goes with RoPE scaling yarn"},
        {turned(MLXR_ROPE_NTK, 0, 2, 0),
         MLXR_ARG,
         {.name = "yarn_beta_slow", .needs = "rope_scaling"},
         "beta-slow 2 goes with RoPE scaling yarn"},
        {turned(MLXR_ROPE_YARN, 0, -2, 0), MLXR_ARG, {.name = "yarn_beta_slow"}, "beta-slow -2: a number above 0"},
        {turned(MLXR_ROPE_YARN, NAN, 0, 0), MLXR_ARG, {.name = "yarn_beta_fast"}, "beta-fast"},
        {turned(MLXR_ROPE_YARN, 0, 0, INFINITY), MLXR_ARG, {.name = "yarn_attn_factor"}, "attn-factor inf"},
        {turned(MLXR_ROPE_YARN, 2, 2, 0),
         MLXR_ARG,
         {.name = "yarn_beta_fast", .against = "yarn_beta_slow"},
         "beta-fast 2 must be more than its beta-slow 2"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        mlxr_error error = {.text = ""};
        mlxr_option_fault fault;
        assert_int_equal(mlxr_model_options_check(&all[i].options, &fault, &error), all[i].status);
        assert_non_null(strstr(error.text, all[i].words));
        assert_same_name(fault.name, all[i].fault.name);
        assert_same_name(fault.needs, all[i].fault.needs);
        assert_same_name(fault.against, all[i].fault.against);
        refuse(plain(), NULL, all[i].options, all[i].status, all[i].words);
    }
    const mlxr_model_options right = asked(MLXR_ROPE_YARN, 4, 0);
    for (int i = 0; i < 2; i++) {
        mlxr_option_fault fault = {"left", "over", "here"};
        assert_int_equal(mlxr_model_options_check(i ? &right : NULL, &fault, NULL), MLXR_OK);
        assert_true(!fault.name && !fault.needs && !fault.against);
    }
    mlxr_rope_scaling none = MLXR_ROPE_YARN;
    assert_false(mlxr_rope_scaling_find("YARN", &none));
    assert_false(mlxr_rope_scaling_find("", &none));
}

static void values_that_do_not_suit_a_model_are_refused(void **state)
{
    (void)state;
    refuse(plain(), NULL, asked(MLXR_ROPE_YARN, 1e6f, 0), MLXR_UNSUPPORTED, "RoPE scale 1e+06 of 2048 tokens");
    mlxr_model_options o = asked(MLXR_ROPE_YARN, 2, 0);
    o.rope.n_original = 2049;
    refuse(plain(), NULL, o, MLXR_UNSUPPORTED, "RoPE original context 2049: the model's context is 2048");
    refuse(scaled(ROPE_SCALING_YARN, 1e38f, 512), NULL, asked(MLXR_ROPE_YARN, 100, 0), MLXR_UNSUPPORTED,
           "RoPE scale 100 of 1073741824 tokens");
    refuse(scaled(ROPE_SCALING_NTK, 1e38f, 512), NULL, asked(MLXR_ROPE_NTK, 100, 0), MLXR_UNSUPPORTED,
           "beyond any number");
    hparams h = plain();
    h.n_rot = h.n_rot_window = 2;
    refuse(h, NULL, asked(MLXR_ROPE_NTK, 2, 0), MLXR_UNSUPPORTED, "2 turning elements");
    h = plain();
    h.rope_theta = 1;
    refuse(h, NULL, asked(MLXR_ROPE_YARN, 2, 0), MLXR_UNSUPPORTED, "theta 1");
}

/* ---- through the graph ------------------------------------------------------------------------------------------- */

static const op_rope *first_rope(const plan *p)
{
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_ROPE) {
            return &p->ops[i].rope;
        }
    }
    return NULL;
}

static void the_head_that_predicts_ahead_is_stretched_with_its_model(void **state)
{
    (void)state;
    mlxr_error error;
    char path[512];
    model_file *file = NULL;
    graph *plain_graph = NULL, *stretched = NULL;
    mlxr_model_options o = asked(MLXR_ROPE_YARN, 4, 0);
    snprintf(path, sizeof path, "%s/mtp", test_temp_dir());
    family_model_write("glm4moe-mtp", path);
    assert_ok(model_file_open(&file, path, &error), &error);
    assert_ok(graph_build(&plain_graph, file, NULL, true, &error), &error);
    assert_ok(graph_build(&stretched, file, &o, true, &error), &error);
    const op_rope *model = first_rope(&stretched->plan), *head = first_rope(&stretched->ahead_plan);
    const op_rope *before = first_rope(&plain_graph->ahead_plan);
    assert_non_null(model);
    assert_non_null(head);
    assert_memory_equal(head->inv_freq, model->inv_freq, head->n_rot / 2 * sizeof *head->inv_freq);
    assert_true(head->magnitude == model->magnitude && head->magnitude > 1);
    assert_memory_not_equal(head->inv_freq, before->inv_freq, head->n_rot / 2 * sizeof *head->inv_freq);
    graph_close(&plain_graph);
    graph_close(&stretched);
    model_file_close(&file);
}

/* Engine log lines, one behind the other. */
static void note(void *user, mlxr_log_level level, const char *line)
{
    char *log = user;
    size_t n = strlen(log);
    if (level <= MLXR_LOG_WARN) {
        snprintf(log + n, 2048 - n, "%s\n", line);
    }
}

static void load_and_look(const char *name, mlxr_model_options o, uint32_t n_ctx, const char *scaling,
                          const char *words)
{
    static unsigned n;
    mlxr_error error;
    char path[512], log[2048] = "";
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_engine_options options = {.n_threads = 1, .kv_bytes = 8u << 20, .log = note, .log_user = log};
    snprintf(path, sizeof path, "%s/words%u", test_temp_dir(), n++);
    family_model_write(name, path);
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, path, &o, &error), &error);
    assert_int_equal(mlxr_model_info_get(model)->n_ctx, n_ctx);
    assert_string_equal(mlxr_model_info_get(model)->rope_scaling, scaling);
    if (words ? !strstr(log, words) : *log) {
        fail_msg("%s: the log says: %s", name, log);
    }
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
}

static void the_log_says_what_a_context_beyond_the_trained_one_means(void **state)
{
    (void)state;
    load_and_look("granite", (mlxr_model_options){.n_ctx_max = 256}, 256, "none", NULL);
    load_and_look("granite", (mlxr_model_options){.n_ctx_max = 1024}, 256, "none",
                  "context of 1024 tokens was asked for; the model was trained for 256 and gets that; "
                  "--rope-scaling yarn reads further");
    load_and_look("granite", asked(MLXR_ROPE_YARN, 0, 1024), 1024, "yarn",
                  "context 1024 is 4 times the 256 tokens that the model was trained for; RoPE scaling yarn by 4");
    load_and_look("granite", asked(MLXR_ROPE_LINEAR, 2, 1024), 512, "linear", "its RoPE scale allows 512");
    load_and_look("granite", asked(MLXR_ROPE_NONE, 0, 1024), 1024, "none", "RoPE is not scaled");
    load_and_look("arcee", asked(MLXR_ROPE_NONE, 0, 256), 256, "none",
                  "RoPE is not scaled: expect nonsense beyond the trained length; its file's own yarn is made for it");
    mlxr_model_options raised = asked(MLXR_ROPE_NONE, 0, 1024);
    raised.rope.base = 2e6f;
    load_and_look("arcee", raised, 1024, "none", "; RoPE base 2e+06: expect worse answers");
    mlxr_model_options named = asked(MLXR_ROPE_YARN, 0, 1024);
    named.rope.n_original = 64;
    load_and_look("granite", named, 1024, "yarn", "16 times the 64 tokens that --rope-original names");
    load_and_look("exaone", named, 1024, "yarn",
                  "the file's own RoPE scaling, llama3 by 8, which the model was trained with, is taken away");
    load_and_look("arcee", named, 1024, "yarn", "the file's own RoPE scaling, yarn by 4, is taken away");
    load_and_look("phi3-longrope", (mlxr_model_options){.n_ctx_max = 1024}, 256, "longrope",
                  "--rope-scaling linear reads further");
    load_and_look("gpt2", (mlxr_model_options){.n_ctx_max = 1024}, 256, "",
                  "the model was trained for 256 and gets that\n");
    mlxr_model_options o = asked(MLXR_ROPE_YARN, 0, 1024);
    o.rope.if_possible = true;
    load_and_look("gpt2", o, 256, "", "its context stays 256 tokens: gpt2 models learn each position");
    load_and_look("phi3-longrope", o, 256, "longrope", "its context stays 256 tokens: RoPE scaling yarn");
    mlxr_model_options far = asked(MLXR_ROPE_YARN, 1e7f, 0), from = asked(MLXR_ROPE_YARN, 2, 0);
    far.rope.if_possible = from.rope.if_possible = true;
    from.rope.n_original = 1000;
    load_and_look("granite", far, 256, "none", "its context stays 256 tokens: RoPE scale 1e+07 of 256 tokens");
    load_and_look("granite", from, 256, "none", "its context stays 256 tokens: RoPE original context 1000");
    o.mtp = MLXR_MTP_IF_ANY; /* neither of the two is to be had */
    load_and_look("gpt2", o, 256, "", "its context stays 256 tokens");
    load_and_look("glm4moe-mtp", o, 1024, "yarn", "RoPE scaling yarn by 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_scaling_a_context_is_at_most_the_trained_one),
        cmocka_unit_test(the_factor_is_the_context_by_the_trained_one_or_the_scale),
        cmocka_unit_test(a_context_is_rounded_only_where_the_scale_may_have_lost_it),
        cmocka_unit_test(none_reads_any_context_without_a_scaling),
        cmocka_unit_test(none_leaves_a_scaling_that_the_model_was_trained_with_where_the_context_needs_no_more),
        cmocka_unit_test(a_base_above_the_files_allows_any_context_and_one_below_does_not),
        cmocka_unit_test(a_scaling_of_the_same_kind_goes_on),
        cmocka_unit_test(a_files_yarn_reads_by_its_factor_though_its_context_does_not_say_so),
        cmocka_unit_test(a_files_number_for_attention_keeps_its_proportion_to_the_papers),
        cmocka_unit_test(linear_goes_upon_any_scaling),
        cmocka_unit_test(other_scalings_beside_one_that_was_trained_are_refused_by_name),
        cmocka_unit_test(factors_of_the_file_count_as_a_scaling_unless_they_are_of_still_pairs),
        cmocka_unit_test(ntk_and_yarn_are_refused_where_part_of_a_proportional_head_turns),
        cmocka_unit_test(an_original_context_replaces_any_scaling),
        cmocka_unit_test(a_factor_taken_out_of_latent_attention_alone_counts_as_a_change),
        cmocka_unit_test(what_options_took_away_is_kept),
        cmocka_unit_test(models_that_learn_positions_are_refused),
        cmocka_unit_test(layers_that_do_not_turn_are_not_stretched_and_need_none),
        cmocka_unit_test(what_is_advised_reads_further),
        cmocka_unit_test(yarns_numbers_stand_in_the_place_of_the_files),
        cmocka_unit_test(values_that_suit_no_model_are_refused_before_one_is_read),
        cmocka_unit_test(values_that_do_not_suit_a_model_are_refused),
        cmocka_unit_test(the_head_that_predicts_ahead_is_stretched_with_its_model),
        cmocka_unit_test(the_log_says_what_a_context_beyond_the_trained_one_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
