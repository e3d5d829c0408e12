/*
 * The store of chats: folders, trees of messages, conflicts, removal and undo, answers that outlive a process, search,
 * files. Owner: the test program. Lifetime: the process.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "chats/inside.h"
#include "support/test.h"

static const chats_who everybody = {"", true, true}, alice = {"alice", false, false}, bob = {"bob", false, false},
                       admin = {"admin", false, true};

typedef struct world {
    chats *c;
    char directory[512];
    mlxr_error error;
} world;

static int64_t clock_us = 1700000000000000;

static int64_t now_us(void)
{
    return clock_us += 1000;
}

static const chats_options options = {.undo_s = 60, .now_us = now_us};

static int set_up(void **state)
{
    static unsigned n;
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    snprintf(w->directory, sizeof w->directory, "%s/%u", test_temp_dir(), n++);
    assert_ok(chats_open(&w->c, w->directory, &options, &w->error), &w->error);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world *w = *state;
    chats_close(&w->c);
    free(w);
    return 0;
}

static void reopen(world *w)
{
    chats_close(&w->c);
    assert_ok(chats_open(&w->c, w->directory, &options, &w->error), &w->error);
}

#define is_ok(call)                                                                                                    \
    do {                                                                                                               \
        chats_status got = (call);                                                                                     \
        if (got != CHATS_OK) {                                                                                         \
            fail_msg("%s: %d: %s", #call, got, w->error.text);                                                         \
        }                                                                                                              \
    } while (0)

static int64_t id_of(const json_t *row)
{
    return json_integer_value(json_object_get(row, "id"));
}

static const char *text_of(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text ? text : "";
}

static json_t *json(const char *text)
{
    json_error_t where;
    json_t *made = json_loads(text, 0, &where);
    if (!made) {
        fail_msg("%s: %s", text, where.text);
    }
    return made;
}

/* Adds a chat; its id. */
static int64_t add_chat(world *w, const chats_who *who, const char *text)
{
    json_t *fields = json(text), *row = NULL;
    is_ok(chats_add(w->c, who, fields, &row, &w->error));
    int64_t id = id_of(row);
    json_decref(fields);
    json_decref(row);
    return id;
}

static int64_t add_message(world *w, const chats_who *who, int64_t chat, int64_t parent, const char *content)
{
    json_t *fields = json_pack("{s:I, s:s, s:s}", "parent", (json_int_t)parent, "role", "user", "content", content);
    json_t *row = NULL;
    is_ok(chats_message_add(w->c, who, chat, fields, &row, &w->error));
    int64_t id = id_of(row);
    json_decref(fields);
    json_decref(row);
    return id;
}

static json_t *get(world *w, int64_t chat)
{
    json_t *row = NULL;
    is_ok(chats_get(w->c, &everybody, chat, &row, &w->error));
    return row;
}

/* ---- chats and folders ------------------------------------------------------------------------------------------- */

static void lists_come_in_pages_by_time_and_folder(void **state)
{
    world *w = *state;
    json_t *fields = json("{\"name\": \"work\"}"), *folder = NULL, *page = NULL;
    char text[64], after[64] = "";
    size_t n_seen = 0;
    int64_t last_ms = INT64_MAX;
    is_ok(chats_folder_add(w->c, &alice, fields, &folder, &w->error));
    for (int i = 0; i < 25; i++) {
        snprintf(text, sizeof text, "{\"title\": \"chat %d\", \"folder\": %s}", i, i % 5 ? "null" : "1");
        add_chat(w, &alice, text);
    }
    do {
        chats_query q = {.limit = 10, .after = *after ? after : NULL};
        is_ok(chats_list(w->c, &alice, &q, &page, &w->error));
        const json_t *rows = json_object_get(page, "chats");
        for (size_t i = 0; i < json_array_size(rows); i++, n_seen++) {
            int64_t ms = json_integer_value(json_object_get(json_array_get(rows, i), "modified_ms"));
            assert_true(ms <= last_ms);
            last_ms = ms;
        }
        snprintf(after, sizeof after, "%s", text_of(page, "next"));
        json_decref(page);
    } while (*after);
    assert_int_equal(n_seen, 25);
    chats_query in_work = {.in_folder = true, .folder = id_of(folder)}, in_none = {.in_folder = true};
    is_ok(chats_list(w->c, &alice, &in_work, &page, &w->error));
    assert_int_equal(json_array_size(json_object_get(page, "chats")), 5);
    json_decref(page);
    is_ok(chats_list(w->c, &alice, &in_none, &page, &w->error));
    assert_int_equal(json_array_size(json_object_get(page, "chats")), 20);
    json_decref(page);
    is_ok(chats_folder_remove(w->c, &alice, id_of(folder), &w->error)); /* its chats stay */
    is_ok(chats_list(w->c, &alice, &in_none, &page, &w->error));
    assert_int_equal(json_array_size(json_object_get(page, "chats")), 25);
    json_decref(page);
    chats_query nonsense = {.after = "1-2"};
    assert_int_equal(chats_list(w->c, &alice, &nonsense, &page, &w->error), CHATS_INVALID);
    json_decref(fields);
    json_decref(folder);
}

static void a_change_of_an_old_revision_is_a_conflict_and_changes_nothing(void **state)
{
    world *w = *state;
    int64_t id = add_chat(w, &everybody, "{\"title\": \"first\"}");
    json_t *mine = json("{\"revision\": 1, \"title\": \"mine\"}"),
           *theirs = json("{\"revision\": 1, \"title\": \"theirs\"}");
    json_t *row = NULL;
    is_ok(chats_change(w->c, &everybody, id, mine, &row, &w->error));
    assert_int_equal(json_integer_value(json_object_get(row, "revision")), 2);
    json_decref(row);
    assert_int_equal(chats_change(w->c, &everybody, id, theirs, &row, &w->error), CHATS_CONFLICT);
    assert_non_null(strstr(w->error.text, "revision 2"));
    row = get(w, id);
    assert_string_equal(text_of(row, "title"), "mine");
    json_decref(row);
    json_decref(mine);
    json_decref(theirs);
    json_t *folder = json("{\"revision\": 2, \"folder\": 77}");
    assert_int_equal(chats_change(w->c, &everybody, id, folder, &row, &w->error), CHATS_INVALID);
    json_decref(folder);
}

static void what_is_removed_can_be_restored_until_it_is_purged(void **state)
{
    world *w = *state;
    int64_t id = add_chat(w, &everybody, "{\"title\": \"gone\"}"), n = 1;
    add_message(w, &everybody, id, 0, "a secret sentence");
    json_t *row = NULL, *found = NULL;
    uint32_t purged = 0;
    is_ok(chats_remove(w->c, &everybody, id, false, &w->error));
    assert_int_equal(chats_get(w->c, &everybody, id, &row, &w->error), CHATS_NOT_FOUND);
    is_ok(chats_search(w->c, &everybody, "secret", 0, 0, &found, &w->error));
    assert_int_equal(json_array_size(json_object_get(found, "results")), 0);
    json_decref(found);
    is_ok(chats_tidy(w->c, &purged, &w->error));
    assert_int_equal(purged, 0);
    is_ok(chats_restore(w->c, &everybody, id, &row, &w->error));
    json_decref(row);
    is_ok(chats_search(w->c, &everybody, "secret", 0, 0, &found, &w->error));
    assert_int_equal(json_array_size(json_object_get(found, "results")), 1);
    json_decref(found);
    is_ok(chats_remove(w->c, &everybody, id, false, &w->error));
    clock_us += INT64_C(61000000);
    is_ok(chats_tidy(w->c, &purged, &w->error));
    assert_int_equal(purged, 1);
    assert_int_equal(chats_restore(w->c, &everybody, id, &row, &w->error), CHATS_NOT_FOUND);
    assert_ok(db_number(w->c->db, &n, 1, &w->error, "SELECT count(*) FROM messages", ""), &w->error);
    assert_int_equal(n, 0);
    assert_true(add_chat(w, &everybody, "{}") > id); /* an id is never given twice */
}

static void nobody_sees_what_is_another_keys(void **state)
{
    world *w = *state;
    int64_t hers = add_chat(w, &alice, "{\"title\": \"hers\"}"),
            open = add_chat(w, &everybody, "{\"title\": \"open\"}");
    int64_t message = add_message(w, &alice, hers, 0, "privately spoken");
    json_t *row = NULL, *change = json("{\"title\": \"x\"}"), *run = json("{\"parent\": 1, \"model\": \"m\"}");
    chats_run begun;
    assert_int_equal(chats_get(w->c, &bob, hers, &row, &w->error), CHATS_NOT_FOUND);
    assert_int_equal(chats_get(w->c, &admin, hers, &row, &w->error), CHATS_NOT_FOUND);
    assert_int_equal(chats_get(w->c, &alice, open, &row, &w->error), CHATS_NOT_FOUND);
    assert_int_equal(chats_change(w->c, &bob, hers, change, &row, &w->error), CHATS_NOT_FOUND);
    assert_int_equal(chats_remove(w->c, &bob, hers, true, &w->error), CHATS_NOT_FOUND);
    assert_int_equal(chats_messages(w->c, &bob, hers, 0, 0, &row, &w->error), CHATS_NOT_FOUND);
    assert_int_equal(chats_message_get(w->c, &bob, hers, message, &row, &w->error), CHATS_NOT_FOUND);
    assert_int_equal(chats_message_get(w->c, &bob, open, message, &row, &w->error), CHATS_NOT_FOUND);
    assert_int_equal(chats_export(w->c, &bob, hers, &row, &w->error), CHATS_NOT_FOUND);
    assert_int_equal(chats_run_begin(w->c, &bob, hers, run, NULL, NULL, &begun, &w->error), CHATS_NOT_FOUND);
    is_ok(chats_search(w->c, &bob, "privately", 0, 0, &row, &w->error));
    assert_int_equal(json_array_size(json_object_get(row, "results")), 0);
    json_decref(row);
    is_ok(chats_get(w->c, &admin, open, &row, &w->error)); /* of the time without keys */
    json_decref(row);
    is_ok(chats_get(w->c, &everybody, hers, &row, &w->error)); /* no keys are in use any more */
    json_decref(row);
    json_decref(change);
    json_decref(run);
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void branches_share_their_beginning(void **state)
{
    world *w = *state;
    int64_t chat = add_chat(w, &everybody, "{\"system\": \"Be brief.\"}");
    int64_t first = add_message(w, &everybody, chat, 0, "one\nmore"),
            a = add_message(w, &everybody, chat, first, "two a");
    int64_t b = add_message(w, &everybody, chat, first, "two b");
    json_t *row = get(w, chat), *prompt = NULL, *page = NULL;
    assert_string_equal(text_of(row, "title"), "one");
    assert_int_equal(json_integer_value(json_object_get(row, "leaf")), b);
    json_decref(row);
    is_ok(chats_prompt(w->c, &everybody, chat, a, &prompt, &w->error));
    assert_int_equal(json_array_size(prompt), 3);
    assert_string_equal(text_of(json_array_get(prompt, 0), "content"), "Be brief.");
    assert_string_equal(text_of(json_array_get(prompt, 2), "content"), "two a");
    json_decref(prompt);
    is_ok(chats_messages(w->c, &everybody, chat, 0, 2, &page, &w->error));
    assert_int_equal(json_integer_value(json_object_get(page, "next")), a);
    json_decref(page);
    is_ok(chats_messages(w->c, &everybody, chat, a, 2, &page, &w->error));
    assert_true(json_is_null(json_object_get(page, "next")));
    assert_int_equal(json_array_size(json_object_get(page, "messages")), 1);
    json_decref(page);
    is_ok(chats_message_remove(w->c, &everybody, chat, b, &w->error));
    row = get(w, chat);
    assert_int_equal(json_integer_value(json_object_get(row, "leaf")), first);
    json_decref(row);
    int64_t other = add_chat(w, &everybody, "{}");
    json_t *fields = json_pack("{s:I, s:s, s:s}", "parent", (json_int_t)a, "role", "user", "content", "x");
    assert_int_equal(chats_message_add(w->c, &everybody, other, fields, &row, &w->error), CHATS_INVALID);
    json_decref(fields);
}

static void a_long_branch_is_read_and_removed_as_a_whole(void **state)
{
    world *w = *state;
    int64_t chat = add_chat(w, &everybody, "{}"), first = 0, at = 0, n = 1;
    json_t *prompt = NULL;
    assert_int_equal(chats_begin(w->c, &w->error), CHATS_OK);
    for (int i = 0; i < 3000; i++) {
        json_t *fields = json_pack("{s:I, s:s}", "parent", (json_int_t)at, "content", "x");
        assert_int_equal(message_insert(w->c, chat, fields, &at, &w->error), CHATS_OK);
        first = first ? first : at;
        json_decref(fields);
    }
    assert_int_equal(chats_finish(w->c, CHATS_OK, &w->error), CHATS_OK);
    is_ok(chats_prompt(w->c, &everybody, chat, at, &prompt, &w->error));
    assert_int_equal(json_array_size(prompt), 3000);
    json_decref(prompt);
    is_ok(chats_message_remove(w->c, &everybody, chat, first, &w->error));
    assert_ok(db_number(w->c->db, &n, 1, &w->error, "SELECT count(*) FROM messages", ""), &w->error);
    assert_int_equal(n, 0);
}

static void attachments_stand_in_fences_that_they_cannot_close(void **state)
{
    world *w = *state;
    int64_t chat = add_chat(w, &everybody, "{}");
    json_t *fields = json("{\"role\": \"user\", \"content\": \"What is this?\", \"attachments\": [{\"name\": \"a.md\", "
                          "\"type\": \"text/markdown\", \"content\": \"```\\ncode\\n````\\n\"}]}");
    json_t *row = NULL, *whole = NULL, *prompt = NULL;
    is_ok(chats_message_add(w->c, &everybody, chat, fields, &row, &w->error));
    const json_t *listed = json_array_get(json_object_get(row, "attachments"), 0);
    assert_null(json_object_get(listed, "content"));
    assert_int_equal(json_integer_value(json_object_get(listed, "n_bytes")), 14);
    is_ok(chats_message_get(w->c, &everybody, chat, id_of(row), &whole, &w->error));
    assert_string_equal(text_of(json_array_get(json_object_get(whole, "attachments"), 0), "content"),
                        "```\ncode\n````\n");
    is_ok(chats_prompt(w->c, &everybody, chat, id_of(row), &prompt, &w->error));
    assert_string_equal(text_of(json_array_get(prompt, 0), "content"),
                        "File: a.md\n`````\n```\ncode\n````\n`````\n\nWhat is this?");
    json_decref(fields);
    json_decref(row);
    json_decref(whole);
    json_decref(prompt);
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

static json_t *event(uint64_t n, const char *type, const char *text)
{
    return json_pack("{s:I, s:s, s:s, s:I}", "n", (json_int_t)n, "type", type,
                     strcmp(type, "start") == 0 ? "content" : "text", text, "prompt_tokens", (json_int_t)3);
}

static void save(world *w, int64_t run, uint64_t n, const char *type, const char *text, int32_t token)
{
    static const int32_t prompt[] = {7, 8, 9};
    json_t *events = json_pack("[o]", event(n, type, text));
    bool start = strcmp(type, "start") == 0;
    chats_save s = {.run = run,
                    .last = n,
                    .events = events,
                    .source = start ? "file" : NULL,
                    .prompt = prompt,
                    .n_prompt = start ? 3 : 0,
                    .tokens = &token,
                    .n_tokens = start ? 0 : 1};
    is_ok(chats_run_save(w->c, &s, 1, &w->error));
    json_decref(events);
}

static chats_run begin(world *w, int64_t chat, const char *text)
{
    json_t *fields = json(text);
    chats_run run;
    is_ok(chats_run_begin(w->c, &everybody, chat, fields, NULL, NULL, &run, &w->error));
    json_decref(fields);
    return run;
}

static void an_answer_that_a_process_left_is_made_of_what_was_saved(void **state)
{
    world *w = *state;
    int64_t chat = add_chat(w, &everybody, "{\"model\": \"m\", \"parameters\": {\"seed\": 1, \"top_k\": 5}}");
    chats_run run = begin(
        w, chat, "{\"message\": {\"content\": \"Say abc.\"}, \"parameters\": {\"seed\": null, \"temperature\": 0}}");
    assert_string_equal(run.model, "m");
    assert_null(json_object_get(run.parameters, "seed"));
    assert_int_equal(json_integer_value(json_object_get(run.parameters, "top_k")), 5);
    assert_int_equal(json_array_size(run.messages), 1);
    int64_t id = run.id, answer = run.message;
    chats_run_close(&run);
    save(w, id, 1, "start", "", 0);
    save(w, id, 2, "text", "a", 100);
    save(w, id, 3, "text", "b", 101);
    json_t *row = NULL, *again = json_pack("{s:I}", "continue", (json_int_t)answer);
    assert_int_equal(chats_run_begin(w->c, &everybody, chat, again, NULL, NULL, &run, &w->error), CHATS_CONFLICT);
    assert_int_equal(chats_remove(w->c, &everybody, chat, false, &w->error), CHATS_CONFLICT);
    reopen(w); /* nothing told it that the answer ended */
    is_ok(chats_message_get(w->c, &everybody, chat, answer, &row, &w->error));
    assert_string_equal(text_of(row, "state"), "interrupted");
    assert_string_equal(text_of(row, "content"), "ab");
    json_decref(row);
    is_ok(chats_run_events(w->c, &everybody, id, &row, &w->error));
    const json_t *events = json_object_get(row, "events");
    assert_int_equal(json_array_size(events), 4);
    assert_string_equal(text_of(json_array_get(events, 3), "state"), "interrupted");
    json_decref(row);
    /* It goes on with the same tokens. */
    is_ok(chats_run_begin(w->c, &everybody, chat, again, NULL, NULL, &run, &w->error));
    assert_true(run.continues && run.unfinished && run.message == answer && run.id != id);
    assert_int_equal(run.n_prompt, 3);
    assert_int_equal(run.prompt[2], 9);
    assert_int_equal(run.n_tokens, 2);
    assert_int_equal(run.tokens[1], 101);
    assert_string_equal(run.source, "file");
    id = run.id;
    chats_run_close(&run);
    save(w, id, 1, "start", "ab", 0);
    int32_t last = 102;
    json_t *stats = json("{\"finish_reason\": \"stop\"}"),
           *rest = json_pack("[o, {s:i, s:s}]", event(2, "text", "c"), "n", 3, "type", "end");
    chats_end end = {.state = "complete",
                     .content = "abc",
                     .n_content = 3,
                     .stats = stats,
                     .save = {.run = id, .last = 3, .events = rest, .tokens = &last, .n_tokens = 1}};
    is_ok(chats_run_end(w->c, &end, &row, &w->error));
    assert_string_equal(text_of(row, "content"), "abc");
    assert_string_equal(text_of(json_object_get(row, "stats"), "finish_reason"), "stop");
    json_decref(row);
    reopen(w);
    is_ok(chats_run_begin(w->c, &everybody, chat, again, NULL, NULL, &run, &w->error));
    assert_int_equal(run.n_tokens, 3);
    assert_int_equal(run.tokens[0], 100);
    assert_int_equal(run.tokens[2], 102);
    assert_false(run.unfinished);
    chats_run_close(&run);
    json_decref(again);
    json_decref(stats);
    json_decref(rest);
}

static void an_answer_whose_row_has_gone_fails_no_other(void **state)
{
    world *w = *state;
    int64_t ids[2];
    for (int i = 0; i < 2; i++) {
        int64_t chat = add_chat(w, &everybody, "{\"model\": \"m\"}");
        chats_run run = begin(w, chat, "{\"message\": {\"content\": \"?\"}}");
        ids[i] = run.id;
        chats_run_close(&run);
    }
    assert_ok(db_run(w->c->db, &w->error, "DELETE FROM generations WHERE id = ?", "i", ids[0]), &w->error);
    json_t *events = json_pack("[o]", event(1, "start", ""));
    chats_save both[] = {{.run = ids[0], .last = 1, .events = events, .source = "file"},
                         {.run = ids[1], .last = 1, .events = events, .source = "file"}};
    is_ok(chats_run_save(w->c, both, 2, &w->error));
    chats_end end = {.state = "complete", .content = "a", .n_content = 1, .save = both[0]};
    assert_int_equal(chats_run_end(w->c, &end, NULL, &w->error), CHATS_NOT_FOUND);
    assert_int_equal(w->c->n_active, 1);
    end.save = (chats_save){.run = ids[1], .last = 2};
    is_ok(chats_run_end(w->c, &end, NULL, &w->error));
    json_decref(events);
}

static void an_answer_with_u0000_is_recovered_whole(void **state)
{
    world *w = *state;
    json_t *row = NULL;
    int64_t chat = add_chat(w, &everybody, "{\"model\": \"m\"}");
    chats_run run = begin(w, chat, "{\"message\": {\"content\": \"?\"}}");
    int64_t id = run.id, answer = run.message;
    chats_run_close(&run);
    save(w, id, 1, "start", "", 0);
    json_t *events = json_pack("[{s:i, s:s, s:s%}]", "n", 2, "type", "text", "text", "a\0b", (size_t)3);
    chats_save with = {.run = id, .last = 2, .events = events};
    is_ok(chats_run_save(w->c, &with, 1, &w->error));
    json_decref(events);
    reopen(w);
    is_ok(chats_message_get(w->c, &everybody, chat, answer, &row, &w->error));
    assert_string_equal(text_of(row, "state"), "interrupted");
    assert_string_equal(text_of(row, "content"), "a\xef\xbf\xbd"
                                                 "b");
    json_decref(row);
    is_ok(chats_run_events(w->c, &everybody, id, &row, &w->error));
    assert_int_equal(json_array_size(json_object_get(row, "events")), 3);
    json_decref(row);
}

static void a_text_that_was_edited_is_no_longer_its_tokens(void **state)
{
    world *w = *state;
    int64_t chat = add_chat(w, &everybody, "{\"model\": \"m\"}");
    chats_run run = begin(w, chat, "{\"message\": {\"content\": \"?\"}}");
    int64_t answer = run.message;
    save(w, run.id, 1, "start", "", 0);
    save(w, run.id, 2, "text", "a", 100);
    chats_run_close(&run);
    reopen(w);
    json_t *edit = json("{\"content\": \"An edited\"}"), *row = NULL;
    is_ok(chats_message_change(w->c, &everybody, chat, answer, edit, &row, &w->error));
    json_decref(row);
    json_t *again = json_pack("{s:I}", "continue", (json_int_t)answer);
    is_ok(chats_run_begin(w->c, &everybody, chat, again, NULL, NULL, &run, &w->error));
    assert_int_equal(run.n_tokens, 0);
    assert_string_equal(run.content, "An edited");
    chats_run_close(&run);
    json_decref(again);
    json_decref(edit);
}

static void what_makes_no_sense_begins_no_answer(void **state)
{
    static const struct {
        const char *fields;
        chats_status status;
    } cases[] = {
        {"{}", CHATS_INVALID},
        {"{\"parent\": 1, \"message\": {\"content\": \"x\"}}", CHATS_INVALID},
        {"{\"parent\": 999}", CHATS_INVALID},
        {"{\"continue\": 1}", CHATS_INVALID}, /* a question */
        {"{\"parent\": 2}", CHATS_INVALID},   /* an answer */
        {"{\"message\": {\"content\": \"x\", \"parent\": 999}}", CHATS_INVALID},
    };
    world *w = *state;
    int64_t chat = add_chat(w, &everybody, "{\"model\": \"m\"}"), n = 0;
    assert_int_equal(add_message(w, &everybody, chat, 0, "one"), 1);
    json_t *answer = json("{\"parent\": 1, \"role\": \"assistant\", \"content\": \"two\"}"), *row = NULL;
    is_ok(chats_message_add(w->c, &everybody, chat, answer, &row, &w->error));
    assert_int_equal(id_of(row), 2);
    json_decref(row);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *fields = json(cases[i].fields);
        chats_run run;
        assert_int_equal(chats_run_begin(w->c, &everybody, chat, fields, NULL, NULL, &run, &w->error), cases[i].status);
        json_decref(fields);
    }
    assert_ok(db_number(w->c->db, &n, 0, &w->error, "SELECT count(*) FROM messages", ""), &w->error);
    assert_int_equal(n, 2);
    json_decref(answer);
}

/* ---- search ------------------------------------------------------------------------------------------------------ */

static size_t n_found(world *w, const char *text)
{
    json_t *found = NULL;
    is_ok(chats_search(w->c, &everybody, text, 0, 0, &found, &w->error));
    size_t n = json_array_size(json_object_get(found, "results"));
    json_decref(found);
    return n;
}

static void any_text_is_a_query(void **state)
{
    static const char *const hostile[] = {"\"",
                                          "a\"b",
                                          "NEAR(",
                                          "content:x",
                                          "*",
                                          "-",
                                          "^x",
                                          "x AND",
                                          "OR NOT",
                                          "{a b}:c",
                                          "'; DROP TABLE chats; --",
                                          "(((((",
                                          "\xf0\x9f\x8e\x89",
                                          "\x02\x03",
                                          "%_",
                                          "a + b",
                                          "x\\",
                                          "{\"$ne\": 1}"};
    world *w = *state;
    json_t *found = NULL;
    int64_t chat = add_chat(w, &everybody, "{}");
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        add_message(w, &everybody, chat, 0, hostile[i]);
        is_ok(chats_search(w->c, &everybody, hostile[i], 0, 0, &found, &w->error));
        json_decref(found);
    }
    assert_int_equal(chats_search(w->c, &everybody, " \n\t", 0, 0, &found, &w->error), CHATS_INVALID);
    char many[20000];
    memset(many, '"', sizeof many - 1);
    for (size_t i = 1; i < sizeof many; i += 2) {
        many[i] = ' ';
    }
    many[sizeof many - 1] = '\0';
    is_ok(chats_search(w->c, &everybody, many, 0, 0, &found, &w->error));
    json_decref(found);
}

static void words_prefixes_accents_and_scripts_without_blanks_are_found(void **state)
{
    world *w = *state;
    json_t *found = NULL;
    int64_t chat = add_chat(w, &everybody, "{\"title\": \"About caf\xc3\xa9s\"}");
    add_message(w, &everybody, chat, 0, "The caf\xc3\xa9 is near the old harbour.");
    add_message(w, &everybody, chat, 0, "\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xb8\x96\xe7\x95\x8c\xe3\x80\x82");
    assert_int_equal(n_found(w, "cafe"), 2); /* a title and a message; the last word may go on: cafés */
    assert_int_equal(n_found(w, "harb"), 1);
    assert_int_equal(n_found(w, "harb near"), 0); /* only the last word may go on */
    assert_int_equal(n_found(w, "near harb"), 1);
    assert_int_equal(n_found(w, "harbours"), 0);
    assert_int_equal(n_found(w, "\xe4\xb8\x96\xe7\x95\x8c"), 1); /* in the middle */
    is_ok(chats_search(w->c, &everybody, "harbour", 0, 0, &found, &w->error));
    const json_t *parts = json_object_get(json_array_get(json_object_get(found, "results"), 0), "snippet");
    bool hit = false;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        hit = hit || (json_is_true(json_object_get(part, "hit")) && strcmp(text_of(part, "text"), "harbour") == 0);
    }
    assert_true(hit);
    json_decref(found);
}

static void ten_thousand_messages_are_searched_within_50_ms(void **state)
{
    static const char *const words[] = {"river",  "stone", "light",  "window", "garden",
                                        "winter", "paper", "silver", "morning"};
    static const char *const queries[] = {"river", "r", "river stone", "marker4711", "the", "window garden win"};
    world *w = *state;
    uint64_t seed = 5;
    char text[800];
    int64_t chat = 0;
    for (int i = 0; i < 10000; i++) {
        if (i % 500 == 0) {
            if (chat) {
                assert_int_equal(chats_finish(w->c, CHATS_OK, &w->error), CHATS_OK);
            }
            chat = add_chat(w, &everybody, "{\"title\": \"a river\"}");
            assert_int_equal(chats_begin(w->c, &w->error), CHATS_OK);
        }
        size_t n = (size_t)snprintf(text, sizeof text, "the marker%d ", i);
        while (n < 500) {
            n += (size_t)snprintf(text + n, sizeof text - n, "%s ",
                                  words[test_random(&seed) % (sizeof words / sizeof *words)]);
        }
        json_t *fields = json_pack("{s:s}", "content", text);
        int64_t id;
        assert_int_equal(message_insert(w->c, chat, fields, &id, &w->error), CHATS_OK);
        json_decref(fields);
    }
    assert_int_equal(chats_finish(w->c, CHATS_OK, &w->error), CHATS_OK);
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        struct timespec a, b;
        json_t *found = NULL;
        double best_ms = 1e9;
        for (int round = 0; round < 3; round++) { /* of the processor: other tests run beside this one */
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
            is_ok(chats_search(w->c, &everybody, queries[i], 0, 20, &found, &w->error));
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
            assert_true(json_array_size(json_object_get(found, "results")) > 0);
            json_decref(found);
            double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
            best_ms = ms < best_ms ? ms : best_ms;
        }
        print_message("search '%s' in 10,000 messages: %.1f ms\n", queries[i], best_ms);
        assert_true(best_ms < (TEST_SLOW_BUILD ? 500 : 50));
    }
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static json_t *export(world *w, int64_t chat)
{
    json_t *file = NULL;
    is_ok(chats_export(w->c, &everybody, chat, &file, &w->error));
    return file;
}

/* The same with ids counted from 1, as an export of another chat with the same content has them. */
static json_t *renumbered(json_t *file)
{
    json_t *messages = json_object_get(file, "messages"), *head = json_object_get(file, "chat");
    json_int_t first = json_integer_value(json_object_get(json_array_get(messages, 0), "id")) - 1;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *m = json_array_get(messages, i), *parent = json_object_get(m, "parent");
        json_object_set_new(m, "id", json_integer(json_integer_value(json_object_get(m, "id")) - first));
        if (parent) {
            json_object_set_new(m, "parent", json_integer(json_integer_value(parent) - first));
        }
    }
    json_object_set_new(head, "leaf", json_integer(json_integer_value(json_object_get(head, "leaf")) - first));
    json_object_del(head, "created_ms");
    return file;
}

static void an_export_comes_back_as_it_was(void **state)
{
    world *w = *state;
    add_message(w, &everybody, add_chat(w, &everybody, "{}"), 0, "so that ids differ");
    int64_t chat = add_chat(w, &everybody, "{\"title\": \"t\", \"system\": \"s\", \"parameters\": {\"top_k\": 3}}");
    int64_t first = add_message(w, &everybody, chat, 0, "one <script>\n# not a heading");
    add_message(w, &everybody, chat, first, "two a");
    json_t *fields = json("{\"role\": \"user\", \"content\": \"two b\", \"attachments\": [{\"name\": \"n\", \"type\": "
                          "\"text/plain\", \"content\": \"file\"}]}"),
           *row = NULL;
    json_object_set_new(fields, "parent", json_integer(first));
    is_ok(chats_message_add(w->c, &everybody, chat, fields, &row, &w->error));
    json_decref(row);
    json_t *file = export(w, chat);
    is_ok(chats_import(w->c, &everybody, file, 0, &row, &w->error));
    json_t *again = export(w, id_of(row));
    assert_true(json_equal(renumbered(file), renumbered(again)));
    json_decref(row);
    json_t *bad = json(
        "{\"format\": \"mlxr-chat\", \"version\": 1, \"chat\": {}, \"messages\": [{\"id\": 1, \"parent\": 2, "
        "\"role\": \"user\", \"content\": \"\"}]}");
    assert_int_equal(chats_import(w->c, &everybody, bad, 0, &row, &w->error), CHATS_INVALID);
    assert_non_null(strstr(w->error.text, "messages[0]"));
    json_decref(bad);
    json_decref(file);
    json_decref(again);
    json_decref(fields);
}

static void markdown_comes_back_as_it_was(void **state)
{
    static const char *const texts[] = {
        "plain", "## User\n\n<!-- mlxr:user -->\nnot me\n",   "<!-- \\mlxr:x --> <!-- mlxr:", "\nends in lines\n\n\n",
        "",      "<!-- mlxr:end -->\n<!-- mlxr:content -->\n"};
    world *w = *state;
    int64_t chat = add_chat(w, &everybody, "{\"title\": \"A\\nB\", \"system\": \"<!-- mlxr:user -->\"}"), at = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        at = add_message(w, &everybody, chat, at, texts[i]);
    }
    char *text = NULL;
    json_t *row = NULL, *page = NULL, *made = NULL;
    is_ok(chats_export_markdown(w->c, &everybody, chat, &text, &w->error));
    is_ok(chats_import_markdown(w->c, &everybody, text, 0, &row, &w->error));
    made = get(w, id_of(row));
    assert_string_equal(text_of(made, "title"), "A B");
    assert_string_equal(text_of(made, "system"), "<!-- mlxr:user -->");
    is_ok(chats_messages(w->c, &everybody, id_of(row), 0, 0, &page, &w->error));
    const json_t *messages = json_object_get(page, "messages");
    assert_int_equal(json_array_size(messages), sizeof texts / sizeof *texts);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_string_equal(text_of(json_array_get(messages, i), "content"), texts[i]);
    }
    json_decref(row);
    json_decref(page);
    json_decref(made);
    free(text);
    assert_int_equal(chats_import_markdown(w->c, &everybody, "# Just a text", 0, &row, &w->error), CHATS_INVALID);
}

/* ---- presets, settings, the process ------------------------------------------------------------------------------ */

static void presets_and_settings_are_each_owners(void **state)
{
    world *w = *state;
    json_t *fields = json("{\"name\": \"terse\", \"system\": \"Short.\", \"parameters\": {\"temperature\": 0}}"),
           *row = NULL;
    is_ok(chats_preset_add(w->c, &alice, fields, &row, &w->error));
    int64_t id = id_of(row);
    json_decref(row);
    json_t *change = json("{\"revision\": 1, \"name\": \"shorter\"}");
    is_ok(chats_preset_change(w->c, &alice, id, change, &row, &w->error));
    json_decref(row);
    assert_int_equal(chats_preset_change(w->c, &alice, id, change, &row, &w->error), CHATS_CONFLICT);
    assert_int_equal(chats_preset_remove(w->c, &bob, id, &w->error), CHATS_NOT_FOUND);
    is_ok(chats_presets(w->c, &bob, &row, &w->error));
    assert_int_equal(json_array_size(row), 0);
    json_decref(row);
    is_ok(chats_preset_remove(w->c, &alice, id, &w->error));
    json_t *values = json("{\"theme\": \"dark\"}");
    is_ok(chats_settings_put(w->c, &alice, 0, values, &row, &w->error));
    json_decref(row);
    assert_int_equal(chats_settings_put(w->c, &alice, 0, values, &row, &w->error), CHATS_CONFLICT);
    is_ok(chats_settings(w->c, &bob, &row, &w->error));
    assert_int_equal(json_integer_value(json_object_get(row, "revision")), 0);
    json_decref(row);
    reopen(w);
    is_ok(chats_settings(w->c, &alice, &row, &w->error));
    assert_string_equal(text_of(json_object_get(row, "values"), "theme"), "dark");
    json_decref(row);
    json_decref(values);
    json_decref(change);
    json_decref(fields);
}

static void one_process_has_the_chats_open(void **state)
{
    world *w = *state;
    chats *other = NULL;
    assert_int_equal(chats_open(&other, w->directory, NULL, &w->error), MLXR_LIMIT);
    assert_non_null(strstr(w->error.text, "another daemon"));
}

static void a_newer_database_is_refused_with_its_version(void **state)
{
    world *w = *state;
    assert_ok(db_run(w->c->db, &w->error, "PRAGMA user_version = 1000", ""), &w->error);
    chats_close(&w->c);
    assert_int_equal(chats_open(&w->c, w->directory, &options, &w->error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(w->error.text, "version 1000"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(lists_come_in_pages_by_time_and_folder),
        T(a_change_of_an_old_revision_is_a_conflict_and_changes_nothing),
        T(what_is_removed_can_be_restored_until_it_is_purged),
        T(nobody_sees_what_is_another_keys),
        T(branches_share_their_beginning),
        T(a_long_branch_is_read_and_removed_as_a_whole),
        T(attachments_stand_in_fences_that_they_cannot_close),
        T(an_answer_that_a_process_left_is_made_of_what_was_saved),
        T(an_answer_whose_row_has_gone_fails_no_other),
        T(an_answer_with_u0000_is_recovered_whole),
        T(a_text_that_was_edited_is_no_longer_its_tokens),
        T(what_makes_no_sense_begins_no_answer),
        T(any_text_is_a_query),
        T(words_prefixes_accents_and_scripts_without_blanks_are_found),
        T(ten_thousand_messages_are_searched_within_50_ms),
        T(an_export_comes_back_as_it_was),
        T(markdown_comes_back_as_it_was),
        T(presets_and_settings_are_each_owners),
        T(one_process_has_the_chats_open),
        T(a_newer_database_is_refused_with_its_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
