/*
 * What translated kernels call: the threads of a threadgroup as fibres, barriers, meetings of a simdgroup, threadgroup
 * memory, built-in positions, and how a kernel's arguments reach it.
 * Owner: the run, which lives on its caller's stack. Lifetime: one metal_emulator_run. One run a thread at a time.
 */
#ifndef METAL_EMULATOR_RUNTIME_H
#define METAL_EMULATOR_RUNTIME_H

#include "kernels/metal_emulator.h"

namespace metal_emulator
{

constexpr unsigned simd_width = 32;
constexpr unsigned slot_bytes = 64; /* what a lane may bring to a meeting of its simdgroup */

/* Where in a .metal file a thread waits, and for what: shown when it waits in vain. */
struct site {
    const char *what;
    const char *file;
    int line;
};

struct position {
    uint32_t x, y, z;
};

/* threadgroup_barrier; `orders` false for mem_none, which waits but orders no memory. */
void barrier(const site &at, bool orders);

/* A meeting of the lanes of a simdgroup that have not returned. Each brings n_bytes; one of them, whoever is told true,
 * sees what all brought and hands out the results: gather, then release. Then every lane takes its own. */
bool simd_arrive(const site &at, const void *value, size_t n_bytes, bool orders);
uint32_t simd_gather(void *values, size_t n_bytes); /* [32]; returns the mask of lanes that brought something */
void simd_release(const void *results, size_t n_bytes);
void simd_take(void *result, size_t n_bytes);
unsigned lane();

/* What a lane brings to a product of 8×8 matrices: two elements of each. d = a · b + c over all lanes. */
struct matrix_lane {
    float a[2], b[2], c[2];
};
struct matrix_result {
    float d[2];
};
struct matrix_place {
    unsigned row, column;
};
/* Which elements a lane holds: (row, column) and the next column. */
inline matrix_place matrix_place_of(unsigned lane)
{
    unsigned quad = lane / 4;
    return {(quad & 4) + lane / 2 % 4, (quad & 2) * 2 + lane % 2 * 2};
}
void matrix_multiply(const matrix_lane *lanes, matrix_result *results);

/* The block that stands for one threadgroup variable, the same for all threads of a group, poisoned when it begins. */
void *threadgroup_memory(const void *key, size_t n_bytes, size_t alignment);

[[noreturn]] void stop(const char *format, ...) __attribute__((format(printf, 1, 2)));

position position_in_grid();
position position_in_threadgroup();
position threadgroup_in_grid();
position grid_threads();
position group_threads();
position grid_groups();
uint32_t index_in_threadgroup();
uint32_t simdgroups();

/* An argument on its way to a parameter: a pointer, or a reference that checks its size. */
struct bound {
    void *data;
    size_t n_bytes;
    template <typename T> operator T *() const
    {
        return static_cast<T *>(data);
    }
    template <typename T> operator T &() const
    {
        if (n_bytes < sizeof(T)) {
            stop("an argument of %zu bytes is bound to a parameter of %zu", n_bytes, sizeof(T));
        }
        return *static_cast<T *>(data);
    }
};

struct binding {
    bound buffers[METAL_EMULATOR_BUFFERS];
    size_t threadgroup_bytes[METAL_EMULATOR_THREADGROUPS];
    bound buffer(unsigned i) const
    {
        return buffers[i];
    }
    bound threadgroup(unsigned i) const
    {
        return {threadgroup_memory(&threadgroup_bytes[i], threadgroup_bytes[i], 16), threadgroup_bytes[i]};
    }
};

struct entry {
    const char *name;
    void (*run)(const binding *b);
    uint32_t buffers;     /* bits: which it has */
    uint32_t threadgroup; /* likewise */
    uint32_t constants;   /* function constants of the file that it needs */
};

struct function_constant {
    const char *name;
    size_t n_bytes;
    void (*set)(const void *value);
};

struct file {
    const char *path;
    const entry *entries;
    size_t n_entries;
    const function_constant *constants;
    size_t n_constants;
};

} // namespace metal_emulator

struct metal_emulator_library {
    const metal_emulator::file *const *files;
    size_t n_files;
};

#endif
