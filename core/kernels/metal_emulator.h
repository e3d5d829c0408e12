/*
 * Running a Metal kernel on the CPU, where there is no Metal: the interface of tools/metal-emulator, which translates
 * the .metal files of core/kernels/metal into C++ and executes their threadgroups. Owner: the caller owns all memory it
 * passes; the emulator keeps none of it. Lifetime: the call.
 *
 * Kernels are found by their host name ("rms_norm_f16"). A call returns when the whole grid has run. Calls from several
 * threads do not disturb each other.
 */
#ifndef MLXR_KERNELS_METAL_EMULATOR_H
#define MLXR_KERNELS_METAL_EMULATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define METAL_EMULATOR_BUFFERS 31     /* [[buffer(0)]] … [[buffer(30)]], as on the device */
#define METAL_EMULATOR_THREADGROUPS 8 /* [[threadgroup(0)]] … */
#define METAL_EMULATOR_MEMORY 32768u  /* bytes of threadgroup memory a threadgroup may have */
#define METAL_EMULATOR_THREADS 1024u  /* threads a threadgroup may have */

/* What is bound to [[buffer(i)]]: device memory or the bytes of a constant. */
typedef struct metal_emulator_argument {
    void *data;
    size_t n_bytes;
} metal_emulator_argument;

/* A function constant, by the name it has in the source; n_bytes must be the size of its type. */
typedef struct metal_emulator_constant {
    const char *name;
    const void *value;
    size_t n_bytes;
} metal_emulator_constant;

typedef struct metal_emulator_launch {
    uint32_t grid[3];  /* threads; groups at the end of a dimension may be smaller, as with dispatchThreads */
    uint32_t group[3]; /* threads of a threadgroup */
    size_t threadgroup_bytes[METAL_EMULATOR_THREADGROUPS]; /* of [[threadgroup(i)]] arguments */
    const metal_emulator_constant *constants;              /* [n_constants] */
    size_t n_constants;
    /* The schedule: 0 runs threads in rising order, every other number in an order of its own, odd ones a simdgroup as
     * far as it goes. The same seed repeats the same schedule. */
    uint64_t seed;
    /* Arguments are copied to blocks of exactly n_bytes and back, so that an access beyond them is seen even where the
     * caller's memory goes on: by AddressSanitizer, else by guard pages behind each block. */
    bool isolate;
} metal_emulator_launch;

/* What a run did, for tests and limits. */
typedef struct metal_emulator_report {
    uint64_t n_groups, n_barriers, n_simd; /* threadgroup barriers; operations of simdgroups */
    size_t threadgroup_bytes;              /* of one threadgroup, declared in the kernel and passed */
} metal_emulator_report;

/* The kernels of one or more .metal files; made by CMake's metal_emulated_library(). */
typedef struct metal_emulator_library metal_emulator_library;

/* The six kernels of core/kernels/metal (CMake target metal_kernels_emulated). */
extern const metal_emulator_library metal_kernels_emulated;

/* Name of kernel i, or NULL behind the last. */
const char *metal_emulator_name(const metal_emulator_library *library, size_t i);

/* Runs `kernel` over the grid. 0, or −1 with what was wrong in `error` (unknown kernel, missing argument, a limit, a
 * barrier that not all threads reach, …); outputs are then undefined. `report` may be NULL. */
int metal_emulator_run(const metal_emulator_library *library, const char *kernel,
                       const metal_emulator_argument *arguments, size_t n_arguments,
                       const metal_emulator_launch *launch, metal_emulator_report *report, char *error,
                       size_t error_bytes);

#ifdef __cplusplus
}
#endif
#endif
