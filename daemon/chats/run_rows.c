/*
 * Answers under way: what begins one, what it saves, how it ends, and what becomes of those a process left behind.
 * Owner: the store. Lifetime: the call.
 */
#include <stdlib.h>
#include <string.h>

#include "chats/inside.h"
#include "telemetry/text_buffer.h"

/* ---- beginning --------------------------------------------------------------------------------------------------- */

void chats_run_close(chats_run *run)
{
    free(run->model);
    free(run->owner);
    free(run->source);
    free(run->prompt);
    free(run->tokens);
    free(run->content);
    free(run->reasoning);
    json_decref(run->tool_calls);
    json_decref(run->parameters);
    json_decref(run->messages);
    json_decref(run->question);
    json_decref(run->answer);
    json_decref(run->chat_row);
    *run = (chats_run){0};
}

chats_status runs_check_idle(chats *c, int64_t chat, int64_t message, mlxr_error *error)
{
    int64_t n = 0;
    mlxr_status status = db_number(
        c->db, &n, 0, error,
        "SELECT count(*) FROM generations WHERE chat = ?1 AND state = 'running' AND (?2 = 0 OR "
        "message = ?2)",
        "ii", chat, message);
    if (status != MLXR_OK || n == 0) {
        return chats_of_db(status);
    }
    return chats_fail(error, CHATS_CONFLICT,
                      message ? "message %lld is being made; wait for its end, or stop it"
                              : "an answer of chat %lld is being made; wait for its end, or stop it",
                      (long long)(message ? message : chat));
}

static bool copy_text(char **out, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    *out = strdup(text ? text : "");
    return *out != NULL;
}

/* The question: the one that is given, the one that is named, or the one of the answer that goes on. */
static chats_status find_question(chats *c, const json_t *chat, const json_t *fields, int64_t *question, chats_run *run,
                                  mlxr_error *error)
{
    int64_t id = json_integer_value(json_object_get(chat, "id"));
    json_t *given = json_object_get(fields, "message"), *found = NULL;
    if (given) {
        json_t *own = json_copy(given), *leaf = json_object_get(chat, "leaf");
        if (own && !json_object_get(own, "parent")) {
            json_object_set(own, "parent", leaf);
        }
        chats_status status = own ? message_insert(c, id, own, question, error) : chats_no_memory(error);
        json_decref(own);
        return status == CHATS_OK ? message_find(c, id, *question, false, &run->question, error) : status;
    }
    int64_t wanted = run->continues ? json_integer_value(json_object_get(run->answer, "parent"))
                                    : json_integer_value(json_object_get(fields, "parent"));
    chats_status status = message_find(c, id, wanted, false, &found, error);
    bool answer = found && strcmp(json_string_value(json_object_get(found, "role")), "assistant") == 0;
    json_decref(found);
    *question = wanted;
    if (status == CHATS_NOT_FOUND || (status == CHATS_OK && answer)) {
        return chats_fail(error, CHATS_INVALID, "parent: message %lld is no question", (long long)wanted);
    }
    return status;
}

static int32_t *copy_ids(const void *blob, size_t n_bytes)
{
    int32_t *ids = n_bytes ? malloc(n_bytes) : NULL;
    if (ids) {
        memcpy(ids, blob, n_bytes);
    }
    return ids;
}

/* What the answer so far is made of; without it, its text. */
static chats_status load_answer(chats *c, chats_run *run, mlxr_error *error)
{
    sqlite3_stmt *s;
    bool row = false, ok = true;
    mlxr_status status = db_prepare(c->db, &s, error, "SELECT source, prompt, tokens FROM answers WHERE message = ?",
                                    "i", run->message);
    status = status == MLXR_OK ? db_step(c->db, &s, &row, error) : status;
    if (status == MLXR_OK && row) {
        run->n_prompt = (size_t)sqlite3_column_bytes(s, 1) / sizeof(int32_t);
        run->n_tokens = (size_t)sqlite3_column_bytes(s, 2) / sizeof(int32_t);
        run->source = strdup(db_text(s, 0));
        run->prompt = copy_ids(sqlite3_column_blob(s, 1), run->n_prompt * sizeof(int32_t));
        run->tokens = copy_ids(sqlite3_column_blob(s, 2), run->n_tokens * sizeof(int32_t));
        ok = run->source && (run->prompt || !run->n_prompt) && (run->tokens || !run->n_tokens);
        sqlite3_finalize(s);
    }
    ok = ok && copy_text(&run->content, run->answer, "content") && copy_text(&run->reasoning, run->answer, "reasoning");
    return status != MLXR_OK ? chats_of_db(status) : ok ? CHATS_OK : chats_no_memory(error);
}

/* The answer that goes on. */
static chats_status find_answer(chats *c, int64_t chat, int64_t id, chats_run *run, mlxr_error *error)
{
    chats_status status = message_find(c, chat, id, false, &run->answer, error);
    if (status != CHATS_OK) {
        return status == CHATS_NOT_FOUND
                   ? chats_fail(error, CHATS_INVALID, "continue: the chat has no message %lld", (long long)id)
                   : status;
    }
    const char *role = json_string_value(json_object_get(run->answer, "role"));
    const char *state = json_string_value(json_object_get(run->answer, "state"));
    if (strcmp(role, "assistant") != 0) {
        return chats_fail(error, CHATS_INVALID, "continue: message %lld is no answer", (long long)id);
    }
    run->continues = true;
    run->message = id;
    run->tool_calls = json_incref(json_object_get(run->answer, "tool_calls"));
    run->unfinished = strcmp(state, "stopped") == 0 || strcmp(state, "interrupted") == 0;
    status = runs_check_idle(c, chat, id, error);
    return status == CHATS_OK ? load_answer(c, run, error) : status;
}

/* The chat's parameters, and over them the given ones; null takes one away. */
static json_t *merge_parameters(const json_t *base, const json_t *fields)
{
    json_t *made = json_is_object(base) ? json_copy((json_t *)base) : json_object();
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(fields, "parameters"), key, value)
    {
        if (json_is_null(value)) {
            json_object_del(made, key);
        } else {
            json_object_set(made, key, value);
        }
    }
    return made;
}

static chats_status choose(const json_t *chat, const json_t *fields, chats_run *run, mlxr_error *error)
{
    const json_t *own = run->continues ? run->answer : chat;
    const char *given = json_string_value(json_object_get(fields, "model"));
    const char *kept = json_string_value(json_object_get(own, "model"));
    run->model = strdup(given && *given ? given : kept ? kept : "");
    run->parameters = merge_parameters(json_object_get(own, "parameters"), fields);
    return run->model && run->parameters ? CHATS_OK : chats_no_memory(error);
}

static mlxr_status make_rows(chats *c, int64_t chat, int64_t question, chats_run *run, mlxr_error *error)
{
    int64_t now = chats_now_us(c);
    char *parameters = chats_dump(run->parameters);
    mlxr_status status = parameters ? MLXR_OK : chats_starved(error);
    if (status == MLXR_OK && run->continues) {
        status = db_run(
            c->db, error,
            "UPDATE messages SET state = 'running', model = ?, parameters = ?, stats = '', revision = revision + "
            "1, modified_us = ? WHERE id = ?",
            "ttii", run->model, parameters, now, run->message);
    } else if (status == MLXR_OK) {
        status = db_run(c->db, error,
                        "INSERT INTO messages(chat, parent, role, state, content, model, parameters, created_us, "
                        "modified_us) VALUES (?, ?, 'assistant', 'running', '', ?, ?, ?, ?)",
                        "iittii", chat, question, run->model, parameters, now, now);
        run->message = sqlite3_last_insert_rowid(c->db);
    }
    if (status == MLXR_OK && !run->tokens) { /* what it is made of will not be known from its beginning */
        status = db_run(c->db, error, "DELETE FROM answers WHERE message = ?", "i", run->message);
    }
    if (status == MLXR_OK) { /* prompts grow with the chat: only the newest answers keep theirs */
        status = db_run(
            c->db, error,
            "UPDATE answers SET prompt = x'' WHERE prompt != x'' AND message != ?1 AND message IN (SELECT id "
            "FROM messages WHERE chat = ?2 AND state != 'running')",
            "ii", run->message, chat);
    }
    if (status == MLXR_OK) {
        status = db_run(c->db, error,
                        "INSERT INTO generations(chat, message, state, created_us) VALUES (?, ?, 'running', ?)", "iii",
                        chat, run->message, now);
        run->id = sqlite3_last_insert_rowid(c->db);
    }
    if (status == MLXR_OK) {
        status = db_run(c->db, error, "UPDATE chats SET model = ? WHERE id = ? AND model = ''", "ti", run->model, chat);
    }
    free(parameters);
    return status;
}

static chats_status begin_run(chats *c, const chats_who *who, int64_t chat, const json_t *fields,
                              chats_run_check *check, void *user, chats_run *run, mlxr_error *error)
{
    int64_t question = 0;
    const json_t *goes_on = json_object_get(fields, "continue");
    chats_status status = chat_find(c, who, chat, false, &run->chat_row, error);
    if (status == CHATS_OK && goes_on) {
        status = find_answer(c, chat, json_integer_value(goes_on), run, error);
    }
    status = status == CHATS_OK ? find_question(c, run->chat_row, fields, &question, run, error) : status;
    status = status == CHATS_OK ? choose(run->chat_row, fields, run, error) : status;
    status = status == CHATS_OK && check ? check(user, run, error) : status;
    status = status == CHATS_OK ? message_prompt(c, chat, question, &run->messages, error) : status;
    if (status == CHATS_OK && !copy_text(&run->owner, run->chat_row, "owner")) {
        status = chats_no_memory(error);
    }
    status = status == CHATS_OK ? chats_of_db(make_rows(c, chat, question, run, error)) : status;
    if (status == CHATS_OK) {
        bool activate = !json_is_false(json_object_get(fields, "activate"));
        status = chat_touch(c, chat, activate ? run->message : 0, error);
    }
    const char *content = json_string_value(json_object_get(run->question, "content"));
    if (status == CHATS_OK && content) {
        status = message_title(c, chat, content, error);
    }
    json_decref(run->answer);
    json_decref(run->chat_row);
    run->answer = run->chat_row = NULL;
    status = status == CHATS_OK ? message_find(c, chat, run->message, false, &run->answer, error) : status;
    status = status == CHATS_OK ? chat_find(c, who, chat, false, &run->chat_row, error) : status;
    json_object_del(run->chat_row, "owner");
    return status;
}

static chats_status room_for_one(chats *c, mlxr_error *error)
{
    if (c->n_active < c->cap_active) {
        return CHATS_OK;
    }
    size_t cap = c->cap_active ? c->cap_active * 2 : 16;
    int64_t *grown = realloc(c->active, cap * sizeof *grown);
    if (!grown) {
        return chats_no_memory(error);
    }
    c->active = grown;
    c->cap_active = cap;
    return CHATS_OK;
}

/* The run is not made any more, though its row may say so. */
static void forget(chats *c, int64_t id)
{
    chats_lock(c);
    for (size_t i = 0; i < c->n_active; i++) {
        if (c->active[i] == id) {
            c->active[i] = c->active[--c->n_active];
            c->strays = true;
            break;
        }
    }
    chats_unlock(c);
}

void chats_run_forget(chats *c, int64_t run)
{
    forget(c, run);
}

chats_status chats_run_begin(chats *c, const chats_who *who, int64_t chat, const json_t *fields, chats_run_check *check,
                             void *user, chats_run *out, mlxr_error *error)
{
    int n_ways = (json_object_get(fields, "message") != NULL) + (json_object_get(fields, "parent") != NULL) +
                 (json_object_get(fields, "continue") != NULL);
    *out = (chats_run){.chat = chat};
    if (n_ways != 1) {
        return chats_fail(error, CHATS_INVALID, "exactly one of message, parent and continue is needed");
    }
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = room_for_one(c, error);
    status = status == CHATS_OK && c->strays ? runs_recover(c, error) : status;
    status = status == CHATS_OK ? begin_run(c, who, chat, fields, check, user, out, error) : status;
    if (status == CHATS_OK) {
        c->active[c->n_active++] = out->id;
    }
    bool begun = status == CHATS_OK;
    int64_t id = out->id;
    status = chats_finish(c, status, error);
    if (status != CHATS_OK) {
        chats_run_close(out);
        if (begun) { /* a commit that failed may have been one: then a run is there that nobody makes */
            forget(c, id);
        }
    }
    return status;
}

/* ---- saving ------------------------------------------------------------------------------------------------------ */

/* Of a run whose row has gone, with its chat, nothing is kept: that fails nothing, as others are in the same write. */
static mlxr_status save_one(chats *c, const chats_save *save, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    if (save->source) {
        status = db_run(
            c->db, error,
            "INSERT INTO answers(message, source, prompt, tokens) SELECT message, ?1, ?2, x'' FROM generations "
            "WHERE id = ?3 ON CONFLICT(message) DO UPDATE SET source = excluded.source, prompt = "
            "excluded.prompt",
            "tbi", save->source, save->n_prompt ? (const void *)save->prompt : "",
            save->n_prompt * sizeof *save->prompt, save->run);
    }
    if (status == MLXR_OK && save->by_text) {
        status = db_run(c->db, error,
                        "DELETE FROM answers WHERE message = (SELECT message FROM generations WHERE id = ?)", "i",
                        save->run);
    }
    if (status != MLXR_OK || json_array_size(save->events) == 0) {
        return status;
    }
    char *events = chats_dump(save->events);
    if (!events) {
        return chats_starved(error);
    }
    status = db_run(c->db, error,
                    "INSERT OR REPLACE INTO chunks(generation, last, events, tokens) SELECT ?1, ?2, ?3, ?4 WHERE "
                    "EXISTS (SELECT 1 FROM generations WHERE id = ?1)",
                    "iitb", save->run, (int64_t)save->last, events, save->n_tokens ? (const void *)save->tokens : "",
                    save->n_tokens * sizeof *save->tokens);
    status = status == MLXR_OK ? db_run(c->db, error, "UPDATE generations SET last = ? WHERE id = ?", "ii",
                                        (int64_t)save->last, save->run)
                               : status;
    free(events);
    return status;
}

chats_status chats_run_save(chats *c, const chats_save *saves, size_t n, mlxr_error *error)
{
    mlxr_status saved = MLXR_OK;
    chats_status status = chats_begin(c, error);
    for (size_t i = 0; status == CHATS_OK && saved == MLXR_OK && i < n; i++) {
        saved = save_one(c, &saves[i], error);
    }
    return status == CHATS_OK ? chats_finish(c, chats_of_db(saved), error) : status;
}

/* ---- ending ------------------------------------------------------------------------------------------------------ */

/* The tokens of the run join those of the answer before it. */
static mlxr_status join_tokens(chats *c, int64_t run, mlxr_error *error)
{
    sqlite3_stmt *s;
    text_buffer all = {0};
    bool row = true;
    mlxr_status status = db_prepare(
        c->db, &s, error,
        "SELECT a.tokens, -1 AS position FROM answers a, generations g WHERE g.id = ?1 AND a.message = g.message "
        "UNION ALL SELECT tokens, last FROM chunks WHERE generation = ?1 ORDER BY position",
        "i", run);
    while (status == MLXR_OK && (status = db_step(c->db, &s, &row, error)) == MLXR_OK && row) {
        const void *ids = sqlite3_column_blob(s, 0); /* NULL: none */
        if (ids) {
            text_add(&all, ids, (size_t)sqlite3_column_bytes(s, 0));
        }
    }
    if (status == MLXR_OK && all.failed) {
        status = chats_starved(error);
    }
    status = status == MLXR_OK
                 ? db_run(
                       c->db, error,
                       "UPDATE answers SET tokens = ? WHERE message = (SELECT message FROM generations WHERE id = ?)",
                       "bi", all.n ? (const void *)all.data : "", all.n, run)
                 : status;
    text_buffer_close(&all);
    return status;
}

/* As a column takes it. */
static char *copy_whole(const char *text, size_t n)
{
    text_buffer copy = {0};
    if (n) {
        text_add_without_nul(&copy, text, n);
    }
    text_add(&copy, "", 1);
    if (copy.failed) {
        text_buffer_close(&copy);
    }
    return copy.data;
}

static mlxr_status end_rows(chats *c, const chats_end *end, mlxr_error *error)
{
    int64_t now = chats_now_us(c);
    char *calls = chats_dump(json_array_size(end->tool_calls) ? end->tool_calls : NULL),
         *stats = chats_dump(end->stats);
    char *content = copy_whole(end->content, end->n_content), *reasoning = copy_whole(end->reasoning, end->n_reasoning);
    mlxr_status status = MLXR_OK;
    if (!calls || !stats || !content || !reasoning) {
        status = chats_starved(error);
    }
    status = status == MLXR_OK ? join_tokens(c, end->save.run, error) : status;
    if (status == MLXR_OK) {
        status = db_run(
            c->db, error,
            "UPDATE messages SET state = ?, content = ?, reasoning = ?, tool_calls = ?, stats = ?, model = CASE ?6 "
            "WHEN '' THEN model ELSE ?6 END, revision = revision + 1, modified_us = ?7 WHERE id = (SELECT message "
            "FROM generations WHERE id = ?8)",
            "ttttttii", end->state, content, reasoning, calls, stats, end->model ? end->model : "", now, end->save.run);
    }
    if (status == MLXR_OK) {
        status = db_run(c->db, error, "UPDATE generations SET state = ?, ended_us = ? WHERE id = ?", "tii", end->state,
                        now, end->save.run);
    }
    if (status == MLXR_OK) {
        status = db_run(
            c->db, error,
            "UPDATE chats SET modified_us = max(modified_us, ?) WHERE id = (SELECT chat FROM generations WHERE id "
            "= ?)",
            "ii", now, end->save.run);
    }
    free(calls);
    free(stats);
    free(content);
    free(reasoning);
    return status;
}

static chats_status message_of(chats *c, int64_t run, json_t **out, mlxr_error *error)
{
    int64_t chat = 0, message = 0;
    mlxr_status status = db_number(c->db, &chat, 0, error, "SELECT chat FROM generations WHERE id = ?", "i", run);
    status = status == MLXR_OK
                 ? db_number(c->db, &message, 0, error, "SELECT message FROM generations WHERE id = ?", "i", run)
                 : status;
    return status == MLXR_OK ? message_find(c, chat, message, false, out, error) : chats_of_db(status);
}

chats_status chats_run_end(chats *c, const chats_end *end, json_t **message, mlxr_error *error)
{
    json_t *row = NULL;
    int64_t runs = 0;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    mlxr_status done = db_number(c->db, &runs, 0, error, "SELECT state = 'running' FROM generations WHERE id = ?", "i",
                                 end->save.run);
    if (done == MLXR_OK && runs) { /* else a try before this one had worked and could not tell */
        done = save_one(c, &end->save, error);
        done = done == MLXR_OK ? end_rows(c, end, error) : done;
    }
    status = chats_of_db(done);
    status = status == CHATS_OK ? message_of(c, end->save.run, &row, error) : status;
    status = chats_finish(c, status, error);
    if (status == CHATS_OK || status == CHATS_NOT_FOUND) {
        forget(c, end->save.run);
    }
    if (message) {
        *message = status == CHATS_OK ? json_incref(row) : NULL;
    }
    json_decref(row);
    return status;
}

/* ---- what a process left behind ---------------------------------------------------------------------------------- */

typedef struct folded { /* an answer put together of its events */
    text_buffer content, reasoning;
    json_t *calls;
    json_int_t last, prompt_tokens;
} folded;

static void set_text(text_buffer *t, const json_t *value)
{
    t->n = 0;
    text_add(t, json_string_value(value) ? json_string_value(value) : "", json_string_length(value));
}

static void fold_event(folded *f, const json_t *event)
{
    const char *type = json_string_value(json_object_get(event, "type"));
    const json_t *text = json_object_get(event, "text");
    f->last = json_integer_value(json_object_get(event, "n"));
    if (!type) {
        return;
    }
    if (strcmp(type, "start") == 0) {
        set_text(&f->content, json_object_get(event, "content"));
        set_text(&f->reasoning, json_object_get(event, "reasoning"));
        json_decref(f->calls);
        f->calls = json_copy(json_object_get(event, "tool_calls"));
        f->prompt_tokens = json_integer_value(json_object_get(event, "prompt_tokens"));
    } else if (strcmp(type, "text") == 0 && text) {
        text_add(&f->content, json_string_value(text), json_string_length(text));
    } else if (strcmp(type, "reasoning") == 0 && text) {
        text_add(&f->reasoning, json_string_value(text), json_string_length(text));
    } else if (strcmp(type, "tool_call") == 0) {
        f->calls = json_is_array(f->calls) ? f->calls : (json_decref(f->calls), json_array());
        json_array_append(f->calls, json_object_get(event, "tool_call"));
    }
}

static mlxr_status fold(chats *c, int64_t run, folded *f, mlxr_error *error)
{
    sqlite3_stmt *s;
    bool row = true;
    mlxr_status status = db_prepare(c->db, &s, error, "SELECT events FROM chunks WHERE generation = ? ORDER BY last",
                                    "i", run);
    while (status == MLXR_OK && (status = db_step(c->db, &s, &row, error)) == MLXR_OK && row) {
        json_t *events = json_loads(db_text(s, 0), JSON_ALLOW_NUL, NULL);
        for (size_t i = 0; i < json_array_size(events); i++) {
            fold_event(f, json_array_get(events, i));
        }
        if (!events) {
            sqlite3_finalize(s);
            return chats_starved(error);
        }
        json_decref(events);
    }
    return status;
}

static chats_status recover_one(chats *c, int64_t run, mlxr_error *error)
{
    folded f = {0};
    json_t *message = NULL;
    int64_t n_bytes = 0;
    chats_status status = message_of(c, run, &message, error);
    if (status != CHATS_OK) {
        return status;
    }
    set_text(&f.content, json_object_get(message, "content"));
    set_text(&f.reasoning, json_object_get(message, "reasoning"));
    f.calls = json_incref(json_object_get(message, "tool_calls"));
    mlxr_status done = fold(c, run, &f, error);
    if (done == MLXR_OK) {
        done = db_number(
            c->db, &n_bytes, 0, error,
            "SELECT (SELECT total(length(tokens)) FROM chunks WHERE generation = ?1) + (SELECT "
            "total(length(tokens)) FROM answers WHERE message = (SELECT message FROM generations WHERE id = ?1))",
            "i", run);
    }
    json_t *stats = json_pack("{s:s, s:I, s:I}", "finish_reason", "interrupted", "prompt_tokens", f.prompt_tokens,
                              "answer_tokens", (json_int_t)(n_bytes / 4));
    json_t *last = json_pack("[{s:I, s:s, s:s, s:O}]", "n", f.last + 1, "type", "end", "state", "interrupted", "stats",
                             stats);
    chats_end end = {.state = "interrupted",
                     .content = f.content.data,
                     .n_content = f.content.n,
                     .reasoning = f.reasoning.data,
                     .n_reasoning = f.reasoning.n,
                     .tool_calls = f.calls,
                     .stats = stats,
                     .save = {.run = run, .last = (uint64_t)f.last + 1, .events = last}};
    if (done == MLXR_OK && (!last || f.content.failed || f.reasoning.failed)) {
        done = chats_starved(error);
    }
    done = done == MLXR_OK ? save_one(c, &end.save, error) : done;
    done = done == MLXR_OK ? end_rows(c, &end, error) : done;
    text_buffer_close(&f.content);
    text_buffer_close(&f.reasoning);
    json_decref(f.calls);
    json_decref(message);
    json_decref(stats);
    json_decref(last);
    return chats_of_db(done);
}

static bool is_active(const chats *c, int64_t id)
{
    for (size_t i = 0; i < c->n_active; i++) {
        if (c->active[i] == id) {
            return true;
        }
    }
    return false;
}

chats_status runs_recover(chats *c, mlxr_error *error)
{
    sqlite3_stmt *s;
    json_t *list = NULL;
    mlxr_status status = db_prepare(c->db, &s, error, "SELECT id FROM generations WHERE state = 'running'", "");
    chats_status result = chats_rows(c, status, s, &list, error);
    for (size_t i = 0; result == CHATS_OK && i < json_array_size(list); i++) {
        int64_t id = json_integer_value(json_object_get(json_array_get(list, i), "id"));
        result = is_active(c, id) ? CHATS_OK : recover_one(c, id, error);
    }
    json_decref(list);
    return result;
}

/* ---- looking ----------------------------------------------------------------------------------------------------- */

#define RUN_COLUMNS                                                                                                    \
    "g.id AS id, chat, message, state, last, g.created_us / 1000 AS created_ms, ended_us / 1000 AS 'ended_ms?0'"

static chats_status find_run(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    mlxr_status status = db_prepare(c->db, &s, error,
                                    "SELECT " RUN_COLUMNS
                                    " FROM generations g, chats x WHERE x.id = g.chat AND removed_us "
                                    "= 0 AND " CHATS_SEES " AND g.id = ?4",
                                    "tiii", CHATS_WHO(who), id);
    return chats_one(c, status, s, "generation", id, out, error);
}

chats_status chats_run_get(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error)
{
    chats_lock(c);
    chats_status status = find_run(c, who, id, out, error);
    chats_unlock(c);
    return status;
}

static chats_status all_events(chats *c, int64_t id, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    bool row = true, ok = true;
    json_t *list = json_array();
    mlxr_status status = db_prepare(c->db, &s, error, "SELECT events FROM chunks WHERE generation = ? ORDER BY last",
                                    "i", id);
    while (status == MLXR_OK && ok && (status = db_step(c->db, &s, &row, error)) == MLXR_OK && row) {
        json_t *events = json_loads(db_text(s, 0), JSON_ALLOW_NUL, NULL);
        ok = events && json_array_extend(list, events) == 0;
        json_decref(events);
    }
    sqlite3_finalize(status == MLXR_OK && !ok ? s : NULL);
    if (status != MLXR_OK || !ok) {
        json_decref(list);
        return status != MLXR_OK ? chats_of_db(status) : chats_no_memory(error);
    }
    *out = list;
    return CHATS_OK;
}

chats_status chats_run_events(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error)
{
    json_t *run = NULL, *message = NULL, *events = NULL;
    chats_lock(c);
    chats_status status = find_run(c, who, id, &run, error);
    status = status == CHATS_OK ? message_of(c, id, &message, error) : status;
    status = status == CHATS_OK ? all_events(c, id, &events, error) : status;
    chats_unlock(c);
    if (status != CHATS_OK) {
        json_decref(run);
        json_decref(message);
        return status;
    }
    *out = json_pack("{s:o, s:o, s:o}", "generation", run, "message", message, "events", events);
    return *out ? CHATS_OK : chats_no_memory(error);
}

chats_status chats_runs(chats *c, const chats_who *who, int64_t chat, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    chats_lock(c);
    mlxr_status status = db_prepare(
        c->db, &s, error,
        "SELECT " RUN_COLUMNS " FROM generations g, chats x WHERE x.id = g.chat AND removed_us "
        "= 0 AND " CHATS_SEES " AND state = 'running' AND (?4 = 0 OR chat = ?4) ORDER BY g.id",
        "tiii", CHATS_WHO(who), chat);
    chats_status result = chats_rows(c, status, s, out, error);
    chats_unlock(c);
    return result;
}
