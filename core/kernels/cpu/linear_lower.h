/*
 * Unpacked panels × tiles of tokens whose inputs are rounded to 8 bits (LINEAR_Q8): products of bytes with the lower
 * digit alone. Included by linear_blocks.h after linear_words.h, with which it shares the number of tokens a pass has
 * and what follows a block's sums; uses its definitions and
 *     LOWER_TURN(bits)            words of weights a turn: 1 or 2
 *     LOWER_NARROW(bits)          sums of a block stay in 16 bits until lower_widen(start, sum)
 *     vint lower_turn(bits, vint sum, const vint *w, const uint8_t *q)
 *                                 sum + Σ of a turn's words of weights × q
 * or LOWER_BY_DOT alone, where dot() adds products up in 32 bits.
 * Owner: const tables. Lifetime: static.
 *
 * Two panels share each broadcast token, and four or eight tokens each vector of weights: reading bounds these loops,
 * not multiplying. With one panel and the weights in registers 15 vectors are read for 32 k of 8 rows and a token,
 * so 9.
 */

#ifdef LOWER_BY_DOT
#define LOWER_TURN(bits) 1
#define LOWER_NARROW(bits) false

INLINE vint lower_turn(int bits, vint sum, const vint *w, const uint8_t *q)
{
    return dot(bits, sum, w, q, 1);
}

INLINE vint lower_widen(vint start, vint sum)
{
    (void)start;
    return sum;
}
#endif

/* acc += 16 or 32 k of the block × tokens, whose digits begin at x, scales at units, sums to be taken back at minus; of
 * blocks with one minimum that, too. */
INLINE void multiply_lower(int kind, int bits, int shift, int n, int n_panels, int n_words, const uint8_t *const w[],
                           const uint8_t *const scale[], const uint8_t *x, const uint8_t *minus, const uint8_t *units,
                           const uint8_t *scaled_sums, float *acc)
{
    vint sum[WORDS_TOKENS][ACC_PANELS], start[WORDS_TOKENS];
    UNROLL
    for (int t = 0; t < n; t++) {
        start[t] = shift ? v_left32(v_words(word_at(minus + 4 * t)), shift) : v_words(0);
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            sum[t][p] = LOWER_NARROW(bits) ? v_words(0) : start[t];
        }
    }
    UNROLL
    for (int i = 0; i < n_words; i += LOWER_TURN(bits)) {
        vint weights[ACC_PANELS][2];
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            weights[p][0] = v_get(w[p] + i * VECTOR);
            if (LOWER_TURN(bits) == 2) {
                weights[p][1] = v_get(w[p] + (i + 1) * VECTOR);
            }
        }
        UNROLL
        for (int t = 0; t < n; t++) {
            UNROLL
            for (int p = 0; p < n_panels; p++) {
                sum[t][p] = lower_turn(bits, sum[t][p], weights[p], x + t * Q16_BLOCK + 4 * i);
            }
        }
    }
    UNROLL
    for (int t = 0; t < n; t++) {
        vflt unit = v_floats(float_at(units + 4 * t));
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            float *a = acc + (t * ACC_PANELS + p) * ROWS;
            vint total = LOWER_NARROW(bits) ? lower_widen(start[t], sum[t][p]) : sum[t][p];
            vflt value = v_fma(v_from_int(total), v_mul(v_get_floats(scale[p]), unit), v_get_floats(a));
            if (kind == MIN) {
                value = v_fma(v_get_floats(scale[p] + VECTOR), v_floats(float_at(scaled_sums + 4 * t)), value);
            }
            v_put_floats(a, value);
        }
    }
}

/* Tokens first … first + n − 1 of a record of T × n_panels panels. */
INLINE void lower_pass(int kind, int bits, int shift, int n_panels, int T, int first, int n, const uint8_t *panel,
                       uint32_t n_in, const uint8_t *record, const panel_output *out, const panel_ahead *ahead)
{
    _Alignas(64) float acc[WORDS_TOKENS * ACC_PANELS * ROWS];
    const size_t panel_bytes = n_in / Q16_BLOCK * BLOCK_BYTES(BYTE_VECTORS, kind), far_step = first ? 0 : ahead->step;
    const uint8_t *far = ahead->bytes;
    UNROLL
    for (int i = 0; i < n * ACC_PANELS; i++) {
        v_put_floats(acc + i * ROWS, v_floats(0.0f));
    }
    for (uint32_t b = 0; b < n_in / Q16_BLOCK; b++) {
        const uint8_t *x = record + first * Q16_BLOCK, *words = record + T * Q16_BLOCK + 4 * first;
        const uint8_t *units = words + Q16_UNIT * T * 4, *minus = words + Q16_MINUS_SUM * T * 4;
        const uint8_t *low = words + Q16_MINUS_LOW * T * 4, *high = words + Q16_MINUS_HIGH * T * 4;
        const uint8_t *scaled_sums = words + Q16_SCALED_SUM * T * 4;
        const uint8_t *const w[2] = {panel, panel + panel_bytes};
        const uint8_t *const half[2] = {w[0] + 4 * VECTOR, w[1] + 4 * VECTOR};
        const uint8_t *const scale[2] = {w[0] + 8 * VECTOR, w[1] + 8 * VECTOR};
        const uint8_t *const scale_high[2] = {scale[0] + VECTOR, scale[1] + VECTOR};
        if (kind & HALVES) {
            multiply_lower(kind, bits, shift, n, n_panels, 4, w, scale, x, low, units, scaled_sums, acc);
            multiply_lower(kind, bits, shift, n, n_panels, 4, half, scale_high, x + 16, high, units, scaled_sums, acc);
        } else {
            multiply_lower(kind, bits, shift, n, n_panels, 8, w, scale, x, minus, units, scaled_sums, acc);
        }
        if (kind == (MIN | HALVES)) {
            add_minima(T, n, n_panels, scale, words, acc);
        }
        for (size_t i = 0; i < far_step; i += 64) {
            __builtin_prefetch(far + i, 0, 2);
        }
        far += far_step;
        panel += BLOCK_BYTES(BYTE_VECTORS, kind);
        record += T * (Q16_RECORD_BYTES - Q16_BLOCK);
    }
    store_words(first, n, n_panels, acc, out);
}

#define LOWER_PASS(name, kind, bits, shift, n_panels, n)                                                               \
    static void lower_pass_##name##_##n_panels##_##n(const uint8_t *panel, uint32_t n_in, const uint8_t *record,       \
                                                     int T, int first, const panel_output *out,                        \
                                                     const panel_ahead *ahead)                                         \
    {                                                                                                                  \
        lower_pass(kind, bits, shift, n_panels, T, first, n, panel, n_in, record, out, ahead);                         \
    }

/* A tile in passes of up to four tokens. */
#define LOWER_PASSES(name, kind, bits, shift, n_panels)                                                                \
    LOWER_PASS(name, kind, bits, shift, n_panels, 1)                                                                   \
    LOWER_PASS(name, kind, bits, shift, n_panels, 2)                                                                   \
    LOWER_PASS(name, kind, bits, shift, n_panels, 3)                                                                   \
    LOWER_PASS(name, kind, bits, shift, n_panels, 4)                                                                   \
    static void lower_passes_##name##_##n_panels(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T,    \
                                                 const panel_output *out, const panel_ahead *ahead)                    \
    {                                                                                                                  \
        if (T == LINEAR_TILE && WORDS_TOKENS == LINEAR_TILE) {                                                         \
            lower_pass(kind, bits, shift, n_panels, LINEAR_TILE, 0, WORDS_TOKENS, panel, n_in, record, out, ahead);    \
            return;                                                                                                    \
        }                                                                                                              \
        for (int first = 0; first < T; first += 4) {                                                                   \
            switch (T - first) {                                                                                       \
            case 1:                                                                                                    \
                lower_pass_##name##_##n_panels##_1(panel, n_in, record, T, first, out, ahead);                         \
                break;                                                                                                 \
            case 2:                                                                                                    \
                lower_pass_##name##_##n_panels##_2(panel, n_in, record, T, first, out, ahead);                         \
                break;                                                                                                 \
            case 3:                                                                                                    \
                lower_pass_##name##_##n_panels##_3(panel, n_in, record, T, first, out, ahead);                         \
                break;                                                                                                 \
            default:                                                                                                   \
                lower_pass_##name##_##n_panels##_4(panel, n_in, record, T, first, out, ahead);                         \
                break;                                                                                                 \
            }                                                                                                          \
        }                                                                                                              \
    }

#define LOWERS(name, kind, bits, shift)                                                                                \
    LOWER_PASSES(name, kind, bits, shift, 1)                                                                           \
    LOWER_PASSES(name, kind, bits, shift, 2)                                                                           \
    static void lower_##name(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T,                        \
                             const panel_output *out, const panel_ahead *ahead)                                        \
    {                                                                                                                  \
        (out->n_rows > ROWS ? lower_passes_##name##_2 : lower_passes_##name##_1)(panel, n_in, record, T, out, ahead);  \
    }

LOWERS(tile_q4_0, 0, 4, 3)
LOWERS(tile_q5_0, 0, 5, 4)
#ifndef WORDS_ALWAYS
LOWERS(tile_q8, 0, 8, SHIFT8)
#endif
LOWERS(tile_min4, MIN, 4, 0)
LOWERS(tile_min5, MIN, 5, 0)
LOWERS(tile_q6_k, HALVES, 6, 5)
LOWERS(tile_q3_k, HALVES, 4, 2)
LOWERS(tile_q2_k, MIN | HALVES, 4, 0)
