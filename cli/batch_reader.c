/*
 * Reading lines.
 * Owner: the verb `batch`. Lifetime: batch_reader_open to batch_reader_close.
 */
#include "batch_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#define AHEAD_BYTES ((size_t)64 << 10)

void batch_reader_open(batch_reader *r, int fd)
{
    *r = (batch_reader){.fd = fd};
}

void batch_reader_close(batch_reader *r)
{
    if (r->fd > STDIN_FILENO) {
        close(r->fd);
    }
    free(r->line);
    free(r->ahead);
    *r = (batch_reader){.fd = -1};
}

/* Room for n bytes and a NUL. */
static bool grow(batch_reader *r, size_t n)
{
    size_t cap = r->cap ? r->cap : 4096;
    while (cap < n + 1) {
        cap *= 2;
    }
    char *grown = cap > r->cap ? realloc(r->line, cap) : r->line;
    if (!grown) {
        r->error = ENOMEM;
        return false;
    }
    r->line = grown;
    r->cap = cap;
    return true;
}

/* Moves what was read ahead into the line, up to its end. */
static void take_ahead(batch_reader *r)
{
    const char *from = r->ahead + r->at, *feed = r->n_ahead ? memchr(from, '\n', r->n_ahead) : NULL;
    size_t n = feed ? (size_t)(feed - from) : r->n_ahead, room = BATCH_LINE_MAX - r->n_line;
    size_t n_kept = n < room ? n : room;
    if (!grow(r, r->n_line + n_kept)) {
        return;
    }
    if (n_kept) {
        memcpy(r->line + r->n_line, from, n_kept);
    }
    r->n_line += n_kept;
    r->too_long = r->too_long || n > room;
    r->complete = feed != NULL;
    n += r->complete;
    r->at += n;
    r->n_ahead -= n;
    r->offset += n;
}

/* Is there something to read within that time? */
static bool is_readable(int fd, int timeout_ms)
{
    struct timeval time = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    fd_set ready;
    if (fd >= FD_SETSIZE) {
        return true; /* a read tells, and waits */
    }
    FD_ZERO(&ready);
    FD_SET(fd, &ready); /* not poll: some systems' does not know terminals */
    int n = select(fd + 1, &ready, NULL, NULL, timeout_ms < 0 ? NULL : &time);
    return n > 0 || (n < 0 && errno != EINTR);
}

/* False: nothing has come within that time, or a signal. */
static bool read_ahead(batch_reader *r, int timeout_ms)
{
    if (!is_readable(r->fd, timeout_ms)) {
        return false;
    }
    ssize_t n = read(r->fd, r->ahead, AHEAD_BYTES);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return false;
    }
    r->error = n < 0 ? errno : 0;
    r->at_end = n == 0;
    r->at = 0;
    r->n_ahead = n > 0 ? (size_t)n : 0;
    return true;
}

bool batch_reader_wait(batch_reader *r, int timeout_ms)
{
    if (r->given) {
        r->n_line = 0;
        r->given = r->complete = r->too_long = false;
    }
    if (!r->ahead && !(r->ahead = malloc(AHEAD_BYTES))) {
        r->error = ENOMEM;
    }
    while (!r->error && !r->at_end && !r->complete) {
        if (r->n_ahead == 0 && !read_ahead(r, timeout_ms)) {
            return false;
        }
        if (!r->error) {
            take_ahead(r);
        }
    }
    return true;
}

bool batch_reader_next(batch_reader *r, bool *failed)
{
    while (!batch_reader_wait(r, -1)) {
    }
    *failed = r->error != 0;
    if (r->error || (!r->complete && r->n_line == 0)) {
        errno = r->error;
        return false;
    }
    r->given = true;
    r->number++;
    if (r->number == 1 && r->n_line >= 3 && memcmp(r->line, "\xef\xbb\xbf", 3) == 0) {
        r->n_line -= 3;
        memmove(r->line, r->line + 3, r->n_line);
    }
    r->line[r->n_line] = '\0';
    return true;
}

bool batch_reader_blank(const batch_reader *r)
{
    return strspn(r->line, " \t\r") == r->n_line;
}
