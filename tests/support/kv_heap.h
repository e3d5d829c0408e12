/*
 * Memory for pages of a KV cache without a backend: zeroed, from the heap.
 * Owner: the arena that asks for it. Lifetime: until it gives it back.
 */
#ifndef MLXR_TEST_KV_HEAP_H
#define MLXR_TEST_KV_HEAP_H

#include "kernels/backend.h"

extern const backend_ops kv_heap;

#endif
