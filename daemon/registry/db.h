/*
 * SQLite with checked calls: opening, migrating, statements with their values, transactions.
 * Owner: the registry, or another store. Lifetime: db_open to sqlite3_close. One thread at a time.
 */
#ifndef MLXR_REGISTRY_DB_H
#define MLXR_REGISTRY_DB_H

#include <sqlite3.h>

#include "mlxr.h"

/* Tables, as a text in parts "-- version N", each of which brings a database from the version before it. */
typedef struct db_schema {
    const char *text;
    const char *whose; /* for messages: "the registry's" database */
} db_schema;

/* Opens (and, unless read_only, makes and migrates) the database. path ":memory:": an empty one. A database of a newer
 * version than this program knows is refused. */
mlxr_status db_open(sqlite3 **out, const char *path, bool read_only, const db_schema *schema, mlxr_error *error);

/* What SQLite says, as an error. */
mlxr_status db_failed(sqlite3 *db, const char *what, mlxr_error *error);

/* A statement with its values bound. types: t = const char *, i = int64_t, b = const void *, size_t. Texts must live
 * until it is finalized. */
mlxr_status db_prepare(sqlite3 *db, sqlite3_stmt **out, mlxr_error *error, const char *sql, const char *types, ...);
/* *row: whether there is one; finalizes the statement and nulls it when there is none, or on an error. */
mlxr_status db_step(sqlite3 *db, sqlite3_stmt **statement, bool *row, mlxr_error *error);
/* Prepares, runs to the end and finalizes. */
mlxr_status db_run(sqlite3 *db, mlxr_error *error, const char *sql, const char *types, ...);
/* The first column of the first row; `otherwise` if there is no row. */
mlxr_status db_number(sqlite3 *db, int64_t *out, int64_t otherwise, mlxr_error *error, const char *sql,
                      const char *types, ...);
/* A column's text, never NULL. */
const char *db_text(sqlite3_stmt *statement, int column);

/* The parts of the schema up to this version; for tests of migrations. */
mlxr_status db_migrate(sqlite3 *db, const db_schema *schema, int to_version, mlxr_error *error);
int db_version_newest(const db_schema *schema);

#endif
