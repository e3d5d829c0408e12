/*
 * Keys from the registry, remembered for a second, so that the loop seldom asks the database.
 * Owner: the daemon. Lifetime: auth_registry_open to auth_registry_close, inside the registry's.
 */
#ifndef MLXR_SERVER_AUTH_REGISTRY_H
#define MLXR_SERVER_AUTH_REGISTRY_H

#include "registry/registry.h"
#include "server/auth.h"

typedef struct auth_registry auth_registry;

mlxr_status auth_registry_open(auth_registry **out, registry *r, mlxr_error *error);
void auth_registry_close(auth_registry **a);
auth_source auth_registry_source(auth_registry *a); /* a key that is revoked is refused a second later at most */

#endif
