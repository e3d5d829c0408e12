/*
 * Scalar linear layer for every weight type: rows decoded by the codec, products summed in double.
 * Owner: none. Lifetime: the call. It is the oracle's arithmetic, not meant to be fast.
 */
#include <string.h>

#include "kernels/cpu/linear_table.h"
#include "kernels/cpu/quantize_act.h"
#include "quant/codec.h"

/* Those that vector kernels multiply as integers (linear_blocks.h): their inputs may be rounded. */
static const dtype integer_types[] = {
    DTYPE_Q4_0,   DTYPE_Q4_1,  DTYPE_Q5_0,  DTYPE_Q5_1,    DTYPE_Q8_0,  DTYPE_Q2_K,
    DTYPE_Q3_K,   DTYPE_Q4_K,  DTYPE_Q5_K,  DTYPE_Q6_K,    DTYPE_Q8_K,  DTYPE_IQ4_NL,
    DTYPE_IQ4_XS, DTYPE_MXFP4, DTYPE_NVFP4, DTYPE_AFFINE4, DTYPE_ZERO4,
};

/* The sum of products with a token's input as it is. */
static double dot_f32(const float *w, const linear_input *input, uint32_t token, uint32_t n_in, double sum)
{
    const float *x = (const float *)input->data + token * input->stride;
    for (uint32_t k = 0; k < n_in; k++) {
        sum += (double)w[k] * (double)x[k];
    }
    return sum;
}

/* … and with what its integers stand for, where it was rounded to 8 bits. */
static double dot_rounded(const float *w, const linear_input *input, uint32_t token, uint32_t n_in, double sum)
{
    q16_place at = q16_find(input, token);
    for (uint32_t k = 0; k < n_in; k++) {
        size_t block = k / Q16_BLOCK * at.record;
        float unit;
        memcpy(&unit, at.words + block + Q16_UNIT * at.word, sizeof unit);
        sum += (double)w[k] * ((double)unit * (int8_t)at.q[block + k % Q16_BLOCK]);
    }
    return sum;
}

static void rows_scalar(const linear_weight *weight, const linear_input *input, const linear_output *output,
                        uint32_t begin, uint32_t end, void *scratch)
{
    float *w = scratch; /* [n_in] */
    for (uint32_t row = begin; row < end; row++) {
        codec_decode(weight->type, (const uint8_t *)weight->data + row * weight->row_bytes, w, weight->n_in);
        for (uint32_t token = 0; token < input->n_tokens; token++) {
            double sum = output->bias ? (double)output->bias[row] : 0.0;
            sum = input->format == LINEAR_F32 ? dot_f32(w, input, token, weight->n_in, sum)
                                              : dot_rounded(w, input, token, weight->n_in, sum);
            float *dst = output->dst + token * output->stride + row;
            *dst = (float)(output->add ? (double)*dst + sum : sum);
        }
    }
}

void linear_table_scalar(linear_kernels *kernels)
{
    for (uint32_t id = 0; id < LINEAR_TYPES; id++) {
        if (dtype_find(id)) {
            kernels->few[id] = kernels->many[id] = LINEAR_F32;
            kernels->rows[id] = rows_scalar;
            kernels->isa[id] = "scalar";
        }
    }
    for (uint32_t i = 0; i < sizeof integer_types / sizeof *integer_types; i++) {
        kernels->rounded_few[integer_types[i]] = kernels->rounded[integer_types[i]] = LINEAR_Q8;
    }
    kernels->pack[LINEAR_F32] = quantize_act_f32;
    kernels->pack[LINEAR_BF16] = quantize_act_bf16_scalar;
    kernels->pack[LINEAR_Q16] = quantize_act_q16_scalar;
    kernels->pack[LINEAR_W16] = kernels->pack[LINEAR_C16] = quantize_act_w16_scalar;
    kernels->pack[LINEAR_Q8] = quantize_act_rounded_scalar;
    kernels->pack_rounded[LINEAR_Q16] = kernels->pack_rounded[LINEAR_W16] = quantize_act_rounded_scalar;
    kernels->pack[LINEAR_W15] = quantize_act_w15_scalar;
}
