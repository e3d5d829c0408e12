/*
 * Pulls from Hugging Face.
 * Owner: registry_pull. Lifetime: the call.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/digest.h"
#include "registry/disk.h"
#include "registry/http_text.h"
#include "registry/hub.h"
#include "registry/pull.h"

#define PAGES_MAX 20u
#define SMALL_FILE_MAX ((size_t)64 << 20) /* of files without a SHA-256: configurations and tokenizers */

typedef struct hub_pull {
    pull *p;
    char endpoint[512], repository[260], quant[64], revision[72];
    char *token; /* NULL: none */
    hub_list list;
    bool *picked;
    char label[64];
    size_t first;
} hub_pull;

static bool split_name(hub_pull *h, const char *what)
{
    size_t n = strcspn(what, ":");
    const char *slash = strchr(what, '/');
    if (!slash || n >= sizeof h->repository || (size_t)(slash - what) >= n || strchr(slash + 1, '/')) {
        return false;
    }
    snprintf(h->repository, sizeof h->repository, "%.*s", (int)n, what);
    return registry_name_valid(h->repository) &&
           snprintf(h->quant, sizeof h->quant, "%s", what[n] ? what + n + 1 : "") < (int)sizeof h->quant;
}

/* $HF_TOKEN, or the file that `hf auth login` writes. It leaves this machine over https only. */
static char *find_token(const char *endpoint)
{
    const char *token = getenv("HF_TOKEN"), *base = getenv("HF_HOME"), *home = getenv("HOME");
    char path[REGISTRY_PATH_MAX] = "", *text = NULL;
    size_t n = 0;
    bool local = strncmp(endpoint, "http://127.0.0.1", 16) == 0;
    if (strncmp(endpoint, "https://", 8) != 0 && !local) {
        return NULL;
    }
    if (token) {
        text = strdup(token);
    } else if (base && *base ? disk_join(path, sizeof path, base, "token")
                             : home && *home && disk_join(path, sizeof path, home, ".cache/huggingface/token")) {
        disk_read_file(path, 4096, &text, &n, NULL);
    }
    n = text ? strcspn(text, " \t\r\n") : 0;
    if (n == 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

/* The commit that the branch is at, so that the list and all files are of one. */
static mlxr_status read_revision(hub_pull *h, mlxr_error *error)
{
    char url[TRANSFER_URL_MAX];
    transfer_answer answer;
    json_error_t where;
    snprintf(url, sizeof url, "%s/api/models/%s/revision/main", h->endpoint, h->repository);
    mlxr_status status = transfer_get(h->p->t, url, "application/json", h->token, HUB_BYTES_MAX, &answer, error);
    if (status != MLXR_OK) {
        return status;
    }
    json_t *root = answer.code == 200 ? json_loadb(answer.body, answer.n, JSON_REJECT_DUPLICATES, &where) : NULL;
    const char *sha = json_string_value(json_object_get(root, "sha"));
    if (answer.code == 401) {
        status = daemon_error(error, MLXR_ARG, "%s is not there, or wants a login: set HF_TOKEN", h->repository);
    } else if (!sha || strlen(sha) != 40 || strspn(sha, "0123456789abcdef") != 40) {
        status = daemon_error(error, MLXR_FORMAT, "%s does not tell which commit %s is at", h->endpoint, h->repository);
    } else {
        snprintf(h->revision, sizeof h->revision, "%s", sha);
    }
    json_decref(root);
    free(answer.body);
    return status;
}

static mlxr_status read_list(hub_pull *h, mlxr_error *error)
{
    char url[TRANSFER_URL_MAX], next[TRANSFER_URL_MAX];
    mlxr_status status = MLXR_OK;
    digest_state *digest = digest_begin();
    snprintf(url, sizeof url, "%s/api/models/%s/tree/%s?recursive=true", h->endpoint, h->repository, h->revision);
    for (unsigned page = 0; status == MLXR_OK; page++) {
        transfer_answer answer;
        status = transfer_get(h->p->t, url, "application/json", h->token, HUB_BYTES_MAX, &answer, error);
        if (status != MLXR_OK) {
            break;
        }
        status = answer.code == 200 ? hub_parse(&h->list, answer.body, answer.n, error)
                                    : daemon_error(error, MLXR_ARG, "%s wants a login: set HF_TOKEN", h->repository);
        if (!digest || !digest_add(digest, answer.body, answer.n)) {
            status = status == MLXR_OK ? registry_fail_nomem(error) : status;
        }
        bool more = answer.link[0] && http_link_next(answer.link, next, sizeof next);
        free(answer.body);
        if (status != MLXR_OK || !more) {
            break;
        }
        if (page + 1 == PAGES_MAX || !transfer_same_host(url, next)) {
            status = daemon_error(error, MLXR_FORMAT, "the list of files has too many pages, or leads to another host");
            break;
        }
        snprintf(url, sizeof url, "%s", next);
    }
    if (!digest_end(&digest, h->p->manifest) && status == MLXR_OK) {
        status = registry_fail_nomem(error);
    }
    return status;
}

static const char *file_name(const hub_file *file)
{
    const char *slash = strrchr(file->path, '/');
    return slash ? slash + 1 : file->path;
}

/* A small file, whose digest is Git's. */
static mlxr_status fetch_small(hub_pull *h, const hub_file *file, const char *url, char *digest, mlxr_error *error)
{
    transfer_answer answer;
    registry_blob *b;
    char git[41];
    if (file->n_bytes > SMALL_FILE_MAX || !file->git[0]) {
        return daemon_error(error, MLXR_FORMAT, "%s has no digest that could be checked", file->path);
    }
    mlxr_status status = transfer_get(h->p->t, url, NULL, h->token, (size_t)file->n_bytes, &answer, error);
    if (status != MLXR_OK) {
        return status;
    }
    if (answer.code != 200 || answer.n != file->n_bytes || !digest_git_blob(answer.body, answer.n, git) ||
        strcmp(git, file->git) != 0) {
        status = daemon_error(error, MLXR_FORMAT, "%s is not the file that the list describes", file->path);
    }
    status = status == MLXR_OK ? registry_blob_begin(&b, h->p->r, NULL, file->n_bytes, error) : status;
    if (status == MLXR_OK) {
        status = registry_blob_write(b, answer.body, answer.n, error);
        status = status == MLXR_OK ? registry_blob_commit(&b, digest, error) : status;
        registry_blob_abort(&b);
    }
    h->p->now.done += answer.n;
    free(answer.body);
    return status;
}

static mlxr_status fetch_one(hub_pull *h, const hub_file *file, stored_file *out, mlxr_error *error)
{
    char url[TRANSFER_URL_MAX];
    const char *name = file_name(file);
    size_t n = strlen(name);
    bool gguf = n > 5 && strcmp(name + n - 5, ".gguf") == 0;
    snprintf(url, sizeof url, "%s/%s/resolve/%s/%s", h->endpoint, h->repository, h->revision, file->path);
    out->name = name;
    out->n_bytes = file->n_bytes;
    if (!file->digest[0]) {
        return pull_tell(h->p, name) ? fetch_small(h, file, url, out->digest, error)
                                     : daemon_error(error, MLXR_LIMIT, "cancelled");
    }
    download_request request = {.url = url,
                                .bearer = h->token,
                                .digest = file->digest,
                                .n_bytes = file->n_bytes,
                                .bytes_max = file->n_bytes,
                                .magic = gguf ? "GGUF" : NULL};
    uint64_t n_bytes;
    return pull_blob(h->p, &request, name, out->digest, &n_bytes, error);
}

/* Which of the picked files the model's digest is of. */
static bool is_weights(const hub_pull *h, size_t i)
{
    const char *name = file_name(&h->list.items[i]);
    size_t n = strlen(name);
    return h->label[0] ? i == h->first : n > 12 && strcmp(name + n - 12, ".safetensors") == 0;
}

static mlxr_status fetch_files(hub_pull *h, mlxr_error *error)
{
    size_t n = 0, n_weights = 0;
    stored_file *files = calloc(h->list.n ? h->list.n : 1, sizeof *files);
    if (!files) {
        return registry_fail_nomem(error);
    }
    for (size_t i = 0; i < h->list.n; i++) {
        h->p->now.total += h->picked[i] ? h->list.items[i].n_bytes : 0;
        h->p->now.n_files += h->picked[i];
    }
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < h->list.n && status == MLXR_OK; i++) {
        if (h->picked[i]) {
            h->p->now.file++;
            status = fetch_one(h, &h->list.items[i], &files[n], error);
            files[n].role = is_weights(h, i) && n_weights++ == 0 ? "weights" : "part";
            n++;
        }
    }
    registry_pairs warnings = {0};
    for (size_t i = 0; i < n && status == MLXR_OK && h->p->expected; i++) {
        if (strcmp(files[i].role, "weights") == 0 && strcmp(files[i].digest, h->p->expected) != 0 &&
            !registry_pairs_add(&warnings, "digest",
                                "the repository has another file now than the catalogue describes")) {
            status = registry_fail_nomem(error);
        }
    }
    if (status == MLXR_OK) {
        status = pull_store(h->p, &(stored_model){.files = files, .n_files = n, .warnings = &warnings}, error);
    }
    registry_pairs_close(&warnings);
    free(files);
    return status;
}

static mlxr_status run(hub_pull *h, mlxr_error *error)
{
    char name[REGISTRY_NAME_MAX + 80];
    mlxr_status status = pull_tell(h->p, "list of files") ? read_revision(h, error)
                                                          : daemon_error(error, MLXR_LIMIT, "cancelled");
    status = status == MLXR_OK ? read_list(h, error) : status;
    if (status != MLXR_OK) {
        return status;
    }
    h->picked = calloc(h->list.n ? h->list.n : 1, sizeof *h->picked);
    status = h->picked ? hub_pick(&h->list, h->quant[0] ? h->quant : NULL, h->picked, h->label, &h->first, error)
                       : registry_fail_nomem(error);
    if (status != MLXR_OK) {
        return status;
    }
    snprintf(name, sizeof name, "%s%s%s", h->repository, h->label[0] ? ":" : "", h->label);
    if (!h->p->name[0] && !pull_set_name(h->p, name)) {
        return daemon_error(error, MLXR_ARG, "'%.120s' cannot be the name of a model; give one with --as NAME", name);
    }
    snprintf(h->p->origin, sizeof h->p->origin, "hf:%s@%s", name, h->revision);
    return fetch_files(h, error);
}

mlxr_status pull_hub(pull *p, const char *what, mlxr_error *error)
{
    hub_pull h = {.p = p};
    if (!split_name(&h, what)) {
        return daemon_error(error, MLXR_ARG,
                            "'%.80s' is no repository: hf:owner/repo or hf:owner/repo:Q4_K_M is needed", what);
    }
    if (!pull_endpoint("HF_ENDPOINT", "https://huggingface.co", h.endpoint, sizeof h.endpoint)) {
        return daemon_error(error, MLXR_ARG, "HF_ENDPOINT is no URL with http or https");
    }
    h.token = find_token(h.endpoint);
    mlxr_status status = run(&h, error);
    if (h.token) {
        OPENSSL_cleanse(h.token, strlen(h.token));
        free(h.token);
    }
    free(h.picked);
    hub_close(&h.list);
    return status;
}
