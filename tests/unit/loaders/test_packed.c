/*
 * Quantised safetensors: every layout gives the weights that its own program makes of it (tests/data/checkpoints,
 * written by tools/oracle/check_checkpoints.py), and what is no such layout is refused before it is read. Owner: the
 * test program. Lifetime: the process.
 */
#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>

#include "base/buffer.h"
#include "loaders/safetensors.h"
#include "quant/codec.h"
#include "quant/codec_checkpoint.h"
#include "quant/half.h"
#include "support/test.h"

#define FOLDER "tests/data/checkpoints"
#define CASES_MAX 64
#define PATH_MAX_HERE 512
#define ITEMS_MAX 24

typedef struct item { /* a tensor of a weight file */
    char name[128], type[16];
    size_t n_dims, shape[5], n_bytes;
    const uint8_t *bytes; /* [n_bytes], or fewer: zeros follow */
    size_t n_given;
    bool absent;
} item;

typedef struct checkpoint {
    char name[256];
    char *config, *weights, *expected;
    size_t n_config, n_weights, n_expected;
    item items[ITEMS_MAX];
    size_t n_items;
} checkpoint;

static checkpoint all[CASES_MAX];
static size_t n_all;

static size_t size_of(const char *type)
{
    uint32_t size;
    dtype ignored;
    return raw_type_of(type, &size, &ignored) == RAW_OTHER ? 8 : size;
}

static void load_items(checkpoint *c)
{
    uint64_t n_header;
    json_error_t where;
    const char *name;
    json_t *entry, *root;
    memcpy(&n_header, c->weights, 8);
    root = json_loadb(c->weights + 8, (size_t)n_header, 0, &where);
    assert_non_null(root);
    json_object_foreach(root, name, entry)
    {
        const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
        if (strcmp(name, "__metadata__") == 0) {
            continue;
        }
        item *it = &c->items[c->n_items++];
        assert_true(c->n_items <= ITEMS_MAX);
        snprintf(it->name, sizeof it->name, "%s", name);
        snprintf(it->type, sizeof it->type, "%s", json_string_value(json_object_get(entry, "dtype")));
        it->n_dims = json_array_size(shape);
        for (size_t i = 0; i < it->n_dims; i++) {
            it->shape[i] = (size_t)json_integer_value(json_array_get(shape, i));
        }
        size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0));
        it->n_bytes = it->n_given = (size_t)json_integer_value(json_array_get(offsets, 1)) - begin;
        it->bytes = (const uint8_t *)c->weights + 8 + n_header + begin;
    }
    json_decref(root);
}

static int load_all(void **state)
{
    static const char *const files[] = {"config.json", "model.safetensors", "expected.txt"};
    DIR *d = opendir(FOLDER);
    (void)state;
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (e->d_name[0] == '.') {
            continue;
        }
        checkpoint *c = &all[n_all++];
        assert_true(n_all < CASES_MAX);
        snprintf(c->name, sizeof c->name, "%s", e->d_name);
        char **texts[] = {&c->config, &c->weights, &c->expected};
        size_t *sizes[] = {&c->n_config, &c->n_weights, &c->n_expected};
        for (size_t i = 0; i < 3; i++) {
            char path[PATH_MAX_HERE];
            mlxr_error error = {0};
            snprintf(path, sizeof path, FOLDER "/%.200s/%s", c->name, files[i]);
            assert_ok(file_read(path, 1 << 24, texts[i], sizes[i], &error), &error);
        }
        load_items(c);
    }
    closedir(d);
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_all; i++) {
        free(all[i].config);
        free(all[i].weights);
        free(all[i].expected);
    }
    return 0;
}

static uint64_t hash(const float *values, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = float_to_bits(values[i] + 0.0f); /* no −0 */
        for (int k = 0; k < 32; k += 8) {
            h = (h ^ (bits >> k & 255)) * 0x100000001b3u;
        }
    }
    return h;
}

/* The tensor's weights, from its data. */
static float *decode(const tensor *t, size_t *n)
{
    *n = (size_t)(t->shape[0] * t->shape[1] * t->shape[2]);
    float *values = malloc(*n * sizeof *values);
    codec_decode(t->type, t->data, values, *n);
    return values;
}

static void every_layout_gives_the_weights_of_its_own_program(void **state)
{
    (void)state;
    assert_true(n_all >= 20);
    for (size_t i = 0; i < n_all; i++) {
        char path[PATH_MAX_HERE], name[64], type[32];
        uint64_t wanted;
        int used;
        mlxr_error error = {0};
        model_file *file = NULL;
        size_t n_lines = 0;
        snprintf(path, sizeof path, FOLDER "/%.200s", all[i].name);
        assert_ok(model_file_open(&file, path, &error), &error);
        assert_ok(model_file_unpack(file, UINT32_MAX, &error), &error);
        for (const char *line = all[i].expected;
             sscanf(line, "%63s %31s %" SCNx64 "%n", name, type, &wanted, &used) == 3; line += used, n_lines++) {
            const tensor *t = model_file_tensor(file, name);
            size_t n;
            assert_non_null(t);
            assert_string_equal(dtype_name(t->type), type);
            float *values = decode(t, &n);
            if (hash(values, n) != wanted) {
                fail_msg("%s: %s has other weights", all[i].name, name);
            }
            free(values);
        }
        assert_int_equal(n_lines, file->n_tensors);
        model_file_close(&file);
    }
}

static size_t count_without_data(const model_file *file, uint32_t end)
{
    size_t n = 0;
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        unsigned layer;
        const tensor *t = &file->tensors[i];
        bool behind = sscanf(t->name, "blk.%u.", &layer) == 1 && layer >= end;
        assert_true(t->data || (behind && model_file_packed(file, t)));
        n += !t->data;
    }
    return n;
}

static void layers_behind_the_end_stay_packed(void **state)
{
    (void)state;
    size_t n_left = 0;
    for (size_t i = 0; i < n_all; i++) {
        char path[PATH_MAX_HERE];
        mlxr_error error = {0};
        model_file *file = NULL;
        snprintf(path, sizeof path, FOLDER "/%.200s", all[i].name);
        assert_ok(model_file_open(&file, path, &error), &error);
        for (uint32_t end = 0; end < 2; end++) {
            assert_ok(model_file_unpack(file, end, &error), &error);
            n_left += count_without_data(file, end);
        }
        assert_ok(model_file_unpack(file, UINT32_MAX, &error), &error);
        assert_int_equal(count_without_data(file, UINT32_MAX), 0);
        model_file_close(&file);
    }
    assert_true(n_left >= n_all);
}

/* convert asks for rows in pieces, and for single rows where RoPE wants another order. */
static void rows_are_the_same_one_by_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_all; i++) {
        char path[PATH_MAX_HERE];
        mlxr_error error = {0};
        model_file *file = NULL;
        snprintf(path, sizeof path, FOLDER "/%.200s", all[i].name);
        assert_ok(model_file_open(&file, path, &error), &error);
        for (uint64_t k = 0; k < file->n_tensors; k++) {
            const tensor *t = &file->tensors[k];
            const packed_weight *p = model_file_packed(file, t);
            uint8_t *whole = malloc(t->n_bytes), *parts = malloc(t->n_bytes);
            assert_non_null(p);
            assert_null(t->data);
            packed_rows(p, 0, p->n_out, whole);
            for (uint64_t row = 0; row < p->n_out; row += 1 + row % 3) {
                uint64_t n = 1 + row % 3 < p->n_out - row ? 1 + row % 3 : p->n_out - row;
                packed_rows(p, row, n, parts + row * t->row_bytes);
            }
            assert_memory_equal(whole, parts, t->n_bytes);
            packed_forget(p);
            free(whole);
            free(parts);
        }
        model_file_close(&file);
    }
}

/* ---- hostile files ---- */

static uint8_t *serialise(const item *items, size_t n, size_t *n_bytes)
{
    buffer text = buffer_make(1 << 20), data = buffer_make(1 << 24);
    uint64_t length = 0;
    buffer_append(&text, &length, 8);
    buffer_append(&text, "{", 1);
    for (size_t i = 0, n_put = 0; i < n; i++) {
        char line[512];
        const item *it = &items[i];
        if (it->absent) {
            continue;
        }
        int at = snprintf(line, sizeof line, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", n_put++ ? "," : "", it->name,
                          it->type);
        for (size_t k = 0; k < it->n_dims; k++) {
            at += snprintf(line + at, sizeof line - (size_t)at, "%s%zu", k ? "," : "", it->shape[k]);
        }
        at += snprintf(line + at, sizeof line - (size_t)at, "],\"data_offsets\":[%zu,%zu]}", data.n,
                       data.n + it->n_bytes);
        buffer_append(&text, line, (size_t)at);
        buffer_append(&data, it->bytes, it->n_given < it->n_bytes ? it->n_given : it->n_bytes);
        for (size_t k = it->n_given; k < it->n_bytes; k++) {
            buffer_append(&data, "", 1);
        }
    }
    buffer_append(&text, "}", 1);
    length = text.n - 8;
    memcpy(text.data, &length, 8);
    buffer_append(&text, data.data, data.n);
    assert_false(text.failed || data.failed);
    buffer_close(&data);
    *n_bytes = text.n;
    uint8_t *bytes = malloc(text.n); /* of exactly that size, so that a sanitizer sees what is read beyond it */
    memcpy(bytes, text.data, text.n);
    buffer_close(&text);
    return bytes;
}

/* Opens and unpacks; whether that was possible. What opens must unpack, and read nothing that is not there. */
static bool opens(const checkpoint *c, const item *items, mlxr_error *error)
{
    model_file *file = NULL;
    size_t n;
    uint8_t *bytes = serialise(items, c->n_items, &n);
    safetensors_texts texts = {.config = {c->config, c->n_config}};
    mlxr_status status = safetensors_open_memory(&file, &texts, bytes, n, error);
    if (status == MLXR_OK) {
        assert_ok(model_file_unpack(file, UINT32_MAX, error), error);
    }
    model_file_close(&file);
    free(bytes);
    return status == MLXR_OK;
}

static void resize(item *it)
{
    it->n_bytes = size_of(it->type);
    for (size_t i = 0; i < it->n_dims; i++) {
        it->n_bytes *= it->shape[i];
    }
}

static bool may_be_absent(const item *it)
{
    return strstr(it->name, ".g_idx") || strstr(it->name, ".input_scale");
}

/* Every tensor absent, of every other type, of other shapes, and of another name, one at a time. */
static void what_is_not_the_layout_is_refused(void **state)
{
    static const char *const types[] = {"F32", "F16", "BF16", "I32", "U8", "F8_E4M3", "F8_E5M2", "I64", "BOOL"};
    (void)state;
    for (size_t i = 0; i < n_all; i++) {
        const checkpoint *c = &all[i];
        size_t n_tried = 0, n_refused = 0;
        mlxr_error error = {0};
        assert_true(opens(c, c->items, &error));
        for (size_t k = 0; k < c->n_items; k++) {
            item items[ITEMS_MAX];
            memcpy(items, c->items, sizeof items);
            item *it = &items[k];
            it->absent = true;
            bool opened = opens(c, items, &error);
            if (opened != may_be_absent(it)) {
                fail_msg("%s without %s: %s", c->name, it->name, opened ? "opened" : error.text);
            }
            *it = c->items[k];
            memcpy(it->name, "xodel.other", 11);
            n_tried += 2;
            n_refused += 2u - opened - (opens(c, items, &error) && !may_be_absent(it));
            for (size_t t = 0; t < sizeof types / sizeof *types; t++, n_tried++) {
                *it = c->items[k];
                snprintf(it->type, sizeof it->type, "%s", types[t]);
                resize(it);
                n_refused += !opens(c, items, &error);
            }
            for (size_t change = 0; change < 5 * it->n_dims; change++) {
                *it = c->items[k];
                size_t *size = &it->shape[change / 5];
                size_t sizes[] = {*size + 1, *size - 1, *size * 2, *size / 2, 0};
                *size = sizes[change % 5];
                resize(it);
                opened = opens(c, items, &error);
                n_tried++;
                n_refused += !opened;
                assert_true(!opened || *size > 0);
            }
            *it = c->items[k];
            it->shape[it->n_dims++] = 1;
            n_tried += 2;
            n_refused += !opens(c, items, &error);
            *it = c->items[k];
            it->shape[0] = it->n_bytes / size_of(it->type);
            it->n_dims = 1;
            n_refused += !opens(c, items, &error);
        }
        if (n_tried < 50 || 3 * n_refused < n_tried) { /* another plain type, or fewer rows, is another model */
            fail_msg("%s: %zu of %zu refused", c->name, n_refused, n_tried);
        }
    }
}

/* Bytes of the small tensors changed at random: groups that are not there, texts that are no JSON. */
static void changed_bytes_do_no_harm(void **state)
{
    uint64_t random = 7;
    (void)state;
    for (size_t i = 0; i < n_all; i++) {
        const checkpoint *c = &all[i];
        for (int round = 0; round < 60; round++) {
            item items[ITEMS_MAX];
            memcpy(items, c->items, sizeof items);
            item *it = &items[test_random(&random) % c->n_items];
            uint8_t *bytes = malloc(it->n_bytes + 1);
            mlxr_error error = {0};
            memcpy(bytes, it->bytes, it->n_bytes);
            for (int k = 0; k < 3; k++) {
                bytes[test_random(&random) % it->n_bytes] = (uint8_t)test_random(&random);
            }
            it->bytes = bytes;
            opens(c, items, &error);
            free(bytes);
        }
    }
}

#define LLAMA                                                                                                          \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"intermediate_size\":64,\"num_hidden_layers\":1,"   \
    "\"num_attention_heads\":4,\"tie_word_embeddings\":true,"

static const struct {
    const char *config, *error;
} configs[] = {
#define GPTQ(rest) LLAMA "\"quantization_config\":{\"quant_method\":\"gptq\"" rest "}}"
    {GPTQ(""), "'bits' is no number"},
    {GPTQ(",\"bits\":0"), "'bits' is no number"},
    {GPTQ(",\"bits\":-1"), "'bits' is no number"},
    {GPTQ(",\"bits\":4.0"), "'bits' is no number"},
    {GPTQ(",\"bits\":\"4\""), "'bits' is no number"},
    {GPTQ(",\"bits\":9999999"), "'bits' is no number"},
    {GPTQ(",\"bits\":4"), "'group_size' is no number"},
    {GPTQ(",\"bits\":4,\"group_size\":0"), "'group_size' is no number"},
    {GPTQ(",\"bits\":4,\"group_size\":-2"), "'group_size' is no number"},
    {GPTQ(",\"bits\":4,\"group_size\":null"), "'group_size' is no number"},
    {GPTQ(",\"bits\":4,\"group_size\":9223372036854775807"), "'group_size' is no number"},
    {GPTQ(",\"bits\":3,\"group_size\":128"), "bits '3'; supported: 4"},
    {GPTQ(",\"bits\":8,\"group_size\":128"), "bits '8'; supported: 4"},
    {GPTQ(",\"bits\":4,\"group_size\":128,\"checkpoint_format\":\"marlin\""), "checkpoint_format 'marlin'"},
    {GPTQ(",\"bits\":4,\"group_size\":128,\"is_marlin_format\":true"), "checkpoint_format 'marlin'"},
#define AWQ(rest) LLAMA "\"quantization_config\":{\"quant_method\":\"awq\"" rest "}}"
    {AWQ(""), "'bits' is no number"},
    {AWQ(",\"w_bit\":4"), "'group_size' is no number"},
    {AWQ(",\"bits\":4,\"q_group_size\":-7"), "'group_size' is no number"},
    {AWQ(",\"bits\":8,\"group_size\":64"), "bits '8'; supported: 4"},
    {AWQ(",\"bits\":4,\"group_size\":64,\"version\":\"gemv\""), "AWQ version 'gemv'"},
    {AWQ(",\"bits\":4,\"group_size\":64,\"version\":\"exllama\""), "AWQ version 'exllama'"},
#define BNB(rest) LLAMA "\"quantization_config\":{\"quant_method\":\"bitsandbytes\"" rest "}}"
    {BNB(""), "bitsandbytes type 'fp4'"},
    {BNB(",\"load_in_8bit\":true,\"bnb_4bit_quant_type\":\"nf4\""), "bitsandbytes type 'int8'"},
    {BNB(",\"bnb_4bit_quant_type\":\"fp4\""), "bitsandbytes type 'fp4'"},
#define FP8(rest) LLAMA "\"quantization_config\":{\"quant_method\":\"fp8\"" rest "}}"
    {FP8(",\"weight_block_size\":7"), "'weight_block_size' is no number"},
    {FP8(",\"weight_block_size\":[]"), "'weight_block_size' is no number"},
    {FP8(",\"weight_block_size\":[128]"), "'weight_block_size' is no number"},
    {FP8(",\"weight_block_size\":[128,128,128]"), "'weight_block_size' is no number"},
    {FP8(",\"weight_block_size\":[0,128]"), "'weight_block_size' is no number"},
    {FP8(",\"weight_block_size\":[128,-128]"), "'weight_block_size' is no number"},
    {FP8(",\"weight_block_size\":[99999999,128]"), "'weight_block_size' is no number"},
    {FP8(",\"weight_block_size\":[128,99999999]"), "'weight_block_size' is no number"},
#define CT(rest) LLAMA "\"quantization_config\":{\"quant_method\":\"compressed-tensors\"" rest "}}"
#define CT_GROUP(rest) CT(",\"format\":\"float-quantized\",\"config_groups\":{\"g\":{\"weights\":{" rest "}}}")
    {CT(""), "compressed-tensors format 'none'"},
    {CT(",\"format\":\"pack-quantized\""), "compressed-tensors format 'pack-quantized'"},
    {CT(",\"format\":\"int-quantized\""), "compressed-tensors format 'int-quantized'"},
    {CT_GROUP(""), "compressed-tensors type 'none'"},
    {CT_GROUP("\"type\":\"int\",\"num_bits\":8"), "compressed-tensors type 'int'"},
    {CT_GROUP("\"type\":\"float\",\"num_bits\":4"), "supported: float of 8 bits"},
    {CT_GROUP("\"type\":\"float\",\"num_bits\":8,\"block_structure\":[1]"), "'block_structure' is no number"},
    {LLAMA "\"quantization_config\":{}}", "quant_method '(none)'"},
    {LLAMA "\"quantization_config\":7}", "quant_method '(none)'"},
    {LLAMA "\"quantization_config\":{\"quant_method\":\"quanto\"}}", "quant_method 'quanto'"},
    {LLAMA "\"quantization_config\":{\"quant_method\":\"hqq\"}}", "quant_method 'hqq'"},
    {LLAMA "\"quantization_config\":{\"quant_method\":\"torchao\"}}", "quant_method 'torchao'"},
#define MLX(rest) LLAMA "\"quantization\":{" rest "}}"
    {MLX(""), "'bits' is no number"},
    {MLX("\"bits\":4"), "'group_size' is no number"},
    {MLX("\"bits\":4,\"group_size\":-1"), "'group_size' is no number"},
    {MLX("\"bits\":true,\"group_size\":64"), "'bits' is no number"},
    {MLX("\"bits\":4,\"group_size\":64,\"mode\":\"mxfp8\""), "MLX mode 'mxfp8'"},
    {MLX("\"bits\":4,\"group_size\":64,\"a.b\":{\"bits\":0}"), "'bits or group_size of a module' is no number"},
    {MLX("\"bits\":4,\"group_size\":64,\"a.b\":{\"group_size\":\"x\"}"), "'bits or group_size of a module'"},
    {MLX("\"bits\":4,\"group_size\":64,\"a.b\":{\"mode\":\"nvfp4\"}"), "MLX mode 'nvfp4'"},
};

static void configurations_that_cannot_be_read_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        static const uint8_t empty[10] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
        model_file *file = NULL;
        mlxr_error error = {0};
        safetensors_texts texts = {.config = {configs[i].config, strlen(configs[i].config)}};
        mlxr_status status = safetensors_open_memory(&file, &texts, empty, sizeof empty, &error);
        if (status == MLXR_OK || !strstr(error.text, configs[i].error)) {
            fail_msg("%s: '%s' instead of '%s'", configs[i].config, error.text, configs[i].error);
        }
    }
}

static const checkpoint *find(const char *name)
{
    for (size_t i = 0; i < n_all; i++) {
        if (strcmp(all[i].name, name) == 0) {
            return &all[i];
        }
    }
    fail_msg("no checkpoint '%s'", name);
    return NULL;
}

/* The checkpoint's tensors under another "quantization" or "quantization_config"; error NULL: they open. */
static void check_config(const char *name, const char *quantization, const char *wanted)
{
    char config[1024];
    checkpoint c = *find(name);
    mlxr_error error = {0};
    snprintf(config, sizeof config,
             "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"intermediate_size\":192,"
             "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"tie_word_embeddings\":true,%s}",
             quantization);
    c.config = config;
    c.n_config = strlen(config);
    bool opened = opens(&c, c.items, &error);
    if (opened != !wanted || (wanted && !strstr(error.text, wanted))) {
        fail_msg("%s with %s: '%s' instead of '%s'", name, quantization, error.text, wanted ? wanted : "success");
    }
}

static void what_config_json_says_must_fit_the_tensors(void **state)
{
    static const char down[] = "\"model.layers.0.mlp.down_proj\":";
    char own[256];
    (void)state;
    check_config("mlx-4-float16", "\"quantization\":{\"group_size\":64,\"bits\":4}", NULL);
    check_config("mlx-4-float16", "\"quantization_config\":{\"group_size\":64,\"bits\":4}", NULL);
    snprintf(own, sizeof own, "\"quantization\":{\"group_size\":64,\"bits\":4,%s{\"bits\":4},\"x\":false}", down);
    check_config("mlx-4-float16", own, NULL);
    snprintf(own, sizeof own, "\"quantization\":{\"group_size\":64,\"bits\":4,%s{\"bits\":8,\"mode\":\"affine\"}}",
             down);
    check_config("mlx-4-float16", own, "down_proj': packed weights of shape");
    snprintf(own, sizeof own, "\"quantization\":{\"group_size\":64,\"bits\":4,%s{\"group_size\":32}}", down);
    check_config("mlx-4-float16", own, "down_proj': packed weights of shape");
    static const char *const bits[] = {"1", "7", "9", "32"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(own, sizeof own, "\"quantization\":{\"group_size\":64,\"bits\":%s}", bits[i]);
        check_config("mlx-4-float16", own, "2, 3, 4, 5, 6 or 8 bits can be read");
    }
    check_config("mlx-mxfp4", "\"quantization\":{\"group_size\":64,\"bits\":4,\"mode\":\"mxfp4\"}", "of MXFP4 4 in");
    check_config("mlx-mxfp4", "\"quantization\":{\"group_size\":32,\"bits\":8,\"mode\":\"mxfp4\"}", "of MXFP4 4 in");
    check_config("mlx-4-float16", "\"quantization\":{\"group_size\":48,\"bits\":4}", "no multiple of 32");
    check_config("gptq", "\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":48}",
                 "no multiple of 32");
    check_config("awq",
                 "\"quantization_config\":{\"quant_method\":\"awq\",\"w_bit\":4,\"q_group_size\":64,"
                 "\"version\":\"GEMM\"}",
                 NULL);
    check_config("awq", "\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":-1}",
                 "scales of shape");
    check_config("compressed-tensor",
                 "\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"naive-quantized\"}",
                 NULL);
    check_config("fp8-blocks", "\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":null}",
                 "scales of shape");
    check_config("fp8-blocks", "\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[32,48]}",
                 "no multiple of 32");
    check_config("gptq", "\"quantization_config\":null", "dtype");
    check_config("mlx-4-float16", "\"quantization\":7", "dtype");
    check_config("bnb-nf4",
                 "\"quantization_config\":{\"quant_method\":\"bitsandbytes\",\"load_in_8bit\":false,"
                 "\"bnb_4bit_quant_type\":\"nf4\"}",
                 NULL);
}

static void what_quant_state_says_must_fit_the_tensors(void **state)
{
    static const char *const states[] = {
        "",
        "x",
        "[]",
        "{}",
        "{\"shape\":7,\"blocksize\":64}",
        "{\"shape\":[64],\"blocksize\":64}",
        "{\"shape\":[64,64,1],\"blocksize\":64}",
        "{\"shape\":[0,64],\"blocksize\":64}",
        "{\"shape\":[-64,64],\"blocksize\":64}",
        "{\"shape\":[64,0],\"blocksize\":64}",
        "{\"shape\":[64,-1],\"blocksize\":64}",
        "{\"shape\":[4294967296,64],\"blocksize\":64}",
        "{\"shape\":[64,4294967296],\"blocksize\":64}",
        "{\"shape\":[2147483647,2147483647],\"blocksize\":64}",
        "{\"shape\":[64,64]}",
        "{\"shape\":[64,64],\"blocksize\":-64}",
        "{\"shape\":[64,64],\"blocksize\":99999999}",
        "{\"shape\":[64,64],\"blocksize\":32}",
        "{\"shape\":[128,32],\"blocksize\":64}",
        "{\"shape\":[64,64],\"blocksize\":128}",
        "{\"shape\":[64,64],\"blocksize\":64}",
        "{\"shape\":[64,64],\"blocksize\":64,\"nested_blocksize\":-1}",
        "{\"shape\":[64,64],\"blocksize\":64,\"nested_blocksize\":99999999}",
        "{\"shape\":[64,64],\"blocksize\":64,\"nested_blocksize\":16}",
    };
    const checkpoint *c = find("bnb-nf4-nested");
    (void)state;
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        item items[ITEMS_MAX];
        mlxr_error error = {0};
        memcpy(items, c->items, sizeof items);
        for (size_t k = 0; k < c->n_items; k++) {
            if (strstr(items[k].name, "q_proj.weight.quant_state")) {
                items[k].bytes = (const uint8_t *)(states[i][0] ? states[i] : " ");
                items[k].n_given = items[k].n_bytes = items[k].shape[0] = strlen(states[i]) ? strlen(states[i]) : 1;
            }
        }
        if (opens(c, items, &error)) {
            fail_msg("quant_state %s was taken", states[i]);
        }
    }
}

/* Two scales for one weight, under both of their names. */
static void a_part_that_is_there_twice_is_refused(void **state)
{
    checkpoint c = *find("compressed-tensor");
    mlxr_error error = {0};
    (void)state;
    for (size_t k = 0; k < c.n_items; k++) {
        if (strstr(c.items[k].name, "q_proj.input_scale")) {
            strcpy(strstr(c.items[k].name, ".input_scale"), ".weight_scale_inv");
        }
    }
    assert_false(opens(&c, c.items, &error));
    assert_non_null(strstr(error.text, "scales that are there twice"));
}

/* The floats of 8 bits are those of the formats' definitions. */
static void small_floats_are_what_they_are_defined_to_be(void **state)
{
    (void)state;
    for (int i = 0; i < 256; i++) {
        int exponent = i >> 3 & 15, fraction = i & 7;
        double value = exponent ? ldexp(1 + fraction / 8.0, exponent - 7) : ldexp(fraction / 8.0, -6);
        float found = codec_e4m3_value((uint8_t)i);
        assert_true((i & 127) == 127 ? isnan(found) : (double)found == (i & 128 ? -value : value));
        exponent = i >> 2 & 31, fraction = i & 3;
        value = exponent ? ldexp(1 + fraction / 4.0, exponent - 15) : ldexp(fraction / 4.0, -14);
        value = exponent == 31 ? (fraction ? NAN : INFINITY) : value;
        found = codec_e5m2_value((uint8_t)i);
        assert_true(isnan(value) ? isnan(found) : (double)found == (i & 128 ? -value : value));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_gives_the_weights_of_its_own_program),
        cmocka_unit_test(layers_behind_the_end_stay_packed),
        cmocka_unit_test(rows_are_the_same_one_by_one),
        cmocka_unit_test(what_is_not_the_layout_is_refused),
        cmocka_unit_test(changed_bytes_do_no_harm),
        cmocka_unit_test(configurations_that_cannot_be_read_are_named),
        cmocka_unit_test(what_config_json_says_must_fit_the_tensors),
        cmocka_unit_test(what_quant_state_says_must_fit_the_tensors),
        cmocka_unit_test(a_part_that_is_there_twice_is_refused),
        cmocka_unit_test(small_floats_are_what_they_are_defined_to_be),
    };
    return cmocka_run_group_tests(tests, load_all, free_all);
}
