/*
 * A list of responses, the newest first.
 * Owner: the generations. Lifetime: as the store's.
 */
#include "server/response_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct kept {
    struct kept *previous, *next;
    char id[64];
    uint64_t owner;
    json_t *response, *messages, *input;
    size_t n_bytes;
} kept;

struct response_store {
    pthread_mutex_t lock;
    kept *first, *last;
    size_t n, n_max, n_bytes, bytes_max;
};

mlxr_status response_store_open(response_store **out, size_t n_max, size_t bytes_max, mlxr_error *error)
{
    response_store *s = calloc(1, sizeof *s);
    if (!s) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        return MLXR_NOMEM;
    }
    s->n_max = n_max;
    s->bytes_max = bytes_max;
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return MLXR_OK;
}

static void drop(response_store *s, kept *k)
{
    *(k->previous ? &k->previous->next : &s->first) = k->next;
    *(k->next ? &k->next->previous : &s->last) = k->previous;
    s->n--;
    s->n_bytes -= k->n_bytes;
    json_decref(k->response);
    json_decref(k->messages);
    json_decref(k->input);
    free(k);
}

void response_store_close(response_store **pointer)
{
    response_store *s = *pointer;
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

static kept *find(response_store *s, const char *id, uint64_t owner)
{
    kept *k = s->first;
    while (k && (k->owner != owner || strcmp(k->id, id) != 0)) {
        k = k->next;
    }
    return k;
}

/* About what it takes, by the length of its text. */
static size_t bytes_of(const json_t *value)
{
    return value ? json_dumpb(value, NULL, 0, JSON_COMPACT) * 2 : 0;
}

void response_store_put(response_store *s, const char *id, uint64_t owner, json_t *response, json_t *messages,
                        json_t *input)
{
    kept *k = calloc(1, sizeof *k);
    if (!k || strlen(id) >= sizeof k->id) {
        free(k);
        return;
    }
    strcpy(k->id, id);
    k->owner = owner;
    /* Copies: what is kept must not change when an answer goes on, and references are not counted across threads. */
    k->response = json_deep_copy(response);
    k->messages = json_deep_copy(messages);
    k->input = json_deep_copy(input);
    k->n_bytes = sizeof *k + bytes_of(response) + bytes_of(messages) + bytes_of(input);
    pthread_mutex_lock(&s->lock);
    kept *old = find(s, id, owner);
    if (old) {
        drop(s, old);
    }
    k->next = s->first;
    *(s->first ? &s->first->previous : &s->last) = k;
    s->first = k;
    s->n++;
    s->n_bytes += k->n_bytes;
    while (s->n > 1 && (s->n > s->n_max || s->n_bytes > s->bytes_max)) {
        drop(s, s->last);
    }
    pthread_mutex_unlock(&s->lock);
}

static json_t *copy_of(response_store *s, const char *id, uint64_t owner, size_t offset)
{
    pthread_mutex_lock(&s->lock);
    kept *k = find(s, id, owner);
    json_t *copy = k ? json_deep_copy(*(json_t **)((char *)k + offset)) : NULL;
    pthread_mutex_unlock(&s->lock);
    return copy;
}

json_t *response_store_get(response_store *s, const char *id, uint64_t owner)
{
    return copy_of(s, id, owner, offsetof(kept, response));
}

json_t *response_store_messages(response_store *s, const char *id, uint64_t owner)
{
    return copy_of(s, id, owner, offsetof(kept, messages));
}

json_t *response_store_input(response_store *s, const char *id, uint64_t owner)
{
    return copy_of(s, id, owner, offsetof(kept, input));
}

bool response_store_remove(response_store *s, const char *id, uint64_t owner)
{
    pthread_mutex_lock(&s->lock);
    kept *k = find(s, id, owner);
    if (k) {
        drop(s, k);
    }
    pthread_mutex_unlock(&s->lock);
    return k != NULL;
}
