/*
 * What tests of stores on failing disks share.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/fault_store.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support/test.h"

char fault_context[128];

void fault_every_operation(const fault_workloads *w)
{
    static const char *const modes[] = {"ENOSPC", "EIO", "short", "SIGKILL"};
    uint64_t n_all = 0;
    for (size_t i = 0; i < w->n; i++) {
        for (int mode = 0; mode < FAULT_N_MODES; mode++) {
            uint64_t n = 1;
            for (bool fired = true; fired; n++) {
                snprintf(fault_context, sizeof fault_context, "%s, operation %llu, %s", w->name(i),
                         (unsigned long long)n, modes[mode]);
                fired = w->fail_at(i, n, (fault_mode)mode);
            }
            n_all += n - 2;
            print_message("%s: %llu operations, %s\n", w->name(i), (unsigned long long)n - 2, modes[mode]);
        }
    }
    print_message("%llu faults\n", (unsigned long long)n_all);
}

void fault_allocations(const fault_workloads *w, long n_tried)
{
    uint64_t seed = 20;
    long n_all = 0;
    bool soak = getenv("MLXR_SOAK") != NULL;
    for (size_t i = 0; i < w->n; i++) {
        snprintf(fault_context, sizeof fault_context, "%s", w->name(i));
        const long n_allocations = w->count_allocations(i), n = soak ? n_allocations : n_tried / (long)w->n;
        for (long k = 1; k <= n; k++) {
            long which = soak ? k : 1 + (long)(test_random(&seed) % (uint64_t)n_allocations);
            snprintf(fault_context, sizeof fault_context, "%s, allocation %ld", w->name(i), which);
            w->starve(i, which);
        }
        print_message("%s: %ld of %ld allocations\n", w->name(i), n, n_allocations);
        n_all += n;
    }
    print_message("%ld allocations failed\n", n_all);
}

bool fault_was_killed(pid_t child)
{
    int result;
    check(waitpid(child, &result, 0) == child);
    bool killed = WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL;
    check(killed || (WIFEXITED(result) && WEXITSTATUS(result) == 0));
    return killed;
}

void fault_make_base(char *base, size_t cap, const char *name)
{
    struct stat info;
    snprintf(base, cap, "%s", test_temp_dir());
    if (stat("/dev/shm", &info) == 0 && S_ISDIR(info.st_mode)) {
        snprintf(base, cap, "/dev/shm/mlxr-%s-%d", name, (int)getpid());
        mkdir(base, 0700);
    }
}

void fault_fresh(const char *base, const char *template, char *dir, size_t cap)
{
    char from[600];
    snprintf(from, sizeof from, "%s/%s", base, template);
    snprintf(dir, cap, "%s/store", base);
    fault_remove_tree(dir);
    fault_copy_tree(from, dir);
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

fault_clock fault_clock_begin(void)
{
    return (fault_clock){.real = seconds(CLOCK_MONOTONIC), .own = seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

bool fault_was_quick(fault_clock began)
{
    return seconds(CLOCK_MONOTONIC) - began.real < 2 || seconds(CLOCK_PROCESS_CPUTIME_ID) - began.own < 0.2;
}
