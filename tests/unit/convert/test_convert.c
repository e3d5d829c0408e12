/*
 * Safetensors to GGUF: every tiny model's folder becomes what the writer of GGUF files makes of the same model.
 * Owner: the test program. Lifetime: the process; files lie in a folder of its own.
 */
#include <math.h>
#include <unistd.h>

#include "graph/rope.h"
#include "graph/vocabulary.h"
#include "mlxr_convert.h"
#include "support/test.h"
#include "support/tiny_model.h"

static char folder[64], in[96], out[96], expected[96];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/mlxr-convert-XXXXXX");
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(in, sizeof in, "%s/in", folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    snprintf(expected, sizeof expected, "%s/expected.gguf", folder);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void remove_input(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", in);
    assert_int_equal(system(command), 0);
}

static void compare_tensors(const char *model, dtype type, const model_file *a, const model_file *b)
{
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (uint64_t i = 0; i < b->n_tensors; i++) {
        const tensor *y = &b->tensors[i], *x = model_file_tensor(a, y->name);
        if (!x || x->type != y->type || memcmp(x->shape, y->shape, sizeof x->shape) != 0) {
            fail_msg("%s: tensor '%s' is absent or of another type or shape", model, y->name);
        }
        bool rounded = y->n_dims == 1 && (type != DTYPE_F32 || strcmp(y->name, "rope_freqs.weight") == 0);
        if (!rounded && memcmp(x->data, y->data, x->n_bytes) != 0) {
            fail_msg("%s: tensor '%s' has other weights", model, y->name);
        }
        for (size_t k = 0; rounded && k < x->shape[0]; k++) { /* safetensors keep vectors in the matrices' type */
            float p, q;
            memcpy(&p, (const char *)x->data + 4 * k, 4);
            memcpy(&q, (const char *)y->data + 4 * k, 4);
            assert_true(fabsf(p - q) <= (type == DTYPE_F32 ? 1e-5f : 1e-2f) * fabsf(q) + 1e-3f);
        }
    }
}

static void compare_tokens(const char *model, const model_file *a, const model_file *b)
{
    static const char text[] = "Hello there, zqxkvjw 123  and <|im_start|>user\nnaïve ünïcode 你好 \t end";
    tokenizer *x = NULL, *y = NULL;
    token_list p = {0}, q = {0};
    mlxr_error error = {0};
    assert_ok(vocabulary_open(&x, a, &error), &error);
    assert_ok(vocabulary_open(&y, b, &error), &error);
    assert_int_equal(tokenizer_size(x), tokenizer_size(y));
    assert_int_equal(tokenizer_adds_bos(x), tokenizer_adds_bos(y));
    assert_int_equal(tokenizer_bos(x), tokenizer_bos(y));
    assert_int_equal(tokenizer_eos(x), tokenizer_eos(y));
    for (int32_t id = 0; id < (int32_t)tokenizer_size(x); id++) {
        token_text s = tokenizer_piece(x, id), t = tokenizer_piece(y, id);
        if (s.n != t.n || memcmp(s.data, t.data, s.n) != 0 ||
            tokenizer_is_special(x, id) != tokenizer_is_special(y, id) ||
            tokenizer_is_end(x, id) != tokenizer_is_end(y, id)) {
            fail_msg("%s: token %d differs", model, id);
        }
    }
    for (unsigned flags = 0; flags < 4; flags++) {
        p.n = q.n = 0;
        assert_ok(tokenizer_encode(x, text, sizeof text - 1, flags, &p, &error), &error);
        assert_ok(tokenizer_encode(y, text, sizeof text - 1, flags, &q, &error), &error);
        assert_int_equal(p.n, q.n);
        assert_memory_equal(p.ids, q.ids, p.n * sizeof *p.ids);
    }
    token_list_close(&p);
    token_list_close(&q);
    tokenizer_close(&x);
    tokenizer_close(&y);
}

/* Both files' hyper-parameters must lead to the same angles, whether metadata or a tensor says them. */
static void compare_frequencies(const char *model, const model_file *a, const model_file *b)
{
    static hparams x, y;
    float p[512], q[512], magnitude[2];
    mlxr_error error = {0};
    assert_ok(hparams_read(&x, a, &error), &error);
    assert_ok(hparams_read(&y, b, &error), &error);
    assert_int_equal(x.n_rot, y.n_rot);
    rope_frequencies(x.n_rot, x.rope_theta, &x.scaling, NULL, p, &magnitude[0]);
    rope_frequencies(y.n_rot, y.rope_theta, &y.scaling, NULL, q, &magnitude[1]);
    for (uint32_t i = 0; i < x.n_rot / 2; i++) {
        if (fabsf(p[i] - q[i]) > 1e-6f * q[i] || magnitude[0] != magnitude[1]) {
            fail_msg("%s: frequency %u is %g, not %g", model, i, (double)p[i], (double)q[i]);
        }
    }
}

static void a_folder_becomes_the_gguf_file_of_the_same_model(void **state)
{
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    (void)state;
    for (size_t i = 0; tiny_model_at(i); i++) {
        const tiny_model *model = tiny_model_at(i);
        tiny_options o = {.type = types[i % 3], .shards = i % 2 ? 3 : 1};
        mlxr_error error = {0};
        model_file *a = NULL, *b = NULL;
        tiny_model_write_safetensors(model, &o, in);
        tiny_model_write_gguf(model, &o, expected);
        mlxr_status status = mlxr_quantize(in, out, &(mlxr_quantize_options){.n_threads = 2}, NULL, &error);
        if (status != MLXR_OK) {
            fail_msg("%s: %s", model->name, error.text);
        }
        assert_ok(model_file_open(&a, out, &error), &error);
        assert_ok(model_file_open(&b, expected, &error), &error);
        compare_tensors(model->name, o.type, a, b);
        compare_tokens(model->name, a, b);
        compare_frequencies(model->name, a, b);
        model_file_close(&a);
        model_file_close(&b);
        remove_input();
        unlink(out);
        unlink(expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_becomes_the_gguf_file_of_the_same_model),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
