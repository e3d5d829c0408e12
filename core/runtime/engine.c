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
#include <time.h>

#include "base/error.h"
#include "base/memory_size.h"
#include "runtime/kv_choice.h"

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
    if (e->ops) {
        return MLXR_OK;
    }
    char names[128] = "";
    size_t n = 0;
    for (const backend_ops *const *b = backend_list(); *b && n < sizeof names; b++) {
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", (*b)->name);
    }
    return error_set(error, MLXR_ARG, "backend '%s' is not in this build; it has %s", name, names);
}

mlxr_status engine_insist(const backend_ops *ops, bool batch_invariant, mlxr_error *error)
{
    if (batch_invariant && ops->batch == BATCH_MATTERS) {
        return error_set(
            error, MLXR_UNSUPPORTED,
            "backend '%s' has kernels whose results depend on the batch; batch_invariant needs another one", ops->name);
    }
    return MLXR_OK;
}

static mlxr_status choose_activations(mlxr_engine *e, const char *bits, mlxr_error *error)
{
    bool eight = bits && strcmp(bits, "8") == 0;
    if (bits && !eight && strcmp(bits, "16") != 0) {
        return error_set(error, MLXR_ARG, "activations of '%s' bits are unknown; use 16 or 8", bits);
    }
    if (eight && !e->ops->rounds_activations) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "backend '%s' has no kernels for activations of 8 bits; use 16, or backend 'cpu'",
                         e->ops->name);
    }
    e->options.activation_bits = eight ? 8 : 16;
    return MLXR_OK;
}

static mlxr_status choose_kv_type(mlxr_engine *e, const char *name, mlxr_error *error)
{
    e->kv_type = KV_TYPE_DEFAULT;
    e->kv_type_auto = !name || strcmp(name, KV_TYPE_AUTO) == 0;
    if (!e->kv_type_auto && !kv_type_find(name, &e->kv_type)) {
        return error_set(error, MLXR_ARG, "KV type '%s' is unknown; use one of " KV_TYPE_AUTO ", %s", name,
                         kv_type_names());
    }
    if (e->kv_type == DTYPE_I16 && !e->ops->keeps_words) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "backend '%s' has no kernels for KV type i16; use another type, or backend 'cpu'",
                         e->ops->name);
    }
    return MLXR_OK;
}

static uint64_t monotonic_ms(void *user)
{
    (void)user;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A block on its way out of memory goes to disk. */
static void save_block(void *context, prefix_index *index, const kv_node *node)
{
    mlxr_engine *e = context;
    for (const mlxr_model *m = e->models; m; m = m->next) {
        if (&m->cache.index == index && m->cache.store) {
            kv_store_put(m->cache.store, m->cache.fingerprint, index, node);
        }
    }
}

static void evict_to(mlxr_engine *e, uint64_t target_bytes)
{
    prefix_index *indexes[64];
    size_t n = 0;
    for (mlxr_model *m = e->models; m && n < sizeof indexes / sizeof *indexes; m = m->next) {
        indexes[n++] = &m->cache.index;
    }
    e->n_evicted_bytes += eviction_run(&e->arena, indexes, n, target_bytes, &e->eviction, e->now_ms(e->now_user),
                                       e->store ? save_block : NULL, e);
}

/* Trouble with the disk tier is told where the engine's thread comes by: its writer has no business in the log. */
static void report_store(const mlxr_engine *e)
{
    char line[1024];
    while (e->store && kv_store_warning(e->store, line, sizeof line)) {
        engine_log(e, MLXR_LOG_WARN, "%s", line);
    }
}

void engine_trim(mlxr_engine *e)
{
    uint64_t target = eviction_target(&e->arena, &e->eviction);
    if (target != UINT64_MAX) {
        evict_to(e, target);
    }
    report_store(e);
}

/* The arena's cry for room in the middle of a step. */
static void reclaim(void *context, uint64_t n_bytes)
{
    mlxr_engine *e = context;
    uint64_t room = n_bytes < e->arena.bytes_budget ? e->arena.bytes_budget - n_bytes : 0;
    uint64_t low = (uint64_t)(e->eviction.low * (double)e->arena.bytes_budget);
    evict_to(e, low < room ? low : room);
}

static mlxr_status open_cache(mlxr_engine *e, const mlxr_engine_options *o, mlxr_error *error)
{
    e->no_prefix_cache = o->no_prefix_cache;
    e->now_ms = o->now_ms ? o->now_ms : monotonic_ms;
    e->now_user = o->now_user;
    e->eviction = (eviction_policy){.high = o->kv_high > 0 ? o->kv_high : 0.95,
                                    .low = o->kv_low > 0 ? o->kv_low : 0.85,
                                    .working_set_ms = o->kv_working_set_ms ? o->kv_working_set_ms : 60000};
    if (!(e->eviction.low <= e->eviction.high && e->eviction.high <= 1)) {
        return error_set(error, MLXR_ARG,
                         "KV eviction thresholds: low %g and high %g must satisfy 0 < low <= high <= 1",
                         e->eviction.low, e->eviction.high);
    }
    if (!o->kv_dir) {
        return MLXR_OK;
    }
    kv_store_options options = {.dir = o->kv_dir,
                                .bytes_budget = o->kv_disk_bytes ? o->kv_disk_bytes : (uint64_t)8 << 30};
    return kv_store_open(&e->store, &options, error);
}

static void note_info(mlxr_engine *e)
{
    size_t n = 0;
    for (unsigned i = 0; i < CPU_FEATURE_COUNT && n < sizeof e->features_text; i++) {
        if (e->options.features >> i & 1) {
            n += (size_t)snprintf(e->features_text + n, sizeof e->features_text - n, "%s%s", n ? "," : "",
                                  cpu_feature_name(i));
        }
    }
    e->info = (mlxr_engine_info){.backend = e->options.scalar ? "cpu-scalar" : e->ops->name,
                                 .cpu_features = e->features_text,
                                 .n_threads = e->options.n_threads,
                                 .activation_bits = e->options.activation_bits,
                                 .batch_invariant = e->options.batch_invariant || e->ops->batch == BATCH_NEVER_MATTERS};
}

const mlxr_engine_info *mlxr_engine_info_get(const mlxr_engine *engine)
{
    return &engine->info;
}

mlxr_status mlxr_engine_limit(mlxr_engine *engine, const char *what, size_t n_bytes, double *per_s, mlxr_error *error)
{
    if (!engine->ops->limit) {
        return error_set(error, MLXR_UNSUPPORTED, "backend '%s' cannot tell what its device reaches at best",
                         engine->ops->name);
    }
    return engine->ops->limit(engine->device, what, n_bytes, per_s, error);
}

static void log_warning(void *user, const char *line)
{
    engine_log(user, MLXR_LOG_WARN, "%s", line);
}

/* They wait for each other at each operation: what waits takes the core that another one needs. */
static void warn_of_threads(mlxr_engine *e)
{
    uint32_t n_cores = cpu_cores_usable();
    if (e->options.n_threads > n_cores) {
        engine_log(e, MLXR_LOG_WARN, "%u threads, and this process may use %u %s: more threads than cores are slower",
                   e->options.n_threads, n_cores, n_cores == 1 ? "core" : "cores");
    }
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
        e->options.batch_invariant = o->batch_invariant;
        e->options.kernel_file = o->kernel_file;
        e->options.warn = log_warning;
        e->options.warn_user = e;
        e->experts = (expert_cache_options){.n_bytes_max = o->expert_bytes, .n_bytes_all = o->weight_memory};
        e->no_expert_cache = o->expert_bytes == MLXR_EXPERTS_UNBOUND || !e->ops->tells_experts;
        status = engine_insist(e->ops, o->batch_invariant, error);
    }
    if (status == MLXR_OK) {
        status = choose_kv_type(e, o->kv_type, error);
    }
    if (status == MLXR_OK) {
        status = choose_activations(e, o->activations, error);
    }
    if (status == MLXR_OK) {
        status = open_cache(e, o, error);
    }
    if (status == MLXR_OK) {
        status = e->ops->open(&e->device, &e->options, error);
    }
    e->options.kernel_file = NULL; /* the caller's */
    if (status != MLXR_OK) {
        kv_store_close(&e->store);
        free(e);
        return status;
    }
    /* Half of what is free: the other half is for the page cache that holds the weights, and for other programs. */
    uint64_t budget = o->kv_bytes ? o->kv_bytes : memory_available() / 2;
    kv_arena_init(&e->arena, e->ops, e->device, budget);
    note_info(e);
    e->arena.reclaim = reclaim;
    e->arena.reclaim_context = e;
    report_store(e);
    warn_of_threads(e);
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
    if (e->store) { /* what goes wrong with the last blocks is told, too */
        kv_store_flush(e->store);
        report_store(e);
    }
    kv_store_close(&e->store);
    e->ops->close(&e->device);
    profile_close(&e->profile);
    free(e->scratch.tokens);
    free(e->scratch.positions);
    free(e->scratch.wanted);
    free(e->scratch.greatest);
    free(e->scratch.slices);
    free(e->scratch.n_sampled);
    free(e->scratch.errors);
    free(e->scratch.logits);
    free(e->scratch.carried);
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
        stats.bytes_cached += p->n_alone * (uint64_t)p->layout.page_bytes;
    }
    for (const mlxr_model *m = engine->models; m; m = m->next) {
        stats.n_blocks_cached += m->cache.index.n_nodes;
    }
    stats.tokens_hit = engine->tokens_hit;
    stats.tokens_missed = engine->tokens_missed;
    stats.n_evicted_bytes = engine->n_evicted_bytes;
    if (engine->store) {
        kv_store_stats disk = kv_store_stats_get(engine->store);
        stats.disk_files = disk.n_files;
        stats.disk_bytes = disk.bytes;
        stats.disk_hits = disk.n_hits;
        stats.disk_rejected = disk.n_rejected;
        stats.disk_write_errors = disk.n_write_errors;
        stats.disk_dropped = disk.n_dropped;
    }
    return stats;
}

mlxr_expert_stats mlxr_expert_stats_get(const mlxr_engine *engine)
{
    mlxr_expert_stats all = engine->experts_before;
    for (const mlxr_model *m = engine->models; m; m = m->next) {
        if (m->experts) {
            mlxr_expert_stats one = expert_cache_stats(m->experts);
            all.n_hits += one.n_hits;
            all.n_misses += one.n_misses;
            all.n_given_back += one.n_given_back;
            all.bytes_all += one.bytes_all;
            all.bytes_budget += one.bytes_budget;
            all.bytes_hot += one.bytes_hot;
            all.bytes_locked += one.bytes_locked;
            all.bytes_read += one.bytes_read;
        }
    }
    return all;
}

uint64_t mlxr_kv_budget_set(mlxr_engine *e, uint64_t n_bytes)
{
    kv_arena *a = &e->arena;
    uint64_t wanted = n_bytes < a->bytes_most ? n_bytes : a->bytes_most;
    if (a->bytes_used > wanted) {
        evict_to(e, wanted);
    }
    bool lower = wanted < a->bytes_budget;
    a->bytes_budget = a->bytes_used > wanted ? a->bytes_used : wanted;
    if (lower) {
        kv_arena_discard(a);
    }
    return a->bytes_budget;
}

void mlxr_kv_flush(mlxr_engine *engine)
{
    for (mlxr_model *m = engine->models; m; m = m->next) {
        kv_cache_save_all(&m->cache);
    }
    if (engine->store) {
        kv_store_flush(engine->store);
        report_store(engine);
    }
}
