/*
 * Rows of an adapter's matrices where its file has them in another order than the model's.
 * Owner: the test program. Lifetime: the process.
 */
#include "graph/adapter.h"
#include "loaders/readers.h"
#include "loaders/safetensors.h"
#include "support/test.h"

/* GPT-NeoX's folders have Q, K and V of a head side by side, its GGUF files all of Q first. */
static void rows_of_heads_are_found_in_either_order(void **state)
{
    (void)state;
    enum { HEADS = 5, SIZE = 4 };
    const hparams h = {.fam = family_find("gptneox", 7), .n_head = HEADS, .head_dim = SIZE};
    assert_non_null(h.fam);
    for (uint64_t part = 0; part < 3; part++) {
        for (uint64_t head = 0; head < HEADS; head++) {
            for (uint64_t i = 0; i < SIZE; i++) {
                uint64_t folder = (head * 3 + part) * SIZE + i, gguf = (part * HEADS + head) * SIZE + i;
                static const char name[] = "blk.0.attn_qkv.weight";
                assert_int_equal(graph_adapter_row(&h, true, false, name, folder), gguf);
                assert_int_equal(graph_adapter_row(&h, false, true, name, gguf), folder);
                assert_int_equal(graph_adapter_row(&h, true, true, name, folder), folder);
                assert_int_equal(graph_adapter_row(&h, false, false, name, gguf), gguf);
                assert_int_equal(graph_adapter_row(&h, true, false, "blk.0.ffn_up.weight", folder), folder);
            }
        }
    }
}

/* Falcon-H1's multipliers are in GGUF's weights: an adapter of the other form would be too large or too small. */
static void adapters_of_the_other_form_are_refused_where_weights_hold_multipliers(void **state)
{
    (void)state;
    const hparams h = {.fam = family_find("falcon-h1", 9)}, llama = {.fam = family_find("llama", 5)};
    mlxr_error error = {0};
    for (int model = 0; model < 2; model++) {
        assert_int_equal(graph_adapter_form_fits(&h, model, model, &error), MLXR_OK);
        assert_int_equal(graph_adapter_form_fits(&llama, model, !model, &error), MLXR_OK);
        assert_int_equal(graph_adapter_form_fits(&h, model, !model, &error), MLXR_UNSUPPORTED);
        assert_non_null(strstr(error.text, model ? "an adapter in GGUF for a falcon-h1 model in safetensors"
                                                 : "an adapter in PEFT's form for a falcon-h1 model in GGUF"));
    }
}

/* What an adapter finds of a model with fewer KV heads, should one ever be read: a row that its B does not have. */
static void rows_that_the_adapter_does_not_have_are_refused_and_not_read(void **state)
{
    (void)state;
    enum { HEADS = 4, SIZE = 4, OUT = (HEADS + 2) * SIZE, IN = 8 };
    static const float a_values[IN], b_values[OUT], data[OUT * IN];
    static const char name[] = "blk.0.attn_qkv.weight";
    const tensor a = {.name = "a", .shape = {IN, 1, 1, 1}, .n_dims = 2, .data = a_values, .row_bytes = sizeof a_values};
    const tensor b = {
        .name = "b", .shape = {1, OUT, 1, 1}, .n_dims = 2, .data = b_values, .row_bytes = sizeof *b_values};
    const tensor whole = {
        .name = name, .shape = {IN, OUT, 1, 1}, .n_dims = 2, .data = data, .row_bytes = IN * sizeof *data};
    const op product = {.kind = OP_LINEAR, .width = OUT, .weight = &whole};
    for (int halves = 0; halves < 2; halves++) {
        model_file *model = NULL;
        graph_adapter made = {0};
        region memory = {0};
        mlxr_error error = {0};
        const adapter_target target = {.name = name, .a = &a, .b = &b, .n = 1, .n_in = IN, .n_out = OUT, .rank = 1};
        const adapter_file file = {.targets = &target, .n_targets = 1, .halves = !halves};
        graph g = {.h = {.fam = family_find("gptneox", 7), .n_head = HEADS, .n_head_kv = 1, .head_dim = SIZE}};
        g.plan.ops = &product;
        g.plan.n_ops = 1;
        assert_ok(model_file_make(&model, &error), &error);
        model->tensors = &whole;
        model->n_tensors = 1;
        model->rope_halves = halves;
        assert_ok(model_file_index(model, &error), &error);
        assert_int_equal(graph_adapter_bind(&made, &g, model, &file, &memory, &error), MLXR_FORMAT);
        assert_non_null(strstr(error.text, "'blk.0.attn_qkv.weight', whose 24 rows are no whole heads"));
        model_file_close(&model);
        region_close(&memory);
    }
}

static void models_with_fewer_kv_heads_whose_qkv_lies_head_by_head_are_refused(void **state)
{
    (void)state;
#define NEOX(heads)                                                                                                    \
    "{\"architectures\": [\"GPTNeoXForCausalLM\"], \"hidden_size\": 32, \"intermediate_size\": 16, \"vocab_size\": "   \
    "8, "                                                                                                              \
    "\"tie_word_embeddings\": true, \"num_hidden_layers\": 1, \"num_attention_heads\": 4, "                            \
    "\"num_key_value_heads\": " heads "}"
    static const char *const configs[] = {NEOX("4"), NEOX("1"), NEOX("2")};
    static const uint8_t no_tensors[10] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        static hparams h;
        const safetensors_texts texts = {.config = {configs[i], strlen(configs[i])}};
        assert_ok(safetensors_open_memory(&file, &texts, no_tensors, sizeof no_tensors, &error), &error);
        assert_int_equal(hparams_read(&h, file, &error), i ? MLXR_UNSUPPORTED : MLXR_OK);
        assert_true(!i || strstr(error.text, i == 1 ? "4 query heads and 1 KV heads: the Q, K and V of gptneox models"
                                                    : "4 query heads and 2 KV heads: "));
        model_file_close(&file);
    }
}

static void names_of_experts_have_digits_alone(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool known;
        uint32_t layer, expert;
    } cases[] = {{"blk.0.ffn_up.5.weight", true, 0, 5},
                 {"blk.12.ffn_gate_up_exps.weight", true, 12, UINT32_MAX},
                 {"blk.999999.ffn_down.1023.weight", true, 999999, 1023},
                 {"blk.0.ffn_up.-1.weight", false, 0, 0},
                 {"blk.0.ffn_up.+1.weight", false, 0, 0},
                 {"blk.0.ffn_up. 1.weight", false, 0, 0},
                 {"blk.0.ffn_up..weight", false, 0, 0},
                 {"blk.0.ffn_up.1.weights", false, 0, 0},
                 {"blk.0.ffn_up.4294967295.weight", false, 0, 0},
                 {"blk.-1.ffn_up.1.weight", false, 0, 0},
                 {"blk. 1.ffn_up_exps.weight", false, 0, 0},
                 {"blk.+1.ffn_up_exps.weight", false, 0, 0},
                 {"blk..ffn_up_exps.weight", false, 0, 0},
                 {"blk.1000000.ffn_up_exps.weight", false, 0, 0},
                 {"blk.1.ffn", false, 0, 0},
                 {"blk.1", false, 0, 0},
                 {"block.1.ffn_up_exps.weight", false, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        adapter_experts x = {0};
        bool known = graph_adapter_experts(cases[i].name, &x);
        if (known != cases[i].known || (known && (x.layer != cases[i].layer || x.expert != cases[i].expert))) {
            fail_msg("%s: %s, layer %u, expert %u", cases[i].name, known ? "taken" : "refused", x.layer, x.expert);
        }
    }
}

/* Every expert of a product has room for its largest rank: one pair alone must not ask for a hundred times its own. */
static void one_experts_high_rank_does_not_take_room_for_all(void **state)
{
    (void)state;
    enum { EXPERTS = 128, IN = 64, FF = 2048, HIGH = 4096 };
    static const float numbers[(size_t)HIGH * FF];
    const tensor weight = {.name = "blk.0.ffn_up_exps.weight", .n_dims = 3};
    const op_experts experts = {.n_expert = EXPERTS, .n_in = IN, .n_ff = FF, .gate = &weight};
    const op product = {.kind = OP_EXPERTS, .experts = &experts};
    graph g = {.h = {.fam = family_find("llama", 5)}};
    g.plan.ops = &product;
    g.plan.n_ops = 1;
    const tensor a = {.name = "a", .n_dims = 2, .data = numbers, .row_bytes = IN * sizeof *numbers};
    static const uint32_t ranks[] = {16, 200, HIGH};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
        graph_adapter made = {0};
        region memory = {0};
        mlxr_error error = {0};
        const model_file model = {0};
        const tensor b = {.name = "b", .n_dims = 2, .data = numbers, .row_bytes = ranks[i] * sizeof *numbers};
        const adapter_target targets[] = {
            {.name = "blk.0.ffn_up.3.weight", .a = &a, .b = &b, .n = 1, .n_in = IN, .n_out = FF, .rank = ranks[i]},
            {.name = "blk.0.ffn_up.5.weight", .a = &a, .b = &b, .n = 1, .n_in = IN, .n_out = FF, .rank = 16},
        };
        const adapter_file file = {.targets = targets, .n_targets = 2};
        mlxr_status status = graph_adapter_bind(&made, &g, &model, &file, &memory, &error);
        if (ranks[i] < HIGH) { /* in few bytes many times as many do no harm */
            assert_ok(status, &error);
            assert_int_equal(made.n_bytes, (uint64_t)EXPERTS * (IN + FF) * ranks[i] * sizeof(float));
        } else {
            assert_int_equal(status, MLXR_UNSUPPORTED);
            assert_non_null(strstr(error.text, "'blk.0.ffn_up.3.weight' with a rank of 4096"));
            assert_non_null(strstr(error.text, "4224 MiB"));
        }
        region_close(&memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_heads_are_found_in_either_order),
        cmocka_unit_test(adapters_of_the_other_form_are_refused_where_weights_hold_multipliers),
        cmocka_unit_test(rows_that_the_adapter_does_not_have_are_refused_and_not_read),
        cmocka_unit_test(models_with_fewer_kv_heads_whose_qkv_lies_head_by_head_are_refused),
        cmocka_unit_test(names_of_experts_have_digits_alone),
        cmocka_unit_test(one_experts_high_rank_does_not_take_room_for_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
