/*
 * `mlxr list`, `rm`, `cp`, `create`: the models there are.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "models.h"
#include "output.h"
#include "store.h"
#include "verbs.h"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static uint64_t number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void print_models(const json_t *models)
{
    static const char *const head[] = {"NAME", "SIZE", "FAMILY", "TYPE", "FROM", "MODIFIED"};
    json_t *rows = json_array();
    for (size_t i = 0; i < json_array_size(models); i++) {
        const json_t *m = json_array_get(models, i);
        time_t modified = (time_t)number_of(m, "modified");
        struct tm parts;
        char day[16], from[320];
        strftime(day, sizeof day, "%Y-%m-%d", localtime_r(&modified, &parts));
        const char *alias = text_of(m, "alias_of");
        snprintf(from, sizeof from, "%s%s", *alias ? "= " : "", *alias ? alias : text_of(m, "source"));
        const char *texts[] = {text_of(m, "name"),
                               human_bytes(number_of(m, "bytes")),
                               *text_of(m, "family") ? text_of(m, "family") : "?",
                               text_of(m, "quantization"),
                               from,
                               day};
        table_add(rows, texts, 6);
    }
    table_print(rows, head, 6);
    json_decref(rows);
}

static int list_catalogue(const options *o)
{
    static const char *const head[] = {"NAME", "DOWNLOAD", "MEMORY", "WHAT IT IS"};
    json_t *list = registry_catalogue_json(), *rows = json_array();
    if (o->json) {
        json_decref(rows);
        return print_json(list);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        const char *texts[] = {text_of(m, "name"), human_bytes(number_of(m, "bytes")),
                               human_bytes(number_of(m, "memory_bytes")), text_of(m, "about")};
        table_add(rows, texts, 4);
    }
    table_print(rows, head, 4);
    puts("\nmlxr pull NAME gets one. Memory is for 8,192 tokens of context; sizes are rounded.");
    json_decref(rows);
    json_decref(list);
    return finish_output(EXIT_OK);
}

int verb_list(options *o)
{
    store s;
    json_t *models = NULL;
    mlxr_error error = {.text = "out of memory"};
    if (o->catalogue) {
        return list_catalogue(o);
    }
    int code = store_open(&s, o, 0);
    if (code != EXIT_OK) {
        return code;
    }
    mlxr_status status = s.ops->list(&s, &models, &error);
    store_close(&s);
    if (status != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    if (o->json) {
        return print_json(models);
    }
    if (json_array_size(models) == 0) {
        print_note("there are no models yet; mlxr list --catalogue shows good ones, mlxr pull NAME gets one");
    } else {
        print_models(models);
    }
    json_decref(models);
    return finish_output(EXIT_OK);
}

/* {"what": …, "name": …} or a line. */
static int tell_done(const options *o, const char *what, const char *name)
{
    if (o->json) {
        return print_json(json_pack("{s:s, s:o}", "status", what, "name", json_text(name, strlen(name))));
    }
    printf("%s %s\n", what, name);
    return finish_output(EXIT_OK);
}

int verb_rm(options *o)
{
    store s;
    mlxr_error error;
    int code = store_open(&s, o, STORE_CHANGE);
    if (code != EXIT_OK) {
        return code;
    }
    for (size_t i = 0; i < o->n_args; i++) { /* each on its own: one that is not there does not save the others */
        if (s.ops->remove(&s, o->args[i], &error) != MLXR_OK) {
            print_error("%s", error.text);
            code = EXIT_FAILED;
        } else if (tell_done(o, "removed", o->args[i]) != EXIT_OK) {
            code = EXIT_FAILED;
        }
    }
    store_close(&s);
    return code;
}

/* cp knows models by name; of a file `create` makes one. */
static int tell_path(const char *path)
{
    print_error("%.300s is a path, and cp takes the name of a model: mlxr create NAME --from PATH makes one of a file",
                path);
    return EXIT_USAGE;
}

int verb_cp(options *o)
{
    store s;
    mlxr_error error;
    const char *from = o->args[0];
    if (models_is_path(from) && !registry_name_valid(from)) {
        return tell_path(from);
    }
    int code = store_open(&s, o, STORE_CHANGE);
    if (code != EXIT_OK) {
        return code;
    }
    mlxr_status status = s.ops->copy(&s, from, o->args[1], o->alias, &error);
    store_close(&s);
    if (status == MLXR_ARG && models_is_path(from) && registry_name_valid(o->args[1])) {
        return tell_path(from); /* a file in this folder; a model of that name would have been copied */
    }
    if (status != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    return tell_done(o, o->alias ? "alias" : "copied", o->args[1]);
}

/* What create makes the model of: a Modelfile, or a model or file named by --from. */
static int read_recipe(const options *o, registry_recipe *out, char *directory, size_t cap)
{
    mlxr_error error;
    size_t n = 0;
    snprintf(directory, cap, ".");
    if (o->from && o->file) {
        print_error("--from and --file: one of them says what the model is made of");
        return EXIT_USAGE;
    }
    if (o->from) {
        *out = (registry_recipe){.from = strdup(o->from)};
        return out->from ? EXIT_OK : EXIT_FAILED;
    }
    const char *path = o->file ? o->file : "Modelfile", *slash = strrchr(path, '/');
    if (slash) {
        snprintf(directory, cap, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    }
    char *text = read_all(path, &n);
    if (!text) {
        return EXIT_FAILED;
    }
    mlxr_status status = registry_modelfile_parse(out, text, n, &error);
    free(text);
    if (status != MLXR_OK) {
        print_error("%s: %s", path, error.text);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

int verb_create(options *o)
{
    store s;
    mlxr_error error;
    registry_recipe recipe = {0};
    char directory[REGISTRY_PATH_MAX];
    int code = read_recipe(o, &recipe, directory, sizeof directory);
    if (code != EXIT_OK) {
        return code;
    }
    bool file = recipe.adapters.n > 0 || (recipe.from && (models_is_path(recipe.from) || *recipe.from == '~'));
    code = store_open(&s, o, STORE_CHANGE | (file ? STORE_FILES : 0));
    if (code == EXIT_OK) {
        mlxr_status status = s.ops->create(&s, o->args[0], &recipe, directory, &error);
        store_close(&s);
        if (status != MLXR_OK) {
            print_error("%s", error.text);
            code = EXIT_FAILED;
        }
    }
    registry_recipe_close(&recipe);
    return code == EXIT_OK ? tell_done(o, "created", o->args[0]) : code;
}
