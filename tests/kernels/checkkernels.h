/*
 * checkkernels: shared by the files that check one kind of kernel each.
 * Owner: main. Lifetime: the process. One thread, except inside a benchmark's team.
 *
 * To add a kind: a file check_<kind>.c that defines `const check_suite check_<kind>`, and its name in CHECK_SUITES.
 */
#ifndef MLXR_TESTS_CHECKKERNELS_H
#define MLXR_TESTS_CHECKKERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/cpu.h"
#include "base/team.h"

#define CHECK_SUITES(X)                                                                                                \
    X(linear)                                                                                                          \
    X(linear_pack)                                                                                                     \
    X(rows)                                                                                                            \
    X(attention)                                                                                                       \
    X(encode)

typedef struct check {
    uint64_t seed;         /* of this run; a failure prints it */
    uint64_t random;       /* state of check_random */
    bool quick;            /* fewer cases: under ten seconds in all */
    const char *type;      /* --type: only this weight type, or NULL */
    const char *shape;     /* --shape: only benchmark shapes that contain this, or NULL */
    cpu_features features; /* of the set under test */
    const char *set;       /* its name */
    uint32_t n_threads;    /* of a benchmark */
    bool rounded;          /* benchmarks round the inputs of products to 8 bits */
    bool hot;              /* benchmarks read the same data again and again: from the caches */
    bool laid;             /* benchmarks: of weights that are laid, where the set lays them */
    uint64_t n_cases, n_failed;
} check;

typedef struct check_suite {
    const char *name;
    void (*run)(check *c);   /* checks the kernels of c->features */
    void (*bench)(check *c); /* or NULL */
    bool of_products;        /* kernels of linear_kernels, not of ops_table */
} check_suite;

#define CHECK_DECLARE(name) extern const check_suite check_##name;
CHECK_SUITES(CHECK_DECLARE)
#undef CHECK_DECLARE

/* splitmix64 */
uint64_t check_random(check *c);
uint32_t check_below(check *c, uint32_t n); /* 0 … n − 1 */
float check_uniform(check *c, float low, float high);
float check_normal(check *c);

/* Memory between two guard pages: touching a byte before or after it ends the program. `at_end` puts the last byte
 * right before the rear guard, whatever alignment that gives the first; otherwise the first byte follows the front
 * guard. */
typedef struct check_memory {
    uint8_t *bytes;
    size_t n_bytes;
    void *map;
    size_t map_bytes;
} check_memory;
check_memory check_alloc(size_t n_bytes, bool at_end);
void check_free(check_memory *m);

/* A value no kernel computes, to see what was not written. */
float check_canary(void);
bool check_is_canary(float f);

/* Counts a case; a failure prints the suite's line with set and seed. The first few are shown, all are counted. */
void check_result(check *c, bool ok, const char *format, ...) __attribute__((format(printf, 3, 4)));

double check_seconds(void);

/* The greater of two errors; NaN is worse than any and stays, which fmax would drop. */
static inline double check_worse(double worst, double error)
{
    return error <= worst || worst != worst ? worst : error;
}

#endif
