/*
 * Unpacked panels × tiles of tokens with products of bytes: weights × the two digits of a token, one after the other.
 * Included by linear_blocks.h; uses its definitions and
 *     PASS_TOKENS                 tokens whose sums fit in registers beside a block of weights; not with WORDS_ALWAYS
 * Owner: const tables. Lifetime: static.
 */
#ifdef LINEAR_LAID
#define TILE_PANELS LAID_PARTS
#else
#define TILE_PANELS 1
#endif
#define PANEL_UNSIGNED MAKE_UNSIGNED

INLINE void put_bytes(int bits, int shift, const block *v, uint8_t *to)
{
    (void)bits;
    (void)shift; /* taken back in the sums */
    UNROLL
    for (int i = 0; i < 8; i++) {
        v_put(to + i * VECTOR, v->w[i]);
    }
}

#ifndef WORDS_ALWAYS
INLINE void get_block(int kind, const uint8_t *from, block *v)
{
    UNROLL
    for (int i = 0; i < 8; i++) {
        v->w[i] = v_get(from + i * VECTOR);
    }
    from += 8 * VECTOR;
    v->scale[0] = v_get_floats(from);
    if (kind & HALVES) {
        v->scale[1] = v_get_floats(from += VECTOR);
    }
    if (kind & MIN) {
        v->min[0] = v_get_floats(from += VECTOR);
    }
    if (kind == (MIN | HALVES)) {
        v->min[1] = v_get_floats(from += VECTOR);
    }
}

INLINE void tile_pass(int kind, int bits, int shift, int T, int first, int n, const uint8_t *panel, uint32_t n_in,
                      const uint8_t *record, const panel_output *out, const panel_ahead *ahead)
{
    vflt acc[PASS_TOKENS];
    const uint8_t *far = ahead->bytes;
    const size_t far_step = first ? 0 : ahead->step;
    zero(n, acc);
    for (uint32_t b = 0; b < n_in / Q16_BLOCK; b++) {
        block v;
        get_block(kind, panel, &v);
        multiply(2, kind, bits, shift, T, first, n, &v, record, acc);
        for (size_t i = 0; i < far_step; i += 64) {
            __builtin_prefetch(far + i, 0, 2);
        }
        far += far_step;
        panel += BLOCK_BYTES(BYTE_VECTORS, kind);
        record += T * Q16_RECORD_BYTES;
    }
    store(first, n, acc, out);
}

#define PASS(name, kind, bits, shift, n)                                                                               \
    static void pass_##name##_##n(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T, int first,        \
                                  const panel_output *out, const panel_ahead *ahead)                                   \
    {                                                                                                                  \
        tile_pass(kind, bits, shift, T, first, n, panel, n_in, record, out, ahead);                                    \
    }

/* A panel of one kind × a tile of T tokens: a full tile with constant offsets, others in passes of up to four. */
#define TILES(name, kind, bits, shift)                                                                                 \
    PASS(name, kind, bits, shift, 1)                                                                                   \
    PASS(name, kind, bits, shift, 2)                                                                                   \
    PASS(name, kind, bits, shift, 3)                                                                                   \
    PASS(name, kind, bits, shift, 4)                                                                                   \
    static void passes_##name(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T,                       \
                              const panel_output *out, const panel_ahead *ahead)                                       \
    {                                                                                                                  \
        if (T == LINEAR_TILE && PASS_TOKENS == LINEAR_TILE) {                                                          \
            tile_pass(kind, bits, shift, LINEAR_TILE, 0, PASS_TOKENS, panel, n_in, record, out, ahead);                \
            return;                                                                                                    \
        }                                                                                                              \
        for (int first = 0; first < T; first += 4) {                                                                   \
            switch (T - first) {                                                                                       \
            case 1:                                                                                                    \
                pass_##name##_1(panel, n_in, record, T, first, out, ahead);                                            \
                break;                                                                                                 \
            case 2:                                                                                                    \
                pass_##name##_2(panel, n_in, record, T, first, out, ahead);                                            \
                break;                                                                                                 \
            case 3:                                                                                                    \
                pass_##name##_3(panel, n_in, record, T, first, out, ahead);                                            \
                break;                                                                                                 \
            default:                                                                                                   \
                pass_##name##_4(panel, n_in, record, T, first, out, ahead);                                            \
                break;                                                                                                 \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void tile_##name(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T,                         \
                            const panel_output *out, const panel_ahead *ahead)                                         \
    {                                                                                                                  \
        panel_ahead next = *ahead;                                                                                     \
        for (int p = 0; p < TILE_PANELS; p++) {                                                                        \
            const panel_output part = panel_part(out, p);                                                              \
            passes_##name(panel, n_in, record, T, &part, &next);                                                       \
            panel += n_in / Q16_BLOCK * BLOCK_BYTES(BYTE_VECTORS, kind);                                               \
            next.step = 0; /* all of it is fetched with the first */                                                   \
        }                                                                                                              \
    }

TILES(q4_0, 0, 4, 3)
TILES(q5_0, 0, 5, 4)
TILES(q8, 0, 8, SHIFT8)
TILES(min4, MIN, 4, 0)
TILES(min5, MIN, 5, 0)
TILES(q6_k, HALVES, 6, 5)
TILES(q3_k, HALVES, 4, 2)
TILES(q2_k, MIN | HALVES, 4, 0)
#endif
