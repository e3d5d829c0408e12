/*
 * The Metal emulator: what it computes (emulator/good.metal) and which planted bugs it finds (emulator/bad.metal). A
 * planted bug runs in a process of its own, because a sanitizer ends it.
 * Owner: the test. Lifetime: the program.
 */
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/metal_emulator.h"
#include "quant/half.h"
#include "support/test.h"

extern const metal_emulator_library emulator_good, emulator_bad;

#define SEEDS 6

static char error[1024];
static metal_emulator_report report;

static metal_emulator_launch launch_of(uint32_t threads, uint32_t group, uint64_t seed)
{
    return (metal_emulator_launch){.grid = {threads, 1, 1}, .group = {group, 1, 1}, .seed = seed, .isolate = true};
}

static int run_good(const char *kernel, const metal_emulator_argument *arguments, size_t n,
                    const metal_emulator_launch *launch)
{
    error[0] = 0;
    return metal_emulator_run(&emulator_good, kernel, arguments, n, launch, &report, error, sizeof error);
}

#define assert_runs(kernel, arguments, launch)                                                                         \
    do {                                                                                                               \
        if (run_good(kernel, arguments, sizeof(arguments) / sizeof *(arguments), launch)) {                            \
            fail_msg("%s", error);                                                                                     \
        }                                                                                                              \
    } while (0)

static void function_constants_and_constants_reach_the_kernel(void **state)
{
    (void)state;
    float x[5] = {1, 2, 3, 4, 5}, y[5] = {0};
    struct {
        float factor;
        uint32_t n;
    } params = {3.0f, 5};
    bool doubled = true;
    uint32_t offset = 100;
    metal_emulator_constant constants[] = {{"doubled", &doubled, sizeof doubled}, {"offset", &offset, sizeof offset}};
    metal_emulator_argument arguments[] = {{x, sizeof x}, {y, sizeof y}, {&params, sizeof params}};
    metal_emulator_launch launch = launch_of(8, 8, 1);
    launch.constants = constants;
    launch.n_constants = 2;
    assert_runs("constants", arguments, &launch);
    for (int i = 0; i < 5; i++) {
        assert_true(y[i] == x[i] * 6 + 100 + 0.5f + (float)(i % 4));
    }
    launch.n_constants = 1;
    assert_int_equal(run_good("constants", arguments, 3, &launch), -1);
    assert_non_null(strstr(error, "offset"));
    constants[1].n_bytes = 1;
    launch.n_constants = 2;
    assert_int_equal(run_good("constants", arguments, 3, &launch), -1);
    assert_non_null(strstr(error, "another size"));
}

static void builtins_are_those_of_the_grid_with_smaller_groups_at_its_ends(void **state)
{
    (void)state;
    static uint32_t out[24 * 13 * 7 * 3];
    enum { GX = 13, GY = 7, GZ = 3, TX = 6, TY = 4, TZ = 2 };
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        memset(out, 0, sizeof out);
        metal_emulator_argument arguments[] = {{out, sizeof out}};
        metal_emulator_launch launch = {.grid = {GX, GY, GZ}, .group = {TX, TY, TZ}, .seed = seed};
        assert_runs("builtins", arguments, &launch);
        assert_int_equal(report.n_groups, 3 * 2 * 2);
        for (uint32_t z = 0, i = 0; z < GZ; z++) {
            for (uint32_t y = 0; y < GY; y++) {
                for (uint32_t x = 0; x < GX; x++, i++) {
                    uint32_t gx = x / TX, gy = y / TY, gz = z / TZ;
                    uint32_t nx = gx == 2 ? 1 : TX, ny = gy == 1 ? 3 : TY, nz = gz == 1 ? 1 : TZ;
                    uint32_t index = x % TX + nx * (y % TY + ny * (z % TZ));
                    uint32_t expected[24] = {x,  y,  z,     x % TX,     y % TY,     z % TZ, gx, gy,
                                             gz, GX, GY,    GZ,         nx,         ny,     nz, 3,
                                             2,  2,  index, index % 32, index / 32, 0,      32, 7};
                    expected[21] = (nx * ny * nz + 31) / 32;
                    assert_memory_equal(out + 24 * i, expected, sizeof expected);
                }
            }
        }
    }
}

static void threadgroup_memory_and_barriers_work_in_every_schedule_and_type(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        for (int type = 0; type < 3; type++) {
            float wide[3 * 64], y[3 * 64];
            uint16_t narrow[3 * 64];
            for (int i = 0; i < 3 * 64; i++) {
                wide[i] = (float)(i % 9 - 4) + 0.5f;
                narrow[i] = type == 1 ? half_from_float(wide[i]) : bf16_from_float(wide[i]);
            }
            metal_emulator_argument arguments[] = {
                {type ? (void *)narrow : (void *)wide, type ? sizeof narrow : sizeof wide}, {y, sizeof y}};
            metal_emulator_launch launch = launch_of(3 * 64, 64, seed);
            launch.threadgroup_bytes[0] = 64 * sizeof(float);
            assert_runs(type == 0 ? "row_sum_f32" : type == 1 ? "row_sum_f16" : "row_sum_bf16", arguments, &launch);
            assert_int_equal(report.threadgroup_bytes, 64 * 4 + 64 * 4 + 4);
            assert_int_equal(report.n_barriers, 3 * 9);
            for (int row = 0; row < 3; row++) {
                float sum = 0;
                for (int i = 0; i < 64; i++) {
                    sum += wide[64 * row + i];
                }
                for (int i = 0; i < 64; i++) {
                    assert_true(y[64 * row + i] == sum);
                }
            }
        }
    }
}

static int from_lane(const int *x, int lane, int live, int own)
{
    return lane >= 0 && lane < live ? x[lane] : own;
}

static void simdgroup_functions_leave_out_lanes_that_have_returned(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        for (uint32_t n = 1; n <= 64; n += 7) {
            int x[64], y[640];
            uint64_t random = seed + n;
            for (int i = 0; i < 64; i++) {
                x[i] = (int)(test_random(&random) % 201) - 100;
            }
            metal_emulator_argument arguments[] = {{x, sizeof x}, {y, sizeof y}, {&n, sizeof n}};
            metal_emulator_launch launch = launch_of(64, 64, seed);
            assert_runs("simd_functions", arguments, &launch);
            for (int i = 0; i < (int)n; i++) {
                int lane = i % 32, first = i - lane, live = (int)n - first < 32 ? (int)n - first : 32;
                const int *g = x + first;
                int sum = 0, max = -1000, min = 1000;
                for (int j = 0; j < live; j++) {
                    sum += g[j];
                    max = g[j] > max ? g[j] : max;
                    min = g[j] < min ? g[j] : min;
                }
                int expected[10] = {sum,
                                    max,
                                    min,
                                    from_lane(g, lane / 2, live, x[i]),
                                    from_lane(g, 3, live, x[i]),
                                    from_lane(g, lane ^ 1, live, x[i]),
                                    from_lane(g, lane + 2, live, x[i]),
                                    from_lane(g, lane - 3, live, x[i]),
                                    max > 90,
                                    min > -90};
                assert_memory_equal(y + 10 * i, expected, sizeof expected);
            }
        }
    }
}

static void simdgroups_exchange_through_memory_behind_their_own_barrier(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint32_t y[256];
        metal_emulator_argument arguments[] = {{y, sizeof y}};
        metal_emulator_launch launch = launch_of(256, 128, seed);
        assert_runs("simd_exchange", arguments, &launch);
        for (uint32_t i = 0; i < 256; i++) {
            assert_int_equal(y[i], i / 32 * 32 + 31 - i % 32);
        }
    }
}

static void matrices_multiply_and_transpose(void **state)
{
    (void)state;
    enum { K = 24 };
    for (int narrow = 0; narrow < 2; narrow++) {
        float a[8 * K], b[8 * K + 64], c[64];
        uint16_t a16[8 * K], b16[8 * K + 64];
        for (int i = 0; i < 8 * K; i++) {
            a[i] = (float)(i * 7 % 13 - 6);
            b[i] = (float)(i * 5 % 11 - 5);
        }
        for (int i = 0; i < 64; i++) {
            b[8 * K + i] = i % 9 ? 0.0f : 1.0f;
        }
        for (int i = 0; i < 8 * K; i++) {
            a16[i] = half_from_float(a[i]);
        }
        for (int i = 0; i < 8 * K + 64; i++) {
            b16[i] = half_from_float(b[i]);
        }
        uint32_t k = K;
        metal_emulator_argument arguments[] = {{narrow ? (void *)a16 : (void *)a, narrow ? sizeof a16 : sizeof a},
                                               {narrow ? (void *)b16 : (void *)b, narrow ? sizeof b16 : sizeof b},
                                               {c, sizeof c},
                                               {&k, sizeof k}};
        metal_emulator_launch launch = launch_of(32, 32, 3);
        assert_runs(narrow ? "matrices_f16" : "matrices_f32", arguments, &launch);
        for (int i = 0; i < 8; i++) {
            for (int j = 0; j < 8; j++) {
                float sum = b[8 * j + i];
                for (int l = 0; l < K; l++) {
                    sum += a[i * K + l] * b[l * 8 + j];
                }
                assert_true(c[8 * i + j] == sum);
            }
        }
        launch.group[0] = launch.grid[0] = 31;
        assert_int_equal(run_good(narrow ? "matrices_f16" : "matrices_f32", arguments, 4, &launch), -1);
        assert_non_null(strstr(error, "lanes have returned"));
    }
}

static void mathematics_agrees_with_the_c_library(void **state)
{
    (void)state;
    float x[7] = {0, 0.3f, -1.7f, 2.5f, -0.001f, 8, -3}, y[7 * 32];
    metal_emulator_argument arguments[] = {{x, sizeof x}, {y, sizeof y}};
    metal_emulator_launch launch = launch_of(7, 7, 0);
    assert_runs("mathematics", arguments, &launch);
    for (int i = 0; i < 7; i++) {
        float v = x[i];
        uint32_t bits = float_to_bits(v);
        double e[32] = {exp(v),
                        exp2(v),
                        log(fabs(v) + 1),
                        log2(fabs(v) + 1),
                        sqrt(fabs(v)),
                        1 / sqrt(fabs(v) + 1),
                        sin(v),
                        cos(v),
                        tanh(v),
                        floor(v),
                        ceil(v),
                        rint(v),
                        pow(fabs(v), 1.5),
                        (double)v * v - 1,
                        fmax(v, 0.25) + fmin(v, 0.25),
                        fmin(fmax(v, -0.5), 0.5),
                        v > 0 ? 9 : v,
                        fabs(v),
                        __builtin_popcount(bits),
                        v * (2 * v + 1) + 2 * 5 + v * (2 * v + 1) + 1,
                        exp(v) / (2 * v + 1),
                        fmax(-1, -1) + fmin(2, 5),
                        (bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24),
                        (double)half_to_float(half_from_float(v)),
                        (double)bf16_to_float(bf16_from_float(v)),
                        1,
                        v == 0 ? 2 : 1,
                        v * (2 * v + 1) + v,
                        v * (2 * v + 1) + v + 1,
                        1,
                        3.40282346638528859812e38,
                        0};
        for (int j = 0; j < 32; j++) {
            if (!(fabs(y[32 * i + j] - e[j]) <= 4e-6 * fmax(1, fabs(e[j])))) {
                fail_msg("x = %g, [%d]: %g, expected %g", (double)v, j, (double)y[32 * i + j], e[j]);
            }
        }
    }
}

static void a_seed_repeats_its_schedule_and_seeds_differ(void **state)
{
    (void)state;
    if (TEST_SANITIZER == 2) {
        skip(); /* to see the order of threads takes a race between them */
    }
    uint32_t first[64], again[64], other[64];
    for (int i = 0; i < 3; i++) {
        uint32_t *y = i == 0 ? first : i == 1 ? again : other;
        metal_emulator_argument arguments[] = {{y, 64 * sizeof *y}};
        metal_emulator_launch launch = launch_of(64, 64, i == 2 ? 8 : 6);
        memset(y, 0xff, 64 * sizeof *y);
        /* lists threads in the order they run: each takes the next place */
        if (metal_emulator_run(&emulator_good, "order_of_threads", arguments, 1, &launch, NULL, error, sizeof error)) {
            fail_msg("%s", error);
        }
    }
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
}

static void wrong_calls_say_what_is_wrong(void **state)
{
    (void)state;
    float x[64] = {0}, y[64];
    metal_emulator_argument arguments[] = {{x, sizeof x}, {y, sizeof y}};
    metal_emulator_launch launch = launch_of(64, 64, 0);
    assert_int_equal(run_good("nothing", arguments, 2, &launch), -1);
    assert_non_null(strstr(error, "nothing"));
    assert_int_equal(run_good("mathematics", arguments, 1, &launch), -1);
    assert_non_null(strstr(error, "buffer(1)"));
    assert_int_equal(run_good("row_sum_f32", arguments, 2, &launch), -1);
    assert_non_null(strstr(error, "threadgroup(0)"));
    launch.threadgroup_bytes[0] = 16;
    assert_int_equal(run_good("mathematics", arguments, 2, &launch), -1);
    assert_non_null(strstr(error, "threadgroup(0)"));
    launch.threadgroup_bytes[0] = 0;
    launch.group[0] = 0;
    assert_int_equal(run_good("mathematics", arguments, 2, &launch), -1);
    launch.group[0] = 1025;
    assert_int_equal(run_good("mathematics", arguments, 2, &launch), -1);
    assert_non_null(strstr(error, "1025"));
    metal_emulator_argument three[] = {{x, sizeof x}, {y, sizeof y}, {y, sizeof y}};
    launch.group[0] = 64;
    assert_int_equal(run_good("mathematics", three, 3, &launch), -1);
    assert_non_null(strstr(error, "no [[buffer(2)]]"));
    char small[8];
    assert_int_equal(metal_emulator_run(&emulator_good, "nothing", arguments, 2, &launch, NULL, small, sizeof small),
                     -1);
    assert_int_equal(strlen(small), sizeof small - 1);
    size_t n = 0;
    while (metal_emulator_name(&emulator_good, n)) {
        n++;
    }
    assert_true(n > 10);
}

/* ---- planted bugs ---- */

/* Runs in the child: prints the error, or the outputs that are not what a right kernel would write. */
static int run_planted(const char *kernel, uint64_t seed)
{
    float *x = calloc(256, sizeof *x), *y = calloc(256, sizeof *y);
    uint32_t n = 28;
    bool three = !strcmp(kernel, "reads_beyond"), one = strcmp(kernel, "barrier_after_return") != 0;
    one = one && strcmp(kernel, "writes_beyond") && strcmp(kernel, "short_constant") && !three;
    metal_emulator_argument arguments[3] = {{y, 256 * sizeof *y}, {one ? NULL : &n, sizeof n}};
    size_t n_arguments = one ? 1 : 2;
    metal_emulator_launch launch = launch_of(64, 64, seed);
    if (!strcmp(kernel, "writes_beyond")) { /* one float behind the last */
        arguments[0].n_bytes = n * sizeof *y;
    } else if (three || !strcmp(kernel, "misaligned")) { /* a vector that sticks out */
        n = 28 + 1;
        arguments[0] = (metal_emulator_argument){x, (three ? n : 8) * sizeof *x};
        arguments[1] = (metal_emulator_argument){y, 256 * sizeof *y};
        arguments[2] = (metal_emulator_argument){&n, sizeof n};
        n_arguments = three ? 3 : 2;
    } else if (!strcmp(kernel, "groups_race")) {
        launch.grid[0] = 256;
    } else if (strstr(kernel, "simd") || strstr(kernel, "divergent_sum") || strstr(kernel, "matrix") ||
               strstr(kernel, "unset") || strstr(kernel, "beyond_threadgroup")) {
        launch.grid[0] = launch.group[0] = 32;
    } else if (strstr(kernel, "missing_barrier") || strstr(kernel, "weak")) {
        launch.grid[0] = launch.group[0] = 256;
    }
    if (metal_emulator_run(&emulator_bad, kernel, arguments, n_arguments, &launch, NULL, error, sizeof error)) {
        printf("emulator: %s\n", error);
        free(x);
        free(y);
        return 1;
    }
    int wrong = 0;
    for (int i = 0; i < (int)launch.group[0]; i++) {
        wrong += isnan(y[i]);
        wrong += !strcmp(kernel, "missing_second_barrier") && y[i] != 10;
        wrong += !strcmp(kernel, "missing_simdgroup_barrier") && y[i] < 31 * 16;
    }
    printf("%s\n", wrong ? "wrong result" : "nothing found");
    free(x);
    free(y);
    return wrong != 0;
}

static const char *program;

/* The output of this program run on a planted bug. */
static const char *output_of(const char *kernel, uint64_t seed)
{
    static char text[1 << 16];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char number[24];
        snprintf(number, sizeof number, "%d", (int)seed);
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        /* the one symbolizer that is always there; it comes with gcc */
        setenv("ASAN_OPTIONS", "external_symbolizer_path=/usr/bin/addr2line", 1);
        setenv("TSAN_OPTIONS", "external_symbolizer_path=/usr/bin/addr2line", 1);
        execl(program, program, "--planted", kernel, number, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && n < sizeof text - 1;) {
        got = read(ends[0], text + n, sizeof text - 1 - n);
        n += got > 0 ? (size_t)got : 0;
    }
    text[n] = 0;
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status) && n < sizeof text - 32) {
        snprintf(text + n, sizeof text - n, "signal %d", WTERMSIG(status));
    }
    return text;
}

/* Some schedule among the first shows it, with this text. */
static void assert_found(const char *kernel, const char *text)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        if (strstr(output_of(kernel, seed), text)) {
            return;
        }
    }
    fail_msg("%s: no schedule shows '%s'; the last: %s", kernel, text, output_of(kernel, SEEDS - 1));
}

/* TEST_SANITIZER: 0 none, 1 address and undefined, 2 thread. */
static void missing_barriers_and_races_are_found(void **state)
{
    (void)state;
    if (TEST_SANITIZER == 2) {
        assert_found("missing_barrier", "tests/metal/emulator/bad.metal:15");
        assert_found("missing_simdgroup_barrier", "tests/metal/emulator/bad.metal:24");
        assert_found("missing_second_barrier", "tests/metal/emulator/bad.metal:3");
        assert_found("weak_barrier", "tests/metal/emulator/bad.metal:49");
        assert_found("groups_race", "tests/metal/emulator/bad.metal:56");
        assert_found("matrix_race", "data race");
        return;
    }
    assert_found("missing_barrier", "wrong result");            /* poisoned memory */
    assert_found("missing_second_barrier", "wrong result");     /* a simdgroup that goes as far as it can */
    assert_found("missing_simdgroup_barrier", "nothing found"); /* takes ThreadSanitizer */
}

static void unset_threadgroup_memory_is_seen(void **state)
{
    (void)state;
    assert_found("unset_memory", "wrong result");
}

static void divergent_barriers_and_reductions_are_found(void **state)
{
    (void)state;
    assert_found("barrier_in_a_branch", "threadgroup_barrier at tests/metal/emulator/bad.metal:62");
    assert_found("barrier_after_return", "bad.metal:73 is not reached by all threads");
    assert_found("two_barriers", "divergent barriers");
    assert_found("divergent_sum", "divergent control flow");
}

static void accesses_beyond_the_end_are_found(void **state)
{
    (void)state;
    if (TEST_SANITIZER == 1) {
        assert_found("writes_beyond", "tests/metal/emulator/bad.metal:103");
        assert_found("reads_beyond", "tests/metal/emulator/bad.metal:111");
        assert_found("beyond_threadgroup_memory", "tests/metal/emulator/bad.metal:118");
        assert_found("misaligned", "misaligned address");
    } else if (TEST_SANITIZER == 0) {
        assert_found("writes_beyond", "signal 11"); /* the page behind a buffer */
    }
}

static void limits_of_the_device_are_asserted(void **state)
{
    (void)state;
    assert_found("too_much_memory", "32772 bytes of threadgroup memory");
    assert_found("short_constant", "an argument of 4 bytes is bound to a parameter of 32");
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "--planted")) {
        return run_planted(argv[2], (uint64_t)atoi(argv[3]));
    }
    program = argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(function_constants_and_constants_reach_the_kernel),
        cmocka_unit_test(builtins_are_those_of_the_grid_with_smaller_groups_at_its_ends),
        cmocka_unit_test(threadgroup_memory_and_barriers_work_in_every_schedule_and_type),
        cmocka_unit_test(simdgroup_functions_leave_out_lanes_that_have_returned),
        cmocka_unit_test(simdgroups_exchange_through_memory_behind_their_own_barrier),
        cmocka_unit_test(matrices_multiply_and_transpose),
        cmocka_unit_test(mathematics_agrees_with_the_c_library),
        cmocka_unit_test(a_seed_repeats_its_schedule_and_seeds_differ),
        cmocka_unit_test(wrong_calls_say_what_is_wrong),
        cmocka_unit_test(missing_barriers_and_races_are_found),
        cmocka_unit_test(unset_threadgroup_memory_is_seen),
        cmocka_unit_test(divergent_barriers_and_reductions_are_found),
        cmocka_unit_test(accesses_beyond_the_end_are_found),
        cmocka_unit_test(limits_of_the_device_are_asserted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
