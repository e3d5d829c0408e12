/*
 * Program: a plan made ready for the CPU. A flat list of nodes that the thread team walks together, with a barrier
 * after each; a node is one operation of the plan, or several fused ones.
 * Owner: the engine (through backend_ops.prepare and release). Lifetime: inside the plan's and the backend's.
 */
#ifndef MLXR_KERNELS_CPU_PROGRAM_H
#define MLXR_KERNELS_CPU_PROGRAM_H

#include "base/region.h"
#include "base/team.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/ops.h"

/* More rows than this are run as several passes, which bounds the scratch memory. */
#define PROGRAM_ROWS_MAX 512

typedef struct node node;
typedef struct exec exec;
typedef void (*node_fn)(const exec *e, const node *n, const team_member *member);

struct node {
    node_fn run;
    const op *o;
    bool taken;          /* runs on the wanted rows */
    uint32_t rope_table; /* which of program.rope_tables */
    const float *weight; /* NORM: as f32 */
    const float *bias;   /* NORM, LINEAR: as f32, aligned; or NULL */
};

/* A matrix of f32: row r begins at data + r × stride. */
typedef struct slot_view {
    float *data;
    size_t stride;
} slot_view;

struct program {
    const plan *plan;
    ops_table ops;
    bool scalar;
    uint32_t n_threads;
    region memory;
    node *nodes; /* [n_nodes] */
    uint32_t n_nodes;
    const op_rope **rope_tables; /* [n_rope_tables] operations whose angles differ */
    uint32_t n_rope_tables;
    uint32_t rope_width; /* floats a row of all tables together */
    size_t thread_width; /* bytes of private scratch a thread needs, apart from attention's */
    /* Scratch, grown on demand, bounded by PROGRAM_ROWS_MAX rows. */
    void *scratch;
    size_t scratch_bytes;
};

/* One pass over the program: a step, or a part of it of at most PROGRAM_ROWS_MAX rows. */
struct exec {
    const program *prog;
    step s; /* rows, slices and wanted rows of this pass */
    slot_view slots[SLOT_COUNT];
    float *rope;      /* [n_rows][rope_width]: cosines then sines, table after table */
    uint8_t *private; /* [n_threads][private_stride] */
    size_t private_stride;
};

/* Refuses plans that are not well-formed, in words. */
mlxr_status program_check(const plan *p, mlxr_error *error);
mlxr_status program_open(program **out, const plan *p, const backend_options *options, mlxr_error *error);
void program_close(program **prog);
mlxr_status program_run(program *prog, team *t, const step *s, mlxr_error *error);

/* The node function of an operation run by itself. */
node_fn program_node_fn(op_kind kind);
/* Private scratch bytes attention needs for positions below n_positions. */
size_t program_attend_scratch(const program *prog, uint32_t n_positions);
/* Angles of all tables for all rows of the pass; the first thing run. */
void program_rope_angles(const exec *e, const team_member *member);

static inline uint32_t exec_rows(const exec *e, const node *n)
{
    return n->taken ? e->s.n_wanted : e->s.n_rows;
}

static inline float *exec_row(const exec *e, slot s, uint32_t row)
{
    return e->slots[s].data + row * e->slots[s].stride;
}

static inline uint8_t *exec_private(const exec *e, const team_member *member)
{
    return e->private + member->index * e->private_stride;
}

#endif
