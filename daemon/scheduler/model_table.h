/*
 * Model table: several models side by side in one memory budget; loads what is asked for, keeps it for a while, unloads
 * what is not used, and tells who waits.
 * Owner: the caller. Lifetime: model_table_open to model_table_close, inside the worker's.
 *
 *   model_table_acquire ─▶ loaded? ─yes─▶ on_ready at once
 *        any thread           │ no
 *                             ▼                 room: idle models go, least recently used first, then the KV budget
 *                          waiting ─▶ loader thread reads the file ─▶ shrinks ─▶ worker attaches it ─▶ on_ready
 *                                                      │ what is needed is in use: waits
 *                                                      └ can never fit, cannot be read: on_ready with the reason
 *   model_table_release ─▶ idle ─▶ keep-alive over: unloaded; its pages go to kv_dir, where a reload finds them
 *
 * A file is read on the loader's own thread; the worker only attaches and detaches, between two steps, so that streams
 * of other models go on. A load held up by models in use gets its turn: after a while these take no more requests.
 * Threads. Any, callbacks included, but for _wait, _load and _close: not from a callback of the scheduler or the table.
 */
#ifndef MLXR_SCHEDULER_MODEL_TABLE_H
#define MLXR_SCHEDULER_MODEL_TABLE_H

#include "scheduler/worker.h"

typedef struct model_table model_table;

/* keep_alive_ms: how long a model stays when idle; 0: it goes at once, negative: it stays until room is needed. */
#define MODEL_KEEP_FOR_EVER (-1)
#define MODEL_KEEP_USUAL_MS 300000
#define MODEL_KEEP_DEFAULT INT64_MIN

typedef struct model_table_options { /* {0} is a valid default */
    uint64_t memory_bytes;           /* for the weights of loaded models and the KV cache together; 0: no such bound */
    uint64_t kv_least_bytes;         /* of it, what no model can take from the KV cache; 0: an eighth */
    uint32_t models_max;             /* loaded at once; 0: 64 */
    uint32_t waiting_max;            /* acquisitions waiting; 0: 1024 */
    int64_t keep_alive_ms;           /* the default; 0: MODEL_KEEP_USUAL_MS */
    uint64_t patience_ms;            /* a load held up so long: models in use take no more requests; 0: 5,000 */
    mlxr_model_options model;
} model_table_options;

/* Exactly once for each acquisition taken, with no lock held: the model, or NULL and why not. It may come before
 * model_table_acquire returns, and must not block: streams do not wait for it, but other loads do. */
typedef void (*model_on_ready)(void *user, mlxr_model *model, const mlxr_error *error);

mlxr_status model_table_open(model_table **out, worker *w, const model_table_options *options, mlxr_error *error);
/* Who waits is told so; every lease must have ended. Unloads all and gives the KV cache its whole budget back. */
void model_table_close(model_table **table);

/* Asks for a lease of the model in this file. deadline_us: of waiting, on the scheduler's clock; 0: none. An error: not
 * taken, on_ready will not come. Who holds a lease and waits for another should have a deadline. */
mlxr_status model_table_acquire(model_table *t, const char *path, uint64_t deadline_us, model_on_ready on_ready,
                                void *user, mlxr_error *error);
/* The same, blocking. */
mlxr_status model_table_wait(model_table *t, const char *path, uint64_t deadline_us, mlxr_model **out,
                             mlxr_error *error);
/* Ends a lease; not before the last event of the requests made under it. */
void model_table_release(model_table *t, mlxr_model *model, int64_t keep_alive_ms);

/* Loads a model before it is needed. */
mlxr_status model_table_load(model_table *t, const char *path, int64_t keep_alive_ms, mlxr_error *error);
/* Unloads a model as soon as nobody uses it; who asks for it before then keeps it. */
typedef enum model_leaving {
    MODEL_LEAVES_NOW,       /* on_gone comes exactly once, as on_ready does: it has gone, or stays after all */
    MODEL_LEAVES_WHEN_IDLE, /* somebody uses it; on_gone does not come */
    MODEL_STAYS             /* it is pinned; nor here */
} model_leaving;
typedef void (*model_on_gone)(void *user, bool gone);
/* leaving NULL: on_gone may be, too, and does not come. */
mlxr_status model_table_unload(model_table *t, const char *path, model_on_gone on_gone, void *user,
                               model_leaving *leaving, mlxr_error *error);
/* A pinned model is unloaded by model_table_unpin and what follows from it only. */
mlxr_status model_table_pin(model_table *t, const char *path, bool pinned, mlxr_error *error);
/* The clock has been set: look at it again. */
void model_table_poke(model_table *t);
/* Called whenever model_table_each would show something else than before, but for numbers of uses; on any thread, under
 * the table's lock: it may only wake somebody. NULL: no more calls, once this has returned. */
void model_table_on_change(model_table *t, void (*fn)(void *user), void *user);

typedef struct model_table_stats {
    uint64_t n_granted, n_at_once;               /* leases; those of a model that was there */
    uint64_t n_loads, n_reloads;                 /* reloads: of a file that had been loaded before */
    uint64_t n_failed, n_never_fits, n_late;     /* acquisitions without a lease; the last two are among failed */
    uint64_t n_expired, n_dismissed, n_for_room; /* unloads: keep-alive, asked for, least recently used */
    uint64_t n_held;                             /* loads that waited for models in use */
    uint64_t load_us, load_max_us;               /* reading, on the loader's thread */
    uint64_t attach_max_us, detach_max_us;       /* on the worker's */
    uint64_t weight_bytes, kv_bytes;             /* now: loaded models; what they leave to the KV cache */
    uint32_t n_loaded, n_waiting;                /* now */
} model_table_stats;
model_table_stats model_table_stats_get(model_table *t);

typedef struct model_table_item {
    const char *path;
    const mlxr_model_info *info; /* NULL: being loaded or unloaded */
    uint32_t n_uses;
    bool pinned;
    uint64_t expires_at_us; /* when idle; UINT64_MAX: never */
} model_table_item;
/* Shows each model under the table's lock: fn must not call the table. */
void model_table_each(model_table *t, void (*fn)(void *user, const model_table_item *item), void *user);

#endif
