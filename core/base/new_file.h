/*
 * A file that appears under its name when it is whole, or never.
 * Owner: whoever opened it. Lifetime: new_file_open to new_file_commit or new_file_discard. new_file_write on any
 * thread, the rest on one.
 *
 * Until then it has no name at all where the system can do that (Linux on most file systems): whatever ends the
 * process leaves nothing behind, but between two calls of the system where one file is replaced. Elsewhere it has a
 * hidden name beside the final one, and only being killed leaves it.
 */
#ifndef MLXR_BASE_NEW_FILE_H
#define MLXR_BASE_NEW_FILE_H

#include "mlxr.h"

typedef struct new_file_pages new_file_pages;

typedef struct new_file { /* {.fd = -1}: not open */
    int fd;
    new_file_pages *pages; /* large pages that it has begun; NULL: it has none, or memory did not suffice */
    char *path, *hidden;   /* the final name; the one it has until then */
    bool named;            /* it has `hidden` already */
} new_file;

/* MLXR_IO where the file system of `path` has less room than that. */
mlxr_status new_file_room(const char *path, uint64_t n_bytes, mlxr_error *error);
/* `n_bytes` is what it will have, for which there must be room. */
mlxr_status new_file_open(new_file *out, const char *path, uint64_t n_bytes, mlxr_error *error);
/* Pieces of any size, in any order: where the system has large pages for files, the file lies in them. */
mlxr_status new_file_write(const new_file *file, uint64_t at, const void *bytes, size_t n, mlxr_error *error);
/* On the disk, then under its name, in the place of what had it. The file is closed, also where this fails. */
mlxr_status new_file_commit(new_file *file, mlxr_error *error);
/* Several that are one: all on the disk, then each under its name, the first, by which the others are found, last. What
 * had the first's name goes before any other is replaced: whatever ends the process or the power, a first file that is
 * there has the others that belong to it. What is killed while names are given leaves others without the first, which
 * are no model, under the names that the next try replaces. Where this fails none of them is there, or all are, where
 * only their folder cannot be brought to the disk. What can be seen beforehand, a folder in a file's place or a system
 * that gives nameless files no names, leaves the old ones as they were. */
mlxr_status new_files_commit(new_file *files, size_t n, mlxr_error *error);
void new_file_discard(new_file *file);

#endif
