/*
 * The operating system behind the KV store.
 * Owner: none. Lifetime: the call.
 */
#include "runtime/kv/store_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mapping.h"

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

#define LOCK_NAME "lock"

/* An empty file is locked (flock), and stays: the operating system lets go of it when the process dies, however that
 * happens. Opening it for writing also tells whether the directory can be written, and network file systems ask for it.
 */
static int system_claim(void *context, const char *dir, int *claim)
{
    (void)context;
    int unmade = mkdir(dir, 0700) != 0 ? errno : 0;
    int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return errno == ENOENT && unmade ? unmade : errno;
    }
    if (!unmade) { /* the name of a new directory is its parent's to keep */
        int parent = openat(folder, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent >= 0) {
            file_sync(parent);
            close(parent);
        }
    }
    int fd = openat(folder, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int failed = fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0 ? errno : 0;
    close(folder);
    if (failed) {
        if (fd >= 0) {
            close(fd);
        }
        return failed;
    }
    *claim = fd;
    return 0;
}

static int system_check_claim(void *context, const char *dir, int claim)
{
    (void)context;
    struct stat named, claimed;
    int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return errno;
    }
    int failed = fstatat(folder, LOCK_NAME, &named, AT_SYMLINK_NOFOLLOW) != 0 || fstat(claim, &claimed) != 0 ? errno
                                                                                                             : 0;
    close(folder);
    if (failed) {
        return failed;
    }
    return named.st_dev == claimed.st_dev && named.st_ino == claimed.st_ino ? 0 : ENOENT;
}

static void system_disclaim(void *context, int claim)
{
    (void)context;
    close(claim);
}

static int system_list(void *context, const char *dir, kv_store_seen *seen, void *seen_context)
{
    (void)context;
    DIR *listing = opendir(dir);
    if (!listing) {
        return errno;
    }
    for (struct dirent *d; (d = readdir(listing)) != NULL;) {
        struct stat info;
        if (fstatat(dirfd(listing), d->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode)) {
            seen(seen_context, d->d_name, (uint64_t)info.st_size, file_modified_ns(&info));
        }
    }
    closedir(listing);
    return 0;
}

/* Read, not mapped: a file that another process truncates must not fault. */
static int system_read_file(void *context, const char *path, void *out, size_t cap, size_t *n)
{
    (void)context;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW); /* a FIFO must not hang */
    if (fd < 0) {
        return errno;
    }
    int failed = fstat(fd, &info) != 0 ? errno : S_ISREG(info.st_mode) ? 0 : EINVAL;
    size_t done = 0;
    while (!failed && done < cap) {
        ssize_t got = read(fd, (uint8_t *)out + done, cap - done);
        if (got == 0) {
            break;
        }
        if (got > 0) {
            done += (size_t)got;
        } else if (errno != EINTR) {
            failed = errno;
        }
    }
    close(fd);
    *n = done;
    return failed;
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

/* What is synced is the file, whichever descriptor it is asked through. */
static int sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    int failed = file_sync(fd);
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
    .claim = system_claim,
    .check_claim = system_check_claim,
    .disclaim = system_disclaim,
    .list = system_list,
    .read_file = system_read_file,
    .write_file = system_write_file,
    .sync_file = system_sync_file,
    .rename = system_rename,
    .sync_dir = system_sync_dir,
    .unlink = system_unlink,
};
