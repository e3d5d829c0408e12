/*
 * `mlxr ps`, `load`, `unload`, `stop`, `status`, `logs`: a daemon that runs. Without one there is nothing to tell.
 * Owner: main. Lifetime: the call.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "output.h"
#include "verbs.h"

#define STOP_S 90.0 /* for a daemon to be gone; it lets answers finish for half a minute */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static uint64_t number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* One question to a daemon that must be there; *out is what it says. Returns an exit code. */
static int ask(const options *o, const char *method, const char *path, json_t *body, json_t **out)
{
    client *c = NULL;
    mlxr_error error;
    int code = client_find(&c, o, CLIENT_NEEDED);
    if (code != EXIT_OK) {
        json_decref(body);
        return code;
    }
    if (client_ask(c, method, path, body, out, &error) != MLXR_OK) {
        print_error("%s", error.text);
        code = EXIT_FAILED;
    }
    client_close(&c);
    return code;
}

/* ---- ps ---------------------------------------------------------------------------------------------------------- */

static void tell_until(const json_t *model, char *out, size_t cap)
{
    const json_t *left = json_object_get(model, "expires_in_ms");
    uint64_t seconds = (uint64_t)json_integer_value(left) / 1000;
    if (json_is_true(json_object_get(model, "loading"))) {
        snprintf(out, cap, "loading");
    } else if (json_is_true(json_object_get(model, "pinned")) || json_is_null(left)) {
        snprintf(out, cap, "for ever");
    } else {
        snprintf(out, cap, "%" PRIu64 ":%02" PRIu64 " idle", seconds / 60, seconds % 60);
    }
}

static void print_loaded(const json_t *loaded)
{
    static const char *const head[] = {"NAME", "WEIGHTS", "CONTEXT", "KV PER TOKEN", "USES", "STAYS"};
    json_t *rows = json_array(), *m;
    size_t i;
    json_array_foreach(loaded, i, m)
    {
        char context[64], uses[32], until[64];
        double factor = json_number_value(json_object_get(m, "rope_factor"));
        snprintf(context, sizeof context, factor > 1 ? "%" PRIu64 " (%.20s by %g)" : "%" PRIu64, number_of(m, "n_ctx"),
                 text_of(m, "rope_scaling"), factor);
        snprintf(uses, sizeof uses, "%" PRIu64, number_of(m, "n_uses"));
        tell_until(m, until, sizeof until);
        const char *texts[] = {text_of(m, "name"),
                               human_bytes(number_of(m, "weight_bytes")),
                               context,
                               human_bytes(number_of(m, "kv_bytes_per_token")),
                               uses,
                               until};
        table_add(rows, texts, 6);
    }
    table_print(rows, head, 6);
    json_decref(rows);
}

int verb_ps(options *o)
{
    json_t *answer = NULL;
    int code = ask(o, "GET", "/ui-api/loaded", NULL, &answer);
    if (code != EXIT_OK) {
        return code;
    }
    json_t *loaded = json_incref(json_object_get(answer, "loaded"));
    json_decref(answer);
    if (o->json) {
        return print_json(loaded);
    }
    if (json_array_size(loaded) == 0) {
        print_note("no model is loaded; a question, or mlxr load MODEL, loads one");
    } else {
        print_loaded(loaded);
    }
    json_decref(loaded);
    return finish_output(EXIT_OK);
}

/* ---- load and unload --------------------------------------------------------------------------------------------- */

int verb_load(options *o)
{
    const char *model = o->args[0];
    json_t *answer = NULL, *body = json_pack("{s:o}", "model", json_text(model, strlen(model)));
    if (options_given(o, options_find("keep-alive", 10, GROUP_LOAD))) {
        json_object_set_new(body, "keep_alive_s", json_integer(o->keep_alive_s));
    }
    int code = ask(o, "POST", "/ui-api/models/load", body, &answer);
    if (code != EXIT_OK) {
        return code;
    }
    const char *name = text_of(json_object_get(answer, "model"), "name");
    double ms = json_number_value(json_object_get(answer, "load_ms"));
    if (o->json) {
        code = print_json(json_pack("{s:s, s:s, s:o}", "status", "loaded", "name", name, "load_ms", json_number(ms)));
    } else {
        printf("loaded %s in %.2f s\n", name, ms / 1e3);
        code = finish_output(EXIT_OK);
    }
    json_decref(answer);
    return code;
}

static int unload(const options *o, const char *model)
{
    json_t *answer = NULL;
    int code = ask(o, "POST", "/ui-api/models/unload", json_pack("{s:o}", "model", json_text(model, strlen(model))),
                   &answer);
    if (code != EXIT_OK) {
        return code;
    }
    const char *name = text_of(json_object_get(answer, "model"), "name");
    const char *state = text_of(answer, "state");
    if (o->json) {
        code = print_json(json_pack("{s:s, s:s}", "status", state, "name", name));
    } else {
        printf(strcmp(state, "unloaded") == 0 ? "unloaded %s\n"
               : strcmp(state, "in_use") == 0 ? "%s is in use: it goes when nobody uses it any more\n"
               : strcmp(state, "pinned") == 0 ? "%s stays: the daemon was started with it\n"
                                              : "%s was not loaded\n",
               name);
        code = finish_output(EXIT_OK);
    }
    json_decref(answer);
    return code;
}

int verb_unload(options *o)
{
    int code = EXIT_OK;
    for (size_t i = 0; i < o->n_args; i++) { /* each on its own, as rm does */
        int one = unload(o, o->args[i]);
        code = code == EXIT_OK ? one : code;
    }
    return code;
}

/* ---- stop -------------------------------------------------------------------------------------------------------- */

/* False: it still answers after all this time. */
static bool wait_gone(const client_address *a)
{
    for (double end = now_seconds() + STOP_S; now_seconds() < end; usleep(20000)) {
        if (!client_listens(a)) {
            return true;
        }
    }
    return false;
}

int verb_stop(options *o)
{
    client *c = NULL;
    mlxr_error error;
    if (o->n_args == 1) {
        return unload(o, o->args[0]);
    }
    int code = client_find(&c, o, CLIENT_NEEDED);
    if (code != EXIT_OK) {
        return code;
    }
    client_address a = *client_address_of(c);
    if (client_ask(c, "POST", "/ui-api/drain", json_pack("{s:b}", "now", o->now), NULL, &error) != MLXR_OK) {
        print_error("%s", error.text);
        code = EXIT_FAILED;
    }
    client_close(&c);
    if (code == EXIT_OK && client_on_this_machine(&a) && !wait_gone(&a)) {
        print_error("the daemon at %s was asked to end and still answers", client_address_text(&a));
        code = EXIT_FAILED;
    }
    if (code != EXIT_OK) {
        return code;
    }
    if (o->json) {
        return print_json(json_pack("{s:s, s:s}", "status", "stopped", "server", client_address_text(&a)));
    }
    printf("stopped the daemon at %s\n", client_address_text(&a));
    return finish_output(EXIT_OK);
}

/* ---- status ------------------------------------------------------------------------------------------------------ */

static void print_status(const client *c, const json_t *s)
{
    const json_t *engine = json_object_get(s, "engine"), *memory = json_object_get(s, "memory");
    const json_t *streams = json_object_get(s, "streams");
    uint64_t up = number_of(s, "uptime_s"), budget = number_of(memory, "budget_bytes");
    printf("  daemon       %s, version %s\n", client_where(c), text_of(s, "version"));
    printf("  state        %s, for %" PRIu64 ":%02" PRIu64 ":%02" PRIu64 "%s\n", text_of(s, "state"), up / 3600,
           up / 60 % 60, up % 60, json_is_true(json_object_get(engine, "alive")) ? "" : "; the engine does not answer");
    printf("  engine       %s, %" PRIu64 " threads, %s%s\n", text_of(engine, "backend"), number_of(engine, "n_threads"),
           text_of(engine, "cpu_features"), number_of(engine, "activations") == 8 ? ", activations of 8 bits" : "");
    printf("  answers      %" PRIu64 " running of %" PRIu64 ", %" PRIu64 " waiting of %" PRIu64 "\n",
           number_of(streams, "running"), number_of(streams, "running_max"), number_of(streams, "queued"),
           number_of(streams, "queued_max"));
    printf("  memory       %s of weights, %s of %s of KV cache", human_bytes(number_of(memory, "weight_bytes")),
           human_bytes(number_of(memory, "kv_bytes_used")), human_bytes(number_of(memory, "kv_bytes_budget")));
    printf(budget ? "; %s together\n" : "\n", human_bytes(budget));
    printf("  connections  %" PRIu64 "\n", number_of(json_object_get(s, "http"), "connections"));
    printf("  models       %" PRIu64 " loaded\n", number_of(json_object_get(s, "models"), "loaded"));
    if (json_array_size(json_object_get(s, "loaded")) > 0) {
        putchar('\n');
        print_loaded(json_object_get(s, "loaded"));
    }
}

int verb_status(options *o)
{
    client *c = NULL;
    mlxr_error error;
    json_t *status = NULL, *loaded = NULL;
    int code = client_find(&c, o, CLIENT_NEEDED);
    if (code != EXIT_OK) {
        return code;
    }
    if (client_ask(c, "GET", "/ui-api/status", NULL, &status, &error) != MLXR_OK ||
        (strcmp(text_of(status, "state"), "ready") == 0 &&
         client_ask(c, "GET", "/ui-api/loaded", NULL, &loaded, &error) != MLXR_OK)) {
        print_error("%s", error.text);
        code = EXIT_FAILED;
    } else {
        json_t *list = json_object_get(loaded, "loaded");
        bool alive = json_is_true(json_object_get(json_object_get(status, "engine"), "alive"));
        json_object_set_new(status, "loaded", list ? json_incref(list) : json_array());
        if (o->json) {
            code = print_json(json_incref(status));
        } else {
            print_status(c, status);
            code = finish_output(EXIT_OK);
        }
        code = alive ? code : EXIT_FAILED;
    }
    json_decref(loaded);
    json_decref(status);
    client_close(&c);
    return code;
}

/* ---- logs -------------------------------------------------------------------------------------------------------- */

/* A line as the daemon writes it for people: time, level, part, message, and its other fields. */
static void print_log_line(const options *o, const json_t *line)
{
    static const char *const known[] = {"seq", "time", "level", "part", "message"};
    const char *key, *at = strchr(text_of(line, "time"), 'T');
    json_t *value;
    if (o->json) {
        print_json(json_incref((json_t *)line));
        return;
    }
    printf("%.12s %-5s %s: ", at ? at + 1 : "", text_of(line, "level"), text_of(line, "part"));
    write_text(text_of(line, "message"), strlen(text_of(line, "message")));
    json_object_foreach((json_t *)line, key, value)
    {
        bool told = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            told = told || strcmp(key, known[i]) == 0;
        }
        char *dumped = told ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        if (dumped) {
            printf(" %s=", key);
            write_text(dumped, strlen(dumped));
        }
        free(dumped);
    }
    putchar('\n');
    fflush(stdout);
}

static bool on_log_event(void *user, const client_event *event)
{
    const options *o = user;
    if (strcmp(event->name, "lost") == 0) {
        print_note("mlxr: %" PRIu64 " lines were faster than this", number_of(event->json, "lost"));
    } else if (json_is_object(event->json)) {
        print_log_line(o, event->json);
    }
    return !ferror(stdout);
}

/* *newest: the number of the last line. */
static int print_newest(const options *o, client *c, const char *level, uint64_t *newest)
{
    char path[128];
    json_t *answer = NULL, *line;
    mlxr_error error;
    size_t i, n;
    snprintf(path, sizeof path, "/ui-api/logs?limit=2000&level=%s", level);
    if (client_ask(c, "GET", path, NULL, &answer, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    const json_t *lines = json_object_get(answer, "lines");
    n = json_array_size(lines);
    json_array_foreach(lines, i, line)
    {
        if (n - i <= o->n_lines) {
            print_log_line(o, line);
        }
    }
    *newest = number_of(answer, "next");
    json_decref(answer);
    return finish_output(EXIT_OK);
}

int verb_logs(options *o)
{
    char path[128], level[64];
    client *c = NULL;
    mlxr_error error;
    uint64_t newest = 0;
    if (!client_escape(o->log_level ? o->log_level : "debug", level, sizeof level)) {
        print_error("--level: error, warn, info or debug");
        return EXIT_USAGE;
    }
    int code = client_find(&c, o, CLIENT_NEEDED);
    code = code == EXIT_OK ? print_newest(o, c, level, &newest) : code;
    if (code == EXIT_OK && o->follow) {
        snprintf(path, sizeof path, "/ui-api/logs?after=%" PRIu64 "&level=%s", newest, level);
        if (client_stream(c, "GET", path, NULL, on_log_event, o, NULL, &error) != MLXR_OK) {
            print_error("%s", error.text);
            code = EXIT_FAILED;
        }
    }
    client_close(&c);
    return finish_output(code);
}
