/*
 * Encoding of weights fast: what codec_encode does, for 16 groups at a time.
 * Owner: none. Lifetime: the call. Any thread.
 *
 * A group (the weights that share a scale) is a lane, so that the search for scales needs no sums across lanes. Every
 * lane is one chain of the same operations whatever the width of a vector: all instruction sets give the same bits.
 * They may differ from codec_encode's, which searches in double and more widely; see check_encode.c for how much.
 */
#ifndef MLXR_KERNELS_CPU_ENCODE_H
#define MLXR_KERNELS_CPU_ENCODE_H

#include "base/cpu.h"
#include "quant/codec.h"

/* Rows of n_in weights, one after the other, to be encoded as `type`. */
typedef struct encode_job {
    dtype type;
    const float *src; /* [n_rows][n_in] */
    void *dst;
    size_t n_rows, n_in;
    const float *importance; /* [n_in], the same for every row, or NULL */
} encode_job;

typedef void encode_fn(const encode_job *job);

/* The fastest for these features; 0: codec_encode row by row. */
encode_fn *encode_find(cpu_features features);

void encode_scalar(const encode_job *job);
/* One definition for each architecture: encode_x86.c, encode_arm.c, … NULL: there is none for these features. */
encode_fn *encode_find_arch(cpu_features features);
void encode_avx2(const encode_job *job);
void encode_avx512(const encode_job *job);
void encode_neon(const encode_job *job);

#endif
