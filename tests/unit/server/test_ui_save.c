/*
 * Saving answers on a disk that is full for long: nothing of them is lost. The store, the loop and its timers are made
 * here, so that minutes pass at once.
 * Owner: the test program. Lifetime: the process.
 */
#include <stdarg.h>
#include <string.h>

#include "server/ui_runs.h"
#include "support/test.h"

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

typedef struct call {
    void (*fn)(void *user);
    void *user;
} call;

static call timer, work, done;

uint64_t http_timer(http_server *s, uint64_t in_ms, void (*fn)(void *user), void *user)
{
    (void)s;
    (void)in_ms;
    assert_null(timer.fn);
    timer = (call){fn, user};
    return 1;
}

void http_timer_cancel(http_server *s, uint64_t id)
{
    (void)s;
    timer = id ? (call){0} : timer;
}

int http_work_in(http_server *s, http_lane lane, void (*fn)(void *user), void (*end)(void *user), void *user)
{
    (void)s;
    (void)lane;
    work = (call){fn, user};
    done = (call){end, user};
    return 0;
}

static bool turn(call *c)
{
    call now = *c;
    *c = (call){0};
    if (now.fn) {
        now.fn(now.user);
    }
    return now.fn != NULL;
}

/* Until nothing is to be done, or `most` writes were tried. */
static void run_loop(int most)
{
    while (most > 0 && turn(&timer)) {
        if (turn(&work)) {
            most--;
            turn(&done);
        }
    }
}

/* ---- the store --------------------------------------------------------------------------------------------------- */

static bool full;
static int64_t gone;    /* the answer that has no row any more */
static char saved[256]; /* the numbers of tokens and events, in order */
static size_t n_ends, n_told, n_unsaved;
static uint64_t told_saved;
static const char *last_log;

static chats_status take(const chats_save *save, mlxr_error *error)
{
    if (full) {
        *error = (mlxr_error){.status = MLXR_IO, .text = "the disk is full"};
        return CHATS_FAILED;
    }
    size_t n = strlen(saved);
    for (size_t i = 0; i < json_array_size(save->events); i++) {
        n += (size_t)snprintf(saved + n, sizeof saved - n, "e%d ",
                              (int)json_integer_value(json_array_get(save->events, i)));
    }
    for (size_t i = 0; i < save->n_tokens; i++) {
        n += (size_t)snprintf(saved + n, sizeof saved - n, "t%d ", save->tokens[i]);
    }
    return CHATS_OK;
}

chats_status chats_run_save(chats *c, const chats_save *saves, size_t n, mlxr_error *error)
{
    (void)c;
    assert_int_equal(n, 1);
    return take(saves, error);
}

chats_status chats_run_end(chats *c, const chats_end *end, json_t **message, mlxr_error *error)
{
    (void)c;
    (void)message;
    chats_status status = end->save.run == gone ? CHATS_NOT_FOUND : take(&end->save, error);
    n_ends += status == CHATS_OK;
    return status;
}

void chats_run_forget(chats *c, int64_t run)
{
    (void)c;
    fail_msg("answer %d was forgotten", (int)run);
}

chats *ui_store(struct ui *ui, mlxr_error *error)
{
    (void)error;
    return (chats *)(void *)ui;
}

/* ---- who is told ------------------------------------------------------------------------------------------------- */

void ui_log_saved(ui_log *log, uint64_t n)
{
    (void)log;
    told_saved = n;
}

void ui_run_written(ui_run *run)
{
    run->written = true;
    n_told++;
}

void ui_runs_tell_unsaved(struct ui_runs *runs, const mlxr_error *why)
{
    (void)runs;
    assert_string_equal(why->text, "the disk is full");
    n_unsaved++;
}

void daemon_log(const struct daemon *d, mlxr_log_level level, const char *format, ...)
{
    (void)d;
    (void)level;
    last_log = format;
}

/* ---- the tests --------------------------------------------------------------------------------------------------- */

static void add(ui_run *run, int token)
{
    run->events = run->events ? run->events : json_array();
    json_array_append_new(run->events, json_integer((json_int_t)++run->n_events));
    int32_t *grown = realloc(run->tokens, (run->n_new + 1) * sizeof *grown);
    assert_non_null(grown);
    run->tokens = grown;
    run->tokens[run->n_new++] = token;
    ui_save_soon(run->runs, run->state != NULL);
}

static void an_answer_waits_for_a_disk_that_is_full_for_an_hour(void **state)
{
    struct daemon d = {0};
    struct ui ui = {.d = &d};
    struct ui_runs runs = {.ui = &ui};
    ui_run run = {.runs = &runs, .id = 7, .exact = true, .log = (ui_log *)(void *)&ui};
    (void)state;
    runs.all = &run;
    full = true;
    add(&run, 10);
    run_loop(1);
    assert_non_null(strstr(last_log, "answers cannot be saved; trying again"));
    add(&run, 11); /* it goes on */
    run_loop(599);
    assert_true(ui_save_is_stuck(&runs));
    assert_int_equal(n_unsaved, 1);
    add(&run, 12);
    run_loop(3000);
    run.state = "complete";
    add(&run, 13);
    run_loop(100);
    assert_true(n_unsaved > 3000);
    assert_int_equal(n_told + n_ends + told_saved, 0); /* nobody is told that it is saved */
    assert_string_equal(saved, "");
    full = false;
    run_loop(10);
    assert_string_equal(saved, "e1 t10 e2 e3 e4 t11 t12 t13 ");
    assert_int_equal(told_saved, 4);
    assert_int_equal(n_ends, 1);
    assert_int_equal(n_told, 1);
    assert_false(ui_save_is_stuck(&runs));
    assert_null(runs.write);
    assert_string_equal(last_log, "answers are saved again");
}

static void an_answer_whose_row_has_gone_keeps_no_other_from_being_saved(void **state)
{
    struct daemon d = {0};
    struct ui ui = {.d = &d};
    struct ui_runs runs = {.ui = &ui};
    ui_run other = {.runs = &runs, .id = 8, .exact = true};
    ui_run run = {.runs = &runs, .id = 7, .exact = true, .state = "complete", .next = &other};
    (void)state;
    runs.all = &run;
    gone = run.id;
    saved[0] = '\0';
    n_ends = n_told = n_unsaved = 0;
    add(&run, 10);
    other.state = "complete";
    add(&other, 20);
    run_loop(10);
    gone = 0;
    assert_string_equal(saved, "e1 t20 ");
    assert_int_equal(n_ends, 1);
    assert_int_equal(n_told, 2); /* who waits for it is told that it is not there */
    assert_int_equal(n_unsaved, 0);
    assert_false(ui_save_is_stuck(&runs));
    assert_null(runs.write);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_waits_for_a_disk_that_is_full_for_an_hour),
        cmocka_unit_test(an_answer_whose_row_has_gone_keeps_no_other_from_being_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
