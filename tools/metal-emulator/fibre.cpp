/*
 * Fibres.
 * Owner: see fibre.h. Lifetime: the pool's.
 *
 * This file and runtime.cpp are compiled without sanitizers: what they do between fibres is no access of a kernel. They
 * tell the sanitizers of the kernels about stacks and order (METAL_EMULATOR_ASAN, METAL_EMULATOR_TSAN).
 */
#include "fibre.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if METAL_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if METAL_EMULATOR_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__x86_64__)
/* switch_stack(void **from, void *to): the registers a function must keep go onto the old stack and come from the new.
 */
asm(R"(
    .text
    .p2align 4
    .type metal_emulator_switch, @function
metal_emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    retq
    .size metal_emulator_switch, . - metal_emulator_switch
)");
#elif defined(__aarch64__)
asm(R"(
    .text
    .p2align 4
    .type metal_emulator_switch, %function
metal_emulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size metal_emulator_switch, . - metal_emulator_switch
)");
#else
#error "the Metal emulator switches stacks on x86-64 and ARM64 only"
#endif
extern "C" void metal_emulator_switch(void **from, void *to);

namespace metal_emulator
{

static void switch_to(fibre *from, fibre *to, const void *stack, size_t n_bytes, bool last)
{
#if METAL_EMULATOR_ASAN
    __sanitizer_start_switch_fiber(last ? nullptr : &from->fake_stack, stack, n_bytes);
#endif
#if METAL_EMULATOR_TSAN
    __tsan_switch_to_fiber(to->tsan, __tsan_switch_to_fiber_no_sync);
#endif
    metal_emulator_switch(&from->stack_pointer, to->stack_pointer);
#if METAL_EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
    (void)stack, (void)n_bytes, (void)last;
}

void fibre_enter(fibre_pool *pool, uint32_t i)
{
    fibre *f = &pool->fibres[i];
    switch_to(&pool->home, f, f->stack, pool->stack_bytes, false);
}

void fibre_leave(fibre_pool *pool, uint32_t i, bool last)
{
    switch_to(&pool->fibres[i], &pool->home, pool->home_stack, pool->home_bytes, last);
}

/* Where a fibre's life begins: on its own stack, come from home. */
static thread_local fibre_pool *entered;
static thread_local void (*life)();

extern "C" void metal_emulator_life()
{
#if METAL_EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &entered->home_stack, &entered->home_bytes);
#endif
    life();
    abort(); /* a life ends by fibre_leave(…, true) */
}

/* A stack as metal_emulator_switch would have left it, about to return into metal_emulator_life. */
static void lay_out(fibre *f, size_t stack_bytes)
{
    void **top = reinterpret_cast<void **>(f->stack + stack_bytes) - 2;
    auto begin = reinterpret_cast<void *>(metal_emulator_life);
#if defined(__x86_64__)
    *--top = nullptr; /* no return address: the stack is 16-byte aligned before a call */
    *--top = begin;
    for (int i = 0; i < 6; i++) {
        *--top = nullptr;
    }
#else
    top -= 20;
    for (int i = 0; i < 20; i++) {
        top[i] = i == 11 ? begin : nullptr;
    }
#endif
    f->stack_pointer = top;
}

static bool map_stacks(fibre_pool *pool)
{
    size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), each = pool->stack_bytes + page;
    pool->map_bytes = each * pool->n;
    pool->map = static_cast<char *>(fresh_map(pool->map_bytes));
    for (uint32_t i = 0; pool->map && i < pool->n; i++) {
        pool->fibres[i].stack = pool->map + i * each + page;
        if (!order_watched()) { /* there stacks are mapped anew for each group: guards would cost more than all else */
            mprotect(pool->map + i * each, page, PROT_NONE);
        }
    }
    return pool->map != nullptr;
}

bool fibre_pool_open(fibre_pool *pool, uint32_t n)
{
    *pool = {};
    pool->n = n;
    pool->stack_bytes = 64 << 10;
    pool->fibres = static_cast<fibre *>(calloc(n, sizeof *pool->fibres));
    if (!pool->fibres || !map_stacks(pool)) {
        fibre_pool_close(pool);
        return false;
    }
    return true;
}

static void end_lives(fibre_pool *pool)
{
#if METAL_EMULATOR_TSAN
    for (uint32_t i = 0; pool->fibres && i < pool->n; i++) {
        if (pool->fibres[i].tsan) {
            __tsan_destroy_fiber(pool->fibres[i].tsan);
            pool->fibres[i].tsan = nullptr;
        }
    }
#endif
    (void)pool;
}

void fibre_pool_close(fibre_pool *pool)
{
    end_lives(pool);
#if METAL_EMULATOR_ASAN
    if (pool->map) { /* lives that were given up have left their frames marked */
        __asan_unpoison_memory_region(pool->map, pool->map_bytes);
    }
#endif
    if (pool->map) {
        fresh_unmap(pool->map, pool->map_bytes);
    }
    free(pool->fibres);
    *pool = {};
}

bool fibre_pool_begin(fibre_pool *pool, void (*main)())
{
    entered = pool;
    life = main;
    end_lives(pool);
    if (order_watched()) {
        fresh_unmap(pool->map, pool->map_bytes);
        if (!map_stacks(pool)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < pool->n; i++) {
#if METAL_EMULATOR_TSAN
        pool->home.tsan = __tsan_get_current_fiber();
        pool->fibres[i].tsan = __tsan_create_fiber(0);
#endif
        lay_out(&pool->fibres[i], pool->stack_bytes);
    }
    return true;
}

void order_release(void *at)
{
#if METAL_EMULATOR_TSAN
    __tsan_release(at);
#endif
    (void)at;
}

void order_acquire(void *at)
{
#if METAL_EMULATOR_TSAN
    __tsan_acquire(at);
#endif
    (void)at;
}

bool order_watched()
{
    return METAL_EMULATOR_TSAN;
}

void *fresh_map(size_t n_bytes)
{
    void *at = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
}

void fresh_unmap(void *at, size_t n_bytes)
{
    munmap(at, n_bytes);
}

} // namespace metal_emulator
