/*
 * What the daemon's sandbox leaves open: its own store, models wherever they are known to lie, names and certificates.
 * Owner: daemon_run. Lifetime: the call.
 */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mlxr_adapter.h"
#include "registry/disk.h"
#include "server/daemon_private.h"
#include "server/sandbox.h"

/* For libc (names of hosts, time), OpenSSL and libcurl, and for sizing by memory and cores. */
static const char *const readable[] = {"/etc/hosts",
                                       "/etc/resolv.conf",
                                       "/etc/nsswitch.conf",
                                       "/etc/host.conf",
                                       "/etc/gai.conf",
                                       "/etc/services",
                                       "/etc/localtime",
                                       "/etc/ld.so.cache",
                                       "/etc/ssl",
                                       "/etc/pki",
                                       "/etc/ca-certificates",
                                       "/usr/share/ca-certificates",
                                       "/usr/share/zoneinfo",
                                       "/usr/lib",
                                       "/usr/local/lib",
                                       "/lib",
                                       "/lib64",
                                       "/run/systemd/resolve",
                                       "/dev/urandom",
                                       "/proc/meminfo",
                                       "/proc/cpuinfo",
                                       "/proc/self",
                                       "/proc/stat",
                                       "/sys/fs/cgroup",
                                       "/sys/devices/system"};

/* Folders of other programs, relative to a variable's, or to HOME: models that appear there later can be loaded, too.
 */
static const struct {
    const char *variable, *below;
} foreign[] = {{"HF_HUB_CACHE", ""},
               {"HF_HOME", "/hub"},
               {"OLLAMA_MODELS", ""},
               {"HOME", "/.cache/huggingface/hub"},
               {"HOME", "/.ollama/models"},
               {"HOME", "/.lmstudio/models"},
               {"HOME", "/.cache/lm-studio/models"}};

/* A file's folder, by the file's real place: parts of split models lie beside each other. */
static void allow_model(sandbox *s, const char *path)
{
    char real[PATH_MAX];
    if (!realpath(path, real)) {
        return;
    }
    char *slash = strrchr(real, '/');
    if (slash && slash != real && strcmp(slash, "/") != 0) {
        *slash = '\0';
    }
    sandbox_allow(s, real, false);
}

static void allow_registered(void *user, const char *path)
{
    allow_model(user, path);
}

/* Links in the model directory lead to where somebody keeps large files. */
static void allow_links(sandbox *s, const char *directory)
{
    char path[PATH_MAX];
    DIR *open = opendir(directory);
    for (struct dirent *entry; open && (entry = readdir(open));) {
        bool link = entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN;
        if (link && snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) < (int)sizeof path) {
            allow_model(s, path);
            sandbox_allow(s, path, false);
        }
    }
    if (open) {
        closedir(open);
    }
}

static void allow_folders(sandbox *s)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof readable / sizeof *readable; i++) {
        sandbox_allow(s, readable[i], false);
    }
    sandbox_allow(s, "/dev/null", true);
    const char *trusted = getenv("SSL_CERT_FILE"); /* of pulls */
    if (trusted && *trusted == '/') {
        sandbox_allow(s, trusted, false);
    }
    sandbox_allow(s, "/usr/share/ollama/.ollama/models", false);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        const char *base = getenv(foreign[i].variable);
        if (base && *base == '/' && snprintf(path, sizeof path, "%s%s", base, foreign[i].below) < (int)sizeof path) {
            sandbox_allow(s, path, false);
        }
    }
}

/* Where people keep things: GET /ui-api/directories lists names of folders and models there. */
static void allow_names(sandbox *s)
{
    static const char *const roots[] = {"/media", "/mnt", "/run/media", "/srv", "/Volumes"};
    const char *home = getenv("HOME");
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        sandbox_allow_names(s, roots[i]);
    }
    if (home && *home == '/') {
        sandbox_allow_names(s, home);
    }
}

/* A folder that is written to. Of the whole disk nothing would be kept from anybody: that is no sandbox. */
static mlxr_status allow_written(sandbox *s, const char *option, const char *folder, mlxr_error *error)
{
    if (sandbox_keeps_files(s) && disk_is_root(folder)) {
        *error = (mlxr_error){.status = MLXR_ARG};
        snprintf(error->text, sizeof error->text,
                 "%s: the sandbox would have to leave all of / open to be written to; choose a folder below it, or do "
                 "without with --no-sandbox",
                 option);
        return MLXR_ARG;
    }
    sandbox_allow(s, folder, true);
    return MLXR_OK;
}

/* The folder of the file of options is made here: behind the sandbox's door nobody could. In / itself the file can be
 * read, and changes to it are refused. */
static void allow_config(sandbox *s, const char *file)
{
    char folder[PATH_MAX];
    mlxr_error ignored;
    if (!file || !disk_parent(file, folder, sizeof folder)) {
        return;
    }
    if (disk_is_root(folder)) {
        sandbox_allow(s, file, false);
    } else {
        disk_make_dir(folder, &ignored);
        sandbox_allow(s, folder, true);
    }
}

static mlxr_status allow_options(sandbox *s, const daemon_options *o, mlxr_error *error)
{
    char path[PATH_MAX];
    mlxr_status status = MLXR_OK;
    const char *files[] = {o->tls_cert, o->tls_key};
    for (size_t i = 0; i < 2; i++) {
        if (files[i]) {
            sandbox_allow(s, files[i], false);
        }
    }
    for (size_t i = 0; i < o->n_adapters; i++) {
        struct stat found;
        if (stat(o->adapters[i].path, &found) == 0 && S_ISREG(found.st_mode)) {
            allow_model(s, o->adapters[i].path); /* adapter_config.json lies beside it */
        } else {
            sandbox_allow(s, o->adapters[i].path, false);
        }
    }
    for (size_t i = 0; i < o->models.n; i++) {
        if (*o->models.items[i] == '/' || *o->models.items[i] == '.') {
            allow_model(s, o->models.items[i]);
            sandbox_allow(s, o->models.items[i], false); /* a folder */
        }
    }
    if (o->engine.kv_dir) {
        mkdir(o->engine.kv_dir,
              0700); /* behind the sandbox's door nobody could; what is wrong with it the engine tells */
        status = allow_written(s, "--kv-dir", o->engine.kv_dir, error);
    }
    const struct {
        const char *option, *path;
    } beside[] = {{"--socket", o->socket_path}, {"--log-file", o->log_path}}; /* made, and renamed, in their folders */
    for (size_t i = 0; i < 2 && status == MLXR_OK; i++) {
        if (beside[i].path && disk_parent(beside[i].path, path, sizeof path)) {
            status = allow_written(s, beside[i].option, path, error);
        }
    }
    return status;
}

mlxr_status daemon_confine(const daemon_options *o, const char **what, mlxr_error *error)
{
    registry *r;
    char directory[REGISTRY_PATH_MAX];
    sandbox *s;
    mlxr_status status = registry_open(&r, o->directory, &(registry_options){.or_read_only = true},
                                       error); /* the store exists from here on, where it can be made */
    if (status != MLXR_OK) {
        return status;
    }
    status = sandbox_open(&s, error);
    bool opened = status == MLXR_OK;
    if (opened) {
        if (o->directory || registry_directory(directory, sizeof directory)) {
            const char *models = o->directory ? o->directory : directory;
            status = allow_written(s, "the folder of models", models, error);
            allow_links(s, models);
        }
        allow_folders(s);
        allow_names(s);
        allow_config(s, o->config_path);
        status = status == MLXR_OK ? allow_options(s, o, error) : status;
        if (status == MLXR_OK) {
            registry_places(r, allow_registered, s, error);
        }
    }
    registry_close(&r);
    if (status == MLXR_OK) {
        registry_prepare();
        status = sandbox_enter(s, what, error);
    }
    if (opened) {
        sandbox_close(&s);
    }
    return status;
}
