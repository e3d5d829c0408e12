/*
 * What the Metal kernels share: vectors of four in device memory, rotation, softmax in progress, the layout of a KV
 * page. Metal, not C: included by the .metal files beside it. Owner: none. Lifetime: the dispatch.
 */
#pragma once
#include <metal_simdgroup>
#include <metal_simdgroup_matrix>
#include <metal_stdlib>

using namespace metal;

#define SIMD_WIDTH 32

/* A kernel's template under a name that hosts find it by. */
#define instantiate_kernel(name, kernel_name, ...)                                                                     \
    template [[host_name(name)]] [[kernel]] decltype(kernel_name<__VA_ARGS__>) kernel_name<__VA_ARGS__>

namespace mlxr
{

/* Four neighbours at p, which lies at a multiple of four elements. */
template <typename T> inline float4 load4(const device T *p)
{
    return float4(*(const device vec<T, 4> *)p);
}

template <typename T> inline void store4(device T *p, float4 v)
{
    *(device vec<T, 4> *)p = vec<T, 4>(v);
}

/* The float that a word of parameters holds. */
inline float word_float(uint word)
{
    return as_type<float>(word);
}

/* cos and sin of position × frequency. The product is split in two floats, whose sum is exact, and multiples of 2π are
 * taken off in three steps: at position 100,000 the rounded product alone would be off by 0.004. */
inline float2 rope_turn(int position, float frequency)
{
    float p = float(position);
    float high = p * frequency;
    float low = fma(p, frequency, -high);
    float turns = rint(high * 0.15915494309189535f);
    float angle = fma(-turns, 6.28125f, high);
    angle = fma(-turns, 1.9340515136718750e-3f, angle);
    angle = fma(-turns, 1.2556659146019e-6f, angle) + low;
    return float2(precise::cos(angle), precise::sin(angle));
}

/* A softmax in progress: the largest score and Σ exp(score − max). */
struct soft {
    float max, sum;
};

/* exp(score − max), 0 where nothing has been seen: −∞ − −∞ is no number. */
inline float soft_weight(float score, float max)
{
    return score == -INFINITY ? 0.0f : precise::exp(score - max);
}

/* What Σ exp × value is multiplied by in the end: 1 / Σ exp, which a sink joins; 0 where nothing was seen. */
inline float soft_factor(soft s, bool has_sink, float sink)
{
    if (s.max == -INFINITY) {
        return 0.0f;
    }
    if (!has_sink) {
        return 1.0f / s.sum;
    }
    float top = max(s.max, sink), scale = precise::exp(s.max - top);
    return scale / (s.sum * scale + precise::exp(sink - top));
}

/* As stored in pages: half keeps to its finite range. */
template <typename KV> inline KV to_kv(float x)
{
    return KV(is_same_v<KV, half> ? clamp(x, -65504.0f, 65504.0f) : x);
}

/* Where rows of keys and values lie (core/kernels/kv_layout.h), in elements. A page holds page_tokens positions, a
 * power of two; one head's keys lie side by side. */
struct kv_place {
    ulong page;        /* elements of a page: all layers of the group */
    ulong layer;       /* where this layer begins in a page */
    uint head;         /* elements of one head: page_tokens × head_dim */
    uint values;       /* from a key to its value */
    uint tokens_shift; /* log2 page_tokens */
};

template <typename KV>
inline device KV *kv_key(device KV *pages, kv_place place, uint page, uint head, uint position, uint head_dim)
{
    uint within = position & ((1u << place.tokens_shift) - 1u);
    return pages + page * place.page + place.layer + head * place.head + within * head_dim;
}

} // namespace mlxr
