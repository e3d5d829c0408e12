/*
 * Models in the database: written, read, removed.
 * Owner: the store. Lifetime: until they are removed.
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

/* ---- sets: a model of several files, under the names its loader looks for ---------------------------------------- */

/* Each time a model is put its set is another folder, which its row names by when that was: until the row is committed,
 * and after a failure, the one before is what readers find, whole. */
static void set_path(const registry *r, int64_t id, int64_t modified_us, char *out)
{
    snprintf(out, REGISTRY_PATH_MAX, "%.4000s/sets/%lld-%lld", r->store, (long long)id, (long long)modified_us);
}

/* Stores of MLXR before that had one folder a model, in which links were exchanged. */
static void old_set_path(const registry *r, int64_t id, char *out)
{
    snprintf(out, REGISTRY_PATH_MAX, "%.4000s/sets/%lld", r->store, (long long)id);
}

/* A folder of links. */
static void remove_links(const char *directory)
{
    char path[REGISTRY_PATH_MAX];
    DIR *folder = opendir(directory);
    for (struct dirent *file; folder && (file = readdir(folder));) {
        if (strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0 &&
            disk_join(path, sizeof path, directory, file->d_name)) {
            disk_remove(path, NULL);
        }
    }
    if (folder) {
        closedir(folder);
        rmdir(directory);
    }
}

/* What a row had that is gone, or says something else now; modified_us 0: there was none. */
static void remove_set(const registry *r, int64_t id, int64_t modified_us)
{
    char directory[REGISTRY_PATH_MAX];
    if (modified_us) {
        set_path(r, id, modified_us, directory);
        remove_links(directory);
        old_set_path(r, id, directory);
        remove_links(directory);
    }
}

/* A file name that leads nowhere else. */
static bool plain_name(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= 200 && name[0] != '.' && strcspn(name, "/\\") == n;
}

/* Into a folder of sets/. */
static mlxr_status make_links(const char *directory, const stored_file *files, size_t n_files, mlxr_error *error)
{
    char path[REGISTRY_PATH_MAX], target[128];
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < n_files && status == MLXR_OK; i++) {
        snprintf(target, sizeof target, "../../blobs/sha256-%s", files[i].digest + 7);
        if (strcmp(files[i].role, "adapter") == 0) {
            continue; /* the model's loader does not look for it */
        }
        if (!plain_name(files[i].name) || !disk_join(path, sizeof path, directory, files[i].name)) {
            status = daemon_error(error, MLXR_ARG, "'%.80s' cannot be the name of a model's file", files[i].name);
        } else if (symlink(target, path) != 0) {
            status = daemon_error(error, MLXR_IO, "cannot make the link %s", path);
        }
    }
    return status;
}

static mlxr_status make_set(const registry *r, int64_t id, int64_t modified_us, const stored_model *m,
                            mlxr_error *error)
{
    char directory[REGISTRY_PATH_MAX];
    set_path(r, id, modified_us, directory);
    remove_links(directory); /* a failure may have left it */
    mlxr_status status = disk_make_dir(directory, error);
    status = status == MLXR_OK ? make_links(directory, m->files, m->n_files, error) : status;
    return status == MLXR_OK ? disk_sync_dir(directory, error) : status;
}

static bool is_gguf(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcasecmp(name + n - 5, ".gguf") == 0;
}

mlxr_status rows_try_set(registry *r, const file_rows *files, char *path, mlxr_error *error)
{
    snprintf(path, REGISTRY_PATH_MAX, "%.4000s/sets/" ROWS_TRY_PREFIX "XXXXXX", r->store);
    if (!mkdtemp(path)) {
        *path = '\0';
        return daemon_error(error, MLXR_IO, "cannot make a folder in %.300s/sets", r->store);
    }
    mlxr_status status = make_links(path, files->items, files->n, error);
    for (size_t i = 0; i < files->n && status == MLXR_OK; i++) {
        const char *name = files->items[i].name;
        if (strcmp(files->items[i].role, "weights") == 0 && is_gguf(name)) {
            size_t used = strlen(path);
            snprintf(path + used, REGISTRY_PATH_MAX - used, "/%s", name);
        }
    }
    if (status != MLXR_OK) {
        rows_drop_set(r, path);
    }
    return status;
}

void rows_drop_set(const registry *r, char *path)
{
    size_t n_folder = strlen(r->store) + strlen("/sets/" ROWS_TRY_PREFIX "XXXXXX");
    if (*path) {
        path[n_folder < strlen(path) ? n_folder : strlen(path)] = '\0'; /* without the weights' name */
        remove_links(path);
        *path = '\0';
    }
}

/* A set of a row, by its name; what cannot be looked up, or has another name than sets have, is needed. */
static bool set_needed(const registry *r, const char *name)
{
    char same[64], path[REGISTRY_PATH_MAX];
    long long id = 0, modified_us = 0;
    int64_t current_us = 0;
    if (strncmp(name, ROWS_TRY_PREFIX, strlen(ROWS_TRY_PREFIX)) == 0) {
        return false;
    }
    int n_numbers = sscanf(name, "%19lld-%19lld", &id, &modified_us);
    snprintf(same, sizeof same, n_numbers == 2 ? "%lld-%lld" : "%lld", id, modified_us);
    if (n_numbers < 1 || strcmp(same, name) != 0 ||
        db_number(r->db, &current_us, 0, NULL, "SELECT modified_us FROM models WHERE id = ?", "i", (int64_t)id) !=
            MLXR_OK) {
        return true;
    }
    set_path(r, id, current_us, path);
    return n_numbers == 2 ? current_us == modified_us : current_us && access(path, F_OK) != 0;
}

void rows_tidy_sets(const registry *r, int64_t before_us)
{
    char sets[REGISTRY_PATH_MAX], path[REGISTRY_PATH_MAX];
    struct stat info;
    snprintf(sets, sizeof sets, "%.4000s/sets", r->store);
    DIR *folder = opendir(sets);
    for (struct dirent *file; folder && (file = readdir(folder));) {
        if (file->d_name[0] != '.' && disk_join(path, sizeof path, sets, file->d_name) && lstat(path, &info) == 0 &&
            S_ISDIR(info.st_mode) && (int64_t)info.st_mtime * 1000000 < before_us && !set_needed(r, file->d_name)) {
            remove_links(path);
        }
    }
    if (folder) {
        closedir(folder);
    }
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

typedef struct row_writer {
    registry *r;
    int64_t id, position;
    mlxr_status status;
    mlxr_error *error;
} row_writer;

static void put_parameter(row_writer *w, const char *kind, const char *name, const char *value)
{
    if (w->status == MLXR_OK && value) {
        w->status = db_run(w->r->db, w->error,
                           "INSERT INTO parameters (model, position, kind, name, value) VALUES (?, ?, ?, ?, ?)",
                           "iittt", w->id, w->position++, kind, name, value);
    }
}

static void put_pairs(row_writer *w, const char *kind, const registry_pairs *pairs)
{
    for (size_t i = 0; pairs && i < pairs->n; i++) {
        put_parameter(w, kind, pairs->items[i].name, pairs->items[i].value);
    }
}

static void put_files(row_writer *w, const stored_model *m)
{
    for (size_t i = 0; i < m->n_files && w->status == MLXR_OK; i++) {
        const stored_file *f = &m->files[i];
        w->status = db_run(w->r->db, w->error,
                           "INSERT INTO files (model, position, role, name, digest) VALUES (?, ?, ?, ?, ?)", "iittt",
                           w->id, (int64_t)i, f->role, f->name, f->digest);
        if (w->status == MLXR_ARG) { /* the foreign key: it was removed meanwhile */
            w->status = daemon_error(w->error, MLXR_IO, "the file %s is not in the store any more; try again",
                                     f->digest);
        }
    }
}

static size_t n_loaded(const stored_model *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_files; i++) {
        n += strcmp(m->files[i].role, "weights") == 0 || strcmp(m->files[i].role, "part") == 0;
    }
    return n;
}

/* What its file says, for lists that need not open it. */
static mlxr_status put_description(row_writer *w)
{
    registry_model m = {0};
    mlxr_status status = rows_get(w->r, w->id, &m, w->error);
    if (status == MLXR_OK) {
        status = db_run(w->r->db, w->error,
                        "UPDATE models SET family = ?, quant = ?, n_params = ?, n_bytes = ? WHERE id = ?", "ttiii",
                        m.family, m.quant, (int64_t)m.n_params, (int64_t)m.n_bytes, w->id);
    }
    registry_model_close(&m);
    return status;
}

/* The row itself. *w gets its id; *before_us and *now_us are what modified_us was, 0 of a new one, and is. */
static void put_row(row_writer *w, const stored_model *m, int64_t *before_us, int64_t *now_us)
{
    sqlite3 *db = w->r->db;
    *now_us = inside_now_us();
    w->status = db_number(db, before_us, 0, w->error, "SELECT modified_us FROM models WHERE name = ?", "t", m->name);
    *now_us = *now_us > *before_us ? *now_us : *before_us + 1; /* whatever clocks do: it is the name of a set */
    if (w->status == MLXR_OK) {
        w->status = db_run(
            db, w->error,
            "INSERT INTO models (name, path, manifest, origin, created_us, modified_us) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET path = excluded.path, manifest = excluded.manifest,"
            " origin = excluded.origin, modified_us = excluded.modified_us, removed_us = 0, purge_us = 0",
            "ttttii", m->name, m->path, m->manifest, m->origin, *now_us, *now_us);
    }
    if (w->status == MLXR_OK) {
        w->status = db_number(db, &w->id, 0, w->error, "SELECT id FROM models WHERE name = ?", "t", m->name);
    }
}

mlxr_status rows_put(registry *r, const stored_model *m, mlxr_error *error)
{
    char **digests = NULL;
    size_t n_digests = 0;
    char set[REGISTRY_PATH_MAX];
    int64_t before_us = 0, now_us = 0;
    bool links = false;
    mlxr_status status = inside_begin(r, error);
    if (status != MLXR_OK) {
        return status;
    }
    row_writer w = {.r = r, .error = error};
    put_row(&w, m, &before_us, &now_us);
    static const char *const clear[] = {
        "UPDATE blobs SET created_us = 0 WHERE digest IN (SELECT digest FROM files WHERE model = ?)",
        "DELETE FROM files WHERE model = ?", "DELETE FROM parameters WHERE model = ?"};
    for (size_t i = 0; i < 3 && w.status == MLXR_OK; i++) {
        w.status = db_run(r->db, error, clear[i], "i", w.id);
    }
    put_files(&w, m);
    put_parameter(&w, "template", "", m->template_text);
    put_parameter(&w, "system", "", m->system);
    put_parameter(&w, "license", "", m->license);
    put_pairs(&w, "parameter", m->parameters);
    put_pairs(&w, "message", m->messages);
    put_pairs(&w, "warning", m->warnings);
    if (w.status == MLXR_OK && n_loaded(m) > 1) {
        links = true;
        w.status = make_set(r, w.id, now_us, m, error);
    }
    if (w.status == MLXR_OK) {
        w.status = put_description(&w);
    }
    if (w.status == MLXR_OK) {
        w.status = blob_forget_unused(r, &digests, &n_digests, error);
    }
    status = inside_commit(r, w.status, error);
    blob_unlink_all(r, status, digests, n_digests);
    if (status == MLXR_OK) {
        remove_set(r, w.id, before_us);
    } else if (links && w.status != MLXR_OK) { /* a commit that failed may still be found done: rows_tidy_sets */
        set_path(r, w.id, now_us, set);
        remove_links(set);
    }
    inside_release(r);
    return status;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static bool set_text(char **out, const char *text)
{
    free(*out);
    return (*out = strdup(text)) != NULL;
}

static mlxr_status get_row(registry *r, int64_t id, registry_model *m, mlxr_error *error)
{
    sqlite3_stmt *s;
    bool row = false;
    mlxr_status status = db_prepare(
        r->db, &s, error, "SELECT name, path, origin, modified_us, manifest FROM models WHERE id = ?", "i", id);
    status = status == MLXR_OK ? db_step(r->db, &s, &row, error) : status;
    if (status == MLXR_OK && !row) {
        status = daemon_error(error, MLXR_IO, "the model has just been removed");
    }
    if (row) {
        bool ok = set_text(&m->name, db_text(s, 0)) && set_text(&m->path, db_text(s, 1)) &&
                  set_text(&m->origin, db_text(s, 2)) && set_text(&m->digest, "");
        m->modified_us = sqlite3_column_int64(s, 3);
        m->source = ok && *m->path ? REGISTRY_IN_PLACE : REGISTRY_STORED;
        sqlite3_finalize(s);
        status = ok ? MLXR_OK : registry_fail_nomem(error);
    }
    return status;
}

static void find_set(const registry *r, int64_t id, int64_t modified_us, char *out)
{
    set_path(r, id, modified_us, out);
    if (access(out, F_OK) != 0) {
        old_set_path(r, id, out);
    }
}

/* Where its files are: one blob, or a set; after get_row. */
static mlxr_status get_files(registry *r, int64_t id, registry_model *m, mlxr_error *error)
{
    sqlite3_stmt *s;
    char path[REGISTRY_PATH_MAX] = "", set[REGISTRY_PATH_MAX];
    size_t n_parts = 0;
    bool ok = true;
    mlxr_status status = db_prepare(r->db, &s, error,
                                    "SELECT files.digest, files.name, files.role, blobs.n_bytes FROM files "
                                    "JOIN blobs ON blobs.digest = files.digest WHERE model = ? ORDER BY position",
                                    "i", id);
    for (bool row = true; status == MLXR_OK && s;) {
        status = db_step(r->db, &s, &row, error);
        if (status != MLXR_OK || !row) {
            break;
        }
        const char *role = db_text(s, 2);
        m->n_bytes += (uint64_t)sqlite3_column_int64(s, 3);
        n_parts += strcmp(role, "weights") == 0 || strcmp(role, "part") == 0;
        if (strcmp(role, "adapter") == 0 && ok) {
            char adapter[REGISTRY_PATH_MAX];
            ok = blob_path(r, db_text(s, 0), adapter) && registry_pairs_add(&m->adapters, adapter, db_text(s, 0));
        }
        if (strcmp(role, "weights") == 0 && ok) {
            const char *name = db_text(s, 1);
            ok = set_text(&m->digest, db_text(s, 0)) && blob_path(r, db_text(s, 0), path);
            find_set(r, id, m->modified_us, set);
            if (is_gguf(name)) {
                size_t used = strlen(set);
                snprintf(set + used, sizeof set - used, "/%s", name);
            }
        }
    }
    sqlite3_finalize(s);
    if (status == MLXR_OK && n_parts > 0) {
        ok = ok && set_text(&m->path, n_parts > 1 ? set : path);
    }
    return status == MLXR_OK && !ok ? registry_fail_nomem(error) : status;
}

static mlxr_status get_overrides(registry *r, int64_t id, registry_model *m, mlxr_error *error)
{
    sqlite3_stmt *s;
    bool ok = true;
    mlxr_status status = db_prepare(
        r->db, &s, error, "SELECT kind, name, value FROM parameters WHERE model = ? ORDER BY position", "i", id);
    for (bool row = true; status == MLXR_OK && s;) {
        status = db_step(r->db, &s, &row, error);
        if (status != MLXR_OK || !row) {
            break;
        }
        const char *kind = db_text(s, 0), *name = db_text(s, 1), *value = db_text(s, 2);
        if (strcmp(kind, "template") == 0) {
            ok = ok && set_text(&m->template_text, value);
        } else if (strcmp(kind, "system") == 0) {
            ok = ok && set_text(&m->system, value);
        } else if (strcmp(kind, "license") == 0) {
            ok = ok && set_text(&m->license, value);
        } else {
            ok = ok && registry_pairs_add(strcmp(kind, "parameter") == 0 ? &m->parameters
                                          : strcmp(kind, "message") == 0 ? &m->messages
                                                                         : &m->warnings,
                                          name, value);
        }
    }
    sqlite3_finalize(s);
    return status == MLXR_OK && !ok ? registry_fail_nomem(error) : status;
}

mlxr_status rows_get(registry *r, int64_t id, registry_model *out, mlxr_error *error)
{
    *out = (registry_model){0};
    mlxr_status status = get_row(r, id, out, error);
    status = status == MLXR_OK ? get_files(r, id, out, error) : status;
    status = status == MLXR_OK ? get_overrides(r, id, out, error) : status;
    status = status == MLXR_OK ? describe_model(r, out, error) : status;
    if (status == MLXR_OK && !model_set_id(out)) {
        status = registry_fail_nomem(error);
    }
    if (status != MLXR_OK) {
        registry_model_close(out);
    }
    return status;
}

/* ---- removing ---------------------------------------------------------------------------------------------------- */

static mlxr_status delete_row(registry *r, int64_t id, mlxr_error *error)
{
    mlxr_status status = db_run(
        r->db, error, "UPDATE blobs SET created_us = 0 WHERE digest IN (SELECT digest FROM files WHERE model = ?)", "i",
        id);
    return status == MLXR_OK ? db_run(r->db, error, "DELETE FROM models WHERE id = ?", "i", id) : status;
}

/* Rows whose time to be restored is over. */
static mlxr_status delete_expired(registry *r, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (int64_t id = 1; status == MLXR_OK && id;) {
        status = db_number(r->db, &id, 0, error, "SELECT id FROM models WHERE removed_us > 0 AND purge_us <= ? LIMIT 1",
                           "i", inside_now_us());
        if (status == MLXR_OK && id) {
            status = delete_row(r, id, error);
        }
    }
    return status;
}

/* Removes what is due in the transaction that has begun, and its files behind it. */
static mlxr_status finish_removal(registry *r, mlxr_status status, int64_t gone, int64_t gone_us, mlxr_error *error)
{
    char **digests = NULL;
    size_t n = 0;
    status = status == MLXR_OK ? delete_expired(r, error) : status;
    status = status == MLXR_OK ? blob_forget_unused(r, &digests, &n, error) : status;
    status = inside_commit(r, status, error);
    blob_unlink_all(r, status, digests, n);
    if (status == MLXR_OK && gone) {
        remove_set(r, gone, gone_us);
    }
    inside_release(r);
    return status;
}

/* Nothing of this name is the store's to remove: says whose it is. */
static mlxr_status tell_not_stored(registry *r, const char *name, mlxr_error *error)
{
    registry_model m;
    mlxr_error unknown;
    if (registry_resolve(r, name, &m, &unknown) != MLXR_OK) {
        return daemon_error(error, MLXR_ARG, "no model '%.80s' in the store", name);
    }
    mlxr_status status = daemon_error(error, MLXR_ARG,
                                      "'%.80s' is not in the store but at %.300s (%s); remove it there", name, m.path,
                                      registry_source_name(m.source));
    registry_model_close(&m);
    return status;
}

mlxr_status registry_remove(registry *r, const char *name, uint32_t grace_s, mlxr_error *error)
{
    char wanted[REGISTRY_NAME_MAX + 1];
    int64_t id = 0, alias = 0, modified_us = 0;
    bool missing = false;
    if (!name_canonical(name, wanted)) {
        return tell_not_stored(r, name, error);
    }
    mlxr_status status = inside_begin(r, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = db_number(r->db, &id, 0, error, "SELECT id FROM models WHERE name = ? AND removed_us = 0", "t", wanted);
    if (status == MLXR_OK && id) {
        status = db_number(r->db, &modified_us, 0, error, "SELECT modified_us FROM models WHERE id = ?", "i", id);
    } else if (status == MLXR_OK) {
        status = db_number(r->db, &alias, 0, error, "SELECT count(*) FROM aliases WHERE name = ?", "t", wanted);
    }
    if (status == MLXR_OK && !id && !alias) {
        status = MLXR_ARG;
        missing = true;
    } else if (status == MLXR_OK && alias) {
        status = db_run(r->db, error, "DELETE FROM aliases WHERE name = ?", "t", wanted);
    } else if (status == MLXR_OK && grace_s) {
        status = db_run(r->db, error, "UPDATE models SET removed_us = ?, purge_us = ? WHERE id = ?", "iii",
                        inside_now_us(), inside_now_us() + (int64_t)grace_s * 1000000, id);
        id = 0;
    } else if (status == MLXR_OK) {
        status = delete_row(r, id, error);
    }
    status = finish_removal(r, status, id, modified_us, error);
    return missing ? tell_not_stored(r, wanted, error) : status;
}

mlxr_status registry_restore(registry *r, const char *name, mlxr_error *error)
{
    char wanted[REGISTRY_NAME_MAX + 1];
    int64_t id = 0;
    if (!name_canonical(name, wanted)) {
        return daemon_error(error, MLXR_ARG, "'%.80s' cannot be the name of a model", name);
    }
    mlxr_status status = inside_begin(r, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = db_number(r->db, &id, 0, error, "SELECT id FROM models WHERE name = ? AND removed_us > 0 AND purge_us > ?",
                       "ti", wanted, inside_now_us());
    if (status == MLXR_OK && !id) {
        status = daemon_error(error, MLXR_ARG, "no model '%s' was removed lately enough to be restored", wanted);
    } else if (status == MLXR_OK) {
        status = db_run(r->db, error, "UPDATE models SET removed_us = 0, purge_us = 0 WHERE id = ?", "i", id);
    }
    return inside_end(r, status, error);
}

/* ---- lists of files ---------------------------------------------------------------------------------------------- */

void file_rows_close(file_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++) {
        free((char *)rows->items[i].role);
        free((char *)rows->items[i].name);
    }
    free(rows->items);
    *rows = (file_rows){0};
}

mlxr_status file_rows_add(file_rows *rows, const char *role, const char *name, const char *digest, mlxr_error *error)
{
    stored_file *grown = realloc(rows->items, (rows->n + 1) * sizeof *grown);
    if (!grown) {
        return registry_fail_nomem(error);
    }
    rows->items = grown;
    stored_file *f = &grown[rows->n++];
    *f = (stored_file){.role = strdup(role), .name = strdup(name)};
    snprintf(f->digest, sizeof f->digest, "%s", digest);
    return f->role && f->name ? MLXR_OK : registry_fail_nomem(error);
}

mlxr_status file_rows_read(registry *r, const char *name, file_rows *out, mlxr_error *error)
{
    sqlite3_stmt *s;
    inside_lock(r);
    mlxr_status status = db_prepare(
        r->db, &s, error,
        "SELECT role, files.name, digest FROM files JOIN models ON models.id = model WHERE models.name = ? "
        "AND removed_us = 0 ORDER BY position",
        "t", name);
    for (bool row = true; status == MLXR_OK && s;) {
        status = db_step(r->db, &s, &row, error);
        if (status == MLXR_OK && row) {
            status = file_rows_add(out, db_text(s, 0), db_text(s, 1), db_text(s, 2), error);
        }
    }
    sqlite3_finalize(s);
    inside_unlock(r);
    return status;
}

mlxr_status file_rows_of(registry *r, const registry_model *m, file_rows *out, mlxr_error *error)
{
    bool has = m->source == REGISTRY_STORED || (m->source == REGISTRY_IN_PLACE && m->adapters.n > 0);
    return has ? file_rows_read(r, m->name, out, error) : MLXR_OK;
}

mlxr_status registry_places(registry *r, void (*seen)(void *user, const char *path), void *user, mlxr_error *error)
{
    sqlite3_stmt *s;
    inside_lock(r);
    mlxr_status status = db_prepare(r->db, &s, error, "SELECT path FROM models WHERE path <> ''", "");
    for (bool row = true; status == MLXR_OK && s;) {
        status = db_step(r->db, &s, &row, error);
        if (status == MLXR_OK && row) {
            seen(user, db_text(s, 0));
        }
    }
    sqlite3_finalize(s);
    inside_unlock(r);
    return status;
}
