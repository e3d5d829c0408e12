/*
 * Integer linear layers, written once for every instruction set. Owner: const tables. Lifetime: static.
 * Include after unpack_<isa>.h and these definitions:
 *     LINEAR_SUFFIX, LINEAR_ISA   of the table function; LINEAR_PANELS: the array of kernels by type
 *     LINEAR_MANY_ONLY            where LINEAR_FEW_PANELS, another set's array, serves up to LINEAR_FEW tokens
 *     WORDS_CROSSED, LINEAR_LAID  of LINEAR_C16 alone; of laid panels (linear_laid.h): no LINEAR_SUFFIX
 *     LINEAR_BY_BLOCK             up to PANEL_MANY crossed tokens: linear_many.h
 *     WORDS_PANELS                where many tokens meet panels of words (linear_words.h); WORDS_ALWAYS: already beyond
 *                                 PANEL_DIRECT tokens, and no panels of bytes for two digits
 *     LOWER_TURN, LOWER_BY_DOT    where tokens have one digit, too: more than few as panels of bytes
 *                                 (linear_lower.h), which 8-bit weights do not have with WORDS_ALWAYS
 *     ROWS_8BIT                   Q8_0's rows as they lie: void sum_rows(int digits, int n,
 *                                 const uint8_t *rows, size_t row_bytes, const uint8_t *q, vint sum[])
 *                                 sum[t] = Σ of 32 bytes of each row × the digits of token t, `digits` of them from q
 *     OWN_SUM_DIGITS              it brings sum_digits, as below
 *     AHEAD_IN_ORDER              few tokens' weights are fetched as they lie
 *     FLOATS_BEHIND               a lone token's floats follow the next block's products
 *     GROUP_TOKENS                tokens whose sums take turns
 *     TURN_WORDS                  weights' words a turn, at most
 *     MAKE_UNSIGNED               dot() wants unsigned weights of 8 bits
 *     vint dot(bits, vint start, const vint *w, const uint8_t *q, int n)
 *                                 start + Σ of n words of weights × q, `bits` a weight
 * and what linear_digits.h (with TILE_MULTIPLY linear_tiles.h) and linear_words.h ask for.
 */
#include "kernels/cpu/linear_table.h"
#include "kernels/cpu/unpack_blocks.h"

#define MIN PANEL_MIN
#define HALVES PANEL_HALVES
#define VECTOR (ROWS * 4) /* bytes */
#define BYTE_VECTORS 8    /* the weights of a block in an unpacked panel */
#define WORD_VECTORS 16
#ifdef AHEAD_IN_ORDER
#define AHEAD_STREAMS 1
#define AHEAD_NEAR ((size_t)512) /* bytes ahead in each row, into L1 */
#else
#define AHEAD_STREAMS 4
#endif
#define AHEAD_SHORT 12288              /* bytes of a panel that L1 has room for beside another one */
#define SHIFT8 (MAKE_UNSIGNED ? 7 : 0) /* of the offset of 8-bit weights */
#if defined(LOWER_TURN) || defined(LOWER_BY_DOT)
#define ONE_DIGIT
#endif

INLINE float float_at(const uint8_t *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

INLINE void zero(int n, vflt acc[])
{
    UNROLL
    for (int t = 0; t < n; t++) {
        acc[t] = v_floats(0.0f);
    }
}

INLINE void store(int first, int n, const vflt acc[], const panel_output *out)
{
    UNROLL
    for (int t = 0; t < n; t++) {
        float *dst = out->dst + (size_t)(first + t) * out->stride;
        vflt value = out->bias ? v_add(acc[t], v_load_some(out->bias, out->n_rows)) : acc[t];
        value = out->add ? v_add(v_load_some(dst, out->n_rows), value) : value;
        v_store_some(dst, value, out->n_rows);
    }
}

/* Where panel p of what a tile takes goes. */
INLINE panel_output panel_part(const panel_output *out, int p)
{
    uint32_t first = (uint32_t)p * ROWS, left = out->n_rows - first;
    return (panel_output){.dst = out->dst + first,
                          .stride = out->stride,
                          .bias = out->bias ? out->bias + first : NULL,
                          .n_rows = left < ROWS ? left : ROWS,
                          .add = out->add};
}

#ifndef LINEAR_MANY_ONLY
#ifndef OWN_SUM_DIGITS
/* sum[t] = Σ over n_words of weights × the 16-bit integers whose digits token t has at q, from minus[t] times the
 * weights' offset. Digits and tokens take turns, so that no instruction waits for the one before it. */
INLINE void sum_digits(int bits, int shift, int n, const vint *w, int n_words, const uint8_t *q, const uint8_t *minus,
                       vint sum[])
{
    const int turn = n_words < TURN_WORDS ? n_words : TURN_WORDS;
    vint high[GROUP_TOKENS];
    UNROLL
    for (int t = 0; t < n; t++) {
        high[t] = v_words(0);
        sum[t] = shift ? v_left32(v_words(word_at(minus + 4 * t)), shift) : v_words(0);
    }
    UNROLL
    for (int i = 0; i < n_words; i += turn) {
        UNROLL
        for (int t = 0; t < n; t++) {
            high[t] = dot(bits, high[t], w + i, q + t * Q16_DIGITS + 4 * i, turn);
            sum[t] = dot(bits, sum[t], w + i, q + t * Q16_DIGITS + Q16_BLOCK + 4 * i, turn);
        }
    }
    UNROLL
    for (int t = 0; t < n; t++) {
        sum[t] = v_add32(sum[t], v_left32(high[t], 8));
    }
}
#endif

#ifdef ONE_DIGIT
/* The same of tokens that have one digit. */
INLINE void sum_lower(int bits, int shift, int n, const vint *w, int n_words, const uint8_t *q, const uint8_t *minus,
                      vint sum[])
{
    const int turn = n_words < TURN_WORDS ? n_words : TURN_WORDS;
    UNROLL
    for (int t = 0; t < n; t++) {
        sum[t] = shift ? v_left32(v_words(word_at(minus + 4 * t)), shift) : v_words(0);
    }
    UNROLL
    for (int i = 0; i < n_words; i += turn) {
        UNROLL
        for (int t = 0; t < n; t++) {
            sum[t] = dot(bits, sum[t], w + i, q + t * Q16_BLOCK + 4 * i, turn);
        }
    }
}
#endif

/* sum[t] = Σ over 16 or 32 k of the block × those of n tokens whose digits, or whose one digit, begin at q. */
INLINE void sum_part(int digits, int bits, int shift, int n, const vint *w, int n_words, const uint8_t *q,
                     const uint8_t *minus, vint sum[])
{
#ifdef ONE_DIGIT
    if (digits == 1) {
        sum_lower(bits, shift, n, w, n_words, q, minus, sum);
        return;
    }
#else
    (void)digits;
#endif
    sum_digits(bits, shift, n, w, n_words, q, minus, sum);
}

/* acc[t] += the same × its scales. */
INLINE void multiply_part(int digits, int bits, int shift, int n, const vint *w, int n_words, vflt scale,
                          const uint8_t *q, const uint8_t *minus, const uint8_t *units, vflt acc[])
{
    vint sum[GROUP_TOKENS];
    sum_part(digits, bits, shift, n, w, n_words, q, minus, sum);
    UNROLL
    for (int t = 0; t < n; t++) {
        acc[t] = v_fma(v_from_int(sum[t]), v_mul(scale, v_floats(float_at(units + 4 * t))), acc[t]);
    }
}

#define DIGIT_BYTES(digits) ((digits) * Q16_BLOCK)                                /* of a token's part of a record, */
#define TOKEN_BYTES(digits) (Q16_RECORD_BYTES - Q16_DIGITS + DIGIT_BYTES(digits)) /* all of which are so many */

/* The same of one group of n tokens, the first of which is `first` of a record of T. */
INLINE void multiply_group(int digits, int kind, int bits, int shift, int T, int first, int n, const block *v,
                           const uint8_t *record, vflt acc[])
{
    const uint8_t *q = record + first * DIGIT_BYTES(digits), *words = record + T * DIGIT_BYTES(digits) + first * 4;
    const uint8_t *units = words + Q16_UNIT * T * 4, *minus = words + Q16_MINUS_SUM * T * 4;
    const uint8_t *low = words + Q16_MINUS_LOW * T * 4, *high = words + Q16_MINUS_HIGH * T * 4;
    if (kind & HALVES) {
        multiply_part(digits, bits, shift, n, v->w, 4, v->scale[0], q, low, units, acc);
        multiply_part(digits, bits, shift, n, v->w + 4, 4, v->scale[1], q + 16, high, units, acc);
    } else {
        multiply_part(digits, bits, shift, n, v->w, 8, v->scale[0], q, minus, units, acc);
    }
    UNROLL
    for (int t = 0; t < n; t++) {
        if (kind == MIN) {
            acc[t] = v_fma(v->min[0], v_floats(float_at(words + Q16_SCALED_SUM * T * 4 + 4 * t)), acc[t]);
        }
        if (kind == (MIN | HALVES)) { /* these minima are positive and taken away, as the sums are */
            vflt unit = v_floats(float_at(units + 4 * t));
            acc[t] = v_fma(v_mul(v_from_int(v_words(word_at(low + 4 * t))), unit), v->min[0], acc[t]);
            acc[t] = v_fma(v_mul(v_from_int(v_words(word_at(high + 4 * t))), unit), v->min[1], acc[t]);
        }
    }
}

/* Tokens first … first + n − 1 of a record of T: acc[t] += block · token; see linear_panels.h for the order. */
INLINE void multiply(int digits, int kind, int bits, int shift, int T, int first, int n, const block *v,
                     const uint8_t *record, vflt acc[])
{
    UNROLL
    for (int t = 0; t < n; t += GROUP_TOKENS) {
        int group = n - t < GROUP_TOKENS ? n - t : GROUP_TOKENS;
        multiply_group(digits, kind, bits, shift, T, first + t, group, v, record, acc + t);
    }
}

#ifndef FLOATS_BEHIND
#define FLOATS_BEHIND false
#endif
#define IS_BEHIND(kind, T) (FLOATS_BEHIND && (T) == 1 && (kind) != (MIN | HALVES))

/* A block of one token's whose integers are summed up. Its floats follow behind the next block's products: at once they
 * would wait for the sums, and what the processor has looked ahead to for them. */
typedef struct summed {
    vint sum[2];
    vflt scale[2], min;
    const uint8_t *words; /* of the token's record */
} summed;

INLINE summed summed_nothing(const uint8_t *words)
{
    const vflt zero = v_floats(0.0f);
    return (summed){.sum = {v_words(0), v_words(0)}, .scale = {zero, zero}, .min = zero, .words = words};
}

INLINE void add_summed(int kind, const summed *s, vflt *acc)
{
    vflt unit = v_floats(float_at(s->words + 4 * Q16_UNIT));
    *acc = v_fma(v_from_int(s->sum[0]), v_mul(s->scale[0], unit), *acc);
    if (kind & HALVES) {
        *acc = v_fma(v_from_int(s->sum[1]), v_mul(s->scale[1], unit), *acc);
    }
    if (kind == MIN) {
        *acc = v_fma(s->min, v_floats(float_at(s->words + 4 * Q16_SCALED_SUM)), *acc);
    }
}

/* acc += the block before; *last = this one. */
INLINE void multiply_behind(int digits, int kind, int bits, int shift, const block *v, const uint8_t *q, summed *last,
                            vflt *acc)
{
    const uint8_t *words = q + DIGIT_BYTES(digits);
    summed now = summed_nothing(words);
    now.scale[0] = v->scale[0];
    if (kind & HALVES) {
        sum_part(digits, bits, shift, 1, v->w, 4, q, words + 4 * Q16_MINUS_LOW, now.sum);
        sum_part(digits, bits, shift, 1, v->w + 4, 4, q + 16, words + 4 * Q16_MINUS_HIGH, now.sum + 1);
        now.scale[1] = v->scale[1];
    } else {
        sum_part(digits, bits, shift, 1, v->w, 8, q, words + 4 * Q16_MINUS_SUM, now.sum);
    }
    if (kind & MIN) {
        now.min = v->min[0];
    }
    add_summed(kind, last, acc);
    *last = now;
}

#endif

/* Panel blocks: as struct block, but only the vectors that the kind has. */
#define BLOCK_BYTES(n_weights, kind)                                                                                   \
    (VECTOR * ((size_t)(n_weights) + (size_t)(1 + !!((kind) & HALVES)) * (size_t)(1 + !!((kind) & MIN))))

#ifdef TILE_MULTIPLY
#include "kernels/cpu/linear_tiles.h"
#else
#include "kernels/cpu/linear_digits.h"
#endif
#ifdef WORDS_PANELS
#include "kernels/cpu/linear_words.h"
#endif
#ifdef LINEAR_BY_BLOCK
#include "kernels/cpu/linear_many.h"
#endif
#ifdef ONE_DIGIT
#include "kernels/cpu/linear_lower.h"
#endif

/* Where a walk takes the blocks: tokens first … first + n − 1 of records of T, of two digits or one, a panel, or all
 * tokens of an input. */
typedef enum target { TO_TOKENS, TO_ROUNDED, TO_BYTES, TO_WORDS, TO_MANY } target;
typedef struct sink {
    int T, first, n;
    const uint8_t *record;
    vflt *acc;
    panel_next next;
#ifndef LINEAR_MANY_ONLY
    summed *last; /* whose floats are still to follow; NULL: floats follow at once */
#endif
    uint8_t *panel;
#ifdef LINEAR_BY_BLOCK
    many_tokens *many;
#endif
} sink;

/* Does the walk fetch what comes next? */
INLINE bool is_few(target to)
{
    return to == TO_TOKENS || to == TO_ROUNDED;
}

INLINE bool wants_unsigned(target to)
{
    return to == TO_WORDS || to == TO_MANY || (to == TO_BYTES ? PANEL_UNSIGNED : MAKE_UNSIGNED);
}

INLINE void put_scales(int kind, const block *v, uint8_t *to)
{
    v_put_floats(to, v->scale[0]);
    if (kind & HALVES) {
        v_put_floats(to += VECTOR, v->scale[1]);
    }
    if (kind & MIN) {
        v_put_floats(to += VECTOR, v->min[0]);
    }
    if (kind == (MIN | HALVES)) {
        v_put_floats(to += VECTOR, v->min[1]);
    }
}

INLINE void put(int kind, int bits, int shift, target where, const block *v, sink *to)
{
    if (where == TO_BYTES) {
        put_bytes(bits, shift, v, to->panel);
        put_scales(kind, v, to->panel + BYTE_VECTORS * VECTOR);
        to->panel += BLOCK_BYTES(BYTE_VECTORS, kind);
        return;
    }
#ifdef WORDS_PANELS
    if (where == TO_WORDS) {
        put_words(bits, shift, v, to->panel);
        put_scales(kind, v, to->panel + WORD_VECTORS * VECTOR);
#ifdef WORDS_CROSSED
        put_pairs(kind, to->panel, to->panel + BLOCK_BYTES(WORD_VECTORS, kind));
#endif
        to->panel += WORD_BLOCK_BYTES(kind);
        return;
    }
#endif
#ifdef LINEAR_BY_BLOCK
    if (where == TO_MANY) {
        meet_all(kind, bits, shift, v, to->many);
        return;
    }
#endif
#ifndef LINEAR_MANY_ONLY
    const int digits = where == TO_ROUNDED ? 1 : 2;
    if (to->last) {
        multiply_behind(digits, kind, bits, shift, v, to->record, to->last, to->acc);
    } else {
        multiply(digits, kind, bits, shift, to->T, to->first, to->n, v, to->record, to->acc);
    }
    to->record += to->T * TOKEN_BYTES(digits);
#endif
}

INLINE void fetch(const uint8_t *p, size_t n_bytes, int level)
{
    for (size_t i = 0; i < n_bytes; i += 64) {
        if (level == 1) {
            __builtin_prefetch(p + i, 0, 3);
        } else {
            __builtin_prefetch(p + i, 0, 2);
        }
    }
}

/* Where the fetching of the next panel has got to, in the first of its streams, and further ahead. */
typedef struct ahead {
    const uint8_t *next, *far;
    const uint8_t *near; /* the next panel's begin */
    size_t stream;       /* bytes from stream to stream */
} ahead;

INLINE ahead ahead_of(const sink *to, size_t row_bytes)
{
    const uint8_t *next = AHEAD_STREAMS == 1 ? to->next.far : to->next.rows;
    return (ahead){next, to->next.far, to->next.rows, ROWS * row_bytes / AHEAD_STREAMS};
}

/* Block i of those that multiply: as much of what comes next as a block of all rows takes, into L2. Which way is faster
 * is a matter of the processor and of pages: an Intel Xeon with AVX-512 read small pages at 16 GB/s in one stream of
 * the next panel, 20 in four that take turns and 19 plainly; a Zen 4 reads large ones at 47 in four, 54 in one and 59
 * plainly. */
INLINE void fetch_next(ahead *a, int i, size_t block_bytes)
{
    fetch(a->next + (size_t)(i % AHEAD_STREAMS) * a->stream, ROWS * block_bytes, 2);
    if (i % AHEAD_STREAMS == AHEAD_STREAMS - 1) {
        a->next += ROWS * block_bytes;
    }
}

/* Where n_bytes of a row begin of which byte `at` is the first, or else its last ones. */
INLINE size_t within_row(size_t at, size_t n_bytes, size_t row_bytes)
{
    return at + n_bytes <= row_bytes ? at : row_bytes > n_bytes ? row_bytes - n_bytes : 0;
}

/* Part i of n of the rows, which are where `at` bytes of each are met and n_bytes come up: these in each, from L2 into
 * L1; in order, as many that lie further on, in the rows of the next panel behind the end of these, where no row's end
 * is passed. Otherwise one is, by n_bytes at most: to look costs 4 % where all is in L2. */
INLINE void fetch_rows(const ahead *next, const uint8_t *rows, size_t row_bytes, size_t at, int i, int n,
                       size_t n_bytes)
{
#ifdef AHEAD_IN_ORDER
    rows -= at;
    const size_t to = at + AHEAD_NEAR;
    rows = to < row_bytes ? rows + within_row(to, n_bytes, row_bytes)
                          : next->near + within_row(to - row_bytes, n_bytes, row_bytes);
    n_bytes = n_bytes < row_bytes ? n_bytes : row_bytes;
#else
    (void)next;
    rows += n_bytes;
    (void)at;
#endif
    for (int r = i * ROWS / n; r < (i + 1) * ROWS / n; r++) {
        fetch(rows + (size_t)r * row_bytes, n_bytes, 1);
    }
}

/* Block b, where `rows` are, was multiplied: what comes next is fetched, for sixteen rows are too many streams for a
 * prefetcher to see. Short rows' panels come and go too quickly for one to be far enough ahead: of them the next one
 * goes into L1, what lies further into L2, or in order what lies further into L1. */
INLINE void fetch_after(ahead *next, bool is_short, const uint8_t *rows, size_t row_bytes, int b, size_t bytes)
{
    if (is_short) {
        fetch(next->next, ROWS * bytes, 1);
        next->next += ROWS * bytes;
        if (AHEAD_STREAMS > 1) {
            fetch(next->far, ROWS * bytes, 2);
            next->far += ROWS * bytes;
        }
    } else {
        fetch_next(next, b, bytes);
        fetch_rows(next, rows, row_bytes, (size_t)b * bytes, b % 4, 4, 4 * bytes);
    }
}

INLINE bool is_short_panel(size_t row_bytes)
{
    return ROWS * row_bytes <= AHEAD_SHORT;
}

/* Block b of the rows, where `rows` are, is multiplied or unpacked: what the walk's end is, and what follows each. */
INLINE void take(int kind, int bits, int shift, target where, bool is_short, const block *v, const uint8_t *rows,
                 size_t row_bytes, size_t bytes, uint32_t b, sink *to, ahead *next)
{
    put(kind, bits, shift, where, v, to);
    if (is_few(where)) {
        fetch_after(next, is_short, rows, row_bytes, (int)b, bytes);
    }
}

/* The rows' blocks in order, from block `first` on. */
INLINE void blocks_legacy(dtype type, size_t bytes, int kind, int bits, int shift, target where, bool is_short,
                          const uint8_t *rows, size_t row_bytes, uint32_t first, uint32_t n_blocks, sink *to,
                          ahead *next)
{
    rows += first * bytes;
    for (uint32_t b = first; b < n_blocks; b++) {
        block v;
        unpack_legacy(type, wants_unsigned(where), rows_at(rows, row_bytes), &v);
        take(kind, bits, shift, where, is_short, &v, rows, row_bytes, bytes, b, to, next);
        rows += bytes;
    }
}

/* Q4_1 and Q5_1: four blocks at a time, then those left over. */
INLINE void blocks_words(dtype type, size_t bytes, int kind, int bits, int shift, target where, bool is_short,
                         const uint8_t *rows, size_t row_bytes, uint32_t n_blocks, sink *to, ahead *next)
{
    const uint32_t n_whole = n_blocks - n_blocks % WORDS_BLOCKS;
    const uint8_t *at = rows;
    for (uint32_t b = 0; b < n_whole; b += WORDS_BLOCKS) {
        vint words[24];
        UNROLL
        for (uint32_t i = 0; i < WORDS_BLOCKS; i++) {
            block v;
            unpack_words(type, rows_at(at, row_bytes), (int)i, words, &v);
            take(kind, bits, shift, where, is_short, &v, at + i * bytes, row_bytes, bytes, b + i, to, next);
        }
        at += WORDS_BLOCKS * bytes;
    }
    blocks_legacy(type, bytes, kind, bits, shift, where, is_short, rows, row_bytes, n_whole, n_blocks, to, next);
}

INLINE void blocks(dtype type, size_t bytes, int kind, int bits, int shift, target where, bool is_short,
                   const uint8_t *rows, size_t row_bytes, uint32_t n_in, sink to)
{
    ahead next = ahead_of(&to, row_bytes);
    if (type == DTYPE_Q4_1 || type == DTYPE_Q5_1) {
        blocks_words(type, bytes, kind, bits, shift, where, is_short, rows, row_bytes, n_in / Q16_BLOCK, &to, &next);
    } else {
        blocks_legacy(type, bytes, kind, bits, shift, where, is_short, rows, row_bytes, 0, n_in / Q16_BLOCK, &to,
                      &next);
    }
}

INLINE void walk_legacy(dtype type, size_t bytes, int kind, int bits, int shift, target where, const uint8_t *rows,
                        size_t row_bytes, uint32_t n_in, sink to)
{
    if (is_few(where) && is_short_panel(row_bytes)) {
        blocks(type, bytes, kind, bits, shift, where, true, rows, row_bytes, n_in, to);
    } else {
        blocks(type, bytes, kind, bits, shift, where, false, rows, row_bytes, n_in, to);
    }
}

#ifdef ROWS_8BIT
INLINE void blocks_rows(size_t bytes, target where, bool is_short, const uint8_t *rows, size_t row_bytes, uint32_t n_in,
                        sink to)
{
    const int digits = where == TO_ROUNDED ? 1 : 2;
    ahead next = ahead_of(&to, row_bytes);
    for (uint32_t b = 0; b < n_in / Q16_BLOCK; b++) {
        const uint8_t *units = to.record + to.T * DIGIT_BYTES(digits) + 4 * (to.first + Q16_UNIT * to.T);
        vint sum[PANEL_DIRECT];
        sum_rows(digits, to.n, rows + 2, row_bytes, to.record + to.first * DIGIT_BYTES(digits), sum);
        vflt scale = low_half(v_gather(rows, row_bytes));
        if (to.last) {
            add_summed(0, to.last, to.acc);
            *to.last = summed_nothing(units);
            to.last->sum[0] = sum[0];
            to.last->scale[0] = scale;
        } else {
            UNROLL
            for (int t = 0; t < to.n; t++) {
                vflt of_token = v_mul(scale, v_floats(float_at(units + 4 * t)));
                to.acc[t] = v_fma(v_from_int(sum[t]), of_token, to.acc[t]);
            }
        }
        fetch_after(&next, is_short, rows, row_bytes, (int)b, bytes);
        to.record += to.T * TOKEN_BYTES(digits);
        rows += bytes;
    }
}

/* Q8_0, whose panels are as other formats have them. */
INLINE void walk_rows(dtype type, size_t bytes, int kind, int bits, int shift, target where, const uint8_t *rows,
                      size_t row_bytes, uint32_t n_in, sink to)
{
    if (!is_few(where)) {
        walk_legacy(type, bytes, kind, bits, shift, where, rows, row_bytes, n_in, to);
    } else if (is_short_panel(row_bytes)) {
        blocks_rows(bytes, where, true, rows, row_bytes, n_in, to);
    } else {
        blocks_rows(bytes, where, false, rows, row_bytes, n_in, to);
    }
}
#else
#define walk_rows walk_legacy
#endif

/* NVFP4: two blocks of 32 in one of the file. */
INLINE void walk_pairs(dtype type, size_t bytes, int kind, int bits, int shift, target where, const uint8_t *rows,
                       size_t row_bytes, uint32_t n_in, sink to)
{
    ahead next = ahead_of(&to, row_bytes);
    (void)type;
    for (uint32_t b = 0; b < n_in / 64; b++) {
        UNROLL
        for (int i = 0; i < 2; i++) {
            block v;
            unpack_nvfp4(rows_at(rows, row_bytes), i, &v);
            put(kind, bits, shift, where, &v, &to);
            if (is_few(where)) {
                fetch_next(&next, (int)(2 * b % AHEAD_STREAMS) + i, bytes / 2);
                fetch_rows(&next, rows + 2 * bytes, row_bytes, (b + 2) * bytes, (int)(2 * b % 4) + i, 4, 4 * bytes / 2);
            }
        }
        rows += bytes;
    }
}

INLINE void walk_k(dtype type, size_t bytes, int kind, int bits, int shift, target where, const uint8_t *rows,
                   size_t row_bytes, uint32_t n_in, sink to)
{
    ahead next = ahead_of(&to, row_bytes);
    for (uint32_t b = 0; b < n_in / 256; b++) {
        super_block s;
        unpack_super(type, rows_at(rows, row_bytes), &s);
        UNROLL
        for (int i = 0; i < 8; i++) {
            block v;
            unpack_super_block(type, wants_unsigned(where), rows_at(rows, row_bytes), i, &s, &v);
            put(kind, bits, shift, where, &v, &to);
            if (is_few(where)) {
                fetch_next(&next, i, bytes / 8);
                fetch_rows(&next, rows, row_bytes, b * bytes, i, 8, bytes);
            }
        }
        rows += bytes;
    }
}

#ifdef NIBBLE_PAIRS /* dot adds up in 32 bits, and there are registers for two blocks at a time */
#include "kernels/cpu/linear_nibbles.h"
#else
#define walk_nibbles walk_k
#endif

#ifdef LINEAR_LAID
#include "kernels/cpu/linear_laid.h"
#ifdef STEP_TURN
#include "kernels/cpu/linear_steps.h"
#endif
#define PANEL_PARTS LAID_PARTS
#else
#define PANEL_PARTS 1
#endif

#define UNPACK_TO(prefix, where, name, walk, type, bytes, kind, bits, shift)                                           \
    static void prefix##name(const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint8_t *panel)                     \
    {                                                                                                                  \
        walk(type, bytes, kind, bits, shift, where, rows, row_bytes, n_in, (sink){.panel = panel});                    \
    }
#define UNPACK_WORDS(...) UNPACK_TO(words_of_, TO_WORDS, __VA_ARGS__)
#ifndef WORDS_PANELS
#define UNPACK(...) UNPACK_TO(panel_of_, TO_BYTES, __VA_ARGS__)
#define UNPACK_8BIT UNPACK
#elif defined(WORDS_CROSSED)
#define UNPACK UNPACK_WORDS
#define UNPACK_8BIT UNPACK_WORDS
#else
#define UNPACK(...)                                                                                                    \
    UNPACK_TO(panel_of_, TO_BYTES, __VA_ARGS__)                                                                        \
    UNPACK_WORDS(__VA_ARGS__)
#ifdef WORDS_ALWAYS
#define UNPACK_8BIT UNPACK_WORDS
#else
#define UNPACK_8BIT UNPACK
#endif
#endif

#define DIRECT_TO(prefix, where, name, walk, type, bytes, kind, bits, shift, T)                                        \
    static void prefix##name##_##T(const uint8_t *rows, size_t row_bytes, uint32_t n_in, const uint8_t *record,        \
                                   const panel_output *out, panel_next next)                                           \
    {                                                                                                                  \
        vflt acc[T];                                                                                                   \
        summed last = summed_nothing(record + DIGIT_BYTES((where) == TO_ROUNDED ? 1 : 2));                             \
        sink to = {T, 0, T, record, acc, next, IS_BEHIND(kind, T) ? &last : NULL, NULL};                               \
        zero(T, acc);                                                                                                  \
        walk(type, bytes, kind, bits, shift, where, rows, row_bytes, n_in, to);                                        \
        if (IS_BEHIND(kind, T)) {                                                                                      \
            add_summed(kind, &last, acc);                                                                              \
        }                                                                                                              \
        store(0, T, acc, out);                                                                                         \
    }
#define DIRECTS_TO(...)                                                                                                \
    DIRECT_TO(__VA_ARGS__, 1)                                                                                          \
    DIRECT_TO(__VA_ARGS__, 2)                                                                                          \
    DIRECT_TO(__VA_ARGS__, 3)                                                                                          \
    DIRECT_TO(__VA_ARGS__, 4)

/* Of a format that is rare: few tokens go one by one. */
#define EACH(prefix, name, T)                                                                                          \
    static void prefix##name##_##T(const uint8_t *rows, size_t row_bytes, uint32_t n_in, const uint8_t *record,        \
                                   const panel_output *out, panel_next next)                                           \
    {                                                                                                                  \
        prefix##each_##name(rows, row_bytes, n_in, record, T, out, next);                                              \
    }
#define EACH_TO(prefix, where, name, walk, type, bytes, kind, bits, shift)                                             \
    static void prefix##each_##name(const uint8_t *rows, size_t row_bytes, uint32_t n_in, const uint8_t *record,       \
                                    int T, const panel_output *out, panel_next next)                                   \
    {                                                                                                                  \
        for (int t = 0; t < T; t++) {                                                                                  \
            vflt acc[1] = {v_floats(0.0f)};                                                                            \
            sink to = {T, t, 1, record, acc, next, NULL, NULL};                                                        \
            walk(type, bytes, kind, bits, shift, where, rows, row_bytes, n_in, to);                                    \
            store(t, 1, acc, out);                                                                                     \
        }                                                                                                              \
    }                                                                                                                  \
    EACH(prefix, name, 1)                                                                                              \
    EACH(prefix, name, 2)                                                                                              \
    EACH(prefix, name, 3)                                                                                              \
    EACH(prefix, name, 4)

#ifdef STEP_TURN
#undef DIRECTS_TO
#define DIRECTS_TO STEPS_TO
#endif

/* A format has functions of its own for 1 … PANEL_DIRECT tokens. More would take minutes to compile. */
#define FOUR(prefix, name) {NULL, prefix##name##_1, prefix##name##_2, prefix##name##_3, prefix##name##_4}
#ifdef ONE_DIGIT
#define ROUNDED_TO(to, ...) to(rounded_, TO_ROUNDED, __VA_ARGS__)
#define DIRECTS(name) .direct = FOUR(direct_, name), .direct_rounded = FOUR(rounded_, name),
#else
#define ROUNDED_TO(to, ...)
#define DIRECTS(name) .direct = FOUR(direct_, name),
#endif
#define FORMAT_OF(unpack, to, ...) to(direct_, TO_TOKENS, __VA_ARGS__) ROUNDED_TO(to, __VA_ARGS__) unpack(__VA_ARGS__)

#ifdef LINEAR_MANY_ONLY
#define FORMAT UNPACK
#define FORMAT_RARE UNPACK
#define FORMAT_8BIT UNPACK
#define FORMAT_8BIT_RARE UNPACK
#undef DIRECTS
#define DIRECTS(name)
#else
#define FORMAT(...) FORMAT_OF(UNPACK, DIRECTS_TO, __VA_ARGS__)
#define FORMAT_RARE(...) FORMAT_OF(UNPACK, EACH_TO, __VA_ARGS__)
#define FORMAT_8BIT(...) FORMAT_OF(UNPACK_8BIT, DIRECTS_TO, __VA_ARGS__)
#define FORMAT_8BIT_RARE(...) FORMAT_OF(UNPACK_8BIT, EACH_TO, __VA_ARGS__)
#endif

#ifdef LINEAR_BY_BLOCK
#define MANY_TO(name, walk, type, bytes, kind, bits, shift)                                                            \
    static void many_##name(const uint8_t *rows, size_t row_bytes, uint32_t n_in, const linear_input *input,           \
                            const panel_output *out, const panel_ahead *soon)                                          \
    {                                                                                                                  \
        _Alignas(64) float acc[PANEL_MANY * ROWS];                                                                     \
        many_tokens tokens = many_begin(input, soon, acc);                                                             \
        walk(type, bytes, kind, bits, shift, TO_MANY, rows, row_bytes, n_in, (sink){.many = &tokens});                 \
        many_store(&tokens, out);                                                                                      \
    }
#define FORMAT_MANY(...) FORMAT(__VA_ARGS__) MANY_TO(__VA_ARGS__)
#define MANY(name) .many = many_##name,
#else
#define FORMAT_MANY FORMAT
#define MANY(name)
#endif

#ifdef LINEAR_LAID
FORMAT_MANY(q4_0, walk_laid, DTYPE_Q4_0, 18, 0, 4, 3)
FORMAT_MANY(q4_1, walk_laid, DTYPE_Q4_1, 20, MIN, 4, 0)
FORMAT(q5_0, walk_laid, DTYPE_Q5_0, 22, 0, 5, 4)
FORMAT(q5_1, walk_laid, DTYPE_Q5_1, 24, MIN, 5, 0)
FORMAT_8BIT(q8_0, walk_laid, DTYPE_Q8_0, 34, 0, 8, SHIFT8)
#ifdef LINEAR_BY_BLOCK
MANY_TO(q8_0, walk_laid, DTYPE_Q8_0, 34, 0, 8, SHIFT8)
#endif
FORMAT(q4_k, walk_laid_nibbles, DTYPE_Q4_K, 144, MIN, 4, 0)
FORMAT(q5_k, walk_laid_k, DTYPE_Q5_K, 176, MIN, 5, 0)
FORMAT(q6_k, walk_laid_k, DTYPE_Q6_K, 210, HALVES, 6, 5)
#else
FORMAT(q4_0, walk_legacy, DTYPE_Q4_0, 18, 0, 4, 3)
FORMAT(q4_1, walk_legacy, DTYPE_Q4_1, 20, MIN, 4, 0)
FORMAT(q5_0, walk_legacy, DTYPE_Q5_0, 22, 0, 5, 4)
FORMAT(q5_1, walk_legacy, DTYPE_Q5_1, 24, MIN, 5, 0)
FORMAT_8BIT(q8_0, walk_rows, DTYPE_Q8_0, 34, 0, 8, SHIFT8)
FORMAT(q4_k, walk_nibbles, DTYPE_Q4_K, 144, MIN, 4, 0)
FORMAT(q5_k, walk_k, DTYPE_Q5_K, 176, MIN, 5, 0)
FORMAT(q6_k, walk_k, DTYPE_Q6_K, 210, HALVES, 6, 5)
FORMAT_RARE(q2_k, walk_k, DTYPE_Q2_K, 84, MIN | HALVES, 4, 0)
FORMAT_RARE(q3_k, walk_k, DTYPE_Q3_K, 110, HALVES, 4, 2)
FORMAT_8BIT_RARE(q8_k, walk_k, DTYPE_Q8_K, 292, 0, 8, SHIFT8)
FORMAT_8BIT_RARE(iq4_nl, walk_legacy, DTYPE_IQ4_NL, 18, 0, 8, SHIFT8)
FORMAT_8BIT_RARE(iq4_xs, walk_k, DTYPE_IQ4_XS, 136, 0, 8, SHIFT8)
FORMAT_RARE(mxfp4, walk_legacy, DTYPE_MXFP4, 17, 0, 5, 4)
FORMAT_RARE(nvfp4, walk_pairs, DTYPE_NVFP4, 36, HALVES, 6, 5)
FORMAT_RARE(affine4, walk_legacy, DTYPE_AFFINE4, 20, MIN, 4, 0)
FORMAT_RARE(zero4, walk_legacy, DTYPE_ZERO4, 20, MIN, 4, 0)
#endif

#ifdef TILE_MULTIPLY
#define PATH(panels, bytes, unpack, tiles) {panels, bytes, unpack, NULL, tiles}
#else
#define PATH(panels, bytes, unpack, tiles) {(panels) / PANEL_PARTS, (bytes) * PANEL_PARTS, unpack, tiles, NULL}
#endif
#define DIGITS(kind, name, tiles) .digits = PATH(TILE_PANELS, BLOCK_BYTES(BYTE_VECTORS, kind), panel_of_##name, tiles),
#ifdef ONE_DIGIT
#define LOWER(kind, name, tiles)                                                                                       \
    .digit = PATH(ACC_PANELS, BLOCK_BYTES(BYTE_VECTORS, kind), panel_of_##name, lower_##tiles),
#else
#define LOWER(kind, name, tiles)
#endif
#define WORDS(kind, name, tiles) .words = PATH(WORDS_PANELS, WORD_BLOCK_BYTES(kind), words_of_##name, tiles),
#ifdef TILE_MULTIPLY
#define PATHS(kind, name, tiles, wide)                                                                                 \
    DIGITS(kind, name, tiles##_2).digit = PATH(TILE_PANELS, BLOCK_BYTES(BYTE_VECTORS, kind), panel_of_##name,          \
                                               tiles##_1),
#define PATHS_8BIT(kind, name, tiles, wide) PATHS(kind, name, tiles, wide)
#elif !defined(WORDS_PANELS)
#define PATHS(kind, name, tiles, wide) DIGITS(kind, name, tiles)
#define PATHS_8BIT PATHS
#elif defined(WORDS_ALWAYS)
#define PATHS(kind, name, tiles, wide) LOWER(kind, name, tiles) WORDS(kind, name, wide)
#define PATHS_8BIT(kind, name, tiles, wide) WORDS(kind, name, wide)
#else
#define PATHS(kind, name, tiles, wide) DIGITS(kind, name, tiles) LOWER(kind, name, tiles) WORDS(kind, name, wide)
#define PATHS_8BIT PATHS
#endif
#define KERNEL(kind, name, tiles, wide) {.rows = ROWS * PANEL_PARTS, DIRECTS(name) PATHS(kind, name, tiles, wide)}
#define KERNEL_MANY(kind, name, tiles, wide)                                                                           \
    {.rows = ROWS * PANEL_PARTS, DIRECTS(name) PATHS(kind, name, tiles, wide) MANY(name)}
#define KERNEL_8BIT(name) {.rows = ROWS * PANEL_PARTS, DIRECTS(name) PATHS_8BIT(0, name, tile_q8, wide_plain)}
#define KERNEL_8BIT_MANY(name)                                                                                         \
    {.rows = ROWS * PANEL_PARTS, DIRECTS(name) PATHS_8BIT(0, name, tile_q8, wide_plain) MANY(name)}

const panel_kernel LINEAR_PANELS[LINEAR_TYPES] = {
    [DTYPE_Q4_0] = KERNEL_MANY(0, q4_0, tile_q4_0, wide_plain),
    [DTYPE_Q4_1] = KERNEL_MANY(MIN, q4_1, tile_min4, wide_min),
    [DTYPE_Q5_0] = KERNEL(0, q5_0, tile_q5_0, wide_plain),
    [DTYPE_Q5_1] = KERNEL(MIN, q5_1, tile_min5, wide_min),
    [DTYPE_Q8_0] = KERNEL_8BIT_MANY(q8_0),
    [DTYPE_Q4_K] = KERNEL(MIN, q4_k, tile_min4, wide_min),
    [DTYPE_Q5_K] = KERNEL(MIN, q5_k, tile_min5, wide_min),
    [DTYPE_Q6_K] = KERNEL(HALVES, q6_k, tile_q6_k, wide_halves),
#ifndef LINEAR_LAID
    [DTYPE_Q2_K] = KERNEL(MIN | HALVES, q2_k, tile_q2_k, wide_min_halves),
    [DTYPE_Q3_K] = KERNEL(HALVES, q3_k, tile_q3_k, wide_halves),
    [DTYPE_Q8_K] = KERNEL_8BIT(q8_k),
    [DTYPE_IQ4_NL] = KERNEL_8BIT(iq4_nl),
    [DTYPE_IQ4_XS] = KERNEL_8BIT(iq4_xs),
    [DTYPE_MXFP4] = KERNEL(0, mxfp4, tile_q5_0, wide_plain),
    [DTYPE_NVFP4] = KERNEL(HALVES, nvfp4, tile_q6_k, wide_halves),
    [DTYPE_AFFINE4] = KERNEL(MIN, affine4, tile_min4, wide_min),
    [DTYPE_ZERO4] = KERNEL(MIN, zero4, tile_min4, wide_min),
#endif
};

#ifdef LINEAR_SUFFIX
#ifndef LINEAR_FEW_PANELS
#define LINEAR_FEW_PANELS LINEAR_PANELS
#endif

/* The kernel that serves up to LINEAR_FEW tokens. */
static const panel_kernel *of_few(uint32_t type)
{
    return &LINEAR_FEW_PANELS[type];
}

static void rows_of_panels(const linear_weight *weight, const linear_input *input, const linear_output *output,
                           uint32_t begin, uint32_t end, void *scratch)
{
    const panel_kernel *k = input->n_tokens <= LINEAR_FEW ? of_few(weight->type) : &LINEAR_PANELS[weight->type];
    linear_panels_run(k, weight, input, output, begin, end, scratch);
}

void LINEAR_SUFFIX(linear_kernels *kernels)
{
    for (uint32_t type = 0; type < LINEAR_TYPES; type++) {
        if (LINEAR_PANELS[type].rows) {
            const panel_kernel *k = &LINEAR_PANELS[type];
            kernels->few[type] = LINEAR_Q16;
            kernels->n_few[type] = k->words.unpack && !k->digits.unpack ? PANEL_DIRECT : LINEAR_FEW;
            kernels->many[type] = k->words.unpack ? LINEAR_W16 : LINEAR_Q16;
            /* Without functions for one digit two are taken, the higher of which is zero. */
            kernels->rounded_few[type] = of_few(type)->direct_rounded[PANEL_DIRECT] ? LINEAR_Q8 : LINEAR_Q16;
            kernels->rounded[type] = k->digit.unpack ? LINEAR_Q8 : kernels->many[type];
            kernels->rows[type] = rows_of_panels;
            kernels->isa[type] = LINEAR_ISA;
        }
    }
}
#endif
