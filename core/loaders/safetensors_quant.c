/*
 * What config.json says about quantised weights.
 * Owner: the caller's region. Lifetime: its own.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "loaders/safetensors_packed.h"

#define GROUP_MAX (1u << 20)

static mlxr_status unsupported(mlxr_error *error, const char *what, const char *is, const char *known)
{
    return error_set(error, MLXR_UNSUPPORTED, "config.json: quantised safetensors: %s '%.60s'; supported: %s", what, is,
                     known);
}

static const char *text_of(const json_t *object, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : otherwise;
}

/* A number of bits or a group's size; −1 is a whole row, 0 here. False: no such number. */
static bool count_of(const json_t *object, const char *key, bool row_allowed, uint32_t *out)
{
    const json_t *value = json_object_get(object, key);
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n == 0 || n < (row_allowed ? -1 : 1) || n > GROUP_MAX) {
        return false;
    }
    *out = n < 0 ? 0 : (uint32_t)n;
    return true;
}

static mlxr_status wrong(mlxr_error *error, const char *key)
{
    return error_set(error, MLXR_FORMAT, "config.json: quantised safetensors: '%s' is no number that can be", key);
}

static mlxr_status need_four_bits(const hf_quant *q, mlxr_error *error)
{
    char bits[16];
    snprintf(bits, sizeof bits, "%" PRIu32, q->bits);
    return q->bits == 4 ? MLXR_OK : unsupported(error, "bits", bits, "4");
}

static mlxr_status read_gptq(hf_quant *q, const json_t *c, mlxr_error *error)
{
    bool marlin = json_is_true(json_object_get(c, "is_marlin_format")); /* said so before there was the other key */
    const char *format = marlin ? "marlin" : text_of(c, "checkpoint_format", "gptq");
    if (!count_of(c, "bits", false, &q->bits)) {
        return wrong(error, "bits");
    }
    if (!count_of(c, "group_size", true, &q->group)) {
        return wrong(error, "group_size");
    }
    q->kind = HF_QUANT_GPTQ;
    q->zero_less_one = strcmp(format, "gptq") == 0;
    if (!q->zero_less_one && strcmp(format, "gptq_v2") != 0) {
        return unsupported(error, "GPTQ checkpoint_format", format, "gptq, gptq_v2");
    }
    return need_four_bits(q, error);
}

static mlxr_status read_awq(hf_quant *q, const json_t *c, mlxr_error *error)
{
    const char *version = text_of(c, "version", "gemm");
    if (!count_of(c, json_object_get(c, "bits") ? "bits" : "w_bit", false, &q->bits)) {
        return wrong(error, "bits");
    }
    if (!count_of(c, json_object_get(c, "group_size") ? "group_size" : "q_group_size", true, &q->group)) {
        return wrong(error, "group_size");
    }
    q->kind = HF_QUANT_AWQ;
    if (strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0) {
        return unsupported(error, "AWQ version", version, "gemm");
    }
    return need_four_bits(q, error);
}

static mlxr_status read_bnb(hf_quant *q, const json_t *c, mlxr_error *error)
{
    const char *type = json_is_true(json_object_get(c, "load_in_8bit")) ? "int8"
                                                                        : text_of(c, "bnb_4bit_quant_type", "fp4");
    q->kind = HF_QUANT_BNB;
    return strcmp(type, "nf4") == 0 ? MLXR_OK : unsupported(error, "bitsandbytes type", type, "nf4");
}

/* [rows, columns] of a block that shares a scale. */
static mlxr_status read_block(hf_quant *q, const json_t *list, const char *key, mlxr_error *error)
{
    const json_t *rows = json_array_get(list, 0), *columns = json_array_get(list, 1);
    if (!list || json_is_null(list)) {
        return MLXR_OK;
    }
    if (json_array_size(list) != 2 || json_integer_value(rows) < 1 || json_integer_value(columns) < 1 ||
        json_integer_value(rows) > GROUP_MAX || json_integer_value(columns) > GROUP_MAX) {
        return wrong(error, key);
    }
    q->group_rows = (uint32_t)json_integer_value(rows);
    q->group = (uint32_t)json_integer_value(columns);
    return MLXR_OK;
}

/* Groups of modules: all have floats of 8 bits here. */
static mlxr_status read_compressed(hf_quant *q, const json_t *c, mlxr_error *error)
{
    const char *format = text_of(c, "format", "none"), *name;
    json_t *group;
    q->kind = HF_QUANT_FP8;
    if (strcmp(format, "float-quantized") != 0 && strcmp(format, "naive-quantized") != 0) {
        return unsupported(error, "compressed-tensors format", format, "float-quantized");
    }
    json_object_foreach(json_object_get(c, "config_groups"), name, group)
    {
        const json_t *weights = json_object_get(group, "weights");
        if (strcmp(text_of(weights, "type", "none"), "float") != 0 ||
            json_integer_value(json_object_get(weights, "num_bits")) != 8) {
            return unsupported(error, "compressed-tensors type", text_of(weights, "type", "none"), "float of 8 bits");
        }
        mlxr_status status = read_block(q, json_object_get(weights, "block_structure"), "block_structure", error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    return MLXR_OK;
}

static mlxr_status read_mlx_mode(const json_t *c, bool *mx, mlxr_error *error)
{
    const char *mode = text_of(c, "mode", "affine");
    *mx = strcmp(mode, "mxfp4") == 0;
    return *mx || strcmp(mode, "affine") == 0 ? MLXR_OK : unsupported(error, "MLX mode", mode, "affine, mxfp4");
}

static mlxr_status read_mlx(hf_quant *q, const json_t *c, region *memory, mlxr_error *error)
{
    const char *name;
    json_t *value;
    size_t n_own = 0;
    hf_quant_own *own = region_array(memory, json_object_size(c), sizeof *own);
    if (!own) {
        return error_nomem(error, "quantisation", json_object_size(c) * sizeof *own);
    }
    q->kind = HF_QUANT_MLX;
    if (!count_of(c, "bits", false, &q->bits)) {
        return wrong(error, "bits");
    }
    if (!count_of(c, "group_size", false, &q->group)) {
        return wrong(error, "group_size");
    }
    mlxr_status status = read_mlx_mode(c, &q->mx, error);
    json_object_foreach((json_t *)(uintptr_t)c, name, value)
    {
        if (status != MLXR_OK || !json_is_object(value)) {
            continue;
        }
        hf_quant_own *o = &own[n_own++];
        *o = (hf_quant_own){.stem = region_strndup(memory, name, strlen(name)), .bits = q->bits, .group = q->group};
        if (!o->stem) {
            return error_nomem(error, "quantisation", strlen(name));
        }
        if ((json_object_get(value, "bits") && !count_of(value, "bits", false, &o->bits)) ||
            (json_object_get(value, "group_size") && !count_of(value, "group_size", false, &o->group))) {
            return wrong(error, "bits or group_size of a module");
        }
        o->mx = q->mx;
        if (json_object_get(value, "mode")) {
            status = read_mlx_mode(value, &o->mx, error);
        }
    }
    return status == MLXR_OK ? name_index_open(&q->own, memory, own, sizeof *own, n_own, "module", error) : status;
}

mlxr_status hf_quant_read(hf_quant *out, const json_t *config, region *memory, mlxr_error *error)
{
    const json_t *mlx = json_object_get(config, "quantization"), *c = json_object_get(config, "quantization_config");
    const char *method = text_of(c, "quant_method", NULL);
    *out = (hf_quant){0};
    if (json_is_object(mlx) || (json_is_object(c) && !method && json_object_get(c, "group_size"))) {
        return read_mlx(out, json_is_object(mlx) ? mlx : c, memory, error);
    }
    if (!c || json_is_null(c)) {
        return MLXR_OK;
    }
    method = method ? method : "(none)";
    if (strcmp(method, "gptq") == 0) {
        return read_gptq(out, c, error);
    }
    if (strcmp(method, "awq") == 0) {
        return read_awq(out, c, error);
    }
    if (strcmp(method, "bitsandbytes") == 0) {
        return read_bnb(out, c, error);
    }
    if (strcmp(method, "fp8") == 0) {
        out->kind = HF_QUANT_FP8;
        return read_block(out, json_object_get(c, "weight_block_size"), "weight_block_size", error);
    }
    if (strcmp(method, "compressed-tensors") == 0) {
        return read_compressed(out, c, error);
    }
    if (strcmp(method, "mxfp4") == 0) {
        out->kind = HF_QUANT_MXFP4;
        return MLXR_OK;
    }
    return unsupported(error, "quant_method", method, "gptq, awq, bitsandbytes, fp8, compressed-tensors, mxfp4");
}

/* ---- names ---- */

static const struct {
    hf_quant_kind kind;
    const char *end;
    hf_part part;
} ends[] = {
    {HF_QUANT_GPTQ, ".qweight", HF_PART_Q},
    {HF_QUANT_GPTQ, ".qzeros", HF_PART_ZEROS},
    {HF_QUANT_GPTQ, ".scales", HF_PART_SCALES},
    {HF_QUANT_GPTQ, ".g_idx", HF_PART_ORDER},
    {HF_QUANT_AWQ, ".qweight", HF_PART_Q},
    {HF_QUANT_AWQ, ".qzeros", HF_PART_ZEROS},
    {HF_QUANT_AWQ, ".scales", HF_PART_SCALES},
    {HF_QUANT_MLX, ".scales", HF_PART_SCALES},
    {HF_QUANT_MLX, ".biases", HF_PART_ZEROS},
    {HF_QUANT_BNB, ".weight.absmax", HF_PART_SCALES},
    {HF_QUANT_BNB, ".weight.quant_map", HF_PART_MAP},
    {HF_QUANT_BNB, ".weight.nested_absmax", HF_PART_OUTER},
    {HF_QUANT_BNB, ".weight.nested_quant_map", HF_PART_OUTER_MAP},
    {HF_QUANT_BNB, ".weight.quant_state.bitsandbytes__nf4", HF_PART_STATE},
    {HF_QUANT_FP8, ".weight_scale_inv", HF_PART_SCALES},
    {HF_QUANT_FP8, ".weight_scale", HF_PART_SCALES},
    {HF_QUANT_FP8, ".input_scale", HF_PART_SKIP},
    {HF_QUANT_FP8, ".output_scale", HF_PART_SKIP},
    {HF_QUANT_FP8, ".k_scale", HF_PART_SKIP},
    {HF_QUANT_FP8, ".v_scale", HF_PART_SKIP},
    {HF_QUANT_MXFP4, "_blocks", HF_PART_Q},
    {HF_QUANT_MXFP4, "_scales", HF_PART_SCALES},
};

raw_type raw_type_of(const char *type_text, uint32_t *size, dtype *type)
{
    static const struct {
        const char *text;
        raw_type raw;
        uint32_t size;
        dtype type;
    } types[] = {
        {"F32", RAW_FLOAT, 4, DTYPE_F32},    {"F16", RAW_FLOAT, 2, DTYPE_F16},    {"BF16", RAW_FLOAT, 2, DTYPE_BF16},
        {"I32", RAW_WORDS, 4, DTYPE_F32},    {"U32", RAW_WORDS, 4, DTYPE_F32},    {"U8", RAW_BYTES, 1, DTYPE_F32},
        {"F8_E4M3", RAW_E4M3, 1, DTYPE_F32}, {"F8_E5M2", RAW_E5M2, 1, DTYPE_F32}, {"F8_E8M0", RAW_BYTES, 1, DTYPE_F32},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].text, type_text) == 0) {
            *size = types[i].size;
            *type = types[i].type;
            return types[i].raw;
        }
    }
    *size = 0;
    *type = DTYPE_F32;
    return RAW_OTHER;
}

hf_part hf_part_of(const hf_quant *quant, const char *name, const char *type_text, size_t *n_stem)
{
    uint32_t size;
    dtype type;
    raw_type raw = type_text ? raw_type_of(type_text, &size, &type) : RAW_FLOAT;
    bool packed = (quant->kind == HF_QUANT_MLX && raw == RAW_WORDS) ||
                  (quant->kind == HF_QUANT_BNB && raw == RAW_BYTES) ||
                  (quant->kind == HF_QUANT_FP8 && (raw == RAW_E4M3 || raw == RAW_E5M2));
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (ends[i].kind == quant->kind && text_ends_with(name, ends[i].end)) {
            *n_stem = strlen(name) - strlen(ends[i].end);
            return ends[i].part;
        }
    }
    if (packed && text_ends_with(name, ".weight")) {
        *n_stem = strlen(name) - strlen(".weight");
        return HF_PART_Q;
    }
    return HF_PART_NONE;
}
