/*
 * Chats as files: JSON with all branches, Markdown with the shown one.
 * Owner: the store. Lifetime: the call.
 *
 * In Markdown a comment, <!-- mlxr:ROLE -->, stands before each message, so that headings of messages are just text;
 * one that stands in a message gets a backslash, and loses it when it is read.
 */
#include <stdlib.h>
#include <string.h>

#include "chats/inside.h"
#include "telemetry/text_buffer.h"

#define MARK "<!-- mlxr:"
#define MARK_END " -->\n"

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static const char *const chat_kept[] = {"title", "model", "system", "parameters", "pinned", "leaf", "created_ms"};
static const char *const message_kept[] = {"id",        "parent",      "role",         "state", "content",
                                           "reasoning", "tool_calls",  "tool_call_id", "model", "parameters",
                                           "stats",     "attachments", "created_ms"};

static json_t *pick(const json_t *from, const char *const *keys, size_t n)
{
    json_t *made = json_object();
    for (size_t i = 0; i < n; i++) {
        json_t *value = json_object_get(from, keys[i]);
        if (value && !json_is_null(value)) {
            json_object_set(made, keys[i], value);
        }
    }
    return made;
}

static chats_status all_messages(chats *c, int64_t chat, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    json_t *ids = NULL, *list = json_array();
    mlxr_status read = db_prepare(c->db, &s, error, "SELECT id FROM messages WHERE chat = ? ORDER BY id", "i", chat);
    chats_status status = chats_rows(c, read, s, &ids, error);
    for (size_t i = 0; status == CHATS_OK && i < json_array_size(ids); i++) {
        json_t *one = NULL;
        status = message_find(c, chat, json_integer_value(json_object_get(json_array_get(ids, i), "id")), true, &one,
                              error);
        if (status == CHATS_OK) {
            json_array_append_new(list, pick(one, message_kept, sizeof message_kept / sizeof *message_kept));
        }
        json_decref(one);
    }
    json_decref(ids);
    if (status != CHATS_OK) {
        json_decref(list);
        return status;
    }
    *out = list;
    return CHATS_OK;
}

chats_status chats_export(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error)
{
    json_t *chat = NULL, *messages = NULL;
    chats_lock(c);
    chats_status status = chat_find(c, who, id, false, &chat, error);
    status = status == CHATS_OK ? all_messages(c, id, &messages, error) : status;
    chats_unlock(c);
    if (status == CHATS_OK) {
        *out = json_pack("{s:s, s:i, s:o, s:O}", "format", "mlxr-chat", "version", 1, "chat",
                         pick(chat, chat_kept, sizeof chat_kept / sizeof *chat_kept), "messages", messages);
        status = *out ? CHATS_OK : chats_no_memory(error);
    }
    json_decref(chat);
    json_decref(messages);
    return status;
}

typedef struct id_map { /* the file's ids to ours; the file's grow */
    int64_t from, to;
    uint32_t depth;
} id_map;

static const id_map *find_mapped(const id_map *map, size_t n, int64_t id)
{
    for (size_t low = 0, high = n; low < high;) {
        size_t middle = (low + high) / 2;
        if (map[middle].from == id) {
            return &map[middle];
        }
        *(map[middle].from < id ? &low : &high) = middle + (map[middle].from < id);
    }
    return NULL;
}

/* 0: the file has none. */
static int64_t mapped(const id_map *map, size_t n, int64_t id)
{
    const id_map *found = find_mapped(map, n, id);
    return found ? found->to : 0;
}

/* One message with its parent's new id; a state of "running" means nothing here. */
static chats_status import_message(chats *c, int64_t chat, const json_t *message, id_map *map, size_t i,
                                   mlxr_error *error)
{
    json_t *own = json_copy((json_t *)message);
    const char *state = json_string_value(json_object_get(message, "state"));
    int64_t id = json_integer_value(json_object_get(message, "id"));
    int64_t parent = json_integer_value(json_object_get(message, "parent"));
    int64_t above = parent ? mapped(map, i, parent) : 0,
            created_ms = json_integer_value(json_object_get(message, "created_ms"));
    if (!own) {
        return chats_no_memory(error);
    }
    if ((parent && !above) || (i && id <= map[i - 1].from)) {
        json_decref(own);
        return chats_fail(error, CHATS_INVALID,
                          parent && !above ? "messages[%zu]: its parent does not stand before it"
                                           : "messages[%zu]: its id is not greater than that of the one before it",
                          i);
    }
    json_object_set_new(own, "parent", json_integer(above));
    if (state && strcmp(state, "running") == 0) {
        json_object_set_new(own, "state", json_string("interrupted"));
    }
    const id_map *up = parent ? find_mapped(map, i, parent) : NULL;
    map[i].from = id;
    map[i].depth = up ? up->depth + 1 : 1;
    if (map[i].depth > CHATS_DEPTH) {
        json_decref(own);
        return chats_fail(error, CHATS_LIMIT, "messages[%zu]: a branch holds %u messages at most", i, CHATS_DEPTH);
    }
    chats_status status = message_write(c, chat, own, &map[i].to, error);
    if (status == CHATS_OK && created_ms > 0) {
        status = chats_of_db(db_run(c->db, error, "UPDATE messages SET created_us = ? WHERE id = ?", "ii",
                                    created_ms * 1000, map[i].to));
    }
    json_decref(own);
    return status;
}

static chats_status import_rows(chats *c, const chats_who *who, const json_t *file, int64_t folder, int64_t *chat,
                                mlxr_error *error)
{
    const json_t *messages = json_object_get(file, "messages"), *head = json_object_get(file, "chat");
    size_t n = json_array_size(messages);
    json_t *fields = json_copy((json_t *)head);
    id_map *map = calloc(n + 1, sizeof *map);
    if (!fields || !map) {
        json_decref(fields);
        free(map);
        return chats_no_memory(error);
    }
    json_object_set_new(fields, "folder", folder ? json_integer(folder) : json_null());
    chats_status status = chat_insert(c, who, fields, chat, error);
    for (size_t i = 0; status == CHATS_OK && i < n; i++) {
        status = import_message(c, *chat, json_array_get(messages, i), map, i, error);
    }
    if (status == CHATS_OK && n) {
        int64_t leaf = mapped(map, n, json_integer_value(json_object_get(head, "leaf")));
        status = chat_touch(c, *chat, leaf ? leaf : map[n - 1].to, error);
    }
    json_decref(fields);
    free(map);
    return status;
}

chats_status chats_import(chats *c, const chats_who *who, const json_t *file, int64_t folder, json_t **out,
                          mlxr_error *error)
{
    json_t *row = NULL;
    int64_t id = 0;
    const char *format = json_string_value(json_object_get(file, "format"));
    if (!format || strcmp(format, "mlxr-chat") != 0 || json_integer_value(json_object_get(file, "version")) != 1) {
        return chats_fail(error, CHATS_INVALID,
                          "this is no export of a chat of version 1 ({\"format\": \"mlxr-chat\", …})");
    }
    if (json_array_size(json_object_get(file, "messages")) > CHATS_MESSAGES) {
        return chats_fail(error, CHATS_LIMIT, "messages: a chat holds %u at most", CHATS_MESSAGES);
    }
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = import_rows(c, who, file, folder, &id, error);
    status = status == CHATS_OK ? chat_find(c, who, id, false, &row, error) : status;
    status = chats_finish(c, status, error);
    json_object_del(row, "owner");
    *out = status == CHATS_OK ? json_incref(row) : NULL;
    json_decref(row);
    return status;
}

/* ---- Markdown ---------------------------------------------------------------------------------------------------- */

/* Where a mark begins that may have backslashes in it: "<!-- mlxr:", "<!-- \mlxr:", …; NULL: there is none. */
static const char *find_mark(const char *text, size_t *n_slashes)
{
    for (const char *at = text; (at = strstr(at, "<!-- ")); at++) {
        size_t n = strspn(at + 5, "\\");
        if (strncmp(at + 5 + n, "mlxr:", 5) == 0) {
            *n_slashes = n;
            return at;
        }
    }
    return NULL;
}

static void add_escaped(text_buffer *out, const char *text)
{
    size_t n_slashes = 0;
    for (const char *at = find_mark(text, &n_slashes); at; at = find_mark(text, &n_slashes)) {
        text_add(out, text, (size_t)(at - text) + 5);
        text_add(out, "\\", 1);
        text = at + 5;
    }
    text_add_string(out, text);
}

/* Takes a backslash out of each mark that has one. */
static char *unescaped(const char *text, size_t n)
{
    char *copy = strndup(text, n);
    size_t n_slashes = 0;
    for (char *at = copy; at && (at = (char *)(uintptr_t)find_mark(at, &n_slashes)); at += 5) {
        if (n_slashes) {
            memmove(at + 5, at + 6, strlen(at + 6) + 1);
        }
    }
    return copy;
}

static void add_content(text_buffer *out, const char *text)
{
    text_add_string(out, MARK "content" MARK_END);
    add_escaped(out, text);
    text_add_string(out, "\n" MARK "end" MARK_END);
}

static void add_markdown(text_buffer *out, const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    const char *model = json_string_value(json_object_get(message, "model"));
    const json_t *attachments = json_object_get(message, "attachments"),
                 *calls = json_object_get(message, "tool_calls");
    const char *title = strcmp(role, "user") == 0 ? "User" : strcmp(role, "tool") == 0 ? "Tool" : "Assistant";
    text_print(out, "\n" MARK "%s" MARK_END "## %s", role, title);
    text_print(out, model ? " (%s)\n\n" : "\n\n", model ? model : "");
    for (size_t i = 0; i < json_array_size(attachments); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(attachments, i), "name"));
        text_add_string(out, MARK "file" MARK_END "*File: ");
        add_escaped(out, name ? name : "");
        text_add_string(out, "*\n\n");
    }
    if (json_array_size(calls) > 0) {
        char *text = json_dumps(calls, JSON_INDENT(2));
        text_add_string(out, MARK "tool_calls" MARK_END "```json\n");
        add_escaped(out, text ? text : "");
        text_add_string(out, "\n```\n\n");
        free(text);
    }
    add_content(out, json_string_value(json_object_get(message, "content")));
}

/* A line of its own. */
static void add_line(text_buffer *out, const char *text)
{
    for (; *text; text++) {
        text_add(out, *text == '\n' || *text == '\r' ? " " : text, 1);
    }
}

chats_status chats_export_markdown(chats *c, const chats_who *who, int64_t id, char **out, mlxr_error *error)
{
    json_t *chat = NULL, *path = NULL;
    text_buffer text = {0};
    chats_lock(c);
    chats_status status = chat_find(c, who, id, false, &chat, error);
    int64_t leaf = json_integer_value(json_object_get(chat, "leaf"));
    status = status == CHATS_OK && leaf ? message_path(c, id, leaf, &path, error) : status;
    chats_unlock(c);
    if (status == CHATS_OK) {
        const char *system = json_string_value(json_object_get(chat, "system"));
        text_add_string(&text, MARK "chat" MARK_END "# ");
        add_line(&text, json_string_value(json_object_get(chat, "title")));
        text_add_string(&text, "\n");
        if (system && *system) {
            text_add_string(&text, "\n" MARK "system" MARK_END "## System\n\n");
            add_content(&text, system);
        }
        for (size_t i = 0; i < json_array_size(path); i++) {
            add_markdown(&text, json_array_get(path, i));
        }
        status = text.failed ? chats_no_memory(error) : CHATS_OK;
    }
    json_decref(chat);
    json_decref(path);
    if (status != CHATS_OK) {
        text_buffer_close(&text);
        return status;
    }
    *out = text.data;
    return CHATS_OK;
}

/* The word of a mark that has no backslash, and where its line ends; false: this is none. */
static bool read_mark(const char *at, char *word, size_t cap, const char **behind)
{
    const char *end = strncmp(at, MARK, sizeof MARK - 1) == 0 ? strstr(at, " -->") : NULL;
    size_t n = end ? (size_t)(end - at) - (sizeof MARK - 1) : cap;
    if (n >= cap) {
        return false;
    }
    memcpy(word, at + sizeof MARK - 1, n);
    word[n] = '\0';
    *behind = end + 4 + strspn(end + 4, "\r");
    *behind += **behind == '\n';
    return true;
}

static const char *next_mark(const char *text)
{
    size_t n_slashes = 0;
    for (const char *at = find_mark(text, &n_slashes); at; at = find_mark(at + 5, &n_slashes)) {
        if (n_slashes == 0) {
            return at;
        }
    }
    return text + strlen(text);
}

/* Adds what stands under a mark to the file under construction. */
static bool take_section(json_t *file, const char *word, const char *role, const char *text, size_t n)
{
    json_t *messages = json_object_get(file, "messages"), *chat = json_object_get(file, "chat");
    size_t n_messages = json_array_size(messages);
    if (strcmp(word, "chat") == 0) {
        const char *line = n > 2 && strncmp(text, "# ", 2) == 0 ? text + 2 : text;
        size_t n_line = strcspn(line, "\r\n");
        return json_object_set_new(chat, "title", json_stringn(line, n_line)) == 0;
    }
    if (strcmp(word, "content") != 0) {
        return true; /* headings, and what is there for people */
    }
    n -= n > 0; /* the end of its last line is the mark's */
    char *content = unescaped(text, n);
    bool ok = content != NULL;
    if (ok && strcmp(role, "system") == 0) {
        ok = json_object_set_new(chat, "system", json_string(content)) == 0;
    } else if (ok) {
        ok = json_array_append_new(messages,
                                   json_pack("{s:I, s:I, s:s, s:s}", "id", (json_int_t)n_messages + 1, "parent",
                                             (json_int_t)n_messages, "role", role, "content", content)) == 0;
    }
    free(content);
    return ok;
}

chats_status chats_import_markdown(chats *c, const chats_who *who, const char *text, int64_t folder, json_t **out,
                                   mlxr_error *error)
{
    char word[32], role[32] = "user";
    const char *behind;
    bool ok = true;
    json_t *file = json_pack("{s:s, s:i, s:{}, s:[]}", "format", "mlxr-chat", "version", 1, "chat", "messages");
    for (const char *at = next_mark(text); file && ok && *at;) {
        const char *next;
        if (!read_mark(at, word, sizeof word, &behind)) {
            at = next_mark(at + 5);
            continue;
        }
        next = next_mark(behind);
        bool speaker = strcmp(word, "user") == 0 || strcmp(word, "assistant") == 0 || strcmp(word, "tool") == 0 ||
                       strcmp(word, "system") == 0;
        if (speaker) {
            memcpy(role, word, sizeof role);
        }
        ok = take_section(file, word, role, behind, (size_t)(next - behind));
        at = next;
    }
    chats_status status = file && ok ? CHATS_OK : chats_no_memory(error);
    if (status == CHATS_OK && json_array_size(json_object_get(file, "messages")) == 0) {
        status = chats_fail(error, CHATS_INVALID,
                            "this Markdown has no messages: it must have the comments of an export");
    }
    status = status == CHATS_OK ? chats_import(c, who, file, folder, out, error) : status;
    json_decref(file);
    return status;
}
