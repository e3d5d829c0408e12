/*
 * Recurrent models out of loaded ones: the attention of some layers becomes a decaying sum (OP_SCAN) behind a gate.
 * Owner: the test. Lifetime: the model's. No model file can ask for such layers.
 */
#ifndef MLXR_TEST_RECURRENT_H
#define MLXR_TEST_RECURRENT_H

#include "runtime/engine.h"
#include "support/test.h"

/* Models to make: recurrent layers beside full attention, beside a window, beside both, and without any attention. */
typedef struct recurrent_hybrid {
    const char *name, *base; /* base: of tests/support/tiny_model.c */
    uint32_t layers;         /* a bit for each that is recurrent */
} recurrent_hybrid;

static const recurrent_hybrid recurrent_hybrids[] = {{"llama+states", "llama", 0x5},
                                                     {"mistral+states", "mistral", 0x6},
                                                     {"gemma3+states", "gemma3", 0x4a},
                                                     {"qwen2-states", "qwen2", 0xf}};
enum { RECURRENT_HYBRIDS = sizeof recurrent_hybrids / sizeof *recurrent_hybrids };

/* Families with mixers of their own or latent attention, one whose last layers read keys of others, and two with heads
 * for multi-token prediction, of tests/oracle/families. */
typedef struct mixer_family {
    const char *name;
    uint32_t head_dim; /* of the cache */
} mixer_family;

/* Delta rule, Mamba-2, latent attention and chunks at the odd places, which MLX runs, too. */
static const mixer_family mixer_families[] = {
    {"lfm2", 16},      {"qwen3next", 32},     {"granitehybrid", 16}, {"nemotron-h", 32}, {"gemma4", 16},
    {"deepseek3", 64}, {"qwen3next-mtp", 32}, {"deepseek3-mtp", 64}, {"falcon-h1", 32},  {"llama4", 32}};

enum { MIXER_FAMILIES = sizeof mixer_families / sizeof *mixer_families };

/* Is it there with its head for multi-token prediction? */
static inline bool has_mtp(const char *name)
{
    const char *end = strstr(name, "-mtp");
    return end && !end[4];
}

/* Latent attention, whose values are its keys: KV type i16 refuses it. */
static inline bool keeps_latent(const char *name)
{
    return strncmp(name, "deepseek", 8) == 0;
}

static inline bool is_mixer_family(const char *name)
{
    for (size_t i = 0; i < MIXER_FAMILIES; i++) {
        if (strcmp(mixer_families[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static inline op *recurrent_add(plan *p, op *ops, const op *like, op_kind kind, slot dst, slot src)
{
    op *o = &ops[p->n_ops++];
    *o = *like;
    o->kind = kind;
    o->dst = dst;
    o->src = src;
    o->width = p->slot_width[dst];
    return o;
}

/* Decays between 0.5 and 1, another for each channel. */
static inline const tensor *recurrent_decays(graph *g, uint32_t n, uint64_t seed)
{
    tensor *t = region_array(&g->memory, 1, sizeof *t);
    float *values = region_array(&g->memory, n, sizeof *values);
    assert_non_null(t);
    assert_non_null(values);
    for (uint32_t i = 0; i < n; i++) {
        values[i] = 0.5f + (float)(test_random(&seed) >> 40) * 0x1p-25f;
    }
    *t = (tensor){.name = "decay",
                  .type = DTYPE_F32,
                  .n_dims = 1,
                  .shape = {n, 1, 1, 1},
                  .data = values,
                  .row_bytes = n * sizeof *values,
                  .n_bytes = n * sizeof *values};
    return t;
}

/* One operation of a layer that becomes recurrent: what computed queries computes what is summed up, and the gate. */
static inline void recurrent_replace(graph *g, op *ops, const op *o, uint16_t kv_layer)
{
    plan *p = &g->plan;
    bool normed = o->kind == OP_NORM && (o->dst == SLOT_N || o->dst == SLOT_O);
    if (normed || o->kind == OP_ADD) {
        recurrent_add(p, ops, o, o->kind, o->dst, o->src);
    } else if (o->kind == OP_LINEAR && o->dst == SLOT_O) {
        recurrent_add(p, ops, o, OP_LINEAR, SLOT_O, SLOT_Q);
    } else if (o->kind == OP_LINEAR && o->dst == SLOT_Q) {
        recurrent_add(p, ops, o, OP_LINEAR, SLOT_A, SLOT_N);
        op *scan = recurrent_add(p, ops, o, OP_SCAN, SLOT_A, SLOT_A);
        scan->weight = recurrent_decays(g, scan->width, 77u + o->layer);
        scan->bias = NULL;
        scan->state = (op_state){.kv_group = (uint16_t)p->n_kv_groups, .kv_layer = kv_layer};
        recurrent_add(p, ops, o, OP_LINEAR, SLOT_Q, SLOT_N);
        recurrent_add(p, ops, o, OP_GATED, SLOT_Q, SLOT_A)->act = ACT_SILU;
    } /* keys, values and attention have no place in it */
}

/* Counts each group's layers anew and leaves out groups that have none. */
static inline void recurrent_regroup(plan *p, op *ops)
{
    kv_group groups[KV_GROUPS_MAX];
    uint32_t n = 0;
    for (uint16_t old = 0; old < p->n_kv_groups; old++) {
        uint16_t n_layers = 0;
        for (uint32_t i = 0; i < p->n_ops; i++) {
            op *o = &ops[i];
            bool attends = o->kind == OP_KV_WRITE || o->kind == OP_ATTEND;
            if (attends && o->attend.kv_group == old) {
                o->attend.kv_group = (uint16_t)n; /* never more than old: not met again */
                o->attend.kv_layer = n_layers;
                n_layers = (uint16_t)(n_layers + (o->kind == OP_ATTEND));
            } else if (o->kind == OP_SCAN && o->state.kv_group == old) {
                o->state.kv_group = (uint16_t)n;
                n_layers++;
            }
        }
        if (n_layers) {
            groups[n] = p->kv_groups[old];
            groups[n++].n_layers = n_layers;
        }
    }
    memcpy(p->kv_groups, groups, n * sizeof *groups);
    p->n_kv_groups = n;
}

/* What hangs on the plan: program, pools, prefix cache. No sequence is alive. */
static inline void recurrent_displace(mlxr_model *m)
{
    prefix_index_close(&m->cache.index);
    for (uint32_t g = 0; g < m->graph->plan.n_kv_groups; g++) {
        kv_pool_close(&m->pools[g]);
    }
    m->engine->ops->release(m->engine->device, &m->program);
}

static inline void recurrent_place(mlxr_model *m)
{
    mlxr_error error;
    const plan *p = &m->graph->plan;
    assert_ok(m->engine->ops->prepare(m->engine->device, p, &m->program, &error), &error);
    for (uint32_t g = 0; g < p->n_kv_groups; g++) {
        kv_layout layout = kv_layout_make(&p->kv_groups[g], m->engine->kv_type, ENGINE_PAGE_TOKENS);
        assert_ok(kv_pool_open(&m->pools[g], &m->engine->arena, &layout, &error), &error);
    }
    assert_ok(prefix_index_open(&m->cache.index, p, m->pools, m->cache.fingerprint, &error), &error);
}

/* `layers`: a bit for each layer that becomes recurrent. */
static inline void recurrent_make(mlxr_model *m, uint32_t layers)
{
    graph *g = m->graph;
    plan *p = &g->plan, old = *p;
    op *ops = region_array(&g->memory, old.n_ops * 2, sizeof *ops);
    assert_non_null(ops);
    recurrent_displace(m);
    p->n_ops = 0;
    uint16_t n_recurrent = 0;
    for (uint32_t i = 0, last = UINT32_MAX; i < old.n_ops; i++) {
        const op *o = &old.ops[i];
        bool mixes = o->kind != OP_EMBED && o->layer < 32 && (layers >> o->layer & 1) && o->layer != last;
        if (mixes) {
            recurrent_replace(g, ops, o, n_recurrent);
            last = o->kind == OP_ADD ? o->layer : last; /* the rest of the layer is its MLP */
            n_recurrent = (uint16_t)(n_recurrent + (o->kind == OP_ADD));
        } else {
            ops[p->n_ops++] = *o;
        }
    }
    p->ops = ops;
    p->kv_groups[p->n_kv_groups++] = (kv_group){.state_width = p->slot_width[SLOT_A]};
    recurrent_regroup(p, ops);
    recurrent_place(m);
}

#endif
