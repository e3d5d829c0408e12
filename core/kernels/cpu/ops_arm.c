/*
 * Which row kernels an ARM64 processor gets.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/ops.h"

void ops_table_arch(ops_table *table, cpu_features features)
{
    if (features & CPU_NEON) {
        ops_table_neon(table);
    }
}
