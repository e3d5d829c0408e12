/*
 * Tests of core/base/cpu: feature masks on every machine, and detection as far as one machine can show it.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/cpu.h"

#include "support/test.h"

#define ALL ((1u << CPU_FEATURE_COUNT) - 1)

static cpu_features masked(cpu_features features, const char *mask)
{
    mlxr_error error;
    assert_ok(cpu_mask(&features, mask, &error), &error);
    return features;
}

static void a_level_takes_along_what_builds_on_it(void **state)
{
    (void)state;
    const cpu_features amx = CPU_AMX_INT8 | CPU_AMX_BF16;
    const cpu_features avx512 = CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16 | CPU_AVX512_ADDS;
    assert_int_equal(masked(ALL, ""), ALL);
    assert_int_equal(masked(ALL, "-amx"), ALL & ~amx);
    assert_int_equal(masked(ALL, "-avx512") & (avx512 | amx | CPU_AVX2), CPU_AVX2 | (masked(ALL, "-avx512") & amx));
    assert_int_equal(masked(ALL, "-avx512") & avx512, 0);
    assert_int_equal(masked(ALL, "-avx512-vnni") & avx512, avx512 & ~(CPU_AVX512_VNNI | CPU_AVX512_ADDS));
    assert_int_equal(masked(ALL, "-avx2") & (CPU_AVX2 | CPU_AVX_VNNI | avx512), 0);
    assert_int_equal(masked(ALL, "-avx2") & CPU_HALVES, 0);
    assert_int_equal(masked(ALL, "-halves"), ALL & ~CPU_HALVES);
    assert_int_equal(masked(ALL, "-laid"), ALL & ~CPU_LAID);
    assert_int_equal(masked(ALL, "-avx512") & CPU_LAID, CPU_LAID);
    assert_int_equal(masked(ALL, "-avx2") & CPU_LAID, 0);
    assert_int_equal(masked(ALL, "-neon") & (CPU_NEON | CPU_DOTPROD | CPU_I8MM | CPU_ARM_BF16), 0);
    assert_int_equal(masked(ALL, "scalar"), 0);
    assert_int_equal(masked(ALL, "-scalar"), 0);
}

static void every_name_masks_its_own_feature_and_none_unrelated(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        char mask[64];
        assert_non_null(cpu_feature_name(i));
        snprintf(mask, sizeof mask, "-%s", cpu_feature_name(i));
        cpu_features left = masked(ALL, mask);
        assert_int_equal(left >> i & 1, 0);
        assert_int_equal(masked(left, mask), left); /* a second time changes nothing */
        bool arm = i >= CPU_INDEX_NEON;
        cpu_features others = arm ? CPU_NEON - 1u : ALL & ~(CPU_NEON - 1u);
        assert_int_equal(left & others, others);
    }
    assert_null(cpu_feature_name(CPU_FEATURE_COUNT));
    assert_null(cpu_feature_name(UINT32_MAX));
}

static void masks_join_with_commas_and_never_add_a_feature(void **state)
{
    (void)state;
    assert_int_equal(masked(ALL, "-amx,-avx512"), masked(masked(ALL, "-avx512"), "-amx"));
    assert_int_equal(masked(CPU_AVX2, "-amx,-avx512,-neon"), CPU_AVX2);
    assert_int_equal(masked(0, "-avx2"), 0);
}

static void unknown_names_are_named_and_change_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {"avx2",          "-avx3",    "-",        "--avx2", "+avx2",
                                      "-avx512,-sse9", "-AVX2",    " -avx2",   ",",      "-avx2,,-amx",
                                      "scala",         "-avx512-", "-amx-int", "-avx2 "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cpu_features features = ALL;
        mlxr_error error = {0};
        if (cpu_mask(&features, bad[i], &error) != MLXR_ARG) {
            fail_msg("'%s' is accepted", bad[i]);
        }
        assert_int_equal(features, ALL);
        assert_int_equal(error.status, MLXR_ARG);
        assert_non_null(strstr(error.text, "-avx512")); /* says what is possible */
    }
    cpu_features features = ALL;
    mlxr_error error = {0};
    cpu_mask(&features, "-avx512,-sse9", &error);
    assert_non_null(strstr(error.text, "sse9"));
}

static void detection_grants_at_most_what_the_processor_advertises(void **state)
{
    (void)state;
    cpu_features granted = cpu_detect(), advertised = cpu_advertised();
    assert_int_equal(granted & ~advertised, 0);
    assert_int_equal(granted & ~ALL, 0);
    assert_int_equal(cpu_detect(), granted);
    /* a feature comes with what it builds on, or kernels would be chosen without their helpers */
    if (granted & (CPU_AVX512 | CPU_AVX_VNNI)) {
        assert_true(granted & CPU_AVX2);
    }
    if (granted & (CPU_AVX512_VNNI | CPU_AVX512_BF16 | CPU_AMX_INT8 | CPU_AMX_BF16)) {
        assert_true(granted & CPU_AVX512);
    }
    if (granted & CPU_AVX512_ADDS) {
        assert_true(granted & CPU_AVX512_VNNI);
    }
    if (granted & (CPU_DOTPROD | CPU_I8MM | CPU_ARM_BF16)) {
        assert_true(granted & CPU_NEON);
    }
}

#if defined(__x86_64__) && defined(__linux__)
/* The kernel lists a flag in /proc/cpuinfo only if it supports the state behind it. */
static void detection_agrees_with_the_kernel(void **state)
{
    (void)state;
    static const struct {
        const char *flag;
        cpu_features feature;
    } pairs[] = {{" avx2 ", CPU_AVX2},
                 {" avx512bw ", CPU_AVX512},
                 {" avx512_vnni ", CPU_AVX512_VNNI},
                 {" avx512_bf16 ", CPU_AVX512_BF16},
                 {" avx_vnni ", CPU_AVX_VNNI}};
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[16384];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        found = strncmp(line, "flags", 5) == 0;
    }
    if (file) {
        fclose(file);
    }
    if (!found) {
        skip();
    }
    line[strcspn(line, "\n")] = ' ';
    cpu_features granted = cpu_detect();
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if ((strstr(line, pairs[i].flag) != NULL) != ((granted & pairs[i].feature) != 0)) {
            fail_msg("%s: the kernel and cpu_detect disagree", pairs[i].flag);
        }
    }
}
#endif

static void the_machine_has_a_name_and_a_core(void **state)
{
    (void)state;
    char name[64];
    memset(name, 'x', sizeof name);
    assert_true(strlen(cpu_model_name(name, sizeof name)) < sizeof name);
    assert_true(strlen(name) > 0);
    char small[4] = "xyz";
    assert_true(strlen(cpu_model_name(small, sizeof small)) < sizeof small);
    assert_true(cpu_cores_usable() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_level_takes_along_what_builds_on_it),
        cmocka_unit_test(every_name_masks_its_own_feature_and_none_unrelated),
        cmocka_unit_test(masks_join_with_commas_and_never_add_a_feature),
        cmocka_unit_test(unknown_names_are_named_and_change_nothing),
        cmocka_unit_test(detection_grants_at_most_what_the_processor_advertises),
#if defined(__x86_64__) && defined(__linux__)
        cmocka_unit_test(detection_agrees_with_the_kernel),
#endif
        cmocka_unit_test(the_machine_has_a_name_and_a_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
