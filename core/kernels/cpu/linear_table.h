/*
 * How kernels enter the table: one function per instruction set, called in rising order.
 * Owner: none. Lifetime: linear_init.
 */
#ifndef MLXR_KERNELS_CPU_LINEAR_TABLE_H
#define MLXR_KERNELS_CPU_LINEAR_TABLE_H

#include "kernels/cpu/linear.h"

/* Overwrites entries with what the features allow on this architecture; one definition per architecture, picked by
 * isa.cmake: linear_table_x86.c, linear_table_arm.c, linear_table_generic.c. */
void linear_table_arch(linear_kernels *kernels, cpu_features features);

void linear_table_scalar(linear_kernels *kernels);
void linear_table_pack_avx2(linear_kernels *kernels);
void linear_table_avx2(linear_kernels *kernels);
void linear_table_float_avx2(linear_kernels *kernels);
void linear_table_laid_avx2(linear_kernels *kernels);
void linear_table_avxvnni(linear_kernels *kernels);
void linear_table_laid_avxvnni(linear_kernels *kernels);
void linear_table_avx512vnni(linear_kernels *kernels);
void linear_table_crossed_avx512vnni(linear_kernels *kernels);
void linear_table_laid_avx512vnni(linear_kernels *kernels);
void linear_table_words_avx512vnni(linear_kernels *kernels);
void linear_table_float_avx512(linear_kernels *kernels);
void linear_table_float_avx512bf16(linear_kernels *kernels);
void linear_table_float_amx(linear_kernels *kernels);
void linear_table_amx(linear_kernels *kernels);
void linear_table_pack_neon(linear_kernels *kernels);
void linear_table_neon(linear_kernels *kernels);
void linear_table_float_neon(linear_kernels *kernels);
void linear_table_dotprod(linear_kernels *kernels);
void linear_table_i8mm(linear_kernels *kernels);
void linear_table_decoded_avx2(linear_kernels *kernels);
void linear_table_decoded_avx512(linear_kernels *kernels);
void linear_table_decoded_neon(linear_kernels *kernels);
void linear_table_float_armbf16(linear_kernels *kernels);

#endif
