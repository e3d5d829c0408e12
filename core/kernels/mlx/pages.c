/*
 * Keys, values and states of a step's rows go into the sequences' pages.
 * Owner: none. Lifetime: the call.
 */
#include <string.h>

#include "kernels/kv_row.h"
#include "kernels/mlx/mixers.h"

/* One row of all heads [n_head_kv][head_dim], which begins at `first` of its page. */
static void write_heads(const kv_layout *l, const uint8_t *src, uint8_t *first)
{
    bool blocks = dtype_find((uint32_t)l->type)->block_size > 1; /* then src is F32 */
    size_t src_bytes = blocks ? l->head_dim * sizeof(float) : l->row_bytes;
    for (uint32_t h = 0; h < l->n_head_kv; h++) {
        uint8_t *dst = first + h * l->head_bytes;
        const uint8_t *head = src + h * src_bytes;
        if (blocks) {
            kv_row_encode_scalar(l->type, (const float *)(const void *)head, dst, l->head_dim);
        } else {
            memcpy(dst, head, l->row_bytes);
        }
    }
}

static void write_keys(const op_attend *a, const step *s, const uint8_t *k, const uint8_t *v)
{
    const kv_layout *l = &s->kv.layout[a->kv_group];
    uint8_t *base = s->kv.base[a->kv_group];
    bool blocks = dtype_find((uint32_t)l->type)->block_size > 1;
    size_t stride = (size_t)l->n_head_kv * (blocks ? l->head_dim * sizeof(float) : l->row_bytes);
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const step_slice *slice = &s->slices[i];
        for (uint32_t j = 0; j < slice->n_rows; j++) {
            uint32_t position = slice->start + j;
            size_t row = slice->first_row + j, at = (position & (l->page_tokens - 1)) * l->row_bytes;
            uint8_t *page = base + slice->pages[a->kv_group][position / l->page_tokens] * l->page_bytes;
            write_heads(l, k + row * stride, page + kv_layout_k(l, a->kv_layer, 0) + at);
            if (v) { /* else values are the keys */
                write_heads(l, v + row * stride, page + kv_layout_v(l, a->kv_layer, 0) + at);
            }
        }
    }
}

static void write_states(const page_rows *rows, const step *s, const float *states)
{
    const state_part part = state_part_of(rows->o);
    const kv_layout *l = &s->kv.layout[part.state->kv_group];
    uint8_t *base = (uint8_t *)s->kv.base[part.state->kv_group] + part.state->kv_layer * l->layer_bytes;
    for (uint32_t i = 0; i < rows->n_targets; i++) {
        const state_target *t = &rows->targets[i];
        uint32_t page = s->slices[t->slice].pages[part.state->kv_group][t->row + 1];
        if (page != KV_PAGE_NONE) { /* a graph that was built before the step may give more than are wanted */
            memcpy(base + page * l->page_bytes + part.state->first * sizeof *states, states + (size_t)i * part.width,
                   part.width * sizeof *states);
        }
    }
}

void pages_write(const page_rows *rows, const step *s, const void *k, const void *v)
{
    if (!rows->o) {
        return;
    }
    if (rows->o->kind != OP_KV_WRITE) {
        write_states(rows, s, k);
    } else {
        write_keys(&rows->o->attend, s, k, v);
    }
}
