/*
 * What kernels fetch, told instead: compiled into their sources by -include, in front of all that they include.
 * Owner: the test program. Lifetime: the process.
 */
#ifndef MLXR_TESTS_FETCHED_H
#define MLXR_TESTS_FETCHED_H

#include <immintrin.h>

void fetched(const void *address);
#define __builtin_prefetch(address, ...) fetched(address)

#endif
