/*
 * SQLite with checked calls.
 * Owner: the registry, or another store. Lifetime: db_open to sqlite3_close.
 *
 * The journal is truncated, not deleted: in that mode a commit under synchronous=FULL is on the disk when it returns,
 * while the removal of a journal would have to be synced with its directory.
 */
#include "registry/db.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "registry/fail.h"

/* Which file an error is about, without its folder. */
static const char *name_of(sqlite3 *db)
{
    const char *path = sqlite3_db_filename(db, "main"), *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : "the database";
}

mlxr_status db_failed(sqlite3 *db, const char *what, mlxr_error *error)
{
    int code = sqlite3_extended_errcode(db), system = sqlite3_system_errno(db);
    mlxr_status status = (code & 0xff) == SQLITE_NOMEM                                       ? MLXR_NOMEM
                         : (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB ? MLXR_FORMAT
                         : (code & 0xff) == SQLITE_CONSTRAINT                                ? MLXR_ARG
                                                                                             : MLXR_IO;
    const char *reason = system && status == MLXR_IO ? strerror(system) : "";
    return daemon_error(error, status, "%s: %s: %s%s%s", what, name_of(db), sqlite3_errmsg(db), *reason ? ": " : "",
                        reason);
}

static mlxr_status bind_all(sqlite3 *db, sqlite3_stmt *s, const char *types, va_list values, mlxr_error *error)
{
    for (int i = 1; *types; types++, i++) {
        int code = SQLITE_MISUSE;
        if (*types == 't') {
            code = sqlite3_bind_text(s, i, va_arg(values, const char *), -1, SQLITE_STATIC);
        } else if (*types == 'i') {
            code = sqlite3_bind_int64(s, i, va_arg(values, int64_t));
        } else if (*types == 'b') {
            const void *data = va_arg(values, const void *);
            code = sqlite3_bind_blob64(s, i, data, va_arg(values, size_t), SQLITE_STATIC);
        }
        if (code != SQLITE_OK) {
            return db_failed(db, "binding a value", error);
        }
    }
    return MLXR_OK;
}

static mlxr_status prepare_with(sqlite3 *db, sqlite3_stmt **out, mlxr_error *error, const char *sql, const char *types,
                                va_list values)
{
    *out = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, out, NULL) != SQLITE_OK) {
        return db_failed(db, "preparing", error);
    }
    mlxr_status status = bind_all(db, *out, types, values, error);
    if (status != MLXR_OK) {
        sqlite3_finalize(*out);
        *out = NULL;
    }
    return status;
}

mlxr_status db_prepare(sqlite3 *db, sqlite3_stmt **out, mlxr_error *error, const char *sql, const char *types, ...)
{
    va_list values;
    va_start(values, types);
    mlxr_status status = prepare_with(db, out, error, sql, types, values);
    va_end(values);
    return status;
}

mlxr_status db_step(sqlite3 *db, sqlite3_stmt **statement, bool *row, mlxr_error *error)
{
    int code = sqlite3_step(*statement);
    *row = code == SQLITE_ROW;
    if (*row) {
        return MLXR_OK;
    }
    mlxr_status status = code == SQLITE_DONE ? MLXR_OK : db_failed(db, "a statement", error);
    sqlite3_finalize(*statement);
    *statement = NULL;
    return status;
}

static mlxr_status run_out(sqlite3 *db, sqlite3_stmt *s, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (bool row = true; status == MLXR_OK && s;) {
        status = db_step(db, &s, &row, error);
    }
    return status;
}

mlxr_status db_run(sqlite3 *db, mlxr_error *error, const char *sql, const char *types, ...)
{
    va_list values;
    sqlite3_stmt *s;
    va_start(values, types);
    mlxr_status status = prepare_with(db, &s, error, sql, types, values);
    va_end(values);
    return status == MLXR_OK ? run_out(db, s, error) : status;
}

mlxr_status db_number(sqlite3 *db, int64_t *out, int64_t otherwise, mlxr_error *error, const char *sql,
                      const char *types, ...)
{
    va_list values;
    sqlite3_stmt *s;
    bool row = false;
    va_start(values, types);
    mlxr_status status = prepare_with(db, &s, error, sql, types, values);
    va_end(values);
    if (status == MLXR_OK) {
        status = db_step(db, &s, &row, error);
    }
    if (status == MLXR_OK) {
        *out = row ? sqlite3_column_int64(s, 0) : otherwise;
    }
    sqlite3_finalize(row ? s : NULL);
    return status;
}

const char *db_text(sqlite3_stmt *statement, int column)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    return text ? (const char *)text : "";
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

/* The beginning of the part for a version, or NULL. */
static const char *find_part(const db_schema *schema, int version)
{
    char mark[32];
    sqlite3_snprintf(sizeof mark, mark, "-- version %d\n", version);
    return strstr(schema->text, mark);
}

int db_version_newest(const db_schema *schema)
{
    int version = 0;
    while (find_part(schema, version + 1)) {
        version++;
    }
    return version;
}

static mlxr_status apply_part(sqlite3 *db, const db_schema *schema, int version, mlxr_error *error)
{
    const char *begin = find_part(schema, version), *end = find_part(schema, version + 1);
    char number[48];
    char *part = strndup(begin, end ? (size_t)(end - begin) : strlen(begin));
    if (!part) {
        return daemon_error(error, MLXR_NOMEM, "out of memory for %s schema", schema->whose);
    }
    sqlite3_snprintf(sizeof number, number, "PRAGMA user_version = %d", version);
    bool done = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
                sqlite3_exec(db, part, NULL, NULL, NULL) == SQLITE_OK &&
                sqlite3_exec(db, number, NULL, NULL, NULL) == SQLITE_OK &&
                sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
    mlxr_status status = done ? MLXR_OK : db_failed(db, "migrating", error);
    if (!done && !sqlite3_get_autocommit(db)) {
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    free(part);
    return status;
}

mlxr_status db_migrate(sqlite3 *db, const db_schema *schema, int to_version, mlxr_error *error)
{
    int64_t version = 0;
    mlxr_status status = db_number(db, &version, 0, error, "PRAGMA user_version", "");
    if (status == MLXR_OK && version > db_version_newest(schema)) {
        return daemon_error(error, MLXR_UNSUPPORTED,
                            "%s database is of version %lld, this program knows up to %d: use a newer mlxr",
                            schema->whose, (long long)version, db_version_newest(schema));
    }
    while (status == MLXR_OK && version < to_version) {
        status = apply_part(db, schema, (int)++version, error);
    }
    return status;
}

static mlxr_status set_up(sqlite3 *db, bool read_only, const db_schema *schema, mlxr_error *error)
{
    static const char *const pragmas[] = {
        "PRAGMA foreign_keys = ON",  "PRAGMA trusted_schema = OFF",    "PRAGMA cell_size_check = ON",
        "PRAGMA mmap_size = 0",      "PRAGMA temp_store = MEMORY",     "PRAGMA cache_size = -512",
        "PRAGMA synchronous = FULL", "PRAGMA journal_mode = TRUNCATE",
    };
    sqlite3_busy_timeout(db, 10000);
    for (size_t i = 0; i < sizeof pragmas / sizeof *pragmas - (read_only ? 1 : 0); i++) {
        if (sqlite3_exec(db, pragmas[i], NULL, NULL, NULL) != SQLITE_OK) {
            return db_failed(db, pragmas[i], error);
        }
    }
    return read_only ? MLXR_OK : db_migrate(db, schema, db_version_newest(schema), error);
}

mlxr_status db_open(sqlite3 **out, const char *path, bool read_only, const db_schema *schema, mlxr_error *error)
{
    sqlite3 *db = NULL;
    bool memory = strcmp(path, ":memory:") == 0;
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    flags |= read_only && !memory ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    mlxr_status status = MLXR_OK;
    if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK) {
        status = db ? db_failed(db, path, error)
                    : daemon_error(error, MLXR_NOMEM, "out of memory for %s database", schema->whose);
    } else {
        sqlite3_extended_result_codes(db, 1);
        status = set_up(db, read_only && !memory, schema, error);
    }
    if (status != MLXR_OK) {
        sqlite3_close(db);
        return status;
    }
    *out = db;
    return MLXR_OK;
}
