/*
 * modules.json of sentence-transformers, and the configuration of the modules that it lists.
 * Owner: the caller. Lifetime: the call; paths live in its region.
 */
#include "loaders/safetensors_modules.h"

#include <stdio.h>
#include <string.h>

#include "base/mapping.h"
#include "base/text.h"
#include "loaders/safetensors.h"

#define LIST_NAME "modules.json"

typedef enum module_kind {
    MODULE_TRANSFORMER,
    MODULE_POOLING,
    MODULE_DENSE,
    MODULE_NORMALIZE,
    MODULE_NOTHING
} module_kind;

typedef struct lister {
    safetensors_modules *out;
    const char *folder;
    region *memory;
    mlxr_error *error;
    bool normalized;
} lister;

const char *safetensors_join_path(region *memory, const char *folder, const char *name)
{
    size_t n = strlen(folder) + strlen(name) + 2;
    char *path = region_alloc(memory, n);
    if (path) {
        snprintf(path, n, "%s%s%s", folder, folder[0] ? "/" : "", name);
    }
    return path;
}

/* The whole of folder/name as JSON. */
static mlxr_status read_json(const lister *l, const char *name, json_t **root)
{
    mapping bytes = {0};
    const char *path = safetensors_join_path(l->memory, l->folder, name);
    if (!path) {
        return error_nomem(l->error, "a path", strlen(l->folder) + strlen(name) + 2);
    }
    mlxr_status status = mapping_open(&bytes, path, l->error);
    if (status == MLXR_OK) {
        status = safetensors_parse_any(root, (text_view){(const char *)bytes.data, bytes.n_bytes}, name, l->error);
    }
    mapping_close(&bytes);
    return status;
}

/* ---- dense layers ---------------------------------------------------------------------------------------------- */

/* What it computes must be weight · x alone. */
static mlxr_status check_dense(const lister *l, const char *name)
{
    json_t *root = NULL;
    mlxr_status status = read_json(l, name, &root);
    const char *activation = json_string_value(json_object_get(root, "activation_function"));
    if (status == MLXR_OK && !json_is_object(root)) {
        status = error_set(l->error, MLXR_FORMAT, "%s: not a JSON object", name);
    } else if (status == MLXR_OK && (!activation || !text_ends_with(activation, ".Identity"))) {
        status = error_set(l->error, MLXR_UNSUPPORTED, "%s: activation '%.80s'; torch's Identity is supported", name,
                           activation ? activation : "");
    }
    json_decref(root);
    return status;
}

static mlxr_status add_dense(lister *l, const char *path)
{
    safetensors_modules *m = l->out;
    if (m->n_dense == MODULES_DENSE_MAX) {
        return error_set(l->error, MLXR_UNSUPPORTED, LIST_NAME ": '%.80s' is a third dense layer; %u are supported",
                         path, MODULES_DENSE_MAX);
    }
    const char *config = safetensors_join_path(l->memory, path, "config.json");
    const char *weights = safetensors_join_path(l->memory, path, "model.safetensors");
    if (!config || !weights) {
        return error_nomem(l->error, "a path", strlen(path) + 24);
    }
    m->dense[m->n_dense].config = config;
    m->dense[m->n_dense++].weights = weights;
    return check_dense(l, config);
}

/* ---- modules.json ---------------------------------------------------------------------------------------------- */

/* The class's own name, whatever package it lies in; they moved. */
static mlxr_status kind_of(const lister *l, size_t i, const char *type, module_kind *kind)
{
    static const struct {
        const char *name;
        module_kind kind;
    } known[] = {{"Transformer", MODULE_TRANSFORMER},
                 {"Pooling", MODULE_POOLING},
                 {"Dense", MODULE_DENSE},
                 {"Normalize", MODULE_NORMALIZE},
                 {"Dropout", MODULE_NOTHING},
                 {"LogitScore", MODULE_NOTHING /* of rerankers: "yes", "no" */}};
    const char *dot = type ? strrchr(type, '.') : NULL, *name = dot ? dot + 1 : type;
    for (size_t k = 0; name && k < sizeof known / sizeof *known; k++) {
        if (strcmp(name, known[k].name) == 0) {
            *kind = known[k].kind;
            return MLXR_OK;
        }
    }
    return error_set(l->error, name ? MLXR_UNSUPPORTED : MLXR_FORMAT,
                     LIST_NAME
                     ": module %zu is of type '%.80s'; Transformer, Pooling, Dense and Normalize are supported",
                     i, type ? type : "(no text)");
}

/* A folder within the model's. */
static bool is_inside(const char *path)
{
    return path && path[0] && path[0] != '.' && strlen(path) <= 64 && !strpbrk(path, "/\\:");
}

static mlxr_status out_of_order(const lister *l, size_t i, const char *what)
{
    return error_set(l->error, MLXR_UNSUPPORTED, LIST_NAME ": module %zu: %s", i, what);
}

static mlxr_status add_pooling(lister *l, size_t i, const char *path)
{
    if (l->out->pooling || l->out->n_dense || l->normalized) {
        return out_of_order(l, i, "pooling behind pooling, a dense layer or a normalisation is not supported");
    }
    l->out->pooling = safetensors_join_path(l->memory, path, "config.json");
    return l->out->pooling ? MLXR_OK : error_nomem(l->error, "a path", strlen(path) + 13);
}

static mlxr_status add_module(lister *l, size_t i, const json_t *module)
{
    module_kind kind = MODULE_NOTHING;
    const char *path = json_string_value(json_object_get(module, "path"));
    mlxr_status status = kind_of(l, i, json_string_value(json_object_get(module, "type")), &kind);
    if (status != MLXR_OK) {
        return status;
    }
    if ((kind == MODULE_TRANSFORMER) != (i == 0)) {
        return out_of_order(l, i, i ? "a second Transformer" : "the first one must be a Transformer");
    }
    if (kind == MODULE_TRANSFORMER && path && path[0]) {
        return error_set(l->error, MLXR_UNSUPPORTED,
                         LIST_NAME ": the model lies in '%.80s'; name that folder, which has no modules", path);
    }
    if ((kind == MODULE_POOLING || kind == MODULE_DENSE) && !is_inside(path)) {
        return error_set(l->error, MLXR_FORMAT, LIST_NAME ": module %zu: path '%.80s' is no folder of the model's", i,
                         path ? path : "(no text)");
    }
    if (kind == MODULE_DENSE && (!l->out->pooling || l->normalized)) {
        return out_of_order(l, i,
                            l->normalized ? "a dense layer behind a normalisation is not supported"
                                          : "a dense layer before pooling is not supported");
    }
    l->normalized |= kind == MODULE_NORMALIZE;
    return kind == MODULE_POOLING ? add_pooling(l, i, path) : kind == MODULE_DENSE ? add_dense(l, path) : MLXR_OK;
}

static mlxr_status read_list(lister *l)
{
    json_t *root = NULL;
    mlxr_status status = read_json(l, LIST_NAME, &root);
    if (status == MLXR_OK && (!json_is_array(root) || json_array_size(root) == 0)) {
        status = error_set(l->error, MLXR_FORMAT, LIST_NAME ": no list of modules");
    }
    for (size_t i = 0; status == MLXR_OK && i < json_array_size(root); i++) {
        status = add_module(l, i, json_array_get(root, i));
    }
    json_decref(root);
    return status;
}

/* ---- folders without it ---------------------------------------------------------------------------------------- */

static mlxr_status is_there(const lister *l, const char *name, bool *found)
{
    const char *path = safetensors_join_path(l->memory, l->folder, name);
    *found = path && path_find(path) != PATH_NONE;
    return path ? MLXR_OK : error_nomem(l->error, "a path", strlen(l->folder) + strlen(name) + 2);
}

static mlxr_status find_folders(lister *l)
{
    static const char *const folders[][2] = {{"2_Dense", "2_Dense/model.safetensors"},
                                             {"3_Dense", "3_Dense/model.safetensors"}};
    bool found = false;
    l->out->pooling = "1_Pooling/config.json";
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; status == MLXR_OK && i < sizeof folders / sizeof *folders; i++) {
        status = is_there(l, folders[i][1], &found);
        if (status == MLXR_OK && found) {
            status = add_dense(l, folders[i][0]);
        }
    }
    return status;
}

mlxr_status safetensors_modules_read(safetensors_modules *out, const char *folder, region *memory, mlxr_error *error)
{
    lister l = {.out = out, .folder = folder, .memory = memory, .error = error};
    bool listed = false;
    *out = (safetensors_modules){0};
    mlxr_status status = is_there(&l, LIST_NAME, &listed);
    if (status != MLXR_OK) {
        return status;
    }
    return listed ? read_list(&l) : find_folders(&l);
}
