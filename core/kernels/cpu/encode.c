/*
 * Which encoder the features allow, and the one that needs none.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/encode.h"

void encode_scalar(const encode_job *job)
{
    for (size_t row = 0; row < job->n_rows; row++) {
        codec_encode(job->type, job->src + row * job->n_in,
                     (uint8_t *)job->dst + row * dtype_row_bytes(job->type, job->n_in), job->n_in, job->importance);
    }
}

encode_fn *encode_find(cpu_features features)
{
    encode_fn *fast = encode_find_arch(features);
    return fast ? fast : encode_scalar;
}
