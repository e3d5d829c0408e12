/*
 * Products with a matrix for each head: heads, rows and columns are shared out among the team in pieces.
 * Owner: none. Lifetime: the pass.
 */
#include "kernels/cpu/program.h"

#define PIECES_A_THREAD 4u /* or more */

uint64_t program_heads_bytes(const op_heads *x, const linear_kernels *kernels)
{
    uint64_t most = 0;
    for (uint32_t h = 0; h < x->n_heads; h++) {
        const linear_format formats[] = {kernels->few[x->weights[h].type], kernels->many[x->weights[h].type]};
        for (uint32_t i = 0; i < 2; i++) {
            uint64_t n_bytes = linear_input_bytes(formats[i], HEADS_ROWS, x->n_in);
            most = n_bytes > most ? n_bytes : most;
        }
    }
    return most;
}

/* Rows [first, first + n) of one head's input in the format that its matrix reads. */
static linear_input input_of(const exec *e, const op *o, uint32_t head, uint32_t first, uint32_t n, void *packed)
{
    const op_heads *x = o->heads;
    const linear_kernels *k = &e->prog->linear;
    const float *src = exec_row(e, o->src, first) + x->from + (size_t)head * x->from_apart;
    size_t stride = e->slots[o->src].stride;
    linear_format format = linear_format_for(k, x->weights[head].type, n);
    if (format == LINEAR_F32) {
        return linear_input_wrap(src, stride, n, x->n_in);
    }
    linear_input in = linear_input_make(format, n, x->n_in, packed);
    linear_pack_rows(k, &in, 0, n, src, stride);
    return in;
}

/* What the matrices meet; the one that these were made of, too. */
static void show_inputs(const exec *e, const node *n, const team_member *member)
{
    const step_observer *seen = e->s.observer;
    const op *o = n->heads;
    const op_heads *x = o->heads;
    observed_rows rows = {.stride = e->slots[o->src].stride, .n = exec_rows(e, n)};
    for (uint32_t h = 0; h < x->n_heads; h++) {
        rows.data = exec_row(e, o->src, 0) + x->from + (size_t)h * x->from_apart;
        seen->see(seen->user, x->weights[h].data, x->n_in, &rows, member->index, member->n_threads);
    }
    if (x->whole) {
        rows.data = exec_row(e, x->whole_src, 0);
        rows.stride = e->slots[x->whole_src].stride;
        seen->see(seen->user, x->whole->data, (uint32_t)x->whole->shape[0], &rows, member->index, member->n_threads);
    }
}

void program_run_heads(const exec *e, uint32_t index, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    const op *o = n->heads;
    const op_heads *x = o->heads;
    uint32_t rows = exec_rows(e, n), n_chunks = (rows + HEADS_ROWS - 1) / HEADS_ROWS;
    uint32_t n_jobs = x->n_heads * n_chunks, grains = (x->n_out + LINEAR_ROW_GRAIN - 1) / LINEAR_ROW_GRAIN;
    uint32_t n_pieces = (PIECES_A_THREAD * member->n_threads + n_jobs - 1) / n_jobs;
    n_pieces = n_pieces < grains ? n_pieces : grains;
    uint32_t piece = (grains + n_pieces - 1) / n_pieces * LINEAR_ROW_GRAIN;
    n_pieces = (x->n_out + piece - 1) / piece;
    uint8_t *private = exec_private(e, member);
    if (e->s.observer) {
        show_inputs(e, n, member);
    }
    for (uint32_t i = exec_next(e, index, 0); i < n_jobs * n_pieces; i = exec_next(e, index, 0)) {
        uint32_t job = i / n_pieces, head = job / n_chunks, first = job % n_chunks * HEADS_ROWS;
        uint32_t n_rows = rows - first < HEADS_ROWS ? rows - first : HEADS_ROWS;
        uint32_t begin = i % n_pieces * piece, end = x->n_out - begin < piece ? x->n_out : begin + piece;
        linear_input in = input_of(e, o, head, first, n_rows, private + e->private_heads);
        linear_weight weight = linear_weight_of(&x->weights[head]);
        linear_output out = {.dst = exec_row(e, o->dst, first) + x->to + (size_t)head * x->to_apart,
                             .stride = e->slots[o->dst].stride};
        linear_rows(&e->prog->linear, &weight, &in, &out, begin, end, private);
    }
}
