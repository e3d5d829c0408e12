/*
 * A daemon for as long as a question or a chat lasts: the one that is there (but for somebody's own, which may end
 * before), or one in this process.
 * Owner: the verb `run`. Lifetime: own_daemon_start to own_daemon_stop.
 */
#ifndef MLXR_CLI_OWN_DAEMON_H
#define MLXR_CLI_OWN_DAEMON_H

#include "client.h"

typedef struct own_daemon own_daemon;

/* Finds a daemon, or starts one where the options and $MLXR_HOST say, or, if something else answers there, at a free
 * port; says which it is and where. *out stays NULL if one was there. Returns an exit code. */
int own_daemon_start(own_daemon **out, client **c, const options *o);
/* Ends it; answers that others are given have five seconds. NULL is ignored. */
void own_daemon_stop(own_daemon **d);

#endif
