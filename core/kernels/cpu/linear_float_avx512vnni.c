/*
 * F32 and F16 weights as words of 16 bits, for AVX-512 with VNNI: panels of 16 rows, see linear_use_words.
 * Owner: const tables; panels are in the caller's scratch. Lifetime: the call.
 *
 * Weights are made integers as they are met, 32 of a row with one scale, as inputs were when they were packed
 * (quantize_act.h). vpdpwssd multiplies and adds two of them in each lane, where a multiply-add of floats has one, and
 * its sums over a block are exact. A panel's block: s16 w[16][rows][2] | f32 scale[rows]. For a row and a token,
 *
 *     acc = fma(float(Σ w q), scale × unit, acc)
 *
 * block after block, whatever the number of tokens.
 */
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/linear_table.h"
#include "kernels/cpu/unpack_avx512.h"

#define WORD_MOST 32767.0f
#define WORDS_MOST 131000.0f /* Σ of 32 magnitudes before rounding: with it, × W15_MOST, it is still below 2^31 */
#define VECTOR (ROWS * 4)    /* bytes */
#define PANEL_BYTES ((size_t)17 * VECTOR) /* of a block */

INLINE vflt floats_at(dtype type, const uint8_t *p)
{
    return type == DTYPE_F32 ? _mm512_loadu_ps(p) : _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

/* A half of a block: 16 k of all rows, rows side by side; `largest` is by row, of magnitudes compared as bits: NaN is
 * above infinity. */
INLINE void turn_half(dtype type, const uint8_t *rows, size_t row_bytes, vint out[16], vint *largest)
{
    vint lanes[4][4];
    UNROLL
    for (size_t i = 0; i < 4; i++) { /* of each four rows, as transpose_lanes takes them */
        vint r[4];
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            r[j] = _mm512_castps_si512(floats_at(type, rows + (4 * i + j) * row_bytes));
        }
        transpose_lanes(r, lanes[i]);
    }
    UNROLL
    for (int k = 0; k < 4; k++) { /* lane l of lanes[i][k]: column 4l + k of rows 4i … 4i + 3 */
        vint a = _mm512_shuffle_i32x4(lanes[0][k], lanes[1][k], 0x88);
        vint b = _mm512_shuffle_i32x4(lanes[0][k], lanes[1][k], 0xdd);
        vint c = _mm512_shuffle_i32x4(lanes[2][k], lanes[3][k], 0x88);
        vint d = _mm512_shuffle_i32x4(lanes[2][k], lanes[3][k], 0xdd);
        out[k] = _mm512_shuffle_i32x4(a, c, 0x88);
        out[k + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        out[k + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        out[k + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    UNROLL
    for (int k = 0; k < 16; k++) {
        *largest = _mm512_max_epi32(*largest, v_and(out[k], v_words(0x7fffffff)));
    }
}

/* Vectors of words in the order of the inputs' (quantize_act.h): k and k + 2 side by side, then k + 1 and k + 3. */
INLINE void put_half(const vint columns[16], vflt inverse, uint8_t *to)
{
    UNROLL
    for (int i = 0; i < 8; i++) {
        int k = i / 2 * 4 + i % 2;
        vint low = _mm512_cvtps_epi32(v_mul(v_as_float(columns[k]), inverse));
        vint high = _mm512_cvtps_epi32(v_mul(v_as_float(columns[k + 2]), inverse));
        v_put(to + i * VECTOR, _mm512_mask_blend_epi16(0xaaaaaaaau, low, v_left32(high, 16)));
    }
}

INLINE void words_of_floats(dtype type, const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint8_t *panel)
{
    const size_t element = type == DTYPE_F32 ? 4 : 2;
    for (uint32_t b = 0; b < n_in / Q16_BLOCK; b++) {
        vint columns[2][16], largest = v_words(0);
        turn_half(type, rows, row_bytes, columns[0], &largest);
        turn_half(type, rows + 16 * element, row_bytes, columns[1], &largest);
        vflt max = v_as_float(largest), sum = v_floats(0.0f);
        UNROLL
        for (int k = 0; k < 32; k++) {
            vflt magnitude = v_as_float(v_and(columns[k / 16][k % 16], v_words(0x7fffffff)));
            sum = v_fma(magnitude, v_floats(1.0f / WORDS_MOST), sum);
        }
        vflt unit = _mm512_max_ps(v_mul(max, v_floats(1.0f / WORD_MOST)), sum);
        /* Of a row that is not finite the scale is not, whatever its words are. */
        __mmask16 some = _mm512_cmp_ps_mask(max, v_floats(Q16_TINY), _CMP_NLT_UQ);
        __mmask16 finite = _mm512_cmplt_epi32_mask(largest, v_words(0x7f800000));
        vflt inverse = _mm512_maskz_div_ps(some & finite, v_floats(1.0f), unit);
        put_half(columns[0], inverse, panel);
        put_half(columns[1], inverse, panel + 8 * VECTOR);
        v_put_floats(panel + 16 * VECTOR, _mm512_mask_mov_ps(_mm512_maskz_mov_ps(some, max), some & finite, unit));
        panel += PANEL_BYTES;
        rows += Q16_BLOCK * element;
    }
}

static void words_of_f32(const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint8_t *panel)
{
    words_of_floats(DTYPE_F32, rows, row_bytes, n_in, panel);
}

static void words_of_f16(const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint8_t *panel)
{
    words_of_floats(DTYPE_F16, rows, row_bytes, n_in, panel);
}

/* A panel × n tokens of a tile of T, of which they are first … first + n − 1. */
INLINE void words_pass(int T, int first, int n, const uint8_t *panel, uint32_t n_in, const uint8_t *record,
                       const panel_output *out)
{
    vflt acc[LINEAR_TILE];
    const uint8_t *x = record + first * Q16_DIGITS, *unit = record + T * Q16_DIGITS + 4 * first;
    UNROLL
    for (int t = 0; t < n; t++) {
        acc[t] = v_floats(0.0f);
    }
    for (uint32_t b = 0; b < n_in / Q16_BLOCK; b++) {
        vint sum[LINEAR_TILE];
        UNROLL
        for (int t = 0; t < n; t++) {
            sum[t] = v_words(0);
        }
        UNROLL
        for (int i = 0; i < 16; i++) {
            vint weights = v_get(panel + i * VECTOR);
            UNROLL
            for (int t = 0; t < n; t++) {
                sum[t] = _mm512_dpwssd_epi32(sum[t], weights, v_words(word_at(x + t * Q16_DIGITS + 4 * i)));
            }
        }
        vflt scale = v_get_floats(panel + 16 * VECTOR);
        UNROLL
        for (int t = 0; t < n; t++) {
            float of_token;
            memcpy(&of_token, unit + 4 * t, sizeof of_token);
            acc[t] = v_fma(v_from_int(sum[t]), v_mul(scale, v_floats(of_token)), acc[t]);
        }
        panel += PANEL_BYTES;
        x += T * Q16_RECORD_BYTES;
        unit += T * Q16_RECORD_BYTES;
    }
    UNROLL
    for (int t = 0; t < n; t++) {
        float *dst = out->dst + (size_t)(first + t) * out->stride;
        vflt value = out->bias ? v_add(acc[t], v_load_some(out->bias, out->n_rows)) : acc[t];
        value = out->add ? v_add(v_load_some(dst, out->n_rows), value) : value;
        v_store_some(dst, value, out->n_rows);
    }
}

/* Tiles that are not full go four tokens at a time. */
static void words_tile(const uint8_t *panel, uint32_t n_in, const uint8_t *tile, int T, const panel_output *out,
                       const panel_ahead *ahead)
{
    (void)ahead;
    if (T == LINEAR_TILE) {
        words_pass(LINEAR_TILE, 0, LINEAR_TILE, panel, n_in, tile, out);
        return;
    }
    for (int first = 0; first < T; first += 4) {
        switch (T - first) {
        case 1:
            words_pass(T, first, 1, panel, n_in, tile, out);
            break;
        case 2:
            words_pass(T, first, 2, panel, n_in, tile, out);
            break;
        case 3:
            words_pass(T, first, 3, panel, n_in, tile, out);
            break;
        default:
            words_pass(T, first, 4, panel, n_in, tile, out);
            break;
        }
    }
}

static void rows_of_floats(const linear_weight *weight, const linear_input *input, const linear_output *output,
                           uint32_t begin, uint32_t end, void *scratch)
{
    static const panel_kernel f32 = {.rows = ROWS, .words = {1, PANEL_BYTES, words_of_f32, words_tile, NULL}};
    static const panel_kernel f16 = {.rows = ROWS, .words = {1, PANEL_BYTES, words_of_f16, words_tile, NULL}};
    linear_panels_run(weight->type == DTYPE_F32 ? &f32 : &f16, weight, input, output, begin, end, scratch);
}

void linear_table_words_avx512vnni(linear_kernels *kernels)
{
    kernels->word_rows = rows_of_floats;
    kernels->word_isa = "avx512-vnni";
}
