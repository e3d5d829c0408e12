/*
 * Files of the store.
 * Owner: the caller closes what it opens. Lifetime: the call.
 */
#include "registry/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "registry/digest.h"
#include "registry/fail.h"
#include "registry/registry.h"

#define LEFTOVER_S 3600 /* a small file is written in milliseconds */

bool disk_join(char *out, size_t cap, const char *directory, const char *name)
{
    int n = snprintf(out, cap, "%s/%s", directory, name);
    return n >= 0 && (size_t)n < cap;
}

bool disk_parent(const char *path, char *out, size_t cap)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= cap) {
        return false;
    }
    snprintf(out, cap, "%.*s", (int)n, path);
    if (!n) {
        snprintf(out, cap, "%s", slash ? "/" : ".");
    }
    return true;
}

/* On macOS fsync leaves the bytes in the drive's cache. */
static int sync_fd(int fd)
{
#ifdef F_FULLFSYNC
    if (fcntl(fd, F_FULLFSYNC) == 0) {
        return 0;
    }
#endif
    return fsync(fd);
}

mlxr_status disk_sync_dir(const char *path, mlxr_error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return registry_fail_errno(error, errno, "cannot open", path);
    }
    int code = sync_fd(fd) == 0 ? 0 : errno;
    close(fd);
    return code ? registry_fail_errno(error, code, "cannot sync", path) : MLXR_OK;
}

mlxr_status disk_make_dir(const char *path, mlxr_error *error)
{
    char parent[REGISTRY_PATH_MAX];
    struct stat info;
    if (stat(path, &info) == 0) {
        return S_ISDIR(info.st_mode) ? MLXR_OK : registry_fail_errno(error, ENOTDIR, "cannot use", path);
    }
    if (errno != ENOENT || !disk_parent(path, parent, sizeof parent) || strcmp(parent, path) == 0) {
        return registry_fail_errno(error, errno, "cannot make", path);
    }
    mlxr_status status = disk_make_dir(parent, error); /* as deep as the path has parts, which PATH_MAX bounds */
    if (status == MLXR_OK && mkdir(path, 0700) != 0 && errno != EEXIST) {
        status = registry_fail_errno(error, errno, "cannot make", path);
    }
    return status == MLXR_OK ? disk_sync_dir(parent, error) : status;
}

mlxr_status disk_open(int *fd, const char *path, bool make, mlxr_error *error)
{
    *fd = open(path, (make ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW, 0600);
    return *fd >= 0 ? MLXR_OK : registry_fail_errno(error, errno, "cannot open", path);
}

mlxr_status disk_write(int fd, const void *data, size_t n, uint64_t offset, const char *path, mlxr_error *error)
{
    for (size_t done = 0; done < n;) {
        ssize_t written = pwrite(fd, (const char *)data + done, n - done, (off_t)(offset + done));
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return registry_fail_errno(error, written < 0 ? errno : ENOSPC, "cannot write", path);
        }
        done += (size_t)written;
    }
    return MLXR_OK;
}

mlxr_status disk_read(int fd, void *data, size_t n, uint64_t offset, const char *path, mlxr_error *error)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(fd, (char *)data + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return registry_fail_errno(error, errno, "cannot read", path);
        }
        if (got == 0) {
            return daemon_error(error, MLXR_IO, "%s ends after %llu bytes", path, (unsigned long long)(offset + done));
        }
        done += (size_t)got;
    }
    return MLXR_OK;
}

mlxr_status disk_set_size(int fd, uint64_t n_bytes, const char *path, mlxr_error *error)
{
    return ftruncate(fd, (off_t)n_bytes) == 0 ? MLXR_OK : registry_fail_errno(error, errno, "cannot resize", path);
}

mlxr_status disk_sync(int fd, const char *path, mlxr_error *error)
{
    return sync_fd(fd) == 0 ? MLXR_OK : registry_fail_errno(error, errno, "cannot sync", path);
}

mlxr_status disk_rename(const char *from, const char *to, mlxr_error *error)
{
    char parent[REGISTRY_PATH_MAX];
    if (!disk_parent(to, parent, sizeof parent)) {
        return registry_fail_errno(error, ENAMETOOLONG, "cannot rename to", to);
    }
    if (rename(from, to) != 0) {
        return registry_fail_errno(error, errno, "cannot rename to", to);
    }
    return disk_sync_dir(parent, error);
}

mlxr_status disk_sync_parent(const char *path, mlxr_error *error)
{
    char parent[REGISTRY_PATH_MAX];
    return disk_parent(path, parent, sizeof parent) ? disk_sync_dir(parent, error)
                                                    : registry_fail_errno(error, ENAMETOOLONG, "cannot sync", path);
}

mlxr_status disk_remove(const char *path, mlxr_error *error)
{
    return unlink(path) == 0 || errno == ENOENT ? MLXR_OK : registry_fail_errno(error, errno, "cannot remove", path);
}

mlxr_status disk_read_file(const char *path, size_t limit, char **data, size_t *n, mlxr_error *error)
{
    int fd;
    struct stat info;
    mlxr_status status = disk_open(&fd, path, false, error);
    if (status != MLXR_OK) {
        return status;
    }
    char *text = NULL;
    if (fstat(fd, &info) != 0) {
        status = registry_fail_errno(error, errno, "cannot read", path);
    } else if (!S_ISREG(info.st_mode) || info.st_size < 0 || (uint64_t)info.st_size > limit) {
        status = daemon_error(error, MLXR_LIMIT, "%s is no file of at most %zu bytes", path, limit);
    } else if (!(text = malloc((size_t)info.st_size + 1))) {
        status = registry_fail_nomem(error);
    } else {
        status = disk_read(fd, text, (size_t)info.st_size, 0, path, error);
    }
    close(fd);
    if (status != MLXR_OK) {
        free(text);
        return status;
    }
    text[info.st_size] = '\0';
    *data = text;
    *n = (size_t)info.st_size;
    return MLXR_OK;
}

/* "NAME.<process>-<number>.tmp", as open_beside makes them? */
static bool is_temporary(const char *file, const char *name)
{
    size_t n = strlen(name);
    if (strncmp(file, name, n) != 0 || file[n] != '.') {
        return false;
    }
    const char *process = file + n + 1, *number = process + strspn(process, "0123456789") + 1;
    const char *end = number[-1] == '-' ? number + strspn(number, "0123456789") : NULL;
    return end && number - process > 1 && end > number && strcmp(end, ".tmp") == 0;
}

/* What processes left beside `path` that died while they wrote it. By age: of a process elsewhere that shares the
 * folder, nothing here tells whether it lives. */
static void tidy_beside(const char *path)
{
    char parent[REGISTRY_PATH_MAX], left[REGISTRY_PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct stat info;
    DIR *folder = disk_parent(path, parent, sizeof parent) ? opendir(parent) : NULL;
    for (struct dirent *file; folder && (file = readdir(folder));) {
        if (is_temporary(file->d_name, name) && disk_join(left, sizeof left, parent, file->d_name) &&
            lstat(left, &info) == 0 && S_ISREG(info.st_mode) && info.st_mtime < time(NULL) - LEFTOVER_S) {
            unlink(left);
        }
    }
    if (folder) {
        closedir(folder);
    }
}

/* A new file beside `path`, of a name that nothing had: other threads and processes write the same one. */
static mlxr_status open_beside(const char *path, char temporary[REGISTRY_PATH_MAX], int *fd, mlxr_error *error)
{
    static atomic_uint counter;
    do {
        int n = snprintf(temporary, REGISTRY_PATH_MAX, "%s.%ld-%u.tmp", path, (long)getpid(),
                         atomic_fetch_add(&counter, 1u));
        if (n < 0 || n >= (int)REGISTRY_PATH_MAX) {
            return registry_fail_errno(error, ENAMETOOLONG, "cannot write", path);
        }
        *fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    } while (*fd < 0 && errno == EEXIST); /* left by an earlier process of this number */
    return *fd >= 0 ? MLXR_OK : registry_fail_errno(error, errno, "cannot open", temporary);
}

mlxr_status disk_write_file(const char *path, const void *data, size_t n, mlxr_error *error)
{
    char temporary[REGISTRY_PATH_MAX];
    int fd = -1;
    tidy_beside(path);
    mlxr_status status = open_beside(path, temporary, &fd, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = disk_write(fd, data, n, 0, temporary, error);
    status = status == MLXR_OK ? disk_sync(fd, temporary, error) : status;
    close(fd);
    status = status == MLXR_OK ? disk_rename(temporary, path, error) : status;
    if (status != MLXR_OK) {
        disk_remove(temporary, NULL);
    }
    return status;
}

bool disk_takes_files(const char *folder)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/.check-%ld", folder, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof path) {
        errno = ENAMETOOLONG;
        return false;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return false;
    }
    close(fd);
    unlink(path);
    return true;
}

bool disk_is_root(const char *folder)
{
    char real[PATH_MAX];
    return realpath(folder, real) && strcmp(real, "/") == 0;
}

uint64_t disk_free_bytes(const char *path)
{
    struct statvfs info;
    if (statvfs(path, &info) != 0 || info.f_frsize == 0 || info.f_blocks == 0) {
        return UINT64_MAX;
    }
    return (uint64_t)info.f_bavail > UINT64_MAX / info.f_frsize ? UINT64_MAX : (uint64_t)info.f_bavail * info.f_frsize;
}

mlxr_status disk_digest(const char *path, char *digest, uint64_t *n_bytes, mlxr_error *error)
{
    enum { PIECE = 1 << 20 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return registry_fail_errno(error, errno, "cannot open", path);
    }
    mlxr_status status = MLXR_OK;
    digest_state *state = digest_begin();
    char *piece = malloc(PIECE);
    uint64_t total = 0;
    if (!state || !piece) {
        status = registry_fail_nomem(error);
    }
    while (status == MLXR_OK) {
        ssize_t got = pread(fd, piece, PIECE, (off_t)total);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            status = registry_fail_errno(error, errno, "cannot read", path);
        }
        if (got <= 0) {
            break;
        }
        total += (uint64_t)got;
        if (!digest_add(state, piece, (size_t)got)) {
            status = registry_fail_nomem(error);
        }
    }
    if (!digest_end(&state, digest) && status == MLXR_OK) {
        status = registry_fail_nomem(error);
    }
    free(piece);
    close(fd);
    if (n_bytes) {
        *n_bytes = total;
    }
    return status;
}
