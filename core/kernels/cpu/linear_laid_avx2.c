/*
 * Integer linear layers for AVX2 whose panels are laid (linear_laid.h), and laying them.
 * Owner: const tables. Lifetime: static.
 */
#include "kernels/cpu/linear_avx2.h"

#define LINEAR_PANELS linear_panels_laid_avx2
#define LINEAR_LAID
#define MAKE_UNSIGNED true
#define STEP_TURN(bits) ((bits) == 6 ? 2 : (bits) == 5 ? 4 : 8)
#define STEP_WORDS_8BIT

INLINE vint step_add(vint sum, vint w, vint x)
{
    return in_order(_mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x)));
}

/* Widening multiplies the higher digit's sums by 256. */
INLINE vint step_join(vint start, vint high, vint low)
{
    vint of_high = _mm256_madd_epi16(high, _mm256_set1_epi16(256));
    return widen(_mm256_add_epi32(start, of_high), low);
}

INLINE vint step_join_lower(vint start, vint low)
{
    return widen(start, low);
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

void linear_table_laid_avx2(linear_kernels *kernels)
{
    fill_laid(kernels, LINEAR_PANELS, rows_of_laid);
}
