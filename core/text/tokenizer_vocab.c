/*
 * Texts of a vocabulary, packed, and compact hashes from text to id and from pair to merge.
 * Owner: the tokenizer's region. Lifetime: the tokenizer.
 */
#include "text/tokenizer_vocab.h"

#include "base/checked.h"
#include "base/error.h"

/* A good hash at this load needs some dozens of steps at the worst; more means keys made to collide. */
#define PROBES_MAX 512u

/* The power of two that keeps n entries at or below three quarters: what is resident counts. */
static uint32_t slots_for(uint32_t n)
{
    uint32_t slots = 16;
    while (slots < 0x40000000u && slots / 4 * 3 < n) {
        slots *= 2;
    }
    return slots;
}

uint64_t texts_bytes(const token_text *texts, uint32_t n)
{
    uint64_t n_bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        n_bytes += texts[i].n;
    }
    return n_bytes;
}

mlxr_status text_table_make(text_table *table, region *memory, uint32_t n, uint64_t n_bytes, mlxr_error *error)
{
    if (n_bytes > UINT32_MAX || n > INT32_MAX - 1) {
        return error_set(error, MLXR_LIMIT, "vocabulary: %u tokens with %llu bytes of text; at most 2^31 and 2^32", n,
                         (unsigned long long)n_bytes);
    }
    size_t offset_bytes = ((size_t)n + 1) * sizeof *table->offsets;
    table->offsets = region_alloc(memory, offset_bytes);
    table->bytes = region_alloc(memory, (size_t)n_bytes);
    if (!table->offsets || !table->bytes) {
        return error_nomem(error, "vocabulary", offset_bytes + (size_t)n_bytes);
    }
    table->offsets[0] = 0;
    table->n = 0;
    return MLXR_OK;
}

mlxr_status text_map_make(text_map *map, region *memory, uint32_t n, mlxr_error *error)
{
    uint32_t slots = slots_for(n);
    map->slots = region_array(memory, slots, sizeof *map->slots);
    map->mask = slots - 1;
    return map->slots ? MLXR_OK : error_nomem(error, "vocabulary index", (size_t)slots * sizeof *map->slots);
}

mlxr_status text_map_add(text_map *map, const text_table *table, uint32_t id, uint32_t *found, mlxr_error *error)
{
    token_text text = text_table_get(table, id);
    uint64_t hash = text_hash(text.data, text.n);
    uint32_t tag = (uint32_t)(hash >> 32);
    uint32_t at = (uint32_t)hash & map->mask;
    for (uint32_t probes = 0; probes < PROBES_MAX; probes++, at = (at + 1) & map->mask) {
        text_slot *slot = &map->slots[at];
        if (slot->id1 == 0) {
            *slot = (text_slot){.tag = tag, .id1 = id + 1};
            if (found) {
                *found = id;
            }
            return MLXR_OK;
        }
        if (slot->tag == tag) {
            token_text known = text_table_get(table, slot->id1 - 1);
            if (known.n == text.n && memcmp(known.data, text.data, text.n) == 0) {
                if (found) {
                    *found = slot->id1 - 1;
                }
                return MLXR_OK;
            }
        }
    }
    return error_set(error, MLXR_FORMAT, "vocabulary: token %u shares its hash with %u others", id, PROBES_MAX);
}

mlxr_status pair_map_make(pair_map *map, region *memory, uint32_t n, mlxr_error *error)
{
    uint32_t slots = slots_for(n);
    map->slots = region_array(memory, slots, sizeof *map->slots);
    map->mask = slots - 1;
    return map->slots ? MLXR_OK : error_nomem(error, "merge index", (size_t)slots * sizeof *map->slots);
}

mlxr_status pair_map_add(pair_map *map, uint32_t left, uint32_t right, uint32_t rank, uint32_t product,
                         mlxr_error *error)
{
    uint64_t hash = text_hash_mix((uint64_t)left << 32 | right);
    uint32_t at = (uint32_t)hash & map->mask;
    for (uint32_t probes = 0; probes < PROBES_MAX; probes++, at = (at + 1) & map->mask) {
        pair_slot *slot = &map->slots[at];
        if (slot->left1 == 0 || (slot->left1 == left + 1 && slot->right == right)) {
            *slot = (pair_slot){.left1 = left + 1, .right = right, .rank = rank, .product = product};
            return MLXR_OK;
        }
    }
    return error_set(error, MLXR_FORMAT, "vocabulary: merge %u shares its hash with %u others", rank, PROBES_MAX);
}
