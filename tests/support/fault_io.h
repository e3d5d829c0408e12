/*
 * Files of the registry under test: any operation can fail or be the one at which the process dies, and all of them can
 * be recorded, to see what a loss of power would have left. Owner: the test program. Lifetime: the process; one test at
 * a time, one thread with faults.
 *
 * Works in programs named test_*_fault.c and test_*_fault_soak.c, which are linked with --wrap for open, pread, pwrite,
 * read, fsync, ftruncate, rename, unlink, mkdir, symlink and the allocating functions. SQLite's own files go through a
 * VFS of ours, its memory, curl's and jansson's through malloc of this program (support/fail_alloc.h).
 */
#ifndef MLXR_TEST_FAULT_IO_H
#define MLXR_TEST_FAULT_IO_H

#include <stdbool.h>
#include <stdint.h>

typedef enum fault_mode {
    FAULT_ENOSPC, /* what changes the disk fails with ENOSPC, reading with EIO */
    FAULT_EIO,
    FAULT_SHORT, /* a read or write does half of its work and then fails */
    FAULT_KILL,  /* SIGKILL, in the middle of a write */
    FAULT_N_MODES,
} fault_mode;

/* Makes SQLite, curl and jansson use what can fail. Once, before anything of theirs is called. */
void fault_set_up(void);

/* The n-th operation from now on (n = 1: the next) fails, once. 0: none. */
void fault_at(uint64_t n, fault_mode mode);
/* Back to normal. True if an operation failed. */
bool fault_stop(void);
/* Operations since fault_at. */
uint64_t fault_count(void);

/* Every path opened, made, renamed or removed is told, until NULL is set. */
void fault_watch(void (*path_used)(void *user, const char *path), void *user);

/* Records the operations on files under `root` until fault_record_stop. */
void fault_record(const char *root);
void fault_record_stop(void);
uint64_t fault_record_count(void);
/* Makes `to` (an empty directory) what `from` (a copy of root as it was when recording began) becomes if the power goes
 * after the first n operations: what was not synced comes back whole, cut, torn, or not at all. */
void fault_replay(const char *from, const char *to, uint64_t n, uint64_t seed);

/* cp -r, rm -r. */
void fault_copy_tree(const char *from, const char *to);
void fault_remove_tree(const char *path);

#endif
