/*
 * Adapters of a model that is made. GGUF is copied as it is; of PEFT's two files one is made, the weights with the
 * configuration in their metadata, as the store keeps no folders.
 * Owner: see the header. Lifetime: the call.
 */
#include "registry/create_adapters.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mlxr_adapter.h"
#include "registry/digest.h"
#include "registry/disk.h"
#include "registry/fail.h"

#define CONFIG_NAME "adapter_config.json"
#define WEIGHTS_NAME "adapter_model.safetensors"
#define CONFIG_KEY "mlxr.adapter_config" /* adapter_file.h reads it */
#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define HEADER_BYTES_MAX ((uint64_t)64 << 20)
#define PIECE_BYTES ((size_t)1 << 20)

typedef struct maker {
    registry *r;
    const char *model; /* the weights' path */
    file_rows *files;
    struct { /* blobs that were made here, and go again if the model cannot be made */
        char digest[REGISTRY_DIGEST_MAX];
        int64_t us;
    } made[MLXR_ADAPTERS_MAX + 1];
    size_t n_made;
    mlxr_error *error;
} maker;

static mlxr_status failed(const maker *m, mlxr_status status, const char *what)
{
    if (m->error) {
        char why[sizeof m->error->text];
        memcpy(why, m->error->text, sizeof why);
        daemon_error(m->error, status, "adapter %.200s: %s", what, why);
    }
    return status;
}

/* Where the bytes of an adapter go: into a blob, or, where nothing is to be kept, into its digest alone. */
typedef struct sink {
    registry_blob *blob;
    digest_state *digest;
} sink;

static mlxr_status put(const maker *m, const sink *s, const void *data, size_t n)
{
    return s->blob                          ? registry_blob_write(s->blob, data, n, m->error)
           : digest_add(s->digest, data, n) ? MLXR_OK
                                            : registry_fail_nomem(m->error);
}

/* ---- into the store ---------------------------------------------------------------------------------------------- */

/* The rest of an open file, from `at` on. */
static mlxr_status write_rest(const maker *m, const sink *to, int fd, const char *path, uint64_t at, uint64_t n_bytes)
{
    char *piece = malloc(PIECE_BYTES);
    mlxr_status status = piece ? MLXR_OK : registry_fail_nomem(m->error);
    while (status == MLXR_OK && at < n_bytes) {
        size_t n = n_bytes - at < PIECE_BYTES ? (size_t)(n_bytes - at) : PIECE_BYTES;
        status = disk_read(fd, piece, n, at, path, m->error);
        status = status == MLXR_OK ? put(m, to, piece, n) : status;
        at += n;
    }
    free(piece);
    return status;
}

/* A JSON header with the configuration in its metadata, as safetensors begin: its length, and it. */
static mlxr_status write_header(const maker *m, const sink *to, const char *header, size_t n, const char *config)
{
    json_t *root = json_loadb(header, n, JSON_REJECT_DUPLICATES, NULL), *meta = json_object_get(root, "__metadata__");
    if (!json_is_object(root) || (meta && !json_is_object(meta))) {
        json_decref(root);
        return daemon_error(m->error, MLXR_FORMAT, WEIGHTS_NAME " has no header of JSON");
    }
    if (!meta) {
        meta = json_object();
        json_object_set_new(root, "__metadata__", meta);
    }
    json_t *text = json_string(config);
    bool known = text != NULL; /* it is UTF-8 */
    json_object_set_new(meta, CONFIG_KEY, text);
    char *dumped = known ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!dumped) {
        return known ? registry_fail_nomem(m->error)
                     : daemon_error(m->error, MLXR_FORMAT, CONFIG_NAME " is no text in UTF-8");
    }
    static const char blanks[] = "        "; /* seven are the most */
    size_t n_text = strlen(dumped), n_pad = (8 - n_text % 8) % 8;
    uint64_t length = n_text + n_pad;
    mlxr_status status = put(m, to, &length, sizeof length);
    status = status == MLXR_OK ? put(m, to, dumped, n_text) : status;
    status = status == MLXR_OK ? put(m, to, blanks, n_pad) : status;
    free(dumped);
    return status;
}

/* PEFT's two files as one. */
static mlxr_status write_peft(const maker *m, const sink *to, int fd, const char *path, uint64_t n_bytes,
                              const char *config)
{
    uint64_t length = 0;
    mlxr_status status = disk_read(fd, &length, sizeof length, 0, path, m->error);
    if (status == MLXR_OK && (length > HEADER_BYTES_MAX || length > n_bytes - sizeof length)) {
        status = daemon_error(m->error, MLXR_FORMAT, WEIGHTS_NAME " has no header that fits it");
    }
    char *header = status == MLXR_OK ? malloc((size_t)length + 1) : NULL;
    if (status == MLXR_OK && !header) {
        status = registry_fail_nomem(m->error);
    }
    status = status == MLXR_OK ? disk_read(fd, header, (size_t)length, sizeof length, path, m->error) : status;
    status = status == MLXR_OK ? write_header(m, to, header, (size_t)length, config) : status;
    free(header);
    return status == MLXR_OK ? write_rest(m, to, fd, path, sizeof length + length, n_bytes) : status;
}

/* A file; `config` NULL: as it is. */
static mlxr_status write_file(const maker *m, const sink *to, const char *path, const char *config)
{
    struct stat info;
    int fd = -1;
    mlxr_status status = disk_open(&fd, path, false, m->error);
    if (status == MLXR_OK && (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))) {
        status = daemon_error(m->error, MLXR_ARG, "%.300s is no file", path);
    }
    if (status == MLXR_OK) {
        uint64_t n_bytes = (uint64_t)info.st_size;
        status = config ? write_peft(m, to, fd, path, n_bytes, config) : write_rest(m, to, fd, path, 0, n_bytes);
    }
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

/* Makes a blob of a file. */
static mlxr_status import(const maker *m, const char *path, const char *config, char *digest, int64_t *made_us)
{
    sink to = {0};
    mlxr_status status = registry_blob_begin(&to.blob, m->r, NULL, UINT64_MAX, m->error);
    status = status == MLXR_OK ? write_file(m, &to, path, config) : status;
    if (status != MLXR_OK) {
        registry_blob_abort(&to.blob);
        return status;
    }
    return registry_blob_commit_marked(&to.blob, digest, made_us, m->error);
}

/* ---- one adapter ------------------------------------------------------------------------------------------------- */

static size_t count(const file_rows *files)
{
    size_t n = 0;
    for (size_t i = 0; i < files->n; i++) {
        n += strcmp(files->items[i].role, "adapter") == 0;
    }
    return n;
}

/* The row of a blob, if the model can take it. */
static mlxr_status add_row(const maker *m, const char *digest, bool peft)
{
    char path[REGISTRY_PATH_MAX], name[32];
    size_t number = 1 + count(m->files);
    mlxr_status status = blob_path(m->r, digest, path)
                             ? mlxr_adapter_check(m->model, path, m->error)
                             : daemon_error(m->error, MLXR_ARG, "the path of the store is too long");
    snprintf(name, sizeof name, "adapter-%zu.%s", number, peft ? "safetensors" : "gguf");
    return status == MLXR_OK ? file_rows_add(m->files, "adapter", name, digest, m->error) : status;
}

/* A file, and its configuration's path, or NULL. */
static mlxr_status add_file(maker *m, const char *path, const char *config_path)
{
    char *digest = m->made[m->n_made].digest, *config = NULL;
    int64_t *made_us = &m->made[m->n_made].us;
    size_t n = 0;
    mlxr_status status = config_path ? disk_read_file(config_path, CONFIG_BYTES_MAX, &config, &n, m->error) : MLXR_OK;
    status = status == MLXR_OK ? import(m, path, config, digest, made_us) : status;
    free(config);
    m->n_made += status == MLXR_OK;
    return status == MLXR_OK ? add_row(m, digest, config_path != NULL) : status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

/* A file that its user has named, wherever links lead: hubs keep the files of a folder elsewhere. Our own files are
 * none. out: REGISTRY_PATH_MAX bytes, and may be `path`. */
static mlxr_status follow(const char *path, char *out, mlxr_error *error)
{
    struct stat info;
    char *real = realpath(path, NULL);
    if (!real) {
        return registry_fail_errno(error, errno, "cannot open", path);
    }
    bool fits = snprintf(out, REGISTRY_PATH_MAX, "%s", real) < (int)REGISTRY_PATH_MAX;
    free(real);
    if (!fits) {
        return daemon_error(error, MLXR_ARG, "the path is too long");
    }
    return stat(out, &info) == 0 && S_ISREG(info.st_mode) ? MLXR_OK
                                                          : daemon_error(error, MLXR_ARG, "%.300s is no file", out);
}

/* The files of an adapter: a GGUF file, PEFT's folder, or the weights in it. path, config: REGISTRY_PATH_MAX bytes; ""
 * for config: GGUF has it. */
static mlxr_status find_files(const char *given, const char *directory, char *path, char *config, mlxr_error *error)
{
    char folder[REGISTRY_PATH_MAX];
    struct stat info;
    bool fits = *given == '/' ? snprintf(path, REGISTRY_PATH_MAX, "%s", given) < (int)REGISTRY_PATH_MAX
                              : disk_join(path, REGISTRY_PATH_MAX, directory, given);
    *config = '\0';
    if (!fits || stat(path, &info) != 0) {
        return daemon_error(error, MLXR_IO, "there is no such file");
    }
    bool peft = S_ISDIR(info.st_mode) || ends_with(path, ".safetensors");
    if (S_ISDIR(info.st_mode)) {
        fits = snprintf(folder, sizeof folder, "%s", path) < (int)sizeof folder &&
               disk_join(path, REGISTRY_PATH_MAX, folder, WEIGHTS_NAME);
    }
    fits = fits && (!peft || (disk_parent(path, folder, sizeof folder) &&
                              disk_join(config, REGISTRY_PATH_MAX, folder, CONFIG_NAME)));
    if (!fits) {
        return daemon_error(error, MLXR_ARG, "the path is too long");
    }
    mlxr_status status = peft ? follow(config, config, error) : MLXR_OK;
    return status == MLXR_OK ? follow(path, path, error) : status;
}

static mlxr_status add_path(maker *m, const char *given, const char *directory)
{
    char path[REGISTRY_PATH_MAX], config[REGISTRY_PATH_MAX];
    mlxr_status status = directory
                             ? find_files(given, directory, path, config, m->error)
                             : daemon_error(m->error, MLXR_ARG, "paths are not taken here; upload the file as a blob");
    return status == MLXR_OK ? add_file(m, path, *config ? config : NULL) : status;
}

mlxr_status registry_adapter_digest(const char *path, char *digest, mlxr_error *error)
{
    char file[REGISTRY_PATH_MAX], config_path[REGISTRY_PATH_MAX], *config = NULL;
    const maker m = {.error = error};
    size_t n = 0;
    mlxr_status status = find_files(path, ".", file, config_path, error);
    if (status == MLXR_OK && *config_path) {
        status = disk_read_file(config_path, CONFIG_BYTES_MAX, &config, &n, error);
    }
    if (status == MLXR_OK) {
        sink to = {.digest = digest_begin()};
        status = to.digest ? write_file(&m, &to, file, config) : registry_fail_nomem(error);
        status = digest_end(&to.digest, digest) || status != MLXR_OK ? status : registry_fail_nomem(error);
    }
    free(config);
    return status == MLXR_OK ? status : failed(&m, status, path);
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

/* The last part of a name. */
static const char *base_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

/* The configuration beside the i-th of the files that were uploaded: in the same folder. NULL: none. */
static const char *config_beside(const registry_pairs *given, size_t i)
{
    const char *name = given->items[i].name;
    size_t n = (size_t)(base_name(name) - name);
    for (size_t k = 0; k < given->n; k++) {
        const char *other = given->items[k].name;
        if (strncmp(other, name, n) == 0 && strcmp(other + n, CONFIG_NAME) == 0) {
            return given->items[k].value;
        }
    }
    return NULL;
}

static mlxr_status add_blob(maker *m, const registry_pairs *given, size_t i, const char *digest)
{
    char path[REGISTRY_PATH_MAX], config_path[REGISTRY_PATH_MAX], config_digest[REGISTRY_DIGEST_MAX];
    const char *name = given->items[i].name, *config = config_beside(given, i);
    bool peft = ends_with(name, ".safetensors");
    if (!registry_blob_exists(m->r, digest, NULL)) {
        return daemon_error(m->error, MLXR_ARG, "there is no blob %s", digest);
    }
    if (!peft) {
        return add_row(m, digest, false);
    }
    if (!config || !registry_digest_parse(config, config_digest) || !registry_blob_exists(m->r, config_digest, NULL)) {
        return daemon_error(m->error, MLXR_ARG, "its " CONFIG_NAME " must be among the adapters, too");
    }
    return blob_path(m->r, digest, path) && blob_path(m->r, config_digest, config_path)
               ? add_file(m, path, config_path)
               : daemon_error(m->error, MLXR_ARG, "the path of the store is too long");
}

static bool is_config(const registry_pair *file)
{
    return strcmp(base_name(file->name), CONFIG_NAME) == 0;
}

/* A configuration belongs to weights that were uploaded with it. */
static mlxr_status check_config(const maker *m, const registry_pairs *given, size_t i)
{
    const char *name = given->items[i].name;
    char digest[REGISTRY_DIGEST_MAX];
    size_t n = (size_t)(base_name(name) - name);
    bool beside = false;
    if (!registry_digest_parse(given->items[i].value, digest) || !registry_blob_exists(m->r, digest, NULL)) {
        return daemon_error(m->error, MLXR_ARG, "there is no blob %.100s", given->items[i].value);
    }
    for (size_t k = 0; k < given->n && !beside; k++) {
        const char *other = given->items[k].name;
        beside = (size_t)(base_name(other) - other) == n && strncmp(other, name, n) == 0 &&
                 ends_with(other, ".safetensors");
    }
    return beside ? MLXR_OK
                  : daemon_error(m->error, MLXR_ARG,
                                 "no weights (" WEIGHTS_NAME ") of this configuration are among the adapters");
}

mlxr_status create_adapters(registry *r, const registry_model *base, const registry_pairs *given, const char *model,
                            const char *directory, file_rows *files, mlxr_error *error)
{
    maker m = {.r = r, .model = model, .files = files, .error = error};
    bool elsewhere = base->source != REGISTRY_STORED && base->source != REGISTRY_IN_PLACE;
    mlxr_status status = MLXR_OK;
    size_t n = count(files) + (elsewhere ? base->adapters.n : 0);
    for (size_t i = 0; i < given->n; i++) { /* PEFT's two files are one */
        n += !is_config(&given->items[i]);
    }
    if (n > MLXR_ADAPTERS_MAX) {
        return daemon_error(error, MLXR_LIMIT, "%zu adapters; a model has at most %d", n, MLXR_ADAPTERS_MAX);
    }
    for (size_t i = 0; elsewhere && i < base->adapters.n && status == MLXR_OK; i++) {
        char path[REGISTRY_PATH_MAX];
        status = follow(base->adapters.items[i].name, path, error);
        status = status == MLXR_OK ? add_file(&m, path, NULL) : status;
        status = status == MLXR_OK ? status : failed(&m, status, base->adapters.items[i].name);
    }
    for (size_t i = 0; i < given->n && status == MLXR_OK; i++) {
        const char *value = given->items[i].value, *name = given->items[i].name;
        char digest[REGISTRY_DIGEST_MAX];
        status = is_config(&given->items[i])            ? check_config(&m, given, i)
                 : registry_digest_parse(value, digest) ? add_blob(&m, given, i, digest)
                                                        : add_path(&m, value, directory);
        status = status == MLXR_OK ? status : failed(&m, status, *name ? name : value);
    }
    for (size_t i = 0; i < m.n_made && status != MLXR_OK; i++) { /* else they would stay for a day */
        if (m.made[i].us) {
            registry_blob_forget(r, m.made[i].digest, m.made[i].us, NULL);
        }
    }
    return status;
}
