/*
 * How far models read.
 * Owner: the caller. Lifetime: its own.
 */
#include "server/model_contexts.h"

#include <stdlib.h>
#include <string.h>

/* Under the table's lock: copies. What there is no memory for counts as not loaded. */
static void on_item(void *user, const model_table_item *item)
{
    model_contexts *c = user;
    if (item->info && c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 8;
        struct model_context *grown = realloc(c->items, cap * sizeof *grown);
        c->items = grown ? grown : c->items;
        c->cap = grown ? cap : c->cap;
    }
    char *path = item->info && c->n < c->cap ? strdup(item->path) : NULL;
    if (path) {
        c->items[c->n++] = (struct model_context){path, item->info->n_ctx};
    }
}

void model_contexts_open(model_contexts *c, const struct daemon *d)
{
    *c = (model_contexts){.n_ctx_max = d->options->model.n_ctx_max};
    model_table_each(d->models, on_item, c);
}

uint32_t model_contexts_of(const model_contexts *c, const registry_model *m)
{
    uint32_t n_ctx = c->n_ctx_max && c->n_ctx_max < m->n_ctx_train ? c->n_ctx_max : m->n_ctx_train;
    char *real = c->n ? realpath(m->path, NULL) : NULL; /* as the table has it */
    for (size_t i = 0; real && i < c->n; i++) {
        if (strcmp(c->items[i].path, real) == 0) {
            n_ctx = c->items[i].n_ctx;
            break;
        }
    }
    free(real);
    return n_ctx;
}

void model_contexts_close(model_contexts *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->items[i].path);
    }
    free(c->items);
    *c = (model_contexts){0};
}
