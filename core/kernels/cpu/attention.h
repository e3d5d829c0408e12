/*
 * Attention over KV pages: views of a sequence's keys and values, the scalar definition, and the tiled form that fast
 * kernels run.
 * Owner: none; views and functions. Lifetime: the call (views: the step).
 *
 * The tiled form cuts positions into blocks of ATTEND_BLOCK, and blocks into groups of ATTEND_GROUP, at multiples of
 * them whatever the pages, the window or the step. A block gives each query (max, Σ exp, Σ exp × value) from nothing;
 * a group's blocks are folded into one in rising order, then the groups. So the bits of a result depend neither on the
 * pages, nor on what else is in the step, nor on whether blocks were shared out between threads; and where they were,
 * only whole groups of them have to be written down.
 */
#ifndef MLXR_KERNELS_CPU_ATTENTION_H
#define MLXR_KERNELS_CPU_ATTENTION_H

#include "base/team.h"
#include "kernels/kv_layout.h"
#include "kernels/kv_words.h"

#define ATTEND_BLOCK 128u      /* positions a block */
#define ATTEND_GROUP 8u        /* blocks a group */
#define ATTEND_DIRECT 8u       /* so few queries convert rows as they read them; more go by way of a panel */
#define ATTEND_FEW 16u         /* so few queries share out single blocks: there is little to write down */
#define ATTEND_STRIDE 144u     /* floats a row of scores: a block, and what a tile of 4 keys may write past it */
#define ATTEND_QUERIES 64u     /* (row, head) pairs a tile holds at most */
#define ATTEND_PANEL 4096u     /* floats of keys or values made ready at a time: a part of L1 */
#define ATTEND_NONE (-3.0e38f) /* the maximum of no scores; finite, so that differences are */

/* Keys and values of one sequence in one layer. */
typedef struct attend_view {
    uint8_t *base; /* of the group's pages */
    const kv_layout *layout;
    const uint32_t *pages; /* page id of positions [i × page_tokens, …) */
    uint32_t layer;        /* within the group */
    uint32_t n_positions;  /* written, this step's included */
} attend_view;

/* A row of I16 is not at one place: of these `position` is the first of a part. */
static inline uint8_t *attend_key(const attend_view *v, uint32_t head, uint32_t position)
{
    const kv_layout *l = v->layout;
    return v->base + v->pages[position / l->page_tokens] * l->page_bytes + kv_layout_k(l, v->layer, head) +
           (position & (l->page_tokens - 1)) * l->row_bytes;
}

static inline uint8_t *attend_value(const attend_view *v, uint32_t head, uint32_t position)
{
    return attend_key(v, head, position) + kv_layout_value_offset(v->layout);
}

/* What is kept of a key or value → dst[head_dim], whatever its type. */
void attend_read(const attend_view *v, uint32_t head, bool value, uint32_t position, float *dst);

/* The first position a query at `position` sees. */
static inline uint32_t attend_first(const op_attend *a, uint32_t position)
{
    uint32_t least = a->first < position ? a->first : position;
    return a->window && position >= a->window ? (uint32_t)plan_first_seen(a->window, a->chunked, position) : least;
}

/* One past the last position that it sees, of n_positions. */
static inline uint32_t attend_end(const op_attend *a, uint32_t position, uint32_t n_positions)
{
    if (!a->both_ways) {
        return position + 1;
    }
    return a->window && a->window < n_positions - position ? position + a->window : n_positions;
}

/* Floats a row of queries, keys or values takes inside a tile. */
static inline uint32_t attend_padded(uint32_t head_dim)
{
    return (head_dim + 15u) & ~15u;
}

/* Softmax in progress for some queries: out / sum is the result. */
typedef struct attend_sums {
    float *max; /* [n_queries] largest score */
    float *sum; /* [n_queries] Σ exp(score − max) */
    float *out; /* [n_queries][padded] Σ exp(score − max) × value */
} attend_sums;

/* Blocks that a tile of so many queries shares out together; their sums are written down as one. */
static inline uint32_t attend_unit(uint32_t n_queries)
{
    return n_queries > ATTEND_FEW ? ATTEND_GROUP : 1;
}

/* Floats of the partial sums of one unit: max, sum, out. */
static inline size_t attend_partial_floats(uint32_t n_queries, uint32_t head_dim)
{
    return ((2 * (size_t)n_queries + 15) & ~(size_t)15) + (size_t)n_queries * attend_padded(head_dim);
}

/* Rows of keys or values as they lie in a page, one after the other; at NULL: none. */
typedef struct attend_rows_at {
    const uint8_t *at;
    uint32_t n_rows, head_dim;
    size_t row_bytes;
    dtype type;
} attend_rows_at;

#define ATTEND_FETCH_RUNS 4u

/* Rows that are met later, run by run, to be fetched into L2 while others are met: line by line, for many lines at once
 * keep what is loaded meanwhile waiting. */
typedef struct attend_fetch {
    const uint8_t *at[ATTEND_FETCH_RUNS];
    size_t n_bytes[ATTEND_FETCH_RUNS];
    uint32_t n_runs, each; /* each: bytes a byte that is met */
} attend_fetch;

/* A part of words (kv_words.h) of which positions [first, end) are met, and where its first position is in the block.
 */
typedef struct words_part {
    const uint8_t *at;
    uint32_t from, first, end, head_dim;
} words_part;

/* Kernels over words: rows of queries are head_dim words, a multiple of 32, rows of scores ATTEND_STRIDE floats. All of
 * a half is computed: what is not to be seen, `soften` makes 0. */
typedef struct attend_words {
    /* kv_words_encode_scalar */
    float (*encode)(kv_words_kind kind, const float *src, uint32_t n, int16_t *words);
    /* scores[i][lane] = (q[i] · k[lane]) × (q_scales[i] × its scale), 32 of them */
    void (*scores)(const int16_t *q, const float *q_scales, uint32_t n_queries, const words_part *keys, float *scores,
                   const attend_fetch *ahead);
    /* One query's exp(score − max) of [begin, end) of a block, times the values' scales, become words in their place:
     * those of the block's position i are word i of the row. Returns what one of them counts. */
    float (*weights)(float *scores, const words_part *values, uint32_t n_parts, uint32_t begin, uint32_t end);
    /* out[i] = Σ weights[i][j] × v[j] × units[i] */
    void (*values)(const float *weights, const float *units, uint32_t n_queries, const words_part *values,
                   uint32_t n_parts, float *out, const attend_fetch *ahead);
} attend_words;

/* Vector kernels; rows of queries and outputs are attend_padded(head_dim) floats with zeros at the end, rows of scores
 * ATTEND_STRIDE. `panel` is scratch (attend_panel_rows × padded floats) that rows may be converted in; `ahead` is
 * fetched meanwhile. */
typedef struct attend_kernels {
    /* scores[i][j] = q[i] · k[j]; writes up to 3 scores more */
    void (*scores)(const float *q, uint32_t n_queries, const attend_rows_at *keys, float *panel, float *scores,
                   const attend_fetch *ahead);
    /* One query's scores [begin, end) of a block, of which it sees [lo, hi): scaled, capped, made exp(score − max);
     * unseen ones become 0. */
    void (*soften)(float *scores, uint32_t begin, uint32_t end, uint32_t lo, uint32_t hi, float scale, float softcap,
                   float *max, float *sum);
    /* out[i] += Σ p[i][j] × v[j], in the order of j; `fresh`: out[i] = … */
    void (*values)(const float *p, uint32_t n_queries, const attend_rows_at *values, bool fresh, float *panel,
                   float *out, const attend_fetch *ahead);
    /* into = into and block together */
    void (*fold)(attend_sums *into, const attend_sums *block, uint32_t n_queries, uint32_t padded);
    /* out[i] = sums.out[i] × factors[i], rows head_dim apart */
    void (*finish)(const attend_sums *sums, const float *factors, uint32_t n_queries, uint32_t head_dim, float *out);
    /* kv_turn_scalar: queries before they meet turned keys, outputs of turned values; length is a multiple of 32 */
    void (*turn)(float *x, uint32_t n, uint32_t length, float factor);
    attend_words words; /* in place of scores and values */
} attend_kernels;

/* How many rows the kernels take at a time: what a part of L1 holds as f32; of wide heads more, because each time all
 * sums of values are read and written. */
static inline uint32_t attend_panel_rows(uint32_t head_dim)
{
    uint32_t n = ATTEND_PANEL / attend_padded(head_dim) & ~3u;
    return n > 16 ? n : 16;
}

/* Rows are read as they lie in a page, not converted first. */
static inline bool attend_direct(dtype type, uint32_t head_dim, uint32_t n_queries)
{
    return head_dim % 16 == 0 && (n_queries <= ATTEND_DIRECT || type == DTYPE_F32);
}

/* How many rows are met at a time: where none are converted, twice as many fit a part of L1. */
static inline uint32_t attend_met_rows(const kv_layout *l, uint32_t n_queries)
{
    bool small = attend_direct(l->type, l->head_dim, n_queries) && l->type != DTYPE_F32;
    return attend_panel_rows(l->head_dim) * (small ? 2 : 1);
}

/* The part of a step that one thread computes at a time: some rows of a slice, some query heads of one KV head, all or
 * some of the blocks these rows see. */
typedef struct attend_task {
    uint32_t slice, first_row, n_rows; /* first_row within the slice */
    uint32_t kv_head, first_head, n_heads;
    uint32_t first_block, end_block;
    size_t partials; /* where in the partial sums its first unit goes, in floats; SIZE_MAX: it computes whole tiles */
    uint64_t cost;
} attend_task;

/* All tasks of a pass for layers of one shape, and the tiles whose blocks are shared out. */
typedef struct attend_work {
    attend_task *tasks; /* [n_tasks], dearest first */
    uint32_t n_tasks;
    attend_task *split; /* [n_split] whole tiles, to be folded after all tasks */
    uint32_t n_split;
    size_t n_partials; /* floats */
} attend_work;

struct step;
struct step_slice;

/* Lists the tasks of a pass. With work->tasks NULL it only counts (n_tasks, n_split, n_partials); else tasks and split
 * have room for what was counted. Tiles are shared out in pieces where a single one would keep other threads waiting.
 */
void attend_plan(const struct step *s, const op_attend *a, uint32_t n_threads, attend_work *work);

/* Bytes of scratch a thread needs to compute tasks. */
size_t attend_scratch_bytes(uint32_t head_dim);

/* Where a task finds queries and leaves outputs: [row][stride], rows of the whole pass. */
typedef struct attend_rows {
    const float *q;
    float *out;
    size_t q_stride, out_stride;
    float *partials;
} attend_rows;

/* The keys and values that a task meets: positions [first, end) of a head. */
typedef struct attend_reach {
    attend_view view;
    uint32_t kv_head, first, end;
} attend_reach;

attend_reach attend_reach_of(const op_attend *a, const attend_view *view, uint32_t slice_start,
                             const attend_task *task);

/* How far a thread has fetched what it will meet: a run of keys or values, some way ahead of where it computes, in the
 * task it is at or the one it has taken as its next. {0} before the first task; lives as long as the node. */
typedef struct attend_ahead {
    attend_reach now, next;        /* next.end = 0: there is none */
    uint32_t begin, end, position; /* the positions of a block; of the run, within it */
    uint32_t lead;                 /* rows it is ahead */
    bool values, crossed;          /* keys come first; it is in `next` */
} attend_ahead;

/* One task; `next`, the task that will come after it, may be NULL. */
void attend_run(const attend_kernels *kernels, const op_attend *a, const attend_view *view, uint32_t slice_row,
                uint32_t slice_start, const attend_task *task, const attend_reach *next, const attend_rows *rows,
                attend_ahead *ahead, void *scratch);

/* What a thread asks for tasks, and for what they meet. */
typedef struct attend_source {
    uint32_t (*next)(const void *context); /* the number of a task that nobody has; n_tasks and more: none is left */
    attend_view (*view)(const void *context, const struct step_slice *slice);
    const void *context;
} attend_source;

/* A thread's share of work->tasks: one by one or, while there are many left, one before it is needed: then its keys are
 * fetched during the end of the one before. */
void attend_tasks(const attend_kernels *kernels, const op_attend *a, const struct step *s, const attend_work *work,
                  const attend_rows *rows, const attend_source *from, uint32_t n_threads, void *scratch);

/* Folds query i (row-major over the tile's rows and heads) of a tile whose blocks were shared out. */
void attend_join(const attend_kernels *kernels, const op_attend *a, const kv_layout *layout, uint32_t slice_row,
                 const attend_task *tile, uint32_t query, const attend_rows *rows, void *scratch);

/* The oracle: out[head_dim] = attention of q[head_dim], query head `head` at `position`, in double and two passes.
 * Needs n_positions + 2 × head_dim doubles of scratch. */
void attend_scalar(const attend_view *view, const op_attend *attend, uint32_t head, uint32_t position, const float *q,
                   float *out, double *scratch);

#endif
