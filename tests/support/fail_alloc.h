/*
 * Lets a chosen allocation of the code under test fail, to walk every out-of-memory path.
 * Owner: the test program. Lifetime: the process; one test at a time, allocations may come from any thread.
 *
 * Works in programs named test_*_alloc.c, which are linked with --wrap for malloc, calloc, realloc, aligned_alloc,
 * posix_memalign and strdup. Calls made inside shared libraries (jansson, pcre2) are not seen.
 *
 *     for (long n = 1;; n++) {
 *         fail_alloc_at(n);
 *         mlxr_status status = thing_open(&thing, …);
 *         if (!fail_alloc_stop()) {   // it needed fewer than n allocations, so none failed
 *             assert_int_equal(status, MLXR_OK);
 *             break;
 *         }
 *         assert_int_equal(status, MLXR_NOMEM);
 *         … nothing visible has changed …
 *     }
 */
#ifndef MLXR_TEST_FAIL_ALLOC_H
#define MLXR_TEST_FAIL_ALLOC_H

#include <stdbool.h>

/* The n-th allocation from now on returns NULL (n = 1: the next one), the others do not. */
void fail_alloc_at(long n);
/* The n-th and all later ones return NULL. */
void fail_alloc_from(long n);
/* Back to normal. True if an allocation was made to fail. */
bool fail_alloc_stop(void);
/* Allocations seen since fail_alloc_at or fail_alloc_from. */
long fail_alloc_count(void);

#endif
