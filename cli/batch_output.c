/*
 * Results on disk.
 * Owner: the verb `batch`. Lifetime: batch_output_open to batch_output_close.
 */
#include "batch_output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "batch_reader.h"
#include "output.h"
#include "registry/disk.h"

#define MARK "mlxr"   /* the first member of a result says what it is the result of */
#define TURNS_MAX 100 /* of opening a file that others replace */
#define BEGINNING "{\"mlxr\":{\"request\":\""

/* ---- what is done ------------------------------------------------------------------------------------------------ */

static size_t slot_of(const batch_output *out, const char *key)
{
    size_t at = XXH3_64bits(key, strlen(key)) & (out->cap - 1);
    while (out->done[at].key && strcmp(out->done[at].key, key) != 0) {
        at = (at + 1) & (out->cap - 1);
    }
    return at;
}

static bool grow(batch_output *out)
{
    batch_output bigger = {.cap = out->cap ? out->cap * 2 : 256};
    bigger.done = calloc(bigger.cap, sizeof *bigger.done);
    if (!bigger.done) {
        return false;
    }
    for (size_t i = 0; i < out->cap; i++) {
        if (out->done[i].key) {
            bigger.done[slot_of(&bigger, out->done[i].key)] = out->done[i];
        }
    }
    free(out->done);
    out->done = bigger.done;
    out->cap = bigger.cap;
    return true;
}

static bool remember(batch_output *out, const char *key, uint64_t hash)
{
    if (2 * (out->n_done + 1) > out->cap && !grow(out)) {
        return false;
    }
    size_t at = slot_of(out, key);
    if (!out->done[at].key) {
        out->done[at].key = strdup(key);
        out->n_done++;
    }
    out->done[at].hash = hash;
    return out->done[at].key != NULL;
}

batch_state batch_output_find(const batch_output *out, const char *key, uint64_t hash)
{
    if (out->cap == 0) {
        return BATCH_NEW;
    }
    const batch_done *found = &out->done[slot_of(out, key)];
    return !found->key ? BATCH_NEW : found->hash == hash ? BATCH_DONE : BATCH_TAKEN;
}

json_t *batch_output_mark(const char *key, uint64_t hash, uint64_t line)
{
    char text[32];
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    return json_pack("{s:s, s:s, s:I}", "request", key, "hash", text, "line", (json_int_t)line);
}

/* ---- reading what is there --------------------------------------------------------------------------------------- */

/* Is the result an error, in either form? */
static bool is_error(const json_t *root)
{
    const json_t *status = json_object_get(json_object_get(root, "response"), "status_code");
    const json_t *error = json_object_get(root, "error");
    return (error && !json_is_null(error)) || (status && json_integer_value(status) != 200);
}

/* What a write of ours that did not come to its end leaves behind: its beginning, or zeros after a loss of power. In a
 * file without a whole result a few bytes of it, or zeros, may as well be somebody else's: it takes all of it there. */
static bool is_torn(const batch_reader *r, bool in_ours)
{
    if (!in_ours && (r->n_line < strlen(BEGINNING) || memcmp(r->line, BEGINNING, strlen(BEGINNING)) != 0)) {
        return false;
    }
    size_t n = r->n_line < strlen(BEGINNING) ? r->n_line : strlen(BEGINNING), zeros = 0;
    while (zeros < n && r->line[zeros] == '\0') {
        zeros++;
    }
    return (n > 0 || !r->complete) && (zeros == n || memcmp(r->line, BEGINNING, n) == 0);
}

typedef enum result_kind { RESULT_OURS, RESULT_TORN, RESULT_FOREIGN, RESULT_NO_MEMORY } result_kind;

/* Looks at a line, and remembers what it is the result of. *kept: it stays. */
static result_kind read_result(batch_output *out, const batch_reader *r, bool retry_errors, bool *kept)
{
    json_t *root = r->complete ? json_loadb(r->line, r->n_line, JSON_ALLOW_NUL, NULL) : NULL;
    const json_t *mark = json_object_get(root, MARK);
    const char *key = json_string_value(json_object_get(mark, "request"));
    const char *hash = json_string_value(json_object_get(mark, "hash"));
    result_kind kind = key && hash ? RESULT_OURS : is_torn(r, out->size > 0) ? RESULT_TORN : RESULT_FOREIGN;
    *kept = kind == RESULT_OURS && !(retry_errors && is_error(root));
    if (*kept && !remember(out, key, strtoull(hash, NULL, 16))) {
        kind = RESULT_NO_MEMORY;
    }
    json_decref(root);
    return kind;
}

static int refuse(const batch_output *out, const char *why)
{
    print_error("%s: %s", out->path, why);
    return EXIT_FAILED;
}

/* Copies a line to where results that are kept go. */
static bool keep(FILE *to, const batch_reader *r)
{
    return !to || (fwrite(r->line, 1, r->n_line, to) == r->n_line && putc('\n', to) != EOF);
}

/* Reads all lines; those kept go to `to` too, if that is not NULL. A torn end is not counted in out->size; a result
 * behind one, or anything else than results, means that the file is somebody else's or damaged. */
static int read_results(batch_output *out, int from, FILE *to)
{
    batch_reader r;
    bool failed = false, torn = false;
    int code = EXIT_OK;
    batch_reader_open(&r, from);
    while (code == EXIT_OK && batch_reader_next(&r, &failed)) {
        bool kept;
        result_kind kind = read_result(out, &r, to != NULL, &kept);
        if (kind == RESULT_NO_MEMORY) {
            code = refuse(out, "out of memory");
        } else if (kind == RESULT_OURS ? torn : kind == RESULT_FOREIGN) {
            print_error("%s: line %" PRIu64 " is no result of mlxr batch; the file is left as it is", out->path,
                        kind == RESULT_OURS ? r.number - 1 : r.number);
            code = EXIT_FAILED;
        } else if (kind != RESULT_OURS) {
            torn = true;
        } else if (kept && !keep(to, &r)) {
            code = refuse(out, strerror(errno));
        } else {
            out->size = (off_t)r.offset;
        }
    }
    if (code == EXIT_OK && failed) {
        code = refuse(out, strerror(errno));
    }
    batch_reader_close(&r);
    return code;
}

/* What the output's name leads to, and beside it the name of a new file. False: too long. */
static bool find_names(const batch_output *out, char path[PATH_MAX], char temporary[PATH_MAX])
{
    char *real = realpath(out->path, NULL); /* or a link would be replaced, and what it leads to left behind */
    int n = snprintf(path, PATH_MAX, "%s", real ? real : out->path);
    int n_temporary = snprintf(temporary, PATH_MAX, "%s.%ld.tmp", path, (long)getpid());
    free(real);
    return n >= 0 && n < PATH_MAX && n_temporary >= 0 && n_temporary < PATH_MAX;
}

/* A new file, and a stream that writes to it; `mode` from the beginning, so that nobody reads it who may not. -1: errno
 * says why, and nothing is left of it. */
static int open_new(const char *name, mode_t mode, FILE **to)
{
    unlink(name); /* of an earlier program with our number: our lock is refused to who else would write it */
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, mode);
    int copy = fd >= 0 ? dup(fd) : -1;
    *to = copy >= 0 ? fdopen(copy, "a") : NULL;
    if (fd >= 0 && !*to) {
        int reason = errno;
        if (copy >= 0) {
            close(copy);
        }
        close(fd);
        unlink(name);
        errno = reason;
        fd = -1;
    }
    return fd;
}

/* A file of the kept lines takes the place of the old one, which stays until the new one is whole. */
static int rewrite_without_errors(batch_output *out, int from)
{
    char path[PATH_MAX], temporary[PATH_MAX];
    struct stat old = {0};
    FILE *to = NULL;
    bool named = find_names(out, path, temporary);
    int fd = named && fstat(out->fd, &old) == 0 ? open_new(temporary, old.st_mode & 0777, &to) : -1;
    if (fd < 0) {
        int reason = errno;
        close(from);
        return refuse(out, named ? strerror(reason) : "the path is too long");
    }
    mlxr_error error = {0};
    int code = read_results(out, from, to);
    if (fclose(to) != 0 ||
        (code == EXIT_OK &&
         (fchmod(fd, old.st_mode & 0777) != 0 || flock(fd, LOCK_EX | LOCK_NB) != 0 ||
          disk_sync(fd, temporary, &error) != MLXR_OK || disk_rename(temporary, path, &error) != MLXR_OK))) {
        code = code == EXIT_OK ? refuse(out, *error.text ? error.text : strerror(errno)) : code;
    }
    if (code != EXIT_OK) {
        unlink(temporary);
        close(fd);
        return code;
    }
    close(out->fd);
    out->fd = fd;
    out->size = lseek(fd, 0, SEEK_END);
    return EXIT_OK;
}

/* Opens and locks it. Another batch may have put a new file in its place between the two: what would be locked then has
 * no name any more, and what is written there is lost. */
static int open_locked(batch_output *out)
{
    struct stat info, named;
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        out->fd = open(out->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (out->fd < 0 || fstat(out->fd, &info) != 0) {
            return refuse(out, strerror(errno));
        }
        if (!S_ISREG(info.st_mode)) {
            return refuse(out, "results go to a regular file, or without -o to stdout");
        }
        if (flock(out->fd, LOCK_EX | LOCK_NB) != 0) {
            return refuse(out, errno == EWOULDBLOCK ? "another mlxr batch is writing it" : strerror(errno));
        }
        if (stat(out->path, &named) == 0 && named.st_dev == info.st_dev && named.st_ino == info.st_ino) {
            return EXIT_OK;
        }
        close(out->fd);
        out->fd = -1;
    }
    return refuse(out, "other programs replace or remove it all the time; let one at a time write it");
}

int batch_output_open(batch_output *out, const char *path, bool retry_errors)
{
    struct stat info;
    *out = (batch_output){.path = path, .fd = STDOUT_FILENO, .synced = now_seconds()};
    int code = path ? open_locked(out) : EXIT_OK;
    if (!path || code != EXIT_OK) {
        return code;
    }
    int from = dup(out->fd);
    if (from < 0 || lseek(from, 0, SEEK_SET) != 0) {
        int reason = errno;
        close(from);
        return refuse(out, strerror(reason));
    }
    code = retry_errors ? rewrite_without_errors(out, from) : read_results(out, from, NULL);
    if (code == EXIT_OK && fstat(out->fd, &info) == 0 && info.st_size > out->size) {
        print_note("%s: %lld bytes at its end were never finished; they are cut off", path,
                   (long long)(info.st_size - out->size));
        code = ftruncate(out->fd, out->size) == 0 ? EXIT_OK : refuse(out, strerror(errno));
    }
    return code;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static bool write_whole(batch_output *out, const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t wrote = write(out->fd, text + at, n - at);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            print_error("%s: %s", out->path ? out->path : "stdout", strerror(errno));
            if (at && out->path && ftruncate(out->fd, out->size) != 0) {
                print_error("%s: its last line is torn; the next run cuts it off", out->path);
            }
            return false;
        }
        at += (size_t)wrote;
    }
    out->size += (off_t)n;
    return true;
}

bool batch_output_add(batch_output *out, json_t *result, const char *key, uint64_t hash)
{
    char *text = result ? json_dumps(result, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    size_t n = text ? strlen(text) : 0;
    json_decref(result);
    if (!text) {
        print_error("out of memory for the result of %s", key);
        return false;
    }
    text[n] = '\n'; /* in the place of the NUL: one write, with its line feed */
    bool ok = write_whole(out, text, n + 1);
    free(text);
    if (ok && !remember(out, key, hash)) {
        print_error("out of memory for the names of %zu results", out->n_done);
        return false;
    }
    batch_output_sync(out, false);
    return ok;
}

void batch_output_sync(batch_output *out, bool now)
{
    double seconds = now_seconds();
    if (out->path && (now || seconds - out->synced >= 1)) {
        disk_sync(out->fd, out->path, NULL);
        out->synced = seconds;
    }
}

void batch_output_close(batch_output *out)
{
    for (size_t i = 0; i < out->cap; i++) {
        free(out->done[i].key);
    }
    free(out->done);
    if (out->path && out->fd >= 0) {
        batch_output_sync(out, true);
        close(out->fd);
    }
    *out = (batch_output){.fd = -1};
}
