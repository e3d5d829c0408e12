/*
 * Logits of one to four rows of which only the greatest is wanted: reading the weights is what takes the time, and half
 * of their bits tell nearly always which few of 262,144 logits may be the greatest. Those are computed from all bits.
 * Owner: the program. Lifetime: the program's.
 *
 * The matrix is kept in two parts (halves.h), which together are as large as it is; the file's pages are given back.
 * Before a pass reads all of the file's rows, the parts are let go in turn, and made again a while later: memory never
 * holds both.
 *
 * A row's product with the upper part differs from its logit by r · x, where r is what the upper part leaves out. With
 * any weights d > 0 (Cauchy and Schwarz)
 *
 *     |r · x| ≤ |r ∘ d| × |x / d|
 *
 * of which the first factor is known beforehand. The root of x's usual magnitudes as d makes the right side least; what
 * is usual is learned from the first inputs, and needs not be right for the bound to hold. A row whose product with
 * that added is below another row's logit is not the greatest. The logit of what is left has the same bits as without
 * all this, by the same kernel from the same bits.
 */
#include "kernels/cpu/screen_few.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mapping.h"
#include "base/memory_size.h"
#include "kernels/cpu/halves.h"
#include "kernels/cpu/program.h"
#include "kernels/cpu/quantize_act.h"

#define LEARN_PASSES 16u           /* whose inputs tell what is usual */
#define MAKE_ELEMENTS (1u << 20)   /* of weights that a pass makes of two parts: less than a millisecond */
#define GAIN 0.15                  /* of the bytes that a token reads: less is not worth the memory */
#define SQUARE_LEAST 0x1p-10f      /* of d², whose greatest is 1 */
#define KEPT_TWICE (8u << 20)      /* bytes of a matrix that is in no file's mapping, and so cannot be given back */
#define FILE_PART 64u              /* of the rows: more that are not of two parts, and nothing is */
#define LEFT_PART 4u               /* of the rows: computing more one by one takes longer than all of them */
#define WHOLE_ONE 65536u           /* a share of 1 */
#define WHOLE_MOST (WHOLE_ONE / 4) /* of the newest passes: their logits were computed whole after all */
#define GIVE_BACK 8u               /* screened passes: as often, all pages of the rows in two parts are given back */
#define PAUSE 64u                  /* passes before it is tried again, when the parts were let go */
#define PAUSE_MOST 8192u           /* and when they were, again and again, before they had paid */
#define PAID 4u                    /* screened passes for each of a pause: making the parts has paid */
#define WAITING 20u                /* rows that are fetched while others are looked at */
#define LINE 64u                   /* bytes of a cache line */
#define IN_FILE 0xfffe             /* instead of a row's first place: it is not in two parts */
#define BOUND_MOST 0x1p100         /* beyond it, sums might leave the range of floats */
#define INPUT_LEAST 0x1p-40        /* of an input's length, unless it is zero; see rounding_of */
#define WEIGHT_LEAST 0x1p-24       /* of a weight row's length, unless it is zero: the least scale there is */

_Static_assert(SCREEN_CHUNK % OPS_UPPER_BLOCK == 0, "a block lies in one chunk, and so with one member");

struct screen_few {
    bool off; /* it cannot be, or there is no memory for it */
    halves_kernels kernels;
    uint32_t n_learnt;          /* inputs */
    double *sums;               /* [n_in] of their squares */
    float *squares;             /* [n_in] d² */
    uint32_t n_made;            /* the first rows of the matrix: they are in two parts */
    _Atomic uint32_t n_in_file; /* of those: not in two parts after all */
    uint8_t *memory;            /* of the following */
    float *lengths;             /* [n_out] × reach: how far a product may be from the logit; 0 where none is made */
    uint8_t *upper, *lower;     /* [n_out] rows */
    double most;                /* the greatest length of a row of weights, for those that are made */
    uint32_t whole;             /* running share of passes, of which the newest counts an eighth */
    uint32_t pause;             /* passes left of one: there are no parts meanwhile */
    uint32_t next_pause;
    uint64_t n_paid;       /* passes that the parts served since they were let go */
    _Atomic bool unwanted; /* by few_refuse */
    few_counts counts;
};

/* A row's search for its greatest logit, or a member's part in it. */
typedef struct best {
    float logit; /* nothing below it is wanted */
    int32_t id;  /* the first that has it */
} best;

/* What is known of an input. */
typedef struct few_row {
    float reach; /* |x / d|; NaN: not known */
    float slack; /* two ways to compute a logit in floats are at most so far apart */
} few_row;

/* A pass's memory. */
typedef struct few_work {
    uint8_t *inputs; /* [n_rows][input_bytes]: as Q8_0 has them, then as halves have them */
    size_t packed_bytes, input_bytes;
    few_row *rows;        /* [n_rows] */
    best *first;          /* [n_rows] */
    halves_input *halves; /* [n_rows] */
    float *upper;         /* [n_rows][n_blocks] the most that a block's logits may be */
    float *greatest;      /* [n_rows][n_blocks] of a block's products */
    uint32_t n_blocks;
    uint8_t *members; /* [n_threads][member_bytes] */
    size_t member_bytes;
    _Atomic uint32_t *too_many;
} few_work;

/* A member's own memory. */
typedef struct few_member {
    best found[LINEAR_DIRECT];
    uint32_t n_computed, n_exact;
    double most;
} few_member;

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

/* ---- where it may pay ---- */

static uint64_t bytes_of_token(const plan *p)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        n += o->kind == OP_LINEAR ? (uint64_t)o->weight->row_bytes * o->weight->shape[1] : 0;
        n += o->kind == OP_EXPERTS ? (o->experts->gate ? 3 : 2) * (uint64_t)o->experts->n_used *
                                         o->experts->up->row_bytes * o->experts->n_ff
                                   : 0;
        n += o->kind == OP_HEADS ? (uint64_t)o->heads->n_heads * o->heads->weights->row_bytes * o->heads->n_out : 0;
    }
    return n;
}

static size_t bytes_less(const linear_weight *w)
{
    return w->row_bytes - halves_upper_bytes(w->n_in) - sizeof(float);
}

bool few_make(program *prog)
{
    const node *n = last_node(prog);
    if (prog->scalar || n->kind != NODE_LINEAR || n->n_products != 1 || n->products[0].dst != SLOT_LOGITS ||
        n->products[0].bias || n->products[0].add) {
        return true;
    }
    const linear_weight *w = &n->products[0].weight;
    bool can = w->type == DTYPE_Q8_0 && w->n_in % Q16_BLOCK == 0 && w->n_in <= HALVES_IN_MOST;
    can = can && (prog->plan->logits_mapped || w->n_out * w->row_bytes <= KEPT_TWICE);
    if (!can || !prog->halves.products || linear_format_for(n->kernels, DTYPE_Q8_0, 1) != LINEAR_Q16 ||
        (double)w->n_out * (double)bytes_less(w) < GAIN * (double)bytes_of_token(prog->plan)) {
        return true;
    }
    screen_few *f = prog->few = region_array(&prog->memory, 1, sizeof *f);
    if (!f) {
        return false;
    }
    *f = (screen_few){.kernels = prog->halves,
                      .next_pause = PAUSE,
                      .sums = region_array(&prog->memory, w->n_in, sizeof *f->sums),
                      .squares = region_array(&prog->memory, w->n_in, sizeof *f->squares)};
    return f->sums && f->squares;
}

static void give_up(screen_few *f)
{
    free(f->memory);
    f->memory = NULL;
    f->off = true;
    f->n_made = 0;
}

void few_close(program *prog)
{
    if (prog->few) {
        give_up(prog->few);
    }
}

void few_refuse(program *prog)
{
    if (prog->few) {
        prog->few->unwanted = true;
    }
}

/* Until a while later: where single passes want all logits in turn, making the parts again each time would not pay. */
static void let_go(const exec *e)
{
    screen_few *f = e->prog->few;
    const linear_weight *w = weight_of(e->prog);
    if (f->memory && e->prog->plan->logits_mapped) {
        mapping_in_large_pages(w->data, (size_t)w->n_out * w->row_bytes);
    }
    free(f->memory);
    f->memory = NULL;
    f->n_made = 0;
    f->n_in_file = 0;
    f->most = 0;
    f->whole = 0;
    f->pause = f->next_pause;
    if (f->n_paid >= PAID * f->next_pause) {
        f->next_pause = PAUSE;
    } else if (f->next_pause < PAUSE_MOST) {
        f->next_pause *= 2;
    }
    f->n_paid = 0;
}

/* What was learned of inputs tells too little of those that come now. */
static void learn_again(screen_few *f, uint32_t n_in)
{
    memset(f->sums, 0, n_in * sizeof *f->sums);
    f->n_learnt = 0;
}

static size_t room_bytes(const linear_weight *w)
{
    return aligned(w->n_out * sizeof(float)) + aligned(w->n_out * halves_upper_bytes(w->n_in)) +
           w->n_out * halves_lower_bytes(w->n_in) + LINEAR_ALIGN;
}

uint64_t few_kept_bytes(const program *prog)
{
    if (!prog->few || prog->few->off) {
        return 0;
    }
    const linear_weight *w = weight_of(prog);
    return room_bytes(w) - (prog->plan->logits_mapped ? (uint64_t)w->n_out * w->row_bytes : 0);
}

bool few_fits(uint64_t n_bytes, uint64_t available)
{
    return n_bytes <= available / 2;
}

/* Room for all rows, which becomes resident as it is written to. False: there is none now. */
static bool make_room(screen_few *f, const linear_weight *w)
{
    size_t lengths = aligned(w->n_out * sizeof *f->lengths), upper = aligned(w->n_out * halves_upper_bytes(w->n_in));
    size_t n_bytes = room_bytes(w);
    f->memory = few_fits(n_bytes, memory_spare()) ? calloc(1, n_bytes) : NULL;
    if (!f->memory) {
        f->pause = PAUSE;
        return false;
    }
    uint8_t *at = f->memory + (LINEAR_ALIGN - (uintptr_t)f->memory % LINEAR_ALIGN) % LINEAR_ALIGN;
    f->lengths = (float *)(void *)at;
    f->upper = at + lengths;
    f->lower = f->upper + upper;
    memory_in_large_pages(f->upper, upper); /* what is read from end to end */
    return true;
}

/* Weight rows that a decoding pass makes of two parts. */
static uint32_t rows_to_make(exec *e, screen_few *f)
{
    const linear_weight *w = weight_of(e->prog);
    if (f->n_made == w->n_out) {
        return 0;
    }
    if (!f->memory) {
        if (!make_room(f, w)) {
            return 0;
        }
        memory_discard(e->prog->scratch.data, e->prog->scratch.n_bytes); /* of the prompt: as much as this takes */
        if (e->prog->plan->logits_mapped) { /* a large page that was given back would come back with any row of it */
            mapping_in_small_pages(w->data, (size_t)w->n_out * w->row_bytes);
        }
    }
    uint32_t left = w->n_out - f->n_made, some = MAKE_ELEMENTS / w->n_in / SCREEN_CHUNK * SCREEN_CHUNK;
    some = some ? some : SCREEN_CHUNK;
    return left < some ? left : some;
}

few_pass few_choose(exec *e)
{
    screen_few *f = e->prog->few;
    few_pass pass = {0};
    if (f && f->unwanted) {
        give_up(f);
    }
    if (!f || f->off || e->s.n_wanted == 0) {
        return pass;
    }
    if (!e->s.greatest || e->s.observer || e->s.n_wanted > LINEAR_DIRECT) {
        if (f->memory) {
            let_go(e);
        }
        return pass;
    }
    if (f->pause) {
        f->pause--;
        f->counts.n_paused++;
        return pass;
    }
    if (e->s.n_rows == e->s.n_wanted) { /* else it is a prompt, whose answer is waited for */
        pass.learns = f->n_learnt < LEARN_PASSES;
        pass.n_make = pass.learns ? 0 : rows_to_make(e, f);
    }
    pass.screens = f->n_made > 0;
    return pass;
}

static few_work place(const exec *e, uint8_t *memory, uint64_t *n_bytes)
{
    const linear_weight *w = weight_of(e->prog);
    uint32_t rows = e->s.n_wanted;
    few_work work = {.packed_bytes = aligned(linear_input_bytes(LINEAR_Q16, 1, w->n_in)),
                     .n_blocks = (w->n_out + OPS_UPPER_BLOCK - 1) / OPS_UPPER_BLOCK,
                     .member_bytes = aligned(sizeof(few_member)) + aligned(w->row_bytes)};
    work.input_bytes = work.packed_bytes + aligned(halves_input_bytes(w->n_in));
    size_t inputs = rows * work.input_bytes;
    size_t upper = aligned((size_t)rows * work.n_blocks * sizeof(float));
    size_t found = aligned(rows * (sizeof *work.rows + sizeof *work.first + sizeof *work.halves) +
                           sizeof *work.too_many);
    *n_bytes = inputs + 2 * upper + found + e->prog->n_threads * work.member_bytes;
    if (memory) {
        work.inputs = memory;
        work.upper = (float *)(void *)(memory + inputs);
        work.greatest = (float *)(void *)(memory + inputs + upper);
        work.members = memory + inputs + 2 * upper;
        work.halves = (halves_input *)(void *)(work.members + e->prog->n_threads * work.member_bytes);
        work.first = (best *)(void *)(work.halves + rows);
        work.rows = (few_row *)(void *)(work.first + rows);
        work.too_many = (_Atomic uint32_t *)(void *)(work.rows + rows);
    }
    return work;
}

uint64_t few_bytes(const exec *e)
{
    uint64_t n_bytes = 0;
    if (e->few.screens || e->few.n_make) {
        place(e, NULL, &n_bytes);
    }
    return n_bytes;
}

static few_member *member_of(const few_work *work, uint32_t index)
{
    return (few_member *)(void *)(work->members + index * work->member_bytes);
}

/* ---- making the parts ---- */

/* What is usual of an input: learned by one member. */
static void learn_inputs(const exec *e)
{
    screen_few *f = e->prog->few;
    const node *n = last_node(e->prog);
    if (n->pure) { /* members made its rows for themselves */
        program_rows_part(e, n, 0, e->s.n_wanted);
    }
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        const float *x = exec_row(e, n->source, row);
        for (uint32_t i = 0; i < weight_of(e->prog)->n_in; i++) {
            f->sums[i] += (double)x[i] * (double)x[i];
        }
    }
}

static void find_squares(screen_few *f, uint32_t n_in)
{
    double most = 0;
    for (uint32_t i = 0; i < n_in; i++) {
        most = f->sums[i] > most ? f->sums[i] : most;
    }
    for (uint32_t i = 0; i < n_in; i++) {
        double square = most > 0 && most <= BOUND_MOST ? sqrt(f->sums[i] / most) : 1;
        f->squares[i] = square > (double)SQUARE_LEAST ? (float)square : SQUARE_LEAST; /* also where it is NaN */
    }
}

/* What a row's length must have besides its rest: floats round, in either product and in comparing them. Each is a sum
 * of n_in / 32 terms of three roundings; together the rows' lengths are at most three times that of the weights, as no
 * integer of either part is further from 0 than twice the whole one.
 *
 * A rounding's error is a part of what is rounded only above 2⁻¹²⁶. A term is unit × scale × an integer below 2²⁸, so
 * where unit × scale is less, it loses up to 2⁻¹²⁶ × 2²⁸ = 2⁻⁹⁸. With inputs of at least INPUT_LEAST and weights of at
 * least WEIGHT_LEAST what is allowed for each term's roundings, 2⁻²⁴ × both lengths, is 2⁻⁸⁸, and so has room for that.
 * Smaller inputs, which no norm leaves, are not screened; zeros are exact. */
static double rounding_of(double length, uint32_t n_in)
{
    const double one = 0x1p-24; /* half the last place */
    return 3 * (n_in / 16 + 64) * one * (length > 0 && length < WEIGHT_LEAST ? WEIGHT_LEAST : length);
}

static void make_row(screen_few *f, const linear_weight *w, uint32_t row, double *most)
{
    const uint8_t *whole = (const uint8_t *)w->data + row * w->row_bytes;
    size_t upper_bytes = halves_upper_bytes(w->n_in), lower_bytes = halves_lower_bytes(w->n_in);
    uint8_t *upper = f->upper + row * upper_bytes, *lower = f->lower + row * lower_bytes;
    float length;
    if (!halves_split(whole, w->n_in, upper, lower)) {
        const uint16_t mark = IN_FILE;
        for (size_t i = 0; i < upper_bytes; i++) {
            upper[i] = i < w->n_in / 2 ? 0x88 : 0; /* zeros */
        }
        memcpy(lower + w->n_in / 2, &mark, sizeof mark);
        atomic_fetch_add_explicit(&f->n_in_file, 1, memory_order_relaxed);
    }
    float rest = halves_rest(whole, upper, w->n_in, f->squares, &length);
    double size = (double)length <= BOUND_MOST ? (double)length : INFINITY; /* also where it is NaN */
    *most = size > *most ? size : *most;
    f->lengths[row] = (float)(((double)rest + rounding_of((double)length, w->n_in)) * (1 + 0x1p-20));
}

void few_learn(const exec *e, const team_member *member)
{
    if (e->few.learns && member->index == 0) {
        learn_inputs(e);
    }
    if (e->few.n_make && e->prog->few->memory) {
        screen_few *f = e->prog->few;
        uint64_t n_bytes;
        few_work work = place(e, e->few_memory, &n_bytes);
        few_member *own = member_of(&work, member->index);
        uint32_t begin, end;
        own->most = 0;
        team_share(member, e->few.n_make, 1, &begin, &end);
        for (uint32_t i = f->n_made + begin; i < f->n_made + end; i++) {
            make_row(f, weight_of(e->prog), i, &own->most);
        }
    }
}

/* The file's rows [begin, end) are not read any more, but for single ones: an input's token, a row that is not in two
 * parts. Their pages come back as they are read, and leave again a while later. */
static void give_back(const exec *e, uint32_t begin, uint32_t end)
{
    const linear_weight *w = weight_of(e->prog);
    begin = begin > SCREEN_CHUNK ? begin - SCREEN_CHUNK : 0; /* a page that was not wholly behind it */
    if (e->prog->plan->logits_mapped) {
        mapping_forget_part((const uint8_t *)w->data + begin * w->row_bytes, (size_t)(end - begin) * w->row_bytes);
    }
}

static void made(const exec *e, const few_work *work)
{
    screen_few *f = e->prog->few;
    const linear_weight *w = weight_of(e->prog);
    for (uint32_t i = 0; i < e->prog->n_threads; i++) {
        double most = member_of(work, i)->most;
        f->most = most > f->most ? most : f->most;
    }
    f->n_made += e->few.n_make;
    give_back(e, f->n_made - e->few.n_make, f->n_made);
    if (!(f->most <= BOUND_MOST) || f->n_in_file > w->n_out / FILE_PART) {
        give_up(f);
    }
}

/* Of the file's bytes, what a screened pass had no need of. */
static uint64_t saved_bytes(const screen_few *f, const linear_weight *w, uint64_t n_looked, uint64_t n_exact)
{
    size_t scales = w->n_in / Q16_BLOCK * sizeof(uint16_t);
    uint64_t saved = (uint64_t)f->n_made * bytes_less(w);
    uint64_t more = n_looked * (halves_lower_bytes(w->n_in) + scales) + n_exact * (w->n_in / 2);
    return saved > more ? saved - more : 0;
}

void few_done(const exec *e)
{
    screen_few *f = e->prog->few;
    if (e->few.learns && ++f->n_learnt == LEARN_PASSES) {
        find_squares(f, weight_of(e->prog)->n_in);
    }
    if (!e->few.screens && !e->few.n_make) {
        return;
    }
    uint64_t n_bytes;
    few_work work = place(e, e->few_memory, &n_bytes);
    if (e->few.screens) {
        bool whole = *work.too_many;
        uint64_t n_computed = 0, n_exact = 0;
        for (uint32_t i = 0; i < e->prog->n_threads; i++) {
            n_computed += member_of(&work, i)->n_computed;
            n_exact += member_of(&work, i)->n_exact;
        }
        f->counts.n_computed += n_computed;
        f->counts.n_exact += n_exact;
        f->counts.n_bytes_saved += whole ? 0 : saved_bytes(f, weight_of(e->prog), n_computed, n_exact);
        f->counts.n_screened++;
        f->counts.n_whole += whole;
        f->n_paid += !whole;
        f->whole = f->whole - f->whole / 8 + (whole ? WHOLE_ONE / 8 : 0);
        if (whole || f->counts.n_screened % GIVE_BACK == 0) {
            give_back(e, 0, f->n_made);
        }
    }
    if (e->few.n_make && f->memory) {
        made(e, &work);
    }
    if (f->whole > WHOLE_MOST) {
        let_go(e);
    }
}

few_counts few_count(const program *prog)
{
    few_counts counts = prog->few ? prog->few->counts : (few_counts){0};
    if (prog->few && !prog->few->off) {
        uint32_t n_out = weight_of(prog)->n_out;
        counts.n_made = prog->few->n_made;
        counts.prepares = !prog->few->off && counts.n_made < n_out;
        counts.n_bytes_kept = prog->few->memory ? room_bytes(weight_of(prog)) : 0;
    }
    return counts;
}

/* ---- inputs ---- */

static few_row look_at_input(const screen_few *f, const linear_input *input)
{
    q16_place at = q16_find(input, 0);
    double whole = 0, stretched = 0;
    for (uint32_t b = 0; b < input->n_in / Q16_BLOCK; b++) {
        const int8_t *digits = (const int8_t *)at.q + b * at.record;
        float unit;
        double sum = 0, far = 0;
        memcpy(&unit, at.words + b * at.record + Q16_UNIT * at.word, sizeof unit);
        for (uint32_t k = 0; k < Q16_BLOCK; k++) {
            double value = 256 * digits[k] + digits[Q16_BLOCK + k];
            sum += value * value;
            far += value * value / (double)f->squares[b * Q16_BLOCK + k];
        }
        whole += (double)unit * (double)unit * sum;
        stretched += (double)unit * (double)unit * far;
    }
    whole = sqrt(whole);
    bool known = 4 * whole * f->most <= BOUND_MOST && (whole == 0 || whole >= INPUT_LEAST);
    return (few_row){.reach = known ? (float)(sqrt(stretched) * (1 + 0x1p-20)) : NAN,
                     .slack = (float)(2 * rounding_of(f->most, input->n_in) * whole * (1 + 0x1p-20))};
}

static linear_input single_of(const few_work *work, const linear_weight *w, uint32_t row)
{
    return linear_input_make(LINEAR_Q16, 1, w->n_in, work->inputs + row * work->input_bytes);
}

static void pack(const exec *e, const node *n, const few_work *work, const team_member *member)
{
    if (member->index != 0) {
        return;
    }
    program_rows_part(e, n, 0, e->s.n_wanted);
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        const float *src = exec_row(e, n->source, row);
        linear_input single = single_of(work, &n->products[0].weight, row);
        linear_pack(n->kernels, &single, 0, src);
        work->halves[row] = halves_input_make(&single, (uint8_t *)single.data + work->packed_bytes);
        work->rows[row] = look_at_input(e->prog->few, &single);
    }
    *work->too_many = 0;
}

/* ---- logits ---- */

/* All rows' products with weight rows [begin, end), and how great their logits may be. */
static void run_chunk(const exec *e, const node *n, const few_work *work, uint32_t begin, uint32_t end, void *scratch)
{
    const screen_few *f = e->prog->few;
    const linear_weight *w = &n->products[0].weight;
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        float *products = exec_row(e, SLOT_LOGITS, row);
        if (begin < f->n_made) {
            f->kernels.products(f->upper + begin * halves_upper_bytes(w->n_in), w->n_in, end - begin,
                                &work->halves[row], products + begin);
        } else {
            linear_input input = single_of(work, w, row);
            linear_output out = {.dst = products};
            linear_rows(n->kernels, w, &input, &out, begin, end, scratch);
        }
        size_t block = (size_t)row * work->n_blocks + begin / OPS_UPPER_BLOCK;
        e->prog->ops.upper(products + begin, f->lengths + begin, work->rows[row].reach, end - begin,
                           work->upper + block);
        e->prog->ops.upper(products + begin, f->lengths + begin, 0, end - begin, work->greatest + block);
    }
}

/* What a member has at hand while it searches a row. */
typedef struct search {
    const exec *e;
    const screen_few *f;
    const linear_weight *weight;
    const linear_kernels *kernels;
    linear_input input;
    const halves_input *halves;
    float reach, slack;
    const float *products; /* [n_out] */
    const float *upper;    /* [n_blocks] */
    best best;
    uint32_t ids[WAITING], n_ids; /* rows that wait, while they are fetched */
    uint32_t n_looked, n_exact;
    uint8_t *rows; /* one */
    void *scratch;
} search;

static search search_make(const exec *e, const node *n, const few_work *work, uint32_t row, const team_member *member)
{
    uint8_t *own = (uint8_t *)member_of(work, member->index);
    return (search){.e = e,
                    .f = e->prog->few,
                    .weight = &n->products[0].weight,
                    .kernels = n->kernels,
                    .input = single_of(work, &n->products[0].weight, row),
                    .halves = &work->halves[row],
                    .reach = work->rows[row].reach,
                    .slack = work->rows[row].slack,
                    .products = exec_row(e, SLOT_LOGITS, row),
                    .upper = work->upper + (size_t)row * work->n_blocks,
                    .best = {-INFINITY, -1},
                    .rows = own + aligned(sizeof(few_member)),
                    .scratch = exec_private(e, member)};
}

static void look_at(search *s, float logit, uint32_t id)
{
    if (logit > s->best.logit || (logit == s->best.logit && (int32_t)id < s->best.id)) {
        s->best = (best){logit, (int32_t)id};
    }
}

/* A row of weights as it is in the file. */
static void get_row(const search *s, uint32_t id, uint8_t *to)
{
    const linear_weight *w = s->weight;
    const uint8_t *upper = s->f->upper + id * halves_upper_bytes(w->n_in);
    const uint8_t *lower = s->f->lower + id * halves_lower_bytes(w->n_in);
    uint16_t mark;
    memcpy(&mark, lower + w->n_in / 2, sizeof mark);
    if (mark == IN_FILE) {
        memcpy(to, (const uint8_t *)w->data + id * w->row_bytes, w->row_bytes);
    } else {
        halves_join(upper, lower, w->n_in, to);
    }
}

static void compute(search *s, uint32_t id)
{
    float logit;
    linear_weight one = *s->weight;
    linear_output out = {.dst = &logit, .stride = 1};
    get_row(s, id, s->rows);
    one.data = s->rows;
    one.n_out = 1;
    one.soon = (linear_soon){.rows = s->rows, .row_bytes = one.row_bytes, .n_rows = 1};
    linear_rows(s->kernels, &one, &s->input, &out, 0, 1, s->scratch);
    look_at(s, logit, id);
    s->n_exact++;
}

/* The first HALVES_ROWS rows that wait: with what their upper parts leave out, those that are not close to the best are
 * out of question. */
static void look_closer(search *s)
{
    const screen_few *f = s->f;
    uint32_t n = s->n_ids < HALVES_ROWS ? s->n_ids : HALVES_ROWS, n_in = s->weight->n_in;
    const uint8_t *lower[HALVES_ROWS], *upper[HALVES_ROWS], *scales[HALVES_ROWS];
    float rest[HALVES_ROWS];
    for (uint32_t i = 0; i < HALVES_ROWS; i++) {
        uint32_t id = s->ids[i < n ? i : n - 1];
        lower[i] = f->lower + id * halves_lower_bytes(n_in);
        upper[i] = f->upper + id * halves_upper_bytes(n_in);
        scales[i] = upper[i] + n_in / 2;
    }
    f->kernels.rests(lower, scales, n_in, s->halves, rest);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = s->ids[i];
        uint16_t mark;
        memcpy(&mark, lower[i] + n_in / 2, sizeof mark);
        if (mark == IN_FILE ||
            !(s->products[id] + rest[i] / 16 + halves_odd(upper[i], lower[i], n_in, s->halves) + s->slack <
              s->best.logit)) {
            compute(s, id);
        }
    }
    s->n_looked += n;
    s->n_ids -= n;
    memmove(s->ids, s->ids + n, s->n_ids * sizeof *s->ids);
}

static void fetch(const uint8_t *from, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes + LINE - 1; i += LINE) {
        __builtin_prefetch(from + (i < n_bytes ? i : n_bytes - 1), 0, 3);
    }
}

static void wait_for(search *s, uint32_t id)
{
    size_t upper = halves_upper_bytes(s->weight->n_in), lower = halves_lower_bytes(s->weight->n_in);
    fetch(s->f->upper + id * upper + s->weight->n_in / 2, upper - s->weight->n_in / 2);
    fetch(s->f->lower + id * lower, lower);
    s->ids[s->n_ids++] = id;
    if (s->n_ids == WAITING) {
        look_closer(s);
    }
}

static float upper_of(const search *s, uint32_t i)
{
    return s->products[i] + s->f->lengths[i] * s->reach;
}

/* The row of weights with the greatest product: likely that with the greatest logit. */
static uint32_t first_row(const search *s, const float *greatest, uint32_t n_blocks)
{
    uint32_t block = 0;
    for (uint32_t b = 1; b < n_blocks; b++) {
        block = greatest[b] > greatest[block] ? b : block;
    }
    uint32_t id = block * OPS_UPPER_BLOCK;
    for (uint32_t i = id + 1; i < s->weight->n_out && i < (block + 1) * OPS_UPPER_BLOCK; i++) {
        id = s->products[i] > s->products[id] ? i : id;
    }
    return id;
}

static void look_first(search *s, const few_work *work, uint32_t row)
{
    uint32_t id = first_row(s, work->greatest + (size_t)row * work->n_blocks, work->n_blocks);
    if (id < s->f->n_made) {
        compute(s, id);
    } else {
        look_at(s, s->products[id], id);
    }
}

/* Rows of a block that may have the greatest logit. */
static void look_at_block(search *s, uint32_t block)
{
    uint32_t begin = block * OPS_UPPER_BLOCK, end = begin + OPS_UPPER_BLOCK;
    end = end < s->weight->n_out ? end : s->weight->n_out;
    uint64_t found = 0;
    if (end - begin == OPS_UPPER_BLOCK) {
        found = s->f->kernels.reaching(s->products + begin, s->f->lengths + begin, s->reach, s->best.logit);
    } else {
        for (uint32_t i = begin; i < end; i++) {
            found |= (uint64_t)!(upper_of(s, i) < s->best.logit) << (i - begin);
        }
    }
    for (; found; found &= found - 1) {
        uint32_t i = begin + (uint32_t)__builtin_ctzll(found);
        if (i < s->f->n_made) {
            wait_for(s, i);
        } else {
            look_at(s, s->products[i], i);
        }
    }
}

/* The member's share of blocks; gives up where too much is left. */
static best look_at_rest(search *s, const few_work *work, best first, const team_member *member)
{
    uint32_t begin, end, most = s->weight->n_out / LEFT_PART / member->n_threads;
    s->best = first;
    team_share(member, work->n_blocks, 1, &begin, &end);
    for (uint32_t b = begin; b < end; b++) {
        if (s->upper[b] < s->best.logit) {
            continue;
        }
        look_at_block(s, b);
        if (s->n_looked > most) {
            atomic_store_explicit(work->too_many, 1, memory_order_relaxed);
        }
        if (atomic_load_explicit(work->too_many, memory_order_relaxed)) {
            break;
        }
    }
    while (s->n_ids) {
        look_closer(s);
    }
    return s->best;
}

static void name_greatest(const exec *e, const few_work *work)
{
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        best found = work->first[row];
        for (uint32_t i = 0; i < e->prog->n_threads; i++) {
            best other = member_of(work, i)->found[row];
            found = other.logit > found.logit || (other.logit == found.logit && other.id < found.id) ? other : found;
        }
        e->s.greatest[row] = found.id;
    }
}

void few_run(const exec *e, uint32_t index, const team_member *member)
{
    const node *n = &e->prog->nodes[index];
    uint64_t n_bytes;
    few_work work = place(e, e->few_memory, &n_bytes);
    few_member *own = member_of(&work, member->index);
    uint32_t n_out = n->products[0].weight.n_out, begin, end, rows = e->s.n_wanted;
    pack(e, n, &work, member);
    team_barrier(member);
    bool known = true;
    for (uint32_t row = 0; row < rows; row++) {
        known = known && !isnan(work.rows[row].reach);
    }
    if (!known) {
        own->n_computed = own->n_exact = 0;
        team_barrier(member);
        *work.too_many = 1;
        program_run_made(e, index, member);
        return;
    }
    team_share(member, n_out, SCREEN_CHUNK, &begin, &end);
    for (uint32_t i = begin; i < end; i += SCREEN_CHUNK) {
        run_chunk(e, n, &work, i, end - i < SCREEN_CHUNK ? end : i + SCREEN_CHUNK, exec_private(e, member));
    }
    team_barrier(member);
    for (uint32_t row = member->index; row < rows; row += member->n_threads) {
        search s = search_make(e, n, &work, row, member);
        look_first(&s, &work, row);
        work.first[row] = s.best;
    }
    team_barrier(member);
    own->n_computed = own->n_exact = 0;
    for (uint32_t row = 0; row < rows; row++) {
        search s = search_make(e, n, &work, row, member);
        own->found[row] = look_at_rest(&s, &work, work.first[row], member);
        own->n_computed += s.n_looked;
        own->n_exact += s.n_exact;
    }
    team_barrier(member);
    if (*work.too_many) {
        if (member->index == 0) { /* the file's rows are read now, which take as much memory */
            let_go(e);
            learn_again(e->prog->few, n->products[0].weight.n_in);
        }
        team_barrier(member);
        program_run_made(e, index, member);
    } else if (member->index == 0) {
        name_greatest(e, &work);
    }
}
