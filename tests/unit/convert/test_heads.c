/*
 * Tensors whose rows are those of heads: what is no whole number of them is refused by the name of what it is of.
 * Owner: the test program. Lifetime: the process.
 */
#include "convert/heads.h"
#include "support/test.h"

static void heads_that_are_not_whole_are_named_by_what_they_are_of(void **state)
{
    (void)state;
    const tensor rows = {.name = "blk.0.attn_qkv.weight", .n_dims = 2, .shape = {8, 20, 1, 1}};
    out_tensor out = {.in = &rows};
    source s = {.tensors = &out, .n_tensors = 1};
    hparams h = {.fam = family_find("gptneox", 7), .qkv_by_heads = true, .n_head = 2, .head_dim = 4};
    mlxr_error error = {0};
    assert_int_equal(heads_in_turn(&s, &h, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "'blk.0.attn_qkv.weight': 20 rows are not those of 6 heads of Q, K and V of 4"));
    h = (hparams){.fam = family_find("qwen35", 6),
                  .n_mixer_heads = 4,
                  .n_mixer_heads_k = 2,
                  .mixer_head_k = 4,
                  .mixer_head_v = 4};
    assert_non_null(h.fam);
    assert_int_equal(heads_in_turn(&s, &h, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "20 rows are not those of 4 value heads of 4"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_that_are_not_whole_are_named_by_what_they_are_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
