/*
 * attention_decode_fused.metal (with kv_write and the merge of split contexts) and attention_prefill_fused.metal
 * against the scalar attention over the same pages. Unseen rows, unused pages and all else in the arena are NaN; pages
 * lie in no order; whatever the kernels should not write must stay as it was. Owner: none. Lifetime: the case.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/ops.h"
#include "kernels/kv_row.h"
#include "kernels/rope_angles.h"
#include "metal_check.h"

#define SLICES_MAX 4u

/* New rows of a sequence behind `start` old ones. */
typedef struct slice {
    uint32_t first_row, n_rows, start;
} slice;

typedef struct world {
    op_attend a;
    dtype type; /* of activations */
    kv_layout layout;
    slice slices[SLICES_MAX];
    uint32_t n_slices, n_rows;
    uint32_t table_stride, n_pages;
    uint32_t *tables; /* [n_slices][table_stride] */
    uint8_t *arena, *before;
    uint32_t n_rot;
    rope_kind kind;
    float *inv_freq, *turns; /* [n_rot / 2]; [n_rows][n_rot / 2][2] */
    float *sinks;
    values q, k, v, y;
    uint32_t q_stride, k_stride, v_stride;
} world;

static attend_view view_of(const world *w, uint32_t s, uint8_t *arena)
{
    return (attend_view){
        .base = arena, .layout = &w->layout, .pages = w->tables + s * w->table_stride, .layer = w->a.kv_layer};
}

static size_t arena_bytes(const world *w)
{
    return w->n_pages * w->layout.page_bytes;
}

/* Old keys and values, and none where no window reaches. */
static void fill_arena(metal_check *c, world *w, float scale)
{
    float *row = metal_get(w->a.head_dim * sizeof *row);
    memset(w->arena, 0xff, arena_bytes(w));
    for (uint32_t s = 0; s < w->n_slices; s++) {
        attend_view view = view_of(w, s, w->arena);
        for (uint32_t p = attend_first(&w->a, w->slices[s].start); p < w->slices[s].start; p++) {
            for (uint32_t h = 0; h < 2 * w->a.n_head_kv; h++) {
                for (uint32_t i = 0; i < w->a.head_dim; i++) {
                    row[i] = check_normal(&c->base) * (h % 2 ? 1.0f : scale);
                }
                uint8_t *at = h % 2 ? attend_value(&view, h / 2, p) : attend_key(&view, h / 2, p);
                ops_table_scalar().to_kv(w->layout.type, row, at, w->a.head_dim);
            }
        }
    }
    memcpy(w->before, w->arena, arena_bytes(w));
    free(row);
}

static void make_pages(metal_check *c, world *w, uint32_t page_tokens)
{
    kv_group group = {.n_layers = 3, .n_head_kv = w->a.n_head_kv, .head_dim = w->a.head_dim};
    w->layout = kv_layout_make(&group, w->layout.type, page_tokens);
    w->a.kv_layer = (uint16_t)(c->index % 3);
    for (uint32_t s = 0; s < w->n_slices; s++) {
        uint32_t n = (w->slices[s].start + w->slices[s].n_rows + page_tokens - 1) / page_tokens;
        w->table_stride = n > w->table_stride ? n : w->table_stride;
    }
    w->n_pages = w->n_slices * w->table_stride + 2;
    w->tables = metal_get((w->n_slices * w->table_stride + 8) * sizeof *w->tables);
    for (uint32_t s = 0; s < w->n_slices; s++) {
        uint32_t gone = attend_first(&w->a, w->slices[s].start) / page_tokens;
        for (uint32_t i = 0; i < w->table_stride; i++) { /* backwards and interleaved; window pages given back */
            uint32_t page = 1 + (w->table_stride - 1 - i) * w->n_slices + s;
            w->tables[s * w->table_stride + i] = i < gone ? KV_PAGE_NONE : page;
        }
    }
    w->arena = metal_get(arena_bytes(w));
    w->before = metal_get(arena_bytes(w));
}

static void make_turns(world *w)
{
    w->inv_freq = metal_get((w->n_rot / 2 + 8) * sizeof *w->inv_freq);
    w->turns = metal_get((w->n_rows * (size_t)w->n_rot + 8) * sizeof *w->turns);
    float *row = metal_get((w->n_rot + 1) * sizeof *row);
    for (uint32_t i = 0; i < w->n_rot / 2; i++) {
        w->inv_freq[i] = (float)pow(10000.0, -2.0 * i / w->n_rot);
    }
    op_rope rope = {.n_rot = w->n_rot, .inv_freq = w->inv_freq, .magnitude = 1.0f};
    for (uint32_t s = 0; s < w->n_slices; s++) {
        for (uint32_t r = 0; r < w->slices[s].n_rows; r++) {
            rope_angles_fill(&rope, (int32_t)(w->slices[s].start + r), 0, w->n_rot / 2, row, row + w->n_rot / 2);
            float *to = w->turns + (w->slices[s].first_row + r) * (size_t)w->n_rot;
            for (uint32_t i = 0; i < w->n_rot / 2; i++) {
                to[2 * i] = row[i];
                to[2 * i + 1] = row[w->n_rot / 2 + i];
            }
        }
    }
    free(row);
}

static const uint32_t head_dims[] = {64, 80, 96, 128, 256};
static const struct {
    dtype type, kv;
} pairs[] = {{DTYPE_F32, DTYPE_F32}, {DTYPE_F32, DTYPE_F16}, {DTYPE_F16, DTYPE_F16}, {DTYPE_BF16, DTYPE_BF16}};
static const struct {
    uint32_t n_head, n_head_kv;
} heads[] = {{1, 1}, {2, 2}, {4, 2}, {6, 2}, {4, 1}, {5, 1}, {9, 1}};

/* Cases from this on: pages of BF16 below activations of F32. */
#define FIRST_BF16_PAGES 140u

/* What decode and prefill cases have in common: the case's number decides. Slices must be set. */
static world world_make(metal_check *c, world w)
{
    uint32_t i = c->index;
    w.type = pairs[i % 4].type;
    w.layout.type = pairs[i % 4].kv;
    if (i >= FIRST_BF16_PAGES) {
        w.type = DTYPE_F32;
        w.layout.type = DTYPE_BF16;
    }
    w.a.head_dim = head_dims[i % 5];
    w.a.n_head = heads[i % 7].n_head;
    w.a.n_head_kv = heads[i % 7].n_head_kv;
    w.a.scale = 1.0f / sqrtf((float)w.a.head_dim);
    w.a.softcap = i % 6 == 5 ? 20.0f : 0;
    w.a.window = i % 3 == 1 ? 1 + check_below(&c->base, 60) : 0;
    w.kind = i % 2 ? ROPE_PAIRS : ROPE_HALVES;
    for (uint32_t s = 0; s < w.n_slices; s++) {
        w.slices[s].first_row = w.n_rows;
        w.n_rows += w.slices[s].n_rows;
    }
    make_pages(c, &w, 1u << (1 + i % 7));
    float scale = i % 11 == 7 ? 40.0f : 1.0f; /* scores of hundreds and thousands */
    fill_arena(c, &w, scale);
    make_turns(&w);
    w.q_stride = w.a.n_head * w.a.head_dim + (i % 4 == 2 ? 8 : 0);
    w.k_stride = w.a.n_head_kv * w.a.head_dim + (i % 5 == 2 ? 6 : 0);
    w.v_stride = w.a.n_head_kv * w.a.head_dim + (i % 5 == 3 ? 2 : 0);
    w.q = values_make(c, w.type, (size_t)w.n_rows * w.q_stride, VALUES_NORMAL);
    w.k = values_make(c, w.type, (size_t)w.n_rows * w.k_stride, VALUES_NORMAL);
    w.v = values_make(c, w.type, (size_t)w.n_rows * w.v_stride, VALUES_NORMAL);
    w.y = values_output(w.type, (size_t)w.n_rows * w.a.n_head * w.a.head_dim);
    w.sinks = metal_get((w.a.n_head + 8) * sizeof *w.sinks);
    for (uint32_t h = 0; h < w.a.n_head; h++) {
        w.sinks[h] = check_normal(&c->base);
    }
    w.a.sinks = i % 4 == 1 ? w.sinks : NULL;
    return w;
}

static void world_close(world *w)
{
    free(w->tables);
    free(w->arena);
    free(w->before);
    free(w->inv_freq);
    free(w->turns);
    free(w->sinks);
    values_free(&w->q);
    values_free(&w->k);
    values_free(&w->v);
    values_free(&w->y);
}

/* A head of a new row, turned where there is something to turn. */
static void turned_head(const world *w, const float *head, uint32_t row, float *to)
{
    uint32_t half = w->n_rot / 2;
    float *turn = metal_get((w->n_rot + 1) * sizeof *turn);
    for (uint32_t i = 0; i < half; i++) {
        turn[i] = w->turns[row * (size_t)w->n_rot + 2 * i];
        turn[half + i] = w->turns[row * (size_t)w->n_rot + 2 * i + 1];
    }
    memcpy(to, head, w->a.head_dim * sizeof *to);
    ops_table_scalar().rope(w->kind, to, 1, w->a.head_dim, w->n_rot, turn, turn + half);
    free(turn);
}

/* A stored row against what should be there: as exact as its type. */
static void compare_stored(metal_check *c, const world *w, const uint8_t *at, const float *expected)
{
    float row[256];
    kv_row_decode(w->layout.type, at, row, w->a.head_dim);
    for (uint32_t i = 0; i < w->a.head_dim; i++) {
        metal_compare(c, w->layout.type, row[i], (double)expected[i], 4e-7 * fabs((double)expected[i]) + 4e-7, i);
    }
}

/* The new rows are in the pages, and nothing else has changed. Leaves `before` without the new rows. */
static void compare_arena(metal_check *c, world *w)
{
    uint8_t *rest = metal_get(arena_bytes(w));
    float head[256];
    memcpy(rest, w->arena, arena_bytes(w));
    for (uint32_t s = 0; s < w->n_slices; s++) {
        attend_view view = view_of(w, s, w->arena), left = view_of(w, s, rest), old = view_of(w, s, w->before);
        for (uint32_t r = 0; r < w->slices[s].n_rows; r++) {
            uint32_t row = w->slices[s].first_row + r, p = w->slices[s].start + r;
            for (uint32_t h = 0; h < w->a.n_head_kv; h++) {
                turned_head(w, w->k.f + row * w->k_stride + h * w->a.head_dim, row, head);
                compare_stored(c, w, attend_key(&view, h, p), head);
                compare_stored(c, w, attend_value(&view, h, p), w->v.f + row * w->v_stride + h * w->a.head_dim);
                memcpy(attend_key(&left, h, p), attend_key(&old, h, p), w->layout.row_bytes);
                memcpy(attend_value(&left, h, p), attend_value(&old, h, p), w->layout.row_bytes);
            }
        }
    }
    check_result(&c->base, !memcmp(rest, w->before, arena_bytes(w)), "%s case %u: wrote where nothing of it lies",
                 c->kernel, c->index);
    free(rest);
}

/* Errors in the scores and in the sum: |error| ≤ (2 × largest error of a score + of the sum) × Σ p |v|. */
typedef struct tolerance {
    double score, sum; /* relative: of Σ |q k|, of Σ p |v| */
} tolerance;

static void compare_head(metal_check *c, const world *w, uint32_t s, uint32_t r, uint32_t h, const float *q,
                         tolerance allowed, float *out)
{
    attend_view view = view_of(w, s, w->arena);
    uint32_t n = w->a.head_dim, position = w->slices[s].start + r, first = attend_first(&w->a, position);
    uint32_t kv_head = h / (w->a.n_head / w->a.n_head_kv), row = w->slices[s].first_row + r;
    double *scratch = metal_get((position + 1 + 2 * (size_t)n) * sizeof *scratch), score_error = 0, largest[256] = {0};
    float key[256];
    attend_scalar(&view, &w->a, h, position, q, out, scratch);
    for (uint32_t p = first; p <= position; p++) {
        double magnitude = 0;
        kv_row_decode(w->layout.type, attend_key(&view, kv_head, p), key, n);
        for (uint32_t i = 0; i < n; i++) {
            magnitude += fabs((double)q[i] * (double)key[i]);
        }
        score_error = fmax(score_error, allowed.score * magnitude * (double)w->a.scale + 1e-6 * (double)w->a.softcap);
        kv_row_decode(w->layout.type, attend_value(&view, kv_head, p), key, n);
        for (uint32_t i = 0; i < n; i++) {
            largest[i] = fmax(largest[i], fabs((double)key[i]));
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        size_t at = ((size_t)row * w->a.n_head + h) * n + i;
        double bound = (2 * score_error + allowed.sum) * largest[i];
        metal_compare(c, w->type, w->y.f[at], (double)out[i], bound, at);
    }
    free(scratch);
}

static void compare_rows(metal_check *c, world *w, bool turned, tolerance allowed)
{
    float q[256], out[256];
    values_read(&w->y);
    for (uint32_t s = 0; s < w->n_slices; s++) {
        for (uint32_t r = 0; r < w->slices[s].n_rows; r++) {
            uint32_t row = w->slices[s].first_row + r;
            for (uint32_t h = 0; h < w->a.n_head; h++) {
                const float *head = w->q.f + row * w->q_stride + h * w->a.head_dim;
                memcpy(q, head, w->a.head_dim * sizeof *q);
                if (turned) {
                    turned_head(w, head, row, q);
                }
                compare_head(c, w, s, r, h, q, allowed, out);
            }
        }
    }
}

/* ---- decode ---- */

/* The rows of a decoding step: sequences with one row, or a few; and one row of padding, which sees nothing. */
typedef struct decode_rows {
    uint32_t *tables;
    int32_t *positions;
} decode_rows;

static bool write_kv(metal_check *c, world *w, const decode_rows *rows, uint64_t seed)
{
    char name[64];
    uint32_t done[8] = {0};
    metal_kv_write write = {.n_rows = w->n_rows,
                            .n_head_kv = w->a.n_head_kv,
                            .head_dim = w->a.head_dim,
                            .n_rot = w->n_rot,
                            .k_stride = w->k_stride,
                            .v_stride = w->v_stride,
                            .kind = w->kind,
                            .table_stride = w->table_stride,
                            .kv = metal_kv_of(&w->layout, w->a.kv_layer),
                            .threads = metal_pick_threads(c->index)};
    metal_dispatch dispatch = metal_kv_write_dispatch(&write);
    metal_emulator_argument arguments[] = {
        values_argument(&w->k),
        values_argument(&w->v),
        METAL_BYTES(w->turns, w->n_rows * (size_t)w->n_rot * sizeof *w->turns),
        METAL_BYTES(w->arena, arena_bytes(w)),
        METAL_BYTES(w->tables, w->n_slices * w->table_stride * sizeof *w->tables),
        METAL_BYTES(rows->tables, w->n_rows * sizeof *rows->tables),
        METAL_BYTES(rows->positions, w->n_rows * sizeof *rows->positions),
        {0},
        METAL_BYTES(done, sizeof done),
    };
    snprintf(name, sizeof name, "kv_write_%s_%s", metal_type_name(w->type), metal_type_name(w->layout.type));
    bool ok = metal_run(c, name, arguments, 9, 7, &dispatch, seed);
    check_result(&c->base, !ok || done[0] == w->n_rows, "%s case %u: kv_write is not done", c->kernel, c->index);
    return ok;
}

static bool attend(metal_check *c, world *w, const decode_rows *rows, uint32_t n_splits, uint64_t seed)
{
    char name[64];
    metal_decode d = {.n_rows = w->n_rows + 1,
                      .n_head = w->a.n_head,
                      .n_head_kv = w->a.n_head_kv,
                      .head_dim = w->a.head_dim,
                      .q_row_stride = w->q_stride,
                      .q_head_stride = w->a.head_dim,
                      .scale = w->a.scale,
                      .softcap = w->a.softcap,
                      .window = w->a.window,
                      .table_stride = w->table_stride,
                      .n_splits = n_splits,
                      .sinks = w->a.sinks != NULL,
                      .kv = metal_kv_of(&w->layout, w->a.kv_layer)};
    size_t n_partials = (size_t)d.n_rows * d.n_head * n_splits * (d.head_dim + 2), n_y = (size_t)d.n_rows * d.n_head;
    values partials = values_output(DTYPE_F32, n_partials), y = values_output(w->type, n_y * d.head_dim);
    values q = values_output(w->type, (size_t)d.n_rows * w->q_stride); /* the padding's query is NaN */
    memcpy(q.data, w->q.data, w->q.n_bytes);
    metal_emulator_argument arguments[] = {
        values_argument(&q),
        METAL_BYTES(w->arena, arena_bytes(w)),
        METAL_BYTES(w->tables, w->n_slices * w->table_stride * sizeof *w->tables),
        METAL_BYTES(rows->tables, d.n_rows * sizeof *rows->tables),
        METAL_BYTES(rows->positions, d.n_rows * sizeof *rows->positions),
        METAL_BYTES(w->sinks, d.n_head * sizeof *w->sinks),
        {0},
        values_argument(&y),
        values_argument(&partials),
    };
    snprintf(name, sizeof name, "attention_decode_fused_%s_%s_%u", metal_type_name(w->type),
             metal_type_name(w->layout.type), d.head_dim);
    metal_dispatch dispatch = metal_decode_dispatch(&d);
    bool ok = metal_run(c, name, arguments, 9, 6, &dispatch, seed);
    if (ok && n_splits > 1) {
        metal_emulator_argument merge[] = {
            values_argument(&partials), METAL_BYTES(w->sinks, d.n_head * sizeof *w->sinks), {0}, values_argument(&y)};
        snprintf(name, sizeof name, "attention_decode_merge_%s_%u", metal_type_name(w->type), d.head_dim);
        dispatch = metal_decode_merge_dispatch(&d);
        ok = metal_run(c, name, merge, 4, 2, &dispatch, seed);
    }
    memcpy(w->y.data, y.data, w->y.n_bytes);
    values_read(&y);
    for (size_t i = w->y.n; ok && i < y.n; i++) { /* the row of padding */
        check_result(&c->base, y.f[i] == 0, "%s case %u: a row that sees nothing is %g", c->kernel, c->index,
                     (double)y.f[i]);
    }
    values_free(&partials);
    values_free(&y);
    values_free(&q);
    return ok;
}

static void run_decode(metal_check *c)
{
    uint32_t i = c->index;
    world w = {.n_slices = 1 + i % 3};
    for (uint32_t s = 0; s < w.n_slices; s++) {
        uint32_t length = i % 8 == 0 ? 0 : i % 8 < 6 ? check_below(&c->base, 90) : check_below(&c->base, 400);
        w.slices[s] = (slice){.n_rows = i % 5 == 4 ? 2 : 1, .start = length};
    }
    w.n_rot = i % 4 == 3 ? 0 : i % 4 == 2 ? 32 : head_dims[i % 5];
    w = world_make(c, w);
    decode_rows rows = {metal_get((w.n_rows + 8) * sizeof(uint32_t)), metal_get((w.n_rows + 8) * sizeof(int32_t))};
    for (uint32_t s = 0; s < w.n_slices; s++) {
        for (uint32_t r = 0; r < w.slices[s].n_rows; r++) {
            rows.tables[w.slices[s].first_row + r] = s;
            rows.positions[w.slices[s].first_row + r] = (int32_t)(w.slices[s].start + r);
        }
    }
    rows.tables[w.n_rows] = 0;
    rows.positions[w.n_rows] = -1;
    tolerance allowed = {(w.a.head_dim / 4.0 + 24) * 0x1p-24, 128 * 0x1p-23};
    for (uint32_t s = 0; s < c->n_seeds; s++) {
        memcpy(w.arena, w.before, arena_bytes(&w));
        if (write_kv(c, &w, &rows, c->seeds[s]) && attend(c, &w, &rows, 1 + i / 3 % 4, c->seeds[s])) {
            compare_arena(c, &w);
            compare_rows(c, &w, false, allowed);
        }
    }
    free(rows.tables);
    free(rows.positions);
    world_close(&w);
}

const metal_suite metal_decode_suite = {"attention_decode", FIRST_BF16_PAGES + 40, run_decode};

/* ---- prefill ---- */

static uint32_t *make_tiles(const world *w, uint32_t *n_tiles)
{
    uint32_t n_rows = metal_prefill_rows(w->a.head_dim, w->type);
    uint32_t *words = metal_get((w->n_rows + 1) * METAL_TILE_WORDS * sizeof *words);
    *n_tiles = 0;
    for (uint32_t s = 0; s < w->n_slices; s++) {
        const slice *a = &w->slices[s];
        for (uint32_t r = 0; r < a->n_rows; r += n_rows) {
            metal_tile tile = {.row = a->first_row + r,
                               .n_rows = a->n_rows - r < n_rows ? a->n_rows - r : n_rows,
                               .slice_row = a->first_row,
                               .start = a->start,
                               .table = s};
            metal_tile_words(&tile, words + METAL_TILE_WORDS * (*n_tiles)++);
        }
    }
    return words;
}

static bool prefill(metal_check *c, world *w, uint64_t seed)
{
    char name[64];
    metal_prefill p = {.n_head = w->a.n_head,
                       .n_head_kv = w->a.n_head_kv,
                       .head_dim = w->a.head_dim,
                       .n_rot = w->n_rot,
                       .q_stride = w->q_stride,
                       .k_stride = w->k_stride,
                       .v_stride = w->v_stride,
                       .scale = w->a.scale,
                       .softcap = w->a.softcap,
                       .window = w->a.window,
                       .table_stride = w->table_stride,
                       .kind = w->kind,
                       .sinks = w->a.sinks != NULL,
                       .type = w->type,
                       .kv = metal_kv_of(&w->layout, w->a.kv_layer)};
    uint32_t *tiles = make_tiles(w, &p.n_tiles);
    metal_emulator_argument arguments[] = {
        values_argument(&w->q),
        values_argument(&w->k),
        values_argument(&w->v),
        METAL_BYTES(w->turns, w->n_rows * (size_t)w->n_rot * sizeof *w->turns),
        METAL_BYTES(w->arena, arena_bytes(w)),
        METAL_BYTES(w->tables, w->n_slices * w->table_stride * sizeof *w->tables),
        METAL_BYTES(tiles, p.n_tiles * METAL_TILE_WORDS * sizeof *tiles),
        METAL_BYTES(w->sinks, w->a.n_head * sizeof *w->sinks),
        {0},
        values_argument(&w->y),
    };
    snprintf(name, sizeof name, "attention_prefill_fused_%s_%s_%u", metal_type_name(w->type),
             metal_type_name(w->layout.type), w->a.head_dim);
    metal_dispatch dispatch = metal_prefill_dispatch(&p);
    values_poison(&w->y);
    bool ok = metal_run(c, name, arguments, 10, 8, &dispatch, seed);
    free(tiles);
    return ok;
}

static void run_prefill(metal_check *c)
{
    uint32_t i = c->index;
    world w = {.n_slices = 1 + i % 3};
    for (uint32_t s = 0; s < w.n_slices; s++) {
        w.slices[s].n_rows = 1 + check_below(&c->base, s ? 12 : 44);
        w.slices[s].start = i % 4 ? check_below(&c->base, 60) : 0;
    }
    w.n_rot = i % 9 == 8 ? 0 : i % 4 == 2 ? 32 : head_dims[i % 5];
    w = world_make(c, w);
    /* half tiles round turned queries and the weights of the softmax */
    double half = w.type == DTYPE_F16 ? 0x1p-11 : 0;
    tolerance allowed = {(w.a.head_dim / 4.0 + 24) * 0x1p-24 + half, 128 * 0x1p-23 + 2 * half};
    for (uint32_t s = 0; s < c->n_seeds; s++) {
        memcpy(w.arena, w.before, arena_bytes(&w));
        if (prefill(c, &w, c->seeds[s])) {
            compare_arena(c, &w);
            compare_rows(c, &w, true, allowed);
        }
    }
    world_close(&w);
}

const metal_suite metal_prefill_suite = {"attention_prefill", FIRST_BF16_PAGES + 40, run_prefill};
