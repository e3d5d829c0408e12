/*
 * The recorded vectors that `mlxr doctor --metal` compares a device with (core/kernels/mlx/kernel_vectors.c) are what
 * the scalar backend gives. MLXR_WRITE_VECTORS=FILE writes a new copy of that file. Owner: the test program. Lifetime:
 * the process.
 */
#include <math.h>

#include "kernels/mlx/cases.h"
#include "support/test.h"

/* Libraries of mathematics differ in the last bits of exp and cos. */
#define DIFFERENCE_MOST 1e-12

typedef struct oracle {
    backend *b;
    FILE *to; /* or NULL */
    uint32_t n_cases;
    double worst;
} oracle;

static void run_case(oracle *o, const kernel_case *c, float samples[KERNEL_SAMPLES])
{
    mlxr_error error;
    kernel_world w;
    program *p = NULL;
    assert_ok(kernel_world_open(&w, c, true, &error), &error);
    assert_ok(backend_cpu_scalar.prepare(o->b, &w.p, &p, &error), &error);
    assert_ok(backend_cpu_scalar.run(o->b, p, &w.s, &error), &error);
    double size = 0;
    for (uint32_t i = 0; i < KERNEL_SAMPLES; i++) {
        samples[i] = w.s.logits[kernel_sample_at(w.n_logits, i)];
        size = fmax(size, fabs((double)samples[i]));
    }
    assert_true(size > 0.1 && size < 100); /* neither nothing nor all there is */
    backend_cpu_scalar.release(o->b, &p);
    kernel_world_close(&w);
}

static void check_case(oracle *o, const kernel_case *c, uint32_t index)
{
    float found[KERNEL_SAMPLES], recorded[KERNEL_SAMPLES];
    char name[UNIT_NAME_MAX];
    unit_name(c->unit, name);
    run_case(o, c, found);
    o->n_cases++;
    if (o->to) {
        fprintf(o->to, "    {\"%s\", %u, {", name, index);
        for (uint32_t i = 0; i < KERNEL_SAMPLES; i++) {
            uint32_t bits;
            memcpy(&bits, &found[i], sizeof bits);
            fprintf(o->to, "%s0x%08x", i ? ", " : "", bits);
        }
        fprintf(o->to, "}},\n");
        return;
    }
    const kernel_vector *v = kernel_vector_find(kernel_vectors, c->unit, index);
    assert_non_null(v);
    memcpy(recorded, v->samples, sizeof recorded);
    double wrong = 0, all = 0;
    for (uint32_t i = 0; i < KERNEL_SAMPLES; i++) {
        double d = (double)found[i] - (double)recorded[i];
        wrong += d * d;
        all += (double)recorded[i] * (double)recorded[i];
    }
    o->worst = fmax(o->worst, wrong / all);
    if (!(wrong <= DIFFERENCE_MOST * all)) {
        fail_msg("%s, case %u: %.1e from what is recorded", name, index, wrong / all);
    }
}

static void recorded_vectors_are_the_scalar_backends(void **state)
{
    (void)state;
    mlxr_error error;
    oracle o = {.b = NULL};
    const char *path = getenv("MLXR_WRITE_VECTORS");
    assert_ok(backend_cpu_scalar.open(&o.b, &(backend_options){.n_threads = 1, .scalar = true}, &error), &error);
    if (path) {
        o.to = fopen(path, "w");
        assert_non_null(o.to);
        fprintf(o.to, "/*\n * What the scalar backend gave for the small cases of each unit; written by\n"
                      " * tests/metal/test_vectors.c. Owner: none. Lifetime: static.\n */\n"
                      "#include \"kernels/mlx/cases.h\"\n\nconst kernel_vector kernel_vectors[] = {\n");
    }
    uint32_t n_recorded = 0;
    for (kernel_unit unit = UNIT_RMS_NORM; unit < UNIT_COUNT; unit++) {
        kernel_case cases[KERNEL_CASES_MAX];
        uint32_t n = kernel_cases(unit, false, cases);
        assert_true(n >= 2);
        for (uint32_t i = 0; i < n; i++) {
            check_case(&o, &cases[i], i);
        }
    }
    while (kernel_vectors[n_recorded].unit) {
        n_recorded++;
    }
    if (o.to) {
        fprintf(o.to, "    {.unit = NULL},\n};\n");
        assert_int_equal(fclose(o.to), 0);
    } else {
        assert_int_equal(n_recorded, o.n_cases);
        printf("%u cases of %u units, %.1e from what is recorded at most\n", o.n_cases, UNIT_COUNT, o.worst);
    }
    backend_cpu_scalar.close(&o.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(recorded_vectors_are_the_scalar_backends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
