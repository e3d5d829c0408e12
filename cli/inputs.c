/*
 * What a command reads, by device and inode.
 * Owner: the verb. Lifetime: {0} to inputs_close.
 */
#include "inputs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters.h"
#include "models.h"
#include "output.h"

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + (n - n_end), end) == 0;
}

static void add_id(inputs *in, const struct stat *file)
{
    if (in->n == in->cap) {
        size_t cap = in->cap ? in->cap * 2 : 16;
        input_id *grown = realloc(in->items, cap * sizeof *grown);
        if (!grown) {
            in->failed = true;
            return;
        }
        in->items = grown;
        in->cap = cap;
    }
    in->items[in->n++] = (input_id){file->st_dev, file->st_ino};
}

void inputs_add(inputs *in, const char *path)
{
    struct stat file;
    if (path && (strcmp(path, "-") == 0 ? fstat(STDIN_FILENO, &file) : stat(path, &file)) == 0 &&
        S_ISREG(file.st_mode)) { /* nothing is lost of a terminal, a pipe or /dev/null */
        add_id(in, &file);
    }
}

static bool has(const inputs *in, const struct stat *file)
{
    for (size_t i = 0; i < in->n; i++) {
        if (in->items[i].device == file->st_dev && in->items[i].inode == file->st_ino) {
            return true;
        }
    }
    return false;
}

/* ---- files of a folder ------------------------------------------------------------------------------------------- */

/* Digits from `text` on: how many. */
static size_t n_digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* Is this what stands behind the stem of a part's name: -00001-of-00003.gguf, with any numbers? */
static bool is_part_suffix(const char *text)
{
    size_t n = *text == '-' ? n_digits(text + 1) : 0;
    if (n < 5 || strncmp(text + 1 + n, "-of-", 4) != 0) {
        return false;
    }
    text += 1 + n + 4;
    n = n_digits(text);
    return n >= 5 && strcmp(text + n, ".gguf") == 0;
}

/* Bytes before the suffix of a part's name; 0: it is no part's. */
static size_t part_stem(const char *name)
{
    for (size_t n = strlen(name); n > 0; n--) {
        if (is_part_suffix(name + n)) {
            return n;
        }
    }
    return 0;
}

/* Bytes of a path up to its last name, with the slash. */
static size_t folder_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* Is it of a folder of safetensors, or of an adapter's? Others may lie there, too, such as results of a run before. */
static bool is_of_safetensors(const char *name)
{
    static const char *const names[] = {"config.json",    "generation_config.json", "tokenizer_config.json",
                                        "tokenizer.json", "tokenizer.model",        "chat_template.jinja",
                                        "modules.json",   "adapter_config.json",    "model.safetensors.index.json"};
    bool found = ends_with(name, ".safetensors");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        found = found || strcmp(name, names[i]) == 0;
    }
    return found;
}

/* Which files of a folder are meant: parts of a stem, or with NULL those that a folder of safetensors is read from. */
static bool is_meant(const char *name, const char *stem, size_t n_stem)
{
    return stem ? strncmp(name, stem, n_stem) == 0 && is_part_suffix(name + n_stem) : is_of_safetensors(name);
}

typedef bool each_file(void *user, const char *path, const struct stat *file);

/* Calls for each regular file that is meant until one says false; that is the result, then. */
static bool each_of_folder(const char *path, size_t n_folder, const char *stem, size_t n_stem, each_file *each,
                           void *user)
{
    char folder[MODEL_PATH_MAX + 4], full[MODEL_PATH_MAX + 260];
    struct stat file;
    snprintf(folder, sizeof folder, "%.*s", (int)n_folder, n_folder ? path : "");
    DIR *entries = n_folder < sizeof folder ? opendir(n_folder ? folder : ".") : NULL;
    bool on = true;
    for (struct dirent *entry; on && entries && (entry = readdir(entries));) {
        const char *slash = n_folder == 0 || folder[n_folder - 1] == '/' ? "" : "/";
        int n = snprintf(full, sizeof full, "%s%s%s", folder, slash, entry->d_name);
        if (n > 0 && (size_t)n < sizeof full && is_meant(entry->d_name, stem, n_stem) && stat(full, &file) == 0 &&
            S_ISREG(file.st_mode)) {
            on = each(user, full, &file);
        }
    }
    if (entries) {
        closedir(entries);
    }
    return on;
}

static bool add_each(void *user, const char *path, const struct stat *file)
{
    (void)path;
    add_id(user, file);
    return true;
}

/* What an encoder's folder has for its head and its pooling (modules.json). */
static void add_modules(inputs *in, const char *folder)
{
    static const char *const names[] = {"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors",
                                        "3_Dense/config.json", "3_Dense/model.safetensors"};
    char path[MODEL_PATH_MAX + 32];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        inputs_add(in, path);
    }
}

void inputs_add_model(inputs *in, const char *path)
{
    struct stat file;
    size_t n_folder = folder_bytes(path), n_stem = part_stem(path + n_folder);
    inputs_add(in, path);
    if (stat(path, &file) != 0) {
        return;
    }
    if (S_ISDIR(file.st_mode)) {
        each_of_folder(path, strlen(path), NULL, 0, add_each, in);
        add_modules(in, path);
    } else if (ends_with(path, ".safetensors") || ends_with(path, ".json")) {
        each_of_folder(path, n_folder, NULL, 0, add_each, in);
    } else if (n_stem) {
        each_of_folder(path, n_folder, path + n_folder, n_stem, add_each, in);
    }
}

static void add_entry(inputs *in, const registry_model *model)
{
    inputs_add_model(in, model->path);
    for (size_t i = 0; i < model->adapters.n; i++) {
        inputs_add_model(in, model->adapters.items[i].name);
    }
}

bool inputs_add_loaded(inputs *in, const registry_model *model, const options *o)
{
    mlxr_error error;
    adapter_list named;
    registry_model draft;
    add_entry(in, model);
    if (adapter_list_take(&named, o, "--lora", &error) == MLXR_OK) { /* else the command ends with that anyway */
        for (size_t i = 0; i < named.n; i++) {
            inputs_add_model(in, named.items[i].path);
        }
        adapter_list_free(&named);
    }
    if (!o->draft || strcmp(o->draft, "ngram") == 0 || strcmp(o->draft, "mtp") == 0) {
        return true;
    }
    if (!models_resolve(o->draft, &draft)) {
        return false;
    }
    add_entry(in, &draft);
    registry_model_close(&draft);
    return true;
}

/* ---- what is written --------------------------------------------------------------------------------------------- */

static bool tell_lost(const char *path)
{
    print_error("%s: this is what is read, and would be lost; give another name", path);
    return false;
}

static bool is_no_input(void *user, const char *path, const struct stat *file)
{
    return !has(user, file) || tell_lost(path);
}

bool inputs_lose(const inputs *in, const char *out)
{
    struct stat there;
    if (in->failed) {
        print_error("out of memory for the names of what is read");
        return true;
    }
    return stat(out, &there) == 0 && has(in, &there) && !tell_lost(out);
}

bool inputs_lose_parts(const inputs *in, const char *out)
{
    size_t n_folder = folder_bytes(out), n_stem = strlen(out + n_folder);
    n_stem -= ends_with(out + n_folder, ".gguf") ? strlen(".gguf") : 0;
    return !each_of_folder(out, n_folder, out + n_folder, n_stem, is_no_input, (void *)in);
}

/* The same name in the same folder, of files that are not there. */
static bool is_same_place(const char *a, const char *b)
{
    const char *const paths[2] = {a, b};
    char folder[MODEL_PATH_MAX + 4];
    struct stat at[2];
    if (strcmp(a + folder_bytes(a), b + folder_bytes(b)) != 0) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        size_t n = folder_bytes(paths[i]);
        snprintf(folder, sizeof folder, "%.*s.", (int)n, paths[i]);
        if (n + 2 > sizeof folder || stat(folder, &at[i]) != 0) {
            return false;
        }
    }
    return at[0].st_dev == at[1].st_dev && at[0].st_ino == at[1].st_ino;
}

bool outputs_meet(const char *a, const char *b)
{
    struct stat of_a, of_b;
    bool a_there = stat(a, &of_a) == 0, b_there = stat(b, &of_b) == 0, same = false;
    if (a_there && b_there) {
        same = S_ISREG(of_a.st_mode) && of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
    } else if (!a_there && !b_there) {
        same = is_same_place(a, b);
    }
    if (same) {
        print_error("%s and %s: one would be written over the other; give another name", a, b);
    }
    return same;
}

void inputs_close(inputs *in)
{
    free(in->items);
    *in = (inputs){0};
}
