/*
 * Adapters bound to a model's plan: which matrix product of it gets what added.
 * Owner: the adapter of the runtime. Lifetime: its own; the file may be closed once it is bound. Immutable.
 */
#ifndef MLXR_GRAPH_ADAPTER_H
#define MLXR_GRAPH_ADAPTER_H

#include "graph/graph.h"
#include "loaders/adapter_file.h"

typedef struct graph_adapter {
    adapter_product *products; /* [n_products] by OP_ADAPT's or experts' number; rank 0: as it was */
    uint32_t n_products;
    uint64_t n_bytes;
} graph_adapter;

/* A target that no product of the plan has is an error that names it, and so is a wrong shape. `model`: the file that g
 * was built of. */
mlxr_status graph_adapter_bind(graph_adapter *out, const graph *g, const model_file *model, const adapter_file *file,
                               region *memory, mlxr_error *error);

/* What of a model a file of adapters is read for. */
adapter_model graph_adapter_model(const hparams *h);

/* The matrices of experts that a target changes, by its name. */
typedef struct adapter_experts {
    uint32_t layer;
    bool of[3];      /* gate, up, down */
    uint32_t expert; /* UINT32_MAX: all */
} adapter_experts;

/* False: it is of no experts. */
bool graph_adapter_experts(const char *name, adapter_experts *out);

/* The row of B that is row `row` of an expert's gate, up or down (`part` 0 to 2). */
uint64_t graph_adapter_expert_row(const adapter_target *t, const adapter_experts *x, uint32_t part, uint64_t row);

/* Has the target the shape of n_experts such matrices? n_in and n_ff are an expert's. */
bool graph_adapter_fits(const adapter_target *t, const adapter_experts *x, uint32_t n_expert, uint64_t n_in,
                        uint64_t n_ff);

/* Which row of the adapter's B belongs to a row of the model's matrix: GGUF has what RoPE turns of Q and K as pairs in
 * some families, Hugging Face as halves. */
uint64_t graph_adapter_row(const hparams *h, bool model_halves, bool adapter_halves, const char *name, uint64_t row);

/* GGUF has a family's multipliers in its weights, a folder beside them: adapters of the other kind do not fit. */
mlxr_status graph_adapter_form_fits(const hparams *h, bool model_halves, bool adapter_halves, mlxr_error *error);

/* The plan with an OP_ADAPT behind each matrix product and each look-up of tokens, and experts that adapters add to.
 * NULL: no memory. */
const plan *graph_adapted_plan(const plan *p, region *memory);

#endif
