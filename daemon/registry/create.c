/*
 * Making a model of another one, or of a file, with other parameters, texts or template.
 * Owner: the store. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "registry/create_adapters.h"
#include "registry/disk.h"
#include "registry/found.h"
#include "registry/go_template.h"
#include "registry/inside.h"
#include "registry/rows.h"

/* What a recipe makes of its base. */
typedef struct creation {
    registry *r;
    registry_model base; /* {0}: a file or a blob */
    file_rows files;
    char path[REGISTRY_PATH_MAX]; /* of one in place, or "" */
    char blob[REGISTRY_PATH_MAX]; /* of one that a blob is, or "" */
    char *template_text;
    registry_pairs parameters, warnings;
} creation;

static bool is_path(const char *from)
{
    return *from == '/' || *from == '~' || strncmp(from, "./", 2) == 0 || strncmp(from, "../", 3) == 0;
}

/* FROM with a path: the file or folder stays where it is. */
static mlxr_status from_path(creation *c, const char *from, const char *directory, mlxr_error *error)
{
    char joined[REGISTRY_PATH_MAX], *description = NULL;
    if (!directory) {
        return daemon_error(error, MLXR_ARG, "FROM %.200s: paths are not taken here; upload the file as a blob", from);
    }
    if (*from == '/' ? snprintf(joined, sizeof joined, "%s", from) >= (int)sizeof joined
                     : !disk_join(joined, sizeof joined, directory, from)) {
        return daemon_error(error, MLXR_ARG, "the path in FROM is too long");
    }
    char *real = realpath(joined, NULL);
    if (!real || strlen(real) >= sizeof c->path) {
        free(real);
        return daemon_error(error, MLXR_IO, "FROM %.200s: there is no such file", from);
    }
    snprintf(c->path, sizeof c->path, "%s", real);
    free(real);
    mlxr_status status = mlxr_model_describe(c->path, &description, error);
    mlxr_free(description);
    return status;
}

static mlxr_status from_blob(creation *c, const char *digest, mlxr_error *error)
{
    char *description = NULL;
    uint64_t n_bytes;
    if (!registry_blob_exists(c->r, digest, &n_bytes)) {
        return daemon_error(error, MLXR_ARG, "there is no blob %s", digest);
    }
    mlxr_status status = file_rows_add(&c->files, "weights", "model.gguf", digest, error);
    if (status == MLXR_OK && blob_path(c->r, digest, c->blob)) {
        status = mlxr_model_describe(c->blob, &description, error);
        mlxr_free(description);
    }
    return status;
}

/* Several blobs under the names their loader looks for; the first part of the weights stands for all of them. */
static mlxr_status from_files(creation *c, const registry_pairs *files, mlxr_error *error)
{
    size_t first = files->n;
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < files->n; i++) {
        bool before = first == files->n || strcmp(files->items[i].name, files->items[first].name) < 0;
        first = found_is_weights(files->items[i].name) && before ? i : first;
    }
    if (first == files->n) {
        return daemon_error(error, MLXR_ARG, "none of the files is a .gguf or .safetensors");
    }
    for (size_t i = 0; i < files->n && status == MLXR_OK; i++) {
        if (!registry_blob_exists(c->r, files->items[i].value, NULL)) {
            return daemon_error(error, MLXR_ARG, "there is no blob %s", files->items[i].value);
        }
        status = file_rows_add(&c->files, i == first ? "weights" : "part", files->items[i].name, files->items[i].value,
                               error);
    }
    return status;
}

static mlxr_status from_model(creation *c, const char *name, mlxr_error *error)
{
    mlxr_status status = registry_resolve(c->r, name, &c->base, error);
    if (status != MLXR_OK) {
        return status;
    }
    if (c->base.source != REGISTRY_STORED) {
        snprintf(c->path, sizeof c->path, "%s", c->base.path);
    }
    return file_rows_of(c->r, &c->base, &c->files, error);
}

/* The base's parameters, those that are given in their place. */
static mlxr_status merge_parameters(creation *c, const registry_pairs *given, mlxr_error *error)
{
    bool ok = true;
    for (size_t i = 0; i < c->base.parameters.n; i++) {
        bool replaced = false;
        for (size_t k = 0; k < given->n; k++) {
            replaced = replaced || strcmp(given->items[k].name, c->base.parameters.items[i].name) == 0;
        }
        ok = ok && (replaced || registry_pairs_add(&c->parameters, c->base.parameters.items[i].name,
                                                   c->base.parameters.items[i].value));
    }
    return ok && pairs_copy(&c->parameters, given) ? MLXR_OK : registry_fail_nomem(error);
}

static mlxr_status take_template(creation *c, const char *text, mlxr_error *error)
{
    if (!text) {
        text = c->base.template_text;
        c->template_text = text ? strdup(text) : NULL;
        return !text || c->template_text ? MLXR_OK : registry_fail_nomem(error);
    }
    if (go_template_is(text)) {
        return go_template_to_jinja(text, &c->template_text, error);
    }
    c->template_text = strdup(text);
    return c->template_text ? MLXR_OK : registry_fail_nomem(error);
}

/* Checked against the weights, wherever they are; of several files before they are a model. */
static mlxr_status take_adapters(creation *c, const registry_pairs *given, const char *directory, mlxr_error *error)
{
    char set[REGISTRY_PATH_MAX] = "";
    const char *model = c->path[0] ? c->path : c->base.path ? c->base.path : c->blob[0] ? c->blob : set;
    mlxr_status status = model == set ? rows_try_set(c->r, &c->files, set, error) : MLXR_OK;
    if (status == MLXR_OK) {
        status = create_adapters(c->r, &c->base, given, model, directory, &c->files, error);
    }
    rows_drop_set(c->r, set);
    return status;
}

mlxr_status registry_create(registry *r, const char *name, const registry_recipe *recipe, const char *directory,
                            mlxr_error *error)
{
    char wanted[REGISTRY_NAME_MAX + 1], digest[REGISTRY_DIGEST_MAX];
    creation c = {.r = r};
    const char *from = recipe->from ? recipe->from : "";
    if (!name_canonical(name, wanted)) {
        return daemon_error(error, MLXR_ARG, "'%.80s' cannot be the name of a model", name);
    }
    struct stat info;
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < recipe->parameters.n && status == MLXR_OK; i++) {
        status = registry_parameter_check(recipe->parameters.items[i].name, recipe->parameters.items[i].value, error);
    }
    if (status == MLXR_OK && !*from && recipe->files.n) {
        status = from_files(&c, &recipe->files, error);
    } else if (status == MLXR_OK && registry_digest_parse(from, digest)) {
        status = from_blob(&c, digest, error);
    } else if (status == MLXR_OK) {
        bool path = is_path(from) || (directory && found_stem(from) && stat(from, &info) == 0);
        status = path ? from_path(&c, from, directory, error) : from_model(&c, from, error);
    }
    status = status == MLXR_OK ? take_template(&c, recipe->template_text, error) : status;
    status = status == MLXR_OK ? merge_parameters(&c, &recipe->parameters, error) : status;
    if (status == MLXR_OK && recipe->adapters.n + c.base.adapters.n > 0) {
        status = take_adapters(&c, &recipe->adapters, directory, error);
    }
    if (status == MLXR_OK) {
        stored_model m = {.name = wanted,
                          .path = c.path,
                          .origin = c.base.origin ? c.base.origin : "",
                          .template_text = c.template_text,
                          .system = recipe->system ? recipe->system : c.base.system,
                          .license = recipe->license ? recipe->license : c.base.license,
                          .files = c.files.items,
                          .n_files = c.files.n,
                          .parameters = &c.parameters,
                          .messages = recipe->messages.n ? &recipe->messages : &c.base.messages,
                          .warnings = &c.base.warnings};
        status = rows_put(r, &m, error);
    }
    free(c.template_text);
    file_rows_close(&c.files);
    registry_pairs_close(&c.parameters);
    registry_pairs_close(&c.warnings);
    registry_model_close(&c.base);
    return status;
}
