/*
 * A disk in memory for the KV store, with what a power cut makes of a real one: contents that were not synced may be
 * lost, cut or torn; names whose directory was not synced may be old, new or missing, in any order.
 * Owner: the test. Lifetime: kv_disk_open to kv_disk_close. Any thread.
 *
 * Changes (write, sync, rename, sync of the directory, unlink) are numbered from 1, so that each can be made to fail or
 * be the one at which the power goes.
 */
#ifndef MLXR_TEST_KV_DISK_H
#define MLXR_TEST_KV_DISK_H

#include "runtime/kv/store.h"

typedef struct kv_disk kv_disk;

kv_disk *kv_disk_open(void);
void kv_disk_close(kv_disk **disk);
/* For kv_store_options; `context` is the disk. */
kv_store_io kv_disk_io(kv_disk *disk);

/* The n-th change from now on fails with this errno, once (n = 1: the next). A write leaves a part of the file behind.
 */
void kv_disk_fail_at(kv_disk *disk, uint64_t n, int code);
/* Every change fails with this errno until it is 0 again; reading goes on. */
void kv_disk_fail_all(kv_disk *disk, int code);
/* The power goes at the n-th change from now on: it may happen in part, and nothing afterwards. */
void kv_disk_cut_power(kv_disk *disk, uint64_t n);
/* From now on syncs are acknowledged and do nothing: what a cheap disk, or a missing call, does. */
void kv_disk_lie(kv_disk *disk);
/* The disk as it may come up after the power was cut; whoever held its lock is gone. */
void kv_disk_restart(kv_disk *disk, uint64_t seed);
/* The directory is removed with all its files; it can be made again only if `for_good` is false. */
void kv_disk_remove_dir(kv_disk *disk, bool for_good);

/* Changes the bytes of one file: a bit, a stretch, or its end is cut off. false: there is none. */
bool kv_disk_damage(kv_disk *disk, uint64_t seed);

typedef struct kv_disk_stats {
    uint64_t n_changes;
    uint64_t bytes, bytes_max; /* of all files; the most since kv_disk_watch */
    size_t n_files, n_temporary;
} kv_disk_stats;
kv_disk_stats kv_disk_stats_get(kv_disk *disk);
void kv_disk_watch(kv_disk *disk);
/* The bytes of a file, which stay until the next change; NULL: not there. */
const uint8_t *kv_disk_file(kv_disk *disk, const char *name, size_t *n);
/* Writes every file into a real directory. */
void kv_disk_export(kv_disk *disk, const char *dir);

#endif
