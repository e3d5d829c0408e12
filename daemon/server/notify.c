/*
 * sd_notify and socket activation by hand.
 * Owner: daemon_run. Lifetime: the process.
 */
#include "server/notify.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKETS_MAX 64

bool notify_send(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof address.sun_path) {
        return false;
    }
    size_t n = strlen(path);
    memcpy(address.sun_path, path, n);
    if (path[0] == '@') { /* Linux's abstract names begin with a NUL */
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd < 0) {
        return false;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    const struct timeval most = {.tv_sec = 1}; /* a service manager that does not read holds nobody up for long */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    ssize_t sent = sendto(fd, state, strlen(state), 0, (struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
    return sent == (ssize_t)strlen(state);
}

/* A variable that is a whole number; 0: absent or not one. */
static uint64_t number(const char *name)
{
    const char *text = getenv(name);
    char *end;
    unsigned long long value = text ? strtoull(text, &end, 10) : 0;
    return text && *text >= '0' && *text <= '9' && !*end ? value : 0;
}

uint64_t notify_watchdog_us(void)
{
    uint64_t pid = number("WATCHDOG_PID");
    return pid && pid != (uint64_t)getpid() ? 0 : number("WATCHDOG_USEC");
}

unsigned notify_sockets(void)
{
    uint64_t n = number("LISTEN_PID") == (uint64_t)getpid() ? number("LISTEN_FDS") : 0;
    n = n > SOCKETS_MAX ? SOCKETS_MAX : n;
    for (int fd = NOTIFY_FIRST_FD; fd < NOTIFY_FIRST_FD + (int)n; fd++) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return (unsigned)n;
}
