/*
 * Float linear layers (F32, F16, BF16 weights), written once for every instruction set: tiles of 4 weight rows (a lone
 * token's LONE_ROWS) × a few tokens, both read along k as they lie, one vector of partial sums a pair.
 * Include after these definitions:
 *     INLINE, UNROLL, vflt          as in unpack_<isa>.h
 *     DOTS_STEP                     elements of k a vector operation takes
 *     DOTS_TOKENS                   tokens a tile
 *     vdot, dots_zero()             a vector of partial sums
 *     dots_w(type, p), dots_x(p)    DOTS_STEP weights (of `type`) and inputs at any address, as vectors
 *     dots_fma(w, x, sum)
 *     dots_sum(sum[4], out[4])      the four totals
 *     dots_element                  type of an input's element
 *     DOTS_WIDE                     where registers allow it: tokens a tile of linear_dots_wide.h, which many tokens
 *                                   take, and DOTS_KEEP(x): x stays in a register
 *     DOTS_IN_ORDER                 few tokens' rows are fetched in the order in which they lie, else tile by tile
 * Owner: const tables. Lifetime: static.
 *
 * A pair's sum has the same order of additions in every tile, so a token's result does not depend on the batch.
 */
#include "kernels/cpu/linear_ahead.h"
#include "kernels/cpu/linear_table.h"

#define DOTS_LINE_STEPS(w_bytes) (DOTS_STEP * (w_bytes) < 64 ? 64 / (DOTS_STEP * (w_bytes)) : 1)
#ifdef DOTS_IN_ORDER
#define LONE_ROWS 3 /* that a lone token meets at a time: rows that are a power of two long share lines of L1 */
#else
#define LONE_ROWS 4
#endif
#define DOTS_NEAR ((size_t)1024)          /* bytes ahead in each row of a tile, into L1 */
#define DOTS_FAR ((size_t)6144)           /* bytes ahead of a tile before its own turn, into L2 */
#define WEIGHT_BYTES ((size_t)256 * 1024) /* weight rows that stay in L2 while the tokens pass */

/* A tile's operands: rows that do not exist repeat the last one, and are not stored. */
typedef struct dots_tile {
    const uint8_t *w[4];
    const uint8_t *far; /* what is fetched meanwhile, as many bytes as the rows have */
    size_t row_bytes;
    const dots_element *x; /* first token */
    size_t x_stride;       /* elements */
    float *dst;            /* first token, first row */
    size_t dst_stride;
    const float *bias; /* first row, or NULL */
    uint32_t n_in, n_rows;
    bool add;
} dots_tile;

INLINE void dots_store(const dots_tile *t, int token, const vdot sum[4])
{
    float totals[4];
    dots_sum(sum, totals);
    float *dst = t->dst + (size_t)token * t->dst_stride;
    for (uint32_t r = 0; r < t->n_rows; r++) {
        float value = t->bias ? totals[r] + t->bias[r] : totals[r];
        dst[r] = t->add ? dst[r] + value : value;
    }
}

INLINE void dots_step(dtype type, int n_rows, int n, const uint8_t *const w[4], const dots_element *x, size_t x_stride,
                      vdot sum[][4])
{
    vdot_x in[DOTS_TOKENS];
    UNROLL
    for (int t = 0; t < n; t++) {
        in[t] = dots_x(x + (size_t)t * x_stride);
    }
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        vdot_w weight = dots_w(type, w[r]);
        UNROLL
        for (int t = 0; t < n; t++) {
            sum[t][r] = dots_fma(weight, in[t], sum[t][r]);
        }
    }
}

/* What is left of k, in copies filled up with zeros. */
INLINE void dots_tail(dtype type, int n_rows, int n, const uint8_t *const w[4], const dots_element *x, size_t x_stride,
                      uint32_t n_left, vdot sum[][4])
{
    const size_t w_bytes = type == DTYPE_F32 ? 4 : 2;
    uint8_t rows[4][DOTS_STEP * 4] = {{0}};
    dots_element tokens[DOTS_TOKENS][DOTS_STEP] = {{0}};
    const uint8_t *const copies[4] = {rows[0], rows[1], rows[2], rows[3]};
    for (int r = 0; r < n_rows; r++) {
        memcpy(rows[r], w[r], n_left * w_bytes);
    }
    for (int t = 0; t < n; t++) {
        memcpy(tokens[t], x + (size_t)t * x_stride, n_left * sizeof *x);
    }
    dots_step(type, n_rows, n, copies, tokens[0], DOTS_STEP, sum);
}

/* Line `at` of each row was met, in bytes: few tokens wait for memory rather than compute. What the next tile needs
 * goes into L2 row by row or, where DOTS_IN_ORDER, what lies ahead in the order in which it lies, for that is what
 * memory gives fastest; from there each row's next lines, or the first ones of the next tile's, go into L1. */
INLINE void dots_fetch(int n_rows, const uint8_t *const w[4], size_t row_bytes, size_t at, const uint8_t *far)
{
#ifndef DOTS_IN_ORDER
    (void)at;
    (void)far;
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        __builtin_prefetch(w[r] + (size_t)n_rows * row_bytes, 0, 2);
    }
#else
    const size_t near = at + DOTS_NEAR < row_bytes ? DOTS_NEAR : DOTS_NEAR + (size_t)(n_rows - 1) * row_bytes;
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        __builtin_prefetch(far + 64 * r, 0, 2);
        __builtin_prefetch(w[r] + near, 0, 3);
    }
#endif
}

INLINE void dots_run(dtype type, int n_rows, int n, const dots_tile *t)
{
    const size_t w_bytes = type == DTYPE_F32 ? 4 : 2;
    const uint8_t *w[4] = {t->w[0], t->w[1], t->w[2], t->w[3]}, *far = t->far;
    const dots_element *x = t->x;
    vdot sum[DOTS_TOKENS][4];
    UNROLL
    for (int i = 0; i < n; i++) {
        UNROLL
        for (int r = 0; r < 4; r++) {
            sum[i][r] = dots_zero();
        }
    }
    const uint32_t n_steps = t->n_in / DOTS_STEP;
    for (uint32_t k = 0; k < n_steps; k++) {
        if (n < DOTS_TOKENS && k % DOTS_LINE_STEPS(w_bytes) == 0) {
            dots_fetch(n_rows, w, t->row_bytes, k * DOTS_STEP * w_bytes, far);
            far += 64 * n_rows;
        }
        dots_step(type, n_rows, n, w, x, t->x_stride, sum);
        x += DOTS_STEP;
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            w[r] += DOTS_STEP * w_bytes;
        }
    }
    if (t->n_in % DOTS_STEP) {
        dots_tail(type, n_rows, n, w, x, t->x_stride, t->n_in % DOTS_STEP, sum);
    }
    UNROLL
    for (int i = 0; i < n; i++) {
        dots_store(t, i, sum[i]);
    }
}

/* Rows [first, last) of those up to `end` × n tokens from `token` on, n_rows at a time. */
INLINE void dots_tiles(dtype type, int n_rows, int n, const linear_weight *weight, const linear_input *input,
                       const linear_output *output, uint32_t token, uint32_t first, uint32_t last, uint32_t end)
{
    const uint32_t step = (uint32_t)n_rows;
    for (uint32_t row = first; row < last; row += step) {
        dots_tile t = {.far = linear_ahead(weight, row + step, end, step * weight->row_bytes, DOTS_FAR),
                       .row_bytes = weight->row_bytes,
                       .x = (const dots_element *)input->data + token * input->stride,
                       .x_stride = input->stride,
                       .dst = output->dst + token * output->stride + row,
                       .dst_stride = output->stride,
                       .bias = output->bias ? output->bias + row : NULL,
                       .n_in = weight->n_in,
                       .n_rows = last - row < step ? last - row : step,
                       .add = output->add};
        for (uint32_t r = 0; r < step; r++) {
            t.w[r] = (const uint8_t *)weight->data + (row + (r < t.n_rows ? r : t.n_rows - 1)) * weight->row_bytes;
        }
        dots_run(type, n_rows, n, &t);
    }
}

/* All tokens; a tile's stay in L1 while the rows pass. */
INLINE void dots_group(dtype type, const linear_weight *weight, const linear_input *input, const linear_output *output,
                       uint32_t first, uint32_t last, uint32_t end)
{
    for (uint32_t token = 0; token < input->n_tokens;) {
        uint32_t n = input->n_tokens - token < DOTS_TOKENS ? input->n_tokens - token : DOTS_TOKENS;
        switch (n) {
#if DOTS_TOKENS == 6
        case 6:
            dots_tiles(type, 4, 6, weight, input, output, token, first, last, end);
            break;
        case 5:
            dots_tiles(type, 4, 5, weight, input, output, token, first, last, end);
            break;
        case 4:
            dots_tiles(type, 4, 4, weight, input, output, token, first, last, end);
            break;
#endif
        case 3:
            dots_tiles(type, 4, 3, weight, input, output, token, first, last, end);
            break;
        case 2:
            dots_tiles(type, 4, 2, weight, input, output, token, first, last, end);
            break;
        default:
            dots_tiles(type, LONE_ROWS, 1, weight, input, output, token, first, last, end);
            break;
        }
        token += n;
    }
}

#ifdef DOTS_WIDE
#include "kernels/cpu/linear_dots_wide.h"
#endif

INLINE void dots_rows(dtype type, const linear_weight *weight, const linear_input *input, const linear_output *output,
                      uint32_t begin, uint32_t end, void *scratch)
{
    linear_input few = *input;
    linear_output out = *output;
#ifdef DOTS_WIDE
    uint32_t n_wide = wide_tokens(weight, input);
    if (n_wide) {
        wide_rows(type, n_wide, weight, input, output, begin, end, scratch);
        few.data = (dots_element *)few.data + n_wide * few.stride;
        few.n_tokens -= n_wide;
        out.dst += n_wide * out.stride;
    }
#else
    (void)scratch;
#endif
    size_t fit = WEIGHT_BYTES / (weight->row_bytes ? weight->row_bytes : 1) / 4 * 4;
    uint32_t step = fit < 4 ? 4 : fit > 4096 ? 4096 : (uint32_t)fit;
    step = few.n_tokens <= DOTS_TOKENS && end > begin ? end - begin : step; /* they pass once */
    for (uint32_t first = begin; first < end;) {
        uint32_t last = end - first < step ? end : first + step;
        dots_group(type, weight, &few, &out, first, last, end);
        first = last;
    }
}

#define DOTS(name, type)                                                                                               \
    static void rows_##name(const linear_weight *weight, const linear_input *input, const linear_output *output,       \
                            uint32_t begin, uint32_t end, void *scratch)                                               \
    {                                                                                                                  \
        dots_rows(type, weight, input, output, begin, end, scratch);                                                   \
    }
