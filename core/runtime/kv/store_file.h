/*
 * The bytes of one block file: encoding and checking, apart from any I/O.
 * Owner: the KV store. Lifetime: the call. Any thread.
 */
#ifndef MLXR_RUNTIME_KV_STORE_FILE_H
#define MLXR_RUNTIME_KV_STORE_FILE_H

#include "runtime/kv/prefix_index.h"

#define STORE_CHUNK_BYTES ((size_t)64 * 1024)

typedef struct store_block { /* what a file says, or is to say */
    kv_hash fingerprint, hash;
    uint32_t n_groups, page_tokens;
    kv_layout layouts[KV_GROUPS_MAX];
    bool present[KV_GROUPS_MAX];
    const int32_t *tokens; /* [n_tokens]: the whole prefix; may be unaligned when decoded (copy with memcpy) */
    uint32_t n_tokens;
    const uint8_t *payload;
    size_t n_payload;
} store_block;

size_t store_header_bytes(const store_block *block);
/* Writes the header, checksums of block->payload included, to out[store_header_bytes]. */
void store_header_encode(const store_block *block, uint8_t *out);

/* Bytes at the beginning of a file that store_file_groups looks at. */
size_t store_file_groups_bytes(uint32_t n_groups);
/* Which groups' pages a file claims to hold, a bit each, from its first bytes. 0: none, or it is none of ours. */
uint32_t store_file_groups(const uint8_t *head, uint32_t n_groups);

/* Checks a whole file against what is expected (fingerprint, hash, layouts, tokens; its `present` is filled in) and
 * every checksum. false: not this block, or damaged. */
bool store_file_check(const uint8_t *file, size_t n_file, store_block *expected);

#endif
