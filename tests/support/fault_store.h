/*
 * What tests of stores on failing disks (fault_io.h) share: each operation and some allocations of each workload in
 * turn, fresh copies of a store, and how long one takes to open. Owner: the test program. Lifetime: the process.
 */
#ifndef MLXR_TEST_FAULT_STORE_H
#define MLXR_TEST_FAULT_STORE_H

#include <stddef.h>
#include <sys/types.h>

#include "support/fault_io.h"

/* Which fault it is, for messages. */
extern char fault_context[128];

#define check(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fail_msg("%s: %s", fault_context, #condition);                                                             \
        }                                                                                                              \
    } while (0)

/* A workload is named by its index. */
typedef struct fault_workloads {
    size_t n;
    const char *(*name)(size_t i);
    /* With the n-th operation failing, and what must hold then; false: there is none. */
    bool (*fail_at)(size_t i, uint64_t n, fault_mode mode);
    long (*count_allocations)(size_t i);
    void (*starve)(size_t i, long n);
} fault_workloads;

void fault_every_operation(const fault_workloads *w);
/* All of them with MLXR_SOAK, else n_tried at random, as many of each workload. */
void fault_allocations(const fault_workloads *w, long n_tried);

/* Waits for a child that ends well, or was killed: true. */
bool fault_was_killed(pid_t child);

/* A new directory for stores: in memory, if there is one. */
void fault_make_base(char *base, size_t cap, const char *name);
/* dir: base/store, as base/template is. */
void fault_fresh(const char *base, const char *template, char *dir, size_t cap);

/* Opening a store, from `began` on: it has to be done at once, by the clock or, where the machine was busy with others,
 * by what it took itself. */
typedef struct fault_clock {
    double real, own; /* seconds */
} fault_clock;
fault_clock fault_clock_begin(void);
bool fault_was_quick(fault_clock began);

#endif
