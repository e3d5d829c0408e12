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

#include "registry/found.h"

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

mlxr_status foreign_scan(found_list *out, mlxr_error *error)
{
    const char *home = getenv("HOME");
    return scan_hub(out, home) && scan_studio(out, home) ? MLXR_OK : registry_fail_nomem(error);
}
