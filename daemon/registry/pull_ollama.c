/*
 * Pulls from Ollama's registry, and others that speak its protocol.
 * Owner: registry_pull. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlxr_adapter.h"
#include "registry/digest.h"
#include "registry/go_template.h"
#include "registry/http_text.h"
#include "registry/manifest.h"
#include "registry/pull.h"

#define SMALL_LAYER_MAX ((uint64_t)1 << 20)
#define TOKEN_MAX 8192u

static const char manifest_type[] = "application/vnd.docker.distribution.manifest.v2+json";

typedef struct ollama_pull {
    pull *p;
    ollama_place at;
    char *token; /* from the registry's own token service; NULL: none was asked for */
    manifest m;
    char *template_text, *system, *license;
    registry_pairs parameters, messages, warnings;
} ollama_pull;

bool ollama_place_read(ollama_place *o, const char *what, mlxr_error *error)
{
    char text[REGISTRY_NAME_MAX + 1];
    if (!registry_name_valid(what)) {
        daemon_error(error, MLXR_ARG, "'%.80s' is no model's name", what);
        return false;
    }
    snprintf(text, sizeof text, "%s", what);
    char *last = strrchr(text, '/'), *colon = strchr(last ? last : text, ':');
    snprintf(o->tag, sizeof o->tag, "%s", colon ? colon + 1 : "latest");
    if (colon) {
        *colon = '\0';
    }
    char *first = strchr(text, '/');
    bool host = first && strchr(first + 1, '/');
    if (host && strchr(strchr(first + 1, '/') + 1, '/')) {
        daemon_error(error, MLXR_ARG, "'%.80s' has more parts than host/owner/model:tag", what);
        return false;
    }
    if (host) {
        *first = '\0';
        snprintf(o->base, sizeof o->base, "https://%s", text);
        snprintf(o->repository, sizeof o->repository, "%s", first + 1);
        return true;
    }
    snprintf(o->repository, sizeof o->repository, "%s%s", first ? "" : "library/", text);
    if (!pull_endpoint("MLXR_OLLAMA_REGISTRY", "https://registry.ollama.ai", o->base, sizeof o->base)) {
        daemon_error(error, MLXR_ARG, "MLXR_OLLAMA_REGISTRY is no URL with http or https");
        return false;
    }
    return true;
}

/* The registry wants a token, and says where from: only from itself, since whoever else it names would get to know who
 * asks for what. */
mlxr_status ollama_token(transfer *t, const char *base, const char *challenge, char **out, mlxr_error *error)
{
    http_challenge c;
    transfer_answer answer;
    char url[3 * HTTP_CHALLENGE_MAX + 64];
    json_error_t where;
    if (!http_bearer_challenge(challenge, &c)) {
        return daemon_error(error, MLXR_UNSUPPORTED, "%s wants a login of a kind that is not known here", base);
    }
    if (!transfer_same_host(c.realm, base)) {
        return daemon_error(error, MLXR_FORMAT, "%s sends us to %.150s for a login, which is another host", base,
                            c.realm);
    }
    char *service = curl_easy_escape(NULL, c.service, 0), *scope = curl_easy_escape(NULL, c.scope, 0);
    int n = service && scope ? snprintf(url, sizeof url, "%s%sservice=%s&scope=%s", c.realm,
                                        strchr(c.realm, '?') ? "&" : "?", service, scope)
                             : -1;
    curl_free(service);
    curl_free(scope);
    if (n < 0 || (size_t)n >= sizeof url) {
        return daemon_error(error, MLXR_FORMAT, "the registry's login has too long a name");
    }
    mlxr_status status = transfer_get(t, url, "application/json", NULL, 65536, &answer, error);
    if (status != MLXR_OK) {
        return status;
    }
    json_t *root = answer.code == 200 ? json_loadb(answer.body, answer.n, JSON_REJECT_DUPLICATES, &where) : NULL;
    const char *token = json_string_value(json_object_get(root, "token"));
    token = token ? token : json_string_value(json_object_get(root, "access_token"));
    if (!token || !*token || strlen(token) > TOKEN_MAX || strpbrk(token, "\r\n")) {
        status = daemon_error(error, MLXR_FORMAT, "%s gives no token that could be used", base);
    } else {
        free(*out);
        *out = strdup(token);
        status = *out ? MLXR_OK : registry_fail_nomem(error);
    }
    json_decref(root);
    free(answer.body);
    return status;
}

/* A document of the registry, with a token if it wants one. */
static mlxr_status get(ollama_pull *o, const char *url, const char *accept, size_t limit, transfer_answer *out,
                       mlxr_error *error)
{
    mlxr_status status = transfer_get(o->p->t, url, accept, o->token, limit, out, error);
    if (status == MLXR_OK && out->code == 401 && !o->token) {
        status = ollama_token(o->p->t, o->at.base, out->challenge, &o->token, error);
        free(out->body);
        status = status == MLXR_OK ? transfer_get(o->p->t, url, accept, o->token, limit, out, error) : status;
    }
    if (status == MLXR_OK && out->code != 200) {
        free(out->body);
        status = daemon_error(error, MLXR_ARG, "%s does not give %s to us: it may not exist, or want a login",
                              o->at.base, o->at.repository);
    }
    return status;
}

static mlxr_status read_manifest(ollama_pull *o, mlxr_error *error)
{
    char url[TRANSFER_URL_MAX];
    uint8_t hash[32];
    transfer_answer answer;
    snprintf(url, sizeof url, "%s/v2/%s/manifests/%s", o->at.base, o->at.repository, o->at.tag);
    mlxr_status status = get(o, url, manifest_type, MANIFEST_BYTES_MAX, &answer, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = manifest_parse(&o->m, answer.body, answer.n, error);
    if (status == MLXR_OK && digest_raw(answer.body, answer.n, hash)) {
        memcpy(o->p->manifest, "sha256:", 7);
        digest_hex(hash, 32, o->p->manifest + 7);
    }
    free(answer.body);
    return status;
}

static void blob_url(const ollama_pull *o, const manifest_layer *layer, char *out)
{
    snprintf(out, TRANSFER_URL_MAX, "%s/v2/%s/blobs/%s", o->at.base, o->at.repository, layer->digest);
}

/* A small layer's text, checked. The caller frees it. */
static mlxr_status read_layer(ollama_pull *o, const manifest_layer *layer, char **text, size_t *n, mlxr_error *error)
{
    char url[TRANSFER_URL_MAX], found[REGISTRY_DIGEST_MAX] = "sha256:";
    uint8_t hash[32];
    transfer_answer answer;
    if (layer->n_bytes > SMALL_LAYER_MAX) {
        return daemon_error(error, MLXR_LIMIT, "a text of the model has %llu bytes; %llu are taken",
                            (unsigned long long)layer->n_bytes, (unsigned long long)SMALL_LAYER_MAX);
    }
    blob_url(o, layer, url);
    mlxr_status status = get(o, url, NULL, (size_t)layer->n_bytes, &answer, error);
    if (status != MLXR_OK) {
        return status;
    }
    bool ok = digest_raw(answer.body, answer.n, hash);
    digest_hex(hash, 32, found + 7);
    if (!ok || answer.n != layer->n_bytes || strcmp(found, layer->digest) != 0) {
        free(answer.body);
        return daemon_error(error, MLXR_FORMAT, "the layer %s has another digest or size", layer->digest);
    }
    *text = answer.body;
    *n = answer.n;
    return MLXR_OK;
}

static mlxr_status warn(ollama_pull *o, const char *what, const char *why, mlxr_error *error)
{
    return registry_pairs_add(&o->warnings, what, why) ? MLXR_OK : registry_fail_nomem(error);
}

static mlxr_status take_template(ollama_pull *o, const char *text, mlxr_error *error)
{
    mlxr_error why;
    char *jinja = NULL;
    bool go = go_template_is(text); /* what was pushed from here is Jinja already */
    mlxr_status status = go ? go_template_to_jinja(text, &jinja, &why) : MLXR_OK;
    if (!go && !(jinja = strdup(text))) {
        status = MLXR_NOMEM;
    }
    if (status == MLXR_NOMEM) {
        return registry_fail_nomem(error);
    }
    if (status != MLXR_OK) {
        return warn(o, "template", why.text, error);
    }
    free(o->template_text);
    o->template_text = jinja;
    return MLXR_OK;
}

static mlxr_status add_license(ollama_pull *o, const char *text, mlxr_error *error)
{
    size_t n = o->license ? strlen(o->license) : 0, more = strlen(text);
    char *grown = realloc(o->license, n + more + 3);
    if (!grown) {
        return registry_fail_nomem(error);
    }
    snprintf(grown + n, more + 3, "%s%s", n ? "\n\n" : "", text);
    o->license = grown;
    return MLXR_OK;
}

static mlxr_status take_layer(ollama_pull *o, const manifest_layer *layer, mlxr_error *error)
{
    char *text = NULL;
    size_t n = 0;
    if (layer->kind == MANIFEST_MODEL || layer->kind == MANIFEST_ADAPTER || layer->kind == MANIFEST_CONFIG) {
        return MLXR_OK; /* fetch_files */
    }
    if (layer->kind == MANIFEST_PROJECTOR || layer->kind == MANIFEST_OTHER) {
        return warn(o, layer->kind == MANIFEST_PROJECTOR ? "projector" : "layer",
                    layer->kind == MANIFEST_PROJECTOR ? "images cannot be used yet; the model answers to text"
                                                      : "a layer of a kind that is not known here was left out",
                    error);
    }
    mlxr_status status = read_layer(o, layer, &text, &n, error);
    if (status != MLXR_OK) {
        return status;
    }
    if (layer->kind == MANIFEST_PARAMETERS) {
        status = manifest_parameters(&o->parameters, text, n, error);
    } else if (layer->kind == MANIFEST_MESSAGES) {
        status = manifest_messages(&o->messages, text, n, error);
    } else if (strlen(text) != n) {
        status = daemon_error(error, MLXR_FORMAT, "a text of the model holds NUL bytes");
    } else if (layer->kind == MANIFEST_TEMPLATE) {
        status = take_template(o, text, error);
    } else if (layer->kind == MANIFEST_LICENSE) {
        status = add_license(o, text, error);
    } else {
        free(o->system);
        o->system = text;
        text = NULL;
    }
    free(text);
    return status;
}

/* The model's files: its weights, then its adapters. */
typedef struct ollama_files {
    stored_file items[1 + MLXR_ADAPTERS_MAX];
    char names[1 + MLXR_ADAPTERS_MAX][32];
    size_t n;
} ollama_files;

static mlxr_status fetch_file(ollama_pull *o, const manifest_layer *layer, ollama_files *out, mlxr_error *error)
{
    char url[TRANSFER_URL_MAX];
    stored_file *file = &out->items[out->n];
    bool adapter = layer->kind == MANIFEST_ADAPTER;
    blob_url(o, layer, url);
    snprintf(out->names[out->n], sizeof out->names[0], adapter ? "adapter-%zu.gguf" : "model.gguf", out->n);
    *file = (stored_file){.role = adapter ? "adapter" : "weights", .name = out->names[out->n]};
    o->p->now.file = (uint32_t)++out->n;
    download_request request = {.url = url,
                                .bearer = o->token,
                                .digest = layer->digest,
                                .n_bytes = layer->n_bytes,
                                .bytes_max = layer->n_bytes,
                                .magic = "GGUF"};
    return pull_blob(o->p, &request, adapter ? file->name : o->p->name, file->digest, &file->n_bytes, error);
}

static mlxr_status fetch_files(ollama_pull *o, ollama_files *out, mlxr_error *error)
{
    static const manifest_kind kinds[] = {MANIFEST_MODEL, MANIFEST_ADAPTER};
    size_t n_files = 0;
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < o->m.n_layers; i++) {
        bool file = o->m.layers[i].kind == MANIFEST_MODEL || o->m.layers[i].kind == MANIFEST_ADAPTER;
        n_files += file;
        o->p->now.total += file ? o->m.layers[i].n_bytes : 0;
    }
    if (n_files > 1 + MLXR_ADAPTERS_MAX) {
        return daemon_error(error, MLXR_LIMIT, "the model has %zu adapters; at most %d are taken", n_files - 1,
                            MLXR_ADAPTERS_MAX);
    }
    o->p->now.n_files = (uint32_t)n_files;
    for (size_t i = 0; i < 2 * o->m.n_layers && status == MLXR_OK; i++) {
        const manifest_layer *layer = &o->m.layers[i % o->m.n_layers];
        status = layer->kind == kinds[i / o->m.n_layers] ? fetch_file(o, layer, out, error) : MLXR_OK;
    }
    return status;
}

/* An adapter that is for another model would be told with the first answer only. */
static mlxr_status check_adapters(const ollama_pull *o, const ollama_files *files, mlxr_error *error)
{
    char model[REGISTRY_PATH_MAX], path[REGISTRY_PATH_MAX];
    mlxr_status status = MLXR_OK;
    for (size_t i = 1; i < files->n && status == MLXR_OK; i++) {
        status = blob_path(o->p->r, files->items[0].digest, model) && blob_path(o->p->r, files->items[i].digest, path)
                     ? mlxr_adapter_check(model, path, error)
                     : daemon_error(error, MLXR_ARG, "the path of the store is too long");
    }
    return status;
}

static mlxr_status run(ollama_pull *o, mlxr_error *error)
{
    ollama_files files = {.n = 0};
    o->p->now.n_files = o->p->now.file = 1;
    mlxr_status status = pull_tell(o->p, "manifest") ? read_manifest(o, error)
                                                     : daemon_error(error, MLXR_LIMIT, "cancelled");
    for (size_t i = 0; i < o->m.n_layers && status == MLXR_OK; i++) {
        status = take_layer(o, &o->m.layers[i], error);
    }
    status = status == MLXR_OK ? fetch_files(o, &files, error) : status;
    status = status == MLXR_OK ? check_adapters(o, &files, error) : status;
    if (status != MLXR_OK) {
        return status;
    }
    return pull_store(o->p,
                      &(stored_model){.files = files.items,
                                      .n_files = files.n,
                                      .template_text = o->template_text,
                                      .system = o->system,
                                      .license = o->license,
                                      .parameters = &o->parameters,
                                      .messages = &o->messages,
                                      .warnings = &o->warnings},
                      error);
}

mlxr_status pull_ollama(pull *p, const char *what, mlxr_error *error)
{
    ollama_pull o = {.p = p};
    if (!ollama_place_read(&o.at, what, error)) {
        return MLXR_ARG;
    }
    if (!p->name[0] && !pull_set_name(p, what)) {
        return daemon_error(error, MLXR_ARG, "'%.80s' cannot be the name of a model", p->options->name);
    }
    snprintf(p->origin, sizeof p->origin, "%s/%s:%s", o.at.base, o.at.repository, o.at.tag);
    mlxr_status status = run(&o, error);
    free(o.token);
    free(o.template_text);
    free(o.system);
    free(o.license);
    registry_pairs_close(&o.parameters);
    registry_pairs_close(&o.messages);
    registry_pairs_close(&o.warnings);
    return status;
}
