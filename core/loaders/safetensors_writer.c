/*
 * What config.json says, read and appended to the metadata.
 * Owner: the model_file being filled; strings live in its region. Lifetime: its own.
 */
#include "loaders/safetensors_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- appending ------------------------------------------------------------------------------------------------- */

meta_value *hf_add(hf_writer *w, const char *key, meta_type type)
{
    if (w->status != MLXR_OK) {
        return NULL;
    }
    if (w->n_meta == META_MAX) {
        w->status = error_set(w->error, MLXR_LIMIT, "config.json: '%s' is more than the %d rows of metadata", key,
                              META_MAX);
        return NULL;
    }
    const char *arch = key[0] == '.' ? w->arch : "";
    size_t n = strlen(arch) + strlen(key) + 1;
    char *copy = region_alloc(w->memory, n);
    if (!copy) {
        w->status = error_nomem(w->error, key, n);
        return NULL;
    }
    snprintf(copy, n, "%s%s", arch, key);
    meta_value *value = &w->meta[w->n_meta++];
    *value = (meta_value){.key = copy, .type = type};
    return value;
}

void hf_add_u32(hf_writer *w, const char *key, uint32_t number)
{
    meta_value *value = hf_add(w, key, META_U32);
    if (value) {
        value->u = number;
    }
}

void hf_add_bool(hf_writer *w, const char *key, bool yes)
{
    meta_value *value = hf_add(w, key, META_BOOL);
    if (value) {
        value->u = yes;
    }
}

void hf_add_f32(hf_writer *w, const char *key, double number)
{
    meta_value *value = hf_add(w, key, META_F32);
    if (value) {
        value->f = (double)(float)number;
    }
}

void hf_add_text(hf_writer *w, const char *key, const char *text, size_t n)
{
    meta_value *value = hf_add(w, key, META_STRING);
    char *copy = value ? region_strndup(w->memory, text, n) : NULL;
    if (copy) {
        value->s = (text_view){copy, n};
    } else if (value) {
        w->status = error_nomem(w->error, key, n);
    }
}

uint8_t *hf_add_array(hf_writer *w, const char *key, meta_type type, uint64_t n)
{
    meta_value *value = hf_add(w, key, META_ARRAY);
    size_t n_bytes = (size_t)n * meta_type_bytes(type);
    uint8_t *bytes = value ? region_alloc(w->memory, n_bytes) : NULL;
    if (bytes) {
        value->array = (meta_array){.type = type, .n = n, .data = bytes};
    } else if (value) {
        w->status = error_nomem(w->error, key, n_bytes);
    }
    return bytes;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

const json_t *hf_member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

const char *hf_name_of(const json_t *object, const char *key)
{
    static const char *const older[][2] = {
        {"hidden_size", "n_embd"},           {"intermediate_size", "n_inner"},
        {"num_attention_heads", "n_head"},   {"num_hidden_layers", "n_layer"},
        {"num_hidden_layers", "num_layers"}, {"max_position_embeddings", "n_positions"}};
    for (size_t i = 0; !hf_member(object, key) && i < sizeof older / sizeof *older; i++) {
        if (strcmp(older[i][0], key) == 0 && hf_member(object, older[i][1])) {
            return older[i][1];
        }
    }
    return key;
}

void hf_wrong(hf_writer *w, const char *key, const char *expected)
{
    if (w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_FORMAT, "config.json: '%s' is no %s", key, expected);
    }
}

bool hf_get_u32(hf_writer *w, const json_t *object, const char *key, uint32_t *out)
{
    key = hf_name_of(object, key);
    const json_t *value = hf_member(object, key);
    if (!value) {
        return false;
    }
    json_int_t number = json_integer_value(value);
    if (json_typeof(value) != JSON_INTEGER || number < 0 || number > UINT32_MAX) {
        hf_wrong(w, key, "whole number from 0 to 4294967295");
        return false;
    }
    *out = (uint32_t)number;
    return true;
}

bool hf_get_f64(hf_writer *w, const json_t *object, const char *key, double *out)
{
    const json_t *value = hf_member(object, key);
    if (!value) {
        return false;
    }
    if (json_typeof(value) != JSON_INTEGER && json_typeof(value) != JSON_REAL) {
        hf_wrong(w, key, "number");
        return false;
    }
    *out = json_number_value(value);
    return true;
}

bool hf_get_bool(hf_writer *w, const json_t *object, const char *key, bool *out)
{
    const json_t *value = hf_member(object, key);
    if (!value) {
        return false;
    }
    if (json_typeof(value) != JSON_TRUE && json_typeof(value) != JSON_FALSE) {
        hf_wrong(w, key, "true or false");
        return false;
    }
    *out = json_typeof(value) == JSON_TRUE;
    return true;
}

const char *hf_get_text(hf_writer *w, const json_t *object, const char *key)
{
    const json_t *value = hf_member(object, key);
    if (value && json_typeof(value) != JSON_STRING) {
        hf_wrong(w, key, "string");
        return NULL;
    }
    return json_string_value(value);
}

const json_t *hf_get_object(hf_writer *w, const json_t *object, const char *key)
{
    const json_t *value = hf_member(object, key);
    if (value && json_typeof(value) != JSON_OBJECT) {
        hf_wrong(w, key, "object");
        return NULL;
    }
    return value;
}

uint32_t hf_need_u32(hf_writer *w, const char *key, uint32_t most)
{
    uint32_t number = 0;
    key = hf_name_of(w->root, key);
    if (!hf_get_u32(w, w->root, key, &number) && w->status == MLXR_OK) {
        w->status = error_set(w->error, MLXR_FORMAT, "config.json: '%s' is missing", key);
    }
    if (w->status == MLXR_OK && (number == 0 || number > most)) {
        w->status = error_set(w->error, MLXR_FORMAT, "config.json: '%s' is %" PRIu32 "; it must be 1 to %" PRIu32, key,
                              number, most);
    }
    return number;
}

void hf_copy_f32(hf_writer *w, const json_t *object, const char *theirs, const char *ours)
{
    double number;
    if (hf_get_f64(w, object, theirs, &number)) {
        hf_add_f32(w, ours, number);
    }
}
