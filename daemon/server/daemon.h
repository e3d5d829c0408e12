/*
 * The daemon: engine, worker, models and registry behind an HTTP server.
 * Owner: the caller (the verb `serve`, tests). Lifetime: daemon_start to daemon_stop, or the call of daemon_run.
 *
 *   daemon_start ─▶ loading ─▶ ready ─▶ draining ─▶ daemon_stop
 *                    /ready 503   200      503, running answers finish or end with an error
 */
#ifndef MLXR_SERVER_DAEMON_H
#define MLXR_SERVER_DAEMON_H

#include <jansson.h>

#include "mlxr.h"

struct logger; /* telemetry/logger.h */

typedef struct daemon_list {
    const char *const *items;
    size_t n;
} daemon_list;

#define DAEMON_PATH_MAX 4096u

typedef struct daemon_again {     /* whoever calls daemon_run again says so here; zero at first */
    bool wanted;                  /* it returned because it is to begin again, with the options of now */
    bool confined;                /* the process is in the sandbox already */
    char kv_dir[DAEMON_PATH_MAX]; /* that this sandbox leaves open; "": none */
    uint16_t port;                /* it had */
    mlxr_error failure;           /* why it ended before it was ready: a model of the start; text "": it did not */
} daemon_again;

/* By what the text repeats; with a head of the model's own, where it has one. */
typedef enum daemon_draft { DAEMON_DRAFT_NONE, DAEMON_DRAFT_NGRAM, DAEMON_DRAFT_MTP } daemon_draft;
bool daemon_draft_find(const char *name, daemon_draft *out);
const char *daemon_draft_name(daemon_draft draft);

typedef struct daemon_options {               /* {0} is a valid default */
    const char *host;                         /* NULL: 127.0.0.1 */
    uint16_t port;                            /* 0: 11435 */
    bool any_port;                            /* take any free port instead (tests) */
    uint16_t ollama_port;                     /* 0: none; as `port`, for clients that know Ollama's only */
    const char *socket_path;                  /* a Unix socket besides; NULL: none */
    bool no_tcp;                              /* the Unix socket, or inherited ones, only */
    const char *directory;                    /* the registry's; NULL: registry_directory's */
    daemon_list models;                       /* loaded at start and kept: paths (beginning with / or .), else names */
    const struct mlxr_adapter_path *adapters; /* [n_adapters] what requests may name by number, with the scales of those
                                                 that name none; borrowed */
    size_t n_adapters;
    daemon_list hosts;   /* further names in Host that are allowed */
    daemon_list origins; /* web pages that may ask: "https://chat.example" */
    const char *tls_cert, *tls_key;
    const char *own_key;        /* a further API key, for the process it runs in, borrowed for its life; NULL: none */
    mlxr_engine_options engine; /* `log` is the daemon's */
    mlxr_model_options model;
    uint64_t memory_bytes;    /* of weights and KV together; 0: no such bound */
    int64_t keep_alive_ms;    /* of idle models; 0: 300,000; negative: for ever */
    uint32_t models_max;      /* loaded at once; 0: 64 */
    uint32_t lanes_max;       /* sequences running at once; 0: 256 */
    uint32_t queue_max;       /* requests waiting beyond them; 0: 128 */
    uint32_t drain_ms;        /* for running answers at the end; 0: 30,000 */
    uint32_t stall_ms;        /* of slow readers; 0: 30,000 */
    uint32_t head_ms;         /* for a request's head; 0: 10,000 */
    uint32_t connections_max; /* 0: 1,024 */
    unsigned n_sockets;       /* inherited listening sockets; then none is opened for TCP */
    const int *sockets;       /* [n_sockets] borrowed for the start; NULL: they are file descriptor 3 and following */
    bool no_sandbox;          /* daemon_run only */
    daemon_draft draft;       /* how answers guess ahead whose request does not say */
    const char *config_path;  /* the file that /ui-api/options changes (config_file.h); NULL: none */
    const char *config_note;  /* what of it did not work at this start; NULL: nothing */
    daemon_list fixed;        /* names of options that the command line sets, whatever that file says */
    daemon_list from_file;    /* names of those that it has set at this start */
    daemon_again *again;      /* daemon_run only; NULL: POST /ui-api/restart is refused */
    void (*log)(void *user, mlxr_log_level level, const char *line); /* any thread; NULL: silence */
    void *log_user;
    const char *log_path;           /* the file it writes, for the sandbox; NULL: none */
    struct logger *logger;          /* of requests, and what GET /ui-api/logs shows; NULL: none */
    uint64_t (*now_ms)(void *user); /* any thread; by which the engine's silence is measured; NULL: a monotonic clock */
    void *now_user;
} daemon_options;

struct daemon; /* no typedef: unistd.h has a function of this name */

/* Serves on a thread of its own. When it returns, the sockets are open; models may still be loading. */
mlxr_status daemon_start(struct daemon **out, const daemon_options *options, mlxr_error *error);
/* The same on a thread that is confined before (sandbox.h), and so are all that it starts; the caller is not, but for
 * programs, which no thread of this process can start any more. Where there is no sandbox, without. */
mlxr_status daemon_start_confined(struct daemon **out, const daemon_options *options, mlxr_error *error);
uint16_t daemon_port(const struct daemon *d);
/* Any thread: no more requests are taken; what runs may finish within drain_ms, or is ended now. */
void daemon_drain(struct daemon *d, bool now);
/* Drains, waits, saves and frees. */
void daemon_stop(struct daemon **d);

/* All of it until SIGTERM or SIGINT, with the sandbox, sd_notify and socket activation; returns an exit code:
 * 0, 1, or 2 for options that make no sense. Where it did not start, the error says why; what went wrong later was told
 * through `log`, and the error's text is empty. Where `again` is given: it may be wanted once more. */
int daemon_run(const daemon_options *options, mlxr_error *error);

/* The route table as JSON: an array of {"method","pattern","policy","dialect","body"}. */
json_t *daemon_routes_json(void);

#endif
