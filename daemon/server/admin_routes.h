/*
 * Routes of whoever looks after the daemon: what it is and does, its models, its keys.
 * Owner: daemon_routes.c lists them. Lifetime: the process.
 */
#ifndef MLXR_SERVER_ADMIN_ROUTES_H
#define MLXR_SERVER_ADMIN_ROUTES_H

#include "server/routes.h"

#define N_ADMIN_ROUTES 22u
extern const route admin_routes[N_ADMIN_ROUTES];

#endif
