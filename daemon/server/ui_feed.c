/*
 * GET /ui-api/events: what changes in chats, folders, presets, settings, generations and models, once or as events.
 * Owner: struct ui. Lifetime: ui_feed_open to ui_feed_close; a follower's, its exchange's.
 *
 * Changes are numbered and the newest kept, so that who was away for a moment misses none; who was away for longer, or
 * comes with the number of another run of the daemon, is told to read lists anew. Models are looked at every two
 * seconds as long as somebody follows: they change without a request, too (files that appear, keep-alive that ends).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "registry/registry.h"
#include "server/sse.h"
#include "server/ui_parts.h"
#include "server/ui_routes.h"

#define KEPT 1024u
#define FOLLOWERS_MAX 256u
#define TICK_MS 2000u
#define PING_TICKS 7u

typedef struct change {
    char owner[17];
    bool everybody;
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
    change kept[KEPT];   /* number n at n % KEPT */
    follower *followers; /* linked */
    uint32_t n_followers, ticks;
    uint64_t timer;
    bool looking, looked; /* at the models; has done so once */
    uint64_t models, models_now;
};

/* ---- who follows ------------------------------------------------------------------------------------------------- */

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
            sse_id(f->x, id);
            sse_write(f->x, "reset", "{}", 2);
            return;
        }
        const change *c = &feed->kept[++f->seen % KEPT];
        if (c->json && (c->everybody || ui_sees(&f->identity, c->owner))) {
            snprintf(id, sizeof id, "%llx-%llu", (unsigned long long)feed->boot, (unsigned long long)f->seen);
            sse_id(f->x, id);
            sse_write(f->x, "change", c->json, strlen(c->json));
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

void ui_feed_publish(struct ui_feed *feed, const char *owner, json_t *what)
{
    change *c = &feed->kept[++feed->newest % KEPT];
    free(c->json);
    c->json = what ? json_dumps(what, JSON_COMPACT) : NULL;
    json_decref(what);
    c->everybody = owner == NULL;
    snprintf(c->owner, sizeof c->owner, "%s", owner ? owner : "");
    for (follower *f = feed->followers; f && !feed->ui->draining; f = f->next) { /* their streams have ended */
        catch_up(f);
    }
}

/* ---- the models -------------------------------------------------------------------------------------------------- */

static mlxr_status add_model(void *user, const registry_model *m, mlxr_error *error)
{
    struct ui_feed *feed = user;
    (void)error;
    feed->models_now = XXH3_64bits_withSeed(m->name, strlen(m->name), feed->models_now ^ (uint64_t)m->modified_us);
    return MLXR_OK;
}

static void add_loaded(void *user, const model_table_item *item)
{
    struct ui_feed *feed = user;
    uint64_t state = (item->info != NULL) | (uint64_t)item->pinned << 1;
    feed->models_now = XXH3_64bits_withSeed(item->path, strlen(item->path), feed->models_now ^ state);
}

static void look(void *user)
{
    struct ui_feed *feed = user;
    mlxr_error error;
    feed->models_now = 0;
    registry_each(feed->ui->d->registry, add_model, feed, &error);
    model_table_each(feed->ui->d->models, add_loaded, feed);
}

static void has_looked(void *user)
{
    struct ui_feed *feed = user;
    feed->looking = false;
    feed->ui->n_jobs--;
    if (feed->looked && feed->models != feed->models_now) {
        ui_feed_publish(feed, NULL, json_pack("{s:s, s:s}", "kind", "models", "op", "changed"));
    }
    feed->models = feed->models_now;
    feed->looked = true;
}

static void on_tick(void *user)
{
    struct ui_feed *feed = user;
    feed->timer = 0;
    if (!feed->followers || feed->ui->draining) {
        feed->looked = false;
        return;
    }
    for (follower *f = feed->followers; f && feed->ticks % PING_TICKS == 0; f = f->next) {
        sse_ping(f->x);
    }
    feed->ticks++;
    if (!feed->looking && http_work(feed->ui->d->http, look, has_looked, feed) == 0) {
        feed->looking = true;
        feed->ui->n_jobs++;
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

/* What the client has seen last; false: it does not say, or it is not known here. *asked: it says something. */
static bool read_seen(const struct ui_feed *feed, http_exchange *x, bool *asked, uint64_t *out)
{
    char after[64] = "";
    const char *last = http_header_get(x, "last-event-id"); /* what a browser sends when it comes back */
    *asked = http_query_param(x, "after", after, sizeof after);
    if (last && strlen(last) < sizeof after) {
        snprintf(after, sizeof after, "%s", last);
        *asked = true;
    }
    *out = feed->newest;
    return *asked && read_place(feed, after, out);
}

/* For who does not want a stream. */
static void answer_once(struct ui_feed *feed, http_exchange *x)
{
    bool asked;
    uint64_t seen;
    char place[64];
    bool known = read_seen(feed, x, &asked, &seen);
    bool reset = asked && (!known || (feed->newest > KEPT && seen < feed->newest - KEPT));
    json_t *list = json_array();
    for (uint64_t n = reset ? feed->newest : seen; n++ < feed->newest;) {
        const change *c = &feed->kept[n % KEPT];
        if (c->json && (c->everybody || ui_sees(route_identity(x), c->owner))) {
            json_array_append_new(list, json_loads(c->json, 0, NULL));
        }
    }
    place_of(feed, place, sizeof place);
    http_header_add(x, "Cache-Control", "no-store");
    http_respond_json(x, 200, json_pack("{s:o, s:s, s:b}", "changes", list, "next", place, "reset", (int)reset));
}

static void answer_stream(struct ui_feed *feed, http_exchange *x)
{
    bool asked;
    char place[64];
    follower *f = feed->n_followers < FOLLOWERS_MAX ? calloc(1, sizeof *f) : NULL;
    if (!f) {
        error_respond(x, 503, NULL, "too many clients follow the changes", NULL);
        return;
    }
    *f = (follower){.feed = feed, .x = x, .identity = *route_identity(x), .next = feed->followers};
    if (f->next) {
        f->next->previous = f;
    }
    feed->followers = f;
    feed->n_followers++;
    http_on_gone(x, on_gone, f);
    http_on_drain(x, on_drain, f);
    sse_begin(x);
    if (read_seen(feed, x, &asked, &f->seen)) {
        sse_ping(x);
    } else { /* the place to come back to */
        place_of(feed, place, sizeof place);
        sse_id(x, place);
        sse_write(x, asked ? "reset" : "hello", "{}", 2);
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
    if (accept && strstr(accept, "text/event-stream")) {
        answer_stream(d->ui->feed, x);
    } else {
        answer_once(d->ui->feed, x);
    }
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

mlxr_status ui_feed_open(struct ui_feed **out, struct ui *ui, mlxr_error *error)
{
    struct timespec now;
    struct ui_feed *feed = calloc(1, sizeof *feed);
    if (!feed) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        return MLXR_NOMEM;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    feed->ui = ui;
    feed->boot = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    *out = feed;
    return MLXR_OK;
}

void ui_feed_drain(struct ui_feed *feed)
{
    http_timer_cancel(feed->ui->d->http, feed->timer);
    feed->timer = 0;
    for (follower *f = feed->followers; f; f = f->next) { /* `gone` comes later, from the loop */
        http_stream_end(f->x);
    }
}

void ui_feed_close(struct ui_feed **pointer)
{
    struct ui_feed *feed = *pointer;
    if (!feed) {
        return;
    }
    for (size_t i = 0; i < KEPT; i++) {
        free(feed->kept[i].json);
    }
    free(feed);
    *pointer = NULL;
}
