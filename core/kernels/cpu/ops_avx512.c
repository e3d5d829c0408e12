/*
 * Row and attention kernels for AVX-512.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/attention_simd.h"
#include "kernels/cpu/ops_simd.h"

void ops_table_avx512(ops_table *table)
{
    ops_simd_fill(table);
    simd_attend_fill(&table->attend);
}
