/*
 * Added tokens: texts that are found as a whole before the rest of a text is tokenised (control tokens, user-defined
 * symbols), in a trie; leftmost match first, the longest of those that begin there.
 * Owner: the tokenizer's region. Lifetime: the tokenizer. Immutable once built; any thread.
 */
#ifndef MLXR_TEXT_TOKENIZER_ADDED_H
#define MLXR_TEXT_TOKENIZER_ADDED_H

#include "base/region.h"
#include "text/tokenizer.h"

enum {
    ADDED_SPECIAL = 1 << 0,     /* text only with MLXR_TOKENIZE_PARSE_SPECIAL */
    ADDED_SINGLE_WORD = 1 << 1, /* only where no word character touches it */
    ADDED_LSTRIP = 1 << 2,      /* takes the white space before it along */
    ADDED_RSTRIP = 1 << 3,      /* and after it */
};

#define ADDED_TEXT_MAX 1024u /* bytes; keeps the search linear whatever the vocabulary */

typedef struct added_node {
    uint32_t child, sibling; /* 0: none (node 0 is no child) */
    int32_t id;              /* of the token that ends here, −1: none */
    uint8_t byte, flags;
} added_node;

typedef struct added_set {
    added_node *nodes; /* [cap]; NULL: empty set */
    uint32_t n, cap;
    uint32_t first[256]; /* node of each first byte, 0: none */
} added_set;

/* Room for tokens of n_bytes in all. */
mlxr_status added_set_make(added_set *set, region *memory, uint64_t n_bytes, mlxr_error *error);
/* The first of equal texts stays; an empty text is ignored. Longer than ADDED_TEXT_MAX: MLXR_LIMIT. */
mlxr_status added_set_add(added_set *set, token_text text, int32_t id, unsigned flags, mlxr_error *error);

typedef struct added_match {
    int32_t id;                  /* −1: none up to the end */
    size_t begin, end;           /* white space of LSTRIP and RSTRIP included */
    size_t next;                 /* where to look on: before `end` if white space was taken, as in the reference */
    size_t text_begin, text_end; /* without it */
    bool special;
} added_match;

/* The next match in text[0..n) at or after `at`. White space before `taken` is not taken again. Specials are passed
 * over (and what they cover with them) unless `special`. */
added_match added_set_find(const added_set *set, const char *text, size_t at, size_t taken, size_t n, bool special);

/* The length of the longest text of the set that text[0..n) begins with, 0 if none. */
size_t added_set_prefix(const added_set *set, const char *text, size_t n);

/* How many bytes of text[0..n), from its first, are the text of a special, or, up to its end, the beginning of a
 * token's text; 0: neither. */
size_t added_set_special(const added_set *set, const char *text, size_t n);

/* The id of a text that is in the set as a whole, or −1. */
int32_t added_set_id(const added_set *set, token_text text);

#endif
