/*
 * Attention against plain loops in double: any head size, grouping, page size, window, cap, sinks and KV type; the bits
 * of a query do not depend on its neighbours or on how blocks are shared out; nothing unseen is ever read into a
 * result. Owner: none. Lifetime: the program.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkkernels.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/ops.h"
#include "kernels/kv_row.h"

/* |error| ≤ bound_weights × (largest error of a score) × Σ p|v| + bound_sum × ε × Σ p|v|; a score's error is that of
 * its chain of additions, (head_dim / 4 + 16) × ε / 2 × Σ |q k| × scale, and of tanh, 8 ε × cap. Turned rows are added
 * up in other directions: ‖q‖ ‖k‖ and ‖v‖ take the place of Σ |q k| and |v| there, and turning itself, log₂ head_dim
 * additions deep, is allowed 16 more. */
static const double bound_weights = 2.0, bound_sum = 96.0;

/* Made-up rows of which something is far above the rest, as in models with a few large channels or positions. */
typedef struct outliers {
    uint32_t channel, position;  /* UINT32_MAX: none */
    float keys, queries, values; /* how many times the rest */
} outliers;

typedef struct problem {
    op_attend a;
    kv_layout layout;
    uint32_t start, n_rows, n_pages;
    uint32_t *pages;
    check_memory arena;
    float *q, *out, *sinks;
    outliers above; /* what is far above the rest */
    float *read;    /* [2 × n_head_kv][positions][head_dim]: what the pages hold, keys and values in turn */
    size_t stride;
} problem;

static void *get(size_t n_bytes)
{
    void *p = malloc(n_bytes ? n_bytes : 1);
    if (!p) {
        fprintf(stderr, "checkkernels: out of memory\n");
        exit(1);
    }
    return p;
}

static float *read_at(const problem *p, uint32_t kv_head, bool value, uint32_t position)
{
    return p->read + (((size_t)kv_head * 2 + value) * (p->start + p->n_rows) + position) * p->a.head_dim;
}

static attend_view view_of(const problem *p)
{
    return (attend_view){.base = p->arena.bytes, .layout = &p->layout, .pages = p->pages, .layer = p->a.kv_layer};
}

static outliers outliers_make(check *c, uint32_t head_dim, uint32_t first, uint32_t end)
{
    static const float factors[] = {10.0f, 100.0f, 1000.0f};
    outliers o = {UINT32_MAX, UINT32_MAX, 1.0f, 1.0f, 1.0f};
    const float factor = factors[check_below(c, 3)];
    const uint32_t kind = check_below(c, 8);
    if (kind < 4) { /* the keys alone, keys and queries, values, all */
        o.channel = check_below(c, head_dim);
        o.keys = kind != 2 ? factor : 1.0f;
        o.queries = kind == 1 || kind == 3 ? factor : 1.0f;
        o.values = kind >= 2 ? factor : 1.0f;
    } else if (kind == 4) { /* whole rows of a position */
        o.position = first + check_below(c, end - first);
        o.keys = check_below(c, 2) ? factor : 1.0f;
        o.values = check_below(c, 2) ? factor : 1.0f / factor;
    }
    return o;
}

static float outlier_factor(const outliers *o, uint32_t channel, uint32_t position, float factor)
{
    return channel == o->channel || position == o->position ? factor : 1.0f;
}

/* Keys and values of every position but those no query sees; everything else in the arena is NaN. */
static void fill_arena(check *c, problem *p)
{
    attend_view view = view_of(p);
    float *row = get(p->a.head_dim * sizeof *row);
    memset(p->arena.bytes, 0xff, p->arena.n_bytes);
    uint32_t first = attend_first(&p->a, p->start), page = p->layout.page_tokens;
    const outliers *o = &p->above;
    for (uint32_t i = 0; i < first / page; i++) {
        p->pages[i] = KV_PAGE_NONE;
    }
    for (uint32_t position = first; position < p->start + p->n_rows; position++) {
        for (uint32_t h = 0; h < 2 * p->a.n_head_kv; h++) {
            for (uint32_t i = 0; i < p->a.head_dim; i++) {
                row[i] = check_normal(c) * outlier_factor(o, i, position, h % 2 ? o->values : o->keys);
            }
            if (h % 2 == 0 || !p->layout.one_row) {
                ops_table scalar = ops_table_scalar();
                ops_kv_write(&scalar, &view, h / 2, h % 2, position, row);
            }
            attend_read(&view, h / 2, h % 2, position, read_at(p, h / 2, h % 2, position));
        }
    }
    free(row);
}

static problem problem_make(check *c, op_attend a, dtype type, uint32_t page_tokens, uint32_t start, uint32_t n_rows)
{
    problem p = {.a = a, .start = start, .n_rows = n_rows};
    kv_group group = {.n_layers = 2,
                      .n_head_kv = a.n_head_kv,
                      .head_dim = a.head_dim,
                      .one_row = type != DTYPE_I16 && check_below(c, 4) == 0};
    p.layout = kv_layout_make(&group, type, page_tokens);
    p.a.kv_layer = 1;
    uint32_t n_used = (start + n_rows + page_tokens - 1) / page_tokens;
    p.n_pages = n_used + 2;
    p.pages = get(n_used * sizeof *p.pages);
    for (uint32_t i = 0; i < n_used; i++) { /* backwards, with gaps: the order of pages means nothing */
        p.pages[i] = n_used - i;
    }
    p.arena = check_alloc(p.n_pages * p.layout.page_bytes, true);
    p.read = get(2 * (size_t)a.n_head_kv * (start + n_rows) * a.head_dim * sizeof *p.read);
    p.above = (outliers){UINT32_MAX, UINT32_MAX, 1.0f, 1.0f, 1.0f};
    if (type == DTYPE_I16) {
        p.above = outliers_make(c, a.head_dim, attend_first(&p.a, start), start + n_rows);
    }
    fill_arena(c, &p);
    p.stride = (size_t)a.n_head * a.head_dim + check_below(c, 5);
    p.q = get(n_rows * p.stride * sizeof *p.q);
    p.out = get(n_rows * p.stride * sizeof *p.out);
    for (size_t i = 0; i < n_rows * p.stride; i++) {
        const uint32_t channel = (uint32_t)(i % p.stride % a.head_dim);
        p.q[i] = check_normal(c) * outlier_factor(&p.above, channel, UINT32_MAX - 1, p.above.queries);
    }
    p.sinks = get(a.n_head * sizeof *p.sinks); /* not within p, which is returned by value: p.a points to them */
    for (uint32_t h = 0; h < a.n_head; h++) {
        p.sinks[h] = check_normal(c);
    }
    p.a.sinks = check_below(c, 3) == 0 ? p.sinks : NULL;
    return p;
}

static void problem_close(problem *p)
{
    check_free(&p->arena);
    free(p->pages);
    free(p->q);
    free(p->out);
    free(p->sinks);
    free(p->read);
}

/* Rows [first, first + n) of the problem as a pass of its own, cut for n_threads. */
static void compute(const problem *p, const attend_kernels *kernels, uint32_t first, uint32_t n, uint32_t n_threads,
                    float *out)
{
    step_slice slice = {.n_rows = n, .start = p->start + first};
    step s = {.n_rows = n, .slices = &slice, .n_slices = 1};
    attend_work work = {0};
    attend_plan(&s, &p->a, n_threads, &work);
    work.tasks = get(work.n_tasks * sizeof *work.tasks);
    work.split = get(work.n_split * sizeof *work.split);
    attend_plan(&s, &p->a, n_threads, &work);
    attend_rows rows = {.q = p->q + first * p->stride,
                        .out = out + first * p->stride,
                        .q_stride = p->stride,
                        .out_stride = p->stride,
                        .partials = get(work.n_partials * sizeof(float))};
    attend_view view = view_of(p);
    check_memory scratch = check_alloc(attend_scratch_bytes(p->a.head_dim), false);
    attend_ahead ahead = {0};
    for (uint32_t i = 0; i < work.n_tasks; i++) {
        bool more = i + 1 < work.n_tasks;
        attend_reach next = attend_reach_of(&p->a, &view, slice.start, &work.tasks[more ? i + 1 : i]);
        attend_run(kernels, &p->a, &view, 0, slice.start, &work.tasks[i], more ? &next : NULL, &rows, &ahead,
                   scratch.bytes);
    }
    for (uint32_t i = 0; i < work.n_split; i++) {
        for (uint32_t q = 0; q < work.split[i].n_rows * work.split[i].n_heads; q++) {
            attend_join(kernels, &p->a, &p->layout, 0, &work.split[i], q, &rows, scratch.bytes);
        }
    }
    check_free(&scratch);
    free(rows.partials);
    free(work.tasks);
    free(work.split);
}

static void compute_scalar(const problem *p, float *out)
{
    attend_view view = view_of(p);
    double *scratch = get((p->start + p->n_rows + 2 * (size_t)p->a.head_dim) * sizeof *scratch);
    for (uint32_t r = 0; r < p->n_rows; r++) {
        for (uint32_t h = 0; h < p->a.n_head; h++) {
            size_t at = r * p->stride + (size_t)h * p->a.head_dim;
            attend_scalar(&view, &p->a, h, p->start + r, p->q + at, out + at, scratch);
        }
    }
    free(scratch);
}

static double norm(const float *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sqrt(sum);
}

/* By the definition, position by position. */
static uint32_t seen_from(const op_attend *a, uint32_t position)
{
    uint32_t first = position;
    while (first > 0) {
        uint32_t next = first - 1;
        bool in_window = !a->window ||
                         (a->chunked ? next / a->window == position / a->window : position - next < a->window);
        if (!in_window || next < a->first) {
            break;
        }
        first = next;
    }
    return first;
}

/* What words of weights may lose: half a step of each, which is a share of the greatest in the block, or of the sums of
 * its parts. In units of the bound on sums: `sums` are Σ p|v|. */
static void add_weight_errors(const problem *p, uint32_t kv_head, uint32_t first, uint32_t last, const double *weights,
                              double total, double *sums)
{
    const uint32_t n = p->a.head_dim;
    attend_view view = view_of(p);
    for (uint32_t from = first, end; from <= last; from = end) {
        double top = 0, sum = 0;
        end = (from / ATTEND_BLOCK + 1) * ATTEND_BLOCK;
        end = end <= last ? end : last + 1;
        for (uint32_t j = from; j < end; j++) {
            double w = weights[j] / total *
                       (double)*kv_words_scale_at(attend_value(&view, kv_head, j - j % KV_PART), n, j % KV_PART);
            top = fmax(top, w);
            sum += w;
        }
        double each = fmax(top / (double)KV_WORDS_TOP, sum / (double)KV_WEIGHTS_SUM) * 1.0001;
        for (uint32_t j = from; j < end; j++) {
            double scale = (double)*kv_words_scale_at(attend_value(&view, kv_head, j - j % KV_PART), n, j % KV_PART);
            for (uint32_t i = 0; i < n; i++) {
                sums[i] += each / 2 * fabs((double)read_at(p, kv_head, true, j)[i]) / scale / (bound_sum * 0x1p-23);
            }
        }
    }
}

/* One head of one row; returns the worst error as a multiple of the bound. */
static double compare_head(const problem *p, uint32_t r, uint32_t h, bool exact, double *keys, double *sums)
{
    uint32_t n = p->a.head_dim, position = p->start + r, first = seen_from(&p->a, position);
    uint32_t kv_head = h / (p->a.n_head / p->a.n_head_kv);
    const float *q = p->q + r * p->stride + (size_t)h * n, *out = p->out + r * p->stride + (size_t)h * n;
    double top = p->a.sinks ? (double)p->a.sinks[h] : -INFINITY, total, score_error = 0, worst = 0;
    double turned = kv_turn_length(p->layout.type, n) ? 16 : 0;
    float own[KV_WORDS_MAX];
    memset(sums, 0, 2 * n * sizeof *sums);
    if (p->layout.type == DTYPE_I16 &&
        exact) { /* words are made of the query, too; what they lose is not the kernel's */
        int16_t words[KV_WORDS_MAX];
        float scale = kv_words_encode_scalar(KV_WORDS_KEY, q, n, words);
        for (uint32_t i = 0; i < n; i++) {
            own[i] = scale * (float)words[i];
        }
        q = own;
    }
    for (uint32_t j = first; j <= position; j++) {
        double s = 0, magnitude = 0;
        const float *row = read_at(p, kv_head, false, j);
        for (uint32_t i = 0; i < n; i++) {
            s += (double)q[i] * (double)row[i];
            magnitude += fabs((double)q[i] * (double)row[i]);
        }
        magnitude = turned > 0 ? norm(q, n) * norm(row, n) : magnitude;
        s *= (double)p->a.scale;
        score_error = fmax(score_error, (n / 4.0 + 16 + turned) * 0x1p-24 * magnitude * (double)p->a.scale +
                                            8 * 0x1p-23 * (double)p->a.softcap);
        s = p->a.softcap > 0 ? (double)p->a.softcap * tanh(s / (double)p->a.softcap) : s;
        keys[j] = s;
        top = fmax(top, s);
    }
    total = p->a.sinks ? exp((double)p->a.sinks[h] - top) : 0;
    for (uint32_t j = first; j <= position; j++) {
        keys[j] = exp(keys[j] - top);
        total += keys[j];
    }
    for (uint32_t j = first; j <= position; j++) {
        const float *row = read_at(p, kv_head, true, j);
        double length = turned > 0 ? norm(row, n) : 0;
        for (uint32_t i = 0; i < n; i++) {
            sums[i] += keys[j] / total * (double)row[i];
            sums[n + i] += keys[j] / total * (turned > 0 ? length : fabs((double)row[i]));
        }
    }
    if (p->layout.type == DTYPE_I16) {
        add_weight_errors(p, kv_head, first, position, keys, total, sums + n);
    }
    for (uint32_t i = 0; i < n; i++) {
        double bound = (bound_weights * score_error + (bound_sum + turned) * 0x1p-23) * sums[n + i] + 1e-30;
        double error = fabs((double)out[i] - sums[i]) / bound;
        worst = error <= worst ? worst : isnan(error) ? INFINITY : error;
    }
    return worst;
}

static void check_problem(check *c, problem *p, const attend_kernels *kernels)
{
    for (size_t i = 0; i < p->n_rows * p->stride; i++) {
        p->out[i] = check_canary();
    }
    if (kernels->scores) {
        compute(p, kernels, 0, p->n_rows, 1, p->out);
    } else {
        compute_scalar(p, p->out);
    }
    double *keys = get((p->start + p->n_rows) * sizeof *keys), *sums = get(2 * p->a.head_dim * sizeof *sums), worst = 0;
    for (uint32_t r = 0; r < p->n_rows; r++) {
        for (uint32_t h = 0; h < p->a.n_head; h++) {
            worst = check_worse(worst, compare_head(p, r, h, kernels->scores != NULL, keys, sums));
        }
    }
    bool inside = true;
    for (uint32_t r = 0; r < p->n_rows; r++) {
        for (size_t i = (size_t)p->a.n_head * p->a.head_dim; i < p->stride; i++) {
            inside = inside && check_is_canary(p->out[r * p->stride + i]);
        }
    }
    check_result(c, worst <= 1 && inside,
                 "attention %u/%u heads of %u, %s, pages of %u, positions %u + %u, %s %u: "
                 "%.3g × the bound%s",
                 p->a.n_head, p->a.n_head_kv, p->a.head_dim, kv_type_name(p->layout.type), p->layout.page_tokens,
                 p->start, p->n_rows, p->a.chunked ? "chunks of" : "window", p->a.window, worst,
                 inside ? "" : ", writes outside");
    free(keys);
    free(sums);
}

/* Rows one by one, and blocks shared out between many threads, give the same bits. */
static void check_bits(check *c, problem *p, const attend_kernels *kernels)
{
    float *other = get(p->n_rows * p->stride * sizeof *other);
    for (int way = 0; way < 2; way++) {
        memcpy(other, p->out, p->n_rows * p->stride * sizeof *other);
        for (uint32_t r = 0; r < p->n_rows; r++) {
            memset(other + r * p->stride, 0, (size_t)p->a.n_head * p->a.head_dim * sizeof *other);
        }
        if (way == 0) {
            compute(p, kernels, 0, p->n_rows, 7, other);
        } else {
            uint32_t cut = check_below(c, p->n_rows + 1);
            for (uint32_t r = 0; r < cut; r++) {
                compute(p, kernels, r, 1, 1 + check_below(c, 3), other);
            }
            compute(p, kernels, cut, p->n_rows - cut, 2, other);
        }
        bool same = memcmp(other, p->out, p->n_rows * p->stride * sizeof *other) == 0;
        check_result(c, same, "attention %u/%u heads of %u, %s, positions %u + %u, %s %u: other bits when %s",
                     p->a.n_head, p->a.n_head_kv, p->a.head_dim, kv_type_name(p->layout.type), p->start, p->n_rows,
                     p->a.chunked ? "chunks of" : "window", p->a.window,
                     way == 0 ? "shared out" : "computed row by row");
    }
    free(other);
}

/* A key or value of words that had a NaN makes everything NaN that sees it, and nothing else. */
static void check_nan(check *c, problem *p, const attend_kernels *kernels)
{
    const uint32_t n = p->a.head_dim, group = p->a.n_head / p->a.n_head_kv, last = p->start + p->n_rows - 1;
    const uint32_t first = attend_first(&p->a, p->start), position = first + check_below(c, last + 1 - first);
    const uint32_t kv_head = check_below(c, p->a.n_head_kv);
    const bool value = check_below(c, 2);
    float *row = get(n * sizeof *row), *other = get(p->n_rows * p->stride * sizeof *other);
    ops_table scalar = ops_table_scalar();
    attend_view view = view_of(p);
    for (uint32_t i = 0; i < n; i++) {
        row[i] = i == n / 2 ? NAN : 1.0f;
    }
    ops_kv_write(&scalar, &view, kv_head, value, position, row);
    compute(p, kernels, 0, p->n_rows, 1, other);
    bool marked = true, alone = true;
    for (uint32_t r = 0; r < p->n_rows; r++) {
        bool sees = position <= p->start + r && position >= seen_from(&p->a, p->start + r);
        for (uint32_t h = 0; h < p->a.n_head; h++) {
            const size_t at = r * p->stride + (size_t)h * n;
            for (uint32_t i = 0; i < n && sees && h / group == kv_head; i++) {
                marked = marked && isnan(other[at + i]);
            }
            alone = alone &&
                    ((sees && h / group == kv_head) || memcmp(other + at, p->out + at, n * sizeof *other) == 0);
        }
    }
    check_result(c, marked && alone, "attention %u/%u heads of %u, positions %u + %u, a NaN in the %s of %u: %s",
                 p->a.n_head, p->a.n_head_kv, n, p->start, p->n_rows, value ? "value" : "key", position,
                 marked ? "others have it, too" : "it is lost");
    free(row);
    free(other);
}

/* deep: past some groups of blocks, with few queries and with many. */
static void check_random_problem(check *c, const attend_kernels *kernels, bool deep)
{
    static const uint32_t sizes[] = {64, 80, 96, 128, 256, 8, 24, 1, 7, 30, 576};
    static const uint32_t block_sizes[] = {32, 64, 96, 128, 160, 256, 512, 576};
    static const uint32_t groups[] = {1, 1, 2, 3, 4, 5, 8, 37};
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_I16, DTYPE_Q8_0, DTYPE_Q4_0};
    uint32_t group = groups[deep ? 4 + check_below(c, 4) : check_below(c, 8)];
    dtype type = types[check_below(c, 6)];
    bool blocks = type == DTYPE_I16 || type == DTYPE_Q8_0 || type == DTYPE_Q4_0;
    op_attend a = {.n_head_kv = group > 8 || deep ? 1 : 1 + check_below(c, 2),
                   .head_dim = deep     ? 32 * (1 + check_below(c, 2))
                               : blocks ? block_sizes[check_below(c, 8)]
                                        : sizes[check_below(c, 11)]};
    a.n_head = a.n_head_kv * group;
    a.scale = check_uniform(c, 0.5f, 2.0f) / sqrtf((float)a.head_dim);
    a.softcap = check_below(c, 4) == 0 ? check_uniform(c, 2.0f, 30.0f) : 0;
    uint32_t start = check_below(c, 3) ? check_below(c, 400) : 0;
    uint32_t n_rows = 1 + (check_below(c, 2) ? check_below(c, 3) : check_below(c, 70));
    a.window = check_below(c, 3) == 0 ? 1 + check_below(c, deep ? 3000 : 200) : 0;
    a.chunked = a.window && check_below(c, 2) == 0;
    a.first = !a.window && check_below(c, 3) == 0 ? 1 + check_below(c, 40) : 0;
    if (deep) {
        start = check_below(c, 4 * ATTEND_GROUP * ATTEND_BLOCK);
        n_rows = 1 + check_below(c, 12);
    }
    uint32_t page = type == DTYPE_I16 ? KV_PART << check_below(c, 4) : 1u << check_below(c, 9);
    problem p = problem_make(c, a, type, page, start, n_rows);
    check_problem(c, &p, kernels);
    if (kernels->scores) {
        check_bits(c, &p, kernels);
    }
    if (kernels->scores && type == DTYPE_I16 && p.above.keys == 1.0f) { /* far above, they leave some no weight */
        check_nan(c, &p, kernels);
    }
    problem_close(&p);
}

static void run(check *c)
{
    attend_kernels kernels = ops_table_make(c->features).attend;
    for (uint32_t i = 0; i < (c->quick ? 50u : 250u); i++) {
        check_random_problem(c, &kernels, i % 8 == 7);
    }
}

void check_attention_bench(check *c); /* bench_attention.c */

const check_suite check_attention = {.name = "attention", .run = run, .bench = check_attention_bench};
