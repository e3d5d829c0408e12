/*
 * Vectors of 8 floats for the shared kernel bodies (*_simd.h): AVX2, FMA, F16C.
 * Owner: none. Lifetime: none; included by *_avx2.c only.
 */
#ifndef MLXR_KERNELS_CPU_SIMD_AVX2_H
#define MLXR_KERNELS_CPU_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define VF_N 8      /* floats a vector */
#define VF_TILE_Q 3 /* queries × 4 keys of running sums that fit the registers */
#define VF_TILE_V 4 /* vectors of a value row likewise */

typedef __m256 vf;

static inline vf vf_set(float x)
{
    return _mm256_set1_ps(x);
}
static inline vf vf_zero(void)
{
    return _mm256_setzero_ps();
}
static inline vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a);
}
static inline __m256i vf_first(uint32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
/* The first n < VF_N floats; the rest read as 0 and are not written. */
static inline vf vf_load_n(const float *p, uint32_t n)
{
    return _mm256_maskload_ps(p, vf_first(n));
}
static inline void vf_store_n(float *p, vf a, uint32_t n)
{
    _mm256_maskstore_ps(p, vf_first(n), a);
}
static inline vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
} /* b where either is NaN */
/* The greater; b where a is NaN, which b must not be. */
static inline vf vf_max_number(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
} /* a × b + c */
/* *a × b + c */
static inline vf vf_fma_at(const float *a, vf b, vf c)
{
    return vf_fma(vf_set(*a), b, c);
}
static inline vf vf_fnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
} /* c − a × b */
/* a × b ∓ c: minus in even lanes, plus in odd ones */
static inline vf vf_fmaddsub(vf a, vf b, vf c)
{
    return _mm256_fmaddsub_ps(a, b, c);
}
static inline vf vf_round(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* a × 2ⁿ for integral n ≥ −150: in two halves, since 2ⁿ itself may be subnormal */
static inline vf vf_scale2(vf a, vf n)
{
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), rest = _mm256_sub_epi32(whole, half);
    const __m256i bias = _mm256_set1_epi32(127);
    __m256 x = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    __m256 y = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, x), y);
}

/* p[0], p[0], p[1], p[1], … of the VF_N / 2 floats at p */
static inline vf vf_load_twice(const float *p)
{
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}

/* Lanes [lo, hi) of a, −∞ elsewhere. */
static inline vf vf_keep(vf a, int32_t lo, int32_t hi)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(lo), lane),
            inside = _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), lane);
    return _mm256_blendv_ps(_mm256_set1_ps(-__builtin_inff()), a,
                            _mm256_castsi256_ps(_mm256_andnot_si256(below, inside)));
}

/* a, but 0 in lanes where x < least; NaN is not. */
static inline vf vf_zero_below(vf a, vf x, float least)
{
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(least), _CMP_LT_OQ), a);
}

static inline float vf_sum(vf a)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
static inline float vf_max_lane(vf a)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

static inline vf vf_load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}
static inline void vf_store_f16(void *p, vf a)
{
    _mm_storeu_si128(p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vf vf_load_bf16(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

/* One half-precision number, in every lane. */
static inline vf vf_load_half(const void *p)
{
    uint16_t half;
    __builtin_memcpy(&half, p, sizeof half);
    return _mm256_cvtph_ps(_mm_set1_epi16((short)half));
}
static inline vf vf_load_i8(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(p)));
}
/* Elements [i, i + VF_N) of a block of Q4_0's 32, less 8; the bytes at p hold element j low and j + 16 high. */
static inline vf vf_load_q4(const uint8_t *p, uint32_t i)
{
    __m256i both = _mm256_cvtepu8_epi32(_mm_loadu_si64(p + (i & 15)));
    __m256i q = _mm256_and_si256(i & 16 ? _mm256_srli_epi32(both, 4) : both, _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(q, _mm256_set1_epi32(8)));
}
/* Whole numbers −128 … 127 → bytes. */
static inline void vf_store_i8(void *p, vf a)
{
    __m256i x = _mm256_cvtps_epi32(a);
    __m128i y = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storeu_si64(p, _mm_packs_epi16(y, y));
}
/* Lanes in the order i xor `distance`, a power of two below VF_N. */
static inline vf vf_swap(vf a, uint32_t distance)
{
    return distance == 1   ? _mm256_permute_ps(a, 0xb1)
           : distance == 2 ? _mm256_permute_ps(a, 0x4e)
                           : _mm256_permute2f128_ps(a, a, 0x01);
}

/* Whole numbers of 16 bits. */
static inline void vf_store_i16(void *p, vf a)
{
    __m256i x = _mm256_cvtps_epi32(a);
    _mm_storeu_si128(p, _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
}

/* As many sums of 32 bits as there are floats, and as many pairs of words that give them. */
typedef __m256i vi;

static inline vi vi_zero(void)
{
    return _mm256_setzero_si256();
}
static inline vi vi_load(const void *p)
{
    return _mm256_loadu_si256(p);
}
/* The pair at p in every lane. */
static inline vi vi_pair(const int16_t *p)
{
    int32_t both;
    __builtin_memcpy(&both, p, sizeof both);
    return _mm256_set1_epi32(both);
}
static inline vi vi_add(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}
static inline vf vi_float(vi a)
{
    return _mm256_cvtepi32_ps(a);
}

/* Sums of the lanes of 4 × n_queries vectors: out[i × stride + j] = Σ lanes of a[4 × i + j]. Every sum is added in the
 * same order. */
static inline void vf_sum_tile(const vf *a, uint32_t n_queries, float *out, uint32_t stride)
{
    for (uint32_t i = 0; i < n_queries; i++) {
        const vf *b = a + 4 * (size_t)i;
        __m256 x = _mm256_hadd_ps(_mm256_hadd_ps(b[0], b[1]), _mm256_hadd_ps(b[2], b[3]));
        _mm_storeu_ps(out + i * stride, _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
    }
}

#endif
