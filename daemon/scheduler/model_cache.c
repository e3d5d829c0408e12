/*
 * Model cache.
 * Owner: a model table. Lifetime: its owner's.
 */
#include "scheduler/model_cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void model_cache_close(model_cache *c)
{
    while (c->n) {
        model_cache_remove(c, c->items[c->n - 1]);
    }
    free(c->items);
    *c = (model_cache){0};
}

cached_model *model_cache_find(const model_cache *c, const char *path)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (strcmp(c->items[i]->path, path) == 0) {
            return c->items[i];
        }
    }
    return NULL;
}

cached_model *model_cache_of(const model_cache *c, const mlxr_model *model)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (c->items[i]->model == model) {
            return c->items[i];
        }
    }
    return NULL;
}

cached_model *model_cache_add(model_cache *c, const char *path)
{
    cached_model *m = model_cache_find(c, path);
    if (m) {
        return m;
    }
    if (c->n == c->cap) {
        uint32_t cap = c->cap ? c->cap * 2 : 8;
        cached_model **grown = realloc(c->items, cap * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        c->items = grown;
        c->cap = cap;
    }
    m = calloc(1, sizeof *m);
    if (m && !(m->path = strdup(path))) {
        free(m);
        m = NULL;
    }
    if (m) {
        m->expires_at_us = UINT64_MAX;
        c->items[c->n++] = m;
    }
    return m;
}

void model_cache_remove(model_cache *c, cached_model *m)
{
    assert(m->state == MODEL_ABSENT);
    for (uint32_t i = 0; i < c->n; i++) {
        if (c->items[i] == m) {
            c->items[i] = c->items[--c->n];
            break;
        }
    }
    free(m->path);
    free(m);
}

void model_cache_loaded(model_cache *c, cached_model *m, mlxr_model *model, uint64_t weight_bytes, uint64_t now_us)
{
    m->state = MODEL_LOADED;
    m->model = model;
    m->weight_bytes = weight_bytes;
    m->used_at_us = now_us;
    m->expires_at_us = UINT64_MAX; /* until its first lease ends */
    m->n_loads++;
    c->n_loaded++;
    c->weight_bytes += weight_bytes;
}

void model_cache_unloaded(model_cache *c, cached_model *m)
{
    c->n_loaded--;
    c->weight_bytes -= m->weight_bytes;
    m->state = MODEL_ABSENT;
    m->model = NULL;
    m->weight_bytes = 0;
    m->dismissed = false;
}

void model_cache_take(cached_model *m, uint64_t now_us)
{
    m->n_uses++;
    m->used_at_us = now_us;
}

void model_cache_give(cached_model *m, uint64_t keep_us, uint64_t now_us)
{
    assert(m->n_uses > 0);
    m->n_uses--;
    m->used_at_us = now_us;
    m->expires_at_us = keep_us < UINT64_MAX - now_us ? now_us + keep_us : UINT64_MAX;
}

static bool is_idle(const cached_model *m)
{
    return m->state == MODEL_LOADED && m->n_uses == 0 && !m->pinned;
}

cached_model *model_cache_expired(const model_cache *c, uint64_t now_us)
{
    for (uint32_t i = 0; i < c->n; i++) {
        cached_model *m = c->items[i];
        if (is_idle(m) && (m->dismissed || m->expires_at_us <= now_us)) {
            return m;
        }
    }
    return NULL;
}

cached_model *model_cache_victim(const model_cache *c)
{
    cached_model *oldest = NULL;
    for (uint32_t i = 0; i < c->n; i++) {
        cached_model *m = c->items[i];
        if (is_idle(m) && (!oldest || m->used_at_us < oldest->used_at_us)) {
            oldest = m;
        }
    }
    return oldest;
}

uint64_t model_cache_next_us(const model_cache *c)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < c->n; i++) {
        const cached_model *m = c->items[i];
        uint64_t at = m->dismissed ? 0 : m->expires_at_us;
        next = is_idle(m) && at < next ? at : next;
    }
    return next;
}
