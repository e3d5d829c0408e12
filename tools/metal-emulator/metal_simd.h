/*
 * Barriers, reductions and shuffles of a simdgroup of 32 lanes, 8×8 simdgroup matrices, built-in positions.
 * Owner: none. Lifetime: static.
 *
 * All lanes of a simdgroup that have not returned must come to the same call, by line and name; anything else stops the
 * run. Reductions and shuffles order no memory, nor do matrices: only barriers do.
 */
#ifndef METAL_EMULATOR_METAL_SIMD_H
#define METAL_EMULATOR_METAL_SIMD_H

#include "metal_math.h"
#include "metal_types.h"
#include "runtime.h"

namespace metal
{

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
inline mem_flags operator|(mem_flags a, mem_flags b)
{
    return static_cast<mem_flags>(static_cast<int>(a) | static_cast<int>(b));
}

/* The call's place in the source, as a default argument sees it. */
#define METAL_EMULATOR_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* combine(values[32], mask of lanes, results[32]) runs once for all. */
template <typename V, typename R, typename F>
inline R simd_meet(const char *what, const char *file, int line, const V &value, F combine, bool orders = false)
{
    static_assert(sizeof(V) <= metal_emulator::slot_bytes && sizeof(R) <= metal_emulator::slot_bytes);
    if (metal_emulator::simd_arrive({what, file, line}, &value, sizeof value, orders)) {
        V values[metal_emulator::simd_width] = {};
        R results[metal_emulator::simd_width] = {};
        uint32_t mask = metal_emulator::simd_gather(values, sizeof(V));
        combine(values, mask, results);
        metal_emulator::simd_release(results, sizeof(R));
    }
    R result;
    metal_emulator::simd_take(&result, sizeof result);
    return result;
}

inline void threadgroup_barrier(mem_flags flags, METAL_EMULATOR_HERE)
{
    metal_emulator::barrier({"threadgroup_barrier", file, line}, flags != mem_flags::mem_none);
}

inline void simdgroup_barrier(mem_flags flags, METAL_EMULATOR_HERE)
{
    simd_meet<char, char>(
        "simdgroup_barrier", file, line, '\0', [](const char *, uint32_t, char *) {}, flags != mem_flags::mem_none);
}

/* In pairs, as hardware does: neighbours at distance 1, 2, 4, … */
template <typename T, typename F>
inline T simd_reduce(const char *what, const char *file, int line, T value, T neutral, F join)
{
    return simd_meet<T, T>(what, file, line, value, [&](const T *values, uint32_t mask, T *results) {
        T tree[metal_emulator::simd_width];
        for (unsigned i = 0; i < metal_emulator::simd_width; i++) {
            tree[i] = mask >> i & 1 ? values[i] : neutral;
        }
        for (unsigned n = metal_emulator::simd_width / 2; n > 0; n /= 2) {
            for (unsigned i = 0; i < n; i++) {
                tree[i] = T(join(tree[2 * i], tree[2 * i + 1]));
            }
        }
        for (unsigned i = 0; i < metal_emulator::simd_width; i++) {
            results[i] = tree[0];
        }
    });
}

template <typename T> inline T simd_sum(T value, METAL_EMULATOR_HERE)
{
    return simd_reduce("simd_sum", file, line, value, T(0), [](T a, T b) { return a + b; });
}

template <typename T> inline T simd_max(T value, METAL_EMULATOR_HERE)
{
    T lowest = std::numeric_limits<T>::has_infinity ? T(-std::numeric_limits<T>::infinity())
                                                    : std::numeric_limits<T>::lowest();
    return simd_reduce("simd_max", file, line, value, lowest, [](T a, T b) { return max(a, b); });
}

template <typename T> inline T simd_min(T value, METAL_EMULATOR_HERE)
{
    T highest = std::numeric_limits<T>::has_infinity ? std::numeric_limits<T>::infinity()
                                                     : std::numeric_limits<T>::max();
    return simd_reduce("simd_min", file, line, value, highest, [](T a, T b) { return min(a, b); });
}

/* Lane i gets the value of lane source(i); of a lane that has returned or is none: its own, where hardware says
 * "undefined". */
template <typename T, typename F> inline T simd_move(const char *what, const char *file, int line, T value, F source)
{
    struct bring {
        T value;
        uint from;
    };
    bring mine = {value, source(metal_emulator::lane())};
    return simd_meet<bring, T>(what, file, line, mine, [](const bring *values, uint32_t mask, T *results) {
        for (unsigned i = 0; i < metal_emulator::simd_width; i++) {
            uint from = values[i].from;
            results[i] = values[from < metal_emulator::simd_width && mask >> from & 1 ? from : i].value;
        }
    });
}

template <typename T> inline T simd_shuffle(T value, ushort from, METAL_EMULATOR_HERE)
{
    return simd_move("simd_shuffle", file, line, value, [&](uint) -> uint { return from; });
}
template <typename T> inline T simd_broadcast(T value, ushort from, METAL_EMULATOR_HERE)
{
    return simd_move("simd_broadcast", file, line, value, [&](uint) -> uint { return from; });
}
template <typename T> inline T simd_shuffle_xor(T value, ushort mask, METAL_EMULATOR_HERE)
{
    return simd_move("simd_shuffle_xor", file, line, value, [&](uint lane) -> uint { return lane ^ mask; });
}
template <typename T> inline T simd_shuffle_down(T value, ushort delta, METAL_EMULATOR_HERE)
{
    return simd_move("simd_shuffle_down", file, line, value, [&](uint lane) -> uint { return lane + delta; });
}
template <typename T> inline T simd_shuffle_up(T value, ushort delta, METAL_EMULATOR_HERE)
{
    return simd_move("simd_shuffle_up", file, line, value, [&](uint lane) -> uint { return lane - delta; });
}
inline bool simd_any(bool value, METAL_EMULATOR_HERE)
{
    return simd_reduce("simd_any", file, line, int(value), 0, [](int a, int b) { return a | b; });
}
inline bool simd_all(bool value, METAL_EMULATOR_HERE)
{
    return simd_reduce("simd_all", file, line, int(value), 1, [](int a, int b) { return a & b; });
}

/* A matrix whose elements lie in the lanes of a simdgroup, two in each. Which two is the hardware's business: the map
 * below is the one Apple's GPUs are seen to use, and nothing may depend on it. */
template <typename T, int Columns, int Rows> struct simdgroup_matrix {
    static_assert(Columns == 8 && Rows == 8, "simdgroup matrices are 8 by 8");
    T elements[2];
    simdgroup_matrix() = default;
    explicit simdgroup_matrix(T diagonal_free) : elements{diagonal_free, diagonal_free}
    {
    }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;

using metal_emulator::matrix_place;
using metal_emulator::matrix_place_of;

template <typename T, int C, int R> inline simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T value)
{
    return simdgroup_matrix<T, C, R>(value);
}

template <typename T>
inline void simdgroup_load(simdgroup_matrix<T, 8, 8> &m, const T *from, ulong stride = 8, ulong = 0,
                           bool transpose = false)
{
    matrix_place p = matrix_place_of(metal_emulator::lane());
    for (unsigned i = 0; i < 2; i++) {
        m.elements[i] = transpose ? from[(p.column + i) * stride + p.row] : from[p.row * stride + p.column + i];
    }
}

template <typename T>
inline void simdgroup_store(const simdgroup_matrix<T, 8, 8> &m, T *to, ulong stride = 8, ulong = 0,
                            bool transpose = false)
{
    matrix_place p = matrix_place_of(metal_emulator::lane());
    for (unsigned i = 0; i < 2; i++) {
        (transpose ? to[(p.column + i) * stride + p.row] : to[p.row * stride + p.column + i]) = m.elements[i];
    }
}

/* d = a · b + c, accumulated in float. a and b have one element type. */
template <typename D, typename A>
inline void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8> &d, const simdgroup_matrix<A, 8, 8> &a,
                                          const simdgroup_matrix<A, 8, 8> &b, const simdgroup_matrix<D, 8, 8> &c,
                                          METAL_EMULATOR_HERE)
{
    using metal_emulator::matrix_lane, metal_emulator::matrix_result;
    matrix_lane mine = {{float(a.elements[0]), float(a.elements[1])},
                        {float(b.elements[0]), float(b.elements[1])},
                        {float(c.elements[0]), float(c.elements[1])}};
    matrix_result r = simd_meet<matrix_lane, matrix_result>(
        "simdgroup_multiply_accumulate", file, line, mine,
        [](const matrix_lane *lanes, uint32_t mask, matrix_result *results) {
            if (mask != 0xffffffffu) {
                metal_emulator::stop("a simdgroup matrix where lanes have returned or are missing");
            }
            metal_emulator::matrix_multiply(lanes, results);
        });
    d.elements[0] = D(r.d[0]);
    d.elements[1] = D(r.d[1]);
}

} // namespace metal

namespace metal_emulator
{

/* A position as whatever integer or vector type the parameter has. */
struct builtin {
    position p;
    template <typename T>
        requires std::is_integral_v<T>
    operator T() const
    {
        return static_cast<T>(p.x);
    }
    template <typename T> operator metal::vec<T, 2>() const
    {
        return {static_cast<T>(p.x), static_cast<T>(p.y)};
    }
    template <typename T> operator metal::vec<T, 3>() const
    {
        return {static_cast<T>(p.x), static_cast<T>(p.y), static_cast<T>(p.z)};
    }
};

inline builtin thread_position_in_grid()
{
    return {position_in_grid()};
}
inline builtin thread_position_in_threadgroup()
{
    return {position_in_threadgroup()};
}
inline builtin threadgroup_position_in_grid()
{
    return {threadgroup_in_grid()};
}
inline builtin threads_per_grid()
{
    return {grid_threads()};
}
inline builtin threads_per_threadgroup()
{
    return {group_threads()};
}
inline builtin threadgroups_per_grid()
{
    return {grid_groups()};
}
inline builtin thread_index_in_threadgroup()
{
    return {{index_in_threadgroup(), 0, 0}};
}
inline builtin thread_index_in_simdgroup()
{
    return {{lane(), 0, 0}};
}
inline builtin simdgroup_index_in_threadgroup()
{
    return {{index_in_threadgroup() / simd_width, 0, 0}};
}
inline builtin simdgroups_per_threadgroup()
{
    return {{simdgroups(), 0, 0}};
}
inline builtin threads_per_simdgroup()
{
    return {{simd_width, 0, 0}};
}

} // namespace metal_emulator

/* A threadgroup variable of a kernel: a reference to the block of its declaration. */
#define METAL_EMULATOR_MEMORY_OF(type, name, dimensions)                                                               \
    using name##_type = type dimensions;                                                                               \
    static char name##_key;                                                                                            \
    name##_type &name = *static_cast<name##_type *>(                                                                   \
        metal_emulator::threadgroup_memory(&name##_key, sizeof(name##_type), alignof(name##_type)))

#endif
