/*
 * Failing allocations on demand, by the linker's --wrap.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/fail_alloc.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_long seen, first = LONG_MAX, last;
static atomic_bool failed;

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
int __real_posix_memalign(void **out, size_t alignment, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
int __wrap_posix_memalign(void **out, size_t alignment, size_t n);
char *__wrap_strdup(const char *text);

static void arm(long from, long to)
{
    atomic_store(&failed, false);
    atomic_store(&seen, 0);
    atomic_store(&last, to);
    atomic_store(&first, from);
}

void fail_alloc_at(long n)
{
    arm(n, n);
}

void fail_alloc_from(long n)
{
    arm(n, LONG_MAX);
}

bool fail_alloc_stop(void)
{
    atomic_store(&first, LONG_MAX);
    return atomic_load(&failed);
}

long fail_alloc_count(void)
{
    return atomic_load(&seen);
}

static bool must_fail(void)
{
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (number < atomic_load(&first) || number > atomic_load(&last)) {
        return false;
    }
    atomic_store(&failed, true);
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return must_fail() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return must_fail() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t n)
{
    return must_fail() ? NULL : __real_realloc(memory, n);
}

void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
    return must_fail() ? NULL : __real_aligned_alloc(alignment, n);
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t n)
{
    return must_fail() ? ENOMEM : __real_posix_memalign(out, alignment, n);
}

char *__wrap_strdup(const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = must_fail() ? NULL : __real_malloc(n);
    return copy ? memcpy(copy, text, n) : NULL;
}
