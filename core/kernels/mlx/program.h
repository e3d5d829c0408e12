/*
 * Program: a plan with its weights as MLX arrays, and the graphs of two steps of it: the one under way and the next.
 * Owner: the engine. Lifetime: prepare to release. On the worker's thread only.
 *
 *   mlx_program_open     checks the plan, loads weights
 *   mlx_program_run      walk_build, unless ahead_take has the graph already → submit → while it is computed:
 *                        ahead_build, and as results come: pages_write, logits
 *
 * The next step (ahead.c). Decoding does the same again one position on, and so do the pieces of a long prompt: all
 * that a graph is made of is known before its tokens are, and before the last step's rows are in their pages. So while
 * the device computes, the graph of the step that should follow is built; what was not known then is filled in when the
 * step comes and is that one. Where it is another, the graph is dropped and built anew.
 *
 * Pages stay the host's: a graph reads those of earlier steps through an array over the pool's memory, takes the keys
 * and values of its own rows from the graph itself, and hands them back as results, which the host stores. So MLX never
 * writes into memory that others read, a step that fails leaves nothing behind, and eviction, disk tier and forks see
 * the same pages as with every other backend.
 */
#ifndef MLXR_KERNELS_MLX_PROGRAM_H
#define MLXR_KERNELS_MLX_PROGRAM_H

#include "base/region.h"
#include "kernels/backend.h"
#include "kernels/mlx/adapters.h"
#include "kernels/mlx/bridge_kernel.h"
#include "kernels/mlx/units.h"
#include "kernels/mlx/weight_set.h"

/* What one operation of the plan needs that outlives a step. */
typedef struct op_arrays {
    const mlx_weight *weight;           /* LINEAR */
    mlx_value *vector;                  /* NORM, SCAN: the weight; CONV: [width, n, 1] */
    mlx_value *bias, *sinks;            /* or NULL */
    mlx_value *fade, *step_bias, *skip; /* RECUR: [n_head]; skip or NULL */
    const mlx_stack *stacks[3];         /* EXPERTS: gate or NULL, up, down; HEADS: its matrices */
    mlx_value *stack_biases[3];         /* … [n_expert, n_ff or n_in] or NULL */
    mlx_value *choice_bias, *scales;    /* … [1, n_expert] or NULL */
} op_arrays;

/* A row whose state somebody wants. */
typedef struct state_target {
    uint32_t slice;    /* of the step */
    uint32_t in_batch; /* its place there (walk.h) */
    uint32_t row;      /* of the slice */
} state_target;

/* Keys and values of a step's rows, or states: results that belong into pages. */
typedef struct page_rows {
    const op *o;  /* KV_WRITE, SCAN, CONV, RECUR; NULL: it only has to be computed, for what a kernel stores itself */
    mlx_value *k; /* [n_rows, n_head_kv × head_dim] in the pages' type, F32 where that has blocks; states [n_targets] */
    mlx_value *v; /* NULL: states, or values that are the keys */
    const state_target *targets; /* [n_targets] */
    uint32_t n_targets;
} page_rows;

/* The memory of an array in a graph whose content comes last: tokens' rows, pages of earlier steps. */
typedef struct late_array {
    mlx_value *array;
    const void *from; /* what it must hold when the graph is submitted */
    size_t n_bytes;
} late_array;

/* Rows that the host puts into a graph: of the embedding, or of what the step carries. */
typedef struct late_rows {
    const op *o; /* EMBED, LOAD */
    float *rows; /* [n_rows][width], which a late_array holds */
} late_rows;

/* One step as a graph. */
typedef struct step_graph {
    region memory;
    page_rows *rows; /* [n_rows_max + n_mixers × states that the step keeps] */
    uint32_t n_rows;
    mlx_value *logits; /* or NULL */
    mlx_value *stored; /* [n_rows, plan.carried] of OP_STORE, or NULL */
    late_rows *embeds; /* [n_embeds_max] */
    late_array *late;  /* [n_embeds_max + n_readers × slices] */
    uint32_t n_embeds, n_late;
} step_graph;

/* What became of graphs, for tests. */
typedef struct graph_counts {
    uint64_t n_steps;
    uint64_t n_taken;   /* of them: steps whose graph was there when they came */
    uint64_t n_dropped; /* graphs that no step took */
    double build_s;     /* from a step's beginning until there is a graph to submit, the device idle */
} graph_counts;

struct program {
    const plan *plan;
    bridge_device device;
    bool kernels;              /* our own are used */
    unit_choices choices;      /* which of them, and how */
    kernel_failures *failures; /* of the backend: where a runner runs them; NULL: Metal does */
    region memory;
    weight_set **sets;                /* the backend's list */
    weight_set *weights;              /* the model's, of all its programs */
    op_arrays *ops;                   /* [plan.n_ops] */
    mlx_arena *kept, *step, *results; /* of vectors, of a graph being built, of what a step gives */
    uint32_t n_rows_max, n_embeds_max;
    uint32_t n_mixers; /* operations that have a state */
    adapter_store adapters;
    uint32_t n_readers; /* operations that read pages, each once for a slice at most */
    step_graph now, next;
    step expected;    /* what should follow the last step; n_rows 0: nothing to expect */
    region expecting; /* its arrays */
    bool steady;      /* the last step was of the shape that was expected */
    bool built;       /* `next` is the graph of `expected` */
    bool no_ahead;    /* for comparing */
    graph_counts counts;
};

/* What the backend gives its programs. */
typedef struct program_device {
    bridge_device device;
    bool kernels;
    unit_choices choices;
    kernel_failures *failures;
    weight_set **sets; /* of the models that have programs */
} program_device;

mlxr_status mlx_program_open(program **out, const plan *p, const program_device *device, mlxr_error *error);
void mlx_program_close(program **prog);
mlxr_status mlx_program_run(program *prog, const step *s, mlxr_error *error);

/* Room for what a graph names. False: no memory. */
bool step_graph_begin(step_graph *g, const program *prog, const step *s);
void step_graph_end(step_graph *g);

/* Builds the step's graph in prog->step; what has to be computed goes to the graph's rows and logits. `late`: the
 * step's tokens and the pages of earlier steps are not there yet. */
void walk_build(program *prog, const step *s, step_graph *g, bool late);

/* Is the graph of this step there? Then it becomes prog->now, filled in. Otherwise what is there is dropped. */
bool ahead_take(program *prog, const step *s);
/* Notes what should follow step s, and builds its graph where that has come true before. */
void ahead_build(program *prog, const step *s);
void ahead_drop(program *prog);

/* Stores rows [n_rows] that were computed. */
void pages_write(const page_rows *rows, const step *s, const void *k, const void *v);

#endif
