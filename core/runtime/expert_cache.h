/*
 * Experts that do not all fit in memory: a policy (expert_policy.h) on top of the mapped file. Nothing is copied. What
 * a pass needs and was given up is asked for before its products; what falls out of the budget leaves this process's
 * memory, and the system may reuse its pages first. Hot experts stay because they are used; where the caller has named
 * a budget they are locked as well, as far as RLIMIT_MEMLOCK goes.
 *
 * Only where the backend computes from the file's own bytes, and the experts exceed their budget; else there is none.
 * Owner: the model. Lifetime: until expert_cache_close, before the file's. The engine's thread and its team's first.
 */
#ifndef MLXR_RUNTIME_EXPERT_CACHE_H
#define MLXR_RUNTIME_EXPERT_CACHE_H

#include "graph/graph.h"
#include "kernels/backend.h"
#include "loaders/model_file.h"

typedef struct expert_cache expert_cache;

typedef struct expert_cache_options {
    uint64_t n_bytes_max; /* for experts; 0: from memory */
    uint64_t n_bytes_all; /* memory for all weights, for a budget that is 0; 0: what is free, which is never exceeded */
} expert_cache_options;

/* *out is NULL where all experts fit, or none can be given back. */
mlxr_status expert_cache_open(expert_cache **out, const graph *g, const model_file *file,
                              const expert_cache_options *options, mlxr_error *error);
void expert_cache_close(expert_cache **cache);
/* Bytes of experts that could be read as they are needed: those whose weights lie in the file as they are used, of the
 * model and of the head that the graph was built with. */
uint64_t expert_cache_streamable(const graph *g, const model_file *file);
/* Would expert_cache_open open one? Known before weights are read. */
bool expert_cache_serves(const graph *g, const model_file *file, const expert_cache_options *options);
/* For step.experts. */
const step_experts *expert_cache_hook(const expert_cache *cache);
mlxr_expert_stats expert_cache_stats(const expert_cache *cache);

#endif
