/*
 * Sockets that launchd hands over.
 * Owner: daemon_run. Lifetime: the process.
 */
#ifndef MLXR_SERVER_LAUNCHD_H
#define MLXR_SERVER_LAUNCHD_H

/* The name of the group of sockets in packaging/launchd. */
#define LAUNCHD_SOCKETS "Listeners"

/* How many there are; *fds (NULL: none) is to be freed. None where launchd did not start this process. */
unsigned launchd_sockets(int **fds);

#endif
