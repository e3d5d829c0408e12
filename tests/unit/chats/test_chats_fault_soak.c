/*
 * The store of chats when disks and memory fail: the n-th operation on files failing or being the one at which the
 * process is killed, for every n; the n-th allocation failing; the power lost after any change. After each: the store
 * opens at once, is whole, index of the search included, has everything that was acknowledged, and the same operation
 * then succeeds. Owner: the test program. Lifetime: the process.
 */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chats/inside.h"
#include "support/fail_alloc.h"
#include "support/fault_store.h"
#include "support/test.h"

static char base[512];
static const chats_who everybody = {"", true, true};

#define KEPT 1   /* the chat that is there already */
#define ANSWER 2 /* its answer, which a process left running with "ab" saved */

/* ---- operations -------------------------------------------------------------------------------------------------- */

static chats_status say(chats *c, int64_t chat, const char *content, mlxr_error *error)
{
    json_t *fields = json_pack("{s:s, s:s}", "role", "user", "content", content), *row = NULL;
    chats_status status = fields ? chats_message_add(c, &everybody, chat, fields, &row, error) : chats_no_memory(error);
    json_decref(fields);
    json_decref(row);
    return status;
}

static chats_status do_say(chats *c, mlxr_error *error)
{
    return say(c, KEPT, "acknowledged words", error);
}

static chats_status do_add(chats *c, mlxr_error *error)
{
    json_t *fields = json_pack("{s:s}", "title", "made"), *row = NULL;
    chats_status status = fields ? chats_add(c, &everybody, fields, &row, error) : chats_no_memory(error);
    json_decref(fields);
    json_decref(row);
    return status;
}

static chats_status save_text(chats *c, int64_t run, uint64_t n, const char *text, int32_t token, mlxr_error *error)
{
    json_t *events = json_pack("[{s:I, s:s, s:s}]", "n", (json_int_t)n, "type", "text", "text", text);
    chats_save save = {.run = run, .last = n, .events = events, .tokens = &token, .n_tokens = 1};
    if (n == 1) {
        save.source = "file";
        save.prompt = &token;
        save.n_prompt = 1;
    }
    chats_status status = events ? chats_run_save(c, &save, 1, error) : chats_no_memory(error);
    json_decref(events);
    return status;
}

/* A whole answer; where it began and failed behind that, it is ended with what there is. */
static chats_status do_answer(chats *c, mlxr_error *error)
{
    json_t *fields = json_pack("{s:{s:s}, s:s}", "message", "content", "a question", "model", "m");
    chats_run run;
    chats_status status = fields ? chats_run_begin(c, &everybody, KEPT, fields, NULL, NULL, &run, error)
                                 : chats_no_memory(error);
    json_decref(fields);
    if (status != CHATS_OK) {
        return status;
    }
    int64_t id = run.id;
    chats_run_close(&run);
    status = save_text(c, id, 1, "x", 5, error);
    status = status == CHATS_OK ? save_text(c, id, 2, "y", 6, error) : status;
    json_t *last = json_pack("[{s:i, s:s}]", "n", 3, "type", "end");
    int32_t token = 7;
    chats_end end = {.state = "complete",
                     .content = "an answer, whole",
                     .n_content = 16,
                     .save = {.run = id, .last = 3, .events = last, .tokens = &token, .n_tokens = 1}};
    chats_status ended = last ? chats_run_end(c, &end, NULL, status == CHATS_OK ? error : NULL)
                              : chats_no_memory(error);
    if (ended != CHATS_OK && last) { /* as the server does */
        chats_run_end(c, &end, NULL, NULL);
    }
    json_decref(last);
    return status == CHATS_OK ? ended : status;
}

static chats_status do_remove(chats *c, mlxr_error *error)
{
    chats_status status = chats_remove(c, &everybody, 2, true, error);
    return status == CHATS_NOT_FOUND ? CHATS_OK : status; /* an attempt before had worked and could not tell */
}

static chats_status do_settings(chats *c, mlxr_error *error)
{
    json_t *row = NULL, *values = json_pack("{s:s}", "theme", "dark");
    chats_status status = values ? chats_settings(c, &everybody, &row, error) : chats_no_memory(error);
    if (status == CHATS_OK) {
        int64_t revision = json_integer_value(json_object_get(row, "revision"));
        json_decref(row);
        row = NULL;
        status = chats_settings_put(c, &everybody, revision, values, &row, error);
    }
    json_decref(row);
    json_decref(values);
    return status;
}

static chats_status do_nothing(chats *c, mlxr_error *error)
{
    (void)c;
    (void)error;
    return CHATS_OK;
}

typedef struct workload {
    const char *name, *template;
    const char *adds; /* a query that gives 1 or more afterwards */
    chats_status (*run)(chats *c, mlxr_error *error);
} workload;

static const workload workloads[] = {
    {"message", "used", "SELECT count(*) FROM messages WHERE content = 'acknowledged words'", do_say},
    {"chat", "used", "SELECT count(*) FROM chats WHERE title = 'made'", do_add},
    {"answer", "used", "SELECT count(*) FROM messages WHERE content = 'an answer, whole'", do_answer},
    {"remove", "used", "SELECT count(*) = 0 FROM chats WHERE id = 2", do_remove},
    {"settings", "used", "SELECT count(*) FROM settings WHERE revision > 0", do_settings},
    {"create", "empty", NULL, do_nothing},
    {"recover", "used", NULL, do_nothing},
};
enum { N_WORKLOADS = sizeof workloads / sizeof *workloads };

/* Opens the store if need be, and does it. */
static bool attempt(const workload *w, const char *dir, chats **c, mlxr_error *error)
{
    error->text[0] = '\0';
    bool ok = *c || chats_open(c, dir, NULL, error) == MLXR_OK;
    return ok && w->run(*c, error) == CHATS_OK;
}

/* ---- stores ------------------------------------------------------------------------------------------------------ */

static void make_templates(void)
{
    char path[600];
    mlxr_error error;
    chats *c;
    snprintf(path, sizeof path, "%s/empty", base);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/used", base);
    assert_ok(chats_open(&c, path, NULL, &error), &error);
    assert_int_equal(do_add(c, &error), CHATS_OK);
    json_t *fields = json_pack("{s:{s:s}, s:s}", "message", "content", "kept", "model", "m");
    chats_run run;
    assert_int_equal(chats_run_begin(c, &everybody, KEPT, fields, NULL, NULL, &run, &error), CHATS_OK);
    json_decref(fields);
    assert_int_equal(run.message, ANSWER);
    assert_int_equal(save_text(c, run.id, 1, "a", 1, &error), CHATS_OK);
    assert_int_equal(save_text(c, run.id, 2, "b", 2, &error), CHATS_OK);
    chats_run_close(&run);
    assert_int_equal(do_add(c, &error), CHATS_OK);
    assert_int_equal(say(c, 2, "what goes", &error), CHATS_OK);
    assert_ok(db_run(c->db, &error, "UPDATE chats SET title = ''", ""), &error);
    chats_close(&c);
}

static bool says(chats *c, const char *sql, const char *text)
{
    sqlite3_stmt *s;
    check(sqlite3_prepare_v2(c->db, sql, -1, &s, NULL) == SQLITE_OK);
    bool same = sqlite3_step(s) == SQLITE_ROW && strcmp(db_text(s, 0), text) == 0;
    sqlite3_finalize(s);
    return same;
}

static void check_store(const workload *w, const char *dir, bool acknowledged)
{
    chats *c;
    mlxr_error error;
    sqlite3_stmt *s;
    fault_clock began = fault_clock_begin();
    if (chats_open(&c, dir, NULL, &error) != MLXR_OK) {
        fail_msg("%s: the store does not open: %s", fault_context, error.text);
    }
    check(fault_was_quick(began));
    check(says(c, "PRAGMA integrity_check", "ok"));
    check(sqlite3_prepare_v2(c->db, "PRAGMA foreign_key_check", -1, &s, NULL) == SQLITE_OK);
    check(sqlite3_step(s) == SQLITE_DONE);
    sqlite3_finalize(s);
    /* rank 1: compared with the tables it is an index of */
    check(db_run(c->db, &error, "INSERT INTO messages_text(messages_text, rank) VALUES ('integrity-check', 1)", "") ==
          MLXR_OK);
    check(db_run(c->db, &error, "INSERT INTO chats_text(chats_text, rank) VALUES ('integrity-check', 1)", "") ==
          MLXR_OK);
    check(says(c, "SELECT count(*) FROM generations WHERE state = 'running'", "0"));
    if (strcmp(w->template, "used") == 0) {
        check(says(c, "SELECT content FROM messages WHERE id = 1", "kept"));
        check(says(c, "SELECT content || state FROM messages WHERE id = 2", "abinterrupted"));
        check(says(c, "SELECT hex(tokens) || hex(prompt) FROM answers WHERE message = 2", "010000000200000001000000") ||
              says(c, "SELECT hex(tokens) || hex(prompt) FROM answers WHERE message = 2", "0100000002000000"));
    }
    if (acknowledged && w->adds) {
        check(!says(c, w->adds, "0"));
    }
    chats_close(&c);
}

static void fresh(const workload *w, char *dir, size_t cap)
{
    fault_fresh(base, w->template, dir, cap);
}

/* Without a restart, if it was open; then what must hold. */
static void try_again(const workload *w, const char *dir, chats **c)
{
    mlxr_error error;
    if (!attempt(w, dir, c, &error)) {
        fail_msg("%s: not the second time either: %s", fault_context, error.text);
    }
    chats_close(c);
    check_store(w, dir, true);
}

/* ---- the n-th operation ------------------------------------------------------------------------------------------ */

static bool fail_once(const workload *w, uint64_t n, fault_mode mode)
{
    char dir[600];
    chats *c = NULL;
    mlxr_error error;
    fresh(w, dir, sizeof dir);
    fault_at(n, mode);
    bool ok = attempt(w, dir, &c, &error), fired = fault_stop();
    check(fired || ok);
    check(ok || error.text[0]);
    if (ok) {
        chats_close(&c);
        check_store(w, dir, true);
    }
    if (fired) {
        try_again(w, dir, &c);
    }
    return fired;
}

static bool kill_once(const workload *w, uint64_t n)
{
    char dir[600];
    chats *c = NULL;
    mlxr_error error;
    fresh(w, dir, sizeof dir);
    pid_t child = fork();
    if (child == 0) {
        fault_at(n, FAULT_KILL);
        _exit(attempt(w, dir, &c, &error) ? 0 : 1);
    }
    bool killed = fault_was_killed(child);
    check_store(w, dir, !killed);
    try_again(w, dir, &c);
    return killed;
}

static bool fail_or_kill(size_t i, uint64_t n, fault_mode mode)
{
    return mode == FAULT_KILL ? kill_once(&workloads[i], n) : fail_once(&workloads[i], n, mode);
}

/* ---- the n-th allocation ----------------------------------------------------------------------------------------- */

static void starve_once(size_t i, long n)
{
    const workload *w = &workloads[i];
    char dir[600];
    chats *c = NULL;
    mlxr_error error;
    fresh(w, dir, sizeof dir);
    fail_alloc_at(n);
    bool ok = attempt(w, dir, &c, &error), fired = fail_alloc_stop();
    check(fired || ok);
    check(ok || error.text[0]);
    if (ok) {
        chats_close(&c);
        check_store(w, dir, true);
    } else {
        try_again(w, dir, &c);
    }
}

static long count_allocations(size_t i)
{
    const workload *w = &workloads[i];
    char dir[600];
    chats *c = NULL;
    mlxr_error error;
    fresh(w, dir, sizeof dir);
    fail_alloc_at(0x7fffffff);
    check(attempt(w, dir, &c, &error));
    fail_alloc_stop();
    chats_close(&c);
    return fail_alloc_count();
}

static const char *name_of(size_t i)
{
    return workloads[i].name;
}

static const fault_workloads all = {N_WORKLOADS, name_of, fail_or_kill, count_allocations, starve_once};

static void every_operation_fails_or_kills(void **unused)
{
    (void)unused;
    fault_every_operation(&all);
}

static void allocations_fail(void **unused)
{
    (void)unused;
    fault_allocations(&all, 210);
}

/* ---- power ------------------------------------------------------------------------------------------------------- */

static void power_is_lost_after_any_change(void **unused)
{
    char from[600], dir[600];
    uint64_t n_images = 0, rounds = getenv("MLXR_SOAK") ? 50 : 2;
    (void)unused;
    for (size_t i = 0; i < N_WORKLOADS; i++) {
        const workload *w = &workloads[i];
        chats *c = NULL;
        mlxr_error error;
        snprintf(fault_context, sizeof fault_context, "%s", w->name);
        fresh(w, dir, sizeof dir);
        snprintf(from, sizeof from, "%s/%s", base, w->template);
        fault_record(dir);
        check(attempt(w, dir, &c, &error));
        uint64_t n_all = fault_record_count();
        fault_record_stop();
        chats_close(&c);
        for (uint64_t n = 0; n <= n_all; n++) {
            for (uint64_t round = 0; round < rounds; round++, n_images++) {
                snprintf(fault_context, sizeof fault_context, "%s, power lost after %llu of %llu, image %llu", w->name,
                         (unsigned long long)n, (unsigned long long)n_all, (unsigned long long)round);
                fault_remove_tree(dir);
                mkdir(dir, 0700);
                fault_replay(from, dir, n, n * 1000 + round);
                check_store(w, dir, n == n_all);
                c = NULL;
                try_again(w, dir, &c);
            }
        }
        print_message("%s: %llu changes\n", w->name, (unsigned long long)n_all);
    }
    print_message("%llu images\n", (unsigned long long)n_images);
}

static int set_up(void **unused)
{
    (void)unused;
    fault_set_up();
    fault_make_base(base, sizeof base, "chats");
    make_templates();
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    fault_remove_tree(base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_fails_or_kills),
        cmocka_unit_test(allocations_fail),
        cmocka_unit_test(power_is_lost_after_any_change),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
