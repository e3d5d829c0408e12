/*
 * Writing answers to the store: all that came within 250 ms in one transaction.
 * Owner: struct ui_runs. Lifetime: a write's from ui_save_soon until it has worked; one at a time.
 *
 *   loop: timer ─▶ what runs have new is taken over ─▶ pool: one transaction, and one for each end ─▶ loop: told
 *                                                          └ the disk is full: tried again each second
 *
 * It is never given up, unless the answer's row has gone: what was answered is kept in memory until it can be written.
 * That stays bounded, as an answer begins with a write, and none is begun while answers have not been saved for long.
 */
#include <stdlib.h>
#include <string.h>

#include "server/ui_runs.h"

#define SAVE_MS 250u
#define RETRY_MS 1000u
#define RETRIES_UNTOLD 600u /* then who waits for an end is told that it is not written */
#define RETRIES_A_LINE 60u  /* of the log */

typedef struct save_item {
    ui_run *run;
    chats_save save; /* owns events, source, prompt and tokens */
    bool ends, done;
} save_item;

typedef struct ui_write {
    struct ui_runs *runs;
    save_item *items; /* [n] */
    size_t n;
    chats_status status;
    mlxr_error error;
    chats *store;
} ui_write;

/* ---- taking over ------------------------------------------------------------------------------------------------- */

void ui_save_prompt(ui_run *run)
{
    int32_t *copy = run->prompt && run->exact ? malloc(run->n_prompt * sizeof *copy + 1) : NULL;
    if (copy) { /* without memory it is made anew when it is needed */
        memcpy(copy, run->prompt, run->n_prompt * sizeof *copy);
        run->kept_prompt = copy;
    }
    run->prompt = NULL;
}

static void take_prompt(ui_run *run, chats_save *save)
{
    save->source = strdup(run->source);
    if (save->source) {
        save->prompt = run->kept_prompt;
        save->n_prompt = run->n_prompt;
        run->kept_prompt = NULL;
    }
}

static void take_over(ui_run *run, save_item *item)
{
    *item = (save_item){.run = run,
                        .save = {.run = run->id, .last = run->n_events, .by_text = run->by_text},
                        .ends = run->state != NULL};
    ui_save_prompt(run);
    if (run->kept_prompt) {
        take_prompt(run, &item->save);
    }
    item->save.events = run->events;
    item->save.tokens = run->tokens;
    item->save.n_tokens = run->exact ? run->n_new : 0;
    run->events = NULL;
    run->tokens = NULL;
    run->n_new = run->cap_new = 0;
}

static bool has_news(const ui_run *run)
{
    return !run->written && json_array_size(run->events) > 0;
}

static ui_write *collect(struct ui_runs *runs)
{
    size_t n = 0;
    for (ui_run *run = runs->all; run; run = run->next) {
        n += has_news(run);
    }
    ui_write *w = n ? calloc(1, sizeof *w) : NULL;
    save_item *items = w ? calloc(n, sizeof *items) : NULL;
    if (!items) {
        free(w);
        return NULL;
    }
    *w = (ui_write){.runs = runs, .items = items};
    for (ui_run *run = runs->all; run; run = run->next) {
        if (has_news(run)) {
            take_over(run, &items[w->n++]);
        }
    }
    return w;
}

static void free_write(ui_write *w)
{
    for (size_t i = 0; i < w->n; i++) {
        const chats_save *save = &w->items[i].save;
        json_decref((json_t *)(uintptr_t)save->events);
        free((void *)(uintptr_t)save->source);
        free((void *)(uintptr_t)save->prompt);
        free((void *)(uintptr_t)save->tokens);
    }
    free(w->items);
    free(w);
}

/* ---- writing, on the pool ---------------------------------------------------------------------------------------- */

static void write_end(ui_write *w, save_item *item)
{
    const ui_run *run = item->run; /* nothing changes in it any more */
    chats_end end = {.state = run->state,
                     .content = run->answer.content.data,
                     .n_content = run->answer.content.n,
                     .reasoning = run->answer.reasoning.data,
                     .n_reasoning = run->answer.reasoning.n,
                     .tool_calls = run->answer.calls,
                     .model = run->model,
                     .stats = run->stats,
                     .save = item->save};
    w->status = chats_run_end(w->store, &end, NULL, &w->error);
    if (w->status == CHATS_NOT_FOUND) { /* it went with its chat: there is nothing to keep, now or later */
        w->status = CHATS_OK;
    }
    item->done = w->status == CHATS_OK;
}

static void write_all(void *user)
{
    ui_write *w = user;
    chats_save *saves = calloc(w->n, sizeof *saves);
    size_t n = 0;
    w->store = ui_store(w->runs->ui, &w->error);
    if (!w->store || !saves) {
        w->status = CHATS_FAILED;
        free(saves);
        return;
    }
    for (size_t i = 0; i < w->n; i++) {
        if (!w->items[i].ends && !w->items[i].done) {
            saves[n++] = w->items[i].save;
        }
    }
    w->status = n ? chats_run_save(w->store, saves, n, &w->error) : CHATS_OK;
    for (size_t i = 0; i < w->n && w->status == CHATS_OK; i++) {
        if (!w->items[i].ends) {
            w->items[i].done = true;
        } else if (!w->items[i].done) {
            write_end(w, &w->items[i]);
        }
    }
    free(saves);
}

/* ---- back on the loop -------------------------------------------------------------------------------------------- */

static void written(void *user);

static void start(struct ui_runs *runs)
{
    if (http_work_in(runs->ui->d->http, HTTP_LANE_CHATS, write_all, written, runs->write) == 0) {
        runs->writing = true;
        runs->ui->n_jobs++;
    } else {
        ui_save_soon(runs, false);
    }
}

static void on_timer(void *user)
{
    struct ui_runs *runs = user;
    runs->timer = 0;
    if (runs->writing) {
        return; /* its end looks for more */
    }
    runs->write = runs->write ? runs->write : collect(runs);
    if (runs->write) {
        start(runs);
    }
}

void ui_save_soon(struct ui_runs *runs, bool now)
{
    http_server *http = runs->ui->d->http;
    if (runs->writing || (runs->timer && (!now || runs->write))) {
        return;
    }
    http_timer_cancel(http, runs->timer);
    runs->timer = http_timer(http, runs->write ? RETRY_MS : now ? 0 : SAVE_MS, on_timer, runs);
}

static bool any_news(const struct ui_runs *runs)
{
    bool any = false;
    for (const ui_run *run = runs->all; run && !any; run = run->next) {
        any = has_news(run);
    }
    return any;
}

static bool any_end(const struct ui_runs *runs)
{
    bool any = false;
    for (const ui_run *run = runs->all; run && !any; run = run->next) {
        any = run->state && has_news(run);
    }
    return any;
}

static void tell(ui_write *w)
{
    for (size_t i = 0; i < w->n; i++) {
        save_item *item = &w->items[i];
        if (item->done && item->run->log) {
            ui_log_saved(item->run->log, item->save.last);
        }
        if (item->done && item->ends) {
            ui_run_written(item->run);
        }
    }
}

static unsigned n_unsaved(const struct ui_runs *runs)
{
    unsigned n = 0;
    for (const ui_run *run = runs->all; run; run = run->next) {
        n += !run->written;
    }
    return n;
}

bool ui_save_is_stuck(const struct ui_runs *runs)
{
    return runs->n_failed >= RETRIES_UNTOLD;
}

static void try_again(struct ui_runs *runs, const mlxr_error *why)
{
    if (runs->n_failed++ % RETRIES_A_LINE == 0) {
        daemon_log(runs->ui->d, MLXR_LOG_ERROR, "answers cannot be saved; trying again, %u kept in memory: %s",
                   n_unsaved(runs), why->text);
    }
    if (ui_save_is_stuck(runs)) {
        ui_runs_tell_unsaved(runs, why);
    }
    ui_save_soon(runs, false);
}

static void written(void *user)
{
    ui_write *w = user;
    struct ui_runs *runs = w->runs;
    runs->writing = false;
    runs->ui->n_jobs--;
    if (w->status != CHATS_OK) {
        try_again(runs, &w->error);
        return;
    }
    if (runs->n_failed) {
        daemon_log(runs->ui->d, MLXR_LOG_INFO, "answers are saved again");
    }
    runs->n_failed = 0;
    runs->write = NULL;
    tell(w);
    free_write(w);
    if (any_news(runs)) {
        ui_save_soon(runs, any_end(runs));
    }
}

void ui_save_rest(struct ui_runs *runs)
{
    for (int tries = 0; tries < 3; tries++) {
        runs->write = runs->write ? runs->write : collect(runs);
        if (!runs->write) {
            return;
        }
        write_all(runs->write);
        if (runs->write->status == CHATS_OK) {
            free_write(runs->write);
            runs->write = NULL;
        }
    }
    if (runs->write) {
        daemon_log(runs->ui->d, MLXR_LOG_ERROR, "the end of answers could not be saved: %s", runs->write->error.text);
        free_write(runs->write);
        runs->write = NULL;
    }
}
