/*
 * Characters from the terminal.
 * Owner: line_input. Lifetime: line_keys_open to line_keys_close.
 *
 * Handlers write to a pipe, for which is waited together with the terminal: so none is missed that runs just before the
 * wait, or in another thread. And no read waits, because Ctrl-C throws away what was there to read a moment ago.
 */
#include "line_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/select.h>
#include <unistd.h>

static int wake_pipe[2] = {-1, -1};

/* The terminal of stdin. O_NONBLOCK on stdin itself would be there for all who share it, such as the shell. */
static int open_terminal(void)
{
    const char *name = ttyname(STDIN_FILENO);
    int fd = name ? open(name, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC) : -1;
    if (fd >= FD_SETSIZE) {
        close(fd);
        fd = -1;
    }
    return fd >= 0 ? fd : STDIN_FILENO;
}

bool line_keys_open(line_keys *keys)
{
    *keys = (line_keys){.fd = open_terminal(), .held = -1};
    if (pipe(wake_pipe) != 0) {
        wake_pipe[0] = wake_pipe[1] = -1;
        return false;
    }
    bool usable = wake_pipe[0] < FD_SETSIZE;
    for (int i = 0; i < 2; i++) {
        usable = fcntl(wake_pipe[i], F_SETFL, O_NONBLOCK) == 0 && fcntl(wake_pipe[i], F_SETFD, FD_CLOEXEC) == 0 &&
                 usable;
    }
    return usable;
}

void line_keys_close(line_keys *keys)
{
    if (keys->fd != STDIN_FILENO) {
        close(keys->fd);
    }
    for (int i = 0; i < 2; i++) {
        int end = wake_pipe[i];
        wake_pipe[i] = -1;
        if (end >= 0) {
            close(end);
        }
    }
}

void line_keys_wake(void)
{
    int before = errno;
    if (wake_pipe[1] >= 0 && write(wake_pipe[1], "", 1) < 0) { /* it is full: the wait ends all the same */
    }
    errno = before;
}

void line_keys_drop(line_keys *keys)
{
    keys->held = -1;
    keys->partial = false;
    keys->state = (mbstate_t){0};
}

/* False, with errno: there need not be anything to read. */
static bool wait_for_key(const line_keys *keys)
{
    int highest = keys->fd > wake_pipe[0] ? keys->fd : wake_pipe[0];
    char told[16];
    fd_set ready;
    FD_ZERO(&ready);
    FD_SET(keys->fd, &ready);
    FD_SET(wake_pipe[0], &ready);
    if (select(highest + 1, &ready, NULL, NULL, NULL) < 0) { /* not poll: some systems' does not know terminals */
        return errno != EINTR;                               /* other errors are the read's, too */
    }
    while (FD_ISSET(wake_pipe[0], &ready) && read(wake_pipe[0], told, sizeof told) > 0) {
    }
    errno = EAGAIN;
    return FD_ISSET(keys->fd, &ready);
}

static int read_byte(line_keys *keys, char *byte)
{
    if (keys->held >= 0) {
        *byte = (char)keys->held;
        keys->held = -1;
        return 1;
    }
    return wait_for_key(keys) ? (int)read(keys->fd, byte, 1) : -1;
}

int line_keys_read(line_keys *keys, wchar_t *out)
{
    for (;;) {
        char byte;
        int n = read_byte(keys, &byte);
        if (n <= 0) {
            return n;
        }
        size_t length = mbrtowc(out, &byte, 1, &keys->state);
        if (length == (size_t)-2) {
            keys->partial = true;
            continue;
        }
        bool cut_short = length == (size_t)-1 && keys->partial;
        line_keys_drop(keys);
        if (length == (size_t)-1) {
            *out = L'\xfffd';
            keys->held = cut_short ? (unsigned char)byte : -1; /* it begins the next character */
        }
        return 1;
    }
}
