/*
 * The CPU as a backend: a thread team, KV memory from the heap, programs walked by the team.
 * Owner: the engine. Lifetime: open to close. One thread at a time, the one that opened it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mapping.h"
#include "base/team.h"
#include "kernels/backend.h"
#include "kernels/cpu/limits_team.h"
#include "kernels/cpu/program.h"

#define PAGE_BYTES 4096u
/* The first part of KV memory begins in small pages: a large one that is resident for a little of it would show beside
 * a small cache, and is nothing beside a large one. What is in use of it is gathered into large ones. */
#define SMALL_PAGES_BYTES ((size_t)16 << 20)
/* At a time: two large pages at most, about a millisecond; and one whatever the address begins with. */
#define GATHER_BYTES ((size_t)4 << 20)

struct backend {
    backend_options options;
    team *threads;
};

static mlxr_status cpu_open(backend **out, const backend_options *options, mlxr_error *error)
{
    backend *b = calloc(1, sizeof *b);
    if (!b) {
        return error_nomem(error, "backend", sizeof *b);
    }
    b->options = *options;
    mlxr_status status = team_open(&b->threads, options->n_threads, error);
    if (status != MLXR_OK) {
        free(b);
        return status;
    }
    *out = b;
    return MLXR_OK;
}

static mlxr_status cpu_open_scalar(backend **out, const backend_options *options, mlxr_error *error)
{
    backend_options scalar = *options;
    scalar.scalar = true;
    return cpu_open(out, &scalar, error);
}

static void cpu_close(backend **pointer)
{
    if (*pointer) {
        team_close(&(*pointer)->threads);
        free(*pointer);
        *pointer = NULL;
    }
}

static mlxr_status cpu_prepare(backend *b, const plan *p, program **out, mlxr_error *error)
{
    return program_open(out, p, &b->options, error);
}

static void cpu_release(backend *b, program **prog)
{
    (void)b;
    program_close(prog);
}

static program_halves cpu_halves(const program *prog)
{
    few_counts counts = few_count(prog);
    uint64_t few = few_kept_bytes(prog), copy = copy_kept_bytes(prog); /* memory never holds both */
    return (program_halves){.bytes_most = few > copy ? few : copy,
                            .bytes_kept = counts.n_bytes_kept + copy_count(prog).n_bytes_kept,
                            .bytes_saved = counts.n_bytes_saved,
                            .n_steps = counts.n_screened - counts.n_whole,
                            .prepares = counts.prepares,
                            .lays = laid_count(prog).prepares};
}

static void cpu_refuse_halves(program *prog)
{
    few_refuse(prog);
    copy_refuse(prog);
    laid_refuse(prog);
}

static mlxr_status cpu_kv_alloc(backend *b, size_t n_bytes, void **out, mlxr_error *error)
{
    (void)b;
    if (n_bytes == 0 || n_bytes > SIZE_MAX / 2) {
        return error_set(error, MLXR_ARG, "KV memory of %zu bytes cannot be allocated", n_bytes);
    }
    /* calloc maps fresh zero pages for a block of this size without touching them; the slack pays for the alignment
     * and holds the pointer to free. */
    uint8_t *block = calloc(1, n_bytes + 2 * PAGE_BYTES);
    if (!block) {
        return error_nomem(error, "KV memory", n_bytes);
    }
    uint8_t *aligned = block + PAGE_BYTES - (uintptr_t)block % PAGE_BYTES; /* 16 bytes on at least: room for block */
    memcpy(aligned - sizeof block, &block, sizeof block);
    if (n_bytes > SMALL_PAGES_BYTES) { /* a head's keys are 4 KiB here and 4 KiB there */
        memory_in_large_pages(aligned + SMALL_PAGES_BYTES, n_bytes - SMALL_PAGES_BYTES);
    }
    *out = aligned;
    return MLXR_OK;
}

static void cpu_kv_free(backend *b, void **memory, size_t n_bytes)
{
    (void)b;
    (void)n_bytes;
    if (*memory) {
        void *block;
        memcpy(&block, (uint8_t *)*memory - sizeof block, sizeof block);
        free(block);
        *memory = NULL;
    }
}

static void cpu_kv_discard(backend *b, void *part, size_t n_bytes)
{
    (void)b;
    memory_discard(part, n_bytes);
}

static size_t cpu_kv_gather(backend *b, void *memory, size_t begin, size_t end)
{
    (void)b;
    if (begin >= SMALL_PAGES_BYTES + GATHER_BYTES) { /* large ones from the first touch on, wherever the border lies */
        return end;
    }
    if (end - begin < GATHER_BYTES) {
        return begin;
    }
    size_t n = memory_gather((uint8_t *)memory + begin, GATHER_BYTES);
    return n ? begin + n : end;
}

static mlxr_status cpu_run(backend *b, program *prog, const step *s, mlxr_error *error)
{
    return program_run(prog, b->threads, s, error);
}

typedef struct parallel_call {
    void (*fn)(void *context, uint32_t index, uint32_t n);
    void *context;
} parallel_call;

static void parallel_member(void *context, const team_member *member)
{
    const parallel_call *call = context;
    call->fn(call->context, member->index, member->n_threads);
}

static void cpu_parallel(backend *b, void (*fn)(void *context, uint32_t index, uint32_t n), void *context)
{
    parallel_call call = {fn, context};
    team_run(b->threads, parallel_member, &call);
}

static mlxr_status cpu_limit(backend *b, const char *what, size_t n_bytes, double *per_s, mlxr_error *error)
{
    cpu_features features = b->options.scalar ? 0 : b->options.features;
    if (strcmp(what, "read") == 0) {
        return limits_read_rate(b->threads, features, n_bytes, per_s, error);
    }
    return limits_peak_rate(b->threads, features, what, per_s, error);
}

#if defined(__x86_64__)
#define WORDS_PAY true
#else
#define WORDS_PAY false /* never measured on an ARM core */
#endif

/* One table but for the name and what opening chooses. No kernel's results depend on the batch, asked or not: see
 * check_linear.c, check_attention.c. */
#define CPU_BACKEND(the_name, how_to_open)                                                                             \
    {                                                                                                                  \
        .name = the_name,                                                                                              \
        .batch = BATCH_NEVER_MATTERS,                                                                                  \
        .rounds_activations = true,                                                                                    \
        .tells_experts = true,                                                                                         \
        .open = how_to_open,                                                                                           \
        .close = cpu_close,                                                                                            \
        .prepare = cpu_prepare,                                                                                        \
        .release = cpu_release,                                                                                        \
        .halves = cpu_halves,                                                                                          \
        .refuse_halves = cpu_refuse_halves,                                                                            \
        .kv_alloc = cpu_kv_alloc,                                                                                      \
        .kv_free = cpu_kv_free,                                                                                        \
        .kv_discard = cpu_kv_discard,                                                                                  \
        .kv_gather = cpu_kv_gather,                                                                                    \
        .run = cpu_run,                                                                                                \
        .parallel = cpu_parallel,                                                                                      \
        .limit = cpu_limit,                                                                                            \
        .keeps_words = true,                                                                                           \
        .words_pay = WORDS_PAY,                                                                                        \
    }

const backend_ops backend_cpu = CPU_BACKEND("cpu", cpu_open);
const backend_ops backend_cpu_scalar = CPU_BACKEND("cpu-scalar", cpu_open_scalar);
