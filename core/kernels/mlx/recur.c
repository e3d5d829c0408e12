/*
 * Linear attention as a graph (OP_RECUR). One row is its definition. Many rows are computed in chunks, which hand on
 * their states (Yang et al. 2024; Dao & Gu 2024): with c_t the sum of log f up to row t, and S the state before the
 * chunk,
 *   u_t = learned value of row t
 *   out_t = e^c_t Sᵀ q_t + Σ_{s ≤ t} e^(c_t − c_s) (k_s · q_t) u_s
 *   S_t = e^c_t S + Σ_{s ≤ t} e^(c_t − c_s) k_s u_sᵀ
 * where Mamba-2's u_t is d_t v_t, and the delta rule's solves (I + N) u = b (v − e^c Sᵀ k) with N below its diagonal
 * b_t e^(c_t − c_s) (k_t · k_s). The inverse of I + N does not depend on S, so that only three products a chunk wait
 * for the chunk before it.
 * Owner: the walk. Lifetime: the step's graph.
 *
 * Arrays have the axes [chunk, slice, key head, head that shares it, row, element].
 */
#include <math.h>

#include "kernels/mlx/mixers.h"

#define RECUR_CHUNK 64 /* rows; a power of two */

enum { DIMS = 6, AXIS_ROW = 4, AXIS_ELEMENT = 5 };

typedef struct recurrence {
    walk *w;
    mlx_arena *a;
    const batch *b;
    const op *o;
    const op_recur *r;
    const op_arrays *arrays;
    int32_t n_key_heads, n_shared;       /* n_head = both multiplied */
    int32_t n_chunks, n_rows;            /* of a chunk */
    mlx_value *q, *k, *v, *fade, *learn; /* fade: log f; both [.., 1] */
    mlx_value *state;                    /* [1, n, key heads, shared, head_k, head_v] or NULL: zeros */
} recurrence;

/* What the rows of a chunk do to each other. */
typedef struct chunks {
    mlx_value *passed;           /* e^c_t                    [.., row, 1] */
    mlx_value *decays;           /* e^(c_t − c_s), 0 where s > t [.., row, row] */
    mlx_value *queries, *scores; /* e^c q [.., row, head_k]; decays ∘ q kᵀ */
    mlx_value *learned;          /* u, but for what the state before the chunk has to do with it */
    mlx_value *known;            /* by which that state is multiplied, to be taken from it; NULL: not at all */
} chunks;

/* ---- operands ---- */

/* x [n, n_rows, heads × width] with the axes above. heads: those of keys (shared 1), or all. */
static mlx_value *by_heads(const recurrence *t, mlx_value *x, int32_t n_shared, int32_t width)
{
    static const int straight[] = {1, 0, 3, 4, 2, 5}, in_turn[] = {1, 0, 4, 3, 2, 5};
    mlx_arena *a = t->a;
    int32_t n = t->b->n, rows = t->b->n_rows, all = t->n_chunks * t->n_rows;
    if (rows < all) { /* rows of zeros change no state */
        const int32_t shape[] = {n, all - rows, bridge_dim(x, 2)};
        const mlx_value *parts[] = {x, bridge_broadcast(a, bridge_scalar(a, 0), 3, shape)};
        x = bridge_join(a, parts, 2, 1);
    }
    if (t->r->take_turns) {
        x = value_reshape(a, x, DIMS, n, t->n_chunks, t->n_rows, n_shared, t->n_key_heads, width);
        return bridge_transpose(a, x, DIMS, in_turn);
    }
    x = value_reshape(a, x, DIMS, n, t->n_chunks, t->n_rows, t->n_key_heads, n_shared, width);
    return bridge_transpose(a, x, DIMS, straight);
}

/* [n, n_rows, n_heads × width] out of rows of src. */
static mlx_value *part_of(const recurrence *t, slot src, uint32_t first, uint32_t n)
{
    mlx_value *x = t->w->slots[src];
    return batch_rows(t->w, t->b, bridge_slice(t->a, x, 1, (int32_t)first, (int32_t)(first + n)));
}

/* Of length 1, × factor. */
static mlx_value *unit(const recurrence *t, mlx_value *x, float factor)
{
    float width = (float)t->r->head_k;
    return value_scale(t->a, bridge_norm(t->a, false, x, NULL, NULL, RECUR_EPS / width), factor / sqrtf(width));
}

/* softplus, kept to its limits */
static mlx_value *time_steps(const recurrence *t)
{
    mlx_arena *a = t->a;
    const op_recur *r = t->r;
    mlx_value *x = value_add(a, part_of(t, SLOT_D, 0, r->n_head), t->arrays->step_bias);
    mlx_value *below = bridge_one(a, BRIDGE_NEGATIVE, bridge_one(a, BRIDGE_ABS, x));
    mlx_value *d = bridge_two(a, BRIDGE_MAXIMUM, x, bridge_scalar(a, 0));
    d = value_add(a, d, bridge_one(a, BRIDGE_LOG1P, bridge_one(a, BRIDGE_EXP, below)));
    if (r->step_least > 0) {
        d = bridge_two(a, BRIDGE_MAXIMUM, d, bridge_scalar(a, r->step_least));
    }
    return isfinite(r->step_most) ? bridge_two(a, BRIDGE_MINIMUM, d, bridge_scalar(a, r->step_most)) : d;
}

static void make_operands(recurrence *t)
{
    const op_recur *r = t->r;
    uint32_t keys = r->n_head_k * r->head_k;
    int32_t head_k = (int32_t)r->head_k;
    mlx_value *d = time_steps(t), *learn = d;
    t->q = by_heads(t, part_of(t, t->o->src, r->q_first, keys), 1, head_k);
    t->k = by_heads(t, part_of(t, t->o->src, r->k_first, keys), 1, head_k);
    t->v = by_heads(t, part_of(t, t->o->src, r->v_first, t->o->width), t->n_shared, (int32_t)r->head_v);
    if (r->kind == RECUR_DELTA) {
        t->q = unit(t, t->q, 1 / sqrtf((float)r->head_k));
        t->k = unit(t, t->k, 1);
        learn = bridge_one(t->a, BRIDGE_SIGMOID, part_of(t, SLOT_B, 0, r->n_head));
    }
    t->fade = by_heads(t, value_mul(t->a, d, t->arrays->fade), t->n_shared, 1);
    t->learn = by_heads(t, learn, t->n_shared, 1);
}

/* A state [n, n_head × head_k × head_v] with the axes above, and back. */
static mlx_value *state_by_heads(const recurrence *t, mlx_value *x)
{
    static const int in_turn[] = {0, 1, 3, 2, 4, 5};
    int32_t n = bridge_dim(x, 0), k = (int32_t)t->r->head_k, v = (int32_t)t->r->head_v;
    if (t->r->take_turns) {
        x = value_reshape(t->a, x, DIMS, 1, n, t->n_shared, t->n_key_heads, k, v);
        return bridge_transpose(t->a, x, DIMS, in_turn);
    }
    return value_reshape(t->a, x, DIMS, 1, n, t->n_key_heads, t->n_shared, k, v);
}

static mlx_value *state_as_kept(const recurrence *t, mlx_value *x)
{
    static const int in_turn[] = {0, 1, 3, 2, 4, 5};
    x = t->r->take_turns ? bridge_transpose(t->a, x, DIMS, in_turn) : x;
    return value_reshape(t->a, x, 2, bridge_dim(x, 1), (int32_t)state_part_of(t->o).width);
}

static mlx_value *turned(mlx_arena *a, const mlx_value *x)
{
    static const int axes[] = {0, 1, 2, 3, 5, 4};
    return bridge_transpose(a, x, DIMS, axes);
}

static mlx_value *product(mlx_arena *a, const mlx_value *x, const mlx_value *y)
{
    return bridge_two(a, BRIDGE_MATMUL, x, y);
}

/* ---- one row ---- */

static mlx_value *one_row(recurrence *t)
{
    mlx_arena *a = t->a;
    mlx_value *learned = t->v, *faded = NULL;
    if (t->state) {
        faded = value_mul(a, t->state, bridge_one(a, BRIDGE_EXP, t->fade));
    }
    if (faded && t->r->kind == RECUR_DELTA) {
        learned = value_sub(a, learned, product(a, t->k, faded));
    }
    learned = value_mul(a, learned, t->learn);
    mlx_value *added = value_mul(a, turned(a, t->k), learned);
    t->state = faded ? value_add(a, faded, added) : added;
    uint32_t n_targets;
    const state_target *targets = states_wanted(t->w, t->b, t->o, &n_targets);
    mlx_value *kept = state_as_kept(t, t->state);
    if (targets && n_targets < (uint32_t)t->b->n) { /* never in a step of the engine */
        for (uint32_t i = 0; i < n_targets; i++) {
            int32_t at = (int32_t)targets[i].in_batch;
            states_keep(t->w, t->o, bridge_slice(a, kept, 0, at, at + 1), &targets[i], 1);
        }
    } else if (targets) {
        states_keep(t->w, t->o, kept, targets, n_targets);
    }
    return product(a, t->q, t->state);
}

/* ---- chunks ---- */

/* Matrices of 0 and 1 for rows t and columns s. A number is BLOCK: t in the second half of its block of twice so many
 * rows, s in the first. */
enum { MASK_UP_TO = 0 /* s ≤ t */, MASK_BEFORE = -1 /* s < t */, MASK_SAME = -2 };

static bool is_set(int32_t kind, int32_t t, int32_t s)
{
    switch (kind) {
    case MASK_UP_TO:
        return s <= t;
    case MASK_BEFORE:
        return s < t;
    case MASK_SAME:
        return s == t;
    default:
        return t / (2 * kind) == s / (2 * kind) && t / kind % 2 == 1 && s / kind % 2 == 0;
    }
}

/* [n, n] for a chunk's rows; made once a step. */
static mlx_value *mask(const recurrence *t, int32_t kind)
{
    walk *w = t->w;
    const int32_t n = t->n_rows, shape[] = {n, n};
    for (uint32_t i = 0; i < w->n_masks; i++) {
        if (w->masks[i].n == n && w->masks[i].kind == kind) {
            return w->masks[i].mask;
        }
    }
    float *values = region_array(w->memory, (size_t)(n * n), sizeof *values);
    for (int32_t i = 0; values && i < n * n; i++) {
        values[i] = is_set(kind, i / n, i % n);
    }
    mlx_value *made = values ? bridge_copy(t->a, MLX_F32, 2, shape, values) : NULL;
    if (w->n_masks < WALK_MASKS_MAX) {
        w->masks[w->n_masks++] = (walk_mask){n, kind, made};
    }
    return made;
}

/* (I + below)⁻¹ of matrices with zeros on and above the diagonal: the inverse of blocks of `size` rows, then of those
 * twice as large, [A 0; C B]⁻¹ = [A⁻¹ 0; −B⁻¹ C A⁻¹ B⁻¹]. As stable as solving row by row. */
static mlx_value *invert(const recurrence *t, mlx_value *below)
{
    mlx_arena *a = t->a;
    mlx_value *inverse = NULL;
    for (int32_t size = 1; size < t->n_rows; size *= 2) {
        mlx_value *c = value_mul(a, below, mask(t, size));
        c = inverse ? product(a, product(a, inverse, c), inverse) : c;
        inverse = value_sub(a, inverse ? inverse : mask(t, MASK_SAME), c);
    }
    return inverse;
}

static void make_chunks(const recurrence *t, chunks *c)
{
    mlx_arena *a = t->a;
    mlx_value *before = mask(t, MASK_BEFORE);
    mlx_value *sums = bridge_cumsum(a, value_mul(a, before, t->fade), AXIS_ROW);
    c->decays = value_mul(a, bridge_one(a, BRIDGE_EXP, sums), mask(t, MASK_UP_TO));
    c->passed = bridge_one(a, BRIDGE_EXP, bridge_cumsum(a, t->fade, AXIS_ROW));
    c->queries = value_mul(a, t->q, c->passed);
    c->scores = value_mul(a, product(a, t->q, turned(a, t->k)), c->decays);
    c->learned = value_mul(a, t->v, t->learn);
    c->known = NULL;
    if (t->r->kind == RECUR_DELTA) {
        mlx_value *below = value_mul(a, product(a, t->k, turned(a, t->k)), c->decays);
        mlx_value *inverse = invert(t, value_mul(a, value_mul(a, below, t->learn), before));
        c->learned = product(a, inverse, c->learned);
        c->known = product(a, inverse, value_mul(a, t->k, value_mul(a, c->passed, t->learn)));
    }
}

static mlx_value *chunk_of(const recurrence *t, const mlx_value *x, int32_t i)
{
    return bridge_slice(t->a, x, 0, i, i + 1);
}

/* The state behind row `row` of a chunk, of all slices or of one (first … end). */
static mlx_value *state_behind(const recurrence *t, const chunks *c, int32_t chunk, int32_t row, int32_t first,
                               int32_t end, mlx_value *learned)
{
    mlx_arena *a = t->a;
    const mlx_value *const all[] = {c->decays, c->passed, t->k};
    mlx_value *part[3];
    for (size_t i = 0; i < 3; i++) {
        part[i] = bridge_slice(a, chunk_of(t, all[i], chunk), 1, first, end);
    }
    mlx_value *decays = turned(a, bridge_slice(a, part[0], AXIS_ROW, row, row + 1));
    mlx_value *keys = turned(a, value_mul(a, part[2], decays));
    mlx_value *added = product(a, keys, bridge_slice(a, learned, 1, first, end));
    if (!t->state) {
        return added;
    }
    mlx_value *passed = bridge_slice(a, part[1], AXIS_ROW, row, row + 1);
    return value_add(a, value_mul(a, bridge_slice(a, t->state, 1, first, end), passed), added);
}

/* The states in and behind a chunk that somebody keeps; `next` is the one behind it. */
static void keep_states(const recurrence *t, const chunks *c, int32_t chunk, mlx_value *learned, mlx_value *next,
                        const state_target *targets, uint32_t n_targets)
{
    for (uint32_t i = 0; i < n_targets; i++) {
        int32_t row = (int32_t)targets[i].row, slice = (int32_t)targets[i].in_batch, last = t->n_rows - 1;
        if (row / t->n_rows != chunk) {
            continue;
        }
        bool behind = row % t->n_rows == last || row == t->b->n_rows - 1;
        mlx_value *state = behind ? bridge_slice(t->a, next, 1, slice, slice + 1)
                                  : state_behind(t, c, chunk, row % t->n_rows, slice, slice + 1, learned);
        states_keep(t->w, t->o, state_as_kept(t, state), &targets[i], 1);
    }
}

/* [chunk, …, row, head_v] */
static mlx_value *many_rows(recurrence *t)
{
    mlx_arena *a = t->a;
    chunks c;
    uint32_t n_targets;
    const state_target *targets = states_wanted(t->w, t->b, t->o, &n_targets);
    const mlx_value **parts = region_array(t->w->memory, (size_t)t->n_chunks, sizeof *parts);
    if (!targets || !parts) {
        return NULL;
    }
    make_chunks(t, &c);
    for (int32_t i = 0; i < t->n_chunks; i++) {
        mlx_value *learned = chunk_of(t, c.learned, i);
        if (t->state && c.known) {
            learned = value_sub(a, learned, product(a, chunk_of(t, c.known, i), t->state));
        }
        mlx_value *out = product(a, chunk_of(t, c.scores, i), learned);
        out = t->state ? value_add(a, out, product(a, chunk_of(t, c.queries, i), t->state)) : out;
        parts[i] = out;
        mlx_value *next = state_behind(t, &c, i, t->n_rows - 1, 0, t->b->n, learned);
        keep_states(t, &c, i, learned, next, targets, n_targets);
        t->state = next;
    }
    return t->n_chunks == 1 ? bridge_keep(a, parts[0]) : bridge_join(a, parts, (size_t)t->n_chunks, 0);
}

/* ---- all of it ---- */

/* v × what of it each head hands through */
static mlx_value *skipped(const recurrence *t)
{
    static const int in_turn[] = {0, 1, 3, 2, 4, 5};
    const mlx_value *skip = t->arrays->skip;
    mlx_value *x;
    if (t->r->take_turns) {
        x = value_reshape(t->a, skip, DIMS, 1, 1, t->n_shared, t->n_key_heads, 1, 1);
        x = bridge_transpose(t->a, x, DIMS, in_turn);
    } else {
        x = value_reshape(t->a, skip, DIMS, 1, 1, t->n_key_heads, t->n_shared, 1, 1);
    }
    return value_mul(t->a, t->v, x);
}

/* [n, n_rows, n_head × head_v] */
static mlx_value *recur_batch(walk *w, const batch *b, const op *o, const op_arrays *arrays)
{
    static const int straight[] = {1, 0, 4, 2, 3, 5}, in_turn[] = {1, 0, 4, 3, 2, 5};
    const op_recur *r = o->recur;
    mlx_arena *a = w->a;
    recurrence t = {.w = w, .a = a, .b = b, .o = o, .r = r, .arrays = arrays, .n_rows = 1};
    while (t.n_rows < b->n_rows && t.n_rows < RECUR_CHUNK) {
        t.n_rows *= 2;
    }
    t.n_chunks = (b->n_rows + t.n_rows - 1) / t.n_rows;
    t.n_key_heads = (int32_t)r->n_head_k;
    t.n_shared = (int32_t)(r->n_head / r->n_head_k);
    t.state = state_before(w, b, o);
    t.state = t.state ? state_by_heads(&t, t.state) : NULL;
    make_operands(&t);
    mlx_value *out = b->n_rows == 1 ? one_row(&t) : many_rows(&t);
    out = arrays->skip ? value_add(a, out, skipped(&t)) : out;
    out = bridge_transpose(a, out, DIMS, r->take_turns ? in_turn : straight);
    out = value_reshape(a, out, 3, b->n, t.n_chunks * t.n_rows, (int32_t)o->width);
    return t.n_chunks * t.n_rows > b->n_rows ? bridge_slice(a, out, 1, 0, b->n_rows) : out;
}

mlx_value *walk_recur(walk *w, const op *o, const op_arrays *arrays)
{
    const mlx_value **parts = region_array(w->memory, w->n_batches, sizeof *parts);
    for (uint32_t i = 0; parts && i < w->n_batches; i++) {
        parts[i] = recur_batch(w, &w->batches[i], o, arrays);
    }
    return parts ? batches_joined(w, parts) : NULL;
}
