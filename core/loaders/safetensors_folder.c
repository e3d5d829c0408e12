/*
 * Finding a safetensors model's files: config and tokenizer texts, one weight file, or an index with its shards.
 * Owner: the model_file being filled; all files stay mapped. Lifetime: its own.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "loaders/safetensors.h"
#include "loaders/safetensors_modules.h"

#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"
#define DENSE_FIRST 2u /* GGUF's names have the numbers that modules have: 0 is the model, 1 the pooling */

/* The weight files in order. */
typedef struct shards {
    const char **names;
    uint32_t n;
} shards;

/* Maps folder/name if it is there. */
static mlxr_status map_text(model_file *file, const char *folder, const char *name, mapping *extra, text_view *out,
                            mlxr_error *error)
{
    const char *path = safetensors_join_path(&file->memory, folder, name);
    if (!path) {
        return error_nomem(error, "a path", strlen(folder) + strlen(name) + 2);
    }
    if (path_find(path) == PATH_NONE) {
        return MLXR_OK;
    }
    mlxr_status status = mapping_open(extra, path, error);
    *out = (text_view){(const char *)extra->data, extra->n_bytes};
    return status;
}

static mlxr_status map_texts(model_file *file, const char *folder, const safetensors_modules *modules,
                             safetensors_texts *texts, text_view *index, mlxr_error *error)
{
    model_index *own = file->index;
    const struct {
        const char *name;
        text_view *out;
    } files[] = {{"config.json", &texts->config},
                 {"generation_config.json", &texts->generation_config},
                 {"tokenizer_config.json", &texts->tokenizer_config},
                 {"tokenizer.json", &texts->tokenizer_json},
                 {"tokenizer.model", &texts->tokenizer_model},
                 {"chat_template.jinja", &texts->chat_template},
                 {INDEX_NAME, index},
                 {modules->pooling, &texts->pooling}};
    _Static_assert(sizeof files / sizeof *files <= EXTRAS_MAX, "EXTRAS_MAX is too small");
    texts->pooling_name = modules->pooling;
    for (size_t i = 0; i < sizeof files / sizeof *files && files[i].name; i++) {
        mlxr_status status = map_text(file, folder, files[i].name, &own->extras[i], files[i].out, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    if (texts->config.n == 0) {
        return error_set(error, MLXR_FORMAT, "%s: no config.json, which a safetensors model needs",
                         folder[0] ? short_path(folder) : "current folder");
    }
    return MLXR_OK;
}

/* ---- the index ------------------------------------------------------------------------------------------------- */

/* A file of the same folder; a name from an index must not lead anywhere else. */
static bool is_shard_name(const char *name)
{
    const char end[] = ".safetensors";
    size_t n = strlen(name), n_end = sizeof end - 1;
    return n > n_end && n <= 255 && strcmp(name + (n - n_end), end) == 0 && name[0] != '.' && !strpbrk(name, "/\\:");
}

/* Files of the weight map in order of appearance. `seen` gets one entry a file. */
static mlxr_status list_shards(const json_t *map, json_t *seen, region *memory, shards *out, mlxr_error *error)
{
    const char *tensor_name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, tensor_name, value)
    {
        const char *name = json_string_value(value);
        if (!name || !is_shard_name(name)) {
            return error_set(error, MLXR_FORMAT,
                             INDEX_NAME ": tensor '%.128s' lies in '%.128s', which is no name of a "
                                        ".safetensors file in the same folder",
                             tensor_name, name ? name : "(not a string)");
        }
        if (!json_object_get(seen, name) && json_object_set_new(seen, name, json_true()) != 0) {
            return error_nomem(error, INDEX_NAME, strlen(name));
        }
    }
    out->names = region_array(memory, json_object_size(seen) + 1, sizeof *out->names);
    if (!out->names) {
        return error_nomem(error, INDEX_NAME, json_object_size(seen) * sizeof *out->names);
    }
    const char *name;
    json_object_foreach(seen, name, value)
    {
        out->names[out->n] = region_strndup(memory, name, strlen(name));
        if (!out->names[out->n++]) {
            return error_nomem(error, INDEX_NAME, strlen(name) + 1);
        }
    }
    return MLXR_OK;
}

static mlxr_status read_shards(const json_t *map, region *memory, shards *out, mlxr_error *error)
{
    json_t *seen = json_object();
    if (!seen) {
        return error_nomem(error, INDEX_NAME, 0);
    }
    mlxr_status status = list_shards(map, seen, memory, out, error);
    json_decref(seen);
    return status;
}

/* Every tensor the index names must be there; otherwise a shard is not the one the index was made for. */
static mlxr_status check_index(const model_file *file, const json_t *map, const hf_config *config, mlxr_error *error)
{
    const char *name;
    json_t *shard;
    json_object_foreach((json_t *)(uintptr_t)map, name, shard)
    {
        char ours[272], whole[272];
        unsigned change;
        size_t n_stem = strlen(name);
        hf_part part = hf_part_of(&config->quant, name, NULL, &n_stem);
        const char *end = part == HF_PART_NONE || config->quant.kind == HF_QUANT_MXFP4 ? "" : ".weight";
        snprintf(whole, sizeof whole, "%.*s%s", (int)(n_stem < 256 ? n_stem : 256), name, end);
        if (part != HF_PART_SKIP && hf_tensor_name(config, whole, ours, sizeof ours, &change) == HF_KEEP &&
            !model_file_tensor(file, ours)) {
            return error_set(error, MLXR_FORMAT,
                             "%.128s: tensor '%.128s' is missing, which " INDEX_NAME " says is there",
                             json_string_value(shard), name);
        }
    }
    return MLXR_OK;
}

/* ---- layers behind pooling ------------------------------------------------------------------------------------- */

/* Appends the tensors of module `i` of the dense ones. */
static mlxr_status read_dense(model_file *file, const char *folder, const safetensors_modules *modules, uint32_t i,
                              const hf_config *config, tensor_list *list, mlxr_error *error)
{
    mapping *part = &((mapping *)file->parts)[file->n_parts];
    hf_config own = *config;
    own.dense = DENSE_FIRST + i;
    const char *path = safetensors_join_path(&file->memory, folder, modules->dense[i].weights);
    if (!path) {
        return error_nomem(error, "a path", strlen(folder) + strlen(modules->dense[i].weights) + 2);
    }
    mlxr_status status = mapping_open(part, path, error);
    if (status == MLXR_OK) {
        file->n_parts++;
        status = safetensors_read_part(list, part, path, &own, &file->memory, error);
    }
    return status;
}

/* ---- the weights ----------------------------------------------------------------------------------------------- */

static mlxr_status read_weights(model_file *file, const char *folder, const shards *files,
                                const safetensors_texts *texts, const hf_config *config,
                                const safetensors_modules *modules, mlxr_error *error)
{
    mapping *parts = region_array(&file->memory, files->n + MODULES_DENSE_MAX, sizeof *parts);
    tensor_list *lists = region_array(&file->memory, files->n + MODULES_DENSE_MAX, sizeof *lists);
    if (!parts || !lists) {
        return error_nomem(error, "the table of parts", files->n * (sizeof *parts + sizeof *lists));
    }
    file->parts = parts;
    for (uint32_t i = 0; i < files->n; i++) {
        const char *path = safetensors_join_path(&file->memory, folder, files->names[i]);
        if (!path) {
            return error_nomem(error, "a path", strlen(folder) + strlen(files->names[i]) + 2);
        }
        mlxr_status status = mapping_open(&parts[i], path, error);
        if (status == MLXR_OK) {
            file->n_parts = i + 1;
            status = safetensors_read_part(&lists[i], &parts[i], path, config, &file->memory, error);
        }
        if (status != MLXR_OK) {
            return status;
        }
    }
    for (uint32_t i = 0; i < modules->n_dense; i++) {
        mlxr_status status = read_dense(file, folder, modules, i, config, &lists[file->n_parts], error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    return safetensors_finish(file, texts, config, lists, file->n_parts, error);
}

static bool lists(const shards *files, const char *name)
{
    for (uint32_t i = 0; i < files->n; i++) {
        if (strcmp(files->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* `weights`: the file asked for, or NULL. A shard stands for the whole model; a file the index does not know for
 * itself. */
static mlxr_status read_indexed(model_file *file, const char *folder, const char *weights, text_view index,
                                const safetensors_texts *texts, const hf_config *config,
                                const safetensors_modules *modules, mlxr_error *error)
{
    json_t *root = NULL;
    shards files = {0};
    mlxr_status status = safetensors_parse_json(&root, index, INDEX_NAME, error);
    if (status != MLXR_OK) {
        return status;
    }
    const json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        status = error_set(error, MLXR_FORMAT, INDEX_NAME ": no 'weight_map' that names the files");
    }
    if (status == MLXR_OK) {
        status = read_shards(map, &file->memory, &files, error);
    }
    bool whole = !weights || lists(&files, weights);
    if (status == MLXR_OK) {
        status = read_weights(file, folder, whole ? &files : &(shards){&weights, 1}, texts, config, modules, error);
    }
    if (status == MLXR_OK && whole) {
        status = check_index(file, map, config, error);
    }
    json_decref(root);
    return status;
}

/* ---- the folder ------------------------------------------------------------------------------------------------ */

/* The folder's own name for general.name; NULL for ".", "..", "/". */
static const char *folder_name(const char *folder)
{
    const char *slash = strrchr(folder, '/'), *name = slash ? slash + 1 : folder;
    return name[0] && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 ? name : NULL;
}

/* A file's name that may be the model's own weights. */
static bool is_weights(const char *name)
{
    return is_shard_name(name) && strcmp(name, "adapter_model.safetensors") != 0;
}

/* The names of weight files in a folder, the first ones in `text`; *last is one of them. */
static size_t list_weights(DIR *listing, char *text, size_t cap, char *last, size_t cap_last)
{
    size_t n_found = 0, n = 0;
    for (struct dirent *d; (d = readdir(listing)) != NULL;) {
        if (!is_weights(d->d_name)) {
            continue;
        }
        if (n_found < 3) {
            n += (size_t)snprintf(text + n, cap - n, "%s%.80s", n_found ? ", " : "", d->d_name);
        }
        n_found++;
        snprintf(last, cap_last, "%s", d->d_name);
    }
    return n_found;
}

/* The weights of a folder without an index: model.safetensors, else the only file that there is. */
static mlxr_status find_weights(const char *folder, region *memory, const char **weights, mlxr_error *error)
{
    char names[300] = "", last[256] = SINGLE_NAME;
    const char *path = safetensors_join_path(memory, folder, SINGLE_NAME);
    if (!path) {
        return error_nomem(error, "a path", strlen(folder) + sizeof SINGLE_NAME + 1);
    }
    DIR *listing = path_find(path) == PATH_NONE ? opendir(folder[0] ? folder : ".") : NULL;
    if (listing) {
        size_t n = list_weights(listing, names, sizeof names, last, sizeof last);
        closedir(listing);
        if (n > 1) {
            return error_set(error, MLXR_FORMAT,
                             "%s: %zu files of weights (%s%s), and no " INDEX_NAME
                             " that says which belong together: add it, or name the one file to load",
                             folder[0] ? short_path(folder) : "current folder", n, names, n > 3 ? ", …" : "");
        }
    }
    *weights = region_strndup(memory, last, strlen(last));
    return *weights ? MLXR_OK : error_nomem(error, "a path", strlen(last) + 1);
}

/* `path` as folder and, where it names a weight file, that file's name. */
static mlxr_status split_path(const char *path, region *memory, const char **folder, const char **weights,
                              mlxr_error *error)
{
    size_t n = strlen(path);
    *weights = NULL;
    if (path_find(path) != PATH_FOLDER) {
        const char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        *weights = text_ends_with(name, ".safetensors") ? name : NULL;
        n = slash ? (size_t)(slash - path) : 0;
        if (slash == path) {
            n = 1;
        }
    }
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    *folder = region_strndup(memory, path, n);
    return *folder ? MLXR_OK : error_nomem(error, "a path", n + 1);
}

mlxr_status safetensors_read(model_file *file, const char *path, mlxr_error *error)
{
    const char *folder, *weights;
    safetensors_texts texts = {0};
    safetensors_modules modules = {0};
    hf_config config = {0};
    text_view index = {0};
    mlxr_status status = split_path(path, &file->memory, &folder, &weights, error);
    if (status == MLXR_OK) {
        status = safetensors_modules_read(&modules, folder, &file->memory, error);
    }
    if (status == MLXR_OK) {
        status = map_texts(file, folder, &modules, &texts, &index, error);
    }
    if (status == MLXR_OK) {
        texts.name = folder_name(folder);
        status = hf_config_read(file, &texts, &config, error);
    }
    if (status == MLXR_OK && !index.n && !weights) {
        status = find_weights(folder, &file->memory, &weights, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    if (index.n) {
        return read_indexed(file, folder, weights, index, &texts, &config, &modules, error);
    }
    return read_weights(file, folder, &(shards){&weights, 1}, &texts, &config, &modules, error);
}
