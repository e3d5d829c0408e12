/*
 * Unpacked panels × tiles of tokens with products of 16-bit integers, for instruction sets that add pairs of them up in
 * 32 bits (vpmaddwd, vpdpwssd). Included by linear_blocks.h; uses its definitions and
 *     WORDS_PANELS                panels that share a broadcast token: 1 or 2
 *     WORDS_TOKENS                tokens a pass: 8 with a whole tile's constant offsets, else 4
 *     vint dot_words(vint start, vint w, vint x)
 *                                 start + Σ of the two products of each word
 * Owner: const tables. Lifetime: static.
 *
 * Digits (linear_digits.h) and words give the same sums: both are exact. A word takes one instruction for two products
 * of 16 bits where two digits take two for four halves of them, and leaves one sum, whose offset was taken back when
 * the weights were unpacked. So a block ends with a conversion and two operations of floats instead of six. A panel's
 * block:
 *
 *     s16 w[16][rows][2] | scales and minima as in a digits' panel
 *
 * w[2i] holds k = 4i and 4i + 2, w[2i + 1] holds 4i + 1 and 4i + 3: so bytes fall apart by a mask and a shift.
 *
 * With WORDS_CROSSED two words meet two of a token in one product (Winograd, 1968):
 *
 *     w0 x0 + w1 x1 = (w0 + x1) (w1 + x0) − w0 w1 − x0 x1
 *
 * What is taken away belongs to the row or to the token alone: the former is a vector at the end of a panel's block
 * (one of each half), the latter comes with LINEAR_C16. So half the products are left, with two additions each, which
 * is less to do where a processor adds words at twice the rate of products. The bits are the same: weights of 8 bits
 * lie around zero, so |w + x| is at most 128 + 256 × 127 < 2^15, and while products and sums may leave 32 bits, their
 * differences, modulo 2^32, do not.
 */
#define ACC_PANELS 2 /* sums of so many panels lie side by side, of words and of lower digits */
#ifdef WORDS_CROSSED
#define TOKEN_RECORD C16_RECORD_BYTES
#define WORD_BLOCK_BYTES(kind) (BLOCK_BYTES(WORD_VECTORS, kind) + (size_t)(1 + !!((kind) & HALVES)) * VECTOR)
#else
#define TOKEN_RECORD Q16_RECORD_BYTES
#define WORD_BLOCK_BYTES(kind) BLOCK_BYTES(WORD_VECTORS, kind)
#endif

/* The words of a block. */
INLINE void words_of(int bits, int shift, const block *v, vint w[WORD_VECTORS])
{
    const int offset_bits = bits == 8 ? 7 : shift; /* of bytes made unsigned as well */
    const vint offset = v_words(0x10001 << offset_bits);
    UNROLL
    for (int i = 0; i < 8; i++) {
        vint even = v_and(v->w[i], v_words(0x00ff00ff)), odd = v_right16(v->w[i], 8);
        w[2 * i] = offset_bits ? v_sub16(even, offset) : even;
        w[2 * i + 1] = offset_bits ? v_sub16(odd, offset) : odd;
    }
}

INLINE void put_words(int bits, int shift, const block *v, uint8_t *to)
{
    vint w[WORD_VECTORS];
    words_of(bits, shift, v, w);
    UNROLL
    for (int i = 0; i < WORD_VECTORS; i++) {
        v_put(to + i * VECTOR, w[i]);
    }
}

#ifdef WORDS_CROSSED
/* Are words i and i + 1 multiplied as they are? k = 12 … 15 of each half of 16: of a Zen 4's four units two multiply
 * and all add, so 16 rows, 32 k and a token take 13.5 cycles by count (54 halves of vectors, 26 of them of the two);
 * all crossed 14.5 (58 and 22), all plain 19 (42 and 38). */
INLINE bool is_plain(int i)
{
    return i % 8 == 6;
}

/* Minus what the neighbours among the words at `from` multiply to, of the block or of each half, in vectors at `to`. */
INLINE void put_pairs(int kind, const uint8_t *from, uint8_t *to)
{
    const int n_parts = kind & HALVES ? 2 : 1;
    UNROLL
    for (int part = 0; part < n_parts; part++) {
        vint sum = v_words(0);
        UNROLL
        for (int i = 0; i < WORD_VECTORS / n_parts; i += 2) {
            if (is_plain(i)) {
                continue;
            }
            const uint8_t *words = from + (part * (WORD_VECTORS / n_parts) + i) * VECTOR;
            sum = dot_words(sum, v_get(words), v_sub16(v_words(0), v_get(words + VECTOR)));
        }
        v_put(to + part * VECTOR, sum);
    }
}

/* sum[t][p] = Σ over n_words words of panel p × token t; their pairs' products at `pairs` and `token_pairs`. */
INLINE void sum_words(int n, int n_panels, int n_words, const uint8_t *const w[], const uint8_t *const pairs[],
                      const uint8_t *x, const uint8_t *token_pairs, vint sum[][WORDS_PANELS])
{
    UNROLL
    for (int t = 0; t < n; t++) {
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            sum[t][p] = v_add32(v_get(pairs[p]), v_words(word_at(token_pairs + 4 * t)));
        }
    }
    UNROLL
    for (int i = 0; i < n_words; i += 2) {
        vint even[WORDS_PANELS], odd[WORDS_PANELS];
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            even[p] = v_get(w[p] + i * VECTOR);
            odd[p] = v_get(w[p] + (i + 1) * VECTOR);
        }
        UNROLL
        for (int t = 0; t < n; t++) {
            vint token_even = v_words(word_at(x + t * Q16_DIGITS + 4 * i));
            vint token_odd = v_words(word_at(x + t * Q16_DIGITS + 4 * i + 4));
            UNROLL
            for (int p = 0; p < n_panels; p++) {
                if (is_plain(i)) {
                    sum[t][p] = dot_words(dot_words(sum[t][p], even[p], token_even), odd[p], token_odd);
                } else {
                    sum[t][p] = dot_words(sum[t][p], v_add16(even[p], token_odd), v_add16(odd[p], token_even));
                }
            }
        }
    }
}
#else
/* sum[t][p] = Σ over n_words words of panel p × token t. */
INLINE void sum_words(int n, int n_panels, int n_words, const uint8_t *const w[], const uint8_t *const pairs[],
                      const uint8_t *x, const uint8_t *token_pairs, vint sum[][WORDS_PANELS])
{
    (void)pairs;
    (void)token_pairs;
    UNROLL
    for (int t = 0; t < n; t++) {
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            sum[t][p] = v_words(0);
        }
    }
    UNROLL
    for (int i = 0; i < n_words; i++) {
        vint weights[WORDS_PANELS];
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            weights[p] = v_get(w[p] + i * VECTOR);
        }
        UNROLL
        for (int t = 0; t < n; t++) {
            vint token = v_words(word_at(x + t * Q16_DIGITS + 4 * i));
            UNROLL
            for (int p = 0; p < n_panels; p++) {
                sum[t][p] = dot_words(sum[t][p], weights[p], token);
            }
        }
    }
}

#endif

/* acc += the block (part 0) or its lower or upper half (1, 2) × tokens of a record of T, whose integers begin at x and
 * the rest at `words`; of blocks with one minimum that, too: in two passes each sum would go to memory twice. */
INLINE void multiply_words(int kind, int part, int T, int n, int n_panels, const uint8_t *const w[],
                           const uint8_t *const scale[], const uint8_t *const pairs[], const uint8_t *x,
                           const uint8_t *words, float *acc)
{
    const uint8_t *units = words + Q16_UNIT * T * 4, *scaled_sums = words + Q16_SCALED_SUM * T * 4;
    vint sum[WORDS_TOKENS][WORDS_PANELS];
    sum_words(n, n_panels, part ? 8 : 16, w, pairs, x, words + (Q16_MINUS_PAIRS + part) * T * 4, sum);
    UNROLL
    for (int t = 0; t < n; t++) {
        vflt unit = v_floats(float_at(units + 4 * t));
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            float *a = acc + (t * ACC_PANELS + p) * ROWS;
            vflt value = v_fma(v_from_int(sum[t][p]), v_mul(v_get_floats(scale[p]), unit), v_get_floats(a));
            if (kind == MIN) {
                value = v_fma(v_get_floats(scale[p] + VECTOR), v_floats(float_at(scaled_sums + 4 * t)), value);
            }
            v_put_floats(a, value);
        }
    }
}

/* acc += minima × what half a block of the tokens adds up to, for both halves. */
INLINE void add_minima(int T, int n, int n_panels, const uint8_t *const scale[], const uint8_t *words, float *acc)
{
    UNROLL
    for (int t = 0; t < n; t++) {
        const uint8_t *of = words + 4 * t;
        vflt unit = v_floats(float_at(of + Q16_UNIT * T * 4));
        vflt low = v_mul(v_from_int(v_words(word_at(of + Q16_MINUS_LOW * T * 4))), unit);
        vflt high = v_mul(v_from_int(v_words(word_at(of + Q16_MINUS_HIGH * T * 4))), unit);
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            float *a = acc + (t * ACC_PANELS + p) * ROWS;
            vflt sum = v_fma(low, v_get_floats(scale[p] + 2 * VECTOR), v_get_floats(a));
            v_put_floats(a, v_fma(high, v_get_floats(scale[p] + 3 * VECTOR), sum));
        }
    }
}

INLINE void store_words(int first, int n, int n_panels, const float *acc, const panel_output *out)
{
    UNROLL
    for (int p = 0; p < n_panels; p++) {
        panel_output part = panel_part(out, p);
        for (int t = 0; t < n; t++) {
            vflt sum = v_get_floats(acc + (t * ACC_PANELS + p) * ROWS);
            store(first + t, 1, &sum, &part);
        }
    }
}

/* Tokens first … first + n − 1 of a record of T × n_panels panels. Running sums live in L1: there are more of them than
 * registers, and they are touched once a block. */
INLINE void words_pass(int kind, int n_panels, int T, int first, int n, const uint8_t *panel, uint32_t n_in,
                       const uint8_t *record, const panel_output *out, const panel_ahead *ahead)
{
    _Alignas(64) float acc[WORDS_TOKENS * ACC_PANELS * ROWS];
    const size_t panel_bytes = n_in / Q16_BLOCK * WORD_BLOCK_BYTES(kind), far_step = first ? 0 : ahead->step;
    const uint8_t *far = ahead->bytes;
    UNROLL
    for (int i = 0; i < n * ACC_PANELS; i++) {
        v_put_floats(acc + i * ROWS, v_floats(0.0f));
    }
    for (uint32_t b = 0; b < n_in / Q16_BLOCK; b++) {
        const uint8_t *x = record + first * Q16_DIGITS, *words = record + T * Q16_DIGITS + 4 * first;
        const uint8_t *const w[2] = {panel, panel + panel_bytes};
        const uint8_t *const half[2] = {w[0] + 8 * VECTOR, w[1] + 8 * VECTOR};
        const uint8_t *const scale[2] = {w[0] + 16 * VECTOR, w[1] + 16 * VECTOR};
        const uint8_t *const scale_high[2] = {scale[0] + VECTOR, scale[1] + VECTOR};
        const size_t rest = BLOCK_BYTES(WORD_VECTORS, kind);
        const uint8_t *const pairs[2] = {w[0] + rest, w[1] + rest};
        const uint8_t *const pairs_high[2] = {pairs[0] + VECTOR, pairs[1] + VECTOR};
        if (kind & HALVES) {
            multiply_words(kind, 1, T, n, n_panels, w, scale, pairs, x, words, acc);
            multiply_words(kind, 2, T, n, n_panels, half, scale_high, pairs_high, x + 32, words, acc);
        } else {
            multiply_words(kind, 0, T, n, n_panels, w, scale, pairs, x, words, acc);
        }
        if (kind == (MIN | HALVES)) {
            add_minima(T, n, n_panels, scale, words, acc);
        }
        for (size_t i = 0; i < far_step; i += 64) {
            __builtin_prefetch(far + i, 0, 2);
        }
        far += far_step;
        panel += WORD_BLOCK_BYTES(kind);
        record += T * TOKEN_RECORD;
    }
    store_words(first, n, n_panels, acc, out);
}

#define WIDE_PASS(name, kind, n_panels, n)                                                                             \
    static void wide_pass_##name##_##n_panels##_##n(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T, \
                                                    int first, const panel_output *out, const panel_ahead *ahead)      \
    {                                                                                                                  \
        words_pass(kind, n_panels, T, first, n, panel, n_in, record, out, ahead);                                      \
    }

/* A tile in passes of up to four tokens. */
#define WIDE_PASSES(name, kind, n_panels)                                                                              \
    WIDE_PASS(name, kind, n_panels, 1)                                                                                 \
    WIDE_PASS(name, kind, n_panels, 2)                                                                                 \
    WIDE_PASS(name, kind, n_panels, 3)                                                                                 \
    WIDE_PASS(name, kind, n_panels, 4)                                                                                 \
    static void wide_passes_##name##_##n_panels(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T,     \
                                                const panel_output *out, const panel_ahead *ahead)                     \
    {                                                                                                                  \
        if (T == LINEAR_TILE && WORDS_TOKENS == LINEAR_TILE) {                                                         \
            words_pass(kind, n_panels, LINEAR_TILE, 0, WORDS_TOKENS, panel, n_in, record, out, ahead);                 \
            return;                                                                                                    \
        }                                                                                                              \
        for (int first = 0; first < T; first += 4) {                                                                   \
            switch (T - first) {                                                                                       \
            case 1:                                                                                                    \
                wide_pass_##name##_##n_panels##_1(panel, n_in, record, T, first, out, ahead);                          \
                break;                                                                                                 \
            case 2:                                                                                                    \
                wide_pass_##name##_##n_panels##_2(panel, n_in, record, T, first, out, ahead);                          \
                break;                                                                                                 \
            case 3:                                                                                                    \
                wide_pass_##name##_##n_panels##_3(panel, n_in, record, T, first, out, ahead);                          \
                break;                                                                                                 \
            default:                                                                                                   \
                wide_pass_##name##_##n_panels##_4(panel, n_in, record, T, first, out, ahead);                          \
                break;                                                                                                 \
            }                                                                                                          \
        }                                                                                                              \
    }

#if WORDS_PANELS == 2
#define WIDE(name, kind)                                                                                               \
    WIDE_PASSES(name, kind, 1)                                                                                         \
    WIDE_PASSES(name, kind, 2)                                                                                         \
    static void wide_##name(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T,                         \
                            const panel_output *out, const panel_ahead *ahead)                                         \
    {                                                                                                                  \
        (out->n_rows > ROWS ? wide_passes_##name##_2 : wide_passes_##name##_1)(panel, n_in, record, T, out, ahead);    \
    }
#else
#define WIDE(name, kind)                                                                                               \
    WIDE_PASSES(name, kind, 1)                                                                                         \
    static void wide_##name(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int T,                         \
                            const panel_output *out, const panel_ahead *ahead)                                         \
    {                                                                                                                  \
        wide_passes_##name##_1(panel, n_in, record, T, out, ahead);                                                    \
    }
#endif

/* Offsets are gone: formats differ by their scales and minima only. */
WIDE(plain, 0)
WIDE(min, MIN)
WIDE(halves, HALVES)
WIDE(min_halves, MIN | HALVES)
