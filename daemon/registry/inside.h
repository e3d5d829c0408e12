/*
 * The inside of a registry, shared by its files.
 * Owner: registry.c. Lifetime: registry_open to registry_close.
 *
 *   reading    inside_lock … inside_unlock: this process's threads take turns with the connection
 *   changing   inside_begin (the lock file, BEGIN IMMEDIATE) … inside_end (COMMIT or ROLLBACK): processes take turns
 */
#ifndef MLXR_REGISTRY_INSIDE_H
#define MLXR_REGISTRY_INSIDE_H

#include <pthread.h>

#include "registry/db.h"
#include "registry/fail.h"
#include "registry/registry.h"

/* A model that is not in the database: given by path, in the model directory, or another program's. */
typedef struct found_model {
    char *name, *path;
    registry_source source;
    uint64_t n_bytes; /* of the file; 0: a folder or several files */
    int64_t modified_us;
    char *digest;        /* where its place tells it, or "" */
    char *template_text; /* what Ollama has besides the weights, or NULL */
    char *system, *license;
    char *unusable; /* why it cannot be loaded, whatever its weights say, or NULL */
    registry_pairs parameters, messages, warnings, adapters;
} found_model;

typedef struct found_list {
    found_model *items; /* the first of a name hides the others */
    size_t n, cap;
} found_list;

/* What was read from a model's file, as long as that does not change. */
typedef struct described {
    char *path;
    int64_t modified_ns;
    uint64_t n_bytes;
    char *family, *quant, *unusable;
    uint64_t n_params, total_bytes;
    uint32_t n_ctx_train;
    bool has_template;
} described;

typedef struct usage_entry {
    int64_t day;
    char *key, *model;
    registry_usage counts;
} usage_entry;

struct registry {
    pthread_mutex_t changing; /* one thread at a time: the lock file is the process's. Taken before that and `lock` */
    pthread_mutex_t lock;     /* of the connection; nobody who has it waits for the lock file */
    sqlite3 *db;
    char directory[REGISTRY_PATH_MAX]; /* the model directory */
    char store[REGISTRY_PATH_MAX];     /* .mlxr in it */
    registry_options options;
    char closed[256]; /* why it is read only, where it was to be written */
    int lock_fd;      /* -1: read only */
    found_list given; /* by path, to this registry only */
    described *described;
    size_t n_described, cap_described;
    pthread_mutex_t usage_lock; /* taken behind `lock`, for moments: an answer's end waits for no file */
    usage_entry *usage;
    size_t n_usage, cap_usage;
};

void inside_lock(registry *r);
void inside_unlock(registry *r);
/* Fails for a read-only registry, and where another process keeps the lock for longer than the options say. */
mlxr_status inside_begin(registry *r, mlxr_error *error);
/* The same without waiting: MLXR_IO where another process or thread is changing it. */
mlxr_status inside_begin_at_once(registry *r, mlxr_error *error);
/* Commits if status is MLXR_OK, else rolls back; returns what became of it. */
mlxr_status inside_end(registry *r, mlxr_status status, mlxr_error *error);
/* The same in two steps, for files that go once their rows are gone and before anybody else looks. */
mlxr_status inside_commit(registry *r, mlxr_status status, mlxr_error *error);
void inside_release(registry *r);
/* Nothing can be changed, and why. */
mlxr_status inside_fail_read_only(const registry *r, mlxr_error *error);
/* Only the lock file: for files whose rows do not change. */
mlxr_status inside_lock_file(registry *r, mlxr_error *error);
void inside_unlock_file(registry *r);
int64_t inside_now_us(void);

/* Names. Copies without ":latest", if the text may be a name at all. out: REGISTRY_NAME_MAX + 1 bytes. */
bool name_canonical(const char *text, char *out);

/* Fills m->id. False: no memory. */
bool model_set_id(registry_model *m);

/* Lists. */
bool pairs_copy(registry_pairs *to, const registry_pairs *from);
void found_close(found_list *list);
found_model *found_add(found_list *list, const char *name, const char *path, registry_source source);

/* found.c: the model directory and other programs' folders. */
mlxr_status found_scan(registry *r, found_list *out, mlxr_error *error);

/* describe.c: fills family … of m from its file, from memory where the file has not changed. */
mlxr_status describe_model(registry *r, registry_model *m, mlxr_error *error);

/* blobs.c. path: REGISTRY_PATH_MAX bytes. */
bool blob_path(const registry *r, const char *digest, char *path);
/* Makes a blob of a file of the store that is whole and has this digest: syncs, renames, makes its row. made_us: see
 * registry_blob_commit_marked; may be NULL. */
mlxr_status blob_adopt(registry *r, int fd, const char *from, const char *digest, uint64_t n_bytes, int64_t *made_us,
                       mlxr_error *error);
/* A file in its place without a row, which an interruption may leave: becomes a blob if its digest is right, else it
 * goes. False: it is none now. */
bool blob_recover(registry *r, const char *digest, uint64_t *n_bytes);
/* Makes the row of a blob that is in its place. Inside inside_begin. */
mlxr_status blob_insert(registry *r, const char *digest, uint64_t n_bytes, mlxr_error *error);
/* Removes files whose rows nothing needs, and the rows: two steps around the commit. The second one frees the list, and
 * leaves the files where there was none: nothing was forgotten then. */
mlxr_status blob_forget_unused(registry *r, char ***digests, size_t *n, mlxr_error *error);
void blob_unlink_all(registry *r, mlxr_status committed, char **digests, size_t n);
/* Old leftovers: downloads nobody goes on with, blobs of uploads nothing was made of, files without a row. */
mlxr_status blob_tidy(registry *r, mlxr_error *error);

/* rows.c. One file of a stored model. */
typedef struct stored_file {
    const char *role, *name;
    char digest[REGISTRY_DIGEST_MAX];
    uint64_t n_bytes;
} stored_file;

typedef struct stored_model {
    const char *name, *path, *origin;             /* path: "" or of one in place */
    char manifest[REGISTRY_DIGEST_MAX];           /* "" : none */
    const char *template_text, *system, *license; /* NULL: none */
    const stored_file *files;
    size_t n_files;
    const registry_pairs *parameters, *messages, *warnings; /* NULL: none */
} stored_model;

/* Replaces the model of this name; its files must be blobs already. Takes the locks itself. */
mlxr_status rows_put(registry *r, const stored_model *m, mlxr_error *error);
/* The model of a row id. The registry is locked. */
mlxr_status rows_get(registry *r, int64_t id, registry_model *out, mlxr_error *error);

#endif
