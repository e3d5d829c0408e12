/*
 * Grammar cache: the grammars of a model by their text, so that a schema that comes with every request is compiled once
 * and the states and masks that one request needed are there for the next.
 * Owner: a model. Lifetime: the model's. The engine's thread; what it gives may be used by any, as all grammars.
 *
 * Bounded in number and bytes: the one used longest ago goes, and what sequences still use lives on with them. States
 * and masks are added as sequences go on, so a step that has had a grammar trims the cache as well. A grammar that has
 * grown to a part of its limits is not given out again: a text must not fail for what others needed.
 */
#ifndef MLXR_RUNTIME_GRAMMAR_GRAMMAR_CACHE_H
#define MLXR_RUNTIME_GRAMMAR_GRAMMAR_CACHE_H

#include "runtime/grammar/grammar.h"

#define GRAMMAR_CACHE_MOST 64u
#define GRAMMAR_CACHE_BYTES ((size_t)64 << 20) /* beyond it only the newest stays */

typedef struct cached_grammar {
    uint64_t hash;
    bool is_schema;
    char *text; /* [n] */
    size_t n;
    grammar *g;
    uint64_t used; /* the cache's count of uses when it was last found */
} cached_grammar;

typedef struct grammar_cache { /* {0}: empty */
    cached_grammar entries[GRAMMAR_CACHE_MOST];
    uint32_t n;
    uint64_t n_uses;
    uint64_t n_found, n_made, n_dropped;
} grammar_cache;

/* The grammar of this text with a reference for the caller, or NULL. */
grammar *grammar_cache_find(grammar_cache *c, const char *text, size_t n, bool is_schema);
/* Takes a reference to what the text was made into; without memory it is not kept. */
void grammar_cache_keep(grammar_cache *c, const char *text, size_t n, bool is_schema, grammar *g);
/* Drops those used longest ago until the rest is within the bytes, or one. */
void grammar_cache_trim(grammar_cache *c);
size_t grammar_cache_bytes(const grammar_cache *c);
void grammar_cache_close(grammar_cache *c);

#endif
