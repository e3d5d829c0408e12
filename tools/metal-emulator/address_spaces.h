/*
 * Metal's types and library for a check that g++ cannot make: clang -fsyntax-only with device, constant and threadgroup
 * as address spaces of the language. Nothing is computed; what is declared here is what metal_stdlib.h defines.
 * Owner: none. Lifetime: the compilation.
 *
 * Vectors are the compiler's own, because classes have no constructors for other address spaces; the translator writes
 * float4(…) as metal_make<float4>(…).
 */
#ifndef METAL_EMULATOR_ADDRESS_SPACES_H
#define METAL_EMULATOR_ADDRESS_SPACES_H

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef _Float16 half;
typedef __bf16 bfloat;
#define INFINITY __builtin_inff()

template <typename T, int N> using vec = T __attribute__((ext_vector_type(N)));
#define METAL_VECTORS(name, T)                                                                                         \
    typedef vec<T, 2> name##2;                                                                                         \
    typedef vec<T, 3> name##3;                                                                                         \
    typedef vec<T, 4> name##4;
METAL_VECTORS(float, float)
METAL_VECTORS(half, half)
METAL_VECTORS(bfloat, bfloat)
METAL_VECTORS(uint, uint)
METAL_VECTORS(int, int)
METAL_VECTORS(ushort, ushort)
METAL_VECTORS(short, short)
METAL_VECTORS(uchar, uchar)
METAL_VECTORS(char, signed char)

template <typename V, typename S> V metal_make(S s)
{
    if constexpr (__is_same(S, V)) {
        return s;
    } else if constexpr (__is_arithmetic(S) || __is_same(S, half) || __is_same(S, bfloat)) {
        return (V)(__typeof__(V{}[0]))(s);
    } else {
        return __builtin_convertvector(s, V);
    }
}
template <typename V, typename A, typename B, typename... More> V metal_make(A a, B b, More... more)
{
    typedef __typeof__(+V{}[0]) element;
    return V{element(a), element(b), element(more)...};
}

enum class mem_flags { mem_none, mem_device, mem_threadgroup };
mem_flags operator|(mem_flags a, mem_flags b);
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);

template <typename T> struct metal_same_as_given {
    typedef T type;
};
template <typename T> using metal_given = typename metal_same_as_given<T>::type;

/* T f(T): of floats and vectors of them. */
#define METAL_FUNCTION(name) template <typename T> T name(T)
METAL_FUNCTION(exp);
METAL_FUNCTION(exp2);
METAL_FUNCTION(log);
METAL_FUNCTION(log2);
METAL_FUNCTION(sqrt);
METAL_FUNCTION(rsqrt);
METAL_FUNCTION(sin);
METAL_FUNCTION(cos);
METAL_FUNCTION(tanh);
METAL_FUNCTION(fabs);
METAL_FUNCTION(abs);
METAL_FUNCTION(floor);
METAL_FUNCTION(ceil);
METAL_FUNCTION(rint);
namespace precise
{
METAL_FUNCTION(exp);
METAL_FUNCTION(log);
METAL_FUNCTION(sqrt);
METAL_FUNCTION(rsqrt);
METAL_FUNCTION(sin);
METAL_FUNCTION(cos);
METAL_FUNCTION(tanh);
} // namespace precise
namespace fast
{
METAL_FUNCTION(exp);
METAL_FUNCTION(exp2);
METAL_FUNCTION(log);
METAL_FUNCTION(rsqrt);
METAL_FUNCTION(sin);
METAL_FUNCTION(cos);
METAL_FUNCTION(tanh);
} // namespace fast
#undef METAL_FUNCTION

float pow(float, float);
bool isnan(float);
bool isinf(float);
uint popcount(uint);
template <typename T> T fma(T, metal_given<T>, metal_given<T>);
template <typename T> T max(T, metal_given<T>);
template <typename T> T min(T, metal_given<T>);
template <typename T> T clamp(T, metal_given<T>, metal_given<T>);
template <typename T> T select(T, metal_given<T>, bool);
template <typename T> auto dot(T a, T b) -> __typeof__(+a[0]);
template <typename To, typename From> To as_type(From f)
{
    return __builtin_bit_cast(To, f);
}
template <typename A, typename B> inline constexpr bool is_same_v = __is_same(A, B);
template <typename T> struct numeric_limits {
    static constexpr T max();
    static constexpr T lowest();
    static constexpr T infinity();
};

template <typename T> T simd_sum(T);
template <typename T> T simd_max(T);
template <typename T> T simd_min(T);
template <typename T> T simd_shuffle(T, ushort);
template <typename T> T simd_broadcast(T, ushort);
template <typename T> T simd_shuffle_xor(T, ushort);
template <typename T> T simd_shuffle_up(T, ushort);
template <typename T> T simd_shuffle_down(T, ushort);
bool simd_any(bool);
bool simd_all(bool);

template <typename T, int Columns, int Rows> struct simdgroup_matrix {
    T elements[2];
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
template <typename T, int C, int R> simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T);
template <typename D, typename A>
void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8> &, const simdgroup_matrix<A, 8, 8> &,
                                   const simdgroup_matrix<A, 8, 8> &, const simdgroup_matrix<D, 8, 8> &);
#define METAL_MOVE(space)                                                                                              \
    template <typename T>                                                                                              \
    void simdgroup_load(simdgroup_matrix<T, 8, 8> &, const __attribute__((address_space(space))) T *, ulong = 8,       \
                        ulong = 0, bool = false);                                                                      \
    template <typename T>                                                                                              \
    void simdgroup_store(const simdgroup_matrix<T, 8, 8> &, __attribute__((address_space(space))) T *, ulong = 8,      \
                         ulong = 0, bool = false);
METAL_MOVE(1)
METAL_MOVE(3)
#undef METAL_MOVE
#undef METAL_VECTORS

#endif
