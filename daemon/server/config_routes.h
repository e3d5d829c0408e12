/*
 * Routes of the daemon's own options, its restart, and the folders of its machine.
 * Owner: daemon_routes.c lists them. Lifetime: the process.
 */
#ifndef MLXR_SERVER_CONFIG_ROUTES_H
#define MLXR_SERVER_CONFIG_ROUTES_H

#include "server/routes.h"

#define N_CONFIG_ROUTES 4u
extern const route config_routes[N_CONFIG_ROUTES];

/* config_folders.c */
void config_directory(void *service, http_exchange *x);

#endif
