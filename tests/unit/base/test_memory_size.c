/*
 * Tests of core/base/memory_size: what any machine can show, and control groups in folders made up for it.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/memory_size.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/test.h"

static void sizes_are_plausible(void **state)
{
    (void)state;
    uint64_t total = memory_total(), available = memory_available();
    assert_true(total >= (uint64_t)64 << 20);
    assert_true(total < (uint64_t)1 << 50);
    assert_true(available >= (uint64_t)256 << 20);
    assert_true(available <= total || available == (uint64_t)256 << 20);
}

static bool write_to(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = access(path, F_OK) == 0 ? fopen(path, "w") : NULL;
    bool ok = file && fputs(text, file) >= 0;
    return file && fclose(file) == 0 && ok;
}

static void a_control_group_bounds_both(void **state)
{
    static const char *const roots[][2] = {{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
                                           {"/sys/fs/cgroup", "memory.max"}};
    (void)state;
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        char folder[256];
        snprintf(folder, sizeof folder, "%s/mlxr-test-%d", roots[i][0], (int)getpid());
        if (mkdir(folder, 0755) != 0) {
            continue;
        }
        int status = 0;
        bool can = write_to(folder, roots[i][1], "536870912");
        pid_t child = can ? fork() : 0;
        if (can && child == 0) {
            if (!write_to(folder, "cgroup.procs", "0")) {
                _exit(77);
            }
            _exit(memory_total() != 536870912 || memory_available() > 536870912);
        }
        if (can) {
            assert_int_equal(waitpid(child, &status, 0), child);
        }
        rmdir(folder);
        if (can && WEXITSTATUS(status) != 77) {
            assert_int_equal(status, 0);
            return;
        }
    }
    skip(); /* only who may make a control group can try */
}

#if defined(__linux__)

/* A file of a tree below the test's folder, with the folders that it is in. */
static void put(const char *tree, const char *file, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s%s", test_temp_dir(), tree, file);
    for (char *end = strchr(path + strlen(test_temp_dir()) + 1, '/'); end; end = strchr(end + 1, '/')) {
        *end = 0;
        mkdir(path, 0755);
        *end = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void expect_sizes(const char *tree, uint64_t total, uint64_t available)
{
    char root[512];
    snprintf(root, sizeof root, "%s/%s", test_temp_dir(), tree);
    memory_sizes sizes = memory_sizes_below(root, 1000u << 20);
    if (sizes.total != total << 20 || sizes.available != available << 20) {
        fail_msg("%s: %llu MiB in all and %llu available, not %llu and %llu", tree,
                 (unsigned long long)sizes.total >> 20, (unsigned long long)sizes.available >> 20,
                 (unsigned long long)total, (unsigned long long)available);
    }
}

#define MIB_600 "629145600\n"
#define MIB_500 "524288000\n"
#define MIB_400 "419430400\n"
#define MIB_300 "314572800\n"
#define MIB_100 "104857600\n"
#define FREE_800 "MemTotal: 1024000 kB\nMemAvailable: 819200 kB\n"

static void the_least_of_memory_and_all_groups_around_counts(void **state)
{
    (void)state;
    put("none", "/proc/meminfo", FREE_800); /* a machine without groups */
    expect_sizes("none", 1000, 800);
    put("v2", "/proc/meminfo", FREE_800);
    put("v2", "/proc/self/cgroup", "0::/a/b\n");
    put("v2", "/sys/fs/cgroup/a/b/memory.max", "max\n"); /* its own has no limit, the one around it has */
    put("v2", "/sys/fs/cgroup/a/b/memory.current", MIB_100);
    put("v2", "/sys/fs/cgroup/a/memory.max", MIB_500);
    put("v2", "/sys/fs/cgroup/a/memory.current", MIB_400);
    put("v2", "/sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 104857600\nactive_file 209715200\n");
    expect_sizes("v2", 500, 400); /* 400 of it used, 300 of those files */
    put("v2", "/sys/fs/cgroup/a/b/memory.max", MIB_300);
    expect_sizes("v2", 300, 200);
    put("v2", "/sys/fs/cgroup/a/b/memory.max", "1099511627776\n"); /* more than there is */
    expect_sizes("v2", 500, 400);
    put("v2", "/proc/meminfo", "MemAvailable: 102400 kB\n"); /* others have taken it */
    expect_sizes("v2", 500, 100);
    put("v1", "/proc/meminfo", FREE_800);
    put("v1", "/proc/self/cgroup", "9:cpu:/c\n4:memory:/m\n0::/\n");
    put("v1", "/sys/fs/cgroup/memory/m/memory.limit_in_bytes", MIB_600);
    put("v1", "/sys/fs/cgroup/memory/m/memory.usage_in_bytes", MIB_300);
    put("v1", "/sys/fs/cgroup/memory/m/memory.stat", "inactive_file 1\ntotal_inactive_file 104857600\n");
    put("v1", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    expect_sizes("v1", 600, 400);
    put("v1", "/sys/fs/cgroup/memory.max", MIB_400); /* both versions at once */
    expect_sizes("v1", 400, 400);
    put("inside", "/proc/meminfo", FREE_800); /* a container that sees its own group as the root */
    put("inside", "/sys/fs/cgroup/memory.max", MIB_300);
    put("inside", "/sys/fs/cgroup/memory.current", MIB_100);
    expect_sizes("inside", 300, 200);
    put("outside", "/proc/meminfo", FREE_800); /* one whose path is that of the host, which is not to be seen */
    put("outside", "/proc/self/cgroup", "0::/../../host/path\n");
    put("outside", "/sys/fs/cgroup/memory.max", MIB_300);
    expect_sizes("outside", 300, 300);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_plausible),
        cmocka_unit_test(a_control_group_bounds_both),
#if defined(__linux__)
        cmocka_unit_test(the_least_of_memory_and_all_groups_around_counts),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
