/*
 * Vector exp, logistic and tanh over the vf type of a simd_*.h included before.
 * Owner: none. Lifetime: none.
 */
#ifndef MLXR_KERNELS_CPU_SIMD_MATH_H
#define MLXR_KERNELS_CPU_SIMD_MATH_H

#define VF_EXP_LEAST -87.33654f /* just above ln of the least normal float */

/* eˣ for x ≤ 88.7 (more gives +∞), relative error below 2⁻²²; 0 below VF_EXP_LEAST; NaN stays NaN. Nothing on the way
 * is subnormal: x86 would take a hundred cycles and more over each, and softmax masks with −∞. eˣ = 2ⁿ eʳ with |r| ≤ ln
 * 2 / 2; the polynomial is the minimax one of Cephes' expf (S. Moshier). */
static inline vf vf_exp(vf argument)
{
    vf x = vf_min(vf_set(89.0f), vf_max(vf_set(VF_EXP_LEAST), argument)); /* in this order NaN comes through */
    vf n = vf_round(vf_mul(x, vf_set(1.44269504088896341f)));
    vf r = vf_fnma(n, vf_set(0.693359375f), x); /* ln 2 in two parts; the first has few bits, so n times it is exact */
    r = vf_fnma(n, vf_set(-2.12194440e-4f), r);
    vf p = vf_fma(vf_set(1.9875691500e-4f), r, vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    p = vf_add(vf_fma(vf_mul(r, r), p, r), vf_set(1.0f));
    return vf_zero_below(vf_scale2(p, n), argument, VF_EXP_LEAST);
}

/* x / (1 + e^(−k x)): SiLU for k = 1 */
static inline vf vf_gate(vf x, vf minus_kx)
{
    return vf_div(x, vf_add(vf_set(1.0f), vf_exp(minus_kx)));
}

/* tanh x, absolute error below 2⁻²² */
static inline vf vf_tanh(vf x)
{
    vf e = vf_exp(vf_add(x, x));
    return vf_sub(vf_set(1.0f), vf_div(vf_set(2.0f), vf_add(e, vf_set(1.0f))));
}

#endif
