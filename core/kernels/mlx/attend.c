/*
 * Attention over pages as a graph: slices are computed together where they are alike, keys and values of earlier
 * steps are gathered from the pages by number, those of this step come from the graph. Query heads that share a key
 * head are rows of one product with it: nothing is repeated (docs/GQA_RESHAPE_FIX.md).
 * Owner: the walk. Lifetime: the step's graph.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/mlx/kernels.h"

#define NEVER INT32_MAX /* the position of what is not there: after every query */

/* Slices whose earlier tokens differ by more than this and by half are not padded to the same length. */
#define UNLIKE_TOKENS 512u

/* Queries of a text that is seen from both ends that are attended to at a time. */
#define BOTH_ROWS 512

/* A step's graph that cannot be built for want of memory fails as MLX itself would. */
static void *take_memory(walk *w, size_t n, size_t size)
{
    return region_array(w->memory, n ? n : 1, size);
}

/* ---- batches ---- */

static int by_shape(const void *x, const void *y)
{
    const step_slice *a = *(const step_slice *const *)x, *b = *(const step_slice *const *)y;
    if (a->n_rows != b->n_rows) {
        return a->n_rows < b->n_rows ? -1 : 1;
    }
    if (a->start != b->start) {
        return a->start > b->start ? -1 : 1;
    }
    return a->first_row < b->first_row ? -1 : a->first_row > b->first_row;
}

/* Does b go with the batch that a, which has no fewer tokens before it, began? Texts that are seen from both ends have
 * none before them; the shorter ones are padded. */
static bool alike(const step_slice *a, const step_slice *b, bool both_ways)
{
    if (both_ways) {
        return a->n_rows >= b->n_rows / 2;
    }
    return a->n_rows == b->n_rows && (a->start - b->start <= UNLIKE_TOKENS || b->start >= a->start / 2);
}

/* The rows of all batches in their order, and its inverse. Padding is a slice's last row again. */
static void order_rows(walk *w)
{
    int32_t n = (int32_t)w->s->n_rows, n_padded = 0, at = 0;
    for (uint32_t i = 0; i < w->n_batches; i++) {
        n_padded += w->batches[i].n * w->batches[i].n_rows;
    }
    int32_t *rows = take_memory(w, (size_t)n_padded, sizeof *rows);
    int32_t *inverse = take_memory(w, (size_t)n, sizeof *inverse);
    bool in_order = n_padded == n;
    if (!rows || !inverse) {
        w->n_batches = 0;
        return;
    }
    for (uint32_t i = 0; i < w->n_batches; i++) {
        batch *b = &w->batches[i];
        for (int32_t j = 0; j < b->n; j++) {
            int32_t first = (int32_t)b->slices[j]->first_row, last = first + (int32_t)b->slices[j]->n_rows - 1;
            for (int32_t r = 0; r < b->n_rows; r++, at++) {
                rows[at] = first + r < last ? first + r : last;
                in_order = in_order && rows[at] == at;
                if (first + r <= last) {
                    inverse[rows[at]] = at;
                }
            }
        }
    }
    if (in_order && w->n_batches == 1) {
        return;
    }
    at = 0;
    for (uint32_t i = 0; i < w->n_batches; i++) {
        int32_t n_rows = w->batches[i].n * w->batches[i].n_rows;
        w->batches[i].rows = bridge_copy(w->a, MLX_I32, 1, &n_rows, rows + at);
        at += n_rows;
    }
    w->order = in_order ? NULL : bridge_copy(w->a, MLX_I32, 1, &n, inverse);
}

void batches_make(walk *w)
{
    const step *s = w->s;
    const step_slice **sorted = take_memory(w, s->n_slices, sizeof *sorted);
    w->batches = take_memory(w, s->n_slices, sizeof *w->batches);
    if (!sorted || !w->batches) {
        return;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_slices; i++) {
        if (s->slices[i].n_rows) {
            sorted[n++] = &s->slices[i];
        }
    }
    qsort(sorted, n, sizeof *sorted, by_shape);
    for (uint32_t i = 0; i < n; i++) {
        batch *b = w->n_batches ? &w->batches[w->n_batches - 1] : NULL;
        if (!b || !alike(b->slices[0], sorted[i], w->prog->plan->both_ways)) {
            b = &w->batches[w->n_batches++];
            *b = (batch){.slices = &sorted[i]};
        }
        b->n_rows = (int32_t)sorted[i]->n_rows; /* the longest, which comes last */
        b->n++;
    }
    order_rows(w);
}

/* ---- what a batch sees ---- */

static uint32_t first_seen(const batch_view *v, uint32_t position)
{
    uint32_t first = v->first < position ? v->first : position; /* its own it always sees */
    return v->window && position >= v->window + first ? (uint32_t)plan_first_seen(v->window, v->chunked, position)
                                                      : first;
}

/* Pages [*first, *first + returned) hold what the slice sees of earlier steps. */
static uint32_t pages_seen(const step_slice *slice, const batch_view *v, uint32_t page_tokens, uint32_t *first)
{
    uint32_t position = first_seen(v, slice->start);
    *first = position / page_tokens;
    return position < slice->start ? (slice->start - 1) / page_tokens + 1 - *first : 0;
}

/* Which keys each row of each slice sees: [n, 1, n_rows, keys]; and which of the pages' positions are written. */
static bool make_masks(walk *w, const batch *b, batch_view *v, uint32_t page_tokens)
{
    mlx_arena *a = w->a;
    const int32_t n_keys = v->n_past + b->n_rows;
    int32_t *keys = take_memory(w, (size_t)b->n * (size_t)n_keys, sizeof *keys);
    int32_t *queries = take_memory(w, (size_t)b->n * (size_t)b->n_rows, sizeof *queries);
    int32_t *before = take_memory(w, (size_t)b->n * (size_t)b->n_rows, sizeof *before); /* the last position unseen */
    if (!keys || !queries || !before) {
        return false;
    }
    for (int32_t i = 0; i < b->n; i++) {
        uint32_t first, start = b->slices[i]->start;
        pages_seen(b->slices[i], v, page_tokens, &first);
        int32_t *key = keys + (size_t)i * (size_t)n_keys, from = (int32_t)(first * page_tokens) + v->skip;
        for (int32_t j = 0; j < v->n_past; j++) {
            key[j] = from + j < (int32_t)start ? from + j : NEVER;
        }
        for (int32_t j = 0; j < b->n_rows; j++) {
            key[v->n_past + j] = queries[i * b->n_rows + j] = (int32_t)start + j;
            before[i * b->n_rows + j] = (int32_t)first_seen(v, start + (uint32_t)j) - 1;
        }
    }
    const int32_t key_shape[] = {b->n, 1, 1, n_keys}, query_shape[] = {b->n, 1, b->n_rows, 1};
    mlx_value *k = bridge_copy(a, MLX_I32, 4, key_shape, keys), *q = bridge_copy(a, MLX_I32, 4, query_shape, queries);
    v->mask = bridge_two(a, BRIDGE_LESS_EQUAL, k, q);
    if (v->window || v->first) { /* a position that is NEVER is masked already */
        mlx_value *unseen = bridge_copy(a, MLX_I32, 4, query_shape, before);
        v->mask = bridge_two(a, BRIDGE_AND, v->mask, bridge_two(a, BRIDGE_LESS, unseen, k));
    }
    if (b->n > 1 && v->n_past) {
        const int32_t never = NEVER;
        mlx_value *past = value_reshape(a, bridge_slice(a, k, 3, 0, v->n_past), 4, b->n, 1, v->n_past, 1);
        v->written = bridge_two(a, BRIDGE_LESS, past, bridge_copy(a, MLX_I32, 0, NULL, &never));
    }
    return true;
}

static bool make_view(walk *w, const batch *b, const op_attend *attend, batch_view *v)
{
    const kv_layout *l = &w->s->kv.layout[attend->kv_group];
    uint32_t first, n_pages = 0;
    *v = (batch_view){
        .kv_group = attend->kv_group, .window = attend->window, .chunked = attend->chunked, .first = attend->first};
    for (int32_t i = 0; i < b->n; i++) {
        uint32_t n = pages_seen(b->slices[i], v, l->page_tokens, &first);
        n_pages = n > n_pages ? n : n_pages;
    }
    v->n_pages = (int32_t)n_pages;
    v->n_past = (int32_t)(n_pages * l->page_tokens);
    int32_t *ids = take_memory(w, (size_t)b->n * n_pages, sizeof *ids);
    if (!ids) {
        return false;
    }
    for (int32_t i = 0; i < b->n; i++) {
        uint32_t n = pages_seen(b->slices[i], v, l->page_tokens, &first);
        for (uint32_t j = 0; j < n_pages; j++) { /* what is too much is masked, whatever page it is */
            uint32_t page = j < n ? b->slices[i]->pages[attend->kv_group][first + j] : 0;
            v->page_end = page + 1 > v->page_end ? page + 1 : v->page_end;
            ids[(uint32_t)i * n_pages + j] = (int32_t)(page * l->n_layers);
        }
    }
    const int32_t n_ids = b->n * v->n_pages;
    v->pages = n_ids ? bridge_copy(w->a, MLX_I32, 1, &n_ids, ids) : NULL;
    const step_slice *one = b->slices[0];
    uint32_t last = one->start + one->n_rows - 1;
    if (b->n > 1) {
        return make_masks(w, b, v, l->page_tokens);
    }
    uint32_t seen = first_seen(v, one->start); /* exactly what the first row sees */
    v->skip = n_pages ? (int32_t)(seen % l->page_tokens) : 0;
    v->n_past = (int32_t)(one->start - seen);
    v->causal = b->n_rows > 1;
    if (v->causal && first_seen(v, last) > seen) {
        return make_masks(w, b, v, l->page_tokens);
    }
    return true;
}

const batch_view *batch_view_of(walk *w, batch *b, const op_attend *attend)
{
    for (uint32_t i = 0; i < b->n_views; i++) {
        if (b->views[i].kv_group == attend->kv_group && b->views[i].window == attend->window &&
            b->views[i].chunked == attend->chunked && b->views[i].first == attend->first) {
            return &b->views[i];
        }
    }
    batch_view *v = &b->views[b->n_views < WALK_SHAPES_MAX ? b->n_views : WALK_SHAPES_MAX - 1];
    if (!make_view(w, b, attend, v)) {
        return NULL;
    }
    b->n_views += b->n_views < WALK_SHAPES_MAX;
    return v;
}

/* ---- keys and values ---- */

/* How a row of a page is seen as an array. */
static mlx_type page_type(dtype type, int32_t *n, const kv_layout *l)
{
    *n = (int32_t)l->head_dim;
    switch (type) {
    case DTYPE_F32:
        return MLX_F32;
    case DTYPE_F16:
        return MLX_F16;
    case DTYPE_BF16:
        return MLX_BF16;
    default:
        *n = (int32_t)l->row_bytes;
        return MLX_U8;
    }
}

mlx_value *walk_pool(walk *w, uint16_t group, uint32_t page_end)
{
    const kv_layout *l = &w->s->kv.layout[group];
    if (page_end > w->pool_pages[group]) {
        int32_t n;
        mlx_type type = page_type(l->type, &n, l);
        const int32_t n_all = (int32_t)(page_end * l->n_layers), states[] = {n_all, (int32_t)l->state_width};
        const int32_t rows[] = {n_all, l->one_row ? 1 : 2, (int32_t)l->n_head_kv, (int32_t)l->page_tokens, n};
        bool recurrent = l->state_width != 0;
        w->pools[group] = bridge_wrap(w->a, type, recurrent ? 2 : 5, recurrent ? states : rows, w->s->kv.base[group]);
        if (w->late && !w->prog->device.wraps) { /* a copy, of what earlier steps are still writing */
            walk_late(w, w->pools[group], w->s->kv.base[group], page_end * l->page_bytes);
        }
        w->pool_pages[group] = page_end;
    }
    return w->pools[group];
}

/* Earlier keys (0) or values (1) of a batch: [n, n_head_kv, n_past, head_dim], F32, as stored. `summed`: they will be,
 * as values are. */
static mlx_value *past_of(walk *w, const batch *b, const batch_view *v, const op_attend *attend, int which, bool summed,
                          const mlx_value *gathered)
{
    static const int heads_first[] = {0, 2, 1, 3, 4};
    mlx_arena *a = w->a;
    const kv_layout *l = &w->s->kv.layout[attend->kv_group];
    int32_t n_heads = (int32_t)l->n_head_kv, n_tokens = v->n_pages * (int32_t)l->page_tokens, row;
    page_type(l->type, &row, l);
    mlx_value *x = bridge_slice(a, gathered, 1, which, which + 1);
    x = value_reshape(a, x, 5, b->n, v->n_pages, n_heads, (int32_t)l->page_tokens, row);
    x = value_reshape(a, bridge_transpose(a, x, 5, heads_first), 4, b->n, n_heads, n_tokens, row);
    if (v->n_past < n_tokens) {
        x = bridge_slice(a, x, 2, v->skip, v->skip + v->n_past);
    }
    x = kv_values_decode(w, l, x, b->n * n_heads * v->n_past);
    x = value_reshape(a, x, 4, b->n, n_heads, v->n_past, (int32_t)l->head_dim);
    /* Where nothing was written yet there may be anything, and 0 × NaN is not 0. Keys are masked after the product. */
    return summed && v->written ? bridge_where(a, v->written, x, bridge_scalar(a, 0)) : x;
}

/* The batch's rows of x [n_rows of the step, n_heads × head_dim] as [n, n_heads, n_rows, head_dim]. */
static mlx_value *heads_of(walk *w, const batch *b, mlx_value *x, int32_t n_heads, int32_t head_dim)
{
    static const int heads_first[] = {0, 2, 1, 3};
    x = b->rows ? bridge_take(w->a, x, b->rows, 0) : x;
    x = value_reshape(w->a, x, 4, b->n, b->n_rows, n_heads, head_dim);
    return bridge_transpose(w->a, x, 4, heads_first);
}

static mlx_value *keep_rows(walk *w, const kv_layout *l, mlx_value *x)
{
    switch (l->type) {
    case DTYPE_F16:
        return bridge_cast(w->a, value_clip(w->a, x, -65504.0f, 65504.0f), MLX_F16);
    case DTYPE_BF16:
        return bridge_cast(w->a, x, MLX_BF16);
    default:
        return x;
    }
}

/* NULL: no memory. */
static layer_keys *keys_of(walk *w, const op_attend *at)
{
    layer_keys **all = &w->keys[at->kv_group];
    *all = *all ? *all : take_memory(w, w->prog->plan->kv_groups[at->kv_group].n_layers, sizeof **all);
    return *all ? &(*all)[at->kv_layer] : NULL;
}

void walk_keep_keys(walk *w, const op *o)
{
    const kv_layout *l = &w->s->kv.layout[o->attend.kv_group];
    layer_keys *of = keys_of(w, &o->attend);
    if (!of) {
        bridge_keep(w->a, NULL); /* which fails */
        return;
    }
    if (o->attend.both_ways) { /* a text is one step, and nothing of it is kept */
        *of = (layer_keys){w->slots[SLOT_K], w->slots[SLOT_V]};
        return;
    }
    mlx_value *k = keep_rows(w, l, w->slots[SLOT_K]), *v = l->one_row ? NULL : keep_rows(w, l, w->slots[SLOT_V]);
    of->keys = kv_values_round(w, l->type, l->head_dim, k);
    of->values = v ? kv_values_round(w, l->type, l->head_dim, v) : of->keys;
    if (w->prog->device.wraps && kernel_takes_attention(w, o)) {
        return; /* attention puts them into the host's own pages */
    }
    w->g->rows[w->g->n_rows++] = (page_rows){
        .o = o, .k = bridge_one(w->a, BRIDGE_CONTIGUOUS, k), .v = v ? bridge_one(w->a, BRIDGE_CONTIGUOUS, v) : NULL};
}

/* ---- attention ---- */

/* With a cap on the scores, which MLX's own attention does not have. q [n, n_head, n_rows, d]: the heads that share a
 * key head are rows of one product. mask [1 or n, 1, 1 or n_rows, n_keys] or NULL. */
static mlx_value *attend_capped(walk *w, const op_attend *at, mlx_value *q, mlx_value *k, mlx_value *values,
                                const mlx_value *mask, const mlx_value *sinks)
{
    static const int turned[] = {0, 1, 3, 2};
    mlx_arena *a = w->a;
    int32_t n_kv = (int32_t)at->n_head_kv, shared = (int32_t)at->n_head / n_kv, d = (int32_t)at->head_dim;
    int32_t n = bridge_dim(q, 0), n_rows = bridge_dim(q, 2), n_keys = bridge_dim(k, 2);
    q = value_reshape(a, q, 4, n, n_kv, shared * n_rows, d);
    mlx_value *s = bridge_two(a, BRIDGE_MATMUL, value_scale(a, q, at->scale / at->softcap),
                              bridge_transpose(a, k, 4, turned));
    s = value_scale(a, bridge_one(a, BRIDGE_TANH, s), at->softcap);
    s = value_reshape(a, s, 5, n, n_kv, shared, n_rows, n_keys);
    if (mask) {
        mask = value_reshape(a, mask, 5, bridge_dim(mask, 0), 1, 1, bridge_dim(mask, 2), n_keys);
        s = bridge_where(a, mask, s, bridge_scalar(a, -3.0e38f));
    }
    mlx_value *top = bridge_reduce(a, BRIDGE_MAX, s, 4), *sink = NULL;
    if (sinks) {
        sink = value_reshape(a, sinks, 5, 1, n_kv, shared, 1, 1);
        top = bridge_two(a, BRIDGE_MAXIMUM, top, sink);
    }
    s = bridge_one(a, BRIDGE_EXP, value_sub(a, s, top));
    mlx_value *total = bridge_reduce(a, BRIDGE_SUM, s, 4);
    if (sinks) {
        total = value_add(a, total, bridge_one(a, BRIDGE_EXP, value_sub(a, sink, top)));
    }
    s = value_reshape(a, value_div(a, s, total), 4, n, n_kv, shared * n_rows, n_keys);
    return value_reshape(a, bridge_two(a, BRIDGE_MATMUL, s, values), 4, n, (int32_t)at->n_head, n_rows, d);
}

/* [n, n_heads, n_rows, head_dim] as rows again. */
static mlx_value *rows_of(walk *w, const batch *b, mlx_value *x, const op_attend *at)
{
    static const int rows_first[] = {0, 2, 1, 3};
    x = bridge_transpose(w->a, x, 4, rows_first);
    return value_reshape(w->a, x, 2, b->n * b->n_rows, (int32_t)(at->n_head * at->head_dim));
}

static mlx_value *attend_batch(walk *w, batch *b, const op *o, const op_arrays *arrays)
{
    const op_attend *at = &o->attend;
    mlx_arena *a = w->a;
    int32_t d = (int32_t)at->head_dim, n_kv = (int32_t)at->n_head_kv, n_head = (int32_t)at->n_head;
    const kv_layout *l = &w->s->kv.layout[at->kv_group];
    const batch_view *v = batch_view_of(w, b, at);
    const layer_keys *of = keys_of(w, at);
    if (!v || !of) {
        return NULL;
    }
    float back = kv_turn_length(l->type, l->head_dim) ? kv_turn_back_factor(kv_turn_length(l->type, l->head_dim)) : 1;
    mlx_value *q = kv_values_turn(w, l->type, l->head_dim, heads_of(w, b, w->slots[SLOT_Q], n_head, d), back);
    mlx_value *k = heads_of(w, b, of->keys, n_kv, d);
    mlx_value *values = l->one_row ? k : heads_of(w, b, of->values, n_kv, d);
    if (v->n_past) {
        const int32_t layer = at->kv_layer;
        mlx_value *ids = value_add(a, v->pages, bridge_copy(a, MLX_I32, 0, NULL, &layer));
        mlx_value *gathered = bridge_take(a, walk_pool(w, at->kv_group, v->page_end), ids, 0);
        const mlx_value *all_k[] = {past_of(w, b, v, at, 0, l->one_row, gathered), k};
        k = bridge_join(a, all_k, 2, 2);
        if (l->one_row) {
            values = k;
        } else {
            const mlx_value *all_v[] = {past_of(w, b, v, at, 1, true, gathered), values};
            values = bridge_join(a, all_v, 2, 2);
        }
    }
    mlx_value *out;
    if (at->softcap > 0) {
        batch_view masked = *v;
        if (!v->mask && v->causal && !make_masks(w, b, &masked, l->page_tokens)) {
            return NULL;
        }
        out = attend_capped(w, at, q, k, values, masked.mask, arrays->sinks);
    } else {
        out = bridge_attention(a, q, k, values, at->scale, v->causal, v->mask, arrays->sinks);
    }
    return rows_of(w, b, kv_values_turn(w, l->type, l->head_dim, out, back), at);
}

/* ---- texts that are seen from both ends ---- */

/* Queries [first, last) of a batch and the keys [begin, end) that they see. */
typedef struct both_view {
    int32_t first, last, begin, end;
} both_view;

/* Which keys each query sees: [n, 1, 1 or queries, keys]; NULL: all. What is padding nobody sees. */
static mlx_value *both_mask(walk *w, const batch *b, const op_attend *at, const both_view *v)
{
    mlx_arena *a = w->a;
    const int32_t n_keys = v->end - v->begin, n_queries = v->last - v->first, window = (int32_t)at->window;
    bool near = window && window < b->n_rows, padded = (int32_t)b->slices[0]->n_rows < b->n_rows;
    if (!near && !padded) {
        return NULL;
    }
    int32_t *keys = take_memory(w, (size_t)b->n * (size_t)n_keys, sizeof *keys);
    int32_t *queries = take_memory(w, (size_t)n_queries, sizeof *queries);
    if (!keys || !queries) {
        return bridge_keep(a, NULL); /* no mask would say that everything is seen */
    }
    for (int32_t i = 0; i < b->n; i++) {
        for (int32_t j = 0; j < n_keys; j++) {
            keys[i * n_keys + j] = v->begin + j < (int32_t)b->slices[i]->n_rows ? v->begin + j : NEVER;
        }
    }
    for (int32_t i = 0; i < n_queries; i++) {
        queries[i] = v->first + i;
    }
    const int32_t key_shape[] = {b->n, 1, 1, n_keys}, query_shape[] = {1, 1, n_queries, 1}, never = NEVER;
    mlx_value *k = bridge_copy(a, MLX_I32, 4, key_shape, keys);
    if (!near) {
        return bridge_two(a, BRIDGE_LESS, k, bridge_copy(a, MLX_I32, 0, NULL, &never));
    }
    mlx_value *apart = value_sub(a, k, bridge_copy(a, MLX_I32, 4, query_shape, queries));
    return bridge_two(a, BRIDGE_LESS, bridge_one(a, BRIDGE_ABS, apart), bridge_copy(a, MLX_I32, 0, NULL, &window));
}

/* Some queries at a time, so that the scores of a long text are never all there. */
static mlx_value *attend_both_ways(walk *w, const batch *b, const op *o, const op_arrays *arrays)
{
    const op_attend *at = &o->attend;
    mlx_arena *a = w->a;
    int32_t d = (int32_t)at->head_dim, n_kv = (int32_t)at->n_head_kv, window = (int32_t)at->window;
    mlx_value *q = heads_of(w, b, w->slots[SLOT_Q], (int32_t)at->n_head, d);
    const layer_keys *of = keys_of(w, at);
    if (!of) {
        return NULL;
    }
    mlx_value *k = heads_of(w, b, of->keys, n_kv, d), *values = heads_of(w, b, of->values, n_kv, d);
    int32_t n_parts = (b->n_rows + BOTH_ROWS - 1) / BOTH_ROWS;
    const mlx_value **parts = take_memory(w, (size_t)n_parts, sizeof *parts);
    if (!parts) {
        return NULL;
    }
    for (int32_t i = 0; i < n_parts; i++) {
        both_view v = {.first = i * BOTH_ROWS, .last = (i + 1) * BOTH_ROWS, .end = b->n_rows};
        v.last = v.last < b->n_rows ? v.last : b->n_rows;
        if (window) {
            v.begin = v.first >= window ? v.first - window + 1 : 0;
            v.end = window < b->n_rows - v.last + 1 ? v.last - 1 + window : b->n_rows;
        }
        mlx_value *part = bridge_slice(a, q, 2, v.first, v.last), *mask = both_mask(w, b, at, &v);
        mlx_value *seen = bridge_slice(a, k, 2, v.begin, v.end), *found = bridge_slice(a, values, 2, v.begin, v.end);
        parts[i] = at->softcap > 0 ? attend_capped(w, at, part, seen, found, mask, arrays->sinks)
                                   : bridge_attention(a, part, seen, found, at->scale, false, mask, arrays->sinks);
    }
    return rows_of(w, b, bridge_join(a, parts, (size_t)n_parts, 2), at);
}

mlx_value *walk_attend(walk *w, const op *o, const op_arrays *arrays)
{
    if (kernel_takes_attention(w, o)) {
        return kernel_attend(w, o, arrays);
    }
    const mlx_value **parts = take_memory(w, w->n_batches, sizeof *parts);
    if (!parts || w->n_batches == 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < w->n_batches; i++) {
        parts[i] = o->attend.both_ways ? attend_both_ways(w, &w->batches[i], o, arrays)
                                       : attend_batch(w, &w->batches[i], o, arrays);
    }
    mlx_value *out = w->n_batches == 1 ? bridge_keep(w->a, parts[0]) : bridge_join(w->a, parts, w->n_batches, 0);
    return w->order ? bridge_take(w->a, out, w->order, 0) : out;
}
