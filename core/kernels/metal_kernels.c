/*
 * Grids and parameters of the Metal kernels.
 * Owner: none. Lifetime: the call. Any thread.
 */
#include "kernels/metal_kernels.h"

#include <string.h>

#define SIMD_WIDTH 32u
#define DECODE_THREADS 128u
#define DECODE_SPLIT_POSITIONS 256u /* of a split at least */
#define DECODE_GROUPS_PER_CORE 8u
#define ROPE_HEADS 4u      /* heads a thread turns */
#define VECTOR_OUTPUTS 4u  /* a simdgroup's rows of weights */
#define SWIGLU_OUTPUTS 2u  /* a simdgroup's rows of gate and of up */
#define MATRIX_OUTPUTS 64u /* a tile of the matrix form */
#define MATRIX_ROWS 32u
#define MATRIX_THREADS 128u
#define THREADS_MAX 1024u

static uint32_t float_word(float f)
{
    uint32_t word;
    memcpy(&word, &f, sizeof word);
    return word;
}

static uint32_t round_up(uint32_t n, uint32_t to)
{
    return (n + to - 1) / to * to;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* A threadgroup's threads: as wanted, else as thought best, in whole simdgroups and as many as a device takes. */
static uint32_t threads_of(uint32_t wanted, uint32_t best)
{
    return least(round_up(wanted ? wanted : best, SIMD_WIDTH), THREADS_MAX);
}

static void add_word(metal_dispatch *d, uint32_t word)
{
    d->words[d->n_words++] = word;
}

static void add_kv(metal_dispatch *d, const metal_kv *kv)
{
    add_word(d, (uint32_t)kv->page_elements);
    add_word(d, (uint32_t)(kv->page_elements >> 32));
    add_word(d, kv->layer_elements);
    add_word(d, kv->head_elements);
    add_word(d, kv->tokens_shift);
}

metal_dispatch metal_rms_norm_dispatch(const metal_rms_norm *n)
{
    uint32_t threads = threads_of(n->threads, (n->width + 3) / 4);
    return (metal_dispatch){.grid = {n->n_rows * n->n_groups * threads, 1, 1},
                            .group = {threads, 1, 1},
                            .words = {n->width, n->n_groups, n->row_stride, n->group_stride, n->element_stride,
                                      float_word(n->eps), n->weighted},
                            .n_words = 7};
}

metal_dispatch metal_rope_dispatch(const metal_rope *r)
{
    uint32_t pairs = round_up(r->head_dim / 2, SIMD_WIDTH);
    return (metal_dispatch){.grid = {pairs, (r->n_heads + ROPE_HEADS - 1) / ROPE_HEADS, r->n_rows},
                            .group = {least(pairs, threads_of(r->threads, 128)), 1, 1},
                            .words = {r->n_rows, r->n_heads, r->head_dim, r->n_rot, r->row_stride, r->head_stride,
                                      float_word(r->magnitude)},
                            .n_words = 7};
}

metal_dispatch metal_rope_table_dispatch(const metal_rope *r)
{
    uint32_t pairs = round_up(r->n_rot / 2, SIMD_WIDTH);
    return (metal_dispatch){.grid = {pairs, r->n_rows, 1},
                            .group = {least(pairs, threads_of(r->threads, 128)), 1, 1},
                            .words = {r->n_rows, r->n_rot / 2, float_word(r->magnitude)},
                            .n_words = 3};
}

metal_kv metal_kv_of(const kv_layout *layout, uint32_t layer)
{
    size_t element = layout->row_bytes / layout->head_dim;
    metal_kv kv = {.page_elements = layout->page_bytes / element,
                   .layer_elements = (uint32_t)(kv_layout_k(layout, layer, 0) / element),
                   .head_elements = (uint32_t)(layout->head_bytes / element)};
    while (1u << kv.tokens_shift < layout->page_tokens) {
        kv.tokens_shift++;
    }
    return kv;
}

/* Query heads of a KV head that a threadgroup takes side by side, as the kernel decides. */
static uint32_t decode_sets(const metal_decode *d)
{
    uint32_t group = d->n_head / d->n_head_kv, side = group >= 3 ? 4 : group;
    return (group + side - 1) / side;
}

metal_dispatch metal_decode_dispatch(const metal_decode *d)
{
    metal_dispatch m = {.grid = {DECODE_THREADS * d->n_splits, d->n_head_kv * decode_sets(d), d->n_rows},
                        .group = {DECODE_THREADS, 1, 1},
                        .words = {d->n_head, d->n_head_kv, d->q_row_stride, d->q_head_stride, float_word(d->scale),
                                  float_word(d->softcap), d->window, d->table_stride, d->n_splits, d->sinks},
                        .n_words = 10};
    add_kv(&m, &d->kv);
    return m;
}

metal_dispatch metal_decode_merge_dispatch(const metal_decode *d)
{
    return (metal_dispatch){.grid = {SIMD_WIDTH, d->n_head, d->n_rows},
                            .group = {SIMD_WIDTH, 1, 1},
                            .words = {d->n_head, d->n_splits, d->sinks},
                            .n_words = 3};
}

uint32_t metal_decode_splits(const metal_decode *d, uint32_t n_positions, uint32_t n_cores)
{
    uint32_t seen = d->window ? least(d->window, n_positions) : n_positions;
    uint32_t groups = d->n_head_kv * decode_sets(d) * d->n_rows, wanted = n_cores * DECODE_GROUPS_PER_CORE;
    uint32_t splits = least((wanted + groups - 1) / groups, seen / DECODE_SPLIT_POSITIONS);
    return splits ? splits : 1;
}

metal_dispatch metal_kv_write_dispatch(const metal_kv_write *w)
{
    uint32_t pairs = round_up(w->head_dim / 2, SIMD_WIDTH);
    metal_dispatch m = {.grid = {pairs, w->n_head_kv, w->n_rows},
                        .group = {least(pairs, threads_of(w->threads, 128)), 1, 1},
                        .words = {w->n_rows, w->n_head_kv, w->head_dim, w->n_rot, w->k_stride, w->v_stride,
                                  w->kind == ROPE_PAIRS, w->table_stride},
                        .n_words = 8};
    add_kv(&m, &w->kv);
    return m;
}

/* Bytes of a row in a tile of attention_prefill_fused. */
static uint32_t tile_row_bytes(uint32_t head_dim, dtype type)
{
    return head_dim * (type == DTYPE_F16 ? 2 : 4);
}

uint32_t metal_prefill_rows(uint32_t head_dim, dtype type)
{
    return tile_row_bytes(head_dim, type) > 512 ? 16 : 32;
}

metal_dispatch metal_prefill_dispatch(const metal_prefill *p)
{
    uint32_t threads = metal_prefill_rows(p->head_dim, p->type) / 8 * SIMD_WIDTH;
    metal_dispatch m = {.grid = {p->n_tiles * threads, p->n_head, 1},
                        .group = {threads, 1, 1},
                        .words = {p->n_head, p->n_head_kv, p->q_stride, p->k_stride, p->v_stride, float_word(p->scale),
                                  float_word(p->softcap), p->window, p->sinks, p->n_rot, p->kind == ROPE_PAIRS,
                                  p->table_stride},
                        .n_words = 12};
    add_kv(&m, &p->kv);
    return m;
}

void metal_tile_words(const metal_tile *tile, uint32_t words[METAL_TILE_WORDS])
{
    memset(words, 0, METAL_TILE_WORDS * sizeof *words);
    words[0] = tile->row;
    words[1] = tile->n_rows;
    words[2] = tile->slice_row;
    words[3] = tile->start;
    words[4] = tile->table;
}

static metal_dispatch product(uint32_t n_rows, uint32_t n_in, uint32_t n_out, uint32_t x_stride, dtype type,
                              uint32_t last)
{
    return (metal_dispatch){.words = {n_rows, n_in, n_out, x_stride, (uint32_t)dtype_row_bytes(type, n_in), last},
                            .n_words = 6};
}

/* A simdgroup for each `of_simdgroup` outputs, in whole threadgroups. */
static void share_outputs(metal_dispatch *m, uint32_t n_out, uint32_t of_simdgroup, uint32_t n_rows, uint32_t threads)
{
    m->group[0] = threads_of(threads, 2 * SIMD_WIDTH);
    m->grid[0] = round_up((n_out + of_simdgroup - 1) / of_simdgroup * SIMD_WIDTH, m->group[0]);
    m->grid[1] = (n_rows - 1) / metal_rows_shared(n_rows) + 1;
    m->grid[2] = m->group[1] = m->group[2] = 1;
}

metal_dispatch metal_q_gemm_vector_dispatch(const metal_q_gemm *g)
{
    metal_dispatch m = product(g->n_rows, g->n_in, g->n_out, g->x_stride, g->type, g->biased);
    share_outputs(&m, g->n_out, VECTOR_OUTPUTS, g->n_rows, g->threads);
    return m;
}

metal_dispatch metal_q_gemm_matrix_dispatch(const metal_q_gemm *g)
{
    metal_dispatch m = product(g->n_rows, g->n_in, g->n_out, g->x_stride, g->type, g->biased);
    m.grid[0] = MATRIX_THREADS * ((g->n_rows + MATRIX_ROWS - 1) / MATRIX_ROWS);
    m.grid[1] = (g->n_out + MATRIX_OUTPUTS - 1) / MATRIX_OUTPUTS;
    m.grid[2] = m.group[1] = m.group[2] = 1;
    m.group[0] = MATRIX_THREADS;
    return m;
}

metal_dispatch metal_swiglu_dispatch(const metal_swiglu *s)
{
    metal_dispatch m = product(s->n_rows, s->n_in, s->n_out, s->x_stride, s->type, s->act == ACT_GELU_TANH);
    share_outputs(&m, s->n_out, SWIGLU_OUTPUTS, s->n_rows, s->threads);
    return m;
}

metal_dispatch metal_gated_dispatch(uint32_t n_rows, uint32_t width, uint32_t gate_stride, uint32_t up_stride,
                                    activation act)
{
    uint32_t threads = round_up((width + 3) / 4, SIMD_WIDTH);
    return (metal_dispatch){.grid = {threads, n_rows, 1},
                            .group = {least(threads, 256), 1, 1},
                            .words = {n_rows, width, gate_stride, up_stride, act == ACT_GELU_TANH},
                            .n_words = 5};
}
