/*
 * What Hugging Face's API says of a repository's files.
 * Owner: the caller closes the list. Lifetime: hub_parse to hub_close.
 */
#include "registry/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "registry/found.h"

#define PARTS_MAX 1000u /* of a split file */

static bool harmless(const char *path)
{
    size_t n = strlen(path);
    if (n == 0 || n > 250 || path[0] == '/' || path[n - 1] == '/' || strstr(path, "..") || strstr(path, "//")) {
        return false;
    }
    return strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+/") == n;
}

static mlxr_status add_file(hub_list *list, const json_t *entry, mlxr_error *error)
{
    const char *type = json_string_value(json_object_get(entry, "type"));
    const char *path = json_string_value(json_object_get(entry, "path"));
    const char *oid = json_string_value(json_object_get(entry, "oid"));
    const json_t *lfs = json_object_get(entry, "lfs");
    const json_t *size = json_object_get(json_is_object(lfs) ? lfs : entry, "size");
    if (!type || !path || strcmp(type, "file") != 0 || !harmless(path)) {
        return MLXR_OK;
    }
    if (!json_is_integer(size) || json_integer_value(size) < 0 || json_integer_value(size) > (json_int_t)1 << 50) {
        return daemon_error(error, MLXR_FORMAT, "the list of files has no possible size for %.200s", path);
    }
    hub_file file = {.n_bytes = (uint64_t)json_integer_value(size)};
    if (json_is_object(lfs)) {
        const char *hex = json_string_value(json_object_get(lfs, "oid"));
        char text[REGISTRY_DIGEST_MAX + 8];
        snprintf(text, sizeof text, "sha256:%.70s", hex ? hex : "");
        if (!registry_digest_parse(text, file.digest)) {
            return daemon_error(error, MLXR_FORMAT, "the list of files has no SHA-256 for %.200s", path);
        }
    } else if (oid && strlen(oid) == 40 && strspn(oid, "0123456789abcdef") == 40) {
        memcpy(file.git, oid, 41);
    }
    if (list->n == HUB_FILES_MAX) {
        return daemon_error(error, MLXR_LIMIT, "the repository has more than %u files", HUB_FILES_MAX);
    }
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        hub_file *grown = realloc(list->items, cap * sizeof *grown);
        if (!grown) {
            return registry_fail_nomem(error);
        }
        list->items = grown;
        list->cap = cap;
    }
    file.path = strdup(path);
    if (!file.path) {
        return registry_fail_nomem(error);
    }
    list->items[list->n++] = file;
    return MLXR_OK;
}

mlxr_status hub_parse(hub_list *list, const char *text, size_t n, mlxr_error *error)
{
    json_error_t where;
    if (n > HUB_BYTES_MAX) {
        return daemon_error(error, MLXR_LIMIT, "the list of files has %zu bytes; %zu are taken", n, HUB_BYTES_MAX);
    }
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        return daemon_error(error, MLXR_FORMAT, "the list of files is no JSON: line %d: %s", where.line, where.text);
    }
    mlxr_status status = MLXR_OK;
    if (!json_is_array(root)) {
        status = daemon_error(error, MLXR_FORMAT, "the list of files is no list");
    }
    for (size_t i = 0; i < json_array_size(root) && status == MLXR_OK; i++) {
        status = add_file(list, json_array_get(root, i), error);
    }
    json_decref(root);
    return status;
}

void hub_close(hub_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i].path);
    }
    free(list->items);
    *list = (hub_list){0};
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A GGUF file of weights, and the length of its name without its ending and the number of a part. */
static bool is_gguf(const char *path, size_t *stem)
{
    const char *name = base_name(path);
    size_t n = strlen(name);
    if (n <= 5 || name[0] == '.' || strcasecmp(name + n - 5, ".gguf") != 0 || strncasecmp(name, "mmproj", 6) == 0) {
        return false;
    }
    unsigned part, parts;
    int used = 0;
    n -= 5;
    const char *tail = n > 15 ? name + n - 15 : "";
    bool split = sscanf(tail, "-%5u-of-%5u%n", &part, &parts, &used) == 2 && used == 15;
    *stem = split ? n - 15 : n;
    return *stem > 0;
}

/* Whether the label is a word of the name, ignoring case: "Q4_K" is not one of "x-Q4_K_M". */
static bool has_word(const char *name, size_t n, const char *label)
{
    size_t n_label = strlen(label);
    for (size_t i = 0; n_label && i + n_label <= n; i++) {
        bool begins = i == 0 || strchr("-.", name[i - 1]), ends = i + n_label == n || strchr("-.", name[i + n_label]);
        if (begins && ends && strncasecmp(name + i, label, n_label) == 0) {
            return true;
        }
    }
    return false;
}

/* The number of parts a split file has, 1 for one that is not, and which part it is. */
static unsigned parts_of(const char *path, unsigned *part)
{
    const char *name = base_name(path);
    size_t n = strlen(name);
    unsigned parts = 1;
    *part = 1;
    if (n > 20 && sscanf(name + n - 20, "-%5u-of-%5u.", part, &parts) == 2 && parts > 0) {
        return parts;
    }
    *part = 1;
    return 1;
}

/* All parts of the file at `at`, which lie in the same folder: each number from the first to the last, once. */
static mlxr_status pick_parts(const hub_list *list, size_t at, bool *picked, size_t *first, mlxr_error *error)
{
    unsigned part, n_parts = parts_of(list->items[at].path, &part), n = 0;
    bool seen[PARTS_MAX + 1] = {false};
    size_t stem, other;
    is_gguf(list->items[at].path, &stem);
    size_t n_same = (size_t)(base_name(list->items[at].path) - list->items[at].path) + stem;
    for (size_t i = 0; i < list->n; i++) {
        const char *path = list->items[i].path;
        if (is_gguf(path, &other) && strncmp(path, list->items[at].path, n_same) == 0 &&
            (size_t)(base_name(path) - path) + other == n_same && parts_of(path, &part) == n_parts && part > 0 &&
            part <= n_parts && part <= PARTS_MAX && !seen[part]) {
            picked[i] = seen[part] = true;
            n++;
            *first = part == 1 ? i : *first;
        }
    }
    if (n != n_parts || n_parts > PARTS_MAX) {
        return daemon_error(error, MLXR_FORMAT, "%.200s is one of %u parts, of which %u are there",
                            list->items[at].path, n_parts, n);
    }
    return MLXR_OK;
}

/* The names of what there is, for an error. */
static mlxr_status tell_choice(const hub_list *list, const char *quant, mlxr_error *error)
{
    char text[360] = "";
    size_t used = 0, stem, n = 0;
    for (size_t i = 0; i < list->n; i++) {
        unsigned part;
        if (!is_gguf(list->items[i].path, &stem)) {
            continue;
        }
        parts_of(list->items[i].path, &part);
        if (part == 1 && n++ < 8 && used < sizeof text) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%.*s", n > 1 ? ", " : "", (int)stem,
                                     base_name(list->items[i].path));
        }
    }
    if (n == 0) {
        return daemon_error(error, MLXR_ARG,
                            "the repository has neither GGUF files nor safetensors with a config.json");
    }
    return quant ? daemon_error(error, MLXR_ARG, "no GGUF file is called '%.40s'; there is %s", quant, text)
                 : daemon_error(error, MLXR_ARG, "which file? Add : and one of these, or the part that tells it: %s",
                                text);
}

static bool pick_safetensors(const hub_list *list, bool *picked, size_t *first)
{
    static const char *const also[] = {
        "tokenizer.json",          "tokenizer.model",     "tokenizer_config.json",       "generation_config.json",
        "special_tokens_map.json", "chat_template.jinja", "model.safetensors.index.json"};
    bool config = false, weights = false;
    for (size_t i = 0; i < list->n; i++) {
        const char *path = list->items[i].path;
        size_t n = strlen(path);
        bool is_weights = !strchr(path, '/') && strncmp(path, "model", 5) == 0 && n > 12 &&
                          strcmp(path + n - 12, ".safetensors") == 0;
        bool is_config = strcmp(path, "config.json") == 0;
        picked[i] = is_weights || is_config;
        for (size_t k = 0; k < sizeof also / sizeof *also; k++) {
            picked[i] = picked[i] || strcmp(path, also[k]) == 0;
        }
        weights = weights || is_weights;
        config = config || is_config;
        *first = is_config ? i : *first;
    }
    return config && weights;
}

mlxr_status hub_pick(const hub_list *list, const char *quant, bool *picked, char *label, size_t *first,
                     mlxr_error *error)
{
    static const char *const usual[] = {"Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q8_0", "Q4_1", "F16", "BF16"};
    size_t stem, n_gguf = 0, at = 0;
    memset(picked, 0, list->n * sizeof *picked);
    for (size_t i = 0; i < list->n; i++) {
        n_gguf += is_gguf(list->items[i].path, &stem);
    }
    if (n_gguf == 0 && !quant && pick_safetensors(list, picked, first)) {
        *label = '\0';
        return MLXR_OK;
    }
    for (size_t k = 0; k < (quant ? 1 : sizeof usual / sizeof *usual); k++) {
        const char *wanted = quant ? quant : usual[k];
        for (size_t i = 0; i < list->n; i++) {
            const char *name = base_name(list->items[i].path);
            if (is_gguf(list->items[i].path, &stem) &&
                (has_word(name, stem, wanted) || (strlen(wanted) == stem && strncasecmp(name, wanted, stem) == 0))) {
                snprintf(label, 64, "%.63s", wanted);
                return pick_parts(list, i, picked, first, error);
            }
        }
    }
    for (size_t i = 0; i < list->n && !quant; i++) { /* the only one needs no name */
        unsigned part;
        if (is_gguf(list->items[i].path, &stem) && parts_of(list->items[i].path, &part) == n_gguf) {
            at = i;
            snprintf(label, 64, "%.*s", (int)(stem < 63 ? stem : 63), base_name(list->items[i].path));
            return pick_parts(list, at, picked, first, error);
        }
    }
    return tell_choice(list, quant, error);
}
