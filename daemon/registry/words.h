/*
 * Small questions about words, and lists of them: shared by the daemon and the command line.
 * Owner: none; a list is its holder's. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_WORDS_H
#define MLXR_REGISTRY_WORDS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct text_list {
    const char **items; /* [n]; the texts belong to somebody else */
    size_t n, cap;
} text_list;

/* False: out of memory. */
bool text_list_add(text_list *list, const char *text);

/* How many letters must be changed, added, removed or swapped with a neighbour to make b of a, ignoring case. Words
 * longer than 63 bytes are compared in their first 63. */
size_t words_distance(const char *a, const char *b);
/* A text that was cut to fit: takes away the beginning of a UTF-8 character that its end is in the middle of. */
void text_trim_cut(char *text);
/* Whether `text` has `part` in it, ignoring ASCII case. */
bool words_contain(const char *text, const char *part);

#endif
