/*
 * The history on the disk.
 * Owner: line_input. Lifetime: line_history_open to line_history_close.
 *
 * Chats at a time share the file. So each text is added to what the file has at that time, not to what it had when the
 * chat began; one chat after the other, by a lock on the folder, as the file itself is another one each time.
 */
#include "line_history.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "output.h"
#include "registry/disk.h"
#include "replacement.h"
#include "telemetry/daemon_error.h"

#define HISTORY_ENTRIES 1000

/* Makes the directories of a path, for this user only. */
static void make_directories(char *path)
{
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
}

static void find_file(char *path, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state && *state == '/') {
        n = snprintf(path, cap, "%s/mlxr/history", state);
    } else if (home && *home) {
        n = snprintf(path, cap, "%s/.local/state/mlxr/history", home);
    }
    if (n < 0 || (size_t)n >= cap) {
        *path = '\0';
    } else {
        make_directories(path);
    }
}

/* What the file has; NULL: no memory. *unread: it has something that cannot be read, or is no history. */
static History *load(const char *path, bool *unread)
{
    HistEvent event;
    struct stat info;
    History *list = history_init();
    *unread = false;
    if (list) {
        history(list, &event, H_SETSIZE, HISTORY_ENTRIES);
        history(list, &event, H_SETUNIQUE, 1);
        if (*path && history(list, &event, H_LOAD, path) < 0) {
            *unread = stat(path, &info) == 0 && info.st_size > 0;
        }
    }
    return list;
}

bool line_history_open(line_history *h)
{
    *h = (line_history){0};
    find_file(h->path, sizeof h->path);
    bool unread;
    h->list = load(h->path, &unread); /* what it is told of when there is something to keep */
    return h->list != NULL;
}

void line_history_close(line_history *h)
{
    if (h->list) {
        history_end(h->list);
    }
    *h = (line_history){0};
}

static mlxr_status write_list(History *list, const char *path, mlxr_error *error)
{
    HistEvent event;
    replacement r;
    mlxr_status status = replacement_open(&r, path, 0600, error); /* it may hold private things */
    if (status != MLXR_OK) {
        return status;
    }
    return replacement_close(&r, history(list, &event, H_SAVE_FP, r.to) >= 0, error);
}

/* -1: there is none to be had, as on some file systems; then nobody is waited for. */
static int lock_folder(const char *path)
{
    char folder[sizeof((line_history *)0)->path];
    int fd = disk_parent(path, folder, sizeof folder) ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0 && flock(fd, LOCK_EX) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void save(line_history *h, const char *text)
{
    HistEvent event;
    mlxr_error error;
    bool unread;
    int lock = lock_folder(h->path); /* until it is closed */
    History *list = load(h->path, &unread);
    if (list) {
        history(list, &event, H_ENTER, text);
        mlxr_status status = unread ? daemon_error(&error, MLXR_IO, "%s cannot be read", h->path)
                                    : write_list(list, h->path, &error);
        if (status != MLXR_OK && !h->told) {
            print_note("mlxr: the history is not kept: %s", error.text);
            h->told = true;
        }
        history_end(list);
    }
    if (lock >= 0) {
        close(lock);
    }
}

void line_history_add(line_history *h, const char *text)
{
    HistEvent event;
    history(h->list, &event, H_ENTER, text);
    if (*h->path) {
        save(h, text);
    }
}
