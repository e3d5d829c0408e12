/*
 * Token store: which tokens a text was made of, so that a conversation that comes back as text is computed from the
 * very tokens that were sampled, and finds its KV pages again. Owner: the daemon. Lifetime: token_store_open to
 * token_store_close. Any thread; one lock.
 *
 * The key is a text's beginning: of all that is kept for a model, the longest text that the new one begins with gives
 * its tokens, and only the rest is tokenised. What is found is compared byte by byte. Bounded; the least recently used
 * go.
 */
#ifndef MLXR_SERVER_TOKEN_STORE_H
#define MLXR_SERVER_TOKEN_STORE_H

#include "mlxr.h"

typedef struct token_store token_store;

mlxr_status token_store_open(token_store **out, size_t bytes_max, mlxr_error *error);
void token_store_close(token_store **s);
/* Keeps copies. `model`: whose tokens they are. Where memory lacks nothing is kept. */
void token_store_add(token_store *s, uint64_t model, const char *text, size_t n_text, const int32_t *ids, size_t n_ids);
/* The tokens of the longest kept text that `text` begins with, malloc'ed, in *ids [*n_ids]; returns that text's length,
 * 0: there is none. */
size_t token_store_find(token_store *s, uint64_t model, const char *text, size_t n_text, int32_t **ids, size_t *n_ids);

typedef struct token_store_stats {
    size_t n_texts, n_bytes;
    uint64_t n_found, n_missed, n_gone;
} token_store_stats;
token_store_stats token_store_stats_get(token_store *s);

#endif
