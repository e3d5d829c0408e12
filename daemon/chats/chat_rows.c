/*
 * Folders and chats.
 * Owner: the store. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chats/inside.h"

#define LIST_LIMIT 50u

#define N(list) (sizeof(list) / sizeof *(list))

/* ---- folders ----------------------------------------------------------------------------------------------------- */

#define FOLDER_COLUMNS                                                                                                 \
    "id, name, position, (SELECT count(*) FROM chats WHERE folder = folders.id AND removed_us = 0) AS n_chats, "       \
    "revision, created_us / 1000 AS created_ms, modified_us / 1000 AS modified_ms"

static const chats_column folder_fields[] = {{"name", 't'}, {"position", 'i'}};

static chats_status folder_find(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    mlxr_status status = db_prepare(c->db, &s, error,
                                    "SELECT " FOLDER_COLUMNS " FROM folders WHERE " CHATS_SEES " AND id = ?4", "tiii",
                                    CHATS_WHO(who), id);
    return chats_one(c, status, s, "folder", id, out, error);
}

chats_status chats_folders(chats *c, const chats_who *who, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    chats_lock(c);
    mlxr_status status = db_prepare(
        c->db, &s, error, "SELECT " FOLDER_COLUMNS " FROM folders WHERE " CHATS_SEES " ORDER BY position, name, id",
        "tii", CHATS_WHO(who));
    chats_status result = chats_rows(c, status, s, out, error);
    chats_unlock(c);
    return result;
}

/* CHATS_LIMIT where the owner has as many as there may be. */
static chats_status check_room(chats *c, const chats_who *who, const char *table, uint32_t most, mlxr_error *error)
{
    char sql[96];
    int64_t n = 0;
    sqlite3_snprintf(sizeof sql, sql, "SELECT count(*) FROM %s WHERE owner = ?", table);
    mlxr_status status = db_number(c->db, &n, 0, error, sql, "t", who->owner);
    if (status != MLXR_OK) {
        return chats_of_db(status);
    }
    return n < most ? CHATS_OK
                    : chats_fail(error, CHATS_LIMIT, "there are %lld %s; more are not kept", (long long)n, table);
}

chats_status chats_folder_add(chats *c, const chats_who *who, const json_t *fields, json_t **out, mlxr_error *error)
{
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    int64_t now = chats_now_us(c), id = 0;
    status = check_room(c, who, "folders", CHATS_FOLDERS, error);
    if (status == CHATS_OK) {
        status = chats_of_db(db_run(c->db, error,
                                    "INSERT INTO folders(owner, name, created_us, modified_us) VALUES (?, '', ?, ?)",
                                    "tii", who->owner, now, now));
        id = sqlite3_last_insert_rowid(c->db);
    }
    status = status == CHATS_OK ? chats_set(c, "folders", id, fields, folder_fields, N(folder_fields), error) : status;
    json_t *made = NULL;
    status = status == CHATS_OK ? folder_find(c, who, id, &made, error) : status;
    status = chats_finish(c, status, error);
    *out = status == CHATS_OK ? json_incref(made) : NULL;
    json_decref(made);
    return status;
}

/* A row was edited. */
static chats_status bump(chats *c, const char *table, int64_t id, mlxr_error *error)
{
    char sql[128];
    sqlite3_snprintf(sizeof sql, sql, "UPDATE %s SET revision = revision + 1, modified_us = ? WHERE id = ?", table);
    return chats_of_db(db_run(c->db, error, sql, "ii", chats_now_us(c), id));
}

chats_status chats_folder_change(chats *c, const chats_who *who, int64_t id, const json_t *fields, json_t **out,
                                 mlxr_error *error)
{
    json_t *row = NULL, *changed = NULL;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = folder_find(c, who, id, &row, error);
    status = status == CHATS_OK ? chats_check_revision(fields, row, "folder", error) : status;
    status = status == CHATS_OK ? chats_set(c, "folders", id, fields, folder_fields, N(folder_fields), error) : status;
    status = status == CHATS_OK ? bump(c, "folders", id, error) : status;
    status = status == CHATS_OK ? folder_find(c, who, id, &changed, error) : status;
    status = chats_finish(c, status, error);
    *out = status == CHATS_OK ? json_incref(changed) : NULL;
    json_decref(row);
    json_decref(changed);
    return status;
}

chats_status chats_folder_remove(chats *c, const chats_who *who, int64_t id, mlxr_error *error)
{
    json_t *row = NULL;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = folder_find(c, who, id, &row, error);
    if (status == CHATS_OK) {
        status = chats_of_db(db_run(c->db, error, "DELETE FROM folders WHERE id = ?", "i", id));
    }
    json_decref(row);
    return chats_finish(c, status, error);
}

/* ---- chats ------------------------------------------------------------------------------------------------------- */

/* `generation` is the newest one under way. */
#define CHAT_COLUMNS                                                                                                   \
    "id, title, folder, model, pinned AS 'pinned?b', leaf, (SELECT count(*) FROM messages WHERE chat = chats.id) AS "  \
    "n_messages, (SELECT max(id) FROM generations WHERE chat = chats.id AND state = 'running') AS generation, "        \
    "revision, created_us / 1000 AS created_ms, modified_us / 1000 AS modified_ms, removed_us / 1000 AS "              \
    "'removed_ms?0', purge_us / 1000 AS 'purge_ms?0'"
#define CHAT_DETAILS CHAT_COLUMNS ", system, parameters AS 'parameters?j'"

static const chats_column chat_fields[] = {{"title", 't'},  {"folder", 'i'},     {"model", 't'},
                                           {"system", 't'}, {"parameters", 'j'}, {"pinned", 'b'}};

chats_status chat_find(chats *c, const chats_who *who, int64_t id, bool removed, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    mlxr_status status = db_prepare(c->db, &s, error,
                                    "SELECT " CHAT_DETAILS ", owner FROM chats WHERE " CHATS_SEES
                                    " AND id = ?4 AND (removed_us > 0) = ?5",
                                    "tiiii", CHATS_WHO(who), id, (int64_t)removed);
    return chats_one(c, status, s, removed ? "removed chat" : "chat", id, out, error);
}

chats_status chats_get(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error)
{
    chats_lock(c);
    chats_status status = chat_find(c, who, id, false, out, error);
    chats_unlock(c);
    if (status == CHATS_OK) {
        json_object_del(*out, "owner");
    }
    return status;
}

/* "pinned-microseconds-id" of the last row of a page. */
static bool read_cursor(const char *text, int64_t *pinned, int64_t *modified_us, int64_t *id)
{
    long long a, b, d;
    int n = 0;
    if (sscanf(text, "%lld-%lld-%lld%n", &a, &b, &d, &n) != 3 || text[n]) {
        return false;
    }
    *pinned = a;
    *modified_us = b;
    *id = d;
    return true;
}

/* The page as it goes out: the row too many tells that there are more. */
static chats_status make_page(json_t *rows, uint32_t limit, json_t **out, mlxr_error *error)
{
    bool more = json_array_size(rows) > limit;
    json_t *next = NULL;
    if (more) {
        json_array_remove(rows, limit);
        const json_t *last = json_array_get(rows, limit - 1);
        next = json_sprintf("%d-%lld-%lld", json_is_true(json_object_get(last, "pinned")),
                            (long long)json_integer_value(json_object_get(last, "order")),
                            (long long)json_integer_value(json_object_get(last, "id")));
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_object_del(json_array_get(rows, i), "order");
    }
    *out = json_pack("{s:o, s:o}", "chats", rows, "next", next ? next : json_null());
    return *out ? CHATS_OK : chats_no_memory(error);
}

chats_status chats_list(chats *c, const chats_who *who, const chats_query *q, json_t **out, mlxr_error *error)
{
    uint32_t limit = q->limit ? q->limit : LIST_LIMIT;
    int64_t pinned = 2, modified_us = 0, id = 0;
    sqlite3_stmt *s;
    json_t *rows;
    if (q->after && !read_cursor(q->after, &pinned, &modified_us, &id)) {
        return chats_fail(error, CHATS_INVALID, "after: '%.40s' is not the \"next\" of a page", q->after);
    }
    chats_lock(c);
    mlxr_status status = db_prepare(
        c->db, &s, error,
        "SELECT " CHAT_COLUMNS ", modified_us AS 'order' FROM chats WHERE " CHATS_SEES
        " AND (removed_us > 0) = ?4 AND (NOT ?5 OR ifnull(folder, 0) = ?6) AND modified_us >= ?7 AND (?8 = 0 OR "
        "modified_us < ?8) AND (pinned, modified_us, id) < (?9, ?10, ?11) ORDER BY pinned DESC, modified_us DESC, "
        "id DESC LIMIT ?12",
        "tiiiiiiiiiii", CHATS_WHO(who), (int64_t)q->removed, (int64_t)q->in_folder, q->folder, q->since_ms * 1000,
        q->until_ms * 1000, pinned, modified_us, id, (int64_t)limit + 1);
    chats_status result = chats_rows(c, status, s, &rows, error);
    chats_unlock(c);
    return result == CHATS_OK ? make_page(rows, limit, out, error) : result;
}

/* The folder that the fields name must be there. */
static chats_status check_folder(chats *c, const chats_who *who, const json_t *fields, mlxr_error *error)
{
    const json_t *folder = json_object_get(fields, "folder");
    json_t *row = NULL;
    if (!json_is_integer(folder)) {
        return CHATS_OK;
    }
    chats_status status = folder_find(c, who, json_integer_value(folder), &row, error);
    json_decref(row);
    return status == CHATS_NOT_FOUND ? chats_fail(error, CHATS_INVALID, "folder: there is no folder %lld",
                                                  (long long)json_integer_value(folder))
                                     : status;
}

chats_status chat_insert(chats *c, const chats_who *who, const json_t *fields, int64_t *id, mlxr_error *error)
{
    int64_t now = chats_now_us(c);
    chats_status status = check_room(c, who, "chats", CHATS_PER_OWNER, error);
    status = status == CHATS_OK ? check_folder(c, who, fields, error) : status;
    if (status != CHATS_OK) {
        return status;
    }
    status = chats_of_db(db_run(c->db, error, "INSERT INTO chats(owner, created_us, modified_us) VALUES (?, ?, ?)",
                                "tii", who->owner, now, now));
    *id = sqlite3_last_insert_rowid(c->db);
    return status == CHATS_OK ? chats_set(c, "chats", *id, fields, chat_fields, N(chat_fields), error) : status;
}

/* The chat as it goes out, once all has been written. */
static chats_status give_chat(chats *c, const chats_who *who, int64_t id, chats_status status, json_t **out,
                              mlxr_error *error)
{
    json_t *row = NULL;
    status = status == CHATS_OK ? chat_find(c, who, id, false, &row, error) : status;
    status = chats_finish(c, status, error);
    json_object_del(row, "owner");
    *out = status == CHATS_OK ? json_incref(row) : NULL;
    json_decref(row);
    return status;
}

chats_status chats_add(chats *c, const chats_who *who, const json_t *fields, json_t **out, mlxr_error *error)
{
    int64_t id = 0;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = chat_insert(c, who, fields, &id, error);
    return give_chat(c, who, id, status, out, error);
}

/* The leaf must be a message of the chat. */
static chats_status change_leaf(chats *c, int64_t id, const json_t *fields, mlxr_error *error)
{
    const json_t *leaf = json_object_get(fields, "leaf");
    json_t *message = NULL;
    if (!leaf) {
        return CHATS_OK;
    }
    if (json_is_integer(leaf)) {
        chats_status status = message_find(c, id, json_integer_value(leaf), false, &message, error);
        json_decref(message);
        if (status != CHATS_OK) {
            return status == CHATS_NOT_FOUND ? chats_fail(error, CHATS_INVALID, "leaf: there is no such message")
                                             : status;
        }
    }
    static const chats_column column = {"leaf", 'i'};
    return chats_set(c, "chats", id, fields, &column, 1, error);
}

chats_status chats_change(chats *c, const chats_who *who, int64_t id, const json_t *fields, json_t **out,
                          mlxr_error *error)
{
    json_t *row = NULL;
    bool edits = false;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    for (size_t i = 0; i < N(chat_fields); i++) {
        edits = edits || json_object_get(fields, chat_fields[i].name);
    }
    status = chat_find(c, who, id, false, &row, error);
    status = status == CHATS_OK && edits ? chats_check_revision(fields, row, "chat", error) : status;
    status = status == CHATS_OK ? check_folder(c, who, fields, error) : status;
    status = status == CHATS_OK ? chats_set(c, "chats", id, fields, chat_fields, N(chat_fields), error) : status;
    status = status == CHATS_OK ? change_leaf(c, id, fields, error) : status;
    if (status == CHATS_OK && edits) { /* what is only sorted or renamed keeps its place in time */
        status = chats_of_db(db_run(c->db, error, "UPDATE chats SET revision = revision + 1 WHERE id = ?", "i", id));
    }
    json_decref(row);
    return give_chat(c, who, id, status, out, error);
}

chats_status chats_remove(chats *c, const chats_who *who, int64_t id, bool now, mlxr_error *error)
{
    json_t *row = NULL;
    int64_t at = chats_now_us(c);
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = chat_find(c, who, id, false, &row, error);
    if (status == CHATS_NOT_FOUND && now) {
        status = chat_find(c, who, id, true, &row, error);
    }
    status = status == CHATS_OK && c->strays ? runs_recover(c, error) : status;
    status = status == CHATS_OK ? runs_check_idle(c, id, 0, error) : status;
    if (status == CHATS_OK && now) {
        status = chats_of_db(db_run(c->db, error, "DELETE FROM chats WHERE id = ?", "i", id));
    } else if (status == CHATS_OK) {
        status = chats_of_db(db_run(c->db, error, "UPDATE chats SET removed_us = ?, purge_us = ? WHERE id = ?", "iii",
                                    at, at + chats_undo_us(c), id));
    }
    json_decref(row);
    return chats_finish(c, status, error);
}

chats_status chats_restore(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error)
{
    json_t *row = NULL;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = chat_find(c, who, id, true, &row, error);
    if (status == CHATS_OK) {
        status = chats_of_db(
            db_run(c->db, error, "UPDATE chats SET removed_us = 0, purge_us = 0 WHERE id = ?", "i", id));
    }
    json_decref(row);
    return give_chat(c, who, id, status, out, error);
}

chats_status chat_touch(chats *c, int64_t id, int64_t leaf, mlxr_error *error)
{
    return chats_of_db(db_run(
        c->db, error,
        "UPDATE chats SET modified_us = max(?, modified_us), leaf = CASE ? WHEN 0 THEN leaf ELSE ? END WHERE id = ?",
        "iiii", chats_now_us(c), leaf, leaf, id));
}
