/*
 * Files of the store: written so that they are whole or not there, whatever happens.
 * Owner: the caller closes what it opens. Lifetime: the call. Any thread.
 *
 * The rule: write to a temporary name, sync the file, rename, sync the directory. A sync that failed is never tried
 * again: the file is thrown away.
 */
#ifndef MLXR_REGISTRY_DISK_H
#define MLXR_REGISTRY_DISK_H

#include "mlxr.h"

/* Makes a directory (mode 0700) and its parents; syncs the parents of what it made. */
mlxr_status disk_make_dir(const char *path, mlxr_error *error);
mlxr_status disk_sync_dir(const char *path, mlxr_error *error);

mlxr_status disk_sync_parent(const char *path, mlxr_error *error);

/* *fd: a new file for reading and writing, or the one that is there; -1 with an error. */
mlxr_status disk_open(int *fd, const char *path, bool make, mlxr_error *error);
mlxr_status disk_write(int fd, const void *data, size_t n, uint64_t offset, const char *path, mlxr_error *error);
/* Exactly n bytes; a file that ends before is MLXR_IO. */
mlxr_status disk_read(int fd, void *data, size_t n, uint64_t offset, const char *path, mlxr_error *error);
/* Reserves nothing: later writes may find the disk full. */
mlxr_status disk_set_size(int fd, uint64_t n_bytes, const char *path, mlxr_error *error);
mlxr_status disk_sync(int fd, const char *path, mlxr_error *error);
/* Renames and syncs the directory that `to` is in. */
mlxr_status disk_rename(const char *from, const char *to, mlxr_error *error);
/* What is not there is removed already. */
mlxr_status disk_remove(const char *path, mlxr_error *error);
/* A whole small file, malloc'ed, with a NUL behind it; more than `limit` bytes is refused. */
mlxr_status disk_read_file(const char *path, size_t limit, char **data, size_t *n, mlxr_error *error);
/* A whole small file, by the rule. Removes what processes left beside it that died while they wrote it. */
mlxr_status disk_write_file(const char *path, const void *data, size_t n, mlxr_error *error);
/* Can files be made in it? One is, and goes again: access() does not know of sandboxes. False: errno says why not. */
bool disk_takes_files(const char *folder);
bool disk_is_root(const char *folder);
/* Bytes a user may still write in the file system of `path`; UINT64_MAX if it does not tell. */
uint64_t disk_free_bytes(const char *path);
/* SHA-256 of n bytes of a file from its beginning, as "sha256:…" in REGISTRY_DIGEST_MAX bytes. */
mlxr_status disk_digest(const char *path, char *digest, uint64_t *n_bytes, mlxr_error *error);

/* The directory a path is in, by its text: "/" of "/a", "." of "a"; false if it does not fit. */
bool disk_parent(const char *path, char *out, size_t cap);
/* Joins with a slash; false if it does not fit. */
bool disk_join(char *out, size_t cap, const char *directory, const char *name);

#endif
