/*
 * A copy of the matrix of logits with one scale a row, for screening many rows at once: products of 8-bit integers, of
 * which whole rows are added up without a float between them.
 * Owner: the program. Lifetime: the program's.
 *
 * A row w became w', an input x x'. Then (Cauchy and Schwarz)
 *
 *     |w' · x' − w · x| ≤ |w' − w| |x'| + |w| |x' − x|
 *
 * of which the lengths that belong to rows are known beforehand and the others are computed for each input.
 *
 * The copy takes less than the file's rows, whose pages are given back when it is made: single ones come back as
 * they are read, for an input's token or for a logit that may be the greatest, and leave again behind the pass. Before
 * a pass reads all of the file's rows, the copy is let go, and made again after a pause: memory never holds both for
 * long. Nor beside halves of the matrix (screen_few.h): where many rows are asked for again and again they are let go
 * for the copy, and it is for them where single ones are.
 */
#include "kernels/cpu/screen_copy.h"

#include <math.h>

#include "base/mapping.h"
#include "base/memory_size.h"
#include "kernels/cpu/coarse.h"
#include "kernels/cpu/program.h"
#include "kernels/cpu/quantize_act.h"

#define ROWS_LEAST (LINEAR_DIRECT + 1) /* of logits, for the copy to be made: fewer wait for memory in either way */
#define AFTER 16u                      /* such passes */
#define WEIGHTS_MOST (64u << 20)       /* of the matrix: one pass makes the copy, a millisecond or two for each 1 Mi */
#define KEPT_TWICE (8u << 20)          /* bytes of a matrix in no file's mapping, which cannot be given back */
#define MEMORY_PART 4u                 /* as in screen.c */
#define LEFT_PART 256u                 /* of the rows: so many cost what the copy saves, one at a time */
#define LEFT_LEAST 32u                 /* of rows; as few are computed whatever part they are */
#define LINE 64u                       /* bytes of a cache line */
#define PAUSE 64u                      /* passes before the copy is made again, when it was let go */
#define PAUSE_MOST 8192u               /* and when it was, again and again, before it had paid */
#define PAID 4u                        /* screened passes for each of a pause: making the copy has paid */
#define BOUND_MOST 0x1p100             /* beyond it, sums might leave the range of floats */
#define INPUT_LEAST 0x1p-40            /* of both inputs' lengths, unless they are zero; see copy_reach_of */

_Static_assert(COARSE_ROWS == OPS_UPPER_BLOCK && SCREEN_CHUNK % COARSE_ROWS == 0, "a chunk is whole blocks");
_Static_assert(COARSE_TILE == LINEAR_TILE, "a tile's rows are one member's");

struct screen_copy {
    bool off; /* it cannot be, or there is no memory for it */
    coarse_kernels kernels;
    uint32_t n_waited; /* passes that would have used it */
    bool made;
    size_t room;     /* bytes that it takes */
    uint8_t *memory; /* [room], of the following */
    uint8_t *weights;
    float *scales, *lengths, *rests;    /* [n_blocks × COARSE_ROWS] */
    float *block_lengths, *block_rests; /* [n_blocks] */
    float most;                         /* the greatest length */
    uint32_t pause, next_pause;         /* passes */
    uint64_t n_paid;                    /* passes that the copy served since it was let go */
    _Atomic bool unwanted;              /* by copy_refuse */
    copy_counts counts;
};

/* A row's search for its greatest logit. */
typedef struct copy_row {
    copy_reach reach;
    float logit;     /* the greatest that was computed: nothing below it is wanted */
    int32_t id;      /* the first that has it; −1: none is above −infinity */
    uint32_t first;  /* the row of weights that was computed first */
    uint32_t n_left; /* that may have something greater */
} copy_row;

/* A pass's memory. */
typedef struct copy_work {
    uint8_t *tiles, *exact; /* [n_rows][exact_bytes] inputs of one row */
    size_t exact_bytes;
    copy_row *rows;     /* [n_rows] */
    float *greatest;    /* [n_rows][n_blocks] of a block's products */
    uint16_t *products; /* [n_blocks][n_rows][COARSE_ROWS], in the memory of logits. Whose rows lie 192 KiB apart,
                           and what is written to all of them at once drives itself out of the caches */
    uint32_t n_blocks;
} copy_work;

static const node *last_node(const program *prog)
{
    return &prog->nodes[prog->n_nodes - 1];
}

static const linear_weight *weight_of(const program *prog)
{
    return &last_node(prog)->products[0].weight;
}

static size_t aligned(size_t n)
{
    return (n + LINEAR_ALIGN - 1) / LINEAR_ALIGN * LINEAR_ALIGN;
}

static size_t blocks_of(const linear_weight *w)
{
    return (w->n_out + COARSE_ROWS - 1) / COARSE_ROWS;
}

static size_t room_bytes(const linear_weight *w)
{
    size_t n = blocks_of(w);
    return n * coarse_block_bytes(w->n_in) + 3 * n * COARSE_ROWS * sizeof(float) + aligned(2 * n * sizeof(float));
}

/* ---- where it may pay ---- */

bool copy_open(program *prog)
{
    coarse_kernels kernels = prog->coarse;
    if (!prog->screen || !kernels.products) {
        return true;
    }
    const linear_weight *w = weight_of(prog);
    bool can = w->type == DTYPE_Q8_0 && w->n_in % Q16_BLOCK == 0 && w->n_in <= COARSE_IN_MOST &&
               w->n_out >= COARSE_ROWS && (uint64_t)w->n_out * w->n_in <= WEIGHTS_MOST;
    if (!can || (!prog->plan->logits_mapped && w->n_out * w->row_bytes > KEPT_TWICE)) {
        return true;
    }
    screen_copy *c = prog->copy = region_array(&prog->memory, 1, sizeof *c);
    if (!c) {
        return false;
    }
    *c = (screen_copy){.kernels = kernels, .room = room_bytes(w), .next_pause = PAUSE};
    return true;
}

static void forget(screen_copy *c)
{
    memory_unmap(c->memory, c->room);
    c->memory = NULL;
    c->made = false;
}

static void give_up(screen_copy *c)
{
    forget(c);
    c->off = true;
}

void copy_close(program *prog)
{
    if (prog->copy) {
        give_up(prog->copy);
    }
}

void copy_refuse(program *prog)
{
    if (prog->copy) {
        prog->copy->unwanted = true;
    }
}

/* Until a while later: where single passes want all logits in turn, making it again each time would not pay. */
static void let_go(screen_copy *c)
{
    forget(c);
    c->pause = c->next_pause;
    if (c->n_paid >= (uint64_t)PAID * c->next_pause) {
        c->next_pause = PAUSE;
    } else if (c->next_pause < PAUSE_MOST) {
        c->next_pause *= 2;
    }
    c->n_paid = 0;
}

bool copy_holds(const program *prog)
{
    return prog->copy && prog->copy->memory;
}

uint64_t copy_kept_bytes(const program *prog)
{
    if (!prog->copy || prog->copy->off) {
        return 0;
    }
    const linear_weight *w = weight_of(prog);
    uint64_t room = prog->copy->room, less = prog->plan->logits_mapped ? (uint64_t)w->n_out * w->row_bytes : 0;
    return room > less ? room - less : 0;
}

/* Room for the copy, which becomes resident as it is written to. False: there is none now. */
static bool make_room(screen_copy *c, const linear_weight *w)
{
    size_t n = blocks_of(w);
    if (c->memory) { /* of a pass that could not run */
        return true;
    }
    c->memory = memory_map(c->room);
    if (!c->memory) {
        c->pause = PAUSE;
        return false;
    }
    c->weights = c->memory;
    c->scales = (float *)(void *)(c->weights + n * coarse_block_bytes(w->n_in));
    c->lengths = c->scales + n * COARSE_ROWS;
    c->rests = c->lengths + n * COARSE_ROWS;
    c->block_lengths = c->rests + n * COARSE_ROWS;
    c->block_rests = c->block_lengths + n;
    memory_in_large_pages(c->weights, n * coarse_block_bytes(w->n_in)); /* what is read from end to end */
    return true;
}

static copy_work place(const exec *e, uint8_t *memory, uint64_t *n_bytes)
{
    const linear_weight *w = weight_of(e->prog);
    uint32_t rows = e->s.n_wanted;
    copy_work work = {.exact_bytes = aligned(linear_input_bytes(LINEAR_Q16, 1, w->n_in)),
                      .products = (uint16_t *)(void *)e->s.logits,
                      .n_blocks = (uint32_t)blocks_of(w)};
    size_t tiles = (rows + COARSE_TILE - 1) / COARSE_TILE * coarse_tile_bytes(w->n_in), exact = rows * work.exact_bytes;
    size_t found = aligned(rows * sizeof *work.rows);
    *n_bytes = tiles + exact + found + (uint64_t)rows * work.n_blocks * sizeof(float);
    if (memory) {
        work.tiles = memory;
        work.exact = memory + tiles;
        work.rows = (copy_row *)(void *)(work.exact + exact);
        work.greatest = (float *)(void *)((uint8_t *)work.rows + found);
    }
    return work;
}

uint64_t copy_bytes(const exec *e)
{
    uint64_t n_bytes = 0;
    if (e->copy.screens) {
        place(e, NULL, &n_bytes);
    }
    return n_bytes;
}

/* Room for the copy in the pass that makes it, which is that of halves where there are any. False: there is none. */
static bool prepare(screen_copy *c, exec *e)
{
    const linear_weight *w = weight_of(e->prog);
    if (!c->memory && !few_fits(c->room, memory_spare() + few_made_bytes(e->prog))) { /* which will be free */
        c->pause = PAUSE;
        return false;
    }
    few_let_go(e->prog);
    if (!make_room(c, w)) {
        return false;
    }
    memory_discard(e->prog->scratch.data, e->prog->scratch.n_bytes); /* of a prompt: as much as this takes */
    if (e->prog->plan->logits_mapped) { /* rows come and go one by one: a large page would bring all its others */
        mapping_in_small_pages(w->data, (size_t)w->n_out * w->row_bytes);
    }
    return true;
}

copy_pass copy_choose(exec *e)
{
    screen_copy *c = e->prog->copy;
    copy_pass pass = {0};
    if (c && c->unwanted && !c->off) {
        give_up(c);
    }
    if (!c || c->off || e->s.n_wanted == 0) {
        return pass;
    }
    if ((few_holds(e->prog) || few_is_wanted(e->prog)) && e->s.n_wanted < ROWS_LEAST && e->s.n_wanted == e->s.n_rows) {
        c->n_waited = 0; /* halves are let go for passes of many rows that come one after the other */
    }
    uint64_t n_bytes, most = e->prog->rows_max * e->prog->row_bytes / MEMORY_PART;
    place(e, NULL, &n_bytes);
    if (!e->s.greatest || e->s.observer || n_bytes > most) {
        if (c->memory) {
            let_go(c);
        }
        return pass;
    }
    if (c->memory && few_asks(e)) {
        let_go(c);
        c->n_waited = 0;
        return pass;
    }
    if (c->pause) {
        c->pause--;
        return pass;
    }
    pass.makes = !c->made && e->s.n_wanted >= ROWS_LEAST && ++c->n_waited >= AFTER && prepare(c, e);
    pass.screens = c->made;
    return pass;
}

/* ---- making it ---- */

static void give_back(const exec *e, uint32_t begin, uint32_t end)
{
    const linear_weight *w = weight_of(e->prog);
    if (e->prog->plan->logits_mapped) {
        mapping_forget_part((const uint8_t *)w->data + begin * w->row_bytes, (size_t)(end - begin) * w->row_bytes);
    }
}

static void make_block(const exec *e, uint32_t block)
{
    const screen_copy *c = e->prog->copy;
    const linear_weight *w = weight_of(e->prog);
    uint32_t first = block * COARSE_ROWS, n = w->n_out - first < COARSE_ROWS ? w->n_out - first : COARSE_ROWS;
    float *lengths = c->lengths + first, *rests = c->rests + first, length = 0, rest = 0;
    c->kernels.make((const uint8_t *)w->data + first * w->row_bytes, w->row_bytes, w->n_in, n,
                    c->weights + block * coarse_block_bytes(w->n_in), c->scales + first, lengths, rests);
    for (uint32_t i = 0; i < COARSE_ROWS; i++) {
        length = lengths[i] > length ? lengths[i] : length;
        rest = rests[i] > rest ? rests[i] : rest;
    }
    c->block_lengths[block] = length;
    c->block_rests[block] = rest;
}

void copy_fill(const exec *e, const team_member *member)
{
    const uint32_t some = SCREEN_CHUNK / COARSE_ROWS;
    uint32_t begin, end;
    team_share(member, (uint32_t)blocks_of(weight_of(e->prog)), some, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        make_block(e, i);
        if ((i + 1) % some == 0 || i + 1 == end) {
            give_back(e, i / some * SCREEN_CHUNK,
                      (i + 1) * COARSE_ROWS < weight_of(e->prog)->n_out ? (i + 1) * COARSE_ROWS
                                                                        : weight_of(e->prog)->n_out);
        }
    }
}

void copy_done(const exec *e)
{
    screen_copy *c = e->prog->copy;
    if (!c) {
        return;
    }
    if (e->copy.makes) {
        c->most = 0;
        for (size_t i = 0; i < blocks_of(weight_of(e->prog)); i++) {
            c->most = c->block_lengths[i] > c->most ? c->block_lengths[i] : c->most;
        }
        c->made = true;
        if (isinf(c->most)) {
            give_up(c);
        }
    }
    if (!e->copy.screens) {
        return;
    }
    c->counts.n_screened++;
    if (!c->made) { /* let go meanwhile */
        c->counts.n_whole++;
        return;
    }
    c->n_paid++;
    give_back(e, 0, weight_of(e->prog)->n_out);
}

copy_counts copy_count(const program *prog)
{
    copy_counts counts = prog->copy ? prog->copy->counts : (copy_counts){0};
    counts.n_bytes_kept = copy_holds(prog) ? prog->copy->room : 0;
    return counts;
}

/* ---- inputs ---- */

/* The lengths that the bound takes, with what floats do to sums: those of the exact logit are of n_in / 32 terms, each
 * of three roundings, the product has three more and comparing them a few; |w'| is at most twice |w| for rows of so
 * few weights.
 *
 * A rounding's error is a part of what is rounded only above 2⁻¹²⁶; see program_screen_reach, with the same limits.
 * Products of the copy have no terms that small: unit × scale is above 2⁻¹⁰⁰. */
copy_reach copy_reach_of(float unit, const int32_t *integers, const linear_input *exact, float most)
{
    const double one = 0x1p-24; /* half the last place */
    double apart = 0, rough = 0, both = 0, x[Q16_BLOCK];
    q16_place at = q16_find(exact, 0);
    for (uint32_t b = 0; b < exact->n_in / Q16_BLOCK; b++) {
        program_read_block(LINEAR_Q16, &at, b, x);
        for (uint32_t k = 0; k < Q16_BLOCK; k++) {
            double y = (double)unit * integers[b * Q16_BLOCK + k];
            apart += (x[k] - y) * (x[k] - y);
            rough += y * y;
            both += x[k] * x[k] + y * y;
        }
    }
    both = 2 * sqrt(both); /* at least the sum of both lengths */
    bool known = both * (double)most <= BOUND_MOST && (both == 0 || both >= INPUT_LEAST);
    double length = sqrt(apart) + (exact->n_in / 16 + 32) * one * both;
    return (copy_reach){.length = known ? (float)(length * (1 + 0x1p-20)) : NAN,
                        .rest = known ? (float)(sqrt(rough) * (1 + 0x1p-20)) : NAN};
}

static coarse_tile *tile_of(const copy_work *work, uint32_t n_in, uint32_t row)
{
    return (coarse_tile *)(void *)(work->tiles + row / COARSE_TILE * coarse_tile_bytes(n_in));
}

static linear_input exact_of(const copy_work *work, uint32_t n_in, uint32_t row)
{
    return linear_input_make(LINEAR_Q16, 1, n_in, work->exact + row * work->exact_bytes);
}

static void pack_tile(const exec *e, const node *n, const copy_work *work, uint32_t first, uint32_t end)
{
    const float *src[COARSE_TILE] = {0};
    int32_t integers[COARSE_IN_MOST];
    uint32_t n_in = n->products[0].weight.n_in, n_rows = end - first < COARSE_TILE ? end - first : COARSE_TILE;
    coarse_tile *tile = tile_of(work, n_in, first);
    for (uint32_t i = 0; i < n_rows; i++) {
        src[i] = exec_row(e, n->source, first + i);
    }
    coarse_pack(n_in, n_rows, src, tile);
    for (uint32_t i = 0; i < n_rows; i++) {
        linear_input exact = exact_of(work, n_in, first + i);
        linear_pack(n->kernels, &exact, 0, src[i]);
        coarse_read(tile, i, n_in, integers);
        work->rows[first + i].reach = copy_reach_of(tile->unit[i], integers, &exact, e->prog->copy->most);
    }
}

static void pack(const exec *e, const node *n, const copy_work *work, const team_member *member)
{
    uint32_t begin, end;
    team_share(member, e->s.n_wanted, COARSE_TILE, &begin, &end);
    program_rows_part(e, n, begin, end);
    for (uint32_t row = begin; row < end; row += COARSE_TILE) {
        pack_tile(e, n, work, row, end);
    }
}

/* ---- logits ---- */

/* All rows' products with their share of blocks, which members take in turn. */
static void run_products(const exec *e, uint32_t index, const copy_work *work, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    const screen_copy *c = e->prog->copy;
    uint32_t n_in = n->products[0].weight.n_in, n_out = n->products[0].weight.n_out, rows = e->s.n_wanted;
    pieces p = program_pieces(e, n, member->n_threads);
    for (uint32_t taken = member->index; taken < p.n; taken = member->n_threads + exec_next(e, index, 0)) {
        uint32_t end = pieces_begin(&p, taken + 1);
        for (uint32_t i = pieces_begin(&p, taken); i < end && i < n_out; i += COARSE_ROWS) {
            size_t block = i / COARSE_ROWS;
            c->kernels.products(c->weights + block * coarse_block_bytes(n_in), c->scales + i, n_in, work->tiles, rows,
                                work->products + block * rows * COARSE_ROWS, work->greatest + block, work->n_blocks);
        }
    }
}

/* What a member has at hand while it searches a row. */
typedef struct search {
    const exec *e;
    const screen_copy *copy;
    const linear_weight *weight;
    const linear_kernels *kernels;
    linear_input exact;
    copy_row *row;
    const uint16_t *products; /* of block 0 */
    size_t stride;            /* from block to block */
    const float *greatest;    /* [n_blocks] */
    uint32_t n_blocks;
    void *scratch;
} search;

static search search_make(const exec *e, const node *n, const copy_work *work, uint32_t row, void *scratch)
{
    return (search){.e = e,
                    .copy = e->prog->copy,
                    .weight = &n->products[0].weight,
                    .kernels = n->kernels,
                    .exact = exact_of(work, n->products[0].weight.n_in, row),
                    .row = &work->rows[row],
                    .products = work->products + (size_t)row * COARSE_ROWS,
                    .stride = (size_t)e->s.n_wanted * COARSE_ROWS,
                    .greatest = work->greatest + (size_t)row * work->n_blocks,
                    .n_blocks = work->n_blocks,
                    .scratch = scratch};
}

static void fetch_row(const linear_weight *w, uint32_t id)
{
    const uint8_t *row = (const uint8_t *)w->data + id * w->row_bytes;
    for (size_t i = 0; i < w->row_bytes; i += LINE) {
        __builtin_prefetch(row + i, 0, 2);
    }
}

/* The logit of a row of weights as it is. */
static void compute(const search *s, uint32_t id)
{
    copy_row *r = s->row;
    float logit;
    linear_weight one = *s->weight;
    linear_output out = {.dst = &logit, .stride = 1};
    one.data = (const uint8_t *)one.data + id * one.row_bytes;
    one.n_out = 1;
    one.soon = (linear_soon){.rows = one.data, .row_bytes = one.row_bytes, .n_rows = 1};
    linear_rows(s->kernels, &one, &s->exact, &out, 0, 1, s->scratch);
    if (logit > r->logit || (logit == r->logit && (int32_t)id < r->id)) {
        r->logit = logit;
        r->id = (int32_t)id;
    }
}

/* The row with the greatest product: likely that with the greatest logit. */
static uint32_t first_row(const search *s)
{
    uint32_t block = 0, best = 0;
    for (uint32_t b = 1; b < s->n_blocks; b++) {
        block = s->greatest[b] > s->greatest[block] ? b : block;
    }
    const uint16_t *products = s->products + block * s->stride;
    uint32_t n = s->weight->n_out - block * COARSE_ROWS;
    for (uint32_t i = 1; i < COARSE_ROWS && i < n; i++) {
        best = coarse_float(products[i]) > coarse_float(products[best]) ? i : best;
    }
    return block * COARSE_ROWS + best;
}

/* Rows of a block behind the first one that may have the greatest logit: computes them, or only counts them. */
static uint32_t look_at_block(const search *s, uint32_t block, bool compute_them)
{
    const screen_copy *c = s->copy;
    const copy_row *r = s->row;
    uint32_t first = block * COARSE_ROWS, n = 0, left = s->weight->n_out - first;
    uint64_t found = c->kernels.reaching(s->products + block * s->stride, c->lengths + first, c->rests + first,
                                         r->reach.length, r->reach.rest, r->logit);
    found &= left < COARSE_ROWS ? ((uint64_t)1 << left) - 1 : UINT64_MAX;
    for (; found; found &= found - 1) {
        uint32_t id = first + (uint32_t)__builtin_ctzll(found);
        if (id == r->first) {
            continue;
        }
        n++;
        if (compute_them) {
            compute(s, id);
        } else {
            fetch_row(s->weight, id);
        }
    }
    return n;
}

static uint32_t look_at_rest(const search *s, bool compute_them)
{
    const screen_copy *c = s->copy;
    const copy_row *r = s->row;
    uint32_t n = 0;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        float most = s->greatest[b] + c->block_lengths[b] * r->reach.length + c->block_rests[b] * r->reach.rest;
        if (!(most < r->logit)) {
            n += look_at_block(s, b, compute_them);
        }
    }
    return n;
}

/* Is more left of all rows than it pays to compute one by one, or is it not known? A count of what is the same on every
 * run, so that no timing decides how a logit is computed. */
static bool leaves_much(const exec *e, const copy_work *work)
{
    uint64_t left = 0, n_out = weight_of(e->prog)->n_out, part = n_out / LEFT_PART;
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        left += isnan(work->rows[row].reach.length) ? n_out * e->s.n_wanted : work->rows[row].n_left;
    }
    return left > (part > LEFT_LEAST ? part : LEFT_LEAST) * e->s.n_wanted;
}

void copy_run(const exec *e, uint32_t index, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    void *scratch = exec_private(e, member);
    uint32_t more = e->prog->n_nodes; /* behind the nodes' counters */
    uint64_t n_bytes;
    copy_work work = place(e, e->copy_memory, &n_bytes);
    pack(e, n, &work, member);
    team_barrier(member);
    run_products(e, index, &work, member);
    team_barrier(member);
    for (uint32_t row = exec_next(e, index, 1); row < e->s.n_wanted; row = exec_next(e, index, 1)) {
        search s = search_make(e, n, &work, row, scratch);
        work.rows[row].n_left = 0;
        work.rows[row].logit = -INFINITY;
        work.rows[row].id = -1;
        if (!isnan(work.rows[row].reach.length)) {
            work.rows[row].first = first_row(&s);
            compute(&s, work.rows[row].first);
            work.rows[row].n_left = look_at_rest(&s, false);
        }
    }
    team_barrier(member);
    if (leaves_much(e, &work)) {
        if (member->index == 0) { /* the file's rows are read now, which take as much memory */
            let_go(e->prog->copy);
        }
        program_run_made(e, index, member);
        return;
    }
    for (uint32_t row = exec_next(e, more, 1); row < e->s.n_wanted; row = exec_next(e, more, 1)) {
        search s = search_make(e, n, &work, row, scratch);
        look_at_rest(&s, true);
        e->s.greatest[row] = work.rows[row].id;
    }
}
