/*
 * Opening, closing, transactions, and rows as JSON.
 * Owner: the caller. Lifetime: chats_open to chats_close.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "chats/inside.h"
#include "registry/disk.h"
#include "registry/fail.h"
#include <chats/schema.inc> /* made from schema.sql */

#define UNDO_S (7u * 86400u)
#define EVENTS_US (INT64_C(3600) * 1000000) /* events of an ended answer are kept so long */
#define PATH_BYTES 4096
#define BUSY_MS 500

static const db_schema schema = {chats_schema, "the chats'"};

/* ---- errors ------------------------------------------------------------------------------------------------------ */

chats_status chats_of_db(mlxr_status status)
{
    return status == MLXR_OK ? CHATS_OK : status == MLXR_NOMEM ? CHATS_NO_MEMORY : CHATS_FAILED;
}

chats_status chats_fail(mlxr_error *error, chats_status status, const char *format, ...)
{
    char text[sizeof error->text];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    daemon_error(error,
                 status == CHATS_NO_MEMORY ? MLXR_NOMEM
                 : status == CHATS_FAILED  ? MLXR_IO
                 : status == CHATS_LIMIT   ? MLXR_LIMIT
                                           : MLXR_ARG,
                 "%s", text);
    return status;
}

chats_status chats_no_memory(mlxr_error *error)
{
    return chats_fail(error, CHATS_NO_MEMORY, "out of memory in the chats");
}

mlxr_status chats_starved(mlxr_error *error)
{
    chats_no_memory(error);
    return MLXR_NOMEM;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static mlxr_status take_lock(chats *c, const char *directory, mlxr_error *error)
{
    char path[PATH_BYTES];
    if (!disk_join(path, sizeof path, directory, "chats.lock")) {
        return daemon_error(error, MLXR_ARG, "the path of the chats is too long");
    }
    mlxr_status status = disk_open(&c->lock_fd, path, true, error);
    if (status == MLXR_OK && flock(c->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? daemon_error(error, MLXR_LIMIT, "another daemon has the chats in %s open", directory)
                   : registry_fail_errno(error, errno, "cannot lock", path);
    }
    return status;
}

static mlxr_status open_database(chats *c, const char *directory, mlxr_error *error)
{
    char path[PATH_BYTES];
    if (!disk_join(path, sizeof path, directory, "chats.db")) {
        return daemon_error(error, MLXR_ARG, "the path of the chats is too long");
    }
    mlxr_status status = db_open(&c->db, path, false, &schema, error);
    if (status == MLXR_OK) { /* only this process has it: who locks it besides is no reason to wait for long */
        sqlite3_busy_timeout(c->db, BUSY_MS);
    }
    /* Triggers that keep the index of the search are virtual tables' business, which db_open does not trust. */
    status = status == MLXR_OK ? db_run(c->db, error, "PRAGMA trusted_schema = ON", "") : status;
    /* What was removed for good is not to be found in the file any more. */
    status = status == MLXR_OK ? db_run(c->db, error, "PRAGMA secure_delete = ON", "") : status;
    status = status == MLXR_OK ? db_run(c->db, error, "PRAGMA cache_size = -2048", "") : status;
    return status == MLXR_OK ? disk_sync_dir(directory, error) : status;
}

mlxr_status chats_open(chats **out, const char *directory, const chats_options *options, mlxr_error *error)
{
    chats *c = calloc(1, sizeof *c);
    if (!c) {
        return daemon_error(error, MLXR_NOMEM, "out of memory for the chats");
    }
    pthread_mutex_init(&c->lock, NULL);
    c->lock_fd = -1;
    c->options = options ? *options : (chats_options){0};
    mlxr_status status = disk_make_dir(directory, error);
    status = status == MLXR_OK ? take_lock(c, directory, error) : status;
    status = status == MLXR_OK ? open_database(c, directory, error) : status;
    if (status == MLXR_OK) {
        chats_status begun = chats_begin(c, error);
        begun = begun == CHATS_OK ? chats_finish(c, runs_recover(c, error), error) : begun;
        status = begun == CHATS_OK ? MLXR_OK : begun == CHATS_NO_MEMORY ? MLXR_NOMEM : MLXR_IO;
    }
    if (status != MLXR_OK) {
        chats_close(&c);
        return status;
    }
    *out = c;
    return MLXR_OK;
}

void chats_close(chats **pointer)
{
    chats *c = *pointer;
    if (!c) {
        return;
    }
    sqlite3_close(c->db);
    if (c->lock_fd >= 0) {
        close(c->lock_fd);
    }
    pthread_mutex_destroy(&c->lock);
    free(c->active);
    free(c);
    *pointer = NULL;
}

/* ---- taking turns ------------------------------------------------------------------------------------------------ */

int64_t chats_now_us(const chats *c)
{
    struct timespec now;
    if (c->options.now_us) {
        return c->options.now_us();
    }
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t chats_undo_us(const chats *c)
{
    return (c->options.undo_s ? c->options.undo_s : UNDO_S) * INT64_C(1000000);
}

void chats_lock(chats *c)
{
    pthread_mutex_lock(&c->lock);
}

void chats_unlock(chats *c)
{
    pthread_mutex_unlock(&c->lock);
}

chats_status chats_begin(chats *c, mlxr_error *error)
{
    chats_lock(c);
    mlxr_status status = db_run(c->db, error, "BEGIN IMMEDIATE", "");
    if (status != MLXR_OK) {
        chats_unlock(c);
    }
    return chats_of_db(status);
}

chats_status chats_finish(chats *c, chats_status status, mlxr_error *error)
{
    if (status == CHATS_OK) {
        status = chats_of_db(db_run(c->db, error, "COMMIT", ""));
    }
    if (!sqlite3_get_autocommit(c->db)) {
        sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL); /* the reason is told already */
    }
    chats_unlock(c);
    return status;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static json_t *cell(sqlite3_stmt *s, int column, char kind)
{
    if (sqlite3_column_type(s, column) == SQLITE_NULL) {
        return json_null();
    }
    if (kind == 'b') {
        return json_boolean(sqlite3_column_int64(s, column) != 0);
    }
    if (kind == 'j') {
        const char *text = db_text(s, column);
        return *text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : json_null();
    }
    if (sqlite3_column_type(s, column) == SQLITE_INTEGER) {
        int64_t number = sqlite3_column_int64(s, column);
        return kind == '0' && number == 0 ? json_null() : json_integer(number);
    }
    if (sqlite3_column_type(s, column) == SQLITE_FLOAT) {
        return json_real(sqlite3_column_double(s, column));
    }
    return json_stringn_nocheck(db_text(s, column), (size_t)sqlite3_column_bytes(s, column));
}

json_t *chats_row(sqlite3_stmt *s)
{
    json_t *row = json_object();
    for (int i = 0; row && i < sqlite3_column_count(s); i++) {
        const char *full = sqlite3_column_name(s, i), *mark = full ? strchr(full, '?') : NULL;
        char name[64];
        if (!full || strlen(full) >= sizeof name) {
            json_decref(row);
            return NULL;
        }
        memcpy(name, full, strlen(full) + 1);
        name[mark ? (size_t)(mark - full) : strlen(full)] = '\0';
        if (json_object_set_new(row, name, cell(s, i, mark ? mark[1] : 't')) != 0) {
            json_decref(row);
            return NULL;
        }
    }
    return row;
}

chats_status chats_rows(chats *c, mlxr_status status, sqlite3_stmt *s, json_t **out, mlxr_error *error)
{
    json_t *list = json_array();
    bool row = true, ok = list != NULL;
    while (status == MLXR_OK && ok && row) {
        status = db_step(c->db, &s, &row, error);
        ok = status != MLXR_OK || !row || json_array_append_new(list, chats_row(s)) == 0;
    }
    sqlite3_finalize(s);
    if (status != MLXR_OK || !ok) {
        json_decref(list);
        return status != MLXR_OK ? chats_of_db(status) : chats_no_memory(error);
    }
    *out = list;
    return CHATS_OK;
}

chats_status chats_one(chats *c, mlxr_status status, sqlite3_stmt *s, const char *what, int64_t id, json_t **out,
                       mlxr_error *error)
{
    json_t *list;
    chats_status result = chats_rows(c, status, s, &list, error);
    if (result != CHATS_OK) {
        return result;
    }
    *out = json_incref(json_array_get(list, 0));
    json_decref(list);
    return *out ? CHATS_OK : chats_fail(error, CHATS_NOT_FOUND, "there is no %s %lld", what, (long long)id);
}

char *chats_dump(const json_t *value)
{
    return value && !json_is_null(value) ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : strdup("");
}

static mlxr_status set_one(chats *c, const char *table, int64_t id, const chats_column *column, const json_t *value,
                           mlxr_error *error)
{
    char sql[128];
    sqlite3_snprintf(sizeof sql, sql, "UPDATE %s SET %s = ? WHERE id = ?", table, column->name);
    if (column->type == 'i' && json_is_null(value)) {
        sqlite3_snprintf(sizeof sql, sql, "UPDATE %s SET %s = NULL WHERE id = ?", table, column->name);
        return db_run(c->db, error, sql, "i", id);
    }
    if (column->type == 'i' || column->type == 'b') {
        int64_t number = column->type == 'b' ? json_is_true(value) : json_integer_value(value);
        return db_run(c->db, error, sql, "ii", number, id);
    }
    char *text = column->type == 'j' ? chats_dump(value) : NULL;
    if (column->type == 'j' && !text) {
        return daemon_error(error, MLXR_NOMEM, "out of memory in the chats");
    }
    const char *given = text ? text : json_is_string(value) ? json_string_value(value) : "";
    mlxr_status status = db_run(c->db, error, sql, "ti", given, id);
    free(text);
    return status;
}

chats_status chats_set(chats *c, const char *table, int64_t id, const json_t *fields, const chats_column *columns,
                       size_t n, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < n && status == MLXR_OK; i++) {
        const json_t *value = json_object_get(fields, columns[i].name);
        if (value) {
            status = set_one(c, table, id, &columns[i], value, error);
        }
    }
    return chats_of_db(status);
}

chats_status chats_check_revision(const json_t *fields, const json_t *row, const char *what, mlxr_error *error)
{
    const json_t *given = json_object_get(fields, "revision");
    json_int_t is = json_integer_value(json_object_get(row, "revision"));
    if (!given || json_integer_value(given) == is) {
        return CHATS_OK;
    }
    return chats_fail(error, CHATS_CONFLICT, "the %s was changed meanwhile: it has revision %lld now, not %lld", what,
                      (long long)is, (long long)json_integer_value(given));
}

/* ---- tidying ----------------------------------------------------------------------------------------------------- */

chats_status chats_tidy(chats *c, uint32_t *purged, mlxr_error *error)
{
    int64_t now = chats_now_us(c), n = 0;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    mlxr_status done = db_run(c->db, error, "DELETE FROM chats WHERE removed_us > 0 AND purge_us <= ?", "i", now);
    n = sqlite3_changes(c->db);
    if (done == MLXR_OK) {
        done = db_run(c->db, error,
                      "DELETE FROM generations WHERE state != 'running' AND ended_us < ? AND id NOT IN (SELECT max(id) "
                      "FROM generations GROUP BY message)",
                      "i", now - EVENTS_US);
    }
    if (done == MLXR_OK) {
        done = db_run(c->db, error,
                      "DELETE FROM chunks WHERE generation IN (SELECT id FROM generations WHERE state != 'running' AND "
                      "ended_us < ?)",
                      "i", now - EVENTS_US);
    }
    status = chats_finish(c, chats_of_db(done), error);
    if (status == CHATS_OK && purged) {
        *purged = (uint32_t)n;
    }
    return status;
}
