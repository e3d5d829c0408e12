/*
 * Codecs: decoding against frozen results of the reference, encoding against its own promises.
 * Owner: the test program. Lifetime: the process.
 */
#include "quant/codec.h"
#include "quant/codec_table.h"

#include <float.h>
#include <math.h>

#include "quant/half.h"
#include "support/test.h"

#define N_BLOCKS 64
#define N_MAX 4096

/* Printed by make_codec_vectors.py: hashes of what the reference decodes from random and from extreme blocks. */
static const struct {
    dtype type;
    uint64_t hash[2];
} frozen[] = {
    {DTYPE_F32, {0x10dbded4fd498928, 0xaaf70616c983fc2e}},
    {DTYPE_F16, {0x8d795b2c8666f01e, 0x412dc19d0d80ec23}},
    {DTYPE_BF16, {0xcf051cb675449c93, 0x624b99e7ef7f499e}},
    {DTYPE_Q4_0, {0xda8dd5e1a388533e, 0xc67b1a77ef0c5a67}},
    {DTYPE_Q4_1, {0xec677cbf150a8d70, 0xd62d53329709e02b}},
    {DTYPE_Q5_0, {0x15f94473add40fc1, 0xd49eb35380f6d51d}},
    {DTYPE_Q5_1, {0xae60635463df0d1c, 0x073b1d19c29c85bf}},
    {DTYPE_Q8_0, {0xf380ef8a6873052f, 0x2f5da92aeb2eb8ac}},
    {DTYPE_Q2_K, {0x5b6a3c5d40289c69, 0xc3db7cd0cfee6081}},
    {DTYPE_Q3_K, {0xc61e0b9b0937ffc8, 0xa5a3c4c130d175fd}},
    {DTYPE_Q4_K, {0x4d0f2cead0279606, 0xbf60c2ee1173fed5}},
    {DTYPE_Q5_K, {0xcd6883527a918958, 0x0fe957b283d17c04}},
    {DTYPE_Q6_K, {0x674d2070d125faa9, 0xb29ca8bc74217258}},
    {DTYPE_Q8_K, {0x00fe91ac1ccbc062, 0xc6ae802a8a073f21}},
    {DTYPE_IQ1_S, {0xa4ea6938d1f9d11e, 0xa925d69e6892b095}},
    {DTYPE_IQ1_M, {0xc9bfb33ed034f70d, 0x38503ce3544ed4e6}},
    {DTYPE_IQ2_XXS, {0x6aac7795e5ead6d4, 0xa95577def302e72d}},
    {DTYPE_IQ2_XS, {0x6b0ca3321fb6715f, 0x85bef02d165da392}},
    {DTYPE_IQ2_S, {0x8f912a6c83bb8873, 0x71ed30ff5dea598f}},
    {DTYPE_IQ3_XXS, {0x6efd2520c20dd935, 0x322b7c4f55613f2e}},
    {DTYPE_IQ3_S, {0xf4d04b772410cdff, 0x43a6896cd4a902a2}},
    {DTYPE_IQ4_NL, {0x30db68225cd432a3, 0x8aa1a2e4c37627b9}},
    {DTYPE_IQ4_XS, {0xbdd0812b4687e660, 0xe9a0031a514ad54f}},
    {DTYPE_TQ1_0, {0x3bf8d8fb896d4cf6, 0x0b659fab65210264}},
    {DTYPE_TQ2_0, {0x720c4bbdf1a5db96, 0xab7889e538d0f052}},
    {DTYPE_MXFP4, {0x70e46ab959503767, 0xdab170d05be20cc8}},
    {DTYPE_NVFP4, {0x9721f2df06416013, 0xad93aa55104e4126}},
    {DTYPE_AFFINE4, {0xbed7d5dbcf0e04b5, 0x553f2a8cf0d7c590}},
    {DTYPE_ZERO4, {0x18a57ce9b37961ed, 0x05944a2429bf9756}},
    {DTYPE_AFFINE8, {0xbdeb44165648fb95, 0x0150365ffe015ee1}},
    {DTYPE_NF4, {0x6fca7203f623cad9, 0x298d063c0a24a54c}},
    {DTYPE_FP8_E4M3, {0x220b0e84b690aa02, 0xc776cd53bc6a9711}},
    {DTYPE_FP8_E5M2, {0xfde3314f8619c762, 0x78524ad6deebf0e5}},
};

#define N_TYPES (sizeof frozen / sizeof *frozen)

/* Largest root mean square error over normal weights of deviation 1; what was measured, and 2 % more. */
static const struct {
    dtype type;
    double rmse;
} quality[] = {
    {DTYPE_F32, 0},       {DTYPE_F16, 3.0e-4},  {DTYPE_BF16, 2.4e-3},  {DTYPE_Q4_0, 0.0824}, {DTYPE_Q4_1, 0.0703},
    {DTYPE_Q5_0, 0.0408}, {DTYPE_Q5_1, 0.0340}, {DTYPE_Q8_0, 0.00545}, {DTYPE_Q2_K, 0.264},  {DTYPE_Q3_K, 0.1463},
    {DTYPE_Q4_K, 0.0710}, {DTYPE_Q5_K, 0.0351}, {DTYPE_Q6_K, 0.0172},  {DTYPE_Q8_K, 0.0071}, {DTYPE_IQ4_NL, 0.08},
    {DTYPE_IQ4_XS, 0.08}, {DTYPE_MXFP4, 0.12},
};

static uint64_t hash_floats(const float *values, size_t n)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = isnan(values[i]) ? 0x7fc00000u : float_to_bits(values[i]);
        for (int shift = 0; shift < 32; shift += 8) {
            hash = (hash ^ (bits >> shift & 0xff)) * 0x100000001b3u;
        }
    }
    return hash;
}

static void fill_blocks(uint8_t *bytes, size_t n, dtype type, unsigned kind)
{
    static const uint8_t extremes[8] = {0x00, 0xff, 0x7f, 0x80, 0x01, 0x7c, 0xfc, 0x3c};
    uint64_t state = 1000u * type + kind;
    for (size_t i = 0; i < n; i++) {
        uint8_t value = (uint8_t)(test_random(&state) >> 32);
        bytes[i] = kind == 0 ? value : extremes[value % 8];
    }
}

static double normal(uint64_t *state) /* sum of 12 uniform numbers */
{
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        sum += (double)(test_random(state) >> 11) * 0x1p-53;
    }
    return sum;
}

static void round_trip(dtype type, const float *src, float *dst, size_t n, const float *importance)
{
    uint8_t *bytes = malloc(dtype_row_bytes(type, n));
    codec_encode(type, src, bytes, n, importance);
    codec_decode(type, bytes, dst, n);
    free(bytes);
}

static double weighted_error(const float *a, const float *b, const float *w, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (w ? (double)w[i] : 1.0) * ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    return sum;
}

static void decoding_is_the_reference_bit_for_bit(void **state)
{
    (void)state;
    for (size_t t = 0; t < N_TYPES; t++) {
        const dtype_info *info = dtype_find(frozen[t].type);
        size_t n = N_BLOCKS * info->block_size, n_bytes = N_BLOCKS * info->block_bytes;
        uint8_t *bytes = malloc(n_bytes);
        float *values = malloc(n * sizeof *values);
        for (unsigned kind = 0; kind < 2; kind++) {
            fill_blocks(bytes, n_bytes, frozen[t].type, kind);
            codec_decode(frozen[t].type, bytes, values, n);
            if (hash_floats(values, n) != frozen[t].hash[kind]) {
                fail_msg("%s, kind %u: other values than the reference", info->name, kind);
            }
        }
        free(bytes);
        free(values);
    }
}

static void every_known_type_is_tested(void **state)
{
    (void)state;
    size_t n = 0;
    for (uint32_t id = 0; id < 256; id++) {
        n += dtype_find(id) != NULL;
    }
    assert_int_equal(n, N_TYPES);
    size_t n_encoded = 0;
    for (size_t t = 0; t < N_TYPES; t++) {
        n_encoded += codec_encodes(frozen[t].type);
    }
    assert_int_equal(sizeof quality / sizeof *quality, n_encoded);
}

/* scale × q + bias, computed exactly, is the weight, up to the one rounding that decoding makes after its product. */
static void whole_numbers_scale_and_bias_are_the_weights(void **state)
{
    (void)state;
    uint64_t seed = 77;
    for (size_t t = 0; t < N_TYPES; t++) {
        if (!codec_encodes(frozen[t].type)) {
            continue;
        }
        const dtype_info *info = dtype_find(frozen[t].type);
        uint32_t group = codec_affine_group(frozen[t].type), top = 1u << codec_affine_bits(frozen[t].type);
        assert_int_equal(group == 0, info->block_size == 1 || codec_table_has(frozen[t].type));
        for (uint32_t block = 0; group && block < N_BLOCKS; block++) {
            float values[256], decoded[256], scales[16], biases[16];
            uint8_t bytes[512], q[256];
            for (uint32_t i = 0; i < info->block_size; i++) {
                values[i] = (float)(test_random(&seed) >> 40) * 0x1p-23f - 1.0f;
            }
            codec_encode(frozen[t].type, values, bytes, info->block_size, NULL);
            codec_decode(frozen[t].type, bytes, decoded, info->block_size);
            codec_affine(frozen[t].type, bytes, q, scales, biases);
            for (uint32_t i = 0; i < info->block_size; i++) {
                double exact = (double)scales[i / group] * q[i] + (double)biases[i / group];
                assert_true(q[i] < top);
                assert_true(fabs(exact - (double)decoded[i]) <= FLT_EPSILON * fabs(exact) / 2);
            }
        }
    }
}

static void decoding_takes_any_alignment(void **state)
{
    (void)state;
    for (size_t t = 0; t < N_TYPES; t++) {
        const dtype_info *info = dtype_find(frozen[t].type);
        uint8_t bytes[600], moved[601];
        float a[256], b[256];
        fill_blocks(bytes, info->block_bytes, frozen[t].type, 0);
        memcpy(moved + 1, bytes, info->block_bytes);
        codec_decode(frozen[t].type, bytes, a, info->block_size);
        codec_decode(frozen[t].type, moved + 1, b, info->block_size);
        assert_int_equal(hash_floats(a, info->block_size), hash_floats(b, info->block_size));
    }
}

static void encoding_keeps_the_promised_precision(void **state)
{
    (void)state;
    static float src[N_MAX], dst[N_MAX];
    uint64_t seed = 42;
    for (size_t i = 0; i < N_MAX; i++) {
        src[i] = (float)normal(&seed);
    }
    for (size_t t = 0; t < sizeof quality / sizeof *quality; t++) {
        round_trip(quality[t].type, src, dst, N_MAX, NULL);
        double rmse = sqrt(weighted_error(src, dst, NULL, N_MAX) / N_MAX);
        if (!(rmse <= quality[t].rmse)) {
            fail_msg("%s: RMSE %g, promised %g", dtype_name(quality[t].type), rmse, quality[t].rmse);
        }
    }
}

static void scale_of_the_weights_does_not_matter(void **state)
{
    (void)state;
    static float src[N_MAX], dst[N_MAX];
    for (double scale = 1e-3; scale < 1e4; scale *= 10) {
        uint64_t seed = 42;
        for (size_t i = 0; i < N_MAX; i++) {
            src[i] = (float)(scale * normal(&seed));
        }
        for (size_t t = 0; t < sizeof quality / sizeof *quality; t++) {
            round_trip(quality[t].type, src, dst, N_MAX, NULL);
            double rmse = sqrt(weighted_error(src, dst, NULL, N_MAX) / N_MAX);
            if (!(rmse <= 1.15 * quality[t].rmse * scale)) { /* small scales lose a little as subnormal halves */
                fail_msg("%s at %g: RMSE %g, promised %g", dtype_name(quality[t].type), scale, rmse,
                         quality[t].rmse * scale);
            }
        }
    }
}

static void encoding_is_deterministic_and_needs_no_alignment(void **state)
{
    (void)state;
    for (size_t t = 0; t < N_TYPES; t++) {
        if (!codec_encodes(frozen[t].type)) {
            continue;
        }
        const dtype_info *info = dtype_find(frozen[t].type);
        float src[256];
        uint8_t a[600], b[601];
        uint64_t seed = t;
        for (size_t i = 0; i < 256; i++) {
            src[i] = (float)normal(&seed);
        }
        memset(a, 0xaa, sizeof a);
        memset(b, 0x55, sizeof b);
        codec_encode(frozen[t].type, src, a, info->block_size, NULL);
        codec_encode(frozen[t].type, src, b + 1, info->block_size, NULL);
        assert_memory_equal(a, b + 1, info->block_bytes);
        assert_int_equal(a[info->block_bytes], 0xaa); /* nothing behind the block */
        assert_int_equal(b[0], 0x55);
    }
}

static void zeros_stay_zeros(void **state)
{
    (void)state;
    float src[256] = {0}, dst[256];
    for (size_t t = 0; t < N_TYPES; t++) {
        if (!codec_encodes(frozen[t].type)) {
            continue;
        }
        round_trip(frozen[t].type, src, dst, 256, NULL);
        for (size_t i = 0; i < 256; i++) {
            assert_true(dst[i] == 0.0f);
        }
    }
}

static void what_is_not_finite_counts_as_zero(void **state)
{
    (void)state;
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (size_t t = 0; t < N_TYPES; t++) {
        if (!codec_encodes(frozen[t].type)) {
            continue;
        }
        float hostile[256], tame[256];
        uint8_t a[1024], b[1024];
        uint64_t seed = 7;
        for (size_t i = 0; i < 256; i++) {
            hostile[i] = tame[i] = (float)normal(&seed);
            if (i % 5 == 0) {
                hostile[i] = odd[i % 3];
                tame[i] = 0;
            }
        }
        codec_encode(frozen[t].type, hostile, a, 256, NULL);
        codec_encode(frozen[t].type, tame, b, 256, NULL);
        assert_memory_equal(a, b, dtype_row_bytes(frozen[t].type, 256));
    }
}

static void extreme_blocks_decode_to_finite_numbers_near_them(void **state)
{
    (void)state;
    for (int kind = 0; kind < 9; kind++) {
        float src[256], dst[256];
        double most = 0;
        for (int i = 0; i < 256; i++) {
            const float values[] = {FLT_MAX, i % 2 ? -FLT_MAX : FLT_MAX, 1e-40f,
                                    -1e-6f,  i == 77 ? 1000.0f : 1e-3f,  3.5f,
                                    -3.5f,   i == 0 ? -60000.0f : 0.0f,  i < 128 ? 5.0f : 5.001f};
            src[i] = values[kind];
            most = fmax(most, fabs((double)src[i]));
        }
        for (size_t t = 0; t < N_TYPES; t++) {
            if (!codec_encodes(frozen[t].type)) {
                continue;
            }
            dtype type = frozen[t].type;
            if (type == DTYPE_F16 || type == DTYPE_BF16) { /* IEEE's rounding, infinity included */
                continue;
            }
            round_trip(type, src, dst, 256, NULL);
            for (int i = 0; i < 256; i++) {
                if (!isfinite(dst[i]) || fabs((double)dst[i] - (double)src[i]) > 1.01 * most) {
                    fail_msg("%s, kind %d: %g became %g", dtype_name(type), kind, (double)src[i], (double)dst[i]);
                }
            }
        }
    }
}

static void values_a_simple_block_can_hold_come_back_exactly(void **state)
{
    (void)state;
    const struct {
        dtype type;
        int top, zero;
        float min;
    } cases[] = {
        {DTYPE_Q4_0, 15, 8, 0}, {DTYPE_Q5_0, 31, 16, 0}, {DTYPE_Q4_1, 15, 0, -1.25f}, {DTYPE_Q5_1, 31, 0, 0.5f}};
    for (size_t t = 0; t < sizeof cases / sizeof *cases; t++) {
        float src[32], dst[32];
        for (int i = 0; i < 32; i++) {
            src[i] = 0.125f * (float)(i * 7 % (cases[t].top + 1) - cases[t].zero) + cases[t].min;
        }
        round_trip(cases[t].type, src, dst, 32, NULL);
        for (int i = 0; i < 32; i++) {
            assert_true(src[i] == dst[i]);
        }
    }
}

static void importance_moves_the_error_to_where_it_costs_least(void **state)
{
    (void)state;
    static float src[N_MAX], weight[N_MAX], plain[N_MAX], weighted[N_MAX];
    uint64_t seed = 3;
    for (size_t i = 0; i < N_MAX; i++) {
        src[i] = (float)normal(&seed);
        weight[i] = (float)exp(2 * normal(&seed));
    }
    for (size_t t = 0; t < N_TYPES; t++) {
        if (!codec_encodes(frozen[t].type)) {
            continue;
        }
        dtype type = frozen[t].type;
        if (dtype_find(type)->block_size == 1 || type == DTYPE_Q8_0 || type == DTYPE_Q8_K || type == DTYPE_MXFP4) {
            continue; /* nothing, or not much, to choose */
        }
        round_trip(type, src, plain, N_MAX, NULL);
        round_trip(type, src, weighted, N_MAX, weight);
        double ratio = weighted_error(src, weighted, weight, N_MAX) / weighted_error(src, plain, weight, N_MAX);
        if (!(ratio < 0.9)) {
            fail_msg("%s: importance improves the weighted error only to %g", dtype_name(type), ratio);
        }
    }
}

static void unusable_importance_is_no_importance(void **state)
{
    (void)state;
    const float bad[] = {0, -1, NAN};
    float src[256], weight[256];
    uint8_t a[300], b[300];
    uint64_t seed = 5;
    for (int i = 0; i < 256; i++) {
        src[i] = (float)normal(&seed);
        weight[i] = bad[i % 3];
    }
    codec_encode(DTYPE_Q4_K, src, a, 256, weight);
    codec_encode(DTYPE_Q4_K, src, b, 256, NULL);
    assert_memory_equal(a, b, 144);
}

static void q8_k_carries_the_sums_of_each_sixteen(void **state)
{
    (void)state;
    float src[256];
    uint8_t block[292];
    uint64_t seed = 9;
    for (int i = 0; i < 256; i++) {
        src[i] = (float)normal(&seed);
    }
    codec_encode(DTYPE_Q8_K, src, block, 256, NULL);
    for (int g = 0; g < 16; g++) {
        int sum = 0;
        for (int i = 0; i < 16; i++) {
            sum += (int8_t)block[4 + 16 * g + i];
        }
        assert_int_equal(sum, (int16_t)(block[260 + 2 * g] | block[261 + 2 * g] << 8));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_is_the_reference_bit_for_bit),
        cmocka_unit_test(every_known_type_is_tested),
        cmocka_unit_test(whole_numbers_scale_and_bias_are_the_weights),
        cmocka_unit_test(decoding_takes_any_alignment),
        cmocka_unit_test(encoding_keeps_the_promised_precision),
        cmocka_unit_test(scale_of_the_weights_does_not_matter),
        cmocka_unit_test(encoding_is_deterministic_and_needs_no_alignment),
        cmocka_unit_test(zeros_stay_zeros),
        cmocka_unit_test(what_is_not_finite_counts_as_zero),
        cmocka_unit_test(extreme_blocks_decode_to_finite_numbers_near_them),
        cmocka_unit_test(values_a_simple_block_can_hold_come_back_exactly),
        cmocka_unit_test(importance_moves_the_error_to_where_it_costs_least),
        cmocka_unit_test(unusable_importance_is_no_importance),
        cmocka_unit_test(q8_k_carries_the_sums_of_each_sixteen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
