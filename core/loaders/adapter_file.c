/*
 * LoRA adapters on disk.
 * Owner: see adapter_file.h. Lifetime: the file's.
 */
#include "loaders/adapter_file.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/text.h"
#include "loaders/readers.h"
#include "loaders/safetensors.h"
#include "quant/codec.h"

#define NAME_ROOM 256 /* the readers refuse names of more than 255 bytes */
#define CONFIG_NAME "adapter_config.json"
#define WEIGHTS_NAME "adapter_model.safetensors"

typedef struct lora_config {
    double alpha;
    bool rank_stable;
    const json_t *alphas; /* alpha_pattern: {module name: number} */
    const adapter_model *of;
} lora_config;

/* ---- a target's numbers ------------------------------------------------------------------------------------------ */

static const uint8_t *row_at(const tensor *t, uint64_t row)
{
    return (const uint8_t *)t->data + row * t->row_bytes;
}

bool adapter_is_table(const char *name)
{
    return strcmp(name, "token_embd.weight") == 0 || strcmp(name, "per_layer_token_embd.weight") == 0;
}

void adapter_target_a(const adapter_target *t, uint32_t expert, float *out)
{
    float row[ADAPTER_RANK_MAX];
    for (uint64_t i = 0; t->layout == ADAPTER_TABLE && i < t->n_in; i++) {
        codec_decode(t->a->type, row_at(t->a, i), row, t->rank);
        for (uint32_t r = 0; r < t->rank; r++) {
            out[r * t->n_in + i] = row[r];
        }
    }
    for (uint32_t r = 0; t->layout != ADAPTER_TABLE && r < t->rank; r++) {
        codec_decode(t->a->type, row_at(t->a, (uint64_t)expert * t->rank + r), out + r * t->n_in, (size_t)t->n_in);
    }
}

void adapter_target_b(const adapter_target *t, uint32_t expert, uint64_t row, float *out)
{
    if (t->layout != ADAPTER_PARAMETER) {
        codec_decode(t->b->type, row_at(t->b, expert * t->n_out + row), out, t->rank);
        return;
    }
    size_t n_bytes = dtype_row_bytes(t->b->type, 1);
    for (uint32_t r = 0; r < t->rank; r++) {
        codec_decode(t->b->type, row_at(t->b, row) + ((size_t)r * t->n + expert) * n_bytes, out + r, 1);
    }
}

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

/* How the pair is laid out, by what it is of and the dimensions it has; false: it is no pair. */
static bool measure(adapter_target *t, const lora_config *c)
{
    const tensor *a = t->a, *b = t->b;
    uint64_t rank = t->layout == ADAPTER_TABLE ? a->shape[0] : a->shape[1], stack = t->layout == ADAPTER_STACK;
    t->n = stack ? (uint32_t)(a->shape[2] <= UINT32_MAX ? a->shape[2] : 0) : 1;
    if (t->layout == ADAPTER_PARAMETER) {
        t->n = c->of->n_expert;
        rank = t->n && rank % t->n == 0 ? rank / t->n : 0;
    }
    if (a->n_dims != 2 + stack || b->n_dims != 2 + stack || t->n == 0 || (stack && b->shape[2] != a->shape[2]) ||
        rank == 0 || rank > ADAPTER_RANK_MAX || b->shape[0] != (t->layout == ADAPTER_PARAMETER ? t->n * rank : rank)) {
        return false;
    }
    t->rank = (uint32_t)rank;
    t->n_in = t->layout == ADAPTER_TABLE ? a->shape[1] : a->shape[0];
    t->n_out = b->shape[1];
    return true;
}

/* Adds the pair that `t` has; the scale is alpha ÷ rank, or ÷ √rank, and 1 where alpha is 0: there is none. */
static mlxr_status add_target(adapter_file *f, adapter_target *targets, adapter_target t, double alpha,
                              const lora_config *c, mlxr_error *error)
{
    if (!measure(&t, c)) {
        return error_set(error, MLXR_FORMAT, "adapter tensors '%s' [%llu, %llu] and '%s' [%llu, %llu] are no pair%s",
                         t.a->name, (unsigned long long)t.a->shape[0], (unsigned long long)t.a->shape[1], t.b->name,
                         (unsigned long long)t.b->shape[0], (unsigned long long)t.b->shape[1],
                         t.layout < ADAPTER_STACK ? "" : " of this model's experts");
    }
    const char *kept = region_strndup(&f->memory, t.name, strlen(t.name));
    if (!kept) {
        return error_nomem(error, "adapter", strlen(t.name));
    }
    double below = c->rank_stable ? sqrt((double)t.rank) : (double)t.rank;
    double scale = alpha != 0 ? alpha / below : 1;
    if (!(scale <= (double)FLT_MAX)) {
        return error_set(error, MLXR_FORMAT, "adapter tensor '%s': an alpha of %g, which no float holds", t.a->name,
                         alpha);
    }
    t.name = kept;
    t.scale = (float)scale;
    targets[f->n_targets++] = t;
    return MLXR_OK;
}

static void hash_bytes(adapter_file *f, const mapping *parts, uint32_t n)
{
    XXH128_hash_t h = {f->hash_low, f->hash_high};
    for (uint32_t i = 0; i < n; i++) {
        XXH128_hash_t part = XXH3_128bits_withSeed(parts[i].data, parts[i].n_bytes, h.low64 ^ h.high64);
        h = (XXH128_hash_t){h.low64 ^ part.low64, h.high64 + part.high64};
    }
    f->hash_low = h.low64;
    f->hash_high = h.high64;
}

/* ---- GGUF -------------------------------------------------------------------------------------------------------- */

/* Of a text for an error line. */
static int shown(text_view text)
{
    return text.n < 60 ? (int)text.n : 60;
}

static mlxr_status read_gguf(adapter_file *f, const lora_config *c, mlxr_error *error)
{
    const model_file *m = f->gguf;
    text_view type = {0}, kind = {0}, arch = {0};
    float alpha = 0;
    mlxr_status status = model_file_text(m, "general.type", &type, error);
    status = status != MLXR_OK ? status : model_file_text(m, "adapter.type", &kind, error);
    status = status != MLXR_OK ? status : model_file_text(m, "general.architecture", &arch, error);
    status = status != MLXR_OK ? status : model_file_f32(m, "adapter.lora.alpha", &alpha, error);
    if (status != MLXR_OK) {
        return status;
    }
    if (type.n != 7 || memcmp(type.data, "adapter", 7) != 0 || kind.n != 4 || memcmp(kind.data, "lora", 4) != 0) {
        return error_set(error, MLXR_FORMAT, "not a LoRA adapter: general.type is '%.*s', adapter.type '%.*s'",
                         shown(type), type.n ? type.data : "", shown(kind), kind.n ? kind.data : "");
    }
    if (!(alpha >= 0)) {
        return error_set(error, MLXR_FORMAT, "adapter.lora.alpha is %g; it cannot be below 0", (double)alpha);
    }
    if (arch.n != strlen(c->of->arch) || memcmp(arch.data, c->of->arch, arch.n) != 0) {
        return error_set(error, MLXR_ARG, "an adapter for models of the family '%.*s'; this is a %s model", shown(arch),
                         arch.n ? arch.data : "", c->of->arch);
    }
    adapter_target *targets = region_array(&f->memory, m->n_tensors + 1, sizeof *targets);
    if (!targets) {
        return error_nomem(error, "adapter", m->n_tensors * sizeof *targets);
    }
    f->targets = targets;
    for (uint64_t i = 0; i < m->n_tensors && status == MLXR_OK; i++) {
        const tensor *t = &m->tensors[i];
        char name[NAME_ROOM];
        size_t n = strlen(t->name);
        bool a = text_ends_with(t->name, ".lora_a"), b = text_ends_with(t->name, ".lora_b");
        if (!a && !b) {
            return error_set(error, MLXR_UNSUPPORTED, "adapter tensor '%s': only .lora_a and .lora_b are supported",
                             t->name);
        }
        snprintf(name, sizeof name, "%.*s.lora_%c", (int)(n - 7), t->name, a ? 'b' : 'a');
        const tensor *other = model_file_tensor(m, name);
        if (!other) {
            return error_set(error, MLXR_FORMAT, "adapter tensor '%s' is missing", name);
        }
        if (a) {
            name[n - 7] = 0;
            adapter_layout layout = adapter_is_table(name) ? ADAPTER_TABLE
                                    : t->n_dims == 3       ? ADAPTER_STACK
                                                           : ADAPTER_MATRIX;
            adapter_target target = {.name = name, .a = t, .b = other, .layout = layout};
            status = add_target(f, targets, target, (double)alpha, c, error);
        }
    }
    hash_bytes(f, m->parts, m->n_parts);
    return status;
}

/* ---- PEFT -------------------------------------------------------------------------------------------------------- */

/* How training began. Some ways take B · A of the beginning off the model's own weights, so that the adapter is made
 * for others than the model has. */
static mlxr_status check_begin(const char *name, mlxr_error *error)
{
    static const char *const plain[] = {"gaussian", "eva", "orthogonal"};
    for (size_t i = 0; name && i < sizeof plain / sizeof *plain; i++) {
        if (strcmp(name, plain[i]) == 0) {
            return MLXR_OK;
        }
    }
    return !name ? MLXR_OK
                 : error_set(error, MLXR_UNSUPPORTED,
                             CONFIG_NAME ": init_lora_weights '%.60s' may change the model's own weights; convert the "
                                         "adapter to a plain one with PEFT",
                             name);
}

/* What would make it another thing than B · A on some matrices. */
static mlxr_status check_peft(const json_t *root, mlxr_error *error)
{
    static const char *const switches[] = {"use_dora", "use_qalora", "fan_in_fan_out", "lora_bias"};
    static const char *const lists[] = {"modules_to_save", "trainable_token_indices", "layer_replication",
                                        "alora_invocation_tokens"};
    const char *type = json_string_value(json_object_get(root, "peft_type"));
    const char *bias = json_string_value(json_object_get(root, "bias"));
    if (!type || strcmp(type, "LORA") != 0) {
        return error_set(error, MLXR_UNSUPPORTED, CONFIG_NAME ": peft_type '%.60s'; LORA is supported",
                         type ? type : "");
    }
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        if (json_is_true(json_object_get(root, switches[i]))) {
            return error_set(error, MLXR_UNSUPPORTED, CONFIG_NAME ": '%s' is not supported", switches[i]);
        }
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *value = json_object_get(root, lists[i]);
        if (value && !json_is_null(value) && (json_array_size(value) > 0 || json_object_size(value) > 0)) {
            return error_set(error, MLXR_UNSUPPORTED, CONFIG_NAME ": '%s' is not supported", lists[i]);
        }
    }
    if (bias && strcmp(bias, "none") != 0) {
        return error_set(error, MLXR_UNSUPPORTED, CONFIG_NAME ": biases ('%.40s') are not supported", bias);
    }
    return check_begin(json_string_value(json_object_get(root, "init_lora_weights")), error);
}

/* A pattern's name: PEFT has regular expressions here; all that training programs write are names, and PEFT itself
 * writes ".*\.name" where it has found a name's parameters by itself. */
static const char *pattern_name(const char *key)
{
    return strncmp(key, ".*\\.", 4) == 0 ? key + 4 : key;
}

static mlxr_status check_alphas(const json_t *alphas, mlxr_error *error)
{
    const char *key;
    json_t *value;
    if (alphas && !json_is_null(alphas) && !json_is_object(alphas)) {
        return error_set(error, MLXR_FORMAT, CONFIG_NAME ": 'alpha_pattern' is no object");
    }
    json_object_foreach((json_t *)(uintptr_t)alphas, key, value)
    {
        if (strpbrk(pattern_name(key), "\\*+?[](){}|^$")) {
            return error_set(error, MLXR_UNSUPPORTED, CONFIG_NAME ": alpha_pattern '%.80s': names alone are supported",
                             key);
        }
        if (!(json_number_value(value) > 0)) {
            return error_set(error, MLXR_FORMAT, CONFIG_NAME ": alpha of '%.80s' is no number above 0", key);
        }
    }
    return MLXR_OK;
}

/* PEFT's patterns: the whole name of a module or parameter, or its end behind a dot. */
static double patterned(const json_t *pattern, const char *module, double otherwise)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)pattern, key, value)
    {
        key = pattern_name(key);
        size_t n = strlen(key), n_module = strlen(module);
        if (n > 0 && text_ends_with(module, key) && (n == n_module || module[n_module - n - 1] == '.')) {
            return json_number_value(value);
        }
    }
    return otherwise;
}

/* The ends of a pair's names. */
static const char *const ends[][2] = {{".lora_A.weight", ".lora_B.weight"}, {".lora_embedding_A", ".lora_embedding_B"}};
#define BASE_END ".base_layer"

/* A tensor's name, taken apart. */
typedef struct peft_name {
    char module[NAME_ROOM]; /* "model.layers.0.self_attn.q_proj", with BASE_END where another adapter is around it */
    bool embedding, is_a;
} peft_name;

/* "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" → its module, and what of it. */
static bool split_name(const char *name, peft_name *out)
{
    static const char before[] = "base_model.model.";
    size_t n_before = sizeof before - 1, n = strlen(name);
    if (strncmp(name, before, n_before) != 0) {
        return false;
    }
    for (size_t i = 0; i < 4; i++) {
        const char *end = ends[i / 2][i % 2];
        if (text_ends_with(name, end)) {
            out->embedding = i / 2;
            out->is_a = i % 2 == 0;
            snprintf(out->module, NAME_ROOM, "%.*s", (int)(n - n_before - strlen(end)), name + n_before);
            return true;
        }
    }
    return false;
}

/* Beside the pair of an embedding, or of the output matrix, PEFT saves the model's own matrix: a copy. */
static bool is_copy(const name_index *index, const char *name)
{
    static const char end[] = BASE_END ".weight";
    char pair[NAME_ROOM + 48];
    for (size_t i = 0; text_ends_with(name, end) && i < sizeof ends / sizeof *ends; i++) {
        snprintf(pair, sizeof pair, "%.*s%s", (int)(strlen(name) - (sizeof end - 1)), name, ends[i][0]);
        if (name_index_find(index, pair) != NAME_INDEX_NONE) {
            return true;
        }
    }
    return false;
}

/* The number behind "layers."; false: there is none. */
static bool layer_of(const char *module, unsigned *layer)
{
    const char *at = strstr(module, "layers.");
    char behind = 0;
    return at && sscanf(at, "layers.%6u%c", layer, &behind) == 2 && behind == '.';
}

/* PEFT names a parameter of all experts by the module that has it: which one of them it is, its shape tells. */
static bool name_parameter(adapter_target *t, char *module, const lora_config *c, char *ours)
{
    const adapter_model *m = c->of;
    uint64_t n_in = t->a->shape[0], n_out = t->b->shape[1];
    bool first = n_in == m->n_expert_in && n_out == (m->ungated ? 1u : 2u) * (uint64_t)m->n_ff_expert;
    bool last = n_in == m->n_ff_expert && n_out == m->n_expert_in;
    unsigned layer;
    while (text_ends_with(module, BASE_END)) {
        module[strlen(module) - strlen(BASE_END)] = 0;
    }
    if (m->n_expert == 0 || first == last || !text_ends_with(module, ".experts") || !layer_of(module, &layer)) {
        return false;
    }
    const char *part = last ? "down" : m->ungated ? "up" : "gate_up";
    snprintf(ours, NAME_ROOM, "blk.%u.ffn_%s_exps.weight", layer, part);
    size_t n = strlen(module);
    snprintf(module + n, NAME_ROOM - n, ".%s_proj", part); /* which patterns see */
    return true;
}

/* Fills t->name with ours. False: no model of this family has it. */
static bool name_target(adapter_target *t, peft_name *name, const hf_config *names, const lora_config *c, char *ours)
{
    char theirs[NAME_ROOM + 8];
    unsigned change;
    snprintf(theirs, sizeof theirs, "%s.weight", name->module);
    bool known = hf_tensor_name(names, theirs, ours, NAME_ROOM, &change) == HF_KEEP && strcmp(theirs, ours) != 0;
    t->name = ours;
    if (known) {
        t->layout = strstr(ours, "_exps.") ? ADAPTER_PARAMETER : ADAPTER_MATRIX;
        return !change && adapter_is_table(ours) == name->embedding;
    }
    t->layout = ADAPTER_PARAMETER;
    t->zipped = strcmp(names->class->model_type, "gpt_oss") == 0;
    return !name->embedding && name_parameter(t, name->module, c, ours);
}

static mlxr_status read_pair(adapter_file *f, adapter_target *targets, const tensor *a, const tensor *b,
                             peft_name *name, const hf_config *names, const lora_config *c, mlxr_error *error)
{
    adapter_target t = {.a = a, .b = b};
    char ours[NAME_ROOM];
    if (!name_target(&t, name, names, c, ours)) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "adapter tensor '%s' [%llu, %llu] changes what no %s model takes adapters for", a->name,
                         (unsigned long long)a->shape[0], (unsigned long long)a->shape[1], c->of->arch);
    }
    if (t.layout == ADAPTER_PARAMETER && dtype_row_bytes(b->type, 1) == 0) {
        return error_set(error, MLXR_UNSUPPORTED, "adapter tensor '%s' has type %s; experts' must be of floats",
                         b->name, dtype_name(b->type));
    }
    return add_target(f, targets, t, patterned(c->alphas, name->module, c->alpha), c, error);
}

static mlxr_status read_pairs(adapter_file *f, const tensor_list *list, const lora_config *c, mlxr_error *error)
{
    hf_config names = {.class = hf_class_of(c->of->arch), .n_layers = c->of->n_layers};
    adapter_target *targets = region_array(&f->memory, list->n + 1, sizeof *targets);
    name_index index;
    if (!targets) {
        return error_nomem(error, "adapter", list->n * sizeof *targets);
    }
    if (!names.class) {
        return error_set(error, MLXR_UNSUPPORTED, "adapters of safetensors are not supported for %s models",
                         c->of->arch);
    }
    f->targets = targets;
    mlxr_status status = name_index_open(&index, &f->memory, list->tensors, sizeof *list->tensors, list->n, "tensor",
                                         error);
    for (uint64_t i = 0; i < list->n && status == MLXR_OK; i++) {
        const tensor *t = &list->tensors[i];
        char other_name[NAME_ROOM + 48];
        peft_name name;
        if (is_copy(&index, t->name)) {
            continue;
        }
        if (!split_name(t->name, &name)) {
            return error_set(error, MLXR_UNSUPPORTED,
                             "adapter tensor '%s': only lora_A and lora_B of linear layers, and of embeddings, are "
                             "supported",
                             t->name);
        }
        snprintf(other_name, sizeof other_name, "base_model.model.%s%s", name.module, ends[name.embedding][name.is_a]);
        uint64_t other = name_index_find(&index, other_name);
        if (other == NAME_INDEX_NONE) {
            return error_set(error, MLXR_FORMAT, "adapter tensor '%s' is missing", other_name);
        }
        status = name.is_a ? read_pair(f, targets, t, &list->tensors[other], &name, &names, c, error) : MLXR_OK;
    }
    return status;
}

static mlxr_status read_peft(adapter_file *f, lora_config *c, mlxr_error *error)
{
    json_t *root = NULL;
    tensor_list list = {0};
    const hf_config no_class = {0};
    mlxr_status status = safetensors_parse_json(&root, f->config_text, CONFIG_NAME, error);
    if (status == MLXR_OK) {
        status = check_peft(root, error);
    }
    if (status == MLXR_OK) {
        c->alpha = json_number_value(json_object_get(root, "lora_alpha"));
        c->rank_stable = json_is_true(json_object_get(root, "use_rslora"));
        c->alphas = json_object_get(root, "alpha_pattern");
        if (!(c->alpha > 0)) {
            status = error_set(error, MLXR_FORMAT, CONFIG_NAME ": 'lora_alpha' is no number above 0");
        }
        status = status == MLXR_OK ? check_alphas(c->alphas, error) : status;
    }
    if (status == MLXR_OK) {
        status = safetensors_read_part(&list, &f->weights, WEIGHTS_NAME, &no_class, &f->memory, error);
    }
    if (status == MLXR_OK) {
        f->halves = true;
        status = read_pairs(f, &list, c, error);
        const mapping config = {(const uint8_t *)f->config_text.data, f->config_text.n};
        hash_bytes(f, (const mapping[]){config, f->weights}, 2);
    }
    json_decref(root);
    return status;
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

/* Maps adapter_config.json and the weights beside it. */
static mlxr_status map_peft(adapter_file *f, const char *path, mlxr_error *error)
{
    size_t n = strlen(path);
    if (path_find(path) != PATH_FOLDER) {
        const char *slash = strrchr(path, '/');
        n = slash ? (size_t)(slash - path) : 0;
    }
    size_t cap = n + sizeof WEIGHTS_NAME + 2;
    char *name = region_alloc(&f->memory, cap);
    if (!name) {
        return error_nomem(error, "a path", cap);
    }
    snprintf(name, cap, "%.*s%s" CONFIG_NAME, (int)n, path, n ? "/" : "");
    mlxr_status status = mapping_open(&f->config, name, error);
    if (status == MLXR_OK) {
        snprintf(name, cap, "%.*s%s" WEIGHTS_NAME, (int)n, path, n ? "/" : "");
        status = mapping_open(&f->weights, name, error);
        f->config_text = (text_view){(const char *)f->config.data, f->config.n_bytes};
    }
    return status;
}

/* What the header of the weights has as configuration; nothing where they have no such header: eight bytes of its
 * length, which fits, and a JSON object. */
static mlxr_status find_config(adapter_file *f, mlxr_error *error)
{
    uint64_t n = 0;
    json_t *root = NULL;
    if (f->weights.n_bytes >= sizeof n) {
        memcpy(&n, f->weights.data, sizeof n);
    }
    if (n == 0 || n > f->weights.n_bytes - sizeof n || f->weights.data[sizeof n] != '{') {
        return MLXR_OK;
    }
    mlxr_status status = safetensors_parse_json(&root, (text_view){(const char *)f->weights.data + sizeof n, (size_t)n},
                                                "header", error);
    if (status != MLXR_OK) {
        return status;
    }
    const json_t *config = json_object_get(json_object_get(root, "__metadata__"), ADAPTER_CONFIG_KEY);
    if (json_is_string(config)) {
        size_t n_text = json_string_length(config);
        char *text = region_strndup(&f->memory, json_string_value(config), n_text);
        f->config_text = (text_view){text, n_text};
        status = text ? MLXR_OK : error_nomem(error, CONFIG_NAME, n_text);
    } else {
        status = error_set(error, MLXR_FORMAT,
                           "safetensors without a text '" ADAPTER_CONFIG_KEY "' among their metadata: give the folder "
                           "that has " CONFIG_NAME ", too, or a file called *.safetensors beside it");
    }
    json_decref(root);
    return status;
}

/* One file: GGUF, or weights with the configuration in them. */
static mlxr_status map_file(adapter_file *f, const char *path, mlxr_error *error)
{
    mlxr_status status = mapping_open(&f->weights, path, error);
    if (status == MLXR_OK) {
        status = find_config(f, error);
        status = status == MLXR_OK ? status : error_prefix(error, status, "%s", path);
    }
    if (status == MLXR_OK && !f->config_text.data) {
        mapping_close(&f->weights);
        status = model_file_open(&f->gguf, path, error);
    }
    return status;
}

/* What was opened becomes *out; else it is closed. `path` begins the error. */
static mlxr_status read_adapter(adapter_file *f, adapter_file **out, const char *path, lora_config *c,
                                mlxr_error *error)
{
    mlxr_status status = f->gguf ? read_gguf(f, c, error) : read_peft(f, c, error);
    if (status == MLXR_OK && f->n_targets == 0) {
        status = error_set(error, MLXR_FORMAT, "the adapter changes nothing");
    }
    if (status != MLXR_OK) {
        adapter_file_close(&f);
        return error_prefix(error, status, "%s", path);
    }
    *out = f;
    return MLXR_OK;
}

mlxr_status adapter_file_open(adapter_file **out, const char *path, const adapter_model *of, mlxr_error *error)
{
    adapter_file *f = calloc(1, sizeof *f);
    lora_config c = {.of = of};
    if (!f) {
        return error_nomem(error, "adapter", sizeof *f);
    }
    bool peft = path_find(path) == PATH_FOLDER || text_ends_with(path, ".safetensors");
    mlxr_status status = peft ? map_peft(f, path, error) : map_file(f, path, error);
    if (status != MLXR_OK) {
        adapter_file_close(&f);
        return status;
    }
    return read_adapter(f, out, path, &c, error);
}

mlxr_status adapter_file_open_memory(adapter_file **out, text_view config, const void *data, size_t n_bytes,
                                     const adapter_model *of, mlxr_error *error)
{
    adapter_file *f = calloc(1, sizeof *f);
    lora_config c = {.of = of};
    if (!f) {
        return error_nomem(error, "adapter", sizeof *f);
    }
    f->borrowed = true;
    f->config = (mapping){(const uint8_t *)config.data, config.n};
    f->config_text = config;
    f->weights = (mapping){data, n_bytes};
    mlxr_status status = config.data ? MLXR_OK : gguf_open_memory(&f->gguf, data, n_bytes, error);
    if (status != MLXR_OK) {
        adapter_file_close(&f);
        return status;
    }
    return read_adapter(f, out, "memory", &c, error);
}

void adapter_file_close(adapter_file **pointer)
{
    adapter_file *f = *pointer;
    *pointer = NULL;
    if (!f) {
        return;
    }
    model_file_close(&f->gguf);
    if (!f->borrowed) {
        mapping_close(&f->weights);
        mapping_close(&f->config);
    }
    region_close(&f->memory);
    free(f);
}
