/*
 * Metal's mathematics, with the C library's precision: as `precise::`, which is what kernels of ours are compiled for.
 * Owner: none. Lifetime: static.
 */
#ifndef METAL_EMULATOR_METAL_MATH_H
#define METAL_EMULATOR_METAL_MATH_H

#include "metal_types.h"

namespace metal
{

#define METAL_EMULATOR_FUNCTION(name, value)                                                                           \
    inline float name(float x)                                                                                         \
    {                                                                                                                  \
        return value;                                                                                                  \
    }                                                                                                                  \
    template <int N> inline vec<float, N> name(const vec<float, N> &v)                                                 \
    {                                                                                                                  \
        vec<float, N> r;                                                                                               \
        for (int i = 0; i < N; i++) {                                                                                  \
            float x = v[i];                                                                                            \
            r[i] = value;                                                                                              \
        }                                                                                                              \
        return r;                                                                                                      \
    }
METAL_EMULATOR_FUNCTION(exp, ::expf(x))
METAL_EMULATOR_FUNCTION(exp2, ::exp2f(x))
METAL_EMULATOR_FUNCTION(log, ::logf(x))
METAL_EMULATOR_FUNCTION(log2, ::log2f(x))
METAL_EMULATOR_FUNCTION(sqrt, ::sqrtf(x))
METAL_EMULATOR_FUNCTION(rsqrt, 1.0f / ::sqrtf(x))
METAL_EMULATOR_FUNCTION(sin, ::sinf(x))
METAL_EMULATOR_FUNCTION(cos, ::cosf(x))
METAL_EMULATOR_FUNCTION(tanh, ::tanhf(x))
METAL_EMULATOR_FUNCTION(fabs, ::fabsf(x))
METAL_EMULATOR_FUNCTION(floor, ::floorf(x))
METAL_EMULATOR_FUNCTION(ceil, ::ceilf(x))
METAL_EMULATOR_FUNCTION(rint, ::rintf(x))
#undef METAL_EMULATOR_FUNCTION

namespace precise
{
using metal::cos;
using metal::exp;
using metal::log;
using metal::rsqrt;
using metal::sin;
using metal::sqrt;
using metal::tanh;
} // namespace precise
namespace fast
{
using metal::cos;
using metal::exp;
using metal::exp2;
using metal::log;
using metal::rsqrt;
using metal::sin;
using metal::tanh;
} // namespace fast

inline float pow(float x, float y)
{
    return ::powf(x, y);
}
inline float fma(float a, float b, float c)
{
    return ::fmaf(a, b, c);
}
inline bool isnan(float x)
{
    return x != x;
}
inline bool isinf(float x)
{
    return ::fabsf(x) == INFINITY;
}

template <typename T> inline T max(T a, std::type_identity_t<T> b)
{
    return a < b || a != a ? b : a;
}
template <typename T> inline T min(T a, std::type_identity_t<T> b)
{
    return b < a || a != a ? b : a;
}
template <typename T> inline T clamp(T x, std::type_identity_t<T> low, std::type_identity_t<T> high)
{
    return min(max(x, low), high);
}
template <typename T> inline T select(T a, T b, bool second)
{
    return second ? b : a;
}
template <typename T> inline T abs(T x)
{
    return x < 0 ? -x : x;
}
inline uint popcount(uint x)
{
    return static_cast<uint>(__builtin_popcount(x));
}

template <typename T, int N> inline T dot(const vec<T, N> &a, const vec<T, N> &b)
{
    T sum = a[0] * b[0];
    for (int i = 1; i < N; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}
template <int N> inline vec<float, N> fma(const vec<float, N> &a, const vec<float, N> &b, const vec<float, N> &c)
{
    vec<float, N> r;
    for (int i = 0; i < N; i++) {
        r[i] = fma(a[i], b[i], c[i]);
    }
    return r;
}
template <typename T, int N> inline vec<T, N> max(const vec<T, N> &a, const vec<T, N> &b)
{
    vec<T, N> r;
    for (int i = 0; i < N; i++) {
        r[i] = max(a[i], b[i]);
    }
    return r;
}
template <typename T, int N> inline vec<T, N> min(const vec<T, N> &a, const vec<T, N> &b)
{
    vec<T, N> r;
    for (int i = 0; i < N; i++) {
        r[i] = min(a[i], b[i]);
    }
    return r;
}

} // namespace metal

#endif
