/*
 * The table of the Ollama dialect.
 * Owner: this module. Lifetime: the process.
 *
 * `/`, where its clients look whether somebody is there, is ui_files.c's: browsers get the page.
 * Lists and descriptions are for whoever may use models, as with /v1/models; what changes the store is for admins.
 */
#include "server/ollama_routes.h"

#include "server/ollama_parts.h"

const route ollama_routes[N_OLLAMA_ROUTES] = {
    {"GET", "/api/version", ROUTE_PUBLIC, ROUTE_OLLAMA, ROUTE_WHEN_CLOSING, 0, ollama_version},
    {"POST", "/api/generate", ROUTE_USE, ROUTE_OLLAMA, ROUTE_BODY_JSON, 0, ollama_generate},
    {"POST", "/api/chat", ROUTE_USE, ROUTE_OLLAMA, ROUTE_BODY_JSON, 0, ollama_chat},
    {"POST", "/api/embed", ROUTE_USE, ROUTE_OLLAMA, ROUTE_BODY_JSON, 0, ollama_embed},
    {"POST", "/api/embeddings", ROUTE_USE, ROUTE_OLLAMA, ROUTE_BODY_JSON, 0, ollama_embeddings},
    {"GET", "/api/tags", ROUTE_USE, ROUTE_OLLAMA, ROUTE_BODY_NONE, 0, ollama_tags},
    {"GET", "/api/ps", ROUTE_USE, ROUTE_OLLAMA, ROUTE_BODY_NONE, 0, ollama_ps},
    {"POST", "/api/show", ROUTE_USE, ROUTE_OLLAMA, ROUTE_BODY_JSON, 0, ollama_show},
    {"POST", "/api/copy", ROUTE_ADMIN, ROUTE_OLLAMA, ROUTE_BODY_JSON, 0, ollama_copy},
    {"DELETE", "/api/delete", ROUTE_ADMIN, ROUTE_OLLAMA, ROUTE_BODY_JSON, 0, ollama_delete},
    {"POST", "/api/pull", ROUTE_ADMIN, ROUTE_OLLAMA, ROUTE_BODY_JSON, 0, ollama_pull},
    {"POST", "/api/push", ROUTE_ADMIN, ROUTE_OLLAMA, ROUTE_BODY_JSON, 0, ollama_push},
    {"POST", "/api/create", ROUTE_ADMIN, ROUTE_OLLAMA, ROUTE_BODY_JSON, 0, ollama_create},
    {"HEAD", "/api/blobs/{digest}", ROUTE_ADMIN, ROUTE_OLLAMA, ROUTE_BODY_NONE, 0, ollama_blob_head},
    {"POST", "/api/blobs/{digest}", ROUTE_ADMIN, ROUTE_OLLAMA, ROUTE_BODY_STREAM, 0, ollama_blob_put},
};
