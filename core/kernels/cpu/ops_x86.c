/*
 * Which row kernels an x86-64 processor gets.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/ops.h"

void ops_table_arch(ops_table *table, cpu_features features)
{
    if (features & CPU_AVX2) {
        ops_table_avx2(table);
    }
    if (features & CPU_AVX512) {
        ops_table_avx512(table);
    }
    if (features & CPU_AVX512_VNNI) {
        ops_table_avx512vnni(table);
    }
}
