/*
 * Sockets that launchd hands over: it is asked for them, once.
 * Owner: daemon_run. Lifetime: the process.
 */
#include "server/launchd.h"

#include <fcntl.h>
#include <launch.h>
#include <stddef.h>

#define SOCKETS_MAX 64u

unsigned launchd_sockets(int **fds)
{
    size_t n = 0;
    *fds = NULL;
    if (launch_activate_socket(LAUNCHD_SOCKETS, fds, &n) != 0) { /* ESRCH: somebody else has started it */
        *fds = NULL;
        return 0;
    }
    n = n > SOCKETS_MAX ? SOCKETS_MAX : n;
    for (size_t i = 0; i < n; i++) {
        fcntl((*fds)[i], F_SETFD, FD_CLOEXEC);
    }
    return (unsigned)n;
}
