/*
 * Integer linear layers for AVX-VNNI (256-bit, without AVX-512): panels of 8 rows.
 * Owner: const tables. Lifetime: static.
 */
#include "kernels/cpu/linear_avxvnni.h"

#define LINEAR_SUFFIX linear_table_avxvnni
#define LINEAR_PANELS linear_panels_avxvnni
#define LINEAR_ISA "avx-vnni"

#include "kernels/cpu/linear_blocks.h"
