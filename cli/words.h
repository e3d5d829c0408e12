/*
 * Small questions about words: how alike two are, and case-insensitive comparison.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_CLI_WORDS_H
#define MLXR_CLI_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* How many letters must be changed, added, removed or swapped with a neighbour to make b of a, ignoring case. Words
 * longer than 63 bytes are compared in their first 63. */
size_t words_distance(const char *a, const char *b);
/* Whether `text` has `part` in it, ignoring ASCII case. */
bool words_contain(const char *text, const char *part);

#endif
