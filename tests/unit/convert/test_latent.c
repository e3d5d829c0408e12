/*
 * Latent attention: GGUF files with a matrix of keys and one of values for each head give the same bits as those with
 * both in one; what does not fit is named. Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "convert/write.h"
#include "kernels/plan_check.h"
#include "logits_of.inc"
#include "mlxr_convert.h"
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/test.h"

/* Of the tiny models: layers, heads; a head's elements that do not turn, that do, of values; latent numbers. */
enum { N_LAYERS = 4, N_HEADS = 4, NOPE = 20, ROT = 12, HEAD_V = 16, TENSORS_MAX = 256 };

static const char *const families[] = {"deepseek2", "deepseek2-lite", "deepseek3"};

typedef struct parting {
    bool keeps_whole;   /* attn_kv_b stays beside the parts */
    const char *drops;  /* a word in the names of tensors that are left out */
    uint32_t more_rows; /* in each head's values */
} parting;

/* As `mlxr convert` writes it: keys and values apart. */
static const char *converted(const char *name)
{
    static char out[520];
    char in[512];
    mlxr_error error;
    snprintf(in, sizeof in, "%s/%s", test_temp_dir(), name);
    snprintf(out, sizeof out, "%s.gguf", in);
    family_model_write(name, in);
    assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "F32", .n_threads = 1}, NULL, &error), &error);
    return out;
}

static const tensor *matrices_of(region *memory, const char *name, const float *from, size_t n_in, size_t n_out)
{
    tensor *t = region_array(memory, 1, sizeof *t);
    assert_non_null(t);
    *t = (tensor){.name = name, .type = DTYPE_F32, .n_dims = 3, .shape = {n_in, n_out, N_HEADS, 1}, .data = from};
    t->row_bytes = n_in * sizeof *from;
    t->n_bytes = n_out * N_HEADS * t->row_bytes;
    return t;
}

/* The two tensors in the place of attn_kv_b: keys transposed, as llama.cpp's converter writes them. */
static void part(region *memory, const tensor *whole, const parting *p, const tensor *out[2])
{
    size_t rank = (size_t)whole->shape[0], rows = HEAD_V + p->more_rows;
    float *k = region_array(memory, N_HEADS * NOPE * rank, sizeof *k), *v = NULL;
    v = region_array(memory, N_HEADS * rows * rank, sizeof *v);
    assert_true(k && v && whole->shape[1] == N_HEADS * (NOPE + HEAD_V) && whole->type == DTYPE_F32);
    for (size_t h = 0; h < N_HEADS; h++) {
        const float *head = (const float *)whole->data + h * (NOPE + HEAD_V) * rank;
        for (size_t i = 0; i < NOPE * rank; i++) {
            k[(h * rank + i % rank) * NOPE + i / rank] = head[i];
        }
        memcpy(v + h * rows * rank, head + NOPE * rank, HEAD_V * rank * sizeof *v);
    }
    unsigned layer;
    assert_int_equal(sscanf(whole->name, "blk.%u.", &layer), 1);
    char name[64];
    snprintf(name, sizeof name, "blk.%u.attn_k_b.weight", layer);
    out[0] = matrices_of(memory, region_strndup(memory, name, strlen(name)), k, NOPE, rank);
    snprintf(name, sizeof name, "blk.%u.attn_v_b.weight", layer);
    out[1] = matrices_of(memory, region_strndup(memory, name, strlen(name)), v, rank, rows);
}

/* attn_kv_b in the place of the two, as older files have it; other tensors are NULL. */
static const tensor *join(region *memory, const model_file *file, const tensor *k)
{
    unsigned layer;
    char name[64];
    if (sscanf(k->name, "blk.%u.attn_k_b.weight", &layer) != 1 || !strstr(k->name, "attn_k_b")) {
        return NULL;
    }
    snprintf(name, sizeof name, "blk.%u.attn_v_b.weight", layer);
    const tensor *v = model_file_tensor(file, name);
    size_t rank = (size_t)k->shape[1];
    assert_true(v && v->type == DTYPE_F32 && v->shape[0] == rank && v->shape[1] == HEAD_V && v->shape[2] == N_HEADS);
    assert_true(k->type == DTYPE_F32 && k->shape[0] == NOPE && k->shape[2] == N_HEADS);
    float *values = region_array(memory, N_HEADS * (NOPE + HEAD_V) * rank, sizeof *values);
    tensor *t = region_array(memory, 1, sizeof *t);
    assert_true(values && t);
    for (size_t h = 0; h < N_HEADS; h++) {
        float *head = values + h * (NOPE + HEAD_V) * rank;
        for (size_t i = 0; i < NOPE * rank; i++) {
            head[i] = ((const float *)k->data)[(h * rank + i % rank) * NOPE + i / rank];
        }
        memcpy(head + NOPE * rank, (const float *)v->data + h * HEAD_V * rank, HEAD_V * rank * sizeof *head);
    }
    snprintf(name, sizeof name, "blk.%u.attn_kv_b.weight", layer);
    *t = (tensor){.name = region_strndup(memory, name, strlen(name)),
                  .type = DTYPE_F32,
                  .n_dims = 2,
                  .shape = {rank, N_HEADS * (NOPE + HEAD_V), 1, 1},
                  .data = values,
                  .row_bytes = rank * sizeof *values};
    t->n_bytes = (size_t)t->shape[1] * t->row_bytes;
    return t;
}

/* No other program's file tells how groups of experts are chosen. */
static bool is_changed(const char *key)
{
    return strstr(key, ".expert_group_by_best") || strstr(key, ".attention.head_count_kv") ||
           strstr(key, ".attention.key_length") || strstr(key, ".attention.value_length");
}

/* A file with the parts, and with what llama.cpp's converter says of the cache: one head of latent numbers. */
static const char *parted(const char *path, const parting *p)
{
    static char out_path[540];
    static out_tensor tensors[TENSORS_MAX];
    mlxr_error error;
    model_file *file = NULL;
    region memory = {0};
    write_result written;
    size_t n = 0;
    uint32_t rank = 0;
    gguf_out header = gguf_out_make();
    assert_ok(model_file_open(&file, path, &error), &error);
    assert_ok(model_file_u32(file, "deepseek2.attention.kv_lora_rank", &rank, &error), &error);
    for (uint64_t i = 0; i < file->n_meta; i++) {
        if (!is_changed(file->meta[i].key)) {
            gguf_out_put(&header, file->meta[i].key, &file->meta[i]);
        }
    }
    gguf_out_u32(&header, "deepseek2.attention.head_count_kv", 1);
    gguf_out_u32(&header, "deepseek2.attention.key_length", rank + ROT);
    gguf_out_u32(&header, "deepseek2.attention.value_length", rank);
    gguf_out_u32(&header, "deepseek2.attention.key_length_mla", NOPE + ROT);
    gguf_out_u32(&header, "deepseek2.attention.value_length_mla", HEAD_V);
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        const tensor *t = &file->tensors[i], *both[2];
        bool whole = strstr(t->name, "attn_kv_b") != NULL;
        if (whole) {
            part(&memory, t, p, both);
        }
        for (int j = 0; j < 2 && whole; j++) {
            if (!p->drops || !strstr(both[j]->name, p->drops)) {
                tensors[n++] = (out_tensor){.in = both[j], .type = DTYPE_F32};
            }
        }
        if (!whole || p->keeps_whole) {
            tensors[n++] = (out_tensor){.in = t, .type = t->type};
        }
        assert_true(n + 3 < TENSORS_MAX);
    }
    snprintf(out_path, sizeof out_path, "%s/parted.gguf", test_temp_dir());
    assert_ok(write_model(out_path, &header, tensors, n, &(write_options){.n_threads = 1}, &written, &error), &error);
    gguf_out_close(&header);
    region_close(&memory);
    model_file_close(&file);
    return out_path;
}

/* A file as it was before the two were written apart. */
static const char *whole_of(const char *path)
{
    static char out_path[540];
    static out_tensor tensors[TENSORS_MAX];
    mlxr_error error;
    model_file *file = NULL;
    region memory = {0};
    write_result written;
    size_t n = 0;
    gguf_out header = gguf_out_make();
    assert_ok(model_file_open(&file, path, &error), &error);
    for (uint64_t i = 0; i < file->n_meta; i++) {
        if (!is_changed(file->meta[i].key) || strstr(file->meta[i].key, ".expert_group_by_best")) {
            gguf_out_put(&header, file->meta[i].key, &file->meta[i]);
        }
    }
    gguf_out_u32(&header, "deepseek2.attention.head_count_kv", N_HEADS);
    gguf_out_u32(&header, "deepseek2.attention.key_length", NOPE + ROT);
    gguf_out_u32(&header, "deepseek2.attention.value_length", HEAD_V);
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        const tensor *t = &file->tensors[i], *both = join(&memory, file, t);
        if (both || !strstr(t->name, "attn_v_b")) {
            tensors[n++] = (out_tensor){.in = both ? both : t, .type = t->type};
        }
    }
    snprintf(out_path, sizeof out_path, "%s/whole.gguf", test_temp_dir());
    assert_ok(write_model(out_path, &header, tensors, n, &(write_options){.n_threads = 1}, &written, &error), &error);
    gguf_out_close(&header);
    region_close(&memory);
    model_file_close(&file);
    return out_path;
}

static mlxr_engine *engine_open(const char *on)
{
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_engine_options options = {
        .backend = on, .n_threads = 2, .kv_type = "f32", .kv_bytes = 16 << 20, .no_prefix_cache = true};
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    return engine;
}

static void keys_and_values_apart_give_the_bits_of_both_in_one(void **state)
{
    (void)state;
    static float expected[N_TOKENS * TINY_N_VOCAB], found[N_TOKENS * TINY_N_VOCAB];
    static const char *const backends[] = {"cpu-scalar", "cpu"};
    for (size_t b = 0; b < 2; b++) {
        mlxr_engine *engine = engine_open(backends[b]);
        for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
            const char *apart = converted(families[f]), *whole = whole_of(apart);
            logits_of(engine, whole, expected);
            logits_of(engine, apart, found);
            assert_memory_equal(expected, found, sizeof found);
            logits_of(engine, parted(whole, &(parting){0}), found);
            assert_memory_equal(expected, found, sizeof found);
            logits_of(engine, parted(whole, &(parting){.keeps_whole = true}), found);
            assert_memory_equal(expected, found, sizeof found);
        }
        mlxr_engine_close(&engine);
    }
}

/* What llama.cpp's converter writes of the cache, and the same numbers in its two tensors. */
static void a_converted_file_has_keys_and_values_apart(void **state)
{
    static const char *const types[] = {"F32", "Q8_0", NULL};
    (void)state;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        for (size_t t = 0; t < 3; t++) {
            char in[512], out[540];
            mlxr_error error;
            model_file *file = NULL;
            snprintf(in, sizeof in, "%s/apart-%s", test_temp_dir(), families[f]);
            snprintf(out, sizeof out, "%s-%zu.gguf", in, t);
            family_model_write(families[f], in);
            const mlxr_quantize_options options = {.type = types[t], .n_threads = 2};
            assert_ok(mlxr_quantize(in, out, &options, NULL, &error), &error);
            assert_ok(model_file_open(&file, out, &error), &error);
            const struct {
                const char *key;
                uint32_t value;
            } numbers[] = {{"head_count_kv", 1}, {"key_length_mla", NOPE + ROT}, {"value_length_mla", HEAD_V}};
            for (size_t i = 0; i < 3; i++) {
                char key[64];
                uint32_t value = 0;
                snprintf(key, sizeof key, "deepseek2.attention.%s", numbers[i].key);
                assert_ok(model_file_u32(file, key, &value, &error), &error);
                assert_int_equal(value, numbers[i].value);
            }
            uint32_t rank = 0, k_length = 0, v_length = 0;
            assert_ok(model_file_u32(file, "deepseek2.attention.kv_lora_rank", &rank, &error), &error);
            assert_ok(model_file_u32(file, "deepseek2.attention.key_length", &k_length, &error), &error);
            assert_ok(model_file_u32(file, "deepseek2.attention.value_length", &v_length, &error), &error);
            assert_true(k_length == rank + ROT && v_length == rank);
            for (unsigned layer = 0; layer < N_LAYERS; layer++) {
                char name[64];
                snprintf(name, sizeof name, "blk.%u.attn_kv_b.weight", layer);
                assert_null(model_file_tensor(file, name));
                snprintf(name, sizeof name, "blk.%u.attn_k_b.weight", layer);
                assert_non_null(model_file_tensor(file, name));
            }
            model_file_close(&file);
        }
    }
}

/* Where YaRN's two factors are one, by a key that other programs read; of two they know nothing. */
static void the_scale_that_yarn_changes_is_told_as_others_tell_it(void **state)
{
    (void)state;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        mlxr_error error;
        model_file *file = NULL;
        float scale = 0, multiplier = 0;
        assert_ok(model_file_open(&file, converted(families[f]), &error), &error);
        assert_ok(model_file_f32(file, "deepseek2.attention.scale", &scale, &error), &error);
        assert_ok(model_file_f32(file, "deepseek2.rope.scaling.yarn_log_multiplier", &multiplier, &error), &error);
        model_file_close(&file);
        bool one = strcmp(families[f], "deepseek3") == 0;
        assert_true(one == (scale == 0) && one == (multiplier > 0));
        assert_true(!one || fabsf(multiplier - 0.1f) < 1e-6f);
    }
}

static void a_part_that_is_missing_or_does_not_fit_is_named(void **state)
{
    (void)state;
    static const struct {
        parting p;
        const char *words;
    } cases[] = {
        {{.drops = "attn_k_b"}, "'blk.0.attn_kv_b.weight' is missing, and so is blk.0.attn_k_b.weight"},
        {{.drops = "attn_v_b"}, "'blk.0.attn_kv_b.weight' is missing, and so is blk.0.attn_v_b.weight"},
        {{.drops = "_b.weight"}, "'blk.0.attn_kv_b.weight' is missing, and so is blk.0.attn_k_b.weight"},
        {{.more_rows = 1}, "'blk.0.attn_v_b.weight' has shape [24, 17, 4, 1]; expected [24, 16, 4]"},
    };
    mlxr_engine *engine = engine_open("cpu");
    const char *whole = whole_of(converted("deepseek2"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mlxr_error error;
        mlxr_model *model = NULL;
        assert_int_equal(mlxr_model_load(&model, engine, parted(whole, &cases[i].p), NULL, &error), MLXR_FORMAT);
        if (!strstr(error.text, cases[i].words)) {
            fail_msg("case %zu: %s", i, error.text);
        }
    }
    mlxr_engine_close(&engine);
}

/* ---- plans ---- */

typedef void change_fn(plan *p, op *o, op_heads *x);

#define CHANGE(name, what)                                                                                             \
    static void name(plan *p, op *o, op_heads *x)                                                                      \
    {                                                                                                                  \
        (void)p, (void)o, (void)x;                                                                                     \
        what;                                                                                                          \
    }
CHANGE(nothing_at_all, o->heads = NULL)
CHANGE(no_heads, x->n_heads = 0)
CHANGE(no_matrices, x->weights = NULL)
CHANGE(in_place, o->src = o->dst)
CHANGE(no_source, o->src = SLOT_NONE)
CHANGE(no_input, x->n_in = 0)
CHANGE(no_output, x->n_out = 0)
CHANGE(one_over_another, x->to_apart = x->n_out - 1)
CHANGE(past_the_source, x->from += 32)
CHANGE(past_the_end, x->to += 12)
CHANGE(a_head_more, x->n_heads++)
CHANGE(other_matrices, x->n_in--)
CHANGE(never_written, o->src = SLOT_A)
CHANGE(shows_no_slot, x->whole_src = SLOT_NONE)
CHANGE(shows_another, x->whole_src = SLOT_KR)

static void plans_whose_heads_do_not_fit_are_refused(void **state)
{
    (void)state;
    static change_fn *const changes[] = {nothing_at_all,  no_heads,      no_matrices,  in_place,
                                         no_source,       no_input,      no_output,    one_over_another,
                                         past_the_source, past_the_end,  a_head_more,  other_matrices,
                                         never_written,   shows_no_slot, shows_another};
    mlxr_error error;
    mlxr_engine *engine = engine_open("cpu");
    mlxr_model *model = NULL;
    assert_ok(mlxr_model_load(&model, engine, whole_of(converted("deepseek2")), NULL, &error), &error);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        plan p = model->graph->plan;
        op *ops = calloc(p.n_ops, sizeof *ops), *o = ops;
        assert_non_null(ops);
        memcpy(ops, p.ops, p.n_ops * sizeof *ops);
        p.ops = ops;
        assert_ok(plan_check(&p, &error), &error);
        while (o->kind != OP_HEADS) {
            assert_true(++o < ops + p.n_ops);
        }
        op_heads x = *o->heads;
        o->heads = &x;
        changes[i](&p, o, &x);
        if (plan_check(&p, &error) != MLXR_ARG || !strstr(error.text, "plan operation ")) {
            fail_msg("change %zu was not refused: %s", i, error.text);
        }
        free(ops);
    }
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_converted_file_has_keys_and_values_apart),
        cmocka_unit_test(keys_and_values_apart_give_the_bits_of_both_in_one),
        cmocka_unit_test(the_scale_that_yarn_changes_is_told_as_others_tell_it),
        cmocka_unit_test(a_part_that_is_missing_or_does_not_fit_is_named),
        cmocka_unit_test(plans_whose_heads_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
