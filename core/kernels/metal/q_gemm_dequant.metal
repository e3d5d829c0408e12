/*
 * q_gemm_dequant: y = x · wᵀ (+ bias), with the weights as they lie in a GGUF file, unpacked on the way: Q4_0, Q4_1,
 * Q8_0, Q2_K … Q6_K, Q8_K (and F32, F16, BF16). n_in is a multiple of the format's block and of 32, rows of x begin at
 * multiples of four elements, the weight at a multiple of 16 bytes.
 *
 * q_gemm_vector, few rows: memory's speed is the limit. A simdgroup takes four rows of weights; its lanes lie side by
 * side along them, each with sixteen weights whose bits share the bytes it has loaded, so that every byte is loaded
 * once and by neighbours together; the inputs are loaded once for four rows of weights. ROWS (1 or 4) rows of x share
 * what was unpacked. Threadgroup memory: none. Groups of 64 threads or any other number of simdgroups, no barriers,
 * about 60 registers (ROWS 1): many groups fit a core, and a matrix of 4,096 rows makes 512 of them.
 *
 * q_gemm_matrix, many rows: tiles of 64 outputs × 32 rows by four simdgroups, 32 inputs at a time. Each thread unpacks
 * sixteen weights into threadgroup memory, then each simdgroup multiplies a quarter, 16 × 32, from 8×8 matrices: six
 * loads for eight products. Tiles are half for half, else float, sums always float. Rows in threadgroup memory are 16
 * bytes longer than 32 elements, so that eight rows begin in different banks. Threadgroup memory: 14,848 bytes in
 * float, 8,704 in half: two or three groups of 128 threads a core.
 *
 * Owner: none. Lifetime: the dispatch.
 */
#include "quant.h"

namespace mlxr
{

template <typename T> struct gemm_tile {
    typedef float type;
    enum { STRIDE = 36 };
};
template <> struct gemm_tile<half> {
    typedef half type;
    enum { STRIDE = 40 };
};

enum { TILE_OUTPUTS = 64, TILE_ROWS = 32, TILE_INPUTS = 32 };

} // namespace mlxr

/* Grid: x simdgroups for outputs / 4, y rows / ROWS. */
template <typename T, int TYPE, int ROWS>
[[kernel]] void q_gemm_vector(const device T *x [[buffer(0)]], const device uchar *weight [[buffer(1)]],
                              const device float *bias [[buffer(2)]], const constant uint *params [[buffer(3)]],
                              device T *y [[buffer(4)]],
                              uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
                              uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
                              uint simdgroups_per_threadgroup [[simdgroups_per_threadgroup]],
                              uint thread_index_in_simdgroup [[thread_index_in_simdgroup]])
{
    mlxr::product_params p = mlxr::product_read(params);
    uint lane = thread_index_in_simdgroup, row = threadgroup_position_in_grid.y * ROWS;
    uint simdgroup = threadgroup_position_in_grid.x * simdgroups_per_threadgroup + simdgroup_index_in_threadgroup;
    uint first = simdgroup * 4, last = p.n_out - 1;
    if (first > last) {
        return;
    }
    mlxr::products4<ROWS> all = mlxr::multiply_rows<T, TYPE, ROWS>(
        x, weight + ulong(first) * p.row_bytes, weight + ulong(min(first + 1, last)) * p.row_bytes,
        weight + ulong(min(first + 2, last)) * p.row_bytes, weight + ulong(min(first + 3, last)) * p.row_bytes, p, row,
        lane);
    for (uint o = 0; o < 4; o++) {
        for (uint r = 0; r < uint(ROWS); r++) {
            if (lane == o * ROWS + r && first + o <= last && row + r < p.n_rows) {
                float b = p.last ? bias[first + o] : 0.0f;
                y[ulong(row + r) * p.n_out + first + o] = T(all.sums[o][r] + b);
            }
        }
    }
}

/* Grid: x rows / 32 × 128 threads, y outputs / 64. */
template <typename T, int TYPE>
[[kernel]] void q_gemm_matrix(const device T *x [[buffer(0)]], const device uchar *weight [[buffer(1)]],
                              const device float *bias [[buffer(2)]], const constant uint *params [[buffer(3)]],
                              device T *y [[buffer(4)]],
                              uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
                              uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
                              uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
                              uint thread_index_in_simdgroup [[thread_index_in_simdgroup]])
{
    typedef typename mlxr::gemm_tile<T>::type tile;
    typedef mlxr::weight_format<TYPE> format;
    const uint stride = mlxr::gemm_tile<T>::STRIDE;
    threadgroup tile weights[mlxr::TILE_OUTPUTS * mlxr::gemm_tile<T>::STRIDE];
    threadgroup tile inputs[mlxr::TILE_ROWS * mlxr::gemm_tile<T>::STRIDE];
    threadgroup float staged[4][64];
    mlxr::product_params p = mlxr::product_read(params);
    uint thread_index = thread_index_in_threadgroup, lane = thread_index_in_simdgroup;
    uint simdgroup = simdgroup_index_in_threadgroup;
    uint first_row = threadgroup_position_in_grid.x * mlxr::TILE_ROWS;
    uint first_output = threadgroup_position_in_grid.y * mlxr::TILE_OUTPUTS;
    /* what a thread brings: sixteen weights of one row, eight inputs of another */
    uint output = thread_index / 2, run = thread_index % 2, row = thread_index / 4, column = thread_index % 4 * 8;
    const device uchar *w = weight + ulong(min(first_output + output, p.n_out - 1)) * p.row_bytes;
    const device T *from = x + ulong(min(first_row + row, p.n_rows - 1)) * p.x_stride + column;
    /* which quarter a simdgroup multiplies */
    uint quarter_row = simdgroup % 2 * 16, quarter_output = simdgroup / 2 * 32;
    simdgroup_matrix<float, 8, 8> sums[2][4];
    for (uint i = 0; i < 2; i++) {
        for (uint j = 0; j < 4; j++) {
            sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        }
    }
    for (uint k = 0; k < p.n_in; k += mlxr::TILE_INPUTS) {
        uint at = k + 16 * run;
        mlxr::weights16 unpacked = format::run(w + ulong(at / format::BLOCK) * format::BYTES, at % format::BLOCK / 16);
        float4 one = mlxr::load4(from + k), other = mlxr::load4(from + k + 4);
        threadgroup_barrier(mem_flags::mem_threadgroup); /* the last tiles are done with */
        for (uint j = 0; j < 4; j++) {
            float4 four = unpacked.q[j] * unpacked.scale[j] - unpacked.min[j];
            for (uint c = 0; c < 4; c++) {
                weights[output * stride + 16 * run + 4 * j + c] = tile(four[c]);
            }
        }
        for (uint c = 0; c < 4; c++) {
            inputs[row * stride + column + c] = tile(one[c]);
            inputs[row * stride + column + 4 + c] = tile(other[c]);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint i = 0; i < mlxr::TILE_INPUTS; i += 8) {
            simdgroup_matrix<tile, 8, 8> left[2], right[4];
            for (uint r = 0; r < 2; r++) {
                simdgroup_load(left[r], inputs + (quarter_row + 8 * r) * stride + i, stride);
            }
            for (uint o = 0; o < 4; o++) {
                simdgroup_load(right[o], weights + (quarter_output + 8 * o) * stride + i, stride, 0, true);
            }
            for (uint r = 0; r < 2; r++) {
                for (uint o = 0; o < 4; o++) {
                    simdgroup_multiply_accumulate(sums[r][o], left[r], right[o], sums[r][o]);
                }
            }
        }
    }
    for (uint r = 0; r < 2; r++) {
        for (uint o = 0; o < 4; o++) {
            simdgroup_barrier(mem_flags::mem_threadgroup);
            simdgroup_store(sums[r][o], staged[simdgroup], 8);
            simdgroup_barrier(mem_flags::mem_threadgroup);
            uint to_row = first_row + quarter_row + 8 * r + lane / 4;
            uint to_output = first_output + quarter_output + 8 * o + lane % 4 * 2;
            for (uint c = 0; c < 2; c++) {
                if (to_row < p.n_rows && to_output + c < p.n_out) {
                    float b = p.last ? bias[to_output + c] : 0.0f;
                    y[ulong(to_row) * p.n_out + to_output + c] = T(staged[simdgroup][2 * lane + c] + b);
                }
            }
        }
    }
}

instantiate_kernel("q_gemm_vector_f32_q4_0_1", q_gemm_vector, float, mlxr::WEIGHT_Q4_0, 1);
instantiate_kernel("q_gemm_vector_f32_q4_0_4", q_gemm_vector, float, mlxr::WEIGHT_Q4_0, 4);
instantiate_kernel("q_gemm_vector_f32_q4_1_1", q_gemm_vector, float, mlxr::WEIGHT_Q4_1, 1);
instantiate_kernel("q_gemm_vector_f32_q4_1_4", q_gemm_vector, float, mlxr::WEIGHT_Q4_1, 4);
instantiate_kernel("q_gemm_vector_f32_q8_0_1", q_gemm_vector, float, mlxr::WEIGHT_Q8_0, 1);
instantiate_kernel("q_gemm_vector_f32_q8_0_4", q_gemm_vector, float, mlxr::WEIGHT_Q8_0, 4);
instantiate_kernel("q_gemm_vector_f32_q2_k_1", q_gemm_vector, float, mlxr::WEIGHT_Q2_K, 1);
instantiate_kernel("q_gemm_vector_f32_q2_k_4", q_gemm_vector, float, mlxr::WEIGHT_Q2_K, 4);
instantiate_kernel("q_gemm_vector_f32_q3_k_1", q_gemm_vector, float, mlxr::WEIGHT_Q3_K, 1);
instantiate_kernel("q_gemm_vector_f32_q3_k_4", q_gemm_vector, float, mlxr::WEIGHT_Q3_K, 4);
instantiate_kernel("q_gemm_vector_f32_q4_k_1", q_gemm_vector, float, mlxr::WEIGHT_Q4_K, 1);
instantiate_kernel("q_gemm_vector_f32_q4_k_4", q_gemm_vector, float, mlxr::WEIGHT_Q4_K, 4);
instantiate_kernel("q_gemm_vector_f32_q5_k_1", q_gemm_vector, float, mlxr::WEIGHT_Q5_K, 1);
instantiate_kernel("q_gemm_vector_f32_q5_k_4", q_gemm_vector, float, mlxr::WEIGHT_Q5_K, 4);
instantiate_kernel("q_gemm_vector_f32_q6_k_1", q_gemm_vector, float, mlxr::WEIGHT_Q6_K, 1);
instantiate_kernel("q_gemm_vector_f32_q6_k_4", q_gemm_vector, float, mlxr::WEIGHT_Q6_K, 4);
instantiate_kernel("q_gemm_vector_f32_q8_k_1", q_gemm_vector, float, mlxr::WEIGHT_Q8_K, 1);
instantiate_kernel("q_gemm_vector_f32_q8_k_4", q_gemm_vector, float, mlxr::WEIGHT_Q8_K, 4);
instantiate_kernel("q_gemm_matrix_f32_q4_0", q_gemm_matrix, float, mlxr::WEIGHT_Q4_0);
instantiate_kernel("q_gemm_matrix_f32_q4_1", q_gemm_matrix, float, mlxr::WEIGHT_Q4_1);
instantiate_kernel("q_gemm_matrix_f32_q8_0", q_gemm_matrix, float, mlxr::WEIGHT_Q8_0);
instantiate_kernel("q_gemm_matrix_f32_q2_k", q_gemm_matrix, float, mlxr::WEIGHT_Q2_K);
instantiate_kernel("q_gemm_matrix_f32_q3_k", q_gemm_matrix, float, mlxr::WEIGHT_Q3_K);
instantiate_kernel("q_gemm_matrix_f32_q4_k", q_gemm_matrix, float, mlxr::WEIGHT_Q4_K);
instantiate_kernel("q_gemm_matrix_f32_q5_k", q_gemm_matrix, float, mlxr::WEIGHT_Q5_K);
instantiate_kernel("q_gemm_matrix_f32_q6_k", q_gemm_matrix, float, mlxr::WEIGHT_Q6_K);
instantiate_kernel("q_gemm_matrix_f32_q8_k", q_gemm_matrix, float, mlxr::WEIGHT_Q8_K);
instantiate_kernel("q_gemm_vector_f16_q4_0_1", q_gemm_vector, half, mlxr::WEIGHT_Q4_0, 1);
instantiate_kernel("q_gemm_vector_f16_q4_0_4", q_gemm_vector, half, mlxr::WEIGHT_Q4_0, 4);
instantiate_kernel("q_gemm_vector_f16_q4_1_1", q_gemm_vector, half, mlxr::WEIGHT_Q4_1, 1);
instantiate_kernel("q_gemm_vector_f16_q4_1_4", q_gemm_vector, half, mlxr::WEIGHT_Q4_1, 4);
instantiate_kernel("q_gemm_vector_f16_q8_0_1", q_gemm_vector, half, mlxr::WEIGHT_Q8_0, 1);
instantiate_kernel("q_gemm_vector_f16_q8_0_4", q_gemm_vector, half, mlxr::WEIGHT_Q8_0, 4);
instantiate_kernel("q_gemm_vector_f16_q2_k_1", q_gemm_vector, half, mlxr::WEIGHT_Q2_K, 1);
instantiate_kernel("q_gemm_vector_f16_q2_k_4", q_gemm_vector, half, mlxr::WEIGHT_Q2_K, 4);
instantiate_kernel("q_gemm_vector_f16_q3_k_1", q_gemm_vector, half, mlxr::WEIGHT_Q3_K, 1);
instantiate_kernel("q_gemm_vector_f16_q3_k_4", q_gemm_vector, half, mlxr::WEIGHT_Q3_K, 4);
instantiate_kernel("q_gemm_vector_f16_q4_k_1", q_gemm_vector, half, mlxr::WEIGHT_Q4_K, 1);
instantiate_kernel("q_gemm_vector_f16_q4_k_4", q_gemm_vector, half, mlxr::WEIGHT_Q4_K, 4);
instantiate_kernel("q_gemm_vector_f16_q5_k_1", q_gemm_vector, half, mlxr::WEIGHT_Q5_K, 1);
instantiate_kernel("q_gemm_vector_f16_q5_k_4", q_gemm_vector, half, mlxr::WEIGHT_Q5_K, 4);
instantiate_kernel("q_gemm_vector_f16_q6_k_1", q_gemm_vector, half, mlxr::WEIGHT_Q6_K, 1);
instantiate_kernel("q_gemm_vector_f16_q6_k_4", q_gemm_vector, half, mlxr::WEIGHT_Q6_K, 4);
instantiate_kernel("q_gemm_vector_f16_q8_k_1", q_gemm_vector, half, mlxr::WEIGHT_Q8_K, 1);
instantiate_kernel("q_gemm_vector_f16_q8_k_4", q_gemm_vector, half, mlxr::WEIGHT_Q8_K, 4);
instantiate_kernel("q_gemm_matrix_f16_q4_0", q_gemm_matrix, half, mlxr::WEIGHT_Q4_0);
instantiate_kernel("q_gemm_matrix_f16_q4_1", q_gemm_matrix, half, mlxr::WEIGHT_Q4_1);
instantiate_kernel("q_gemm_matrix_f16_q8_0", q_gemm_matrix, half, mlxr::WEIGHT_Q8_0);
instantiate_kernel("q_gemm_matrix_f16_q2_k", q_gemm_matrix, half, mlxr::WEIGHT_Q2_K);
instantiate_kernel("q_gemm_matrix_f16_q3_k", q_gemm_matrix, half, mlxr::WEIGHT_Q3_K);
instantiate_kernel("q_gemm_matrix_f16_q4_k", q_gemm_matrix, half, mlxr::WEIGHT_Q4_K);
instantiate_kernel("q_gemm_matrix_f16_q5_k", q_gemm_matrix, half, mlxr::WEIGHT_Q5_K);
instantiate_kernel("q_gemm_matrix_f16_q6_k", q_gemm_matrix, half, mlxr::WEIGHT_Q6_K);
instantiate_kernel("q_gemm_matrix_f16_q8_k", q_gemm_matrix, half, mlxr::WEIGHT_Q8_K);
instantiate_kernel("q_gemm_vector_bf16_q4_0_1", q_gemm_vector, bfloat, mlxr::WEIGHT_Q4_0, 1);
instantiate_kernel("q_gemm_vector_bf16_q4_0_4", q_gemm_vector, bfloat, mlxr::WEIGHT_Q4_0, 4);
instantiate_kernel("q_gemm_vector_bf16_q4_1_1", q_gemm_vector, bfloat, mlxr::WEIGHT_Q4_1, 1);
instantiate_kernel("q_gemm_vector_bf16_q4_1_4", q_gemm_vector, bfloat, mlxr::WEIGHT_Q4_1, 4);
instantiate_kernel("q_gemm_vector_bf16_q8_0_1", q_gemm_vector, bfloat, mlxr::WEIGHT_Q8_0, 1);
instantiate_kernel("q_gemm_vector_bf16_q8_0_4", q_gemm_vector, bfloat, mlxr::WEIGHT_Q8_0, 4);
instantiate_kernel("q_gemm_vector_bf16_q2_k_1", q_gemm_vector, bfloat, mlxr::WEIGHT_Q2_K, 1);
instantiate_kernel("q_gemm_vector_bf16_q2_k_4", q_gemm_vector, bfloat, mlxr::WEIGHT_Q2_K, 4);
instantiate_kernel("q_gemm_vector_bf16_q3_k_1", q_gemm_vector, bfloat, mlxr::WEIGHT_Q3_K, 1);
instantiate_kernel("q_gemm_vector_bf16_q3_k_4", q_gemm_vector, bfloat, mlxr::WEIGHT_Q3_K, 4);
instantiate_kernel("q_gemm_vector_bf16_q4_k_1", q_gemm_vector, bfloat, mlxr::WEIGHT_Q4_K, 1);
instantiate_kernel("q_gemm_vector_bf16_q4_k_4", q_gemm_vector, bfloat, mlxr::WEIGHT_Q4_K, 4);
instantiate_kernel("q_gemm_vector_bf16_q5_k_1", q_gemm_vector, bfloat, mlxr::WEIGHT_Q5_K, 1);
instantiate_kernel("q_gemm_vector_bf16_q5_k_4", q_gemm_vector, bfloat, mlxr::WEIGHT_Q5_K, 4);
instantiate_kernel("q_gemm_vector_bf16_q6_k_1", q_gemm_vector, bfloat, mlxr::WEIGHT_Q6_K, 1);
instantiate_kernel("q_gemm_vector_bf16_q6_k_4", q_gemm_vector, bfloat, mlxr::WEIGHT_Q6_K, 4);
instantiate_kernel("q_gemm_vector_bf16_q8_k_1", q_gemm_vector, bfloat, mlxr::WEIGHT_Q8_K, 1);
instantiate_kernel("q_gemm_vector_bf16_q8_k_4", q_gemm_vector, bfloat, mlxr::WEIGHT_Q8_K, 4);
instantiate_kernel("q_gemm_matrix_bf16_q4_0", q_gemm_matrix, bfloat, mlxr::WEIGHT_Q4_0);
instantiate_kernel("q_gemm_matrix_bf16_q4_1", q_gemm_matrix, bfloat, mlxr::WEIGHT_Q4_1);
instantiate_kernel("q_gemm_matrix_bf16_q8_0", q_gemm_matrix, bfloat, mlxr::WEIGHT_Q8_0);
instantiate_kernel("q_gemm_matrix_bf16_q2_k", q_gemm_matrix, bfloat, mlxr::WEIGHT_Q2_K);
instantiate_kernel("q_gemm_matrix_bf16_q3_k", q_gemm_matrix, bfloat, mlxr::WEIGHT_Q3_K);
instantiate_kernel("q_gemm_matrix_bf16_q4_k", q_gemm_matrix, bfloat, mlxr::WEIGHT_Q4_K);
instantiate_kernel("q_gemm_matrix_bf16_q5_k", q_gemm_matrix, bfloat, mlxr::WEIGHT_Q5_K);
instantiate_kernel("q_gemm_matrix_bf16_q6_k", q_gemm_matrix, bfloat, mlxr::WEIGHT_Q6_K);
instantiate_kernel("q_gemm_matrix_bf16_q8_k", q_gemm_matrix, bfloat, mlxr::WEIGHT_Q8_K);
