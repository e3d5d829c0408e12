/*
 * Prompt lookup: drafts what followed the last time the newest tokens occurred (Saxena 2023, "prompt lookup decoding").
 * Owner: none. Lifetime: the call. Any thread.
 */
#ifndef MLXR_RUNTIME_SPEC_NGRAM_H
#define MLXR_RUNTIME_SPEC_NGRAM_H

#include <stddef.h>
#include <stdint.h>

#define NGRAM_LEAST 2u /* tokens that must agree: one alone matches too much */
#define NGRAM_MOST 16u /* beyond this a longer match is not better */

/* Finds the earlier place in tokens[0 … n) that agrees with its end over the most tokens (the newest such place) and
 * copies up to n_max tokens that followed it to out. Returns how many; 0: nothing agrees. */
uint32_t ngram_draft(const int32_t *tokens, size_t n, uint32_t n_max, int32_t *out);

#endif
