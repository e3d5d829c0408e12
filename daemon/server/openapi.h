/*
 * /openapi.json: made of the route table and the field tables, so that it says what is there.
 * Owner: the caller frees what it is given. Lifetime: the call.
 */
#ifndef MLXR_SERVER_OPENAPI_H
#define MLXR_SERVER_OPENAPI_H

#include "server/routes.h"

/* The document as OpenAPI 3.1. */
json_t *openapi_document(const route_table *tables, size_t n_tables);

#endif
