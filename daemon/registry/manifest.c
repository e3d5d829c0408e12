/*
 * Manifests of Ollama's registry.
 * Owner: the caller's struct. Lifetime: the call.
 */
#include "registry/manifest.h"

#include <stdio.h>
#include <string.h>

#include "registry/inside.h"

/* JSON from a stranger: no duplicate keys, no NUL in texts, an end to its depth (jansson's 2,048) and length. */
static mlxr_status load(json_t **out, const char *what, const char *text, size_t n, mlxr_error *error)
{
    json_error_t where;
    if (n > MANIFEST_BYTES_MAX) {
        return daemon_error(error, MLXR_LIMIT, "%s has %zu bytes; %zu are taken", what, n, MANIFEST_BYTES_MAX);
    }
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    return *out ? MLXR_OK
                : daemon_error(error, MLXR_FORMAT, "%s is no JSON: line %d: %s", what, where.line, where.text);
}

static manifest_kind kind_of(const char *type)
{
    static const struct {
        const char *type;
        manifest_kind kind;
    } kinds[] = {
        {"application/vnd.ollama.image.model", MANIFEST_MODEL},
        {"application/vnd.ollama.image.adapter", MANIFEST_ADAPTER},
        {"application/vnd.ollama.image.projector", MANIFEST_PROJECTOR},
        {"application/vnd.ollama.image.template", MANIFEST_TEMPLATE},
        {"application/vnd.ollama.image.prompt", MANIFEST_TEMPLATE},
        {"application/vnd.mlxr.image.template", MANIFEST_TEMPLATE}, /* Jinja */
        {"application/vnd.ollama.image.system", MANIFEST_SYSTEM},
        {"application/vnd.ollama.image.params", MANIFEST_PARAMETERS},
        {"application/vnd.ollama.image.messages", MANIFEST_MESSAGES},
        {"application/vnd.ollama.image.license", MANIFEST_LICENSE},
        {"application/vnd.docker.container.image.v1+json", MANIFEST_CONFIG},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) == 0) {
            return kinds[i].kind;
        }
    }
    return MANIFEST_OTHER;
}

static mlxr_status read_layer(manifest *m, const json_t *layer, mlxr_error *error)
{
    const char *type = json_string_value(json_object_get(layer, "mediaType"));
    const char *digest = json_string_value(json_object_get(layer, "digest"));
    const json_t *size = json_object_get(layer, "size");
    manifest_layer *out = &m->layers[m->n_layers];
    if (!type || !digest || !registry_digest_parse(digest, out->digest)) {
        return daemon_error(error, MLXR_FORMAT,
                            "layer %zu of the manifest has no type, or no digest of the form sha256:…", m->n_layers);
    }
    if (!json_is_integer(size) || json_integer_value(size) < 0 || json_integer_value(size) > (json_int_t)1 << 50 ||
        m->n_bytes + (uint64_t)json_integer_value(size) > (uint64_t)1 << 50) {
        return daemon_error(error, MLXR_FORMAT, "layer %zu of the manifest has no size that is possible", m->n_layers);
    }
    out->kind = kind_of(type);
    out->n_bytes = (uint64_t)json_integer_value(size);
    m->n_bytes += out->n_bytes;
    m->n_layers++;
    return MLXR_OK;
}

static mlxr_status read_manifest(manifest *m, const json_t *root, mlxr_error *error)
{
    const json_t *layers = json_object_get(root, "layers"), *config = json_object_get(root, "config");
    const json_t *version = json_object_get(root, "schemaVersion");
    size_t n_models = 0;
    if (json_object_get(root, "manifests")) {
        return daemon_error(error, MLXR_UNSUPPORTED, "this is an index of manifests, not the manifest of a model");
    }
    if (!json_is_integer(version) || json_integer_value(version) != 2 || !json_is_array(layers)) {
        return daemon_error(error, MLXR_FORMAT, "this is no manifest of version 2 with layers");
    }
    if (json_array_size(layers) > MANIFEST_LAYERS_MAX) {
        return daemon_error(error, MLXR_LIMIT, "the manifest has %zu layers; %u are taken", json_array_size(layers),
                            MANIFEST_LAYERS_MAX);
    }
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < json_array_size(layers) && status == MLXR_OK; i++) {
        status = read_layer(m, json_array_get(layers, i), error);
        n_models += status == MLXR_OK && m->layers[i].kind == MANIFEST_MODEL;
    }
    if (status == MLXR_OK && json_is_object(config)) {
        status = read_layer(m, config, error);
        if (status == MLXR_OK) {
            m->layers[m->n_layers - 1].kind = MANIFEST_CONFIG;
        }
    }
    if (status == MLXR_OK && n_models != 1) {
        status = daemon_error(error, n_models ? MLXR_UNSUPPORTED : MLXR_FORMAT,
                              "the manifest has %zu layers with weights; exactly one is needed", n_models);
    }
    return status;
}

mlxr_status manifest_parse(manifest *out, const char *text, size_t n, mlxr_error *error)
{
    json_t *root = NULL;
    *out = (manifest){0};
    mlxr_status status = load(&root, "the manifest", text, n, error);
    if (status == MLXR_OK) {
        status = read_manifest(out, root, error);
        json_decref(root);
    }
    return status;
}

/* One value as text. out: 64 bytes, for numbers. NULL: it is none. */
static const char *value_text(const json_t *value, char *out)
{
    if (json_is_string(value)) {
        return json_string_value(value);
    }
    if (json_is_integer(value)) {
        snprintf(out, 64, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        snprintf(out, 64, "%.9g", json_real_value(value));
    } else if (json_is_boolean(value)) {
        snprintf(out, 64, "%s", json_is_true(value) ? "true" : "false");
    } else {
        return NULL;
    }
    return out;
}

mlxr_status manifest_parameters(registry_pairs *out, const char *text, size_t n, mlxr_error *error)
{
    json_t *root = NULL, *value;
    const char *key;
    char number[64];
    mlxr_status status = load(&root, "the file of parameters", text, n, error);
    if (status != MLXR_OK) {
        return status;
    }
    if (!json_is_object(root)) {
        status = daemon_error(error, MLXR_FORMAT, "the file of parameters is no JSON object");
    }
    json_object_foreach(root, key, value)
    {
        size_t n_values = json_is_array(value) ? json_array_size(value) : 1;
        for (size_t i = 0; i < n_values && status == MLXR_OK; i++) {
            const char *one = value_text(json_is_array(value) ? json_array_get(value, i) : value, number);
            if (!one || n_values > 256) {
                status = daemon_error(error, MLXR_FORMAT, "the parameter '%.60s' is no number, text or short list",
                                      key);
            } else if (!registry_pairs_add(out, key, one)) {
                status = registry_fail_nomem(error);
            }
        }
    }
    json_decref(root);
    return status;
}

mlxr_status manifest_messages(registry_pairs *out, const char *text, size_t n, mlxr_error *error)
{
    json_t *root = NULL;
    mlxr_status status = load(&root, "the file of messages", text, n, error);
    if (status != MLXR_OK) {
        return status;
    }
    if (!json_is_array(root)) {
        status = daemon_error(error, MLXR_FORMAT, "the file of messages is no list");
    }
    for (size_t i = 0; i < json_array_size(root) && status == MLXR_OK; i++) {
        const json_t *message = json_array_get(root, i);
        const char *role = json_string_value(json_object_get(message, "role"));
        const char *content = json_string_value(json_object_get(message, "content"));
        if (!role || !content) {
            status = daemon_error(error, MLXR_FORMAT, "message %zu has no role or no content", i);
        } else if (!registry_pairs_add(out, role, content)) {
            status = registry_fail_nomem(error);
        }
    }
    json_decref(root);
    return status;
}
