/*
 * Integer linear layers for AVX-512 with VNNI whose panels are laid (linear_laid.h), and laying them.
 * Owner: const tables. Lifetime: static.
 */
#include "kernels/cpu/linear_avx512vnni.h"

#define LINEAR_PANELS linear_panels_laid_avx512vnni
#define LINEAR_LAID

/* Q2_K and Q3_K are not laid, so that what multiplies their panels is of no use here. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "kernels/cpu/linear_blocks.h"
#include "kernels/cpu/linear_lay.h"

static void rows_of_laid(const linear_weight *weight, const linear_input *input, const linear_output *output,
                         uint32_t begin, uint32_t end, void *scratch)
{
    const panel_kernel *panels = input->format == LINEAR_C16 ? linear_panels_laid_crossed_avx512vnni : LINEAR_PANELS;
    linear_panels_run(&panels[weight->type], weight, input, output, begin, end, scratch);
}

void linear_table_laid_avx512vnni(linear_kernels *kernels)
{
    fill_laid(kernels, LINEAR_PANELS, rows_of_laid);
}
