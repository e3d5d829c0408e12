/*
 * metal_check NAME: one Metal kernel against the scalar oracle, in the emulator.
 * Owner: main. Lifetime: the process.
 */
#include "metal_check.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "quant/half.h"

static const metal_suite *const suites[] = {
    &metal_rms_norm_suite, &metal_rope_suite,   &metal_decode_suite,
    &metal_prefill_suite,  &metal_q_gemm_suite, &metal_swiglu_suite,
};

void check_result(check *c, bool ok, const char *format, ...)
{
    if (ok) {
        return;
    }
    if (c->n_failed++ < 10) {
        va_list list;
        va_start(list, format);
        printf("  ");
        vprintf(format, list);
        printf("\n");
        va_end(list);
    }
}

void *metal_get(size_t n_bytes)
{
    void *p = malloc(n_bytes ? n_bytes : 1);
    if (!p) {
        fprintf(stderr, "metal_check: out of memory\n");
        exit(1);
    }
    return p;
}

static float to_type(dtype type, float f, void *at)
{
    uint16_t bits = type == DTYPE_F16 ? half_from_float(f) : bf16_from_float(f);
    if (type == DTYPE_F32) {
        memcpy(at, &f, sizeof f);
        return f;
    }
    memcpy(at, &bits, sizeof bits);
    return type == DTYPE_F16 ? half_to_float(bits) : bf16_to_float(bits);
}

static values values_empty(dtype type, size_t n)
{
    values v = {.type = type, .n = n, .n_bytes = dtype_row_bytes(type, n)};
    v.data = metal_get(v.n_bytes);
    v.f = metal_get(n * sizeof *v.f);
    return v;
}

values values_make(metal_check *c, dtype type, size_t n, values_kind kind)
{
    values v = values_empty(type, n);
    float scale = kind == VALUES_LARGE ? (type == DTYPE_F16 ? 2000.0f : 1e12f) : kind == VALUES_SMALL ? 1e-4f : 1.0f;
    for (size_t i = 0; i < n; i++) {
        float f = kind == VALUES_ZERO ? 0.0f : check_normal(&c->base) * scale;
        v.f[i] = to_type(type, f, (uint8_t *)v.data + i * dtype_row_bytes(type, 1));
    }
    return v;
}

values values_output(dtype type, size_t n)
{
    values v = values_empty(type, n);
    values_poison(&v);
    return v;
}

void values_poison(values *v)
{
    memset(v->data, 0xff, v->n_bytes);
}

void values_read(values *v)
{
    for (size_t i = 0; i < v->n; i++) {
        const uint16_t *words = v->data;
        v->f[i] = v->type == DTYPE_F32   ? ((const float *)v->data)[i]
                  : v->type == DTYPE_F16 ? half_to_float(words[i])
                                         : bf16_to_float(words[i]);
    }
}

void values_free(values *v)
{
    free(v->data);
    free(v->f);
    *v = (values){0};
}

metal_emulator_argument values_argument(const values *v)
{
    return (metal_emulator_argument){v->data, v->n_bytes};
}

const char *metal_type_name(dtype type)
{
    static const char *const names[] = {
        [DTYPE_F32] = "f32",   [DTYPE_F16] = "f16",   [DTYPE_BF16] = "bf16", [DTYPE_Q4_0] = "q4_0",
        [DTYPE_Q4_1] = "q4_1", [DTYPE_Q8_0] = "q8_0", [DTYPE_Q2_K] = "q2_k", [DTYPE_Q3_K] = "q3_k",
        [DTYPE_Q4_K] = "q4_k", [DTYPE_Q5_K] = "q5_k", [DTYPE_Q6_K] = "q6_k", [DTYPE_Q8_K] = "q8_k",
    };
    return names[type];
}

dtype metal_pick_type(uint32_t i)
{
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    return types[i % 3];
}

uint32_t metal_pick_threads(uint32_t i)
{
    static const uint32_t sizes[] = {32, 96, 128, 512, 1024};
    return i % 2 ? 0 : sizes[i / 2 % (sizeof sizes / sizeof *sizes)];
}

bool metal_run(metal_check *c, const char *kernel, metal_emulator_argument *arguments, size_t n, size_t params_at,
               const metal_dispatch *dispatch, uint64_t seed)
{
    char error[512] = "";
    metal_dispatch d = *dispatch; /* exactly as many words as the kernel is promised */
    uint32_t *words = metal_get(d.n_words * sizeof *words);
    memcpy(words, d.words, d.n_words * sizeof *words);
    arguments[params_at] = METAL_BYTES(words, d.n_words * sizeof *words);
    metal_emulator_launch launch = {.seed = seed, .isolate = !TEST_SANITIZER};
    memcpy(launch.grid, d.grid, sizeof d.grid);
    memcpy(launch.group, d.group, sizeof d.group);
    metal_emulator_report report;
    int status = metal_emulator_run(&metal_kernels_emulated, kernel, arguments, n, &launch, &report, error,
                                    sizeof error);
    free(words);
    check_result(&c->base, status == 0, "%s case %u, schedule %llu: %s", c->kernel, c->index, (unsigned long long)seed,
                 error);
    uint32_t threads = d.group[0] * d.group[1] * d.group[2];
    c->memory = report.threadgroup_bytes > c->memory ? report.threadgroup_bytes : c->memory;
    c->threads = threads > c->threads ? threads : c->threads;
    c->n_runs++;
    return status == 0;
}

void metal_compare(metal_check *c, dtype type, float got, double expected, double bound, size_t at)
{
    static const double half_top = 65504;
    double rounding = type == DTYPE_F16 ? 0x1p-11 : type == DTYPE_BF16 ? 0x1p-8 : 0x1p-24;
    double smallest = type == DTYPE_F16 ? 0x1p-25 : 1e-38;
    if (type == DTYPE_F16 && fabs(expected) > half_top - bound) {
        return; /* may round to infinity */
    }
    bound += rounding * (fabs(expected) + bound) + smallest;
    double ratio = fabs((double)got - expected) / bound;
    if (!(ratio <= c->worst)) {
        c->worst = isnan(ratio) ? INFINITY : ratio;
    }
    check_result(&c->base, ratio <= 1, "%s case %u, element %zu: %.9g, expected %.9g ± %.3g", c->kernel, c->index, at,
                 (double)got, expected, bound);
}

/* The schedules of a case, by what this build is for. */
static void pick_seeds(metal_check *c, bool soak)
{
    bool four = soak || c->index % 10 == 3;
    c->n_seeds = four ? 4 : TEST_SANITIZER == 1 ? 1 : 0;
    for (uint32_t i = 0; i < c->n_seeds; i++) {
        c->seeds[i] = four ? i : c->index; /* in rising order, two by simdgroup, one at random */
    }
}

static int run_suite(const metal_suite *suite)
{
    metal_check c = {.kernel = suite->name};
    bool soak = getenv("MLXR_SOAK") != NULL;
    uint32_t n_cases = 0;
    for (c.index = 0; c.index < suite->n_cases; c.index++) {
        c.base.random = 1000 + c.index;
        pick_seeds(&c, soak);
        if (c.n_seeds) {
            n_cases++;
            suite->run(&c);
        }
    }
    bool limits = c.memory <= METAL_EMULATOR_MEMORY && c.threads <= METAL_EMULATOR_THREADS;
    printf(
        "%s: %u of %u cases, %llu runs, largest error %.3f of its bound, %zu bytes of threadgroup memory, %u threads\n",
        suite->name, n_cases, suite->n_cases, (unsigned long long)c.n_runs, c.worst, c.memory, c.threads);
    if (c.base.n_failed) {
        printf("%s: %llu failures\n", suite->name, (unsigned long long)c.base.n_failed);
    }
    return c.base.n_failed || !limits || suite->n_cases < METAL_CASES_LEAST;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        if (argc < 2 || !strcmp(argv[1], suites[i]->name)) {
            failed |= run_suite(suites[i]);
        }
    }
    return failed;
}
