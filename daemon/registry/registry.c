/*
 * Opening and closing a registry, its locks, and the small lists its files share.
 * Owner: the caller. Lifetime: registry_open to registry_close.
 */
#include "registry/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "registry/digest.h"
#include "registry/disk.h"
#include "registry/inside.h"
#include <registry/schema.inc> /* made from schema.sql */

static const db_schema schema = {registry_schema, "the registry's"};

bool registry_directory(char *out, size_t cap)
{
    const char *own = getenv("MLXR_MODELS"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n = -1;
    if (own && *own) {
        n = snprintf(out, cap, "%s", own);
    } else if (data && *data == '/') { /* the XDG specification: relative paths are to be ignored */
        n = snprintf(out, cap, "%s/mlxr/models", data);
    } else if (home && *home) {
        n = snprintf(out, cap, "%s/.local/share/mlxr/models", home);
    }
    return n >= 0 && (size_t)n < cap;
}

void registry_mark(const char *directory, char *out)
{
    char own[REGISTRY_PATH_MAX], text[64];
    uint8_t sum[32];
    struct stat info;
    *out = '\0';
    if (!directory && registry_directory(own, sizeof own)) {
        directory = own;
    }
    if (directory && stat(directory, &info) == 0) {
        int n = snprintf(text, sizeof text, "%llu:%llu", (unsigned long long)info.st_dev,
                         (unsigned long long)info.st_ino);
        if (digest_raw(text, (size_t)n, sum)) {
            digest_hex(sum, (REGISTRY_MARK_MAX - 1) / 2, out);
        }
    }
}

static mlxr_status set_paths(registry *r, const char *directory, mlxr_error *error)
{
    if (directory ? snprintf(r->directory, sizeof r->directory, "%s", directory) >= (int)sizeof r->directory
                  : !registry_directory(r->directory, sizeof r->directory)) {
        return daemon_error(error, MLXR_ARG,
                            directory ? "the path of the model directory is too long"
                                      : "there is no model directory: set MLXR_MODELS or HOME");
    }
    if (!disk_join(r->store, sizeof r->store - 128, r->directory, ".mlxr")) {
        return daemon_error(error, MLXR_ARG, "the path of the model directory is too long");
    }
    return MLXR_OK;
}

static mlxr_status make_store(registry *r, mlxr_error *error)
{
    static const char *const folders[] = {"blobs", "partial", "sets"};
    char path[REGISTRY_PATH_MAX];
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < 3 && status == MLXR_OK; i++) {
        disk_join(path, sizeof path, r->store, folders[i]);
        status = disk_make_dir(path, error);
    }
    if (status == MLXR_OK) {
        disk_join(path, sizeof path, r->store, "lock");
        status = disk_open(&r->lock_fd, path, true, error);
    }
    return status;
}

/* Nobody lets this process write there, or nothing can be written there at all: no passing trouble of a disk. */
static bool is_closed(const registry *r)
{
    char path[REGISTRY_PATH_MAX], parent[REGISTRY_PATH_MAX];
    snprintf(path, sizeof path, "%s", r->store);
    while (access(path, F_OK) != 0 && errno == ENOENT && disk_parent(path, parent, sizeof parent) &&
           strcmp(parent, path) != 0) {
        memcpy(path, parent, sizeof path);
    }
    return access(path, W_OK) != 0 && (errno == EACCES || errno == EROFS || errno == EPERM);
}

static mlxr_status make_or_read(registry *r, mlxr_error *error)
{
    mlxr_error why;
    mlxr_status status = make_store(r, &why);
    if (status != MLXR_OK && r->options.or_read_only && is_closed(r)) {
        r->options.read_only = true;
        snprintf(r->closed, sizeof r->closed, "%.255s", why.text);
        return MLXR_OK;
    }
    if (status != MLXR_OK && is_closed(r)) {
        return daemon_error(
            error, status,
            "the models in %.160s cannot be changed: %.200s; let this user write there, or name another "
            "folder for models with MLXR_MODELS",
            r->directory, why.text);
    }
    return status == MLXR_OK ? status : daemon_error(error, status, "%s", why.text);
}

/* Without a store, a registry that only reads has an empty database. */
static mlxr_status open_database(registry *r, mlxr_error *error)
{
    char path[REGISTRY_PATH_MAX];
    struct stat info;
    disk_join(path, sizeof path, r->store, "registry.db");
    if (r->options.read_only && stat(path, &info) != 0) {
        if (*r->closed && errno != ENOENT) { /* there may be keys in it: nobody is to do without */
            return registry_fail_errno(error, errno, "cannot read", path);
        }
        return db_open(&r->db, ":memory:", false, &schema, error);
    }
    if (r->options.read_only) {
        return db_open(&r->db, path, true, &schema, error);
    }
    mlxr_status status = inside_lock_file(r, error); /* one migrates, others wait */
    if (status == MLXR_OK) {
        status = db_open(&r->db, path, false, &schema, error);
        status = status == MLXR_OK ? disk_sync_dir(r->store, error) : status;
        status = status == MLXR_OK ? blob_tidy(r, error) : status;
        inside_unlock_file(r);
    }
    return status;
}

mlxr_status registry_open(registry **out, const char *directory, const registry_options *options, mlxr_error *error)
{
    registry *r = calloc(1, sizeof *r);
    if (!r) {
        return registry_fail_nomem(error);
    }
    pthread_mutex_init(&r->changing, NULL);
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->usage_lock, NULL);
    r->lock_fd = -1;
    r->options = options ? *options : (registry_options){0};
    mlxr_status status = set_paths(r, directory, error);
    if (status == MLXR_OK && !r->options.read_only) {
        status = make_or_read(r, error);
    }
    if (status == MLXR_OK) {
        status = open_database(r, error);
    }
    if (status != MLXR_OK) {
        registry_close(&r);
        return status;
    }
    *out = r;
    return MLXR_OK;
}

const char *registry_closed(const registry *r)
{
    return r->closed;
}

static void close_described(registry *r)
{
    for (size_t i = 0; i < r->n_described; i++) {
        free(r->described[i].path);
        free(r->described[i].family);
        free(r->described[i].quant);
        free(r->described[i].unusable);
    }
    free(r->described);
}

void registry_close(registry **pointer)
{
    registry *r = *pointer;
    if (!r) {
        return;
    }
    if (r->db) {
        registry_usage_flush(r, true, NULL);
    }
    for (size_t i = 0; i < r->n_usage; i++) {
        free(r->usage[i].key);
        free(r->usage[i].model);
    }
    free(r->usage);
    close_described(r);
    found_close(&r->given);
    sqlite3_close(r->db);
    if (r->lock_fd >= 0) {
        close(r->lock_fd);
    }
    pthread_mutex_destroy(&r->usage_lock);
    pthread_mutex_destroy(&r->lock);
    pthread_mutex_destroy(&r->changing);
    free(r);
    *pointer = NULL;
}

/* ---- taking turns ------------------------------------------------------------------------------------------------ */

void inside_lock(registry *r)
{
    pthread_mutex_lock(&r->lock);
}

void inside_unlock(registry *r)
{
    pthread_mutex_unlock(&r->lock);
}

bool registry_is_busy(registry *r)
{
    bool busy = pthread_mutex_trylock(&r->lock) != 0;
    if (!busy) {
        pthread_mutex_unlock(&r->lock);
    }
    return busy;
}

mlxr_status inside_fail_read_only(const registry *r, mlxr_error *error)
{
    return *r->closed ? daemon_error(error, MLXR_UNSUPPORTED, "nothing can be changed here: %s", r->closed)
                      : daemon_error(error, MLXR_UNSUPPORTED, "the registry was opened for reading only");
}

static mlxr_status lock_file(registry *r, uint32_t timeout_ms, mlxr_error *error)
{
    if (r->lock_fd < 0) {
        return inside_fail_read_only(r, error);
    }
    for (uint32_t waited_ms = 0;; waited_ms += 5) {
        if (flock(r->lock_fd, LOCK_EX | LOCK_NB) == 0) {
            return MLXR_OK;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return registry_fail_errno(error, errno, "cannot lock", r->store);
        }
        if (waited_ms >= timeout_ms) {
            return daemon_error(error, MLXR_IO, "another process has been changing %s for %u ms; try again", r->store,
                                (unsigned)timeout_ms);
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

mlxr_status inside_lock_file(registry *r, mlxr_error *error)
{
    return lock_file(r, r->options.lock_timeout_ms ? r->options.lock_timeout_ms : 10000, error);
}

void inside_unlock_file(registry *r)
{
    flock(r->lock_fd, LOCK_UN);
}

/* With `changing` taken. Readers do not wait for another process: only then is the connection taken. */
static mlxr_status begin(registry *r, bool wait, mlxr_error *error)
{
    mlxr_status status = wait ? inside_lock_file(r, error) : lock_file(r, 0, error);
    if (status != MLXR_OK) {
        pthread_mutex_unlock(&r->changing);
        return status;
    }
    inside_lock(r);
    status = db_run(r->db, error, "BEGIN IMMEDIATE", "");
    if (status != MLXR_OK) {
        inside_release(r);
    }
    return status;
}

mlxr_status inside_begin(registry *r, mlxr_error *error)
{
    pthread_mutex_lock(&r->changing);
    return begin(r, true, error);
}

mlxr_status inside_begin_at_once(registry *r, mlxr_error *error)
{
    if (pthread_mutex_trylock(&r->changing) != 0) {
        return daemon_error(error, MLXR_IO, "another thread is changing %s", r->store);
    }
    return begin(r, false, error);
}

mlxr_status inside_commit(registry *r, mlxr_status status, mlxr_error *error)
{
    if (status == MLXR_OK) {
        status = db_run(r->db, error, "COMMIT", "");
    }
    if (!sqlite3_get_autocommit(r->db)) {
        sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL); /* the reason is told already */
    }
    return status;
}

void inside_release(registry *r)
{
    inside_unlock(r);
    inside_unlock_file(r);
    pthread_mutex_unlock(&r->changing);
}

mlxr_status inside_end(registry *r, mlxr_status status, mlxr_error *error)
{
    status = inside_commit(r, status, error);
    inside_release(r);
    return status;
}

int64_t inside_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- names and lists --------------------------------------------------------------------------------------------- */

/* One part between slashes: begins with a letter or digit, and cannot be taken for "." or "..". */
static bool part_valid(const char *part, size_t n, bool colon)
{
    size_t n_colons = 0;
    if (n == 0 || n > 128 || !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", part[0])) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = part[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == ':' && colon && n_colons++ == 0 && i + 1 < n) {
            continue;
        }
        if (!plain && c != '.' && c != '_' && c != '-' && c != '+') {
            return false;
        }
    }
    return !strstr(part, "..") || strstr(part, "..") >= part + n;
}

bool registry_name_valid(const char *name)
{
    size_t n = strlen(name), n_parts = 0;
    if (n == 0 || n > REGISTRY_NAME_MAX || strncmp(name, "sha256:", 7) == 0) {
        return false;
    }
    for (const char *at = name;; n_parts++) {
        size_t length = strcspn(at, "/");
        bool last = at[length] == '\0';
        if (n_parts == 4 || !part_valid(at, length, last || n_parts == 0)) { /* a host may have a port */
            return false;
        }
        if (last) {
            return true;
        }
        at += length + 1;
    }
}

bool name_canonical(const char *text, char *out)
{
    static const char latest[] = ":latest";
    if (!registry_name_valid(text)) {
        return false;
    }
    size_t n = strlen(text);
    if (n > sizeof latest - 1 && strcmp(text + n - (sizeof latest - 1), latest) == 0) {
        n -= sizeof latest - 1;
    }
    memcpy(out, text, n);
    out[n] = '\0';
    return true;
}

bool registry_pairs_add(registry_pairs *pairs, const char *name, const char *value)
{
    if (pairs->n == pairs->cap) {
        size_t cap = pairs->cap ? pairs->cap * 2 : 8;
        registry_pair *grown = realloc(pairs->items, cap * sizeof *grown);
        if (!grown) {
            return false;
        }
        pairs->items = grown;
        pairs->cap = cap;
    }
    registry_pair pair = {.name = strdup(name), .value = strdup(value)};
    if (!pair.name || !pair.value) {
        free(pair.name);
        free(pair.value);
        return false;
    }
    pairs->items[pairs->n++] = pair;
    return true;
}

bool pairs_copy(registry_pairs *to, const registry_pairs *from)
{
    for (size_t i = 0; from && i < from->n; i++) {
        if (!registry_pairs_add(to, from->items[i].name, from->items[i].value)) {
            return false;
        }
    }
    return true;
}

void registry_pairs_close(registry_pairs *pairs)
{
    for (size_t i = 0; i < pairs->n; i++) {
        free(pairs->items[i].name);
        free(pairs->items[i].value);
    }
    free(pairs->items);
    *pairs = (registry_pairs){0};
}

found_model *found_add(found_list *list, const char *name, const char *path, registry_source source)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 16;
        found_model *grown = realloc(list->items, cap * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        list->items = grown;
        list->cap = cap;
    }
    found_model m = {.name = strdup(name), .path = strdup(path), .source = source};
    if (!m.name || !m.path) {
        free(m.name);
        free(m.path);
        return NULL;
    }
    list->items[list->n] = m;
    return &list->items[list->n++];
}

void found_close(found_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        found_model *m = &list->items[i];
        free(m->name);
        free(m->path);
        free(m->digest);
        free(m->template_text);
        free(m->system);
        free(m->license);
        free(m->unusable);
        registry_pairs_close(&m->parameters);
        registry_pairs_close(&m->messages);
        registry_pairs_close(&m->warnings);
        registry_pairs_close(&m->adapters);
    }
    free(list->items);
    *list = (found_list){0};
}
