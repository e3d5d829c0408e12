/*
 * POST /ui-api/profile: {"steps": 100, "seconds": 10, "idle_seconds": 1, "format": "json" | "trace", "details":
 * true}. Profiles engine's next steps and answers when there were so many, when there was nothing to do for so long,
 * or when the time is over. Owner: the daemon. Lifetime: of a profile, from the request until its answer; it goes on
 * when the client leaves, and is thrown away.
 *
 *   begin (pool, engine's thread) ─▶ looks at the number of steps every 20 ms (loop) ─▶ take (pool) ─▶ answer
 */
#include <stdlib.h>
#include <string.h>

#include "server/daemon_private.h"
#include "server/errors.h"
#include "server/telemetry_routes.h"
#include "telemetry/profiler.h"

#define STEPS_MAX 10000u
#define SECONDS_MAX 300u
#define LOOK_MS 20u

typedef struct profiling {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    uint32_t n_steps, seconds, idle_seconds;
    bool trace, details;
    uint64_t until_ms, first_step, last_step, busy_ms; /* busy: when it was seen last that there was something to do */
    uint64_t timer;                                    /* timer: 0: something is under way that goes on by itself */
    mlxr_profile *profile;
    mlxr_status status;
    mlxr_error error;
    text_buffer text;
} profiling;

static void look(void *user);

/* The end of the server is one of its clients', too: no timer comes after it. */
static void on_gone(void *user)
{
    profiling *p = user;
    p->x = NULL;
    if (p->timer) {
        http_timer_cancel(p->d->http, p->timer);
        look(p);
    }
}

static void finish(profiling *p, int status)
{
    if (p->x) {
        http_on_gone(p->x, NULL, NULL);
        if (status != 200) {
            error_respond(p->x, status, NULL, p->error.text, NULL);
        } else {
            http_header_add(p->x, "Cache-Control", "no-store");
            http_respond(p->x, 200, "application/json", p->text.data, p->text.n);
        }
    }
    p->d->own->profiling = false;
    mlxr_profile_free(&p->profile);
    text_buffer_close(&p->text);
    free(p);
}

static void out_of_memory(profiling *p)
{
    p->error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
    finish(p, 503);
}

static uint64_t steps_of(const profiling *p)
{
    return scheduler_stats_get(worker_scheduler(p->d->worker)).n_steps;
}

/* ---- taking ---- */

static void take_on_engine(mlxr_engine *engine, void *user)
{
    profiling *p = user;
    p->status = mlxr_profile_take(engine, &p->profile, &p->error);
}

static void take(void *user)
{
    profiling *p = user;
    worker_call(p->d->worker, take_on_engine, p);
    if (p->status != MLXR_OK) {
        return;
    }
    if (p->trace) {
        profiler_trace_begin(&p->text);
        profiler_trace_add(p->profile, "mlxr serve", 1, &p->text);
        profiler_trace_end(&p->text);
    } else {
        profiler_json(p->profile, p->details, &p->text);
    }
}

static void taken(void *user)
{
    profiling *p = user;
    if (p->status == MLXR_OK && p->text.failed) {
        out_of_memory(p);
    } else {
        finish(p, p->status == MLXR_OK ? 200 : error_status_of(p->status));
    }
}

/* ---- waiting ---- */

static void look(void *user)
{
    profiling *p = user;
    p->timer = 0;
    uint64_t n_steps = steps_of(p), now_ms = http_now_ms(p->d->http);
    if (n_steps != p->last_step || !scheduler_idle(worker_scheduler(p->d->worker))) {
        p->last_step = n_steps;
        p->busy_ms = now_ms;
    }
    bool idle = now_ms - p->busy_ms >= p->idle_seconds * 1000u;
    bool over = !p->x || idle || n_steps - p->first_step >= p->n_steps || now_ms >= p->until_ms ||
                daemon_state_of(p->d) == DAEMON_DRAINING;
    p->timer = over ? 0 : http_timer(p->d->http, LOOK_MS, look, p);
    if (over ? http_work(p->d->http, take, taken, p) != 0 : p->timer == 0) {
        out_of_memory(p);
    }
}

static void begin_on_engine(mlxr_engine *engine, void *user)
{
    profiling *p = user;
    mlxr_profile *old;
    if (mlxr_profile_take(engine, &old, NULL) == MLXR_OK) { /* one that could not be taken for want of memory */
        mlxr_profile_free(&old);
    }
    p->status = mlxr_profile_begin(engine, 2 * p->n_steps,
                                   &p->error); /* steps of draft models count in the engine only */
    p->first_step = p->last_step = steps_of(p);
}

static void begin(void *user)
{
    profiling *p = user;
    worker_call(p->d->worker, begin_on_engine, p);
}

static void begun(void *user)
{
    profiling *p = user;
    if (p->status != MLXR_OK) {
        finish(p, error_status_of(p->status));
        return;
    }
    p->busy_ms = http_now_ms(p->d->http);
    p->until_ms = p->busy_ms + p->seconds * 1000u;
    look(p);
}

/* ---- the route ---- */

/* False: it has been answered. */
static bool read_number(http_exchange *x, const json_t *body, const char *name, uint32_t most, uint32_t *out)
{
    const json_t *value = json_object_get(body, name);
    if (!value) {
        return true;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > most) {
        error_respondf(x, 400, NULL, name, "%s: a whole number from 1 to %u is needed", name, most);
        return false;
    }
    *out = (uint32_t)json_integer_value(value);
    return true;
}

static bool read_words(http_exchange *x, const json_t *body, profiling *p)
{
    const json_t *format = json_object_get(body, "format"), *details = json_object_get(body, "details");
    const char *word = format ? json_string_value(format) : "json";
    if (!word || (strcmp(word, "json") != 0 && strcmp(word, "trace") != 0)) {
        error_respond(x, 400, NULL, "format: \"json\" or \"trace\" is needed", "format");
        return false;
    }
    if (details && !json_is_boolean(details)) {
        error_respond(x, 400, NULL, "details: true or false is needed", "details");
        return false;
    }
    p->trace = strcmp(word, "trace") == 0;
    p->details = json_is_true(details);
    return true;
}

static bool read_body(http_exchange *x, profiling *p)
{
    static const char *const known[] = {"steps", "seconds", "idle_seconds", "format", "details"};
    const http_request *q = http_request_of(x);
    mlxr_error error;
    json_t *body = q->n_body ? request_body_read(q->body, q->n_body, &error) : json_object();
    bool ok = body != NULL;
    const char *name;
    json_t *value;
    if (!ok && q->n_body) {
        error_respond_body(x, &error);
    } else if (!ok) {
        error_respond(x, 503, NULL, "out of memory", NULL);
    }
    json_object_foreach(body, name, value)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            found |= strcmp(known[i], name) == 0;
        }
        if (ok && !found) {
            error_respondf(x, 400, NULL, name, "%.60s: there are steps, seconds, idle_seconds, format, details", name);
            ok = false;
        }
    }
    ok = ok && read_number(x, body, "steps", STEPS_MAX, &p->n_steps) &&
         read_number(x, body, "seconds", SECONDS_MAX, &p->seconds) &&
         read_number(x, body, "idle_seconds", SECONDS_MAX, &p->idle_seconds) && read_words(x, body, p);
    json_decref(body);
    return ok;
}

void profile_answer(void *service, http_exchange *x)
{
    struct daemon *d = service;
    profiling *p = calloc(1, sizeof *p);
    if (!p) {
        error_respond(x, 503, NULL, "out of memory", NULL);
        return;
    }
    *p = (profiling){.d = d, .x = x, .n_steps = 100, .seconds = 10, .idle_seconds = 1};
    if (d->own->profiling) {
        error_respond(x, 409, NULL, "the engine is being profiled already", NULL);
        free(p);
    } else if (!read_body(x, p)) {
        free(p);
    } else {
        d->own->profiling = true;
        http_on_gone(x, on_gone, p);
        if (http_work(d->http, begin, begun, p) != 0) {
            out_of_memory(p);
        }
    }
}
