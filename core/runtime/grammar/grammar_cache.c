/*
 * Grammar cache: found by hash, compared byte for byte.
 * Owner: a model. Lifetime: the model's.
 */
#include "runtime/grammar/grammar_cache.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

static uint64_t hash_of(const char *text, size_t n, bool is_schema)
{
    return XXH3_64bits_withSeed(text, n, is_schema);
}

static void drop(grammar_cache *c, uint32_t i)
{
    grammar_unref(&c->entries[i].g);
    free(c->entries[i].text);
    c->entries[i] = c->entries[--c->n];
    c->n_dropped++;
}

grammar *grammar_cache_find(grammar_cache *c, const char *text, size_t n, bool is_schema)
{
    uint64_t hash = hash_of(text, n, is_schema);
    for (uint32_t i = 0; i < c->n; i++) {
        cached_grammar *e = &c->entries[i];
        if (e->hash != hash || e->is_schema != is_schema || e->n != n || (n && memcmp(e->text, text, n) != 0)) {
            continue;
        }
        if (grammar_is_grown(e->g)) {
            drop(c, i);
            return NULL;
        }
        e->used = ++c->n_uses;
        c->n_found++;
        return grammar_ref(e->g);
    }
    return NULL;
}

size_t grammar_cache_bytes(const grammar_cache *c)
{
    size_t sum = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        sum += c->entries[i].n + grammar_bytes(c->entries[i].g);
    }
    return sum;
}

static void drop_oldest(grammar_cache *c)
{
    uint32_t oldest = 0;
    for (uint32_t i = 1; i < c->n; i++) {
        oldest = c->entries[i].used < c->entries[oldest].used ? i : oldest;
    }
    drop(c, oldest);
}

void grammar_cache_trim(grammar_cache *c)
{
    while (c->n > 1 && grammar_cache_bytes(c) > GRAMMAR_CACHE_BYTES) {
        drop_oldest(c);
    }
}

void grammar_cache_keep(grammar_cache *c, const char *text, size_t n, bool is_schema, grammar *g)
{
    char *copy = malloc(n + 1);
    if (!copy) {
        return;
    }
    if (n) {
        memcpy(copy, text, n);
    }
    c->n_made++;
    if (c->n == GRAMMAR_CACHE_MOST) {
        drop_oldest(c);
    }
    c->entries[c->n++] = (cached_grammar){.hash = hash_of(text, n, is_schema),
                                          .is_schema = is_schema,
                                          .text = copy,
                                          .n = n,
                                          .g = grammar_ref(g),
                                          .used = ++c->n_uses};
    grammar_cache_trim(c);
}

void grammar_cache_close(grammar_cache *c)
{
    while (c->n > 0) {
        drop(c, c->n - 1);
    }
}
