/*
 * GET /ui-api/events: what changes in chats, folders, presets, settings, generations, models, jobs; once or as events.
 * Owner: struct ui. Lifetime: ui_feed_open to ui_feed_close; a follower's, its exchange's.
 *
 * Changes are numbered and the newest kept, so that who was away for a moment misses none; who was away for longer, or
 * comes with the number of another run of the daemon, is told to read lists anew. Who comes for the first time is told
 * how old the newest change is: what was read before that is to be read again. How far jobs are is told besides,
 * without a number: the next word of it says more.
 *
 *   model jobs, or the model table, which tells nothing of the registry ─▶ look (pool): is it different? ─▶ change
 *   tick: progress of jobs; now and then a look, for files that appear without a request
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "server/admin_parts.h"
#include "server/sse.h"
#include "server/ui_parts.h"
#include "server/ui_routes.h"

#define KEPT 1024u
#define FOLLOWERS_MAX 256u
#define TICK_MS 500u
#define LOOK_TICKS 4u
#define PING_TICKS 28u
#define TOLD_JOBS 16u

typedef enum listeners { FOR_OWNER, FOR_EVERYBODY, FOR_ADMINS } listeners;

typedef struct change {
    char owner[17];
    listeners meant;
    char *json;
} change;

typedef struct follower {
    struct follower *previous, *next;
    struct ui_feed *feed;
    http_exchange *x;
    auth_identity identity;
    uint64_t seen; /* number of the last change that was looked at */
} follower;

struct ui_feed {
    struct ui *ui;
    uint64_t boot;       /* tells this run of the daemon from others */
    uint64_t newest;     /* number of the newest change; from 1 */
    uint64_t newest_ms;  /* when that was, or this run of the daemon began; the loop's clock */
    change kept[KEPT];   /* number n at n % KEPT */
    follower *followers; /* linked */
    uint32_t n_followers, ticks;
    uint64_t timer;
    struct {
        uint64_t id, number;
    } told[TOLD_JOBS];             /* the last progress told of job id, at id % TOLD_JOBS */
    bool looking, looked;          /* at the models; has done so once */
    bool again;                    /* they were changed while it looked */
    bool registry, registry_again; /* not only at what is in memory */
    bool changed;                  /* they were, before it had looked for the first time */
    atomic_bool posted;            /* the loop is to look */
    http_task task;                /* for that */
    uint64_t models, loaded;       /* marks of both lists */
    uint64_t models_now, loaded_now;
};

/* ---- who follows ------------------------------------------------------------------------------------------------- */

static bool is_meant(const change *c, const auth_identity *who)
{
    return c->meant == FOR_OWNER ? ui_sees(who, c->owner)
                                 : c->meant == FOR_EVERYBODY || (who->scopes & AUTH_ADMIN) != 0;
}

/* Writes what a follower has not seen, as far as it takes it. */
static void catch_up(follower *f)
{
    struct ui_feed *feed = f->feed;
    char id[64];
    while (f->seen < feed->newest && http_stream_buffered(f->x) < HTTP_BUFFER_MAX) {
        uint64_t oldest = feed->newest > KEPT ? feed->newest - KEPT + 1 : 1;
        if (f->seen + 1 < oldest) {
            f->seen = feed->newest;
            snprintf(id, sizeof id, "%llx-%llu", (unsigned long long)feed->boot, (unsigned long long)f->seen);
            sse_write_numbered(f->x, id, "reset", "{}", 2);
            return;
        }
        const change *c = &feed->kept[++f->seen % KEPT];
        if (c->json && is_meant(c, &f->identity)) {
            snprintf(id, sizeof id, "%llx-%llu", (unsigned long long)feed->boot, (unsigned long long)f->seen);
            sse_write_numbered(f->x, id, "change", c->json, strlen(c->json));
        }
    }
}

static void on_drain(void *user)
{
    follower *f = user;
    if (!f->feed->ui->draining) {
        catch_up(f);
    }
}

static void on_gone(void *user)
{
    follower *f = user;
    struct ui_feed *feed = f->feed;
    *(f->previous ? &f->previous->next : &feed->followers) = f->next;
    if (f->next) {
        f->next->previous = f->previous;
    }
    feed->n_followers--;
    free(f);
}

static void publish(struct ui_feed *feed, listeners meant, const char *owner, json_t *what)
{
    change *c = &feed->kept[++feed->newest % KEPT];
    feed->newest_ms = http_now_ms(feed->ui->d->http);
    free(c->json);
    c->json = what ? json_dumps(what, JSON_COMPACT) : NULL;
    json_decref(what);
    c->meant = meant;
    snprintf(c->owner, sizeof c->owner, "%s", owner ? owner : "");
    for (follower *f = feed->followers; f && !feed->ui->draining; f = f->next) { /* their streams have ended */
        catch_up(f);
    }
}

void ui_feed_publish(struct ui_feed *feed, const char *owner, json_t *what)
{
    publish(feed, owner ? FOR_OWNER : FOR_EVERYBODY, owner, what);
}

/* ---- the models -------------------------------------------------------------------------------------------------- */

static uint64_t mark(uint64_t before, const char *text, uint64_t state)
{
    return XXH3_64bits_withSeed(text, strlen(text), before ^ state);
}

static mlxr_status add_model(void *user, const registry_model *m, mlxr_error *error)
{
    struct ui_feed *feed = user;
    (void)error;
    feed->models_now = mark(feed->models_now, m->name, (uint64_t)m->modified_us);
    return MLXR_OK;
}

static void add_loaded(void *user, const model_table_item *item)
{
    struct ui_feed *feed = user;
    feed->loaded_now = mark(feed->loaded_now, item->path, (item->info != NULL) | (uint64_t)item->pinned << 1);
}

static void look(void *user)
{
    struct ui_feed *feed = user;
    mlxr_error error;
    feed->loaded_now = 0;
    if (feed->registry) {
        feed->models_now = 0;
        registry_each(feed->ui->d->registry, add_model, feed, &error);
    }
    model_table_each(feed->ui->d->models, add_loaded, feed);
}

static void start_look(struct ui_feed *feed, bool with_registry);

static void has_looked(void *user)
{
    struct ui_feed *feed = user;
    feed->looking = false;
    feed->ui->n_jobs--;
    bool all = !feed->looked && feed->changed, compare = feed->looked;
    feed->looked = true;
    if (all || (compare && feed->models != feed->models_now)) {
        publish(feed, FOR_EVERYBODY, NULL, json_pack("{s:s, s:s}", "kind", "models", "op", "changed"));
    }
    if (all || (compare && feed->loaded != feed->loaded_now)) {
        publish(feed, FOR_EVERYBODY, NULL, json_pack("{s:s, s:s}", "kind", "loaded", "op", "changed"));
    }
    feed->models = feed->models_now;
    feed->loaded = feed->loaded_now;
    if (feed->again) {
        start_look(feed, feed->registry_again);
    }
}

/* With the registry, which is read as a whole, where that may have changed, too. */
static void start_look(struct ui_feed *feed, bool with_registry)
{
    feed->again = feed->looking;
    if (feed->looking) {
        feed->registry_again |= with_registry;
        return;
    }
    feed->registry_again = false;
    feed->registry = with_registry || !feed->looked;
    if (!feed->ui->draining && http_work(feed->ui->d->http, look, has_looked, feed) == 0) {
        feed->looking = true;
        feed->ui->n_jobs++;
    }
}

static void look_at_change(struct ui_feed *feed, bool with_registry)
{
    feed->changed = feed->changed || !feed->looked;
    start_look(feed, with_registry);
}

static void on_posted(void *user)
{
    struct ui_feed *feed = user;
    atomic_store(&feed->posted, false);
    look_at_change(feed, false);
}

/* Any thread, under the model table's lock. */
static void on_table_change(void *user)
{
    struct ui_feed *feed = user;
    if (!atomic_exchange(&feed->posted, true)) {
        http_post_task(feed->ui->d->http, &feed->task); /* refused once the loop has ended: nobody follows then */
    }
}

/* ---- the jobs ---------------------------------------------------------------------------------------------------- */

static void on_jobs_change(void *user, const model_job_info *info)
{
    struct ui_feed *feed = user;
    if (!info) {
        look_at_change(feed, true);
        return;
    }
    publish(feed, FOR_ADMINS, NULL,
            json_pack("{s:s, s:s, s:I, s:o}", "kind", "job", "op", info->ended ? "ended" : "started", "id",
                      (json_int_t)info->id, "job", admin_job_json(info)));
}

/* To who follows now and takes it. */
static void tell_progress(void *user, const model_job_info *info)
{
    struct ui_feed *feed = user;
    size_t at = info->id % TOLD_JOBS;
    if (info->ended || (feed->told[at].id == info->id && feed->told[at].number == info->now.number)) {
        return;
    }
    json_t *what = json_pack("{s:s, s:s, s:I, s:o}", "kind", "job", "op", "progress", "id", (json_int_t)info->id, "job",
                             admin_job_json(info));
    char *text = what ? json_dumps(what, JSON_COMPACT) : NULL;
    for (follower *f = feed->followers; f && text; f = f->next) {
        if ((f->identity.scopes & AUTH_ADMIN) && http_stream_buffered(f->x) < HTTP_BUFFER_MAX) {
            sse_write(f->x, "progress", text, strlen(text));
        }
    }
    feed->told[at].id = info->id;
    feed->told[at].number = info->now.number;
    free(text);
    json_decref(what);
}

static void on_tick(void *user)
{
    struct ui_feed *feed = user;
    feed->timer = 0;
    if (!feed->looked) {
        start_look(feed, true);
    }
    if (!feed->followers || feed->ui->draining) {
        return;
    }
    for (follower *f = feed->followers; f && feed->ticks % PING_TICKS == 0; f = f->next) {
        sse_ping(f->x);
    }
    model_jobs_each(feed->ui->d->jobs, tell_progress, feed);
    if (feed->ticks++ % LOOK_TICKS == 0) {
        start_look(feed, true);
    }
    feed->timer = http_timer(feed->ui->d->http, TICK_MS, on_tick, feed);
}

/* ---- the route --------------------------------------------------------------------------------------------------- */

/* "boot-number" that a client has seen last; false: not of this run, or of no run. */
static bool read_place(const struct ui_feed *feed, const char *text, uint64_t *out)
{
    unsigned long long boot, number;
    int n = 0;
    if (sscanf(text, "%llx-%llu%n", &boot, &number, &n) != 2 || text[n] || boot != feed->boot ||
        number > feed->newest) {
        return false;
    }
    *out = number;
    return true;
}

/* "boot-number" of the newest change. */
static void place_of(const struct ui_feed *feed, char *out, size_t cap)
{
    snprintf(out, cap, "%llx-%llu", (unsigned long long)feed->boot, (unsigned long long)feed->newest);
}

typedef struct seen_place {
    bool asked; /* the client says what it has seen last */
    bool known; /* and it is known here */
    uint64_t number;
} seen_place;

/* False: it has been answered. */
static bool read_seen(const struct ui_feed *feed, http_exchange *x, seen_place *out)
{
    char after[64] = "";
    const char *last = http_header_get(x, "last-event-id"); /* what a browser sends when it comes back */
    if (!route_query_text(x, "after", after, sizeof after, &out->asked)) {
        return false;
    }
    if (last && strlen(last) < sizeof after) {
        snprintf(after, sizeof after, "%s", last);
        out->asked = true;
    }
    out->number = feed->newest;
    out->known = out->asked && read_place(feed, after, &out->number);
    return true;
}

/* For who does not want a stream. */
static void answer_once(struct ui_feed *feed, http_exchange *x, const seen_place *seen)
{
    char place[64];
    bool reset = seen->asked && (!seen->known || (feed->newest > KEPT && seen->number < feed->newest - KEPT));
    json_t *list = json_array();
    for (uint64_t n = reset ? feed->newest : seen->number; n++ < feed->newest;) {
        const change *c = &feed->kept[n % KEPT];
        if (c->json && is_meant(c, route_identity(x))) {
            json_array_append_new(list, json_loads(c->json, 0, NULL));
        }
    }
    place_of(feed, place, sizeof place);
    http_header_add(x, "Cache-Control", "no-store");
    http_respond_json(x, 200, json_pack("{s:o, s:s, s:b}", "changes", list, "next", place, "reset", (int)reset));
}

static void answer_stream(struct ui_feed *feed, http_exchange *x, const seen_place *seen)
{
    char place[64], data[48];
    follower *f = feed->n_followers < FOLLOWERS_MAX ? calloc(1, sizeof *f) : NULL;
    if (!f) {
        error_respond(x, 503, NULL, "too many clients follow the changes", NULL);
        return;
    }
    *f = (follower){
        .feed = feed, .x = x, .identity = *route_identity(x), .seen = seen->number, .next = feed->followers};
    if (f->next) {
        f->next->previous = f;
    }
    feed->followers = f;
    feed->n_followers++;
    http_on_gone(x, on_gone, f);
    http_on_drain(x, on_drain, f);
    sse_begin(x);
    if (seen->known) {
        sse_ping(x);
    } else { /* the place to come back to */
        place_of(feed, place, sizeof place);
        int n = snprintf(data, sizeof data, "{\"quiet_ms\":%llu}",
                         (unsigned long long)(http_now_ms(feed->ui->d->http) - feed->newest_ms));
        sse_write_numbered(x, place, seen->asked ? "reset" : "hello", data, (size_t)n);
    }
    catch_up(f);
    if (!feed->timer) {
        feed->timer = http_timer(feed->ui->d->http, TICK_MS, on_tick, feed);
    }
}

void ui_events(void *service, http_exchange *x)
{
    struct daemon *d = service;
    const char *accept = http_header_get(x, "accept");
    seen_place seen;
    if (!read_seen(d->ui->feed, x, &seen)) {
        return;
    }
    if (accept && strstr(accept, "text/event-stream")) {
        answer_stream(d->ui->feed, x, &seen);
    } else {
        answer_once(d->ui->feed, x, &seen);
    }
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

mlxr_status ui_feed_open(struct ui_feed **out, struct ui *ui, mlxr_error *error)
{
    struct timespec now;
    struct ui_feed *feed = calloc(1, sizeof *feed);
    if (!feed) {
        return ui_no_memory(error);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    feed->ui = ui;
    feed->newest_ms = http_now_ms(ui->d->http);
    feed->boot = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    feed->task = (http_task){.fn = on_posted, .user = feed};
    atomic_init(&feed->posted, false);
    model_jobs_on_change(ui->d->jobs, on_jobs_change, feed);
    model_table_on_change(ui->d->models, on_table_change, feed);
    *out = feed;
    feed->timer = http_timer(ui->d->http, 0, on_tick, feed); /* looks for the first time */
    return feed->timer ? MLXR_OK : ui_no_memory(error);
}

void ui_feed_drain(struct ui_feed *feed)
{
    http_timer_cancel(feed->ui->d->http, feed->timer);
    feed->timer = 0;
    for (follower *f = feed->followers; f; f = f->next) { /* `gone` comes later, from the loop */
        http_stream_end(f->x);
    }
}

void ui_feed_end(struct ui_feed *feed)
{
    model_table_on_change(feed->ui->d->models, NULL, NULL);
}

void ui_feed_close(struct ui_feed **pointer)
{
    struct ui_feed *feed = *pointer;
    if (!feed) {
        return;
    }
    if (feed->ui->d->models) { /* it was not opened in full */
        ui_feed_end(feed);
    }
    model_jobs_on_change(feed->ui->d->jobs, NULL, NULL);
    for (size_t i = 0; i < KEPT; i++) {
        free(feed->kept[i].json);
    }
    free(feed);
    *pointer = NULL;
}
