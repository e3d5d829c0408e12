/*
 * SentencePiece's precompiled normalisation map: a double-array trie from byte strings to replacements.
 * Owner: the tokenizer's region. Lifetime: the tokenizer. Immutable; any thread.
 */
#ifndef MLXR_TEXT_TOKENIZER_CHARSMAP_H
#define MLXR_TEXT_TOKENIZER_CHARSMAP_H

#include "base/region.h"
#include "text/tokenizer.h"

typedef struct charsmap {
    uint32_t *units; /* [n_units] */
    size_t n_units;
    char *replacements; /* NUL-terminated strings, one after the other; the last one ends with a NUL, too */
    size_t n_replacements;
} charsmap;

/* Copies and checks a map; n = 0 leaves *map empty. */
mlxr_status charsmap_open(charsmap *map, region *memory, const void *bytes, size_t n, mlxr_error *error);

/* The longest entry that text[0..n) begins with: its length (0: none) and replacement. */
size_t charsmap_longest(const charsmap *map, const char *text, size_t n, token_text *replacement);

/* The shortest, as the reference for tokenizer.json takes it: the first entry met on the way. */
size_t charsmap_first(const charsmap *map, const char *text, size_t n, token_text *replacement);

#endif
