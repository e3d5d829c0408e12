/*
 * The operating system behind the KV store.
 * Owner: none. Lifetime: the call.
 */
#include "runtime/kv/store_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int write_all(int fd, const uint8_t *data, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, data, n);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? errno : EIO;
        }
        data += written;
        n -= (size_t)written;
    }
    return 0;
}

bool store_io_read_head(const char *path, void *out, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t done = 0;
    while (fd >= 0 && done < n) {
        ssize_t got = read(fd, (uint8_t *)out + done, n - done);
        if (got <= 0 && !(got < 0 && errno == EINTR)) {
            break;
        }
        done += got > 0 ? (size_t)got : 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    return done == n;
}

static int system_write_file(void *context, const char *path, const void *head, size_t n_head, const void *body,
                             size_t n_body)
{
    (void)context;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno;
    }
    int failed = write_all(fd, head, n_head);
    if (!failed) {
        failed = write_all(fd, body, n_body);
    }
    if (close(fd) != 0 && !failed) {
        failed = errno;
    }
    return failed;
}

/* fsync works on the file, whichever descriptor it is asked through. */
static int sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    int failed = fsync(fd) != 0 ? errno : 0;
    close(fd);
    return failed;
}

static int system_sync_file(void *context, const char *path)
{
    (void)context;
    return sync_path(path, O_RDONLY);
}

static int system_sync_dir(void *context, const char *dir)
{
    (void)context;
    return sync_path(dir, O_RDONLY | O_DIRECTORY);
}

static int system_rename(void *context, const char *from, const char *to)
{
    (void)context;
    return rename(from, to) != 0 ? errno : 0;
}

static int system_unlink(void *context, const char *path)
{
    (void)context;
    return unlink(path) != 0 ? errno : 0;
}

const kv_store_io store_io_system = {
    .write_file = system_write_file,
    .sync_file = system_sync_file,
    .rename = system_rename,
    .sync_dir = system_sync_dir,
    .unlink = system_unlink,
};
