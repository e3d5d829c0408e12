/*
 * Tests of core/base/memory_size, as far as any machine can show them.
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes_are_plausible),
                                       cmocka_unit_test(a_control_group_bounds_both)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
