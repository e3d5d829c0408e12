/*
 * Fibres: a stack of its own for each thread of a threadgroup, switched to and from by hand; sanitizers are told.
 * Owner: the run that opened the pool. Lifetime: the pool's. A pool belongs to one thread.
 */
#ifndef METAL_EMULATOR_FIBRE_H
#define METAL_EMULATOR_FIBRE_H

#include <stddef.h>
#include <stdint.h>

namespace metal_emulator
{

struct fibre {
    void *stack_pointer;
    char *stack; /* fibre_pool::stack_bytes, behind a page that may not be touched */
    void *fake_stack, *tsan;
};

struct fibre_pool {
    fibre *fibres; /* [n] */
    uint32_t n;
    fibre home; /* the thread that runs the others */
    const void *home_stack;
    size_t home_bytes;
    char *map;
    size_t map_bytes, stack_bytes;
};

/* False where there is no memory. */
bool fibre_pool_open(fibre_pool *pool, uint32_t n);
void fibre_pool_close(fibre_pool *pool);
/* New lives for all fibres: each will run `main` from its start. Under ThreadSanitizer they are other threads than
 * before, in fresh memory. */
bool fibre_pool_begin(fibre_pool *pool, void (*main)());
/* Runs fibre i until it calls fibre_leave. */
void fibre_enter(fibre_pool *pool, uint32_t i);
/* Back to home. `last`: this life is over. */
void fibre_leave(fibre_pool *pool, uint32_t i, bool last);

/* Ordering as ThreadSanitizer sees it; nothing elsewhere. */
void order_release(void *at);
void order_acquire(void *at);
/* True under ThreadSanitizer, where memory that threadgroups share must be new for each. */
bool order_watched();
/* Address space whose history ThreadSanitizer does not know. NULL where there is none. */
void *fresh_map(size_t n_bytes);
void fresh_unmap(void *at, size_t n_bytes);

} // namespace metal_emulator

#endif
