/*
 * Tiled attention: a task's queries meet their keys block by block, through the kernels of an instruction set.
 * Owner: none. Lifetime: the call; scratch is the thread's.
 */
#include "kernels/cpu/attention.h"

#include <math.h>
#include <string.h>

/* How far keys and values are fetched ahead of where they are met: beyond what memory takes to answer, in a part of L2.
 */
#define AHEAD_BYTES 16384u

/* A thread's scratch for one task. */
typedef struct tile_memory {
    float *q;                /* [ATTEND_QUERIES][padded] */
    float *scores;           /* [ATTEND_QUERIES][ATTEND_STRIDE] */
    float *panel;            /* keys or values */
    float *q_scales, *units; /* [ATTEND_QUERIES]: of words */
    attend_sums total, group, block;
} tile_memory;

size_t attend_scratch_bytes(uint32_t head_dim)
{
    size_t padded = attend_padded(head_dim);
    size_t floats = ATTEND_QUERIES * (4 * padded + ATTEND_STRIDE + 8) + attend_panel_rows(head_dim) * padded;
    return floats * sizeof(float);
}

static tile_memory carve(void *scratch, uint32_t padded)
{
    size_t matrix = ATTEND_QUERIES * (size_t)padded;
    tile_memory t = {.q = scratch};
    t.total.out = t.q + matrix;
    t.group.out = t.total.out + matrix;
    t.block.out = t.group.out + matrix;
    t.panel = t.block.out + matrix;
    t.scores = t.panel + (size_t)attend_panel_rows(padded) * padded;
    t.total.max = t.scores + ATTEND_QUERIES * (size_t)ATTEND_STRIDE;
    t.total.sum = t.total.max + ATTEND_QUERIES;
    t.group.max = t.total.sum + ATTEND_QUERIES;
    t.group.sum = t.group.max + ATTEND_QUERIES;
    t.block.max = t.group.sum + ATTEND_QUERIES;
    t.block.sum = t.block.max + ATTEND_QUERIES;
    t.q_scales = t.block.sum + ATTEND_QUERIES;
    t.units = t.q_scales + ATTEND_QUERIES;
    return t;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

typedef struct tile {
    const attend_kernels *k;
    const op_attend *a;
    const attend_view *view;
    const attend_reach *reach;
    attend_ahead *ahead;
    uint32_t n_rows, n_heads, n_queries, padded;
    uint32_t first_position; /* of the first row */
} tile;

/* The keys (or values) from `position` on that lie side by side: within a page, at most n. */
static attend_rows_at run_at(const attend_reach *r, bool values, uint32_t position, uint32_t n)
{
    const kv_layout *l = r->view.layout;
    uint32_t in_page = l->page_tokens - (position & (l->page_tokens - 1)), lane = position % KV_PART;
    if (l->type == DTYPE_I16 && lane) { /* from the half that it is in */
        attend_rows_at run = run_at(r, values, position - lane, least(n + lane, KV_PART));
        run.at += lane / KV_HALF * kv_words_half(l->head_dim);
        run.n_rows -= lane;
        return run;
    }
    return (attend_rows_at){.at = values ? attend_value(&r->view, r->kv_head, position)
                                         : attend_key(&r->view, r->kv_head, position),
                            .n_rows = least(n, in_page),
                            .head_dim = l->head_dim,
                            .row_bytes = l->row_bytes,
                            .type = l->type};
}

attend_reach attend_reach_of(const op_attend *a, const attend_view *view, uint32_t slice_start, const attend_task *task)
{
    uint32_t position = slice_start + task->first_row, origin = task->first_block * ATTEND_BLOCK;
    uint32_t first = attend_first(a, position);
    return (attend_reach){
        .view = *view,
        .kv_head = task->kv_head,
        .first = first > origin ? first : origin,
        .end = least(attend_end(a, position + task->n_rows - 1, view->n_positions), task->end_block * ATTEND_BLOCK)};
}

static void ahead_begin(attend_ahead *h, uint32_t position, uint32_t end)
{
    h->begin = h->position = position;
    h->end = least((position / ATTEND_BLOCK + 1) * ATTEND_BLOCK, end);
    h->values = false;
}

/* At most n rows of what comes next in the order in which tasks meet them: a block's keys, its values, the next one's
 * keys. */
static attend_rows_at ahead_next(attend_ahead *h, uint32_t n)
{
    const attend_reach *r = h->crossed ? &h->next : &h->now;
    if (h->position == h->end && !h->values && h->begin < h->end) {
        h->position = h->begin;
        h->values = true;
    } else if (h->position == h->end && h->end < r->end) {
        ahead_begin(h, h->end, r->end);
    } else if (h->position == h->end && !h->crossed && h->next.end) {
        h->crossed = true;
        r = &h->next;
        ahead_begin(h, r->first, r->end);
    }
    if (h->position == h->end) {
        return (attend_rows_at){0};
    }
    attend_rows_at run = run_at(r, h->values, h->position, least(n, h->end - h->position));
    h->position += run.n_rows;
    return run;
}

/* A task begins: where the thread has fetched some of it already, it goes on from there. */
static void ahead_task(attend_ahead *h, const attend_reach *task, const attend_reach *next)
{
    h->now = *task;
    h->next = next ? *next : (attend_reach){0};
    if (h->crossed) {
        h->crossed = false;
        return;
    }
    ahead_begin(h, task->first, task->end);
    h->lead = 0;
}

/* What is read of a run; of words whole halves are. */
static size_t fetched_bytes(const attend_rows_at *run)
{
    uint32_t n_rows = run->type == DTYPE_I16 ? (run->n_rows + KV_HALF - 1) / KV_HALF * KV_HALF : run->n_rows;
    return n_rows * run->row_bytes;
}

/* What to fetch while n rows are met, into *f: as many more or, where that is too little of a lead, twice as many. Not
 * returned: a copy would read as one what was just written piece by piece, and wait for it. */
static void ahead_of(attend_ahead *h, uint32_t n, attend_fetch *f)
{
    const size_t row_bytes = h->now.view.layout->row_bytes;
    uint32_t n_rows = 0;
    if (h->lead < n) {
        h->lead += ahead_next(h, n - h->lead).n_rows; /* these are met at once */
    }
    f->each = h->lead * row_bytes < AHEAD_BYTES ? 2 : 1;
    f->n_runs = 0;
    while (f->n_runs < ATTEND_FETCH_RUNS && n_rows < f->each * n) {
        attend_rows_at run = ahead_next(h, f->each * n - n_rows);
        if (run.n_rows == 0) {
            break;
        }
        f->at[f->n_runs] = run.at;
        f->n_bytes[f->n_runs++] = fetched_bytes(&run);
        n_rows += run.n_rows;
    }
    h->lead = h->lead + n_rows > n ? h->lead + n_rows - n : 0;
}

/* The keys (or values) of positions [begin, end), run by run; as many rows ahead are fetched meanwhile. */
static void meet_rows(const tile *t, tile_memory *m, bool values, uint32_t origin, uint32_t begin, uint32_t end,
                      float *out)
{
    const uint32_t most = attend_met_rows(t->view->layout, t->n_queries);
    attend_rows_at now;
    attend_fetch next;
    for (uint32_t p = begin; p < end; p += now.n_rows) {
        now = run_at(t->reach, values, p, least(most, end - p));
        ahead_of(t->ahead, now.n_rows, &next);
        if (values) {
            t->k->values(m->scores + (p - origin), t->n_queries, &now, p == begin, m->panel, out, &next);
        } else {
            t->k->scores(m->q, t->n_queries, &now, m->panel, m->scores + (p - origin), &next);
        }
    }
}

/* The part that `position` is in, of the block at `origin`. */
static words_part part_at(const tile *t, bool values, uint32_t origin, uint32_t position, uint32_t end)
{
    const attend_reach *r = t->reach;
    uint32_t lane = position % KV_PART, first = position - lane, n = t->view->layout->head_dim;
    uint8_t *at = values ? attend_value(&r->view, r->kv_head, first) : attend_key(&r->view, r->kv_head, first);
    return (words_part){
        .at = at, .from = first - origin, .first = lane, .end = least(end - first, KV_PART), .head_dim = n};
}

/* Keys of words; as much is fetched ahead. */
static void meet_word_keys(const tile *t, tile_memory *m, uint32_t origin, uint32_t begin, uint32_t end)
{
    attend_fetch next;
    for (uint32_t p = begin; p < end; p = (p / KV_PART + 1) * KV_PART) {
        words_part part = part_at(t, false, origin, p, end);
        ahead_of(t->ahead, part.end - part.first, &next);
        t->k->words.scores((const int16_t *)(const void *)m->q, m->q_scales, t->n_queries, &part, m->scores + part.from,
                           &next);
    }
}

static void meet_word_values(const tile *t, tile_memory *m, uint32_t origin, uint32_t begin, uint32_t end, float *out)
{
    words_part parts[ATTEND_BLOCK / KV_PART];
    attend_fetch next;
    uint32_t n_parts = 0;
    for (uint32_t p = begin; p < end; p = (p / KV_PART + 1) * KV_PART) {
        parts[n_parts++] = part_at(t, true, origin, p, end);
    }
    for (uint32_t i = 0; i < t->n_queries; i++) {
        m->units[i] = t->k->words.weights(m->scores + (size_t)i * ATTEND_STRIDE, parts, n_parts, begin - origin,
                                          end - origin);
    }
    ahead_of(t->ahead, end - begin, &next);
    t->k->words.values(m->scores, m->units, t->n_queries, parts, n_parts, out, &next);
}

/* Everything the tile's queries make of positions [begin, end) of the block at `origin`, into *sums from nothing. */
static void compute_block(const tile *t, tile_memory *m, uint32_t origin, uint32_t begin, uint32_t end,
                          attend_sums *sums)
{
    const bool words = t->view->layout->type == DTYPE_I16;
    if (words) {
        meet_word_keys(t, m, origin, begin, end);
    } else {
        meet_rows(t, m, false, origin, begin, end, NULL);
    }
    uint32_t i = 0;
    for (uint32_t row = 0; row < t->n_rows; row++) {
        uint32_t position = t->first_position + row, first = attend_first(t->a, position);
        uint32_t lo = first > begin ? first : begin, hi = least(attend_end(t->a, position, t->view->n_positions), end);
        lo = least(lo, end); /* a later query of a window tile may see nothing of an early block */
        hi = hi > lo ? hi : lo;
        for (uint32_t h = 0; h < t->n_heads; h++, i++) {
            t->k->soften(m->scores + (size_t)i * ATTEND_STRIDE, begin - origin, end - origin, lo - origin, hi - origin,
                         t->a->scale, t->a->softcap, &sums->max[i], &sums->sum[i]);
        }
    }
    if (words) {
        meet_word_values(t, m, origin, begin, end, sums->out);
    } else {
        meet_rows(t, m, true, origin, begin, end, sums->out);
    }
}

/* What each query's sum over the values is multiplied by in the end: 1 / Σ exp, which the sinks join. */
static void finish_factors(const op_attend *a, uint32_t first_head, uint32_t n_heads, attend_sums *sums)
{
    for (uint32_t h = 0; h < n_heads; h++) {
        float factor = 1.0f / sums->sum[h];
        if (a->sinks) {
            float sink = a->sinks[first_head + h], top = fmaxf(sums->max[h], sink), scale = expf(sums->max[h] - top);
            factor = scale / (sums->sum[h] * scale + expf(sink - top));
        }
        sums->sum[h] = factor;
    }
}

static attend_sums sums_from(attend_sums *sums, uint32_t query, uint32_t padded)
{
    return (attend_sums){sums->max + query, sums->sum + query, sums->out + (size_t)query * padded};
}

static attend_sums partial_at(float *partials, uint32_t n_queries)
{
    return (attend_sums){partials, partials + n_queries, partials + ((2 * (size_t)n_queries + 15) & ~(size_t)15)};
}

static bool ends_group(uint32_t block, uint32_t end_block)
{
    return block + 1 == end_block || (block + 1) % ATTEND_GROUP == 0;
}

/* Queries are turned as the keys they meet are, outputs are turned back as the values were; both by the same product.
 */
static void turn(const attend_kernels *kernels, const kv_layout *l, float *x, size_t n)
{
    uint32_t length = kv_turn_length(l->type, l->head_dim);
    if (length) {
        kernels->turn(x, (uint32_t)n, length, kv_turn_back_factor(length));
    }
}

/* The tile's queries, side by side. */
static void gather(const tile *t, tile_memory *m, uint32_t slice_row, const attend_task *task, const attend_rows *rows)
{
    uint32_t n = t->a->head_dim;
    float *dst = m->q;
    for (uint32_t row = 0; row < t->n_rows; row++) {
        const float *q = rows->q + (slice_row + task->first_row + row) * rows->q_stride + (size_t)task->first_head * n;
        if (n == t->padded) {
            memcpy(dst, q, t->n_heads * (size_t)n * sizeof *q);
            dst += t->n_heads * (size_t)n;
            continue;
        }
        for (uint32_t h = 0; h < t->n_heads; h++, dst += t->padded, q += n) {
            memcpy(dst, q, n * sizeof *q);
            memset(dst + n, 0, (t->padded - n) * sizeof *q);
        }
    }
    turn(t->k, t->view->layout, m->q, t->n_queries * (size_t)n); /* heads of turned rows are not padded */
    if (t->view->layout->type != DTYPE_I16) {
        return;
    }
    for (uint32_t i = 0; i < t->n_queries; i++) { /* in their place: words take less */
        int16_t words[KV_WORDS_MAX];
        m->q_scales[i] = t->k->words.encode(KV_WORDS_KEY, m->q + (size_t)i * n, n, words);
        memcpy((int16_t *)(void *)m->q + (size_t)i * n, words, n * sizeof *words);
    }
}

void attend_run(const attend_kernels *kernels, const op_attend *a, const attend_view *view, uint32_t slice_row,
                uint32_t slice_start, const attend_task *task, const attend_reach *next, const attend_rows *rows,
                attend_ahead *ahead, void *scratch)
{
    attend_reach reach = attend_reach_of(a, view, slice_start, task);
    tile t = {.k = kernels,
              .a = a,
              .view = view,
              .reach = &reach,
              .ahead = ahead,
              .n_rows = task->n_rows,
              .n_heads = task->n_heads,
              .n_queries = task->n_rows * task->n_heads,
              .padded = attend_padded(a->head_dim),
              .first_position = slice_start + task->first_row};
    tile_memory m = carve(scratch, t.padded);
    gather(&t, &m, slice_row, task, rows);
    ahead_task(ahead, &reach, next);
    bool shared_out = task->partials != SIZE_MAX;
    uint32_t unit = shared_out ? attend_unit(t.n_queries) : ATTEND_GROUP;
    size_t n_floats = attend_partial_floats(t.n_queries, a->head_dim);
    for (uint32_t b = task->first_block; b < task->end_block; b++) {
        uint32_t origin = b * ATTEND_BLOCK, begin = reach.first > origin ? reach.first : origin;
        uint32_t end = least(origin + ATTEND_BLOCK, reach.end), n_before = b / unit - task->first_block / unit;
        bool fresh = b == task->first_block || b % unit == 0;
        attend_sums *into = n_before ? &m.group : &m.total, partial;
        if (shared_out) {
            partial = partial_at(rows->partials + task->partials + n_before * n_floats, t.n_queries);
            into = &partial;
        }
        compute_block(&t, &m, origin, begin, end, fresh ? into : &m.block);
        if (!fresh) {
            kernels->fold(into, &m.block, t.n_queries, t.padded);
        }
        if (into == &m.group && ends_group(b, task->end_block)) {
            kernels->fold(&m.total, &m.group, t.n_queries, t.padded);
        }
    }
    for (uint32_t row = 0; row < t.n_rows && !shared_out; row++) {
        attend_sums sums = sums_from(&m.total, row * t.n_heads, t.padded);
        float *out = rows->out + (slice_row + task->first_row + row) * rows->out_stride;
        finish_factors(a, task->first_head, t.n_heads, &sums);
        out += (size_t)task->first_head * a->head_dim;
        kernels->finish(&sums, sums.sum, t.n_heads, a->head_dim, out);
        turn(kernels, view->layout, out, t.n_heads * (size_t)a->head_dim);
    }
}

void attend_join(const attend_kernels *kernels, const op_attend *a, const kv_layout *layout, uint32_t slice_row,
                 const attend_task *task, uint32_t query, const attend_rows *rows, void *scratch)
{
    uint32_t padded = attend_padded(a->head_dim), n_queries = task->n_rows * task->n_heads;
    uint32_t row = query / task->n_heads, head = task->first_head + query % task->n_heads;
    tile_memory m = carve(scratch, padded);
    attend_sums *sums = &m.total;
    float *partials = rows->partials + task->partials;
    uint32_t unit = attend_unit(n_queries);
    for (uint32_t b = task->first_block; b < task->end_block; b = (b / unit + 1) * unit) {
        attend_sums all = partial_at(partials, n_queries), one = sums_from(&all, query, padded);
        if (b == task->first_block || b % ATTEND_GROUP == 0) {
            sums = b == task->first_block ? &m.total : &m.group;
            *sums->max = *one.max;
            *sums->sum = *one.sum;
            memcpy(sums->out, one.out, padded * sizeof *one.out);
        } else {
            kernels->fold(sums, &one, 1, padded);
        }
        if (sums == &m.group && ends_group((b / unit + 1) * unit - 1, task->end_block)) {
            kernels->fold(&m.total, &m.group, 1, padded);
        }
        partials += attend_partial_floats(n_queries, a->head_dim);
    }
    float *out = rows->out + (slice_row + task->first_row + row) * rows->out_stride + (size_t)head * a->head_dim;
    finish_factors(a, head, 1, &m.total);
    kernels->finish(&m.total, m.total.sum, 1, a->head_dim, out);
    turn(kernels, layout, out, a->head_dim);
}
