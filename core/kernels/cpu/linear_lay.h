/*
 * Laying panels (linear_laid.h). Included by the files of laid kernels behind linear_blocks.h; uses its definitions.
 * Owner: none. Lifetime: the call.
 */
#define LAID_WORD (LAID_ROWS * 4) /* bytes: a word of each row */

/* `n` words of each row from p on, with `flip` in their bits. */
INLINE uint8_t *lay_words(const uint8_t *p, size_t row_bytes, size_t n, vint flip, uint8_t *to)
{
    for (; n >= 8; n -= 8, p += 32, to += 8 * LAID_WORD) {
        for (size_t part = 0; part < LAID_PARTS; part++) {
            vint words[8];
            v_transpose_wide(p + part * ROWS * row_bytes, row_bytes, words);
            UNROLL
            for (size_t i = 0; i < 8; i++) {
                v_store(to + i * LAID_WORD + part * VECTOR, v_xor(words[i], flip));
            }
        }
    }
    for (; n > 0; n--, p += 4, to += LAID_WORD) {
        for (size_t part = 0; part < LAID_PARTS; part++) {
            vint word = v_gather(p + part * ROWS * row_bytes, row_bytes);
            v_store(to + part * VECTOR, v_xor(word, flip));
        }
    }
    return to;
}

static void lay(dtype type, const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint8_t *panel)
{
    const dtype_info *info = dtype_find(type);
    const size_t bytes = info->block_bytes, lone = lone_bytes(bytes), n = n_in / info->block_size;
    const size_t first = lone_is_first(type) ? lone : 0, half = lone_is_first(type) ? 0 : bytes - lone;
    const vint flip = v_bytes(type == DTYPE_Q8_0 ? 0x80 : 0);
    uint8_t *to = panel;
    for (size_t b = 0; b < n; b++) {
        to = lay_words(rows + b * bytes + first, row_bytes, bytes / 4, flip, to);
    }
    for (size_t b = 0; b < n && lone; b++) {
        for (size_t r = 0; r < LAID_ROWS; r++, to += lone) {
            memcpy(to, rows + r * row_bytes + b * bytes + half, lone);
        }
    }
}

static void fill_laid(linear_kernels *kernels, const panel_kernel *panels, linear_rows_fn *rows_of_laid)
{
    for (uint32_t type = 0; type < LINEAR_TYPES; type++) {
        kernels->laid_rows[type] = panels[type].rows ? rows_of_laid : NULL;
    }
    kernels->lay = lay;
}
