/*
 * Texts of a vocabulary, packed, and a compact hash from text to id. No allocation per text.
 * Owner: the tokenizer's region. Lifetime: the tokenizer. Immutable once built; any thread.
 */
#ifndef MLXR_TEXT_TOKENIZER_VOCAB_H
#define MLXR_TEXT_TOKENIZER_VOCAB_H

#include <string.h>

#include "base/region.h"
#include "text/tokenizer.h"

/* Texts of ids 0 … n−1, one after the other. */
typedef struct text_table {
    char *bytes;
    uint32_t *offsets; /* [n + 1] */
    uint32_t n;
} text_table;

static inline token_text text_table_get(const text_table *table, uint32_t id)
{
    return (token_text){table->bytes + table->offsets[id], table->offsets[id + 1] - table->offsets[id]};
}

uint64_t texts_bytes(const token_text *texts, uint32_t n);
/* Room for n texts of n_bytes in all; fill with text_table_push in the order of ids. */
mlxr_status text_table_make(text_table *table, region *memory, uint32_t n, uint64_t n_bytes, mlxr_error *error);

typedef struct text_slot {
    uint32_t tag; /* high half of the hash */
    uint32_t id1; /* id + 1; 0: empty */
} text_slot;

/* Open addressing with linear probing, at most half full. A hostile vocabulary cannot make it slow: an insertion that
 * has to probe too far is refused. */
typedef struct text_map {
    text_slot *slots;
    uint32_t mask;
} text_map;

mlxr_status text_map_make(text_map *map, region *memory, uint32_t n, mlxr_error *error);

/* Adds id under its text in `table`; the first of equal texts stays. *found (may be NULL) receives the id that holds
 * the text now. */
mlxr_status text_map_add(text_map *map, const text_table *table, uint32_t id, uint32_t *found, mlxr_error *error);

static inline uint64_t text_hash_mix(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15u;
    return x ^ x >> 32;
}

static inline uint64_t text_hash(const char *text, size_t n)
{
    uint64_t h = 0x8a5cd789635d2dffu ^ n, x;
    for (; n > 8; n -= 8, text += 8) {
        memcpy(&x, text, 8);
        h = text_hash_mix(h ^ x);
    }
    if (n >= 4) {
        uint32_t low, high;
        memcpy(&low, text, 4);
        memcpy(&high, text + n - 4, 4);
        x = (uint64_t)high << 32 | low;
    } else if (n > 0) {
        const unsigned char *p = (const unsigned char *)text;
        x = (uint64_t)p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)p[n - 1] << 16;
    } else {
        x = 0;
    }
    return text_hash_mix(text_hash_mix(h ^ x));
}

/* The id of a text, −1 if absent. */
static inline int32_t text_map_find(const text_map *map, const text_table *table, const char *text, size_t n)
{
    uint64_t hash = text_hash(text, n);
    uint32_t tag = (uint32_t)(hash >> 32);
    for (uint32_t at = (uint32_t)hash & map->mask;; at = (at + 1) & map->mask) {
        text_slot slot = map->slots[at];
        if (slot.id1 == 0) {
            return -1;
        }
        if (slot.tag == tag) {
            token_text known = text_table_get(table, slot.id1 - 1);
            if (known.n == n && memcmp(known.data, text, n) == 0) {
                return (int32_t)(slot.id1 - 1);
            }
        }
    }
}

/* Pairs of ids that merge, to rank and product. */
typedef struct pair_slot {
    uint32_t left1; /* left + 1; 0: empty */
    uint32_t right;
    uint32_t rank;
    uint32_t product;
} pair_slot;

typedef struct pair_map {
    pair_slot *slots;
    uint32_t mask;
} pair_map;

mlxr_status pair_map_make(pair_map *map, region *memory, uint32_t n, mlxr_error *error);
/* A later pair replaces an equal earlier one, as in the reference. */
mlxr_status pair_map_add(pair_map *map, uint32_t left, uint32_t right, uint32_t rank, uint32_t product,
                         mlxr_error *error);

static inline const pair_slot *pair_map_find(const pair_map *map, uint32_t left, uint32_t right)
{
    uint64_t hash = text_hash_mix((uint64_t)left << 32 | right);
    for (uint32_t at = (uint32_t)hash & map->mask;; at = (at + 1) & map->mask) {
        const pair_slot *slot = &map->slots[at];
        if (slot->left1 == left + 1 && slot->right == right) {
            return slot;
        }
        if (slot->left1 == 0) {
            return NULL;
        }
    }
}

#endif
