/*
 * Integer linear layers for AVX-VNNI (256-bit, without AVX-512) whose panels are laid (linear_laid.h), and laying them.
 * Owner: const tables. Lifetime: static.
 */
#include "kernels/cpu/linear_avxvnni.h"

#define LINEAR_PANELS linear_panels_laid_avxvnni
#define LINEAR_LAID
#define STEP_TURN(bits) ((void)(bits), 8)

INLINE vint step_add(vint sum, vint w, vint x)
{
    return _mm256_dpbusd_avx_epi32(sum, w, x);
}

INLINE vint step_join(vint start, vint high, vint low)
{
    return v_add32(start, v_add32(v_left32(high, 8), low));
}

INLINE vint step_join_lower(vint start, vint low)
{
    return v_add32(start, low);
}

/* Q2_K and Q3_K are not laid, so that what multiplies their panels is of no use here. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "kernels/cpu/linear_blocks.h"
#include "kernels/cpu/linear_lay.h"

static void rows_of_laid(const linear_weight *weight, const linear_input *input, const linear_output *output,
                         uint32_t begin, uint32_t end, void *scratch)
{
    linear_panels_run(&LINEAR_PANELS[weight->type], weight, input, output, begin, end, scratch);
}

void linear_table_laid_avxvnni(linear_kernels *kernels)
{
    fill_laid(kernels, LINEAR_PANELS, rows_of_laid);
}
