/*
 * Attention over KV pages.
 * Owner: none; views and functions. Lifetime: the call (views: the step).
 */
#ifndef MLXR_KERNELS_CPU_ATTENTION_H
#define MLXR_KERNELS_CPU_ATTENTION_H

#include "kernels/kv_layout.h"

/* Keys and values of one sequence in one layer. */
typedef struct attend_view {
    uint8_t *base; /* of the group's pages */
    const kv_layout *layout;
    const uint32_t *pages; /* page id of positions [i × page_tokens, …) */
    uint32_t layer;        /* within the group */
} attend_view;

static inline uint8_t *attend_key(const attend_view *v, uint32_t head, uint32_t position)
{
    const kv_layout *l = v->layout;
    return v->base + v->pages[position / l->page_tokens] * l->page_bytes + kv_layout_k(l, v->layer, head) +
           (position & (l->page_tokens - 1)) * l->row_bytes;
}

static inline uint8_t *attend_value(const attend_view *v, uint32_t head, uint32_t position)
{
    return attend_key(v, head, position) + v->layout->n_head_kv * v->layout->head_bytes;
}

/* The first position a query at `position` sees. */
static inline uint32_t attend_first(uint32_t window, uint32_t position)
{
    return window && position >= window ? position - window + 1 : 0;
}

/* The oracle: out[head_dim] = attention of q[head_dim], query head `head` at `position`, in double and two passes.
 * Needs position + 1 + 2 × head_dim doubles of scratch. */
void attend_scalar(const attend_view *view, const op_attend *attend, uint32_t head, uint32_t position, const float *q,
                   float *out, double *scratch);

#endif
