/*
 * Row kernels of the CPU backend (all but the matrix products): one table of functions, filled scalar-first and
 * overwritten per instruction set.
 * Owner: the backend holds its table by value. Lifetime: the backend's. Functions are pure; any thread.
 *
 * Rows are f32. `dst` may equal `src` where both exist. No function needs aligned pointers, reads or writes beyond n.
 */
#ifndef MLXR_KERNELS_CPU_OPS_H
#define MLXR_KERNELS_CPU_OPS_H

#include "base/cpu.h"
#include "kernels/cpu/attention.h"
#include "kernels/kv_words.h"
#include "kernels/plan.h"

/* One row of one head of OP_RECUR, or n_v columns of it: the state it finds and the one it leaves, which may be the
 * same memory. */
typedef struct recur_row {
    const float *before; /* [n_k] rows of n_v, before_stride apart; NULL: zeros */
    float *after;        /* likewise */
    size_t before_stride, after_stride;
    const float *q, *k; /* [n_k] */
    const float *v;     /* [n_v] */
    float *out;         /* [n_v] */
    uint32_t n_k, n_v;
    float fade, learn;
    bool delta; /* v less what the faded state has for k already */
} recur_row;

/* Values of which ops_table.upper gives one greatest: whole vectors of every instruction set, and few enough that a
 * block with something great in it is soon searched. A multiple of LINEAR_ROW_GRAIN, and SCREEN_CHUNK is one of it
 * (screen.c). */
#define OPS_UPPER_BLOCK 64u

typedef struct ops_table {
    /* dst[n] = norm(src[n]) × weight[n] + bias[n]; weight and bias may be NULL (1 and 0). */
    void (*norm)(norm_kind kind, const float *src, float *dst, const float *weight, const float *bias, uint32_t n,
                 float eps);
    /* Turns the first n_rot elements of each of n_heads heads; cosines and sines [n_rot / 2]. */
    void (*rope)(rope_kind kind, float *heads, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot,
                 const float *cosines, const float *sines);
    /* gate[n] = activation(gate[n]) × up[n]; up may be NULL (1) */
    void (*gated)(activation act, float *gate, const float *up, uint32_t n);
    /* dst[n] += src[n] × scale */
    void (*add)(float *dst, const float *src, float scale, uint32_t n);
    /* Σ a[i] × b[i] */
    float (*dot)(const float *a, const float *b, uint32_t n);
    /* x[n] += before[n] × factors[n] */
    void (*decay)(float *x, const float *before, const float *factors, uint32_t n);
    /* after = fade × before + k (learn × v)ᵀ, out = afterᵀ q */
    void (*recur)(const recur_row *r);
    /* x[n] *= scale */
    void (*scale)(float *x, float scale, uint32_t n);
    /* x[n] = cap × tanh(x[n] / cap) */
    void (*softcap)(float *x, float cap, uint32_t n);
    /* x[n] = curve(x[n]) */
    void (*curve)(const op_curve *curve, float *x, uint32_t n);
    /* upper[i] = the greatest of values[j] + lengths[j] × reach for j in [i × OPS_UPPER_BLOCK, …), n in all. NaN counts
     * for nothing. */
    void (*upper)(const float *values, const float *lengths, float reach, uint32_t n, float *upper);
    /* src[n], one head → its row in a KV page. F16 and BF16 round to nearest even, F16 keeps to its finite range; Q8_0
     * and Q4_0 are turned first (kv_layout.h), and a block with a NaN or an infinity becomes NaN. */
    void (*to_kv)(dtype type, const float *src, void *dst, uint32_t n);
    /* src[n], a key, query or value → words of I16; returns their scale (kv_words.h). */
    float (*to_words)(kv_words_kind kind, const float *src, uint32_t n, int16_t *words);
    attend_kernels attend; /* .scores is NULL in the scalar table: attention is attend_scalar then */
} ops_table;

/* Double accumulators and libm: the oracle. */
ops_table ops_table_scalar(void);
/* The fastest for these features. Errors against the scalar table, with ε = 2⁻²³: norm (8 + √n) ε |y|; rope 2 ε (|a| +
 * |b|); gated 16 ε |y|, and for GELU-tanh up to 60 ε |y| where |x| > 4; add and decay ε; dot n/8 ε Σ|ab|; recur
 * (8 + 2 n_k) ε Σ|terms|; softcap 8 ε cap; curve 4 ε Σ|terms|, of which
 * xIELU's are eˣ, 1 and x times fall, slope x and rise x²; upper ε (|value| + |length × reach|); to_kv none.
 */
ops_table ops_table_make(cpu_features features);

/* src[head_dim] → a key or value of a page, whatever its type. */
void ops_kv_write(const ops_table *ops, const attend_view *v, uint32_t head, bool value, uint32_t position,
                  const float *src);

/* Overwrites entries with what the features allow; one definition per architecture: ops_x86.c, ops_arm.c, … */
void ops_table_arch(ops_table *table, cpu_features features);
void ops_table_avx2(ops_table *table);
void ops_table_avx512(ops_table *table);
void ops_table_avx512vnni(ops_table *table); /* besides what AVX-512 has */
void ops_table_neon(ops_table *table);

/* Σ a[i] × b[i] in double, eight running sums. */
double ops_dot_double(const float *a, const float *b, uint32_t n);

#endif
