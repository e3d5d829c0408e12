/*
 * Failing, dying and recording file operations, by the linker's --wrap and a VFS for SQLite.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/fault_io.h"

#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

int __real_open(const char *path, int flags, ...);
ssize_t __real_pread(int fd, void *data, size_t n, off_t at);
ssize_t __real_pwrite(int fd, const void *data, size_t n, off_t at);
ssize_t __real_read(int fd, void *data, size_t n);
int __real_fsync(int fd);
int __real_ftruncate(int fd, off_t n);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __real_mkdir(const char *path, mode_t mode);
int __real_symlink(const char *target, const char *path);
int __wrap_open(const char *path, int flags, ...);
ssize_t __wrap_pread(int fd, void *data, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *data, size_t n, off_t at);
ssize_t __wrap_read(int fd, void *data, size_t n);
int __wrap_fsync(int fd);
int __wrap_ftruncate(int fd, off_t n);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_symlink(const char *target, const char *path);

/* ---- which operation fails --------------------------------------------------------------------------------------- */

static uint64_t n_seen, fail_number;
static fault_mode fail_mode;
static bool fired;

void fault_at(uint64_t n, fault_mode mode)
{
    n_seen = 0;
    fail_number = n;
    fail_mode = mode;
    fired = false;
}

bool fault_stop(void)
{
    fail_number = 0;
    return fired;
}

uint64_t fault_count(void)
{
    return n_seen;
}

/* Whether this operation fails; *half: it does half of its work first, if it can. Dies if it is to die and cannot. */
static bool must_fail(bool changes, bool can_half, bool *half)
{
    *half = false;
    if (++n_seen != fail_number) {
        return false;
    }
    fired = true;
    *half = can_half && (fail_mode == FAULT_SHORT || (fail_mode == FAULT_KILL && changes));
    if (fail_mode == FAULT_KILL && !*half) {
        raise(SIGKILL);
    }
    errno = changes && fail_mode == FAULT_ENOSPC ? ENOSPC : EIO;
    return true;
}

static void (*watcher)(void *user, const char *path);
static void *watcher_user;

void fault_watch(void (*path_used)(void *user, const char *path), void *user)
{
    watcher = path_used;
    watcher_user = user;
}

static void watch(const char *path)
{
    if (watcher) {
        watcher(watcher_user, path);
    }
}

/* ---- recording --------------------------------------------------------------------------------------------------- */

typedef enum record_kind { MADE, MADE_DIR, LINKED, WROTE, RESIZED, SYNCED, SYNCED_DIR, RENAMED, REMOVED } record_kind;

typedef struct record {
    record_kind kind;
    char *path, *to; /* relative to the root */
    void *data;
    size_t n;
    uint64_t at;
} record;

enum { FDS = 1024 };
static char *fd_paths[FDS];
static char record_root[512];
static bool recording;
static record *records;
static size_t n_records, cap_records;

/* The path below the root, or NULL. */
static const char *below(const char *path)
{
    size_t n = strlen(record_root);
    return recording && strncmp(path, record_root, n) == 0 && path[n] == '/' ? path + n + 1
           : recording && strcmp(path, record_root) == 0                     ? "."
                                                                             : NULL;
}

static void add_record(record_kind kind, const char *path, const char *to, const void *data, size_t n, uint64_t at)
{
    const char *name = path ? below(path) : NULL, *other = to && kind == RENAMED ? below(to) : to;
    if (!name || !recording) {
        return;
    }
    if (n_records == cap_records) {
        cap_records = cap_records ? cap_records * 2 : 256;
        records = realloc(records, cap_records * sizeof *records);
        assert_non_null(records);
    }
    record r = {.kind = kind, .path = strdup(name), .to = other ? strdup(other) : NULL, .n = n, .at = at};
    if (data) {
        r.data = malloc(n + 1);
        assert_non_null(r.data);
        memcpy(r.data, data, n);
    }
    records[n_records++] = r;
}

static const char *path_of(int fd)
{
    return fd >= 0 && fd < FDS ? fd_paths[fd] : NULL;
}

void fault_record_stop(void)
{
    recording = false;
}

void fault_record(const char *root)
{
    for (size_t i = 0; i < n_records; i++) {
        free(records[i].path);
        free(records[i].to);
        free(records[i].data);
    }
    n_records = 0;
    snprintf(record_root, sizeof record_root, "%s", root);
    recording = true;
}

uint64_t fault_record_count(void)
{
    return n_records;
}

/* ---- wrapped calls ----------------------------------------------------------------------------------------------- */

int __wrap_open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    struct stat info;
    bool fresh = (flags & O_CREAT) && stat(path, &info) != 0;
    watch(path);
    int fd = __real_open(path, flags, mode);
    if (fd >= 0 && fd < FDS && recording) {
        free(fd_paths[fd]);
        fd_paths[fd] = strdup(path);
    }
    if (fd >= 0 && fresh) {
        add_record(MADE, path, NULL, NULL, 0, 0);
    }
    return fd;
}

ssize_t __wrap_pread(int fd, void *data, size_t n, off_t at)
{
    bool half;
    if (must_fail(false, n > 1, &half)) {
        return half && fail_mode == FAULT_SHORT ? __real_pread(fd, data, n / 2, at) : -1;
    }
    return __real_pread(fd, data, n, at);
}

ssize_t __wrap_read(int fd, void *data, size_t n)
{
    bool half;
    if (must_fail(false, n > 1, &half)) {
        return half && fail_mode == FAULT_SHORT ? __real_read(fd, data, n / 2) : -1;
    }
    return __real_read(fd, data, n);
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t n, off_t at)
{
    bool half, failed = must_fail(true, n > 1, &half);
    if (failed && half) {
        ssize_t done = __real_pwrite(fd, data, n / 2, at);
        if (fail_mode == FAULT_KILL) {
            raise(SIGKILL);
        }
        return done;
    }
    ssize_t done = failed ? -1 : __real_pwrite(fd, data, n, at);
    if (done > 0) {
        add_record(WROTE, path_of(fd), NULL, data, (size_t)done, (uint64_t)at);
    }
    return done;
}

int __wrap_fsync(int fd)
{
    bool half;
    struct stat info;
    if (must_fail(true, false, &half)) {
        return -1;
    }
    if (recording && path_of(fd) && fstat(fd, &info) == 0) {
        add_record(S_ISDIR(info.st_mode) ? SYNCED_DIR : SYNCED, path_of(fd), NULL, NULL, 0, 0);
    }
    return recording ? 0 : __real_fsync(fd);
}

int __wrap_ftruncate(int fd, off_t n)
{
    bool half;
    int failed = must_fail(true, false, &half) ? -1 : __real_ftruncate(fd, n);
    if (!failed) {
        add_record(RESIZED, path_of(fd), NULL, NULL, 0, (uint64_t)n);
    }
    return failed;
}

int __wrap_rename(const char *from, const char *to)
{
    bool half;
    watch(from);
    watch(to);
    int failed = must_fail(true, false, &half) ? -1 : __real_rename(from, to);
    if (!failed) {
        add_record(RENAMED, from, to, NULL, 0, 0);
    }
    return failed;
}

int __wrap_unlink(const char *path)
{
    bool half;
    watch(path);
    int failed = must_fail(true, false, &half) ? -1 : __real_unlink(path);
    if (!failed) {
        add_record(REMOVED, path, NULL, NULL, 0, 0);
    }
    return failed;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    bool half;
    watch(path);
    int failed = must_fail(true, false, &half) ? -1 : __real_mkdir(path, mode);
    if (!failed) {
        add_record(MADE_DIR, path, NULL, NULL, 0, 0);
    }
    return failed;
}

int __wrap_symlink(const char *target, const char *path)
{
    bool half;
    watch(path);
    int failed = must_fail(true, false, &half) ? -1 : __real_symlink(target, path);
    if (!failed) {
        add_record(LINKED, path, target, NULL, 0, 0);
    }
    return failed;
}

/* ---- SQLite ------------------------------------------------------------------------------------------------------ */

typedef struct shim_file {
    sqlite3_file base;
    char path[512];
    bool fresh_journal; /* its first sync syncs the directory, too, as the system's VFS does */
    sqlite3_file *real; /* behind this struct */
} shim_file;

static sqlite3_vfs *system_vfs;
static sqlite3_vfs shim_vfs;
static sqlite3_io_methods shim_methods;

static shim_file *shim(sqlite3_file *file)
{
    return (shim_file *)file;
}

static int shim_close(sqlite3_file *file)
{
    return shim(file)->real->pMethods->xClose(shim(file)->real);
}

static int shim_read(sqlite3_file *file, void *data, int n, sqlite3_int64 at)
{
    bool half;
    if (must_fail(false, false, &half)) {
        return SQLITE_IOERR_READ;
    }
    return shim(file)->real->pMethods->xRead(shim(file)->real, data, n, at);
}

static int shim_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
    bool half;
    sqlite3_file *real = shim(file)->real;
    if (must_fail(true, n > 1, &half)) {
        if (half) {
            real->pMethods->xWrite(real, data, n / 2, at);
        }
        if (fail_mode == FAULT_KILL) {
            raise(SIGKILL);
        }
        return fail_mode == FAULT_ENOSPC || half ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    }
    int code = real->pMethods->xWrite(real, data, n, at);
    if (code == SQLITE_OK) {
        add_record(WROTE, shim(file)->path, NULL, data, (size_t)n, (uint64_t)at);
    }
    return code;
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 n)
{
    bool half;
    if (must_fail(true, false, &half)) {
        return SQLITE_IOERR_TRUNCATE;
    }
    int code = shim(file)->real->pMethods->xTruncate(shim(file)->real, n);
    if (code == SQLITE_OK) {
        add_record(RESIZED, shim(file)->path, NULL, NULL, 0, (uint64_t)n);
    }
    return code;
}

static void record_parent_sync(const char *path)
{
    char parent[512];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash) {
        *slash = '\0';
        add_record(SYNCED_DIR, parent, NULL, NULL, 0, 0);
    }
}

static int shim_sync(sqlite3_file *file, int flags)
{
    bool half;
    if (must_fail(true, false, &half)) {
        return SQLITE_IOERR_FSYNC;
    }
    add_record(SYNCED, shim(file)->path, NULL, NULL, 0, 0);
    if (shim(file)->fresh_journal) {
        record_parent_sync(shim(file)->path);
        shim(file)->fresh_journal = false;
    }
    return recording ? SQLITE_OK : shim(file)->real->pMethods->xSync(shim(file)->real, flags);
}

static int shim_size(sqlite3_file *file, sqlite3_int64 *n)
{
    return shim(file)->real->pMethods->xFileSize(shim(file)->real, n);
}

static int shim_lock(sqlite3_file *file, int lock)
{
    return shim(file)->real->pMethods->xLock(shim(file)->real, lock);
}

static int shim_unlock(sqlite3_file *file, int lock)
{
    return shim(file)->real->pMethods->xUnlock(shim(file)->real, lock);
}

static int shim_reserved(sqlite3_file *file, int *out)
{
    return shim(file)->real->pMethods->xCheckReservedLock(shim(file)->real, out);
}

static int shim_control(sqlite3_file *file, int operation, void *argument)
{
    return shim(file)->real->pMethods->xFileControl(shim(file)->real, operation, argument);
}

static int shim_sector(sqlite3_file *file)
{
    return shim(file)->real->pMethods->xSectorSize(shim(file)->real);
}

static int shim_device(sqlite3_file *file)
{
    return shim(file)->real->pMethods->xDeviceCharacteristics(shim(file)->real);
}

static int shim_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out_flags)
{
    (void)vfs;
    struct stat info;
    shim_file *f = shim(file);
    bool fresh = path && stat(path, &info) != 0;
    f->real = (sqlite3_file *)(f + 1);
    f->path[0] = '\0';
    if (path) {
        snprintf(f->path, sizeof f->path, "%s", path);
        watch(path);
    }
    f->fresh_journal = fresh && (flags & SQLITE_OPEN_MAIN_JOURNAL);
    int code = system_vfs->xOpen(system_vfs, path, f->real, flags, out_flags);
    if (f->real->pMethods) {
        f->base.pMethods = &shim_methods;
    }
    if (code == SQLITE_OK && fresh) {
        add_record(MADE, f->path, NULL, NULL, 0, 0);
    }
    return code;
}

static int shim_delete(sqlite3_vfs *vfs, const char *path, int sync_dir)
{
    bool half;
    (void)vfs;
    if (must_fail(true, false, &half)) {
        return SQLITE_IOERR_DELETE;
    }
    int code = system_vfs->xDelete(system_vfs, path, sync_dir);
    if (code == SQLITE_OK) {
        add_record(REMOVED, path, NULL, NULL, 0, 0);
        if (sync_dir) {
            record_parent_sync(path);
        }
    }
    return code;
}

/* ---- memory of libraries ----------------------------------------------------------------------------------------- */

static void *sql_malloc(int n)
{
    size_t *block = malloc((size_t)n + 16);
    if (!block) {
        return NULL;
    }
    *block = (size_t)n;
    return block + 2;
}

static void sql_free(void *memory)
{
    free(memory ? (size_t *)memory - 2 : NULL);
}

static void *sql_realloc(void *memory, int n)
{
    size_t *block = realloc((size_t *)memory - 2, (size_t)n + 16);
    if (!block) {
        return NULL;
    }
    *block = (size_t)n;
    return block + 2;
}

static int sql_size(void *memory)
{
    return memory ? (int)((size_t *)memory)[-2] : 0;
}

static int sql_round(int n)
{
    return (n + 7) & ~7;
}

static int sql_init(void *unused)
{
    (void)unused;
    return SQLITE_OK;
}

static void sql_shutdown(void *unused)
{
    (void)unused;
}

/* Of this file, so that --wrap sees them. */
static void *own_malloc(size_t n)
{
    return malloc(n);
}

static void *own_realloc(void *memory, size_t n)
{
    return realloc(memory, n);
}

static void *own_calloc(size_t count, size_t size)
{
    return calloc(count, size);
}

static char *own_strdup(const char *text)
{
    return strdup(text);
}

static void own_free(void *memory)
{
    free(memory);
}

void fault_set_up(void)
{
    static const sqlite3_mem_methods memory = {sql_malloc, sql_free, sql_realloc,  sql_size,
                                               sql_round,  sql_init, sql_shutdown, NULL};
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &memory), SQLITE_OK);
    assert_int_equal(sqlite3_initialize(), SQLITE_OK);
    system_vfs = sqlite3_vfs_find(NULL);
    shim_vfs = *system_vfs;
    shim_vfs.zName = "fault";
    shim_vfs.szOsFile = (int)sizeof(shim_file) + system_vfs->szOsFile;
    shim_vfs.xOpen = shim_open;
    shim_vfs.xDelete = shim_delete;
    shim_methods = (sqlite3_io_methods){.iVersion = 1,
                                        .xClose = shim_close,
                                        .xRead = shim_read,
                                        .xWrite = shim_write,
                                        .xTruncate = shim_truncate,
                                        .xSync = shim_sync,
                                        .xFileSize = shim_size,
                                        .xLock = shim_lock,
                                        .xUnlock = shim_unlock,
                                        .xCheckReservedLock = shim_reserved,
                                        .xFileControl = shim_control,
                                        .xSectorSize = shim_sector,
                                        .xDeviceCharacteristics = shim_device};
    assert_int_equal(sqlite3_vfs_register(&shim_vfs, 1), SQLITE_OK);
    assert_int_equal(
        curl_global_init_mem(CURL_GLOBAL_DEFAULT, own_malloc, own_free, own_realloc, own_strdup, own_calloc), CURLE_OK);
    json_set_alloc_funcs(own_malloc, own_free);
}

/* ---- trees ------------------------------------------------------------------------------------------------------- */

static void each_entry(const char *directory, void (*fn)(const char *path, const char *name, void *user), void *user)
{
    char path[1024];
    DIR *folder = opendir(directory);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
            fn(path, entry->d_name, user);
        }
    }
    if (folder) {
        closedir(folder);
    }
}

static void remove_entry(const char *path, const char *name, void *user)
{
    (void)name;
    (void)user;
    fault_remove_tree(path);
}

void fault_remove_tree(const char *path)
{
    struct stat info;
    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        each_entry(path, remove_entry, NULL);
        rmdir(path);
    } else {
        __real_unlink(path);
    }
}

static void copy_file(const char *from, const char *to)
{
    char piece[65536];
    int in = __real_open(from, O_RDONLY), out = __real_open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n; (n = __real_read(in, piece, sizeof piece)) > 0;) {
        assert_int_equal(write(out, piece, (size_t)n), n);
    }
    close(in);
    close(out);
}

static void copy_entry(const char *path, const char *name, void *user)
{
    char to[1024], target[512];
    struct stat info;
    snprintf(to, sizeof to, "%s/%s", (const char *)user, name);
    assert_int_equal(lstat(path, &info), 0);
    if (S_ISDIR(info.st_mode)) {
        fault_copy_tree(path, to);
    } else if (S_ISLNK(info.st_mode)) {
        ssize_t n = readlink(path, target, sizeof target - 1);
        assert_true(n > 0);
        target[n] = '\0';
        assert_int_equal(__real_symlink(target, to), 0);
    } else {
        copy_file(path, to);
    }
}

void fault_copy_tree(const char *from, const char *to)
{
    __real_mkdir(to, 0700);
    each_entry(from, copy_entry, (void *)to);
}

/* ---- what a loss of power leaves --------------------------------------------------------------------------------- */

enum { INODES = 512, PENDING = 256 };

typedef struct inode { /* a file's bytes: what is on the disk, and what is not yet */
    uint8_t *durable, *now;
    size_t n_durable, n_now;
    bool dirty, is_dir;
    char *target; /* of a link */
} inode;

typedef struct name_change {
    char *from, *to; /* to NULL: removed; from NULL: made */
    int file;
} name_change;

typedef struct name_table {
    char *names[INODES];
    int files[INODES];
    size_t n;
} name_table;

typedef struct replay {
    inode inodes[INODES];
    size_t n_inodes;
    name_table now, durable;
    name_change pending[PENDING];
    size_t n_pending;
} replay;

static int table_find(const name_table *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->names[i], name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static void table_remove(name_table *t, const char *name)
{
    int i = table_find(t, name);
    if (i >= 0) {
        free(t->names[i]);
        t->names[i] = t->names[t->n - 1];
        t->files[i] = t->files[t->n - 1];
        t->n--;
    }
}

static void table_set(name_table *t, const char *name, int file)
{
    table_remove(t, name);
    assert_true(t->n < INODES);
    t->names[t->n] = strdup(name);
    t->files[t->n++] = file;
}

static void apply_change(name_table *t, const name_change *c)
{
    if (c->from) {
        table_remove(t, c->from);
    }
    if (c->to) {
        table_set(t, c->to, c->file);
    }
}

static bool in_directory(const char *path, const char *directory)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    return n == 0 ? strcmp(directory, ".") == 0 : strlen(directory) == n && memcmp(path, directory, n) == 0;
}

static void change_name(replay *r, const char *from, const char *to, int file)
{
    assert_true(r->n_pending < PENDING);
    name_change c = {from ? strdup(from) : NULL, to ? strdup(to) : NULL, file};
    apply_change(&r->now, &c);
    r->pending[r->n_pending++] = c;
}

static void forget_change(name_change *c)
{
    free(c->from);
    free(c->to);
}

/* A directory was synced: the changes of its names are on the disk. */
static void sync_names(replay *r, const char *directory)
{
    size_t left = 0;
    for (size_t i = 0; i < r->n_pending; i++) {
        name_change *c = &r->pending[i];
        if (in_directory(c->to ? c->to : c->from, directory)) {
            apply_change(&r->durable, c);
            forget_change(c);
        } else {
            r->pending[left++] = *c;
        }
    }
    r->n_pending = left;
}

static int new_inode(replay *r)
{
    assert_true(r->n_inodes < INODES);
    return (int)r->n_inodes++;
}

static void resize(inode *f, size_t n)
{
    f->now = realloc(f->now, n + 1);
    assert_non_null(f->now);
    if (n > f->n_now) {
        memset(f->now + f->n_now, 0, n - f->n_now);
    }
    f->n_now = n;
    f->dirty = true;
}

static void play(replay *r, const record *op)
{
    int at = table_find(&r->now, op->path), file = at >= 0 ? r->now.files[at] : -1;
    inode *f = file >= 0 ? &r->inodes[file] : NULL;
    switch (op->kind) {
    case MADE:
    case MADE_DIR:
    case LINKED:
        file = new_inode(r);
        r->inodes[file].is_dir = op->kind == MADE_DIR;
        r->inodes[file].target = op->kind == LINKED ? strdup(op->to) : NULL;
        change_name(r, NULL, op->path, file);
        break;
    case WROTE:
        assert_non_null(f);
        if (op->at + op->n > f->n_now) {
            resize(f, op->at + op->n);
        }
        memcpy(f->now + op->at, op->data, op->n);
        f->dirty = true;
        break;
    case RESIZED:
        assert_non_null(f);
        resize(f, op->at);
        break;
    case SYNCED:
        assert_non_null(f);
        free(f->durable);
        f->durable = malloc(f->n_now + 1);
        assert_non_null(f->durable);
        if (f->n_now) {
            memcpy(f->durable, f->now, f->n_now);
        }
        f->n_durable = f->n_now;
        f->dirty = false;
        break;
    case SYNCED_DIR:
        sync_names(r, op->path);
        break;
    case RENAMED:
        assert_true(file >= 0);
        change_name(r, op->path, op->to, file);
        break;
    case REMOVED:
        if (file >= 0) {
            change_name(r, op->path, NULL, file);
        }
        break;
    }
}

typedef struct loading {
    replay *r;
    const char *prefix;
} loading;

static void load_entry(const char *path, const char *name, void *user)
{
    loading *l = user;
    struct stat info;
    char whole[512], target[512];
    snprintf(whole, sizeof whole, "%s%s%s", l->prefix, *l->prefix ? "/" : "", name);
    int file = new_inode(l->r);
    inode *f = &l->r->inodes[file];
    assert_int_equal(lstat(path, &info), 0);
    table_set(&l->r->now, whole, file);
    table_set(&l->r->durable, whole, file);
    if (S_ISDIR(info.st_mode)) {
        f->is_dir = true;
        each_entry(path, load_entry, &(loading){l->r, whole});
    } else if (S_ISLNK(info.st_mode)) {
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        f->target = strdup(target);
    } else {
        resize(f, (size_t)info.st_size);
        int in = __real_open(path, O_RDONLY);
        assert_int_equal(__real_read(in, f->now, f->n_now), (ssize_t)f->n_now);
        close(in);
        f->durable = malloc(f->n_now + 1);
        memcpy(f->durable, f->now, f->n_now);
        f->n_durable = f->n_now;
        f->dirty = false;
    }
}

/* What of a file's unsynced bytes made it. */
static void tear(inode *f, uint64_t *seed)
{
    size_t cut = f->n_now ? test_random(seed) % (f->n_now + 1) : 0;
    switch (test_random(seed) % 5) {
    case 0: /* all */
        break;
    case 1: /* nothing */
        f->n_now = f->n_durable;
        f->now = realloc(f->now, f->n_now + 1);
        if (f->n_now) {
            memcpy(f->now, f->durable, f->n_now);
        }
        break;
    case 2: /* the beginning of what is new, the end of what was */
        for (size_t i = cut; i < f->n_now; i++) {
            f->now[i] = i < f->n_durable ? f->durable[i] : 0;
        }
        break;
    case 3: /* some sectors, in any order */
        for (size_t i = 0; i < f->n_now; i += 512) {
            if (test_random(seed) % 2) {
                for (size_t k = i; k < i + 512 && k < f->n_now; k++) {
                    f->now[k] = k < f->n_durable ? f->durable[k] : 0;
                }
            }
        }
        break;
    default: /* it was cut */
        f->n_now = cut > f->n_durable ? cut : f->n_durable < f->n_now ? f->n_durable : f->n_now;
        break;
    }
}

static void write_out(const replay *r, const char *to)
{
    char path[1024];
    for (int pass = 0; pass < 2; pass++) { /* directories first; their names sort behind their parents' by length */
        for (size_t length = 1; length < 300; length++) {
            for (size_t i = 0; i < r->durable.n; i++) {
                const inode *f = &r->inodes[r->durable.files[i]];
                if (strlen(r->durable.names[i]) != length || f->is_dir != (pass == 0)) {
                    continue;
                }
                snprintf(path, sizeof path, "%s/%s", to, r->durable.names[i]);
                if (f->is_dir) {
                    __real_mkdir(path, 0700);
                } else if (f->target) {
                    assert_true(__real_symlink(f->target, path) == 0 || errno == ENOENT);
                } else {
                    int out = __real_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
                    if (out >= 0) { /* its directory may not be there */
                        assert_int_equal(write(out, f->now, f->n_now), (ssize_t)f->n_now);
                        close(out);
                    }
                }
            }
        }
    }
}

void fault_replay(const char *from, const char *to, uint64_t n, uint64_t seed)
{
    replay *r = calloc(1, sizeof *r);
    assert_non_null(r);
    each_entry(from, load_entry, &(loading){r, ""});
    for (uint64_t i = 0; i < n && i < n_records; i++) {
        play(r, &records[i]);
    }
    for (size_t i = 0; i < r->n_pending;
         i++) { /* of the changes of names that were not synced, any may have happened */
        if (test_random(&seed) % 2) {
            apply_change(&r->durable, &r->pending[i]);
        }
        forget_change(&r->pending[i]);
    }
    for (size_t i = 0; i < r->n_inodes; i++) {
        if (r->inodes[i].dirty && !r->inodes[i].is_dir && !r->inodes[i].target) {
            tear(&r->inodes[i], &seed);
        }
    }
    write_out(r, to);
    for (size_t i = 0; i < r->n_inodes; i++) {
        free(r->inodes[i].now);
        free(r->inodes[i].durable);
        free(r->inodes[i].target);
    }
    for (size_t i = 0; i < r->now.n; i++) {
        free(r->now.names[i]);
    }
    for (size_t i = 0; i < r->durable.n; i++) {
        free(r->durable.names[i]);
    }
    free(r);
}
