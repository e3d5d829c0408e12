/*
 * Few tokens × laid panels (linear_laid.h) of two vectors, row for row in step: each word of a token is read once for
 * both vectors, and weights are unpacked a word at a time, so that the sums of two tokens fit in sixteen registers.
 * Included by linear_blocks.h where a set of 8 rows a vector has LINEAR_LAID; uses its definitions and
 *     STEP_TURN(bits)             words of weights whose products are added up before step_join: a power of two
 *     vint step_add(vint sum, vint w, vint x)
 *                                 sum + products of a word of weights × a word of digits
 *     vint step_join(vint start, vint high, vint low)
 *                                 start + what both digits' sums stand for, lane by lane
 *     vint step_join_lower(vint start, vint low)
 *     STEP_WORDS_8BIT             weights of 8 bits meet words, by dot_words, not digits
 * Owner: const tables. Lifetime: static.
 */
#define STEP_TOKENS 2 /* whose sums lie in registers side by side */

/* Tokens first … first + n − 1 of a record of T, for which `digits` digits each are packed. */
typedef struct step_tokens {
    int digits, T, first, n;
    const uint8_t *record, *words; /* words: what step_to_words made of a record whose digits meet 8 bits */
} step_tokens;

/* Token t's word `at` of those behind the digits. */
INLINE const uint8_t *step_word(const step_tokens *x, int at, int t)
{
    return x->record + x->T * DIGIT_BYTES(x->digits) + 4 * (at * x->T + x->first + t);
}

INLINE vint nibble_at(source p, size_t at, bool high)
{
    vint raw = word_of(p, at);
    return high ? high_nibbles(raw) : low_nibbles(raw);
}

INLINE vint fifth_at(source p, size_t at, int j, vint w)
{
    return v_with_fifth(w, v_spread(word_of(p, at), j / 2), j % 2);
}

INLINE vint q6_k_at(source p, int i, int j)
{
    const int half = i / 4, b = i % 4;
    vint low = nibble_at(p, (size_t)(64 * half + 32 * (b % 2) + 4 * j), b >= 2);
    vint pairs = word_of(p, (size_t)(128 + 32 * half + 4 * j));
    pairs = b == 0 ? v_left16(pairs, 4) : b == 1 ? v_left16(pairs, 2) : b == 3 ? v_right16(pairs, 2) : pairs;
    return v_or(low, v_and(pairs, v_bytes(0x30)));
}

/* Word j of block i of those that begin at p, as unpack_blocks.h makes it. */
INLINE vint step_weight(dtype type, source p, int i, int j)
{
    const size_t at = 4 * (size_t)(j % 4), of_32 = 4 * (size_t)j;
    switch ((int)type) {
    case DTYPE_Q4_0:
        return nibble_at(p, 2 + at, j >= 4);
    case DTYPE_Q4_1:
        return nibble_at(p, 4 + at, j >= 4);
    case DTYPE_Q5_0:
        return fifth_at(p, 2, j, nibble_at(p, 6 + at, j >= 4));
    case DTYPE_Q5_1:
        return fifth_at(p, 4, j, nibble_at(p, 8 + at, j >= 4));
    case DTYPE_Q8_0:
        return word_of(p, 2 + of_32);
    case DTYPE_Q4_K:
        return nibble_at(p, 16 + 32 * (size_t)(i / 2) + of_32, i % 2);
    case DTYPE_Q5_K:
        return v_with_bit(nibble_at(p, 48 + 32 * (size_t)(i / 2) + of_32, i % 2), word_of(p, 16 + of_32), i, 4);
    default:
        return q6_k_at(p, i, j);
    }
}

/* The scales and the minimum of block i. */
INLINE void step_scales(dtype type, source p, const super_block *s, int i, block *v)
{
    switch ((int)type) {
    case DTYPE_Q4_1:
    case DTYPE_Q5_1:
        two_halves(p, &v->scale[0], &v->min[0]);
        break;
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        v->scale[0] = scale_q45_k(s, i);
        v->min[0] = min_q45_k(s, i);
        break;
    case DTYPE_Q6_K:
        UNROLL
        for (int h = 0; h < 2; h++) {
            vint scales = word_of(p, 192 + 4 * (size_t)(i / 2));
            v->scale[h] = v_mul(s->d, v_from_int(large_byte_of(scales, 2 * (i % 2) + h)));
        }
        break;
    default:
        v->scale[0] = first_half(p);
    }
}

/* An empty asm statement, behind which what was loaded before, and what is at p, is in memory: compilers would keep it
 * in registers for the next block, which has no room for it, and lay the sums of this one on the stack instead: a token
 * meets Q4_K half as fast. */
INLINE void in_memory(const void *p)
{
    __asm__ volatile("" : : "r"(p) : "memory");
}

/* What a super-block's scales are made of. */
INLINE void step_super(dtype type, source p, super_block *s)
{
    if (type == DTYPE_Q6_K) {
        s->d = v_mul(last_half(p, 208), v_floats(0x1p-24f));
    } else {
        super_q45_k(p, s);
    }
}

/* The same of both parts. */
typedef struct pair {
    vint first, second;
} pair;
typedef struct float_pair {
    vflt first, second;
} float_pair;

INLINE pair step_weights(dtype type, source p, int i, int j)
{
    return (pair){step_weight(type, p, i, j), step_weight(type, laid_part(p, 1), i, j)};
}

/* Sums of a token's two digits, or of its one as the lower. */
typedef struct step_sum {
    pair high, low;
} step_sum;

INLINE pair step_products(pair sum, pair w, const uint8_t *q)
{
    const vint x = v_words(word_at(q));
    return (pair){step_add(sum.first, w.first, x), step_add(sum.second, w.second, x)};
}

INLINE pair step_joined(int digits, pair start, const step_sum *sum)
{
    if (digits == 1) {
        return (pair){step_join_lower(start.first, sum->low.first), step_join_lower(start.second, sum->low.second)};
    }
    return (pair){step_join(start.first, sum->high.first, sum->low.first),
                  step_join(start.second, sum->high.second, sum->low.second)};
}

/* What token t's sums begin with: `minus` times an offset of 2^shift. */
INLINE pair step_start(const step_tokens *x, int minus, int shift, int t)
{
    const vint start = shift ? v_left32(v_words(word_at(step_word(x, minus, t))), shift) : v_words(0);
    return (pair){start, start};
}

/* total[t] += Σ of a turn of words of block i × those of the tokens. */
INLINE void step_turn(dtype type, int i, int first, int n_words, source p, const step_tokens *x,
                      pair total[STEP_TOKENS])
{
    const pair none = {v_words(0), v_words(0)};
    const int digits = x->digits;
    step_sum sum[STEP_TOKENS] = {{none, none}, {none, none}};
    UNROLL
    for (int j = first; j < first + n_words; j++) {
        const pair w = step_weights(type, p, i, j);
        UNROLL
        for (int t = 0; t < x->n; t++) {
            const uint8_t *q = x->record + (x->first + t) * DIGIT_BYTES(digits) + 4 * j;
            if (digits == 2) {
                sum[t].high = step_products(sum[t].high, w, q);
            }
            sum[t].low = step_products(sum[t].low, w, q + (digits - 1) * Q16_BLOCK);
        }
    }
    UNROLL
    for (int t = 0; t < x->n; t++) {
        total[t] = step_joined(digits, total[t], &sum[t]);
    }
}

/* total[t] = Σ of n_words words of block i from `word` on × those of the tokens. */
INLINE void step_sums(dtype type, int bits, int shift, int i, int word, int n_words, source p, const step_tokens *x,
                      int minus, pair total[STEP_TOKENS])
{
    const int turn = STEP_TURN(bits) < n_words ? STEP_TURN(bits) : n_words;
    UNROLL
    for (int t = 0; t < x->n; t++) {
        total[t] = step_start(x, minus, shift, t);
    }
    UNROLL
    for (int first = word; first < word + n_words; first += turn) {
        step_turn(type, i, first, turn, p, x, total);
    }
}

#define STEP_AHEAD 8                 /* blocks: at once the words would be waited for */
#define STEP_WORD_BYTES (2 * VECTOR) /* of a token's words in a block */

#ifdef STEP_WORDS_8BIT
/* The words that T tokens' digits, or one digit each, stand for in n_blocks records: even k of each word of weights,
 * then odd ones. */
INLINE void step_to_words(int digits, int T, const uint8_t *record, uint32_t n_blocks, uint8_t *words)
{
    for (uint32_t b = 0; b < n_blocks; b++) {
        for (int t = 0; t < T; t++, words += STEP_WORD_BYTES) {
            const uint8_t *q = record + t * DIGIT_BYTES(digits);
            const vint low = v_load(q + (digits - 1) * Q16_BLOCK), high = v_load(q);
            vint even = v_right16_signed(v_left16(low, 8), 8), odd = v_right16_signed(low, 8);
            if (digits == 2) {
                even = v_add16(even, v_left16(high, 8));
                odd = v_add16(odd, v_and(high, v_words((int32_t)0xff00ff00)));
            }
            v_put(words, even);
            v_put(words + VECTOR, odd);
        }
        record += T * TOKEN_BYTES(digits);
    }
}

/* As step_sums, of a block of 8 bits: words take no signs apart, and half the products of digits. */
INLINE void step_sums_8bit(dtype type, source p, const step_tokens *x, pair total[STEP_TOKENS])
{
    UNROLL
    for (int t = 0; t < x->n; t++) {
        total[t] = step_start(x, Q16_MINUS_SUM, 7, t);
    }
    UNROLL
    for (int j = 0; j < 8; j++) {
        const pair w = step_weights(type, p, 0, j);
        const vint mask = v_words(0x00ff00ff);
        const pair even = {v_and(w.first, mask), v_and(w.second, mask)};
        const pair odd = {v_right16(w.first, 8), v_right16(w.second, 8)};
        UNROLL
        for (int t = 0; t < x->n; t++) {
            const uint8_t *words = x->words + (x->first + t) * STEP_WORD_BYTES + 4 * j;
            const vint of_even = v_words(word_at(words)), of_odd = v_words(word_at(words + VECTOR));
            total[t].first = dot_words(dot_words(total[t].first, even.first, of_even), odd.first, of_odd);
            total[t].second = dot_words(dot_words(total[t].second, even.second, of_even), odd.second, of_odd);
        }
    }
}
#endif

/* acc[t] += sums × scales. */
INLINE void step_scale(const step_tokens *x, const pair total[STEP_TOKENS], float_pair scale, float_pair acc[])
{
    UNROLL
    for (int t = 0; t < x->n; t++) {
        const vflt unit = v_floats(float_at(step_word(x, Q16_UNIT, t)));
        float_pair *a = &acc[x->first + t];
        a->first = v_fma(v_from_int(total[t].first), v_mul(scale.first, unit), a->first);
        a->second = v_fma(v_from_int(total[t].second), v_mul(scale.second, unit), a->second);
    }
}

/* acc += block i of those that begin at p × tokens. */
INLINE void step_block(dtype type, int kind, int bits, int shift, int i, source p, const super_block s[LAID_PARTS],
                       const step_tokens *x, float_pair acc[])
{
    pair total[STEP_TOKENS], of_high[STEP_TOKENS];
    block v[LAID_PARTS];
    if (kind & HALVES) {
        step_sums(type, bits, shift, i, 0, 4, p, x, Q16_MINUS_LOW, total);
        step_sums(type, bits, shift, i, 4, 4, p, x, Q16_MINUS_HIGH, of_high);
    } else {
#ifdef STEP_WORDS_8BIT
        if (bits == 8) {
            step_sums_8bit(type, p, x, total);
        } else
#endif
            step_sums(type, bits, shift, i, 0, 8, p, x, Q16_MINUS_SUM, total);
    }
    step_scales(type, p, &s[0], i, &v[0]);
    step_scales(type, laid_part(p, 1), &s[1], i, &v[1]);
    step_scale(x, total, (float_pair){v[0].scale[0], v[1].scale[0]}, acc);
    if (kind & HALVES) {
        step_scale(x, of_high, (float_pair){v[0].scale[1], v[1].scale[1]}, acc);
    }
    const int n_minima = kind == MIN ? x->n : 0;
    UNROLL
    for (int t = 0; t < n_minima; t++) {
        const vflt sum = v_floats(float_at(step_word(x, Q16_SCALED_SUM, t)));
        float_pair *a = &acc[x->first + t];
        a->first = v_fma(v[0].min[0], sum, a->first);
        a->second = v_fma(v[1].min[0], sum, a->second);
    }
}

/* A panel × T tokens, or one where `alone`: one that is known to be alone has its sums in registers throughout. */
INLINE void walk_steps(dtype type, size_t bytes, int kind, int bits, int shift, int digits, bool alone, int T,
                       const uint8_t *rows, size_t row_bytes, uint32_t n_in, const uint8_t *record, const sink *to,
                       float_pair acc[])
{
    const uint32_t block_k = bits == 8 || bytes < 32 ? Q16_BLOCK : 256, n = n_in / block_k;
    const int n_blocks = (int)(block_k / Q16_BLOCK);
    laid_ahead next = laid_ahead_of(TO_TOKENS, rows, row_bytes, LAID_ROWS * bytes / (size_t)n_blocks, to);
#ifdef STEP_WORDS_8BIT
    _Alignas(VECTOR) uint8_t words[STEP_AHEAD * PANEL_DIRECT * STEP_WORD_BYTES];
#endif
    for (uint32_t b = 0; b < n; b++) {
        const source p = laid_block(type, bytes, rows, n, b);
        step_tokens x = {.digits = digits, .T = T, .record = record};
        super_block s[LAID_PARTS];
        if (n_blocks > 1) {
            step_super(type, p, &s[0]);
            step_super(type, laid_part(p, 1), &s[1]);
        }
#ifdef STEP_WORDS_8BIT
        if (bits == 8 && b % STEP_AHEAD == 0) {
            step_to_words(digits, T, record, n - b < STEP_AHEAD ? n - b : STEP_AHEAD, words);
            in_memory(words);
        }
        x.words = words + (int)(b % STEP_AHEAD) * T * STEP_WORD_BYTES;
#endif
        UNROLL
        for (int i = 0; i < n_blocks; i++) {
            x.n = STEP_TOKENS;
            for (x.first = 0; !alone && x.first + STEP_TOKENS <= T; x.first += STEP_TOKENS) {
                in_memory(s);
                step_block(type, kind, bits, shift, i, p, s, &x, acc);
            }
            x.n = 1;
            if (alone || x.first < T) {
                in_memory(s);
                step_block(type, kind, bits, shift, i, p, s, &x, acc);
            }
            x.record += T * TOKEN_BYTES(digits);
            laid_fetch(&next, LAID_ROWS * bytes / (size_t)n_blocks);
        }
        record = x.record;
    }
}

INLINE void store_steps(int T, const float_pair acc[], const panel_output *out)
{
    const panel_output parts[LAID_PARTS] = {panel_part(out, 0), panel_part(out, 1)};
    for (int t = 0; t < T; t++) {
        store(t, 1, &acc[t].first, &parts[0]);
        store(t, 1, &acc[t].second, &parts[1]);
    }
}

/* Functions for one token and for two to four. */
#define STEPS_TO(prefix, where, name, walk, type, bytes, kind, bits, shift)                                            \
    static void prefix##name##_1(const uint8_t *rows, size_t row_bytes, uint32_t n_in, const uint8_t *record,          \
                                 const panel_output *out, panel_next next)                                             \
    {                                                                                                                  \
        float_pair acc = {v_floats(0.0f), v_floats(0.0f)};                                                             \
        const sink to = {.next = next};                                                                                \
        walk_steps(type, bytes, kind, bits, shift, (where) == TO_ROUNDED ? 1 : 2, true, 1, rows, row_bytes, n_in,      \
                   record, &to, &acc);                                                                                 \
        store_steps(1, &acc, out);                                                                                     \
    }                                                                                                                  \
    static __attribute__((noinline)) void prefix##each_##name(const uint8_t *rows, size_t row_bytes, uint32_t n_in,    \
                                                              const uint8_t *record, int T, const panel_output *out,   \
                                                              panel_next next)                                         \
    {                                                                                                                  \
        float_pair acc[PANEL_DIRECT];                                                                                  \
        const sink to = {.next = next};                                                                                \
        for (int t = 0; t < T; t++) {                                                                                  \
            acc[t] = (float_pair){v_floats(0.0f), v_floats(0.0f)};                                                     \
        }                                                                                                              \
        walk_steps(type, bytes, kind, bits, shift, (where) == TO_ROUNDED ? 1 : 2, false, T, rows, row_bytes, n_in,     \
                   record, &to, acc);                                                                                  \
        store_steps(T, acc, out);                                                                                      \
    }                                                                                                                  \
    EACH(prefix, name, 2)                                                                                              \
    EACH(prefix, name, 3)                                                                                              \
    EACH(prefix, name, 4)
