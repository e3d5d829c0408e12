/*
 * Metal's scalar and vector types. Vectors have Metal's sizes and alignments (three components take the room of four),
 * components x y z w or [i], and arithmetic by component; no other swizzles.
 * Owner: none. Lifetime: static.
 */
#ifndef METAL_EMULATOR_METAL_TYPES_H
#define METAL_EMULATOR_METAL_TYPES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <limits>
#include <type_traits>

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef _Float16 half;

/* Rounds to nearest even; NaN stays NaN. */
struct bfloat {
    uint16_t bits;
    bfloat() = default;
    bfloat(float f)
    {
        uint32_t u;
        memcpy(&u, &f, 4);
        bits = static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? u >> 16 | 0x40
                                                                     : (u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
    operator float() const
    {
        uint32_t u = static_cast<uint32_t>(bits) << 16;
        float f;
        memcpy(&f, &u, 4);
        return f;
    }
};

namespace metal
{

template <typename T, int N> struct vec;

/* Copies through a reference, so that UBSan sees a vector at a wrong alignment; a plain copy would hide it. Not
 * inlined: simple symbolizers show one line for each function, and the .metal file's is wanted. */
#if METAL_EMULATOR_WATCH_ALIGNMENT
#define METAL_EMULATOR_COPY(...)                                                                                       \
    __attribute__((noinline)) vec(const vec &o) : __VA_ARGS__                                                          \
    {                                                                                                                  \
    }                                                                                                                  \
    __attribute__((noinline)) vec &operator=(const vec &o)                                                             \
    {                                                                                                                  \
        for (int i = 0; i < int(sizeof(vec) / sizeof(T)); i++) {                                                       \
            (*this)[i] = o[i];                                                                                         \
        }                                                                                                              \
        return *this;                                                                                                  \
    }
#else
#define METAL_EMULATOR_COPY(...)
#endif

template <typename T> struct alignas(2 * sizeof(T)) vec<T, 2> {
    T x, y;
    vec() = default;
    METAL_EMULATOR_COPY(x(o.x), y(o.y))
    vec(T s) : x(s), y(s)
    {
    }
    vec(T a, T b) : x(a), y(b)
    {
    }
    template <typename U> explicit vec(const vec<U, 2> &o) : x(T(o.x)), y(T(o.y))
    {
    }
    T &operator[](int i)
    {
        return i ? y : x;
    }
    const T &operator[](int i) const
    {
        return i ? y : x;
    }
};

template <typename T> struct alignas(4 * sizeof(T)) vec<T, 3> {
    T x, y, z;
    vec() = default;
    METAL_EMULATOR_COPY(x(o.x), y(o.y), z(o.z))
    vec(T s) : x(s), y(s), z(s)
    {
    }
    vec(T a, T b, T c) : x(a), y(b), z(c)
    {
    }
    template <typename U> explicit vec(const vec<U, 3> &o) : x(T(o.x)), y(T(o.y)), z(T(o.z))
    {
    }
    T &operator[](int i)
    {
        return i == 0 ? x : i == 1 ? y : z;
    }
    const T &operator[](int i) const
    {
        return i == 0 ? x : i == 1 ? y : z;
    }
};

template <typename T> struct alignas(4 * sizeof(T)) vec<T, 4> {
    T x, y, z, w;
    vec() = default;
    METAL_EMULATOR_COPY(x(o.x), y(o.y), z(o.z), w(o.w))
    vec(T s) : x(s), y(s), z(s), w(s)
    {
    }
    vec(T a, T b, T c, T d) : x(a), y(b), z(c), w(d)
    {
    }
    template <typename U> explicit vec(const vec<U, 4> &o) : x(T(o.x)), y(T(o.y)), z(T(o.z)), w(T(o.w))
    {
    }
    T &operator[](int i)
    {
        return i == 0 ? x : i == 1 ? y : i == 2 ? z : w;
    }
    const T &operator[](int i) const
    {
        return i == 0 ? x : i == 1 ? y : i == 2 ? z : w;
    }
};

#define METAL_EMULATOR_OPERATOR(op)                                                                                    \
    template <typename T, int N> inline vec<T, N> operator op(const vec<T, N> &a, const vec<T, N> &b)                  \
    {                                                                                                                  \
        vec<T, N> r;                                                                                                   \
        for (int i = 0; i < N; i++) {                                                                                  \
            r[i] = T(a[i] op b[i]);                                                                                    \
        }                                                                                                              \
        return r;                                                                                                      \
    }                                                                                                                  \
    template <typename T, int N> inline vec<T, N> operator op(const vec<T, N> &a, std::type_identity_t<T> b)           \
    {                                                                                                                  \
        return a op vec<T, N>(b);                                                                                      \
    }                                                                                                                  \
    template <typename T, int N> inline vec<T, N> operator op(std::type_identity_t<T> a, const vec<T, N> &b)           \
    {                                                                                                                  \
        return vec<T, N>(a) op b;                                                                                      \
    }                                                                                                                  \
    template <typename T, int N> inline vec<T, N> &operator op##=(vec<T, N> &a, const vec<T, N> &b)                    \
    {                                                                                                                  \
        return a = a op b;                                                                                             \
    }                                                                                                                  \
    template <typename T, int N> inline vec<T, N> &operator op##=(vec<T, N> &a, std::type_identity_t<T> b)             \
    {                                                                                                                  \
        return a = a op vec<T, N>(b);                                                                                  \
    }
METAL_EMULATOR_OPERATOR(+)
METAL_EMULATOR_OPERATOR(-)
METAL_EMULATOR_OPERATOR(*)
METAL_EMULATOR_OPERATOR(/)
METAL_EMULATOR_OPERATOR(&)
METAL_EMULATOR_OPERATOR(|)
METAL_EMULATOR_OPERATOR(>>)
METAL_EMULATOR_OPERATOR(<<)
#undef METAL_EMULATOR_OPERATOR

template <typename T, int N> inline vec<T, N> operator-(const vec<T, N> &a)
{
    vec<T, N> r;
    for (int i = 0; i < N; i++) {
        r[i] = -a[i];
    }
    return r;
}

/* The same bits as another type of the same size. */
template <typename To, typename From> inline To as_type(const From &from)
{
    static_assert(sizeof(To) == sizeof(From), "as_type changes no size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

template <typename A, typename B> inline constexpr bool is_same_v = std::is_same_v<A, B>;
template <typename T> using numeric_limits = std::numeric_limits<T>;

} // namespace metal

#define METAL_EMULATOR_VECTORS(name, T)                                                                                \
    typedef metal::vec<T, 2> name##2;                                                                                  \
    typedef metal::vec<T, 3> name##3;                                                                                  \
    typedef metal::vec<T, 4> name##4;
METAL_EMULATOR_VECTORS(float, float)
METAL_EMULATOR_VECTORS(half, half)
METAL_EMULATOR_VECTORS(bfloat, bfloat)
METAL_EMULATOR_VECTORS(uint, uint)
METAL_EMULATOR_VECTORS(int, int)
METAL_EMULATOR_VECTORS(ushort, ushort)
METAL_EMULATOR_VECTORS(short, short)
METAL_EMULATOR_VECTORS(uchar, uchar)
METAL_EMULATOR_VECTORS(char, int8_t)
#undef METAL_EMULATOR_VECTORS

#endif
