/*
 * attention_prefill_fused: rows of prompts in one pass: queries and keys are turned, new keys and values stored in
 * their pages, and every row attends to what its sequence has before it and to the new rows up to itself. Causal,
 * grouped query heads, window, soft-cap, sinks.
 *
 * A threadgroup takes ROWS consecutive query rows of one head, eight for each simdgroup, and walks the positions they
 * see in tiles of KEYS: older positions come from the pages, those of this step from the rows just computed, so that no
 * threadgroup waits for another's stores. New keys are rounded to the cache's type before they are used: a prompt in
 * one piece is a prompt in two. The first query head of each KV head stores the rows of its own tile.
 *
 * Per tile and simdgroup: S = Q·Kᵀ in 8×8 matrices; S through threadgroup memory, four lanes a row, for mask and
 * softmax; O = diag(again)·O + P·V, the diagonal only where a maximum has risen. Keys and values of a tile share one
 * buffer. Rows in threadgroup memory are 16 bytes longer than a head, so that eight rows begin in different banks.
 *
 * Tiles are half for half activations and float for the others. Threadgroup memory in bytes (ROWS and KEYS by what
 * fits):
 *
 *     HEAD     float tiles            half tiles
 *       64     27,648  (32 × 32)      17,408  (32 × 32)
 *       80     22,272  (32 × 16)      19,456  (32 × 32)
 *       96     25,344  (32 × 16)      21,504  (32 × 32)
 *      128     31,488  (32 × 16)      25,600  (32 × 32)
 *      256     27,008  (16 × 8)       30,464  (32 × 16)
 *
 * One threadgroup of 128 threads a core at the large sizes, two at HEAD 64 in half: matrix units are fed by four
 * simdgroups, each with HEAD / 8 accumulators (64 registers at 256), which is what hides the loads between barriers.
 *
 * Owner: none. Lifetime: the dispatch.
 */
#include "common.h"

namespace mlxr
{

template <typename T> struct tile_type {
    typedef float type;
};
template <> struct tile_type<half> {
    typedef half type;
};

template <typename T, int HEAD> struct prefill_shape {
    typedef typename tile_type<T>::type tile;
    enum {
        BYTES = HEAD * int(sizeof(tile)),
        SIMDGROUPS = BYTES > 512 ? 2 : 4,
        ROWS = 8 * SIMDGROUPS,
        KEYS = BYTES <= 256   ? 32
               : BYTES <= 512 ? 16
                              : 8,
        STRIDE = HEAD + 16 / int(sizeof(tile)), /* elements from row to row of a tile */
        SCORE_STRIDE = KEYS + 4,
        WEIGHT_STRIDE = KEYS + 16 / int(sizeof(tile)),
        THREADS = 32 * SIMDGROUPS
    };
};

struct prefill_params {
    uint n_head, n_head_kv;
    uint q_stride, k_stride, v_stride;
    float scale, softcap;
    uint window;
    bool has_sinks;
    uint n_rot;
    bool pairs;
    uint table_stride;
    kv_place place;
};

/* params: 17 words, in this order; the page's elements in two words, low first */
template <typename Words> inline prefill_params prefill_read(Words params)
{
    prefill_params p;
    p.n_head = params[0];
    p.n_head_kv = params[1];
    p.q_stride = params[2];
    p.k_stride = params[3];
    p.v_stride = params[4];
    p.scale = word_float(params[5]);
    p.softcap = word_float(params[6]);
    p.window = params[7];
    p.has_sinks = params[8] != 0;
    p.n_rot = params[9];
    p.pairs = params[10] != 0;
    p.table_stride = params[11];
    p.place.page = params[12] | ulong(params[13]) << 32;
    p.place.layer = params[14];
    p.place.head = params[15];
    p.place.values = p.n_head_kv * p.place.head;
    p.place.tokens_shift = params[16];
    return p;
}

/* Two elements of a head that turn together, turned. */
struct turned_pair {
    uint one, other;
    float a, b;
};

template <typename T>
inline turned_pair turn_pair(const device T *head, const device float *turns, uint pair, uint n_rot, bool pairs)
{
    bool turn = pair < n_rot / 2;
    turned_pair t;
    t.one = turn && !pairs ? pair : 2 * pair;
    t.other = turn && !pairs ? pair + n_rot / 2 : 2 * pair + 1;
    float a = float(head[t.one]), b = float(head[t.other]);
    float c = turn ? turns[2 * pair] : 1.0f, s = turn ? turns[2 * pair + 1] : 0.0f;
    t.a = turn ? a * c - b * s : a;
    t.b = turn ? a * s + b * c : b;
    return t;
}

/* One tile of queries: its rows within the step, and where the slice they belong to begins. */
struct prefill_tile {
    uint row, n_rows;            /* of the step */
    uint slice_row, slice_start; /* the slice's first row, and that row's position */
    uint table;
};

/* tiles: 8 words each, three unused */
inline prefill_tile prefill_tile_read(const device uint *words)
{
    prefill_tile t;
    t.row = words[0];
    t.n_rows = words[1];
    t.slice_row = words[2];
    t.slice_start = words[3];
    t.table = words[4];
    return t;
}

/* What the loads of one threadgroup have in common. */
template <typename T, typename KV, int HEAD> struct prefill_rows {
    typedef prefill_shape<T, HEAD> shape;
    typedef typename shape::tile tile;
    const device T *k, *v;
    const device float *turns;
    device KV *pages;
    const device uint *table;
    prefill_params p;
    prefill_tile t;
    uint kv_head, end, thread_index;
    bool stores;

    device KV *key_at(uint position) const
    {
        return kv_key(pages, p.place, table[position >> p.place.tokens_shift], kv_head, position, HEAD);
    }

    /* The tile's query rows, turned; rows that are none repeat the last. */
    void load_queries(const device T *q, uint head, threadgroup tile *to) const
    {
        for (uint i = thread_index; i < uint(shape::ROWS * HEAD / 2); i += shape::THREADS) {
            uint r = i / (HEAD / 2), row = t.row + min(r, t.n_rows - 1);
            turned_pair x = turn_pair(q + ulong(row) * p.q_stride + head * HEAD, turns + ulong(row) * p.n_rot,
                                      i % (HEAD / 2), p.n_rot, p.pairs);
            to[r * shape::STRIDE + x.one] = tile(x.a);
            to[r * shape::STRIDE + x.other] = tile(x.b);
        }
    }

    /* Keys of positions at … at + KEYS − 1, zeros from `end` on. New ones are turned, rounded, and stored if they are
     * this tile's. */
    void load_keys(uint at, threadgroup tile *to) const
    {
        for (uint i = thread_index; i < uint(shape::KEYS * HEAD / 2); i += shape::THREADS) {
            uint r = i / (HEAD / 2), pair = i % (HEAD / 2), position = at + r;
            turned_pair x = {2 * pair, 2 * pair + 1, 0.0f, 0.0f};
            if (position < min(end, t.slice_start)) {
                const device KV *key = key_at(position);
                x.a = float(key[x.one]);
                x.b = float(key[x.other]);
            } else if (position < end) {
                uint row = t.slice_row + (position - t.slice_start);
                x = turn_pair(k + ulong(row) * p.k_stride + kv_head * HEAD, turns + ulong(row) * p.n_rot, pair, p.n_rot,
                              p.pairs);
                KV a = to_kv<KV>(x.a), b = to_kv<KV>(x.b);
                x.a = float(a);
                x.b = float(b);
                if (stores && row >= t.row) {
                    device KV *key = key_at(position);
                    key[x.one] = a;
                    key[x.other] = b;
                }
            }
            to[r * shape::STRIDE + x.one] = tile(x.a);
            to[r * shape::STRIDE + x.other] = tile(x.b);
        }
    }

    /* Values, likewise. */
    void load_values(uint at, threadgroup tile *to) const
    {
        for (uint i = thread_index; i < uint(shape::KEYS * HEAD / 2); i += shape::THREADS) {
            uint r = i / (HEAD / 2), d = 2 * (i % (HEAD / 2)), position = at + r;
            float a = 0.0f, b = 0.0f;
            if (position < min(end, t.slice_start)) {
                const device KV *value = key_at(position) + p.place.values + d;
                a = float(value[0]);
                b = float(value[1]);
            } else if (position < end) {
                uint row = t.slice_row + (position - t.slice_start);
                const device T *from = v + ulong(row) * p.v_stride + kv_head * HEAD + d;
                KV one = to_kv<KV>(float(from[0])), other = to_kv<KV>(float(from[1]));
                a = float(one);
                b = float(other);
                if (stores && row >= t.row) {
                    device KV *value = key_at(position) + p.place.values + d;
                    value[0] = one;
                    value[1] = other;
                }
            }
            to[r * shape::STRIDE + d] = tile(a);
            to[r * shape::STRIDE + d + 1] = tile(b);
        }
    }
};

} // namespace mlxr

/* Grid: x tiles × threads, y heads. `pages` is written where the new rows lie; an input, because it is never a new
 * array. */
template <typename T, typename KV, int HEAD>
[[kernel]] void attention_prefill_fused(const device T *q [[buffer(0)]], const device T *k [[buffer(1)]],
                                        const device T *v [[buffer(2)]], const device float *turns [[buffer(3)]],
                                        const device KV *pages [[buffer(4)]], const device uint *tables [[buffer(5)]],
                                        const device uint *tiles [[buffer(6)]], const device float *sinks [[buffer(7)]],
                                        const device uint *params [[buffer(8)]], device T *y [[buffer(9)]],
                                        uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
                                        uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
                                        uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
                                        uint thread_index_in_simdgroup [[thread_index_in_simdgroup]])
{
    typedef mlxr::prefill_shape<T, HEAD> shape;
    typedef typename shape::tile tile;
    threadgroup tile queries[shape::ROWS * shape::STRIDE];
    threadgroup tile rows[shape::KEYS * shape::STRIDE];
    threadgroup float scores[shape::SIMDGROUPS][8 * shape::SCORE_STRIDE];
    threadgroup tile weights[shape::SIMDGROUPS][8 * shape::WEIGHT_STRIDE];
    threadgroup float diagonal[shape::SIMDGROUPS][64];
    mlxr::prefill_params p = mlxr::prefill_read(params);
    mlxr::prefill_tile t = mlxr::prefill_tile_read(tiles + 8 * threadgroup_position_in_grid.x);
    uint lane = thread_index_in_simdgroup, simdgroup = simdgroup_index_in_threadgroup;
    uint head = threadgroup_position_in_grid.y;
    uint group = p.n_head / p.n_head_kv, first = t.slice_start + (t.row - t.slice_row), end = first + t.n_rows;
    mlxr::prefill_rows<T, KV, HEAD> loads = {k,
                                             v,
                                             turns,
                                             (device KV *)pages,
                                             tables + ulong(t.table) * p.table_stride,
                                             p,
                                             t,
                                             head / group,
                                             end,
                                             thread_index_in_threadgroup,
                                             head % group == 0};

    loads.load_queries(q, head, queries);
    for (uint i = lane; i < 64; i += SIMD_WIDTH) {
        diagonal[simdgroup][i] = 0.0f;
    }
    simdgroup_matrix<float, 8, 8> out[HEAD / 8];
    for (uint i = 0; i < HEAD / 8; i++) {
        out[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
    /* four lanes share a row, for all that is not a matrix */
    uint own = lane / 4, column = lane % 4, position = first + simdgroup * 8 + own;
    uint begin = p.window && first + 1 > p.window ? first + 1 - p.window : 0;
    mlxr::soft soft = {-INFINITY, 0.0f};

    for (uint at = begin; at < end; at += shape::KEYS) {
        threadgroup_barrier(mem_flags::mem_threadgroup); /* the last tile's values are done with */
        loads.load_keys(at, rows);
        threadgroup_barrier(mem_flags::mem_threadgroup);

        simdgroup_matrix<float, 8, 8> score[shape::KEYS / 8];
        for (uint j = 0; j < shape::KEYS / 8; j++) {
            score[j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        }
        for (uint i = 0; i < HEAD / 8; i++) {
            simdgroup_matrix<tile, 8, 8> left, right;
            simdgroup_load(left, queries + simdgroup * 8 * shape::STRIDE + 8 * i, shape::STRIDE);
            for (uint j = 0; j < shape::KEYS / 8; j++) {
                simdgroup_load(right, rows + j * 8 * shape::STRIDE + 8 * i, shape::STRIDE, 0, true);
                simdgroup_multiply_accumulate(score[j], left, right, score[j]);
            }
        }
        for (uint j = 0; j < shape::KEYS / 8; j++) {
            simdgroup_store(score[j], scores[simdgroup] + 8 * j, shape::SCORE_STRIDE);
        }
        simdgroup_barrier(mem_flags::mem_threadgroup);

        float mine[shape::KEYS / 4], top = soft.max;
        for (uint j = 0; j < shape::KEYS / 4; j++) {
            uint where = at + column + 4 * j;
            float s = scores[simdgroup][own * shape::SCORE_STRIDE + column + 4 * j] * p.scale;
            s = p.softcap > 0.0f ? p.softcap * precise::tanh(s / p.softcap) : s;
            bool seen = where <= position && where < end && (p.window == 0 || where + p.window > position);
            mine[j] = seen ? s : -INFINITY;
            top = max(top, mine[j]);
        }
        top = max(top, simd_shuffle_xor(top, 1));
        top = max(top, simd_shuffle_xor(top, 2));
        float again = mlxr::soft_weight(soft.max, top), sum = 0.0f;
        bool rose = !simd_all(top == soft.max);
        for (uint j = 0; j < shape::KEYS / 4; j++) {
            tile w = tile(mlxr::soft_weight(mine[j], top));
            weights[simdgroup][own * shape::WEIGHT_STRIDE + column + 4 * j] = w;
            sum += float(w);
        }
        sum += simd_shuffle_xor(sum, 1);
        sum += simd_shuffle_xor(sum, 2);
        soft.sum = soft.sum * again + sum;
        soft.max = top;
        if (column == 0) {
            diagonal[simdgroup][own * 9] = again;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup); /* the keys are done with */

        loads.load_values(at, rows);
        threadgroup_barrier(mem_flags::mem_threadgroup);

        if (rose) {
            simdgroup_matrix<float, 8, 8> left;
            simdgroup_load(left, diagonal[simdgroup], 8);
            for (uint i = 0; i < HEAD / 8; i++) {
                simdgroup_matrix<float, 8, 8> none = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
                simdgroup_multiply_accumulate(out[i], left, out[i], none);
            }
        }
        for (uint j = 0; j < shape::KEYS / 8; j++) {
            simdgroup_matrix<tile, 8, 8> left, right;
            simdgroup_load(left, weights[simdgroup] + 8 * j, shape::WEIGHT_STRIDE);
            for (uint i = 0; i < HEAD / 8; i++) {
                simdgroup_load(right, rows + j * 8 * shape::STRIDE + 8 * i, shape::STRIDE);
                simdgroup_multiply_accumulate(out[i], left, right, out[i]);
            }
        }
    }

    float factor = mlxr::soft_factor(soft, p.has_sinks, p.has_sinks ? sinks[head] : 0.0f);
    device T *to = y + (ulong(t.row + simdgroup * 8 + own) * p.n_head + head) * HEAD + 2 * column;
    for (uint i = 0; i < HEAD / 8; i++) {
        simdgroup_barrier(mem_flags::mem_threadgroup);
        simdgroup_store(out[i], diagonal[simdgroup], 8);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        if (simdgroup * 8 + own < t.n_rows) {
            to[8 * i] = T(diagonal[simdgroup][own * 8 + 2 * column] * factor);
            to[8 * i + 1] = T(diagonal[simdgroup][own * 8 + 2 * column + 1] * factor);
        }
    }
}

instantiate_kernel("attention_prefill_fused_f32_f32_64", attention_prefill_fused, float, float, 64);
instantiate_kernel("attention_prefill_fused_f32_f16_64", attention_prefill_fused, float, half, 64);
instantiate_kernel("attention_prefill_fused_f32_bf16_64", attention_prefill_fused, float, bfloat, 64);
instantiate_kernel("attention_prefill_fused_f16_f16_64", attention_prefill_fused, half, half, 64);
instantiate_kernel("attention_prefill_fused_bf16_bf16_64", attention_prefill_fused, bfloat, bfloat, 64);
instantiate_kernel("attention_prefill_fused_f32_f32_80", attention_prefill_fused, float, float, 80);
instantiate_kernel("attention_prefill_fused_f32_f16_80", attention_prefill_fused, float, half, 80);
instantiate_kernel("attention_prefill_fused_f32_bf16_80", attention_prefill_fused, float, bfloat, 80);
instantiate_kernel("attention_prefill_fused_f16_f16_80", attention_prefill_fused, half, half, 80);
instantiate_kernel("attention_prefill_fused_bf16_bf16_80", attention_prefill_fused, bfloat, bfloat, 80);
instantiate_kernel("attention_prefill_fused_f32_f32_96", attention_prefill_fused, float, float, 96);
instantiate_kernel("attention_prefill_fused_f32_f16_96", attention_prefill_fused, float, half, 96);
instantiate_kernel("attention_prefill_fused_f32_bf16_96", attention_prefill_fused, float, bfloat, 96);
instantiate_kernel("attention_prefill_fused_f16_f16_96", attention_prefill_fused, half, half, 96);
instantiate_kernel("attention_prefill_fused_bf16_bf16_96", attention_prefill_fused, bfloat, bfloat, 96);
instantiate_kernel("attention_prefill_fused_f32_f32_128", attention_prefill_fused, float, float, 128);
instantiate_kernel("attention_prefill_fused_f32_f16_128", attention_prefill_fused, float, half, 128);
instantiate_kernel("attention_prefill_fused_f32_bf16_128", attention_prefill_fused, float, bfloat, 128);
instantiate_kernel("attention_prefill_fused_f16_f16_128", attention_prefill_fused, half, half, 128);
instantiate_kernel("attention_prefill_fused_bf16_bf16_128", attention_prefill_fused, bfloat, bfloat, 128);
instantiate_kernel("attention_prefill_fused_f32_f32_256", attention_prefill_fused, float, float, 256);
instantiate_kernel("attention_prefill_fused_f32_f16_256", attention_prefill_fused, float, half, 256);
instantiate_kernel("attention_prefill_fused_f32_bf16_256", attention_prefill_fused, float, bfloat, 256);
instantiate_kernel("attention_prefill_fused_f16_f16_256", attention_prefill_fused, half, half, 256);
instantiate_kernel("attention_prefill_fused_bf16_bf16_256", attention_prefill_fused, bfloat, bfloat, 256);
