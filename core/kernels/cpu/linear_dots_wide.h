/*
 * Float linear layers of many tokens: tiles of 2 weight rows × DOTS_WIDE tokens. Included by linear_dots.h; uses its
 * definitions. Owner: the caller's scratch. Lifetime: the call.
 *
 * Two rows are converted for 12 tokens, where a tile of linear_dots.h converts four for six: twice as many products a
 * conversion. The tokens of a tile are copied part by part of k to where they lie one after the other: rows of inputs
 * are a power of two apart, and twelve of them would share the same lines of L1. Sums between parts wait in scratch.
 * Every sum still has the order of additions of linear_dots.h, and so the same bits.
 */
#define WIDE_K 512u    /* elements a part: 24 KB of L1 for the tokens */
#define WIDE_ROWS 192u /* rows that pass a copied part: their sums take 144 KB of scratch */
#define WIDE_LINES (WIDE_K * sizeof(dots_element) / 64) /* of a token's part */

/* Tokens that go through wide tiles: all but those that do not fill one. */
static uint32_t wide_tokens(const linear_weight *weight, const linear_input *input)
{
    return weight->n_in % DOTS_STEP == 0 ? input->n_tokens / DOTS_WIDE * DOTS_WIDE : 0;
}

/* sums += rows w[0], w[1] × the copied tokens over n_steps vectors of k. The next two rows and their sums, which lie
 * behind these, are fetched into L1 meanwhile. */
INLINE void wide_pair(dtype type, const uint8_t *const w[2], size_t row_bytes, const vdot_x *x, uint32_t n_steps,
                      bool first, vdot sums[][2])
{
    const size_t step_bytes = DOTS_STEP * (type == DTYPE_F32 ? 4 : 2);
    vdot sum[DOTS_WIDE][2];
    UNROLL
    for (int t = 0; t < DOTS_WIDE; t++) {
        sum[t][0] = first ? dots_zero() : sums[t][0];
        sum[t][1] = first ? dots_zero() : sums[t][1];
    }
    for (uint32_t k = 0; k < n_steps; k++) {
        vdot_w low = dots_w(type, w[0] + k * step_bytes), high = dots_w(type, w[1] + k * step_bytes);
        __builtin_prefetch(w[0] + k * step_bytes + 2 * row_bytes, 0, 3);
        __builtin_prefetch(w[1] + k * step_bytes + 2 * row_bytes, 0, 3);
        __builtin_prefetch((const uint8_t *)(sums + DOTS_WIDE) + k * 64, 1, 3);
        UNROLL
        for (int t = 0; t < DOTS_WIDE; t++) {
            vdot_x in = x[k * DOTS_WIDE + (uint32_t)t];
            DOTS_KEEP(in);
            sum[t][0] = dots_fma(low, in, sum[t][0]);
            sum[t][1] = dots_fma(high, in, sum[t][1]);
        }
    }
    UNROLL
    for (int t = 0; t < DOTS_WIDE; t++) {
        sums[t][0] = sum[t][0];
        sums[t][1] = sum[t][1];
    }
}

/* Sums of rows [row, last) of the tile, token after token: a token's results lie together. */
static void wide_store(vdot (*sums)[DOTS_WIDE][2], const linear_output *output, uint32_t token, uint32_t row,
                       uint32_t last)
{
    for (uint32_t t = 0; t < DOTS_WIDE; t += 2) {
        float *dst[2] = {output->dst + (token + t) * output->stride, output->dst + (token + t + 1) * output->stride};
        for (uint32_t r = row; r < last; r += 2) {
            vdot(*pair)[2] = sums[(r - row) / 2];
            const vdot four[4] = {pair[t][0], pair[t][1], pair[t + 1][0], pair[t + 1][1]};
            float totals[4];
            dots_sum(four, totals);
            for (uint32_t i = 0; i < 4; i++) {
                if (r + i % 2 < last) {
                    float *to = &dst[i / 2][r + i % 2];
                    float value = output->bias ? totals[i] + output->bias[r + i % 2] : totals[i];
                    *to = output->add ? *to + value : value;
                }
            }
        }
    }
}

static void wide_copy(const linear_input *input, uint32_t token, uint32_t k, uint32_t n_steps, vdot_x *to)
{
    for (uint32_t t = 0; t < DOTS_WIDE; t++) {
        const dots_element *from = (const dots_element *)input->data + (token + t) * input->stride + k;
        for (uint32_t i = 0; i < n_steps; i++) {
            to[i * DOTS_WIDE + t] = dots_x(from + i * DOTS_STEP);
        }
    }
}

/* Share i of WIDE_ROWS / 2 of the part that will be copied after this one, into L2. */
INLINE void wide_fetch(const linear_input *input, uint32_t token, uint32_t k, uint32_t i)
{
    const uint32_t share = DOTS_WIDE * WIDE_LINES / (WIDE_ROWS / 2);
    k += WIDE_K;
    if (k >= input->n_in) {
        k = 0;
        token += DOTS_WIDE;
    }
    if (token + DOTS_WIDE <= input->n_tokens) {
        for (uint32_t line = i * share; line < (i + 1) * share; line++) {
            const dots_element *row = (const dots_element *)input->data + (token + line / WIDE_LINES) * input->stride;
            __builtin_prefetch(row + k + line % WIDE_LINES * (64 / sizeof *row), 0, 2);
        }
    }
}

/* Rows [first, last), at most WIDE_ROWS of them, × one tile of tokens. */
INLINE void wide_tile(dtype type, const linear_weight *weight, const linear_input *input, const linear_output *output,
                      uint32_t first, uint32_t last, uint32_t token, void *scratch)
{
    const size_t w_bytes = type == DTYPE_F32 ? 4 : 2;
    vdot_x *x = scratch;
    vdot(*sums)[DOTS_WIDE][2] = (void *)(x + DOTS_WIDE * (WIDE_K / DOTS_STEP));
    for (uint32_t k = 0; k < weight->n_in; k += WIDE_K) {
        uint32_t n_steps = (weight->n_in - k < WIDE_K ? weight->n_in - k : WIDE_K) / DOTS_STEP;
        wide_copy(input, token, k, n_steps, x);
        for (uint32_t row = first; row < last; row += 2) {
            const uint8_t *at = (const uint8_t *)weight->data + row * weight->row_bytes + k * w_bytes;
            const uint8_t *const w[2] = {at, row + 1 < last ? at + weight->row_bytes : at};
            wide_fetch(input, token, k, (row - first) / 2);
            wide_pair(type, w, weight->row_bytes, x, n_steps, k == 0, sums[(row - first) / 2]);
        }
    }
    wide_store(sums, output, token, first, last);
}

INLINE void wide_rows(dtype type, uint32_t n_tokens, const linear_weight *weight, const linear_input *input,
                      const linear_output *output, uint32_t begin, uint32_t end, void *scratch)
{
    for (uint32_t first = begin; first < end; first += WIDE_ROWS) {
        uint32_t last = end - first < WIDE_ROWS ? end : first + WIDE_ROWS;
        for (uint32_t token = 0; token < n_tokens; token += DOTS_WIDE) {
            wide_tile(type, weight, input, output, first, last, token, scratch);
        }
    }
}
