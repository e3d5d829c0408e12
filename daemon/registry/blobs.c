/*
 * Blobs: files under the digest of their bytes.
 * Owner: the store. Lifetime: until nothing needs them.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry/digest.h"
#include "registry/disk.h"
#include "registry/rows.h"

#define LEFTOVER_US ((int64_t)24 * 3600 * 1000000) /* how old what nobody needs must be to be thrown away */

struct registry_blob {
    registry *owner;
    digest_state *state;
    int fd;
    uint64_t n_bytes, n_bytes_max;
    char path[REGISTRY_PATH_MAX];
    char expected[REGISTRY_DIGEST_MAX]; /* "": any */
};

bool blob_path(const registry *r, const char *digest, char *path)
{
    char clean[REGISTRY_DIGEST_MAX];
    if (!registry_digest_parse(digest, clean)) {
        return false;
    }
    int n = snprintf(path, REGISTRY_PATH_MAX, "%.4000s/blobs/sha256-%s", r->store, clean + 7);
    return n > 0 && (size_t)n < REGISTRY_PATH_MAX;
}

/* The bytes of a blob, or −1: it is not there. */
static mlxr_status look_up(registry *r, const char *clean, int64_t *n, mlxr_error *error)
{
    inside_lock(r);
    mlxr_status status = db_number(r->db, n, -1, error, "SELECT n_bytes FROM blobs WHERE digest = ?", "t", clean);
    inside_unlock(r);
    return status;
}

bool registry_blob_exists(registry *r, const char *digest, uint64_t *n_bytes)
{
    char clean[REGISTRY_DIGEST_MAX];
    int64_t n = -1;
    bool there = registry_digest_parse(digest, clean) && look_up(r, clean, &n, NULL) == MLXR_OK && n >= 0;
    if (there && n_bytes) {
        *n_bytes = (uint64_t)n;
    }
    return there;
}

mlxr_status registry_blob_renew(registry *r, const char *digest, bool *there, uint64_t *n_bytes, mlxr_error *error)
{
    char clean[REGISTRY_DIGEST_MAX];
    int64_t n = -1;
    *there = false;
    mlxr_status status = registry_digest_parse(digest, clean) ? look_up(r, clean, &n, error) : MLXR_OK;
    if (status == MLXR_OK && n >= 0 && !r->options.read_only) {
        status = inside_begin(r, error);
        if (status != MLXR_OK) {
            return status;
        }
        status = db_run(r->db, error, "UPDATE blobs SET created_us = max(?, created_us + 1) WHERE digest = ?", "it",
                        inside_now_us(), clean);
        if (status == MLXR_OK) { /* who made it may have been faster */
            status = db_number(r->db, &n, -1, error, "SELECT n_bytes FROM blobs WHERE digest = ?", "t", clean);
        }
        status = inside_end(r, status, error);
    }
    *there = status == MLXR_OK && n >= 0;
    if (*there && n_bytes) {
        *n_bytes = (uint64_t)n;
    }
    return status;
}

static mlxr_status insert_at(registry *r, const char *digest, uint64_t n_bytes, int64_t now_us, mlxr_error *error)
{
    return db_run(r->db, error,
                  "INSERT INTO blobs (digest, n_bytes, created_us) VALUES (?, ?, ?) "
                  "ON CONFLICT (digest) DO UPDATE SET created_us = max(excluded.created_us, created_us + 1)",
                  "tii", digest, (int64_t)n_bytes, now_us);
}

mlxr_status blob_insert(registry *r, const char *digest, uint64_t n_bytes, mlxr_error *error)
{
    return insert_at(r, digest, n_bytes, inside_now_us(), error);
}

mlxr_status registry_blob_begin(registry_blob **out, registry *r, const char *digest, uint64_t n_bytes_max,
                                mlxr_error *error)
{
    uint8_t random[8];
    char name[17];
    if (r->options.read_only) {
        return inside_fail_read_only(r, error);
    }
    registry_blob *b = calloc(1, sizeof *b);
    if (!b) {
        return registry_fail_nomem(error);
    }
    *b = (registry_blob){.owner = r, .fd = -1, .n_bytes_max = n_bytes_max, .state = digest_begin()};
    mlxr_status status = MLXR_OK;
    if (digest && !registry_digest_parse(digest, b->expected)) {
        status = daemon_error(error, MLXR_ARG, "'%.80s' is no digest: sha256: and 64 hexadecimal digits are needed",
                              digest);
    } else if (!b->state || !digest_random(random, sizeof random)) {
        status = registry_fail_nomem(error);
    } else {
        digest_hex(random, sizeof random, name);
        snprintf(b->path, sizeof b->path, "%.4000s/partial/upload-%s", r->store, name);
        status = disk_open(&b->fd, b->path, true, error);
    }
    if (status != MLXR_OK) {
        registry_blob_abort(&b);
        return status;
    }
    *out = b;
    return MLXR_OK;
}

mlxr_status registry_blob_write(registry_blob *b, const void *data, size_t n, mlxr_error *error)
{
    if (n > b->n_bytes_max - b->n_bytes) {
        return daemon_error(error, MLXR_LIMIT, "the file is larger than the %llu bytes it may have",
                            (unsigned long long)b->n_bytes_max);
    }
    if (!digest_add(b->state, data, n)) {
        return registry_fail_nomem(error);
    }
    mlxr_status status = disk_write(b->fd, data, n, b->n_bytes, b->path, error);
    b->n_bytes += status == MLXR_OK ? n : 0;
    return status;
}

mlxr_status blob_adopt(registry *r, int fd, const char *from, const char *digest, uint64_t n_bytes, int64_t *made_us,
                       mlxr_error *error)
{
    char path[REGISTRY_PATH_MAX];
    int64_t now_us = inside_now_us(), n_there = 0;
    mlxr_status status = disk_sync(fd, from, error);
    status = status == MLXR_OK ? inside_begin(r, error) : status;
    if (status == MLXR_OK) {
        status = blob_path(r, digest, path) ? disk_rename(from, path, error)
                                            : daemon_error(error, MLXR_ARG, "the path of the store is too long");
        if (status == MLXR_OK && made_us) {
            status = db_number(r->db, &n_there, 0, error, "SELECT count(*) FROM blobs WHERE digest = ?", "t", digest);
        }
        status = status == MLXR_OK ? insert_at(r, digest, n_bytes, now_us, error) : status;
        status = inside_end(r, status, error);
    }
    if (made_us) {
        *made_us = n_there ? 0 : now_us;
    }
    return status;
}

bool blob_recover(registry *r, const char *digest, uint64_t *n_bytes)
{
    char path[REGISTRY_PATH_MAX], found[REGISTRY_DIGEST_MAX];
    struct stat info;
    int fd;
    if (!blob_path(r, digest, path) || lstat(path, &info) != 0 || !S_ISREG(info.st_mode) ||
        inside_begin(r, NULL) != MLXR_OK) {
        return false;
    }
    mlxr_status status = disk_digest(path, found, n_bytes, NULL);
    if (status == MLXR_OK && strcmp(found, digest) != 0) {
        disk_remove(path, NULL);
        status = MLXR_FORMAT;
    }
    status = status == MLXR_OK ? disk_open(&fd, path, false, NULL) : status;
    if (status == MLXR_OK) {
        status = disk_sync(fd, path, NULL);
        close(fd);
    }
    status = status == MLXR_OK ? disk_sync_parent(path, NULL) : status;
    status = status == MLXR_OK ? blob_insert(r, digest, *n_bytes, NULL) : status;
    return inside_end(r, status, NULL) == MLXR_OK;
}

mlxr_status registry_blob_commit(registry_blob **b, char *digest, mlxr_error *error)
{
    return registry_blob_commit_marked(b, digest, NULL, error);
}

mlxr_status registry_blob_commit_marked(registry_blob **pointer, char *digest, int64_t *made_us, mlxr_error *error)
{
    registry_blob *b = *pointer;
    char found[REGISTRY_DIGEST_MAX];
    mlxr_status status = digest_end(&b->state, found) ? MLXR_OK : registry_fail_nomem(error);
    if (status == MLXR_OK && b->expected[0] && strcmp(found, b->expected) != 0) {
        status = daemon_error(error, MLXR_FORMAT, "the digest is %s, not %s", found, b->expected);
    }
    status = status == MLXR_OK ? blob_adopt(b->owner, b->fd, b->path, found, b->n_bytes, made_us, error) : status;
    if (status == MLXR_OK && digest) {
        memcpy(digest, found, sizeof found);
    }
    registry_blob_abort(pointer); /* what was renamed is not at b->path any more */
    return status;
}

void registry_blob_abort(registry_blob **pointer)
{
    registry_blob *b = *pointer;
    if (!b) {
        return;
    }
    digest_end(&b->state, NULL);
    if (b->fd >= 0) {
        close(b->fd);
        disk_remove(b->path, NULL);
    }
    free(b);
    *pointer = NULL;
}

/* ---- throwing away ----------------------------------------------------------------------------------------------- */

static mlxr_status collect(sqlite3 *db, sqlite3_stmt *s, char ***digests, size_t *n, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (bool row = true; status == MLXR_OK && s;) {
        status = db_step(db, &s, &row, error);
        if (status != MLXR_OK || !row) {
            break;
        }
        char **grown = realloc(*digests, (*n + 1) * sizeof *grown);
        char *copy = grown ? strdup(db_text(s, 0)) : NULL;
        *digests = grown ? grown : *digests;
        if (!copy) {
            status = registry_fail_nomem(error);
        } else {
            (*digests)[(*n)++] = copy;
        }
    }
    sqlite3_finalize(s);
    return status;
}

/* A blob is kept for a day without a model: whoever uploads one makes the model afterwards. */
mlxr_status blob_forget_unused(registry *r, char ***digests, size_t *n, mlxr_error *error)
{
    static const char unused[] =
        "digest NOT IN (SELECT digest FROM files) AND digest NOT IN (SELECT digest FROM adapters)";
    char sql[256];
    sqlite3_stmt *s;
    *digests = NULL;
    *n = 0;
    snprintf(sql, sizeof sql, "SELECT digest FROM blobs WHERE created_us < ? AND %s", unused);
    mlxr_status status = db_prepare(r->db, &s, error, sql, "i", inside_now_us() - LEFTOVER_US);
    status = status == MLXR_OK ? collect(r->db, s, digests, n, error) : status;
    for (size_t i = 0; i < *n && status == MLXR_OK; i++) {
        status = db_run(r->db, error, "DELETE FROM blobs WHERE digest = ?", "t", (*digests)[i]);
    }
    return status;
}

void blob_unlink_all(registry *r, mlxr_status committed, char **digests, size_t n)
{
    char path[REGISTRY_PATH_MAX];
    for (size_t i = 0; i < n; i++) {
        if (committed == MLXR_OK && blob_path(r, digests[i], path)) {
            disk_remove(path, NULL); /* one that stays is found by blob_tidy */
        }
        free(digests[i]);
    }
    free(digests);
}

mlxr_status registry_blob_forget(registry *r, const char *digest, int64_t made_us, mlxr_error *error)
{
    char clean[REGISTRY_DIGEST_MAX], **digests = NULL;
    size_t n = 0;
    if (!registry_digest_parse(digest, clean)) {
        return daemon_error(error, MLXR_ARG, "'%.80s' is no digest", digest);
    }
    mlxr_status status = inside_begin(r, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = db_run(r->db, error, "UPDATE blobs SET created_us = 0 WHERE digest = ? AND created_us = ?", "ti", clean,
                    made_us);
    status = status == MLXR_OK ? blob_forget_unused(r, &digests, &n, error) : status;
    status = inside_commit(r, status, error);
    blob_unlink_all(r, status, digests, n);
    inside_release(r);
    return status;
}

/* Removes the files of a folder of the store that are a day old and that `needed` does not know. */
static void tidy_folder(registry *r, const char *name, bool (*needed)(registry *r, const char *name))
{
    char folder_path[REGISTRY_PATH_MAX], path[REGISTRY_PATH_MAX];
    struct stat info;
    disk_join(folder_path, sizeof folder_path, r->store, name);
    DIR *folder = opendir(folder_path);
    for (struct dirent *file; folder && (file = readdir(folder));) {
        if (file->d_name[0] != '.' && disk_join(path, sizeof path, folder_path, file->d_name) &&
            lstat(path, &info) == 0 && S_ISREG(info.st_mode) &&
            (int64_t)info.st_mtime * 1000000 < inside_now_us() - LEFTOVER_US && !needed(r, file->d_name)) {
            disk_remove(path, NULL);
        }
    }
    if (folder) {
        closedir(folder);
    }
}

/* A blob whose row cannot be looked up is needed. */
static bool blob_needed(registry *r, const char *name)
{
    char digest[REGISTRY_DIGEST_MAX];
    int64_t n = 1;
    mlxr_status status = MLXR_OK;
    if (registry_digest_parse(name, digest)) {
        status = db_number(r->db, &n, 1, NULL, "SELECT count(*) FROM blobs WHERE digest = ?", "t", digest);
    }
    return status != MLXR_OK || n > 0;
}

/* Uploads end with their process; downloads are gone on with for a week. */
static bool partial_needed(registry *r, const char *name)
{
    char path[REGISTRY_PATH_MAX];
    struct stat info;
    snprintf(path, sizeof path, "%.4000s/partial/%.80s", r->store, name);
    return strncmp(name, "upload-", 7) != 0 && stat(path, &info) == 0 &&
           (int64_t)info.st_mtime * 1000000 > inside_now_us() - 7 * LEFTOVER_US;
}

mlxr_status blob_tidy(registry *r, mlxr_error *error)
{
    (void)error;
    tidy_folder(r, "blobs", blob_needed);
    tidy_folder(r, "partial", partial_needed);
    rows_tidy_sets(r, inside_now_us() - LEFTOVER_US);
    return MLXR_OK;
}
