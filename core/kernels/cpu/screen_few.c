/*
 * Logits of one to four rows of which only the greatest ones are read: reading the weights is what takes the time, and
 * half of their bits tell nearly always which few of 262,144 logits may be the greatest. Those are computed from all
 * bits.
 * Owner: the program. Lifetime: the program's.
 *
 * The matrix is kept in two parts (screen_few_parts.c). All rows meet the upper one. How far such a product may be from
 * its logit is known for certain (screen_few_bound.c), and a row whose product with that added is below n other rows'
 * logits is not one of the n greatest. Those n are among the rows with the greatest products of a few n blocks. The
 * logits of what is left have the same bits as without all this. Where more is left than it pays to compute row by row
 * (logits that are all alike), all are computed as if nothing had been tried, and where that goes on, nothing is tried
 * for a while.
 */
#include "kernels/cpu/screen_few.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/screen_few_parts.h"

#define LEFT_PART 3u    /* of the rows: computing more one by one takes longer than all of them */
#define CANDIDATES 3u   /* times as many as are read: rows that are computed to find a floor */
#define WAITING 20u     /* rows that are fetched while others are computed */
#define LINE 64u        /* bytes of a cache line */
#define SOME_BLOCKS 16u /* whose rows are looked at by one member: those that are left lie close to each other */

static size_t aligned(size_t n)
{
    return (n + LINEAR_ALIGN - 1) / LINEAR_ALIGN * LINEAR_ALIGN;
}

few_work few_place(const exec *e, uint8_t *memory, uint64_t *n_bytes)
{
    const linear_weight *w = few_weight(e->prog);
    uint32_t rows = e->s.n_wanted;
    few_work work = {.packed_bytes = aligned(linear_input_bytes(LINEAR_Q16, 1, w->n_in)),
                     .n_blocks = (w->n_out + OPS_UPPER_BLOCK - 1) / OPS_UPPER_BLOCK,
                     .member_bytes = aligned(sizeof(few_member))};
    work.input_bytes = work.packed_bytes + aligned(halves_input_bytes(w->n_in));
    size_t inputs = rows * work.input_bytes, upper = aligned((size_t)rows * work.n_blocks * sizeof(float));
    size_t left = aligned((size_t)rows * work.n_blocks * sizeof *work.left);
    size_t found = aligned(rows * (sizeof *work.halves + sizeof *work.floor + sizeof *work.reach));
    *n_bytes = inputs + 2 * upper + left + found + e->prog->n_threads * work.member_bytes;
    if (memory) {
        work.inputs = memory;
        work.upper = (float *)(void *)(memory + inputs);
        work.greatest = (float *)(void *)(memory + inputs + upper);
        work.left = (uint64_t *)(void *)(memory + inputs + 2 * upper);
        work.members = memory + inputs + 2 * upper + left;
        work.halves = (halves_input *)(void *)(work.members + e->prog->n_threads * work.member_bytes);
        work.floor = (float *)(void *)(work.halves + rows);
        work.reach = work.floor + rows;
    }
    return work;
}

uint64_t few_bytes(const exec *e)
{
    uint64_t n_bytes = 0;
    if (e->few.screens || e->few.n_make) {
        few_place(e, NULL, &n_bytes);
    }
    return n_bytes;
}

static bool is_known(const exec *e, const few_work *work)
{
    bool known = true;
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        known = known && !isnan(work->reach[row]);
    }
    return known;
}

bool few_leaves_much(const exec *e, const few_work *work)
{
    uint64_t left = 0;
    for (uint32_t i = 0; i < e->prog->n_threads; i++) {
        left += few_member_of(work, i)->n_left;
    }
    return !is_known(e, work) || left > (uint64_t)e->s.n_wanted * few_weight(e->prog)->n_out / LEFT_PART;
}

/* ---- all rows ---- */

static linear_input single_of(const few_work *work, const linear_weight *w, uint32_t row)
{
    return linear_input_make(LINEAR_Q16, 1, w->n_in, work->inputs + row * work->input_bytes);
}

static void pack(const exec *e, const node *n, const few_work *work, const team_member *member)
{
    const screen_few *f = e->prog->few;
    if (member->index != 0) {
        return;
    }
    program_rows_part(e, n, 0, e->s.n_wanted);
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        const float *src = exec_row(e, n->source, row);
        linear_input single = single_of(work, &n->products[0].weight, row);
        linear_pack(n->kernels, &single, 0, src);
        work->halves[row] = halves_input_make(&single, (uint8_t *)single.data + work->packed_bytes);
        work->reach[row] = few_reach(&single, f->squares, f->most);
    }
}

static void fetch(const uint8_t *from, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes + LINE - 1; i += LINE) {
        __builtin_prefetch(from + (i < n_bytes ? i : n_bytes - 1), 0, 3);
    }
}

/* All rows' products with weight rows [begin, end), and how great their logits may be. */
static void run_chunk(const exec *e, const node *n, const few_work *work, uint32_t begin, uint32_t end, void *private)
{
    const screen_few *f = e->prog->few;
    const linear_weight *w = &n->products[0].weight;
    fetch((const uint8_t *)(f->lengths + begin), (end - begin) * sizeof *f->lengths);
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        float *products = exec_row(e, SLOT_LOGITS, row);
        if (begin < f->n_made) {
            f->kernels.products(f->upper + begin * halves_upper_bytes(w->n_in), w->n_in, end - begin,
                                &work->halves[row], products + begin);
        } else {
            linear_input input = single_of(work, w, row);
            linear_output out = {.dst = products};
            few_rows(e, n->kernels, w, &input, &out, begin, end, private);
        }
        size_t block = (size_t)row * work->n_blocks + begin / OPS_UPPER_BLOCK;
        e->prog->ops.upper(products + begin, f->lengths + begin, work->reach[row], end - begin, work->upper + block);
        e->prog->ops.upper(products + begin, f->lengths + begin, 0, end - begin, work->greatest + block);
    }
}

static void run_chunks(const exec *e, uint32_t index, const few_work *work, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    uint32_t n_out = n->products[0].weight.n_out;
    pieces p = program_pieces(e, n, member->n_threads);
    for (uint32_t taken = member->index; taken < p.n; taken = member->n_threads + exec_next(e, index, 0)) {
        uint32_t end = pieces_begin(&p, taken + 1);
        end = end < n_out ? end : n_out;
        for (uint32_t i = pieces_begin(&p, taken); i < end; i += SCREEN_CHUNK) {
            run_chunk(e, n, work, i, end - i < SCREEN_CHUNK ? end : i + SCREEN_CHUNK, exec_private(e, member));
        }
    }
}

/* ---- those that are left ---- */

/* What a member has at hand while it searches a row. */
typedef struct search {
    const screen_few *f;
    uint32_t n_in, n_out;
    const halves_input *input;
    float reach, floor;
    float *products;              /* [n_out], or logits where they were computed */
    const float *upper;           /* [n_blocks] */
    uint64_t *left;               /* [n_blocks] */
    best best;                    /* of those that were computed */
    uint32_t ids[WAITING], n_ids; /* rows that wait, while they are fetched */
    uint64_t n_computed;
} search;

static search search_make(const exec *e, const few_work *work, uint32_t row)
{
    const linear_weight *w = few_weight(e->prog);
    return (search){.f = e->prog->few,
                    .n_in = w->n_in,
                    .n_out = w->n_out,
                    .input = &work->halves[row],
                    .reach = work->reach[row],
                    .floor = work->floor[row],
                    .products = exec_row(e, SLOT_LOGITS, row),
                    .upper = work->upper + (size_t)row * work->n_blocks,
                    .left = work->left + (size_t)row * work->n_blocks,
                    .best = {-INFINITY, -1}};
}

static void look_at(search *s, float logit, uint32_t id)
{
    if (logit > s->best.logit || (logit == s->best.logit && (int32_t)id < s->best.id)) {
        s->best = (best){logit, (int32_t)id};
    }
    s->products[id] = logit;
}

/* The logits of the first HALVES_ROWS rows that wait; missing ones repeat the last. */
static void compute(search *s)
{
    const screen_few *f = s->f;
    uint32_t n = s->n_ids < HALVES_ROWS ? s->n_ids : HALVES_ROWS;
    const uint8_t *lower[HALVES_ROWS], *upper[HALVES_ROWS];
    float logits[HALVES_ROWS];
    for (uint32_t i = 0; i < HALVES_ROWS; i++) {
        uint32_t id = s->ids[i < n ? i : n - 1];
        upper[i] = f->upper + id * halves_upper_bytes(s->n_in);
        lower[i] = f->lower + id * halves_lower_bytes(s->n_in);
    }
    f->kernels.some(upper, lower, s->n_in, s->input, logits);
    for (uint32_t i = 0; i < n; i++) {
        look_at(s, logits[i], s->ids[i]);
    }
    s->n_computed += n;
    s->n_ids -= n;
    memmove(s->ids, s->ids + n, s->n_ids * sizeof *s->ids);
}

static void look_soon(search *s, uint32_t id)
{
    size_t upper = halves_upper_bytes(s->n_in), lower = halves_lower_bytes(s->n_in);
    if (id >= s->f->n_made) { /* its product is its logit */
        look_at(s, s->products[id], id);
        return;
    }
    fetch(s->f->upper + id * upper, upper);
    fetch(s->f->lower + id * lower, lower);
    s->ids[s->n_ids++] = id;
    if (s->n_ids == WAITING) {
        compute(s);
    }
}

static void look_at_waiting(search *s)
{
    while (s->n_ids) {
        compute(s);
    }
}

/* The n blocks with the greatest products, greatest first. */
static void find_blocks(const float *greatest, uint32_t n_blocks, uint32_t n, uint32_t found[])
{
    uint32_t n_found = 0;
    for (uint32_t b = 0; b < n_blocks; b++) {
        if (n_found == n && !(greatest[b] > greatest[found[n - 1]])) {
            continue;
        }
        uint32_t at = n_found < n ? n_found++ : n - 1;
        for (; at > 0 && greatest[b] > greatest[found[at - 1]]; at--) {
            found[at] = found[at - 1];
        }
        found[at] = b;
    }
}

static uint32_t greatest_of_block(const search *s, uint32_t block)
{
    uint32_t id = block * OPS_UPPER_BLOCK;
    for (uint32_t i = id + 1; i < s->n_out && i < (block + 1) * OPS_UPPER_BLOCK; i++) {
        id = s->products[i] > s->products[id] || isnan(s->products[id]) ? i : id;
    }
    return id;
}

/* The k-th greatest of n values, which are reordered. */
static float kth_of(float values[], uint32_t n, uint32_t k)
{
    for (uint32_t i = 0; i < k; i++) {
        for (uint32_t j = i + 1; j < n; j++) {
            float value = values[j];
            values[j] = value > values[i] ? values[i] : value;
            values[i] = value > values[i] ? value : values[i];
        }
    }
    return values[k - 1];
}

/* Rows share out. The rows of weights with the greatest products have likely the greatest logits: of CANDIDATES times
 * as many as are read, that of which as many as are read are not below it. */
static void find_floors(const exec *e, const few_work *work, const team_member *member)
{
    uint32_t blocks[CANDIDATES * FEW_READS_MOST], n = few_reads(e), n_looked = CANDIDATES * n;
    float logits[CANDIDATES * FEW_READS_MOST];
    n_looked = n_looked < work->n_blocks ? n_looked : work->n_blocks;
    for (uint32_t row = member->index; row < e->s.n_wanted; row += member->n_threads) {
        search s = search_make(e, work, row);
        find_blocks(work->greatest + (size_t)row * work->n_blocks, work->n_blocks, n_looked, blocks);
        for (uint32_t i = 0; i < n_looked; i++) {
            blocks[i] = greatest_of_block(&s, blocks[i]); /* the row, from here on */
            look_soon(&s, blocks[i]);
        }
        look_at_waiting(&s);
        for (uint32_t i = 0; i < n_looked; i++) {
            float logit = s.products[blocks[i]];
            logits[i] = isnan(logit) ? -INFINITY : logit; /* of a weight in a row of which no parts were made yet */
        }
        float least = kth_of(logits, n_looked, n), near = s.best.logit - e->s.reads.near;
        work->floor[row] = near < least ? near : least;
    }
}

/* Of a block's rows, those that may have a logit that is not below the floor: a bit each. */
static uint64_t left_of(const search *s, uint32_t block)
{
    uint32_t begin = block * OPS_UPPER_BLOCK;
    if (s->upper[block] < s->floor) {
        return 0;
    }
    if (s->n_out - begin >= OPS_UPPER_BLOCK) {
        return s->f->kernels.reaching(s->products + begin, s->f->lengths + begin, s->reach, s->floor);
    }
    uint64_t found = 0;
    for (uint32_t i = begin; i < s->n_out; i++) {
        found |= (uint64_t)!(s->products[i] + s->f->lengths[i] * s->reach < s->floor) << (i - begin);
    }
    return found;
}

/* Which rows are left of the member's share of blocks, and how many. */
static void count_left(const exec *e, const few_work *work, const team_member *member)
{
    uint32_t begin, end;
    team_share(member, work->n_blocks, 1, &begin, &end);
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        search s = search_make(e, work, row);
        for (uint32_t b = begin; b < end; b++) {
            s.left[b] = left_of(&s, b);
            few_member_of(work, member->index)->n_left += (uint64_t)__builtin_popcountll(s.left[b]);
        }
    }
}

/* Logits that nobody reads: those of a block that are not in `found`. */
static void forget(search *s, uint32_t block, uint64_t found)
{
    uint32_t begin = block * OPS_UPPER_BLOCK, left = s->n_out - begin,
             n = left < OPS_UPPER_BLOCK ? left : OPS_UPPER_BLOCK;
    float *products = s->products + begin;
    for (uint32_t i = 0; i < n; i++) {
        products[i] = found >> i & 1 ? products[i] : -INFINITY;
    }
}

/* Those of blocks [begin, end). Where more is read than which one is the greatest, all others become −infinity. */
static void look_at_blocks(search *s, uint32_t begin, uint32_t end, bool only_greatest)
{
    for (uint32_t b = begin; b < end; b++) {
        uint64_t found = s->left[b];
        if (!only_greatest) {
            forget(s, b, found);
        }
        for (; found; found &= found - 1) {
            look_soon(s, b * OPS_UPPER_BLOCK + (uint32_t)__builtin_ctzll(found));
        }
    }
}

/* Computes them. Members take blocks in turn. */
static void look_at_left(const exec *e, uint32_t index, const few_work *work, const team_member *member)
{
    few_member *own = few_member_of(work, member->index);
    uint32_t n = (work->n_blocks + SOME_BLOCKS - 1) / SOME_BLOCKS, taken = member->index;
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        search s = search_make(e, work, row);
        for (; taken < (row + 1) * n; taken = member->n_threads + exec_next(e, index, 1)) {
            uint32_t begin = (taken - row * n) * SOME_BLOCKS, left = work->n_blocks - begin;
            look_at_blocks(&s, begin, begin + (left < SOME_BLOCKS ? left : SOME_BLOCKS), e->s.greatest);
        }
        look_at_waiting(&s);
        own->found[row] = s.best;
        own->n_computed += s.n_computed;
    }
}

static void name_greatest(const exec *e, const few_work *work)
{
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        best found = few_member_of(work, 0)->found[row];
        for (uint32_t i = 1; i < e->prog->n_threads; i++) {
            best other = few_member_of(work, i)->found[row];
            found = other.logit > found.logit || (other.logit == found.logit && other.id < found.id) ? other : found;
        }
        e->s.greatest[row] = found.id;
    }
}

void few_run(const exec *e, uint32_t index, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    uint64_t n_bytes;
    few_work work = few_place(e, e->few_memory, &n_bytes);
    few_member *own = few_member_of(&work, member->index);
    own->n_left = own->n_computed = 0;
    pack(e, n, &work, member);
    team_barrier(member);
    if (is_known(e, &work)) {
        run_chunks(e, index, &work, member);
        team_barrier(member);
        find_floors(e, &work, member);
        team_barrier(member);
        count_left(e, &work, member);
        team_barrier(member);
    }
    if (few_leaves_much(e, &work)) {
        program_run_made(e, index, member);
        return;
    }
    look_at_left(e, index, &work, member);
    team_barrier(member);
    if (member->index == 0 && e->s.greatest) {
        name_greatest(e, &work);
    }
}
