/*
 * Running a step: checks it, finds scratch memory, and lets the thread team walk the nodes together.
 * Owner: the program. Lifetime: the step; the scratch memory stays for the next one.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/cpu/program.h"
#include "kernels/plan_check.h"

#define CACHE_LINE 64u /* and the distance of exec.counters in bytes */

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

/* The thread's own part: products and attention never overlap in time, so they share it. */
static void place_private(exec *e, carve *c, uint32_t n_positions)
{
    const program *prog = e->prog;
    size_t attend = 0, at = linear_scratch_bytes(prog->widest_in);
    for (uint32_t g = 0; g < prog->plan->n_kv_groups; g++) {
        size_t n = prog->plan->kv_groups[g].head_dim;
        if (n == 0) { /* recurrent */
            continue;
        }
        size_t n_bytes = prog->ops.attend.scores ? attend_scratch_bytes((uint32_t)n)
                                                 : (n_positions + 2 * n) * sizeof(double);
        attend = n_bytes > attend ? n_bytes : attend;
    }
    size_t recur = prog->recur_floats * sizeof(float);
    attend = recur > attend ? recur : attend;
    for (uint32_t f = 0; f < LINEAR_FORMAT_COUNT; f++) {
        e->private_packed[f] = at;
        at += prog->packed_in[f] ? linear_input_bytes((linear_format)f, LINEAR_TILE, prog->packed_in[f]) : 0;
    }
    e->private_row = at;
    at += prog->widest_row * sizeof(float);
    e->private_heads = (at + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
    e->private_strip = e->private_heads + ((size_t)prog->heads_bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    at = e->private_strip + few_strip_bytes(prog);
    at = at > attend ? at : attend;
    e->private_stride = (at + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
    e->private = carve_take(c, prog->n_threads, e->private_stride);
}

/* Is there attention for some of the rows alone? */
static bool takes_some(const exec *e)
{
    return e->prog->attends_taken && e->s.n_wanted < e->s.n_rows;
}

/* All scratch of a pass; called twice, to count and to place. */
static void place(exec *e, carve *c, uint32_t n_positions)
{
    const program *prog = e->prog;
    uint32_t n_rows = e->s.n_rows;
    size_t n_partials = 0;
    for (uint32_t i = 1; i < SLOT_COUNT; i++) {
        if (i != SLOT_LOGITS && prog->plan->slot_width[i]) {
            e->slots[i].stride = padded(prog->plan->slot_width[i]);
            e->slots[i].data = carve_take(c, (uint64_t)n_rows * e->slots[i].stride, sizeof(float));
        }
    }
    e->rope = carve_take(c, (uint64_t)n_rows * prog->rope_width, sizeof(float));
    for (uint32_t f = LINEAR_F32 + 1; f < LINEAR_FORMAT_COUNT; f++) {
        if (prog->packed_in[f]) {
            uint32_t n = prog->packed_many[f] || n_rows < LINEAR_FEW ? n_rows : LINEAR_FEW;
            e->packed[f] = carve_take(c, linear_input_bytes((linear_format)f, n, prog->packed_in[f]), 1);
        }
    }
    for (uint32_t i = 0; i < prog->n_shapes && prog->ops.attend.scores; i++) {
        e->works[i].tasks = carve_take(c, e->works[i].n_tasks, sizeof(attend_task));
        e->works[i].split = carve_take(c, e->works[i].n_split, sizeof(attend_task));
        n_partials = e->works[i].n_partials > n_partials ? e->works[i].n_partials : n_partials;
        if (takes_some(e)) {
            attend_work *taken = &e->taken_works[i];
            taken->tasks = carve_take(c, taken->n_tasks, sizeof(attend_task));
            taken->split = carve_take(c, taken->n_split, sizeof(attend_task));
            n_partials = taken->n_partials > n_partials ? taken->n_partials : n_partials;
        }
    }
    const experts_size *x = &prog->experts;
    uint64_t n_pairs = (uint64_t)n_rows * x->n_used;
    if (n_pairs) {
        e->experts.chosen = carve_take(c, n_pairs, sizeof(uint32_t));
        e->experts.weights = carve_take(c, n_pairs, sizeof(float));
        e->experts.place = carve_take(c, n_pairs, sizeof(uint32_t));
        e->experts.row = carve_take(c, n_pairs, sizeof(uint32_t));
        e->experts.groups = carve_take(c, x->n_expert + 1, sizeof(experts_group));
        e->experts.input = carve_take(c, experts_packed_bytes(x, n_pairs, false), 1);
        e->experts.middle = carve_take(c, experts_packed_bytes(x, n_pairs, true), 1);
        e->experts.gate = carve_take(c, n_pairs * x->n_ff, sizeof(float));
        e->experts.up = carve_take(c, n_pairs * x->n_ff, sizeof(float));
        e->experts.out = carve_take(c, n_pairs * x->n_in, sizeof(float));
    }
    e->partials = carve_take(c, n_partials, sizeof(float));
    e->screen_memory = carve_take(c, program_screen_bytes(e), 1);
    e->copy_memory = carve_take(c, copy_bytes(e), 1);
    e->few_memory = carve_take(c, few_bytes(e), 1);
    e->counters = carve_take(c, ((uint64_t)prog->n_nodes + 1) * 2, CACHE_LINE);
    place_private(e, c, n_positions);
}

/* Makes a block at least n bytes long; what was in it is lost. All zero, so that no float in it was never written. */
static mlxr_status grow(program_block *block, uint64_t n, mlxr_error *error)
{
    if (n <= block->n_bytes) {
        return MLXR_OK;
    }
    if (n > SIZE_MAX / 2) {
        return error_set(error, MLXR_LIMIT, "a step needs more memory than can be addressed");
    }
    void *grown = calloc(1, (size_t)n + CACHE_LINE);
    if (!grown) {
        return error_nomem(error, "step scratch", (size_t)n);
    }
    free(block->memory);
    uintptr_t at = ((uintptr_t)grown + CACHE_LINE - 1) & ~(uintptr_t)(CACHE_LINE - 1);
    *block = (program_block){.memory = grown, .data = (uint8_t *)grown + (at - (uintptr_t)grown), .n_bytes = (size_t)n};
    return MLXR_OK;
}

/* The pages of a slice's states in this pass. Where it goes on from the last pass, or goes on in the next, and nobody
 * wants the state between, that is carried. */
static void cut_states(const exec *e, const step_slice *all, step_slice *part, uint32_t n_before, uint32_t **room)
{
    const plan *p = e->prog->plan;
    for (uint32_t g = 0; g < p->n_kv_groups && e->carry[0]; g++) {
        if (p->kv_groups[g].state_width == 0) {
            continue;
        }
        uint32_t *pages = *room, n = part->n_rows;
        *room += n + 1;
        memcpy(pages, all->pages[g] + n_before, (n + 1) * sizeof *pages);
        if (n_before > 0 && pages[0] == KV_PAGE_NONE) {
            pages[0] = PROGRAM_CARRY + (e->pass + 1) % 2;
        }
        if (n_before + n < all->n_rows && pages[n] == KV_PAGE_NONE) {
            pages[n] = PROGRAM_CARRY + e->pass % 2;
        }
        part->pages[g] = pages;
    }
}

/* What cuts a step into passes of n_rows rows; called twice, to count and to place. */
typedef struct cut_room {
    step_slice *slices, *taken;
    uint32_t *wanted, *pages;
} cut_room;

static cut_room place_cut(exec *e, carve *c, const step *s, uint32_t n_rows)
{
    const plan *p = e->prog->plan;
    cut_room room = {.slices = carve_take(c, s->n_slices, sizeof *room.slices),
                     .taken = carve_take(c, s->n_wanted, sizeof *room.taken),
                     .wanted = carve_take(c, s->n_wanted, sizeof *room.wanted)};
    size_t n_bytes = 0, n_pages = 0;
    for (uint32_t g = 0; g < p->n_kv_groups && n_rows < s->n_rows; g++) {
        e->carry_first[g] = n_bytes;
        n_bytes += p->kv_groups[g].state_width ? s->kv.layout[g].page_bytes : 0;
        n_pages += p->kv_groups[g].state_width ? (size_t)n_rows + s->n_slices : 0;
    }
    if (n_bytes) {
        room.pages = carve_take(c, n_pages, sizeof *room.pages);
        e->carry[0] = carve_take(c, n_bytes, 1);
        e->carry[1] = carve_take(c, n_bytes, 1);
    }
    return room;
}

/* Runs of wanted rows as slices, so that attention for them is like any other. */
static void cut_taken(exec *e, step_slice *slices)
{
    e->taken = e->s;
    if (!takes_some(e)) {
        return;
    }
    e->taken.slices = slices;
    e->taken.n_rows = e->s.n_wanted;
    e->taken.n_slices = 0;
    for (uint32_t i = 0, of = 0; i < e->s.n_wanted; i++) {
        uint32_t row = e->s.wanted[i];
        bool goes_on = i > 0 && row == e->s.wanted[i - 1] + 1 &&
                       row < e->s.slices[of].first_row + e->s.slices[of].n_rows;
        if (goes_on) {
            slices[e->taken.n_slices - 1].n_rows++;
            continue;
        }
        while (row >= e->s.slices[of].first_row + e->s.slices[of].n_rows) {
            of++;
        }
        step_slice *run = &slices[e->taken.n_slices++];
        *run = e->s.slices[of];
        run->start += row - run->first_row;
        run->first_row = i;
        run->n_rows = 1;
    }
}

/* Makes *e the pass over rows [begin, end) of the step, with n_done wanted rows before it. */
static void cut_pass(exec *e, const step *s, cut_room room, uint32_t begin, uint32_t end, uint32_t n_done)
{
    step_slice *slices = room.slices;
    uint32_t *wanted = room.wanted;
    e->s = (step){.n_rows = end - begin,
                  .tokens = s->tokens + begin,
                  .positions = s->positions + begin,
                  .slices = slices,
                  .wanted = wanted,
                  .kv = s->kv,
                  .profile = s->profile,
                  .observer = s->observer,
                  .experts = s->experts,
                  .carried = s->carried ? s->carried + (size_t)begin * e->prog->plan->carried : NULL,
                  .greatest = s->greatest ? s->greatest + n_done : NULL,
                  .reads = s->reads,
                  .logits = s->logits ? s->logits + (size_t)n_done * e->prog->plan->slot_width[SLOT_LOGITS] : NULL};
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
            cut_states(e, all, part, first - all->first_row, &room.pages);
        }
    }
    while (n_done + e->s.n_wanted < s->n_wanted && s->wanted[n_done + e->s.n_wanted] < end) {
        wanted[e->s.n_wanted] = s->wanted[n_done + e->s.n_wanted] - begin;
        e->s.n_wanted++;
    }
    cut_taken(e, room.taken);
    e->slots[SLOT_LOGITS] = (slot_view){e->s.logits, e->prog->plan->slot_width[SLOT_LOGITS]};
}

/* Counts the tasks of attention, and makes them where there is room. */
static void plan_attention(exec *e)
{
    const program *prog = e->prog;
    for (uint32_t i = 0; i < prog->n_shapes && prog->ops.attend.scores; i++) {
        attend_plan(&e->s, &prog->shapes[i], prog->n_threads, &e->works[i]);
        if (takes_some(e)) {
            attend_plan(&e->taken, &prog->shapes[i], prog->n_threads, &e->taken_works[i]);
        } else {
            e->taken_works[i] = e->works[i];
        }
    }
}

/* Scratch and attention tasks of the pass that cut_pass laid out. */
static mlxr_status prepare_pass(program *prog, exec *e, mlxr_error *error)
{
    uint32_t n_positions = 0;
    for (uint32_t i = 0; i < e->s.n_slices; i++) {
        uint32_t n = e->s.slices[i].start + e->s.slices[i].n_rows;
        n_positions = n > n_positions ? n : n_positions;
    }
    for (uint32_t i = 0; i < prog->n_shapes && prog->ops.attend.scores; i++) {
        e->works[i] = e->taken_works[i] = (attend_work){0};
    }
    e->copy = copy_choose(e);
    program_screen_choose(e);
    e->few = few_choose(e);
    e->lays = laid_choose(e);
    plan_attention(e);
    carve count = {0};
    place(e, &count, n_positions);
    mlxr_status status = grow(&prog->scratch, count.overflow ? UINT64_MAX : count.used, error);
    if (status != MLXR_OK) {
        return status;
    }
    carve take = {.base = prog->scratch.data};
    place(e, &take, n_positions);
    plan_attention(e);
    memset((void *)e->counters, 0, ((size_t)prog->n_nodes + 1) * 2 * CACHE_LINE);
    return MLXR_OK;
}

static void walk(void *context, const team_member *member)
{
    const exec *e = context;
    const program *prog = e->prog;
    step_profile *profile = member->index == 0 ? e->s.profile : NULL;
    uint64_t since = profile ? step_profile_now_ns() : 0, done = 0;
    program_rope_angles(e, member);
    done = profile ? step_profile_now_ns() : 0;
    team_barrier(member);
    since = profile ? step_profile_note(profile, "rope angles", STEP_NO_LAYER, since, done) : 0;
    for (uint32_t i = 0; i < prog->n_nodes; i++) {
        const node *n = &prog->nodes[i];
        if (n->taken && e->s.n_wanted == 0) {
            break;
        }
        bool meet = program_run_node(e, i, member);
        done = profile ? step_profile_now_ns() : 0;
        if (meet) {
            team_barrier(member);
        }
        if (profile) {
            since = step_profile_note(profile, n->label, n->layer, since, done);
        }
    }
    if (e->few.learns || e->few.n_make) {
        few_learn(e, member);
        if (profile) {
            since = step_profile_note(profile, "halves of logits' weights", STEP_NO_LAYER, since,
                                      step_profile_now_ns());
        }
    }
    if (e->copy.makes) {
        copy_fill(e, member);
        if (profile) {
            since = step_profile_note(profile, "copy of logits' weights", STEP_NO_LAYER, since, step_profile_now_ns());
        }
    }
    if (e->lays) {
        laid_fill(e, member);
        if (profile) {
            since = step_profile_note(profile, "weights laid", STEP_NO_LAYER, since, step_profile_now_ns());
        }
    }
    if (e->learns) {
        program_screen_learn(e, member);
        if (profile) {
            step_profile_note(profile, "lengths of logits' weights", STEP_NO_LAYER, since, step_profile_now_ns());
        }
    }
}

mlxr_status program_run(program *prog, team *t, const step *s, mlxr_error *error)
{
    mlxr_status status = step_check(prog->plan, s, error);
    if (status != MLXR_OK || s->n_rows == 0) {
        return status;
    }
    /* Passes of about equal size: rows of a sequence come in order, so a later pass finds its keys written. */
    uint32_t rows_max = prog->plan->both_ways ? s->n_rows : prog->rows_max; /* an end of a text sees the other one */
    uint32_t n_passes = (s->n_rows + rows_max - 1) / rows_max;
    uint32_t n_rows = (s->n_rows + n_passes - 1) / n_passes;
    exec e = {.prog = prog};
    carve count = {0};
    place_cut(&e, &count, s, n_rows);
    status = grow(&prog->cut, count.overflow ? UINT64_MAX : count.used, error);
    carve take = {.base = prog->cut.data};
    cut_room room = place_cut(&e, &take, s, n_rows);
    for (uint32_t begin = 0, n_done = 0; status == MLXR_OK && begin < s->n_rows; begin += n_rows) {
        uint32_t end = s->n_rows - begin < n_rows ? s->n_rows : begin + n_rows;
        cut_pass(&e, s, room, begin, end, n_done);
        n_done += e.s.n_wanted;
        status = prepare_pass(prog, &e, error);
        if (status == MLXR_OK) {
            team_run(t, walk, &e);
            copy_done(&e);
            program_screen_done(&e);
            laid_done(&e);
            if (prog->few) {
                few_done(&e);
            }
        }
        e.pass++;
    }
    return status;
}
