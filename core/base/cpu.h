/*
 * CPU features as the processor reports them and the operating system grants them.
 * Owner: none; plain values. Lifetime: the process does not change CPU.
 */
#ifndef MLXR_BASE_CPU_H
#define MLXR_BASE_CPU_H

#include "mlxr.h"

/* name in `--cpu-features`, enum name */
#define CPU_FEATURE_LIST(X)                                                                                            \
    X(AVX2, "avx2") /* with FMA, F16C and BMI2 */                                                                      \
    X(AVX_VNNI, "avx-vnni")                                                                                            \
    X(AVX512, "avx512") /* F, BW, DQ, VL, CD */                                                                        \
    X(AVX512_VNNI, "avx512-vnni")                                                                                      \
    X(AVX512_BF16, "avx512-bf16")                                                                                      \
    X(AVX512_ADDS, "avx512-adds") /* no set: words of 512 bits are added at twice the rate of VNNI's products */       \
    X(AMX_INT8, "amx-int8")       /* with AMX-TILE and the kernel's permission */                                      \
    X(AMX_BF16, "amx-bf16")                                                                                            \
    X(HALVES, "halves") /* no set: halves of the matrix of logits are kept apart, for kernels of AVX2 and beyond */    \
    X(LAID, "laid") /* no set: weights are laid in the order of kernels of AVX2 and beyond while tokens are written */ \
    X(NEON, "neon")                                                                                                    \
    X(DOTPROD, "dotprod")                                                                                              \
    X(I8MM, "i8mm")                                                                                                    \
    X(ARM_BF16, "bf16")

enum {
#define CPU_FEATURE_INDEX(name, text) CPU_INDEX_##name,
    CPU_FEATURE_LIST(CPU_FEATURE_INDEX)
#undef CPU_FEATURE_INDEX
        CPU_FEATURE_COUNT
};

typedef uint32_t cpu_features;

enum {
#define CPU_FEATURE_BIT(name, text) CPU_##name = 1u << CPU_INDEX_##name,
    CPU_FEATURE_LIST(CPU_FEATURE_BIT)
#undef CPU_FEATURE_BIT
};

/* What this process may use: CPUID and XCR0 (x86), hwcaps or sysctl (ARM); asks Linux for the AMX permission, so call
 * it before the threads that will use tiles are started. */
cpu_features cpu_detect(void);

/* What CPUID alone claims, for `doctor` to show the difference. */
cpu_features cpu_advertised(void);

/* Applies a mask such as "-amx,-avx512" to *features. A level takes what builds on it along: "-avx512" also clears
 * avx512-vnni, -bf16 and -adds; "-amx" clears both; "scalar" clears all. Unknown names are an error naming them. */
mlxr_status cpu_mask(cpu_features *features, const char *mask, mlxr_error *error);

const char *cpu_feature_name(unsigned index); /* NULL past the end */
const char *cpu_model_name(char *out, size_t cap);
/* Cores this process may run on (affinity and cgroup quota), at least 1. */
uint32_t cpu_cores_usable(void);

#endif
