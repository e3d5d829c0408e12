/*
 * Routes about the daemon itself.
 * Owner: system_routes.c. Lifetime: the process.
 */
#ifndef MLXR_SERVER_SYSTEM_ROUTES_H
#define MLXR_SERVER_SYSTEM_ROUTES_H

#include "server/routes.h"

#define N_SYSTEM_ROUTES 2
extern const route system_routes[N_SYSTEM_ROUTES];

#endif
