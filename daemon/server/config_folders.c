/*
 * /ui-api/directories: what a folder of this machine holds, for who chooses one: names of folders and of model files.
 * Owner: a call belongs to its exchange and the pool's work together. Lifetime: until both have ended.
 *
 * Whoever has the scope `admin` may ask; where there are no keys, only from this machine. Nothing is opened but
 * folders, and of those only what the sandbox leaves open (daemon_sandbox.c).
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "registry/disk.h"
#include "registry/registry.h"
#include "registry/words.h"
#include "server/config_routes.h"
#include "server/daemon_parts.h"
#include "server/errors.h"
#include "server/http_target.h"

#define ENTRIES_MAX 2000u
#define PATH_CAP 4096u

typedef struct folder_call {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    char asked[PATH_CAP], path[PATH_MAX];
    bool hidden;
    json_t *folders, *files;
    size_t n_left_out;
    int failed; /* errno of opening it; 0 */
} folder_call;

static void add_entry(folder_call *c, const char *name)
{
    char path[PATH_MAX];
    struct stat info;
    if (!disk_join(path, sizeof path, c->path, name) || stat(path, &info) != 0) {
        return;
    }
    json_t *text = S_ISDIR(info.st_mode) || (S_ISREG(info.st_mode) && registry_is_model_file(name)) ? json_string(name)
                                                                                                    : NULL;
    if (!text) { /* of no interest, or no UTF-8, which is the more honest to count */
        c->n_left_out += S_ISDIR(info.st_mode) != 0;
    } else if (json_array_size(c->folders) + json_array_size(c->files) >= ENTRIES_MAX) {
        c->n_left_out++;
        json_decref(text);
    } else if (S_ISDIR(info.st_mode)) {
        json_array_append_new(c->folders, text);
    } else {
        json_array_append_new(c->files, json_pack("{s:o, s:I}", "name", text, "bytes", (json_int_t)info.st_size));
    }
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void work(void *user)
{
    folder_call *c = user;
    struct dirent **entries = NULL;
    c->folders = json_array();
    c->files = json_array();
    int n = realpath(c->asked, c->path) ? scandir(c->path, &entries, NULL, compare_names) : -1;
    c->failed = n < 0 ? errno : 0;
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && (c->hidden || *name != '.')) {
            add_entry(c, name);
        }
        free(entries[i]);
    }
    free(entries);
}

static json_t *places(void)
{
    char models[REGISTRY_PATH_MAX];
    const char *home = getenv("HOME");
    json_t *list = json_array();
    if (home && *home == '/') {
        json_array_append_new(list, json_string(home));
    }
    if (registry_directory(models, sizeof models)) {
        json_array_append_new(list, json_string(models));
    }
    return list;
}

static json_t *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strcmp(path, "/") == 0 ? json_null() : json_stringn(path, slash == path ? 1 : (size_t)(slash - path));
}

static void refuse(folder_call *c)
{
    bool absent = c->failed == ENOENT || c->failed == ENOTDIR, closed = c->failed == EACCES || c->failed == EPERM;
    char shown[300];
    snprintf(shown, sizeof shown, "%.280s", c->asked);
    text_trim_cut(shown);
    error_respondf(c->x,
                   absent   ? 404
                   : closed ? 403
                            : 400,
                   absent   ? "not_found"
                   : closed ? "folder_closed"
                            : "invalid_value",
                   "path",
                   absent ? "path: there is no folder %s"
                   : closed
                       ? "path: %s may not be listed: by the system's rights, or because the daemon confined itself to "
                         "its user's folder, to mounted disks and to where models lie"
                       : "path: %s cannot be listed",
                   shown);
}

static void done(void *user)
{
    folder_call *c = user;
    json_t *path = c->failed ? NULL : json_string(c->path);
    if (c->x && (c->failed || !path)) {
        c->failed = c->failed ? c->failed : EINVAL;
        refuse(c);
    } else if (c->x) {
        http_header_add(c->x, "Cache-Control", "no-store");
        http_respond_json(c->x, 200,
                          json_pack("{s:O, s:o, s:O, s:O, s:I, s:o}", "path", path, "parent", parent_of(c->path),
                                    "folders", c->folders, "files", c->files, "left_out", (json_int_t)c->n_left_out,
                                    "places", places()));
    }
    if (c->x) {
        http_on_gone(c->x, NULL, NULL);
    }
    json_decref(path);
    json_decref(c->folders);
    json_decref(c->files);
    free(c);
}

void config_directory(void *service, http_exchange *x)
{
    struct daemon *d = service;
    const char *home = getenv("HOME");
    char path[HTTP_TARGET_MAX] = "";
    bool hidden = false;
    if (!route_from_here(x, "folders are shown on this machine only, or to who has an admin key")) {
        return;
    }
    bool good = http_query_read(x, "path", path, sizeof path) != HTTP_QUERY_BAD && strlen(path) < PATH_CAP;
    const char *asked = *path ? path : home && *home == '/' ? home : "/";
    if (!good || *asked != '/') {
        error_respond(x, 400, "invalid_value",
                      good ? "path must begin with /"
                           : "path must have fewer than 4,096 bytes, and proper escapes where it has any",
                      "path");
        return;
    }
    if (!route_query_flag(x, "hidden", &hidden)) {
        return;
    }
    folder_call *c = calloc(1, sizeof *c);
    if (!c) {
        error_respond(x, 503, NULL, "out of memory", NULL);
        return;
    }
    c->d = d;
    c->x = x;
    c->hidden = hidden;
    snprintf(c->asked, sizeof c->asked, "%s", asked);
    http_on_gone_forget(&c->x);
    if (http_work(d->http, work, done, c) != 0) {
        http_on_gone(x, NULL, NULL);
        error_respond(x, 503, NULL, "out of memory", NULL);
        free(c);
    }
}
