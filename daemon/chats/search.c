/*
 * Full-text search over titles and messages.
 * Owner: the store. Lifetime: the call.
 *
 * A query is words: each becomes a phrase in quotes, so that nothing in it is an operator; all must be there, the last
 * one may be the beginning of a word. Scripts that are written without blanks have no words in the index; a text with
 * such characters is looked for as it is.
 */
#include <stdlib.h>
#include <string.h>

#include "chats/inside.h"
#include "telemetry/text_buffer.h"

#define WORDS_MAX 32u
#define TITLES_MAX 20u
#define LIMIT 20u
#define RANKED_MAX 2000u
#define AROUND 60u /* bytes before and behind what was looked for as it is */

#define HIT_OPEN '\x02'
#define HIT_CLOSE '\x03'

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* "words" "like" "the"*; false: no memory. n_words: those there are. */
static bool make_query(const char *text, text_buffer *out, size_t *n_words)
{
    *n_words = 0;
    while (*n_words < WORDS_MAX) {
        while (is_blank(*text)) {
            text++;
        }
        if (!*text) {
            break;
        }
        text_add_string(out, *n_words ? " \"" : "\"");
        for (; *text && !is_blank(*text); text++) {
            text_add(out, text, 1);
            if (*text == '"') {
                text_add(out, text, 1);
            }
        }
        text_add(out, "\"", 1);
        (*n_words)++;
    }
    text_add_string(out, *n_words ? "*" : "");
    return !out->failed;
}

/* Chinese, Japanese, Korean and other characters from U+2E80 on. */
static bool has_wide(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at >= 0xe3 || (*at == 0xe2 && at[1] >= 0xba)) {
            return true;
        }
    }
    return false;
}

/* [{text, hit}] of a snippet with marks. */
static json_t *parts_of(const char *text)
{
    json_t *parts = json_array();
    bool hit = false;
    while (parts && *text) {
        const char marks[] = {HIT_OPEN, HIT_CLOSE, '\0'};
        size_t n = strcspn(text, marks);
        if (n) {
            json_array_append_new(parts,
                                  json_pack("{s:o, s:b}", "text", json_stringn_nocheck(text, n), "hit", (int)hit));
        }
        text += n;
        if (*text) {
            hit = *text == HIT_OPEN;
            text++;
        }
    }
    return parts;
}

static bool begins_character(char c)
{
    return ((unsigned char)c & 0xc0) != 0x80;
}

/* The place of `word` in `text`, with what is around it; whole characters. */
static json_t *parts_around(const char *text, const char *word)
{
    const char *at = strstr(text, word);
    if (!at) {
        return json_array();
    }
    size_t n = strlen(word), n_before = (size_t)(at - text) < AROUND ? (size_t)(at - text) : AROUND;
    const char *from = at - n_before, *to = at + n;
    while (!begins_character(*from)) {
        from++;
    }
    for (size_t i = 0; i < AROUND && *to; i++) {
        to++;
    }
    while (*to && !begins_character(*to)) {
        to++;
    }
    return json_pack("[{s:s%, s:b}, {s:s, s:b}, {s:s%, s:b}]", "text", from, (size_t)(at - from), "hit", 0, "text",
                     word, "hit", 1, "text", at + n, (size_t)(to - at) - n, "hit", 0);
}

static chats_status find_titles(chats *c, const chats_who *who, const char *query, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    mlxr_status status = db_prepare(
        c->db, &s, error,
        "SELECT x.id AS chat, x.title AS title, x.folder AS folder, NULL AS message, NULL AS role, x.modified_us / "
        "1000 AS "
        "created_ms, snippet(chats_text, 0, char(2), char(3), '…', 24) AS snippet FROM chats_text CROSS JOIN chats x "
        "WHERE chats_text MATCH ?4 AND x.id = chats_text.rowid AND removed_us = 0 AND " CHATS_SEES
        " ORDER BY chats_text.rank LIMIT ?5",
        "tiiti", CHATS_WHO(who), query, (int64_t)TITLES_MAX);
    return chats_rows(c, status, s, out, error);
}

/* Where a word is everywhere, ranking all of it takes longer than it is worth: the newest RANKED_MAX that may be seen
 * are ranked. The index gives rowids in order; the rest is looked up for those that are shown only, hence the CROSS
 * JOINs. */
static chats_status find_messages(chats *c, const chats_who *who, const char *query, uint32_t offset, uint32_t limit,
                                  json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    int64_t oldest = 0;
    mlxr_status status = db_number(
        c->db, &oldest, 0, error,
        "SELECT messages_text.rowid FROM messages_text CROSS JOIN messages m CROSS JOIN chats x WHERE messages_text "
        "MATCH "
        "?4 AND m.id = messages_text.rowid AND x.id = m.chat AND removed_us = 0 AND " CHATS_SEES
        " ORDER BY messages_text.rowid DESC LIMIT 1 OFFSET ?5",
        "tiiti", CHATS_WHO(who), query, (int64_t)RANKED_MAX - 1);
    if (status != MLXR_OK) {
        return chats_of_db(status);
    }
    status = db_prepare(
        c->db, &s, error,
        "SELECT x.id AS chat, x.title AS title, x.folder AS folder, m.id AS message, m.role AS role, m.created_us / "
        "1000 AS "
        "created_ms, snippet(messages_text, 0, char(2), char(3), '…', 24) AS snippet FROM messages_text CROSS JOIN "
        "messages m CROSS JOIN chats x WHERE messages_text MATCH ?4 AND messages_text.rowid >= ?5 AND m.id = "
        "messages_text.rowid AND x.id = m.chat AND removed_us = 0 AND " CHATS_SEES
        " ORDER BY messages_text.rank LIMIT ?6 OFFSET ?7",
        "tiitiii", CHATS_WHO(who), query, oldest, (int64_t)limit + 1, (int64_t)offset);
    return chats_rows(c, status, s, out, error);
}

static chats_status find_wide(chats *c, const chats_who *who, const char *text, uint32_t offset, uint32_t limit,
                              json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    mlxr_status status = db_prepare(c->db, &s, error,
                                    "SELECT x.id AS chat, x.title AS title, x.folder AS folder, m.id AS message, "
                                    "m.role AS role, m.created_us / 1000 AS "
                                    "created_ms, m.content AS snippet FROM messages m, chats x WHERE x.id = m.chat AND "
                                    "instr(m.content, ?4) > 0 AND "
                                    "removed_us = 0 AND " CHATS_SEES " ORDER BY m.id DESC LIMIT ?5 OFFSET ?6",
                                    "tiitii", CHATS_WHO(who), text, (int64_t)limit + 1, (int64_t)offset);
    return chats_rows(c, status, s, out, error);
}

static char *trimmed(const char *text)
{
    while (is_blank(*text)) {
        text++;
    }
    size_t n = strlen(text);
    while (n && is_blank(text[n - 1])) {
        n--;
    }
    return strndup(text, n);
}

static bool write_snippets(json_t *rows, const char *word)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        const char *text = json_string_value(json_object_get(row, "snippet"));
        json_t *parts = word ? parts_around(text ? text : "", word) : parts_of(text ? text : "");
        if (!parts || json_object_set_new(row, "snippet", parts) != 0) {
            return false;
        }
    }
    return true;
}

static chats_status find(chats *c, const chats_who *who, const char *text, const char *query, uint32_t offset,
                         uint32_t limit, json_t **titles, json_t **found, mlxr_error *error)
{
    bool wide = has_wide(text);
    chats_status status = CHATS_OK;
    chats_lock(c);
    if (offset == 0) {
        status = find_titles(c, who, query, titles, error);
    }
    if (status == CHATS_OK) {
        status = wide ? find_wide(c, who, text, offset, limit, found, error)
                      : find_messages(c, who, query, offset, limit, found, error);
    }
    chats_unlock(c);
    bool ok = status != CHATS_OK || (write_snippets(*titles, NULL) && write_snippets(*found, wide ? text : NULL));
    return ok ? status : chats_no_memory(error);
}

chats_status chats_search(chats *c, const chats_who *who, const char *text, uint32_t offset, uint32_t limit,
                          json_t **out, mlxr_error *error)
{
    text_buffer query = {0};
    json_t *titles = NULL, *found = NULL;
    size_t n_words = 0;
    char *plain = trimmed(text);
    chats_status status = plain && make_query(text, &query, &n_words) ? CHATS_OK : chats_no_memory(error);
    limit = limit ? limit : LIMIT;
    if (status == CHATS_OK && n_words == 0) {
        status = chats_fail(error, CHATS_INVALID, "q: there is no word to look for");
    }
    status = status == CHATS_OK ? find(c, who, plain, query.data, offset, limit, &titles, &found, error) : status;
    if (status == CHATS_OK) {
        bool more = json_array_size(found) > limit;
        if (more) {
            json_array_remove(found, limit);
        }
        json_t *all = titles ? json_incref(titles) : json_array();
        json_array_extend(all, found);
        *out = json_pack("{s:o, s:o}", "results", all, "next",
                         more ? json_integer((json_int_t)offset + limit) : json_null());
        status = *out ? CHATS_OK : chats_no_memory(error);
    }
    json_decref(titles);
    json_decref(found);
    text_buffer_close(&query);
    free(plain);
    return status;
}
