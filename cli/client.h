/*
 * A daemon as the verbs see it: finding it, asking it, reading what it streams.
 * Owner: the verb. Lifetime: client_find to client_close.
 *
 *   --server, $MLXR_HOST ─▶ address ─▶ GET /ui-api/version ─┬─ an MLXR daemon ─▶ client
 *     else 127.0.0.1:11435                                  ├─ nobody, and none was named ─▶ none: without a daemon
 *                                                           └─ nobody, or somebody else, where one was named ─▶ error
 *
 * A daemon that nobody named is only taken if it has the store that $MLXR_MODELS names, if it names one. The key
 * ($MLXR_API_KEY) is sent to who has answered as a daemon, never along a redirect.
 */
#ifndef MLXR_CLI_CLIENT_H
#define MLXR_CLI_CLIENT_H

#include <jansson.h>
#include <signal.h>

#include "mlxr.h"
#include "options.h"

#define CLIENT_PORT 11435u
#define CLIENT_ADDRESS_MAX 320u

typedef struct client client;

typedef struct client_address {
    char url[CLIENT_ADDRESS_MAX];    /* "http://127.0.0.1:11435", without a slash at its end */
    char socket[CLIENT_ADDRESS_MAX]; /* of a Unix socket; "": TCP */
    char host[256];                  /* of the URL, without brackets */
    char bind[256];                  /* the same as it was given: 0.0.0.0 is a place to listen, not to connect to */
    uint16_t port;
    bool tls;
} client_address;

/* "host", "host:port", ":port", "http://host", "https://host:port", "unix:/path" or "/path"; the port of nothing else
 * is 11435. False: it is none of these. */
bool client_address_parse(const char *text, client_address *out);
/* False: surely nobody listens there. Opens no library for that, as asking does. */
bool client_listens(const client_address *a);
/* Its own loopback, or a Unix socket. */
bool client_on_this_machine(const client_address *a);
/* What to call it: its URL, or the socket's path. */
const char *client_address_text(const client_address *a);

typedef enum client_need {
    CLIENT_IF_THERE, /* *out stays NULL without one */
    CLIENT_NEEDED,   /* without one there is nothing to do: an error */
} client_need;

/* Returns an exit code, after telling why not. */
int client_find(client **out, const options *o, client_need need);
/* The one at this address, or NULL: nobody answers, or (*other) somebody who is no MLXR daemon. Silent. */
client *client_try(const client_address *a, bool *other);
/* Another key than $MLXR_API_KEY. False: no memory. */
bool client_use_key(client *c, const char *key);
void client_close(client **c);

/* Whether a daemon that nobody named is the one for this process: see above. */
bool client_is_meant(const client *c);
const char *client_where(const client *c); /* client_address_text of it */
const client_address *client_address_of(const client *c);
const char *client_version(const client *c); /* of the daemon */
/* Whether it goes on by itself: it is not part of somebody's `run --serve`. */
bool client_lasts(const client *c);
/* Whether the daemon's store is the one that this process would open. */
bool client_same_store(const client *c);

/* One request and its whole answer; `body` is taken, NULL: none. *out (may be NULL): the answer's JSON. An error: what
 * the daemon said, or why it could not be asked. MLXR_ARG: it found fault with the request. */
mlxr_status client_ask(client *c, const char *method, const char *path, json_t *body, json_t **out, mlxr_error *error);

typedef struct client_event {
    const char *name; /* of an event of SSE; "" : none */
    const char *text; /* [n] */
    size_t n;
    json_t *json; /* of the text, borrowed; NULL: it is none */
} client_event;
/* False: enough, the connection ends and what the daemon does for it with it. */
typedef bool (*client_on_event)(void *user, const client_event *event);
/* A request whose answer comes piece by piece, as server-sent events or as lines of JSON. MLXR_OK: the answer was
 * complete, or on_event had enough, or *interrupted (may be NULL) became nonzero. */
mlxr_status client_stream(client *c, const char *method, const char *path, json_t *body, client_on_event on_event,
                          void *user, const volatile sig_atomic_t *interrupted, mlxr_error *error);

/* A name as part of a path or query, into out. False: it does not fit. */
bool client_escape(const char *text, char *out, size_t cap);

#endif
