/*
 * Cutting a step's attention into tasks for the team, and taking them.
 * Owner: none. Lifetime: the pass.
 */
#include <stdlib.h>

#include "kernels/backend.h"
#include "kernels/cpu/attention.h"

#define REGISTER_QUERIES 4u /* queries that kernels keep in registers together */
#define TASKS_A_THREAD 4u   /* so many at least, where there are rows enough to cut */
#define TASKS_LAST 2u       /* a thread: so many at the end are taken one by one */

typedef struct planner {
    const step *s;
    const op_attend *a;
    uint32_t n_threads, n_heads, n_chunks, rows; /* a tile's heads, tiles a KV head needs, a tile's rows */
    uint64_t total;                              /* cost; 0 while it is being added up */
    attend_work *work;
} planner;

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Blocks the tile's rows see, and what it costs: the keys are read once, then met by every query. */
static void measure(const planner *p, attend_task *tile)
{
    const step_slice *slice = &p->s->slices[tile->slice];
    uint32_t first_position = slice->start + tile->first_row;
    uint32_t end = attend_end(p->a, first_position + tile->n_rows - 1, slice->start + slice->n_rows);
    uint32_t first = attend_first(p->a, first_position);
    tile->first_block = first / ATTEND_BLOCK;
    tile->end_block = (end - 1) / ATTEND_BLOCK + 1;
    tile->cost = (uint64_t)(end - first) * (tile->n_rows * tile->n_heads + 4);
}

static void emit(attend_work *work, const attend_task *task)
{
    if (work->tasks) {
        work->tasks[work->n_tasks] = *task;
    }
    work->n_tasks++;
}

static void emit_tile(const planner *p, const attend_task *tile)
{
    attend_work *work = p->work;
    uint32_t n_queries = tile->n_rows * tile->n_heads, unit = attend_unit(n_queries);
    uint32_t first = tile->first_block / unit, n_units = (tile->end_block - 1) / unit + 1 - first;
    uint64_t fair = p->total / (2 * (uint64_t)p->n_threads) + 1;
    uint32_t n_pieces = p->n_threads > 1 ? (uint32_t)least((uint32_t)((tile->cost + fair - 1) / fair), n_units) : 1;
    attend_task part = *tile;
    if (n_pieces <= 1) {
        emit(work, &part);
        return;
    }
    size_t n_floats = attend_partial_floats(n_queries, p->a->head_dim);
    part.partials = work->n_partials;
    if (work->split) {
        work->split[work->n_split] = part;
    }
    work->n_split++;
    for (uint32_t i = 0; i < n_pieces; i++) {
        uint32_t begin = n_units * i / n_pieces, end = n_units * (i + 1) / n_pieces;
        part.first_block = i ? (first + begin) * unit : tile->first_block;
        part.end_block = least((first + end) * unit, tile->end_block);
        part.partials = work->n_partials + begin * n_floats;
        part.cost = tile->cost * (part.end_block - part.first_block) / (tile->end_block - tile->first_block);
        emit(work, &part);
    }
    work->n_partials += n_units * n_floats;
}

/* Rows of a slice's tiles: equal shares, so that no tile reads all keys for the few rows that are left. */
static uint32_t rows_of_tile(const planner *p, uint32_t n_rows)
{
    uint32_t n_tiles = n_rows / p->rows + (n_rows % p->rows != 0), rows = n_rows ? (n_rows - 1) / n_tiles + 1 : 1;
    while (rows < p->rows && rows * p->n_heads % REGISTER_QUERIES) {
        rows++;
    }
    return rows;
}

/* All tiles in order: adds up their cost while p->total is 0, then emits them. */
static uint64_t walk_tiles(const planner *p, bool emitting)
{
    uint64_t total = 0;
    uint32_t group = p->a->n_head / p->a->n_head_kv;
    for (uint32_t i = 0; i < p->s->n_slices; i++) {
        const step_slice *slice = &p->s->slices[i];
        uint32_t rows = rows_of_tile(p, slice->n_rows);
        for (uint32_t row = 0; row < slice->n_rows; row += rows) {
            for (uint32_t kv_head = 0; kv_head < p->a->n_head_kv; kv_head++) {
                for (uint32_t head = 0; head < group; head += p->n_heads) {
                    attend_task tile = {.slice = i,
                                        .first_row = row,
                                        .n_rows = least(rows, slice->n_rows - row),
                                        .kv_head = kv_head,
                                        .first_head = kv_head * group + head,
                                        .n_heads = least(p->n_heads, group - head),
                                        .partials = SIZE_MAX};
                    measure(p, &tile);
                    total += tile.cost;
                    if (emitting) {
                        emit_tile(p, &tile);
                    }
                }
            }
        }
    }
    return total;
}

static uint64_t count_tiles(const planner *p)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < p->s->n_slices; i++) {
        n += (p->s->slices[i].n_rows + p->rows - 1) / p->rows;
    }
    return n * p->a->n_head_kv * p->n_chunks;
}

/* Dearest first, so that the last to finish is a small one; then in order, so that neighbours share keys. */
static int by_cost(const void *left, const void *right)
{
    const attend_task *a = left, *b = right;
    if (a->cost != b->cost) {
        return a->cost > b->cost ? -1 : 1;
    }
    if (a->slice != b->slice) {
        return a->slice < b->slice ? -1 : 1;
    }
    return a->kv_head < b->kv_head ? -1 : a->kv_head > b->kv_head;
}

void attend_plan(const step *s, const op_attend *a, uint32_t n_threads, attend_work *work)
{
    uint32_t group = a->n_head / a->n_head_kv;
    planner p = {.s = s, .a = a, .n_threads = n_threads, .work = work};
    p.n_chunks = (group + ATTEND_QUERIES - 1) / ATTEND_QUERIES;
    p.n_heads = (group + p.n_chunks - 1) / p.n_chunks;
    p.rows = ATTEND_QUERIES / p.n_heads;
    p.rows = p.rows > 4 ? p.rows & ~3u : p.rows; /* whole register tiles of queries */
    while (n_threads > 1 && p.rows > 1 && count_tiles(&p) < TASKS_A_THREAD * (uint64_t)n_threads) {
        p.rows = (p.rows + 1) / 2;
    }
    work->n_tasks = work->n_split = 0;
    work->n_partials = 0;
    p.total = walk_tiles(&p, false);
    walk_tiles(&p, true);
    if (work->tasks) {
        qsort(work->tasks, work->n_tasks, sizeof *work->tasks, by_cost);
    }
}

void attend_tasks(const attend_kernels *kernels, const op_attend *a, const step *s, const attend_work *work,
                  const attend_rows *rows, const attend_source *from, uint32_t n_threads, void *scratch)
{
    attend_ahead ahead = {0};
    uint32_t many = work->n_tasks > TASKS_LAST * n_threads ? work->n_tasks - TASKS_LAST * n_threads : 0;
    uint32_t i = from->next(from->context);
    while (i < work->n_tasks) {
        const attend_task *task = &work->tasks[i];
        const step_slice *slice = &s->slices[task->slice];
        attend_view view = from->view(from->context, slice);
        attend_reach next = {0};
        uint32_t taken = i < many ? from->next(from->context) : UINT32_MAX;
        if (taken < work->n_tasks) {
            const attend_task *after = &work->tasks[taken];
            const step_slice *of = &s->slices[after->slice];
            attend_view its = from->view(from->context, of);
            next = attend_reach_of(a, &its, of->start, after);
        }
        attend_run(kernels, a, &view, slice->first_row, slice->start, task, &next, rows, &ahead, scratch);
        i = i < many ? taken : from->next(from->context);
    }
}
