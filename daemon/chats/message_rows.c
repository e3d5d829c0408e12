/*
 * Messages of a chat: a tree, read by pages, by branch, and as what a model is asked.
 * Owner: the store. Lifetime: the call.
 */
#include <stdlib.h>
#include <string.h>

#include "chats/inside.h"
#include "telemetry/text_buffer.h"

#define PAGE_LIMIT 1000u
#define PAGE_BYTES ((size_t)8 << 20)
#define TITLE_CHARS 80u

#define N(list) (sizeof(list) / sizeof *(list))

#define MESSAGE_COLUMNS                                                                                                \
    "m.id AS id, parent, role, state, content, reasoning, tool_calls AS 'tool_calls?j', nullif(tool_call_id, '') AS "  \
    "tool_call_id, nullif(model, '') AS model, parameters AS 'parameters?j', stats AS 'stats?j', "                     \
    "(SELECT max(id) FROM generations WHERE message = m.id) AS generation, revision, created_us / 1000 AS "            \
    "created_ms, modified_us / 1000 AS modified_ms, "
#define ATTACHMENTS                                                                                                    \
    "(SELECT json_group_array(json_object('name', a.name, 'type', a.type, 'n_bytes', length(CAST(a.content AS "        \
    "BLOB)))) FROM (SELECT * FROM attachments WHERE message = m.id ORDER BY position) a) AS 'attachments?j'"
#define ATTACHMENTS_WHOLE                                                                                              \
    "(SELECT json_group_array(json_object('name', a.name, 'type', a.type, 'n_bytes', length(CAST(a.content AS "        \
    "BLOB)), 'content', a.content)) FROM (SELECT * FROM attachments WHERE message = m.id ORDER BY position) a) AS "    \
    "'attachments?j'"

static const chats_column message_fields[] = {{"content", 't'}, {"reasoning", 't'},  {"tool_calls", 'j'},
                                              {"model", 't'},   {"parameters", 'j'}, {"tool_call_id", 't'},
                                              {"stats", 'j'}};

chats_status message_find(chats *c, int64_t chat, int64_t id, bool contents, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    const char *sql = contents ? "SELECT " MESSAGE_COLUMNS ATTACHMENTS_WHOLE
                                 " FROM messages m WHERE m.id = ? AND chat = ?"
                               : "SELECT " MESSAGE_COLUMNS ATTACHMENTS " FROM messages m WHERE m.id = ? AND chat = ?";
    mlxr_status status = db_prepare(c->db, &s, error, sql, "ii", id, chat);
    return chats_one(c, status, s, "message", id, out, error);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* A page ends with `limit` messages, or when it has become large. */
static chats_status read_page(chats *c, sqlite3_stmt *s, uint32_t limit, json_t **out, mlxr_error *error)
{
    json_t *list = json_array();
    mlxr_status status = MLXR_OK;
    size_t n_bytes = 0;
    bool row = true, more = false, ok = list != NULL;
    while (ok && !more && row && (status = db_step(c->db, &s, &row, error)) == MLXR_OK && row) {
        more = json_array_size(list) == limit || n_bytes > PAGE_BYTES;
        if (!more) {
            n_bytes += (size_t)sqlite3_column_bytes(s, 4) + (size_t)sqlite3_column_bytes(s, 5);
            ok = json_array_append_new(list, chats_row(s)) == 0;
        }
    }
    sqlite3_finalize(status == MLXR_OK && row ? s : NULL);
    if (status != MLXR_OK || !ok) {
        json_decref(list);
        return status != MLXR_OK ? chats_of_db(status) : chats_no_memory(error);
    }
    json_t *last = json_array_get(list, json_array_size(list) - 1);
    *out = json_pack("{s:o, s:o}", "messages", list, "next",
                     more ? json_incref(json_object_get(last, "id")) : json_null());
    return *out ? CHATS_OK : chats_no_memory(error);
}

chats_status chats_messages(chats *c, const chats_who *who, int64_t chat, int64_t after, uint32_t limit, json_t **out,
                            mlxr_error *error)
{
    sqlite3_stmt *s;
    json_t *row = NULL;
    chats_lock(c);
    chats_status result = chat_find(c, who, chat, false, &row, error);
    json_decref(row);
    if (result == CHATS_OK) {
        mlxr_status status = db_prepare(c->db, &s, error,
                                        "SELECT " MESSAGE_COLUMNS ATTACHMENTS
                                        " FROM messages m WHERE chat = ? AND m.id > ? ORDER BY m.id",
                                        "ii", chat, after);
        result = status == MLXR_OK ? read_page(c, s, limit ? limit : PAGE_LIMIT, out, error) : chats_of_db(status);
    }
    chats_unlock(c);
    return result;
}

chats_status chats_message_get(chats *c, const chats_who *who, int64_t chat, int64_t id, json_t **out,
                               mlxr_error *error)
{
    json_t *row = NULL;
    chats_lock(c);
    chats_status status = chat_find(c, who, chat, false, &row, error);
    json_decref(row);
    status = status == CHATS_OK ? message_find(c, chat, id, true, out, error) : status;
    chats_unlock(c);
    return status;
}

/* The branch from the beginning to this message. */
chats_status message_path(chats *c, int64_t chat, int64_t id, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    mlxr_status status = db_prepare(
        c->db, &s, error,
        "WITH RECURSIVE up(at, above, depth) AS (SELECT id, parent, 0 FROM messages WHERE id = ?1 AND chat = ?2 UNION "
        "ALL SELECT x.id, x.parent, depth + 1 FROM messages x, up WHERE x.id = up.above AND depth < ?3) "
        "SELECT " MESSAGE_COLUMNS ATTACHMENTS_WHOLE " FROM up, messages m WHERE m.id = up.at ORDER BY depth DESC",
        "iii", id, chat, (int64_t)CHATS_DEPTH);
    chats_status result = chats_rows(c, status, s, out, error);
    if (result == CHATS_OK && json_array_size(*out) == 0) {
        json_decref(*out);
        *out = NULL;
        return chats_fail(error, CHATS_NOT_FOUND, "there is no message %lld", (long long)id);
    }
    return result;
}

/* ---- as a model is asked ----------------------------------------------------------------------------------------- */

static size_t longest_fence(const char *text)
{
    size_t longest = 2, n = 0;
    for (; *text; text++) {
        n = *text == '`' ? n + 1 : 0;
        longest = n > longest ? n : longest;
    }
    return longest + 1;
}

/* A file stands before the message, in a fence that nothing in it can close. */
static void add_attachment(text_buffer *text, const json_t *attachment)
{
    const char *name = json_string_value(json_object_get(attachment, "name"));
    const char *content = json_string_value(json_object_get(attachment, "content"));
    size_t n_fence = longest_fence(content ? content : ""), n = content ? strlen(content) : 0;
    text_print(text, "File: %s\n", name ? name : "");
    for (size_t i = 0; i < n_fence; i++) {
        text_add(text, "`", 1);
    }
    text_add(text, "\n", 1);
    text_add(text, content ? content : "", n);
    text_add_string(text, n && content[n - 1] == '\n' ? "" : "\n");
    for (size_t i = 0; i < n_fence; i++) {
        text_add(text, "`", 1);
    }
    text_add_string(text, "\n\n");
}

static json_t *content_of(const json_t *message)
{
    const json_t *attachments = json_object_get(message, "attachments");
    json_t *content = json_object_get(message, "content");
    if (json_array_size(attachments) == 0) {
        return json_incref(content);
    }
    text_buffer text = {0};
    for (size_t i = 0; i < json_array_size(attachments); i++) {
        add_attachment(&text, json_array_get(attachments, i));
    }
    text_add(&text, json_string_value(content), json_string_length(content));
    json_t *made = text.failed ? NULL : json_stringn(text.data, text.n);
    text_buffer_close(&text);
    return made;
}

static json_t *ask_of(const json_t *message)
{
    json_t *role = json_object_get(message, "role"), *calls = json_object_get(message, "tool_calls");
    json_t *reasoning = json_object_get(message, "reasoning"), *call = json_object_get(message, "tool_call_id");
    json_t *made = json_pack("{s:O, s:o}", "role", role, "content", content_of(message));
    if (made && json_string_length(reasoning) > 0) {
        json_object_set(made, "reasoning_content", reasoning);
    }
    if (made && json_array_size(calls) > 0) {
        json_object_set(made, "tool_calls", calls);
    }
    if (made && json_is_string(call)) {
        json_object_set(made, "tool_call_id", call);
    }
    return made;
}

chats_status message_prompt(chats *c, int64_t chat, int64_t id, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    json_t *path = NULL, *list = NULL;
    chats_status status = message_path(c, chat, id, &path, error);
    if (status != CHATS_OK) {
        return status;
    }
    mlxr_status read = db_prepare(c->db, &s, error,
                                  "SELECT 'system' AS role, system AS content FROM chats WHERE id = ? AND system != ''",
                                  "i", chat);
    status = chats_rows(c, read, s, &list, error);
    bool ok = true;
    for (size_t i = 0; status == CHATS_OK && ok && i < json_array_size(path); i++) {
        ok = json_array_append_new(list, ask_of(json_array_get(path, i))) == 0;
    }
    json_decref(path);
    if (status == CHATS_OK && !ok) {
        json_decref(list);
        return chats_no_memory(error);
    }
    *out = list;
    return status;
}

chats_status chats_prompt(chats *c, const chats_who *who, int64_t chat, int64_t id, json_t **out, mlxr_error *error)
{
    json_t *row = NULL;
    chats_lock(c);
    chats_status status = chat_find(c, who, chat, false, &row, error);
    json_decref(row);
    status = status == CHATS_OK ? message_prompt(c, chat, id, out, error) : status;
    chats_unlock(c);
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static chats_status insert_attachments(chats *c, int64_t message, const json_t *list, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < json_array_size(list) && status == MLXR_OK; i++) {
        const json_t *one = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        const char *type = json_string_value(json_object_get(one, "type"));
        const char *content = json_string_value(json_object_get(one, "content"));
        status = db_run(
            c->db, error, "INSERT INTO attachments(message, position, name, type, content) VALUES (?, ?, ?, ?, ?)",
            "iittt", message, (int64_t)i, name ? name : "", type ? type : "text/plain", content ? content : "");
    }
    return chats_of_db(status);
}

/* 0: the chat's beginning. */
static chats_status check_parent(chats *c, int64_t chat, int64_t parent, mlxr_error *error)
{
    json_t *found = NULL;
    int64_t n = 0, depth = 0;
    mlxr_status counted = db_number(c->db, &n, 0, error, "SELECT count(*) FROM messages WHERE chat = ?", "i", chat);
    if (counted != MLXR_OK) {
        return chats_of_db(counted);
    }
    if (n >= CHATS_MESSAGES) {
        return chats_fail(error, CHATS_LIMIT, "the chat has %lld messages; more are not kept", (long long)n);
    }
    if (parent == 0) {
        return CHATS_OK;
    }
    chats_status status = message_find(c, chat, parent, false, &found, error);
    bool running = found && strcmp(json_string_value(json_object_get(found, "state")), "running") == 0;
    json_decref(found);
    if (status != CHATS_OK) {
        return status == CHATS_NOT_FOUND
                   ? chats_fail(error, CHATS_INVALID, "parent: the chat has no message %lld", (long long)parent)
                   : status;
    }
    if (running) {
        return chats_fail(error, CHATS_CONFLICT, "message %lld is being made; wait for its end, or stop it",
                          (long long)parent);
    }
    counted = db_number(
        c->db, &depth, 0, error,
        "WITH RECURSIVE up(at, depth) AS (SELECT ?1, 1 UNION ALL SELECT x.parent, depth + 1 FROM messages "
        "x, up WHERE x.id = up.at AND x.parent IS NOT NULL AND depth < ?2) SELECT max(depth) FROM up",
        "ii", parent, (int64_t)CHATS_DEPTH);
    if (counted == MLXR_OK && depth >= (int64_t)CHATS_DEPTH) {
        return chats_fail(error, CHATS_LIMIT, "a branch holds %u messages at most", CHATS_DEPTH);
    }
    return chats_of_db(counted);
}

chats_status message_write(chats *c, int64_t chat, const json_t *fields, int64_t *id, mlxr_error *error)
{
    const char *role = json_string_value(json_object_get(fields, "role"));
    const char *state = json_string_value(json_object_get(fields, "state"));
    int64_t parent = json_integer_value(json_object_get(fields, "parent")), now = chats_now_us(c);
    chats_status status = chats_of_db(
        db_run(c->db, error,
               "INSERT INTO messages(chat, parent, role, state, content, created_us, modified_us) VALUES "
               "(?, nullif(?, 0), ?, ?, '', ?, ?)",
               "iittii", chat, parent, role ? role : "user", state ? state : "complete", now, now));
    *id = sqlite3_last_insert_rowid(c->db);
    status = status == CHATS_OK ? chats_set(c, "messages", *id, fields, message_fields, N(message_fields), error)
                                : status;
    return status == CHATS_OK ? insert_attachments(c, *id, json_object_get(fields, "attachments"), error) : status;
}

chats_status message_insert(chats *c, int64_t chat, const json_t *fields, int64_t *id, mlxr_error *error)
{
    int64_t parent = json_integer_value(json_object_get(fields, "parent"));
    chats_status status = check_parent(c, chat, parent, error);
    return status == CHATS_OK ? message_write(c, chat, fields, id, error) : status;
}

/* The first line, at most TITLE_CHARS characters of it. */
static char *title_of(const char *content)
{
    while (*content == ' ' || *content == '\n' || *content == '\r' || *content == '\t') {
        content++;
    }
    size_t n = 0, n_chars = 0;
    for (; content[n] && content[n] != '\n' && content[n] != '\r'; n++) {
        bool begins = ((unsigned char)content[n] & 0xc0) != 0x80;
        if (begins && n_chars++ == TITLE_CHARS) {
            break;
        }
    }
    bool cut = content[n] && content[n] != '\n' && content[n] != '\r';
    char *title = malloc(n + 4);
    if (title) {
        memcpy(title, content, n);
        memcpy(title + n, cut ? "…" : "", cut ? 4 : 1);
    }
    return title;
}

chats_status message_title(chats *c, int64_t chat, const char *content, mlxr_error *error)
{
    char *title = title_of(content);
    if (!title) {
        return chats_no_memory(error);
    }
    mlxr_status status = *title ? db_run(c->db, error, "UPDATE chats SET title = ? WHERE id = ? AND title = ''", "ti",
                                         title, chat)
                                : MLXR_OK;
    free(title);
    return chats_of_db(status);
}

/* The message as it goes out, once all has been written. */
static chats_status give_message(chats *c, int64_t chat, int64_t id, chats_status status, json_t **out,
                                 mlxr_error *error)
{
    json_t *row = NULL;
    status = status == CHATS_OK ? message_find(c, chat, id, false, &row, error) : status;
    status = chats_finish(c, status, error);
    *out = status == CHATS_OK ? json_incref(row) : NULL;
    json_decref(row);
    return status;
}

chats_status chats_message_add(chats *c, const chats_who *who, int64_t chat, const json_t *fields, json_t **out,
                               mlxr_error *error)
{
    int64_t id = 0;
    json_t *row = NULL;
    const json_t *activate = json_object_get(fields, "activate");
    const char *content = json_string_value(json_object_get(fields, "content"));
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = chat_find(c, who, chat, false, &row, error);
    status = status == CHATS_OK ? message_insert(c, chat, fields, &id, error) : status;
    status = status == CHATS_OK ? chat_touch(c, chat, json_is_false(activate) ? 0 : id, error) : status;
    status = status == CHATS_OK ? message_title(c, chat, content ? content : "", error) : status;
    json_decref(row);
    return give_message(c, chat, id, status, out, error);
}

chats_status chats_message_change(chats *c, const chats_who *who, int64_t chat, int64_t id, const json_t *fields,
                                  json_t **out, mlxr_error *error)
{
    static const chats_column editable[] = {{"content", 't'}, {"reasoning", 't'}};
    json_t *row = NULL, *message = NULL;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = chat_find(c, who, chat, false, &row, error);
    status = status == CHATS_OK ? message_find(c, chat, id, false, &message, error) : status;
    status = status == CHATS_OK ? chats_check_revision(fields, message, "message", error) : status;
    status = status == CHATS_OK ? runs_check_idle(c, chat, id, error) : status;
    status = status == CHATS_OK ? chats_set(c, "messages", id, fields, editable, N(editable), error) : status;
    if (status == CHATS_OK) { /* a text that was edited is not what the tokens say */
        mlxr_status done = db_run(c->db, error, "DELETE FROM answers WHERE message = ?", "i", id);
        done = done == MLXR_OK
                   ? db_run(c->db, error, "UPDATE messages SET revision = revision + 1, modified_us = ? WHERE id = ?",
                            "ii", chats_now_us(c), id)
                   : done;
        status = chats_of_db(done);
    }
    status = status == CHATS_OK ? chat_touch(c, chat, 0, error) : status;
    json_decref(row);
    json_decref(message);
    return give_message(c, chat, id, status, out, error);
}

/* CHATS_CONFLICT while something behind the message is being made. */
static chats_status check_below(chats *c, int64_t chat, int64_t id, mlxr_error *error)
{
    int64_t n = 0;
    mlxr_status status = db_number(
        c->db, &n, 0, error,
        "WITH RECURSIVE below(at) AS (SELECT ?1 UNION ALL SELECT x.id FROM messages x, below "
        "WHERE x.parent = below.at AND x.chat = ?2) SELECT count(*) FROM below, generations WHERE "
        "message = below.at AND state = 'running'",
        "ii", id, chat);
    return status == MLXR_OK && n
               ? chats_fail(error, CHATS_CONFLICT, "an answer behind message %lld is being made", (long long)id)
               : chats_of_db(status);
}

chats_status chats_message_remove(chats *c, const chats_who *who, int64_t chat, int64_t id, mlxr_error *error)
{
    json_t *row = NULL, *message = NULL;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = chat_find(c, who, chat, false, &row, error);
    status = status == CHATS_OK ? message_find(c, chat, id, false, &message, error) : status;
    status = status == CHATS_OK ? check_below(c, chat, id, error) : status;
    if (status == CHATS_OK) {
        int64_t parent = json_integer_value(json_object_get(message, "parent"));
        mlxr_status done = db_run(c->db, error,
                                  "DELETE FROM messages WHERE id IN (WITH RECURSIVE below(at) AS (SELECT ?1 UNION ALL "
                                  "SELECT x.id FROM messages x, below WHERE x.parent = below.at) SELECT at FROM below)",
                                  "i", id);
        done = done == MLXR_OK
                   ? db_run(
                         c->db, error,
                         "UPDATE chats SET leaf = nullif(?, 0) WHERE id = ? AND leaf NOT IN (SELECT id FROM messages "
                         "WHERE chat = ?)",
                         "iii", parent, chat, chat)
                   : done;
        status = chats_of_db(done);
    }
    status = status == CHATS_OK ? chat_touch(c, chat, 0, error) : status;
    json_decref(row);
    json_decref(message);
    return chats_finish(c, status, error);
}
