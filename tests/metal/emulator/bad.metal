/*
 * Kernels with a planted bug each; tests/metal/test_emulator.c says who must find it.
 * Owner: the test. Lifetime: the program.
 */
#include <metal_stdlib>

using namespace metal;

/* The value of a neighbour is read before it may be there. */
[[kernel]] void missing_barrier(device float *y [[buffer(0)]], uint i [[thread_position_in_threadgroup]],
                                uint n [[threads_per_threadgroup]])
{
    threadgroup float shared[256];
    shared[i] = float(i);
    y[i] = shared[(i + 33) % n];
}

/* As above, between lanes of one simdgroup: a reduction is no barrier. */
[[kernel]] void missing_simdgroup_barrier(device float *y [[buffer(0)]], uint i [[thread_index_in_simdgroup]])
{
    threadgroup float shared[32];
    shared[i] = float(i);
    float all = simd_sum(float(i));
    y[i] = shared[31 - i] + all;
}

/* All read what one writes on. */
[[kernel]] void missing_second_barrier(device float *y [[buffer(0)]], uint i [[thread_position_in_threadgroup]])
{
    threadgroup float shared;
    float sum = 0;
    for (int round = 0; round < 4; round++) {
        if (i == 0) {
            shared = float(round + 1);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum += shared;
    }
    y[i] = sum;
}

/* A barrier that waits and orders nothing. */
[[kernel]] void weak_barrier(device float *y [[buffer(0)]], uint i [[thread_position_in_threadgroup]],
                             uint n [[threads_per_threadgroup]])
{
    threadgroup float shared[256];
    shared[i] = float(i);
    threadgroup_barrier(mem_flags::mem_none);
    y[i] = shared[n - 1 - i];
}

/* Two threadgroups write one place. */
[[kernel]] void groups_race(device uint *y [[buffer(0)]], uint group [[threadgroup_position_in_grid]],
                            uint i [[thread_position_in_threadgroup]])
{
    y[(group / 2) * 64 + (i + group) % 64] = group;
}

[[kernel]] void barrier_in_a_branch(device float *y [[buffer(0)]], uint i [[thread_position_in_threadgroup]])
{
    if (i < 40) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    y[i] = 1.0f;
}

[[kernel]] void barrier_after_return(device float *y [[buffer(0)]], constant uint &n [[buffer(1)]],
                                     uint i [[thread_position_in_threadgroup]])
{
    if (i >= n) {
        return;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = 1.0f;
}

[[kernel]] void two_barriers(device float *y [[buffer(0)]], uint i [[thread_position_in_threadgroup]])
{
    if (i % 2) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = 1.0f;
    } else {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = 2.0f;
    }
}

[[kernel]] void divergent_sum(device float *y [[buffer(0)]], uint i [[thread_index_in_simdgroup]])
{
    float v = 1.0f;
    if (i < 16) {
        v = simd_sum(v);
    } else {
        v = simd_max(v);
    }
    y[i] = v;
}

[[kernel]] void writes_beyond(device float *y [[buffer(0)]], constant uint &n [[buffer(1)]],
                              uint i [[thread_position_in_grid]])
{
    if (i <= n) {
        y[i] = 1.0f;
    }
}

[[kernel]] void reads_beyond(const device float4 *x [[buffer(0)]], device float4 *y [[buffer(1)]],
                             constant uint &n [[buffer(2)]], uint i [[thread_position_in_grid]])
{
    if (i < (n + 3) / 4) {
        y[i] = x[i];
    }
}

[[kernel]] void beyond_threadgroup_memory(device float *y [[buffer(0)]], uint i [[thread_position_in_threadgroup]])
{
    threadgroup float shared[31];
    shared[i] = float(i);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = shared[0];
}

[[kernel]] void unset_memory(device float *y [[buffer(0)]], uint i [[thread_position_in_threadgroup]])
{
    threadgroup float shared[32];
    if (i < 31) {
        shared[i] = float(i);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = shared[i];
}

[[kernel]] void too_much_memory(device float *y [[buffer(0)]], uint i [[thread_position_in_threadgroup]])
{
    threadgroup float half_of_it[4096];
    threadgroup float more_than_the_rest[4097];
    half_of_it[i] = 1.0f;
    more_than_the_rest[i] = half_of_it[i];
    y[i] = more_than_the_rest[i];
}

[[kernel]] void misaligned(const device float *x [[buffer(0)]], device float4 *y [[buffer(1)]])
{
    y[0] = *(const device float4 *)(x + 1);
}

struct eight_words {
    uint words[8];
};

[[kernel]] void short_constant(device uint *y [[buffer(0)]], constant eight_words &w [[buffer(1)]])
{
    y[0] = w.words[7];
}

/* The matrix is read in another shape than it was stored in, without a barrier between the lanes. */
[[kernel]] void matrix_race(device float *y [[buffer(0)]])
{
    threadgroup float tile[64];
    simdgroup_float8x8 m = make_filled_simdgroup_matrix<float, 8, 8>(2.0f), turned;
    simdgroup_store(m, tile, 8);
    simdgroup_load(turned, tile, 8, 0, true);
    simdgroup_store(turned, y, 8);
}
