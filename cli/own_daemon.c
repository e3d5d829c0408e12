/*
 * The daemon of `mlxr run --serve`: threads of this process, so that nothing is left behind however it ends.
 * Owner: the verb `run`. Lifetime: own_daemon_start to own_daemon_stop.
 */
#include "own_daemon.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answerer.h"
#include "context.h"
#include "kernels.h"
#include "models.h"
#include "output.h"
#include "registry/digest.h"
#include "server/daemon.h"
#include "telemetry/logger.h"

#define DRAIN_MS 5000u
#define KEY_BYTES 32u

struct own_daemon {
    struct daemon *daemon;
    logger *log;
    log_part part;
    registry_model entry;        /* of the model that it is started for */
    char key[2 * KEY_BYTES + 1]; /* where there are keys, this process needs one, too */
};

static mlxr_status start_at(own_daemon *own, const options *o, const client_address *a, bool any_port,
                            mlxr_error *error)
{
    char kernels[KERNELS_PATH_MAX];
    mlxr_model_options model = {.rope.if_possible = true};
    if (!context_take(&model, o, &own->entry, CONTEXT_OF_REQUESTS, error)) {
        return MLXR_ARG;
    }
    daemon_options d = {.host = *a->socket ? NULL : a->host,
                        .port = a->port,
                        .any_port = any_port,
                        .socket_path = *a->socket ? a->socket : NULL,
                        .no_tcp = *a->socket != '\0',
                        .engine = kernels_engine(o, kernels),
                        .model = model,
                        .own_key = own->key,
                        .keep_alive_ms = -1,
                        .drain_ms = DRAIN_MS,
                        .no_sandbox = o->no_sandbox,
                        .log = log_part_line,
                        .log_user = &own->part,
                        .logger = own->log};
    return daemon_start_confined(&own->daemon, &d, error);
}

/* At this address, or, where something else is there (*taken) or has it bound without answering, at a free port. */
static mlxr_status start_somewhere(own_daemon *own, const options *o, const client_address *a, bool *taken,
                                   mlxr_error *error)
{
    mlxr_error again;
    mlxr_status status = start_at(own, o, a, *taken, error);
    if (status != MLXR_OK && !*taken && !*a->socket && start_at(own, o, a, true, &again) == MLXR_OK) {
        *taken = true;
        status = MLXR_OK;
    }
    return status;
}

/* Starts it and asks it who it is. `taken`: something else answers at that address. */
static mlxr_status start(own_daemon *own, client **c, const options *o, client_address *a, bool taken,
                         mlxr_error *error)
{
    bool other = false;
    uint8_t random[KEY_BYTES];
    logger_options quiet = {.level = o->verbose ? "info" : "warn"};
    mlxr_status status = logger_open(&own->log, &quiet, error);
    own->part = (log_part){own->log, "server"};
    if (status == MLXR_OK && !digest_random(random, sizeof random)) {
        *error = (mlxr_error){.status = MLXR_IO, .text = "the system has no random bytes for a key"};
        status = MLXR_IO;
    }
    if (status == MLXR_OK) {
        digest_hex(random, sizeof random, own->key);
        status = start_somewhere(own, o, a, &taken, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    if (taken) {
        bool v6 = strchr(a->host, ':') != NULL;
        print_note("mlxr: something else is at %s: the daemon takes another port", client_address_text(a));
        a->port = daemon_port(own->daemon);
        snprintf(a->url, sizeof a->url, "http://%s%s%s:%u", v6 ? "[" : "", a->host, v6 ? "]" : "", a->port);
    }
    *c = client_try(a, &other);
    if (!*c || !client_use_key(*c, own->key)) {
        *error = (mlxr_error){.status = MLXR_IO};
        snprintf(error->text, sizeof error->text, "the daemon was started at %s and does not answer there",
                 client_address_text(a));
        return MLXR_IO;
    }
    return MLXR_OK;
}

static int begin(own_daemon **out, client **c, const options *o, client_address *a, bool taken)
{
    mlxr_error error;
    own_daemon *own = calloc(1, sizeof *own);
    if (!own) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    if (!models_resolve(o->args[0], &own->entry)) {
        free(own);
        return EXIT_FAILED;
    }
    signal(SIGPIPE, SIG_IGN); /* clients leave while they are answered */
    mlxr_status status = start(own, c, o, a, taken, &error);
    if (status != MLXR_OK) {
        own_daemon_stop(&own);
        return print_failure(&error);
    }
    print_note("mlxr: serving at %s until this ends (OpenAI's API: %s/v1)", client_where(*c), a->url);
    *out = own;
    return EXIT_OK;
}

int own_daemon_start(own_daemon **out, client **c, const options *o)
{
    client_address a;
    bool other = false;
    const char *variable = getenv("MLXR_HOST");
    bool named = o->server || (variable && *variable);
    const char *text = o->server ? o->server : named ? variable : "127.0.0.1";
    if (!client_address_parse(text, &a) || strcmp(text, "none") == 0) {
        print_error("%s %s: --serve needs an address", o->server ? "--server" : "MLXR_HOST", text);
        return EXIT_USAGE;
    }
    *c = client_try(&a, &other);
    if (*c && client_lasts(*c) && (named || client_is_meant(*c))) {
        const char *cannot = answer_daemon_cannot(o);
        print_note("mlxr: answered by the daemon at %s, which goes on when this ends", client_where(*c));
        if (cannot) {
            print_note("mlxr: --%s changes nothing there", cannot);
        }
        return EXIT_OK;
    }
    bool taken = *c || other;
    client_close(c);
    if (a.tls || !client_on_this_machine(&a)) {
        print_error("no daemon answers at %s, and --serve starts one on this machine only", client_address_text(&a));
        return EXIT_FAILED;
    }
    return begin(out, c, o, &a, taken);
}

void own_daemon_stop(own_daemon **pointer)
{
    own_daemon *own = *pointer;
    if (own) {
        daemon_stop(&own->daemon);
        logger_close(&own->log);
        registry_model_close(&own->entry);
        free(own);
        *pointer = NULL;
    }
}
