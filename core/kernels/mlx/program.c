/*
 * Opening, running and closing programs of the MLX backend.
 * Owner: the engine. Lifetime: mlx_program_open to mlx_program_close.
 */
#include "kernels/mlx/program.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "kernels/mlx/kernels.h"
#include "kernels/plan_check.h"

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static const mlx_weight *weight_of(program *prog, const tensor *t)
{
    bool raw = prog->kernels && kernel_takes_weight(&prog->choices, t);
    return weight_set_get(prog->weights, &prog->device, t, raw);
}

static void load_recur(program *prog, const op_recur *r, op_arrays *arrays)
{
    const int32_t n = (int32_t)r->n_head;
    arrays->fade = bridge_copy(prog->kept, MLX_F32, 1, &n, r->fade);
    arrays->step_bias = bridge_copy(prog->kept, MLX_F32, 1, &n, r->step_bias);
    arrays->skip = r->skip ? bridge_copy(prog->kept, MLX_F32, 1, &n, r->skip) : NULL;
}

static mlx_value *load_matrix(program *prog, const float *values, uint32_t n_rows, uint32_t width)
{
    const int32_t shape[] = {(int32_t)n_rows, (int32_t)width};
    return values ? bridge_copy(prog->kept, MLX_F32, 2, shape, values) : NULL;
}

static bool load_experts(program *prog, const op_experts *x, op_arrays *arrays)
{
    const tensor *const three[] = {x->gate, x->up, x->down};
    bool ok = true;
    arrays->stack_biases[0] = load_matrix(prog, x->gate_bias, x->n_expert, x->n_ff);
    arrays->stack_biases[1] = load_matrix(prog, x->up_bias, x->n_expert, x->n_ff);
    arrays->stack_biases[2] = load_matrix(prog, x->down_bias, x->n_expert, x->n_in);
    arrays->choice_bias = load_matrix(prog, x->choice_bias, 1, x->n_expert);
    arrays->scales = load_matrix(prog, x->expert_scales, 1, x->n_expert);
    for (size_t i = 0; i < 3 && ok; i++) {
        arrays->stacks[i] = three[i] ? weight_set_stack(prog->weights, &prog->device, three[i], x->n_expert) : NULL;
        ok = arrays->stacks[i] || !three[i];
    }
    return ok;
}

static mlxr_status load_op(program *prog, const op *o, op_arrays *arrays, mlxr_error *error)
{
    const int32_t n_head = (int32_t)o->attend.n_head;
    bool ok = true;
    switch (o->kind) {
    case OP_LINEAR:
        arrays->weight = weight_of(prog, o->weight);
        ok = arrays->weight != NULL;
        break;
    case OP_EXPERTS:
        ok = load_experts(prog, o->experts, arrays);
        break;
    case OP_HEADS:
        arrays->stacks[0] = weight_set_stack(prog->weights, &prog->device, o->heads->weights, o->heads->n_heads);
        ok = arrays->stacks[0] != NULL;
        break;
    case OP_NORM:
    case OP_SCAN:
        arrays->vector = o->weight ? mlx_vector_load(prog->kept, o->weight) : NULL;
        ok = arrays->vector || !o->weight;
        break;
    case OP_CONV:
        arrays->vector = mlx_taps_load(prog->kept, o->weight);
        ok = arrays->vector != NULL;
        break;
    case OP_RECUR:
        load_recur(prog, o->recur, arrays);
        break;
    case OP_ATTEND:
        arrays->sinks = o->attend.sinks ? bridge_copy(prog->kept, MLX_F32, 1, &n_head, o->attend.sinks) : NULL;
        break;
    default:
        break;
    }
    if (ok && o->bias) {
        arrays->bias = mlx_vector_load(prog->kept, o->bias);
        ok = arrays->bias != NULL;
    }
    mlxr_status status = bridge_status(prog->kept, error);
    status = status == MLXR_OK ? weight_set_status(prog->weights, error) : status;
    if (status == MLXR_OK && !ok) {
        status = error_nomem(error, "weights for MLX", o->weight ? o->weight->n_bytes : 0);
    }
    return status;
}

/* Has an operation before the i-th written the keys that it reads? */
static bool keys_are_written(const plan *p, uint32_t i)
{
    const op_attend *at = &p->ops[i].attend;
    while (i-- > 0) {
        const op *o = &p->ops[i];
        if (o->kind == OP_KV_WRITE && o->attend.kv_group == at->kv_group && o->attend.kv_layer == at->kv_layer) {
            return true;
        }
    }
    return false;
}

/* MLX counts elements of an axis in 32 bits: of n such matrices, one behind the other. */
static bool fits(const tensor *t, uint64_t n)
{
    uint64_t n_rows = t ? n * t->shape[1] * t->shape[2] * t->shape[3] : 0;
    return !t || (t->shape[0] <= INT32_MAX && n_rows <= INT32_MAX && t->row_bytes <= INT32_MAX);
}

/* The tensor of an operation that is too large for MLX; NULL: none is. */
static const tensor *too_large(const op *o)
{
    const tensor *all[] = {o->weight, NULL, NULL};
    uint64_t n = 1;
    if (o->kind == OP_EXPERTS) {
        all[0] = o->experts->gate;
        all[1] = o->experts->up;
        all[2] = o->experts->down;
        n = o->experts->n_expert;
    } else if (o->kind == OP_HEADS) {
        all[0] = o->heads->weights;
        n = o->heads->n_heads;
    }
    for (size_t i = 0; i < 3; i++) {
        if (!fits(all[i], n)) {
            return all[i];
        }
    }
    return NULL;
}

/* What the backend has no graph for is refused, by name. */
static mlxr_status check_ops(const plan *p, mlxr_error *error)
{
    uint32_t width[SLOT_COUNT] = {0};
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        const tensor *large = too_large(o);
        if (large) {
            return error_set(error, MLXR_UNSUPPORTED, "tensor %s has an axis longer than MLX can count",
                             large->name ? large->name : "?");
        }
        if (!walk_has_graph(o, width[o->src]) || (o->kind == OP_ATTEND && !keys_are_written(p, i))) {
            return error_set(error, MLXR_UNSUPPORTED,
                             "the MLX backend has no graph for this model's '%s' (plan operation %u); the backend cpu "
                             "runs it",
                             plan_kind_name(o->kind), i);
        }
        width[o->dst] = o->kind == OP_KV_WRITE ? width[o->dst] : o->width;
    }
    return MLXR_OK;
}

static mlxr_status load(program *prog, mlxr_error *error)
{
    const plan *p = prog->plan;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        op_kind kind = p->ops[i].kind;
        bool of_tokens = kind == OP_ADAPT && p->ops[i].src == SLOT_NONE;
        bool mixes = kind == OP_SCAN || kind == OP_CONV || kind == OP_RECUR;
        prog->n_rows_max += kind == OP_KV_WRITE;
        prog->n_mixers += mixes;
        prog->n_embeds_max += kind == OP_EMBED || kind == OP_LOAD || of_tokens;
        prog->n_readers += kind == OP_ATTEND || mixes;
    }
    prog->n_rows_max++;
    prog->weights = weight_set_open(prog->sets, p);
    prog->ops = region_array(&prog->memory, p->n_ops, sizeof *prog->ops);
    prog->kept = bridge_arena_open();
    prog->step = bridge_arena_open();
    prog->results = bridge_arena_open();
    if (!prog->weights || !prog->ops || !prog->kept || !prog->step || !prog->results) {
        return error_nomem(error, "MLX program", p->n_ops * sizeof *prog->ops);
    }
    mlxr_status status = MLXR_OK;
    for (uint32_t i = 0; i < p->n_ops && status == MLXR_OK; i++) {
        status = load_op(prog, &p->ops[i], &prog->ops[i], error);
    }
    return status;
}

mlxr_status mlx_program_open(program **out, const plan *p, const program_device *device, mlxr_error *error)
{
    mlxr_status status = plan_check(p, error);
    if (status == MLXR_OK) {
        status = check_ops(p, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    program *prog = calloc(1, sizeof *prog);
    if (!prog) {
        return error_nomem(error, "MLX program", sizeof *prog);
    }
    prog->plan = p;
    prog->device = device->device;
    prog->kernels = device->kernels;
    prog->choices = device->choices;
    prog->failures = device->failures;
    prog->sets = device->sets;
    status = load(prog, error);
    if (status != MLXR_OK) {
        mlx_program_close(&prog);
        return status;
    }
    *out = prog;
    return MLXR_OK;
}

void mlx_program_close(program **pointer)
{
    program *prog = *pointer;
    if (prog) {
        ahead_drop(prog);
        step_graph_end(&prog->now);
        region_close(&prog->expecting);
        bridge_arena_close(&prog->results);
        bridge_arena_close(&prog->step);
        bridge_arena_close(&prog->kept);
        adapter_store_close(&prog->adapters);
        weight_set_close(prog->sets, &prog->weights);
        region_close(&prog->memory);
        free(prog);
        *pointer = NULL;
    }
}

/* The most states that a mixer of the plan keeps in this step. */
static size_t states_kept(const program *prog, const step *s)
{
    size_t most = 0;
    for (uint32_t g = 0; g < prog->plan->n_kv_groups; g++) {
        size_t n = 0;
        for (uint32_t i = 0; prog->plan->kv_groups[g].state_width && i < s->n_slices; i++) {
            for (uint32_t r = 0; r < s->slices[i].n_rows; r++) {
                n += s->slices[i].pages[g][r + 1] != KV_PAGE_NONE;
            }
        }
        most = n > most ? n : most;
    }
    return most;
}

bool step_graph_begin(step_graph *g, const program *prog, const step *s)
{
    size_t n_rows = prog->n_rows_max + prog->n_mixers * states_kept(prog, s);
    size_t n_late = prog->n_embeds_max + (size_t)prog->n_readers * s->n_slices;
    *g = (step_graph){0};
    g->rows = region_array(&g->memory, n_rows, sizeof *g->rows);
    g->embeds = region_array(&g->memory, prog->n_embeds_max, sizeof *g->embeds);
    g->late = region_array(&g->memory, n_late, sizeof *g->late);
    return g->rows && g->embeds && g->late;
}

void step_graph_end(step_graph *g)
{
    region_close(&g->memory);
    *g = (step_graph){0};
}

/* Starts what the graph must give, and drops the graph itself, so that MLX frees what lies between as it goes. */
static mlxr_status submit(program *prog, mlxr_error *error)
{
    step_graph *g = &prog->now;
    const mlx_value **wanted = region_array(&g->memory, 2 * (size_t)g->n_rows + 2, sizeof *wanted);
    size_t n = 0;
    if (!wanted) {
        return error_nomem(error, "results of an MLX step", g->n_rows * sizeof *wanted);
    }
    for (uint32_t i = 0; i < g->n_rows; i++) {
        page_rows *r = &g->rows[i];
        wanted[n++] = r->k = bridge_keep(prog->results, r->k);
        if (r->v) {
            wanted[n++] = r->v = bridge_keep(prog->results, r->v);
        }
    }
    if (g->logits) {
        wanted[n++] = g->logits = bridge_keep(prog->results, g->logits);
    }
    if (g->stored) {
        wanted[n++] = g->stored = bridge_keep(prog->results, g->stored);
    }
    bridge_arena_empty(prog->step);
    bridge_submit(prog->results, wanted, n);
    return bridge_status(prog->results, error);
}

static mlxr_status collect(program *prog, const step *s, mlxr_error *error)
{
    const step_graph *g = &prog->now;
    for (uint32_t i = 0; i < g->n_rows; i++) {
        const page_rows *r = &g->rows[i];
        const void *k = bridge_data(prog->results, r->k), *v = r->v ? bridge_data(prog->results, r->v) : NULL;
        if (!k || (r->v && !v)) {
            break;
        }
        pages_write(r, s, k, v);
    }
    const void *logits = g->logits ? bridge_data(prog->results, g->logits) : NULL;
    if (logits) {
        memcpy(s->logits, logits, (size_t)s->n_wanted * prog->plan->slot_width[SLOT_LOGITS] * sizeof *s->logits);
    }
    const void *stored = g->stored ? bridge_data(prog->results, g->stored) : NULL;
    if (stored) {
        memcpy(s->carried, stored, (size_t)s->n_rows * prog->plan->carried * sizeof *s->carried);
    }
    mlxr_status status = bridge_status(prog->results, error);
    return status == MLXR_OK && prog->failures ? bridge_failures_take(prog->failures, error) : status;
}

static mlxr_status build(program *prog, const step *s, mlxr_error *error)
{
    if (!step_graph_begin(&prog->now, prog, s)) {
        return error_nomem(error, "graph of an MLX step", prog->n_rows_max * sizeof *prog->now.rows);
    }
    walk_build(prog, s, &prog->now, false);
    return bridge_status(prog->step, error);
}

mlxr_status mlx_program_run(program *prog, const step *s, mlxr_error *error)
{
    mlxr_status status = step_check(prog->plan, s, error);
    if (status != MLXR_OK || s->n_rows == 0) {
        return status;
    }
    double begin = seconds();
    prog->counts.n_steps++;
    if (ahead_take(prog, s)) {
        prog->counts.n_taken++;
        status = bridge_status(prog->step, error);
    } else {
        status = build(prog, s, error);
    }
    prog->counts.build_s += seconds() - begin;
    if (status == MLXR_OK) {
        status = submit(prog, error);
    }
    if (status == MLXR_OK) {
        ahead_build(prog, s);
        status = collect(prog, s, error);
    }
    if (status != MLXR_OK) {
        ahead_drop(prog);
        prog->expected.n_rows = 0;
    }
    bridge_arena_empty(prog->results);
    step_graph_end(&prog->now);
    return status;
}
