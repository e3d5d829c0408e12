/*
 * Adapters bound to a model's plan: which matrix product of it gets what added.
 * Owner: the adapter of the runtime. Lifetime: its own; the file may be closed once it is bound. Immutable.
 */
#ifndef MLXR_GRAPH_ADAPTER_H
#define MLXR_GRAPH_ADAPTER_H

#include "graph/graph.h"
#include "loaders/adapter_file.h"

typedef struct graph_adapter {
    adapter_product *products; /* [n_products] by OP_ADAPT's number; rank 0: as it was */
    uint32_t n_products;
    uint64_t n_bytes;
} graph_adapter;

/* A target that no product of the plan has is an error that names it, and so is a wrong shape. `model`: the file that g
 * was built of. */
mlxr_status graph_adapter_bind(graph_adapter *out, const graph *g, const model_file *model, const adapter_file *file,
                               region *memory, mlxr_error *error);

/* Which row of the adapter's B belongs to a row of the model's matrix: GGUF has what RoPE turns of Q and K as pairs in
 * some families, Hugging Face as halves. */
uint64_t graph_adapter_row(const hparams *h, bool model_halves, bool adapter_halves, const char *name, uint64_t row);

/* The plan with an OP_ADAPT behind each matrix product. NULL: no memory. */
const plan *graph_adapted_plan(const plan *p, region *memory);

#endif
