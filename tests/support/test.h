/*
 * What every native test includes: cmocka with the headers it needs.
 * Owner: the test program. Lifetime: the process.
 */
#ifndef MLXR_TEST_H
#define MLXR_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mlxr.h"

/* Is this compiled with AddressSanitizer? */
#if defined(__SANITIZE_ADDRESS__)
#define TEST_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_SANITIZED
#endif
#endif

/* A directory for this test program's files, made anew for the process and removed by the OS's cleaning of /tmp or by
 * test_remove_dir. */
const char *test_temp_dir(void);
/* Writes a file into test_temp_dir() and returns its path (static buffer of the last 8 calls). */
const char *test_write_file(const char *name, const void *data, size_t n);

/* Deterministic 64-bit generator for test data (splitmix64). */
uint64_t test_random(uint64_t *state);

#define assert_ok(status, error)                                                                                       \
    do {                                                                                                               \
        mlxr_status assert_ok_status = (status);                                                                       \
        if (assert_ok_status != MLXR_OK) {                                                                             \
            fail_msg("%s: %s", mlxr_status_text(assert_ok_status), (error)->text);                                     \
        }                                                                                                              \
    } while (0)

#endif
