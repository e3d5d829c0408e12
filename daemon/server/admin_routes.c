/*
 * The table of the routes for who looks after the daemon.
 * Owner: the process. Lifetime: the process.
 */
#include "server/admin_routes.h"

#include "server/admin_parts.h"

#define BODY_MAX (64u << 10)
#define RECIPE_MAX (1u << 20)

/* Who may ask for answers may have a model loaded: an answer would load it, too. */
const route admin_routes[N_ADMIN_ROUTES] = {
    {"GET", "/ui-api/version", ROUTE_PUBLIC, ROUTE_PLAIN, ROUTE_WHEN_CLOSING, 0, admin_version},
    {"GET", "/ui-api/status", ROUTE_READ, ROUTE_PLAIN, ROUTE_WHEN_CLOSING, 0, admin_status},
    {"POST", "/ui-api/drain", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON | ROUTE_WHEN_CLOSING, BODY_MAX, admin_drain},
    {"GET", "/ui-api/models", ROUTE_READ, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, admin_models},
    {"GET", "/ui-api/models/{name...}", ROUTE_READ, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, admin_model},
    {"DELETE", "/ui-api/models/{name...}", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, admin_delete},
    {"POST", "/ui-api/models/restore", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON, BODY_MAX, admin_restore},
    {"POST", "/ui-api/models/copy", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON, BODY_MAX, admin_copy},
    {"POST", "/ui-api/models/load", ROUTE_USE, ROUTE_PLAIN, ROUTE_BODY_JSON, BODY_MAX, admin_load},
    {"POST", "/ui-api/models/unload", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON, BODY_MAX, admin_unload},
    {"POST", "/ui-api/models/create", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON, RECIPE_MAX, admin_create},
    {"POST", "/ui-api/models/pull", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON, BODY_MAX, admin_pull},
    {"POST", "/ui-api/models/import", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_STREAM, 0, admin_import},
    {"POST", "/ui-api/models/register", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON, BODY_MAX, admin_register},
    {"GET", "/ui-api/loaded", ROUTE_READ, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, admin_loaded},
    {"GET", "/ui-api/catalogue", ROUTE_READ, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, admin_catalogue},
    {"GET", "/ui-api/jobs", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, admin_jobs},
    {"GET", "/ui-api/jobs/{id}", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, admin_job},
    {"DELETE", "/ui-api/jobs/{id}", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, admin_job_cancel},
    {"GET", "/ui-api/keys", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, admin_keys},
    {"POST", "/ui-api/keys", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_JSON, BODY_MAX, admin_key_create},
    {"DELETE", "/ui-api/keys/{id}", ROUTE_ADMIN, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, admin_key_revoke},
};
