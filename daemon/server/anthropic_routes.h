/*
 * Routes of the Anthropic dialect.
 * Owner: anthropic_routes.c. Lifetime: the process.
 */
#ifndef MLXR_SERVER_ANTHROPIC_ROUTES_H
#define MLXR_SERVER_ANTHROPIC_ROUTES_H

#include "server/routes.h"

#define N_ANTHROPIC_ROUTES 2
extern const route anthropic_routes[N_ANTHROPIC_ROUTES];

#endif
