/*
 * Adapters on the device: their matrices as arrays, and what they add to a step's products.
 * Owner: the store is a program's. Lifetime: the program's; an adapter's arrays until others have been used since.
 * On the worker's thread only.
 */
#ifndef MLXR_KERNELS_MLX_ADAPTERS_H
#define MLXR_KERNELS_MLX_ADAPTERS_H

#include "kernels/backend.h"
#include "kernels/mlx/bridge.h"

typedef struct walk walk;

/* Adapters that no step asks for stay on the device up to this number. */
#define ADAPTERS_KEPT 16u

/* One adapter's matrices; they are copies, so that the adapter may go. */
typedef struct device_adapter {
    uint64_t name[2];
    uint64_t last_step;
    mlx_arena *arena;
    mlx_value **products; /* [n_products][2]: aᵀ [n_in, rank], b [rank, n_out], of experts [n_expert] such; NULL:
                             nothing is added, or by the host */
} device_adapter;

typedef struct adapter_store {
    device_adapter **list; /* [n] */
    size_t n, cap;
    uint64_t n_steps;
} adapter_store;

/* An adapter in a step. */
typedef struct walk_adapter {
    const device_adapter *on_device;
    const step_adapter *source;
    float *scales;                    /* [n_rows], 0 where a row's sequence does not have it */
    bool used, used_taken;            /* by any of the step's rows, and of those that are taken */
    mlx_value *factor, *factor_taken; /* a number, or [rows, 1]; NULL: 1 for all */
    bool one, one_taken;              /* that is a number */
} walk_adapter;

void adapter_store_close(adapter_store *store);

/* Whether two lists of adapters add the same. */
bool adapters_same(const step_slice *a, const step_slice *b);

/* Brings the step's adapters to the device. False: no memory, or the arena has failed. */
bool adapters_make(walk *w);
/* OP_ADAPT of a product */
mlx_value *walk_adapt(walk *w, const op *o);
/* Does any of the step's adapters add to a product? */
bool adapters_add(const step *s, uint32_t product);
/* Rows [n_rows][width] that adapters add to those of the step's tokens: OP_ADAPT behind OP_EMBED. */
void adapters_host_rows(const op *o, const step *s, float *rows);

/* What one of the step's adapters adds to a product, if anything. */
typedef struct adapter_term {
    const mlx_value *a, *b; /* as device_adapter.products; a NULL: nothing */
    mlx_value *factor;      /* as walk_adapter's */
    bool one;
} adapter_term;
adapter_term walk_adapter_term(const walk *w, uint32_t adapter, uint32_t product);

#endif
