/*
 * Integer linear layers for AVX-512 with VNNI on processors that add words at twice the rate of products: crossed ones
 * (linear_words.h). Few tokens and those of one digit are linear_avx512vnni.c's.
 * Owner: const tables. Lifetime: static.
 */
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_avx512.h"

#define LINEAR_PANELS linear_panels_crossed_avx512vnni
#define LINEAR_MANY_ONLY
#define WORDS_PANELS 2
#define WORDS_ALWAYS
#define WORDS_TOKENS 8
#define WORDS_CROSSED
#define MAKE_UNSIGNED true
#define DIGITS_TOKENS 8 /* up to so many, unpacking words costs what multiplying less gains */

INLINE vint dot_words(vint start, vint w, vint x)
{
    return _mm512_dpwssd_epi32(start, w, x);
}

#include "kernels/cpu/linear_blocks.h"

static void rows_of_crossed(const linear_weight *weight, const linear_input *input, const linear_output *output,
                            uint32_t begin, uint32_t end, void *scratch)
{
    const panel_kernel *panels = input->format == LINEAR_C16 ? LINEAR_PANELS : linear_panels_avx512vnni;
    linear_panels_run(&panels[weight->type], weight, input, output, begin, end, scratch);
}

void linear_table_crossed_avx512vnni(linear_kernels *kernels)
{
    for (uint32_t type = 0; type < LINEAR_TYPES; type++) {
        if (LINEAR_PANELS[type].rows) {
            kernels->many[type] = LINEAR_C16;
            kernels->n_few[type] = DIGITS_TOKENS;
            kernels->rows[type] = rows_of_crossed;
            kernels->isa[type] = "avx512-adds";
        }
    }
}
