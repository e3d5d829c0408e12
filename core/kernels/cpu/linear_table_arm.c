/*
 * Which ARM64 kernels the features allow.
 * Owner: the caller's linear_kernels. Lifetime: linear_init.
 */
#include "kernels/cpu/linear_table.h"

void linear_table_arch(linear_kernels *kernels, cpu_features features)
{
    if (features & CPU_NEON) {
        linear_table_pack_neon(kernels);
        linear_table_neon(kernels);
        linear_table_float_neon(kernels);
        linear_table_decoded_neon(kernels);
    }
    if (features & CPU_DOTPROD) {
        linear_table_dotprod(kernels);
    }
    if (features & CPU_I8MM) {
        linear_table_i8mm(kernels);
    }
    if (features & CPU_ARM_BF16) {
        linear_table_float_armbf16(kernels);
    }
}
