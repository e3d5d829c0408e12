/*
 * Which x86 loops the features allow.
 * Owner: the caller's limits_loops. Lifetime: limits_init.
 */
#include "kernels/cpu/limits.h"

void limits_table_arch(limits_loops *loops, cpu_features features)
{
    if (features & CPU_AVX2) {
        limits_table_avx2(loops);
    }
    if (features & CPU_AVX_VNNI) {
        limits_table_avxvnni(loops);
    }
    if (features & CPU_AVX512) {
        limits_table_avx512(loops);
    }
    if (features & CPU_AVX512_VNNI) {
        limits_table_avx512vnni(loops);
    }
    if (features & CPU_AVX512_BF16) {
        limits_table_avx512bf16(loops);
    }
    if (features & (CPU_AMX_INT8 | CPU_AMX_BF16)) {
        limits_table_amx(loops, features);
    }
}
