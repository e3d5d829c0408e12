/*
 * The Metal kernels as a host sees them: their sources cut for mx::fast::metal_kernel, and for each the grid it wants
 * and the words of its `params`. One place for the MLX primitives, the emulator's tests and whoever else starts them.
 * Owner: none; plain values and const tables. Lifetime: static.
 *
 * Names of kernels end in their types: rms_norm_f16, attention_decode_fused_f32_f16_128 (activations, KV, head size).
 * `params` is an array of words; a float lies in its word as its bits. Arrays of fewer than 8 elements must be padded:
 * MLX would hand them over in another address space. All strides are in elements.
 */
#ifndef MLXR_KERNELS_METAL_KERNELS_H
#define MLXR_KERNELS_METAL_KERNELS_H

#include "kernels/kv_layout.h"

/* One [[kernel]] as mx::fast::metal_kernel takes it: what comes before it, its body, its arguments in order (NULL at
 * the end), and its template's parameters ("typename T", "int HEAD", "bool PAIRS"). Built-ins are named by their
 * attribute. */
typedef struct metal_kernel_source {
    const char *name;
    const char *header, *body;
    const char *const *inputs;
    const char *const *outputs;
    const char *const *template_parameters;
} metal_kernel_source;

/* Ends with a row whose name is NULL. In the library metal_kernel_sources. */
extern const metal_kernel_source metal_kernel_sources[];

#define METAL_WORDS_MAX 20

/* How a kernel is started: threads in all, threads of a threadgroup, and its `params`. */
typedef struct metal_dispatch {
    uint32_t grid[3], group[3];
    uint32_t words[METAL_WORDS_MAX];
    uint32_t n_words;
} metal_dispatch;

/* `threads` in what follows: of a threadgroup, in whole simdgroups; it is brought into what the kernel can do. 0: what
 * is thought best. Kernels without it have a size that their tiles decide. */

/* ---- rms_norm: x, weight (f32), params → y ---- */

typedef struct metal_rms_norm {
    uint32_t n_rows, n_groups, width; /* x [n_rows][n_groups][width] */
    uint32_t row_stride, group_stride, element_stride;
    float eps;
    bool weighted; /* else `weight` is not read */
    uint32_t threads;
} metal_rms_norm;
metal_dispatch metal_rms_norm_dispatch(const metal_rms_norm *n);

/* ---- rope_apply: x, positions, inv_freq, params → y; rope_table: positions, inv_freq, params → table ---- */

typedef struct metal_rope {
    uint32_t n_rows, n_heads, head_dim, n_rot;
    uint32_t row_stride, head_stride;
    float magnitude;
    uint32_t threads;
} metal_rope;
metal_dispatch metal_rope_dispatch(const metal_rope *r);
metal_dispatch metal_rope_table_dispatch(const metal_rope *r); /* [n_rows][n_rot / 2][cos, sin] */

/* ---- attention ---- */

/* Where a layer's keys and values lie in the pages of its group, in elements of the KV type. */
typedef struct metal_kv {
    uint64_t page_elements;
    uint32_t layer_elements, head_elements, tokens_shift;
} metal_kv;
metal_kv metal_kv_of(const kv_layout *layout, uint32_t layer);

/* attention_decode_fused: q, pages, tables [n_tables][table_stride], row_tables [n_rows], positions [n_rows], sinks,
 * params → y [n_rows][n_head][head_dim], partials [n_rows][n_head][n_splits][head_dim + 2] (not written for one split);
 * attention_decode_merge: partials, sinks, params → y. A row of position −1 sees nothing and gets zeros. */
typedef struct metal_decode {
    uint32_t n_rows, n_head, n_head_kv, head_dim;
    uint32_t q_row_stride, q_head_stride;
    float scale, softcap;
    uint32_t window, table_stride, n_splits;
    bool sinks;
    metal_kv kv;
} metal_decode;
metal_dispatch metal_decode_dispatch(const metal_decode *d);
metal_dispatch metal_decode_merge_dispatch(const metal_decode *d);
/* How many threadgroups should share a context of so many positions: some for each of the GPU's cores, none with less
 * than 256 positions. */
uint32_t metal_decode_splits(const metal_decode *d, uint32_t n_positions, uint32_t n_cores);

/* kv_write: k, v, turns (rope_table's), pages, tables, row_tables, positions, params → done. */
typedef struct metal_kv_write {
    uint32_t n_rows, n_head_kv, head_dim, n_rot; /* n_rot 0: keys are not turned */
    uint32_t k_stride, v_stride;                 /* from row to row */
    rope_kind kind;
    uint32_t table_stride;
    metal_kv kv;
    uint32_t threads;
} metal_kv_write;
metal_dispatch metal_kv_write_dispatch(const metal_kv_write *w);

/* attention_prefill_fused: q, k, v, turns, pages, tables, tiles, sinks, params → y [n_rows][n_head][head_dim]. */
typedef struct metal_prefill {
    uint32_t n_tiles, n_head, n_head_kv, head_dim, n_rot;
    uint32_t q_stride, k_stride, v_stride; /* from row to row; heads are contiguous */
    float scale, softcap;
    uint32_t window, table_stride;
    rope_kind kind;
    bool sinks;
    dtype type; /* of activations: F32, F16 or BF16 */
    metal_kv kv;
} metal_prefill;
metal_dispatch metal_prefill_dispatch(const metal_prefill *p);
/* Query rows of a tile. */
uint32_t metal_prefill_rows(uint32_t head_dim, dtype type);
/* A tile: rows [row, row + n_rows) of the step, of the slice that begins at slice_row and position `start`, and which
 * table its pages are in. */
#define METAL_TILE_WORDS 8
typedef struct metal_tile {
    uint32_t row, n_rows, slice_row, start, table;
} metal_tile;
void metal_tile_words(const metal_tile *tile, uint32_t words[METAL_TILE_WORDS]);

/* ---- products with quantised weights ---- */

/* q_gemm_vector and q_gemm_matrix: x, weight (bytes as in GGUF, at a multiple of 16), bias (f32), params → y
 * [n_rows][n_out]. Names: q_gemm_vector_f32_q4_k_1 (the last: rows of x that share unpacked weights,
 * metal_rows_shared), q_gemm_matrix_f32_q4_k. Template: the type of x and y, the weight's GGUF type, those rows. */
typedef struct metal_q_gemm {
    uint32_t n_rows, n_in, n_out;
    uint32_t x_stride;
    dtype type;
    bool biased;
    uint32_t threads; /* of the vector form */
} metal_q_gemm;
metal_dispatch metal_q_gemm_vector_dispatch(const metal_q_gemm *g);
metal_dispatch metal_q_gemm_matrix_dispatch(const metal_q_gemm *g);
/* Below this many rows the vector form is taken. */
#define METAL_Q_GEMM_MATRIX_ROWS 8
static inline uint32_t metal_rows_shared(uint32_t n_rows)
{
    return n_rows == 1 ? 1 : 4;
}

/* swiglu_mlp_fused: x, gate, up (weights of one type), params → y = activation(x · gateᵀ) ∘ (x · upᵀ) [n_rows][n_out];
 * gated_apply: gate, up, params → y, where the products came from q_gemm_matrix. */
typedef struct metal_swiglu {
    uint32_t n_rows, n_in, n_out;
    uint32_t x_stride;
    dtype type;
    activation act; /* ACT_SILU or ACT_GELU_TANH */
    uint32_t threads;
} metal_swiglu;
metal_dispatch metal_swiglu_dispatch(const metal_swiglu *s);
/* Rows of `gate` are gate_stride apart, of `up` up_stride. */
metal_dispatch metal_gated_dispatch(uint32_t n_rows, uint32_t width, uint32_t gate_stride, uint32_t up_stride,
                                    activation act);

#endif
