/*
 * Linear layers on the CPU: dst[token][row] = Σ_k input[token][k] · weight[row][k], weights in the file's layout.
 * Owner: the backend owns the kernel table, the inputs' memory and one scratch a thread; nothing here allocates.
 * Lifetime: the table is a plain value, immutable after linear_init; every function may run on any thread.
 *
 * A product of one input with several matrices (q, k, v; gate, up) by a team:
 *
 *     for each token of this member's share (in multiples of LINEAR_TILE):
 *         linear_pack(kernels, &input, token, row_of_f32);      (right after its norm; a tile: linear_pack_rows)
 *     barrier
 *     for each matrix: linear_rows(kernels, &weight, &input, &output, begin, end, scratch);   (a share of its rows)
 *     barrier, unless what follows reads only what this member wrote
 *
 * For one token it is often cheaper that every member packs into memory of its own: no barrier before the product.
 *
 * The result for a token and row is bitwise the same whatever the number of tokens, the row range and the number of
 * threads: each is one chain of float operations in the order of k.
 */
#ifndef MLXR_KERNELS_CPU_LINEAR_H
#define MLXR_KERNELS_CPU_LINEAR_H

#include "base/cpu.h"
#include "quant/tensor.h"

#define LINEAR_TILE 8       /* tokens that lie interleaved in a packed input: give members multiples of it to pack */
#define LINEAR_FEW 16       /* at most so many tokens go through kernels that read another format than many do */
#define LINEAR_DIRECT 4     /* so many tokens meet weights straight from the file; more, unpacked ones */
#define LINEAR_ROW_GRAIN 16 /* weight rows computed together: row ranges in multiples of it are fastest */
#define LINEAR_ALIGN 64     /* bytes: of packed inputs and scratch */
#define LINEAR_TYPES 64     /* > the largest dtype */

/* What an input is packed to before it meets weights of some type. */
typedef enum linear_format {
    LINEAR_F32,  /* plain rows of f32: packing may be skipped, see linear_input_wrap */
    LINEAR_BF16, /* rows of bfloat16 */
    LINEAR_Q16,  /* 16 bits as two int8 digits, with one f32 scale for 32 elements */
    LINEAR_W16,  /* the same integers as words: with them, and so with the results, nothing else changes */
    LINEAR_Q8,   /* integers of 8 bits: the lower digits of a LINEAR_Q16 whose higher ones are all zero */
    LINEAR_W15,  /* words of 15 bits, likewise with a scale, for float weights that are made words, too */
    LINEAR_C16,  /* LINEAR_W16 and what neighbouring words multiply to, for crossed products (linear_words.h) */
    LINEAR_FORMAT_COUNT,
} linear_format;

/* The input of one or more products: [n_tokens][n_in] in a packed format. */
typedef struct linear_input {
    linear_format format;
    uint32_t n_tokens;
    uint32_t n_in;
    size_t stride; /* elements from token to token; LINEAR_F32 and LINEAR_BF16 only */
    void *data;    /* linear_input_bytes(), LINEAR_ALIGN-aligned unless wrapped */
} linear_input;

/* What the calling thread will probably read after some rows: fetched meanwhile. */
typedef struct linear_soon {
    const void *rows; /* NULL: what follows them */
    size_t row_bytes;
    uint32_t n_rows; /* of which kernels fetch as many as they multiply at a time */
} linear_soon;

typedef struct linear_weight {
    const void *data; /* [n_out] rows of n_in elements, at any address */
    size_t row_bytes;
    dtype type;
    uint32_t n_in, n_out;
    linear_soon soon;
    bool laid; /* its panels of LINEAR_ROW_GRAIN rows were laid by linear_kernels.lay; n_out is whole panels */
} linear_weight;

typedef struct linear_output {
    float *dst;        /* [n_tokens][stride], of which columns [begin, end) are written; any alignment */
    size_t stride;     /* elements from token to token */
    const float *bias; /* [n_out] or NULL */
    bool add;          /* dst += the product (+ bias): the residual stream */
} linear_output;

/* n rows of f32, `stride` elements apart, → tokens token … token + n − 1, all of one tile. */
typedef void linear_pack_fn(const linear_input *input, uint32_t token, uint32_t n, const float *src, size_t stride);
typedef void linear_rows_fn(const linear_weight *weight, const linear_input *input, const linear_output *output,
                            uint32_t begin, uint32_t end, void *scratch);

typedef struct linear_kernels {
    linear_format few[LINEAR_TYPES];    /* by dtype: the packed input its kernel reads, up to n_few tokens … */
    linear_format many[LINEAR_TYPES];   /* … and beyond */
    uint32_t n_few[LINEAR_TYPES];       /* ≤ LINEAR_FEW */
    linear_rows_fn *rows[LINEAR_TYPES]; /* NULL where there is no such dtype */
    const char *isa[LINEAR_TYPES];      /* "scalar", "avx2", …: for `doctor` and the tests */
    /* Of laid weights, by dtype; NULL: there is no such order of them. All else is the same, and so are results. */
    linear_rows_fn *laid_rows[LINEAR_TYPES];
    /* LINEAR_ROW_GRAIN rows → a panel of as many bytes, in which a vector finds each word of theirs side by side. */
    void (*lay)(dtype type, const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint8_t *panel);
    linear_pack_fn *pack[LINEAR_FORMAT_COUNT];
    /* What linear_round makes of the table: `few` and `many` of inputs that are rounded to 8 bits, by dtype, and their
     * packers; `rounded` is LINEAR_F32 of types whose inputs are not. */
    linear_format rounded_few[LINEAR_TYPES], rounded[LINEAR_TYPES];
    linear_pack_fn *pack_rounded[LINEAR_FORMAT_COUNT];
    linear_rows_fn *word_rows; /* float weights as words, see linear_use_words; NULL: no set has it */
    const char *word_isa;
} linear_kernels;

/* Fills the table for these features (0: scalar, which reads f32 inputs and accumulates in double: the definition of
 * the operation). */
void linear_init(linear_kernels *kernels, cpu_features features);
/* Inputs of quantised weights become integers of 8 bits, where they were of 16: half the products, and a relative error
 * of 2⁻⁸ of each block's largest value. Types that read floats are left as they are. All instruction sets and batches
 * still give the same bits. */
void linear_round(linear_kernels *kernels);

/* F32 and F16 weights shall be multiplied as integers of about 15 bits with a scale for 32 of them, as inputs are,
 * whatever the number of tokens: twice as many products an instruction as in floats, and a result's error of about 1e-4
 * of its size instead of 1e-6. False, and nothing is changed: these features have no such kernel. Rows must be whole
 * blocks of 32 elements. */
bool linear_use_words(linear_kernels *kernels);

/* What an input of so many tokens must be packed to for weights of this type. */
static inline linear_format linear_format_for(const linear_kernels *kernels, dtype type, uint32_t n_tokens)
{
    return n_tokens <= kernels->n_few[type] ? kernels->few[type] : kernels->many[type];
}

/* Bytes of a packed input; 0 if that does not fit in size_t. */
size_t linear_input_bytes(linear_format format, uint32_t n_tokens, uint32_t n_in);
/* An input to be packed into `data` (linear_input_bytes, LINEAR_ALIGN-aligned). */
linear_input linear_input_make(linear_format format, uint32_t n_tokens, uint32_t n_in, void *data);
/* Rows of f32 used where they lie, without packing: format LINEAR_F32. `stride` in elements. */
linear_input linear_input_wrap(const float *rows, size_t stride, uint32_t n_tokens, uint32_t n_in);
/* src[n_in] → token `token` of the input. src is read once, from front to back, and may have any alignment. Tokens may
 * be packed in any order by any threads. NaN and infinity make all results of that token non-finite. */
static inline void linear_pack(const linear_kernels *kernels, const linear_input *input, uint32_t token,
                               const float *src)
{
    kernels->pack[input->format](input, token, 1, src, 0);
}

/* The same of n tokens, whose rows are `stride` elements apart. Of a tile's tokens together the record of each block is
 * written at once; one after the other they come back to each of its cache lines, many of which L1 has lost meanwhile:
 * two thirds of the time. */
static inline void linear_pack_rows(const linear_kernels *kernels, const linear_input *input, uint32_t token,
                                    uint32_t n, const float *src, size_t stride)
{
    for (uint32_t i = 0, part; i < n; i += part) {
        part = LINEAR_TILE - (token + i) % LINEAR_TILE;
        part = part < n - i ? part : n - i;
        kernels->pack[input->format](input, token + i, part, src + i * stride, stride);
    }
}

/* A view of a two-dimensional tensor [n_in, n_out] whose type has a kernel. */
linear_weight linear_weight_of(const tensor *t);

/* Bytes of scratch a thread needs for matrices up to n_in elements a row; at most a few hundred KB for usual sizes. */
size_t linear_scratch_bytes(uint32_t n_in);

/* Output rows [begin, end) for all tokens of the input. The input's format must be linear_format_for the weight's type
 * and its tokens, its n_in the weight's; of laid weights the range is whole panels. Several members may compute
 * disjoint row ranges of one output at once. */
static inline void linear_rows(const linear_kernels *kernels, const linear_weight *weight, const linear_input *input,
                               const linear_output *output, uint32_t begin, uint32_t end, void *scratch)
{
    linear_rows_fn *rows = weight->laid ? kernels->laid_rows[weight->type] : kernels->rows[weight->type];
    rows(weight, input, output, begin, end, scratch);
}

#endif
