/*
 * Metadata that each for itself could be, and together cannot: models are refused by name.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "graph/hparams.h"
#include "loaders/readers.h"
#include "support/test.h"

enum { META_MAX = 32 };

typedef struct said {
    const char *key;
    double number;     /* a count where it is whole and the family's */
    const float *list; /* [n], or NULL */
    uint64_t n;
    const char *text; /* or NULL */
} said;

static hparams read_last; /* what was taken last */

/* Reads a model of which this is said; a key that begins with '.' gets the family before it. */
static mlxr_status read(const char *arch, const said *list, mlxr_error *error)
{
    static meta_value meta[META_MAX];
    static char keys[META_MAX][80];
    static hparams h;
    model_file *file = NULL;
    uint64_t n = 0;
    assert_ok(model_file_make(&file, error), error);
    meta[n++] = (meta_value){.key = "general.architecture", .type = META_STRING, .s = {arch, strlen(arch)}};
    for (; list->key; list++, n++) {
        snprintf(keys[n], sizeof keys[n], "%s%s", list->key[0] == '.' ? arch : "", list->key);
        meta[n] = (meta_value){.key = keys[n], .type = META_F32, .f = list->number};
        if (list->text) {
            meta[n].type = META_STRING;
            meta[n].s = (text_view){list->text, strlen(list->text)};
        } else if (list->list) {
            meta[n].type = META_ARRAY;
            meta[n].array = (meta_array){.type = META_F32, .n = list->n, .data = list->list};
        } else if (list->number == floor(list->number) && list->number < 1e6 && list->key[0] == '.') {
            meta[n].type = META_U32;
            meta[n].u = (uint64_t)list->number;
        }
    }
    file->meta = meta;
    file->n_meta = n;
    assert_ok(model_file_index(file, error), error);
    mlxr_status status = hparams_read(&h, file, error);
    if (status == MLXR_OK) {
        read_last = h;
    }
    model_file_close(&file);
    return status;
}

#define N(which, x) {.key = which, .number = x}
#define SHAPE                                                                                                          \
    N(".block_count", 2), N(".embedding_length", 64), N(".context_length", 512), N(".attention.head_count", 8),        \
        N(".feed_forward_length", 96), N(".attention.layer_norm_rms_epsilon", 1e-5),                                   \
        N(".attention.layer_norm_epsilon", 1e-5)

static void refuse(const char *arch, const said *list, const char *words)
{
    mlxr_error error = {0};
    if (read(arch, list, &error) == MLXR_OK || !strstr(error.text, words)) {
        fail_msg("%s: %s\n  expected: %s", arch, error.status == MLXR_OK ? "taken" : error.text, words);
    }
}

static void take(const char *arch, const said *list)
{
    mlxr_error error = {0};
    assert_ok(read(arch, list, &error), &error);
}

static void as_many_kv_heads_as_heads_where_qkv_lies_head_by_head(void **state)
{
    (void)state;
    const said same[] = {SHAPE, N(".attention.head_count_kv", 8), {0}};
    const said fewer[] = {SHAPE, N(".attention.head_count_kv", 2), {0}};
    take("gptneox", same);
    take("llama", fewer);
    refuse("gptneox", fewer, "8 query heads and 2 KV heads: the Q, K and V of gptneox models lie together");
}

static void xielu_has_all_four_numbers_or_none_and_all_are_finite(void **state)
{
    (void)state;
    static const char *const keys[] = {"xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps"};
    static const float list[] = {0.5f, 0.25f}, bad[] = {0.5f, NAN};
    const said none[] = {SHAPE, {0}};
    take("apertus", none); /* a tensor a layer has them */
    for (unsigned some = 1; some < 16; some++) {
        said all[12] = {SHAPE};
        char words[64] = "";
        size_t n = 7;
        for (size_t i = 0; i < 4; i++) {
            if (some >> i & 1) {
                all[n++] = (said){.key = keys[i], .number = 0.5, .list = i % 2 ? list : NULL, .n = 2};
            } else if (!words[0]) {
                snprintf(words, sizeof words, "metadata '%s' is missing", keys[i]);
            }
        }
        if (words[0]) {
            refuse("apertus", all, words);
            take("llama", all);
        } else {
            take("apertus", all);
        }
    }
    for (size_t i = 0; i < 4; i++) {
        for (int kind = 0; kind < 3; kind++) {
            said all[12] = {SHAPE};
            char words[64];
            for (size_t k = 0; k < 4; k++) {
                all[7 + k] = (said){.key = keys[k], .number = 0.5};
            }
            all[7 + i].number = kind == 1 ? (double)NAN : (double)INFINITY;
            all[7 + i].list = kind == 2 ? bad : NULL;
            all[7 + i].n = 2;
            snprintf(words, sizeof words, "metadata '%s': a number that is not finite", keys[i]);
            refuse("apertus", all, words);
        }
    }
}

/* What is multiplied by two of them is multiplied by their product, or, where one was undone, by the quotient. */
static void multipliers_whose_products_no_float_holds_are_refused(void **state)
{
    (void)state;
    static const struct {
        int one, other; /* TIMES_… */
        float first, second;
        float residual;
        const char *said; /* NULL: taken */
    } cases[] = {
        {TIMES_ATTN_IN, TIMES_MIXER_IN, 0.5f, 3e4f, 1, NULL},
        {TIMES_ATTN_IN, TIMES_MIXER_IN, 1e-30f, 1e30f, 1, "inputs of mixers ÷ those of attention, 1e+30 and 1e-30"},
        {TIMES_ATTN_IN, TIMES_MIXER_IN, 1e30f, 1e-30f, 1, "inputs of mixers ÷ those of attention, 1e-30 and 1e+30"},
        {TIMES_ATTN_IN, TIMES_MIXER_IN, -1e-30f, 1e30f, 1, "inputs of mixers ÷ those of attention"},
        {TIMES_ATTN_IN, TIMES_KEY, 1e18f, 1e18f, 1, NULL},
        {TIMES_ATTN_IN, TIMES_KEY, 1e20f, 1e20f, 1, "inputs of attention × keys, 1e+20 and 1e+20"},
        {TIMES_ATTN_IN, TIMES_KEY, 1e-20f, 1e-30f, 1, "inputs of attention × keys, 1e-20 and 1e-30"},
        {TIMES_MIXER_IN, TIMES_Z, 1e20f, 1e20f, 1, "inputs of mixers × gates, 1e+20 and 1e+20"},
        {TIMES_MIXER_IN, TIMES_V, 1e20f, -1e20f, 1, "inputs of mixers × values, 1e+20 and -1e+20"},
        {TIMES_MIXER_IN, TIMES_K, 1e20f, 1e20f, 1, "inputs of mixers × keys, 1e+20 and 1e+20"},
        {TIMES_MIXER_IN, TIMES_Q, 1e-20f, 1e-30f, 1, "inputs of mixers × queries, 1e-20 and 1e-30"},
        {TIMES_MIXER_IN, TIMES_STEP, 1e20f, 1e20f, 1, "inputs of mixers × steps, 1e+20 and 1e+20"},
        {TIMES_ATTN_OUT, TIMES_ATTN_OUT, 1e20f, 1e20f, 1e20f, "outputs of attention × residual_scale"},
        {TIMES_MIXER_OUT, TIMES_MIXER_OUT, 1e20f, 1e20f, 1e20f, "outputs of mixers × residual_scale"},
        {TIMES_DOWN, TIMES_DOWN, 1e-20f, 1e-20f, 1e-30f, "outputs of MLPs × residual_scale, 1e-20 and 1e-30"},
        {TIMES_DOWN, TIMES_DOWN, 1, 1, 0, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float times[TIMES_COUNT];
        for (size_t k = 0; k < TIMES_COUNT; k++) {
            times[k] = 1;
        }
        times[cases[i].one] = cases[i].first;
        times[cases[i].other] = cases[i].second;
        const said falcon[] = {SHAPE,
                               N(".ssm.conv_kernel", 4),
                               N(".ssm.state_size", 16),
                               N(".ssm.group_count", 1),
                               N(".ssm.time_step_rank", 4),
                               N(".ssm.inner_size", 64),
                               {.key = ".multipliers", .list = times, .n = TIMES_COUNT},
                               {.key = ".residual_scale", .list = NULL, .number = (double)cases[i].residual},
                               {0}};
        if (cases[i].said) {
            char words[160];
            snprintf(words, sizeof words, "metadata 'falcon-h1.multipliers': %s", cases[i].said);
            refuse("falcon-h1", falcon, words);
        } else {
            take("falcon-h1", falcon);
        }
    }
}

static void gelu_by_tanh_is_known_by_all_its_names(void **state)
{
    (void)state;
    static const char *const words[] = {"gelu_pytorch_tanh", "gelu_new", "gelu_fast"};
    for (size_t i = 0; i < 3; i++) {
        const said neox[] = {SHAPE, {.key = ".hidden_activation", .text = words[i]}, {0}};
        take("gptneox", neox);
        assert_int_equal(read_last.act, ACT_GELU_TANH);
    }
    const said exact[] = {SHAPE, {.key = ".hidden_activation", .text = "gelu"}, {0}};
    const said other[] = {SHAPE, {.key = ".hidden_activation", .text = "gelu_slow"}, {0}};
    take("gptneox", exact);
    assert_int_equal(read_last.act, ACT_GELU_ERF);
    refuse("gptneox", other, "is 'gelu_slow'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_kv_heads_as_heads_where_qkv_lies_head_by_head),
        cmocka_unit_test(xielu_has_all_four_numbers_or_none_and_all_are_finite),
        cmocka_unit_test(multipliers_whose_products_no_float_holds_are_refused),
        cmocka_unit_test(gelu_by_tanh_is_known_by_all_its_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
