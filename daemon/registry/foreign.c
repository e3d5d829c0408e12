/*
 * Models that other programs downloaded.
 * Owner: the caller's list. Lifetime: the call.
 */
#include "registry/foreign.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mlxr_adapter.h"
#include "registry/found.h"
#include "registry/go_template.h"
#include "registry/manifest.h"

#define FILES_MAX 10000u /* looked at in one folder: a link that leads in a circle must not keep us for ever */

/* Calls fn for each visible entry of a directory; stops when it returns false. True: went through. */
static bool each_entry(const char *directory, bool (*fn)(void *user, const char *path, const char *name), void *user)
{
    char path[REGISTRY_PATH_MAX];
    DIR *folder = opendir(directory);
    bool ok = true;
    size_t n = 0;
    for (struct dirent *file; ok && folder && n < FILES_MAX && (file = readdir(folder)); n++) {
        if (file->d_name[0] != '.' && disk_join(path, sizeof path, directory, file->d_name)) {
            ok = fn(user, path, file->d_name);
        }
    }
    if (folder) {
        closedir(folder);
    }
    return ok;
}

typedef struct repository { /* where a scan is */
    found_list *list;
    char owner[160], name[160];
    registry_source source;
} repository;

/* What tells this file from the others of its repository: "Q4_K_M" of "Model-7B.Q4_K_M", else the whole stem. */
static void file_tag(const char *stem, size_t n, char *out, size_t cap)
{
    size_t at = n;
    while (at > 0 && stem[at - 1] != '.' && stem[at - 1] != '-') {
        at--;
    }
    size_t length = n - at;
    bool quant = length >= 2 && length < 16 &&
                 (strncasecmp(stem + at, "IQ", 2) == 0 ||
                  (strchr("Qq", stem[at]) && stem[at + 1] >= '0' && stem[at + 1] <= '9') ||
                  (length <= 4 &&
                   (strncasecmp(stem + at, "F16", length) == 0 || strncasecmp(stem + at, "F32", length) == 0 ||
                    strncasecmp(stem + at, "BF16", length) == 0)));
    snprintf(out, cap, "%.*s", quant ? (int)length : (int)n, quant ? stem + at : stem);
}

/* A *.gguf of a repository: "owner/repo:TAG". Projectors of vision models are no models. */
static bool add_gguf(void *user, const char *path, const char *name)
{
    repository *repo = user;
    struct stat info;
    char tag[256], text[600];
    size_t stem = found_stem(name);
    if (!stem || strncasecmp(name, "mmproj", 6) == 0 || !found_is_file(path, &info) || !S_ISREG(info.st_mode)) {
        return true;
    }
    file_tag(name, stem, tag, sizeof tag);
    int n = snprintf(text, sizeof text, "%s/%s:%s", repo->owner, repo->name, tag);
    return n < 0 || (size_t)n >= sizeof text || found_put(repo->list, text, (size_t)n, path, &info, repo->source);
}

/* ---- Hugging Face: hub/models--OWNER--REPO/snapshots/REVISION/… -------------------------------------------------- */

static bool add_snapshot(void *user, const char *path, const char *name)
{
    (void)name;
    repository *repo = user;
    struct stat info;
    if (found_is_folder_model(path, &info)) { /* complete ones have weights beside the configuration */
        char weights[REGISTRY_PATH_MAX], text[400];
        struct stat unused;
        bool whole = (disk_join(weights, sizeof weights, path, "model.safetensors") &&
                      found_is_file(weights, &unused)) ||
                     (disk_join(weights, sizeof weights, path, "model.safetensors.index.json") &&
                      found_is_file(weights, &unused));
        int n = snprintf(text, sizeof text, "%s/%s", repo->owner, repo->name);
        if (whole && n > 0 && (size_t)n < sizeof text) {
            found_model *m = found_put(repo->list, text, (size_t)n, path, &info, repo->source);
            if (!m) {
                return false;
            }
            m->n_bytes = 0;
        }
    }
    return each_entry(path, add_gguf, repo);
}

static bool add_hub_repository(void *user, const char *path, const char *name)
{
    repository *repo = user;
    char snapshots[REGISTRY_PATH_MAX];
    const char *owner = name + 8, *end = strncmp(name, "models--", 8) == 0 ? strstr(owner, "--") : NULL;
    if (!end || (size_t)(end - owner) >= sizeof repo->owner || strlen(end + 2) >= sizeof repo->name ||
        !disk_join(snapshots, sizeof snapshots, path, "snapshots")) {
        return true;
    }
    snprintf(repo->owner, sizeof repo->owner, "%.*s", (int)(end - owner), owner);
    snprintf(repo->name, sizeof repo->name, "%s", end + 2);
    return each_entry(snapshots, add_snapshot, repo);
}

static bool scan_hub(found_list *out, const char *home)
{
    const char *cache = getenv("HF_HUB_CACHE"), *base = getenv("HF_HOME");
    char path[REGISTRY_PATH_MAX] = "";
    repository repo = {.list = out, .source = REGISTRY_HUGGING_FACE};
    int n = cache && *cache ? snprintf(path, sizeof path, "%s", cache)
            : base && *base ? snprintf(path, sizeof path, "%s/hub", base)
            : home && *home ? snprintf(path, sizeof path, "%s/.cache/huggingface/hub", home)
                            : -1;
    return n < 0 || (size_t)n >= sizeof path || each_entry(path, add_hub_repository, &repo);
}

/* ---- LM Studio: models/PUBLISHER/REPO/FILE ---------------------------------------------------------------------- */

static bool add_studio_repository(void *user, const char *path, const char *name)
{
    repository *repo = user;
    return snprintf(repo->name, sizeof repo->name, "%s", name) >= (int)sizeof repo->name ||
           each_entry(path, add_gguf, repo);
}

static bool add_studio_owner(void *user, const char *path, const char *name)
{
    repository *repo = user;
    return snprintf(repo->owner, sizeof repo->owner, "%s", name) >= (int)sizeof repo->owner ||
           each_entry(path, add_studio_repository, repo);
}

static bool scan_studio(found_list *out, const char *home)
{
    static const char *const places[] = {".lmstudio/models", ".cache/lm-studio/models"};
    char path[REGISTRY_PATH_MAX];
    repository repo = {.list = out, .source = REGISTRY_LM_STUDIO};
    for (size_t i = 0; i < 2 && home && *home; i++) {
        if (disk_join(path, sizeof path, home, places[i]) && !each_entry(path, add_studio_owner, &repo)) {
            return false;
        }
    }
    return true;
}

/* ---- Ollama: manifests/HOST/OWNER/MODEL/TAG name blobs/sha256-… -------------------------------------------------- */

typedef struct ollama_scan {
    found_list *list;
    char models[REGISTRY_PATH_MAX]; /* the folder with manifests and blobs */
    char parts[3][160];             /* host, owner, model */
    size_t depth;
} ollama_scan;

/* A text layer of a model, or NULL. The caller frees it. */
static char *read_blob(const ollama_scan *scan, const manifest_layer *layer, size_t *n)
{
    char path[REGISTRY_PATH_MAX], *text = NULL;
    snprintf(path, sizeof path, "%.3900s/blobs/sha256-%s", scan->models, layer->digest + 7);
    return disk_read_file(path, MANIFEST_BYTES_MAX, &text, n, NULL) == MLXR_OK ? text : NULL;
}

/* What Ollama has besides the weights. A template that has no equivalent here is told as a warning; the model's own is
 * used then. False: no memory. */
static bool add_layer(const ollama_scan *scan, found_model *m, const manifest_layer *layer)
{
    size_t n = 0;
    char *text = read_blob(scan, layer, &n);
    bool ok = true;
    mlxr_error why;
    if (!text) {
        return true;
    }
    if (layer->kind == MANIFEST_TEMPLATE && !m->template_text) {
        mlxr_status status = go_template_to_jinja(text, &m->template_text, &why);
        ok = status == MLXR_OK || (status != MLXR_NOMEM && registry_pairs_add(&m->warnings, "template", why.text));
    } else if (layer->kind == MANIFEST_PARAMETERS) {
        ok = manifest_parameters(&m->parameters, text, n, &why) != MLXR_NOMEM;
    } else if (layer->kind == MANIFEST_MESSAGES) {
        ok = manifest_messages(&m->messages, text, n, &why) != MLXR_NOMEM;
    } else if (layer->kind == MANIFEST_SYSTEM && !m->system) {
        m->system = text;
        text = NULL;
    }
    free(text);
    return ok;
}

/* An adapter of a model. One that cannot be loaded is listed, with the reason: without its adapters it would answer as
 * another model. False: no memory. */
static bool add_adapter(found_model *m, const char *blob, const char *digest)
{
    struct stat info;
    char why[200] = "";
    if (!found_is_file(blob, &info)) {
        snprintf(why, sizeof why, "its adapter %s is not there; pull the model again where it comes from", digest);
    } else if (m->adapters.n == MLXR_ADAPTERS_MAX) {
        snprintf(why, sizeof why, "it has more than %d adapters", MLXR_ADAPTERS_MAX);
    }
    if (*why && !m->unusable && !(m->unusable = strdup(why))) {
        return false;
    }
    return registry_pairs_add(&m->adapters, blob, digest);
}

/* "model:tag", with its owner where that is not the library, and its host where that is not Ollama's. */
static void ollama_name(const ollama_scan *scan, const char *tag, char *out, size_t cap)
{
    bool ours = strcmp(scan->parts[0], "registry.ollama.ai") == 0, library = strcmp(scan->parts[1], "library") == 0;
    snprintf(out, cap, "%s%s%s%s%s%s%s", ours ? "" : scan->parts[0], ours ? "" : "/",
             ours && library ? "" : scan->parts[1], ours && library ? "" : "/", scan->parts[2],
             strcmp(tag, "latest") == 0 ? "" : ":", strcmp(tag, "latest") == 0 ? "" : tag);
}

static bool add_manifest(ollama_scan *scan, const char *path, const char *tag)
{
    char name[700], blob[REGISTRY_PATH_MAX], *text = NULL;
    size_t n = 0;
    struct stat info;
    bool ok = true;
    manifest *parsed = calloc(1, sizeof *parsed);
    if (!parsed) {
        return false;
    }
    found_model *m = NULL;
    if (disk_read_file(path, MANIFEST_BYTES_MAX, &text, &n, NULL) == MLXR_OK &&
        manifest_parse(parsed, text, n, NULL) == MLXR_OK) {
        ollama_name(scan, tag, name, sizeof name);
        for (size_t i = 0; i < parsed->n_layers && ok && !m; i++) {
            const manifest_layer *layer = &parsed->layers[i];
            snprintf(blob, sizeof blob, "%.3900s/blobs/sha256-%s", scan->models, layer->digest + 7);
            if (layer->kind == MANIFEST_MODEL && found_is_file(blob, &info)) {
                m = found_put(scan->list, name, strlen(name), blob, &info, REGISTRY_OLLAMA);
                ok = m && (m->digest = strdup(layer->digest)) != NULL;
            }
        }
        for (size_t i = 0; i < parsed->n_layers && ok && m; i++) {
            const manifest_layer *layer = &parsed->layers[i];
            snprintf(blob, sizeof blob, "%.3900s/blobs/sha256-%s", scan->models, layer->digest + 7);
            ok = layer->kind == MANIFEST_ADAPTER ? add_adapter(m, blob, layer->digest) : add_layer(scan, m, layer);
        }
    }
    free(text);
    free(parsed);
    return ok;
}

static bool add_ollama_entry(void *user, const char *path, const char *name)
{
    ollama_scan *scan = user;
    if (scan->depth == 3) {
        return add_manifest(scan, path, name);
    }
    if (snprintf(scan->parts[scan->depth], sizeof scan->parts[0], "%s", name) >= (int)sizeof scan->parts[0]) {
        return true;
    }
    scan->depth++;
    bool ok = each_entry(path, add_ollama_entry, scan);
    scan->depth--;
    return ok;
}

static bool scan_ollama(found_list *out, const char *home)
{
    const char *own = getenv("OLLAMA_MODELS");
    for (int i = 0; i < 3; i++) {
        char manifests[REGISTRY_PATH_MAX];
        ollama_scan scan = {.list = out};
        bool there = i == 0
                         ? own && *own && snprintf(scan.models, sizeof scan.models, "%s", own) < (int)sizeof scan.models
                     : i == 1 ? home && *home && disk_join(scan.models, sizeof scan.models, home, ".ollama/models")
                              : snprintf(scan.models, sizeof scan.models, "/usr/share/ollama/.ollama/models") > 0;
        if (there && disk_join(manifests, sizeof manifests, scan.models, "manifests") &&
            !each_entry(manifests, add_ollama_entry, &scan)) {
            return false;
        }
    }
    return true;
}

mlxr_status foreign_scan(found_list *out, mlxr_error *error)
{
    const char *home = getenv("HOME");
    return scan_hub(out, home) && scan_ollama(out, home) && scan_studio(out, home) ? MLXR_OK
                                                                                   : registry_fail_nomem(error);
}
