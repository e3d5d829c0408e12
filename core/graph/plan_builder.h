/*
 * Building plans: what each part writes for the others.
 * Owner: graph_build. Lifetime: the call; what is made lies in the graph's region.
 */
#ifndef MLXR_GRAPH_PLAN_BUILDER_H
#define MLXR_GRAPH_PLAN_BUILDER_H

#include "graph/graph.h"

typedef struct builder {
    graph *g;
    op *ops;
    uint32_t n_ops;
    uint16_t layer;
    op_rope rope_full, rope_local; /* head_dim, n_rot, frequencies */
    op_rope rope_still;            /* of queries that are not turned, but sharpened: of frequency 0 */
    uint16_t group_full, group_window, group_mixer, group_ahead;
    uint16_t n_full, n_window, n_mixer; /* layers placed in each group so far */
    uint32_t width[SLOT_COUNT];         /* of what the next operation leaves in each slot */
    bool ahead;                         /* with the head that predicts ahead */
    bool no_memory;
} builder;

/* ---- plan_layers.c: what all layers are made of, and the layers ---- */

op *plan_add(builder *b, op_kind kind, slot dst, slot src);
/* `width`: elements a group. */
void plan_add_norm(builder *b, slot dst, slot src, const tensor *weight, const tensor *bias, uint32_t width);
void plan_add_linear(builder *b, slot dst, slot src, const tensor *weight, const tensor *bias);
/* A slot × factor, if it is no 1. */
void plan_add_times(builder *b, slot s, float factor);
/* A block's output joins X, behind a norm of its own where the family has one. */
void plan_add_residual(builder *b, const tensor *post_norm);
/* The same where the norm is X's, which the last one hands out. */
void plan_add_normed_residual(builder *b, const tensor *norm, const tensor *bias, bool last);
/* What a block reads: X, or the norm of it. */
slot plan_add_input(builder *b, const tensor *weight, const tensor *bias);
/* The widths that a layer's heads have. */
void plan_set_layer_widths(builder *b, uint32_t layer);
/* N through the output matrix, scaled and capped as the model has it. */
void plan_add_logits(builder *b, const tensor *output);
/* All of a model's layers, one behind the other. */
void plan_add_layers(builder *b, bool turns);

/* ---- plan_attention.c ---- */

void plan_add_pick(builder *b, slot dst, slot src, op_pick pick);
/* A layer's attention, behind which X has it; its keys and values alone, of a layer that is the next of its group. */
void plan_add_attention(builder *b, const layer_weights *w, uint32_t layer);
void plan_add_keys_alone(builder *b, slot in, const layer_weights *w, uint32_t layer);

/* ---- plan_mixers.c, plan_mlp.c ---- */

void plan_add_mixer(builder *b, const layer_weights *w, bool turns);
void plan_add_mlp(builder *b, const layer_weights *w);
/* A small vector as aligned floats; NULL for none, or without memory, which the builder notes. */
const float *plan_copy_vector(builder *b, const tensor *t);

/* ---- plan_slots.c: where its numbers lie ---- */

/* What is cached of a token in a layer with a window, or in one without. */
kv_group plan_kv_of(const hparams *h, bool window);
void plan_set_slots(plan *p, const hparams *h, bool ahead);
void plan_set_groups(builder *b);

/* ---- graph_bytes.c: what a step reads ---- */

/* Of the layers that are bound: one that predicts ahead is used only where it was asked for. */
uint32_t graph_layers_used(const graph *g);
void graph_count_bytes(graph *g, const model_file *file);

/* ---- ahead.c: a head that predicts the token behind the next ---- */

/* Has the model one that can be used? The error says why not. */
mlxr_status ahead_check(const hparams *h, mlxr_error *error);
/* Behind the model's last layer: the keys and values of the head's own, of every row. */
void ahead_add_keys(builder *b);
/* g->ahead_plan, when g->plan is done. */
void ahead_make_plan(builder *b, size_t n_ops_max);

#endif
