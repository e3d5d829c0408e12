/*
 * Models that are not in the database: what lies in the model directory, and in other programs' folders.
 * Owner: the caller's list. Lifetime: the call.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "registry/foreign.h"
#include "registry/found.h"

bool found_is_file(const char *path, struct stat *info)
{
    return stat(path, info) == 0 && !S_ISDIR(info->st_mode);
}

bool found_is_folder_model(const char *path, struct stat *info)
{
    char config[REGISTRY_PATH_MAX];
    int n = snprintf(config, sizeof config, "%s/config.json", path);
    return n > 0 && (size_t)n < sizeof config && found_is_file(config, info);
}

static bool ends_with(const char *text, size_t n, const char *end)
{
    size_t n_end = strlen(end);
    return n >= n_end && strncasecmp(text + n - n_end, end, n_end) == 0;
}

bool found_is_weights(const char *name)
{
    size_t n = strlen(name);
    return (n > 5 && ends_with(name, n, ".gguf")) || (n > 12 && ends_with(name, n, ".safetensors"));
}

bool registry_is_model_file(const char *name)
{
    return found_is_weights(name) || strcmp(name, "model.safetensors.index.json") == 0;
}

size_t found_without_part(const char *name, size_t n)
{
    const char *tail = n > 15 ? name + n - 15 : "";
    unsigned part, parts;
    int used = 0;
    if (sscanf(tail, "-%5u-of-%5u%n", &part, &parts, &used) == 2 && used == 15) {
        return part == 1 ? n - 15 : 0;
    }
    return n;
}

size_t found_stem(const char *file_name)
{
    size_t n = strlen(file_name);
    return file_name[0] != '.' && ends_with(file_name, n, ".gguf") ? found_without_part(file_name, n - 5) : 0;
}

/* A copy of name[0..n) in the list, with what the system says of its file. */
found_model *found_put(found_list *list, const char *name, size_t n, const char *path, const struct stat *info,
                       registry_source source)
{
    char text[512];
    if (n >= sizeof text) {
        n = sizeof text - 1;
    }
    memcpy(text, name, n);
    text[n] = '\0';
    found_model *m = found_add(list, text, path, source);
    if (m) {
        m->n_bytes = S_ISDIR(info->st_mode) ? 0 : (uint64_t)info->st_size;
        m->modified_us = (int64_t)info->st_mtime * 1000000;
    }
    return m;
}

static mlxr_status scan_directory(registry *r, found_list *out, mlxr_error *error)
{
    char path[REGISTRY_PATH_MAX];
    DIR *folder = opendir(r->directory); /* one that is not there is empty */
    bool ok = true;
    for (struct dirent *file; ok && folder && (file = readdir(folder));) {
        struct stat info;
        size_t stem = 0;
        if (file->d_name[0] == '.' || !disk_join(path, sizeof path, r->directory, file->d_name)) {
            continue;
        }
        if (found_stem(file->d_name) && found_is_file(path, &info)) {
            stem = found_stem(file->d_name);
        } else if (found_is_folder_model(path, &info)) {
            stem = strlen(file->d_name);
        }
        ok = stem == 0 || found_put(out, file->d_name, stem, path, &info, REGISTRY_DIRECTORY);
    }
    if (folder) {
        closedir(folder);
    }
    return ok ? MLXR_OK : registry_fail_nomem(error);
}

static int by_name(const void *a, const void *b)
{
    const found_model *x = a, *y = b;
    int order = strcasecmp(x->name, y->name);
    order = order ? order : (int)x->source - (int)y->source;
    return order ? order : strcmp(x->path, y->path);
}

mlxr_status found_scan(registry *r, found_list *out, mlxr_error *error)
{
    *out = (found_list){0};
    mlxr_status status = scan_directory(r, out, error);
    if (status == MLXR_OK && !r->options.no_foreign) {
        status = foreign_scan(out, error);
    }
    if (status != MLXR_OK) {
        found_close(out);
    } else if (out->n) {
        qsort(out->items, out->n, sizeof *out->items, by_name);
    }
    return status;
}
