/*
 * /ui-api/options: what the daemon was started with, and what its file says. /ui-api/restart: begin anew with that.
 * Owner: a call belongs to its exchange and the pool's work together. Lifetime: until both have ended.
 *
 *   handler ─▶ pool: reads, checks, writes the file ─▶ loop: takes over what applies at once, answers
 *   restart ─▶ drain ─▶ daemon_run returns, and says that it is meant to begin again (daemon.h: daemon_again)
 */
#include "server/config_routes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "registry/disk.h"
#include "registry/registry.h"
#include "server/config_file.h"
#include "server/daemon_private.h"
#include "server/ui_parts.h"

#define BODY_MAX (64u << 10)

typedef struct config_call {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    char *body;       /* NULL: nothing is changed */
    size_t n_body;
    json_t *saved, *places;
    bool writable, written;
    bool check_only; /* what is given is judged, and kept nowhere */
    const char *code;
    char field[CONFIG_FIELD_MAX];
    int status; /* of an error; 0 */
    mlxr_error error;
} config_call;

static void free_call(config_call *c)
{
    json_decref(c->saved);
    json_decref(c->places);
    free(c->body);
    free(c);
}

static bool refuse(config_call *c, int status, const char *code)
{
    c->status = status;
    c->code = code;
    return false;
}

/* ---- on the pool ------------------------------------------------------------------------------------------------- */

static void add_place(json_t *list, const char *name, const char *path)
{
    if (path && *path) {
        uint64_t bytes = disk_free_bytes(path);
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", name, "path", path, "free_bytes",
                                              bytes == UINT64_MAX ? json_null() : json_integer((json_int_t)bytes)));
    }
}

static json_t *find_places(const struct daemon *d)
{
    const daemon_options *o = d->options;
    char models[REGISTRY_PATH_MAX];
    json_t *list = json_array();
    bool usual = !o->directory && registry_directory(models, sizeof models);
    add_place(list, "models", usual ? models : o->directory);
    add_place(list, "kv_dir", o->engine.kv_dir);
    add_place(list, "file", o->config_path);
    add_place(list, "log", o->log_path);
    add_place(list, "socket", o->socket_path);
    return list;
}

/* Can the file be written, or made? In / the sandbox may be in the way (daemon_sandbox.c), so that it has to be tried.
 */
static bool can_write(const char *path)
{
    char folder[CONFIG_PATH_MAX];
    return path && disk_parent(path, folder, sizeof folder) && access(folder, W_OK) == 0 &&
           (!disk_is_root(folder) || disk_takes_files(folder));
}

static bool is_in(const daemon_list *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->items[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_fixed(const struct daemon *d, const char *name)
{
    return is_in(&d->options->fixed, name);
}

/* What the file has of an option that the command line leaves to it. */
static const json_t *from_file(const config_call *c, const char *name)
{
    return is_fixed(c->d, name) ? NULL : json_object_get(c->saved, name);
}

/* A number as the next start has it: the command line's, or the file's where that counts. */
static float next_number(const config_call *c, const char *name, float running, bool counts)
{
    return is_fixed(c->d, name) ? running : counts ? (float)json_number_value(from_file(c, name)) : 0;
}

/* Context and RoPE as the next start has them, of the command line and the file. */
static mlxr_model_options next_options(const config_call *c)
{
    const mlxr_model_options *o = &c->d->options->model;
    const mlxr_rope_options *r = &o->rope;
    const char *how = json_string_value(from_file(c, "rope_scaling"));
    bool fixed = is_fixed(c->d, "rope_scaling"),
         counts = !fixed; /* else the file's are another one's: serve_config.c */
    mlxr_model_options next = {
        .n_ctx_max = is_fixed(c->d, "ctx") ? o->n_ctx_max : (uint32_t)json_integer_value(from_file(c, "ctx")),
        .rope = {.base = next_number(c, "rope_base", r->base, true),
                 .scale = next_number(c, "rope_scale", r->scale, counts),
                 .n_original = (uint32_t)next_number(c, "rope_original", (float)r->n_original, counts),
                 .yarn_beta_fast = next_number(c, "yarn_beta_fast", r->yarn_beta_fast, counts),
                 .yarn_beta_slow = next_number(c, "yarn_beta_slow", r->yarn_beta_slow, counts),
                 .yarn_attn_factor = next_number(c, "yarn_attn_factor", r->yarn_attn_factor, counts)}};
    if (fixed) {
        next.rope.scaling = r->scaling;
    } else if (how && *how) {
        mlxr_rope_scaling_find(how, &next.rope.scaling);
    }
    return next;
}

static bool is_of_context(const char *name)
{
    return strcmp(name, "ctx") == 0 || strncmp(name, "rope_", 5) == 0 || strncmp(name, "yarn_", 5) == 0;
}

/* Each of them alone may be right, and a daemon that cannot begin with them together is better not asked to. `given`:
 * what the request changes. */
static bool reads_so(config_call *c, const json_t *given)
{
    mlxr_model_options next = next_options(c);
    mlxr_option_fault fault;
    if (mlxr_model_options_check(&next, &fault, &c->error) == MLXR_OK) {
        return true;
    }
    bool other = fault.against && !json_object_get(given, fault.name) && json_object_get(given, fault.against);
    snprintf(c->field, sizeof c->field, "%s", other ? fault.against : fault.name);
    bool gone = fault.needs && json_object_get(given, fault.needs); /* the request took away what the field needs */
    const char *name = gone ? fault.name : fault.needs;
    if (name && !is_fixed(c->d, name) && !(gone && json_object_get(given, name))) {
        size_t n = strlen(c->error.text);
        snprintf(c->error.text + n, sizeof c->error.text - n, "; %s %s first, or in the same change",
                 gone ? "reset" : "set", name);
    }
    return false;
}

/* The body as it lies over what is saved; false: it is refused. */
static bool merge(config_call *c)
{
    const json_t *document = c->d->ui->document;
    json_t *fields = request_body_read(c->body, c->n_body, &c->error), *value;
    const char *name;
    if (!fields) {
        bool no_memory = c->error.status == MLXR_NOMEM;
        return refuse(c, no_memory ? 503 : 400, no_memory ? NULL : "invalid_json");
    }
    bool ok = ui_schema_check(document, ui_schema_named(document, "UiOptionsChange"), fields, c->field, sizeof c->field,
                              &c->error);
    bool reads = false;
    if (ok) {
        json_t *given = json_object();
        json_object_foreach(json_object_get(fields, "values"), name, value)
        {
            reads = reads || is_of_context(name);
            if (json_is_null(value) && config_default(document, name)) {
                json_object_del(c->saved, name);
            } else {
                json_object_set(given, name, value);
            }
        }
        ok = config_check(given, document, c->field, &c->error) && config_check_paths(given, c->field, &c->error);
        json_object_update(c->saved, given);
        json_decref(given);
        ok = ok && (!reads || reads_so(c, json_object_get(fields, "values")));
    }
    c->check_only = json_is_true(json_object_get(fields, "check_only"));
    json_decref(fields);
    return ok || refuse(c, 400, "invalid_value");
}

static void work(void *user)
{
    config_call *c = user;
    const char *path = c->d->options->config_path;
    struct daemon_private *p = c->d->own;
    pthread_mutex_lock(&p->config_lock); /* between reading and writing nobody else writes */
    c->saved = path ? config_read(path, c->d->ui->document, &c->error) : json_object();
    c->writable = can_write(path);
    if (!c->saved) {
        refuse(c, 409, "file_broken");
    } else if (c->body && merge(c) && !c->check_only) {
        if (!path) {
            snprintf(c->error.text, sizeof c->error.text, "this daemon has no file of options: `mlxr serve` has one");
            refuse(c, 409, "no_file");
        } else if (config_write(path, c->saved, &c->error) != MLXR_OK) {
            refuse(c, 409, "not_writable");
        } else {
            c->written = true;
        }
    }
    pthread_mutex_unlock(&p->config_lock);
    c->places = find_places(c->d);
}

/* ---- the answer, on the loop ------------------------------------------------------------------------------------- */

/* As whole as it is: 4, not 4.0, which is what the file may say, too. */
static json_t *number_json(float x)
{
    return x < 1e9f && (float)(int)x == x ? json_integer((int)x) : json_real((double)x);
}

static const char *rope_scaling_text(mlxr_rope_scaling scaling)
{
    static const char *const names[] = {"none", "linear", "ntk", "yarn"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        mlxr_rope_scaling found;
        if (mlxr_rope_scaling_find(names[i], &found) && found == scaling) {
            return names[i];
        }
    }
    return "";
}

static json_t *running_values(const struct daemon *d)
{
    const daemon_options *o = d->options;
    const mlxr_engine_options *e = &o->engine;
    json_int_t keep = o->keep_alive_ms < 0 ? -1
                      : o->keep_alive_ms   ? o->keep_alive_ms / 1000
                                           : MODEL_KEEP_USUAL_MS / 1000;
    json_int_t disk = e->kv_disk_bytes ? (json_int_t)e->kv_disk_bytes
                                       : json_integer_value(config_default(d->ui->document, "kv_disk_bytes"));
    json_int_t experts = e->expert_bytes == MLXR_EXPERTS_UNBOUND ? 0
                         : e->expert_bytes                       ? (json_int_t)e->expert_bytes
                                                                 : -1;
    const mlxr_rope_options *rope = &o->model.rope;
    json_t *values = json_pack("{s:s, s:o, s:o, s:I, s:o, s:o, s:o}", "rope_scaling", rope_scaling_text(rope->scaling),
                               "rope_scale", number_json(rope->scale), "rope_base", number_json(rope->base),
                               "rope_original", (json_int_t)rope->n_original, "yarn_beta_fast",
                               number_json(rope->yarn_beta_fast), "yarn_beta_slow", number_json(rope->yarn_beta_slow),
                               "yarn_attn_factor", number_json(rope->yarn_attn_factor));
    json_int_t bits = (json_int_t)mlxr_engine_info_get(d->engine)->activation_bits;
    json_t *all = json_pack(
        "{s:I, s:s, s:s, s:I, s:I, s:I, s:s, s:I, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "threads",
        (json_int_t)e->n_threads, "backend", e->backend ? e->backend : "", "kv_type", e->kv_type ? e->kv_type : "auto",
        "activations", bits, "kv_bytes", (json_int_t)e->kv_bytes, "expert_bytes", experts, "kv_dir",
        e->kv_dir ? e->kv_dir : "", "kv_disk_bytes", disk, "draft", daemon_draft_name(daemon_drafts(d, NULL)),
        "batch_invariant", (int)e->batch_invariant, "memory_bytes", (json_int_t)o->memory_bytes, "ctx",
        (json_int_t)o->model.n_ctx_max, "keep_alive_s", keep, "parallel", (json_int_t)o->lanes_max, "queue",
        (json_int_t)o->queue_max, "drain_s", (json_int_t)((atomic_load(&d->own->drain_ms) + 999) / 1000));
    json_object_update(all, values);
    json_decref(values);
    return all;
}

/* Where the value in use comes from, whatever the file says by now. */
static const char *source_of(const struct daemon *d, size_t i)
{
    const config_option *o = &config_options[i];
    bool file = o->now && d->own->taken_over ? d->own->taken_from >> i & 1 : is_in(&d->options->from_file, o->name);
    return is_fixed(d, o->name) ? "command_line" : file ? "file" : "default";
}

/* Linux tells it; elsewhere it is not known. */
static bool program_replaced(void)
{
    char path[CONFIG_PATH_MAX];
    static const char mark[] = " (deleted)";
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    size_t length = strlen(path), n_mark = sizeof mark - 1;
    return length > n_mark && strcmp(path + length - n_mark, mark) == 0;
}

static json_t *build_json(const struct daemon *d)
{
    const mlxr_engine_info *info = mlxr_engine_info_get(d->engine);
    struct utsname system = {0};
    uname(&system);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:b}", "version", mlxr_version(), "compiler", __VERSION__,
                     "system", system.sysname, "machine", system.machine, "backend", info->backend, "cpu_features",
                     info->cpu_features, "n_threads", (json_int_t)info->n_threads, "replaced", (int)program_replaced());
}

static const char *no_restart(const struct daemon *d)
{
    return d->options->n_sockets ? "a service manager holds this daemon's sockets: it has to start it anew"
           : !d->options->again  ? "this daemon lives in another program, and ends with it"
                                 : NULL;
}

/* Heads come with their models: a daemon that loads none cannot draft with them before it has begun anew. */
static bool applies_now(const struct daemon *d, const config_option *o, const json_t *value)
{
    bool needs_heads = strcmp(o->name, "draft") == 0 && strcmp(json_string_value(value), "mtp") == 0;
    return o->now && (!needs_heads || daemon_loads_heads(d));
}

/* What the daemon takes over while it runs; what the command line says stays. */
static void take_over(struct daemon *d, const json_t *saved)
{
    const json_t *draft = json_object_get(saved, "draft"), *drain = json_object_get(saved, "drain_s");
    const json_t *document = d->ui->document;
    uint32_t from = 0;
    bool drafts_now = true;
    draft = draft ? draft : config_default(document, "draft");
    drain = drain ? drain : config_default(document, "drain_s");
    for (size_t i = 0; i < N_CONFIG_OPTIONS; i++) {
        const config_option *o = &config_options[i];
        const json_t *said = json_object_get(saved, o->name);
        bool stays = o->now && said && !applies_now(d, o, said); /* as it is, wherever it came from */
        drafts_now = drafts_now && !stays;
        from |= (uint32_t)(stays ? strcmp(source_of(d, i), "file") == 0 : said != NULL) << i;
    }
    d->own->taken_over = true;
    d->own->taken_from = from;
    if (!is_fixed(d, "draft") && drafts_now) {
        atomic_store(&d->own->draft, (int)daemon_drafts(d, json_string_value(draft)));
    }
    if (!is_fixed(d, "drain_s")) {
        atomic_store(&d->own->drain_ms, (uint32_t)json_integer_value(drain) * 1000);
    }
}

/* A number that the daemon runs with went through a float on its way. */
static bool is_same(const json_t *a, const json_t *b)
{
    return json_is_number(a) && json_is_number(b) ? (float)json_number_value(a) == (float)json_number_value(b)
                                                  : json_equal((json_t *)a, (json_t *)b);
}

static json_t *options_json(config_call *c)
{
    const struct daemon *d = c->d;
    const json_t *document = d->ui->document;
    json_t *running = running_values(d), *defaults = json_object(), *list = json_array();
    const char *why = no_restart(d), *note = d->options->config_note;
    bool restart = false;
    for (size_t i = 0; i < N_CONFIG_OPTIONS; i++) {
        const config_option *o = &config_options[i];
        const json_t *standard = config_default(document, o->name), *said = json_object_get(c->saved, o->name);
        bool fixed = is_fixed(d, o->name);
        bool pending = !fixed && !is_same(said ? said : standard, json_object_get(running, o->name));
        bool now = applies_now(d, o, said ? said : standard);
        pending = pending && !(c->check_only && now); /* it would not be, once it is said in earnest */
        restart = restart || pending;
        json_object_set(defaults, o->name, (json_t *)standard);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "name", o->name, "option", o->option,
                                              "group", o->group, "applies", now ? "now" : "restart", "source",
                                              source_of(d, i), "pending", (int)pending));
    }
    return json_pack("{s:s, s:b, s:b, s:b, s:s, s:o, s:o, s:O, s:o, s:O, s:o}", "file",
                     d->options->config_path ? d->options->config_path : "", "writable", (int)c->writable,
                     "can_restart", why == NULL, "restart_needed", (int)restart, "note",
                     note && *note ? note
                     : why         ? why
                                   : "",
                     "options", list, "running", running, "saved", c->saved, "defaults", defaults, "places", c->places,
                     "build", build_json(d));
}

static void done(void *user)
{
    config_call *c = user;
    if (c->written) {
        take_over(c->d, c->saved);
        daemon_log(c->d, MLXR_LOG_INFO, "the file of options was changed");
    }
    if (c->x && c->status) {
        error_respond(c->x, c->status, c->code, c->error.text, *c->field ? c->field : NULL);
    } else if (c->x) {
        http_header_add(c->x, "Cache-Control", "no-store");
        http_respond_json(c->x, 200, options_json(c));
    }
    if (c->x) {
        http_on_gone(c->x, NULL, NULL);
    }
    free_call(c);
}

static void begin(struct daemon *d, http_exchange *x, const char *body, size_t n)
{
    config_call *c = calloc(1, sizeof *c);
    char *copy = body ? malloc(n + 1) : NULL;
    if (c) {
        *c = (config_call){.d = d, .x = x, .body = copy, .n_body = n};
    }
    if (!c || (body && !copy)) {
        free(c);
        free(copy);
        error_respond(x, 503, NULL, "out of memory", NULL);
        return;
    }
    if (body) {
        memcpy(copy, body, n);
        copy[n] = '\0';
    }
    http_on_gone_forget(&c->x);
    if (http_work(d->http, work, done, c) != 0) {
        http_on_gone(x, NULL, NULL);
        error_respond(x, 503, NULL, "out of memory", NULL);
        free_call(c);
    }
}

static void options_get(void *service, http_exchange *x)
{
    begin(service, x, NULL, 0);
}

static void options_change(void *service, http_exchange *x)
{
    const http_request *q = http_request_of(x);
    if (route_from_here(x, "options are changed from this machine only, or by who has an admin key")) {
        begin(service, x, q->body, q->n_body);
    }
}

/* ---- restart ----------------------------------------------------------------------------------------------------- */

static void restart(void *service, http_exchange *x)
{
    struct daemon *d = service;
    const http_request *q = http_request_of(x);
    const json_t *document = d->ui->document;
    mlxr_error error;
    char field[CONFIG_FIELD_MAX] = "";
    if (!route_from_here(x, "a restart is asked for from this machine only, or by who has an admin key")) {
        return;
    }
    json_t *fields = request_body_read(q->body, q->n_body, &error);
    if (!fields) {
        error_respond_body(x, &error);
    } else if (!ui_schema_check(document, ui_schema_named(document, "UiRestart"), fields, field, sizeof field,
                                &error)) {
        error_respond(x, 400, "invalid_value", error.text, *field ? field : NULL);
    } else if (no_restart(d)) {
        error_respond(x, 409, "no_restart", no_restart(d), NULL);
    } else {
        daemon_log(d, MLXR_LOG_INFO, "starts anew because it was asked to");
        http_header_add(x, "Cache-Control", "no-store");
        http_respond_json(x, 200, json_pack("{s:s}", "status", "restarting"));
        atomic_store(&d->own->again, true);
        daemon_drain(d, json_is_true(json_object_get(fields, "now")));
    }
    json_decref(fields);
}

const route config_routes[N_CONFIG_ROUTES] = {
    {"GET", "/ui-api/options", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, options_get},
    {"PATCH", "/ui-api/options", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON, BODY_MAX, options_change},
    {"POST", "/ui-api/restart", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON, BODY_MAX, restart},
    {"GET", "/ui-api/directories", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, config_directory},
};
