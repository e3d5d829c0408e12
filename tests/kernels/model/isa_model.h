/*
 * A software model of a few instructions, for kernels that this machine cannot execute: included before a kernel's
 * source, it puts functions in the place of the intrinsics. tests/kernels/CMakeLists.txt says for which sources. Owner:
 * the calling thread's tiles. Lifetime: from _tile_loadconfig to _tile_release.
 *
 * Integer instructions are exact, so the model is. vdpbf16ps and tdpbf16ps follow Intel's pseudocode: subnormals are
 * zero, products and sums round to nearest even one after the other. Faults of the hardware (a palette that does not
 * exist, a tile that was not configured, shapes that do not fit each other) end the program.
 */
#ifndef MLXR_TESTS_ISA_MODEL_H
#define MLXR_TESTS_ISA_MODEL_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

void model_tile_config(const void *config);
void model_tile_release(void);
void model_tile_zero(int tile);
void model_tile_load(int tile, const void *base, size_t stride);
void model_tile_store(int tile, void *base, size_t stride);
void model_tile_dpbssd(int sum, int a, int b);
void model_tile_dpbf16ps(int sum, int a, int b);

/* Of 32-bit words: n products of four bytes (unsigned × signed), of two int16, of two bf16. */
void model_dpbusd(int32_t *sum, const void *a, const void *b, int n);
void model_dpwssd(int32_t *sum, const void *a, const void *b, int n);
void model_dpbf16ps(float *sum, const void *a, const void *b, int n);

static inline __m256i model_dpbusd_256(__m256i sum, __m256i a, __m256i b)
{
    int32_t words[8];
    uint8_t x[32], y[32];
    _mm256_storeu_si256((void *)words, sum);
    _mm256_storeu_si256((void *)x, a);
    _mm256_storeu_si256((void *)y, b);
    model_dpbusd(words, x, y, 8);
    return _mm256_loadu_si256((const void *)words);
}

static inline __m256i model_dpwssd_256(__m256i sum, __m256i a, __m256i b)
{
    int32_t words[8];
    uint8_t x[32], y[32];
    _mm256_storeu_si256((void *)words, sum);
    _mm256_storeu_si256((void *)x, a);
    _mm256_storeu_si256((void *)y, b);
    model_dpwssd(words, x, y, 8);
    return _mm256_loadu_si256((const void *)words);
}

#ifdef __AVX512F__
typedef short model_bf16x32 __attribute__((vector_size(64)));

static inline __m512 model_dpbf16ps_512(__m512 sum, model_bf16x32 a, model_bf16x32 b)
{
    float words[16];
    _mm512_storeu_ps(words, sum);
    model_dpbf16ps(words, &a, &b, 16);
    return _mm512_loadu_ps(words);
}
#endif

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) model_tile_config(config)
#define _tile_release() model_tile_release()
#define _tile_zero(tile) model_tile_zero(tile)
#define _tile_loadd(tile, base, stride) model_tile_load(tile, base, stride)
#define _tile_stored(tile, base, stride) model_tile_store(tile, base, stride)
#define _tile_dpbssd(sum, a, b) model_tile_dpbssd(sum, a, b)
#define _tile_dpbf16ps(sum, a, b) model_tile_dpbf16ps(sum, a, b)
#define _mm256_dpbusd_avx_epi32(sum, a, b) model_dpbusd_256(sum, a, b)
#define _mm256_dpwssd_avx_epi32(sum, a, b) model_dpwssd_256(sum, a, b)
#define __m512bh model_bf16x32
#define _mm512_dpbf16_ps(sum, a, b) model_dpbf16ps_512(sum, a, b)

#endif
