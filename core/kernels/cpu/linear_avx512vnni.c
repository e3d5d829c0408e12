/*
 * Integer linear layers for AVX-512 with VNNI: panels of 16 rows.
 * Owner: const tables. Lifetime: static.
 *
 * Weights are unsigned in the vector operand and activations signed in the broadcast one, as vpdpbusd wants them;
 * signed formats carry an offset that is taken back by starting the sum at −offset × Σq.
 */
#include "kernels/cpu/linear_table.h"
#include "kernels/cpu/unpack_avx512.h"

#define MIN PANEL_MIN
#define HALVES PANEL_HALVES

INLINE __m512i start(const uint8_t *words, int word, int t, int T, int shift)
{
    __m512i minus = _mm512_set1_epi32(word_at(words + (word * T + t) * 4));
    return _mm512_sll_epi32(minus, _mm_cvtsi32_si128(shift));
}

INLINE __m512 float_at(const uint8_t *words, int word, int t, int T)
{
    float f;
    memcpy(&f, words + (word * T + t) * 4, sizeof f);
    return _mm512_set1_ps(f);
}

/* acc[t] += block · the record's token t; see the head of linear_panels.h for the order. */
INLINE void multiply(int kind, int shift, int T, const block512 *v, const uint8_t *record, __m512 acc[])
{
    const uint8_t *words = record + T * Q8_BLOCK;
    const bool offset = !(kind & MIN);
#pragma GCC unroll 8
    for (int t = 0; t < T; t++) {
        const uint8_t *q = record + t * Q8_BLOCK;
        __m512 scale = float_at(words, Q8_SCALE, t, T);
        __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        if (offset) {
            sum[0] = start(words, kind & HALVES ? Q8_MINUS_LOW : Q8_MINUS_SUM, t, T, shift);
        }
        if (offset && (kind & HALVES)) {
            sum[1] = start(words, Q8_MINUS_HIGH, t, T, shift);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            __m512i *s = kind & HALVES ? &sum[i / 4] : &sum[0];
            *s = _mm512_dpbusd_epi32(*s, v->w[i], _mm512_set1_epi32(word_at(q + 4 * i)));
        }
        acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[0]), _mm512_mul_ps(v->scale[0], scale), acc[t]);
        if (kind & HALVES) {
            acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[1]), _mm512_mul_ps(v->scale[1], scale), acc[t]);
        }
        if (kind == MIN) {
            acc[t] = _mm512_fmadd_ps(v->min[0], float_at(words, Q8_SCALED_SUM, t, T), acc[t]);
        }
        if (kind == (MIN | HALVES)) { /* minima are stored negated, as the sums are */
            for (int h = 0; h < 2; h++) {
                __m512i minus = _mm512_set1_epi32(word_at(words + ((Q8_MINUS_LOW + h) * T + t) * 4));
                acc[t] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(minus), scale), v->min[h], acc[t]);
            }
        }
    }
}

INLINE void store(int T, const __m512 acc[], const panel_output *out)
{
    __mmask16 rows = (__mmask16)((1u << out->n_rows) - 1);
    __m512 bias = out->bias ? _mm512_maskz_loadu_ps(rows, out->bias) : _mm512_setzero_ps();
    for (int t = 0; t < T; t++) {
        float *dst = out->dst + t * out->stride;
        __m512 value = out->bias ? _mm512_add_ps(acc[t], bias) : acc[t];
        if (out->add) {
            value = _mm512_add_ps(_mm512_maskz_loadu_ps(rows, dst), value);
        }
        if (out->n_rows == 16) {
            _mm512_storeu_ps(dst, value);
        } else {
            _mm512_mask_storeu_ps(dst, rows, value);
        }
    }
}

INLINE void zero(int T, __m512 acc[])
{
    for (int t = 0; t < T; t++) {
        acc[t] = _mm512_setzero_ps();
    }
}

/* Panel blocks: as block512, but only the vectors that the kind has. */
INLINE size_t block_bytes(int kind)
{
    return 512 + 64 * (size_t)(1 + !!(kind & HALVES)) * (size_t)(1 + !!(kind & MIN));
}

INLINE void put_block(int kind, const block512 *v, uint8_t *to)
{
    for (int i = 0; i < 8; i++) {
        _mm512_store_si512(to + 64 * i, v->w[i]);
    }
    _mm512_store_ps(to + 512, v->scale[0]);
    if (kind == MIN) {
        _mm512_store_ps(to + 576, v->min[0]);
    }
    if (kind & HALVES) {
        _mm512_store_ps(to + 576, v->scale[1]);
    }
    if (kind == (MIN | HALVES)) {
        _mm512_store_ps(to + 640, v->min[0]);
        _mm512_store_ps(to + 704, v->min[1]);
    }
}

INLINE void get_block(int kind, const uint8_t *from, block512 *v)
{
    for (int i = 0; i < 8; i++) {
        v->w[i] = _mm512_load_si512(from + 64 * i);
    }
    v->scale[0] = _mm512_load_ps(from + 512);
    if (kind == MIN) {
        v->min[0] = _mm512_load_ps(from + 576);
    }
    if (kind & HALVES) {
        v->scale[1] = _mm512_load_ps(from + 576);
    }
    if (kind == (MIN | HALVES)) {
        v->min[0] = _mm512_load_ps(from + 640);
        v->min[1] = _mm512_load_ps(from + 704);
    }
}

INLINE void tile(int kind, int T, const uint8_t *panel, uint32_t n_in, int shift, const uint8_t *record,
                 const panel_output *out)
{
    __m512 acc[LINEAR_TILE];
    zero(T, acc);
    for (uint32_t b = 0; b < n_in / Q8_BLOCK; b++) {
        block512 v;
        get_block(kind, panel, &v);
        multiply(kind, shift, T, &v, record, acc);
        panel += block_bytes(kind);
        record += T * Q8_RECORD_BYTES;
    }
    store(T, acc, out);
}

#define TILE(name, kind, T)                                                                                            \
    static void tile_##name##_##T(const uint8_t *panel, uint32_t n_in, int shift, const uint8_t *record,               \
                                  const panel_output *out)                                                             \
    {                                                                                                                  \
        tile(kind, T, panel, n_in, shift, record, out);                                                                \
    }
#define TILES(name, kind)                                                                                              \
    TILE(name, kind, 1)                                                                                                \
    TILE(name, kind, 2)                                                                                                \
    TILE(name, kind, 3)                                                                                                \
    TILE(name, kind, 4)                                                                                                \
    TILE(name, kind, 5)                                                                                                \
    TILE(name, kind, 6)                                                                                                \
    TILE(name, kind, 7)                                                                                                \
    TILE(name, kind, 8)                                                                                                \
    static panel_tile_fn *const tiles_##name[] = {                                                                     \
        NULL,                                                                                                          \
        tile_##name##_1,                                                                                               \
        tile_##name##_2,                                                                                               \
        tile_##name##_3,                                                                                               \
        tile_##name##_4,                                                                                               \
        tile_##name##_5,                                                                                               \
        tile_##name##_6,                                                                                               \
        tile_##name##_7,                                                                                               \
        tile_##name##_8,                                                                                               \
    };

TILES(offset, 0)
TILES(min, MIN)
TILES(offset_halves, HALVES)

/* Unpacking and small batches, for each format. `use` is what happens to a block: into the panel, or multiplied. */
INLINE void use(int kind, int shift, int T, const block512 *v, const uint8_t *record, __m512 acc[], uint8_t *panel)
{
    if (panel) {
        put_block(kind, v, panel);
    } else {
        multiply(kind, shift, T, v, record, acc);
    }
}

INLINE void prefetch(const uint8_t *p, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i += 64) {
        _mm_prefetch((const char *)p + i, _MM_HINT_T0);
    }
}

/* The rows' blocks in order; what follows the panel in memory is fetched meanwhile, in the order of its addresses. */
INLINE void walk_legacy(dtype type, size_t bytes, int kind, int shift, int T, const uint8_t *rows, size_t row_bytes,
                        uint32_t n_in, const uint8_t *record, __m512 acc[], uint8_t *panel)
{
    const uint8_t *next = rows + 16 * row_bytes;
    for (uint32_t b = 0; b < n_in / 32; b++) {
        block512 v;
        block_legacy512(type, rows, row_bytes, &v);
        use(kind, shift, T, &v, record, acc, panel);
        prefetch(next, 16 * bytes);
        next += 16 * bytes;
        rows += bytes;
        record += T * Q8_RECORD_BYTES;
        panel += panel ? block_bytes(kind) : 0;
    }
}

INLINE void walk_k(dtype type, size_t bytes, int kind, int shift, int T, const uint8_t *rows, size_t row_bytes,
                   uint32_t n_in, const uint8_t *record, __m512 acc[], uint8_t *panel)
{
    const uint8_t *next = rows + 16 * row_bytes;
    for (uint32_t b = 0; b < n_in / 256; b++) {
        super512 s;
        if (type == DTYPE_Q6_K) {
            super_k6(rows, row_bytes, &s);
        } else {
            super_k45(rows, row_bytes, &s);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            block512 v;
            switch ((int)type) {
            case DTYPE_Q4_K:
                block_k4(rows, row_bytes, i, &s, &v);
                break;
            case DTYPE_Q5_K:
                block_k5(rows, row_bytes, i, &s, &v);
                break;
            case DTYPE_Q6_K:
                block_k6(rows, row_bytes, i, &s, &v);
                break;
            }
            use(kind, shift, T, &v, record, acc, panel);
            prefetch(next, 2 * bytes);
            next += 2 * bytes;
            record += T * Q8_RECORD_BYTES;
            panel += panel ? block_bytes(kind) : 0;
        }
        rows += bytes;
    }
}

#define DIRECT(name, walk, type, bytes, kind, shift, T)                                                                \
    static void direct_##name##_##T(const uint8_t *rows, size_t row_bytes, uint32_t n_in, const uint8_t *record,       \
                                    const panel_output *out)                                                           \
    {                                                                                                                  \
        __m512 acc[T];                                                                                                 \
        zero(T, acc);                                                                                                  \
        walk(type, bytes, kind, shift, T, rows, row_bytes, n_in, record, acc, NULL);                                   \
        store(T, acc, out);                                                                                            \
    }

#define FORMAT(name, walk, type, bytes, kind, shift_, tiles)                                                           \
    DIRECT(name, walk, type, bytes, kind, shift_, 1)                                                                   \
    DIRECT(name, walk, type, bytes, kind, shift_, 2)                                                                   \
    DIRECT(name, walk, type, bytes, kind, shift_, 3)                                                                   \
    DIRECT(name, walk, type, bytes, kind, shift_, 4)                                                                   \
    static void unpack_##name(const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint8_t *panel)                    \
    {                                                                                                                  \
        walk(type, bytes, kind, shift_, 0, rows, row_bytes, n_in, panel, NULL, panel);                                 \
    }                                                                                                                  \
    static void rows_##name(const linear_weight *weight, const linear_input *input, const linear_output *output,       \
                            uint32_t begin, uint32_t end, void *scratch)                                               \
    {                                                                                                                  \
        const panel_kernel k = {                                                                                       \
            .rows = 16,                                                                                                \
            .block_bytes = block_bytes(kind),                                                                          \
            .shift = shift_,                                                                                           \
            .unpack = unpack_##name,                                                                                   \
            .direct = {NULL, direct_##name##_1, direct_##name##_2, direct_##name##_3, direct_##name##_4},              \
            .tile = tiles};                                                                                            \
        linear_panels_run(&k, weight, input, output, begin, end, scratch);                                             \
    }

FORMAT(q4_0, walk_legacy, DTYPE_Q4_0, 18, 0, 3, tiles_offset)
FORMAT(q4_1, walk_legacy, DTYPE_Q4_1, 20, MIN, 0, tiles_min)
FORMAT(q5_0, walk_legacy, DTYPE_Q5_0, 22, 0, 4, tiles_offset)
FORMAT(q5_1, walk_legacy, DTYPE_Q5_1, 24, MIN, 0, tiles_min)
FORMAT(q8_0, walk_legacy, DTYPE_Q8_0, 34, 0, 7, tiles_offset)
FORMAT(q4_k, walk_k, DTYPE_Q4_K, 144, MIN, 0, tiles_min)
FORMAT(q5_k, walk_k, DTYPE_Q5_K, 176, MIN, 0, tiles_min)
FORMAT(q6_k, walk_k, DTYPE_Q6_K, 210, HALVES, 5, tiles_offset_halves)

void linear_table_avx512vnni(linear_kernels *kernels)
{
    static const struct {
        dtype type;
        linear_rows_fn *rows;
    } all[] = {{DTYPE_Q4_0, rows_q4_0}, {DTYPE_Q4_1, rows_q4_1}, {DTYPE_Q5_0, rows_q5_0}, {DTYPE_Q5_1, rows_q5_1},
               {DTYPE_Q8_0, rows_q8_0}, {DTYPE_Q4_K, rows_q4_k}, {DTYPE_Q5_K, rows_q5_k}, {DTYPE_Q6_K, rows_q6_k}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        kernels->format[all[i].type] = LINEAR_Q8;
        kernels->rows[all[i].type] = all[i].rows;
        kernels->isa[all[i].type] = "avx512-vnni";
    }
}
