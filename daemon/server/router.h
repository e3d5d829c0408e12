/*
 * Router: from a request's head to the row that answers it, past every check there is.
 * Owner: the daemon. Lifetime: router_open to router_close, around the server's.
 *
 *   Host ─▶ path ─▶ Origin ─▶ preflight? ─▶ method ─▶ key ─▶ scope ─▶ open? ─▶ quota ─▶ Content-Type ─▶ body ─▶ handler
 *   400/403  404     403        204          405      401     403     503      429       415          413
 */
#ifndef MLXR_SERVER_ROUTER_H
#define MLXR_SERVER_ROUTER_H

#include "server/access.h"
#include "server/routes.h"

typedef struct router router;

typedef struct router_options {
    const route_table *tables;
    size_t n_tables;
    void *service; /* what handlers get */
    access_rules access;
    auth *auth;
    /* Why requests are not answered now, or NULL; *retry_s: when to try again. Rows with ROUTE_WHEN_CLOSING are not
     * asked. */
    const char *(*closed)(void *service, unsigned *retry_s);
    /* Each exchange once, at its end: for logs and metrics. `row`: NULL where none took it. NULL: nobody wants to know.
     */
    void (*ended)(void *service, const http_exchange *x, const route *row, const auth_identity *who,
                  const route_usage *usage);
} router_options;

/* MLXR_ARG, naming the row, for a table that makes no sense: no policy, no handler, a bad pattern, a row given twice.
 */
mlxr_status router_open(router **out, const router_options *options, mlxr_error *error);
void router_close(router **r);
http_app router_app(router *r);
/* Requests of ROUTE_USE rows that are being answered; the loop thread. */
uint32_t router_using(const router *r);

#endif
