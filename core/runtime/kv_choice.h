/*
 * The type of a model's KV cache where nobody named one: words (i16) where they are known to be no further from float32
 * than f16 and to be faster; else f16.
 * Owner: none; pure functions. Lifetime: the call.
 */
#ifndef MLXR_RUNTIME_KV_CHOICE_H
#define MLXR_RUNTIME_KV_CHOICE_H

#include "graph/graph.h"
#include "kernels/backend.h"

/* The name in options of what kv_type_choose decides. */
#define KV_TYPE_AUTO "auto"

/*
 * DTYPE_I16 or KV_TYPE_DEFAULT. A row of words has one step for all of its elements, one of floats a step for each: a
 * row of which few elements are far above the others loses with words. Where keys are normalised by head their norm's
 * weights tell beforehand how far that goes.
 */
dtype kv_type_choose(const graph *g, const backend_ops *ops);

#endif
