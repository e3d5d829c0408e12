/*
 * rope_apply: turns the first n_rot elements of each head by its row's position. rope_table: the cosines and sines
 * alone, once for all layers of a step, as attention_prefill_fused and kv_write take them.
 *
 * x is [n_rows][n_heads][head_dim] at any row and head stride; y is contiguous. PAIRS: elements 2i and 2i + 1 turn
 * together (GGUF's NORM); else i and i + n_rot / 2 (NEOX). Frequencies are those of the plan's op_rope, whatever
 * scaling they came from.
 *
 * A thread makes cos and sin of one pair of one row and turns that pair in HEADS heads, which shares out the dear part.
 * Neighbouring threads have neighbouring pairs: loads and stores are coalesced in both layouts.
 *
 * Threadgroup memory: none. Occupancy: about 20 registers a thread; groups of 32 to 256 threads, no barriers.
 *
 * Owner: none. Lifetime: the dispatch.
 */
#include "common.h"

namespace mlxr
{

constant constexpr uint ROPE_HEADS = 4;

struct rope_params {
    uint n_rows, n_heads, head_dim, n_rot;
    uint row_stride, head_stride;
    float magnitude;
};

template <typename Words> inline rope_params rope_read(Words params)
{
    rope_params p;
    p.n_rows = params[0];
    p.n_heads = params[1];
    p.head_dim = params[2];
    p.n_rot = params[3];
    p.row_stride = params[4];
    p.head_stride = params[5];
    p.magnitude = word_float(params[6]);
    return p;
}

} // namespace mlxr

/* Grid: x pairs of head_dim, y groups of ROPE_HEADS heads, z rows. */
template <typename T, bool PAIRS>
[[kernel]] void rope_apply(const device T *x [[buffer(0)]], const device int *positions [[buffer(1)]],
                           const device float *inv_freq [[buffer(2)]], const constant uint *params [[buffer(3)]],
                           device T *y [[buffer(4)]], uint3 thread_position_in_grid [[thread_position_in_grid]])
{
    mlxr::rope_params p = mlxr::rope_read(params);
    uint pair = thread_position_in_grid.x, first_head = thread_position_in_grid.y * mlxr::ROPE_HEADS;
    uint row = thread_position_in_grid.z;
    if (pair >= p.head_dim / 2 || row >= p.n_rows) {
        return;
    }
    uint turning = p.n_rot / 2;
    bool turns = pair < turning;
    uint one = turns && !PAIRS ? pair : 2 * pair, other = turns && !PAIRS ? pair + turning : 2 * pair + 1;
    float2 turn = turns ? mlxr::rope_turn(positions[row], inv_freq[pair]) * p.magnitude : float2(1.0f, 0.0f);
    uint last = min(first_head + mlxr::ROPE_HEADS, p.n_heads);
    for (uint head = first_head; head < last; head++) {
        const device T *from = x + ulong(row) * p.row_stride + head * p.head_stride;
        device T *to = y + (ulong(row) * p.n_heads + head) * p.head_dim;
        float a = float(from[one]), b = float(from[other]);
        to[one] = turns ? T(a * turn.x - b * turn.y) : from[one];
        to[other] = turns ? T(a * turn.y + b * turn.x) : from[other];
    }
}

instantiate_kernel("rope_apply_f32_halves", rope_apply, float, false);
instantiate_kernel("rope_apply_f16_halves", rope_apply, half, false);
instantiate_kernel("rope_apply_bf16_halves", rope_apply, bfloat, false);
instantiate_kernel("rope_apply_f32_pairs", rope_apply, float, true);
instantiate_kernel("rope_apply_f16_pairs", rope_apply, half, true);
instantiate_kernel("rope_apply_bf16_pairs", rope_apply, bfloat, true);

/* table [n_rows][n_rot / 2][2]: cos, sin, × magnitude. params: n_rows, n_rot / 2, magnitude. Grid: x pairs, y rows.
 */
[[kernel]] void rope_table(const device int *positions [[buffer(0)]], const device float *inv_freq [[buffer(1)]],
                           const constant uint *params [[buffer(2)]], device float *table [[buffer(3)]],
                           uint3 thread_position_in_grid [[thread_position_in_grid]])
{
    uint pair = thread_position_in_grid.x, row = thread_position_in_grid.y;
    if (row >= params[0] || pair >= params[1]) {
        return;
    }
    float2 turn = mlxr::rope_turn(positions[row], inv_freq[pair]) * mlxr::word_float(params[2]);
    ulong at = 2 * (ulong(row) * params[1] + pair);
    table[at] = turn.x;
    table[at + 1] = turn.y;
}
