/*
 * swiglu_mlp_fused: y = activation(x · gateᵀ) ∘ (x · upᵀ), the first half of a gated MLP in one pass over x: SiLU
 * (Llama, Qwen) or GELU's tanh form (Gemma's GEGLU). Weights as q_gemm_dequant takes them. gated_apply: the same behind
 * two products of the matrix form, for many rows.
 *
 * A simdgroup takes two outputs: two rows of gate and two of up, which the lanes walk together (multiply_rows), so that
 * x is loaded once for four rows of weights and neither product ever lies in memory. ROWS (1 or 4) rows of x share what
 * was unpacked.
 *
 * Threadgroup memory: none. Groups of 64 threads or any other number of simdgroups, no barriers, about 60 registers
 * (ROWS 1): occupancy is limited by registers alone, and an MLP of 11,008 makes 2,752 groups.
 *
 * Owner: none. Lifetime: the dispatch.
 */
#include "quant.h"

namespace mlxr
{

/* x σ(x), and GELU's tanh form as x σ(2u), which keeps its digits where the tanh comes near −1. */
inline float activate(float x, bool gelu)
{
    float u = gelu ? 1.5957691216057308f * (x + 0.044715f * x * x * x) : x;
    return x / (1.0f + precise::exp(-u));
}

} // namespace mlxr

/* Grid: x simdgroups for outputs / 2, y rows / ROWS. */
template <typename T, int TYPE, int ROWS>
[[kernel]] void swiglu_mlp_fused(const device T *x [[buffer(0)]], const device uchar *gate [[buffer(1)]],
                                 const device uchar *up [[buffer(2)]], const constant uint *params [[buffer(3)]],
                                 device T *y [[buffer(4)]],
                                 uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
                                 uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
                                 uint simdgroups_per_threadgroup [[simdgroups_per_threadgroup]],
                                 uint thread_index_in_simdgroup [[thread_index_in_simdgroup]])
{
    mlxr::product_params p = mlxr::product_read(params);
    uint lane = thread_index_in_simdgroup, row = threadgroup_position_in_grid.y * ROWS;
    uint simdgroup = threadgroup_position_in_grid.x * simdgroups_per_threadgroup + simdgroup_index_in_threadgroup;
    uint first = simdgroup * 2, last = p.n_out - 1;
    if (first > last) {
        return;
    }
    ulong one = ulong(first) * p.row_bytes, other = ulong(min(first + 1, last)) * p.row_bytes;
    mlxr::products4<ROWS> all = mlxr::multiply_rows<T, TYPE, ROWS>(x, gate + one, gate + other, up + one, up + other, p,
                                                                   row, lane);
    for (uint o = 0; o < 2; o++) {
        for (uint r = 0; r < uint(ROWS); r++) {
            if (lane == o * ROWS + r && first + o <= last && row + r < p.n_rows) {
                y[ulong(row + r) * p.n_out + first + o] = T(mlxr::activate(all.sums[o][r], p.last != 0) *
                                                            all.sums[2 + o][r]);
            }
        }
    }
}

/* params: n_rows, width, gate_stride, up_stride, gelu. Grid: x width / 4, y rows. */
template <typename T>
[[kernel]] void gated_apply(const device T *gate [[buffer(0)]], const device T *up [[buffer(1)]],
                            const constant uint *params [[buffer(2)]], device T *y [[buffer(3)]],
                            uint3 thread_position_in_grid [[thread_position_in_grid]])
{
    uint width = params[1], row = thread_position_in_grid.y, first = thread_position_in_grid.x * 4;
    if (row >= params[0]) {
        return;
    }
    for (uint i = first; i < min(first + 4, width); i++) {
        float g = float(gate[ulong(row) * params[2] + i]), u = float(up[ulong(row) * params[3] + i]);
        y[ulong(row) * width + i] = T(mlxr::activate(g, params[4] != 0) * u);
    }
}

instantiate_kernel("swiglu_mlp_fused_f32_q4_0_1", swiglu_mlp_fused, float, mlxr::WEIGHT_Q4_0, 1);
instantiate_kernel("swiglu_mlp_fused_f32_q4_0_4", swiglu_mlp_fused, float, mlxr::WEIGHT_Q4_0, 4);
instantiate_kernel("swiglu_mlp_fused_f32_q4_1_1", swiglu_mlp_fused, float, mlxr::WEIGHT_Q4_1, 1);
instantiate_kernel("swiglu_mlp_fused_f32_q4_1_4", swiglu_mlp_fused, float, mlxr::WEIGHT_Q4_1, 4);
instantiate_kernel("swiglu_mlp_fused_f32_q8_0_1", swiglu_mlp_fused, float, mlxr::WEIGHT_Q8_0, 1);
instantiate_kernel("swiglu_mlp_fused_f32_q8_0_4", swiglu_mlp_fused, float, mlxr::WEIGHT_Q8_0, 4);
instantiate_kernel("swiglu_mlp_fused_f32_q2_k_1", swiglu_mlp_fused, float, mlxr::WEIGHT_Q2_K, 1);
instantiate_kernel("swiglu_mlp_fused_f32_q2_k_4", swiglu_mlp_fused, float, mlxr::WEIGHT_Q2_K, 4);
instantiate_kernel("swiglu_mlp_fused_f32_q3_k_1", swiglu_mlp_fused, float, mlxr::WEIGHT_Q3_K, 1);
instantiate_kernel("swiglu_mlp_fused_f32_q3_k_4", swiglu_mlp_fused, float, mlxr::WEIGHT_Q3_K, 4);
instantiate_kernel("swiglu_mlp_fused_f32_q4_k_1", swiglu_mlp_fused, float, mlxr::WEIGHT_Q4_K, 1);
instantiate_kernel("swiglu_mlp_fused_f32_q4_k_4", swiglu_mlp_fused, float, mlxr::WEIGHT_Q4_K, 4);
instantiate_kernel("swiglu_mlp_fused_f32_q5_k_1", swiglu_mlp_fused, float, mlxr::WEIGHT_Q5_K, 1);
instantiate_kernel("swiglu_mlp_fused_f32_q5_k_4", swiglu_mlp_fused, float, mlxr::WEIGHT_Q5_K, 4);
instantiate_kernel("swiglu_mlp_fused_f32_q6_k_1", swiglu_mlp_fused, float, mlxr::WEIGHT_Q6_K, 1);
instantiate_kernel("swiglu_mlp_fused_f32_q6_k_4", swiglu_mlp_fused, float, mlxr::WEIGHT_Q6_K, 4);
instantiate_kernel("swiglu_mlp_fused_f32_q8_k_1", swiglu_mlp_fused, float, mlxr::WEIGHT_Q8_K, 1);
instantiate_kernel("swiglu_mlp_fused_f32_q8_k_4", swiglu_mlp_fused, float, mlxr::WEIGHT_Q8_K, 4);
instantiate_kernel("swiglu_mlp_fused_f32_f32_1", swiglu_mlp_fused, float, mlxr::WEIGHT_F32, 1);
instantiate_kernel("swiglu_mlp_fused_f32_f32_4", swiglu_mlp_fused, float, mlxr::WEIGHT_F32, 4);
instantiate_kernel("swiglu_mlp_fused_f32_f16_1", swiglu_mlp_fused, float, mlxr::WEIGHT_F16, 1);
instantiate_kernel("swiglu_mlp_fused_f32_f16_4", swiglu_mlp_fused, float, mlxr::WEIGHT_F16, 4);
instantiate_kernel("swiglu_mlp_fused_f32_bf16_1", swiglu_mlp_fused, float, mlxr::WEIGHT_BF16, 1);
instantiate_kernel("swiglu_mlp_fused_f32_bf16_4", swiglu_mlp_fused, float, mlxr::WEIGHT_BF16, 4);
instantiate_kernel("gated_apply_f32", gated_apply, float);
instantiate_kernel("swiglu_mlp_fused_f16_q4_0_1", swiglu_mlp_fused, half, mlxr::WEIGHT_Q4_0, 1);
instantiate_kernel("swiglu_mlp_fused_f16_q4_0_4", swiglu_mlp_fused, half, mlxr::WEIGHT_Q4_0, 4);
instantiate_kernel("swiglu_mlp_fused_f16_q4_1_1", swiglu_mlp_fused, half, mlxr::WEIGHT_Q4_1, 1);
instantiate_kernel("swiglu_mlp_fused_f16_q4_1_4", swiglu_mlp_fused, half, mlxr::WEIGHT_Q4_1, 4);
instantiate_kernel("swiglu_mlp_fused_f16_q8_0_1", swiglu_mlp_fused, half, mlxr::WEIGHT_Q8_0, 1);
instantiate_kernel("swiglu_mlp_fused_f16_q8_0_4", swiglu_mlp_fused, half, mlxr::WEIGHT_Q8_0, 4);
instantiate_kernel("swiglu_mlp_fused_f16_q2_k_1", swiglu_mlp_fused, half, mlxr::WEIGHT_Q2_K, 1);
instantiate_kernel("swiglu_mlp_fused_f16_q2_k_4", swiglu_mlp_fused, half, mlxr::WEIGHT_Q2_K, 4);
instantiate_kernel("swiglu_mlp_fused_f16_q3_k_1", swiglu_mlp_fused, half, mlxr::WEIGHT_Q3_K, 1);
instantiate_kernel("swiglu_mlp_fused_f16_q3_k_4", swiglu_mlp_fused, half, mlxr::WEIGHT_Q3_K, 4);
instantiate_kernel("swiglu_mlp_fused_f16_q4_k_1", swiglu_mlp_fused, half, mlxr::WEIGHT_Q4_K, 1);
instantiate_kernel("swiglu_mlp_fused_f16_q4_k_4", swiglu_mlp_fused, half, mlxr::WEIGHT_Q4_K, 4);
instantiate_kernel("swiglu_mlp_fused_f16_q5_k_1", swiglu_mlp_fused, half, mlxr::WEIGHT_Q5_K, 1);
instantiate_kernel("swiglu_mlp_fused_f16_q5_k_4", swiglu_mlp_fused, half, mlxr::WEIGHT_Q5_K, 4);
instantiate_kernel("swiglu_mlp_fused_f16_q6_k_1", swiglu_mlp_fused, half, mlxr::WEIGHT_Q6_K, 1);
instantiate_kernel("swiglu_mlp_fused_f16_q6_k_4", swiglu_mlp_fused, half, mlxr::WEIGHT_Q6_K, 4);
instantiate_kernel("swiglu_mlp_fused_f16_q8_k_1", swiglu_mlp_fused, half, mlxr::WEIGHT_Q8_K, 1);
instantiate_kernel("swiglu_mlp_fused_f16_q8_k_4", swiglu_mlp_fused, half, mlxr::WEIGHT_Q8_K, 4);
instantiate_kernel("swiglu_mlp_fused_f16_f32_1", swiglu_mlp_fused, half, mlxr::WEIGHT_F32, 1);
instantiate_kernel("swiglu_mlp_fused_f16_f32_4", swiglu_mlp_fused, half, mlxr::WEIGHT_F32, 4);
instantiate_kernel("swiglu_mlp_fused_f16_f16_1", swiglu_mlp_fused, half, mlxr::WEIGHT_F16, 1);
instantiate_kernel("swiglu_mlp_fused_f16_f16_4", swiglu_mlp_fused, half, mlxr::WEIGHT_F16, 4);
instantiate_kernel("swiglu_mlp_fused_f16_bf16_1", swiglu_mlp_fused, half, mlxr::WEIGHT_BF16, 1);
instantiate_kernel("swiglu_mlp_fused_f16_bf16_4", swiglu_mlp_fused, half, mlxr::WEIGHT_BF16, 4);
instantiate_kernel("gated_apply_f16", gated_apply, half);
instantiate_kernel("swiglu_mlp_fused_bf16_q4_0_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q4_0, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_q4_0_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q4_0, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_q4_1_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q4_1, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_q4_1_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q4_1, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_q8_0_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q8_0, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_q8_0_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q8_0, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_q2_k_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q2_K, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_q2_k_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q2_K, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_q3_k_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q3_K, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_q3_k_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q3_K, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_q4_k_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q4_K, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_q4_k_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q4_K, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_q5_k_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q5_K, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_q5_k_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q5_K, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_q6_k_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q6_K, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_q6_k_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q6_K, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_q8_k_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q8_K, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_q8_k_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_Q8_K, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_f32_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_F32, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_f32_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_F32, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_f16_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_F16, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_f16_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_F16, 4);
instantiate_kernel("swiglu_mlp_fused_bf16_bf16_1", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_BF16, 1);
instantiate_kernel("swiglu_mlp_fused_bf16_bf16_4", swiglu_mlp_fused, bfloat, mlxr::WEIGHT_BF16, 4);
instantiate_kernel("gated_apply_bf16", gated_apply, bfloat);
