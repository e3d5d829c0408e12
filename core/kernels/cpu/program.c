/*
 * Making a plan ready for the CPU: checks it, converts small weights to f32, shares RoPE angles, lists the nodes.
 * Owner: the engine. Lifetime: program_open to program_close.
 */
#include "kernels/cpu/program.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "quant/codec.h"

/* A vector tensor as aligned f32 in the program's memory; NULL for none. */
static bool vector_f32(program *prog, const tensor *t, const float **out)
{
    *out = NULL;
    if (!t) {
        return true;
    }
    float *values = region_array(&prog->memory, t->shape[0], sizeof *values);
    if (values) {
        codec_decode(t->type, t->data, values, t->shape[0]);
    }
    *out = values;
    return values != NULL;
}

static bool same_angles(const op_rope *a, const op_rope *b)
{
    return a->n_rot == b->n_rot && a->magnitude == b->magnitude &&
           memcmp(a->inv_freq, b->inv_freq, a->n_rot / 2 * sizeof *a->inv_freq) == 0;
}

/* Layers with equal frequencies share one table of angles a step. */
static void share_angles(program *prog, node *n)
{
    const op_rope *r = &n->o->rope;
    for (uint32_t i = 0; i < prog->n_rope_tables; i++) {
        if (same_angles(prog->rope_tables[i], r)) {
            n->rope_table = i;
            return;
        }
    }
    n->rope_table = prog->n_rope_tables;
    prog->rope_tables[prog->n_rope_tables++] = r;
    prog->rope_width += r->n_rot;
}

static bool make_node(program *prog, const op *o, bool taken)
{
    node *n = &prog->nodes[prog->n_nodes++];
    *n = (node){.run = program_node_fn(o->kind), .o = o, .taken = taken};
    size_t width = 0;
    bool ok = true;
    if (o->kind == OP_NORM) {
        ok = vector_f32(prog, o->weight, &n->weight) && vector_f32(prog, o->bias, &n->bias);
    } else if (o->kind == OP_LINEAR) {
        ok = vector_f32(prog, o->bias, &n->bias);
        width = prog->plan->slot_width[o->src] * sizeof(float);
    } else if (o->kind == OP_ROPE) {
        share_angles(prog, n);
    }
    prog->thread_width = width > prog->thread_width ? width : prog->thread_width;
    return ok;
}

mlxr_status program_open(program **out, const plan *p, const backend_options *options, mlxr_error *error)
{
    mlxr_status status = program_check(p, error);
    if (status != MLXR_OK) {
        return status;
    }
    program *prog = calloc(1, sizeof *prog);
    if (!prog) {
        return error_nomem(error, "program", sizeof *prog);
    }
    prog->plan = p;
    prog->scalar = options->scalar;
    prog->n_threads = options->n_threads;
    prog->ops = ops_table_scalar();
    prog->nodes = region_array(&prog->memory, p->n_ops, sizeof *prog->nodes);
    prog->rope_tables = region_array(&prog->memory, p->n_ops, sizeof *prog->rope_tables);
    bool ok = prog->nodes && prog->rope_tables, taken = false;
    for (uint32_t i = 0; ok && i < p->n_ops; i++) {
        ok = make_node(prog, &p->ops[i], taken || p->ops[i].kind == OP_TAKE_ROWS);
        taken = taken || p->ops[i].kind == OP_TAKE_ROWS;
    }
    if (!ok) {
        status = error_nomem(error, "program", prog->memory.bytes_used);
        program_close(&prog);
        return status;
    }
    *out = prog;
    return MLXR_OK;
}

void program_close(program **pointer)
{
    program *prog = *pointer;
    if (!prog) {
        return;
    }
    region_close(&prog->memory);
    free(prog->scratch);
    free(prog);
    *pointer = NULL;
}
