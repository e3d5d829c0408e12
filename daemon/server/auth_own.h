/*
 * A further key beside those of the registry: that of the process the daemon runs in.
 * Owner: the daemon. Lifetime: the daemon's.
 */
#ifndef MLXR_SERVER_AUTH_OWN_H
#define MLXR_SERVER_AUTH_OWN_H

#include "server/auth.h"

typedef struct auth_own {
    auth_source keys;
    const char *text; /* borrowed; NULL: there is none */
} auth_own;

/* `keys`, and the one of `own`, which may do everything. It counts only where there are keys at all. */
auth_source auth_own_source(auth_own *own);

#endif
