/*
 * What a model's file says of itself, read once as long as the file does not change.
 * Owner: the registry. Lifetime: the registry's.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "registry/inside.h"

/* general.file_type, as llama.cpp's converter numbers it. */
static const char *file_type_name(int64_t type)
{
    static const struct {
        int64_t type;
        const char *name;
    } names[] = {
        {0, "F32"},     {1, "F16"},     {2, "Q4_0"},    {3, "Q4_1"},    {7, "Q8_0"},    {8, "Q5_0"},    {9, "Q5_1"},
        {10, "Q2_K"},   {11, "Q3_K_S"}, {12, "Q3_K_M"}, {13, "Q3_K_L"}, {14, "Q4_K_S"}, {15, "Q4_K_M"}, {16, "Q5_K_S"},
        {17, "Q5_K_M"}, {18, "Q6_K"},   {25, "IQ4_NL"}, {30, "IQ4_XS"}, {32, "BF16"},   {38, "MXFP4"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].type == type) {
            return names[i].name;
        }
    }
    return NULL;
}

/* The type most of the weights' bytes have. */
static const char *heaviest_type(const json_t *tensors)
{
    struct {
        const char *name;
        uint64_t n_bytes;
    } types[32] = {{"", 0}};
    size_t n_types = 0, best = 0;
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *t = json_array_get(tensors, i);
        const char *type = json_string_value(json_object_get(t, "type"));
        size_t at = 0;
        while (type && at < n_types && strcmp(types[at].name, type) != 0) {
            at++;
        }
        if (!type || at == sizeof types / sizeof *types) {
            continue;
        }
        n_types += at == n_types;
        types[at].name = type;
        types[at].n_bytes += (uint64_t)json_integer_value(json_object_get(t, "bytes"));
        best = types[at].n_bytes > types[best].n_bytes ? at : best;
    }
    return types[best].name;
}

static bool read_description(described *d, const json_t *root)
{
    const json_t *meta = json_object_get(root, "metadata"), *type = json_object_get(meta, "general.file_type");
    const char *family = json_string_value(json_object_get(meta, "general.architecture"));
    const char *why_not = json_string_value(json_object_get(root, "why_not"));
    const char *quant = json_is_integer(type) ? file_type_name(json_integer_value(type)) : NULL, *key;
    json_t *value;
    d->family = strdup(family ? family : "");
    d->quant = strdup(quant ? quant : heaviest_type(json_object_get(root, "tensors")));
    d->unusable = strdup(json_is_true(json_object_get(root, "supported")) || !why_not ? "" : why_not);
    d->n_params = (uint64_t)json_integer_value(json_object_get(root, "n_params"));
    d->total_bytes = (uint64_t)json_integer_value(json_object_get(root, "file_bytes"));
    const char *template_text = json_string_value(json_object_get(meta, "tokenizer.chat_template"));
    d->has_template = template_text && *template_text;
    json_object_foreach((json_t *)meta, key, value)
    {
        size_t n = strlen(key);
        if (n > 15 && strcmp(key + n - 15, ".context_length") == 0 && json_is_integer(value)) {
            d->n_ctx_train = (uint32_t)json_integer_value(value);
        }
    }
    return d->family && d->quant && d->unusable;
}

static mlxr_status describe_file(described *d, const char *path, mlxr_error *error)
{
    char *text = NULL;
    mlxr_error why = {0};
    mlxr_status status = mlxr_model_describe(path, &text, &why);
    bool ok;
    if (status == MLXR_NOMEM) {
        return registry_fail_nomem(error);
    }
    if (status == MLXR_OK) {
        json_t *root = json_loads(text, 0, NULL);
        ok = root && read_description(d, root);
        json_decref(root);
        mlxr_free(text);
    } else { /* a model that cannot be read is listed with the reason */
        d->family = strdup("");
        d->quant = strdup("");
        d->unusable = strdup(why.text);
        ok = d->family && d->quant && d->unusable;
    }
    return ok ? MLXR_OK : registry_fail_nomem(error);
}

static void close_one(described *d)
{
    free(d->path);
    free(d->family);
    free(d->quant);
    free(d->unusable);
    *d = (described){0};
}

/* The entry of a path, made or made anew where the file is another. */
static mlxr_status find_described(registry *r, const char *path, described **out, mlxr_error *error)
{
    struct stat info = {0};
    described *d = NULL;
    bool there = stat(path, &info) == 0;
    int64_t modified_ns = there ? (int64_t)info.st_mtime * 1000000000 + (int64_t)info.st_ino : -1;
    for (size_t i = 0; i < r->n_described && !d; i++) {
        d = strcmp(r->described[i].path, path) == 0 ? &r->described[i] : NULL;
    }
    if (d && d->modified_ns == modified_ns && d->n_bytes == (uint64_t)info.st_size) {
        *out = d;
        return MLXR_OK;
    }
    if (!d && r->n_described == r->cap_described) {
        size_t cap = r->cap_described ? r->cap_described * 2 : 16;
        described *grown = realloc(r->described, cap * sizeof *grown);
        if (!grown) {
            return registry_fail_nomem(error);
        }
        r->described = grown;
        r->cap_described = cap;
    }
    described fresh = {.path = strdup(path), .modified_ns = modified_ns, .n_bytes = (uint64_t)info.st_size};
    mlxr_status status = fresh.path ? describe_file(&fresh, path, error) : registry_fail_nomem(error);
    if (status != MLXR_OK) {
        close_one(&fresh);
        return status;
    }
    if (d) {
        close_one(d);
    } else {
        d = &r->described[r->n_described++];
    }
    *d = fresh;
    *out = d;
    return MLXR_OK;
}

mlxr_status describe_model(registry *r, registry_model *m, mlxr_error *error)
{
    described *d = NULL;
    mlxr_status status = find_described(r, m->path, &d, error);
    if (status != MLXR_OK) {
        return status;
    }
    m->family = strdup(d->family);
    m->quant = strdup(d->quant);
    m->unusable = strdup(d->unusable);
    m->n_params = d->n_params;
    m->n_ctx_train = d->n_ctx_train;
    m->has_template = d->has_template;
    m->n_bytes = d->total_bytes ? d->total_bytes : m->n_bytes;
    return m->family && m->quant && m->unusable ? MLXR_OK : registry_fail_nomem(error);
}
