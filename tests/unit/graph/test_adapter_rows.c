/*
 * Rows of an adapter's matrices where its file has them in another order than the model's.
 * Owner: the test program. Lifetime: the process.
 */
#include "graph/adapter.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_heads_are_found_in_either_order),
        cmocka_unit_test(adapters_of_the_other_form_are_refused_where_weights_hold_multipliers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
