/*
 * Pieces of quantised weights → packed_weight. Whatever a piece should be is checked here, so that packed_rows needs to
 * check nothing.
 * Owner: the model_file being filled. Lifetime: its own; data points into the mapped files.
 */
#include "loaders/safetensors_packed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "loaders/safetensors.h"
#include "quant/codec_checkpoint.h"

#define N_PARTS (HF_PART_STATE + 1)

/* The pieces of one weight. */
typedef struct group {
    const char *stem;
    const packed_piece *of[N_PARTS];
    const hf_quant *quant;
    mlxr_error *error;
} group;

static const char *const part_words[N_PARTS] = {[HF_PART_Q] = "packed weights",
                                                [HF_PART_SCALES] = "scales",
                                                [HF_PART_ZEROS] = "zero points or biases",
                                                [HF_PART_ORDER] = "g_idx",
                                                [HF_PART_MAP] = "quant_map",
                                                [HF_PART_OUTER] = "nested_absmax",
                                                [HF_PART_OUTER_MAP] = "nested_quant_map",
                                                [HF_PART_STATE] = "quant_state"};

static mlxr_status bad_part(const group *g, hf_part part, const char *why)
{
    return error_set(g->error, MLXR_FORMAT, "quantised weight '%.128s': %s %s", g->stem, part_words[part], why);
}

static mlxr_status unsupported(const group *g, const char *why)
{
    return error_set(g->error, MLXR_UNSUPPORTED, "quantised weight '%.128s': %s", g->stem, why);
}

/* A piece that must be there, of this kind, with these dimensions (innermost first; b = 0: any of a elements). */
static mlxr_status need(const group *g, hf_part part, raw_type raw, uint64_t a, uint64_t b)
{
    char why[160];
    const packed_piece *piece = g->of[part];
    if (!piece) {
        return bad_part(g, part, "missing");
    }
    if (piece->raw != raw) {
        return bad_part(g, part, "of another dtype than its kind of quantisation has");
    }
    const uint64_t *shape = piece->t.shape;
    uint64_t n = shape[0] * shape[1] * shape[2] * shape[3]; /* the file has that many: it fits */
    if (b ? shape[0] != a || shape[1] != b || n != a * b : n != a) {
        snprintf(why, sizeof why,
                 "of shape [%" PRIu64 ", %" PRIu64 "]; it should be [%" PRIu64 ", %" PRIu64
                 "] or have as many elements",
                 shape[1], shape[0], b ? b : 1, a);
        return bad_part(g, part, why);
    }
    return MLXR_OK;
}

static void add_source(packed_weight *w, const packed_piece *piece)
{
    w->sources[w->n_sources] = piece->t.data;
    w->source_bytes[w->n_sources++] = piece->t.n_bytes;
}

static void take_scales(packed_weight *w, const group *g)
{
    w->scales = g->of[HF_PART_SCALES]->t.data;
    w->scale_type = g->of[HF_PART_SCALES]->t.type;
    add_source(w, g->of[HF_PART_SCALES]);
}

/* Groups must be whole blocks, and at least one. */
static mlxr_status check_size(const group *g, const packed_weight *w, uint64_t block)
{
    if (w->n_in == 0 || w->n_out == 0 || w->n_in > UINT32_MAX || w->n_out > UINT32_MAX) {
        return bad_part(g, HF_PART_Q, "without rows or columns, or with too many");
    }
    if (w->n_in % block != 0 || (w->group < w->n_in && w->group % block != 0)) {
        return unsupported(g, block == 64 ? "rows or groups of weights that are no multiple of 64"
                                          : "rows or groups of weights that are no multiple of 32");
    }
    return MLXR_OK;
}

/* ---- GPTQ, AWQ ---- */

static bool zeros_are_eight(const packed_weight *w, const packed_piece *zeros)
{
    const uint32_t eight = w->zero_less_one ? 0x77777777u : 0x88888888u;
    for (uint64_t i = 0; i < zeros->t.n_bytes / 4; i++) {
        if (load_u32le(w->zeros + 4 * i) != eight) {
            return false;
        }
    }
    return true;
}

/* The block that holds scale × (q − zero) exactly. */
static dtype zero_point_type(const packed_weight *w, const packed_piece *zeros)
{
    bool eight = zeros_are_eight(w, zeros);
    if (w->scale_type == DTYPE_F16) {
        return eight ? DTYPE_Q4_0 : DTYPE_ZERO4;
    }
    return w->scale_type == DTYPE_BF16 && eight ? DTYPE_AFFINE4 : DTYPE_AFFINE8; /* −8 × scale is a bfloat16, too */
}

/* g_idx: kept only where it is not what the order of inputs says. */
static mlxr_status take_order(const group *g, packed_weight *w, uint64_t n_groups)
{
    mlxr_status status = need(g, HF_PART_ORDER, RAW_WORDS, w->n_in, 0);
    const uint8_t *order = status == MLXR_OK ? g->of[HF_PART_ORDER]->t.data : NULL;
    for (uint64_t k = 0; status == MLXR_OK && k < w->n_in; k++) {
        uint32_t of = load_u32le(order + 4 * k);
        if (of >= n_groups) {
            return bad_part(g, HF_PART_ORDER, "names a group that is not there");
        }
        if (of != k / w->group) {
            w->order = order;
        }
    }
    if (w->order) {
        add_source(w, g->of[HF_PART_ORDER]);
    }
    return status;
}

static mlxr_status make_zero_points(const group *g, packed_weight *w)
{
    bool gptq = g->quant->kind == HF_QUANT_GPTQ;
    const packed_piece *q = g->of[HF_PART_Q];
    if (q->raw != RAW_WORDS || q->t.n_dims != 2) {
        return bad_part(g, HF_PART_Q, "that are no matrix of int32");
    }
    w->layout = gptq ? PACKED_GPTQ : PACKED_AWQ;
    w->bits = 4;
    w->n_in = q->t.shape[1] * (gptq ? 8 : 1);
    w->n_out = q->t.shape[0] * (gptq ? 1 : 8);
    w->group = g->quant->group ? g->quant->group : w->n_in;
    w->zero_less_one = gptq && g->quant->zero_less_one;
    mlxr_status status = check_size(g, w, 32);
    if (status == MLXR_OK && w->n_out % 8 != 0) {
        status = unsupported(g, "a number of rows that is no multiple of 8");
    }
    if (status != MLXR_OK) {
        return status;
    }
    uint64_t n_groups = (w->n_in + w->group - 1) / w->group;
    status = need(g, HF_PART_SCALES, RAW_FLOAT, w->n_out, n_groups);
    if (status == MLXR_OK) {
        status = need(g, HF_PART_ZEROS, RAW_WORDS, w->n_out / 8, n_groups);
    }
    if (status == MLXR_OK && g->of[HF_PART_ORDER]) {
        status = take_order(g, w, n_groups);
    }
    if (status != MLXR_OK) {
        return status;
    }
    take_scales(w, g);
    w->zeros = g->of[HF_PART_ZEROS]->t.data;
    add_source(w, g->of[HF_PART_ZEROS]);
    w->type = w->order ? DTYPE_F16 : zero_point_type(w, g->of[HF_PART_ZEROS]);
    return MLXR_OK;
}

/* ---- MLX ---- */

static dtype affine_type(unsigned bits, dtype scale_type)
{
    if (scale_type == DTYPE_F16 && bits <= 5) {
        return bits == 5 ? DTYPE_Q5_1 : DTYPE_Q4_1;
    }
    return scale_type == DTYPE_BF16 && bits <= 4 ? DTYPE_AFFINE4 : DTYPE_AFFINE8;
}

static hf_quant_own how_of(const group *g)
{
    const name_index *own = &g->quant->own;
    uint64_t row = name_index_find(own, g->stem);
    if (row != NAME_INDEX_NONE) {
        return ((const hf_quant_own *)(const void *)own->rows)[row];
    }
    return (hf_quant_own){.bits = g->quant->bits, .group = g->quant->group, .mx = g->quant->mx};
}

static mlxr_status make_mlx(const group *g, packed_weight *w)
{
    const packed_piece *q = g->of[HF_PART_Q], *scales = g->of[HF_PART_SCALES];
    const hf_quant_own how = how_of(g);
    if (q->raw != RAW_WORDS || q->t.n_dims != 2) {
        return bad_part(g, HF_PART_Q, "that are no matrix of uint32");
    }
    if (!scales || scales->t.shape[0] > UINT32_MAX) {
        return bad_part(g, HF_PART_SCALES, "missing");
    }
    if (how.bits < 2 || how.bits > 8 || how.bits == 7 || (how.mx && (how.bits != 4 || how.group != 32))) {
        return unsupported(g, "2, 3, 4, 5, 6 or 8 bits can be read, of MXFP4 4 in groups of 32");
    }
    w->bits = how.bits;
    w->group = how.group;
    w->n_out = q->t.shape[1];
    w->n_in = scales->t.shape[0] * how.group;
    mlxr_status status = check_size(g, w, 32);
    if (status == MLXR_OK) {
        status = need(g, HF_PART_Q, RAW_WORDS, w->n_in / 32 * how.bits, w->n_out);
    }
    if (status == MLXR_OK) {
        status = need(g, HF_PART_SCALES, how.mx ? RAW_BYTES : RAW_FLOAT, w->n_in / how.group, w->n_out);
    }
    if (status == MLXR_OK && !how.mx) {
        status = need(g, HF_PART_ZEROS, RAW_FLOAT, w->n_in / how.group, w->n_out);
        if (status == MLXR_OK && g->of[HF_PART_ZEROS]->t.type != scales->t.type) {
            status = bad_part(g, HF_PART_ZEROS, "of another dtype than the scales");
        }
    }
    if (status != MLXR_OK) {
        return status;
    }
    take_scales(w, g);
    w->layout = how.mx ? PACKED_MXFP4 : PACKED_AFFINE;
    w->type = how.mx ? DTYPE_MXFP4 : affine_type(how.bits, w->scale_type);
    if (!how.mx) {
        w->zeros = g->of[HF_PART_ZEROS]->t.data;
        add_source(w, g->of[HF_PART_ZEROS]);
    }
    return MLXR_OK;
}

/* ---- bitsandbytes ---- */

typedef struct nf4_state {
    uint64_t block, outer_block, n_in, n_out;
    double offset;
} nf4_state;

static mlxr_status read_state(const group *g, nf4_state *out)
{
    json_t *root = NULL;
    const packed_piece *piece = g->of[HF_PART_STATE];
    mlxr_status status = need(g, HF_PART_STATE, RAW_BYTES, piece ? piece->t.n_bytes : 0, 0);
    if (status == MLXR_OK) {
        status = safetensors_parse_json(&root, (text_view){(const char *)piece->t.data, piece->t.n_bytes},
                                        "quant_state of bitsandbytes", g->error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    const json_t *shape = json_object_get(root, "shape");
    const json_int_t block = json_integer_value(json_object_get(root, "blocksize"));
    const json_int_t outer = json_integer_value(json_object_get(root, "nested_blocksize"));
    const json_int_t rows = json_integer_value(json_array_get(shape, 0));
    const json_int_t columns = json_integer_value(json_array_get(shape, 1));
    *out = (nf4_state){.block = (uint64_t)block,
                       .outer_block = (uint64_t)outer,
                       .n_out = (uint64_t)rows,
                       .n_in = (uint64_t)columns,
                       .offset = json_number_value(json_object_get(root, "nested_offset"))};
    if (json_array_size(shape) != 2 || rows < 1 || rows > INT32_MAX || columns < 1 || columns > INT32_MAX ||
        block < 1 || block > (1 << 20) || outer < 0 || outer > (1 << 20)) {
        status = bad_part(g, HF_PART_STATE, "without a shape of two dimensions, or without the size of blocks");
    }
    json_decref(root);
    return status;
}

static mlxr_status check_map(const group *g)
{
    mlxr_status status = need(g, HF_PART_MAP, RAW_FLOAT, 16, 0);
    const packed_piece *map = g->of[HF_PART_MAP];
    if (status == MLXR_OK && (map->t.type != DTYPE_F32 || memcmp(map->t.data, codec_nf4_values, 64) != 0)) {
        status = unsupported(g, "another quant_map than NF4's");
    }
    return status;
}

static mlxr_status take_outer(const group *g, packed_weight *w, const nf4_state *state, uint64_t n_blocks)
{
    if (state->outer_block == 0) {
        return bad_part(g, HF_PART_STATE, "without nested_blocksize");
    }
    mlxr_status status = need(g, HF_PART_OUTER, RAW_FLOAT, (n_blocks + state->outer_block - 1) / state->outer_block, 0);
    if (status == MLXR_OK) {
        status = need(g, HF_PART_OUTER_MAP, RAW_FLOAT, 256, 0);
    }
    if (status == MLXR_OK &&
        (g->of[HF_PART_OUTER]->t.type != DTYPE_F32 || g->of[HF_PART_OUTER_MAP]->t.type != DTYPE_F32)) {
        status = bad_part(g, HF_PART_OUTER, "and its map that are no F32");
    }
    if (status == MLXR_OK) {
        w->outer = g->of[HF_PART_OUTER]->t.data;
        w->map = g->of[HF_PART_OUTER_MAP]->t.data;
        w->outer_group = state->outer_block;
        w->offset = (float)state->offset;
        add_source(w, g->of[HF_PART_OUTER]);
    }
    return status;
}

static mlxr_status make_nf4(const group *g, packed_weight *w)
{
    nf4_state state;
    mlxr_status status = read_state(g, &state);
    if (status == MLXR_OK) {
        status = check_map(g);
    }
    if (status != MLXR_OK) {
        return status;
    }
    bool nested = g->of[HF_PART_SCALES] && g->of[HF_PART_SCALES]->raw == RAW_BYTES;
    uint64_t n = state.n_in * state.n_out, n_blocks = (n + state.block - 1) / state.block;
    w->layout = PACKED_NF4;
    w->type = DTYPE_NF4;
    w->bits = 4;
    w->n_in = state.n_in;
    w->n_out = state.n_out;
    w->group = state.block;
    status = state.block % 64 ? unsupported(g, "blocks that are no multiple of 64") : check_size(g, w, 64);
    if (status == MLXR_OK) {
        status = need(g, HF_PART_Q, RAW_BYTES, n / 2, 0);
    }
    if (status == MLXR_OK) {
        status = need(g, HF_PART_SCALES, nested ? RAW_BYTES : RAW_FLOAT, n_blocks, 0);
    }
    if (status == MLXR_OK && nested) {
        status = take_outer(g, w, &state, n_blocks);
    }
    if (status == MLXR_OK) {
        take_scales(w, g);
    }
    return status;
}

/* ---- FP8, MXFP4 ---- */

static mlxr_status make_fp8(const group *g, packed_weight *w)
{
    const packed_piece *q = g->of[HF_PART_Q], *scales = g->of[HF_PART_SCALES];
    if (q->t.n_dims != 2) {
        return bad_part(g, HF_PART_Q, "that are no matrix");
    }
    if (!scales || scales->raw != RAW_FLOAT || scales->t.n_dims > 2) {
        return bad_part(g, HF_PART_SCALES, "missing, or no floats in one or two dimensions");
    }
    uint64_t n_scales = scales->t.shape[0] * scales->t.shape[1];
    w->layout = PACKED_FP8;
    w->type = q->raw == RAW_E4M3 ? DTYPE_FP8_E4M3 : DTYPE_FP8_E5M2;
    w->bits = 8;
    w->n_in = w->group = q->t.shape[0];
    w->n_out = w->group_rows = q->t.shape[1];
    bool by_row = n_scales != 1 && n_scales == w->n_out && (scales->t.n_dims == 1 || scales->t.shape[0] == 1);
    if (by_row) {
        w->group_rows = 1;
    } else if (n_scales != 1) { /* without a size of blocks in config.json there may be only one */
        w->group = g->quant->group ? g->quant->group : w->n_in;
        w->group_rows = g->quant->group_rows ? g->quant->group_rows : w->n_out;
    }
    mlxr_status status = check_size(g, w, 32);
    if (status == MLXR_OK && !by_row) {
        status = need(g, HF_PART_SCALES, RAW_FLOAT, (w->n_in + w->group - 1) / w->group,
                      (w->n_out + w->group_rows - 1) / w->group_rows);
    }
    if (status == MLXR_OK) {
        take_scales(w, g);
    }
    return status;
}

/* A stack of matrices: q[matrices][rows][n_in / 32][16]. */
static mlxr_status make_mxfp4(const group *g, packed_weight *w, tensor *t)
{
    const packed_piece *q = g->of[HF_PART_Q], *scales = g->of[HF_PART_SCALES];
    if (q->raw != RAW_BYTES || q->t.n_dims != 4 || q->t.shape[0] != 16) {
        return bad_part(g, HF_PART_Q, "that are no stack of matrices of blocks of 16 bytes");
    }
    if (!scales || scales->raw != RAW_BYTES || scales->t.n_dims != 3 ||
        memcmp(scales->t.shape, q->t.shape + 1, 3 * sizeof *q->t.shape) != 0) {
        return bad_part(g, HF_PART_SCALES, "missing, or not one for each block");
    }
    w->layout = PACKED_MXFP4;
    w->type = DTYPE_MXFP4;
    w->bits = 4;
    w->n_in = 32 * q->t.shape[1];
    w->n_out = q->t.shape[2] * q->t.shape[3];
    w->group = 32;
    mlxr_status status = check_size(g, w, 32);
    if (status == MLXR_OK) {
        take_scales(w, g);
        t->n_dims = 3;
        t->shape[1] = q->t.shape[2];
        t->shape[2] = q->t.shape[3];
    }
    return status;
}

/* ---- joining ---- */

static int compare_pieces(const void *a, const void *b)
{
    const packed_piece *x = a, *y = b;
    int order = strcmp(x->stem, y->stem);
    return order ? order : (int)x->part - (int)y->part;
}

static mlxr_status make_kind(const group *g, packed_weight *w, tensor *t)
{
    switch (g->quant->kind) {
    case HF_QUANT_GPTQ:
    case HF_QUANT_AWQ:
        return make_zero_points(g, w);
    case HF_QUANT_MLX:
        return make_mlx(g, w);
    case HF_QUANT_BNB:
        return make_nf4(g, w);
    case HF_QUANT_FP8:
        return make_fp8(g, w);
    default:
        return make_mxfp4(g, w, t);
    }
}

static mlxr_status make_weight(const group *g, packed_weight *w, tensor *t)
{
    uint64_t n_bytes;
    *w = (packed_weight){0};
    *t = (tensor){.n_dims = 2, .shape = {1, 0, 1, 1}};
    if (!g->of[HF_PART_Q]) {
        return bad_part(g, HF_PART_Q, "missing");
    }
    w->q = g->of[HF_PART_Q]->t.data;
    add_source(w, g->of[HF_PART_Q]);
    mlxr_status status = make_kind(g, w, t);
    if (status != MLXR_OK) {
        return status;
    }
    t->type = w->type;
    t->shape[0] = w->n_in;
    t->shape[1] = t->shape[1] ? t->shape[1] : w->n_out;
    t->row_bytes = dtype_row_bytes(w->type, (size_t)w->n_in);
    if (!checked_mul(t->row_bytes, w->n_out, &n_bytes) || n_bytes > SIZE_MAX) {
        return bad_part(g, HF_PART_Q, "that are too many");
    }
    t->n_bytes = (size_t)n_bytes;
    return MLXR_OK;
}

/* Hugging Face's name of the whole. */
static const char *whole_name(const group *g, region *memory)
{
    size_t n = strlen(g->stem) + sizeof ".weight";
    char *name = region_alloc(memory, n);
    if (name) {
        snprintf(name, n, "%s%s", g->stem, g->quant->kind == HF_QUANT_MXFP4 ? "" : ".weight");
    }
    return name;
}

static mlxr_status join_sorted(packed_tensor *out, uint64_t *n_out, const packed_piece *all, uint64_t n,
                               const hf_quant *quant, region *memory, mlxr_error *error)
{
    for (uint64_t at = 0; at < n;) {
        group g = {.stem = all[at].stem, .quant = quant, .error = error};
        for (; at < n && strcmp(all[at].stem, g.stem) == 0; at++) {
            if (g.of[all[at].part]) {
                return bad_part(&g, all[at].part, "that are there twice");
            }
            g.of[all[at].part] = &all[at];
        }
        packed_tensor *p = &out[*n_out];
        p->weight = region_alloc(memory, sizeof *p->weight);
        p->name = whole_name(&g, memory);
        if (!p->weight || !p->name) {
            return error_nomem(error, g.stem, sizeof *p->weight);
        }
        mlxr_status status = make_weight(&g, p->weight, &p->t);
        if (status != MLXR_OK) {
            return status;
        }
        ++*n_out;
    }
    return MLXR_OK;
}

mlxr_status packed_join(packed_tensor **out, uint64_t *n_out, const packed_pieces *files, uint32_t n_files,
                        const hf_quant *quant, region *memory, mlxr_error *error)
{
    uint64_t n = 0, at = 0;
    *n_out = 0;
    *out = NULL;
    for (uint32_t i = 0; i < n_files; i++) {
        n += files[i].n;
    }
    if (n == 0) {
        return MLXR_OK;
    }
    packed_piece *all = region_array(memory, (size_t)n, sizeof *all);
    *out = region_array(memory, (size_t)n, sizeof **out);
    if (!all || !*out) {
        return error_nomem(error, "the table of quantised weights", (size_t)n * sizeof *all);
    }
    for (uint32_t i = 0; i < n_files; i++) {
        memcpy(all + at, files[i].pieces, (size_t)files[i].n * sizeof *all);
        at += files[i].n;
    }
    qsort(all, (size_t)n, sizeof *all, compare_pieces);
    return join_sorted(*out, n_out, all, n, quant, memory, error);
}
