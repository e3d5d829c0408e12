/*
 * Writing a file anew.
 * Owner: the caller. Lifetime: replacement_open to replacement_close.
 */
#include "replacement.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry/disk.h"
#include "telemetry/daemon_error.h"

/* What the name leads to, and beside it the name of the new text. False: too long. */
static bool find_names(replacement *r, const char *path)
{
    char *real = realpath(path, NULL);
    int n = snprintf(r->path, sizeof r->path, "%s", real ? real : path);
    free(real);
    int n_temporary = snprintf(r->temporary, sizeof r->temporary, "%s.%ld.tmp", r->path, (long)getpid());
    return n >= 0 && (size_t)n < sizeof r->path && n_temporary >= 0 && (size_t)n_temporary < sizeof r->temporary;
}

mlxr_status replacement_open(replacement *r, const char *path, mode_t mode, mlxr_error *error)
{
    struct stat old;
    *r = (replacement){0};
    if (!find_names(r, path)) {
        return daemon_error(error, MLXR_ARG, "%.200s: %s", path, "the path is too long");
    }
    bool there = stat(r->path, &old) == 0;
    if (there && !S_ISREG(old.st_mode)) {
        return daemon_error(error, MLXR_ARG, "%.200s: %s", path,
                            S_ISDIR(old.st_mode) ? strerror(EISDIR) : "this is no regular file");
    }
    unlink(r->temporary); /* of an earlier program with our number */
    int fd = open(r->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    r->to = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!r->to || (there && fchmod(fd, old.st_mode & 0777) != 0)) {
        int reason = errno;
        if (r->to) {
            fclose(r->to);
        } else if (fd >= 0) {
            close(fd);
        }
        if (fd >= 0) {
            unlink(r->temporary);
        }
        return daemon_error(error, MLXR_IO, "%.200s: %s", path, strerror(reason));
    }
    return MLXR_OK;
}

mlxr_status replacement_close(replacement *r, bool whole, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    int reason = whole ? 0 : errno; /* of whoever could not write all of it */
    if (whole && (fflush(r->to) != 0 || ferror(r->to))) {
        reason = errno;
        whole = false;
    }
    if (!whole) {
        status = daemon_error(error, MLXR_IO, "%.200s: %s", r->path, reason ? strerror(reason) : "cannot be written");
    }
    status = status == MLXR_OK ? disk_sync(fileno(r->to), r->path, error) : status;
    if (fclose(r->to) != 0 && status == MLXR_OK) {
        status = daemon_error(error, MLXR_IO, "%.200s: %s", r->path, strerror(errno));
    }
    if (status == MLXR_OK && rename(r->temporary, r->path) != 0) {
        status = daemon_error(error, MLXR_IO, "%.200s: %s", r->path, strerror(errno));
    }
    if (status != MLXR_OK) {
        unlink(r->temporary);
    } else {
        mlxr_error ignored;
        disk_sync_parent(r->path, &ignored); /* it is in its place; some file systems cannot do more */
    }
    return status;
}
