/*
 * Files of people's own as models: /ui-api/models/import takes the bytes, /ui-api/models/register a path of this
 * machine. Owner: a call belongs to its exchange and the pool's work together. Lifetime: until both have ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/admin_parts.h"
#include "server/blob_upload.h"
#include "server/errors.h"

typedef struct import_call {
    struct daemon *d;
    http_exchange *x; /* of register; NULL: gone */
    char name[REGISTRY_NAME_MAX + 1], path[REGISTRY_PATH_MAX];
    bool closed;  /* the sandbox, or the system's rights, keep this process from reading it */
    bool replace; /* a model of this name may go */
    bool taken;   /* there is one, and it may not */
    mlxr_status status;
    mlxr_error error;
} import_call;

static void answer(import_call *c, http_exchange *x, mlxr_status status, const char *message)
{
    if (status == MLXR_OK) {
        model_jobs_changed(c->d->jobs);
        admin_respond(x, json_pack("{s:s}", "name", c->name));
    } else {
        int http = c->taken                                     ? 409
                   : c->closed                                  ? 403
                   : status == MLXR_IO || status == MLXR_FORMAT ? 400
                                                                : error_status_of(status);
        error_respond(x, http,
                      c->taken    ? "name_taken"
                      : c->closed ? "folder_closed"
                                  : "import_failed",
                      message, *c->path && !c->taken ? "path" : "name");
    }
}

/* Whatever answers to this name now would not any more. */
static mlxr_status check_name(void *user, mlxr_error *error)
{
    import_call *c = user;
    registry_model there;
    if (c->replace || registry_resolve(c->d->registry, c->name, &there, error) != MLXR_OK) {
        return MLXR_OK; /* what else keeps it from being stored, storing it tells */
    }
    c->taken = true;
    *error = (mlxr_error){.status = MLXR_ARG};
    snprintf(error->text, sizeof error->text,
             "name: there is a model %s already (%s); choose another name, remove it, or ask with ?replace=true",
             there.name, registry_source_name(there.source));
    registry_model_close(&there);
    return MLXR_ARG;
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static mlxr_status stored(void *user, const char *digest, mlxr_error *error)
{
    import_call *c = user;
    registry_recipe recipe = {.from = strdup(digest)};
    mlxr_status status = recipe.from ? check_name(c, error) : MLXR_NOMEM; /* again: it took its time to come */
    if (status == MLXR_OK) {
        status = registry_create(c->d->registry, c->name, &recipe, NULL, error);
    }
    registry_recipe_close(&recipe);
    return status;
}

static void uploaded(void *user, http_exchange *x, const blob_upload_result *result)
{
    answer(user, x, result->status, result->message);
}

void admin_import(void *service, http_exchange *x)
{
    char name[REGISTRY_NAME_MAX + 1];
    bool replace = false;
    if (http_query_read(x, "name", name, sizeof name) != HTTP_QUERY_GIVEN || !registry_name_valid(name)) {
        error_respond(x, 400, "invalid_value",
                      "name must be the name of a model: letters, digits and . _ - / :", "name");
        return;
    }
    if (!route_query_flag(x, "replace", &replace)) {
        return;
    }
    import_call *c = calloc(1, sizeof *c);
    if (!c) {
        admin_no_memory(x);
        return;
    }
    c->d = service;
    c->replace = replace;
    memcpy(c->name, name, sizeof name);
    blob_upload_begin(
        c->d, x,
        &(blob_upload_plan){.check = check_name, .stored = stored, .answer = uploaded, .end = free, .user = c});
}

/* ---- a path ------------------------------------------------------------------------------------------------------ */

static void work(void *user)
{
    import_call *c = user;
    char *description = NULL;
    c->status = check_name(c, &c->error);
    if (c->status != MLXR_OK) {
        return;
    }
    struct stat info;
    int fd = open(c->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe would wait for who writes */
    if (fd < 0) {
        c->closed = errno == EACCES || errno == EPERM;
        c->status = MLXR_IO;
        snprintf(c->error.text, sizeof c->error.text,
                 c->closed ? "path: this daemon may not read %.200s: it confined itself to the folders known at its "
                             "start. Send the file instead, or run mlxr create NAME --from PATH and start it anew"
                           : "path: there is no file %.300s",
                 c->path);
        return;
    }
    bool possible = fstat(fd, &info) == 0 && (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode));
    close(fd);
    if (!possible) {
        c->status = MLXR_IO;
        snprintf(c->error.text, sizeof c->error.text, "path: %.300s is neither a file nor a folder", c->path);
        return;
    }
    c->status = mlxr_model_describe(c->path, &description, &c->error);
    mlxr_free(description);
    if (c->status == MLXR_OK) {
        c->status = registry_register_path(c->d->registry, c->path, c->name, true, &c->error);
    }
}

static void done(void *user)
{
    import_call *c = user;
    if (c->x) {
        answer(c, c->x, c->status, c->error.text);
        http_on_gone(c->x, NULL, NULL);
    }
    free(c);
}

void admin_register(void *service, http_exchange *x)
{
    struct daemon *d = service;
    admin_fields f;
    bool replace = false;
    if (!route_from_here(x, "paths are taken from this machine only, or from who has an admin key") ||
        !route_query_flag(x, "replace", &replace) || !admin_fields_read(&f, x)) {
        return;
    }
    import_call *c = NULL;
    if (!admin_fields_need(x, "path", f.path) || !admin_fields_need(x, "name", f.name)) {
    } else if (*f.path != '/' || strlen(f.path) >= sizeof c->path) {
        error_respond(x, 400, "invalid_value", "path must begin with /, and have fewer than 4,096 bytes", "path");
    } else if (!registry_name_valid(f.name)) {
        error_respond(x, 400, "invalid_value",
                      "name must be the name of a model: letters, digits and . _ - / :", "name");
    } else if (!(c = calloc(1, sizeof *c))) {
        admin_no_memory(x);
    } else {
        c->d = d;
        c->x = x;
        c->replace = replace;
        snprintf(c->name, sizeof c->name, "%s", f.name);
        snprintf(c->path, sizeof c->path, "%s", f.path);
        http_on_gone_forget(&c->x);
        if (http_work(d->http, work, done, c) != 0) {
            http_on_gone(x, NULL, NULL);
            admin_no_memory(x);
            free(c);
        }
    }
    admin_fields_close(&f);
}
