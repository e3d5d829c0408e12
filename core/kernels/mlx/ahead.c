/*
 * The graph of the next step, built while the last one is computed. What a graph is built of: how the step's rows are
 * laid out, positions, and which pages earlier rows are in; that all of it came true is checked before it is used.
 * Owner: the program. Lifetime: from the step before to the step that takes or drops it.
 */
#include <string.h>

#include "kernels/mlx/kernels.h"

static const step nothing_expected;

static bool same_kv(const program *prog, const kv_memory *a, const kv_memory *b)
{
    for (uint32_t g = 0; g < prog->plan->n_kv_groups; g++) {
        const kv_layout *x = &a->layout[g], *y = &b->layout[g]; /* the rest follows from the plan */
        if (a->base[g] != b->base[g] || x->type != y->type || x->page_tokens != y->page_tokens) {
            return false;
        }
    }
    return true;
}

/* The entries [*first, returned) of a slice's page table that a graph is built of. */
static uint32_t entries_read(const program *prog, const step *s, const step_slice *slice, uint32_t g, uint32_t *first)
{
    const kv_group *group = &prog->plan->kv_groups[g];
    uint32_t page_tokens = s->kv.layout[g].page_tokens;
    if (group->state_width) { /* the state that the slice begins with; of later ones see keeps_as_expected */
        *first = 0;
        return 1;
    }
    uint32_t position = (uint32_t)plan_first_seen(group->window, group->chunked, slice->start);
    /* our own kernels write the step's rows, too */
    uint32_t end = slice->start + (prog->kernels ? slice->n_rows : 0);
    *first = position / page_tokens;
    return (end + page_tokens - 1) / page_tokens;
}

static bool same_shape(const step *a, const step *b)
{
    if (a->n_rows != b->n_rows || a->n_slices != b->n_slices || a->n_wanted != b->n_wanted) {
        return false;
    }
    for (uint32_t i = 0; i < a->n_slices; i++) {
        const step_slice *x = &a->slices[i], *y = &b->slices[i];
        if (x->first_row != y->first_row || x->n_rows != y->n_rows || x->start != y->start || !adapters_same(x, y)) {
            return false;
        }
    }
    return a->n_wanted == 0 || memcmp(a->wanted, b->wanted, a->n_wanted * sizeof *a->wanted) == 0;
}

/* Are the states that a slice wants to keep among those that the graph gives? Which pages take them only the host
 * asks. */
static bool keeps_as_expected(const step_slice *expected, const step_slice *slice, uint32_t g)
{
    for (uint32_t r = 1; r <= slice->n_rows; r++) {
        if (slice->pages[g][r] != KV_PAGE_NONE && expected->pages[g][r] == KV_PAGE_NONE) {
            return false;
        }
    }
    return true;
}

static bool same_pages(const program *prog, const step *expected, const step *s)
{
    for (uint32_t i = 0; i < s->n_slices; i++) {
        for (uint32_t g = 0; g < prog->plan->n_kv_groups; g++) {
            uint32_t first, end = entries_read(prog, s, &s->slices[i], g, &first);
            if (prog->plan->kv_groups[g].state_width && !keeps_as_expected(&expected->slices[i], &s->slices[i], g)) {
                return false;
            }
            if (end > first && memcmp(expected->slices[i].pages[g] + first, s->slices[i].pages[g] + first,
                                      (end - first) * sizeof(uint32_t)) != 0) {
                return false;
            }
        }
    }
    return same_kv(prog, &expected->kv, &s->kv);
}

/* What was not known when the graph was built. */
static void fill_in(program *prog, const step *s)
{
    const step_graph *g = &prog->now;
    for (uint32_t i = 0; i < g->n_embeds; i++) {
        walk_host_rows(g->embeds[i].o, s, g->embeds[i].rows);
    }
    for (uint32_t i = 0; i < g->n_late; i++) {
        bridge_refill(prog->step, g->late[i].array, g->late[i].from, g->late[i].n_bytes);
    }
}

void ahead_drop(program *prog)
{
    if (prog->built) {
        prog->built = false;
        prog->counts.n_dropped++;
    }
    bridge_arena_empty(prog->step);
    step_graph_end(&prog->next);
}

bool ahead_take(program *prog, const step *s)
{
    prog->steady = prog->expected.n_rows && same_shape(&prog->expected, s);
    if (!prog->steady || !prog->built || !same_pages(prog, &prog->expected, s)) {
        ahead_drop(prog);
        return false;
    }
    prog->built = false;
    prog->now = prog->next;
    prog->next = (step_graph){0};
    fill_in(prog, s);
    return true;
}

/* The states that the next step of a slice will keep: as far from its end as the last one did without a gap, which is
 * where drafts may be given up, and the one behind the last whole block. */
static void expect_states(const step_slice *last, const step_slice *next, uint32_t g, uint32_t page_tokens,
                          uint32_t *pages)
{
    uint32_t n = last->n_rows, border = (next->start + n) / page_tokens * page_tokens;
    memset(pages, 0xff, ((size_t)n + 1) * sizeof *pages); /* KV_PAGE_NONE */
    pages[0] = last->pages[g][n];                         /* of the state behind the last row, if anybody wanted it */
    for (uint32_t r = n; r > 0 && last->pages[g][r] != KV_PAGE_NONE; r--) {
        pages[r] = 0; /* any page */
    }
    if (border > next->start) {
        pages[border - next->start] = 0;
    }
}

/* A slice's entries as far as the next step reads them. False: they are not known yet, or there is no memory. */
static bool expect_pages(program *prog, const step *s, uint32_t index, step_slice *slice)
{
    const step_slice *last = &s->slices[index];
    for (uint32_t g = 0; g < prog->plan->n_kv_groups; g++) {
        uint32_t first, end = entries_read(prog, s, slice, g, &first);
        uint32_t n_known = (last->start + last->n_rows + s->kv.layout[g].page_tokens - 1) / s->kv.layout[g].page_tokens;
        bool recurrent = prog->plan->kv_groups[g].state_width != 0;
        uint32_t n_entries = recurrent ? slice->n_rows : end;
        uint32_t *pages = region_array(&prog->expecting, (size_t)n_entries + 1, sizeof *pages);
        if (!pages || (!recurrent && end > n_known)) {
            return false;
        }
        if (recurrent) {
            expect_states(last, slice, g, s->kv.layout[g].page_tokens, pages);
        } else {
            memcpy(pages, last->pages[g], end * sizeof *pages);
        }
        slice->pages[g] = pages;
    }
    return true;
}

/* The same again, further on. */
static bool expect(program *prog, const step *s)
{
    region_close(&prog->expecting);
    prog->expected = nothing_expected;
    if (prog->plan->both_ways) { /* a text is one step, and the next one is another text */
        return false;
    }
    step next = *s;
    int32_t *tokens = region_array(&prog->expecting, s->n_rows, sizeof *tokens);
    int32_t *positions = region_array(&prog->expecting, s->n_rows, sizeof *positions);
    uint32_t *wanted = region_array(&prog->expecting, s->n_wanted, sizeof *wanted);
    step_slice *slices = region_array(&prog->expecting, s->n_slices, sizeof *slices);
    if (!tokens || !positions || !wanted || !slices) {
        return false;
    }
    if (s->n_wanted) {
        memcpy(wanted, s->wanted, s->n_wanted * sizeof *wanted);
    }
    bool known = true;
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const step_slice *last = &s->slices[i];
        if (last->start > INT32_MAX / 2) {
            return false;
        }
        step_adapter *adapters = region_array(&prog->expecting, last->n_adapters, sizeof *adapters);
        if (!adapters) {
            return false;
        }
        if (last->n_adapters) {
            memcpy(adapters, last->adapters, last->n_adapters * sizeof *adapters);
        }
        slices[i] = (step_slice){.first_row = last->first_row,
                                 .n_rows = last->n_rows,
                                 .start = last->start + last->n_rows,
                                 .adapters = adapters,
                                 .n_adapters = last->n_adapters};
        for (uint32_t j = 0; j < last->n_rows; j++) {
            positions[last->first_row + j] = (int32_t)(slices[i].start + j);
        }
        known = known && expect_pages(prog, s, i, &slices[i]);
    }
    next.tokens = tokens;
    next.positions = positions;
    next.slices = slices;
    next.wanted = wanted;
    prog->expected = next;
    return known;
}

void ahead_build(program *prog, const step *s)
{
    bool known = expect(prog, s);
    if (!prog->steady || !known || prog->no_ahead) {
        return;
    }
    if (step_graph_begin(&prog->next, prog, &prog->expected)) {
        walk_build(prog, &prog->expected, &prog->next, true);
        prog->built = bridge_status(prog->step, NULL) == MLXR_OK;
    }
    if (!prog->built) { /* it will be tried again, and say why, when the step comes */
        ahead_drop(prog);
    }
}
