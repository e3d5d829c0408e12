/*
 * Layers with a state in the place of attention: that passes over a long prompt hand on their states, and what is
 * refused, in plans and in model files. Owner: the test program. Lifetime: the process.
 */
#include "kernels/plan_check.h"
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

static const char *const families[] = {"lfm2", "qwen3next", "qwen35", "granitehybrid", "nemotron-h"};

enum { N_FAMILIES = sizeof families / sizeof *families, CONFIG_MAX = 16384 };

static const char *folder_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    family_model_write(name, path);
    return path;
}

static mlxr_engine *engine_open(void)
{
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_engine_options options = {
        .backend = "cpu", .n_threads = 2, .kv_type = "f32", .kv_bytes = 32 << 20, .no_prefix_cache = true};
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    return engine;
}

/* The logits of the last token, computed n_step at a time. */
static void last_logits(mlxr_engine *engine, mlxr_model *model, const int32_t *ids, size_t n, uint32_t n_step,
                        float *out)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, n, &error), &error);
    while (mlxr_sequence_pending(sequence) > 0) {
        uint32_t pending = (uint32_t)mlxr_sequence_pending(sequence);
        mlxr_slice slice = {.sequence = sequence,
                            .n_compute = pending < n_step ? pending : n_step,
                            .flags = MLXR_SLICE_NO_SAMPLE | MLXR_SLICE_LOGITS_ALL};
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
        memcpy(out, slice.logits + (size_t)(slice.n_logits - 1) * TINY_N_VOCAB, TINY_N_VOCAB * sizeof *out);
    }
    mlxr_sequence_close(&sequence);
}

/* A step of that many rows is more than one pass on the CPU: 128 rows each with models this small. */
static void passes_hand_on_their_states(void **state)
{
    (void)state;
    enum { N = 250 };
    mlxr_engine *engine = engine_open();
    int32_t ids[N];
    for (int32_t i = 0; i < N; i++) {
        ids[i] = (i * 37 + i * i) % (int32_t)TINY_N_VOCAB;
    }
    for (size_t f = 0; f < N_FAMILIES; f++) {
        mlxr_error error;
        mlxr_model *model = NULL;
        static float whole[TINY_N_VOCAB], steps[TINY_N_VOCAB];
        assert_ok(mlxr_model_load(&model, engine, folder_of(families[f]), NULL, &error), &error);
        last_logits(engine, model, ids, N, N, whole);
        last_logits(engine, model, ids, N, 50, steps);
        assert_memory_equal(whole, steps, sizeof whole);
        mlxr_model_unref(&model);
    }
    mlxr_engine_close(&engine);
}

/* ---- plans ---- */

typedef struct change {
    const char *family;
    op_kind kind;
    void (*make)(plan *p, op *o, op_recur *r);
} change;

#define CHANGE(name, ...)                                                                                              \
    static void name(plan *p, op *o, op_recur *r)                                                                      \
    {                                                                                                                  \
        (void)p;                                                                                                       \
        (void)r;                                                                                                       \
        (void)o;                                                                                                       \
        __VA_ARGS__;                                                                                                   \
    }

CHANGE(one_row, o->conv.n = 1)
CHANGE(many_rows, o->conv.n = CONV_ROWS_MAX + 1)
CHANGE(other_rows, o->conv.n = 3)
CHANGE(conv_group, o->conv.state.kv_group = 4)
CHANGE(conv_of_attention, o->conv.state.kv_group = 0)
CHANGE(conv_layer, o->conv.state.kv_layer = 100)
CHANGE(conv_past_the_end, o->conv.state.first = p->kv_groups[o->conv.state.kv_group].state_width - 1)
CHANGE(conv_far_past_the_end, o->conv.state.first = UINT32_MAX)
CHANGE(conv_without_weight, o->weight = NULL)
CHANGE(unknown_kind, r->kind = (recur_kind)7)
CHANGE(no_heads, r->n_head = 0)
CHANGE(heads_not_shared, r->n_head_k = 3)
CHANGE(long_key, r->head_k = RECUR_HEAD_MAX + 1)
CHANGE(wider_value, r->head_v++)
CHANGE(no_fade, r->fade = NULL)
CHANGE(no_step_bias, r->step_bias = NULL)
CHANGE(skip_of_delta, r->skip = r->fade)
CHANGE(no_skip, r->skip = NULL)
CHANGE(limits_crossed, r->step_least = 2; r->step_most = 1)
CHANGE(queries_past_the_row, r->q_first = UINT32_MAX)
CHANGE(keys_past_the_row, r->k_first = p->slot_width[SLOT_C])
CHANGE(values_past_the_row, r->v_first++)
CHANGE(recur_in_place, o->dst = SLOT_C)
CHANGE(recur_layer, r->state.kv_layer = 100)
CHANGE(recur_past_the_end, r->state.first++)
CHANGE(no_steps, p->slot_width[SLOT_D] = 0)
CHANGE(no_betas, p->slot_width[SLOT_B] = 0)
CHANGE(pick_nothing, o->pick.n = 0)
CHANGE(pick_past_the_group, o->pick.from = o->pick.group + 1)
CHANGE(pick_more_than_there_is, o->pick.n = o->pick.group + 1)
CHANGE(pick_more_groups, o->pick.n_groups *= 2)
CHANGE(pick_out_of_room, o->pick.to = o->width)
CHANGE(pick_in_place, o->src = o->dst)
CHANGE(many_weights_a_row, o->src = SLOT_N)
CHANGE(narrow_slot, p->slot_width[SLOT_G]--)
CHANGE(narrow_queries, o->attend.n_head--)

static const change changes[] = {
    {"qwen3next", OP_CONV, one_row},
    {"qwen3next", OP_CONV, many_rows},
    {"qwen3next", OP_CONV, other_rows},
    {"qwen3next", OP_CONV, conv_group},
    {"qwen3next", OP_CONV, conv_of_attention},
    {"qwen3next", OP_CONV, conv_layer},
    {"qwen3next", OP_CONV, conv_past_the_end},
    {"qwen3next", OP_CONV, conv_far_past_the_end},
    {"lfm2", OP_CONV, conv_without_weight},
    {"qwen3next", OP_RECUR, unknown_kind},
    {"qwen3next", OP_RECUR, no_heads},
    {"qwen3next", OP_RECUR, heads_not_shared},
    {"qwen3next", OP_RECUR, long_key},
    {"qwen3next", OP_RECUR, wider_value},
    {"qwen3next", OP_RECUR, no_fade},
    {"granitehybrid", OP_RECUR, no_step_bias},
    {"qwen3next", OP_RECUR, skip_of_delta},
    {"granitehybrid", OP_RECUR, no_skip},
    {"granitehybrid", OP_RECUR, limits_crossed},
    {"granitehybrid", OP_RECUR, queries_past_the_row},
    {"granitehybrid", OP_RECUR, keys_past_the_row},
    {"qwen3next", OP_RECUR, values_past_the_row},
    {"qwen3next", OP_RECUR, recur_in_place},
    {"qwen3next", OP_RECUR, recur_layer},
    {"qwen3next", OP_RECUR, recur_past_the_end},
    {"granitehybrid", OP_RECUR, no_steps},
    {"qwen3next", OP_RECUR, no_betas},
    {"qwen3next", OP_PICK, pick_nothing},
    {"qwen3next", OP_PICK, pick_past_the_group},
    {"qwen3next", OP_PICK, pick_more_than_there_is},
    {"qwen3next", OP_PICK, pick_more_groups},
    {"qwen3next", OP_PICK, pick_out_of_room},
    {"qwen3next", OP_PICK, pick_in_place},
    {"qwen3next", OP_WEIGH, many_weights_a_row},
    {"gemma4", OP_GATED, narrow_slot},
    {"gemma4", OP_ATTEND, narrow_queries},
};

static void plans_whose_mixers_do_not_fit_are_refused(void **state)
{
    (void)state;
    mlxr_error error;
    mlxr_engine *engine = engine_open();
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        mlxr_model *model = NULL;
        assert_ok(mlxr_model_read(&model, engine, folder_of(changes[i].family), NULL, &error), &error);
        plan p = model->graph->plan;
        op *ops = calloc(p.n_ops, sizeof *ops);
        assert_non_null(ops);
        memcpy(ops, p.ops, p.n_ops * sizeof *ops);
        p.ops = ops;
        assert_ok(plan_check(&p, &error), &error);
        op *o = ops;
        while (o->kind != changes[i].kind) {
            assert_true(++o < ops + p.n_ops);
        }
        op_recur r = o->kind == OP_RECUR ? *o->recur : (op_recur){0};
        o->recur = o->kind == OP_RECUR ? &r : o->recur;
        changes[i].make(&p, o, &r);
        if (plan_check(&p, &error) != MLXR_ARG || !strstr(error.text, "plan operation ")) {
            fail_msg("change %zu was not refused: %s", i, error.text);
        }
        free(ops);
        mlxr_model_unref(&model);
    }
    mlxr_engine_close(&engine);
}

/* ---- files ---- */

/* Exchanges the first `from` in the model's config.json. */
static void edit(const char *folder, const char *from, const char *to)
{
    static char text[CONFIG_MAX], path[600];
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    assert_int_equal(fclose(f), 0);
    char *at = strstr(text, from);
    if (!at) {
        fail_msg("%s has no %s", path, from);
        return;
    }
    f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_int_equal(fclose(f), 0);
}

static void files_whose_mixers_do_not_fit_say_so(void **state)
{
    (void)state;
    static const struct {
        const char *family, *from, *to, *words;
    } files[] = {
        {"lfm2", "\"conv_L_cache\": 4", "\"conv_L_cache\": 1", "a convolution over 1 rows"},
        {"lfm2", "\"conv_L_cache\": 4", "\"conv_L_cache\": 99", "'lfm2.shortconv.l_cache' is 99"},
        {"lfm2", "\"conv_L_cache\": 4", "\"conv_L_cache\": 3", "tensor 'blk.0.shortconv.conv.weight' has shape [4, 64"},
        {"lfm2", "\"conv_L_cache\": 4,", "", "'conv_L_cache' is missing"},
        {"lfm2", "\"conv\",", "\"recurrent\",", "layer 0 is of an unknown type"},
        {"lfm2", "\"conv\",", "\"mlp\",", "layer 0 is of an unknown type"},
        {"lfm2", "\"conv\",", "", "no list of one word a layer"},
        {"lfm2", "\"full_attention\",", "\"conv\",", "tensor 'blk.1.shortconv.in_proj.weight' is missing"},
        {"lfm2", "\"block_auto_adjust_ff_dim\": false", "\"block_auto_adjust_ff_dim\": true",
         "tensor 'blk.0.ffn_gate.weight' has shape [64, 96, 1, 1]; expected [64, 256]"},
        {"qwen3next", "\"linear_num_key_heads\": 2", "\"linear_num_key_heads\": 3", "do not divide among"},
        {"qwen3next", "\"linear_key_head_dim\": 16", "\"linear_key_head_dim\": 2000",
         "'qwen3next.ssm.state_size' is 2000"},
        {"qwen3next", "\"linear_value_head_dim\": 24", "\"linear_value_head_dim\": 20",
         "tensor 'blk.0.ssm_in.weight' has shape [64, 256, 1, 1]; expected [64, 224]"},
        {"qwen3next", "\"linear_attention\",", "\"sliding_attention\",", "'layer_types'"},
        {"qwen3next", "\"shared_expert_intermediate_size\": 56", "\"shared_expert_intermediate_size\": 48",
         "blk.0.ffn_gate_shexp.weight"},
        {"granitehybrid", "\"mamba_n_groups\": 2", "\"mamba_n_groups\": 3", "do not divide among"},
        {"granitehybrid", "\"mamba_d_state\": 24", "\"mamba_d_state\": 16", "tensor 'blk.0.ssm_in.weight' has shape"},
        {"granitehybrid", "\"time_step_limit\": [\n  0.0", "\"time_step_limit\": [\n  0.5", "'time_step_limit'"},
        {"granitehybrid-dense", "\"shared_intermediate_size\": 80", "\"shared_intermediate_size\": 81",
         "tensor 'blk.0.ffn_gate.weight' has shape"},
        {"nemotron-h", "\"mlp\",", "\"moe\",", "layer 4 is of an unknown type"},
        {"nemotron-h", "\"mamba_num_heads\": 6", "\"mamba_num_heads\": 0", "'mamba_num_heads' is 0"},
        {"nemotron-h", "\"relu2\"", "\"silu\"", "activation 'silu'"},
        {"gemma4", "\"rope_theta\": 10000.0", "\"rope_theta\": 0.0", "'gemma4.rope.freq_base_swa' must be above 0"},
    };
    mlxr_engine *engine = engine_open();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        mlxr_error error;
        mlxr_model *model = NULL;
        const char *folder = folder_of(files[i].family);
        edit(folder, files[i].from, files[i].to);
        mlxr_status status = mlxr_model_read(&model, engine, folder, NULL, &error);
        if (status == MLXR_OK || !strstr(error.text, files[i].words)) {
            fail_msg("%s with %s: %s", files[i].family, files[i].to, status == MLXR_OK ? "was read" : error.text);
        }
    }
    mlxr_engine_close(&engine);
}

/* The two layers of the model that have no mixer, without the others. */
static void a_model_in_which_no_layer_mixes_is_refused(void **state)
{
    (void)state;
    char folder[512], weights[600];
    mlxr_error error;
    mlxr_model *model = NULL;
    mlxr_engine *engine = engine_open();
    snprintf(folder, sizeof folder, "%s/no-mixer", test_temp_dir());
    snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
    family_model_write_without("nemotron-h", folder,
                               (const char *const[]){"layers.0.", "layers.2.", "layers.3.", NULL});
    family_model_exchange(weights, "layers.1.", "layers.0.");
    family_model_exchange(weights, "layers.4.", "layers.1.");
    edit(folder, "\"linear_attention\",\n  \"mlp\",\n  \"full_attention\",\n  \"linear_attention\"", "\"mlp\"");
    assert_int_equal(mlxr_model_load(&model, engine, folder, NULL, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "no layer of the model sees other tokens than its own"));
    mlxr_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_hand_on_their_states),
        cmocka_unit_test(plans_whose_mixers_do_not_fit_are_refused),
        cmocka_unit_test(files_whose_mixers_do_not_fit_say_so),
        cmocka_unit_test(a_model_in_which_no_layer_mixes_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
