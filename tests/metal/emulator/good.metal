/*
 * Kernels that use everything the emulator has, rightly: tests/metal/test_emulator.c compares what they write.
 * Owner: the test. Lifetime: the program.
 */
#include <metal_stdlib>

#include "good.h"

using namespace metal;

constant bool doubled [[function_constant(0)]];
constant uint offset [[function_constant(1)]];
constant float table[4] = {0.5f, 1.5f, 2.5f, 3.5f};

struct scale_params {
    float factor;
    uint n;
};

[[kernel]] void constants(const device float *x [[buffer(0)]], device float *y [[buffer(1)]],
                          constant scale_params &params [[buffer(2)]], uint i [[thread_position_in_grid]])
{
    if (i >= params.n) {
        return;
    }
    y[i] = x[i] * params.factor * (doubled ? 2.0f : 1.0f) + float(offset) + table[i % 4];
}

/* Each thread writes what its built-ins say. */
[[kernel]] void builtins(device uint *out [[buffer(0)]], uint3 in_grid [[thread_position_in_grid]],
                         ushort3 in_group [[thread_position_in_threadgroup]],
                         uint3 group [[threadgroup_position_in_grid]], uint3 n_grid [[threads_per_grid]],
                         uint3 n_group [[threads_per_threadgroup]], uint3 n_groups [[threadgroups_per_grid]],
                         uint index [[thread_index_in_threadgroup]], ushort lane [[thread_index_in_simdgroup]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                         uint n_simdgroups [[simdgroups_per_threadgroup]], uint width [[threads_per_simdgroup]])
{
    device uint *at = out + 24 * (in_grid.x + n_grid.x * (in_grid.y + n_grid.y * in_grid.z));
    at[0] = in_grid.x;
    at[1] = in_grid.y;
    at[2] = in_grid.z;
    at[3] = in_group.x;
    at[4] = in_group.y;
    at[5] = in_group.z;
    at[6] = group.x;
    at[7] = group.y;
    at[8] = group.z;
    at[9] = n_grid.x;
    at[10] = n_grid.y;
    at[11] = n_grid.z;
    at[12] = n_group.x;
    at[13] = n_group.y;
    at[14] = n_group.z;
    at[15] = n_groups.x;
    at[16] = n_groups.y;
    at[17] = n_groups.z;
    at[18] = index;
    at[19] = lane;
    at[20] = simdgroup;
    at[21] = n_simdgroups;
    at[22] = width;
    at[23] = 7;
}

/* A row summed through threadgroup memory, of the kernel's own and of the launch's. */
template <typename T, int N>
[[kernel]] void row_sum(const device T *x [[buffer(0)]], device float *y [[buffer(1)]],
                        threadgroup float *passed [[threadgroup(0)]], uint row [[threadgroup_position_in_grid]],
                        uint i [[thread_position_in_threadgroup]])
{
    threadgroup float own[N];
    threadgroup float total;
    own[i] = float(x[row * N + i]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    passed[N - 1 - i] = own[N - 1 - i] * 2.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int step = N / 2; step > 0; step /= 2) {
        if (int(i) < step) {
            passed[i] += passed[i + step];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (i == 0) {
        total = passed[0] / 2.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[row * N + i] = total;
}
template [[host_name("row_sum_f32")]] [[kernel]] decltype(row_sum<float, 64>) row_sum<float, 64>;
template [[host_name("row_sum_f16")]] [[kernel]] decltype(row_sum<half, 64>) row_sum<half, 64>;
template [[host_name("row_sum_bf16")]] [[kernel]] decltype(row_sum<bfloat, 64>) row_sum<bfloat, 64>;

/* Lanes beyond n return before the others meet. */
[[kernel]] void simd_functions(const device int *x [[buffer(0)]], device int *y [[buffer(1)]],
                               constant uint &n [[buffer(2)]], uint i [[thread_position_in_grid]],
                               uint lane [[thread_index_in_simdgroup]])
{
    if (i >= n) {
        return;
    }
    int v = x[i];
    y[10 * i + 0] = simd_sum(v);
    y[10 * i + 1] = simd_max(v);
    y[10 * i + 2] = simd_min(v);
    y[10 * i + 3] = simd_shuffle(v, ushort(lane / 2));
    y[10 * i + 4] = simd_broadcast(v, 3);
    y[10 * i + 5] = simd_shuffle_xor(v, 1);
    y[10 * i + 6] = simd_shuffle_down(v, 2);
    y[10 * i + 7] = simd_shuffle_up(v, 3);
    y[10 * i + 8] = simd_any(v > 90);
    y[10 * i + 9] = simd_all(v > -90);
}

/* Values pass between the lanes of a simdgroup through memory, a simdgroup_barrier in between. */
[[kernel]] void simd_exchange(device uint *y [[buffer(0)]], uint i [[thread_position_in_grid]],
                              uint lane [[thread_index_in_simdgroup]],
                              uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    threadgroup uint mine[4][32];
    mine[simdgroup][lane] = i;
    simdgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = mine[simdgroup][31 - lane];
}

/* c[8][8] = a[8][k] · b[k][8] + bᵀ's first block. */
template <typename T>
[[kernel]] void matrices(const device T *a [[buffer(0)]], const device T *b [[buffer(1)]],
                         device float *c [[buffer(2)]], constant uint &k [[buffer(3)]])
{
    simdgroup_matrix<float, 8, 8> sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    simdgroup_matrix<T, 8, 8> left, right;
    for (uint i = 0; i < k; i += 8) {
        simdgroup_load(left, a + i, k);
        simdgroup_load(right, b + i * 8, 8);
        simdgroup_multiply_accumulate(sum, left, right, sum);
    }
    simdgroup_load(left, b, 8, 0, true);
    simdgroup_load(right, b + 8 * k, 8); /* the unit matrix */
    simdgroup_multiply_accumulate(sum, left, right, sum);
    simdgroup_store(sum, c, 8);
}
template [[host_name("matrices_f32")]] [[kernel]] decltype(matrices<float>) matrices<float>;
template [[host_name("matrices_f16")]] [[kernel]] decltype(matrices<half>) matrices<half>;

[[kernel]] void mathematics(const device float *x [[buffer(0)]], device float *y [[buffer(1)]],
                            uint i [[thread_position_in_grid]])
{
    float v = x[i];
    device float *at = y + 32 * i;
    at[0] = exp(v);
    at[1] = exp2(v);
    at[2] = log(fabs(v) + 1.0f);
    at[3] = log2(fabs(v) + 1.0f);
    at[4] = sqrt(fabs(v));
    at[5] = rsqrt(fabs(v) + 1.0f);
    at[6] = sin(v);
    at[7] = cos(v);
    at[8] = tanh(v);
    at[9] = floor(v);
    at[10] = ceil(v);
    at[11] = rint(v);
    at[12] = pow(fabs(v), 1.5f);
    at[13] = fma(v, v, -1.0f);
    at[14] = max(v, 0.25f) + min(v, 0.25f);
    at[15] = clamp(v, -0.5f, 0.5f);
    at[16] = select(v, 9.0f, v > 0);
    at[17] = abs(v);
    at[18] = float(popcount(as_type<uint>(v)));
    float4 a = float4(v, 2.0f, v, -1.0f), b = a * 2.0f + float4(1.0f);
    at[19] = dot(a, b);
    at[20] = (exp(a) / b).z;
    at[21] = max(a, b).w + min(a, b).y;
    uchar4 bytes = as_type<uchar4>(as_type<uint>(v));
    float4 wide = float4(bytes);
    at[22] = wide.x + wide.y + wide.z + wide.w;
    at[23] = float(half4(a).x);
    at[24] = float(bfloat(v));
    uint2 shifted = (uint2(0xf0f0f0f0u) >> 4) & 0x0f0f0f0fu;
    at[25] = float(shifted.x == 0x0f0f0f0fu && shifted.y == shifted[0]);
    at[26] = isinf(v / 0.0f) ? 1.0f : isnan(v / 0.0f) ? 2.0f : 0.0f;
    at[27] = fma(a, b, a).x;
    at[28] = good_helper(at, 27);
    at[29] = float(is_same_v<half, half>);
    at[30] = numeric_limits<float>::max();
    at[31] = precise::exp(v) - fast::exp(v);
}

/* Threads take the next place of a list: a race on purpose, to see their order. */
[[kernel]] void order_of_threads(device uint *list [[buffer(0)]], uint i [[thread_position_in_threadgroup]])
{
    uint next = 0;
    while (list[next] != 0xffffffffu) {
        next++;
    }
    list[next] = i;
}
