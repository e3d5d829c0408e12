/*
 * Is a plan well-formed, and does a step fit it? What every backend asks before it computes.
 * Owner: none. Lifetime: the call. Any thread.
 */
#ifndef MLXR_KERNELS_PLAN_CHECK_H
#define MLXR_KERNELS_PLAN_CHECK_H

#include "kernels/backend.h"

/* "linear", "kv_write", … */
const char *plan_kind_name(op_kind kind);

/* How many operations there are up to the last one that later rows depend on. Behind it only wanted rows need be
 * computed. */
uint32_t plan_serving_ops(const plan *p);

/* Refuses plans that are not well-formed, in words. */
mlxr_status plan_check(const plan *p, mlxr_error *error);

/* Refuses steps whose tokens, slices, wanted rows or KV memory do not fit the plan. */
mlxr_status step_check(const plan *p, const step *s, mlxr_error *error);

#endif
