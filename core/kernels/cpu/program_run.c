/*
 * Running a step: checks it, finds scratch memory, and lets the thread team walk the nodes together.
 * Owner: the program. Lifetime: the step; the scratch memory stays for the next one.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/cpu/program.h"

#define CACHE_LINE 64u

static mlxr_status check_kv(const program *prog, const step *s, mlxr_error *error)
{
    for (uint32_t g = 0; g < prog->plan->n_kv_groups; g++) {
        const kv_group *group = &prog->plan->kv_groups[g];
        const kv_layout *l = &s->kv.layout[g];
        if (l->n_layers != group->n_layers || l->n_head_kv != group->n_head_kv || l->head_dim != group->head_dim ||
            l->page_tokens == 0 || (l->page_tokens & (l->page_tokens - 1)) || !s->kv.base[g]) {
            return error_set(error, MLXR_ARG,
                             "KV group %u has %u layers of %u heads of %u and %u tokens a page, but the model %u, %u, %u",
                             g, l->n_layers, l->n_head_kv, l->head_dim, l->page_tokens, group->n_layers,
                             group->n_head_kv, group->head_dim);
        }
        if (l->type != DTYPE_F32 && l->type != DTYPE_F16 && l->type != DTYPE_BF16) {
            return error_set(error, MLXR_UNSUPPORTED, "the CPU backend has no KV type %d; it has F32, F16 and BF16",
                             (int)l->type);
        }
    }
    return MLXR_OK;
}

static mlxr_status check_step(const program *prog, const step *s, mlxr_error *error)
{
    for (uint32_t r = 0; r < s->n_rows; r++) {
        if (s->tokens[r] < 0 || (uint32_t)s->tokens[r] >= prog->plan->n_vocab || s->positions[r] < 0) {
            return error_set(error, MLXR_ARG, "row %u of %u has token %d (of %u) at position %d", r, s->n_rows,
                             s->tokens[r], prog->plan->n_vocab, s->positions[r]);
        }
    }
    uint32_t row = 0;
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const step_slice *slice = &s->slices[i];
        if (slice->first_row != row || slice->n_rows > s->n_rows - row || slice->start > INT32_MAX - slice->n_rows) {
            return error_set(error, MLXR_ARG, "slice %u covers rows %u…%u of %u from position %u", i,
                             slice->first_row, slice->first_row + slice->n_rows, s->n_rows, slice->start);
        }
        row += slice->n_rows;
    }
    for (uint32_t i = 0; i < s->n_wanted; i++) {
        if (s->wanted[i] >= s->n_rows || (i && s->wanted[i] <= s->wanted[i - 1])) {
            return error_set(error, MLXR_ARG, "wanted row %u of %u is out of order or range", s->wanted[i], s->n_rows);
        }
    }
    if (row != s->n_rows || (s->n_wanted && !s->logits)) {
        return error_set(error, MLXR_ARG, "slices cover %u of %u rows, or logits have no place", row, s->n_rows);
    }
    return check_kv(prog, s, error);
}

/* Hands out cache-line aligned pieces of one block; with base NULL it only counts. */
typedef struct carve {
    uint8_t *base;
    uint64_t used;
    bool overflow;
} carve;

static void *carve_take(carve *c, uint64_t count, uint64_t size)
{
    uint64_t n_bytes, at = c->used;
    if (!checked_mul(count, size, &n_bytes) || !checked_align(n_bytes, CACHE_LINE, &n_bytes) ||
        !checked_add(c->used, n_bytes, &c->used)) {
        c->overflow = true;
    }
    return c->base ? c->base + at : NULL;
}

static uint32_t padded(uint32_t n_floats)
{
    return (n_floats + 15u) & ~15u;
}

/* All scratch of a pass of n_rows rows; called twice, to count and to place. */
static void place(exec *e, carve *c, uint32_t n_rows, uint32_t n_positions, uint32_t n_slices)
{
    const program *prog = e->prog;
    for (uint32_t i = 1; i < SLOT_COUNT; i++) {
        if (i != SLOT_LOGITS && prog->plan->slot_width[i]) {
            e->slots[i].stride = padded(prog->plan->slot_width[i]);
            e->slots[i].data = carve_take(c, (uint64_t)n_rows * e->slots[i].stride, sizeof(float));
        }
    }
    e->rope = carve_take(c, (uint64_t)n_rows * prog->rope_width, sizeof(float));
    size_t attend = program_attend_scratch(prog, n_positions);
    size_t n_private = prog->thread_width > attend ? prog->thread_width : attend;
    e->private_stride = (n_private + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
    e->private = carve_take(c, prog->n_threads, e->private_stride);
    e->s.slices = carve_take(c, n_slices, sizeof(step_slice));
    e->s.wanted = carve_take(c, n_rows, sizeof(uint32_t));
}

static mlxr_status find_scratch(program *prog, exec *e, const step *s, uint32_t n_rows, mlxr_error *error)
{
    uint32_t n_positions = 0;
    for (uint32_t i = 0; i < s->n_slices; i++) {
        uint32_t n = s->slices[i].start + s->slices[i].n_rows;
        n_positions = n > n_positions ? n : n_positions;
    }
    carve count = {0};
    place(e, &count, n_rows, n_positions, s->n_slices);
    if (count.overflow || count.used > SIZE_MAX / 2) {
        return error_set(error, MLXR_LIMIT, "a step of %u rows needs more memory than can be addressed", n_rows);
    }
    if (count.used > prog->scratch_bytes) {
        void *grown = aligned_alloc(CACHE_LINE, (size_t)count.used);
        if (!grown) {
            return error_nomem(error, "step scratch", (size_t)count.used);
        }
        free(prog->scratch);
        prog->scratch = grown;
        prog->scratch_bytes = (size_t)count.used;
    }
    carve take = {.base = prog->scratch};
    place(e, &take, n_rows, n_positions, s->n_slices);
    return MLXR_OK;
}

/* Makes *e the pass over rows [begin, end) of the step, with n_done wanted rows before it. */
static void cut_pass(exec *e, const step *s, uint32_t begin, uint32_t end, uint32_t n_done)
{
    step_slice *slices = (step_slice *)e->s.slices;
    uint32_t *wanted = (uint32_t *)e->s.wanted;
    e->s = (step){.n_rows = end - begin,
                  .tokens = s->tokens + begin,
                  .positions = s->positions + begin,
                  .slices = slices,
                  .wanted = wanted,
                  .kv = s->kv,
                  .logits = s->logits + (size_t)n_done * e->prog->plan->n_vocab};
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const step_slice *all = &s->slices[i];
        uint32_t first = all->first_row > begin ? all->first_row : begin;
        uint32_t last = all->first_row + all->n_rows < end ? all->first_row + all->n_rows : end;
        if (first < last) {
            step_slice *part = &slices[e->s.n_slices++];
            *part = *all;
            part->first_row = first - begin;
            part->n_rows = last - first;
            part->start = all->start + (first - all->first_row);
        }
    }
    while (n_done + e->s.n_wanted < s->n_wanted && s->wanted[n_done + e->s.n_wanted] < end) {
        wanted[e->s.n_wanted] = s->wanted[n_done + e->s.n_wanted] - begin;
        e->s.n_wanted++;
    }
    e->slots[SLOT_LOGITS] = (slot_view){e->s.logits, e->prog->plan->n_vocab};
}

static void walk(void *context, const team_member *member)
{
    const exec *e = context;
    program_rope_angles(e, member); /* read by others only after the embedding's barrier */
    for (uint32_t i = 0; i < e->prog->n_nodes; i++) {
        const node *n = &e->prog->nodes[i];
        if (n->taken && e->s.n_wanted == 0) {
            break;
        }
        n->run(e, n, member);
        team_barrier(member);
    }
}

mlxr_status program_run(program *prog, team *t, const step *s, mlxr_error *error)
{
    mlxr_status status = check_step(prog, s, error);
    if (status != MLXR_OK || s->n_rows == 0) {
        return status;
    }
    /* Passes of about equal size: rows of a sequence come in order, so a later pass finds its keys written. */
    uint32_t n_passes = (s->n_rows + PROGRAM_ROWS_MAX - 1) / PROGRAM_ROWS_MAX;
    uint32_t n_rows = (s->n_rows + n_passes - 1) / n_passes;
    exec e = {.prog = prog};
    status = find_scratch(prog, &e, s, n_rows, error);
    if (status != MLXR_OK) {
        return status;
    }
    for (uint32_t begin = 0, n_done = 0; begin < s->n_rows; begin += n_rows) {
        uint32_t end = s->n_rows - begin < n_rows ? s->n_rows : begin + n_rows;
        cut_pass(&e, s, begin, end, n_done);
        n_done += e.s.n_wanted;
        team_run(t, walk, &e);
    }
    return MLXR_OK;
}
