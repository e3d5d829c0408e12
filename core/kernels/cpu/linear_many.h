/*
 * Blocks of words in registers × all tokens of an input, crossed (linear_words.h). Included by linear_blocks.h; uses
 * its definitions. Owner: none. Lifetime: the call.
 *
 * Unpacking a block of 16 rows into a panel is bound by its 19 stores, 48 cycles of a Zen 4, where a token takes 15: a
 * quarter of 9 tokens' time. Registers have room for the words of one block, so here it meets every token before the
 * next one is unpacked, and sums of floats wait in L1. A token's words are read for 16 rows instead of 32 then, and
 * take turns with three other tokens', or products would wait for each other.
 */
#define MANY_GROUP 4 /* tokens that take turns */

_Static_assert(LINEAR_TILE % MANY_GROUP == 0, "tiles are whole groups");

/* What the blocks of a panel's rows meet. */
typedef struct many_tokens {
    const uint8_t *tiles; /* the first one's record of this block */
    size_t tile_bytes;    /* from one whole tile to the next */
    uint32_t n_tokens, block;
    float *acc;         /* [n_tokens][ROWS] */
    const uint8_t *far; /* to be fetched */
    size_t far_step;
} many_tokens;

typedef struct word_block {
    vint w[WORD_VECTORS], pairs;
    vflt scale, min;
} word_block;

INLINE many_tokens many_begin(const linear_input *input, const panel_ahead *ahead, float *acc)
{
    many_tokens m = {.tiles = input->data,
                     .tile_bytes = input->n_in / Q16_BLOCK * (size_t)LINEAR_TILE * C16_RECORD_BYTES,
                     .n_tokens = input->n_tokens,
                     .acc = acc,
                     .far = ahead->bytes,
                     .far_step = ahead->step};
    for (uint32_t t = 0; t < m.n_tokens; t++) {
        v_put_floats(acc + (size_t)t * ROWS, v_floats(0.0f));
    }
    return m;
}

INLINE void many_store(const many_tokens *m, const panel_output *out)
{
    for (uint32_t t = 0; t < m->n_tokens; t++) {
        vflt sum = v_get_floats(m->acc + (size_t)t * ROWS);
        store((int)t, 1, &sum, out);
    }
}

/* As put_pairs. */
INLINE vint pairs_of(const vint w[WORD_VECTORS])
{
    vint sum = v_words(0);
    UNROLL
    for (int i = 0; i < WORD_VECTORS; i += 2) {
        sum = is_plain(i) ? sum : dot_words(sum, w[i], w[i + 1]);
    }
    return v_sub32(v_words(0), sum);
}

/* sum[t] = Σ of the block × token t, whose integers begin at x + t × Q16_DIGITS; see sum_words. */
INLINE void sum_many(int n, const word_block *v, const uint8_t *x, const uint8_t *token_pairs, vint sum[])
{
    UNROLL
    for (int t = 0; t < n; t++) {
        sum[t] = v_add32(v->pairs, v_words(word_at(token_pairs + 4 * t)));
    }
    UNROLL
    for (int i = 0; i < WORD_VECTORS; i += 2) {
        UNROLL
        for (int t = 0; t < n; t++) {
            vint token_even = v_words(word_at(x + t * Q16_DIGITS + 4 * i));
            vint token_odd = v_words(word_at(x + t * Q16_DIGITS + 4 * i + 4));
            sum[t] = is_plain(i) ? dot_words(dot_words(sum[t], v->w[i], token_even), v->w[i + 1], token_odd)
                                 : dot_words(sum[t], v_add16(v->w[i], token_odd), v_add16(v->w[i + 1], token_even));
            __asm__ volatile(""); /* what is loaded stays beside what it is for: earlier it would need registers */
        }
    }
}

/* acc += the block × n tokens, the first of which is `first` of a record of T. */
INLINE void meet_group(int kind, const word_block *v, int T, int first, int n, const uint8_t *record, float *acc)
{
    const uint8_t *words = record + T * Q16_DIGITS + first * 4;
    const uint8_t *units = words + Q16_UNIT * T * 4, *scaled_sums = words + Q16_SCALED_SUM * T * 4;
    vint sum[MANY_GROUP];
    sum_many(n, v, record + first * Q16_DIGITS, words + Q16_MINUS_PAIRS * T * 4, sum);
    UNROLL
    for (int t = 0; t < n; t++) {
        float *a = acc + t * ROWS;
        vflt value = v_fma(v_from_int(sum[t]), v_mul(v->scale, v_floats(float_at(units + 4 * t))), v_get_floats(a));
        if (kind == MIN) {
            value = v_fma(v->min, v_floats(float_at(scaled_sums + 4 * t)), value);
        }
        v_put_floats(a, value);
    }
}

/* A block of 32 k with one scale × all tokens. */
INLINE void meet_all(int kind, int bits, int shift, const block *b, many_tokens *m)
{
    word_block v = {.scale = b->scale[0]};
    if (kind == MIN) {
        v.min = b->min[0];
    }
    words_of(bits, shift, b, v.w);
    v.pairs = pairs_of(v.w);
    const uint32_t n_whole = m->n_tokens / LINEAR_TILE, left = m->n_tokens % LINEAR_TILE;
    const uint8_t *record = m->tiles + (size_t)m->block * LINEAR_TILE * C16_RECORD_BYTES;
    float *acc = m->acc;
    for (uint32_t i = 0; i < n_whole; i++, record += m->tile_bytes) {
#pragma GCC unroll 1
        for (int t = 0; t < LINEAR_TILE; t += MANY_GROUP, acc += MANY_GROUP * ROWS) {
            meet_group(kind, &v, LINEAR_TILE, t, MANY_GROUP, record, acc);
        }
    }
    record = m->tiles + n_whole * m->tile_bytes + (size_t)m->block * left * C16_RECORD_BYTES;
    for (uint32_t t = 0; t < left; t++, acc += ROWS) {
        meet_group(kind, &v, (int)left, (int)t, 1, record, acc);
    }
    for (size_t i = 0; i < m->far_step; i += 64) {
        __builtin_prefetch(m->far + i, 0, 2);
    }
    m->far += m->far_step;
    m->block++;
}
