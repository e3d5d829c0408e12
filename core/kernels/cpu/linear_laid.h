/*
 * Laid panels: sixteen rows with their words side by side, as a vector takes them, in as many bytes as the rows have. A
 * block of the file is words and, in some formats, one half before or behind them:
 *
 *     words  [n_blocks][words of a block][LAID_ROWS]  in the order of the file; bytes of Q8_0 have an offset of 128
 *     halves [n_blocks][LAID_ROWS]                    where blocks are not whole words
 *
 * What takes loads, insertions and shuffles of sixteen rows is a load then, and memory is read in one stream. The order
 * is one for all sets of instructions: vectors of eight rows take a panel's words in two parts. Included by
 * linear_blocks.h where LINEAR_LAID is defined; uses its definitions.
 * Owner: const tables. Lifetime: static.
 */
#define LAID_FAR 6144 /* bytes ahead */

_Static_assert(LAID_ROWS == LINEAR_ROW_GRAIN && LAID_ROWS % ROWS == 0,
               "shares of rows are whole panels, in whole parts");

/* Bytes of a block that are no whole word. */
INLINE size_t lone_bytes(size_t bytes)
{
    return bytes % 4;
}

INLINE bool lone_is_first(dtype type)
{
    return type != DTYPE_Q6_K;
}

/* Block b of n. */
INLINE source laid_block(dtype type, size_t bytes, const uint8_t *panel, uint32_t n, uint32_t b)
{
    const size_t lone = lone_bytes(bytes), words = (bytes - lone) * LAID_ROWS;
    source p = {.at = panel + b * words, .stride = 0, .laid = true, .halves = panel + n * words + b * lone * LAID_ROWS};
    p.at -= lone_is_first(type) ? lone * LAID_ROWS : 0;
    return p;
}

/* A vector's rows of it. */
INLINE source laid_part(source p, int part)
{
    p.at += part * VECTOR;
    p.halves += part * ROWS * 2;
    return p;
}

/* What is fetched while a panel is multiplied: LAID_FAR bytes further, in what comes next at its end. */
typedef struct laid_ahead {
    const uint8_t *at, *end, *next; /* in the panel; its end; where the next one goes on from there */
} laid_ahead;

/* `step` bytes are fetched at a time: whole steps ahead, and no more than a panel has, so that no end is passed. */
INLINE laid_ahead laid_ahead_of(target where, const uint8_t *panel, size_t row_bytes, size_t step, const sink *to)
{
    if (!is_few(where)) { /* it is told of nothing that comes next */
        return (laid_ahead){0};
    }
    const size_t n_bytes = LAID_ROWS * row_bytes, far = LAID_FAR / step * step;
    return n_bytes > far ? (laid_ahead){panel + far, panel + n_bytes, to->next.rows}
                         : (laid_ahead){to->next.rows, NULL, NULL};
}

INLINE void laid_fetch(laid_ahead *a, size_t n_bytes)
{
    fetch(a->at, n_bytes, 1);
    a->at += n_bytes;
    if (a->at == a->end) {
        *a = (laid_ahead){a->next, NULL, NULL};
    }
}

/* Formats whose block is 32 k. */
INLINE void walk_laid(dtype type, size_t bytes, int kind, int bits, int shift, target where, const uint8_t *rows,
                      size_t row_bytes, uint32_t n_in, sink to)
{
    const uint32_t n = n_in / Q16_BLOCK;
    laid_ahead next = laid_ahead_of(where, rows, row_bytes, ROWS * bytes, &to);
    for (int part = 0; part < LAID_PARTS; part++) {
        for (uint32_t b = 0; b < n; b++) {
            block v;
            unpack_legacy(type, wants_unsigned(where), laid_part(laid_block(type, bytes, rows, n, b), part), &v);
            put(kind, bits, shift, where, &v, &to);
            if (is_few(where)) {
                laid_fetch(&next, ROWS * bytes);
            }
        }
    }
}

/* Formats whose block is 256 k. */
INLINE void walk_laid_k(dtype type, size_t bytes, int kind, int bits, int shift, target where, const uint8_t *rows,
                        size_t row_bytes, uint32_t n_in, sink to)
{
    const uint32_t n = n_in / 256;
    laid_ahead next = laid_ahead_of(where, rows, row_bytes, ROWS * bytes / 8, &to);
    for (int part = 0; part < LAID_PARTS; part++) {
        for (uint32_t b = 0; b < n; b++) {
            const source p = laid_part(laid_block(type, bytes, rows, n, b), part);
            super_block s;
            unpack_super(type, p, &s);
            UNROLL
            for (int i = 0; i < 8; i++) {
                block v;
                unpack_super_block(type, wants_unsigned(where), p, i, &s, &v);
                put(kind, bits, shift, where, &v, &to);
                if (is_few(where)) {
                    laid_fetch(&next, ROWS * bytes / 8);
                }
            }
        }
    }
}

#ifdef NIBBLE_PAIRS
/* Q4_K × tokens, as blocks_nibbles. */
INLINE void walk_laid_nibbles(dtype type, size_t bytes, int kind, int bits, int shift, target where,
                              const uint8_t *rows, size_t row_bytes, uint32_t n_in, sink to)
{
    const int digits = where == TO_ROUNDED ? 1 : 2;
    const uint32_t n = n_in / 256;
    if (!is_few(where)) {
        walk_laid_k(type, bytes, kind, bits, shift, where, rows, row_bytes, n_in, to);
        return;
    }
    laid_ahead next = laid_ahead_of(where, rows, row_bytes, ROWS * bytes / 4, &to);
    for (uint32_t b = 0; b < n; b++) {
        const source p = laid_block(type, bytes, rows, n, b);
        super_block s;
        super_q45_k(p, &s);
        UNROLL
        for (int i = 0; i < 8; i += 2) {
            words_8(p, 16 + 16 * (size_t)i, s.raw);
            multiply_pairs(digits, &s, i, &to);
            laid_fetch(&next, ROWS * bytes / 4);
        }
    }
}
#else
#define walk_laid_nibbles walk_laid_k
#endif
