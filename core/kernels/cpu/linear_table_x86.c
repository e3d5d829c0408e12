/*
 * Which x86 kernels the features allow.
 * Owner: the caller's linear_kernels. Lifetime: linear_init.
 */
#include "kernels/cpu/linear_table.h"

/* Laid panels, for the inputs of the kernels that the same features bring. AMX's tiles have an order of their own. */
static void linear_table_laid(linear_kernels *kernels, cpu_features features)
{
    if (features & CPU_AVX512_VNNI) {
        if (!(features & CPU_AMX_INT8)) {
            linear_table_laid_avx512vnni(kernels);
        }
    } else if (features & CPU_AVX_VNNI) {
        linear_table_laid_avxvnni(kernels);
    } else if (features & CPU_AVX2) {
        linear_table_laid_avx2(kernels);
    }
}

void linear_table_arch(linear_kernels *kernels, cpu_features features)
{
    if (features & CPU_AVX2) {
        linear_table_pack_avx2(kernels);
        linear_table_avx2(kernels);
        linear_table_float_avx2(kernels);
        linear_table_decoded_avx2(kernels);
    }
    if (features & CPU_AVX_VNNI) {
        linear_table_avxvnni(kernels);
    }
    if (features & CPU_AVX512) {
        linear_table_float_avx512(kernels);
        linear_table_decoded_avx512(kernels);
    }
    if (features & CPU_AVX512_VNNI) {
        linear_table_avx512vnni(kernels);
        linear_table_words_avx512vnni(kernels);
    }
    if ((features & CPU_AVX512_ADDS) && (features & CPU_AVX512_VNNI)) {
        linear_table_crossed_avx512vnni(kernels);
    }
    if (features & CPU_AVX512_BF16) {
        linear_table_float_avx512bf16(kernels);
    }
    if ((features & CPU_AMX_INT8) && (features & CPU_AVX512_VNNI)) {
        linear_table_amx(kernels);
    }
    if ((features & CPU_AMX_BF16) && (features & CPU_AVX512)) {
        linear_table_float_amx(kernels);
    }
    linear_table_laid(kernels, features);
}
