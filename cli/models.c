/*
 * The model directory.
 * Owner: the caller. Lifetime: the call.
 */
#include "models.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "output.h"
#include "server/words.h"

bool models_directory(char *out, size_t cap)
{
    const char *own = getenv("MLXR_MODELS"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n = -1;
    if (own && *own) {
        n = snprintf(out, cap, "%s", own);
    } else if (data && *data == '/') { /* the XDG specification: relative paths are to be ignored */
        n = snprintf(out, cap, "%s/mlxr/models", data);
    } else if (home && *home) {
        n = snprintf(out, cap, "%s/.local/share/mlxr/models", home);
    }
    return n >= 0 && (size_t)n < cap;
}

static bool is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && !S_ISDIR(status.st_mode);
}

static bool is_model_folder(const char *path)
{
    char config[MODEL_PATH_MAX];
    int n = snprintf(config, sizeof config, "%s/config.json", path);
    return n > 0 && (size_t)n < sizeof config && is_file(config);
}

static bool ends_with(const char *text, size_t n, const char *end)
{
    size_t n_end = strlen(end);
    return n >= n_end && strncasecmp(text + n - n_end, end, n_end) == 0;
}

/* The length of a split file's name without "-00001-of-00003"; 0 for a later part, n for a file that is not split. */
static size_t without_part(const char *name, size_t n)
{
    const char *tail = n > 15 ? name + n - 15 : "";
    unsigned part, parts;
    int used = 0;
    if (sscanf(tail, "-%5u-of-%5u%n", &part, &parts, &used) == 2 && used == 15) {
        return part == 1 ? n - 15 : 0;
    }
    return n;
}

static bool add_entry(model_list *list, const char *name, size_t n_name, const char *path)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 16;
        model_entry *grown = realloc(list->items, cap * sizeof *grown);
        if (!grown) {
            return false;
        }
        list->items = grown;
        list->cap = cap;
    }
    model_entry entry = {.name = strndup(name, n_name), .path = strdup(path)};
    if (!entry.name || !entry.path) {
        free(entry.name);
        free(entry.path);
        return false;
    }
    list->items[list->n++] = entry;
    return true;
}

static int by_name(const void *a, const void *b)
{
    const model_entry *x = a, *y = b;
    int order = strcasecmp(x->name, y->name);
    return order ? order : strcmp(x->path, y->path);
}

bool models_list(model_list *out)
{
    char directory[MODEL_PATH_MAX], path[MODEL_PATH_MAX];
    *out = (model_list){0};
    DIR *folder = models_directory(directory, sizeof directory) ? opendir(directory) : NULL;
    if (!folder) {
        return true;
    }
    bool ok = true;
    for (struct dirent *file; ok && (file = readdir(folder));) {
        size_t n = strlen(file->d_name), stem = 0;
        int length = snprintf(path, sizeof path, "%s/%s", directory, file->d_name);
        if (file->d_name[0] == '.' || length < 0 || (size_t)length >= sizeof path) {
            continue;
        }
        if (ends_with(file->d_name, n, ".gguf") && is_file(path)) {
            stem = without_part(file->d_name, n - 5);
        } else if (is_model_folder(path)) {
            stem = n;
        }
        ok = stem == 0 || add_entry(out, file->d_name, stem, path);
    }
    closedir(folder);
    if (!ok) {
        models_list_close(out);
        print_error("out of memory");
        return false;
    }
    if (out->n) {
        qsort(out->items, out->n, sizeof *out->items, by_name);
    }
    return true;
}

void models_list_close(model_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i].name);
        free(list->items[i].path);
    }
    free(list->items);
    *list = (model_list){0};
}

/* ---- finding one ------------------------------------------------------------------------------------------------- */

#define NAMES_SHOWN 6u

/* "a, b, c and 4 more": the models that `pick` says. */
static size_t join_names(const model_list *list, const char *wanted, bool (*pick)(const char *, const char *),
                         char *out, size_t cap)
{
    size_t n_picked = 0, used = 0;
    *out = '\0';
    for (size_t i = 0; i < list->n; i++) {
        if (!pick(list->items[i].name, wanted)) {
            continue;
        }
        if (n_picked++ < NAMES_SHOWN && used < cap) {
            used += (size_t)snprintf(out + used, cap - used, "%s%s", n_picked > 1 ? ", " : "", list->items[i].name);
        }
    }
    if (n_picked > NAMES_SHOWN && used < cap) {
        snprintf(out + used, cap - used, " and %zu more", n_picked - NAMES_SHOWN);
    }
    return n_picked;
}

static bool near(const char *name, const char *wanted)
{
    return words_contain(name, wanted) || words_contain(wanted, name) ||
           words_distance(name, wanted) <= 1 + strlen(wanted) / 3;
}

static bool any(const char *name, const char *wanted)
{
    (void)name;
    (void)wanted;
    return true;
}

static void tell_unknown(const char *wanted, const model_list *list)
{
    char directory[MODEL_PATH_MAX], names[1024];
    if (!models_directory(directory, sizeof directory)) {
        print_error("no model '%s', and no model directory: set MLXR_MODELS or HOME, or give a path", wanted);
    } else if (list->n == 0) {
        print_error("no model '%s': there are no models in %s; put a .gguf file there or give a path", wanted,
                    directory);
    } else if (join_names(list, wanted, near, names, sizeof names) > 0) {
        print_error("no model '%s' in %s; did you mean %s?", wanted, directory, names);
    } else {
        join_names(list, wanted, any, names, sizeof names);
        print_error("no model '%s' in %s; there is %s", wanted, directory, names);
    }
}

static void tell_ambiguous(const char *wanted, const model_list *list)
{
    char paths[1024] = "";
    size_t used = 0;
    for (size_t i = 0; i < list->n; i++) {
        if (strcasecmp(list->items[i].name, wanted) == 0 && used < sizeof paths) {
            used += (size_t)snprintf(paths + used, sizeof paths - used, "%s%s", used ? ", " : "", list->items[i].path);
        }
    }
    print_error("'%s' is the name of several models; give the path of one: %s", wanted, paths);
}

static bool copy_path(const char *from, char *path, size_t cap)
{
    int n = snprintf(path, cap, "%s", from);
    if (n < 0 || (size_t)n >= cap) {
        print_error("the path is longer than %zu bytes", cap - 1);
        return false;
    }
    return true;
}

/* By name: exactly, else ignoring case. */
static bool find_name(const model_list *list, const char *wanted, char *path, size_t cap)
{
    const model_entry *exact = NULL, *similar = NULL;
    size_t n_exact = 0, n_similar = 0;
    for (size_t i = 0; i < list->n; i++) {
        const model_entry *entry = &list->items[i];
        if (strcmp(entry->name, wanted) == 0) {
            exact = entry;
            n_exact++;
        }
        if (strcasecmp(entry->name, wanted) == 0) {
            similar = entry;
            n_similar++;
        }
    }
    if (n_exact == 1 || n_similar == 1) {
        return copy_path(n_exact == 1 ? exact->path : similar->path, path, cap);
    }
    if (n_similar > 1) {
        tell_ambiguous(wanted, list);
    } else {
        tell_unknown(wanted, list);
    }
    return false;
}

bool models_find(const char *argument, char *path, size_t cap)
{
    if (strchr(argument, '/') || is_file(argument) || is_model_folder(argument)) {
        return copy_path(argument, path, cap);
    }
    char name[MODEL_PATH_MAX];
    size_t n = strlen(argument);
    model_list list;
    if (n == 0 || n >= sizeof name) {
        print_error(n ? "the name of the model is too long" : "the name of the model is empty");
        return false;
    }
    memcpy(name, argument, n + 1);
    if (ends_with(name, n, ".gguf")) { /* the name of the file does as well */
        name[n - 5] = '\0';
        size_t stem = without_part(name, n - 5);
        name[stem ? stem : n - 5] = '\0';
    }
    if (!models_list(&list)) {
        return false;
    }
    bool found = find_name(&list, name, path, cap);
    models_list_close(&list);
    return found;
}
