/*
 * As linear_crossed_avx512vnni.c, of panels that are laid (linear_laid.h).
 * Owner: const tables. Lifetime: static.
 */
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_avx512.h"

#define LINEAR_PANELS linear_panels_laid_crossed_avx512vnni
#define LINEAR_LAID
#define LINEAR_MANY_ONLY
#define LINEAR_BY_BLOCK
#define WORDS_PANELS 2
#define WORDS_ALWAYS
#define WORDS_TOKENS 8
#define WORDS_CROSSED
#define MAKE_UNSIGNED true

INLINE vint dot_words(vint start, vint w, vint x)
{
    return _mm512_dpwssd_epi32(start, w, x);
}

/* Q2_K and Q3_K are not laid, so that what multiplies their panels is of no use here. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "kernels/cpu/linear_blocks.h"
