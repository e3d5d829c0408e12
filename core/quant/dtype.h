/*
 * Element types of tensors: numbering and block geometry as in GGUF (ggml's type ids).
 * Owner: none; const tables. Lifetime: static.
 */
#ifndef MLXR_QUANT_DTYPE_H
#define MLXR_QUANT_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* enum name, printed name, GGUF id, weights a block, bytes a block. From DTYPE_OWN on: no GGUF file has them; they are
 * what quantised safetensors become in memory (quant/codec_checkpoint.h). */
#define DTYPE_OWN 56

#define DTYPE_LIST(X)                                                                                                  \
    X(F32, "F32", 0, 1, 4)                                                                                             \
    X(F16, "F16", 1, 1, 2)                                                                                             \
    X(Q4_0, "Q4_0", 2, 32, 18)                                                                                         \
    X(Q4_1, "Q4_1", 3, 32, 20)                                                                                         \
    X(Q5_0, "Q5_0", 6, 32, 22)                                                                                         \
    X(Q5_1, "Q5_1", 7, 32, 24)                                                                                         \
    X(Q8_0, "Q8_0", 8, 32, 34)                                                                                         \
    X(Q2_K, "Q2_K", 10, 256, 84)                                                                                       \
    X(Q3_K, "Q3_K", 11, 256, 110)                                                                                      \
    X(Q4_K, "Q4_K", 12, 256, 144)                                                                                      \
    X(Q5_K, "Q5_K", 13, 256, 176)                                                                                      \
    X(Q6_K, "Q6_K", 14, 256, 210)                                                                                      \
    X(Q8_K, "Q8_K", 15, 256, 292)                                                                                      \
    X(IQ2_XXS, "IQ2_XXS", 16, 256, 66)                                                                                 \
    X(IQ2_XS, "IQ2_XS", 17, 256, 74)                                                                                   \
    X(IQ3_XXS, "IQ3_XXS", 18, 256, 98)                                                                                 \
    X(IQ1_S, "IQ1_S", 19, 256, 50)                                                                                     \
    X(IQ4_NL, "IQ4_NL", 20, 32, 18)                                                                                    \
    X(IQ3_S, "IQ3_S", 21, 256, 110)                                                                                    \
    X(IQ2_S, "IQ2_S", 22, 256, 82)                                                                                     \
    X(IQ4_XS, "IQ4_XS", 23, 256, 136)                                                                                  \
    X(IQ1_M, "IQ1_M", 29, 256, 56)                                                                                     \
    X(BF16, "BF16", 30, 1, 2)                                                                                          \
    X(TQ1_0, "TQ1_0", 34, 256, 54)                                                                                     \
    X(TQ2_0, "TQ2_0", 35, 256, 66)                                                                                     \
    X(MXFP4, "MXFP4", 39, 32, 17)                                                                                      \
    X(NVFP4, "NVFP4", 40, 64, 36)                                                                                      \
    X(AFFINE4, "AFFINE4", 56, 32, 20)                                                                                  \
    X(ZERO4, "ZERO4", 57, 32, 20)                                                                                      \
    X(AFFINE8, "AFFINE8", 58, 32, 40)                                                                                  \
    X(NF4, "NF4", 59, 64, 36)                                                                                          \
    X(FP8_E4M3, "FP8_E4M3", 60, 32, 36)                                                                                \
    X(FP8_E5M2, "FP8_E5M2", 61, 32, 36)

typedef enum dtype {
#define DTYPE_ENUM(name, text, id, n, bytes) DTYPE_##name = id,
    DTYPE_LIST(DTYPE_ENUM)
#undef DTYPE_ENUM
        DTYPE_I16 = 62, /* of KV caches only (kernels/kv_words.h): no tensor has it, and dtype_find does not know it */
} dtype;

typedef struct dtype_info {
    const char *name;
    uint32_t block_size; /* weights a block */
    uint32_t block_bytes;
} dtype_info;

/* NULL for an id this build does not know. */
const dtype_info *dtype_find(uint32_t gguf_id);
/* Of a known type. */
const char *dtype_name(dtype type);
/* Bytes of n elements; n must be a multiple of the block size. */
size_t dtype_row_bytes(dtype type, size_t n);

#endif
