/*
 * A list of texts, the most recently used first.
 * Owner: the daemon. Lifetime: as the store's.
 *
 * A conversation's next turn replaces its last: an entry that a new one begins with goes when the new one comes. So
 * there are about as many entries as conversations, and walking all of them costs microseconds: length, model and the
 * text's last bytes tell most apart before anything is compared.
 */
#include "server/token_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TEXTS_MAX 4096u
#define TAIL 16u

typedef struct entry {
    struct entry *previous, *next;
    uint64_t model;
    char *text;   /* [n_text] */
    int32_t *ids; /* [n_ids] */
    size_t n_text, n_ids;
} entry;

struct token_store {
    pthread_mutex_t lock;
    entry *first, *last;
    size_t bytes_max;
    token_store_stats stats;
};

mlxr_status token_store_open(token_store **out, size_t bytes_max, mlxr_error *error)
{
    token_store *s = calloc(1, sizeof *s);
    if (!s) {
        if (error) {
            *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        }
        return MLXR_NOMEM;
    }
    s->bytes_max = bytes_max;
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return MLXR_OK;
}

static size_t bytes_of(const entry *e)
{
    return sizeof *e + e->n_text + e->n_ids * sizeof *e->ids;
}

static void take_out(token_store *s, entry *e)
{
    *(e->previous ? &e->previous->next : &s->first) = e->next;
    *(e->next ? &e->next->previous : &s->last) = e->previous;
    e->previous = e->next = NULL;
}

static void put_first(token_store *s, entry *e)
{
    e->next = s->first;
    *(s->first ? &s->first->previous : &s->last) = e;
    s->first = e;
}

static void drop(token_store *s, entry *e)
{
    take_out(s, e);
    s->stats.n_texts--;
    s->stats.n_bytes -= bytes_of(e);
    free(e->text);
    free(e->ids);
    free(e);
}

void token_store_close(token_store **pointer)
{
    token_store *s = *pointer;
    if (!s) {
        return;
    }
    while (s->first) {
        drop(s, s->first);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
    *pointer = NULL;
}

/* Does `text` begin with the entry's? */
static bool begins_with(const char *text, size_t n_text, const entry *e)
{
    if (e->n_text > n_text) {
        return false;
    }
    size_t tail = e->n_text < TAIL ? e->n_text : TAIL, from = e->n_text - tail;
    return memcmp(text + from, e->text + from, tail) == 0 && memcmp(text, e->text, from) == 0;
}

void token_store_add(token_store *s, uint64_t model, const char *text, size_t n_text, const int32_t *ids, size_t n_ids)
{
    entry *e = calloc(1, sizeof *e);
    char *copy = malloc(n_text + 1);
    int32_t *tokens = malloc((n_ids + 1) * sizeof *tokens);
    if (!e || !copy || !tokens || n_text == 0 || n_text + n_ids * sizeof *ids > s->bytes_max / 2) {
        free(e);
        free(copy);
        free(tokens);
        return;
    }
    memcpy(copy, text, n_text);
    memcpy(tokens, ids, n_ids * sizeof *ids);
    *e = (entry){.model = model, .text = copy, .n_text = n_text, .ids = tokens, .n_ids = n_ids};
    pthread_mutex_lock(&s->lock);
    for (entry *old = s->first, *next; old; old = next) {
        next = old->next;
        if (old->model == model && old->n_text == n_text && begins_with(text, n_text, old)) {
            drop(s, old); /* the same text, made of other tokens: the newer ones count */
        }
    }
    put_first(s, e);
    s->stats.n_texts++;
    s->stats.n_bytes += bytes_of(e);
    while (s->last != e && (s->stats.n_bytes > s->bytes_max || s->stats.n_texts > TEXTS_MAX)) {
        drop(s, s->last);
        s->stats.n_gone++;
    }
    pthread_mutex_unlock(&s->lock);
}

size_t token_store_find(token_store *s, uint64_t model, const char *text, size_t n_text, int32_t **ids, size_t *n_ids)
{
    entry *best = NULL;
    size_t n_found = 0;
    *ids = NULL;
    *n_ids = 0;
    pthread_mutex_lock(&s->lock);
    for (entry *e = s->first; e; e = e->next) {
        if (e->model == model && (!best || e->n_text > best->n_text) && begins_with(text, n_text, e)) {
            best = e;
        }
    }
    int32_t *copy = best ? malloc((best->n_ids + 1) * sizeof *copy) : NULL;
    if (copy) {
        memcpy(copy, best->ids, best->n_ids * sizeof *copy);
        *ids = copy;
        *n_ids = best->n_ids;
        n_found = best->n_text;
        take_out(s, best);
        put_first(s, best);
    }
    *(copy ? &s->stats.n_found : &s->stats.n_missed) += 1;
    pthread_mutex_unlock(&s->lock);
    return n_found;
}

token_store_stats token_store_stats_get(token_store *s)
{
    pthread_mutex_lock(&s->lock);
    token_store_stats stats = s->stats;
    pthread_mutex_unlock(&s->lock);
    return stats;
}
