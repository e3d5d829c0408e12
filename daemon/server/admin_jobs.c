/*
 * /ui-api/models/pull and create, /ui-api/jobs: what takes long, watched as events.
 * Owner: a stream belongs to its exchange; the watch ends with it. Lifetime: until the client leaves or the job ends.
 *
 *   handler ─▶ model_jobs_… ─▶ "job" ─▶ "progress" … ─▶ "end"      events; the client leaves ─▶ model_watch_leave
 *
 * A job nobody watches is cancelled, unless it was begun with "keep_going": then it can be watched again, from the
 * event behind `after` on, under /ui-api/jobs/{id}.
 */
#include <stdlib.h>
#include <string.h>

#include "server/admin_parts.h"
#include "server/errors.h"
#include "server/sse.h"

#define PING_MS 15000u

typedef struct job_stream {
    struct daemon *d;
    http_exchange *x;
    model_watch *watch; /* NULL: ended */
    uint64_t timer;
} job_stream;

/* ---- events ------------------------------------------------------------------------------------------------------ */

static json_t *event_json(const model_job_event *e)
{
    return json_pack("{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "number", (json_int_t)e->number, "what", e->what,
                     "digest", e->digest, "done", (json_int_t)e->done, "total", (json_int_t)e->total, "file_done",
                     (json_int_t)e->file_done, "file_total", (json_int_t)e->file_total, "file", (json_int_t)e->file,
                     "n_files", (json_int_t)e->n_files);
}

static json_t *end_json(const model_job_end *end)
{
    json_t *made = json_pack("{s:s, s:b, s:n}", "name", end->name, "cancelled", end->cancelled, "error");
    if (end->status != MLXR_OK) {
        json_object_set_new(made, "error",
                            json_pack("{s:s, s:i}", "message", end->message, "status", error_status_of(end->status)));
    }
    return made;
}

static void on_event(void *user, const model_job_event *event)
{
    job_stream *s = user;
    if (http_stream_buffered(s->x) < HTTP_BUFFER_MAX) { /* a later one tells more */
        sse_write_json(s->x, "progress", event_json(event));
    }
}

static void on_end(void *user, const model_job_end *end)
{
    job_stream *s = user;
    s->watch = NULL;
    sse_write_json(s->x, "end", end_json(end));
    http_stream_end(s->x);
}

static void on_ping(void *user)
{
    job_stream *s = user;
    sse_ping(s->x);
    s->timer = http_timer(s->d->http, PING_MS, on_ping, s);
}

static void on_gone(void *user)
{
    job_stream *s = user;
    if (s->watch) {
        model_watch_leave(s->watch);
    }
    http_timer_cancel(s->d->http, s->timer);
    free(s);
}

/* A stream that is not begun; NULL: it has been answered. */
static job_stream *new_stream(struct daemon *d, http_exchange *x, model_watcher *w)
{
    job_stream *s = calloc(1, sizeof *s);
    if (!s) {
        admin_no_memory(x);
        return NULL;
    }
    *s = (job_stream){.d = d, .x = x};
    *w = (model_watcher){on_event, on_end, s};
    return s;
}

static void begin_stream(job_stream *s)
{
    http_on_gone(s->x, on_gone, s);
    s->timer = http_timer(s->d->http, PING_MS, on_ping, s);
    sse_begin(s->x);
    sse_write_json(s->x, "job", json_pack("{s:I}", "id", (json_int_t)model_watch_job(s->watch)));
}

/* A job has been asked for: its events, or why there are none. */
static void started(job_stream *s, mlxr_status status, const mlxr_error *error)
{
    if (status == MLXR_OK) {
        begin_stream(s);
        return;
    }
    error_respond(s->x, status == MLXR_LIMIT ? 503 : error_status_of(status), NULL, error->text, NULL);
    free(s);
}

/* ---- pull -------------------------------------------------------------------------------------------------------- */

/* The digest goes with the URL whose bytes it is of. False: it has been answered. */
static bool source_of(http_exchange *x, const admin_fields *f, char *out, size_t cap)
{
    bool url = strncmp(f->source, "https://", 8) == 0 || strncmp(f->source, "http://", 7) == 0;
    char digest[REGISTRY_DIGEST_MAX];
    if (*f->source == '/' || *f->source == '.' || *f->source == '~') {
        error_respond(x, 400, "invalid_value", "files of the daemon's machine are not read for clients", "source");
        return false;
    }
    if (f->digest && (!url || strchr(f->source, '#') || !registry_digest_parse(f->digest, digest))) {
        error_respond(x, 400, "invalid_value", "digest: sha256:HEX, of a URL that does not tell one itself", "digest");
        return false;
    }
    int n = snprintf(out, cap, "%s%s%s", f->source, f->digest ? "#sha256=" : "", f->digest ? digest + 7 : "");
    if (n < 0 || (size_t)n >= cap) {
        error_respond(x, 400, "invalid_value", "source is too long", "source");
        return false;
    }
    return true;
}

void admin_pull(void *service, http_exchange *x)
{
    struct daemon *d = service;
    admin_fields f;
    mlxr_error error;
    model_watcher w;
    char source[REGISTRY_PATH_MAX];
    if (!admin_fields_read(&f, x)) {
        return;
    }
    bool ok = admin_fields_need(x, "source", f.source) && source_of(x, &f, source, sizeof source);
    job_stream *s = ok ? new_stream(d, x, &w) : NULL;
    if (s) {
        model_pull ask = {.source = source, .name = f.name, .keep_going = f.keep_going};
        started(s, model_jobs_pull(d->jobs, &ask, &w, &s->watch, &error), &error);
    }
    admin_fields_close(&f);
}

/* ---- create ------------------------------------------------------------------------------------------------------ */

static bool copy_text(char **out, const char *text)
{
    *out = text ? strdup(text) : NULL;
    return *out || !text;
}

static bool read_pairs(http_exchange *x, const char *field, const json_t *list, const char *name, const char *value,
                       registry_pairs *out)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *a = json_string_value(json_object_get(one, name));
        const char *b = json_string_value(json_object_get(one, value));
        if (!a || !b || !registry_pairs_add(out, a, b)) {
            error_respondf(x, 400, "invalid_value", field, "%s: a list of {\"%s\": text, \"%s\": text} is needed",
                           field, name, value);
            return false;
        }
    }
    return true;
}

/* Either a Modelfile, or its parts. False: it has been answered. */
static bool read_recipe(http_exchange *x, const admin_fields *f, registry_recipe *out)
{
    mlxr_error error;
    *out = (registry_recipe){.from = NULL};
    if (f->modelfile) {
        if (f->from || f->system || f->template_text || f->license || f->parameters || f->messages) {
            error_respond(x, 400, "invalid_value", "modelfile says all of it: nothing else goes with it", "modelfile");
            return false;
        }
        if (registry_modelfile_parse(out, f->modelfile, strlen(f->modelfile), &error) != MLXR_OK) {
            int status = error_status_of(error.status); /* what it says, or want of memory */
            error_respond(x, status, status == 400 ? "invalid_value" : NULL, error.text,
                          status == 400 ? "modelfile" : NULL);
            return false;
        }
        return true;
    }
    bool ok = copy_text(&out->from, f->from) && copy_text(&out->template_text, f->template_text) &&
              copy_text(&out->system, f->system) && copy_text(&out->license, f->license);
    if (!ok) {
        admin_no_memory(x);
    }
    ok = ok && admin_fields_need(x, "from", f->from) &&
         read_pairs(x, "parameters", f->parameters, "name", "value", &out->parameters) &&
         read_pairs(x, "messages", f->messages, "role", "content", &out->messages);
    if (!ok) {
        registry_recipe_close(out);
    }
    return ok;
}

void admin_create(void *service, http_exchange *x)
{
    struct daemon *d = service;
    admin_fields f;
    mlxr_error error;
    model_watcher w;
    model_create ask = {.name = NULL};
    if (!admin_fields_read(&f, x)) {
        return;
    }
    bool ok = admin_fields_need(x, "name", f.name) && read_recipe(x, &f, &ask.recipe);
    job_stream *s = ok ? new_stream(d, x, &w) : NULL;
    if (s) {
        ask.name = f.name;
        started(s, model_jobs_create(d->jobs, &ask, &w, &s->watch, &error), &error);
    } else if (ok) {
        registry_recipe_close(&ask.recipe);
    }
    admin_fields_close(&f);
}

/* ---- jobs -------------------------------------------------------------------------------------------------------- */

typedef struct job_search {
    json_t *list;
    uint64_t id; /* 0: all */
} job_search;

json_t *admin_job_json(const model_job_info *info)
{
    const char *state = info->ended ? "ended" : info->running ? "running" : "waiting";
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:o, s:o}", "id", (json_int_t)info->id, "kind",
                     model_job_kind_name(info->kind), "source", info->source, "name", info->name, "state", state,
                     "keep_going", info->keep_going, "n_watchers", (json_int_t)info->n_watchers, "started",
                     (json_int_t)info->started_s, "ended", (json_int_t)info->ended_s, "progress",
                     info->now.number ? event_json(&info->now) : json_null(), "end",
                     info->ended ? end_json(&info->end) : json_null());
}

static void seen(void *user, const model_job_info *info)
{
    job_search *s = user;
    if (!s->id || s->id == info->id) {
        json_array_append_new(s->list, admin_job_json(info));
    }
}

void admin_jobs(void *service, http_exchange *x)
{
    struct daemon *d = service;
    job_search all = {.list = json_array()};
    model_jobs_each(d->jobs, seen, &all);
    admin_respond(x, json_pack("{s:o}", "jobs", all.list));
}

/* 0: it has been answered. */
static uint64_t id_of(http_exchange *x)
{
    char *end;
    const char *text = http_path_param(x, "id");
    unsigned long long id = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || id == 0) {
        error_respond(x, 404, "job_not_found", "there is no such job", NULL);
        return 0;
    }
    return id;
}

static void watch_job(struct daemon *d, http_exchange *x, uint64_t id)
{
    uint64_t after = 0;
    model_watcher w;
    if (!route_query_number(x, "after", 0, UINT64_MAX, &after)) {
        return;
    }
    job_stream *s = new_stream(d, x, &w);
    if (!s) {
        return;
    }
    s->watch = model_jobs_watch(d->jobs, id, after, &w);
    if (s->watch) {
        begin_stream(s);
    } else {
        free(s);
        error_respond(x, 404, "job_not_found", "there is no such job", NULL);
    }
}

void admin_job(void *service, http_exchange *x)
{
    struct daemon *d = service;
    const char *accept = http_header_get(x, "accept");
    uint64_t id = id_of(x);
    if (id && accept && strstr(accept, "text/event-stream")) {
        watch_job(d, x, id);
    } else if (id) {
        job_search one = {.list = json_array(), .id = id};
        model_jobs_each(d->jobs, seen, &one);
        if (json_array_size(one.list) == 1) {
            admin_respond(x, json_incref(json_array_get(one.list, 0)));
        } else {
            error_respond(x, 404, "job_not_found", "there is no such job", NULL);
        }
        json_decref(one.list);
    }
}

void admin_job_cancel(void *service, http_exchange *x)
{
    struct daemon *d = service;
    uint64_t id = id_of(x);
    if (id && model_jobs_cancel(d->jobs, id)) {
        admin_respond(x, json_pack("{s:s}", "status", "cancelled"));
    } else if (id) {
        error_respond(x, 404, "job_not_found", "there is no such job under way", NULL);
    }
}
