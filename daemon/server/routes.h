/*
 * Routes: what the daemon answers, as const tables, one of each module; every row declares who may call it.
 * Owner: the module that exports the table; router.c reads them. Lifetime: the process.
 *
 * A module exports `extern const route NAME_routes[]; extern const size_t n_NAME_routes;` and daemon_routes.c lists it.
 */
#ifndef MLXR_SERVER_ROUTES_H
#define MLXR_SERVER_ROUTES_H

#include "server/auth.h"
#include "server/http.h"

typedef enum route_policy { /* 0 is none: such a row does not pass the checks at start and in the tests */
                            ROUTE_PUBLIC = 1, /* everybody: health, readiness, static files */
                            ROUTE_USE,        /* scope `inference` */
                            ROUTE_READ,       /* scope `read`: lists and states, no secrets */
                            ROUTE_ADMIN,      /* scope `admin`: pull, delete, keys, logs */
                            ROUTE_N_POLICIES
} route_policy;

typedef enum route_dialect { /* the shape of errors */
                             ROUTE_PLAIN,
                             ROUTE_OPENAI,
                             ROUTE_OLLAMA,
                             ROUTE_ANTHROPIC,
} route_dialect;

enum {                              /* route.flags */
       ROUTE_BODY_NONE = 0,         /* a body is read and ignored, up to 64 KiB */
       ROUTE_BODY_JSON = 1u << 0,   /* Content-Type must say JSON where there is a body; else 415 */
       ROUTE_BODY_STREAM = 1u << 1, /* any type and, unless bytes_max says otherwise, any size; http_on_body */
       ROUTE_WHEN_CLOSING = 1u << 2 /* answered while loading and draining, too (health, metrics) */
};

typedef struct route {
    const char *method;  /* "GET" answers HEAD, too */
    const char *pattern; /* "/v1/models/{id...}": {name} is a segment, {name...} the rest, slashes and all */
    route_policy policy;
    route_dialect dialect;
    unsigned flags;
    uint64_t bytes_max;                               /* of the body; 0: HTTP_BODY_MAX, of streams no limit */
    void (*handler)(void *service, http_exchange *x); /* service: struct daemon, daemon_parts.h */
} route;

typedef struct route_table {
    const route *rows;
    size_t n;
} route_table;

typedef struct route_usage {                /* what a generation took, for the access log */
    char model[64];                         /* "" : none */
    size_t n_prompt, n_cached, n_generated; /* tokens */
} route_usage;
/* Before the exchange has ended. */
void route_usage_set(http_exchange *x, const route_usage *usage);

/* The row that took this request; NULL: none (404, bad syntax). */
const route *route_of(const http_exchange *x);
/* The shape its errors have: the row's; without one it goes by the path. */
route_dialect route_dialect_of(const http_exchange *x);
/* Who asks, verified; key_id 0 where no keys are configured. */
const auth_identity *route_identity(const http_exchange *x);
/* Whoever is asked for no key must sit at this machine to see or set what is its own: folders, paths, the daemon's
 * options. False after answering 403 with the message. */
bool route_from_here(http_exchange *x, const char *message);
/* Parameters of the query; what they put out stays as it is where there is none of the name. False after answering 400:
 * the value is of another kind, does not fit, or its escapes are none. */
bool route_query_flag(http_exchange *x, const char *name, bool *out); /* true or false */
bool route_query_number(http_exchange *x, const char *name, uint64_t least, uint64_t most, uint64_t *out);
/* "after", or what a browser sends in its place when it comes back to a stream: Last-Event-ID. */
bool route_query_after(http_exchange *x, uint64_t *out);
bool route_query_text(http_exchange *x, const char *name, char *out, size_t cap, bool *given);

#endif
