/*
 * Few tokens × rows of Q4_K, two blocks at a time. Included by linear_blocks.h where a set defines NIBBLE_PAIRS; uses
 * its definitions. Owner: const tables. Lifetime: static.
 */

/* sum[b][t] = Σ of block b's weights × token t's digits; both blocks' nibbles are in raw, the high ones of the second.
 * These are 16 times what they stand for, and so are their sums until the end: a shift less for each vector. All sums
 * of digits are apart, so that none waits for another. */
INLINE void sum_nibbles(int digits, int n, const vint raw[8], const uint8_t *q, size_t record_bytes,
                        vint sum[2][GROUP_TOKENS])
{
    vint high[2][GROUP_TOKENS];
    UNROLL
    for (int t = 0; t < n; t++) {
        high[0][t] = high[1][t] = sum[0][t] = sum[1][t] = v_words(0);
    }
    UNROLL
    for (int i = 0; i < 8; i++) {
        const vint w[2] = {low_nibbles(raw[i]), v_and(raw[i], v_bytes(0xf0))};
        UNROLL
        for (int t = 0; t < n; t++) {
            UNROLL
            for (size_t b = 0; b < 2; b++) {
                const uint8_t *at = q + b * record_bytes + t * DIGIT_BYTES(digits) + 4 * i;
                if (digits == 2) {
                    high[b][t] = dot(8, high[b][t], w + b, at, 1);
                }
                sum[b][t] = dot(8, sum[b][t], w + b, at + DIGIT_BYTES(digits) - Q16_BLOCK, 1);
            }
        }
    }
    UNROLL
    for (int t = 0; t < n; t++) {
        UNROLL
        for (int b = 0; b < 2; b++) {
            sum[b][t] = digits == 2 ? v_add32(sum[b][t], v_left32(high[b][t], 8)) : sum[b][t];
        }
        sum[1][t] = v_right32_signed(sum[1][t], 4);
    }
}

/* Two blocks of Q4_K × a group of n tokens, the first of which is `first` of records of T. */
INLINE void multiply_nibbles(int digits, int T, int first, int n, const vint raw[8], const super_block *s, int i,
                             const uint8_t *record, vflt acc[])
{
    const size_t record_bytes = (size_t)T * (size_t)TOKEN_BYTES(digits);
    vint sum[2][GROUP_TOKENS];
    sum_nibbles(digits, n, raw, record + first * DIGIT_BYTES(digits), record_bytes, sum);
    UNROLL
    for (int b = 0; b < 2; b++) {
        const uint8_t *words = record + (size_t)b * record_bytes + T * DIGIT_BYTES(digits) + 4 * first;
        vflt scale = scale_q45_k(s, i + b), minimum = min_q45_k(s, i + b);
        UNROLL
        for (int t = 0; t < n; t++) {
            vflt unit = v_floats(float_at(words + Q16_UNIT * T * 4 + 4 * t));
            acc[t] = v_fma(v_from_int(sum[b][t]), v_mul(scale, unit), acc[t]);
            acc[t] = v_fma(minimum, v_floats(float_at(words + Q16_SCALED_SUM * T * 4 + 4 * t)), acc[t]);
        }
    }
}

/* Blocks i and i + 1 of a super-block, whose nibbles are in s->raw, × all tokens. */
INLINE void multiply_pairs(int digits, const super_block *s, int i, sink *to)
{
    UNROLL
    for (int t = 0; t < to->n; t += GROUP_TOKENS) {
        int group = to->n - t < GROUP_TOKENS ? to->n - t : GROUP_TOKENS;
        multiply_nibbles(digits, to->T, to->first + t, group, s->raw, s, i, to->record, to->acc + t);
    }
    to->record += 2 * to->T * TOKEN_BYTES(digits);
}

INLINE void blocks_nibbles(size_t bytes, target where, const uint8_t *rows, size_t row_bytes, uint32_t n_in, sink to)
{
    const int digits = where == TO_ROUNDED ? 1 : 2;
    ahead next = ahead_of(&to, row_bytes);
    for (uint32_t b = 0; b < n_in / 256; b++) {
        super_block s;
        super_q45_k(rows_at(rows, row_bytes), &s);
        UNROLL
        for (int i = 0; i < 8; i += 2) {
            v_transpose_wide(rows + 16 + 16 * i, row_bytes, s.raw);
            multiply_pairs(digits, &s, i, &to);
            UNROLL
            for (int half = i; half < i + 2; half++) {
                fetch_next(&next, half, bytes / 8);
                fetch_rows(&next, rows, row_bytes, b * bytes, half, 8, bytes);
            }
        }
        rows += bytes;
    }
}

/* Q4_K, whose panels are as other formats have them. */
INLINE void walk_nibbles(dtype type, size_t bytes, int kind, int bits, int shift, target where, const uint8_t *rows,
                         size_t row_bytes, uint32_t n_in, sink to)
{
    if (!is_few(where)) {
        walk_k(type, bytes, kind, bits, shift, where, rows, row_bytes, n_in, to);
    } else {
        blocks_nibbles(bytes, where, rows, row_bytes, n_in, to);
    }
}
