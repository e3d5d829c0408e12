/*
 * Memory for pages of a KV cache without a backend.
 * Owner: the arena that asks for it. Lifetime: until it gives it back.
 */
#include "support/kv_heap.h"

#include <stdlib.h>

#include "base/error.h"

static mlxr_status heap_alloc(backend *b, size_t n_bytes, void **out, mlxr_error *error)
{
    (void)b;
    *out = calloc(1, n_bytes);
    return *out ? MLXR_OK : error_nomem(error, "pages", n_bytes);
}

static void heap_free(backend *b, void **memory, size_t n_bytes)
{
    (void)b, (void)n_bytes;
    free(*memory);
    *memory = NULL;
}

const backend_ops kv_heap = {.name = "heap", .kv_alloc = heap_alloc, .kv_free = heap_free};
