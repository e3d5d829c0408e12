/*
 * Vectors of 4 floats for the shared kernel bodies (*_simd.h): ARM64 Advanced SIMD.
 * Owner: none. Lifetime: none; included by *_neon.c only.
 */
#ifndef MLXR_KERNELS_CPU_SIMD_NEON_H
#define MLXR_KERNELS_CPU_SIMD_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define VF_N 4      /* floats a vector */
#define VF_TILE_Q 4 /* queries × 4 keys of running sums that fit the registers */
#define VF_TILE_V 4 /* vectors of a value row likewise */

typedef float32x4_t vf;

static inline vf vf_set(float x)
{
    return vdupq_n_f32(x);
}
static inline vf vf_zero(void)
{
    return vdupq_n_f32(0);
}
static inline vf vf_load(const float *p)
{
    return vld1q_f32(p);
}
static inline void vf_store(float *p, vf a)
{
    vst1q_f32(p, a);
}
/* The first n < VF_N floats; the rest read as 0 and are not written. */
static inline vf vf_load_n(const float *p, uint32_t n)
{
    float lanes[4] = {0};
    memcpy(lanes, p, n * sizeof *p);
    return vld1q_f32(lanes);
}
static inline void vf_store_n(float *p, vf a, uint32_t n)
{
    float lanes[4];
    vst1q_f32(lanes, a);
    memcpy(p, lanes, n * sizeof *p);
}
static inline vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return vdivq_f32(a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return vmaxq_f32(a, b);
}
/* The greater; b where a is NaN, which b must not be. */
static inline vf vf_max_number(vf a, vf b)
{
    return vmaxnmq_f32(a, b);
}
static inline vf vf_min(vf a, vf b)
{
    return vminq_f32(a, b);
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
} /* a × b + c */
/* *a × b + c */
static inline vf vf_fma_at(const float *a, vf b, vf c)
{
    return vf_fma(vf_set(*a), b, c);
}
static inline vf vf_fnma(vf a, vf b, vf c)
{
    return vfmsq_f32(c, a, b);
} /* c − a × b */
/* a × b ∓ c: minus in even lanes, plus in odd ones */
static inline vf vf_fmaddsub(vf a, vf b, vf c)
{
    const float32x4_t sign = {-1.0f, 1.0f, -1.0f, 1.0f};
    return vfmaq_f32(vmulq_f32(c, sign), a, b);
}
static inline vf vf_round(vf a)
{
    return vrndnq_f32(a);
}
/* a × 2ⁿ for integral n ≥ −150: in two halves, since 2ⁿ itself may be subnormal */
static inline vf vf_scale2(vf a, vf n)
{
    int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1), rest = vsubq_s32(whole, half);
    const int32x4_t bias = vdupq_n_s32(127);
    float32x4_t x = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    float32x4_t y = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
    return vmulq_f32(vmulq_f32(a, x), y);
}

/* p[0], p[0], p[1], p[1] */
static inline vf vf_load_twice(const float *p)
{
    float32x2_t x = vld1_f32(p);
    return vcombine_f32(vdup_lane_f32(x, 0), vdup_lane_f32(x, 1));
}

/* Lanes [lo, hi) of a, −∞ elsewhere. */
static inline vf vf_keep(vf a, int32_t lo, int32_t hi)
{
    const int32x4_t lane = {0, 1, 2, 3};
    uint32x4_t keep = vandq_u32(vcgeq_s32(lane, vdupq_n_s32(lo)), vcltq_s32(lane, vdupq_n_s32(hi)));
    return vbslq_f32(keep, a, vdupq_n_f32(-__builtin_inff()));
}

/* a, but 0 in lanes where x < least; NaN is not. */
static inline vf vf_zero_below(vf a, vf x, float least)
{
    uint32x4_t below = vcltq_f32(x, vdupq_n_f32(least));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), below));
}

static inline float vf_sum(vf a)
{
    return vaddvq_f32(a);
}
static inline float vf_max_lane(vf a)
{
    return vmaxvq_f32(a);
}

static inline vf vf_load_f16(const void *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline void vf_store_f16(void *p, vf a)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a)));
}
static inline vf vf_load_bf16(const void *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

/* One half-precision number, in every lane. */
static inline vf vf_load_half(const void *p)
{
    uint16_t half;
    memcpy(&half, p, sizeof half);
    return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half)));
}
static inline vf vf_load_i8(const void *p)
{
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(bytes))))));
}
/* Elements [i, i + VF_N) of a block of Q4_0's 32, less 8; the bytes at p hold element j low and j + 16 high. */
static inline vf vf_load_q4(const uint8_t *p, uint32_t i)
{
    uint32_t bytes;
    memcpy(&bytes, p + (i & 15), sizeof bytes);
    bytes = (i & 16 ? bytes >> 4 : bytes) & 0x0f0f0f0fu;
    int16x8_t q = vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)))), vdupq_n_s16(8));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(q)));
}
/* Whole numbers −128 … 127 → bytes. */
static inline void vf_store_i8(void *p, vf a)
{
    int16x4_t x = vmovn_s32(vcvtnq_s32_f32(a));
    int32_t bytes = vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(x, x))), 0);
    memcpy(p, &bytes, sizeof bytes);
}
/* Lanes in the order i xor `distance`, a power of two below VF_N. */
static inline vf vf_swap(vf a, uint32_t distance)
{
    return distance == 1 ? vrev64q_f32(a) : vextq_f32(a, a, 2);
}

/* Whole numbers of 16 bits. */
static inline void vf_store_i16(void *p, vf a)
{
    vst1_s16(p, vqmovn_s32(vcvtnq_s32_f32(a)));
}

/* As many sums of 32 bits as there are floats, and as many pairs of words that give them. */
typedef int32x4_t vi;

static inline vi vi_zero(void)
{
    return vdupq_n_s32(0);
}
static inline vi vi_load(const void *p)
{
    return vreinterpretq_s32_s16(vld1q_s16(p));
}
/* The pair at p in every lane. */
static inline vi vi_pair(const int16_t *p)
{
    int32_t both;
    memcpy(&both, p, sizeof both);
    return vdupq_n_s32(both);
}
static inline vi vi_add(vi a, vi b)
{
    return vaddq_s32(a, b);
}
static inline vf vi_float(vi a)
{
    return vcvtq_f32_s32(a);
}

/* Sums of the lanes of 4 × n_queries vectors: out[i × stride + j] = Σ lanes of a[4 × i + j]. Every sum is added in the
 * same order. */
static inline void vf_sum_tile(const vf *a, uint32_t n_queries, float *out, uint32_t stride)
{
    for (uint32_t i = 0; i < n_queries; i++) {
        const vf *b = a + 4 * (size_t)i;
        vst1q_f32(out + i * stride, vpaddq_f32(vpaddq_f32(b[0], b[1]), vpaddq_f32(b[2], b[3])));
    }
}

#endif
