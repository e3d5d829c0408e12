/*
 * Row and attention kernels for ARM64 Advanced SIMD.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_neon.h"

#include "kernels/cpu/attention_simd.h"
#include "kernels/cpu/ops_simd.h"

void ops_table_neon(ops_table *table)
{
    ops_simd_fill(table);
    simd_attend_fill(&table->attend);
}
