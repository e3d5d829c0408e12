/*
 * Stacks of matrices: experts and heads, as one array of MLX's.
 * Owner: the program, in its arena of weights. Lifetime: the program's.
 */
#include "kernels/mlx/values.h"
#include "kernels/mlx/weights.h"

static bool are_alike(const tensor *parts, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        if (parts[i].type != parts[0].type) {
            return false;
        }
    }
    return true;
}

static bool lie_together(const tensor *parts, uint32_t n)
{
    size_t n_bytes = (size_t)parts[0].shape[1] * parts[0].row_bytes;
    for (uint32_t i = 1; i < n; i++) {
        if (parts[i].data != (const uint8_t *)parts[0].data + i * n_bytes) {
            return false;
        }
    }
    return true;
}

static bool load_each(mlx_weight *each, mlx_arena *arena, const bridge_device *device, const tensor *parts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!mlx_weight_load(&each[i], arena, device, &parts[i], false)) {
            return false;
        }
    }
    return true;
}

typedef mlx_value *mlx_weight_array(const mlx_weight *w);

static mlx_value *w_of(const mlx_weight *w)
{
    return w->w;
}

static mlx_value *scales_of(const mlx_weight *w)
{
    return w->scales;
}

static mlx_value *biases_of(const mlx_weight *w)
{
    return w->biases;
}

/* An array of all parts, computed now, so that those can go. */
static mlx_value *join(mlx_arena *arena, const mlx_value **room, const mlx_weight *each, uint32_t n,
                       mlx_weight_array *array_of)
{
    if (!array_of(&each[0])) {
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        room[i] = array_of(&each[i]);
    }
    mlx_value *all = bridge_join(arena, room, n, 0);
    bridge_data(arena, all);
    return all;
}

/* Parts that lie apart in the file. */
static bool load_joined(mlx_weight *all, mlx_arena *arena, const bridge_device *device, const tensor *parts, uint32_t n)
{
    region memory = {0};
    mlx_arena *apart = bridge_arena_open();
    mlx_weight *each = region_array(&memory, n, sizeof *each);
    const mlx_value **room = region_array(&memory, n, sizeof *room);
    bool ok = apart && each && room && load_each(each, apart, device, parts, n);
    if (ok) {
        *all = each[0];
        all->n_out = each[0].n_out * (int32_t)n;
        all->w = join(arena, room, each, n, w_of);
        all->scales = join(arena, room, each, n, scales_of);
        all->biases = join(arena, room, each, n, biases_of);
    }
    if (apart) {
        bridge_arena_close(&apart);
    }
    region_close(&memory);
    return ok;
}

/* Rows [first, first + n) of an array; NULL of none. */
static mlx_value *some_rows(mlx_arena *arena, const mlx_value *x, int32_t first, int32_t n)
{
    return x ? bridge_slice(arena, x, 0, first, first + n) : NULL;
}

/* The parts of what is there as a whole. */
static void cut(mlx_weight *each, mlx_arena *arena, const mlx_weight *all, const tensor *parts, int32_t n)
{
    int32_t n_out = all->n_out / n;
    for (int32_t i = 0; i < n; i++) {
        each[i] = *all;
        each[i].source = &parts[i];
        each[i].n_out = n_out;
        each[i].w = some_rows(arena, all->w, i * n_out, n_out);
        each[i].scales = some_rows(arena, all->scales, i * n_out, n_out);
        each[i].biases = some_rows(arena, all->biases, i * n_out, n_out);
    }
}

bool mlx_stack_load(mlx_stack *out, mlx_arena *arena, region *memory, const bridge_device *device, const tensor *parts,
                    uint32_t n)
{
    mlx_weight *each = region_array(memory, n, sizeof *each);
    tensor *whole = region_array(memory, 1, sizeof *whole);
    *out = (mlx_stack){.n = (int32_t)n, .each = each};
    if (!each || !whole) {
        return false;
    }
    if (!are_alike(parts, n)) {
        return load_each(each, arena, device, parts, n);
    }
    bool ok;
    if (lie_together(parts, n)) {
        *whole = parts[0];
        whole->shape[1] *= n;
        whole->n_bytes = (size_t)whole->shape[1] * whole->row_bytes;
        ok = mlx_weight_load(&out->all, arena, device, whole, false);
    } else {
        ok = load_joined(&out->all, arena, device, parts, n);
    }
    if (ok) {
        cut(each, arena, &out->all, parts, (int32_t)n);
    }
    return ok;
}

/* [n × rows, columns] as [n, rows, columns] */
static mlx_value *apart(mlx_arena *a, const mlx_value *x, int32_t n)
{
    return value_reshape(a, x, 3, n, bridge_dim(x, 0) / n, bridge_dim(x, 1));
}

static mlx_value *product_of_each(mlx_arena *a, const mlx_stack *s, const mlx_value *x)
{
    mlx_value *sum = NULL;
    for (int32_t i = 0; i < s->n; i++) {
        mlx_value *part = value_reshape(a, some_rows(a, x, i, 1), 2, bridge_dim(x, 1), bridge_dim(x, 2));
        part = mlx_weight_product(a, &s->each[i], part);
        const mlx_value *both[] = {sum, value_reshape(a, part, 3, 1, bridge_dim(x, 1), s->each[i].n_out)};
        sum = bridge_join(a, both + !sum, 1 + (sum != NULL), 0);
    }
    return sum;
}

mlx_value *mlx_stack_product(mlx_arena *a, const mlx_stack *s, const mlx_value *x)
{
    static const int turned[] = {0, 2, 1};
    const mlx_weight *w = &s->all;
    if (!w->w) {
        return product_of_each(a, s, x);
    }
    if (w->packed && bridge_dim(x, 1) <= w->n_rows_packed) {
        return bridge_quantized_matmul(a, x, apart(a, w->w, s->n), apart(a, w->scales, s->n), apart(a, w->biases, s->n),
                                       w->group, w->bits);
    }
    return bridge_two(a, BRIDGE_MATMUL, x, bridge_transpose(a, apart(a, mlx_weight_dense(a, w), s->n), 3, turned));
}

/* ---- those that are chosen ---- */

/* Bytes of matrices that are decoded for the pairs of several rows. */
#define COPIES_MAX ((size_t)256 << 20)

/* What MLX does not multiply by is decoded once for each pair. */
static bool copies_pay(const mlx_stack *s, int32_t n_rows, int32_t n_used)
{
    const mlx_weight *w = &s->all;
    size_t n_pairs = (size_t)n_rows * (size_t)n_used;
    size_t bytes = n_pairs * (size_t)(w->n_out / s->n) * (size_t)w->n_in * sizeof(float);
    /* Of one row nothing else decodes less. */
    return n_pairs < (size_t)s->n && (n_rows == 1 || bytes <= COPIES_MAX);
}

bool mlx_stack_gathers(const mlx_stack *s, int32_t n_rows, int32_t n_used)
{
    const mlx_weight *w = &s->all;
    return w->w && (w->packed || w->f32 || copies_pay(s, n_rows, n_used));
}

/* Decoded copies of those that are chosen: the blocks of one are not MLX's to multiply by. */
static mlx_value *copies(mlx_arena *a, const mlx_stack *s, const mlx_value *chosen)
{
    mlx_weight w = s->all;
    int32_t n = bridge_dim(chosen, 0), m = bridge_dim(chosen, 1), n_out = w.n_out / s->n;
    mlx_value **arrays[] = {&w.w, &w.scales, &w.biases};
    w.n_out = n * m * n_out;
    for (size_t i = 0; i < 3; i++) {
        if (*arrays[i]) {
            mlx_value *x = bridge_take(a, apart(a, *arrays[i], s->n), chosen, 0);
            *arrays[i] = value_reshape(a, x, 2, w.n_out, bridge_dim(*arrays[i], 1));
        }
    }
    return value_reshape(a, mlx_weight_dense(a, &w), 4, n, m, n_out, w.n_in);
}

mlx_value *mlx_stack_chosen(mlx_arena *a, const mlx_stack *s, const mlx_value *x, const mlx_value *chosen, bool sorted)
{
    static const int turned[] = {0, 2, 1}, turned_copies[] = {0, 1, 3, 2};
    const mlx_weight *w = &s->all;
    if (w->packed) {
        return bridge_gather_quantized_matmul(a, x, apart(a, w->w, s->n), apart(a, w->scales, s->n),
                                              apart(a, w->biases, s->n), chosen, sorted, w->group, w->bits);
    }
    if (w->f32) {
        return bridge_gather_matmul(a, x, bridge_transpose(a, apart(a, w->w, s->n), 3, turned), chosen, sorted);
    }
    return bridge_two(a, BRIDGE_MATMUL, x, bridge_transpose(a, copies(a, s, chosen), 4, turned_copies));
}
