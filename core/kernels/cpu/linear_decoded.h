/*
 * Linear layers of formats without a kernel of their own (most of quant/codec_table.h): four rows are decoded to
 * floats by the codec and multiplied with all tokens. Include after simd_<isa>.h, with DECODED_FILL and DECODED_ISA
 * defined. Owner: none; scratch is the calling thread's. Lifetime: the call.
 *
 * A result is one chain of sums in each lane, in the order of k, whatever the number of tokens and rows.
 */
#include "kernels/cpu/linear_table.h"
#include "quant/codec.h"
#include "quant/codec_table.h"

#define DECODED_ROWS 4
#define DECODED_TOKENS 2

/* sums[r][t] of n_rows rows w[r][n_in] and n_tokens tokens x[t][stride] */
static inline __attribute__((always_inline)) void decoded_dots(const float *w, uint32_t n_in, const float *x,
                                                               size_t stride, int n_tokens,
                                                               float sums[DECODED_ROWS][DECODED_TOKENS])
{
    vf acc[DECODED_ROWS][DECODED_TOKENS];
    for (int r = 0; r < DECODED_ROWS; r++) {
        for (int t = 0; t < n_tokens; t++) {
            acc[r][t] = vf_zero();
        }
    }
    for (uint32_t k = 0; k < n_in; k += VF_N) { /* blocks have 32 weights and more */
        vf token[DECODED_TOKENS];
        for (int t = 0; t < n_tokens; t++) {
            token[t] = vf_load(x + (size_t)t * stride + k);
        }
        for (int r = 0; r < DECODED_ROWS; r++) {
            vf row = vf_load(w + (size_t)r * n_in + k);
            for (int t = 0; t < n_tokens; t++) {
                acc[r][t] = vf_fma(row, token[t], acc[r][t]);
            }
        }
    }
    for (int r = 0; r < DECODED_ROWS; r++) {
        for (int t = 0; t < n_tokens; t++) {
            sums[r][t] = vf_sum(acc[r][t]);
        }
    }
}

static void put_sums(const linear_output *output, uint32_t row, uint32_t n_rows, uint32_t token, int n_tokens,
                     float sums[DECODED_ROWS][DECODED_TOKENS])
{
    for (int t = 0; t < n_tokens; t++) {
        float *dst = output->dst + (token + (uint32_t)t) * output->stride + row;
        for (uint32_t r = 0; r < n_rows; r++) {
            float sum = output->bias ? sums[r][t] + output->bias[row + r] : sums[r][t];
            dst[r] = output->add ? dst[r] + sum : sum;
        }
    }
}

static void rows_decoded(const linear_weight *weight, const linear_input *input, const linear_output *output,
                         uint32_t begin, uint32_t end, void *scratch)
{
    float *w = scratch, sums[DECODED_ROWS][DECODED_TOKENS];
    for (uint32_t row = begin; row < end; row += DECODED_ROWS) {
        uint32_t n_rows = end - row < DECODED_ROWS ? end - row : DECODED_ROWS;
        for (uint32_t r = 0; r < DECODED_ROWS; r++) { /* beyond the last, that one again */
            uint32_t from = row + (r < n_rows ? r : n_rows - 1);
            codec_decode(weight->type, (const uint8_t *)weight->data + from * weight->row_bytes,
                         w + (size_t)r * weight->n_in, weight->n_in);
        }
        const float *x = input->data;
        uint32_t token = 0;
        for (; token + DECODED_TOKENS <= input->n_tokens; token += DECODED_TOKENS) {
            decoded_dots(w, weight->n_in, x + token * input->stride, input->stride, DECODED_TOKENS, sums);
            put_sums(output, row, n_rows, token, DECODED_TOKENS, sums);
        }
        if (token < input->n_tokens) {
            decoded_dots(w, weight->n_in, x + token * input->stride, input->stride, 1, sums);
            put_sums(output, row, n_rows, token, 1, sums);
        }
    }
}

void DECODED_FILL(linear_kernels *kernels)
{
    for (uint32_t id = 0; id < LINEAR_TYPES; id++) {
        /* few and many stay LINEAR_F32, as the scalar table has them: else there are panels for it */
        if (dtype_find(id) && codec_table_has((dtype)id) && kernels->few[id] == LINEAR_F32) {
            kernels->rows[id] = rows_decoded;
            kernels->isa[id] = DECODED_ISA;
        }
    }
}
