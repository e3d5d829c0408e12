/*
 * Units: the parts of our kernels that are judged, put aside and tuned each by itself on a device (check.h).
 * Owner: none; plain values. Lifetime: static.
 *
 * Products and gated products are a unit for each type of weights: what MLX does instead differs with it.
 */
#ifndef MLXR_KERNELS_MLX_UNITS_H
#define MLXR_KERNELS_MLX_UNITS_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/dtype.h"

#define UNIT_WEIGHTS 9u /* types of weights that our products know */
#define UNIT_NAME_MAX 40u

typedef enum kernel_unit {
    UNIT_RMS_NORM,
    UNIT_ROPE,
    UNIT_DECODE,
    UNIT_PREFILL,
    UNIT_PRODUCT,                                  /* + unit_weight of the type */
    UNIT_GATED = UNIT_PRODUCT + (int)UNIT_WEIGHTS, /* likewise */
    UNIT_COUNT = UNIT_GATED + (int)UNIT_WEIGHTS,
} kernel_unit;

/* What a program does with each unit. */
typedef struct unit_choices {
    bool off[UNIT_COUNT];
    uint32_t threads[UNIT_COUNT]; /* of a threadgroup; 0: what is thought best */
} unit_choices;

/* Which of UNIT_WEIGHTS a type is; −1: our products do not know it. */
int unit_weight(dtype type);
/* The type of a PRODUCT or GATED unit. */
dtype unit_type(kernel_unit unit);
/* As kernels' names have it: "q4_0". */
const char *unit_weight_name(dtype type);
/* "rms_norm", "q_gemm_dequant/q4_0", … */
void unit_name(kernel_unit unit, char out[UNIT_NAME_MAX]);
/* UNIT_COUNT: there is none of that name. */
kernel_unit unit_find(const char *name);
/* Can its threadgroups have other sizes than one? */
bool unit_has_sizes(kernel_unit unit);
/* Of the source text of all its kernels. */
uint64_t unit_digest(kernel_unit unit);
/* FNV-1a, 64 bits; begin with UNIT_DIGEST_BEGIN. */
#define UNIT_DIGEST_BEGIN 0xcbf29ce484222325u
uint64_t unit_digest_add(uint64_t digest, const void *data, size_t n_bytes);

#endif
