/*
 * Read-only file mappings, and what systems do differently about files and pages of memory (also
 * mlxr_file_begin_large_page).
 * Owner: whoever opened it. Lifetime: until mapping_close; pointers into it die then.
 */
#ifndef MLXR_BASE_MAPPING_H
#define MLXR_BASE_MAPPING_H

#include "mlxr.h"

typedef struct mapping {
    const uint8_t *data; /* NULL for an empty file */
    size_t n_bytes;
} mapping;

/* Maps a regular file; directories, pipes and unreadable paths give MLXR_IO with the path and the reason. */
mlxr_status mapping_open(mapping *out, const char *path, mlxr_error *error);
void mapping_close(mapping *m);
/* The first n_bytes are not needed for now: their pages leave this process's memory, and come back from the file when
 * they are looked at again. A hint. */
void mapping_forget(const mapping *m, size_t n_bytes);
/* The same of any bytes of a mapping: whole pages among them. */
void mapping_forget_part(const void *part, size_t n_bytes);
/* A part is read all over, again and again: where the file is not in memory yet it is read in the system's large pages,
 * and where it is in those they are mapped as such, so that finding an address costs less. Whole large pages become
 * resident at once. A hint, of which Linux takes notice with file systems that know it (ext4 and XFS among them). */
void mapping_in_large_pages(const void *part, size_t n_bytes);
/* Single places of a part will be looked at, and forgotten again: not more than they is to become resident. A hint. */
void mapping_in_small_pages(const void *part, size_t n_bytes);
/* Starts reading a part of a mapping and does not wait. A hint. */
void mapping_read_ahead(const void *part, size_t n_bytes);
/* mapping_forget_part, and of all that files have in memory the system may reuse this first. */
void mapping_give_back(const void *part, size_t n_bytes);
/* Bytes of the pages that a part of a mapping touches and that are not in memory; 0 where the system does not tell. */
size_t mapping_missing(const void *part, size_t n_bytes);
/* Whole pages inside a part of a mapping stay in memory until mapping_unlock. False: the system refuses, as beyond
 * RLIMIT_MEMLOCK. */
bool mapping_lock(const void *part, size_t n_bytes);
void mapping_unlock(const void *part, size_t n_bytes);

typedef enum path_kind { PATH_NONE, PATH_FILE, PATH_FOLDER, PATH_OTHER } path_kind;

/* What a path names now; PATH_NONE also where it cannot be looked at. Symbolic links are followed. */
path_kind path_find(const char *path);

/* When a file was last written, in nanoseconds of the system's clock. */
struct stat;
int64_t file_modified_ns(const struct stat *info);

/* Returns when what was written to a file or folder is where a loss of power leaves it; 0 or an errno. */
int file_sync(int fd);

/* Zeros [n_bytes] on system pages of their own: each becomes resident when it is written to, and memory_unmap surely
 * gives all of them back, which free() does above 32 MiB only. NULL: there is no memory. */
void *memory_map(size_t n_bytes);
void memory_unmap(void *memory, size_t n_bytes);
/* Gives the memory of whole system pages inside part [n_bytes] back; its contents are lost. A hint: the system may keep
 * it. */
void memory_discard(void *part, size_t n_bytes);
/* Part [n_bytes] will be read in pieces all over it: large system pages where there are some, so that finding an
 * address costs less. What is touched from then on becomes resident by the large page; the system moves what was, in
 * time. A hint. */
void memory_in_large_pages(void *part, size_t n_bytes);
/* Part [n_bytes], all of it written to, moves into large system pages as far as whole ones lie in it, where the system
 * does so when told (Linux from 6.1 on); of those nothing more becomes resident. Bytes of the part up to the end of the
 * last one; 0: none lies in it. A hint. */
size_t memory_gather(void *part, size_t n_bytes);

/* Reads a whole small file into malloc'd memory (NUL added past n_bytes), refusing more than `limit` bytes. */
mlxr_status file_read(const char *path, size_t limit, char **data, size_t *n_bytes, mlxr_error *error);

#endif
