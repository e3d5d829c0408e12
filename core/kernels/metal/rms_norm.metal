/*
 * rms_norm: y = x / √(mean(x²) + ε) ∘ weight, over groups of `width` elements.
 *
 * x is [n_rows][n_groups][width] at any strides: a row of a matrix is one group, a head of a row (QK-norm) one of many.
 * y is contiguous. One threadgroup takes one group.
 *
 * Threadgroup memory: 32 floats (128 bytes), one for each simdgroup's sum. Occupancy: nothing but registers limits it;
 * the launch takes width / 4 threads, in whole simdgroups, at most 1,024 (mlxr's metal_rms_norm_launch), so that a row
 * of 4,096 is read once, 16 bytes a lane, and needs no second pass over memory: what a thread has read it keeps (up to
 * KEPT vectors; wider groups are read again, from cache).
 *
 * Owner: none. Lifetime: the dispatch.
 */
#include "common.h"

namespace mlxr
{

struct rms_norm_params {
    uint width, n_groups;
    uint row_stride, group_stride, element_stride;
    float eps;
    bool weighted;
};

/* params: the same in words, in this order */
template <typename Words> inline rms_norm_params rms_norm_read(Words params)
{
    rms_norm_params p;
    p.width = params[0];
    p.n_groups = params[1];
    p.row_stride = params[2];
    p.group_stride = params[3];
    p.element_stride = params[4];
    p.eps = word_float(params[5]);
    p.weighted = params[6] != 0;
    return p;
}

/* The sum over a threadgroup; `sums` has room for one float a simdgroup. */
inline float sum_threadgroup(float x, threadgroup float *sums, uint simdgroup, uint n_simdgroups, uint lane)
{
    x = simd_sum(x);
    if (lane == 0) {
        sums[simdgroup] = x;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return simd_sum(lane < n_simdgroups ? sums[lane] : 0.0f);
}

constant constexpr uint KEPT = 4;

} // namespace mlxr

template <typename T>
[[kernel]] void rms_norm(const device T *x [[buffer(0)]], const device float *weight [[buffer(1)]],
                         const constant uint *params [[buffer(2)]], device T *y [[buffer(3)]],
                         uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
                         uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]],
                         uint3 threads_per_threadgroup [[threads_per_threadgroup]],
                         uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
                         uint simdgroups_per_threadgroup [[simdgroups_per_threadgroup]],
                         uint thread_index_in_simdgroup [[thread_index_in_simdgroup]])
{
    threadgroup float sums[SIMD_WIDTH];
    mlxr::rms_norm_params p = mlxr::rms_norm_read(params);
    uint group = threadgroup_position_in_grid.x, first = thread_position_in_threadgroup.x;
    uint n_threads = threads_per_threadgroup.x;
    const device T *from = x + ulong(group / p.n_groups) * p.row_stride + group % p.n_groups * p.group_stride;
    device T *to = y + ulong(group) * p.width;
    /* vectors where every group begins at a multiple of four elements */
    bool by_four = ((p.width | p.row_stride | p.group_stride) & 3) == 0 && p.element_stride == 1;
    float sum = 0.0f;
    float4 kept[mlxr::KEPT];
    if (by_four) {
        uint n = p.width / 4, k = 0;
        for (uint i = first; i < n; i += n_threads, k++) {
            float4 v = mlxr::load4(from + 4 * i);
            if (k < mlxr::KEPT) {
                kept[k] = v;
            }
            sum += dot(v, v);
        }
    } else {
        for (uint i = first; i < p.width; i += n_threads) {
            float v = float(from[ulong(i) * p.element_stride]);
            sum += v * v;
        }
    }
    sum = mlxr::sum_threadgroup(sum, sums, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup,
                                thread_index_in_simdgroup);
    float factor = precise::rsqrt(sum / float(p.width) + p.eps);
    if (by_four) {
        uint n = p.width / 4, k = 0;
        for (uint i = first; i < n; i += n_threads, k++) {
            float4 v = k < mlxr::KEPT ? kept[k] : mlxr::load4(from + 4 * i);
            float4 w = p.weighted ? mlxr::load4(weight + 4 * i) : float4(1.0f);
            mlxr::store4(to + 4 * i, v * factor * w);
        }
    } else {
        for (uint i = first; i < p.width; i += n_threads) {
            float w = p.weighted ? weight[i] : 1.0f;
            to[i] = T(float(from[ulong(i) * p.element_stride]) * factor * w);
        }
    }
}

instantiate_kernel("rms_norm_f32", rms_norm, float);
instantiate_kernel("rms_norm_f16", rms_norm, half);
instantiate_kernel("rms_norm_bf16", rms_norm, bfloat);
