/*
 * MLX as a backend: Metal on a Mac, MLX's own CPU code elsewhere (slow; there for tests).
 * Owner: the engine. Lifetime: open to close. Any one thread at a time; MLX itself sees only the worker's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/mapping.h"
#include "base/memory_size.h"
#include "base/team.h"
#include "kernels/mlx/backend_mlx.h"
#include "kernels/mlx/program.h"
#include "kernels/mlx/worker.h"

/* Buffers that MLX keeps for the next step. */
#define CACHE_BYTES ((size_t)256 << 20)

struct backend {
    mlx_worker *worker;
    team *threads; /* of the host, for sampling */
    program_device device;
    char numerics[64];
};

/* A call on its way to the worker's thread, and its answer. */
typedef struct call {
    backend *b;
    const plan *p;
    program **prog;
    const step *s;
    mlxr_error *error;
    mlxr_status status;
} call;

static void do_open(void *context)
{
    call *c = context;
    bridge_device *d = &c->b->device.device;
    c->status = bridge_open(d, c->error);
    if (c->status == MLXR_OK) {
        /* Wired memory is taken from everybody else: at most half of what there is. */
        bridge_limit(CACHE_BYTES, (size_t)(memory_total() / 2));
        snprintf(c->b->numerics, sizeof c->b->numerics, "MLX %s %s%s", d->version, d->gpu ? "Metal" : "CPU",
                 c->b->device.kernels ? " with MLXR's kernels" : "");
        if (c->b->device.kernels && !d->gpu && !c->b->device.failures) {
            c->status = error_set(c->error, MLXR_UNSUPPORTED, "MLXR's kernels need Metal, and MLX %s has none here",
                                  d->version);
        }
    }
}

static void do_prepare(void *context)
{
    call *c = context;
    c->status = mlx_program_open(c->prog, c->p, &c->b->device, c->error);
}

static void do_release(void *context)
{
    call *c = context;
    mlx_program_close(c->prog);
}

static void do_run(void *context)
{
    call *c = context;
    c->status = mlx_program_run(*c->prog, c->s, c->error);
}

static mlxr_status backend_call(call *c, void (*fn)(void *context))
{
    mlx_worker_run(c->b->worker, fn, c);
    return c->status;
}

static void mlx_close(backend **pointer)
{
    backend *b = *pointer;
    if (b) {
        mlx_worker_close(&b->worker);
        team_close(&b->threads);
        bridge_failures_close(&b->device.failures);
        free(b);
        *pointer = NULL;
    }
}

static mlxr_status open_device(backend **out, const backend_options *options, bool kernels, const kernel_runner *runner,
                               mlxr_error *error)
{
    backend *b = calloc(1, sizeof *b);
    if (!b) {
        return error_nomem(error, "backend", sizeof *b);
    }
    b->device.kernels = kernels;
    b->device.failures = runner ? bridge_failures_open(runner) : NULL;
    mlxr_status status = runner && !b->device.failures ? error_nomem(error, "kernel runner", sizeof *runner) : MLXR_OK;
    if (status == MLXR_OK) {
        status = mlx_worker_open(&b->worker, error);
    }
    if (status == MLXR_OK) {
        status = team_open(&b->threads, options->n_threads, error);
    }
    if (status == MLXR_OK) {
        status = backend_call(&(call){.b = b, .error = error}, do_open);
    }
    if (status != MLXR_OK) {
        mlx_close(&b);
        return status;
    }
    *out = b;
    return MLXR_OK;
}

static mlxr_status mlx_open(backend **out, const backend_options *options, mlxr_error *error)
{
    return open_device(out, options, false, NULL, error);
}

static mlxr_status mlx_open_with_kernels(backend **out, const backend_options *options, mlxr_error *error)
{
    return open_device(out, options, true, NULL, error);
}

mlxr_status backend_mlx_open_with_runner(backend **out, const backend_options *options, const kernel_runner *runner,
                                         mlxr_error *error)
{
    return open_device(out, options, true, runner, error);
}

static mlxr_status mlx_prepare(backend *b, const plan *p, program **out, mlxr_error *error)
{
    return backend_call(&(call){.b = b, .p = p, .prog = out, .error = error}, do_prepare);
}

static void mlx_release(backend *b, program **prog)
{
    if (*prog) {
        backend_call(&(call){.b = b, .prog = prog}, do_release);
    }
}

/* Whole pages of the system, which is what Metal takes without a copy. */
static mlxr_status mlx_kv_alloc(backend *b, size_t n_bytes, void **out, mlxr_error *error)
{
    (void)b;
    if (n_bytes == 0 || n_bytes > SIZE_MAX / 2) {
        return error_set(error, MLXR_ARG, "KV memory of %zu bytes cannot be allocated", n_bytes);
    }
    void *memory = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return error_nomem(error, "KV memory", n_bytes);
    }
    *out = memory;
    return MLXR_OK;
}

static void mlx_kv_free(backend *b, void **memory, size_t n_bytes)
{
    (void)b;
    if (*memory) {
        munmap(*memory, n_bytes);
        *memory = NULL;
    }
}

static void mlx_kv_discard(backend *b, void *part, size_t n_bytes)
{
    (void)b;
    memory_discard(part, n_bytes);
}

static mlxr_status mlx_run(backend *b, program *prog, const step *s, mlxr_error *error)
{
    return backend_call(&(call){.b = b, .prog = &prog, .s = s, .error = error}, do_run);
}

typedef struct parallel_call {
    void (*fn)(void *context, uint32_t index, uint32_t n);
    void *context;
} parallel_call;

static void parallel_member(void *context, const team_member *member)
{
    const parallel_call *p = context;
    p->fn(p->context, member->index, member->n_threads);
}

static void mlx_parallel(backend *b, void (*fn)(void *context, uint32_t index, uint32_t n), void *context)
{
    parallel_call p = {fn, context};
    team_run(b->threads, parallel_member, &p);
}

static const char *mlx_numerics(const backend *b)
{
    return b->numerics;
}

const backend_ops backend_mlx = {
    .name = "mlx",
    .batch_invariant = false, /* MLX picks its kernels by the number of rows */
    .open = mlx_open,
    .close = mlx_close,
    .prepare = mlx_prepare,
    .release = mlx_release,
    .kv_alloc = mlx_kv_alloc,
    .kv_free = mlx_kv_free,
    .kv_discard = mlx_kv_discard,
    .run = mlx_run,
    .parallel = mlx_parallel,
    .numerics = mlx_numerics,
};

const backend_ops backend_mlx_metal = {
    .name = "mlx-metal",
    .batch_invariant = false, /* MLX picks its kernels by the number of rows */
    .open = mlx_open_with_kernels,
    .close = mlx_close,
    .prepare = mlx_prepare,
    .release = mlx_release,
    .kv_alloc = mlx_kv_alloc,
    .kv_free = mlx_kv_free,
    .kv_discard = mlx_kv_discard,
    .run = mlx_run,
    .parallel = mlx_parallel,
    .numerics = mlx_numerics,
};
