/*
 * Engine: one device with its backend, thread team and KV arena.
 * Owner: the caller. Lifetime: mlxr_engine_open to mlxr_engine_close, after its models and sequences.
 */
#include "runtime/engine.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory_size.h"

const char *mlxr_version(void)
{
    return MLXR_VERSION;
}

void mlxr_free(void *memory)
{
    free(memory);
}

void engine_log(const mlxr_engine *engine, mlxr_log_level level, const char *format, ...)
{
    if (engine->log) {
        char line[1024];
        va_list args;
        va_start(args, format);
        vsnprintf(line, sizeof line, format, args);
        va_end(args);
        engine->log(engine->log_user, level, line);
    }
}

static mlxr_status choose_backend(mlxr_engine *e, const char *name, mlxr_error *error)
{
    if (name && strcmp(name, "cpu-scalar") == 0) {
        e->options.scalar = true;
        e->options.features = 0;
        name = "cpu";
    }
    e->ops = name ? backend_find(name) : backend_list()[0];
    if (!e->ops) {
        return error_set(error, MLXR_ARG, "backend '%s' is not in this build; use cpu or cpu-scalar", name);
    }
    return MLXR_OK;
}

static mlxr_status choose_kv_type(mlxr_engine *e, const char *name, mlxr_error *error)
{
    static const struct {
        const char *name;
        dtype type;
    } types[] = {{"f16", DTYPE_F16}, {"f32", DTYPE_F32}, {"bf16", DTYPE_BF16}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!name || strcmp(name, types[i].name) == 0) {
            e->kv_type = types[i].type;
            return MLXR_OK;
        }
    }
    return error_set(error, MLXR_ARG, "KV type '%s' is unknown; use f32, f16 or bf16", name);
}

mlxr_status mlxr_engine_open(mlxr_engine **out, const mlxr_engine_options *options, mlxr_error *error)
{
    static const mlxr_engine_options defaults = {0};
    const mlxr_engine_options *o = options ? options : &defaults;
    mlxr_engine *e = calloc(1, sizeof *e);
    if (!e) {
        return error_nomem(error, "engine", sizeof *e);
    }
    e->log = o->log;
    e->log_user = o->log_user;
    e->options.n_threads = o->n_threads ? o->n_threads : cpu_cores_usable();
    e->options.features = cpu_detect();
    mlxr_status status = o->cpu_features ? cpu_mask(&e->options.features, o->cpu_features, error) : MLXR_OK;
    if (status == MLXR_OK) {
        status = choose_backend(e, o->backend, error);
    }
    if (status == MLXR_OK) {
        status = choose_kv_type(e, o->kv_type, error);
    }
    if (status == MLXR_OK) {
        status = e->ops->open(&e->device, &e->options, error);
    }
    if (status != MLXR_OK) {
        free(e);
        return status;
    }
    /* Half of what is free: the other half is for the page cache that holds the weights, and for other programs. */
    uint64_t budget = o->kv_bytes ? o->kv_bytes : memory_available() / 2;
    kv_arena_init(&e->arena, e->ops, e->device, budget);
    engine_log(e, MLXR_LOG_INFO, "engine: backend %s, %u threads, KV budget %llu MiB", e->ops->name,
               e->options.n_threads, (unsigned long long)(budget >> 20));
    *out = e;
    return MLXR_OK;
}

void mlxr_engine_close(mlxr_engine **pointer)
{
    mlxr_engine *e = *pointer;
    if (!e) {
        return;
    }
    assert(e->n_models == 0 && e->n_sequences == 0);
    e->ops->close(&e->device);
    free(e->scratch.tokens);
    free(e->scratch.positions);
    free(e->scratch.wanted);
    free(e->scratch.slices);
    free(e->scratch.samples);
    free(e->scratch.errors);
    free(e->scratch.logits);
    free(e);
    *pointer = NULL;
}

uint32_t mlxr_step_tokens_max(const mlxr_engine *engine)
{
    (void)engine;
    return ENGINE_STEP_TOKENS_MAX;
}

mlxr_kv_stats mlxr_kv_stats_get(const mlxr_engine *engine)
{
    const kv_arena *a = &engine->arena;
    mlxr_kv_stats stats = {
        .page_tokens = ENGINE_PAGE_TOKENS, .bytes_budget = a->bytes_budget, .bytes_used = a->bytes_used};
    for (const kv_pool *p = a->pools; p; p = p->next) {
        uint64_t room = (a->bytes_budget - a->bytes_used) / p->layout.page_bytes;
        stats.n_pages += p->n_used + room;
        stats.n_pages_free += room;
    }
    return stats;
}
