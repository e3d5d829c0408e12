/*
 * The bytes of one block file.
 * Owner: the KV store. Lifetime: the call.
 */
#include "runtime/kv/store_file.h"

#include <string.h>
#include <xxhash.h>

#include "base/checked.h"

#define FIXED_BYTES 64u /* magic, header size, groups, page tokens, tokens, fingerprint, hash */
#define GROUP_BYTES 32u

static const char magic[8] = {'M', 'L', 'X', 'R', 'K', 'V', '0', '1'};

static void put_u32(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(value >> 8 * i);
    }
}

static void put_u64(uint8_t *out, uint64_t value)
{
    put_u32(out, (uint32_t)value);
    put_u32(out + 4, (uint32_t)(value >> 32));
}

static size_t payload_bytes(const store_block *b)
{
    size_t n = 0;
    for (uint32_t g = 0; g < b->n_groups; g++) {
        n += b->present[g] ? b->layouts[g].page_bytes : 0;
    }
    return n;
}

static size_t chunks_of(size_t n_payload)
{
    return (n_payload + STORE_CHUNK_BYTES - 1) / STORE_CHUNK_BYTES;
}

size_t store_header_bytes(const store_block *b)
{
    return FIXED_BYTES + b->n_groups * GROUP_BYTES + (size_t)b->n_tokens * 4 + chunks_of(payload_bytes(b)) * 8 + 8;
}

static uint64_t chunk_checksum(const uint8_t *payload, size_t n_payload, size_t chunk)
{
    size_t begin = chunk * STORE_CHUNK_BYTES;
    size_t n = n_payload - begin < STORE_CHUNK_BYTES ? n_payload - begin : STORE_CHUNK_BYTES;
    return XXH3_64bits_withSeed(payload + begin, n, chunk);
}

void store_header_encode(const store_block *b, uint8_t *out)
{
    size_t n_header = store_header_bytes(b), n_payload = payload_bytes(b);
    uint8_t *p = out;
    memcpy(p, magic, sizeof magic);
    put_u64(p + 8, n_header);
    put_u32(p + 16, b->n_groups);
    put_u32(p + 20, b->page_tokens);
    put_u32(p + 24, b->n_tokens);
    put_u32(p + 28, 0);
    put_u64(p + 32, b->fingerprint.low);
    put_u64(p + 40, b->fingerprint.high);
    put_u64(p + 48, b->hash.low);
    put_u64(p + 56, b->hash.high);
    p += FIXED_BYTES;
    for (uint32_t g = 0; g < b->n_groups; g++, p += GROUP_BYTES) {
        put_u32(p, (uint32_t)b->layouts[g].type);
        put_u32(p + 4, b->layouts[g].n_layers);
        put_u32(p + 8, b->layouts[g].n_head_kv);
        put_u32(p + 12, b->layouts[g].head_dim);
        put_u64(p + 16, b->layouts[g].page_bytes);
        put_u32(p + 24, b->present[g]);
        put_u32(p + 28, b->layouts[g].state_width);
    }
    for (uint32_t i = 0; i < b->n_tokens; i++, p += 4) {
        put_u32(p, (uint32_t)b->tokens[i]);
    }
    for (size_t chunk = 0; chunk < chunks_of(n_payload); chunk++, p += 8) {
        put_u64(p, chunk_checksum(b->payload, n_payload, chunk));
    }
    put_u64(p, XXH3_64bits(out, n_header - 8));
}

static bool fixed_part_matches(const uint8_t *p, const store_block *e)
{
    return memcmp(p, magic, sizeof magic) == 0 && load_u32le(p + 16) == e->n_groups &&
           load_u32le(p + 20) == e->page_tokens && load_u32le(p + 24) == e->n_tokens &&
           load_u64le(p + 32) == e->fingerprint.low && load_u64le(p + 40) == e->fingerprint.high &&
           load_u64le(p + 48) == e->hash.low && load_u64le(p + 56) == e->hash.high;
}

static bool group_matches(const uint8_t *p, const kv_layout *l)
{
    return load_u32le(p) == (uint32_t)l->type && load_u32le(p + 4) == l->n_layers &&
           load_u32le(p + 8) == l->n_head_kv && load_u32le(p + 12) == l->head_dim &&
           load_u64le(p + 16) == l->page_bytes && load_u32le(p + 24) <= 1 && load_u32le(p + 28) == l->state_width;
}

size_t store_file_groups_bytes(uint32_t n_groups)
{
    return FIXED_BYTES + n_groups * GROUP_BYTES;
}

uint32_t store_file_groups(const uint8_t *head, uint32_t n_groups)
{
    uint32_t groups = 0;
    if (memcmp(head, magic, sizeof magic) == 0 && load_u32le(head + 16) == n_groups) {
        for (uint32_t g = 0; g < n_groups; g++) {
            groups |= (uint32_t)(load_u32le(head + FIXED_BYTES + g * GROUP_BYTES + 24) == 1) << g;
        }
    }
    return groups;
}

bool store_file_check(const uint8_t *file, size_t n_file, store_block *e)
{
    if (n_file < store_file_groups_bytes(e->n_groups) || !fixed_part_matches(file, e)) {
        return false;
    }
    const uint8_t *p = file + FIXED_BYTES;
    for (uint32_t g = 0; g < e->n_groups; g++, p += GROUP_BYTES) {
        if (!group_matches(p, &e->layouts[g])) {
            return false;
        }
        e->present[g] = load_u32le(p + 24) == 1;
    }
    size_t n_header = store_header_bytes(e), n_payload = payload_bytes(e);
    if (load_u64le(file + 8) != n_header || n_file != n_header + n_payload ||
        load_u64le(file + n_header - 8) != XXH3_64bits(file, n_header - 8)) {
        return false;
    }
    for (uint32_t i = 0; i < e->n_tokens; i++, p += 4) {
        if (load_u32le(p) != (uint32_t)e->tokens[i]) {
            return false;
        }
    }
    e->payload = file + n_header;
    e->n_payload = n_payload;
    for (size_t chunk = 0; chunk < chunks_of(n_payload); chunk++, p += 8) {
        if (load_u64le(p) != chunk_checksum(e->payload, n_payload, chunk)) {
            return false;
        }
    }
    return true;
}
