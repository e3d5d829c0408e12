/*
 * Opening and closing what the UI's API is made of, and looking after the store.
 * Owner: the daemon. Lifetime: ui_open to ui_close.
 */
#include "server/ui.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/registry.h"
#include "server/daemon_private.h"
#include "server/ui_parts.h"
#include "server/ui_routes.h"

#define TRY_MS 1000u
#define TIDY_MS (10u * 60u * 1000u)

mlxr_status ui_no_memory(mlxr_error *error)
{
    *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
    return MLXR_NOMEM;
}

chats *ui_store(struct ui *ui, mlxr_error *error)
{
    pthread_mutex_lock(&ui->lock);
    uint64_t now = daemon_clock_ms();
    if (!ui->store && now - ui->tried_ms >= TRY_MS) {
        ui->tried_ms = now;
        chats_open(&ui->store, ui->directory, NULL, &ui->reason);
    }
    chats *store = ui->store;
    if (!store) {
        *error = ui->reason;
    }
    pthread_mutex_unlock(&ui->lock);
    return store;
}

/* Beside the registry's database. */
static bool set_directory(struct ui *ui)
{
    const char *own = ui->d->options->directory;
    char found[REGISTRY_PATH_MAX];
    if (!own && !registry_directory(found, sizeof found)) {
        return false;
    }
    return snprintf(ui->directory, sizeof ui->directory, "%s/.mlxr", own ? own : found) < (int)sizeof ui->directory;
}

/* Every route must be described; like a policy, that is no matter of chance. */
static mlxr_status check_routes(const struct ui *ui, mlxr_error *error)
{
    for (size_t i = 0; i < N_UI_ROUTES; i++) {
        const route *row = &ui_routes[i];
        const json_t *known = ui_schema_route(ui->document, row->method, row->pattern);
        bool body = json_object_get(known, "body") != NULL;
        if (!known || body != ((row->flags & ROUTE_BODY_JSON) != 0)) {
            snprintf(error->text, sizeof error->text, "ui_api.json does not describe %s %s", row->method, row->pattern);
            error->status = MLXR_ARG;
            return MLXR_ARG;
        }
    }
    return MLXR_OK;
}

static void tidy_later(void *user);

static void tidy(void *user)
{
    struct ui *ui = user;
    mlxr_error error;
    uint32_t purged = 0;
    chats *store = ui_store(ui, &error);
    if (store && chats_tidy(store, &purged, &error) == CHATS_OK && purged) {
        daemon_log(ui->d, MLXR_LOG_INFO, "%u removed chats were purged", purged);
    }
}

static void tidied(void *user)
{
    struct ui *ui = user;
    ui->n_jobs--;
    ui->tidy_timer = ui->draining ? 0 : http_timer(ui->d->http, TIDY_MS, tidy_later, ui);
}

static void tidy_later(void *user)
{
    struct ui *ui = user;
    ui->tidy_timer = 0;
    if (!ui->draining && http_work_in(ui->d->http, HTTP_LANE_CHATS, tidy, tidied, ui) == 0) {
        ui->n_jobs++;
    }
}

mlxr_status ui_open(struct ui **out, struct daemon *d, mlxr_error *error)
{
    struct ui *ui = calloc(1, sizeof *ui);
    mlxr_error reason;
    if (!ui) {
        return ui_no_memory(error);
    }
    ui->d = d;
    pthread_mutex_init(&ui->lock, NULL);
    ui->document = ui_schema_open();
    mlxr_status status = ui->document ? check_routes(ui, error) : ui_no_memory(error);
    if (status == MLXR_OK && !set_directory(ui)) {
        *error = (mlxr_error){.status = MLXR_ARG, .text = "the path of the chats is too long"};
        status = MLXR_ARG;
    }
    status = status == MLXR_OK ? ui_feed_open(&ui->feed, ui, error) : status;
    status = status == MLXR_OK ? ui_runs_open(&ui->runs, ui, error) : status;
    if (status != MLXR_OK) {
        ui_close(&ui);
        return status;
    }
    if (!ui_store(ui, &reason)) {
        daemon_log(d, MLXR_LOG_WARN, "chats cannot be used: %s", reason.text);
    }
    ui->tidy_timer = http_timer(d->http, TIDY_MS, tidy_later, ui);
    *out = ui;
    return MLXR_OK;
}

void ui_drain(struct ui *ui)
{
    ui->draining = true;
    ui_feed_drain(ui->feed);
    http_timer_cancel(ui->d->http, ui->tidy_timer);
    ui->tidy_timer = 0;
}

unsigned ui_answering(const struct ui *ui)
{
    return ui_runs_answering(ui->runs);
}

bool ui_idle(const struct ui *ui)
{
    return ui->n_jobs == 0 && ui_runs_idle(ui->runs);
}

void ui_end(struct ui *ui)
{
    if (ui) {
        ui_feed_end(ui->feed);
        ui_runs_end(ui->runs);
    }
}

void ui_close(struct ui **pointer)
{
    struct ui *ui = *pointer;
    if (!ui) {
        return;
    }
    ui_runs_close(&ui->runs);
    ui_feed_close(&ui->feed);
    chats_close(&ui->store);
    json_decref(ui->document);
    pthread_mutex_destroy(&ui->lock);
    free(ui);
    *pointer = NULL;
}

void ui_publish(struct daemon *d, const char *owner, json_t *change)
{
    ui_feed_publish(d->ui->feed, owner, change);
}
