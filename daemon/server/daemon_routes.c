/*
 * All routes: the tables of the modules.
 * Owner: the modules. Lifetime: the process.
 */
#include "server/daemon_private.h"

#include "server/admin_routes.h"
#include "server/anthropic_routes.h"
#include "server/config_routes.h"
#include "server/ollama_routes.h"
#include "server/openai_routes.h"
#include "server/system_routes.h"
#include "server/telemetry_routes.h"
#include "server/ui_files.h"
#include "server/ui_routes.h"

const route_table daemon_tables[] = {
    {system_routes, N_SYSTEM_ROUTES},       {openai_routes, N_OPENAI_ROUTES},
    {anthropic_routes, N_ANTHROPIC_ROUTES}, {ollama_routes, N_OLLAMA_ROUTES},
    {telemetry_routes, N_TELEMETRY_ROUTES}, {admin_routes, N_ADMIN_ROUTES},
    {config_routes, N_CONFIG_ROUTES},       {ui_routes, N_UI_ROUTES},
    {ui_file_routes, N_UI_FILE_ROUTES},
};
const size_t n_daemon_tables = sizeof daemon_tables / sizeof *daemon_tables;

json_t *daemon_routes_json(void)
{
    static const char *const policies[] = {"none", "public", "use", "read", "admin"};
    static const char *const dialects[] = {"plain", "openai", "ollama", "anthropic"};
    json_t *list = json_array();
    for (size_t t = 0; t < n_daemon_tables; t++) {
        for (size_t i = 0; i < daemon_tables[t].n; i++) {
            const route *row = &daemon_tables[t].rows[i];
            const char *body = row->flags & ROUTE_BODY_STREAM ? "stream"
                               : row->flags & ROUTE_BODY_JSON ? "json"
                                                              : "none";
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "method", row->method, "pattern",
                                                  row->pattern, "policy", policies[row->policy], "dialect",
                                                  dialects[row->dialect], "body", body, "when_closing",
                                                  (row->flags & ROUTE_WHEN_CLOSING) != 0));
        }
    }
    return list;
}
