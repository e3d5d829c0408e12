/*
 * Opening a shared library at its first call.
 * Owner: see lazy_library.h. Lifetime: the process's: nothing is ever closed.
 */
#include "libraries/lazy_library.h"

#include <dlfcn.h>
#include <stddef.h>

static void *open_library(lazy_library *library)
{
    void *handle = atomic_load_explicit(&library->handle, memory_order_acquire);
    if (!handle) { /* two threads at once: the loader counts, and gives both the same handle */
        handle = dlopen(library->name, RTLD_NOW | RTLD_LOCAL);
        atomic_store_explicit(&library->handle, handle, memory_order_release);
    }
    return handle;
}

uintptr_t lazy_function(lazy_library *library, _Atomic(uintptr_t) *known, const char *name)
{
    uintptr_t at = atomic_load_explicit(known, memory_order_relaxed);
    void *handle = at ? NULL : open_library(library);
    if (handle) {
        at = (uintptr_t)dlsym(handle, name);
        atomic_store_explicit(known, at, memory_order_relaxed);
    }
    return at;
}
