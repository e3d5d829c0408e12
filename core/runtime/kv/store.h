/*
 * KV store: the disk tier. Blocks that leave memory are written behind to one directory and found again on a miss,
 * also by a later process.
 * Owner: the engine. Lifetime: kv_store_open to kv_store_close. Calls from one thread; a writer thread of its own does
 * the writing.
 *
 * Any number of stores, of one process or of many, may be open on a directory. The one that holds the directory's lock
 * writes; the others find what was there when they opened, and change nothing. Whoever has a block to keep and finds
 * the lock free takes it over.
 *
 *             kv_store_open                    kv_store_put
 *   free ───────claim──────▶ WRITES ◀──────────claim──────── READS
 *                              │   directory removed, replaced   ▲
 *                              └───────────lose_claim────────────┘
 *
 * Trouble with the disk (full, read-only, failing, gone) never stops the caller: blocks that cannot be kept are
 * computed again one day, and kv_store_warning tells of it once.
 *
 * One file a block, "<fingerprint>-<chain hash>.kv", written as temp → write → fsync → rename → fsync(directory).
 * A file holds the fingerprint of what computed it, the layouts, all token ids of the prefix and a checksum for every
 * 64 KiB of payload. A file that fails any check is a miss: never an error, never wrong output.
 *
 *   header  "MLXRKV01", sizes, fingerprint, chain hash, per group layout and presence, n_tokens × i32,
 *           checksums of the payload's chunks, XXH3-64 of all of the header
 *   payload each present group's page, page_bytes; of a recurrent group the state behind the block
 *
 * All numbers little-endian.
 */
#ifndef MLXR_RUNTIME_KV_STORE_H
#define MLXR_RUNTIME_KV_STORE_H

#include "runtime/kv/prefix_index.h"

typedef struct kv_store kv_store;

/* One file of a directory. */
typedef void kv_store_seen(void *context, const char *name, uint64_t n_bytes, int64_t modified_ns);

/* What the store asks of the operating system, so that tests can fail, log, cut or replace it. Each call returns 0, or
 * an errno value. */
typedef struct kv_store_io {
    void *context;
    /* Makes the directory if it is missing and takes its lock; *claim stands for it. EWOULDBLOCK: another holds it. */
    int (*claim)(void *context, const char *dir, int *claim);
    /* 0: the name still leads to the directory that was claimed. */
    int (*check_claim)(void *context, const char *dir, int claim);
    void (*disclaim)(void *context, int claim);
    int (*list)(void *context, const char *dir, kv_store_seen *seen, void *seen_context);
    /* At most `cap` bytes from the beginning of a regular file; *n: how many. */
    int (*read_file)(void *context, const char *path, void *out, size_t cap, size_t *n);
    int (*write_file)(void *context, const char *path, const void *head, size_t n_head, const void *body,
                      size_t n_body);
    int (*sync_file)(void *context, const char *path);
    int (*rename)(void *context, const char *from, const char *to);
    int (*sync_dir)(void *context, const char *dir);
    int (*unlink)(void *context, const char *path);
} kv_store_io;

typedef struct kv_store_options {
    const char *dir;          /* made if missing (mode 0700) */
    uint64_t bytes_budget;    /* oldest files go beyond it */
    uint64_t queue_bytes_max; /* waiting to be written; beyond it blocks are dropped, not waited for. 0: 256 MiB */
    const kv_store_io *io;    /* NULL: the operating system's */
} kv_store_options;

typedef struct kv_store_stats {
    uint64_t n_files, bytes;
    uint64_t n_written, n_dropped, n_write_errors; /* dropped: the queue was full */
    uint64_t n_hits, n_misses, n_rejected;         /* rejected: a file failed a check */
    int last_errno;                                /* of the newest write error */
    bool writes;                                   /* holds the directory's lock */
} kv_store_stats;

/* Fails only where the directory can be neither made nor listed. */
mlxr_status kv_store_open(kv_store **out, const kv_store_options *options, mlxr_error *error);
/* Writes what is queued, then ends. */
void kv_store_close(kv_store **store);

/* Queues a copy of the node's pages, unless the store has all of them. A block that has gained a page since it was
 * written is written again, under the same name. */
void kv_store_put(kv_store *store, kv_hash fingerprint, const prefix_index *index, const kv_node *node);

/* May the store have this block? Costs no disk access. */
bool kv_store_has(kv_store *store, kv_hash fingerprint, kv_hash block);
/* Which groups' pages of a block the store may have, a bit each; 0: none. Reads the head of a file that another
 * process wrote, once. */
uint32_t kv_store_groups(kv_store *store, kv_hash fingerprint, kv_hash block, uint32_t n_groups);

/* Loads a block whose prefix is tokens[0 … n_tokens), the block's own included: takes pages from the index's pools and
 * fills pages[n_groups] (KV_PAGE_NONE where the file has no page of a group, or bit g of `groups` is not set). false: a
 * miss, nothing taken. */
bool kv_store_get(kv_store *store, kv_hash fingerprint, kv_hash block, const prefix_index *index, const int32_t *tokens,
                  uint32_t n_tokens, uint32_t groups, uint32_t *pages);

/* Waits until everything queued is on disk, and the directory synced. */
void kv_store_flush(kv_store *store);

kv_store_stats kv_store_stats_get(kv_store *store);

/* Writes to out[n] what went wrong since the last call, a line for each call; false: nothing. The same trouble is told
 * once until it is over, damaged files and dropped blocks when their number doubles. */
bool kv_store_warning(kv_store *store, char *out, size_t n);

#endif
