/*
 * Names and sources of the parts of our kernels.
 * Owner: none. Lifetime: static.
 */
#include "kernels/mlx/units.h"

#include <stdio.h>
#include <string.h>

#include "kernels/metal_kernels.h"

static const struct {
    dtype type;
    const char *name;
} weights[UNIT_WEIGHTS] = {
    {DTYPE_Q4_0, "q4_0"}, {DTYPE_Q4_1, "q4_1"}, {DTYPE_Q8_0, "q8_0"}, {DTYPE_Q2_K, "q2_k"}, {DTYPE_Q3_K, "q3_k"},
    {DTYPE_Q4_K, "q4_k"}, {DTYPE_Q5_K, "q5_k"}, {DTYPE_Q6_K, "q6_k"}, {DTYPE_Q8_K, "q8_k"},
};

/* A family of units and the kernels it is made of. */
typedef struct unit_sources {
    const char *name;
    const char *kernels[4]; /* NULL at the end */
    bool sizes;
} unit_sources;

static const unit_sources *sources_of(kernel_unit unit)
{
    static const unit_sources norm = {"rms_norm", {"rms_norm"}, true};
    static const unit_sources rope = {"rope_apply", {"rope_apply"}, true};
    static const unit_sources decode = {
        "attention_decode_fused", {"attention_decode_fused", "attention_decode_merge", "kv_write"}, false};
    static const unit_sources prefill = {"attention_prefill_fused", {"attention_prefill_fused", "rope_table"}, false};
    static const unit_sources product = {"q_gemm_dequant", {"q_gemm_vector", "q_gemm_matrix"}, true};
    static const unit_sources gated = {"swiglu_mlp_fused", {"swiglu_mlp_fused"}, true};
    switch (unit) {
    case UNIT_RMS_NORM:
        return &norm;
    case UNIT_ROPE:
        return &rope;
    case UNIT_DECODE:
        return &decode;
    case UNIT_PREFILL:
        return &prefill;
    default:
        return unit < UNIT_GATED ? &product : &gated;
    }
}

int unit_weight(dtype type)
{
    for (int i = 0; i < (int)UNIT_WEIGHTS; i++) {
        if (weights[i].type == type) {
            return i;
        }
    }
    return -1;
}

dtype unit_type(kernel_unit unit)
{
    return weights[unit < UNIT_GATED ? unit - UNIT_PRODUCT : unit - UNIT_GATED].type;
}

const char *unit_weight_name(dtype type)
{
    int i = unit_weight(type);
    return i < 0 ? NULL : weights[i].name;
}

void unit_name(kernel_unit unit, char out[UNIT_NAME_MAX])
{
    bool typed = unit >= UNIT_PRODUCT;
    snprintf(out, UNIT_NAME_MAX, "%s%s%s", sources_of(unit)->name, typed ? "/" : "",
             typed ? unit_weight_name(unit_type(unit)) : "");
}

kernel_unit unit_find(const char *name)
{
    char own[UNIT_NAME_MAX];
    kernel_unit unit = UNIT_RMS_NORM;
    for (; unit < UNIT_COUNT; unit++) {
        unit_name(unit, own);
        if (strcmp(own, name) == 0) {
            break;
        }
    }
    return unit;
}

bool unit_has_sizes(kernel_unit unit)
{
    return sources_of(unit)->sizes;
}

uint64_t unit_digest_add(uint64_t digest, const void *data, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        digest = (digest ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    }
    return digest;
}

uint64_t unit_digest(kernel_unit unit)
{
    uint64_t digest = UNIT_DIGEST_BEGIN;
    for (const char *const *kernel = sources_of(unit)->kernels; *kernel; kernel++) {
        for (const metal_kernel_source *s = metal_kernel_sources; s->name; s++) {
            if (strcmp(s->name, *kernel) == 0) {
                digest = unit_digest_add(digest, s->header, strlen(s->header));
                digest = unit_digest_add(digest, s->body, strlen(s->body));
            }
        }
    }
    return digest;
}
