/*
 * KV store: the disk tier. Blocks that leave memory are written behind to one directory and found again on a miss,
 * also by a later process.
 * Owner: the engine. Lifetime: kv_store_open to kv_store_close. Calls from one thread; a writer thread of its own does
 * the writing.
 *
 * One file a block, "<fingerprint>-<chain hash>.kv", written as temp → write → fsync → rename → fsync(directory).
 * A file holds the fingerprint of what computed it, the layouts, all token ids of the prefix and a checksum for every
 * 64 KiB of payload. A file that fails any check is a miss: never an error, never wrong output.
 *
 *   header  "MLXRKV01", sizes, fingerprint, chain hash, per group layout and presence, n_tokens × i32,
 *           checksums of the payload's chunks, XXH3-64 of all of the header
 *   payload each present group's page, page_bytes
 *
 * All numbers little-endian.
 */
#ifndef MLXR_RUNTIME_KV_STORE_H
#define MLXR_RUNTIME_KV_STORE_H

#include "runtime/kv/prefix_index.h"

typedef struct kv_store kv_store;

/* The calls that change the disk, so that tests can fail, log or cut them. Each returns 0, or an errno value. */
typedef struct kv_store_io {
    void *context;
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
    uint64_t n_hits, n_misses, n_rejected;         /* rejected: a file failed a check and was removed */
    int last_errno;                                /* of the newest write error */
} kv_store_stats;

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

#endif
