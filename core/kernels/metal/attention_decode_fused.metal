/*
 * attention_decode_fused: one query row for each sequence (or a few: any rows) over paged keys and values: grouped
 * query heads, window, soft-cap, sinks, softmax that cannot overflow. attention_decode_merge: joins what several
 * threadgroups found in parts of a long context. kv_write: keys (turned) and values of new rows into their pages.
 *
 * A threadgroup has DECODE_SIMDGROUPS simdgroups; they take up to that many query heads of one KV head side by side, so
 * that a key comes from memory once, and where there are fewer heads share out the positions. A simdgroup takes 32
 * positions at a time:
 *   scores   eight keys at once, four lanes a key, each lane 16 bytes apart: four neighbouring lanes read one run; two
 *            shuffles add up a key's four parts, so 32 scores cost eight shuffles instead of 32 reductions
 *   softmax  a lane holds the score of one position: one maximum and one sum for 32 of them
 *   values   lanes lie side by side along head_dim and walk the 32 positions: every load is one run; heads of 64, half
 * as long as the lanes are, take two positions at once Nothing waits for another simdgroup until the end, where partial
 * softmaxes of one head meet.
 *
 * Threadgroup memory: DECODE_SIMDGROUPS × (HEAD + 2) floats: 4,128 bytes at HEAD 256. Registers: HEAD / 4 floats of
 * query and up to 8 of output a lane, so that 8 and more threadgroups of 128 threads fit a core; the launch splits the
 * context so that there are some for every core (metal_attention_decode_launch).
 *
 * Owner: none. Lifetime: the dispatch.
 */
#include "common.h"

#define DECODE_SIMDGROUPS 4
#define DECODE_KEYS 32

namespace mlxr
{

struct decode_params {
    uint n_head, n_head_kv;
    uint q_row_stride, q_head_stride;
    float scale, softcap;
    uint window, table_stride;
    uint n_splits, n_tables;
    bool has_sinks;
    kv_place place;
};

/* params: 15 words, in this order; the layer's place in two words, low first */
template <typename Words> inline decode_params decode_read(Words params)
{
    decode_params p;
    p.n_head = params[0];
    p.n_head_kv = params[1];
    p.q_row_stride = params[2];
    p.q_head_stride = params[3];
    p.scale = word_float(params[4]);
    p.softcap = word_float(params[5]);
    p.window = params[6];
    p.table_stride = params[7];
    p.n_splits = params[8];
    p.has_sinks = params[9] != 0;
    p.place.page = params[10] | ulong(params[11]) << 32;
    p.place.layer = params[12];
    p.place.head = params[13];
    p.place.values = p.n_head_kv * p.place.head;
    p.place.tokens_shift = params[14];
    return p;
}

/* The keys of one KV head as a row sees them. */
template <typename KV, int HEAD> struct key_rows {
    const device KV *pages;
    const device uint *table;
    kv_place place;
    uint head;

    const device KV *at(uint position) const
    {
        return kv_key(pages, place, table[position >> place.tokens_shift], head, position, HEAD);
    }
};

/* Score of position `first + lane`, of which the first n exist; −∞ beyond. Four lanes a key, eight keys at a time. */
template <typename KV, int HEAD, typename Query>
inline float decode_scores(key_rows<KV, HEAD> keys, const thread Query &q, uint first, uint n, uint lane)
{
    float mine = 0.0f;
    for (uint pass = 0; pass < DECODE_KEYS / 8; pass++) {
        uint key = min(pass * 8 + lane / 4, n - 1);
        const device KV *k = keys.at(first + key) + 4 * (lane % 4);
        float part = 0.0f;
        for (uint i = 0; i < HEAD / 16; i++) {
            part += dot(q.parts[i], load4(k + 16 * i));
        }
        part += simd_shuffle_xor(part, 1);
        part += simd_shuffle_xor(part, 2);
        float theirs = simd_shuffle(part, ushort(4 * (lane % 8)));
        mine = lane / 8 == pass ? theirs : mine;
    }
    return lane < n ? mine : -INFINITY;
}

/* A lane's quarter of a query: vectors lane % 4, 4 + lane % 4, … */
template <int HEAD> struct decode_query {
    float4 parts[HEAD / 16];
};

/* A lane's share of an output row: vectors of four, as many rows of them at once as the lanes have room for. */
template <int HEAD> struct decode_output {
    enum { VECTORS = HEAD / 4, AT_ONCE = VECTORS <= SIMD_WIDTH / 2 ? 2 : 1, HELD = (VECTORS + 31) / 32 };
    float4 parts[HELD];
};

} // namespace mlxr

/* Grid: x splits × threads, y KV heads × groups of query heads, z rows. With one split y is written; with more, each
 * leaves HEAD + 2 floats in partials [n_rows][n_head][n_splits][max, sum, out]. */
template <typename T, typename KV, int HEAD>
[[kernel]] void attention_decode_fused(const device T *q [[buffer(0)]], const device KV *pages [[buffer(1)]],
                                       const device uint *tables [[buffer(2)]],
                                       const device uint *row_tables [[buffer(3)]],
                                       const device int *positions [[buffer(4)]],
                                       const device float *sinks [[buffer(5)]], const device uint *params [[buffer(6)]],
                                       device T *y [[buffer(7)]], device float *partials [[buffer(8)]],
                                       uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
                                       uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
                                       uint thread_index_in_simdgroup [[thread_index_in_simdgroup]])
{
    typedef mlxr::decode_output<HEAD> shape;
    threadgroup float outs[DECODE_SIMDGROUPS][HEAD];
    threadgroup float maxima[DECODE_SIMDGROUPS];
    threadgroup float sums[DECODE_SIMDGROUPS];
    mlxr::decode_params p = mlxr::decode_read(params);
    uint lane = thread_index_in_simdgroup, simdgroup = simdgroup_index_in_threadgroup;
    uint group = p.n_head / p.n_head_kv;
    /* heads side by side: 1, 2 or 4; the simdgroups left share out the positions */
    uint side = group >= 3 ? 4 : group, n_parts = DECODE_SIMDGROUPS / side, part = simdgroup / side;
    uint n_sets = (group + side - 1) / side, row = threadgroup_position_in_grid.z;
    uint kv_head = threadgroup_position_in_grid.y / n_sets, split = threadgroup_position_in_grid.x;
    uint in_group = threadgroup_position_in_grid.y % n_sets * side + simdgroup % side;
    bool has_head = in_group < group;
    uint head = kv_head * group + min(in_group, group - 1);
    mlxr::key_rows<KV, HEAD> keys = {pages, tables + ulong(row_tables[row]) * p.table_stride, p.place, kv_head};

    const device T *query = q + ulong(row) * p.q_row_stride + head * p.q_head_stride + 4 * (lane % 4);
    mlxr::decode_query<HEAD> own;
    for (uint i = 0; i < HEAD / 16; i++) {
        own.parts[i] = mlxr::load4(query + 16 * i) * p.scale;
    }
    mlxr::decode_output<HEAD> out;
    for (uint i = 0; i < uint(shape::HELD); i++) {
        out.parts[i] = float4(0.0f);
    }
    /* the positions seen: [begin, end); none where the row's is negative. Splits and parts take chunks in turn. */
    int position = positions[row];
    uint end = uint(position + 1), begin = p.window && end > p.window ? end - p.window : 0;
    mlxr::soft soft = {-INFINITY, 0.0f};
    uint step = DECODE_KEYS * n_parts * p.n_splits;
    uint lane_row = shape::AT_ONCE == 2 ? lane / 16 : 0, lane_vector = shape::AT_ONCE == 2 ? lane % 16 : lane;
    for (uint first = begin + DECODE_KEYS * (split * n_parts + part); position >= 0 && first < end; first += step) {
        uint n = min(end - first, uint(DECODE_KEYS));
        float score = mlxr::decode_scores(keys, own, first, n, lane);
        if (p.softcap > 0.0f && score != -INFINITY) {
            score = p.softcap * precise::tanh(score / p.softcap);
        }
        float top = max(soft.max, simd_max(score)), again = mlxr::soft_weight(soft.max, top);
        float weight = mlxr::soft_weight(score, top);
        soft.sum = soft.sum * again + simd_sum(weight);
        soft.max = top;
        for (uint i = 0; i < uint(shape::HELD); i++) {
            out.parts[i] = out.parts[i] * again;
        }
        for (uint j = 0; j < n; j += shape::AT_ONCE) {
            uint key = j + lane_row;
            float w = simd_shuffle(weight, ushort(key)); /* 0 behind the last */
            const device KV *v = keys.at(first + min(key, n - 1)) + p.place.values;
            for (uint i = 0; i < uint(shape::HELD); i++) {
                if (lane_vector + 32 * i < uint(shape::VECTORS)) {
                    out.parts[i] += mlxr::load4(v + 4 * (lane_vector + 32 * i)) * w;
                }
            }
        }
    }
    if (shape::AT_ONCE == 2) { /* the two halves of the lanes have seen different positions */
        for (uint c = 0; c < 4; c++) {
            out.parts[0][c] += simd_shuffle_xor(out.parts[0][c], 16);
        }
    }
    for (uint i = 0; i < uint(shape::HELD); i++) {
        if (lane_row == 0 && lane_vector + 32 * i < uint(shape::VECTORS)) {
            for (uint c = 0; c < 4; c++) {
                outs[simdgroup][4 * (lane_vector + 32 * i) + c] = out.parts[i][c];
            }
        }
    }
    if (lane == 0) {
        maxima[simdgroup] = soft.max;
        sums[simdgroup] = soft.sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (part != 0 || !has_head) {
        return;
    }
    mlxr::soft all = {-INFINITY, 0.0f};
    for (uint i = 0; i < n_parts; i++) {
        all.max = max(all.max, maxima[simdgroup + i * side]);
    }
    for (uint i = 0; i < n_parts; i++) {
        all.sum += sums[simdgroup + i * side] * mlxr::soft_weight(maxima[simdgroup + i * side], all.max);
    }
    ulong at = ulong(row) * p.n_head + head;
    device float *left = partials + (at * p.n_splits + split) * (HEAD + 2);
    float factor = mlxr::soft_factor(all, p.has_sinks, p.has_sinks ? sinks[head] : 0.0f);
    for (uint d = lane; d < uint(HEAD); d += SIMD_WIDTH) {
        float sum = 0.0f;
        for (uint i = 0; i < n_parts; i++) {
            uint s = simdgroup + i * side;
            sum += outs[s][d] * mlxr::soft_weight(maxima[s], all.max);
        }
        if (p.n_splits == 1) {
            y[at * HEAD + d] = T(sum * factor);
        } else {
            left[2 + d] = sum;
        }
    }
    if (p.n_splits > 1 && lane == 0) {
        left[0] = all.max;
        left[1] = all.sum;
    }
}

/* Grid: x 32 lanes, y heads, z rows. params: n_head, n_splits, has_sinks. */
template <typename T, int HEAD>
[[kernel]] void attention_decode_merge(const device float *partials [[buffer(0)]],
                                       const device float *sinks [[buffer(1)]],
                                       const constant uint *params [[buffer(2)]], device T *y [[buffer(3)]],
                                       uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
                                       uint thread_index_in_simdgroup [[thread_index_in_simdgroup]])
{
    uint lane = thread_index_in_simdgroup, head = threadgroup_position_in_grid.y, n_splits = params[1];
    ulong at = ulong(threadgroup_position_in_grid.z) * params[0] + head;
    const device float *parts = partials + at * n_splits * (HEAD + 2);
    mlxr::soft all = {-INFINITY, 0.0f};
    for (uint i = lane; i < n_splits; i += SIMD_WIDTH) {
        all.max = max(all.max, parts[i * (HEAD + 2)]);
    }
    all.max = simd_max(all.max);
    for (uint i = lane; i < n_splits; i += SIMD_WIDTH) {
        all.sum += parts[i * (HEAD + 2) + 1] * mlxr::soft_weight(parts[i * (HEAD + 2)], all.max);
    }
    all.sum = simd_sum(all.sum);
    float factor = mlxr::soft_factor(all, params[2] != 0, params[2] != 0 ? sinks[head] : 0.0f);
    for (uint d = lane; d < uint(HEAD); d += SIMD_WIDTH) {
        float sum = 0.0f;
        for (uint i = 0; i < n_splits; i++) {
            const device float *from = parts + i * (HEAD + 2);
            sum += from[2 + d] * mlxr::soft_weight(from[0], all.max);
        }
        y[at * HEAD + d] = T(sum * factor);
    }
}

/* New rows of keys and values, [n_rows][n_head_kv][head_dim] at any row stride, into the pages of their sequences; keys
 * are turned by the step's rope table, [n_rows][n_rot / 2][2], on the way (n_rot 0: they are as they shall be). Grid: x
 * pairs of head_dim, y KV heads, z rows. `done` is an output for the sake of the graph: [0] becomes n_rows. */
template <typename T, typename KV>
[[kernel]] void kv_write(const device T *k [[buffer(0)]], const device T *v [[buffer(1)]],
                         const device float *turns [[buffer(2)]], const device KV *pages [[buffer(3)]],
                         const device uint *tables [[buffer(4)]], const device uint *row_tables [[buffer(5)]],
                         const device int *positions [[buffer(6)]], const device uint *params [[buffer(7)]],
                         device uint *done [[buffer(8)]], uint3 thread_position_in_grid [[thread_position_in_grid]])
{
    uint pair = thread_position_in_grid.x, head = thread_position_in_grid.y, row = thread_position_in_grid.z;
    uint n_rows = params[0], n_head_kv = params[1], head_dim = params[2], n_rot = params[3];
    bool pairs = params[6] != 0;
    if (pair == 0 && head == 0 && row == 0) {
        done[0] = n_rows;
    }
    int position = row < n_rows ? positions[row] : -1;
    if (position < 0 || pair >= head_dim / 2) {
        return;
    }
    mlxr::kv_place place;
    place.page = params[8] | ulong(params[9]) << 32;
    place.layer = params[10];
    place.head = params[11];
    place.values = n_head_kv * place.head;
    place.tokens_shift = params[12];
    uint page = tables[ulong(row_tables[row]) * params[7] + (uint(position) >> place.tokens_shift)];
    device KV *key = mlxr::kv_key((device KV *)pages, place, page, head, uint(position), head_dim);
    const device T *from = k + ulong(row) * params[4] + head * head_dim;
    const device T *value = v + ulong(row) * params[5] + head * head_dim;
    bool turn = pair < n_rot / 2;
    uint one = turn && !pairs ? pair : 2 * pair, other = turn && !pairs ? pair + n_rot / 2 : 2 * pair + 1;
    float a = float(from[one]), b = float(from[other]);
    if (turn) {
        const device float *t = turns + 2 * (ulong(row) * (n_rot / 2) + pair);
        float turned = a * t[0] - b * t[1];
        b = a * t[1] + b * t[0];
        a = turned;
    }
    key[one] = mlxr::to_kv<KV>(a);
    key[other] = mlxr::to_kv<KV>(b);
    key[place.values + 2 * pair] = mlxr::to_kv<KV>(float(value[2 * pair]));
    key[place.values + 2 * pair + 1] = mlxr::to_kv<KV>(float(value[2 * pair + 1]));
}

instantiate_kernel("attention_decode_fused_f32_f32_64", attention_decode_fused, float, float, 64);
instantiate_kernel("attention_decode_fused_f32_f16_64", attention_decode_fused, float, half, 64);
instantiate_kernel("attention_decode_fused_f32_bf16_64", attention_decode_fused, float, bfloat, 64);
instantiate_kernel("attention_decode_fused_f16_f16_64", attention_decode_fused, half, half, 64);
instantiate_kernel("attention_decode_fused_bf16_bf16_64", attention_decode_fused, bfloat, bfloat, 64);
instantiate_kernel("attention_decode_merge_f32_64", attention_decode_merge, float, 64);
instantiate_kernel("attention_decode_merge_f16_64", attention_decode_merge, half, 64);
instantiate_kernel("attention_decode_merge_bf16_64", attention_decode_merge, bfloat, 64);
instantiate_kernel("attention_decode_fused_f32_f32_80", attention_decode_fused, float, float, 80);
instantiate_kernel("attention_decode_fused_f32_f16_80", attention_decode_fused, float, half, 80);
instantiate_kernel("attention_decode_fused_f32_bf16_80", attention_decode_fused, float, bfloat, 80);
instantiate_kernel("attention_decode_fused_f16_f16_80", attention_decode_fused, half, half, 80);
instantiate_kernel("attention_decode_fused_bf16_bf16_80", attention_decode_fused, bfloat, bfloat, 80);
instantiate_kernel("attention_decode_merge_f32_80", attention_decode_merge, float, 80);
instantiate_kernel("attention_decode_merge_f16_80", attention_decode_merge, half, 80);
instantiate_kernel("attention_decode_merge_bf16_80", attention_decode_merge, bfloat, 80);
instantiate_kernel("attention_decode_fused_f32_f32_96", attention_decode_fused, float, float, 96);
instantiate_kernel("attention_decode_fused_f32_f16_96", attention_decode_fused, float, half, 96);
instantiate_kernel("attention_decode_fused_f32_bf16_96", attention_decode_fused, float, bfloat, 96);
instantiate_kernel("attention_decode_fused_f16_f16_96", attention_decode_fused, half, half, 96);
instantiate_kernel("attention_decode_fused_bf16_bf16_96", attention_decode_fused, bfloat, bfloat, 96);
instantiate_kernel("attention_decode_merge_f32_96", attention_decode_merge, float, 96);
instantiate_kernel("attention_decode_merge_f16_96", attention_decode_merge, half, 96);
instantiate_kernel("attention_decode_merge_bf16_96", attention_decode_merge, bfloat, 96);
instantiate_kernel("attention_decode_fused_f32_f32_128", attention_decode_fused, float, float, 128);
instantiate_kernel("attention_decode_fused_f32_f16_128", attention_decode_fused, float, half, 128);
instantiate_kernel("attention_decode_fused_f32_bf16_128", attention_decode_fused, float, bfloat, 128);
instantiate_kernel("attention_decode_fused_f16_f16_128", attention_decode_fused, half, half, 128);
instantiate_kernel("attention_decode_fused_bf16_bf16_128", attention_decode_fused, bfloat, bfloat, 128);
instantiate_kernel("attention_decode_merge_f32_128", attention_decode_merge, float, 128);
instantiate_kernel("attention_decode_merge_f16_128", attention_decode_merge, half, 128);
instantiate_kernel("attention_decode_merge_bf16_128", attention_decode_merge, bfloat, 128);
instantiate_kernel("attention_decode_fused_f32_f32_256", attention_decode_fused, float, float, 256);
instantiate_kernel("attention_decode_fused_f32_f16_256", attention_decode_fused, float, half, 256);
instantiate_kernel("attention_decode_fused_f32_bf16_256", attention_decode_fused, float, bfloat, 256);
instantiate_kernel("attention_decode_fused_f16_f16_256", attention_decode_fused, half, half, 256);
instantiate_kernel("attention_decode_fused_bf16_bf16_256", attention_decode_fused, bfloat, bfloat, 256);
instantiate_kernel("attention_decode_merge_f32_256", attention_decode_merge, float, 256);
instantiate_kernel("attention_decode_merge_f16_256", attention_decode_merge, half, 256);
instantiate_kernel("attention_decode_merge_bf16_256", attention_decode_merge, bfloat, 256);
instantiate_kernel("kv_write_f32_f32", kv_write, float, float);
instantiate_kernel("kv_write_f32_f16", kv_write, float, half);
instantiate_kernel("kv_write_f32_bf16", kv_write, float, bfloat);
instantiate_kernel("kv_write_f16_f16", kv_write, half, half);
instantiate_kernel("kv_write_bf16_bf16", kv_write, bfloat, bfloat);
