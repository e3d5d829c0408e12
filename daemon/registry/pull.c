/*
 * Pulls: what a name means, and what is common to all kinds.
 * Owner: registry_pull. Lifetime: the call.
 */
#include "registry/pull.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry/catalogue.h"
#include "registry/digest.h"
#include "registry/disk.h"
#include "registry/found.h"

/* ---- shared ------------------------------------------------------------------------------------------------------ */

static bool go_on(void *user)
{
    pull *p = user;
    return !p->options->progress || p->options->progress(p->options->user, &p->now);
}

bool pull_tell(pull *p, const char *what)
{
    snprintf(p->what, sizeof p->what, "%s", what);
    p->now.what = p->what;
    return go_on(p);
}

bool pull_set_name(pull *p, const char *name)
{
    return name_canonical(p->options->name ? p->options->name : name, p->name);
}

bool pull_endpoint(const char *variable, const char *usual, char *out, size_t cap)
{
    const char *given = getenv(variable);
    int n = snprintf(out, cap, "%s", given && *given ? given : usual);
    if (n <= 0 || (size_t)n >= cap) {
        return false;
    }
    while (n > 0 && out[n - 1] == '/') {
        out[--n] = '\0';
    }
    return strncmp(out, "https://", 8) == 0 || strncmp(out, "http://", 7) == 0;
}

static void on_progress(void *user, uint64_t done, uint64_t total)
{
    pull *p = user;
    p->now.file_done = done;
    p->now.file_total = total == UINT64_MAX ? 0 : total;
}

mlxr_status pull_blob(pull *p, const download_request *given, const char *what, char *digest, uint64_t *n_bytes,
                      mlxr_error *error)
{
    download_request request = *given;
    request.n_parallel = p->n_parallel;
    request.piece_bytes = p->piece_bytes;
    request.progress = on_progress;
    request.user = p;
    p->now.file_done = 0;
    p->now.file_total = given->n_bytes == UINT64_MAX ? 0 : given->n_bytes;
    p->now.digest = given->digest;
    if (!pull_tell(p, what)) {
        return daemon_error(error, MLXR_LIMIT, "cancelled");
    }
    mlxr_status status = download_blob(p->r, p->t, &request, digest, n_bytes, error);
    p->now.digest = NULL;
    if (status == MLXR_OK) {
        p->now.done += *n_bytes;
        p->now.file_done = 0;
        p->now.file_total = 0;
    } else if (error) {
        char text[sizeof error->text];
        memcpy(text, error->text, sizeof text);
        daemon_error(error, status, "%.150s: %s", what, text);
    }
    return status;
}

mlxr_status pull_store(pull *p, const stored_model *m, mlxr_error *error)
{
    stored_model whole = *m;
    whole.name = p->name;
    whole.path = "";
    whole.origin = p->origin;
    memcpy(whole.manifest, p->manifest, sizeof whole.manifest);
    return pull_tell(p, "storing") ? rows_put(p->r, &whole, error) : daemon_error(error, MLXR_LIMIT, "cancelled");
}

uint64_t pull_number(const char *variable, uint64_t usual)
{
    const char *text = getenv(variable);
    char *end;
    errno = 0;
    unsigned long long number = text && *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    return number && !errno && *end == '\0' ? number : usual;
}

/* ---- URLs and files ---------------------------------------------------------------------------------------------- */

/* "name" of https://host/path/name.gguf?x. */
static bool name_of_url(const char *url, char *out, size_t cap)
{
    size_t n = strcspn(url, "?#"), at = n;
    while (at > 0 && url[at - 1] != '/') {
        at--;
    }
    int length = snprintf(out, cap, "%.*s", (int)(n - at), url + at);
    if (length <= 0 || (size_t)length >= cap) {
        return false;
    }
    size_t stem = found_stem(out);
    out[stem ? stem : (size_t)length] = '\0';
    return true;
}

mlxr_status pull_url(pull *p, const char *url, mlxr_error *error)
{
    char plain[TRANSFER_URL_MAX], digest[REGISTRY_DIGEST_MAX], name[300], expected[REGISTRY_DIGEST_MAX];
    const char *fragment = strchr(url, '#'), *wanted = p->options->digest;
    uint64_t n_bytes;
    if (snprintf(plain, sizeof plain, "%.*s", (int)strcspn(url, "#"), url) >= (int)sizeof plain) {
        return daemon_error(error, MLXR_ARG, "the URL is longer than %u bytes", TRANSFER_URL_MAX - 1);
    }
    if (fragment && strncmp(fragment, "#sha256=", 8) == 0) {
        snprintf(name, sizeof name, "sha256:%.80s", fragment + 8);
        wanted = name;
    }
    if (wanted && !registry_digest_parse(wanted, expected)) {
        return daemon_error(error, MLXR_ARG, "'%.80s' is no SHA-256: 64 hexadecimal digits in lower case are needed",
                            wanted);
    }
    if (!name_of_url(plain, name, sizeof name) || !pull_set_name(p, name)) {
        return daemon_error(error, MLXR_ARG, "the URL's last part cannot be a name; give one with --as NAME");
    }
    snprintf(p->origin, sizeof p->origin, "%s", plain);
    download_request request = {.url = plain,
                                .digest = wanted ? expected : NULL,
                                .n_bytes = UINT64_MAX,
                                .bytes_max = disk_free_bytes(p->r->store),
                                .magic = "GGUF"};
    mlxr_status status = pull_blob(p, &request, p->name, digest, &n_bytes, error);
    if (status != MLXR_OK) {
        return status;
    }
    stored_file file = {.role = "weights", .name = "model.gguf", .n_bytes = n_bytes};
    memcpy(file.digest, digest, sizeof digest);
    return pull_store(p, &(stored_model){.files = &file, .n_files = 1}, error);
}

static mlxr_status copy_file(pull *p, int fd, const char *path, char *digest, mlxr_error *error)
{
    enum { PIECE = 2 << 20 }; /* a large page: the file is in such when it is mapped */
    registry_blob *b = NULL;
    char *piece = malloc(PIECE);
    mlxr_status status = piece ? registry_blob_begin(&b, p->r, p->options->digest, p->now.file_total, error)
                               : registry_fail_nomem(error);
    while (status == MLXR_OK) {
        ssize_t got = read(fd, piece, PIECE);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            status = got < 0 ? registry_fail_errno(error, errno, "cannot read", path) : MLXR_OK;
            break;
        }
        status = registry_blob_write(b, piece, (size_t)got, error);
        p->now.file_done += (uint64_t)got;
        if (status == MLXR_OK && !go_on(p)) {
            status = daemon_error(error, MLXR_LIMIT, "cancelled");
        }
    }
    if (status == MLXR_OK) {
        status = registry_blob_commit(&b, digest, error);
    }
    registry_blob_abort(&b);
    free(piece);
    return status;
}

mlxr_status pull_file(pull *p, const char *path, mlxr_error *error)
{
    char name[300], *description = NULL;
    struct stat info;
    stored_file file = {.role = "weights", .name = "model.gguf"};
    if (!name_of_url(path, name, sizeof name) || !pull_set_name(p, name)) {
        return daemon_error(error, MLXR_ARG, "the file's name cannot be a model's; give one with --as NAME");
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        mlxr_status status = fd < 0 ? registry_fail_errno(error, errno, "cannot open", path)
                                    : daemon_error(error, MLXR_ARG,
                                                   "%s is no file; mlxr create takes folders, in place", path);
        if (fd >= 0) {
            close(fd);
        }
        return status;
    }
    mlxr_status status = mlxr_model_describe(path, &description, error);
    mlxr_free(description);
    uint64_t available = disk_free_bytes(p->r->store);
    if (status == MLXR_OK && available < (uint64_t)info.st_size) {
        status = daemon_error(error, MLXR_IO, "%lld bytes are needed in %s, %llu are free", (long long)info.st_size,
                              p->r->store, (unsigned long long)available);
    }
    if (status == MLXR_OK) {
        char full[REGISTRY_PATH_MAX], *real = realpath(path, NULL);
        snprintf(full, sizeof full, "%s", real ? real : path);
        free(real);
        snprintf(p->origin, sizeof p->origin, "%s", full);
        p->now.file_total = (uint64_t)info.st_size;
        status = pull_tell(p, name) ? copy_file(p, fd, path, file.digest, error)
                                    : daemon_error(error, MLXR_LIMIT, "cancelled");
    }
    close(fd);
    return status == MLXR_OK ? pull_store(p, &(stored_model){.files = &file, .n_files = 1}, error) : status;
}

/* ---- what a name means ------------------------------------------------------------------------------------------- */

/* What follows one of the ways to say Hugging Face, or NULL. */
static const char *hub_part(const char *source)
{
    static const char *const ways[] = {"hf:", "hf.co/", "huggingface.co/", "https://hf.co/", "https://huggingface.co/"};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        size_t n = strlen(ways[i]);
        if (strncasecmp(source, ways[i], n) == 0 && (i < 3 || !strstr(source + n, "/resolve/"))) {
            return source + n;
        }
    }
    return NULL;
}

bool pull_asks_ollama(const char *source)
{
    const char *slash = strchr(source, '/');
    return !hub_part(source) && strncmp(source, "file:", 5) != 0 && !(slash && strchr(slash + 1, '/'));
}

static mlxr_status run(pull *p, const char *source, mlxr_error *error)
{
    const catalogue_entry *entry = catalogue_entry_find(source);
    if (entry) {
        if (!pull_set_name(p, entry->name)) {
            return daemon_error(error, MLXR_ARG, "'%.80s' cannot be the name of a model", p->options->name);
        }
        source = entry->source;
        p->expected = entry->digest;
    }
    const char *hub = hub_part(source);
    if (hub) {
        return pull_hub(p, hub, error);
    }
    if (strncasecmp(source, "http://", 7) == 0 || strncasecmp(source, "https://", 8) == 0) {
        return pull_url(p, source, error);
    }
    bool named_file = strncmp(source, "file:", 5) == 0;
    if (named_file || *source == '/' || *source == '.' || *source == '~') {
        if (!p->options->allow_files) {
            return daemon_error(error, MLXR_ARG, "'%.80s' is no model's name", source);
        }
        return pull_file(p, source + (strncmp(source, "file://", 7) == 0 ? 7 : named_file ? 5 : 0), error);
    }
    return pull_ollama(p, strncmp(source, "ollama:", 7) == 0 ? source + 7 : source, error);
}

mlxr_status registry_pull(registry *r, const char *source, const registry_pull_options *options, char *name,
                          mlxr_error *error)
{
    static const registry_pull_options none;
    transfer_options t = {.stall_s = (uint32_t)pull_number("MLXR_PULL_STALL_S", 30),
                          .retry_ms = (uint32_t)pull_number("MLXR_PULL_RETRY_MS", 500),
                          .go_on = go_on};
    if (r->options.read_only) {
        return inside_fail_read_only(r, error);
    }
    pull *p = calloc(1, sizeof *p);
    if (!p) {
        return registry_fail_nomem(error);
    }
    p->r = r;
    p->options = options ? options : &none;
    p->now.what = "";
    p->piece_bytes = pull_number("MLXR_PULL_PIECE_BYTES", 0);
    p->n_parallel = (uint32_t)pull_number("MLXR_PULL_PARALLEL", 4);
    t.allow_private = p->options->allow_private ? p->options->allow_private : getenv("MLXR_ALLOW_PRIVATE");
    t.user = p;
    mlxr_status status = transfer_open(&p->t, &t, error);
    status = status == MLXR_OK ? run(p, source, error) : status;
    if (status == MLXR_OK && name) {
        memcpy(name, p->name, sizeof p->name);
    }
    transfer_close(&p->t);
    free(p);
    return status;
}
