/*
 * What the checks of the Metal kernels share: values of a type, running a kernel in the schedules this build takes, and
 * comparing with the scalar oracle. One program, one kernel a run: metal_check NAME.
 * Owner: main. Lifetime: the process.
 *
 * Which cases run how often: under ASan and UBSan every case in one schedule and a seeded tenth in four; elsewhere
 * (also under TSan) the tenth in four; with MLXR_SOAK everything in four.
 */
#ifndef MLXR_TESTS_METAL_CHECK_H
#define MLXR_TESTS_METAL_CHECK_H

#include "kernels/checkkernels.h"
#include "kernels/metal_emulator.h"
#include "kernels/metal_kernels.h"

#define METAL_CASES_LEAST 81

typedef struct metal_check {
    check base; /* random numbers; cases and failures */
    const char *kernel;
    uint32_t index;    /* of the case */
    uint64_t seeds[4]; /* schedules of this case */
    uint32_t n_seeds;
    double worst;     /* error / bound, over all */
    size_t memory;    /* largest threadgroup memory seen */
    uint32_t threads; /* largest threadgroup */
    uint64_t n_runs;
} metal_check;

typedef struct metal_suite {
    const char *name;
    uint32_t n_cases;
    void (*run)(metal_check *c); /* case c->index */
} metal_suite;

extern const metal_suite metal_rms_norm_suite, metal_rope_suite, metal_decode_suite, metal_prefill_suite,
    metal_q_gemm_suite, metal_swiglu_suite;

/* n numbers in a type (F32, F16, BF16), and what they are as floats. */
typedef struct values {
    dtype type;
    size_t n, n_bytes;
    void *data;
    float *f;
} values;

typedef enum values_kind { VALUES_NORMAL, VALUES_LARGE, VALUES_SMALL, VALUES_ZERO } values_kind;

/* Exits where there is no memory. */
void *metal_get(size_t n_bytes);
values values_make(metal_check *c, dtype type, size_t n, values_kind kind);
/* An output: NaN everywhere. */
values values_output(dtype type, size_t n);
void values_poison(values *v);
/* data → f */
void values_read(values *v);
void values_free(values *v);
metal_emulator_argument values_argument(const values *v);
#define METAL_BYTES(pointer, n) ((metal_emulator_argument){pointer, n})

const char *metal_type_name(dtype type); /* as kernels' names have it: f32, q4_k, … */
dtype metal_pick_type(uint32_t i);       /* F32, F16, BF16 in turn */
uint32_t metal_pick_threads(uint32_t i); /* the kernel's own choice of a threadgroup's size in half of the cases */

/* Runs a kernel; a failure of the emulator is a failure of the case. `params` are the dispatch's words, bound at
 * `params_at`. */
bool metal_run(metal_check *c, const char *kernel, metal_emulator_argument *arguments, size_t n, size_t params_at,
               const metal_dispatch *dispatch, uint64_t seed);

/* got is what a kernel left in `type`: within `bound` of expected, and what rounding to the type adds. */
void metal_compare(metal_check *c, dtype type, float got, double expected, double bound, size_t at);

#endif
