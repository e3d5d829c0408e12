/*
 * Rows of one table.
 * Owner: the generations. Lifetime: as the store's.
 */
#include "server/response_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "registry/db.h"
#include "registry/disk.h"
#include "registry/fail.h"
#include <server/responses.inc> /* made from responses.sql */

#define PATH_BYTES 4096

struct response_store {
    pthread_mutex_t lock;
    char directory[PATH_BYTES]; /* "": in memory */
    sqlite3 *db;                /* NULL: not opened yet */
    int lock_fd;
    size_t n_max, bytes_max;
};

static const db_schema schema = {responses_schema, "the responses'"};

mlxr_status response_store_open(response_store **out, const char *directory, size_t n_max, size_t bytes_max,
                                mlxr_error *error)
{
    response_store *s = calloc(1, sizeof *s);
    if (!s) {
        return registry_fail_nomem(error);
    }
    size_t n = directory ? strlen(directory) : 0;
    if (n >= sizeof s->directory) {
        free(s);
        return daemon_error(error, MLXR_ARG, "the path of the responses is too long");
    }
    memcpy(s->directory, directory ? directory : "", n + 1);
    s->n_max = n_max;
    s->bytes_max = bytes_max;
    s->lock_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return MLXR_OK;
}

void response_store_close(response_store **pointer)
{
    response_store *s = *pointer;
    if (!s) {
        return;
    }
    sqlite3_close(s->db);
    if (s->lock_fd >= 0) {
        close(s->lock_fd);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
    *pointer = NULL;
}

/* ---- opening the database, under the lock ------------------------------------------------------------------------ */

/* Who gets the lock is alone: what runs there runs in no process any more. Who does not shares the database. */
static mlxr_status end_abandoned(response_store *s, mlxr_error *error)
{
    char path[PATH_BYTES + 32];
    if (!disk_join(path, sizeof path, s->directory, "responses.lock")) {
        return daemon_error(error, MLXR_ARG, "the path of the responses is too long");
    }
    mlxr_status status = disk_open(&s->lock_fd, path, true, error);
    if (status != MLXR_OK || flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return status;
    }
    return db_run(s->db, error,
                  "UPDATE responses SET running = 0, response = json_set(response, '$.status', 'failed', '$.error',"
                  " json_object('code', 'server_error', 'message', 'the server ended before the response was done'))"
                  " WHERE running = 1",
                  "");
}

/* `make`: else a database that is not there yet stays away, and s->db NULL. */
static mlxr_status open_database(response_store *s, bool make, mlxr_error *error)
{
    char path[PATH_BYTES + 32] = ":memory:";
    if (s->db) {
        return MLXR_OK;
    }
    if (*s->directory && !disk_join(path, sizeof path, s->directory, "responses.db")) {
        return daemon_error(error, MLXR_ARG, "the path of the responses is too long");
    }
    if (!make && (!*s->directory || access(path, F_OK) != 0)) {
        return MLXR_OK;
    }
    mlxr_status status = *s->directory ? disk_make_dir(s->directory, error) : MLXR_OK;
    status = status == MLXR_OK ? db_open(&s->db, path, false, &schema, error) : status;
    status = status == MLXR_OK ? db_run(s->db, error, "PRAGMA secure_delete = ON", "") : status;
    if (status == MLXR_OK && *s->directory) {
        status = end_abandoned(s, error);
        status = status == MLXR_OK ? disk_sync_dir(s->directory, error) : status;
    }
    if (status != MLXR_OK) { /* the next call tries again */
        sqlite3_close(s->db);
        s->db = NULL;
        if (s->lock_fd >= 0) {
            close(s->lock_fd);
            s->lock_fd = -1;
        }
    }
    return status;
}

/* ---- putting ----------------------------------------------------------------------------------------------------- */

/* The oldest go, but never the one that has just come. */
static mlxr_status trim(response_store *s, const char *id, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (;;) {
        int64_t n = 0, n_bytes = 0;
        status = db_number(s->db, &n, 0, error, "SELECT count(*) FROM responses", "");
        status = status == MLXR_OK
                     ? db_number(s->db, &n_bytes, 0, error, "SELECT coalesce(sum(n_bytes), 0) FROM responses", "")
                     : status;
        if (status != MLXR_OK || n <= 1 || ((uint64_t)n <= s->n_max && (uint64_t)n_bytes <= s->bytes_max)) {
            return status;
        }
        status = db_run(s->db, error,
                        "DELETE FROM responses WHERE position ="
                        " (SELECT position FROM responses WHERE id != ? ORDER BY position LIMIT 1)",
                        "t", id);
        if (status != MLXR_OK) {
            return status;
        }
    }
}

static mlxr_status put_row(response_store *s, const kept_response *k, const char *const texts[3], mlxr_error *error)
{
    const char *state = json_string_value(json_object_get(k->response, "status"));
    int64_t n_bytes = (int64_t)(strlen(texts[0]) + strlen(texts[1]) + strlen(texts[2]));
    int64_t running = state && strcmp(state, "in_progress") == 0;
    mlxr_status status = db_run(s->db, error, "BEGIN IMMEDIATE", "");
    if (status != MLXR_OK) {
        return status;
    }
    status = db_run(s->db, error,
                    "INSERT INTO responses (n_bytes, version, running, owner, id, response, messages, input)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET n_bytes = excluded.n_bytes,"
                    " version = excluded.version, running = excluded.running, response = excluded.response,"
                    " messages = excluded.messages, input = excluded.input"
                    " WHERE excluded.version > version AND excluded.owner = owner",
                    "iiiitttt", n_bytes, k->version, running, (int64_t)k->owner, k->id, texts[0], texts[1], texts[2]);
    status = status == MLXR_OK ? trim(s, k->id, error) : status;
    status = status == MLXR_OK ? db_run(s->db, error, "COMMIT", "") : status;
    if (!sqlite3_get_autocommit(s->db)) {
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL); /* the reason is told already */
    }
    return status;
}

mlxr_status response_store_put(response_store *s, const kept_response *kept, mlxr_error *error)
{
    char *texts[3] = {json_dumps(kept->response, JSON_COMPACT), json_dumps(kept->messages, JSON_COMPACT),
                      json_dumps(kept->input, JSON_COMPACT)};
    mlxr_status status = texts[0] && texts[1] && texts[2] ? MLXR_OK : registry_fail_nomem(error);
    if (status == MLXR_OK) {
        pthread_mutex_lock(&s->lock);
        status = open_database(s, true, error);
        status = status == MLXR_OK ? put_row(s, kept, (const char *const *)texts, error) : status;
        pthread_mutex_unlock(&s->lock);
    }
    for (size_t i = 0; i < 3; i++) {
        free(texts[i]);
    }
    return status;
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

static mlxr_status find_text(response_store *s, const char *id, uint64_t owner, response_part part, char **text,
                             mlxr_error *error)
{
    static const char *const queries[] = {
        [RESPONSE_WHOLE] = "SELECT response FROM responses WHERE id = ? AND owner = ?",
        [RESPONSE_MESSAGES] = "SELECT messages FROM responses WHERE id = ? AND owner = ?",
        [RESPONSE_INPUT] = "SELECT input FROM responses WHERE id = ? AND owner = ?",
    };
    sqlite3_stmt *row = NULL;
    bool there = false;
    mlxr_status status = db_prepare(s->db, &row, error, queries[part], "ti", id, (int64_t)owner);
    status = status == MLXR_OK ? db_step(s->db, &row, &there, error) : status;
    if (status == MLXR_OK && there) {
        *text = strdup(db_text(row, 0));
        status = *text ? MLXR_OK : registry_fail_nomem(error);
        sqlite3_finalize(row);
    }
    return status;
}

mlxr_status response_store_get(response_store *s, const char *id, uint64_t owner, response_part part, json_t **out,
                               mlxr_error *error)
{
    char *text = NULL;
    *out = NULL;
    pthread_mutex_lock(&s->lock);
    mlxr_status status = open_database(s, false, error);
    if (status == MLXR_OK && s->db) {
        status = find_text(s, id, owner, part, &text, error);
    }
    pthread_mutex_unlock(&s->lock);
    if (text) {
        /* A model may write U+0000, which is stored as its escape. */
        *out = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        status = *out ? status : daemon_error(error, MLXR_FORMAT, "the response '%.80s' is damaged", id);
        free(text);
    }
    return status;
}

mlxr_status response_store_remove(response_store *s, const char *id, uint64_t owner, bool *removed, mlxr_error *error)
{
    *removed = false;
    pthread_mutex_lock(&s->lock);
    mlxr_status status = open_database(s, false, error);
    if (status == MLXR_OK && s->db) {
        status = db_run(s->db, error, "DELETE FROM responses WHERE id = ? AND owner = ?", "ti", id, (int64_t)owner);
        *removed = status == MLXR_OK && sqlite3_changes(s->db) > 0;
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}
