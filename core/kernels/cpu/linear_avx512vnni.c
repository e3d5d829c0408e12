/*
 * Integer linear layers for AVX-512 with VNNI: panels of 16 rows.
 * Owner: const tables. Lifetime: static.
 */
#include "kernels/cpu/linear_avx512vnni.h"

#define LINEAR_SUFFIX linear_table_avx512vnni
#define LINEAR_PANELS linear_panels_avx512vnni
#define LINEAR_ISA "avx512-vnni"

#include "kernels/cpu/linear_blocks.h"
