/*
 * Manifests of Ollama's registry: which files a model is made of. Untrusted: every size, digest and type is checked.
 * Owner: the caller's struct. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_MANIFEST_H
#define MLXR_REGISTRY_MANIFEST_H

#include "registry/registry.h"

#define MANIFEST_LAYERS_MAX 64u
#define MANIFEST_BYTES_MAX ((size_t)1 << 20)

typedef enum manifest_kind {
    MANIFEST_MODEL,
    MANIFEST_ADAPTER,
    MANIFEST_PROJECTOR,
    MANIFEST_TEMPLATE,
    MANIFEST_SYSTEM,
    MANIFEST_PARAMETERS,
    MANIFEST_MESSAGES,
    MANIFEST_LICENSE,
    MANIFEST_CONFIG,
    MANIFEST_OTHER,
} manifest_kind;

typedef struct manifest_layer {
    manifest_kind kind;
    char digest[REGISTRY_DIGEST_MAX];
    uint64_t n_bytes;
} manifest_layer;

typedef struct manifest {
    manifest_layer layers[MANIFEST_LAYERS_MAX + 1]; /* the configuration is the last */
    size_t n_layers;
    uint64_t n_bytes; /* of all of them */
} manifest;

mlxr_status manifest_parse(manifest *out, const char *text, size_t n, mlxr_error *error);
/* The JSON of a "params" layer as parameters: numbers, booleans, texts, and lists of texts ("stop"). */
mlxr_status manifest_parameters(registry_pairs *out, const char *text, size_t n, mlxr_error *error);
/* The JSON of a "messages" layer: [{"role", "content"}]. */
mlxr_status manifest_messages(registry_pairs *out, const char *text, size_t n, mlxr_error *error);

#endif
