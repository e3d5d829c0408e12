/*
 * Weights of layers, laid in the order in which kernels read them; see laid.h.
 * Owner: the program. Lifetime: the program's.
 */
#include "kernels/cpu/laid.h"

#include <stdatomic.h>

#include "base/mapping.h"
#include "base/memory_size.h"
#include "kernels/cpu/program.h"

#define AFTER 8u               /* decoding passes: who writes less than a few tokens gains nothing */
#define PASSES 32u             /* that lay all of it: each takes about a quarter longer */
#define BYTES_LEAST (1u << 20) /* that a pass lays */
#define PAUSE 512u             /* passes before memory is asked for again */
#define ROWS_MOST 64u          /* of a pass that lays: one of many is of a text, which is waited for */

typedef struct laid_matrix {
    linear_weight *weight;
    const uint8_t *rows; /* in the file */
    size_t at;           /* in the memory */
    size_t n_bytes;
} laid_matrix;

struct laid_weights {
    const linear_kernels *kernels;
    laid_matrix *all; /* [n_all] in the order of the nodes */
    uint32_t n_all, n_laid;
    uint32_t n_waited, pause; /* passes */
    size_t n_bytes;
    uint8_t *panels;       /* [n_bytes]; NULL: not yet, or there was none */
    size_t n_gathered;     /* in large pages, if there are any */
    _Atomic bool unwanted; /* by laid_refuse */
};

static size_t aligned(size_t n)
{
    return (n + LINEAR_ALIGN - 1) / LINEAR_ALIGN * LINEAR_ALIGN;
}

static bool is_mapped(const plan *p, const uint8_t *data, size_t n_bytes)
{
    for (uint32_t i = 0; i < p->n_mapped; i++) {
        uintptr_t at = (uintptr_t)data - (uintptr_t)p->mapped[i].data; /* elsewhere: beyond n_bytes */
        if (at < p->mapped[i].n_bytes && n_bytes <= p->mapped[i].n_bytes - at) {
            return true;
        }
    }
    return false;
}

static bool can_be_laid(const program *prog, const linear_weight *w)
{
    return prog->linear.laid_rows[w->type] && w->n_out % LINEAR_ROW_GRAIN == 0 && w->n_out > 0 &&
           is_mapped(prog->plan, w->data, (size_t)w->n_out * w->row_bytes);
}

/* The matrices of layers that can be laid, counted or, with `all`, noted. Logits have ways of their own (screen_few.h,
 * screen_copy.h), and the matrix is that of inputs in many models. */
static uint32_t find_matrices(program *prog, laid_matrix *all, size_t *n_bytes)
{
    uint32_t n = 0;
    bool makes_logits = false; /* hidden states are of texts, which pass once */
    *n_bytes = 0;
    for (uint32_t i = 0; i < prog->n_nodes; i++) {
        node *of = &prog->nodes[i];
        for (uint32_t k = 0; of->kind == NODE_LINEAR && k < of->n_products; k++) {
            linear_weight *w = &of->products[k].weight;
            makes_logits = makes_logits || of->products[k].dst == SLOT_LOGITS;
            if (of->products[k].dst == SLOT_LOGITS || !can_be_laid(prog, w)) {
                continue;
            }
            size_t bytes = (size_t)w->n_out * w->row_bytes;
            if (all) {
                all[n] = (laid_matrix){.weight = w, .rows = w->data, .at = *n_bytes, .n_bytes = bytes};
            }
            n++;
            *n_bytes += aligned(bytes);
        }
    }
    return makes_logits ? n : 0;
}

/* Is one matrix read by several products? Layers that share weights would have them more than once. */
static bool any_shared(const laid_weights *l)
{
    for (uint32_t i = 0; i < l->n_all; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (l->all[i].rows == l->all[k].rows) {
                return true;
            }
        }
    }
    return false;
}

bool laid_open(program *prog)
{
    size_t n_bytes;
    uint32_t n = prog->linear.lay ? find_matrices(prog, NULL, &n_bytes) : 0;
    if (n == 0) {
        return true;
    }
    laid_weights *l = region_array(&prog->memory, 1, sizeof *l);
    laid_matrix *all = region_array(&prog->memory, n, sizeof *all);
    if (!l || !all) {
        return false;
    }
    *l = (laid_weights){.kernels = &prog->linear, .all = all, .n_all = find_matrices(prog, all, &n_bytes)};
    l->n_bytes = n_bytes;
    prog->laid = any_shared(l) ? NULL : l;
    return true;
}

void laid_close(program *prog)
{
    if (prog->laid) {
        memory_unmap(prog->laid->panels, prog->laid->n_bytes);
    }
}

/* Room for all of it, which becomes resident as it is written to: so what is left of it must fit each time. */
static bool make_room(const program *prog)
{
    laid_weights *l = prog->laid;
    bool fits = few_fits(l->n_bytes - l->all[l->n_laid].at, memory_spare());
    if (fits && !l->panels) {
        memory_discard(prog->scratch.data, prog->scratch.n_bytes); /* of the prompt: more than laying takes */
        l->panels = memory_map(l->n_bytes);
    }
    if (!fits || !l->panels) {
        l->pause = PAUSE;
        return false;
    }
    return true;
}

void laid_refuse(program *prog)
{
    if (prog->laid) {
        prog->laid->unwanted = true;
    }
}

/* Back to the file's rows, for good. */
static void give_up(laid_weights *l)
{
    for (uint32_t i = 0; i < l->n_laid; i++) {
        l->all[i].weight->data = l->all[i].rows;
        l->all[i].weight->laid = false;
        mapping_in_large_pages(l->all[i].rows, l->all[i].n_bytes);
    }
    memory_unmap(l->panels, l->n_bytes);
    l->panels = NULL;
    l->n_laid = l->n_all = 0;
}

uint32_t laid_choose(const exec *e)
{
    laid_weights *l = e->prog->laid;
    bool decodes = e->s.n_wanted > 0 && e->s.n_rows == e->s.n_wanted && e->s.n_rows <= ROWS_MOST;
    if (l && l->unwanted) {
        give_up(l);
    }
    if (!l || l->n_laid == l->n_all || !decodes || e->s.observer) {
        return 0;
    }
    if (l->pause) {
        l->pause--;
        return 0;
    }
    if (l->n_waited < AFTER) {
        l->n_waited++;
        return 0;
    }
    if (!make_room(e->prog)) {
        return 0;
    }
    size_t wanted = l->n_bytes / PASSES > BYTES_LEAST ? l->n_bytes / PASSES : BYTES_LEAST, taken = 0;
    uint32_t n = 0;
    for (; l->n_laid + n < l->n_all && taken < wanted; n++) {
        const laid_matrix *m = &l->all[l->n_laid + n];
        taken += m->n_bytes;
        mapping_in_small_pages(m->rows, m->n_bytes); /* or pages given back would come again with a neighbour's */
    }
    return n;
}

void laid_fill(const exec *e, const team_member *member)
{
    const laid_weights *l = e->prog->laid;
    for (uint32_t i = l->n_laid; i < l->n_laid + e->lays; i++) {
        const laid_matrix *m = &l->all[i];
        const linear_weight *w = m->weight;
        uint32_t begin, end;
        team_share(member, w->n_out, LINEAR_ROW_GRAIN, &begin, &end);
        for (uint32_t row = begin; row < end; row += LINEAR_ROW_GRAIN) {
            l->kernels->lay(w->type, m->rows + row * w->row_bytes, w->row_bytes, w->n_in,
                            l->panels + m->at + row * w->row_bytes);
        }
        mapping_forget_part(m->rows + begin * w->row_bytes, (size_t)(end - begin) * w->row_bytes);
    }
}

void laid_done(const exec *e)
{
    laid_weights *l = e->prog->laid;
    for (uint32_t i = 0; i < e->lays; i++) {
        laid_matrix *m = &l->all[l->n_laid++];
        m->weight->data = l->panels + m->at;
        m->weight->laid = true;
        mapping_forget_part(m->rows, m->n_bytes); /* also the pages between members' shares */
    }
    if (e->lays) { /* once they are written to: memory would hold up to a page more than what is laid of it */
        const laid_matrix *last = &l->all[l->n_laid - 1];
        uint8_t *from = l->panels + l->n_gathered;
        l->n_gathered += memory_gather(from, last->at + last->n_bytes - l->n_gathered);
    }
    if (e->lays && l->n_laid == l->n_all) {
        memory_in_large_pages(l->panels, l->n_bytes); /* where the system does not gather when told: in time */
    }
}

laid_counts laid_count(const program *prog)
{
    const laid_weights *l = prog->laid;
    if (!l) {
        return (laid_counts){0};
    }
    laid_counts counts = {
        .n_laid = l->n_laid, .n_all = l->n_all, .prepares = l->n_laid < l->n_all && !l->pause && !l->unwanted};
    for (uint32_t i = 0; i < l->n_laid; i++) {
        counts.n_bytes += l->all[i].n_bytes;
    }
    return counts;
}
