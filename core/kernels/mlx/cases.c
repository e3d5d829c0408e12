/*
 * Plans, weights and steps of the cases.
 * Owner, lifetime: as cases.h says.
 */
#include "kernels/mlx/cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "quant/codec.h"
#include "quant/half.h"

#define PAGE_TOKENS 32u
#define SYSTEM_PAGE ((size_t)16384) /* the largest there is: Metal takes whole pages without a copy */
#define WEIGHT_LEAST 0.02f          /* a block's largest weight */
#define WEIGHT_MOST 0.6f
#define ROWS_APART 32u /* rows of large matrices that differ; the others repeat them */

/* ---- which ---- */

static uint32_t norm_cases(bool timed, kernel_case *c)
{
    if (timed) {
        c[0] = (kernel_case){.n_rows = 1, .n_in = 4096, .n_out = 1, .n_links = 32};
        c[1] = (kernel_case){.n_rows = 256, .n_in = 4096, .n_out = 1, .n_links = 16};
        return 2;
    }
    c[0] = (kernel_case){.n_rows = 3, .n_in = 200, .n_out = 1, .n_links = 1};
    c[1] = (kernel_case){.n_rows = 2, .n_in = 256, .n_out = 4, .n_links = 2};
    c[2] = (kernel_case){.n_rows = 1, .n_in = 1056, .n_out = 1, .n_links = 1};
    return 3;
}

static uint32_t rope_cases(bool timed, kernel_case *c)
{
    if (timed) {
        c[0] = (kernel_case){.n_rows = 1, .n_head = 32, .head_dim = 128, .n_rot = 128, .start = 999, .n_links = 32};
        c[1] = (kernel_case){.n_rows = 256, .n_head = 32, .head_dim = 128, .n_rot = 128, .start = 999, .n_links = 16};
        return 2;
    }
    c[0] = (kernel_case){.n_rows = 5, .n_head = 3, .head_dim = 64, .n_rot = 64, .start = 7000, .n_links = 1};
    c[1] = (kernel_case){
        .n_rows = 4, .n_head = 2, .head_dim = 80, .n_rot = 40, .start = 120000, .pairs = true, .n_links = 2};
    return 2;
}

static uint32_t decode_cases(bool timed, kernel_case *c)
{
    const kernel_case usual = {.n_rows = 1,
                               .n_slices = 1,
                               .n_head = 32,
                               .n_head_kv = 8,
                               .head_dim = 128,
                               .start = 2048,
                               .kv = DTYPE_F16,
                               .n_links = 8};
    c[0] = c[1] = c[2] = c[3] = usual;
    if (timed) {
        c[1].start = 16384;
        c[1].n_links = 4;
        return 2;
    }
    c[0] = (kernel_case){.n_rows = 1, .n_head = 8, .n_head_kv = 2, .head_dim = 64, .start = 70, .kv = DTYPE_F16};
    c[1] = (kernel_case){.n_rows = 2, .n_head = 4, .n_head_kv = 4, .head_dim = 128, .start = 130, .kv = DTYPE_F32};
    c[1].window = 40;
    c[1].n_slices = 3;
    c[2] = (kernel_case){.n_rows = 1, .n_head = 3, .n_head_kv = 1, .head_dim = 256, .start = 37, .kv = DTYPE_F16};
    c[2].softcap = 20;
    c[2].sinks = true;
    c[3] = (kernel_case){.n_rows = 1, .n_head = 2, .n_head_kv = 1, .head_dim = 80, .start = 1500, .kv = DTYPE_F32};
    c[4] = (kernel_case){.n_rows = 2, .n_head = 4, .n_head_kv = 2, .head_dim = 96, .start = 75, .kv = DTYPE_BF16};
    return 5;
}

static uint32_t prefill_cases(bool timed, kernel_case *c)
{
    const kernel_case usual = {.n_rows = 256,
                               .n_head = 32,
                               .n_head_kv = 8,
                               .head_dim = 128,
                               .n_rot = 128,
                               .start = 256,
                               .kv = DTYPE_F16,
                               .n_links = 4};
    c[0] = c[1] = c[2] = usual;
    if (timed) {
        c[1].start = 4096;
        c[1].n_links = 2;
        return 2;
    }
    c[0] = (kernel_case){.n_rows = 40, .n_head = 4, .n_head_kv = 2, .head_dim = 64, .n_rot = 64, .kv = DTYPE_F16};
    c[1] = (kernel_case){.n_rows = 21, .n_head = 2, .n_head_kv = 1, .head_dim = 128, .n_rot = 64, .kv = DTYPE_F32};
    c[1].start = 37;
    c[1].window = 30;
    c[1].pairs = true;
    c[1].n_slices = 2;
    c[2] = (kernel_case){.n_rows = 18, .n_head = 3, .n_head_kv = 3, .head_dim = 96, .n_rot = 96, .kv = DTYPE_F16};
    c[2].start = 5;
    c[2].softcap = 15;
    c[2].sinks = true;
    c[3] = (kernel_case){.n_rows = 19, .n_head = 4, .n_head_kv = 1, .head_dim = 64, .n_rot = 64, .kv = DTYPE_BF16};
    c[3].start = 21;
    return 4;
}

static uint32_t product_cases(bool timed, kernel_case *c)
{
    if (timed) {
        c[0] = (kernel_case){.n_rows = 1, .n_in = 4096, .n_out = 4096, .n_links = 8};
        c[1] = (kernel_case){.n_rows = 128, .n_in = 4096, .n_out = 4096, .n_links = 2};
        return 2;
    }
    c[0] = (kernel_case){.n_rows = 1, .n_in = 512, .n_out = 40, .n_links = 1};
    c[1] = (kernel_case){.n_rows = 3, .n_in = 512, .n_out = 40, .n_links = 1, .biased = true};
    c[2] = (kernel_case){.n_rows = 20, .n_in = 256, .n_out = 72, .n_links = 1};
    return 3;
}

static uint32_t gated_cases(bool timed, kernel_case *c)
{
    if (timed) {
        c[0] = (kernel_case){.n_rows = 1, .n_in = 4096, .n_out = 4096, .n_links = 4};
        c[1] = (kernel_case){.n_rows = 4, .n_in = 4096, .n_out = 4096, .n_links = 4, .act = ACT_GELU_TANH};
        return 2;
    }
    c[0] = (kernel_case){.n_rows = 1, .n_in = 512, .n_out = 512, .n_links = 1};
    c[1] = (kernel_case){.n_rows = 5, .n_in = 256, .n_out = 256, .n_links = 1, .act = ACT_GELU_TANH};
    return 2;
}

uint32_t kernel_cases(kernel_unit unit, bool timed, kernel_case out[KERNEL_CASES_MAX])
{
    uint32_t n = unit == UNIT_RMS_NORM  ? norm_cases(timed, out)
                 : unit == UNIT_ROPE    ? rope_cases(timed, out)
                 : unit == UNIT_DECODE  ? decode_cases(timed, out)
                 : unit == UNIT_PREFILL ? prefill_cases(timed, out)
                 : unit < UNIT_GATED    ? product_cases(timed, out)
                                        : gated_cases(timed, out);
    for (uint32_t i = 0; i < n; i++) {
        out[i].unit = unit;
        out[i].timed = timed;
        out[i].n_links = out[i].n_links ? out[i].n_links : 1;
        out[i].n_slices = out[i].n_slices ? out[i].n_slices : 1;
    }
    return n;
}

const kernel_vector *kernel_vector_find(const kernel_vector *all, kernel_unit unit, uint32_t index)
{
    char name[UNIT_NAME_MAX];
    unit_name(unit, name);
    while (all->unit && (strcmp(all->unit, name) != 0 || all->index != index)) {
        all++;
    }
    return all->unit ? all : NULL;
}

/* ---- numbers ---- */

static uint32_t next_bits(uint64_t *state) /* SplitMix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) >> 32);
}

/* Of [−1, 1), exact. */
static float next_float(uint64_t *state)
{
    return (float)(int32_t)(next_bits(state) >> 8) * 0x1p-23f - 1.0f;
}

static float *floats(kernel_world *w, size_t n, float centre, float spread)
{
    float *f = region_array(&w->memory, n, sizeof *f);
    for (size_t i = 0; f && i < n; i++) {
        f[i] = centre + spread * next_float(&w->random);
    }
    return f;
}

/* Random bits, again and again until they stand for weights of a usual size. */
static void fill_block(kernel_world *w, dtype type, uint8_t *block)
{
    const dtype_info *info = dtype_find((uint32_t)type);
    float values[256], most;
    do {
        for (uint32_t i = 0; i < info->block_bytes; i++) {
            block[i] = (uint8_t)next_bits(&w->random);
        }
        codec_decode(type, block, values, info->block_size);
        most = 0;
        for (uint32_t i = 0; i < info->block_size; i++) {
            float size = fabsf(values[i]);
            most = size > most || isnan(size) ? size : most; /* a NaN stays and is no usual size */
        }
    } while (!(most >= WEIGHT_LEAST && most <= WEIGHT_MOST));
}

static const tensor *make_tensor(kernel_world *w, dtype type, uint32_t n_in, uint32_t n_out, void *data)
{
    tensor *t = region_array(&w->memory, 1, sizeof *t);
    if (!t || !data) {
        return NULL;
    }
    *t = (tensor){.name = "case", .type = type, .n_dims = 2, .shape = {n_in, n_out, 1, 1}, .data = data};
    t->row_bytes = dtype_row_bytes(type, n_in);
    t->n_bytes = t->row_bytes * n_out;
    return t;
}

static const tensor *float_tensor(kernel_world *w, uint32_t n_in, uint32_t n_out, float centre, float spread)
{
    return make_tensor(w, DTYPE_F32, n_in, n_out, floats(w, (size_t)n_in * n_out, centre, spread));
}

static const tensor *weight_tensor(kernel_world *w, dtype type, uint32_t n_in, uint32_t n_out, bool plain)
{
    const dtype_info *info = dtype_find((uint32_t)type);
    size_t row = dtype_row_bytes(type, n_in), n = row * n_out;
    uint8_t *data = region_alloc(&w->memory, n);
    for (size_t at = 0; data && at < n; at += info->block_bytes) {
        if (at < ROWS_APART * row || n_out <= 4 * ROWS_APART) {
            fill_block(w, type, data + at);
        } else {
            memcpy(data + at, data + at - ROWS_APART * row, info->block_bytes);
        }
    }
    if (!plain || !data) {
        return make_tensor(w, type, n_in, n_out, data);
    }
    float *decoded = region_array(&w->memory, (size_t)n_in * n_out, sizeof *decoded);
    if (decoded) {
        codec_decode(type, data, decoded, (size_t)n_in * n_out);
    }
    return make_tensor(w, DTYPE_F32, n_in, n_out, decoded);
}

/* ---- plans ---- */

static op *add_op(kernel_world *w, op_kind kind, slot dst, slot src, uint32_t width)
{
    op *o = &w->ops[w->p.n_ops++];
    *o = (op){.kind = kind, .dst = dst, .src = src, .width = width, .scale = 1.0f};
    w->p.slot_width[dst] = width;
    return o;
}

/* Random rows in a slot: of a table with a row for each token. */
static void add_rows(kernel_world *w, slot dst, uint32_t width)
{
    add_op(w, OP_EMBED, dst, SLOT_NONE, width)->weight = float_tensor(w, width, w->p.n_vocab, 0, 1);
}

static void add_norm(kernel_world *w, slot dst, slot src, uint32_t width, uint32_t groups)
{
    op *o = add_op(w, OP_NORM, dst, src, width);
    o->norm = (op_norm){.kind = NORM_RMS, .width = width / groups, .eps = 1e-5f};
    o->weight = float_tensor(w, width / groups, 1, 1, 0.25f);
}

/* What a slot holds becomes the logits, each row brought to a length that is not its own. */
static void add_logits(kernel_world *w, slot src, uint32_t width)
{
    add_op(w, OP_TAKE_ROWS, src, SLOT_NONE, width);
    op *o = add_op(w, OP_NORM, SLOT_LOGITS, src, width);
    o->norm = (op_norm){.kind = NORM_LAYER, .width = width, .eps = 1e-5f}; /* which is no kernel of ours */
}

static void plan_norm(kernel_world *w, const kernel_case *c)
{
    w->p.n_vocab = c->n_in;
    add_rows(w, SLOT_X, c->n_in);
    for (uint32_t i = 0; i < c->n_links; i++) {
        add_norm(w, i % 2 ? SLOT_X : SLOT_N, i % 2 ? SLOT_N : SLOT_X, c->n_in, c->n_out);
    }
    add_logits(w, c->n_links % 2 ? SLOT_N : SLOT_X, c->n_in);
}

static op_rope rope_of(kernel_world *w, const kernel_case *c)
{
    float *frequencies = region_array(&w->memory, c->n_rot / 2, sizeof *frequencies);
    for (uint32_t i = 0; frequencies && i < c->n_rot / 2; i++) { /* as exact everywhere as a quotient is */
        frequencies[i] = 1.0f / (1.0f + 37.0f * (float)(i * i));
    }
    return (op_rope){.kind = c->pairs ? ROPE_PAIRS : ROPE_HALVES,
                     .head_dim = c->head_dim,
                     .n_rot = c->n_rot,
                     .inv_freq = frequencies,
                     .magnitude = 1};
}

static void plan_rope(kernel_world *w, const kernel_case *c)
{
    uint32_t width = c->n_head * c->head_dim;
    w->p.n_vocab = width;
    add_rows(w, SLOT_Q, width);
    for (uint32_t i = 0; i < c->n_links; i++) {
        add_op(w, OP_ROPE, SLOT_Q, SLOT_NONE, width)->rope = rope_of(w, c);
    }
    add_logits(w, SLOT_Q, width);
}

static void plan_attention(kernel_world *w, const kernel_case *c)
{
    uint32_t width = c->n_head * c->head_dim, kv_width = c->n_head_kv * c->head_dim;
    op_attend attend = {.n_head = c->n_head,
                        .n_head_kv = c->n_head_kv,
                        .head_dim = c->head_dim,
                        .scale = 1.0f / sqrtf((float)c->head_dim),
                        .softcap = c->softcap,
                        .window = c->window,
                        .sinks = c->sinks ? floats(w, c->n_head, 0, 2) : NULL};
    w->p.n_vocab = width;
    w->p.n_kv_groups = 1;
    w->p.kv_groups[0] = (kv_group){
        .n_layers = c->n_links, .n_head_kv = c->n_head_kv, .head_dim = c->head_dim, .window = c->window};
    add_rows(w, SLOT_Q, width);
    add_rows(w, SLOT_K, kv_width);
    add_rows(w, SLOT_V, kv_width);
    for (uint32_t i = 0; i < c->n_links; i++) {
        attend.kv_layer = (uint16_t)i;
        if (c->n_rot) {
            add_op(w, OP_ROPE, SLOT_Q, SLOT_NONE, width)->rope = rope_of(w, c);
            add_op(w, OP_ROPE, SLOT_K, SLOT_NONE, kv_width)->rope = rope_of(w, c);
        }
        op *o = &w->ops[w->p.n_ops++];
        *o = (op){.kind = OP_KV_WRITE, .attend = attend};
        add_op(w, OP_ATTEND, SLOT_A, SLOT_Q, width)->attend = attend;
        if (i + 1 < c->n_links) {
            add_op(w, OP_ADD, SLOT_Q, SLOT_A, width);
        }
    }
    add_logits(w, SLOT_A, width);
}

static void plan_product(kernel_world *w, const kernel_case *c, bool plain)
{
    w->p.n_vocab = c->n_out;
    add_rows(w, SLOT_X, c->n_in);
    slot from = SLOT_X;
    for (uint32_t i = 1; i < c->n_links; i++) { /* square */
        slot to = from == SLOT_X ? SLOT_N : SLOT_X;
        add_op(w, OP_LINEAR, to, from, c->n_in)->weight = weight_tensor(w, unit_type(c->unit), c->n_in, c->n_in, plain);
        from = to;
    }
    add_op(w, OP_TAKE_ROWS, from, SLOT_NONE, c->n_in);
    op *o = add_op(w, OP_LINEAR, SLOT_LOGITS, from, c->n_out);
    o->weight = weight_tensor(w, unit_type(c->unit), c->n_in, c->n_out, plain);
    o->bias = c->biased ? float_tensor(w, c->n_out, 1, 0, 1) : NULL;
}

static void plan_gated(kernel_world *w, const kernel_case *c, bool plain)
{
    w->p.n_vocab = c->n_out;
    add_rows(w, SLOT_N, c->n_in);
    for (uint32_t i = 0; i < c->n_links; i++) {
        const slot to[] = {SLOT_G, SLOT_U};
        for (uint32_t j = 0; j < 2; j++) {
            add_op(w, OP_LINEAR, to[j], SLOT_N, c->n_out)->weight = weight_tensor(w, unit_type(c->unit), c->n_in,
                                                                                  c->n_out, plain);
        }
        add_op(w, OP_GATED, SLOT_G, SLOT_U, c->n_out)->act = c->act;
        if (i + 1 < c->n_links) {
            add_op(w, OP_ADD, SLOT_N, SLOT_G, c->n_out); /* square */
        }
    }
    add_logits(w, SLOT_G, c->n_out);
}

/* ---- steps ---- */

/* Pages of a sequence lie apart and out of order. */
static bool lay_pages(kernel_world *w, const kernel_case *c)
{
    uint32_t each = (c->start + c->n_rows + PAGE_TOKENS - 1) / PAGE_TOKENS, n = each * c->n_slices;
    kv_layout layout = kv_layout_make(&w->p.kv_groups[0], c->kv, PAGE_TOKENS);
    size_t n_bytes = (n * layout.page_bytes + SYSTEM_PAGE - 1) / SYSTEM_PAGE * SYSTEM_PAGE;
    if (posix_memalign(&w->kv, SYSTEM_PAGE, n_bytes) != 0) {
        w->kv = NULL;
        return false;
    }
    for (size_t i = 0; i < n_bytes / sizeof(float); i++) {
        float f = next_float(&w->random);
        if (c->kv == DTYPE_F32) {
            ((float *)w->kv)[i] = f;
        } else {
            uint16_t (*narrow)(float) = c->kv == DTYPE_F16 ? half_from_float : bf16_from_float;
            ((uint16_t *)w->kv)[2 * i] = narrow(f);
            ((uint16_t *)w->kv)[2 * i + 1] = narrow(-0.5f * f);
        }
    }
    w->s.kv.base[0] = w->kv;
    w->s.kv.layout[0] = layout;
    step_slice *slices = (step_slice *)w->s.slices;
    for (uint32_t i = 0; i < c->n_slices; i++) {
        uint32_t *pages = region_array(&w->memory, each, sizeof *pages);
        if (!pages) {
            return false;
        }
        for (uint32_t j = 0; j < each; j++) {
            pages[j] = n - 1 - (j * c->n_slices + i);
        }
        slices[i].pages[0] = pages;
    }
    return true;
}

static bool lay_step(kernel_world *w, const kernel_case *c)
{
    uint32_t n_rows = c->n_rows * c->n_slices;
    int32_t *tokens = region_array(&w->memory, n_rows, sizeof *tokens);
    int32_t *positions = region_array(&w->memory, n_rows, sizeof *positions);
    uint32_t *wanted = region_array(&w->memory, n_rows, sizeof *wanted);
    step_slice *slices = region_array(&w->memory, c->n_slices, sizeof *slices);
    w->n_logits = (size_t)n_rows * w->p.n_vocab;
    float *logits = region_array(&w->memory, w->n_logits, sizeof *logits);
    if (!tokens || !positions || !wanted || !slices || !logits) {
        return false;
    }
    for (uint32_t i = 0; i < n_rows; i++) {
        tokens[i] = (int32_t)(i % w->p.n_vocab);
        positions[i] = (int32_t)(c->start + i % c->n_rows);
        wanted[i] = i;
    }
    for (uint32_t i = 0; i < c->n_slices; i++) {
        slices[i] = (step_slice){.first_row = i * c->n_rows, .n_rows = c->n_rows, .start = c->start};
    }
    w->s = (step){.n_rows = n_rows,
                  .tokens = tokens,
                  .positions = positions,
                  .slices = slices,
                  .n_slices = c->n_slices,
                  .wanted = wanted,
                  .n_wanted = n_rows,
                  .logits = logits};
    return w->p.n_kv_groups == 0 || lay_pages(w, c);
}

mlxr_status kernel_world_open(kernel_world *w, const kernel_case *c, bool plain, mlxr_error *error)
{
    memset(w, 0, sizeof *w);
    w->random = 1 + (uint64_t)c->unit * 64 + c->n_rows;
    w->p.ops = w->ops;
    if (c->unit == UNIT_RMS_NORM) {
        plan_norm(w, c);
    } else if (c->unit == UNIT_ROPE) {
        plan_rope(w, c);
    } else if (c->unit == UNIT_DECODE || c->unit == UNIT_PREFILL) {
        plan_attention(w, c);
    } else if (c->unit < UNIT_GATED) {
        plan_product(w, c, plain);
    } else {
        plan_gated(w, c, plain);
    }
    w->p.slot_width[SLOT_LOGITS] = w->p.n_vocab;
    if (!lay_step(w, c)) { /* what a weight lacked memory for, the check of the plan finds missing */
        kernel_world_close(w);
        return error_nomem(error, "case of a kernel", w->memory.bytes_used);
    }
    return MLXR_OK;
}

void kernel_world_close(kernel_world *w)
{
    free(w->kv);
    region_close(&w->memory);
    memset(w, 0, sizeof *w);
}
