/*
 * Experts that do not all fit in memory, on top of the mapped file.
 * Owner: the model. Lifetime: expert_cache_open to expert_cache_close.
 */
#include "runtime/expert_cache.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory_size.h"
#include "runtime/expert_policy.h"

#define HALF_LIFE 256.0  /* passes of a layer, of a token each when decoding */
#define LOCKED_MAX 4096u /* experts: each may split the mapping in several, of which a process has 65,530 */
#define PARTS 3u         /* matrices of an expert, at most */

typedef struct expert_layer {
    const op_experts *experts; /* NULL: none, or not of the file */
    uint32_t first;            /* of its items */
} expert_layer;

struct expert_cache {
    step_experts hook;
    expert_policy policy;
    expert_layer *layers; /* [n_layers] */
    uint32_t n_layers, n_managed;
    bool *locked;  /* [policy.n_items] */
    bool may_lock; /* until the system refuses */
    uint32_t n_locked;
    uint64_t n_used; /* passes of any layer */
    mlxr_expert_stats stats;
};

/* ---- an expert's matrices ---- */

typedef void part_fn(expert_cache *c, const void *data, size_t n_bytes);

static uint32_t parts_of(const op_experts *x, uint32_t expert, const tensor *of[PARTS])
{
    uint32_t n = 0;
    of[n++] = &x->up[expert];
    of[n++] = &x->down[expert];
    if (x->gate) {
        of[n++] = &x->gate[expert];
    }
    return n;
}

static uint64_t bytes_of(const op_experts *x, uint32_t expert)
{
    const tensor *parts[PARTS];
    uint32_t n = parts_of(x, expert, parts);
    uint64_t n_bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        n_bytes += parts[i]->n_bytes;
    }
    return n_bytes;
}

static uint32_t expert_of(const expert_cache *c, uint32_t item, const op_experts **x)
{
    uint32_t layer = 0;
    while (!c->layers[layer].experts || item - c->layers[layer].first >= c->layers[layer].experts->n_expert) {
        layer++;
    }
    *x = c->layers[layer].experts;
    return item - c->layers[layer].first;
}

static void read_part(expert_cache *c, const void *data, size_t n_bytes)
{
    size_t missing = mapping_missing(data, n_bytes);
    c->stats.bytes_read += missing;
    if (missing) {
        mapping_read_ahead(data, n_bytes);
    }
}

static void give_up_part(expert_cache *c, const void *data, size_t n_bytes)
{
    (void)c;
    mapping_give_back(data, n_bytes);
}

static void each_part(expert_cache *c, uint32_t item, part_fn *fn)
{
    const op_experts *x;
    const tensor *parts[PARTS];
    uint32_t expert = expert_of(c, item, &x), n = parts_of(x, expert, parts);
    for (uint32_t i = 0; i < n; i++) {
        fn(c, parts[i]->data, (size_t)parts[i]->n_bytes);
    }
}

/* ---- locking ---- */

static void unlock(expert_cache *c, uint32_t item)
{
    const op_experts *x;
    const tensor *parts[PARTS];
    uint32_t expert = expert_of(c, item, &x), n = parts_of(x, expert, parts);
    for (uint32_t i = 0; i < n; i++) {
        mapping_unlock(parts[i]->data, (size_t)parts[i]->n_bytes);
    }
    c->n_locked -= c->locked[item];
    c->stats.bytes_locked -= c->locked[item] ? c->policy.items[item].n_bytes : 0;
    c->locked[item] = false;
}

/* One that has been found in memory: what is used once is not worth it. */
static void lock(expert_cache *c, uint32_t item)
{
    const op_experts *x;
    const tensor *parts[PARTS];
    uint32_t expert = expert_of(c, item, &x), n = parts_of(x, expert, parts);
    for (uint32_t i = 0; i < n; i++) {
        if (!mapping_lock(parts[i]->data, (size_t)parts[i]->n_bytes)) {
            unlock(c, item); /* all or none */
            c->may_lock = false;
            return;
        }
    }
    c->locked[item] = true;
    c->n_locked++;
    c->stats.bytes_locked += c->policy.items[item].n_bytes;
}

/* One that is kept and used: the system may have taken it, which shows at its beginning. */
static void look_after(expert_cache *c, uint32_t item)
{
    const op_experts *x;
    const tensor *parts[PARTS];
    uint32_t expert = expert_of(c, item, &x), n = parts_of(x, expert, parts);
    for (uint32_t i = 0; i < n && !c->locked[item]; i++) {
        if (mapping_missing(parts[i]->data, 1)) {
            read_part(c, parts[i]->data, (size_t)parts[i]->n_bytes);
        }
    }
    if (c->may_lock && !c->locked[item] && c->n_locked < LOCKED_MAX) {
        lock(c, item);
    }
}

/* ---- a pass ---- */

static void use(void *user, const op *o, const uint32_t *experts, uint32_t n)
{
    expert_cache *c = user;
    expert_policy *p = &c->policy;
    uint32_t used[EXPERTS_MAX];
    if (o->layer >= c->n_layers || c->layers[o->layer].experts != o->experts) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        used[i] = c->layers[o->layer].first + experts[i];
    }
    expert_policy_use(p, (double)c->n_used++ / c->n_managed, used, n);
    for (uint32_t i = 0; i < p->n_given; i++) {
        if (c->locked[p->given_up[i]]) {
            unlock(c, p->given_up[i]);
        }
        each_part(c, p->given_up[i], give_up_part);
    }
    for (uint32_t i = 0; i < p->n_missed; i++) {
        each_part(c, p->missed[i], read_part);
    }
    for (uint32_t i = 0, miss = 0; i < n; i++) { /* misses are in the order of `used` */
        if (miss < p->n_missed && p->missed[miss] == used[i]) {
            miss++;
        } else {
            look_after(c, used[i]);
        }
    }
}

/* ---- opening ---- */

static bool is_mapped(const model_file *file, const tensor *t)
{
    const uint8_t *data = t->data;
    for (uint32_t i = 0; i < file->n_parts; i++) {
        const mapping *m = &file->parts[i];
        if (data >= m->data && t->n_bytes <= m->n_bytes && (size_t)(data - m->data) <= m->n_bytes - t->n_bytes) {
            return true;
        }
    }
    return false;
}

/* Whether an operation reads all its experts from the file: memory that was made must not be given back. */
static bool is_of_file(const model_file *file, const op_experts *x)
{
    const tensor *parts[PARTS];
    for (uint32_t expert = 0; expert < x->n_expert; expert++) {
        uint32_t n = parts_of(x, expert, parts);
        for (uint32_t i = 0; i < n; i++) {
            if (!is_mapped(file, parts[i])) {
                return false;
            }
        }
    }
    return true;
}

/* Notes the layers of a plan; n_items grows, and *n_bytes by what the experts have. */
static void add_layers(expert_cache *c, const plan *p, const model_file *file, uint32_t *n_items, uint64_t *n_bytes)
{
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        if (o->kind != OP_EXPERTS || o->layer >= c->n_layers || c->layers[o->layer].experts ||
            !is_of_file(file, o->experts)) {
            continue;
        }
        c->layers[o->layer] = (expert_layer){.experts = o->experts, .first = *n_items};
        c->n_managed++;
        *n_items += o->experts->n_expert;
        for (uint32_t x = 0; x < o->experts->n_expert; x++) {
            *n_bytes += bytes_of(o->experts, x);
        }
    }
}

/* 0: all may stay. */
static uint64_t budget_of(const expert_cache_options *o, uint64_t n_weight_bytes, uint64_t n_expert_bytes)
{
    if (o->n_bytes_max) {
        return o->n_bytes_max < n_expert_bytes ? o->n_bytes_max : 0;
    }
    uint64_t all = memory_for_weights();
    all = o->n_bytes_all && o->n_bytes_all < all ? o->n_bytes_all : all;
    if (n_weight_bytes <= all) {
        return 0;
    }
    uint64_t others = n_weight_bytes - n_expert_bytes;
    uint64_t may = all / 4 * 3;             /* a quarter is the KV cache's and scratch's */
    return may > others ? may - others : 1; /* what a pass needs is there all the same */
}

static mlxr_status start(expert_cache *c, uint32_t n_items, uint64_t budget, mlxr_error *error)
{
    c->locked = calloc(n_items, sizeof *c->locked);
    if (!c->locked || !expert_policy_open(&c->policy, n_items, budget, HALF_LIFE)) {
        return error_nomem(error, "expert cache", n_items * sizeof(expert_item));
    }
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        const expert_layer *l = &c->layers[layer];
        for (uint32_t x = 0; l->experts && x < l->experts->n_expert; x++) {
            c->policy.items[l->first + x].n_bytes = bytes_of(l->experts, x);
        }
    }
    for (uint32_t i = 0; i < n_items; i++) {
        each_part(c, i, give_up_part); /* naming the model for its stored pages has read them all */
    }
    c->hook = (step_experts){.use = use, .user = c};
    return MLXR_OK;
}

mlxr_status expert_cache_open(expert_cache **out, const graph *g, const model_file *file,
                              const expert_cache_options *options, mlxr_error *error)
{
    *out = NULL;
    if (!g->h.n_expert) {
        return MLXR_OK;
    }
    expert_cache *c = calloc(1, sizeof *c);
    uint32_t n_items = 0;
    uint64_t n_bytes = 0;
    if (c) {
        c->n_layers = hparams_layers_bound(&g->h);
        c->layers = calloc(c->n_layers, sizeof *c->layers);
    }
    if (!c || !c->layers) {
        free(c);
        return error_nomem(error, "expert cache", sizeof *c);
    }
    add_layers(c, &g->plan, file, &n_items, &n_bytes);
    add_layers(c, &g->ahead_plan, file, &n_items, &n_bytes);
    uint64_t budget = n_items ? budget_of(options, g->weight_bytes, n_bytes) : 0;
    mlxr_status status = budget ? start(c, n_items, budget, error) : MLXR_OK;
    if (status != MLXR_OK || !budget) {
        expert_cache_close(&c);
        return status;
    }
    c->may_lock = options->n_bytes_max > 0; /* a budget of the caller's own: what was guessed might be too much */
    c->stats = (mlxr_expert_stats){.bytes_all = n_bytes, .bytes_budget = budget};
    *out = c;
    return MLXR_OK;
}

static uint64_t bytes_of_plan(const plan *p, const model_file *file)
{
    uint64_t n_bytes = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        for (uint32_t x = 0; o->kind == OP_EXPERTS && is_of_file(file, o->experts) && x < o->experts->n_expert; x++) {
            n_bytes += bytes_of(o->experts, x);
        }
    }
    return n_bytes;
}

uint64_t expert_cache_streamable(const graph *g, const model_file *file)
{
    return bytes_of_plan(&g->plan, file) + bytes_of_plan(&g->ahead_plan, file);
}

bool expert_cache_serves(const graph *g, const model_file *file, const expert_cache_options *options)
{
    uint64_t n_bytes = g->h.n_expert ? expert_cache_streamable(g, file) : 0;
    return n_bytes && budget_of(options, g->weight_bytes, n_bytes);
}

void expert_cache_close(expert_cache **pointer)
{
    expert_cache *c = *pointer;
    if (c) {
        expert_policy_close(&c->policy);
        free(c->locked);
        free(c->layers);
        free(c);
    }
    *pointer = NULL;
}

const step_experts *expert_cache_hook(const expert_cache *cache)
{
    return cache ? &cache->hook : NULL;
}

mlxr_expert_stats expert_cache_stats(const expert_cache *c)
{
    mlxr_expert_stats stats = c->stats;
    stats.bytes_hot = c->policy.n_bytes_kept;
    stats.n_hits = c->policy.n_hits;
    stats.n_misses = c->policy.n_misses;
    stats.n_given_back = c->policy.n_given_up;
    return stats;
}
