/*
 * SentencePiece's precompiled normalisation map.
 * Owner: the tokenizer's region. Lifetime: the tokenizer.
 *
 * Layout: u32 bytes of the trie; the trie, a double array (Darts-clone) of u32 units; the replacements. A unit holds
 * in bits 0–7 its label, in bit 8 whether a value follows, in bits 10–30 the offset to its children (times 256 if
 * bit 9 is set); with bit 31 it is a value: where in the replacements the entry's string begins.
 */
#include "text/tokenizer_charsmap.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"

mlxr_status charsmap_open(charsmap *map, region *memory, const void *bytes, size_t n, mlxr_error *error)
{
    *map = (charsmap){0};
    if (n == 0) {
        return MLXR_OK;
    }
    const unsigned char *p = bytes;
    uint32_t trie_bytes = n >= 4 ? load_u32le(p) : 0;
    if (n < 4 || trie_bytes < 4 || trie_bytes % 4 != 0 || trie_bytes > n - 4) {
        return error_set(error, MLXR_FORMAT, "tokenizer: normalisation map of %zu bytes announces a trie of %u", n,
                         trie_bytes);
    }
    size_t n_units = trie_bytes / 4, n_replacements = n - 4 - trie_bytes;
    uint32_t *units = region_alloc(memory, trie_bytes);
    char *replacements = region_alloc(memory, n_replacements + 1);
    if (!units || !replacements) {
        return error_nomem(error, "normalisation map", n);
    }
    for (size_t i = 0; i < n_units; i++) {
        units[i] = load_u32le(p + 4 + 4 * i);
    }
    memcpy(replacements, p + 4 + trie_bytes, n_replacements);
    replacements[n_replacements] = 0;
    *map = (charsmap){units, n_units, replacements, n_replacements};
    return MLXR_OK;
}

static uint32_t child_offset(uint32_t unit)
{
    return unit >> 10 << ((unit & 0x200) >> 6);
}

/* Walks the trie along text; with `first` to the first entry met, else to the last. */
static size_t lookup(const charsmap *map, const char *text, size_t n, bool first, token_text *replacement)
{
    size_t found = 0;
    if (map->n_units == 0) {
        return 0;
    }
    uint32_t node = child_offset(map->units[0]); /* the root is unit 0 */
    for (size_t i = 0; i < n && text[i] != 0; i++) {
        unsigned char byte = (unsigned char)text[i];
        node ^= byte;
        if (node >= map->n_units) {
            break;
        }
        uint32_t unit = map->units[node];
        if ((unit & (0x80000000u | 0xff)) != byte) {
            break;
        }
        node ^= child_offset(unit);
        if (unit & 0x100) {
            uint32_t at = node < map->n_units ? map->units[node] & 0x7fffffffu : UINT32_MAX;
            if (at > map->n_replacements) {
                break; /* a map that lies about its strings ends here */
            }
            found = i + 1;
            *replacement = (token_text){map->replacements + at, strlen(map->replacements + at)};
            if (first) {
                break;
            }
        }
    }
    return found;
}

size_t charsmap_longest(const charsmap *map, const char *text, size_t n, token_text *replacement)
{
    return lookup(map, text, n, false, replacement);
}

size_t charsmap_first(const charsmap *map, const char *text, size_t n, token_text *replacement)
{
    return lookup(map, text, n, true, replacement);
}
