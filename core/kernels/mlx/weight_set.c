/*
 * The weights of a model on the device.
 * Owner: the programs that have opened the set. Lifetime: until the last of them closes it.
 */
#include "kernels/mlx/weight_set.h"

#include <stdlib.h>

typedef struct stack_entry {
    struct stack_entry *next;
    const tensor *source;
    mlx_stack stack;
} stack_entry;

struct weight_set {
    weight_set *next;
    uint32_t n_users;
    const tensor *first; /* the plan's first matrix, which only this model has */
    mlx_arena *arena;
    mlx_weight **weights; /* [n], of matrices that OP_LINEAR multiplies by */
    size_t n, cap;
    stack_entry *stacks;
    region memory;
    mlxr_error error; /* of what could not be loaded, until somebody asks */
};

static const tensor *first_matrix(const plan *p)
{
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_LINEAR) {
            return p->ops[i].weight;
        }
    }
    return NULL;
}

weight_set *weight_set_open(weight_set **sets, const plan *p)
{
    const tensor *first = first_matrix(p);
    for (weight_set *set = *sets; set; set = set->next) {
        if (first && set->first == first) {
            set->n_users++;
            return set;
        }
    }
    weight_set *set = calloc(1, sizeof *set);
    mlx_arena *arena = set ? bridge_arena_open() : NULL;
    if (!arena) {
        free(set);
        return NULL;
    }
    *set = (weight_set){.next = *sets, .n_users = 1, .first = first, .arena = arena};
    *sets = set;
    return set;
}

void weight_set_close(weight_set **sets, weight_set **pointer)
{
    weight_set *set = *pointer;
    *pointer = NULL;
    if (!set || --set->n_users) {
        return;
    }
    weight_set **at = sets;
    while (*at != set) {
        at = &(*at)->next;
    }
    *at = set->next;
    bridge_arena_close(&set->arena);
    region_close(&set->memory);
    free(set->weights);
    free(set);
}

/* Was it, as far as MLX is concerned, too? */
static bool loaded(weight_set *set, bool ok)
{
    if (bridge_status(set->arena, &set->error) != MLXR_OK) { /* what others have loaded stays good */
        bridge_arena_recover(set->arena);
        ok = false;
    }
    return ok;
}

const mlx_weight *weight_set_get(weight_set *set, const bridge_device *device, const tensor *t, bool raw)
{
    for (size_t i = set->n; i-- > 0;) {
        if (set->weights[i]->source == t && set->weights[i]->raw == raw) {
            return set->weights[i];
        }
    }
    if (set->n == set->cap) {
        size_t cap = set->cap ? 2 * set->cap : 64;
        mlx_weight **more = realloc(set->weights, cap * sizeof(mlx_weight *));
        if (!more) {
            return NULL;
        }
        set->weights = more;
        set->cap = cap;
    }
    mlx_weight *w = region_array(&set->memory, 1, sizeof *w);
    if (!loaded(set, w && mlx_weight_load(w, set->arena, device, t, raw))) {
        return NULL;
    }
    set->weights[set->n++] = w;
    return w;
}

const mlx_stack *weight_set_stack(weight_set *set, const bridge_device *device, const tensor *parts, uint32_t n)
{
    for (const stack_entry *e = set->stacks; e; e = e->next) {
        if (e->source == parts) {
            return &e->stack;
        }
    }
    stack_entry *e = region_array(&set->memory, 1, sizeof *e);
    if (!loaded(set, e && mlx_stack_load(&e->stack, set->arena, &set->memory, device, parts, n))) {
        return NULL;
    }
    e->source = parts;
    e->next = set->stacks;
    set->stacks = e;
    return &e->stack;
}

mlxr_status weight_set_status(weight_set *set, mlxr_error *error)
{
    mlxr_status status = set->error.status;
    if (status != MLXR_OK && error) {
        *error = set->error;
    }
    set->error.status = MLXR_OK;
    return status;
}
