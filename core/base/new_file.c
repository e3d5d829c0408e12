/*
 * Files that appear when they are whole: written without a name or under a hidden one, synced, renamed.
 * Owner: whoever opened it. Lifetime: new_file_open to new_file_commit or new_file_discard.
 */
#include "base/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mapping.h"

#define WRITE_MAX ((size_t)1 << 30) /* of one call; systems have their limits */

/* Whole large pages of a file: threads that write take turns to begin them. */
struct new_file_pages {
    pthread_mutex_t lock;
    uint64_t n;
    bool begun[];
};

/* NULL where the file has no whole one. */
static new_file_pages *pages_open(uint64_t n_bytes)
{
#if defined(__linux__)
    uint64_t n = n_bytes / MLXR_FILE_LARGE_PAGE;
#else
    uint64_t n = 0;
    (void)n_bytes;
#endif
    new_file_pages *p = n && n < SIZE_MAX / 2 ? calloc(1, sizeof *p + (size_t)n) : NULL;
    if (p) {
        pthread_mutex_init(&p->lock, NULL);
        p->n = n;
    }
    return p;
}

static void pages_close(new_file_pages *p)
{
    if (p) {
        pthread_mutex_destroy(&p->lock);
        free(p);
    }
}

/* Before bytes [at, at + n) are written: pages that only they have something of so far begin as large ones. A page that
 * they fill is one anyway. */
static void begin_pages(const new_file *f, uint64_t at, size_t n)
{
    new_file_pages *p = f->pages;
    if (!p || n == 0) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    for (uint64_t i = at / MLXR_FILE_LARGE_PAGE; i < p->n && i * MLXR_FILE_LARGE_PAGE < at + n; i++) {
        bool filled = i * MLXR_FILE_LARGE_PAGE >= at && (i + 1) * MLXR_FILE_LARGE_PAGE <= at + n;
        if (!p->begun[i] && !filled) {
            mlxr_file_begin_large_page(f->fd, i * MLXR_FILE_LARGE_PAGE);
        }
        p->begun[i] = true;
    }
    pthread_mutex_unlock(&p->lock);
}

static mlxr_status failed(const new_file *f, const char *what, int number, mlxr_error *error)
{
    return error_set(error, MLXR_IO, "%s: %s: %s", f->path, what, strerror(number));
}

/* The folder of a path, in malloc'd memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static char *hidden_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n_folder = (size_t)(name - path), cap = strlen(path) + 48;
    char *hidden = malloc(cap);
    if (hidden) {
        snprintf(hidden, cap, "%.*s.%s.%ld.new", (int)n_folder, path, name, (long)getpid());
    }
    return hidden;
}

mlxr_status new_file_room(const char *path, uint64_t n_bytes, mlxr_error *error)
{
    struct statvfs info;
    char *folder = folder_of(path);
    mlxr_status status = folder ? MLXR_OK : error_nomem(error, "a path", strlen(path));
    if (folder && statvfs(folder, &info) == 0) {
        uint64_t room = (uint64_t)info.f_bavail * info.f_frsize;
        if (room < n_bytes) {
            status = error_set(error, MLXR_IO, "%s: it will have %llu bytes, but there is room for %llu", path,
                               (unsigned long long)n_bytes, (unsigned long long)room);
        }
    }
    free(folder);
    return status;
}

/* A file without a name, which goes away with its process; -1 where the system or the file system has none. */
static int open_nameless(const char *folder)
{
#if defined(O_TMPFILE)
    return open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
#else
    (void)folder;
    return -1;
#endif
}

static mlxr_status create(new_file *f, const char *folder, mlxr_error *error)
{
    f->fd = open_nameless(folder);
    if (f->fd < 0) {
        f->fd = open(f->hidden, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        f->named = f->fd >= 0;
    }
    return f->fd >= 0 ? MLXR_OK : failed(f, "cannot be created", errno, error);
}

mlxr_status new_file_open(new_file *out, const char *path, uint64_t n_bytes, mlxr_error *error)
{
    new_file f = {.fd = -1, .path = strdup(path), .hidden = hidden_name(path)};
    char *folder = folder_of(path);
    mlxr_status status = MLXR_OK;
    if (!f.path || !f.hidden || !folder) {
        status = error_nomem(error, "a path", strlen(path) + 48);
    } else if (path_find(path) == PATH_FOLDER || path_find(path) == PATH_OTHER) {
        status = error_set(error, MLXR_IO, "%s: there is something else than a file", path);
    } else {
        status = new_file_room(path, n_bytes, error);
    }
    if (status == MLXR_OK) {
        status = create(&f, folder, error);
    }
    if (status == MLXR_OK && ftruncate(f.fd, (off_t)n_bytes) != 0) {
        status = failed(&f, "cannot be made long enough", errno, error);
    }
    free(folder);
    if (status == MLXR_OK) {
        f.pages = pages_open(n_bytes);
        *out = f;
    } else {
        new_file_discard(&f);
    }
    return status;
}

mlxr_status new_file_write(const new_file *file, uint64_t at, const void *bytes, size_t n, mlxr_error *error)
{
    const uint8_t *from = bytes;
    begin_pages(file, at, n);
    while (n > 0) {
        ssize_t put = pwrite(file->fd, from, n < WRITE_MAX ? n : WRITE_MAX, (off_t)at);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return failed(file, "cannot be written", put < 0 ? errno : EIO, error);
        }
        from += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return MLXR_OK;
}

/* Gives a nameless file this name, which nothing has. */
static int link_as(const new_file *f, const char *path)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", f->fd);
    return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

/* Gives a nameless file its hidden name. */
static int name_it(new_file *f)
{
    if (!f->named) {
        unlink(f->hidden); /* of a process that had our number and was killed */
        int number = link_as(f, f->hidden);
        if (number) {
            return number;
        }
        f->named = true;
    }
    return 0;
}

static int sync_folder(const char *path)
{
    char *folder = folder_of(path);
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, number = 0;
    if (fd >= 0) {
        number = file_sync(fd);
        close(fd);
    }
    free(folder);
    return number == EINVAL ? 0 : number; /* file systems that cannot do it need not */
}

static mlxr_status put_in_place(new_file *f, mlxr_error *error)
{
    int number = name_it(f);
    if (number == 0 && rename(f->hidden, f->path) != 0) {
        number = errno;
    }
    if (number) {
        return failed(f, "cannot be put in its place", number, error);
    }
    f->named = false;
    return MLXR_OK;
}

/* One of several, which may be absent meanwhile: a nameless file gets no other name than its own, so that whatever ends
 * the process leaves no hidden one. */
static mlxr_status put_alone(new_file *f, mlxr_error *error)
{
    if (f->named) {
        return put_in_place(f, error);
    }
    if (unlink(f->path) != 0 && errno != ENOENT) {
        return failed(f, "cannot be replaced", errno, error);
    }
    int number = link_as(f, f->path);
    return number ? failed(f, "cannot be put in its place", number, error) : MLXR_OK;
}

static mlxr_status settle(const new_file *f, mlxr_error *error)
{
    int number = sync_folder(f->path);
    return number ? failed(f, "its folder cannot be brought to the disk", number, error) : MLXR_OK;
}

static mlxr_status sync_all(new_file *files, size_t n, mlxr_error *error)
{
    for (size_t i = 0; i < n; i++) {
        int number = file_sync(files[i].fd);
        if (number) {
            return failed(&files[i], "cannot be brought to the disk", number, error);
        }
    }
    return MLXR_OK;
}

/* Looks, before anything old is touched, at what would stop a set half-way: a folder where a file goes, or a system
 * that gives nameless files no names (no /proc, a sandbox). The latter is asked for a name that is taken, and has to
 * object to that alone: a name of its own would be left behind by a process that is killed. Where there is no old
 * first, there is nothing to lose. */
static mlxr_status look_ahead(const new_file *files, size_t n, mlxr_error *error)
{
    const char *taken = files[0].path;
    bool is_old = access(taken, F_OK) == 0;
    for (size_t i = 0; i < n; i++) {
        path_kind found = path_find(files[i].path);
        if (found == PATH_FOLDER || found == PATH_OTHER) {
            return failed(&files[i], "cannot be replaced", found == PATH_FOLDER ? EISDIR : EEXIST, error);
        }
        int number = is_old && !files[i].named ? link_as(&files[i], taken) : EEXIST;
        if (number == 0) { /* the old one has just gone */
            unlink(taken);
            is_old = false;
        } else if (number != EEXIST) {
            return failed(&files[i], "cannot be given a name, and what was there is left as it was", number, error);
        }
    }
    return MLXR_OK;
}

/* What had the first's name goes, before others are put where its own may lie. */
static mlxr_status clear_way(const new_file *first, mlxr_error *error)
{
    if (unlink(first->path) != 0 && errno != ENOENT) {
        return failed(first, "cannot be replaced", errno, error);
    }
    return settle(first, error);
}

static mlxr_status place(new_file *files, size_t n, mlxr_error *error)
{
    size_t n_placed = 1;
    mlxr_status status = n > 1 ? look_ahead(files, n, error) : MLXR_OK;
    if (status == MLXR_OK && n > 1) {
        status = clear_way(files, error);
    }
    for (; status == MLXR_OK && n_placed < n; n_placed += status == MLXR_OK) {
        status = put_alone(&files[n_placed], error);
    }
    if (status == MLXR_OK && n > 1) {
        status = settle(files, error);
    }
    if (status == MLXR_OK) {
        status = n > 1 ? put_alone(files, error) : put_in_place(files, error);
    }
    while (status != MLXR_OK && n_placed > 1) {
        unlink(files[--n_placed].path);
    }
    return status == MLXR_OK ? settle(files, error) : status;
}

mlxr_status new_files_commit(new_file *files, size_t n, mlxr_error *error)
{
    mlxr_status status = sync_all(files, n, error);
    if (status == MLXR_OK) {
        status = place(files, n, error);
    }
    for (size_t i = 0; i < n; i++) {
        new_file_discard(&files[i]);
    }
    return status;
}

mlxr_status new_file_commit(new_file *file, mlxr_error *error)
{
    return new_files_commit(file, 1, error);
}

void new_file_discard(new_file *file)
{
    if (file->fd >= 0) {
        close(file->fd);
    }
    if (file->named) {
        unlink(file->hidden);
    }
    free(file->path);
    free(file->hidden);
    pages_close(file->pages);
    *file = (new_file){.fd = -1};
}
