/*
 * Speed of attention at the shapes of real models: µs a layer, GB/s of keys and values, GFLOP/s, ratio to scalar.
 * Owner: none. Lifetime: the program.
 *
 * A case has as many layers as it takes to be like a model's step: one where a sequence is long, thirty where many
 * short ones are computed together, whose keys and values come from memory then and not from a cache.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkkernels.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/ops.h"
#include "kernels/kv_row.h"

void check_attention_bench(check *c);

#define PAGE_TOKENS 32u
#define STREAM_START 160u

typedef struct shape {
    const char *model;
    op_attend a;
    uint32_t n_sequences, start, n_rows, n_layers; /* each sequence has `start` positions and computes n_rows */
    uint32_t n_streams;                            /* sequences of STREAM_START positions and one row besides */
} shape;

static const shape shapes[] = {
    {"smollm2", {.n_head = 9, .n_head_kv = 3, .head_dim = 64}, 1, 0, 512, 1, 0},
    {"smollm2", {.n_head = 9, .n_head_kv = 3, .head_dim = 64}, 1, 512, 1, 1, 0},
    {"smollm2", {.n_head = 9, .n_head_kv = 3, .head_dim = 64}, 1, 8192, 1, 1, 0},
    {"smollm2 in L2", {.n_head = 9, .n_head_kv = 3, .head_dim = 64}, 4, 160, 1, 1, 0},
    {"smollm2 batch", {.n_head = 9, .n_head_kv = 3, .head_dim = 64}, 32, 160, 1, 30, 0},
    {"gemma", {.n_head = 4, .n_head_kv = 1, .head_dim = 256}, 1, 0, 512, 1, 0},
    {"gemma", {.n_head = 4, .n_head_kv = 1, .head_dim = 256}, 1, 8192, 1, 1, 0},
    {"gemma cold", {.n_head = 4, .n_head_kv = 1, .head_dim = 256}, 1, 8192, 1, 18, 0},
    {"gemma", {.n_head = 4, .n_head_kv = 1, .head_dim = 256}, 1, 8192, 24, 1, 0},
    {"gemma mixed", {.n_head = 4, .n_head_kv = 1, .head_dim = 256}, 1, 16384, 24, 1, 16},
    {"gemma", {.n_head = 4, .n_head_kv = 1, .head_dim = 256}, 1, 8192, 64, 1, 0},
    {"gemma", {.n_head = 4, .n_head_kv = 1, .head_dim = 256}, 1, 8192, 512, 1, 0},
    {"gemma window", {.n_head = 4, .n_head_kv = 1, .head_dim = 256, .window = 512}, 1, 8192, 64, 1, 0},
    {"gemma window", {.n_head = 4, .n_head_kv = 1, .head_dim = 256, .window = 512}, 1, 8192, 1, 1, 0},
    {"gemma batch", {.n_head = 4, .n_head_kv = 1, .head_dim = 256}, 16, 160, 1, 18, 0},
    {"llama 8b", {.n_head = 32, .n_head_kv = 8, .head_dim = 128}, 1, 512, 64, 1, 0},
    {"llama 8b", {.n_head = 32, .n_head_kv = 8, .head_dim = 128}, 1, 2048, 1, 1, 0},
};

typedef struct job {
    const attend_kernels *kernels;
    op_attend a;
    kv_layout layout;
    uint8_t *base;
    uint32_t *pages;
    step_slice *slices;
    step s;
    attend_work work;
    attend_rows rows;
    uint32_t layer;
    uint8_t *scratch;
    size_t scratch_bytes;
} job;

static void *get(size_t n_bytes)
{
    void *p = aligned_alloc(64, (n_bytes + 64) & ~(size_t)63);
    if (!p) {
        fprintf(stderr, "checkkernels: out of memory\n");
        exit(1);
    }
    return p;
}

static attend_view view_of(const job *j, const step_slice *slice)
{
    return (attend_view){.base = j->base, .layout = &j->layout, .pages = slice->pages[0], .layer = j->layer};
}

typedef struct member_tasks {
    const job *j;
    const team_member *member;
} member_tasks;

static uint32_t next_task(const void *context)
{
    return team_next_chunk(((const member_tasks *)context)->member);
}

static attend_view view_of_task(const void *context, const step_slice *slice)
{
    return view_of(((const member_tasks *)context)->j, slice);
}

static void work_on(void *context, const team_member *member)
{
    job *j = context;
    void *scratch = j->scratch + member->index * j->scratch_bytes;
    const member_tasks tasks = {j, member};
    const attend_source from = {next_task, view_of_task, &tasks};
    attend_tasks(j->kernels, &j->a, &j->s, &j->work, &j->rows, &from, member->n_threads, scratch);
    team_barrier(member);
    for (uint32_t i = 0; i < j->work.n_split; i++) {
        const attend_task *whole = &j->work.split[i];
        for (uint32_t q = member->index; q < whole->n_rows * whole->n_heads; q += member->n_threads) {
            attend_join(j->kernels, &j->a, &j->layout, j->slices[whole->slice].first_row, whole, q, &j->rows, scratch);
        }
    }
}

/* Parts of words: all keys' are the same, and all values'. */
static void fill_parts(check *c, job *j, uint32_t n_pages)
{
    const kv_layout *l = &j->layout;
    const size_t part_bytes = KV_PART * l->row_bytes, n_parts = l->layer_bytes / 2 / part_bytes;
    float *row = get(l->head_dim * sizeof *row);
    int16_t *words = get(l->head_dim * sizeof *words);
    uint8_t *parts = get(2 * part_bytes);
    for (uint32_t i = 0; i < 2 * KV_PART; i++) {
        kv_words_kind kind = i < KV_PART ? KV_WORDS_KEY : KV_WORDS_VALUE;
        for (uint32_t k = 0; k < l->head_dim; k++) {
            row[k] = check_normal(c);
        }
        float scale = kv_words_encode_scalar(kind, row, l->head_dim, words);
        kv_words_put(kind, words, scale, parts + i / KV_PART * part_bytes, i % KV_PART, l->head_dim);
    }
    for (size_t i = 0; i < n_pages * (l->page_bytes / part_bytes); i++) {
        memcpy(j->base + i * part_bytes, parts + i / n_parts % 2 * part_bytes, part_bytes);
    }
    free(row);
    free(words);
    free(parts);
}

/* Every position of every layer has the keys and values of one of a few rows. */
static void fill(check *c, job *j, uint32_t n_pages)
{
    if (j->layout.type == DTYPE_I16) {
        fill_parts(c, j, n_pages);
        return;
    }
    enum { ROWS = 61 };
    const kv_layout *l = &j->layout;
    float *row = get(l->head_dim * sizeof *row);
    uint8_t *encoded = get(ROWS * l->row_bytes);
    for (uint32_t r = 0; r < ROWS; r++) {
        for (uint32_t i = 0; i < l->head_dim; i++) {
            row[i] = check_normal(c);
        }
        ops_table_scalar().to_kv(l->type, row, encoded + r * l->row_bytes, l->head_dim);
    }
    size_t n_rows = n_pages * (l->page_bytes / l->row_bytes);
    for (size_t i = 0; i < n_rows; i++) {
        memcpy(j->base + i * l->row_bytes, encoded + i % ROWS * l->row_bytes, l->row_bytes);
    }
    free(row);
    free(encoded);
}

static void job_open(check *c, job *j, const shape *s, dtype type, const attend_kernels *kernels)
{
    kv_group group = {.n_layers = s->n_layers, .n_head_kv = s->a.n_head_kv, .head_dim = s->a.head_dim};
    uint32_t each = (s->start + s->n_rows + PAGE_TOKENS - 1) / PAGE_TOKENS, of_stream = STREAM_START / PAGE_TOKENS + 1;
    uint32_t n_pages = each * s->n_sequences + of_stream * s->n_streams, n = s->n_sequences + s->n_streams;
    size_t stride = (size_t)s->a.n_head * s->a.head_dim, n_rows = s->n_sequences * s->n_rows + s->n_streams;
    *j = (job){.kernels = kernels, .a = s->a, .layout = kv_layout_make(&group, type, PAGE_TOKENS)};
    j->a.scale = 1.0f / sqrtf((float)s->a.head_dim);
    j->base = get(n_pages * j->layout.page_bytes);
    fill(c, j, n_pages);
    j->pages = get(n_pages * sizeof *j->pages);
    j->slices = get(n * sizeof *j->slices);
    for (uint32_t i = 0; i < n_pages; i++) {
        j->pages[i] = n_pages - 1 - i;
    }
    const uint32_t *pages = j->pages;
    for (uint32_t i = 0, row = 0; i < n; i++) {
        bool stream = i >= s->n_sequences;
        j->slices[i] = (step_slice){.first_row = row,
                                    .n_rows = stream ? 1 : s->n_rows,
                                    .start = stream ? STREAM_START : s->start,
                                    .pages = {pages}};
        row += j->slices[i].n_rows;
        pages += stream ? of_stream : each;
    }
    j->s = (step){.n_rows = (uint32_t)n_rows, .slices = j->slices, .n_slices = n};
    attend_plan(&j->s, &j->a, c->n_threads, &j->work);
    j->work.tasks = get(j->work.n_tasks * sizeof *j->work.tasks);
    j->work.split = get(j->work.n_split * sizeof *j->work.split);
    attend_plan(&j->s, &j->a, c->n_threads, &j->work);
    float *q = get(n_rows * stride * sizeof *q);
    for (size_t i = 0; i < n_rows * stride; i++) {
        q[i] = check_normal(c);
    }
    j->rows = (attend_rows){q, get(n_rows * stride * sizeof(float)), stride, stride,
                            get(j->work.n_partials * sizeof(float))};
    j->scratch_bytes = (attend_scratch_bytes(s->a.head_dim) + 63) & ~(size_t)63;
    j->scratch = get(j->scratch_bytes * c->n_threads);
}

static void job_close(job *j)
{
    free(j->base);
    free(j->pages);
    free(j->slices);
    free(j->work.tasks);
    free(j->work.split);
    free((float *)(uintptr_t)j->rows.q);
    free(j->rows.out);
    free(j->rows.partials);
    free(j->scratch);
}

/* Seconds the scalar definition takes for a layer, from one head of one row. */
static double scalar_seconds(const job *j, const shape *s)
{
    attend_view view = view_of(j, &j->slices[0]);
    double *scratch = get((s->start + s->n_rows + 2 * (size_t)j->a.head_dim) * sizeof *scratch);
    double begin = check_seconds();
    attend_scalar(&view, &j->a, 0, s->start + s->n_rows / 2, j->rows.q, j->rows.out, scratch);
    double seconds = (check_seconds() - begin) * j->a.n_head * j->s.n_rows;
    free(scratch);
    return seconds;
}

static void bench_shape(check *c, team *t, const attend_kernels *kernels, const shape *s, dtype type)
{
    job j;
    job_open(c, &j, s, type, kernels);
    double best = 1e9, begin = check_seconds(), seen = 0, read = 0;
    for (uint32_t i = 0; i < 5 || (i < 500 && check_seconds() - begin < (c->quick ? 0.1 : 0.5)); i++) {
        double at = check_seconds();
        for (j.layer = 0; j.layer < s->n_layers; j.layer++) {
            team_run(t, work_on, &j);
        }
        best = fmin(best, (check_seconds() - at) / s->n_layers);
    }
    j.layer = 0;
    for (uint32_t i = 0; i < j.s.n_slices; i++) {
        const step_slice *slice = &j.slices[i];
        for (uint32_t r = 0; r < slice->n_rows; r++) {
            seen += slice->start + r + 1 - attend_first(&s->a, slice->start + r);
        }
        read += slice->start + slice->n_rows - attend_first(&s->a, slice->start);
    }
    double bytes = 2.0 * s->a.n_head_kv * (double)j.layout.row_bytes * read;
    printf("%-14s %-4s %2u/%u × %3u, %2u × %5u + %3u  %-11s %9.1f µs  %6.1f GB/s  %6.1f GFLOP/s  %6.1f × scalar\n",
           s->model, kv_type_name(type), s->a.n_head, s->a.n_head_kv, s->a.head_dim, s->n_sequences, s->start,
           s->n_rows, c->set, best * 1e6, bytes / best * 1e-9, 4 * seen * s->a.n_head * s->a.head_dim / best * 1e-9,
           scalar_seconds(&j, s) / best);
    fflush(stdout);
    job_close(&j);
}

void check_attention_bench(check *c)
{
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_I16, DTYPE_Q8_0, DTYPE_Q4_0};
    attend_kernels kernels = ops_table_make(c->features).attend;
    mlxr_error error;
    team *t = NULL;
    if (!kernels.scores || team_open(&t, c->n_threads, &error) != MLXR_OK) {
        fprintf(stderr, "checkkernels: no kernels or threads for the benchmark\n");
        return;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
            if ((!c->shape || strstr(shapes[k].model, c->shape)) &&
                strcmp(c->type ? c->type : "f16", kv_type_name(types[i])) == 0) {
                bench_shape(c, t, &kernels, &shapes[k], types[i]);
            }
        }
    }
    team_close(&t);
}
