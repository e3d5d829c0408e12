/*
 * Where lines go: a file that is rotated by size, or a descriptor of somebody else's.
 * Owner: the logger's writer thread. Lifetime: log_file_open to log_file_close.
 */
#ifndef MLXR_TELEMETRY_LOG_FILE_H
#define MLXR_TELEMETRY_LOG_FILE_H

#include <stdatomic.h>

#include "mlxr.h"

typedef struct log_file {
    int fd;
    char *path; /* NULL: a descriptor that was given */
    bool regular;
    uint64_t n_bytes, rotate_bytes; /* of the file now; at most */
    uint32_t rotate_count;
    uint64_t n_rotations;
    bool torn;   /* a line was written in part, and nothing behind it yet */
    int problem; /* errno of what went wrong since it was last looked at; 0: nothing */
} log_file;

mlxr_status log_file_open(log_file *f, const char *path, int fd, uint64_t rotate_bytes, uint32_t rotate_count,
                          mlxr_error *error);
void log_file_close(log_file *f);
/* Whole lines. Rotates before them where the file would get too large. False: not written, or not all of it. Where the
 * reader of a pipe does not read it waits until *give_up. */
bool log_file_write(log_file *f, const char *lines, size_t n, const atomic_bool *give_up);
/* Opens the path again; on failure the old file stays. */
void log_file_reopen(log_file *f);

#endif
