/*
 * Writing without ever being stuck for good, and rotating: path.(n−1) → path.n, …, path → path.1, a new path. Files of
 * these names that are no logs are left out.
 * Owner: the logger's writer thread. Lifetime: see log_file.h.
 */
#include "telemetry/log_file.h"

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

/* Does it begin as a line does, in any format: {"seq":…, <6>…, 19:04:45.123 …, or with the end of a torn one? */
static bool is_log(const char *head, size_t n)
{
    return n == 0 || head[0] == '\n' || (n >= 7 && memcmp(head, "{\"seq\":", 7) == 0) ||
           (n >= 3 && head[0] == '<' && head[2] == '>') || (n >= 6 && head[2] == ':' && head[5] == ':');
}

static bool is_foreign(const char *path)
{
    char head[16];
    struct stat status;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return errno != ENOENT;
    }
    bool regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    ssize_t n = regular ? read(fd, head, sizeof head) : -1;
    close(fd);
    return n < 0 || !is_log(head, (size_t)n);
}

/* At the beginning: later the process may be kept from reading there. */
static uint64_t find_foreign(const log_file *f)
{
    char path[PATH_MAX];
    uint64_t found = 0;
    for (uint32_t i = 1; f->path && f->regular && i <= f->rotate_count && i < 64; i++) {
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
    f->foreign = find_foreign(f);
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
static uint32_t number_below(const log_file *f, uint32_t i)
{
    do {
        i--;
    } while (i > 0 && i < 64 && f->foreign >> i & 1);
    return i;
}

/* Where a name cannot be changed the file grows on by as much again: better too large than lost. */
static void rotate(log_file *f)
{
    char from[PATH_MAX], to[PATH_MAX];
    uint32_t i = number_below(f, f->rotate_count + 1);
    bool ok = i > 0;
    errno = EEXIST; /* all names are somebody else's */
    while (i > 0 && ok) {
        uint32_t below = number_below(f, i);
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
