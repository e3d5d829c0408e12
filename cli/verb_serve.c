/*
 * `mlxr serve`: the daemon, in this process, until SIGTERM or Ctrl-C.
 * Owner: main. Lifetime: the call.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters.h"
#include "client.h"
#include "context.h"
#include "inputs.h"
#include "kernels.h"
#include "models.h"
#include "output.h"
#include "registry/registry.h"
#include "serve_config.h"
#include "server/daemon.h"
#include "session.h"
#include "telemetry/logger.h"
#include "verbs.h"

static bool find_format(const char *name, log_format *format)
{
    static const char *const names[] = {"json", "pretty", "journal"};
    static const log_format formats[] = {LOG_FORMAT_JSON, LOG_FORMAT_PRETTY, LOG_FORMAT_JOURNAL};
    for (size_t i = 0; name && i < 3; i++) {
        if (strcmp(names[i], name) == 0) {
            *format = formats[i];
            return true;
        }
    }
    return !name;
}

/* Tokens of the environment that must never be written. */
static void hide_secrets(logger *l)
{
    static const char *const variables[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OLLAMA_API_KEY", "MLXR_API_KEY"};
    mlxr_error error;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const char *value = getenv(variables[i]);
        if (value && strlen(value) >= 8 && logger_secret_add(l, value, &error) != MLXR_OK) {
            print_error("%s", error.text);
        }
    }
}

/* Returns an exit code. */
static int open_log(logger **out, const options *o)
{
    mlxr_error error;
    logger_options l = {.level = o->log_level ? o->log_level : o->verbose ? "debug" : NULL, .path = o->log_file};
    if (!find_format(o->log_format, &l.format)) {
        print_error("--log-format %s: there are json, pretty and journal", o->log_format);
        return EXIT_USAGE;
    }
    if (logger_open(out, &l, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    hide_secrets(*out);
    if (logger_guard_crashes(*out, &error) != MLXR_OK) {
        print_error("%s", error.text);
    }
    return EXIT_OK;
}

/* Does the log stay out of what the daemon reads and keeps? Lines would be written behind it, and rotating move it
 * away. */
static bool check_log_file(const options *o)
{
    static const char *const stores[] = {"registry.db", "chats.db", "responses.db", "lock", "responses.lock"};
    char config[CONFIG_PATH_MAX], folder[REGISTRY_PATH_MAX], store[REGISTRY_PATH_MAX + 32];
    inputs in = {0};
    adapter_list adapters;
    mlxr_error error;
    if (!o->log_file) {
        return true;
    }
    inputs_add(&in, o->tls_cert);
    inputs_add(&in, o->tls_key);
    for (size_t i = 0; i < o->models.n; i++) {
        if (models_is_path(o->models.items[i])) {
            inputs_add_model(&in, o->models.items[i]);
        }
    }
    if (adapter_list_take(&adapters, o, "--lora", &error) == MLXR_OK) { /* else the daemon does not start anyway */
        for (size_t i = 0; i < adapters.n; i++) {
            inputs_add_model(&in, adapters.items[i].path);
        }
        adapter_list_free(&adapters);
    }
    bool ok = !inputs_lose(&in, o->log_file);
    inputs_close(&in);
    ok = ok && !(config_path(config, sizeof config) && outputs_meet(o->log_file, config));
    bool any = registry_directory(folder, sizeof folder);
    for (size_t i = 0; ok && any && i < sizeof stores / sizeof *stores; i++) {
        snprintf(store, sizeof store, "%s/.mlxr/%s", folder, stores[i]);
        ok = !outputs_meet(o->log_file, store);
    }
    return ok;
}

/* Paths as the daemon knows them from names: they begin with a slash or a dot. */
static bool find_models(const options *o, char (*paths)[MODEL_PATH_MAX], const char **items)
{
    for (size_t i = 0; i < o->models.n; i++) {
        const char *item = o->models.items[i];
        bool bare = models_is_path(item) && *item != '/' && *item != '.';
        if (snprintf(paths[i], MODEL_PATH_MAX, "%s%s", bare ? "./" : "", item) >= (int)MODEL_PATH_MAX) {
            print_error("--model %.100s…: the path is too long", item);
            return false;
        }
        items[i] = paths[i];
    }
    return true;
}

/* Adapters of all models that take them, by number. */
static mlxr_status take_adapters(const options *o, adapter_list *out, mlxr_error *error)
{
    mlxr_status status = adapter_list_take(out, o, "--lora", error);
    for (size_t i = 0; i < out->n && status == MLXR_OK; i++) {
        if (access(out->items[i].path, R_OK) != 0) {
            status = MLXR_ARG;
            *error = (mlxr_error){.status = status};
            snprintf(error->text, sizeof error->text, "--lora %.300s: %s", out->items[i].path, strerror(errno));
        }
    }
    return status;
}

/* One daemon, from its start to its end; where it did not start, the error says why. */
static int serve_once(const options *o, const char *const *models, logger *l, const serve_config *config,
                      daemon_again *again, mlxr_error *error)
{
    adapter_list adapters;
    again->wanted = false; /* what is left of the one before would begin again for ever */
    again->failure.text[0] = '\0';
    if (take_adapters(o, &adapters, error) != MLXR_OK) {
        adapter_list_free(&adapters);
        return error->status == MLXR_ARG ? EXIT_USAGE : EXIT_FAILED;
    }
    mlxr_model_options model = {.rope.if_possible = true};
    if (!context_take(&model, o, NULL, CONTEXT_OF_MODEL, error)) {
        serve_config_blame(config, error);
        adapter_list_free(&adapters);
        return EXIT_USAGE;
    }
    char kernels[KERNELS_PATH_MAX];
    log_part part = {l, "server"};
    daemon_draft draft = DAEMON_DRAFT_NONE;
    if (o->draft) { /* a known name: check_draft */
        daemon_draft_find(o->draft, &draft);
    }
    daemon_options d = {
        .host = o->host,
        .port = again->port ? again->port : (uint16_t)o->port,
        .any_port = o->port == 0 && !again->port,
        .ollama_port = (uint16_t)o->ollama_port,
        .socket_path = o->socket,
        .no_tcp = o->no_tcp,
        .models = {models, o->models.n},
        .adapters = adapters.items,
        .n_adapters = adapters.n,
        .hosts = {o->allow_hosts.items, o->allow_hosts.n},
        .origins = {o->allow_origins.items, o->allow_origins.n},
        .tls_cert = o->tls_cert,
        .tls_key = o->tls_key,
        .engine = kernels_engine(o, kernels),
        .model = model,
        .memory_bytes = o->memory_bytes,
        /* 0 is a time, too: a model goes as soon as nobody uses it. */
        .keep_alive_ms = o->keep_alive_s < 0 ? -1
                         : o->keep_alive_s   ? (int64_t)o->keep_alive_s * 1000
                                             : 1,
        .lanes_max = o->n_parallel,
        .queue_max = o->n_queue,
        .drain_ms = o->drain_s * 1000,
        .no_sandbox = o->no_sandbox,
        .draft = draft,
        .config_path = *config->path ? config->path : NULL,
        .config_note = config->note.text,
        .fixed = {config->fixed, config->n_fixed},
        .from_file = {config->applied, config->n_applied},
        .again = again,
        .log = log_part_line,
        .log_user = &part,
        .log_path = o->log_file,
        .logger = l,
    };
    int code = daemon_run(&d, error);
    adapter_list_free(&adapters);
    return code;
}

/* Until it is to end. Where what its file says now keeps it from starting again, it goes on with what it said before.
 */
static int serve(const options *o, const char *const *models, logger *l, serve_config *config)
{
    daemon_again again = {0};
    mlxr_error error;
    log_part part = {l, "server"};
    char line[sizeof config->note.text + 64];
    for (;;) {
        options now = *o;
        serve_config_apply(config, &now);
        int code = serve_once(&now, models, l, config, &again, &error);
        if (again.wanted) {
            serve_config_renew(config);
        } else if (!serve_config_back(config, *error.text ? &error : &again.failure)) {
            if (*error.text) {
                print_error("%s", error.text);
            }
            return code;
        }
        if (*config->note.text) {
            snprintf(line, sizeof line, "starts with the options of before: %s", config->note.text);
            log_part_line(&part, MLXR_LOG_ERROR, line);
        }
    }
}

/* Where to listen, as $MLXR_HOST says it, unless the command line does. False after telling that it makes no sense. */
static bool take_host(options *o, client_address *a)
{
    static const char *const own[] = {"host", "port", "socket", "no-tcp"};
    const char *variable = getenv("MLXR_HOST");
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (options_given(o, options_find(own[i], strlen(own[i]), GROUP_SERVE))) {
            return true;
        }
    }
    if (!variable || !*variable || strcmp(variable, "none") == 0) {
        return true;
    }
    if (!client_address_parse(variable, a)) {
        print_error("MLXR_HOST %s: HOST, HOST:PORT, http://HOST:PORT or unix:/PATH is needed", variable);
        return false;
    }
    o->socket = *a->socket ? a->socket : NULL;
    o->no_tcp = *a->socket != '\0';
    o->host = a->bind;
    o->port = a->port;
    return true;
}

static bool check_draft(const options *o)
{
    daemon_draft draft;
    if (o->draft && !daemon_draft_find(o->draft, &draft)) {
        print_error("--draft %s: there are ngram, mtp and none", o->draft);
        return false;
    }
    return true;
}

int verb_serve(options *o)
{
    client_address address;
    if (o->routes) {
        return print_json(daemon_routes_json());
    }
    serve_config config;
    if (!take_host(o, &address) || !check_draft(o) || !check_log_file(o)) {
        return EXIT_USAGE;
    }
    size_t n = o->models.n;
    char(*paths)[MODEL_PATH_MAX] = calloc(n ? n : 1, sizeof *paths);
    const char **items = calloc(n ? n : 1, sizeof *items);
    int code = EXIT_FAILED;
    logger *l = NULL;
    if (!paths || !items) {
        print_error("out of memory");
    } else if (find_models(o, paths, items)) {
        code = open_log(&l, o);
        code = code == EXIT_OK ? serve_config_open(&config, o) : code;
        if (code == EXIT_OK) {
            code = serve(o, items, l, &config);
            serve_config_close(&config);
        }
    }
    logger_close(&l);
    free(items);
    free(paths);
    return code;
}
