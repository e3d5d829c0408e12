/*
 * Who used how much: counted in memory, written now and then.
 * Owner: the registry. Lifetime: the registry's; rows stay.
 */
#include <stdlib.h>
#include <string.h>

#include "registry/inside.h"

#define DAY_US ((int64_t)24 * 3600 * 1000000)

static void add(registry_usage *to, const registry_usage *more)
{
    to->n_requests += more->n_requests;
    to->prompt_tokens += more->prompt_tokens;
    to->cached_tokens += more->cached_tokens;
    to->answer_tokens += more->answer_tokens;
}

/* Under usage_lock; NULL: no memory. */
static usage_entry *find_entry(registry *r, int64_t day, const char *key, const char *model)
{
    for (size_t i = 0; i < r->n_usage; i++) {
        usage_entry *e = &r->usage[i];
        if (e->day == day && strcmp(e->key, key) == 0 && strcmp(e->model, model) == 0) {
            return e;
        }
    }
    if (r->n_usage == r->cap_usage) {
        size_t cap = r->cap_usage ? r->cap_usage * 2 : 16;
        usage_entry *grown = realloc(r->usage, cap * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        r->usage = grown;
        r->cap_usage = cap;
    }
    usage_entry fresh = {.day = day, .key = strdup(key), .model = strdup(model)};
    if (!fresh.key || !fresh.model) {
        free(fresh.key);
        free(fresh.model);
        return NULL;
    }
    r->usage[r->n_usage] = fresh;
    return &r->usage[r->n_usage++];
}

mlxr_status registry_usage_add(registry *r, const char *key_id, const char *model, const registry_usage *more,
                               mlxr_error *error)
{
    pthread_mutex_lock(&r->usage_lock);
    usage_entry *e = find_entry(r, inside_now_us() / DAY_US, key_id, model);
    if (e) {
        add(&e->counts, more);
    }
    pthread_mutex_unlock(&r->usage_lock);
    return e ? MLXR_OK : registry_fail_nomem(error);
}

static mlxr_status write_entries(registry *r, const usage_entry *entries, size_t n, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < n && status == MLXR_OK; i++) {
        const usage_entry *e = &entries[i];
        status = db_run(r->db, error,
                        "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, key, model) DO UPDATE SET"
                        " n_requests = n_requests + excluded.n_requests,"
                        " prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
                        " cached_tokens = cached_tokens + excluded.cached_tokens,"
                        " answer_tokens = answer_tokens + excluded.answer_tokens",
                        "ittiiii", e->day, e->key, e->model, (int64_t)e->counts.n_requests,
                        (int64_t)e->counts.prompt_tokens, (int64_t)e->counts.cached_tokens,
                        (int64_t)e->counts.answer_tokens);
    }
    return status;
}

/* What could not be written waits for the next time, beside what came meanwhile. */
static void put_back(registry *r, const usage_entry *entries, size_t n)
{
    pthread_mutex_lock(&r->usage_lock);
    for (size_t i = 0; i < n; i++) {
        usage_entry *e = find_entry(r, entries[i].day, entries[i].key, entries[i].model);
        if (e) {
            add(&e->counts, &entries[i].counts);
        }
    }
    pthread_mutex_unlock(&r->usage_lock);
}

mlxr_status registry_usage_flush(registry *r, bool wait, mlxr_error *error)
{
    pthread_mutex_lock(&r->usage_lock);
    bool nothing = r->n_usage == 0;
    pthread_mutex_unlock(&r->usage_lock);
    if (nothing) {
        return MLXR_OK;
    }
    mlxr_status status = wait ? inside_begin(r, error) : inside_begin_at_once(r, error);
    if (status != MLXR_OK) {
        return status;
    }
    /* Taken out: nobody who counts waits for the disk. Who asks for today's waits for `lock`, and misses none. */
    pthread_mutex_lock(&r->usage_lock);
    usage_entry *entries = r->usage;
    size_t n = r->n_usage;
    r->usage = NULL;
    r->n_usage = r->cap_usage = 0;
    pthread_mutex_unlock(&r->usage_lock);
    status = inside_commit(r, write_entries(r, entries, n, error), error);
    if (status != MLXR_OK) {
        put_back(r, entries, n);
    }
    for (size_t i = 0; i < n; i++) {
        free(entries[i].key);
        free(entries[i].model);
    }
    free(entries);
    inside_release(r);
    return status;
}

mlxr_status registry_usage_today(registry *r, const char *key_id, registry_usage *out, mlxr_error *error)
{
    sqlite3_stmt *s;
    bool row = false;
    int64_t day = inside_now_us() / DAY_US;
    *out = (registry_usage){0};
    inside_lock(r);
    mlxr_status status = db_prepare(r->db, &s, error,
                                    "SELECT total(n_requests), total(prompt_tokens), total(cached_tokens),"
                                    " total(answer_tokens) FROM usage WHERE day = ? AND key = ?",
                                    "it", day, key_id);
    status = status == MLXR_OK ? db_step(r->db, &s, &row, error) : status;
    if (row) {
        *out = (registry_usage){.n_requests = (uint64_t)sqlite3_column_int64(s, 0),
                                .prompt_tokens = (uint64_t)sqlite3_column_int64(s, 1),
                                .cached_tokens = (uint64_t)sqlite3_column_int64(s, 2),
                                .answer_tokens = (uint64_t)sqlite3_column_int64(s, 3)};
        sqlite3_finalize(s);
    }
    pthread_mutex_lock(&r->usage_lock);
    for (size_t i = 0; i < r->n_usage; i++) {
        if (r->usage[i].day == day && strcmp(r->usage[i].key, key_id) == 0) {
            add(out, &r->usage[i].counts);
        }
    }
    pthread_mutex_unlock(&r->usage_lock);
    inside_unlock(r);
    return status;
}
