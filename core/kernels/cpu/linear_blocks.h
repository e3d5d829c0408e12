/*
 * Integer linear layers, written once for every instruction set. Include after unpack_<isa>.h and these definitions:
 *     LINEAR_SUFFIX, LINEAR_ISA   of the table function and its name
 *     PASS_TOKENS                 tokens whose sums fit in registers beside a block of weights
 *     GROUP_TOKENS                of them whose sums are computed in turns
 *     TURN_WORDS                  words of weights a turn, at most
 *     MAKE_UNSIGNED               whether dot() wants unsigned weights for 8-bit types as well
 *     vint dot(bits, vint start, const vint *w, const uint8_t *q, int n)
 *                                 start + Σ of n words of weights × q, `bits` a weight
 * Owner: const tables. Lifetime: static.
 */
#include "kernels/cpu/linear_table.h"
#include "kernels/cpu/unpack_blocks.h"

#define MIN PANEL_MIN
#define HALVES PANEL_HALVES
#define VECTOR (ROWS * 4) /* bytes */
#define PREFETCH_AHEAD 8192

INLINE float float_at(const uint8_t *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

/* sum[t] = Σ over n_words of weights × the 16-bit integers whose digits token t has at q, from minus[t] times the
 * weights' offset. Digits and tokens take turns, so that no instruction waits for the one before it. */
INLINE void sum_digits(int bits, int shift, int n, const vint *w, int n_words, const uint8_t *q, const uint8_t *minus,
                       vint sum[])
{
    const int turn = n_words < TURN_WORDS ? n_words : TURN_WORDS;
    vint high[GROUP_TOKENS];
    UNROLL
    for (int t = 0; t < n; t++) {
        high[t] = v_words(0);
        sum[t] = shift ? v_left32(v_words(word_at(minus + 4 * t)), shift) : v_words(0);
    }
    UNROLL
    for (int i = 0; i < n_words; i += turn) {
        UNROLL
        for (int t = 0; t < n; t++) {
            high[t] = dot(bits, high[t], w + i, q + t * Q16_DIGITS + 4 * i, turn);
            sum[t] = dot(bits, sum[t], w + i, q + t * Q16_DIGITS + Q16_BLOCK + 4 * i, turn);
        }
    }
    UNROLL
    for (int t = 0; t < n; t++) {
        sum[t] = v_add32(sum[t], v_left32(high[t], 8));
    }
}

/* acc[t] += 16 or 32 k of the block × those of n tokens whose digits begin at q. */
INLINE void multiply_part(int bits, int shift, int n, const vint *w, int n_words, vflt scale, const uint8_t *q,
                          const uint8_t *minus, const uint8_t *units, vflt acc[])
{
    vint sum[GROUP_TOKENS];
    sum_digits(bits, shift, n, w, n_words, q, minus, sum);
    UNROLL
    for (int t = 0; t < n; t++) {
        acc[t] = v_fma(v_from_int(sum[t]), v_mul(scale, v_floats(float_at(units + 4 * t))), acc[t]);
    }
}

/* The same of one group of n tokens, the first of which is `first` of a record of T. */
INLINE void multiply_group(int kind, int bits, int shift, int T, int first, int n, const block *v,
                           const uint8_t *record, vflt acc[])
{
    const uint8_t *q = record + first * Q16_DIGITS, *words = record + T * Q16_DIGITS + first * 4;
    const uint8_t *units = words + Q16_UNIT * T * 4, *minus = words + Q16_MINUS_SUM * T * 4;
    const uint8_t *low = words + Q16_MINUS_LOW * T * 4, *high = words + Q16_MINUS_HIGH * T * 4;
    if (kind & HALVES) {
        multiply_part(bits, shift, n, v->w, 4, v->scale[0], q, low, units, acc);
        multiply_part(bits, shift, n, v->w + 4, 4, v->scale[1], q + 16, high, units, acc);
    } else {
        multiply_part(bits, shift, n, v->w, 8, v->scale[0], q, minus, units, acc);
    }
    UNROLL
    for (int t = 0; t < n; t++) {
        if (kind == MIN) {
            acc[t] = v_fma(v->min[0], v_floats(float_at(words + Q16_SCALED_SUM * T * 4 + 4 * t)), acc[t]);
        }
        if (kind == (MIN | HALVES)) { /* these minima are positive and taken away, as the sums are */
            vflt unit = v_floats(float_at(units + 4 * t));
            acc[t] = v_fma(v_mul(v_from_int(v_words(word_at(low + 4 * t))), unit), v->min[0], acc[t]);
            acc[t] = v_fma(v_mul(v_from_int(v_words(word_at(high + 4 * t))), unit), v->min[1], acc[t]);
        }
    }
}

/* Tokens first … first + n − 1 of a record of T: acc[t] += block · token; see linear_panels.h for the order. */
INLINE void multiply(int kind, int bits, int shift, int T, int first, int n, const block *v, const uint8_t *record,
                     vflt acc[])
{
    UNROLL
    for (int t = 0; t < n; t += GROUP_TOKENS) {
        int group = n - t < GROUP_TOKENS ? n - t : GROUP_TOKENS;
        multiply_group(kind, bits, shift, T, first + t, group, v, record, acc + t);
    }
}

INLINE void zero(int n, vflt acc[])
{
    UNROLL
    for (int t = 0; t < n; t++) {
        acc[t] = v_floats(0.0f);
    }
}

INLINE void store(int first, int n, const vflt acc[], const panel_output *out)
{
    UNROLL
    for (int t = 0; t < n; t++) {
        float *dst = out->dst + (size_t)(first + t) * out->stride;
        vflt value = out->bias ? v_add(acc[t], v_load_some(out->bias, out->n_rows)) : acc[t];
        value = out->add ? v_add(v_load_some(dst, out->n_rows), value) : value;
        v_store_some(dst, value, out->n_rows);
    }
}

/* Panel blocks: as struct block, but only the vectors that the kind has. */
INLINE size_t block_bytes(int kind)
{
    return VECTOR * (8 + (size_t)(1 + !!(kind & HALVES)) * (size_t)(1 + !!(kind & MIN)));
}

INLINE void put_block(int kind, const block *v, uint8_t *to)
{
    UNROLL
    for (int i = 0; i < 8; i++) {
        v_put(to + i * VECTOR, v->w[i]);
    }
    to += 8 * VECTOR;
    v_put_floats(to, v->scale[0]);
    if (kind & HALVES) {
        v_put_floats(to += VECTOR, v->scale[1]);
    }
    if (kind & MIN) {
        v_put_floats(to += VECTOR, v->min[0]);
    }
    if (kind == (MIN | HALVES)) {
        v_put_floats(to += VECTOR, v->min[1]);
    }
}

INLINE void get_block(int kind, const uint8_t *from, block *v)
{
    UNROLL
    for (int i = 0; i < 8; i++) {
        v->w[i] = v_get(from + i * VECTOR);
    }
    from += 8 * VECTOR;
    v->scale[0] = v_get_floats(from);
    if (kind & HALVES) {
        v->scale[1] = v_get_floats(from += VECTOR);
    }
    if (kind & MIN) {
        v->min[0] = v_get_floats(from += VECTOR);
    }
    if (kind == (MIN | HALVES)) {
        v->min[1] = v_get_floats(from += VECTOR);
    }
}

INLINE void tile_pass(int kind, int bits, int shift, int T, int first, int n, const uint8_t *panel, uint32_t n_in,
                      const uint8_t *record, const panel_output *out, const panel_ahead *ahead)
{
    vflt acc[PASS_TOKENS];
    const uint8_t *far = ahead->bytes;
    const size_t far_step = first ? 0 : ahead->step;
    zero(n, acc);
    for (uint32_t b = 0; b < n_in / Q16_BLOCK; b++) {
        block v;
        get_block(kind, panel, &v);
        multiply(kind, bits, shift, T, first, n, &v, record, acc);
        for (size_t i = 0; i < far_step; i += 64) {
            __builtin_prefetch(far + i, 0, 2);
        }
        far += far_step;
        panel += block_bytes(kind);
        record += T * Q16_RECORD_BYTES;
    }
    store(first, n, acc, out);
}

/* What happens to an unpacked block: into the panel or, without one, multiplied at once. */
INLINE void use(int kind, int bits, int shift, int T, const block *v, const uint8_t *record, vflt acc[], uint8_t *panel)
{
    if (panel) {
        put_block(kind, v, panel);
    } else {
        multiply(kind, bits, shift, T, 0, T, v, record, acc);
    }
}

/* Into L1, and what lies further ahead into L2, which can wait for more lines from memory at a time than L1. */
INLINE void prefetch(const uint8_t *p, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i += 64) {
        __builtin_prefetch(p + i, 0, 3);
        __builtin_prefetch(p + i + PREFETCH_AHEAD, 0, 2);
    }
}

/* The rows' blocks in order. While multiplying, what follows the panel in memory is fetched in the order of its
 * addresses: sixteen rows are too many streams for a prefetcher, the next panel is one. */
INLINE void walk_legacy(dtype type, size_t bytes, int kind, int bits, int shift, int T, const uint8_t *rows,
                        size_t row_bytes, uint32_t n_in, const uint8_t *record, vflt acc[], uint8_t *panel)
{
    const uint8_t *next = rows + ROWS * row_bytes;
    for (uint32_t b = 0; b < n_in / Q16_BLOCK; b++) {
        block v;
        unpack_legacy(type, MAKE_UNSIGNED, rows, row_bytes, &v);
        use(kind, bits, shift, T, &v, record, acc, panel);
        prefetch(next, panel ? 0 : ROWS * bytes);
        next += ROWS * bytes;
        rows += bytes;
        record += T * Q16_RECORD_BYTES;
        if (panel) {
            panel += block_bytes(kind);
        }
    }
}

INLINE void walk_k(dtype type, size_t bytes, int kind, int bits, int shift, int T, const uint8_t *rows,
                   size_t row_bytes, uint32_t n_in, const uint8_t *record, vflt acc[], uint8_t *panel)
{
    const uint8_t *next = rows + ROWS * row_bytes;
    for (uint32_t b = 0; b < n_in / 256; b++) {
        super_block s;
        unpack_super(type, rows, row_bytes, &s);
        UNROLL
        for (int i = 0; i < 8; i++) {
            block v;
            unpack_super_block(type, MAKE_UNSIGNED, rows, row_bytes, i, &s, &v);
            use(kind, bits, shift, T, &v, record, acc, panel);
            prefetch(next, panel ? 0 : ROWS * bytes / 8);
            next += ROWS * bytes / 8;
            record += T * Q16_RECORD_BYTES;
            if (panel) {
                panel += block_bytes(kind);
            }
        }
        rows += bytes;
    }
}

#define PASS(name, kind, bits, shift, n)                                                                               \
    static void pass_##name##_##n(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T, int first,        \
                                  const panel_output *out, const panel_ahead *ahead)                                   \
    {                                                                                                                  \
        tile_pass(kind, bits, shift, T, first, n, panel, n_in, record, out, ahead);                                    \
    }

/* Panels of one kind × a tile of T tokens: a full tile with constant offsets, others in passes of up to four. */
#define TILES(name, kind, bits, shift)                                                                                 \
    PASS(name, kind, bits, shift, 1)                                                                                   \
    PASS(name, kind, bits, shift, 2)                                                                                   \
    PASS(name, kind, bits, shift, 3)                                                                                   \
    PASS(name, kind, bits, shift, 4)                                                                                   \
    static void tile_##name(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T,                         \
                            const panel_output *out, const panel_ahead *ahead)                                         \
    {                                                                                                                  \
        if (T == LINEAR_TILE && PASS_TOKENS == LINEAR_TILE) {                                                          \
            tile_pass(kind, bits, shift, LINEAR_TILE, 0, PASS_TOKENS, panel, n_in, record, out, ahead);                \
            return;                                                                                                    \
        }                                                                                                              \
        for (int first = 0; first < T; first += 4) {                                                                   \
            switch (T - first) {                                                                                       \
            case 1:                                                                                                    \
                pass_##name##_1(panel, n_in, record, T, first, out, ahead);                                            \
                break;                                                                                                 \
            case 2:                                                                                                    \
                pass_##name##_2(panel, n_in, record, T, first, out, ahead);                                            \
                break;                                                                                                 \
            case 3:                                                                                                    \
                pass_##name##_3(panel, n_in, record, T, first, out, ahead);                                            \
                break;                                                                                                 \
            default:                                                                                                   \
                pass_##name##_4(panel, n_in, record, T, first, out, ahead);                                            \
                break;                                                                                                 \
            }                                                                                                          \
        }                                                                                                              \
    }

/* A format that goes through panels whatever the batch. */
#define FORMAT(name, walk, type, bytes, kind, bits, shift, tiles, ...)                                                 \
    static void unpack_panel_##name(const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint8_t *panel)              \
    {                                                                                                                  \
        walk(type, bytes, kind, bits, shift, 0, rows, row_bytes, n_in, panel, NULL, panel);                            \
    }                                                                                                                  \
    static void rows_##name(const linear_weight *weight, const linear_input *input, const linear_output *output,       \
                            uint32_t begin, uint32_t end, void *scratch)                                               \
    {                                                                                                                  \
        const panel_kernel k = {.rows = ROWS,                                                                          \
                                .block_bytes = block_bytes(kind),                                                      \
                                .unpack = unpack_panel_##name,                                                         \
                                .tile = tiles,                                                                         \
                                .direct = {__VA_ARGS__}};                                                              \
        linear_panels_run(&k, weight, input, output, begin, end, scratch);                                             \
    }

#define DIRECT(name, walk, type, bytes, kind, bits, shift, T)                                                          \
    static void direct_##name##_##T(const uint8_t *rows, size_t row_bytes, uint32_t n_in, const uint8_t *record,       \
                                    const panel_output *out)                                                           \
    {                                                                                                                  \
        vflt acc[T];                                                                                                   \
        zero(T, acc);                                                                                                  \
        walk(type, bytes, kind, bits, shift, T, rows, row_bytes, n_in, record, acc, NULL);                             \
        store(0, T, acc, out);                                                                                         \
    }

/* A format with functions of its own for 1 … 4 tokens. More gain nothing over a panel that is still in L1, and would
 * take minutes to compile. */
#define FORMAT_DIRECT(name, walk, type, bytes, kind, bits, shift, tiles)                                               \
    DIRECT(name, walk, type, bytes, kind, bits, shift, 1)                                                              \
    DIRECT(name, walk, type, bytes, kind, bits, shift, 2)                                                              \
    DIRECT(name, walk, type, bytes, kind, bits, shift, 3)                                                              \
    DIRECT(name, walk, type, bytes, kind, bits, shift, 4)                                                              \
    FORMAT(name, walk, type, bytes, kind, bits, shift, tiles, NULL, direct_##name##_1, direct_##name##_2,              \
           direct_##name##_3, direct_##name##_4)

#define SHIFT8 (MAKE_UNSIGNED ? 7 : 0)

TILES(q4_0, 0, 4, 3)
TILES(q5_0, 0, 5, 4)
TILES(q8, 0, 8, SHIFT8)
TILES(min4, MIN, 4, 0)
TILES(min5, MIN, 5, 0)
TILES(q6_k, HALVES, 6, 5)
TILES(q3_k, HALVES, 4, 2)
TILES(q2_k, MIN | HALVES, 4, 0)

FORMAT_DIRECT(q4_0, walk_legacy, DTYPE_Q4_0, 18, 0, 4, 3, tile_q4_0)
FORMAT_DIRECT(q4_1, walk_legacy, DTYPE_Q4_1, 20, MIN, 4, 0, tile_min4)
FORMAT_DIRECT(q5_0, walk_legacy, DTYPE_Q5_0, 22, 0, 5, 4, tile_q5_0)
FORMAT_DIRECT(q5_1, walk_legacy, DTYPE_Q5_1, 24, MIN, 5, 0, tile_min5)
FORMAT_DIRECT(q8_0, walk_legacy, DTYPE_Q8_0, 34, 0, 8, SHIFT8, tile_q8)
FORMAT_DIRECT(q4_k, walk_k, DTYPE_Q4_K, 144, MIN, 4, 0, tile_min4)
FORMAT_DIRECT(q5_k, walk_k, DTYPE_Q5_K, 176, MIN, 5, 0, tile_min5)
FORMAT_DIRECT(q6_k, walk_k, DTYPE_Q6_K, 210, HALVES, 6, 5, tile_q6_k)
FORMAT(q2_k, walk_k, DTYPE_Q2_K, 84, MIN | HALVES, 4, 0, tile_q2_k, NULL)
FORMAT(q3_k, walk_k, DTYPE_Q3_K, 110, HALVES, 4, 2, tile_q3_k, NULL)
FORMAT(q8_k, walk_k, DTYPE_Q8_K, 292, 0, 8, SHIFT8, tile_q8, NULL)

void LINEAR_SUFFIX(linear_kernels *kernels)
{
    static const struct {
        dtype type;
        linear_rows_fn *rows;
    } all[] = {{DTYPE_Q4_0, rows_q4_0}, {DTYPE_Q4_1, rows_q4_1}, {DTYPE_Q5_0, rows_q5_0}, {DTYPE_Q5_1, rows_q5_1},
               {DTYPE_Q8_0, rows_q8_0}, {DTYPE_Q2_K, rows_q2_k}, {DTYPE_Q3_K, rows_q3_k}, {DTYPE_Q4_K, rows_q4_k},
               {DTYPE_Q5_K, rows_q5_k}, {DTYPE_Q6_K, rows_q6_k}, {DTYPE_Q8_K, rows_q8_k}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        kernels->format[all[i].type] = LINEAR_Q16;
        kernels->rows[all[i].type] = all[i].rows;
        kernels->isa[all[i].type] = LINEAR_ISA;
    }
}
