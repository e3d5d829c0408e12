/*
 * Packers of linear inputs for AVX2: bit for bit what the scalar ones give.
 * Owner: none; the memory is the caller's linear_input. Lifetime: the call.
 */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/linear_table.h"
#include "kernels/cpu/quantize_act.h"
#include "quant/half.h"

static inline void put(uint8_t *p, int32_t value)
{
    memcpy(p, &value, sizeof value);
}

static inline void put_float(uint8_t *p, float value)
{
    memcpy(p, &value, sizeof value);
}

/* The largest of 32 magnitudes, compared as integers: NaN is above infinity. */
static inline uint32_t largest_magnitude(const __m256 x[4])
{
    const __m256i all_but_sign = _mm256_set1_epi32(0x7fffffff);
    __m256i m[4];
    for (int i = 0; i < 4; i++) {
        m[i] = _mm256_and_si256(_mm256_castps_si256(x[i]), all_but_sign);
    }
    __m256i wide = _mm256_max_epi32(_mm256_max_epi32(m[0], m[1]), _mm256_max_epi32(m[2], m[3]));
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, _MM_SHUFFLE(2, 3, 0, 1))));
}

/* The two digits of 16 values, and minus the sums of neighbouring ones. */
typedef struct digits {
    __m256i q, r, word, minus;
} digits;

static inline digits split(__m256i values, bool finite, float most)
{
    digits d;
    values = finite ? values : _mm256_set1_epi16((int16_t)(most / 127.0f));
    d.q = _mm256_srai_epi16(_mm256_add_epi16(values, _mm256_set1_epi16(128)), 8);
    __m256i high = _mm256_slli_epi16(d.q, 8);
    d.r = _mm256_max_epi16(_mm256_sub_epi16(values, high), _mm256_set1_epi16(-127));
    d.word = _mm256_add_epi16(high, d.r);
    d.minus = _mm256_madd_epi16(d.word, _mm256_set1_epi16(-1));
    return d;
}

/* Packing works within 128-bit lanes: words of four bytes come out as 0 2 4 6 | 1 3 5 7. */
static inline void put_digits(uint8_t *to, const digits *low, const digits *high)
{
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i q = _mm256_packs_epi16(low->q, high->q), r = _mm256_packs_epi16(low->r, high->r);
    _mm256_storeu_si256((void *)to, _mm256_permutevar8x32_epi32(q, in_order));
    _mm256_storeu_si256((void *)(to + Q16_BLOCK), _mm256_permutevar8x32_epi32(r, in_order));
}

/* The lower digits alone. */
static inline void put_lower(uint8_t *to, const digits *low, const digits *high)
{
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((void *)to, _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low->r, high->r), in_order));
}

/* Fours come out as 0 2 | 1 3; in each, the middle two change places. */
static inline void put_words(uint8_t *to, __m256i words)
{
    __m256i in_order = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
    __m256i low = _mm256_shufflelo_epi16(in_order, _MM_SHUFFLE(3, 1, 2, 0));
    _mm256_storeu_si256((void *)to, _mm256_shufflehi_epi16(low, _MM_SHUFFLE(3, 1, 2, 0)));
}

/* What neighbouring words multiply to. */
static inline __m256i pairs(__m256i words)
{
    const __m256i crossed = _mm256_setr_epi32(-1, -1, -1, -1, -1, -1, 0, 0);
    return _mm256_madd_epi16(words, _mm256_and_si256(_mm256_srli_epi32(words, 16), crossed));
}

/* Of a block's halves. */
static inline void put_pairs(uint8_t *words, size_t word, __m256i low, __m256i high)
{
    __m256i sums = _mm256_hadd_epi32(low, high);
    sums = _mm256_hadd_epi32(sums, sums);
    __m128i both = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    both = _mm_sub_epi32(_mm_setzero_si128(), both);
    __m128i whole = _mm_add_epi32(both, _mm_shuffle_epi32(both, _MM_SHUFFLE(2, 3, 0, 1)));
    put(words + Q16_MINUS_PAIRS * word, _mm_cvtsi128_si32(whole));
    put(words + Q16_MINUS_PAIRS_LOW * word, _mm_cvtsi128_si32(both));
    put(words + Q16_MINUS_PAIRS_HIGH * word, _mm_extract_epi32(both, 1));
}

static inline void pack_block(linear_format format, float most, const float *src, uint8_t *to, uint8_t *words,
                              size_t word)
{
    __m256 x[4];
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_loadu_ps(src + 8 * i);
    }
    uint32_t largest = largest_magnitude(x);
    float max = float_from_bits(largest);
    bool tiny = max < Q16_TINY, finite = largest < 0x7f800000u;
    float unit = tiny ? 0.0f : max * (1.0f / most);
    float inverse = tiny || !finite ? 0.0f : most / max;
    __m256i rounded[4];
    for (int i = 0; i < 4; i++) {
        rounded[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], _mm256_set1_ps(inverse)));
    }
    digits low = split(_mm256_packs_epi32(rounded[0], rounded[1]), finite, most);
    digits high = split(_mm256_packs_epi32(rounded[2], rounded[3]), finite, most);
    if (format == LINEAR_Q8) {
        put_lower(to, &low, &high);
    } else if (format == LINEAR_W16 || format == LINEAR_C16) {
        put_words(to, low.word);
        put_words(to + Q16_BLOCK, high.word);
    } else {
        put_digits(to, &low, &high);
    }
    __m256i sums = _mm256_hadd_epi32(low.minus, high.minus); /* low low high high | low low high high */
    sums = _mm256_hadd_epi32(sums, sums);
    __m128i both = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    int32_t minus_low = _mm_cvtsi128_si32(both), minus_high = _mm_extract_epi32(both, 1);
    put_float(words + Q16_UNIT * word, unit);
    put_float(words + Q16_SCALED_SUM * word, unit * (float)-(minus_low + minus_high));
    put(words + Q16_MINUS_SUM * word, minus_low + minus_high);
    put(words + Q16_MINUS_LOW * word, minus_low);
    put(words + Q16_MINUS_HIGH * word, minus_high);
    if (format == LINEAR_C16) {
        put_pairs(words, word, pairs(low.word), pairs(high.word));
    }
}

/* Block by block, of all the tokens: a record's lines are written while they are in L1. */
static inline void quantize(linear_format format, float most, const linear_input *input, uint32_t token, uint32_t n,
                            const float *src, size_t stride)
{
    q16_place at = q16_find(input, token);
    const size_t bytes = q16_digit_bytes(format);
    for (uint32_t b = 0; b < input->n_in / Q16_BLOCK; b++) {
        for (uint32_t i = 0; i < n; i++) {
            pack_block(format, most, src + i * stride, at.q + i * bytes, at.words + i * sizeof(float), at.word);
        }
        src += Q16_BLOCK;
        at.q += at.record;
        at.words += at.record;
    }
}

static void quantize_act_q16_avx2(const linear_input *input, uint32_t token, uint32_t n, const float *src,
                                  size_t stride)
{
    quantize(LINEAR_Q16, Q16_MOST, input, token, n, src, stride);
}

static void quantize_act_w16_avx2(const linear_input *input, uint32_t token, uint32_t n, const float *src,
                                  size_t stride)
{
    quantize(LINEAR_W16, Q16_MOST, input, token, n, src, stride);
}

static void quantize_act_c16_avx2(const linear_input *input, uint32_t token, uint32_t n, const float *src,
                                  size_t stride)
{
    quantize(LINEAR_C16, Q16_MOST, input, token, n, src, stride);
}

static void quantize_act_q16_rounded_avx2(const linear_input *input, uint32_t token, uint32_t n, const float *src,
                                          size_t stride)
{
    quantize(LINEAR_Q16, Q8_MOST, input, token, n, src, stride);
}

static void quantize_act_w16_rounded_avx2(const linear_input *input, uint32_t token, uint32_t n, const float *src,
                                          size_t stride)
{
    quantize(LINEAR_W16, Q8_MOST, input, token, n, src, stride);
}

static void quantize_act_q8_avx2(const linear_input *input, uint32_t token, uint32_t n, const float *src, size_t stride)
{
    quantize(LINEAR_Q8, Q8_MOST, input, token, n, src, stride);
}

static void pack_w15(const linear_input *input, uint32_t token, const float *src)
{
    q16_place at = q16_find(input, token);
    for (uint32_t b = 0; b < input->n_in / Q16_BLOCK; b++, src += Q16_BLOCK) {
        __m256 x[4];
        __m256i rounded[4];
        for (int i = 0; i < 4; i++) {
            x[i] = _mm256_loadu_ps(src + 8 * i);
        }
        uint32_t largest = largest_magnitude(x);
        float max = float_from_bits(largest);
        bool tiny = max < Q16_TINY, finite = largest < 0x7f800000u;
        float inverse = tiny || !finite ? 0.0f : W15_MOST / max;
        for (int i = 0; i < 4; i++) {
            rounded[i] = finite ? _mm256_cvtps_epi32(_mm256_mul_ps(x[i], _mm256_set1_ps(inverse)))
                                : _mm256_set1_epi32(1);
        }
        uint8_t *to = at.q + b * at.record;
        put_words(to, _mm256_packs_epi32(rounded[0], rounded[1]));
        put_words(to + Q16_BLOCK, _mm256_packs_epi32(rounded[2], rounded[3]));
        put_float(at.words + b * at.record + Q16_UNIT * at.word, tiny ? 0.0f : max * (1.0f / W15_MOST));
    }
}

/* As bf16_from_float: round to nearest even, NaN stays NaN. */
static void pack_bf16(const linear_input *input, uint32_t token, const float *src)
{
    uint16_t *dst = (uint16_t *)input->data + token * input->stride;
    uint32_t i = 0;
    for (; i + 8 <= input->n_in; i += 8) {
        __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(src + i));
        __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
        __m256i is_nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
        __m256i nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
        __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, nan, is_nan), 16);
        __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), _MM_SHUFFLE(3, 1, 2, 0));
        _mm_storeu_si128((void *)(dst + i), _mm256_castsi256_si128(packed));
    }
    for (; i < input->n_in; i++) {
        dst[i] = bf16_from_float(src[i]);
    }
}

static void quantize_act_w15_avx2(const linear_input *input, uint32_t token, uint32_t n, const float *src,
                                  size_t stride)
{
    for (uint32_t i = 0; i < n; i++) {
        pack_w15(input, token + i, src + i * stride);
    }
}

static void quantize_act_bf16_avx2(const linear_input *input, uint32_t token, uint32_t n, const float *src,
                                   size_t stride)
{
    for (uint32_t i = 0; i < n; i++) {
        pack_bf16(input, token + i, src + i * stride);
    }
}

void linear_table_pack_avx2(linear_kernels *kernels)
{
    kernels->pack[LINEAR_Q16] = quantize_act_q16_avx2;
    kernels->pack[LINEAR_W16] = quantize_act_w16_avx2;
    kernels->pack[LINEAR_C16] = quantize_act_c16_avx2;
    kernels->pack[LINEAR_Q8] = quantize_act_q8_avx2;
    kernels->pack[LINEAR_W15] = quantize_act_w15_avx2;
    kernels->pack[LINEAR_BF16] = quantize_act_bf16_avx2;
    kernels->pack_rounded[LINEAR_Q16] = quantize_act_q16_rounded_avx2;
    kernels->pack_rounded[LINEAR_W16] = quantize_act_w16_rounded_avx2;
}
