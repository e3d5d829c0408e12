/*
 * /ui-api/version: who answers here? /ui-api/status: how is it? /ui-api/drain: it may end.
 * Owner: the daemon. Lifetime: the call.
 */
#include <time.h>

#include "server/admin_parts.h"
#include "server/daemon_private.h"
#include "server/errors.h"
#include "server/generation.h"

static const char *const states[] = {"loading", "ready", "draining"};

/* For programs that look for a daemon before they have a key. `store` tells its folder of models from others without
 * telling where it is; one that is not `lasting` ends with the chat of the process it runs in. */
void admin_version(void *service, http_exchange *x)
{
    const struct daemon *d = service;
    char mark[REGISTRY_MARK_MAX];
    registry_mark(d->options->directory, mark);
    admin_respond(x, json_pack("{s:s, s:s, s:s, s:s, s:b}", "server", "mlxr", "version", mlxr_version(), "state",
                               states[daemon_state_of(d)], "store", mark, "lasting", !d->options->own_key));
}

static json_t *engine_json(const struct daemon *d)
{
    const mlxr_engine_info *info = mlxr_engine_info_get(d->engine);
    return json_pack("{s:s, s:s, s:I, s:I, s:b, s:b}", "backend", info->backend, "cpu_features", info->cpu_features,
                     "n_threads", (json_int_t)info->n_threads, "activations", (json_int_t)info->activation_bits,
                     "batch_invariant", info->batch_invariant, "alive", daemon_engine_alive(d));
}

static json_t *memory_json(const struct daemon *d)
{
    struct daemon_private *p = d->own;
    model_table_stats t = model_table_stats_get(d->models);
    pthread_mutex_lock(&p->lock);
    mlxr_kv_stats kv = p->kv; /* up to a second old */
    pthread_mutex_unlock(&p->lock);
    return json_pack("{s:I, s:I, s:I, s:I}", "budget_bytes", (json_int_t)d->options->memory_bytes, "weight_bytes",
                     (json_int_t)t.weight_bytes, "kv_bytes_used", (json_int_t)kv.bytes_used, "kv_bytes_budget",
                     (json_int_t)kv.bytes_budget);
}

static json_t *streams_json(const struct daemon *d)
{
    scheduler_stats s = scheduler_stats_get(worker_scheduler(d->worker));
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "answers", (json_int_t)generation_count(d), "running",
                     (json_int_t)s.n_running, "queued", (json_int_t)s.n_queued, "paused", (json_int_t)s.n_paused,
                     "running_max", (json_int_t)d->options->lanes_max, "queued_max", (json_int_t)d->options->queue_max);
}

void admin_status(void *service, http_exchange *x)
{
    const struct daemon *d = service;
    model_table_stats t = model_table_stats_get(d->models);
    http_stats h = http_stats_get(d->http);
    uint64_t now = (uint64_t)time(NULL), began = daemon_started_s(d);
    admin_respond(x, json_pack("{s:s, s:s, s:s, s:I, s:I, s:o, s:{s:I, s:I}, s:o, s:o, s:{s:I, s:I}}", "server", "mlxr",
                               "version", mlxr_version(), "state", states[daemon_state_of(d)], "started",
                               (json_int_t)began, "uptime_s", (json_int_t)(now > began ? now - began : 0), "engine",
                               engine_json(d), "models", "loaded", (json_int_t)t.n_loaded, "waiting",
                               (json_int_t)t.n_waiting, "memory", memory_json(d), "streams", streams_json(d), "http",
                               "connections", (json_int_t)h.n_connections, "requests", (json_int_t)h.n_requests));
}

/* As SIGTERM does; "now" says whether what runs is ended, too: nobody ends a daemon with an empty body. */
void admin_drain(void *service, http_exchange *x)
{
    struct daemon *d = service;
    admin_fields f;
    if (!admin_fields_read(&f, x)) {
        return;
    }
    if (!json_object_get(f.body, "now")) {
        error_respond(x, 400, "missing_field", "now is missing: false lets running answers finish", "now");
    } else {
        daemon_log(d, MLXR_LOG_INFO, "ends because it was asked to");
        admin_respond(x, json_pack("{s:s}", "status", "draining"));
        daemon_drain(d, f.now);
    }
    admin_fields_close(&f);
}
