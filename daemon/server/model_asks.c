/*
 * What is asked about models and answered at once: lists, copies, deletions, loading and unloading.
 * Owner: an ask is its own; its answer's lists die when `done` has returned. Lifetime: from the call to `done`.
 *
 *   loop: begin ─▶ pool: work ─┬──────────────────────────────────────────────▶ loop: finish ─▶ done
 *                              └─ load: waits for the model table ─▶ on_ready ─▶ loop: finish
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/errors.h"
#include "server/model_jobs_inside.h"

typedef enum ask_kind {
    ASK_LIST,
    ASK_SHOW,
    ASK_COPY,
    ASK_ALIAS,
    ASK_DELETE,
    ASK_RESTORE,
    ASK_LOADED,
    ASK_LOAD,
    ASK_UNLOAD,
    ASK_MACHINE
} ask_kind;

typedef struct ask {
    model_jobs *owner;
    ask_kind kind;
    model_asker asker;
    char *name, *to; /* may be NULL */
    bool details;
    uint32_t grace_s;
    int64_t keep_alive_ms;
    uint64_t began_us;
    /* the answer */
    int status;
    const char *code; /* static */
    char message[520];
    registry_model *models;
    size_t n_models, cap_models;
    model_loaded *loaded;
    char **loaded_paths; /* [n_loaded] owned */
    size_t n_loaded, cap_loaded;
    char *description;
    bool is_loaded;
    uint64_t memory_bytes, memory_free_bytes;
    const char *left; /* static */
    uint64_t load_us;
    /* of loads and unloads */
    atomic_int refs;
    mlxr_model *model;
    http_task task;
} ask;

static uint64_t now_us(const ask *a)
{
    return scheduler_now_us(worker_scheduler(a->owner->d->worker));
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

static void answer_error(ask *a, int status, const char *code, const char *message)
{
    a->status = status;
    a->code = code;
    snprintf(a->message, sizeof a->message, "%s", message);
}

static void answer_no_memory(ask *a)
{
    answer_error(a, 503, "out_of_memory", "the daemon is out of memory");
}

/* What the registry said of a name that was asked for. */
static void answer_registry(ask *a, mlxr_status status, const mlxr_error *error)
{
    if (status == MLXR_ARG) {
        answer_error(a, 404, "model_not_found", error->text);
    } else if (status == MLXR_NOMEM) {
        answer_no_memory(a);
    } else {
        answer_error(a, status == MLXR_UNSUPPORTED ? 400 : 500, "registry_failed", error->text);
    }
}

static void free_ask(ask *a)
{
    for (size_t i = 0; i < a->n_models; i++) {
        registry_model_close(&a->models[i]);
    }
    for (size_t i = 0; i < a->n_loaded; i++) {
        free(a->loaded_paths[i]);
    }
    free(a->models);
    free(a->loaded);
    free(a->loaded_paths);
    mlxr_free(a->description);
    free(a->name);
    free(a->to);
    free(a);
}

static void finish(void *user)
{
    ask *a = user;
    if (atomic_fetch_sub(&a->refs, 1) != 1) {
        return;
    }
    model_answer answer = {.status = a->status ? a->status : 200,
                           .code = a->status ? a->code : "",
                           .message = a->message,
                           .models = a->models,
                           .n_models = a->n_models,
                           .loaded = a->loaded,
                           .n_loaded = a->n_loaded,
                           .description = a->description,
                           .is_loaded = a->is_loaded,
                           .memory_bytes = a->memory_bytes,
                           .memory_free_bytes = a->memory_free_bytes,
                           .left = a->left,
                           .load_us = a->load_us};
    bool changes = a->kind == ASK_COPY || a->kind == ASK_ALIAS || a->kind == ASK_DELETE || a->kind == ASK_RESTORE;
    a->asker.done(a->asker.user, &answer);
    if (changes && answer.status == 200) {
        model_jobs_changed(a->owner);
    }
    free_ask(a);
}

/* Any thread: the model table has told what was waited for. */
static void told(ask *a)
{
    if (!http_post_task(a->owner->d->http, &a->task)) { /* the loop has ended: nobody waits for the answer */
        finish(a);
    }
}

/* ---- models of the registry -------------------------------------------------------------------------------------- */

static registry_model *next_model(ask *a)
{
    if (a->n_models == a->cap_models) {
        size_t cap = a->cap_models ? a->cap_models * 2 : 16;
        registry_model *grown = realloc(a->models, cap * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        a->models = grown;
        a->cap_models = cap;
    }
    return &a->models[a->n_models];
}

static mlxr_status on_model(void *user, const registry_model *m, mlxr_error *error)
{
    ask *a = user;
    if (!auth_allows_model(&a->asker.identity, m->name)) {
        return MLXR_OK;
    }
    registry_model *out = next_model(a);
    if (!out) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        return MLXR_NOMEM;
    }
    mlxr_status status = registry_model_copy(out, m, error);
    a->n_models += status == MLXR_OK;
    return status;
}

/* The model of a name into a->models; false after an answer. */
static bool resolve(ask *a, const char *name)
{
    mlxr_error error;
    registry_model *m = next_model(a);
    if (!m) {
        answer_no_memory(a);
        return false;
    }
    mlxr_status status = registry_resolve(a->owner->d->registry, name, m, &error);
    if (status == MLXR_ARG) {
        char text[sizeof error.text];
        error_model_text(&a->asker.identity, name, error.text, text, sizeof text);
        answer_error(a, 404, "model_not_found", text);
        return false;
    }
    if (status != MLXR_OK) {
        answer_registry(a, status, &error);
        return false;
    }
    a->n_models++;
    if (!auth_allows_model(&a->asker.identity, name) || !auth_allows_model(&a->asker.identity, m->name)) {
        answer_error(a, 403, "model_not_allowed", "this key may not use this model");
        return false;
    }
    return true;
}

static void list(ask *a)
{
    mlxr_error error;
    mlxr_status status = registry_each(a->owner->d->registry, on_model, a, &error);
    if (status != MLXR_OK) {
        answer_error(a, status == MLXR_NOMEM ? 503 : 500, "registry_failed", error.text);
    }
}

typedef struct loaded_search {
    const char *real; /* path */
    bool found;
} loaded_search;

/* Under the table's lock. */
static void find_loaded(void *user, const model_table_item *item)
{
    loaded_search *s = user;
    s->found = s->found || (item->info && strcmp(s->real, item->path) == 0);
}

static bool is_loaded(const ask *a)
{
    char *real = realpath(a->models[0].path, NULL);
    loaded_search s = {.real = real};
    if (real) {
        model_table_each(a->owner->d->models, find_loaded, &s);
    }
    free(real);
    return s.found;
}

/* It opens backends and reads files of the system. */
static void look_at_machine(ask *a)
{
    mlxr_error ignored;
    char *text = NULL;
    json_t *system = mlxr_system_describe(&text, &ignored) == MLXR_OK ? json_loads(text, 0, NULL) : NULL;
    a->memory_bytes = (uint64_t)json_integer_value(json_object_get(system, "memory_bytes"));
    a->memory_free_bytes = (uint64_t)json_integer_value(json_object_get(system, "memory_available_bytes"));
    json_decref(system);
    mlxr_free(text);
}

/* How much memory it has does not change. */
static void machine_bytes(ask *a)
{
    a->memory_bytes = atomic_load(&a->owner->machine_bytes);
    if (!a->memory_bytes) {
        look_at_machine(a);
        atomic_store(&a->owner->machine_bytes, a->memory_bytes);
    }
}

static void show(ask *a)
{
    mlxr_error error;
    if (!resolve(a, a->name) || !a->details) {
        return;
    }
    if (mlxr_model_describe(a->models[0].path, &a->description, &error) != MLXR_OK) {
        answer_error(a, 500, "model_failed", error.text);
        return;
    }
    a->is_loaded = is_loaded(a);
    look_at_machine(a);
}

static void copy(ask *a)
{
    mlxr_error error;
    registry *r = a->owner->d->registry;
    if (!registry_name_valid(a->to)) {
        answer_error(a, 400, "invalid_value", "the new name cannot be the name of a model");
    } else if (resolve(a, a->name)) {
        mlxr_status status = a->kind == ASK_ALIAS ? registry_alias(r, a->to, a->name, &error)
                                                  : registry_copy(r, a->name, a->to, &error);
        if (status == MLXR_ARG) {
            answer_error(a, 400, "invalid_value", error.text);
        } else if (status != MLXR_OK) {
            answer_registry(a, status, &error);
        }
    }
}

/* ---- what is loaded ---------------------------------------------------------------------------------------------- */

void model_jobs_note_name(model_jobs *j, const char *path, const char *name)
{
    char *real = realpath(path, NULL);
    if (!j || !real) {
        free(real);
        return;
    }
    pthread_mutex_lock(&j->names_lock);
    size_t at = 0;
    while (at < MODEL_NAMES_MAX && !(j->names[at].path && strcmp(j->names[at].path, real) == 0)) {
        at++;
    }
    if (at == MODEL_NAMES_MAX || strcmp(j->names[at].name, name) != 0) {
        char *copy_of = strdup(name);
        if (at == MODEL_NAMES_MAX && copy_of) {
            at = j->next_name;
            j->next_name = (j->next_name + 1) % MODEL_NAMES_MAX;
            free(j->names[at].path);
            j->names[at].path = real;
            real = NULL;
        }
        if (copy_of) {
            free(j->names[at].name);
            j->names[at].name = copy_of;
        }
    }
    pthread_mutex_unlock(&j->names_lock);
    free(real);
}

static char *noted_name(model_jobs *j, const char *path)
{
    char *name = NULL;
    pthread_mutex_lock(&j->names_lock);
    for (size_t i = 0; i < MODEL_NAMES_MAX && !name; i++) {
        name = j->names[i].path && strcmp(j->names[i].path, path) == 0 ? strdup(j->names[i].name) : NULL;
    }
    pthread_mutex_unlock(&j->names_lock);
    return name;
}

/* Under the table's lock: copies. */
static void on_item(void *user, const model_table_item *item)
{
    ask *a = user;
    if (a->n_loaded == a->cap_loaded) {
        size_t cap = a->cap_loaded ? a->cap_loaded * 2 : 8;
        model_loaded *grown = realloc(a->loaded, cap * sizeof *grown);
        char **paths = grown ? realloc(a->loaded_paths, cap * sizeof *paths) : NULL;
        a->loaded = grown ? grown : a->loaded;
        a->loaded_paths = paths ? paths : a->loaded_paths;
        if (!paths) {
            return;
        }
        a->cap_loaded = cap;
    }
    char *path = strdup(item->path);
    if (!path) {
        return;
    }
    const mlxr_model_info *info = item->info;
    uint64_t now = a->began_us;
    model_loaded *m = &a->loaded[a->n_loaded];
    *m = (model_loaded){.path = path, .loading = !info, .pinned = item->pinned, .n_uses = item->n_uses};
    int64_t usual_ms = a->owner->d->options->keep_alive_ms;
    m->expires_in_ms = item->pinned                        ? -1
                       : item->n_uses                      ? (usual_ms ? usual_ms : MODEL_KEEP_USUAL_MS)
                       : item->expires_at_us == UINT64_MAX ? -1
                       : item->expires_at_us > now         ? (int64_t)((item->expires_at_us - now) / 1000)
                                                           : 0;
    if (info) {
        m->n_params = info->n_params;
        m->file_bytes = info->file_bytes;
        m->weight_bytes = info->weight_bytes;
        m->kv_bytes_per_token = info->kv_bytes_per_token;
        m->n_ctx = info->n_ctx;
        m->rope_scaling = info->rope_scaling;
        m->rope_factor = info->rope_factor;
        m->mtp = info->mtp;
    }
    a->loaded_paths[a->n_loaded++] = path;
}

/* The registry's model of this file: by the name it was asked for by, else the first there is. */
static const registry_model *model_of(ask *a, const char *path)
{
    char *noted = noted_name(a->owner, path);
    const registry_model *found = NULL;
    for (size_t i = 0; i < a->n_models; i++) {
        const registry_model *m = &a->models[i];
        bool named = noted && (strcmp(m->name, noted) == 0);
        char *real = named || !found ? realpath(m->path, NULL) : NULL;
        if (real && strcmp(real, path) == 0) {
            found = named || !found ? m : found;
        }
        free(real);
        if (named && found == m) {
            break;
        }
    }
    free(noted);
    return found;
}

static void loaded(ask *a)
{
    mlxr_error error;
    a->began_us = now_us(a);
    model_table_each(a->owner->d->models, on_item, a);
    mlxr_status status = a->n_loaded ? registry_each(a->owner->d->registry, on_model, a, &error) : MLXR_OK;
    if (status != MLXR_OK) {
        answer_error(a, 500, "registry_failed", error.text);
        return;
    }
    size_t n = 0;
    for (size_t i = 0; i < a->n_loaded; i++) {
        const registry_model *m = model_of(a, a->loaded_paths[i]);
        if (!m) { /* one that is not in the registry any more, or is none of the asker's */
            free(a->loaded_paths[i]);
            continue;
        }
        model_loaded *to = &a->loaded[n];
        *to = a->loaded[i];
        a->loaded_paths[n++] = a->loaded_paths[i];
        to->name = m->name;
        to->id = m->id;
        to->digest = m->digest;
        to->family = m->family;
        to->quant = m->quant;
    }
    a->n_loaded = n;
}

/* Pool or loader: the model is there, or why not. */
static void on_ready(void *user, mlxr_model *model, const mlxr_error *error)
{
    ask *a = user;
    a->load_us = now_us(a) - a->began_us;
    if (model) {
        model_table_release(a->owner->d->models, model, a->keep_alive_ms);
    } else {
        bool limit = error->status == MLXR_LIMIT || error->status == MLXR_NOMEM;
        answer_error(a, limit ? 503 : 500, limit ? "no_room_for_model" : "model_failed", error->text);
    }
    told(a);
}

static void load(ask *a)
{
    mlxr_error error;
    if (!resolve(a, a->name)) {
        return;
    }
    a->began_us = now_us(a);
    model_jobs_note_name(a->owner, a->models[0].path, a->models[0].name);
    atomic_fetch_add(&a->refs, 1); /* on_ready's */
    mlxr_status status = model_table_acquire(a->owner->d->models, a->models[0].path, 0, on_ready, a, &error);
    if (status != MLXR_OK) {
        atomic_fetch_sub(&a->refs, 1);
        answer_error(a, 503, "model_failed", error.text);
    }
}

/* Loader: its memory is free, or somebody asked for it before it went. */
static void on_left(void *user, bool gone)
{
    ask *a = user;
    a->left = gone ? "unloaded" : "in_use";
    told(a);
}

/* What there is of a->models[0] in memory goes; an idle one's end is waited for. */
static void let_go(ask *a)
{
    static const char *const how[] = {[MODEL_LEAVES_WHEN_IDLE] = "in_use", [MODEL_STAYS] = "pinned"};
    mlxr_error ignored;
    model_leaving leaving;
    atomic_fetch_add(&a->refs, 1); /* on_left's */
    mlxr_status status = model_table_unload(a->owner->d->models, a->models[0].path, on_left, a, &leaving, &ignored);
    if (status != MLXR_OK || leaving != MODEL_LEAVES_NOW) {
        a->left = status == MLXR_OK ? how[leaving] : "not_loaded";
        atomic_fetch_sub(&a->refs, 1);
    }
}

static void unload(ask *a)
{
    if (resolve(a, a->name)) {
        let_go(a);
    }
}

/* What a->models[0] was found by is gone; is it still there under its own name? Then that was an alias. */
static bool is_still_there(ask *a)
{
    mlxr_error ignored;
    registry_model m = {0};
    bool there = registry_resolve(a->owner->d->registry, a->models[0].name, &m, &ignored) == MLXR_OK &&
                 strcmp(m.path, a->models[0].path) == 0;
    registry_model_close(&m);
    return there;
}

static void delete(ask *a)
{
    mlxr_error error;
    if (!resolve(a, a->name)) {
        return;
    }
    mlxr_status status = registry_remove(a->owner->d->registry, a->name, a->grace_s, &error);
    if (status == MLXR_ARG && !resolve(a, a->name)) { /* somebody else was faster, and it is told as one not there */
        return;
    }
    if (status == MLXR_ARG) { /* it is there, so it is not the store's */
        answer_error(a, 400, "not_in_store", error.text);
    } else if (status != MLXR_OK) {
        answer_registry(a, status, &error);
    } else if (!is_still_there(a)) {
        let_go(a);
    }
}

static void restore(ask *a)
{
    mlxr_error error;
    mlxr_status status = registry_restore(a->owner->d->registry, a->name, &error);
    if (status != MLXR_OK) {
        answer_registry(a, status, &error);
    }
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

static void work(void *user)
{
    static void (*const works[])(ask *a) = {[ASK_LIST] = list,     [ASK_SHOW] = show,
                                            [ASK_COPY] = copy,     [ASK_ALIAS] = copy,
                                            [ASK_DELETE] = delete, [ASK_RESTORE] = restore,
                                            [ASK_LOADED] = loaded, [ASK_LOAD] = load,
                                            [ASK_UNLOAD] = unload, [ASK_MACHINE] = machine_bytes};
    ask *a = user;
    works[a->kind](a);
}

static ask *new_ask(model_jobs *j, ask_kind kind, const char *name, const char *to, const model_asker *asker)
{
    ask *a = calloc(1, sizeof *a);
    if (!a) {
        return NULL;
    }
    *a = (ask){.owner = j, .kind = kind, .asker = *asker, .code = "", .left = "", .task = {.fn = finish, .user = a}};
    a->name = name ? strdup(name) : NULL;
    a->to = to ? strdup(to) : NULL;
    atomic_init(&a->refs, 1);
    if ((name && !a->name) || (to && !a->to)) {
        free_ask(a);
        return NULL;
    }
    return a;
}

static bool begin(ask *a)
{
    if (a && http_work(a->owner->d->http, work, finish, a) != 0) {
        free_ask(a);
        a = NULL;
    }
    return a != NULL;
}

bool model_jobs_list(model_jobs *j, const model_asker *asker)
{
    return begin(new_ask(j, ASK_LIST, NULL, NULL, asker));
}

bool model_jobs_show(model_jobs *j, const char *name, bool details, const model_asker *asker)
{
    ask *a = new_ask(j, ASK_SHOW, name, NULL, asker);
    if (a) {
        a->details = details;
    }
    return begin(a);
}

bool model_jobs_copy(model_jobs *j, const char *from, const char *to, bool alias, const model_asker *asker)
{
    return begin(new_ask(j, alias ? ASK_ALIAS : ASK_COPY, from, to, asker));
}

bool model_jobs_delete(model_jobs *j, const char *name, uint32_t grace_s, const model_asker *asker)
{
    ask *a = new_ask(j, ASK_DELETE, name, NULL, asker);
    if (a) {
        a->grace_s = grace_s;
    }
    return begin(a);
}

bool model_jobs_restore(model_jobs *j, const char *name, const model_asker *asker)
{
    return begin(new_ask(j, ASK_RESTORE, name, NULL, asker));
}

bool model_jobs_loaded(model_jobs *j, const model_asker *asker)
{
    return begin(new_ask(j, ASK_LOADED, NULL, NULL, asker));
}

bool model_jobs_load(model_jobs *j, const char *name, int64_t keep_alive_ms, const model_asker *asker)
{
    ask *a = new_ask(j, ASK_LOAD, name, NULL, asker);
    if (a) {
        a->keep_alive_ms = keep_alive_ms;
    }
    return begin(a);
}

bool model_jobs_unload(model_jobs *j, const char *name, const model_asker *asker)
{
    return begin(new_ask(j, ASK_UNLOAD, name, NULL, asker));
}

bool model_jobs_machine(model_jobs *j, const model_asker *asker)
{
    return begin(new_ask(j, ASK_MACHINE, NULL, NULL, asker));
}
