/*
 * Opening and closing programs.
 * Owner: the engine. Lifetime: program_open to program_close.
 */
#include "kernels/cpu/program.h"
#include "kernels/plan_check.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static mlxr_status no_product(const tensor *t, mlxr_error *error)
{
    return error_set(error, MLXR_UNSUPPORTED, "tensor %s: the CPU backend has no product with %s weights",
                     t->name ? t->name : "?", dtype_name(t->type));
}

/* What the plan is sound in but this device cannot do. */
static mlxr_status check_supported(const program *prog, mlxr_error *error)
{
    const plan *p = prog->plan;
    op_attend shapes[PROGRAM_SHAPES_MAX];
    uint32_t n_shapes = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        if (o->kind == OP_LINEAR && !prog->linear.rows[o->weight->type]) {
            return no_product(o->weight, error);
        }
        for (uint32_t h = 0; o->kind == OP_HEADS && h < o->heads->n_heads; h++) {
            const tensor *t = &o->heads->weights[h];
            if (!prog->linear.rows[t->type]) {
                return no_product(t, error);
            }
        }
        for (uint32_t x = 0; o->kind == OP_EXPERTS && x < o->experts->n_expert; x++) {
            const tensor *three[] = {&o->experts->up[x], &o->experts->down[x],
                                     o->experts->gate ? &o->experts->gate[x] : NULL};
            for (uint32_t j = 0; j < 3; j++) {
                if (three[j] && !prog->linear.rows[three[j]->type]) {
                    return no_product(three[j], error);
                }
            }
        }
        uint32_t s = 0;
        while (o->kind == OP_ATTEND && s < n_shapes &&
               (shapes[s].n_head != o->attend.n_head || shapes[s].n_head_kv != o->attend.n_head_kv ||
                shapes[s].head_dim != o->attend.head_dim || shapes[s].window != o->attend.window ||
                shapes[s].chunked != o->attend.chunked || shapes[s].first != o->attend.first)) {
            s++;
        }
        if (o->kind == OP_ATTEND && s == n_shapes) {
            if (n_shapes == PROGRAM_SHAPES_MAX) {
                return error_set(error, MLXR_UNSUPPORTED, "the layers have more than %d kinds of attention",
                                 PROGRAM_SHAPES_MAX);
            }
            shapes[n_shapes++] = o->attend;
        }
    }
    return MLXR_OK;
}

/* Rows of a pass: scratch shall be a small part of the model, yet a pass long enough for the matrix kernels. A row of
 * scratch is one of every slot and packed input; what screening logits takes has a bound of its own (screen.c). */
static uint32_t choose_rows(program *prog)
{
    const plan *p = prog->plan;
    uint64_t weight_bytes = 0, row_bytes = 1;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        weight_bytes += o->kind == OP_EXPERTS ? (o->experts->gate ? 3 : 2) * (uint64_t)o->experts->n_expert *
                                                    o->experts->up->row_bytes * o->experts->n_ff
                                              : 0;
        weight_bytes += o->kind == OP_HEADS
                            ? (uint64_t)o->heads->n_heads * o->heads->weights->row_bytes * o->heads->n_out
                            : 0;
        weight_bytes += o->kind == OP_LINEAR ? (uint64_t)o->weight->row_bytes * o->weight->shape[1] : 0;
    }
    for (uint32_t i = 1; i < SLOT_COUNT; i++) {
        row_bytes += i != SLOT_LOGITS ? p->slot_width[i] * sizeof(float) : 0;
    }
    row_bytes += experts_row_bytes(&prog->experts);
    for (uint32_t f = LINEAR_F32 + 1; f < LINEAR_FORMAT_COUNT; f++) {
        row_bytes += prog->packed_in[f] ? linear_input_bytes((linear_format)f, 1, prog->packed_in[f]) : 0;
    }
    prog->row_bytes = row_bytes;
    uint64_t rows = weight_bytes / PROGRAM_SCRATCH_PART / row_bytes & ~(uint64_t)63;
    return rows < PROGRAM_ROWS_LEAST ? PROGRAM_ROWS_LEAST : rows > PROGRAM_ROWS_MAX ? PROGRAM_ROWS_MAX : (uint32_t)rows;
}

/* Are all matrices' rows as long as linear_use_words wants them? */
static bool whole_blocks(const plan *p)
{
    uint64_t rest = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        rest |= o->kind == OP_LINEAR    ? o->weight->shape[0] % 32
                : o->kind == OP_EXPERTS ? o->experts->n_in % 32 | o->experts->n_ff % 32
                : o->kind == OP_HEADS   ? o->heads->n_in % 32
                                        : 0;
    }
    return rest == 0;
}

mlxr_status program_open(program **out, const plan *p, const backend_options *options, mlxr_error *error)
{
    mlxr_status status = plan_check(p, error);
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
    prog->ops = options->scalar ? ops_table_scalar() : ops_table_make(options->features);
    linear_init(&prog->linear, options->scalar ? 0 : options->features);
    if (!(options->features & CPU_LAID)) {
        prog->linear.lay = NULL;
    }
    prog->halves = halves_kernels_for(options->scalar ? 0 : options->features);
    prog->coarse = coarse_kernels_for(options->scalar ? 0 : options->features);
    if (p->both_ways && whole_blocks(p)) {
        linear_use_words(&prog->linear);
    }
    prog->rounded = prog->linear;
    if (options->activation_bits == 8) {
        linear_round(&prog->rounded);
    }
    status = check_supported(prog, error);
    if (status == MLXR_OK && !program_build(prog)) {
        status = error_nomem(error, "program", prog->memory.bytes_used);
    }
    if (status != MLXR_OK) {
        program_close(&prog);
        return status;
    }
    prog->rows_max = choose_rows(prog);
    *out = prog;
    return MLXR_OK;
}

void program_close(program **pointer)
{
    program *prog = *pointer;
    if (!prog) {
        return;
    }
    few_close(prog);
    copy_close(prog);
    laid_close(prog);
    region_close(&prog->memory);
    free(prog->scratch.memory);
    free(prog->cut.memory);
    free(prog);
    *pointer = NULL;
}
