/*
 * The routes of the Ollama dialect, for daemon_routes.c.
 * Owner: this module. Lifetime: the process.
 */
#ifndef MLXR_SERVER_OLLAMA_ROUTES_H
#define MLXR_SERVER_OLLAMA_ROUTES_H

#include "server/routes.h"

#define N_OLLAMA_ROUTES 15
extern const route ollama_routes[N_OLLAMA_ROUTES];

#endif
