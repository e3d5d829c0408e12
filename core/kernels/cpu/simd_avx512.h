/*
 * Vectors of 16 floats for the shared kernel bodies (*_simd.h): AVX-512 F, BW, DQ, VL.
 * Owner: none. Lifetime: none; included by *_avx512.c only.
 */
#ifndef MLXR_KERNELS_CPU_SIMD_AVX512_H
#define MLXR_KERNELS_CPU_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define VF_N 16     /* floats a vector */
#define VF_TILE_Q 4 /* queries × 4 keys of running sums that fit the registers */
#define VF_TILE_V 4 /* vectors of a value row likewise */

typedef __m512 vf;

static inline vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}
static inline vf vf_zero(void)
{
    return _mm512_setzero_ps();
}
static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}
/* The first n < VF_N floats; the rest read as 0 and are not written. */
static inline vf vf_load_n(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void vf_store_n(float *p, vf a, uint32_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
} /* b where either is NaN */
/* The greater; b where a is NaN, which b must not be. */
static inline vf vf_max_number(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
} /* a × b + c */
/* *a × b + c; the number comes with the product, where a vector of it takes a shuffle that products wait for */
static inline vf vf_fma_at(const float *a, vf b, vf c)
{
    __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(*a));
    return c;
}
static inline vf vf_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
} /* c − a × b */
/* a × b ∓ c: minus in even lanes, plus in odd ones */
static inline vf vf_fmaddsub(vf a, vf b, vf c)
{
    return _mm512_fmaddsub_ps(a, b, c);
}
static inline vf vf_round(vf a)
{
    return _mm512_roundscale_ps(a, 8);
} /* to the nearest integer */
/* a × 2ⁿ for integral n ≥ −150 */
static inline vf vf_scale2(vf a, vf n)
{
    return _mm512_scalef_ps(a, n);
}

/* p[0], p[0], p[1], p[1], … of the VF_N / 2 floats at p */
static inline vf vf_load_twice(const float *p)
{
    const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}

/* Lanes [lo, hi) of a, −∞ elsewhere. */
static inline vf vf_keep(vf a, int32_t lo, int32_t hi)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __mmask16 keep = _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(lo)) &
                     _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(hi));
    return _mm512_mask_blend_ps(keep, _mm512_set1_ps(-__builtin_inff()), a);
}

/* a, but 0 in lanes where x < least; NaN is not. */
static inline vf vf_zero_below(vf a, vf x, float least)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(least), _CMP_NLT_UQ), a);
}

static inline float vf_sum(vf a)
{
    return _mm512_reduce_add_ps(a);
}
static inline float vf_max_lane(vf a)
{
    return _mm512_reduce_max_ps(a);
}

static inline vf vf_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
static inline void vf_store_f16(void *p, vf a)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vf vf_load_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

/* One half-precision number, in every lane. */
static inline vf vf_load_half(const void *p)
{
    uint16_t half;
    __builtin_memcpy(&half, p, sizeof half);
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)half));
}
static inline vf vf_load_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}
/* Elements [i, i + VF_N) of a block of Q4_0's 32, less 8; the bytes at p hold element j low and j + 16 high. */
static inline vf vf_load_q4(const uint8_t *p, uint32_t i)
{
    const vf values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm512_permutexvar_ps(i & 16 ? _mm512_srli_epi32(both, 4) : both, values); /* looks at 4 bits only */
}
/* Whole numbers −128 … 127 → bytes. */
static inline void vf_store_i8(void *p, vf a)
{
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}
/* Lanes in the order i xor `distance`, a power of two below VF_N. */
static inline vf vf_swap(vf a, uint32_t distance)
{
    return distance == 1   ? _mm512_permute_ps(a, 0xb1)
           : distance == 2 ? _mm512_permute_ps(a, 0x4e)
           : distance == 4 ? _mm512_shuffle_f32x4(a, a, 0xb1)
                           : _mm512_shuffle_f32x4(a, a, 0x4e);
}

/* Whole numbers of 16 bits. */
static inline void vf_store_i16(void *p, vf a)
{
    _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a)));
}

/* As many sums of 32 bits as there are floats, and as many pairs of words that give them. */
typedef __m512i vi;

static inline vi vi_zero(void)
{
    return _mm512_setzero_si512();
}
static inline vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
/* The pair at p in every lane. */
static inline vi vi_pair(const int16_t *p)
{
    int32_t both;
    __builtin_memcpy(&both, p, sizeof both);
    return _mm512_set1_epi32(both);
}
static inline vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
static inline vf vi_float(vi a)
{
    return _mm512_cvtepi32_ps(a);
}

/* Sums of the lanes of 4 × VF_TILE_Q vectors: out[i × stride + j] = Σ lanes of a[4 × i + j]. Every sum is added in the
 * same order. */
static inline __m512 vf_fold_pair(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}
static inline __m512 vf_fold_four(const vf *a)
{
    __m512d x = _mm512_castps_pd(vf_fold_pair(a[0], a[1])), y = _mm512_castps_pd(vf_fold_pair(a[2], a[3]));
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
}
static inline void vf_sum_tile(const vf *a, uint32_t n_queries, float *out, uint32_t stride)
{
    __m512 quads[4]; /* per 128 bits: a query's four sums of that part; parts are added as (0 + 2) + (1 + 3) */
    for (uint32_t i = 0; i < n_queries; i++) {
        quads[i] = vf_fold_four(a + 4 * (size_t)i);
    }
    if (n_queries == 4) {
        __m512 x = _mm512_add_ps(_mm512_shuffle_f32x4(quads[0], quads[1], 0x44),
                                 _mm512_shuffle_f32x4(quads[0], quads[1], 0xee));
        __m512 y = _mm512_add_ps(_mm512_shuffle_f32x4(quads[2], quads[3], 0x44),
                                 _mm512_shuffle_f32x4(quads[2], quads[3], 0xee));
        x = _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
        _mm_storeu_ps(out, _mm512_castps512_ps128(x));
        _mm_storeu_ps(out + stride, _mm512_extractf32x4_ps(x, 1));
        _mm_storeu_ps(out + 2 * (size_t)stride, _mm512_extractf32x4_ps(x, 2));
        _mm_storeu_ps(out + 3 * (size_t)stride, _mm512_extractf32x4_ps(x, 3));
        return;
    }
    for (uint32_t i = 0; i < n_queries; i++) {
        __m256 half = _mm256_add_ps(_mm512_castps512_ps256(quads[i]), _mm512_extractf32x8_ps(quads[i], 1));
        _mm_storeu_ps(out + i * stride, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
    }
}

#endif
