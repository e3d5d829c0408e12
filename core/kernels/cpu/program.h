/*
 * Program: a plan made ready for the CPU. A flat list of nodes that the thread team walks together, with a barrier
 * after each. A node is a fused run of the plan's operations:
 *
 *     NODE_ROWS     row-wise operations (norm, RoPE, KV write, additions, …), rows shared out
 *     NODE_LINEAR   [row-wise operations →] packed input → up to four matrices [→ gated | + residual],
 *                   weight rows shared out
 *     NODE_ATTEND   attention, tasks shared out
 *     NODE_SCAN     a recurrent sum, channels shared out
 *     NODE_CONV     a short convolution, likewise
 *     NODE_RECUR    linear attention with a state, heads shared out
 *     NODE_HEADS    a matrix for each head: heads and rows shared out
 *     NODE_EXPERTS  a mixture: rows grouped by expert, pieces of experts shared out (experts.h)
 *     NODE_ADAPT    what adapters add to a product: rows shared out, or columns where rows are few
 *     NODE_TAKE     wanted rows gathered
 *
 * A Llama layer is NODE_LINEAR (norm, q k v), NODE_ROWS (RoPE, KV write), NODE_ATTEND, NODE_LINEAR (o, + residual),
 * NODE_LINEAR (norm, gate up, gated), NODE_LINEAR (down, + residual). The scalar oracle has a node for each operation.
 *
 * Owner: the engine (through backend_ops.prepare and release). Lifetime: inside the plan's and the backend's.
 */
#ifndef MLXR_KERNELS_CPU_PROGRAM_H
#define MLXR_KERNELS_CPU_PROGRAM_H

#include <stdatomic.h>

#include "base/region.h"
#include "base/team.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/coarse.h"
#include "kernels/cpu/experts.h"
#include "kernels/cpu/halves.h"
#include "kernels/cpu/laid.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/quantize_act.h"
#include "kernels/cpu/screen_copy.h"
#include "kernels/cpu/screen_few.h"

#define PROGRAM_ROWS_MAX 512    /* more rows than this are run as several passes, which bounds the scratch memory */
#define PROGRAM_ROWS_LEAST 128  /* of a pass; fewer would cost speed */
#define PROGRAM_SCRATCH_PART 16 /* of the weights: what the rows of a pass may take */
#define PROGRAM_PRODUCTS_MAX 4  /* matrices that share one packed input */
#define SCREEN_CHUNK 512u       /* weight rows whose logits are screened while they are in cache */
#define HEADS_ROWS 64           /* that a thread multiplies with a head's matrix at a time: their inputs stay in L2 */

typedef enum node_kind {
    NODE_ROWS,
    NODE_LINEAR,
    NODE_ATTEND,
    NODE_SCAN,
    NODE_CONV,
    NODE_RECUR,
    NODE_HEADS,
    NODE_EXPERTS,
    NODE_ADAPT,
    NODE_TAKE,
    NODE_KIND_COUNT
} node_kind;

/* A row-wise operation, with its small weights as aligned f32. */
typedef struct row_op {
    const op *o;
    const float *weight, *bias; /* NORM; or NULL */
    uint32_t rope_offset;       /* ROPE: where in a row of angles its table lies */
} row_op;

typedef struct product {
    linear_weight weight;
    const float *bias; /* [n_out] or NULL */
    slot dst;
    bool add;         /* joins what is in dst */
    const void *rows; /* the matrix as its tensor has it, whatever the weight is read from */
} product;

/* What is known of the matrix of logits, in screen.c. */
typedef struct screen screen;

typedef struct node {
    node_kind kind;
    uint16_t layer;
    bool taken;        /* runs on the wanted rows */
    uint32_t first_op; /* of the plan, for messages */
    const char *label; /* for profiles: "norm+q+k+v" */
    row_op *rows;      /* [n_rows] in order */
    uint32_t n_rows;
    /* NODE_LINEAR */
    slot source;
    product products[PROGRAM_PRODUCTS_MAX];
    uint32_t n_products;
    bool gated; /* products 0 (gate) and 1 (up) end as activation(gate) ∘ up in product 0's slot */
    activation act;
    const linear_kernels *kernels; /* the program's `linear` or `rounded` */
    bool pure; /* the rows part is at most a norm whose result nothing else reads: any thread may repeat it */
    /* NODE_ATTEND */
    op_attend attend;
    uint32_t work; /* which of exec.works */
    /* NODE_SCAN, NODE_CONV, NODE_RECUR */
    const op *mixer;
    const float *decay; /* SCAN: [width]; CONV: [n][width], of the oldest row first */
    const float *bias;  /* CONV: [width] or NULL */
    const op *heads;    /* NODE_HEADS */
    const op *experts;  /* NODE_EXPERTS; with `kernels` */
    const op *adapt;    /* NODE_ADAPT */
    slot taken_slot;    /* NODE_TAKE */
} node;

/* A matrix of f32: row r begins at data + r × stride. */
typedef struct slot_view {
    float *data;
    size_t stride;
} slot_view;

#define PROGRAM_SHAPES_MAX 8

/* Memory that grows; all zero at first, and what nobody writes to never becomes resident. */
typedef struct program_block {
    void *memory, *data; /* from calloc; in it, at a cache line */
    size_t n_bytes;
} program_block;

struct program {
    const plan *plan;
    ops_table ops;
    linear_kernels linear;
    halves_kernels halves;
    coarse_kernels coarse;
    linear_kernels rounded; /* of inputs that are rounded to 8 bits; equal to `linear` where nobody asked for that */
    bool scalar;
    uint32_t n_threads;
    region memory;
    node *nodes; /* [n_nodes] */
    uint32_t n_nodes;
    const op_rope **rope_tables; /* [n_rope_tables] operations whose angles differ */
    uint32_t n_rope_tables;
    uint32_t rope_width;                  /* floats a row of all tables together */
    op_attend shapes[PROGRAM_SHAPES_MAX]; /* [n_shapes] attentions that are cut into tasks differently */
    uint32_t n_shapes;
    bool attends_taken;                      /* some attend for the wanted rows alone */
    uint64_t heads_bytes;                    /* packed inputs of a thread for any NODE_HEADS */
    uint32_t recur_floats;                   /* what a thread needs for a head of any NODE_RECUR */
    uint32_t widest_in, widest_row;          /* of any product's input; of any slot that a rows part writes */
    uint32_t packed_in[LINEAR_FORMAT_COUNT]; /* widest input packed to each format; 0: none */
    bool packed_many[LINEAR_FORMAT_COUNT];   /* more than LINEAR_FEW tokens at a time */
    experts_size experts;                    /* the largest of each kind */
    uint32_t rows_max;                       /* of a pass */
    uint64_t row_bytes;                      /* of scratch that each of them takes */
    screen *screen;                          /* NULL: logits of many rows are always computed as they are */
    screen_few *few;                         /* the same of few rows */
    screen_copy *copy;                       /* and of many, by a copy; never beside `few` */
    laid_weights *laid;                      /* NULL: there is nothing to lay */
    /* Scratch, grown on demand, bounded by rows_max rows. */
    program_block scratch, cut;
};

/* Page ids of a recurrent group that stand for memory of the program: the states between two passes over one sequence,
 * of this pass and the one before it by turns. */
#define PROGRAM_CARRY (KV_PAGE_NONE - 2)

/* One pass over the program: a step, or a part of it of at most rows_max rows. */
struct exec {
    const program *prog;
    step s; /* rows, slices and wanted rows of this pass */
    slot_view slots[SLOT_COUNT];
    float *rope;                       /* [n_rows][rope_width]: cosines then sines, table after table */
    void *packed[LINEAR_FORMAT_COUNT]; /* inputs packed by the team */
    uint8_t *private;                  /* [n_threads][private_stride] */
    size_t private_stride;
    size_t private_packed[LINEAR_FORMAT_COUNT], private_row, private_heads,
        private_strip; /* offsets within: inputs packed by a thread for itself; a row; a head's inputs;
                        * what few_rows needs */
    step taken;        /* the wanted rows as slices of their own; where all rows are wanted the pass itself */
    attend_work works[PROGRAM_SHAPES_MAX], taken_works[PROGRAM_SHAPES_MAX];
    experts_work experts;
    float *partials;
    bool screens;           /* logits are screened (screen.c) */
    uint32_t learns;        /* weight rows of logits whose lengths this pass learns */
    uint8_t *screen_memory; /* [program_screen_bytes] */
    copy_pass copy;
    uint8_t *copy_memory; /* [copy_bytes] */
    few_pass few;
    uint8_t *few_memory;               /* [few_bytes] */
    uint32_t lays;                     /* matrices that it lays */
    uint32_t pass;                     /* its number, from 0 */
    uint8_t *carry[2];                 /* states; NULL: the step is one pass */
    size_t carry_first[KV_GROUPS_MAX]; /* where each group's begin in them */
    _Atomic uint32_t *counters;        /* [n_nodes + 1][2] chunks given out; 16 apart, a cache line each */
};

/* Output columns of a node's products in pieces that members take in turn. */
typedef struct pieces {
    uint32_t total; /* columns */
    uint32_t grain; /* every piece but the last is a multiple of it */
    uint32_t grains, n;
} pieces;

mlxr_status program_open(program **out, const plan *p, const backend_options *options, mlxr_error *error);
void program_close(program **prog);
mlxr_status program_run(program *prog, team *t, const step *s, mlxr_error *error);

/* Fills prog->nodes from its plan; false: out of memory. */
bool program_build(program *prog);

/* Gives the node a label that tells its operations. False: no memory. */
bool program_label(program *prog, node *n, const op *ops, uint32_t n_ops);

/* Layers at the start whose inputs are not rounded: they give a text's first tokens the huge values that attention
 * falls back on. What comes before them (Gemma 4's inputs of layers) is not rounded either. */
#define PROGRAM_EXACT_LAYERS 2u

/* The kernels for an operation's products: those of no layer and of the first layers, and logits, are not rounded. */
static inline const linear_kernels *program_kernels(const program *prog, const op *o)
{
    bool exact = o->layer < PROGRAM_EXACT_LAYERS || o->layer == STEP_NO_LAYER || o->dst == SLOT_LOGITS;
    return exact ? &prog->linear : &prog->rounded;
}

/* Parts of a walk, called by every member. */
void program_rope_angles(const exec *e, const team_member *member);
/* False: it had nothing to do for anyone, and needs no barrier. */
bool program_run_node(const exec *e, uint32_t index, const team_member *member);

/* NODE_SCAN, NODE_CONV and NODE_RECUR, in mixers.c */
void program_run_mixer(const exec *e, const node *n, const team_member *member);
uint32_t program_recur_floats(const op_recur *r);

/* A node's rows part for its rows [begin, end). */
void program_rows_part(const exec *e, const node *n, uint32_t begin, uint32_t end);

/* How a node's output columns are shared out in this pass, and where piece i ≤ n begins. */
pieces program_pieces(const exec *e, const node *n, uint32_t n_threads);
uint32_t pieces_begin(const pieces *p, uint32_t i);
/* What the member will probably multiply behind piece i of a NODE_LINEAR. */
linear_soon program_soon(const exec *e, uint32_t index, uint32_t i, const team_member *member);
/* A NODE_LINEAR whose rows part has run. */
void program_run_made(const exec *e, uint32_t index, const team_member *member);

/* Logits of which only the greatest of each row is wanted, in screen.c. False: out of memory. */
bool program_screen_make(program *prog);
/* Sets e->screens and e->learns for the pass; called once for each, by one thread. */
void program_screen_choose(exec *e);
uint64_t program_screen_bytes(const exec *e);
/* The program's last node, if e->screens. */
void program_run_screen(const exec *e, uint32_t index, const team_member *member);
/* The lengths of the next e->learns rows of weights. */
void program_screen_learn(const exec *e, const team_member *member);
/* Behind the pass, by one thread: what it learned and whether it paid. */
void program_screen_done(const exec *e);

/* What the integers of a packed input's block b stand for. */
void program_read_block(linear_format format, const q16_place *at, uint32_t b, double out[Q16_BLOCK]);

/* Passes so far: screened, those of them whose logits were computed whole after all, and others that were not even
 * tried because such ones came before. */
typedef struct screen_counts {
    uint64_t n_screened, n_whole, n_paused;
} screen_counts;

screen_counts program_screen_counts(const program *prog);

/* The length of a row of weights, rounded up; +infinity: it has one that is no number. `decoded` is room for n_in. */
float program_screen_length(const linear_weight *w, uint32_t row, float *decoded);
/* |row's logit of the rounded input (LINEAR_Q8) − that of the exact one (LINEAR_Q16, one token)| is at most this × its
 * weight row's length, of which `most` is the greatest. NaN: not known. */
float program_screen_reach(const linear_input *rounded, uint32_t row, const linear_input *exact, float most);

/* NODE_HEADS, in heads.c */
void program_run_heads(const exec *e, uint32_t index, const team_member *member);
uint64_t program_heads_bytes(const op_heads *x, const linear_kernels *kernels);

/* NODE_EXPERTS, in experts.c */
void program_run_experts(const exec *e, uint32_t index, const team_member *member);

static inline uint32_t exec_rows(const exec *e, const node *n)
{
    return n->taken ? e->s.n_wanted : e->s.n_rows;
}

/* The row of the pass that is a node's row. */
static inline uint32_t exec_whole_row(const exec *e, const node *n, uint32_t row)
{
    return n->taken ? e->s.wanted[row] : row;
}

static inline float *exec_row(const exec *e, slot s, uint32_t row)
{
    return e->slots[s].data + row * e->slots[s].stride;
}

/* The slice a row of the pass belongs to; rows are asked for in rising order, so the search starts where the last one
 * ended. */
static inline const step_slice *exec_slice(const exec *e, uint32_t row, uint32_t *hint)
{
    while (row >= e->s.slices[*hint].first_row + e->s.slices[*hint].n_rows) {
        (*hint)++;
    }
    return &e->s.slices[*hint];
}

static inline uint8_t *exec_private(const exec *e, const team_member *member)
{
    return e->private + member->index * e->private_stride;
}

/* The next piece of work of a node's phase 0 or 1. */
static inline uint32_t exec_next(const exec *e, uint32_t node_index, uint32_t phase)
{
    return atomic_fetch_add_explicit(&e->counters[(node_index * 2 + phase) * 16], 1, memory_order_relaxed);
}

#endif
