/*
 * Model contexts: how far models read, as clients are told it.
 * Owner: the caller. Lifetime: model_contexts_open to model_contexts_close. Any thread, one at a time.
 */
#ifndef MLXR_SERVER_MODEL_CONTEXTS_H
#define MLXR_SERVER_MODEL_CONTEXTS_H

#include "registry/registry.h"
#include "server/daemon_parts.h"

typedef struct model_contexts { /* what is loaded, as it was when this was opened */
    struct model_context {
        char *path;
        uint32_t n_ctx;
    } *items;
    size_t n, cap;
    uint32_t n_ctx_max; /* of the daemon's options; 0: none */
} model_contexts;

void model_contexts_open(model_contexts *c, const struct daemon *d);
/* Tokens. Of a loaded model what it reads, however --ctx and --rope-* have made it; of another one what it was trained
 * for, or --ctx where that is less: whether it can be stretched is known when it is loaded. 0: not known. */
uint32_t model_contexts_of(const model_contexts *c, const registry_model *m);
void model_contexts_close(model_contexts *c);

#endif
