/*
 * Encoders: every instruction set's against each other's bits and the scalar codec's errors, between guard pages.
 * Owner: none. Lifetime: the program.
 *
 * The scalar codec searches in double and more widely. On normal weights no type's RMSE may be more than 6 % above its,
 * with importance or without. On weights of other kinds a squared error may be 1.6 times its; where a case of a few
 * blocks has more, up to thirty times, 512 of the kind decide: one block in hundreds is unlucky.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkkernels.h"
#include "kernels/cpu/encode.h"

#define RMSE_MORE 1.06
#define UNLUCKY_MORE 30

static const dtype types[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16,   DTYPE_Q4_0,   DTYPE_Q4_1, DTYPE_Q5_0,
                              DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q2_K,   DTYPE_Q3_K,   DTYPE_Q4_K, DTYPE_Q5_K,
                              DTYPE_Q6_K, DTYPE_Q8_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS, DTYPE_MXFP4};

static double weighted_error(const encode_job *job, const void *blocks)
{
    size_t n = job->n_rows * job->n_in;
    float *decoded = malloc(n * sizeof *decoded);
    double sum = 0;
    codec_decode(job->type, blocks, decoded, n);
    for (size_t i = 0; i < n; i++) {
        double e = (double)decoded[i] - (double)job->src[i];
        sum += (job->importance ? (double)job->importance[i % job->n_in] : 1) * e * e;
    }
    free(decoded);
    return sum;
}

static bool all_numbers(const encode_job *job)
{
    size_t n = job->n_rows * job->n_in;
    float *decoded = malloc(n * sizeof *decoded);
    bool ok = true;
    codec_decode(job->type, job->dst, decoded, n);
    for (size_t i = 0; i < n; i++) {
        ok = ok && isfinite(decoded[i]);
    }
    free(decoded);
    return ok;
}

/* Weights of a kind: usual ones, tiny and huge ones, outliers, zeros, and what is no number. */
static void fill(check *c, float *x, size_t n, uint32_t kind)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 1e-40f, 0.0f};
    for (size_t i = 0; i < n; i++) {
        float v = check_normal(c);
        x[i] = kind == 1   ? v * 1e-30f
               : kind == 2 ? v * 1e30f
               : kind == 3 ? (check_below(c, 50) ? v * 1e-3f : v * 100)
               : kind == 4 ? (check_below(c, 3) ? 0 : v)
               : kind == 5 ? odd[check_below(c, 7)]
                           : v;
    }
}

/* Sums of squared errors; one weight decides kind 3's. */
static bool is_as_good(const encode_job *job, double error, double scalar, uint32_t kind)
{
    size_t n = job->n_rows * job->n_in;
    double square = 0;
    for (size_t k = 0; k < n; k++) {
        square += (job->importance ? (double)job->importance[k % job->n_in] : 1) * (double)job->src[k] *
                  (double)job->src[k];
    }
    return error <= 1.6 * scalar + (kind == 3 ? 0.02 * square : 1e-12 * (double)n);
}

/* A block may be unlucky where hundreds are not: these, of the same kind, judge then. */
static bool many_are_as_good(check *c, encode_fn *encode, dtype type, uint32_t kind, bool weighted)
{
    size_t block = dtype_find((uint32_t)type)->block_size, n_in = block > 1 ? block : 32, n_rows = 512,
           n = n_rows * n_in;
    float *x = malloc(n * sizeof *x), *importance = malloc(n_in * sizeof *importance);
    uint8_t *fast = malloc(n * 4), *slow = malloc(n * 4);
    encode_job job = {type, x, fast, n_rows, n_in, weighted ? importance : NULL};
    fill(c, x, n, kind);
    for (size_t i = 0; i < n_in; i++) {
        importance[i] = expf(check_normal(c));
    }
    encode(&job);
    job.dst = slow;
    encode_scalar(&job);
    bool good = is_as_good(&job, weighted_error(&job, fast), weighted_error(&job, slow), kind);
    free(slow);
    free(fast);
    free(importance);
    free(x);
    return good;
}

static void check_one(check *c, encode_fn *encode, dtype type, uint32_t kind, bool weighted)
{
    size_t block = dtype_find((uint32_t)type)->block_size, n_rows = 1 + check_below(c, 5);
    size_t n_in = (block == 1 ? 1 + check_below(c, 100) : block * (1 + check_below(c, 5))), n = n_rows * n_in;
    size_t n_bytes = n_rows * dtype_row_bytes(type, n_in);
    check_memory src = check_alloc(n * sizeof(float), check_below(c, 2)), dst = check_alloc(n_bytes, check_below(c, 2));
    check_memory importance = check_alloc(n_in * sizeof(float), true);
    uint8_t *expected = malloc(n_bytes);
    encode_job job = {
        type, (float *)(void *)src.bytes, dst.bytes, n_rows, n_in, weighted ? (float *)(void *)importance.bytes : NULL};
    fill(c, (float *)(void *)src.bytes, n, kind);
    for (size_t i = 0; i < n_in; i++) {
        ((float *)(void *)importance.bytes)[i] = check_below(c, 9) ? expf(check_normal(c)) : 0;
    }
    memset(dst.bytes, 0xa5, n_bytes);
    encode(&job);
    double error = weighted_error(&job, dst.bytes);
    memcpy(expected, dst.bytes, n_bytes);
    if (c->features & CPU_AVX512) { /* the other width gives the same bits */
        encode_find(CPU_AVX2)(&job);
        check_result(c, memcmp(expected, dst.bytes, n_bytes) == 0, "%s, %zu × %zu, kind %u: other bits than avx2",
                     dtype_name(type), n_rows, n_in, kind);
    }
    if (kind == 5) { /* whatever it is encoded as, a reader finds numbers, but for infinity in half precision */
        check_result(c, type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 || all_numbers(&job),
                     "%s: odd weights become no number", dtype_name(type));
    } else if (kind != 2 || type == DTYPE_F32 || type == DTYPE_BF16) {
        job.dst = expected;
        encode_scalar(&job);
        double scalar = weighted_error(&job, expected);
        bool good = is_as_good(&job, error, scalar, kind) ||
                    (error <= UNLUCKY_MORE * scalar && many_are_as_good(c, encode, type, kind, weighted));
        check_result(c, good, "%s, %zu × %zu, kind %u: error %g, scalar %g", dtype_name(type), n_rows, n_in, kind,
                     error, scalar);
    }
    free(expected);
    check_free(&importance);
    check_free(&dst);
    check_free(&src);
}

static void check_quality(check *c, encode_fn *encode, dtype type, bool weighted)
{
    size_t n_in = 2048, n_rows = c->quick ? 2 : 16, n = n_rows * n_in;
    float *x = malloc(n * sizeof *x), *importance = malloc(n_in * sizeof *importance);
    uint8_t *fast = malloc(n * 4), *slow = malloc(n * 4);
    encode_job job = {type, x, fast, n_rows, n_in, weighted ? importance : NULL};
    for (size_t i = 0; i < n; i++) {
        x[i] = check_normal(c) * 0.02f;
    }
    for (size_t i = 0; i < n_in; i++) {
        importance[i] = expf(check_normal(c));
    }
    encode(&job);
    job.dst = slow;
    encode_scalar(&job);
    double ratio = sqrt(weighted_error(&job, fast) / weighted_error(&job, slow));
    check_result(c, type == DTYPE_F32 || ratio <= RMSE_MORE, "%s%s: RMSE %.4f times the scalar codec's",
                 dtype_name(type), weighted ? " with importance" : "", ratio);
    free(slow);
    free(fast);
    free(importance);
    free(x);
}

static void run(check *c)
{
    encode_fn *encode = encode_find(c->features);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        if (c->type && strcmp(c->type, dtype_name(types[t])) != 0) {
            continue;
        }
        for (uint32_t i = 0; i < (c->quick ? 24u : 240u); i++) {
            check_one(c, encode, types[t], i % 6, i / 6 % 2);
        }
        for (int weighted = 0; weighted < 2; weighted++) {
            check_quality(c, encode, types[t], weighted);
        }
    }
}

static void bench(check *c)
{
    encode_fn *encode = encode_find(c->features);
    size_t n_in = 2048, n_rows = 128, n = n_in * n_rows;
    float *x = malloc(n * sizeof *x);
    uint8_t *out = malloc(n * 4);
    for (size_t i = 0; i < n; i++) {
        x[i] = check_normal(c);
    }
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        if (c->type && strcmp(c->type, dtype_name(types[t])) != 0) {
            continue;
        }
        encode_job job = {types[t], x, out, n_rows, n_in, NULL};
        double best = INFINITY;
        for (int round = 0; round < 3; round++) {
            double begin = check_seconds();
            encode(&job);
            double took = check_seconds() - begin;
            best = took < best ? took : best;
        }
        printf("%-12s encode %-5s %7.1f M weights/s\n", c->set, dtype_name(types[t]), (double)n / best * 1e-6);
    }
    free(out);
    free(x);
}

const check_suite check_encode = {.name = "encode", .run = run, .bench = bench};
