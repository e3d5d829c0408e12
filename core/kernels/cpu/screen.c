/*
 * Logits of which only the greatest of a row is wanted: every row of the matrix meets inputs that are rounded to 8
 * bits, which takes half the products, and those that may still be the greatest meet the inputs as they are.
 * Owner: the program. Lifetime: the program's.
 *
 * What rounding changes in a logit is at most |weight row| × |rounded input − input| (Cauchy and Schwarz), and so is
 * known for certain. A row whose logit with that added is below another one's exact logit is not the greatest; what is
 * left, a few of 49,152 rows, has the same bits as without all this. Where more is left than it pays to compute row by
 * row (logits that are all alike), all are computed as if nothing had been tried, and where that goes on, nothing is
 * tried for a while.
 *
 * The lengths of the weight rows are learned on the way, some rows in each step that could have used them.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/program.h"
#include "kernels/cpu/quantize_act.h"
#include "quant/codec.h"

#define ROWS_LEAST (LINEAR_DIRECT + 1) /* of logits: fewer wait for the weights, not for products (screen_few.c) */
#define LEARN_ELEMENTS (1u << 20)      /* of weights a step, about a millisecond of one thread */
#define LEFT_PART 16u                  /* of all logits: so many cost what rounding saves, one row at a time */
#define LEFT_GRAINS 8u                 /* of each row; as few are computed whatever part they are */
#define WHOLE_ONE 65536u               /* a share of 1 */
#define WHOLE_MOST (WHOLE_ONE / 4)     /* of the newest passes: their logits were computed whole after all */
#define PAUSE 64u                      /* passes before it is tried again */
#define MEMORY_PART 4u       /* of the scratch that a pass may take: the most that screening takes beside it */
#define BOUND_MOST 0x1p100   /* beyond it, sums might leave the range of floats */
#define INPUT_LEAST 0x1p-40  /* of both inputs' lengths, unless they are zero; see program_screen_reach */
#define WEIGHT_LEAST 0x1p-24 /* of a weight row's length, unless it is zero: the least scale there is */

_Static_assert(OPS_UPPER_BLOCK % LINEAR_ROW_GRAIN == 0, "a grain of weight rows lies in one block");
_Static_assert(SCREEN_CHUNK % OPS_UPPER_BLOCK == 0, "a block lies in one chunk, and so in one member's piece");

struct screen {
    uint32_t n_known; /* weight rows whose lengths are known */
    float most;       /* the greatest length; +infinity: some weight is no number */
    float *lengths;   /* [n_out], rounded up */
    uint32_t whole;   /* running share of passes, of which the newest counts an eighth */
    uint32_t pause;   /* passes left of one */
    screen_counts counts;
};

/* A row's search for its greatest logit. */
typedef struct screen_row {
    float reach;     /* a logit's change is at most this × its weight row's length; NaN: not known */
    float greatest;  /* of the logits that were computed exactly: nothing below it is wanted */
    int32_t id;      /* the first that has it; −1: none is above −infinity */
    uint32_t first;  /* the grain of weight rows that was computed first */
    uint32_t n_left; /* grains that may have something greater */
} screen_row;

/* A pass's memory. */
typedef struct screen_work {
    linear_input rounded; /* all rows */
    uint8_t *exact;       /* [n_rows][exact_bytes] inputs of one row */
    size_t exact_bytes;
    screen_row *rows; /* [n_rows] */
    float *upper;     /* [n_rows][n_blocks] the most that a block's logits may be */
    uint32_t n_blocks;
} screen_work;

static uint32_t blocks_of(uint32_t n)
{
    return (n + OPS_UPPER_BLOCK - 1) / OPS_UPPER_BLOCK;
}

static const node *last_node(const program *prog)
{
    return &prog->nodes[prog->n_nodes - 1];
}

static const linear_weight *weight_of(const program *prog)
{
    return &last_node(prog)->products[0].weight;
}

/* Formats whose values are a scale times an integer: with minima, what rounds in a sum is not bounded by the values. */
static bool is_scaled(dtype type)
{
    return type == DTYPE_Q4_0 || type == DTYPE_Q5_0 || type == DTYPE_Q8_0 || type == DTYPE_Q6_K;
}

bool program_screen_make(program *prog)
{
    const node *n = last_node(prog);
    if (prog->scalar || n->kind != NODE_LINEAR || n->n_products != 1 || n->products[0].dst != SLOT_LOGITS ||
        n->products[0].bias || n->products[0].add) {
        return true;
    }
    dtype type = n->products[0].weight.type;
    if (!is_scaled(type) || n->kernels->rounded[type] != LINEAR_Q8 ||
        linear_format_for(n->kernels, type, 1) != LINEAR_Q16) {
        return true;
    }
    uint32_t n_out = n->products[0].weight.n_out;
    screen *made = prog->screen = region_array(&prog->memory, 1, sizeof *made);
    if (!made) {
        return false;
    }
    *made = (screen){.lengths = region_array(&prog->memory, n_out, sizeof *made->lengths)};
    return made->lengths != NULL;
}

static screen_work place(const exec *e, uint8_t *memory, uint64_t *n_bytes)
{
    const linear_weight *w = weight_of(e->prog);
    uint32_t rows = e->s.n_wanted;
    screen_work work = {.exact_bytes = linear_input_bytes(LINEAR_Q16, 1, w->n_in), .n_blocks = blocks_of(w->n_out)};
    size_t rounded = linear_input_bytes(LINEAR_Q8, rows, w->n_in), exact = rows * work.exact_bytes;
    size_t found = (rows * sizeof(screen_row) + LINEAR_ALIGN - 1) / LINEAR_ALIGN * LINEAR_ALIGN;
    *n_bytes = rounded + exact + found + (uint64_t)rows * work.n_blocks * sizeof(float);
    if (memory) {
        work.rounded = linear_input_make(LINEAR_Q8, rows, w->n_in, memory);
        work.exact = memory + rounded;
        work.rows = (screen_row *)(void *)(work.exact + exact);
        work.upper = (float *)(void *)((uint8_t *)work.rows + found);
    }
    return work;
}

void program_screen_choose(exec *e)
{
    screen *s = e->prog->screen;
    e->screens = false;
    e->learns = 0;
    if (!s || e->copy.screens || e->copy.makes || !e->s.greatest || e->s.observer || e->s.n_wanted < ROWS_LEAST ||
        isinf(s->most)) {
        return;
    }
    const linear_weight *w = weight_of(e->prog);
    uint32_t left = w->n_out - s->n_known, some = LEARN_ELEMENTS / w->n_in / OPS_UPPER_BLOCK * OPS_UPPER_BLOCK;
    some = some ? some : OPS_UPPER_BLOCK;
    e->learns = left < some ? left : some;
    if (left == 0 && s->pause) {
        s->pause--;
        s->counts.n_paused++;
        return;
    }
    /* of many rows' logits it would take more than the pass; fewer rows a pass would slow every prompt down */
    uint64_t n_bytes, most = e->prog->rows_max * e->prog->row_bytes / MEMORY_PART;
    place(e, NULL, &n_bytes);
    e->screens = left == 0 && n_bytes <= most;
}

uint64_t program_screen_bytes(const exec *e)
{
    uint64_t n_bytes = 0;
    if (e->screens) {
        place(e, NULL, &n_bytes);
    }
    return n_bytes;
}

/* ---- lengths ---- */

float program_screen_length(const linear_weight *w, uint32_t row, float *decoded)
{
    codec_decode(w->type, (const uint8_t *)w->data + (size_t)row * w->row_bytes, decoded, w->n_in);
    double length = sqrt(ops_dot_double(decoded, decoded, w->n_in)) * (1 + 0x1p-20);
    length = length > 0 && length < WEIGHT_LEAST ? WEIGHT_LEAST : length;
    return length <= BOUND_MOST ? (float)length : INFINITY; /* also where it is NaN */
}

void program_screen_learn(const exec *e, const team_member *member)
{
    const screen *s = e->prog->screen;
    const linear_weight *w = weight_of(e->prog);
    float *row = (float *)(void *)exec_private(e, member); /* linear_scratch_bytes hold a decoded row */
    uint32_t begin, end;
    team_share(member, e->learns, 1, &begin, &end);
    for (uint32_t i = s->n_known + begin; i < s->n_known + end; i++) {
        s->lengths[i] = program_screen_length(w, i, row);
    }
}

/* ---- whether it pays ---- */

static uint32_t grains_of(const linear_weight *w)
{
    return (w->n_out + LINEAR_ROW_GRAIN - 1) / LINEAR_ROW_GRAIN;
}

/* Is more left of all rows than it pays to compute one by one? A count of what is the same on every run, so that no
 * timing decides how a logit is computed. */
static bool leaves_much(const exec *e, const screen_work *work)
{
    uint64_t left = 0, part = (uint64_t)grains_of(weight_of(e->prog)) / LEFT_PART;
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        left += work->rows[row].n_left;
    }
    return left > (part > LEFT_GRAINS ? part : LEFT_GRAINS) * e->s.n_wanted;
}

void program_screen_done(const exec *e)
{
    screen *s = e->prog->screen;
    for (uint32_t i = 0; i < e->learns; i++, s->n_known++) {
        s->most = s->lengths[s->n_known] > s->most ? s->lengths[s->n_known] : s->most;
    }
    if (!e->screens) {
        return;
    }
    uint64_t n_bytes;
    screen_work work = place(e, e->screen_memory, &n_bytes);
    bool whole = leaves_much(e, &work);
    s->counts.n_screened++;
    s->counts.n_whole += whole;
    s->whole = s->whole - s->whole / 8 + (whole ? WHOLE_ONE / 8 : 0);
    s->pause = whole && s->whole > WHOLE_MOST ? PAUSE : 0;
}

screen_counts program_screen_counts(const program *prog)
{
    return prog->screen ? prog->screen->counts : (screen_counts){0};
}

/* ---- inputs ---- */

/* What a token's packed integers stand for. */
void program_read_block(linear_format format, const q16_place *at, uint32_t b, double out[Q16_BLOCK])
{
    const int8_t *digits = (const int8_t *)at->q + b * at->record;
    float unit;
    memcpy(&unit, at->words + b * at->record + Q16_UNIT * at->word, sizeof unit);
    for (uint32_t k = 0; k < Q16_BLOCK; k++) {
        int whole = format == LINEAR_Q8 ? digits[k] : 256 * digits[k] + digits[Q16_BLOCK + k];
        out[k] = (double)unit * whole;
    }
}

/* What rounding the input does, and what floats do to sums of n_in / 16 terms, each of three roundings, in either logit
 * and in comparing them.
 *
 * A rounding's error is a part of what is rounded only above 2⁻¹²⁶. A term is unit × scale × an integer below 2²⁸, so
 * where unit × scale is less, it loses up to 2⁻¹²⁶ × 2²⁸ = 2⁻⁹⁸ (where such numbers become zero; 2⁻¹²² else). With
 * inputs of at least INPUT_LEAST and weights of at least WEIGHT_LEAST what is allowed for each term's roundings,
 * 2⁻²⁴ × both lengths, is 2⁻⁸⁸, and so has room for that. Smaller inputs, which no norm leaves, are not screened; zeros
 * are exact. */
float program_screen_reach(const linear_input *rounded, uint32_t row, const linear_input *exact, float most)
{
    const double one = 0x1p-24; /* half the last place */
    q16_place a = q16_find(rounded, row), b = q16_find(exact, 0);
    double apart = 0, both = 0;
    for (uint32_t i = 0; i < exact->n_in / Q16_BLOCK; i++) {
        double x[Q16_BLOCK], y[Q16_BLOCK];
        program_read_block(LINEAR_Q8, &a, i, x);
        program_read_block(LINEAR_Q16, &b, i, y);
        for (uint32_t k = 0; k < Q16_BLOCK; k++) {
            apart += (x[k] - y[k]) * (x[k] - y[k]);
            both += x[k] * x[k] + y[k] * y[k];
        }
    }
    both = 2 * sqrt(both); /* at least the sum of both lengths */
    double reach = sqrt(apart) + (exact->n_in / 16 + 32) * one * both;
    bool known = both * (double)most <= BOUND_MOST && (both == 0 || both >= INPUT_LEAST);
    return known ? (float)(reach * (1 + 0x1p-20)) : NAN;
}

static linear_input exact_input(const screen_work *work, const linear_weight *w, uint32_t row)
{
    return linear_input_make(LINEAR_Q16, 1, w->n_in, work->exact + row * work->exact_bytes);
}

static void pack(const exec *e, const node *n, const screen_work *work, const team_member *member)
{
    uint32_t begin, end;
    team_share(member, e->s.n_wanted, LINEAR_TILE, &begin, &end);
    program_rows_part(e, n, begin, end);
    for (uint32_t row = begin; row < end; row++) {
        const float *src = exec_row(e, n->source, row);
        linear_input exact = exact_input(work, &n->products[0].weight, row);
        linear_pack(n->kernels, &work->rounded, row, src);
        linear_pack(n->kernels, &exact, 0, src);
        work->rows[row].reach = program_screen_reach(&work->rounded, row, &exact, e->prog->screen->most);
    }
}

/* ---- logits ---- */

/* All rows' logits for weight rows [begin, end), rounded, and how great they may be. */
static void run_chunk(const exec *e, const node *n, const screen_work *work, uint32_t begin, uint32_t end,
                      linear_soon soon, void *scratch)
{
    const screen *s = e->prog->screen;
    linear_weight weight = n->products[0].weight;
    linear_output out = {.dst = e->slots[SLOT_LOGITS].data, .stride = e->slots[SLOT_LOGITS].stride};
    weight.soon = soon;
    few_rows(e, n->kernels, &weight, &work->rounded, &out, begin, end, scratch);
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        e->prog->ops.upper(exec_row(e, SLOT_LOGITS, row) + begin, s->lengths + begin, work->rows[row].reach,
                           end - begin, work->upper + (size_t)row * work->n_blocks + begin / OPS_UPPER_BLOCK);
    }
}

static void run_rounded(const exec *e, uint32_t index, const screen_work *work, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    uint32_t n_out = n->products[0].weight.n_out;
    pieces p = program_pieces(e, n, member->n_threads);
    for (uint32_t taken = member->index; taken < p.n; taken = member->n_threads + exec_next(e, index, 0)) {
        uint32_t end = pieces_begin(&p, taken + 1);
        end = end < n_out ? end : n_out;
        linear_soon soon = program_soon(e, index, taken, member);
        for (uint32_t i = pieces_begin(&p, taken); i < end; i += SCREEN_CHUNK) {
            uint32_t last = end - i < SCREEN_CHUNK ? end : i + SCREEN_CHUNK;
            run_chunk(e, n, work, i, last, last < end ? (linear_soon){0} : soon, exec_private(e, member));
        }
    }
}

/* What a member has at hand while it searches a row. */
typedef struct search {
    const exec *e;
    const linear_weight *weight;
    const linear_kernels *kernels;
    linear_input exact;
    screen_row *row;
    float *logits;      /* [n_out] of the row: rounded, but for those that were computed */
    const float *upper; /* [n_blocks] */
    uint32_t n_blocks;
    void *scratch;
} search;

static search search_make(const exec *e, const node *n, const screen_work *work, uint32_t row, void *scratch)
{
    return (search){.e = e,
                    .weight = &n->products[0].weight,
                    .kernels = n->kernels,
                    .exact = exact_input(work, &n->products[0].weight, row),
                    .row = &work->rows[row],
                    .logits = exec_row(e, SLOT_LOGITS, row),
                    .upper = work->upper + (size_t)row * work->n_blocks,
                    .n_blocks = work->n_blocks,
                    .scratch = scratch};
}

static void compute_exactly(const search *s, uint32_t begin, uint32_t end)
{
    screen_row *r = s->row;
    linear_output out = {.dst = s->logits, .stride = s->e->slots[SLOT_LOGITS].stride};
    few_rows(s->e, s->kernels, s->weight, &s->exact, &out, begin, end, s->scratch);
    for (uint32_t i = begin; i < end; i++) {
        if (s->logits[i] > r->greatest || (s->logits[i] == r->greatest && (int32_t)i < r->id)) {
            r->greatest = s->logits[i];
            r->id = (int32_t)i;
        }
    }
}

/* The most that a logit may be. */
static float upper_of(const search *s, uint32_t i)
{
    return s->logits[i] + s->e->prog->screen->lengths[i] * s->row->reach;
}

/* The grain of weight rows to begin with: it has the logit that may be the greatest of all. */
static uint32_t first_grain(const search *s)
{
    uint32_t block = 0;
    for (uint32_t b = 1; b < s->n_blocks; b++) {
        block = s->upper[b] > s->upper[block] ? b : block;
    }
    uint32_t best = block * OPS_UPPER_BLOCK;
    for (uint32_t i = best + 1; i < s->weight->n_out && i < (block + 1) * OPS_UPPER_BLOCK; i++) {
        best = upper_of(s, i) > upper_of(s, best) ? i : best;
    }
    return best / LINEAR_ROW_GRAIN * LINEAR_ROW_GRAIN;
}

/* Grains behind the first one that may have the greatest logit: computes them, or only counts them. */
static uint32_t look_at_rest(const search *s, bool compute)
{
    const screen_row *r = s->row;
    uint32_t n_out = s->weight->n_out, n = 0;
    for (uint32_t i = 0; i < n_out; i += LINEAR_ROW_GRAIN) {
        if (s->upper[i / OPS_UPPER_BLOCK] < r->greatest) {
            i = i / OPS_UPPER_BLOCK * OPS_UPPER_BLOCK + OPS_UPPER_BLOCK - LINEAR_ROW_GRAIN; /* none of the block */
            continue;
        }
        uint32_t last = n_out - i < LINEAR_ROW_GRAIN ? n_out : i + LINEAR_ROW_GRAIN;
        bool may = false;
        for (uint32_t j = i; j < last; j++) {
            may = may || !(upper_of(s, j) < r->greatest);
        }
        if (may && i != r->first) {
            n++;
            if (compute) {
                compute_exactly(s, i, last);
            }
        }
    }
    return n;
}

/* The row's first grain, and how many are left then. */
static void begin_search(const search *s)
{
    screen_row *r = s->row;
    uint32_t n_out = s->weight->n_out;
    r->greatest = -INFINITY;
    r->id = -1;
    if (isnan(r->reach)) { /* nothing is known */
        r->n_left = grains_of(s->weight);
        return;
    }
    r->first = first_grain(s);
    compute_exactly(s, r->first, n_out - r->first < LINEAR_ROW_GRAIN ? n_out : r->first + LINEAR_ROW_GRAIN);
    r->n_left = look_at_rest(s, false);
}

/* Which of a row's logits is the greatest, if it is known; those that might have been are exact. */
static int32_t end_search(const search *s)
{
    if (isnan(s->row->reach)) {
        compute_exactly(s, 0, s->weight->n_out);
        return -1;
    }
    look_at_rest(s, true);
    return s->row->id;
}

void program_run_screen(const exec *e, uint32_t index, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    void *scratch = exec_private(e, member);
    uint32_t more = e->prog->n_nodes; /* behind the nodes' counters */
    uint64_t n_bytes;
    screen_work work = place(e, e->screen_memory, &n_bytes);
    pack(e, n, &work, member);
    team_barrier(member);
    run_rounded(e, index, &work, member);
    team_barrier(member);
    for (uint32_t row = exec_next(e, index, 1); row < e->s.n_wanted; row = exec_next(e, index, 1)) {
        search s = search_make(e, n, &work, row, scratch);
        begin_search(&s);
    }
    team_barrier(member);
    if (leaves_much(e, &work)) {
        program_run_made(e, index, member);
        return;
    }
    for (uint32_t row = exec_next(e, more, 1); row < e->s.n_wanted; row = exec_next(e, more, 1)) {
        search s = search_make(e, n, &work, row, scratch);
        e->s.greatest[row] = end_search(&s);
    }
}
