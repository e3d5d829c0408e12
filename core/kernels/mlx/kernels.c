/*
 * Our own Metal kernels in a step's graph.
 * Owner, lifetime: as walk.h says.
 */
#include "kernels/mlx/kernels.h"

#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "kernels/mlx/bridge_kernel.h"

static bool available(const walk *w, kernel_unit unit)
{
    return w->prog->kernels && !w->prog->choices.off[unit];
}

static uint32_t threads_of(const walk *w, kernel_unit unit)
{
    return w->prog->choices.threads[unit];
}

/* The unit of a family that has one for each type of weights; the weight is one that kernel_takes_weight took. */
static kernel_unit typed_unit(kernel_unit family, const mlx_weight *weight)
{
    return (kernel_unit)((int)family + unit_weight(weight->source->type));
}

static mlx_value *call_one(walk *w, const kernel_call *call)
{
    mlx_value *out[KERNEL_OUTPUTS_MAX] = {NULL};
    bridge_kernel_call(w->a, w->prog->failures, call, out);
    return out[0];
}

static kernel_output rows_output(int32_t n_rows, int32_t width)
{
    return (kernel_output){.type = MLX_F32, .n_dims = 2, .shape = {n_rows, width}};
}

/* Numbers for a kernel, in an array of at least 8: MLX would hand a shorter one over in another address space. */
static mlx_value *words(walk *w, mlx_type type, const void *data, size_t n)
{
    uint32_t *padded = region_array(w->memory, n < 8 ? 8 : n, sizeof *padded);
    if (!padded) {
        return NULL;
    }
    memcpy(padded, data, n * sizeof *padded);
    const int32_t length = (int32_t)(n < 8 ? 8 : n);
    return bridge_copy(w->a, type, 1, &length, padded);
}

static mlx_value *nothing(walk *w)
{
    static const uint32_t zeros[8];
    return words(w, MLX_F32, zeros, 8);
}

static mlx_value *positions_of(walk *w)
{
    if (!w->positions) {
        w->positions = words(w, MLX_I32, w->s->positions, w->s->n_rows);
    }
    return w->positions;
}

/* ---- rows ---- */

mlx_value *kernel_norm(walk *w, const op *o, const op_arrays *arrays, const mlx_value *x)
{
    if (!available(w, UNIT_RMS_NORM) || o->norm.kind != NORM_RMS || arrays->bias || bridge_dim(x, 0) == 0) {
        return NULL;
    }
    uint32_t width = o->norm.width, n_rows = (uint32_t)bridge_dim(x, 0);
    metal_dispatch d = metal_rms_norm_dispatch(&(metal_rms_norm){.n_rows = n_rows,
                                                                 .n_groups = o->width / width,
                                                                 .width = width,
                                                                 .row_stride = o->width,
                                                                 .group_stride = width,
                                                                 .element_stride = 1,
                                                                 .eps = o->norm.eps,
                                                                 .weighted = arrays->vector != NULL,
                                                                 .threads = threads_of(w, UNIT_RMS_NORM)});
    const int types[] = {MLX_F32};
    return call_one(w, &(kernel_call){.source = "rms_norm",
                                      .instance = "rms_norm_f32",
                                      .template_values = types,
                                      .inputs = {x, arrays->vector && width >= 8 ? arrays->vector : nothing(w)},
                                      .n_inputs = 2,
                                      .dispatch = &d,
                                      .outputs = {rows_output((int32_t)n_rows, (int32_t)o->width)},
                                      .n_outputs = 1});
}

mlx_value *kernel_rope(walk *w, const op *o, const mlx_value *x)
{
    const op_rope *r = &o->rope;
    if (!available(w, UNIT_ROPE) || r->n_rot == 0 || r->head_dim % 2 || r->temperature != 0) {
        return NULL;
    }
    metal_dispatch d = metal_rope_dispatch(&(metal_rope){.n_rows = w->s->n_rows,
                                                         .n_heads = o->width / r->head_dim,
                                                         .head_dim = r->head_dim,
                                                         .n_rot = r->n_rot,
                                                         .row_stride = o->width,
                                                         .head_stride = r->head_dim,
                                                         .magnitude = r->magnitude,
                                                         .threads = threads_of(w, UNIT_ROPE)});
    bool pairs = r->kind == ROPE_PAIRS;
    const int values[] = {MLX_F32, pairs};
    return call_one(w, &(kernel_call){.source = "rope_apply",
                                      .instance = pairs ? "rope_apply_f32_pairs" : "rope_apply_f32_halves",
                                      .template_values = values,
                                      .inputs = {x, positions_of(w), words(w, MLX_F32, r->inv_freq, r->n_rot / 2)},
                                      .n_inputs = 3,
                                      .dispatch = &d,
                                      .outputs = {rows_output((int32_t)w->s->n_rows, (int32_t)o->width)},
                                      .n_outputs = 1});
}

/* ---- products ---- */

bool kernel_takes_weight(const unit_choices *choices, const tensor *t)
{
    int i = unit_weight(t->type);
    return i >= 0 && !choices->off[UNIT_PRODUCT + i] && t->shape[0] % 32 == 0;
}

mlx_value *kernel_product(walk *w, const mlx_weight *weight, const mlx_value *x, const mlx_value *bias)
{
    if (!weight->raw) {
        return NULL;
    }
    kernel_unit unit = typed_unit(UNIT_PRODUCT, weight);
    char instance[64];
    uint32_t n_rows = (uint32_t)bridge_dim(x, 0);
    metal_q_gemm g = {.n_rows = n_rows,
                      .n_in = (uint32_t)weight->n_in,
                      .n_out = (uint32_t)weight->n_out,
                      .x_stride = (uint32_t)weight->n_in,
                      .type = weight->source->type,
                      .biased = bias != NULL,
                      .threads = threads_of(w, unit)};
    bool matrix = n_rows >= METAL_Q_GEMM_MATRIX_ROWS;
    metal_dispatch d = matrix ? metal_q_gemm_matrix_dispatch(&g) : metal_q_gemm_vector_dispatch(&g);
    const int values[] = {MLX_F32, (int)weight->source->type, (int)metal_rows_shared(n_rows)};
    if (matrix) {
        snprintf(instance, sizeof instance, "q_gemm_matrix_f32_%s", unit_weight_name(weight->source->type));
    } else {
        snprintf(instance, sizeof instance, "q_gemm_vector_f32_%s_%d", unit_weight_name(weight->source->type),
                 values[2]);
    }
    return call_one(w, &(kernel_call){.source = matrix ? "q_gemm_matrix" : "q_gemm_vector",
                                      .instance = instance,
                                      .template_values = values,
                                      .inputs = {x, weight->w, bias && weight->n_out >= 8 ? bias : nothing(w)},
                                      .n_inputs = 3,
                                      .dispatch = &d,
                                      .outputs = {rows_output((int32_t)n_rows, weight->n_out)},
                                      .n_outputs = 1});
}

mlx_value *kernel_gated(walk *w, const mlx_weight *gate, const mlx_weight *up, activation act, const mlx_value *x,
                        int32_t n_rows)
{
    char instance[64];
    dtype type = gate->source->type;
    if (!gate->raw || !up->raw || up->source->type != type || !available(w, typed_unit(UNIT_GATED, gate)) ||
        (act != ACT_SILU && act != ACT_GELU_TANH) || n_rows <= 0 || n_rows >= METAL_Q_GEMM_MATRIX_ROWS) {
        return NULL;
    }
    metal_dispatch d = metal_swiglu_dispatch(&(metal_swiglu){.n_rows = (uint32_t)n_rows,
                                                             .n_in = (uint32_t)gate->n_in,
                                                             .n_out = (uint32_t)gate->n_out,
                                                             .x_stride = (uint32_t)gate->n_in,
                                                             .type = type,
                                                             .act = act,
                                                             .threads = threads_of(w, typed_unit(UNIT_GATED, gate))});
    const int values[] = {MLX_F32, (int)type, (int)metal_rows_shared((uint32_t)n_rows)};
    snprintf(instance, sizeof instance, "swiglu_mlp_fused_f32_%s_%d", unit_weight_name(type), values[2]);
    return call_one(w, &(kernel_call){.source = "swiglu_mlp_fused",
                                      .instance = instance,
                                      .template_values = values,
                                      .inputs = {x, gate->w, up->w},
                                      .n_inputs = 3,
                                      .dispatch = &d,
                                      .outputs = {rows_output(n_rows, gate->n_out)},
                                      .n_outputs = 1});
}

/* ---- attention ---- */

static bool is_prompt(const step *s)
{
    for (uint32_t i = 0; i < s->n_slices; i++) {
        if (s->slices[i].n_rows > KERNEL_DECODE_ROWS) {
            return true;
        }
    }
    return false;
}

/* A layer that stores its own keys, and right then sees them. */
static bool stores_and_sees(const plan *p, const op *o)
{
    const bool writes = o->kind == OP_KV_WRITE;
    if (writes ? o + 1 == p->ops + p->n_ops : o == p->ops) {
        return false; /* nothing after it, nothing before it */
    }
    const op *write = writes ? o : o - 1, *attend = write + 1;
    return write->kind == OP_KV_WRITE && attend->kind == OP_ATTEND &&
           write->attend.kv_group == attend->attend.kv_group && write->attend.kv_layer == attend->attend.kv_layer;
}

bool kernel_takes_attention(const walk *w, const op *o)
{
    static const uint32_t heads[] = {64, 80, 96, 128, 256};
    const op_attend *attend = &o->attend;
    const kv_layout *l = &w->s->kv.layout[attend->kv_group];
    bool fits = false, prompt = is_prompt(w->s);
    if (attend->both_ways || attend->chunked || attend->first || l->one_row || !stores_and_sees(w->prog->plan, o)) {
        return false;
    }
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        fits = fits || heads[i] == attend->head_dim;
    }
    return fits && available(w, prompt ? UNIT_PREFILL : UNIT_DECODE) &&
           (l->type == DTYPE_F32 || l->type == DTYPE_F16 || l->type == DTYPE_BF16);
}

/* The page tables of all slices, one below the other, and for each row which is its slice's. */
typedef struct tables {
    mlx_value *pages, *of_rows;
    uint32_t stride, page_end;
} tables;

static bool make_tables(walk *w, uint16_t group, tables *out)
{
    const step *s = w->s;
    const kv_layout *l = &s->kv.layout[group];
    *out = (tables){.stride = 1};
    for (uint32_t i = 0; i < s->n_slices; i++) {
        uint32_t n = (s->slices[i].start + s->slices[i].n_rows + l->page_tokens - 1) / l->page_tokens;
        out->stride = n > out->stride ? n : out->stride;
    }
    uint32_t *pages = region_array(w->memory, (size_t)s->n_slices * out->stride, sizeof *pages);
    uint32_t *rows = region_array(w->memory, s->n_rows, sizeof *rows);
    if (!pages || !rows) {
        return false;
    }
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const step_slice *slice = &s->slices[i];
        uint32_t n = (slice->start + slice->n_rows + l->page_tokens - 1) / l->page_tokens;
        for (uint32_t j = 0; j < n; j++) { /* pages that a window has passed are never looked at */
            uint32_t page = slice->pages[group][j];
            pages[(size_t)i * out->stride + j] = page == KV_PAGE_NONE ? 0 : page;
            out->page_end = page != KV_PAGE_NONE && page + 1 > out->page_end ? page + 1 : out->page_end;
        }
        for (uint32_t j = 0; j < slice->n_rows; j++) {
            rows[slice->first_row + j] = i;
        }
    }
    out->pages = words(w, MLX_U32, pages, (size_t)s->n_slices * out->stride);
    out->of_rows = words(w, MLX_U32, rows, s->n_rows);
    return true;
}

static mlx_type kv_type(const walk *w, const op_attend *at)
{
    dtype type = w->s->kv.layout[at->kv_group].type;
    return type == DTYPE_F32 ? MLX_F32 : type == DTYPE_F16 ? MLX_F16 : MLX_BF16;
}

/* "KERNEL_f32_PAGES", for a kernel that is made for heads of one length with "_LENGTH". */
static void instance_name(char name[64], const char *kernel, const walk *w, const op_attend *at, uint32_t head_dim)
{
    int n = snprintf(name, 64, "%s_f32_%s", kernel, kv_type_name(w->s->kv.layout[at->kv_group].type));
    if (head_dim) {
        snprintf(name + n, 64 - (size_t)n, "_%u", head_dim);
    }
}

/* Keys, turned already, and values of the step's rows into their pages; what comes after it reads them there. */
static mlx_value *write_rows(walk *w, const op_attend *at, const tables *t, const mlx_value *pool)
{
    char name[64];
    uint32_t width = at->n_head_kv * at->head_dim;
    instance_name(name, "kv_write", w, at, 0);
    metal_dispatch d = metal_kv_write_dispatch(
        &(metal_kv_write){.n_rows = w->s->n_rows,
                          .n_head_kv = at->n_head_kv,
                          .head_dim = at->head_dim,
                          .k_stride = width,
                          .v_stride = width,
                          .table_stride = t->stride,
                          .kv = metal_kv_of(&w->s->kv.layout[at->kv_group], at->kv_layer)});
    const int values[] = {MLX_F32, (int)kv_type(w, at)};
    return call_one(w, &(kernel_call){.source = "kv_write",
                                      .instance = name,
                                      .template_values = values,
                                      .inputs = {w->slots[SLOT_K], w->slots[SLOT_V], nothing(w), pool, t->pages,
                                                 t->of_rows, positions_of(w)},
                                      .n_inputs = 7,
                                      .dispatch = &d,
                                      .outputs = {{.type = MLX_U32, .n_dims = 1, .shape = {1}}},
                                      .n_outputs = 1});
}

static mlx_value *decode(walk *w, const op *o, const tables *t, const mlx_value *pool, const mlx_value *sinks)
{
    const op_attend *at = &o->attend;
    char name[64];
    uint32_t width = at->n_head * at->head_dim, n_positions = 0;
    for (uint32_t i = 0; i < w->s->n_slices; i++) {
        uint32_t n = w->s->slices[i].start + w->s->slices[i].n_rows;
        n_positions = n > n_positions ? n : n_positions;
    }
    metal_decode m = {.n_rows = w->s->n_rows,
                      .n_head = at->n_head,
                      .n_head_kv = at->n_head_kv,
                      .head_dim = at->head_dim,
                      .q_row_stride = width,
                      .q_head_stride = at->head_dim,
                      .scale = at->scale,
                      .softcap = at->softcap,
                      .window = at->window,
                      .table_stride = t->stride,
                      .n_splits = 1,
                      .sinks = at->sinks != NULL,
                      .kv = metal_kv_of(&w->s->kv.layout[at->kv_group], at->kv_layer)};
    m.n_splits = metal_decode_splits(&m, n_positions, KERNEL_CORES);
    metal_dispatch d = metal_decode_dispatch(&m), merge = metal_decode_merge_dispatch(&m);
    const int values[] = {MLX_F32, (int)kv_type(w, at), (int)at->head_dim};
    const int32_t n_rows = (int32_t)m.n_rows, partial = (int32_t)(m.n_head * m.n_splits * (m.head_dim + 2));
    mlx_value *done = write_rows(w, at, t, pool), *out[KERNEL_OUTPUTS_MAX] = {NULL};
    instance_name(name, "attention_decode_fused", w, at, at->head_dim);
    bridge_kernel_call(w->a, w->prog->failures,
                       &(kernel_call){.source = "attention_decode_fused",
                                      .instance = name,
                                      .template_values = values,
                                      .inputs = {w->slots[SLOT_Q], pool, t->pages, t->of_rows, positions_of(w), sinks},
                                      .n_inputs = 6,
                                      .dispatch = &d,
                                      .after = done,
                                      .outputs = {rows_output(n_rows, (int32_t)width), rows_output(n_rows, partial)},
                                      .n_outputs = 2},
                       out);
    if (m.n_splits == 1) {
        return out[0];
    }
    const int merge_values[] = {MLX_F32, (int)at->head_dim};
    snprintf(name, sizeof name, "attention_decode_merge_f32_%u", at->head_dim);
    return call_one(w, &(kernel_call){.source = "attention_decode_merge",
                                      .instance = name,
                                      .template_values = merge_values,
                                      .inputs = {out[1], sinks},
                                      .n_inputs = 2,
                                      .dispatch = &merge,
                                      .outputs = {rows_output(n_rows, (int32_t)width)},
                                      .n_outputs = 1});
}

/* The step's slices as tiles of rows. */
static mlx_value *make_tiles(walk *w, uint32_t rows_of_tile, uint32_t *n_tiles)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->s->n_slices; i++) {
        n += (w->s->slices[i].n_rows + rows_of_tile - 1) / rows_of_tile;
    }
    uint32_t(*all)[METAL_TILE_WORDS] = region_array(w->memory, n, sizeof *all);
    *n_tiles = n;
    if (!all) {
        return NULL;
    }
    n = 0;
    for (uint32_t i = 0; i < w->s->n_slices; i++) {
        const step_slice *slice = &w->s->slices[i];
        for (uint32_t row = 0; row < slice->n_rows; row += rows_of_tile) {
            uint32_t left = slice->n_rows - row;
            metal_tile_words(&(metal_tile){.row = slice->first_row + row,
                                           .n_rows = left < rows_of_tile ? left : rows_of_tile,
                                           .slice_row = slice->first_row,
                                           .start = slice->start,
                                           .table = i},
                             all[n++]);
        }
    }
    return words(w, MLX_U32, all, (size_t)n * METAL_TILE_WORDS);
}

/* The step's angles for the kernels that turn keys on the way: [n_rows][n_rot / 2][cos, sin]. */
static mlx_value *turns_of(walk *w, const op_rope *r)
{
    metal_dispatch d = metal_rope_table_dispatch(
        &(metal_rope){.n_rows = w->s->n_rows, .n_rot = r->n_rot, .magnitude = r->magnitude});
    const int32_t n_rows = (int32_t)w->s->n_rows, n_rot = (int32_t)r->n_rot;
    return call_one(w, &(kernel_call){.source = "rope_table",
                                      .instance = "rope_table",
                                      .inputs = {positions_of(w), words(w, MLX_F32, r->inv_freq, r->n_rot / 2)},
                                      .n_inputs = 2,
                                      .dispatch = &d,
                                      .outputs = {rows_output(n_rows < 8 ? 8 : n_rows, n_rot)},
                                      .n_outputs = 1});
}

/* Queries and keys before they were turned, where both are turned alike: the kernel does that itself. */
static const op_rope *unturned(const walk *w, const mlx_value **q, const mlx_value **k)
{
    const op_rope *rq = w->turned[SLOT_Q].rope, *rk = w->turned[SLOT_K].rope;
    *q = w->slots[SLOT_Q];
    *k = w->slots[SLOT_K];
    if (!rq || !rk || w->turned[SLOT_Q].to != *q || w->turned[SLOT_K].to != *k || rq->kind != rk->kind ||
        rq->n_rot != rk->n_rot || rq->inv_freq != rk->inv_freq || rq->magnitude != rk->magnitude ||
        rq->temperature != 0) {
        return NULL;
    }
    *q = w->turned[SLOT_Q].from;
    *k = w->turned[SLOT_K].from;
    return rq;
}

static mlx_value *prefill(walk *w, const op *o, const tables *t, const mlx_value *pool, const mlx_value *sinks)
{
    const op_attend *at = &o->attend;
    const mlx_value *q, *k;
    char name[64];
    const op_rope *rope = unturned(w, &q, &k);
    uint32_t q_width = at->n_head * at->head_dim, kv_width = at->n_head_kv * at->head_dim;
    metal_prefill m = {.n_head = at->n_head,
                       .n_head_kv = at->n_head_kv,
                       .head_dim = at->head_dim,
                       .n_rot = rope ? rope->n_rot : 0,
                       .q_stride = q_width,
                       .k_stride = kv_width,
                       .v_stride = kv_width,
                       .scale = at->scale,
                       .softcap = at->softcap,
                       .window = at->window,
                       .table_stride = t->stride,
                       .kind = rope ? rope->kind : ROPE_HALVES,
                       .sinks = at->sinks != NULL,
                       .type = DTYPE_F32,
                       .kv = metal_kv_of(&w->s->kv.layout[at->kv_group], at->kv_layer)};
    mlx_value *tiles = make_tiles(w, metal_prefill_rows(at->head_dim, DTYPE_F32), &m.n_tiles);
    metal_dispatch d = metal_prefill_dispatch(&m);
    const int values[] = {MLX_F32, (int)kv_type(w, at), (int)at->head_dim};
    instance_name(name, "attention_prefill_fused", w, at, at->head_dim);
    return call_one(w, &(kernel_call){.source = "attention_prefill_fused",
                                      .instance = name,
                                      .template_values = values,
                                      .inputs = {q, k, w->slots[SLOT_V], rope ? turns_of(w, rope) : nothing(w), pool,
                                                 t->pages, tiles, sinks},
                                      .n_inputs = 8,
                                      .dispatch = &d,
                                      .outputs = {rows_output((int32_t)w->s->n_rows, (int32_t)q_width)},
                                      .n_outputs = 1});
}

mlx_value *kernel_attend(walk *w, const op *o, const op_arrays *arrays)
{
    const op_attend *at = &o->attend;
    tables t;
    if (!make_tables(w, at->kv_group, &t)) {
        return NULL;
    }
    const mlx_value *pool = walk_pool(w, at->kv_group, t.page_end), *sinks = nothing(w);
    if (at->sinks) {
        sinks = at->n_head >= 8 ? arrays->sinks : words(w, MLX_F32, at->sinks, at->n_head);
    }
    return is_prompt(w->s) ? prefill(w, o, &t, pool, sinks) : decode(w, o, &t, pool, sinks);
}
