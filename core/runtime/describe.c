/*
 * Describing machines and model files as JSON, for `doctor` and `show`.
 * Owner: the caller gets the text. Lifetime: the call.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory_size.h"
#include "graph/rope_extend.h"
#include "runtime/engine.h"
#include "runtime/kv_choice.h"

#define ARRAY_PREVIEW 8u

static json_t *features_json(cpu_features features)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        if (features >> i & 1) {
            json_array_append_new(list, json_string(cpu_feature_name(i)));
        }
    }
    return list;
}

/* What a backend says it computes with; opening one is the only way to know. */
static void add_device(json_t *entry, const backend_ops *ops)
{
    backend *b = NULL;
    mlxr_error why;
    backend_options options = {.n_threads = 1};
    if (ops->open(&b, &options, &why) != MLXR_OK) {
        json_object_set_new(entry, "why", json_string(why.text));
        json_object_set_new(entry, "present", json_false());
        return;
    }
    json_object_set_new(entry, "device", json_string(ops->numerics(b)));
    ops->close(&b);
}

static json_t *backends_json(void)
{
    static const struct {
        const char *name, *why_absent;
    } known[] = {
        {"cpu", "not in this build"},
        {"mlx", "not in this build: it is built in where CMake finds MLX (docs/apple.md)"},
        {"cuda", "not in this build: the CUDA backend is not written yet"},
    };
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const backend_ops *ops = backend_find(known[i].name);
        json_t *entry = json_pack("{s:s, s:b}", "name", known[i].name, "present", ops != NULL);
        if (ops) {
            json_object_set_new(entry, "batch_invariant", json_boolean(ops->batch != BATCH_MATTERS));
            json_object_set_new(entry, "activations",
                                ops->rounds_activations ? json_pack("[i, i]", 16, 8) : json_pack("[i]", 16));
            if (ops->numerics) {
                add_device(entry, ops);
            }
        } else {
            json_object_set_new(entry, "why", json_string(known[i].why_absent));
        }
        json_array_append_new(list, entry);
    }
    return list;
}

static mlxr_status dump(json_t *root, char **json, mlxr_error *error)
{
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!text) {
        return error_nomem(error, "JSON description", 0);
    }
    *json = text;
    return MLXR_OK;
}

mlxr_status mlxr_system_describe(char **json, mlxr_error *error)
{
    char model[128];
    json_t *root = json_object();
    json_object_set_new(root, "version", json_string(MLXR_VERSION));
    json_object_set_new(root, "cpu", json_string(cpu_model_name(model, sizeof model)));
    json_object_set_new(root, "cores_usable", json_integer(cpu_cores_usable()));
    json_object_set_new(root, "cpu_features", features_json(cpu_detect()));
    json_object_set_new(root, "cpu_features_advertised", features_json(cpu_advertised()));
    json_object_set_new(root, "memory_bytes", json_integer((json_int_t)memory_total()));
    json_object_set_new(root, "memory_available_bytes", json_integer((json_int_t)memory_available()));
    json_object_set_new(root, "backends", backends_json());
    return dump(root, json, error);
}

/* Text of untrusted files as JSON: what is not UTF-8 is given as its length. */
static json_t *text_json(text_view text)
{
    json_t *value = json_stringn(text.data, text.n);
    if (!value) {
        char note[64];
        snprintf(note, sizeof note, "(%zu bytes, not UTF-8)", text.n);
        value = json_string(note);
    }
    return value;
}

static json_t *array_json(const meta_array *a)
{
    json_t *first = json_array();
    for (uint64_t i = 0; i < a->n && i < ARRAY_PREVIEW; i++) {
        json_array_append_new(first,
                              a->type == META_STRING ? text_json(a->strings[i]) : json_real(meta_array_number(a, i)));
    }
    return json_pack("{s:I, s:o}", "count", (json_int_t)a->n, "first", first);
}

static json_t *meta_json(const meta_value *v)
{
    switch (v->type) {
    case META_BOOL:
        return json_boolean(v->u != 0);
    case META_STRING:
        return text_json(v->s);
    case META_ARRAY:
        return array_json(&v->array);
    case META_F32:
    case META_F64: {
        json_t *number = json_real(v->f);
        return number ? number : json_string(v->f != v->f ? "nan" : v->f > 0 ? "inf" : "-inf");
    }
    case META_I8:
    case META_I16:
    case META_I32:
    case META_I64:
        return json_integer(v->i);
    default:
        return v->u > INT64_MAX ? json_real((double)v->u) : json_integer((json_int_t)v->u);
    }
}

static json_t *tensors_json(const model_file *file, uint64_t *n_params, uint64_t *n_bytes)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        const tensor *t = &file->tensors[i];
        json_t *shape = json_array();
        uint64_t n = 1;
        for (uint32_t d = 0; d < t->n_dims; d++) {
            json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
            n *= t->shape[d];
        }
        *n_params += n;
        *n_bytes += t->n_bytes;
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "type", dtype_name(t->type),
                                              "shape", shape, "bytes", (json_int_t)t->n_bytes));
    }
    return list;
}

/* KV bytes of a token in layers that see everything, and of a full context, in one type. */
static void kv_need(const graph *g, dtype type, uint64_t *per_token, uint64_t *full_context)
{
    uint64_t windows = 0, states = 0;
    *per_token = 0;
    for (uint32_t i = 0; i < g->plan.n_kv_groups; i++) {
        const kv_group *group = &g->plan.kv_groups[i];
        uint64_t bytes = kv_layout_make(group, type, 1).page_bytes;
        if (group->state_width) {
            states += bytes * PAGER_STATES_HELD;
        } else if (group->window && group->window < g->h.n_ctx_train) {
            windows += bytes * group->window;
        } else {
            *per_token += bytes;
        }
    }
    *full_context = *per_token * g->h.n_ctx_train + windows + states;
}

/* Each KV type and its need; why not, where the model's heads do not fit it. */
static json_t *kv_types_json(const graph *g)
{
    static const dtype types[] = {
#define KV_TYPE_VALUE(name, text) DTYPE_##name,
        KV_TYPE_LIST(KV_TYPE_VALUE)
#undef KV_TYPE_VALUE
    };
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        mlxr_error why = {0};
        json_t *entry = json_pack("{s:s}", "type", kv_type_name(types[i]));
        for (uint32_t group = 0; group < g->plan.n_kv_groups && why.status == MLXR_OK; group++) {
            kv_layout_check(&g->plan.kv_groups[group], types[i], &why);
        }
        if (why.status != MLXR_OK) {
            json_object_set_new(entry, "why_not", json_string(why.text));
        } else {
            uint64_t per_token, full_context;
            kv_need(g, types[i], &per_token, &full_context);
            json_object_set_new(entry, "kv_bytes_per_token", json_integer((json_int_t)per_token));
            json_object_set_new(entry, "kv_bytes_full_context", json_integer((json_int_t)full_context));
        }
        json_array_append_new(list, entry);
    }
    return list;
}

/* The head that predicts further tokens, and what a model loaded with it takes more; null: there is none. */
static json_t *ahead_json(const graph *g, const model_file *file)
{
    graph *with = NULL;
    mlxr_error why = {0};
    if (g->h.n_layers_ahead == 0) {
        return json_null();
    }
    bool usable = graph_build(&with, file, NULL, true, &why) == MLXR_OK;
    json_t *root = json_pack("{s:i, s:I, s:b, s:o}", "layers", (int)g->h.n_layers_ahead, "bytes",
                             (json_int_t)g->ahead_bytes, "usable", usable, "why_not",
                             usable ? json_null() : json_string(why.text));
    if (usable) {
        uint64_t per_token, full_context;
        kv_need(with, DTYPE_F16, &per_token, &full_context);
        json_object_set_new(root, "bytes_per_drafted_token", json_integer((json_int_t)with->ahead_bytes_per_token));
        json_object_set_new(root, "bytes_per_token", json_integer((json_int_t)with->bytes_per_token));
        json_object_set_new(root, "kv_bytes_per_token_f16", json_integer((json_int_t)per_token));
        json_object_set_new(root, "kv_bytes_full_context_f16", json_integer((json_int_t)full_context));
    }
    graph_close(&with);
    return root;
}

/* What running it needs: weights (mapped, so page cache) and KV for a full context. */
static json_t *memory_json(const graph *g, const model_file *file)
{
    uint64_t per_token, full_context;
    const char *type = kv_type_name(kv_type_choose(g, backend_list()[0]));
    kv_need(g, DTYPE_F16, &per_token, &full_context);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:s, s:o}", "weight_bytes", (json_int_t)g->weight_bytes,
                     "streamable_expert_bytes", (json_int_t)expert_cache_streamable(g, file), "bytes_per_token",
                     (json_int_t)g->bytes_per_token, "kv_bytes_per_token_f16", (json_int_t)per_token,
                     "kv_bytes_full_context_f16", (json_int_t)full_context, "kv_type_auto", type, "kv_types",
                     kv_types_json(g));
}

/* How far it reads, and what turns queries and keys; null members: it has no RoPE where it sees everything. */
static json_t *context_json(const graph *g)
{
    const hparams *h = &g->h;
    bool turns = *g->rope_name;
    return json_pack("{s:I, s:I, s:o, s:o, s:o}", "trained", (json_int_t)h->n_ctx_train, "original",
                     (json_int_t)h->scaling.n_ctx_orig, "rope_scaling", turns ? json_string(g->rope_name) : json_null(),
                     "rope_factor", turns ? json_real((double)rope_factor(h)) : json_null(), "rope_base",
                     turns ? json_real((double)h->rope_theta) : json_null());
}

mlxr_status mlxr_model_describe(const char *path, char **json, mlxr_error *error)
{
    model_file *file = NULL;
    graph *g = NULL;
    mlxr_error why = {0};
    mlxr_status status = model_file_open(&file, path, error);
    if (status != MLXR_OK) {
        return status;
    }
    json_t *root = json_object(), *meta = json_object();
    uint64_t n_params = 0, n_bytes = 0;
    for (uint64_t i = 0; i < file->n_meta; i++) {
        json_object_set_new(meta, file->meta[i].key, meta_json(&file->meta[i]));
    }
    bool supported = graph_build(&g, file, NULL, false, &why) == MLXR_OK;
    json_object_set_new(root, "path", json_string(path));
    json_object_set_new(root, "format", json_string(file->format == MODEL_GGUF ? "gguf" : "safetensors"));
    json_object_set_new(root, "version", json_integer(file->version));
    json_object_set_new(root, "n_files", json_integer(file->n_parts));
    json_object_set_new(root, "file_bytes", json_integer((json_int_t)file->file_bytes));
    json_object_set_new(root, "supported", json_boolean(supported));
    json_object_set_new(root, "batch_invariant",
                        supported ? json_boolean(backend_list()[0]->batch == BATCH_NEVER_MATTERS) : json_null());
    json_object_set_new(root, "why_not", supported ? json_null() : json_string(why.text));
    json_t *tensors = tensors_json(file, &n_params, &n_bytes);
    json_object_set_new(root, "n_params", json_integer((json_int_t)n_params));
    json_object_set_new(root, "tensor_bytes", json_integer((json_int_t)n_bytes));
    json_object_set_new(root, "memory", g ? memory_json(g, file) : json_null());
    json_object_set_new(root, "context", g ? context_json(g) : json_null());
    json_object_set_new(root, "mtp", g ? ahead_json(g, file) : json_null());
    json_object_set_new(root, "metadata", meta);
    json_object_set_new(root, "tensors", tensors);
    status = dump(root, json, error);
    graph_close(&g);
    model_file_close(&file);
    return status;
}
