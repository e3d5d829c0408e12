/*
 * Writing without ever being stuck for good, and rotating: path.(n−1) → path.n, …, path → path.1, a new path. Files of
 * these names that are no logs are left out.
 * Owner: the logger's writer thread. Lifetime: see log_file.h.
 */
#include "telemetry/log_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "telemetry/daemon_error.h"
#include "telemetry/text_buffer.h"

#define POLL_MS 100

static int open_path(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
}

static void look_at(log_file *f)
{
    struct stat status;
    bool known = fstat(f->fd, &status) == 0;
    f->regular = known && S_ISREG(status.st_mode);
    f->n_bytes = f->regular ? (uint64_t)status.st_size : 0;
}

/* Is it of the form, in which 0 is any digit? */
static bool begins_as(const char *head, size_t n, const char *form)
{
    size_t i = 0;
    while (form[i] && i < n && (form[i] == '0' ? isdigit((unsigned char)head[i]) != 0 : head[i] == form[i])) {
        i++;
    }
    return form[i] == '\0';
}

/* Does it begin as a line does, in any format, or with the end of a torn one? */
static bool is_log(const char *head, size_t n)
{
    return n == 0 || head[0] == '\n' || begins_as(head, n, "{\"seq\":0") || begins_as(head, n, "<0>") ||
           begins_as(head, n, "00:00:00.000 ");
}

/* What cannot be read is taken for a log where it is this user's, as logs are: else one file without rights, or a
 * process without descriptors, would make the log grow for ever. */
static bool is_foreign(const char *path)
{
    char head[16];
    struct stat status;
    if (lstat(path, &status) != 0) {
        return errno != ENOENT;
    }
    if (!S_ISREG(status.st_mode)) {
        return true;
    }
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
    ssize_t n = fd >= 0 ? read(fd, head, sizeof head) : -1;
    if (fd >= 0) {
        close(fd);
    }
    return n < 0 ? status.st_uid != geteuid() : !is_log(head, (size_t)n);
}

/* Bit i: path.i is there and is no log; it stays where it is. */
static uint64_t find_foreign(const log_file *f)
{
    char path[PATH_MAX];
    uint64_t found = 0;
    for (uint32_t i = 1; i <= f->rotate_count && i < 64; i++) {
        int n = snprintf(path, sizeof path, "%s.%u", f->path, i);
        found |= (uint64_t)(n > 0 && (size_t)n < sizeof path && is_foreign(path)) << i;
    }
    return found;
}

mlxr_status log_file_open(log_file *f, const char *path, int fd, uint64_t rotate_bytes, uint32_t rotate_count,
                          mlxr_error *error)
{
    *f = (log_file){.fd = fd, .rotate_bytes = rotate_bytes, .rotate_count = rotate_count};
    if (path) {
        f->path = strdup(path);
        if (!f->path) {
            return daemon_error(error, MLXR_NOMEM, "no memory for the name of the log file");
        }
        f->fd = open_path(path);
        if (f->fd < 0) {
            daemon_error(error, MLXR_IO, "log file %s: %s", path, strerror(errno));
            free(f->path);
            f->path = NULL;
            return MLXR_IO;
        }
    }
    look_at(f);
    return MLXR_OK;
}

void log_file_close(log_file *f)
{
    if (f->path) {
        close(f->fd);
        free(f->path);
    }
    *f = (log_file){.fd = -1};
}

void log_file_reopen(log_file *f)
{
    int fd = f->path ? open_path(f->path) : -1;
    if (fd >= 0) {
        close(f->fd);
        f->fd = fd;
        look_at(f);
    } else if (f->path) {
        f->problem = errno;
    }
}

/* The next lower number of an old file, or 0: the path itself. */
static uint32_t number_below(uint64_t foreign, uint32_t i)
{
    do {
        i--;
    } while (i > 0 && i < 64 && foreign >> i & 1);
    return i;
}

/* Where a name cannot be changed the file grows on by as much again: better too large than lost. */
static void rotate(log_file *f)
{
    char from[PATH_MAX], to[PATH_MAX];
    uint64_t foreign = find_foreign(f); /* now: what came since the last time is not written over either */
    uint32_t i = number_below(foreign, f->rotate_count + 1);
    bool ok = i > 0;
    errno = EEXIST; /* all names are somebody else's */
    while (i > 0 && ok) {
        uint32_t below = number_below(foreign, i);
        int n = snprintf(to, sizeof to, "%s.%u", f->path, i);
        snprintf(from, sizeof from, below ? "%s.%u" : "%s", f->path, below);
        ok = n > 0 && (size_t)n < sizeof to && (rename(from, to) == 0 || (errno == ENOENT && below));
        i = below;
    }
    if (ok) {
        log_file_reopen(f);
        f->n_rotations++;
    } else {
        f->problem = errno;
    }
    f->n_bytes = ok ? f->n_bytes : 0;
}

/* A pipe or terminal that has no room is waited for in short turns. */
static bool has_room(const log_file *f, const atomic_bool *give_up)
{
    struct pollfd p = {.fd = f->fd, .events = POLLOUT};
    while (!f->regular && poll(&p, 1, POLL_MS) <= 0) {
        if (atomic_load_explicit(give_up, memory_order_relaxed)) {
            return false;
        }
    }
    return true;
}

/* Writes as much as it can; returns how much that was. */
static size_t write_some(log_file *f, const char *lines, size_t n, const atomic_bool *give_up)
{
    size_t done = 0;
    while (done < n && has_room(f, give_up)) {
        size_t piece = n - done;
        piece = !f->regular && piece > PIPE_BUF ? PIPE_BUF : piece; /* so many a pipe takes that has any room */
        ssize_t written = write(f->fd, lines + done, piece);
        if (written < 0 && errno != EINTR && errno != EAGAIN) {
            f->problem = errno;
            break;
        }
        done += written > 0 ? (size_t)written : 0;
    }
    f->n_bytes += done;
    return done;
}

bool log_file_write(log_file *f, const char *lines, size_t n, const atomic_bool *give_up)
{
    if (f->path && f->regular && f->n_bytes > 0 && f->n_bytes + n > f->rotate_bytes) {
        rotate(f);
    }
    if (f->torn && write_some(f, "\n", 1, give_up) != 1) {
        return false;
    }
    size_t done = write_some(f, lines, n, give_up);
    f->torn = done > 0 && lines[done - 1] != '\n';
    return done == n;
}
