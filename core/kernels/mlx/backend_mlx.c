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
#include "kernels/mlx/check.h"
#include "kernels/mlx/program.h"
#include "kernels/mlx/verdicts.h"
#include "kernels/mlx/worker.h"

/* Buffers that MLX keeps for the next step. */
#define CACHE_BYTES ((size_t)256 << 20)

struct backend {
    mlx_worker *worker;
    team *threads; /* of the host, for sampling */
    program_device device;
    weight_set *sets; /* of the models that have programs */
    char numerics[80];
};

/* A call on its way to the worker's thread, and its answer. */
typedef struct call {
    backend *b;
    const plan *p;
    program **prog;
    const step *s;
    const kernel_vector *vectors;
    kernel_report *report;
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

static void do_check(void *context)
{
    call *c = context;
    c->status = mlx_check_kernels(&c->b->device, c->vectors, c->report, c->error);
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

/* Which of our kernels this device does without. */
static void read_verdicts(backend *b, const backend_options *options)
{
    char warning[300] = "";
    const verdicts_key key = {b->device.device.name, b->device.device.version};
    if (options->kernel_file) {
        verdicts_read(options->kernel_file, &key, &b->device.choices, warning, sizeof warning);
    }
    if (*warning && options->warn) {
        options->warn(options->warn_user, warning);
    }
}

/* Pages are computed alike where this is the same: the library, the device, the kernels and how they are cut. */
static void name_numerics(backend *b)
{
    static const unit_choices usual;
    const bridge_device *d = &b->device.device;
    const unit_choices *choices = &b->device.choices;
    int n = snprintf(b->numerics, sizeof b->numerics, "MLX %s %s%s", d->version, d->gpu ? "Metal" : "CPU",
                     b->device.kernels ? " with MLXR's kernels" : "");
    uint64_t digest = unit_digest_add(UNIT_DIGEST_BEGIN, choices->off, sizeof choices->off);
    digest = unit_digest_add(digest, choices->threads, sizeof choices->threads);
    if (memcmp(choices, &usual, sizeof usual) != 0) {
        snprintf(b->numerics + n, sizeof b->numerics - (size_t)n, " but %08x", (uint32_t)digest);
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
    b->device.sets = &b->sets;
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
    if (kernels) {
        read_verdicts(b, options);
    }
    name_numerics(b);
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

mlxr_status backend_mlx_check(backend *b, const kernel_vector *vectors, const char *file, kernel_report *out,
                              mlxr_error *error)
{
    const verdicts_key key = {b->device.device.name, b->device.device.version};
    mlxr_status status = backend_call(&(call){.b = b, .vectors = vectors, .report = out, .error = error}, do_check);
    if (status == MLXR_OK && file) {
        status = verdicts_write(file, &key, out, error);
    }
    return status;
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

static mlxr_status mlx_check(backend *b, const char *file, kernel_report *out, mlxr_error *error)
{
    return backend_mlx_check(b, kernel_vectors, file, out, error);
}

/* One table but for the name and what opening chooses. MLX picks its kernels by the number of rows. */
#define MLX_BACKEND(the_name, how_to_open, how_to_check)                                                               \
    {                                                                                                                  \
        .name = the_name,                                                                                              \
        .batch = BATCH_MATTERS,                                                                                        \
        .open = how_to_open,                                                                                           \
        .close = mlx_close,                                                                                            \
        .prepare = mlx_prepare,                                                                                        \
        .release = mlx_release,                                                                                        \
        .kv_alloc = mlx_kv_alloc,                                                                                      \
        .kv_free = mlx_kv_free,                                                                                        \
        .kv_discard = mlx_kv_discard,                                                                                  \
        .run = mlx_run,                                                                                                \
        .parallel = mlx_parallel,                                                                                      \
        .numerics = mlx_numerics,                                                                                      \
        .check_kernels = how_to_check,                                                                                 \
    }

const backend_ops backend_mlx = MLX_BACKEND("mlx", mlx_open, NULL);
const backend_ops backend_mlx_metal = MLX_BACKEND("mlx-metal", mlx_open_with_kernels, mlx_check);
