/*
 * Pushes to Ollama's registry, and others that speak its protocol.
 * Owner: registry_push. Lifetime: the call.
 *
 * Each layer: HEAD (there already?) ─▶ POST …/uploads/ ─▶ PUT where that leads, with the digest. Then the manifest, so
 * that nobody sees a model of which something is missing. Weights are read from where they lie and go in one request.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mlxr_adapter.h"
#include "registry/digest.h"
#include "registry/disk.h"
#include "registry/pull.h"
#include "registry/rows.h"

#define LAYERS_MAX (8u + MLXR_ADAPTERS_MAX)

typedef struct layer {
    const char *type;
    char digest[REGISTRY_DIGEST_MAX];
    uint64_t n_bytes;
    char *text;       /* [n_bytes]; NULL: of the file */
    const char *path; /* of a file */
} layer;

typedef struct push {
    registry *r;
    transfer *t;
    const registry_pull_options *options;
    registry_pull_progress now;
    ollama_place at;
    char *token;
    registry_model m;
    layer layers[LAYERS_MAX]; /* the configuration is the last */
    size_t n_layers;
    const layer *sending;
    int fd; /* of the file that is sent, or −1 */
} push;

static bool go_on(void *user)
{
    push *p = user;
    return !p->options->progress || p->options->progress(p->options->user, &p->now);
}

/* ---- what it is made of ------------------------------------------------------------------------------------------ */

/* Takes the text over. */
static mlxr_status add_text(push *p, const char *type, char *text, mlxr_error *error)
{
    uint8_t hash[32];
    if (!text) {
        return registry_fail_nomem(error);
    }
    layer *l = &p->layers[p->n_layers++];
    *l = (layer){.type = type, .text = text, .n_bytes = strlen(text), .digest = "sha256:"};
    if (!digest_raw(text, l->n_bytes, hash)) {
        return registry_fail_nomem(error);
    }
    digest_hex(hash, 32, l->digest + 7);
    return MLXR_OK;
}

static char *dump(json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    return text;
}

/* {"stop": [...], "temperature": 0.6} */
static json_t *parameters_json(const registry_pairs *pairs)
{
    json_t *made = json_object();
    for (size_t i = 0; i < pairs->n; i++) {
        const char *name = pairs->items[i].name, *text = pairs->items[i].value;
        if (strcmp(name, "stop") == 0) {
            if (!json_object_get(made, name)) {
                json_object_set_new(made, name, json_array());
            }
            json_array_append_new(json_object_get(made, name), json_string(text));
        } else {
            json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
            json_object_set_new(made, name, value ? value : json_string(text));
        }
    }
    return made;
}

static json_t *messages_json(const registry_pairs *pairs)
{
    json_t *made = json_array();
    for (size_t i = 0; i < pairs->n; i++) {
        json_array_append_new(made,
                              json_pack("{s:s, s:s}", "role", pairs->items[i].name, "content", pairs->items[i].value));
    }
    return made;
}

static mlxr_status add_weights(push *p, mlxr_error *error)
{
    struct stat info;
    layer *l = &p->layers[p->n_layers];
    size_t n = strlen(p->m.path);
    bool blob = p->m.source == REGISTRY_STORED && strstr(p->m.path, "/blobs/sha256-");
    if (stat(p->m.path, &info) != 0 || !S_ISREG(info.st_mode) ||
        !(blob || (n > 5 && strcmp(p->m.path + n - 5, ".gguf") == 0)) || strstr(p->m.path, "-00001-of-")) {
        return daemon_error(error, MLXR_UNSUPPORTED, "only models of one GGUF file can be pushed");
    }
    *l = (layer){.type = "application/vnd.ollama.image.model", .path = p->m.path, .n_bytes = (uint64_t)info.st_size};
    p->n_layers++;
    if (blob && registry_digest_parse(p->m.digest, l->digest)) {
        return MLXR_OK;
    }
    p->now.what = "reading";
    return go_on(p) ? disk_digest(p->m.path, l->digest, &l->n_bytes, error)
                    : daemon_error(error, MLXR_LIMIT, "cancelled");
}

/* Others take GGUF for adapters, so what PEFT wrote stays here. */
static mlxr_status add_adapters(push *p, mlxr_error *error)
{
    if (p->m.adapters.n > MLXR_ADAPTERS_MAX) { /* what another program has, or another version kept */
        return daemon_error(error, MLXR_LIMIT, "the model has %zu adapters; at most %d can be pushed", p->m.adapters.n,
                            MLXR_ADAPTERS_MAX);
    }
    for (size_t i = 0; i < p->m.adapters.n; i++) {
        const registry_pair *adapter = &p->m.adapters.items[i];
        layer *l = &p->layers[p->n_layers];
        char magic[4];
        int fd = -1;
        struct stat info;
        mlxr_status status = disk_open(&fd, adapter->name, false, error);
        status = status == MLXR_OK ? disk_read(fd, magic, sizeof magic, 0, adapter->name, error) : status;
        if (fd >= 0) {
            close(fd);
        }
        if (status == MLXR_OK && (memcmp(magic, "GGUF", 4) != 0 || stat(adapter->name, &info) != 0 ||
                                  !registry_digest_parse(adapter->value, l->digest))) {
            status = daemon_error(error, MLXR_UNSUPPORTED, "only adapters that are GGUF can be pushed");
        }
        if (status != MLXR_OK) {
            return status;
        }
        l->type = "application/vnd.ollama.image.adapter";
        l->path = adapter->name;
        l->n_bytes = (uint64_t)info.st_size;
        p->n_layers++;
    }
    return MLXR_OK;
}

static mlxr_status add_config(push *p, mlxr_error *error)
{
    json_t *digests = json_array();
    for (size_t i = 0; i < p->n_layers; i++) {
        json_array_append_new(digests, json_string(p->layers[i].digest));
    }
    json_t *config = json_pack("{s:s, s:s, s:[s], s:s, s:s, s:s, s:{s:s, s:o}}", "model_format", "gguf", "model_family",
                               p->m.family, "model_families", p->m.family, "file_type", p->m.quant, "architecture",
                               "amd64", "os", "linux", "rootfs", "type", "layers", "diff_ids", digests);
    return add_text(p, "application/vnd.docker.container.image.v1+json", dump(config), error);
}

static mlxr_status gather(push *p, mlxr_error *error)
{
    const registry_model *m = &p->m;
    mlxr_status status = add_weights(p, error);
    status = status == MLXR_OK ? add_adapters(p, error) : status;
    if (status == MLXR_OK && m->template_text) { /* Jinja, which others must not take for their own */
        status = add_text(p, "application/vnd.mlxr.image.template", strdup(m->template_text), error);
    }
    if (status == MLXR_OK && m->system && *m->system) {
        status = add_text(p, "application/vnd.ollama.image.system", strdup(m->system), error);
    }
    if (status == MLXR_OK && m->license && *m->license) {
        status = add_text(p, "application/vnd.ollama.image.license", strdup(m->license), error);
    }
    if (status == MLXR_OK && m->parameters.n) {
        status = add_text(p, "application/vnd.ollama.image.params", dump(parameters_json(&m->parameters)), error);
    }
    if (status == MLXR_OK && m->messages.n) {
        status = add_text(p, "application/vnd.ollama.image.messages", dump(messages_json(&m->messages)), error);
    }
    return status == MLXR_OK ? add_config(p, error) : status;
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

static bool read_part(fetch *f, uint64_t at, char *data, size_t n)
{
    push *p = f->user;
    if (p->fd < 0) {
        memcpy(data, p->sending->text + at, n);
    } else if (disk_read(p->fd, data, n, at, p->sending->path, NULL) != MLXR_OK) {
        return false;
    }
    p->now.file_done = at + n;
    return true;
}

/* Once more with a token where the registry wants one. */
static mlxr_status send_request(push *p, fetch *f, const char *url, const char *method, mlxr_error *error)
{
    const char *type = f->content_type;
    uint64_t n_upload = f->n_upload;
    mlxr_status status = MLXR_OK;
    for (unsigned tries = 0; tries < 2; tries++) {
        *f = (fetch){.begin_url = url,
                     .method = method,
                     .bearer = p->token,
                     .content_type = type,
                     .n_upload = n_upload,
                     .source = read_part,
                     .user = p};
        status = transfer_send(p->t, f, error);
        if (status != MLXR_OK || f->code != 401 || p->token || !f->challenge[0]) {
            break;
        }
        char challenge[sizeof f->challenge];
        memcpy(challenge, f->challenge, sizeof challenge);
        status = ollama_token(p->t, p->at.base, challenge, &p->token, error);
        if (status != MLXR_OK) {
            break;
        }
    }
    return status;
}

static mlxr_status judge(const push *p, const fetch *f, const char *what, mlxr_error *error)
{
    if (f->result == FETCH_DONE) {
        return MLXR_OK;
    }
    if (f->code == 401 || f->code == 403) {
        return daemon_error(error, MLXR_ARG, "%s does not let us push to %s", p->at.base, p->at.repository);
    }
    return daemon_error(error, f->status ? f->status : MLXR_IO, "%s: %s", what, f->error.text);
}

static mlxr_status put_layer(push *p, fetch *f, const layer *l, mlxr_error *error)
{
    char url[TRANSFER_URL_MAX], place[TRANSFER_URL_MAX];
    snprintf(url, sizeof url, "%s/v2/%s/blobs/%s", p->at.base, p->at.repository, l->digest);
    *f = (fetch){0};
    mlxr_status status = send_request(p, f, url, "HEAD", error);
    if (status != MLXR_OK || f->result == FETCH_DONE) {
        return status; /* it is there */
    }
    if (f->code != 404) {
        return judge(p, f, "asking for a layer", error);
    }
    snprintf(url, sizeof url, "%s/v2/%s/blobs/uploads/", p->at.base, p->at.repository);
    *f = (fetch){0};
    status = send_request(p, f, url, "POST", error);
    status = status == MLXR_OK ? judge(p, f, "beginning an upload", error) : status;
    if (status == MLXR_OK && !transfer_location(url, f->location, place)) {
        status = daemon_error(error, MLXR_FORMAT, "%s does not tell where to send a layer to, or tells another host",
                              p->at.base);
    }
    if (status != MLXR_OK) {
        return status;
    }
    size_t n = strlen(place);
    if (snprintf(place + n, sizeof place - n, "%sdigest=%s", strchr(place, '?') ? "&" : "?", l->digest) >=
        (int)(sizeof place - n)) {
        return daemon_error(error, MLXR_FORMAT, "%s names too long a place for a layer", p->at.base);
    }
    *f = (fetch){.content_type = "application/octet-stream", .n_upload = l->n_bytes};
    status = send_request(p, f, place, "PUT", error);
    return status == MLXR_OK ? judge(p, f, "sending a layer", error) : status;
}

static mlxr_status send_layer(push *p, fetch *f, size_t i, mlxr_error *error)
{
    const layer *l = &p->layers[i];
    p->sending = l;
    p->now.what = l->path ? p->m.name : l->type;
    p->now.digest = l->digest;
    p->now.file = (uint32_t)i + 1;
    p->now.file_done = 0;
    p->now.file_total = l->n_bytes;
    if (!go_on(p)) {
        return daemon_error(error, MLXR_LIMIT, "cancelled");
    }
    mlxr_status status = l->path ? disk_open(&p->fd, l->path, false, error) : MLXR_OK;
    status = status == MLXR_OK ? put_layer(p, f, l, error) : status;
    if (p->fd >= 0) {
        close(p->fd);
        p->fd = -1;
    }
    p->now.done += status == MLXR_OK ? l->n_bytes : 0;
    return status;
}

static mlxr_status send_manifest(push *p, fetch *f, mlxr_error *error)
{
    static const char type[] = "application/vnd.docker.distribution.manifest.v2+json";
    char url[TRANSFER_URL_MAX];
    json_t *list = json_array(), *config = NULL;
    for (size_t i = 0; i < p->n_layers; i++) {
        const layer *l = &p->layers[i];
        json_t *one = json_pack("{s:s, s:s, s:I}", "mediaType", l->type, "digest", l->digest, "size",
                                (json_int_t)l->n_bytes);
        if (i + 1 == p->n_layers) {
            config = one;
        } else {
            json_array_append_new(list, one);
        }
    }
    char *text = dump(
        json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", type, "config", config, "layers", list));
    if (!text) {
        return registry_fail_nomem(error);
    }
    layer whole = {.text = text, .n_bytes = strlen(text)};
    p->sending = &whole;
    p->now = (registry_pull_progress){.what = "manifest", .done = p->now.done, .total = p->now.total};
    snprintf(url, sizeof url, "%s/v2/%s/manifests/%s", p->at.base, p->at.repository, p->at.tag);
    *f = (fetch){.content_type = type, .n_upload = whole.n_bytes};
    mlxr_status status = send_request(p, f, url, "PUT", error);
    status = status == MLXR_OK ? judge(p, f, "sending the manifest", error) : status;
    free(text);
    return status;
}

static mlxr_status run(push *p, mlxr_error *error)
{
    fetch *f = calloc(1, sizeof *f);
    mlxr_status status = f ? gather(p, error) : registry_fail_nomem(error);
    p->now.n_files = (uint32_t)p->n_layers;
    for (size_t i = 0; i < p->n_layers; i++) {
        p->now.total += p->layers[i].n_bytes;
    }
    for (size_t i = 0; i < p->n_layers && status == MLXR_OK; i++) {
        status = send_layer(p, f, i, error);
    }
    status = status == MLXR_OK ? send_manifest(p, f, error) : status;
    free(f);
    return status;
}

mlxr_status registry_push(registry *r, const char *name, const char *destination, const registry_pull_options *options,
                          mlxr_error *error)
{
    static const registry_pull_options none;
    push *p = calloc(1, sizeof *p);
    if (!p) {
        return registry_fail_nomem(error);
    }
    p->r = r;
    p->fd = -1;
    p->options = options ? options : &none;
    p->now.what = "";
    const char *allowed = p->options->allow_private ? p->options->allow_private : getenv("MLXR_ALLOW_PRIVATE");
    transfer_options t = {.stall_s = (uint32_t)pull_number("MLXR_PULL_STALL_S", 30),
                          .retry_ms = (uint32_t)pull_number("MLXR_PULL_RETRY_MS", 500),
                          .go_on = go_on,
                          .user = p,
                          .allow_private = allowed};
    mlxr_status status = registry_resolve(r, name, &p->m, error);
    status = status == MLXR_OK && !ollama_place_read(&p->at, destination ? destination : p->m.name, error) ? MLXR_ARG
                                                                                                           : status;
    status = status == MLXR_OK ? transfer_open(&p->t, &t, error) : status;
    status = status == MLXR_OK ? run(p, error) : status;
    transfer_close(&p->t);
    for (size_t i = 0; i < p->n_layers; i++) {
        free(p->layers[i].text);
    }
    registry_model_close(&p->m);
    free(p->token);
    free(p);
    return status;
}
