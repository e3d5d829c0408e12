/*
 * Packers of linear inputs: bit for bit what the scalar packers give, for every tile width, on usual and unusual rows.
 * Owner: none. Lifetime: the program.
 */
#include <math.h>
#include <string.h>

#include "checkkernels.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/quantize_act.h"

static float unusual(check *c)
{
    static const float values[] = {0.0f,    -0.0f,    1e-45f, -1e-40f, 0x1p-100f, 0x1p-101f, 1e-30f,
                                   3.4e38f, -3.4e38f, 0.5f,   -127.0f, NAN,       INFINITY,  -INFINITY};
    return values[check_below(c, sizeof values / sizeof *values)];
}

/* magnitude 0: usual rows; 1: many scales; 2: unusual values among them */
static void fill(check *c, float *x, uint32_t n, int kind)
{
    for (uint32_t i = 0; i < n; i++) {
        float power = kind == 1 ? ldexpf(1.0f, (int)check_below(c, 200) - 120) : 1.0f;
        x[i] = check_normal(c) * power;
        if (kind == 2 && check_below(c, 40) == 0) {
            x[i] = unusual(c);
        }
        if (kind == 3) { /* halves of steps: ties in rounding */
            x[i] = (float)((int)check_below(c, 255) - 127) + 0.5f * (float)check_below(c, 2);
        }
    }
}

static void run(check *c)
{
    linear_kernels scalar, kernels;
    linear_init(&scalar, 0);
    linear_init(&kernels, c->features);
    int n = c->quick ? 200 : 2000;
    for (int i = 0; i < 2 * n; i++) {
        if (i == n) {
            linear_round(&scalar);
            linear_round(&kernels);
        }
        linear_format format = (linear_format)check_below(c, LINEAR_FORMAT_COUNT);
        uint32_t n_in = format >= LINEAR_Q16 ? 32 * (1 + check_below(c, 20)) : 1 + check_below(c, 200);
        uint32_t n_tokens = 1 + check_below(c, 20);
        size_t n_bytes = linear_input_bytes(format, n_tokens, n_in);
        check_memory a = check_alloc(n_bytes, false), b = check_alloc(n_bytes, false);
        uint32_t stride = n_in + check_below(c, 3), begin = check_below(c, n_tokens);
        check_memory x = check_alloc(((size_t)(n_tokens - 1) * stride + n_in) * sizeof(float), check_below(c, 2));
        linear_input in_a = linear_input_make(format, n_tokens, n_in, a.bytes);
        linear_input in_b = linear_input_make(format, n_tokens, n_in, b.bytes);
        for (uint32_t t = n_tokens; t-- > 0;) {
            float *row = (float *)(void *)x.bytes + (size_t)t * stride;
            fill(c, row, n_in, (int)check_below(c, 4));
            linear_pack(&scalar, &in_a, t, row);
            if (t < begin) { /* one by one; the others together, from anywhere within a tile */
                linear_pack(&kernels, &in_b, t, row);
            }
        }
        const float *rest = (const float *)(const void *)x.bytes + (size_t)begin * stride;
        linear_pack_rows(&kernels, &in_b, begin, n_tokens - begin, rest, stride);
        check_result(c, memcmp(a.bytes, b.bytes, n_bytes) == 0, "pack format %d%s, %u tokens of %u differ from scalar",
                     (int)format, i < n ? "" : ", rounded", n_tokens, n_in);
        check_free(&a);
        check_free(&b);
        check_free(&x);
    }
}

static double time_pack(const linear_kernels *kernels, const linear_input *in, const float *x)
{
    double best = 1;
    for (int r = 0; r < 50; r++) {
        double begin = check_seconds();
        linear_pack_rows(kernels, in, 0, in->n_tokens, x, 0);
        best = fmin(best, (check_seconds() - begin) / in->n_tokens);
    }
    return best;
}

static void bench(check *c)
{
    static const char *const names[LINEAR_FORMAT_COUNT] = {"f32",    "bf16",        "digits", "words",
                                                           "8 bits", "short words", "crossed"};
    static float x[5632];
    linear_kernels kernels, scalar;
    linear_init(&kernels, c->features);
    linear_init(&scalar, 0);
    fill(c, x, 5632, 0);
    for (uint32_t f = LINEAR_F32; f < LINEAR_FORMAT_COUNT; f++) {
        for (uint32_t n = 2048; n <= 5632 && kernels.pack[f] != scalar.pack[f]; n += 5632 - 2048) {
            check_memory m = check_alloc(linear_input_bytes((linear_format)f, 8, n), false);
            linear_input in = linear_input_make((linear_format)f, 8, n, m.bytes);
            double seconds = time_pack(&kernels, &in, x);
            printf("pack %-11s n %5u  %-11s %8.1f ns  %6.1f GB/s  %6.1f × scalar\n", names[f], n, c->set, seconds * 1e9,
                   n * sizeof(float) / seconds * 1e-9, time_pack(&scalar, &in, x) / seconds);
            check_free(&m);
        }
    }
}

const check_suite check_linear_pack = {"linear_pack", run, bench, false};
