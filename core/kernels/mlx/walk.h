/*
 * Walk: a step's graph while it is built.
 * Owner: walk_build. Lifetime: the call; arrays are the step's arena's, the rest is the step's region's.
 */
#ifndef MLXR_KERNELS_MLX_WALK_H
#define MLXR_KERNELS_MLX_WALK_H

#include "kernels/mlx/program.h"
#include "kernels/mlx/values.h"

#define WALK_ANGLES_MAX 8u /* tables of rotation angles a step keeps; more are made again */
#define WALK_SHAPES_MAX 8u /* likewise of what attentions see */
#define WALK_MASKS_MAX 32u /* likewise of what linear attention multiplies by */
#define WALK_TURNS 9u      /* 1 + log2(KV_TURN_MAX) */

/* What a batch's slices see of their earlier pages in a layer group, with a window and from position `first` on. */
typedef struct batch_view {
    uint16_t kv_group;
    uint32_t window, first;
    bool chunked;
    int32_t n_pages;      /* of each slice, with those of longer ones for padding; 0: nothing was before */
    int32_t skip, n_past; /* positions of the pages that are seen; of one slice exactly, else all */
    uint32_t page_end;    /* above the largest page id */
    mlx_value *pages;     /* [n × n_pages] page id × layers of the group */
    mlx_value *mask;      /* [n, 1, n_rows, n_past + n_rows], or NULL */
    mlx_value *written;   /* [n, 1, n_past, 1] which of the earlier positions there are; NULL: all */
    bool causal;          /* without a mask: a row sees what is before it */
} batch_view;

/* Slices that are attended to together: as many rows each, and about as much before them. Of an encoder they are texts
 * of about one length, shortest first, padded to the longest. */
typedef struct batch {
    const step_slice **slices; /* [n] */
    int32_t n, n_rows;
    mlx_value *rows; /* [n × n_rows] their rows in the step, padding included; NULL: these are all, in order */
    batch_view views[WALK_SHAPES_MAX];
    uint32_t n_views;
} batch;

typedef struct rope_table {
    const op_rope *rope;
    mlx_value *cosines, *sines; /* [n_rows, 1, n_rot / 2] */
} rope_table;

/* An operand of OP_ROPE and what came of it, for kernels that turn on their own. */
typedef struct turned_slot {
    const op_rope *rope;
    const mlx_value *from, *to;
} turned_slot;

/* Keys and values of the step's rows in a layer, as the pages keep them, in F32; the same where values are the keys. */
typedef struct layer_keys {
    mlx_value *keys, *values; /* NULL: of a layer further on */
} layer_keys;

/* A matrix that linear attention needs, of n rows. */
typedef struct walk_mask {
    int32_t n, kind;
    mlx_value *mask;
} walk_mask;

struct walk {
    program *prog;
    const step *s;
    step_graph *g;
    region *memory; /* the graph's */
    bool late;      /* the step's tokens and earlier pages come last */
    mlx_arena *a;
    mlx_value *slots[SLOT_COUNT]; /* [n_rows, width] */
    bool taken;
    rope_table angles[WALK_ANGLES_MAX];
    uint32_t n_angles;
    batch *batches; /* [n_batches] */
    uint32_t n_batches;
    mlx_value *positions; /* [n_rows], for kernels */
    turned_slot turned[SLOT_COUNT];
    mlx_value *order; /* [n_rows] where the batches' rows, one after the other, belong; NULL: where they are */
    layer_keys *keys[KV_GROUPS_MAX]; /* [n_layers] of the group; NULL: of none yet */
    mlx_value *pools[KV_GROUPS_MAX]; /* the pages of a group that this step reads, [pages × layers, 2, …] */
    uint32_t pool_pages[KV_GROUPS_MAX];
    mlx_value *hadamard[WALK_TURNS]; /* [2^i, 2^i] of ±1, when rows of pages are turned so many elements at a time */
    walk_adapter *adapters;          /* [n_adapters] of all sequences in the step */
    uint32_t n_adapters;
    walk_mask masks[WALK_MASKS_MAX];
    uint32_t n_masks;
};

/* Groups the slices. */
void batches_make(walk *w);
/* What a batch sees; made once a step. NULL: no memory, and the arena has failed. */
const batch_view *batch_view_of(walk *w, batch *b, const op_attend *attend);

/* Rows [n_rows][width] that OP_EMBED or OP_LOAD gives: of the embedding by the step's tokens, or what it carries; or
 * what OP_ADAPT adds to the first. */
void walk_host_rows(const op *o, const step *s, float *rows);
/* Notes that the array will hold what `from` does when the graph is submitted. */
void walk_late(walk *w, mlx_value *array, const void *from, size_t n_bytes);

/* OP_KV_WRITE: rounds keys and values as the pages' type does, notes them as results. */
void walk_keep_keys(walk *w, const op *o);
/* The pages of a group up to page_end, as [pages × layers, 2, n_head_kv, page_tokens, row], 1 in the place of 2 where
 * values are the keys; states as [pages × layers, state_width]. */
mlx_value *walk_pool(walk *w, uint16_t group, uint32_t page_end);
/* Can walk_picks make an OP_PICK? */
bool walk_can_pick(const op *o);
/* … or an OP_HEADS out of rows of src_width elements into rows of dst_width? */
bool walk_can_heads(const op_heads *x, uint32_t src_width, uint32_t dst_width);
/* Is there a graph for an operation that reads rows of so many elements? */
bool walk_has_graph(const op *o, uint32_t src_width);
/* The OP_PICK at o and, of the n_ops from there on, those that fill the same slot. Returns how many. */
uint32_t walk_picks(walk *w, const op *o, uint32_t n_ops);
/* OP_HEADS */
mlx_value *walk_heads(walk *w, const op *o, const op_arrays *arrays);
/* OP_EXPERTS */
mlx_value *walk_experts(walk *w, const op *o, const op_arrays *arrays);
/* activation(gate) ∘ up; up NULL: activation(gate) */
mlx_value *walk_gate(walk *w, activation act, mlx_value *gate, mlx_value *up);
/* OP_ATTEND */
mlx_value *walk_attend(walk *w, const op *o, const op_arrays *arrays);

/* ---- pages.c's formats, on the device ---- */

/* x [n, head_dim] → what a page of this type would give back, F32; turned where the type's rows are. */
mlx_value *kv_values_round(walk *w, dtype type, uint32_t head_dim, mlx_value *x);
/* Rows of pages [..., row_bytes or elements] → [..., head_dim] F32, as stored: turned. */
mlx_value *kv_values_decode(walk *w, const kv_layout *l, mlx_value *rows, int32_t n_rows);
/* x [..., head_dim], all of them rows, by the Hadamard matrix; as it is where the type's rows are not turned. */
mlx_value *kv_values_turn(walk *w, dtype type, uint32_t head_dim, mlx_value *x, float factor);

#endif
