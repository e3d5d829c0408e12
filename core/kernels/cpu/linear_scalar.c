/*
 * Scalar linear layer for every weight type: rows decoded by the codec, products summed in double.
 * Owner: none. Lifetime: the call. It is the oracle's arithmetic, not meant to be fast.
 */
#include "kernels/cpu/linear_table.h"
#include "kernels/cpu/quantize_act.h"
#include "quant/codec.h"

static void rows_scalar(const linear_weight *weight, const linear_input *input, const linear_output *output,
                        uint32_t begin, uint32_t end, void *scratch)
{
    float *w = scratch; /* [n_in] */
    for (uint32_t row = begin; row < end; row++) {
        codec_decode(weight->type, (const uint8_t *)weight->data + row * weight->row_bytes, w, weight->n_in);
        for (uint32_t token = 0; token < input->n_tokens; token++) {
            const float *x = (const float *)input->data + token * input->stride;
            double sum = output->bias ? (double)output->bias[row] : 0.0;
            for (uint32_t k = 0; k < weight->n_in; k++) {
                sum += (double)w[k] * (double)x[k];
            }
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
    kernels->pack[LINEAR_F32] = quantize_act_f32;
    kernels->pack[LINEAR_BF16] = quantize_act_bf16_scalar;
    kernels->pack[LINEAR_Q16] = quantize_act_q16_scalar;
    kernels->pack[LINEAR_W16] = quantize_act_w16_scalar;
}
