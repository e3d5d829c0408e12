/*
 * /health: does it live? /ready: does it answer?
 * Owner: the daemon. Lifetime: the process.
 */
#include "server/system_routes.h"

#include "server/daemon_parts.h"

static const char *const states[] = {"loading", "ready", "draining"};

/* For who restarts what hangs: 503 when the engine's thread has not answered for seconds. */
static void health(void *service, http_exchange *x)
{
    const struct daemon *d = service;
    bool alive = daemon_engine_alive(d);
    http_header_add(x, "Cache-Control", "no-store");
    if (!alive) {
        http_header_add(x, "Retry-After", "5");
    }
    http_respond_json(x, alive ? 200 : 503,
                      json_pack("{s:s, s:s}", "status", alive ? "ok" : "stalled", "state", states[daemon_state_of(d)]));
}

/* For who distributes requests. */
static void ready(void *service, http_exchange *x)
{
    const struct daemon *d = service;
    daemon_state state = daemon_state_of(d);
    bool yes = state == DAEMON_READY && daemon_engine_alive(d);
    http_header_add(x, "Cache-Control", "no-store");
    if (!yes) {
        http_header_add(x, "Retry-After", state == DAEMON_DRAINING ? "5" : "1");
    }
    http_respond_json(x, yes ? 200 : 503, json_pack("{s:s}", "status", states[state]));
}

const route system_routes[N_SYSTEM_ROUTES] = {
    {"GET", "/health", ROUTE_PUBLIC, ROUTE_PLAIN, ROUTE_WHEN_CLOSING, 0, health},
    {"GET", "/ready", ROUTE_PUBLIC, ROUTE_PLAIN, ROUTE_WHEN_CLOSING, 0, ready},
};
