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

/* `n` words of each row from p on. */
INLINE uint8_t *lay_words(const uint8_t *p, size_t row_bytes, size_t n, uint8_t *to)
{
    vint words[8];
    for (; n >= 8; n -= 8, p += 32, to += 8 * VECTOR) {
        v_transpose_wide(p, row_bytes, words);
        UNROLL
        for (int i = 0; i < 8; i++) {
            _mm512_storeu_si512(to + i * VECTOR, words[i]);
        }
    }
    for (; n > 0; n--, p += 4, to += VECTOR) {
        _mm512_storeu_si512(to, v_gather(p, row_bytes));
    }
    return to;
}

static void lay(dtype type, const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint8_t *panel)
{
    const dtype_info *info = dtype_find(type);
    const size_t bytes = info->block_bytes, lone = lone_bytes(bytes), n = n_in / info->block_size;
    const size_t first = lone_is_first(type) ? lone : 0, half = lone_is_first(type) ? 0 : bytes - lone;
    uint8_t *to = panel;
    for (size_t b = 0; b < n; b++) {
        to = lay_words(rows + b * bytes + first, row_bytes, bytes / 4, to);
    }
    for (size_t b = 0; b < n && lone; b++) {
        for (size_t r = 0; r < ROWS; r++, to += lone) {
            memcpy(to, rows + r * row_bytes + b * bytes + half, lone);
        }
    }
}

static void rows_of_laid(const linear_weight *weight, const linear_input *input, const linear_output *output,
                         uint32_t begin, uint32_t end, void *scratch)
{
    const panel_kernel *panels = input->format == LINEAR_C16 ? linear_panels_laid_crossed_avx512vnni : LINEAR_PANELS;
    linear_panels_run(&panels[weight->type], weight, input, output, begin, end, scratch);
}

void linear_table_laid_avx512vnni(linear_kernels *kernels)
{
    for (uint32_t type = 0; type < LINEAR_TYPES; type++) {
        kernels->laid_rows[type] = LINEAR_PANELS[type].rows ? rows_of_laid : NULL;
    }
    kernels->lay = lay;
}
