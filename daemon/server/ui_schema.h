/*
 * The routes of the UI as they are described (ui_api.json): what /openapi.json says of them is what bodies and queries
 * are checked against. Owner: ui_schema.c's document, which whoever opens it closes. Lifetime: as its holder's.
 */
#ifndef MLXR_SERVER_UI_SCHEMA_H
#define MLXR_SERVER_UI_SCHEMA_H

#include "server/routes.h"

/* The document; NULL: no memory. */
json_t *ui_schema_open(void);
/* The description of a route; NULL: it has none. */
const json_t *ui_schema_route(const json_t *document, const char *method, const char *pattern);
/* Whether a value is as a schema ({"$ref": …} or a schema itself) says; else *field (of cap bytes: "messages[0].role")
 * and *error say what is wrong. */
bool ui_schema_check(const json_t *document, const json_t *schema, const json_t *value, char *field, size_t cap,
                     mlxr_error *error);
/* A schema of the document by its name. */
const json_t *ui_schema_named(const json_t *document, const char *name);

/* Fields of /v1/chat/completions that are no parameters of a chat. */
#define N_NOT_PARAMETERS 6
extern const char *const ui_not_parameters[N_NOT_PARAMETERS];

/* For openapi.c: what is known of a row is put into its operation; schemas are added. */
void ui_schema_describe(const json_t *document, const route *row, json_t *operation);
void ui_schema_components(const json_t *document, json_t *schemas);

#endif
