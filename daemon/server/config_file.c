/*
 * Reading, checking and writing the file of options.
 * Owner: the caller. Lifetime: the call.
 */
#include "server/config_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "registry/disk.h"
#include "registry/words.h"
#include "server/ui_schema.h"

#define FILE_BYTES_MAX (64u << 10)
#define VALUES "UiOptionValues"

const config_option config_options[N_CONFIG_OPTIONS] = {
    {"threads", "threads", "performance", false},
    {"backend", "backend", "performance", false},
    {"kv_type", "kv-type", "performance", false},
    {"activations", "activations", "performance", false},
    {"kv_bytes", "kv-bytes", "performance", false},
    {"expert_bytes", "expert-bytes", "performance", false},
    {"kv_disk_bytes", "kv-disk-bytes", "performance", false},
    {"draft", "draft", "performance", true},
    {"batch_invariant", "batch-invariant", "performance", false},
    {"memory_bytes", "memory", "limits", false},
    {"ctx", "ctx", "limits", false},
    {"rope_scaling", "rope-scaling", "limits", false},
    {"rope_scale", "rope-scale", "limits", false},
    {"rope_base", "rope-base", "limits", false},
    {"rope_original", "rope-original", "limits", false},
    {"yarn_beta_fast", "yarn-beta-fast", "limits", false},
    {"yarn_beta_slow", "yarn-beta-slow", "limits", false},
    {"yarn_attn_factor", "yarn-attn-factor", "limits", false},
    {"keep_alive_s", "keep-alive", "limits", false},
    {"parallel", "parallel", "limits", false},
    {"queue", "queue", "limits", false},
    {"drain_s", "drain", "limits", true},
    {"kv_dir", "kv-dir", "paths", false},
};

bool config_path(char *out, size_t cap)
{
    const char *own = getenv("MLXR_CONFIG"), *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n = -1;
    if (own && *own) {
        n = snprintf(out, cap, "%s", own);
    } else if (config && *config == '/') { /* the XDG specification: relative paths are to be ignored */
        n = snprintf(out, cap, "%s/mlxr/serve.json", config);
    } else if (home && *home == '/') {
        n = snprintf(out, cap, "%s/.config/mlxr/serve.json", home);
    }
    return n >= 0 && (size_t)n < cap;
}

const json_t *config_default(const json_t *document, const char *name)
{
    const json_t *properties = json_object_get(ui_schema_named(document, VALUES), "properties");
    return json_object_get(json_object_get(properties, name), "default");
}

static bool bad_path(char *field, mlxr_error *error, const char *name, const char *format, const char *path)
{
    snprintf(field, CONFIG_FIELD_MAX, "%s", name);
    *error = (mlxr_error){.status = MLXR_ARG};
    snprintf(error->text, sizeof error->text, format, name, path);
    text_trim_cut(error->text);
    return false;
}

bool config_check(const json_t *values, const json_t *document, char *field, mlxr_error *error)
{
    const json_t *schema = ui_schema_named(document, VALUES);
    if (!ui_schema_check(document, schema, values, field, CONFIG_FIELD_MAX, error)) {
        return false;
    }
    const char *folder = json_string_value(json_object_get(values, "kv_dir"));
    if (folder && *folder && *folder != '/') {
        return bad_path(field, error, "kv_dir", "%s must be a path from the root, beginning with /; it is \"%.200s\"",
                        folder);
    }
    return true;
}

bool config_check_paths(const json_t *values, char *field, mlxr_error *error)
{
    const char *folder = json_string_value(json_object_get(values, "kv_dir"));
    char path[CONFIG_PATH_MAX], parent[CONFIG_PATH_MAX];
    struct stat info;
    if (!folder || !*folder) {
        return true;
    }
    if (stat(folder, &info) == 0) {
        return S_ISDIR(info.st_mode) ||
               bad_path(field, error, "kv_dir", "%s must be a folder; %.300s is a file", folder);
    }
    snprintf(path, sizeof path, "%s", folder);
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) {
        path[n - 1] = '\0';
    }
    disk_parent(path, parent, sizeof parent);
    return (stat(parent, &info) == 0 && S_ISDIR(info.st_mode)) ||
           bad_path(field, error, "kv_dir",
                    "%s is made where it is missing, but there is no folder %.300s to make it in", parent);
}

json_t *config_read(const char *path, const json_t *document, mlxr_error *error)
{
    char field[CONFIG_FIELD_MAX], *text;
    size_t n;
    struct stat info;
    json_error_t where;
    mlxr_error reason;
    if (stat(path, &info) != 0) {
        return json_object();
    }
    if (disk_read_file(path, FILE_BYTES_MAX, &text, &n, error) != MLXR_OK) {
        return NULL;
    }
    json_t *values = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    free(text);
    *error = (mlxr_error){.status = MLXR_ARG};
    if (!values) {
        snprintf(error->text, sizeof error->text, "%.300s: line %d, column %d: %s", path, where.line, where.column,
                 where.text);
    } else if (!config_check(values, document, field, &reason)) {
        snprintf(error->text, sizeof error->text, "%.300s: %.200s", path, reason.text);
        json_decref(values);
        values = NULL;
    }
    text_trim_cut(error->text);
    return values;
}

mlxr_status config_write(const char *path, const json_t *values, mlxr_error *error)
{
    char folder[CONFIG_PATH_MAX];
    char *text = json_dumps(values, JSON_INDENT(2) | JSON_SORT_KEYS), *with_end = NULL;
    size_t n = text ? strlen(text) : 0;
    bool fits = disk_parent(path, folder, sizeof folder); /* if not, writing it says that */
    mlxr_status status = fits ? disk_make_dir(folder, error) : MLXR_OK;
    if (status == MLXR_OK) {
        with_end = text ? realloc(text, n + 2) : NULL;
        status = with_end ? MLXR_OK : MLXR_NOMEM;
        text = with_end ? with_end : text;
        if (!with_end) {
            *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        }
    }
    if (status == MLXR_OK) {
        memcpy(text + n, "\n", 2);
        status = disk_write_file(path, text, n + 1, error);
    }
    free(text);
    return status;
}
