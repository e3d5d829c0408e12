/*
 * The OpenAPI document.
 * Owner: the caller. Lifetime: the call.
 */
#include "server/openapi.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "server/admin_parts.h"
#include "server/anthropic_parts.h"
#include "server/daemon_private.h"
#include "server/ollama_parts.h"
#include "server/openai_parts.h"
#include "server/ui_schema.h"

/* "/v1/models/{id...}" is "/v1/models/{id}" to OpenAPI. */
static void path_of(const char *pattern, char *out, size_t cap)
{
    size_t n = 0;
    for (; *pattern && n + 1 < cap; pattern++) {
        if (strncmp(pattern, "...}", 4) == 0) {
            pattern += 3;
        }
        out[n++] = *pattern;
    }
    out[n] = 0;
}

static json_t *parameters_of(const char *path)
{
    json_t *list = json_array();
    for (const char *at = strchr(path, '{'); at; at = strchr(at + 1, '{')) {
        size_t n = strcspn(at + 1, "}");
        json_array_append_new(list, json_pack("{s:s%, s:s, s:b, s:{s:s}}", "name", at + 1, n, "in", "path", "required",
                                              1, "schema", "type", "string"));
    }
    return list;
}

static json_t *answer(const char *text, const char *schema)
{
    return schema ? json_pack("{s:s, s:{s:{s:{s:s}}}}", "description", text, "content", "application/json", "schema",
                              "$ref", schema)
                  : json_pack("{s:s}", "description", text);
}

/* What the checks before a handler, and handlers, may say. */
static json_t *answers_of(const route *row)
{
    static const struct {
        const char *status, *text;
    } errors[] = {
        {"400", "The request makes no sense: the message names the field."},
        {"401", "An API key is needed."},
        {"403", "Not allowed: host, origin, scope, or model."},
        {"404", "There is no such model, response or path."},
        {"405", "Another method is meant."},
        {"408", "The request did not come in time."},
        {"409", "Something else is there already."},
        {"411", "The body's length is missing."},
        {"413", "The body is too large."},
        {"414", "The path and its parameters are longer than 8 KiB."},
        {"415", "The body must be JSON, and say so."},
        {"429", "Too many requests: see Retry-After."},
        {"431", "The header is too large."},
        {"500", "The server failed."},
        {"503", "Not now: see Retry-After."},
        {"504", "The request's deadline has passed."},
    };
    static const char *const schemas[] = {
        [ROUTE_PLAIN] = "#/components/schemas/Error",
        [ROUTE_OPENAI] = "#/components/schemas/OpenAIError",
        [ROUTE_OLLAMA] = "#/components/schemas/OllamaError",
        [ROUTE_ANTHROPIC] = "#/components/schemas/AnthropicError",
    };
    json_t *made = json_object();
    json_object_set_new(made, "200", answer("The answer; with \"stream\": true as events or lines.", NULL));
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        json_object_set_new(made, errors[i].status, answer(errors[i].text, schemas[row->dialect]));
    }
    return made;
}

static json_t *body_of(const route *row)
{
    json_t *schema = openai_body_schema(row->pattern);
    schema = schema ? schema : anthropic_body_schema(row->pattern);
    schema = schema ? schema : admin_body_schema(row->pattern);
    schema = schema ? schema : ollama_body_schema(row->pattern);
    schema = schema ? schema : json_pack("{s:s}", "type", "object");
    /* Where no member is required, no body is one without members. */
    bool required = json_array_size(json_object_get(schema, "required")) > 0;
    return json_pack("{s:b, s:{s:{s:o}}}", "required", required, "content", "application/json", "schema", schema);
}

static json_t *operation(const route *row, const char *path, const json_t *ui)
{
    static const char *const policies[] = {"none", "public", "inference", "read", "admin"};
    json_t *made = json_pack("{s:o, s:o, s:s}", "parameters", parameters_of(path), "responses", answers_of(row),
                             "x-policy", policies[row->policy]);
    char id[300];
    snprintf(id, sizeof id, "%s%s", row->method, path);
    for (char *at = id; *at; at++) {
        *at = isalnum((unsigned char)*at) ? *at : '_';
    }
    json_object_set_new(made, "operationId", json_string(id));
    if (row->flags & ROUTE_BODY_JSON) {
        json_object_set_new(made, "requestBody", body_of(row));
    }
    if (row->policy == ROUTE_PUBLIC) {
        json_object_set_new(made, "security", json_array());
    }
    ui_schema_describe(ui, row, made);
    return made;
}

static json_t *error_schemas(void)
{
    static const char text[] =
        "{\"Error\":{\"type\":\"object\",\"properties\":{\"error\":{\"type\":\"object\"}},\"required\":[\"error\"]},"
        "\"OpenAIError\":{\"type\":\"object\",\"properties\":{\"error\":{\"type\":\"object\",\"properties\":{"
        "\"message\":{\"type\":\"string\"},\"type\":{\"type\":\"string\"},\"param\":{\"type\":[\"string\",\"null\"]},"
        "\"code\":{\"type\":[\"string\",\"null\"]}},\"required\":[\"message\",\"type\",\"param\",\"code\"]}},"
        "\"required\":[\"error\"]},"
        "\"OllamaError\":{\"type\":\"object\",\"properties\":{\"error\":{\"type\":\"string\"}},\"required\":[\"error\"]"
        "},"
        "\"AnthropicError\":{\"type\":\"object\",\"properties\":{\"type\":{\"const\":\"error\"},\"error\":{\"type\":"
        "\"object\"}},\"required\":[\"type\",\"error\"]}}";
    return json_loads(text, 0, NULL);
}

json_t *openapi_document(const route_table *tables, size_t n_tables)
{
    json_t *paths = json_object(), *ui = ui_schema_open(), *schemas = error_schemas();
    ui_schema_components(ui, schemas);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const route *row = &tables[t].rows[i];
            char path[256], method[16];
            path_of(row->pattern, path, sizeof path);
            snprintf(method, sizeof method, "%s", row->method);
            for (char *at = method; *at; at++) {
                *at = (char)tolower((unsigned char)*at);
            }
            if (!json_object_get(paths, path)) {
                json_object_set_new(paths, path, json_object());
            }
            json_object_set_new(json_object_get(paths, path), method, operation(row, path, ui));
        }
    }
    json_decref(ui);
    return json_pack("{s:s, s:{s:s, s:s, s:s}, s:o, s:{s:o, s:{s:{s:s, s:s}}}, s:[{s:[]}]}", "openapi", "3.1.0", "info",
                     "title", "MLXR", "version", MLXR_VERSION, "description",
                     "Made of the route table and the tables of fields of the running daemon.", "paths", paths,
                     "components", "schemas", schemas, "securitySchemes", "key", "type", "http", "scheme", "bearer",
                     "security", "key");
}

void openai_document(void *service, http_exchange *x)
{
    (void)service;
    http_respond_json(x, 200, openapi_document(daemon_tables, n_daemon_tables));
}
