/*
 * The matrix of logits in two parts (halves.h): when they are made, and reading them.
 * Owner: the program. Lifetime: the program's.
 *
 * Decoding passes make some rows each. Both parts together are as large as the matrix, and the file's pages of what is
 * made are given back: memory never holds both, and who wants all logits computes them from the parts, too. Only the
 * copy that many rows are screened by (screen_copy.c) takes their place, when enough passes asked for it; it is let go
 * in the same way.
 */

#include "kernels/cpu/screen_few_parts.h"
#include "base/mapping.h"
#include "base/memory_size.h"
#include "kernels/cpu/quantize_act.h"

#define LEARN_PASSES 16u             /* whose inputs tell what is usual */
#define MAKE_ELEMENTS (4u << 20)     /* of weights that a pass makes of two parts: less than a millisecond */
#define GAIN 0.1                     /* of the bytes that a token reads: less is not worth the memory */
#define KEPT_TWICE (8u << 20)        /* bytes of a matrix that is in no file's mapping, and so cannot be given back */
#define BOUND_MOST 0x1p100           /* of a row's size */
#define WHOLE_COSTS 3u               /* screened passes make good for one that was computed whole after all */
#define DEBT_MOST (3u * WHOLE_COSTS) /* then nothing is screened for a while */
#define PAUSE 128u                   /* passes */
#define WAIT 64u                     /* passes of few rows that let a copy for many go */
#define WAIT_MOST 8192u              /* and where those for many came back, again and again, before it had paid */
#define PAID 4u                      /* screened passes for each of a wait: making the parts has paid */
#define STRIP_BYTES (128u << 10)     /* of rows that are joined, then multiplied while they are in L2 */
#define ONE_LEAST LINEAR_ROW_GRAIN   /* rows: for fewer an input is not made what kernels of halves read */

_Static_assert(SCREEN_CHUNK % OPS_UPPER_BLOCK == 0, "a block lies in one chunk, and so with one member");

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

/* Are inputs' tokens rows of the matrix? */
static bool embeds(const plan *p, const linear_weight *w)
{
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_EMBED && p->ops[i].weight->data == w->data) {
            return true;
        }
    }
    return false;
}

/* That a screened pass does not read of a row. */
static size_t bytes_less(const linear_weight *w)
{
    return w->row_bytes - halves_upper_bytes(w->n_in) - sizeof(float);
}

static size_t room_bytes(const linear_weight *w)
{
    return aligned(w->n_out * sizeof(float)) + aligned(w->n_out * halves_upper_bytes(w->n_in)) +
           w->n_out * halves_lower_bytes(w->n_in);
}

bool few_make(program *prog)
{
    const node *n = few_node(prog);
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
                      .embeds = embeds(prog->plan, w),
                      .room = room_bytes(w),
                      .wait = WAIT,
                      .sums = region_array(&prog->memory, w->n_in, sizeof *f->sums),
                      .squares = region_array(&prog->memory, w->n_in, sizeof *f->squares)};
    return f->sums && f->squares;
}

static void forget(screen_few *f)
{
    memory_unmap(f->memory, f->room);
    f->memory = NULL;
    f->n_gathered[0] = f->n_gathered[1] = 0;
    f->n_made = 0;
}

static void give_up(screen_few *f)
{
    forget(f);
    f->off = true;
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

bool few_is_wanted(const program *prog)
{
    const screen_few *f = prog->few;
    return f && !f->off && !f->pause;
}

bool few_holds(const program *prog)
{
    return prog->few && prog->few->memory;
}

uint64_t few_made_bytes(const program *prog)
{
    return few_holds(prog) ? prog->few->room / few_weight(prog)->n_out * prog->few->n_made : 0;
}

void few_let_go(const program *prog)
{
    screen_few *f = prog->few;
    if (!few_holds(prog)) {
        return;
    }
    forget(f);
    if (f->n_paid >= (uint64_t)PAID * f->wait) {
        f->wait = WAIT;
    } else if (f->wait < WAIT_MOST) {
        f->wait *= 2;
    }
    f->n_paid = 0;
    f->n_lone = 0;
}

bool few_asks(const exec *e)
{
    const screen_few *f = e->prog->few;
    bool lone = e->s.n_wanted <= LINEAR_DIRECT && e->s.n_wanted == e->s.n_rows;
    return f && !f->off && !f->pause && lone && f->n_learnt == LEARN_PASSES && f->n_lone >= f->wait;
}

uint64_t few_kept_bytes(const program *prog)
{
    if (!prog->few || prog->few->off) {
        return 0;
    }
    const linear_weight *w = few_weight(prog);
    return prog->few->room - (prog->plan->logits_mapped ? (uint64_t)w->n_out * w->row_bytes : 0);
}

bool few_fits(uint64_t n_bytes, uint64_t available)
{
    return n_bytes <= available / 2;
}

/* Room for all rows, which becomes resident as it is written to. False: there is none now. */
static bool make_room(screen_few *f, const linear_weight *w)
{
    size_t lengths = aligned(w->n_out * sizeof *f->lengths), upper = aligned(w->n_out * halves_upper_bytes(w->n_in));
    f->memory = few_fits(f->room, memory_spare()) ? memory_map(f->room) : NULL;
    if (!f->memory) {
        f->pause = PAUSE;
        return false;
    }
    f->lengths = (float *)(void *)f->memory;
    f->upper = f->memory + lengths;
    f->lower = f->upper + upper;
    return true;
}

/* Weight rows that a decoding pass makes of two parts. */
static uint32_t rows_to_make(exec *e, screen_few *f)
{
    const linear_weight *w = few_weight(e->prog);
    if (f->n_made == w->n_out) {
        return 0;
    }
    if (!f->memory) {
        if (!make_room(f, w)) {
            return 0;
        }
        memory_discard(e->prog->scratch.data, e->prog->scratch.n_bytes); /* of the prompt: as much as this takes */
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
    f->n_lone = e->s.n_wanted > LINEAR_DIRECT ? 0 : f->n_lone;
    pass.reads = f->n_made > 0;
    uint32_t n = few_reads(e), most = few_weight(e->prog)->n_out / OPS_UPPER_BLOCK;
    most = most < FEW_READS_MOST ? most : FEW_READS_MOST;
    if (n == 0 || n > most || e->s.observer || e->s.n_wanted > LINEAR_DIRECT) {
        return pass;
    }
    if (f->pause) {
        f->pause--;
        f->counts.n_paused++;
        return pass;
    }
    if (e->s.n_rows == e->s.n_wanted) { /* else it is a prompt, whose answer is waited for */
        pass.learns = f->n_learnt < LEARN_PASSES;
        pass.n_make = pass.learns || copy_holds(e->prog) ? 0 : rows_to_make(e, f);
        f->n_lone += f->n_lone < WAIT_MOST;
    }
    pass.screens = f->n_made > 0;
    return pass;
}

/* ---- making them ---- */

/* What is usual of an input: learned by one member. */
static void learn_inputs(const exec *e)
{
    screen_few *f = e->prog->few;
    const node *n = few_node(e->prog);
    if (n->pure) { /* members made its rows for themselves */
        program_rows_part(e, n, 0, e->s.n_wanted);
    }
    for (uint32_t row = 0; row < e->s.n_wanted; row++) {
        const float *x = exec_row(e, n->source, row);
        for (uint32_t i = 0; i < few_weight(e->prog)->n_in; i++) {
            f->sums[i] += (double)x[i] * (double)x[i];
        }
    }
}

static void make_row(screen_few *f, const linear_weight *w, uint32_t row, double *most)
{
    uint8_t *upper = f->upper + row * halves_upper_bytes(w->n_in);
    uint8_t *lower = f->lower + row * halves_lower_bytes(w->n_in);
    const uint8_t *whole = (const uint8_t *)w->data + row * w->row_bytes;
    double size;
    f->lengths[row] = few_length(f->kernels.split(whole, w->n_in, f->squares, upper, lower), w->n_in, &size);
    *most = size > *most ? size : *most;
}

/* The file's rows [begin, end) are not read any more, but for an input's token where `embeds`. Their pages come back as
 * they are read, or ones beside them (single ones, or as many as the file's cache has in one piece: up to 2 MiB), and
 * leave again behind the pass. */
static void give_back(const exec *e, uint32_t begin, uint32_t end)
{
    const linear_weight *w = few_weight(e->prog);
    if (e->prog->plan->logits_mapped) {
        mapping_forget_part((const uint8_t *)w->data + begin * w->row_bytes, (size_t)(end - begin) * w->row_bytes);
    }
}

/* Rows [begin, end). The file's go as they are made: memory would hold all that a pass makes twice. Each time from the
 * chunk before on, as the page between the two was not wholly behind it. */
static void make_rows(const exec *e, uint32_t begin, uint32_t end, double *most)
{
    for (uint32_t from = begin, last; begin < end; from = begin, begin = last) {
        last = end - begin < SCREEN_CHUNK ? end : begin + SCREEN_CHUNK;
        for (uint32_t i = begin; i < last; i++) {
            make_row(e->prog->few, few_weight(e->prog), i, most);
        }
        give_back(e, from, last);
    }
}

void few_learn(const exec *e, const team_member *member)
{
    if (e->few.learns && member->index == 0) {
        learn_inputs(e);
    }
    if (e->few.n_make) {
        screen_few *f = e->prog->few;
        uint64_t n_bytes;
        few_work work = few_place(e, e->few_memory, &n_bytes);
        few_member *own = few_member_of(&work, member->index);
        uint32_t begin, end;
        own->most = 0;
        team_share(member, e->few.n_make, 1, &begin, &end);
        make_rows(e, f->n_made + begin, f->n_made + end, &own->most);
    }
}

/* Large pages for what is read from end to end: once it is written to, or more than that would be resident. */
static void gather(screen_few *f, const linear_weight *w)
{
    uint8_t *parts[2] = {f->upper, f->lower};
    size_t bytes[2] = {f->n_made * halves_upper_bytes(w->n_in), f->n_made * halves_lower_bytes(w->n_in)};
    for (int i = 0; i < 2; i++) {
        f->n_gathered[i] += memory_gather(parts[i] + f->n_gathered[i], bytes[i] - f->n_gathered[i]);
        if (f->n_made == w->n_out) {
            memory_in_large_pages(parts[i], bytes[i]); /* where the system does not gather when told: in time */
        }
    }
}

static void made(const exec *e, const few_work *work)
{
    screen_few *f = e->prog->few;
    for (uint32_t i = 0; i < e->prog->n_threads; i++) {
        double most = few_member_of(work, i)->most;
        f->most = most > f->most ? most : f->most;
    }
    const uint32_t before = f->n_made < SCREEN_CHUNK ? f->n_made : SCREEN_CHUNK;
    give_back(e, f->n_made - before, f->n_made + e->few.n_make); /* also the pages between members' shares */
    f->n_made += e->few.n_make;
    gather(f, few_weight(e->prog));
    if (!(f->most <= BOUND_MOST)) {
        give_up(f);
    }
}

/* ---- whether it pays ---- */

/* Where all logits come after all, half of the bits were read for nothing. */
static void count_screened(const exec *e, const few_work *work)
{
    screen_few *f = e->prog->few;
    const linear_weight *w = few_weight(e->prog);
    bool whole = few_leaves_much(e, work);
    uint64_t n_computed = 0, saved = (uint64_t)f->n_made * bytes_less(w);
    for (uint32_t i = 0; i < e->prog->n_threads; i++) {
        n_computed += few_member_of(work, i)->n_computed;
    }
    saved -= n_computed * w->row_bytes < saved ? n_computed * w->row_bytes : saved;
    f->counts.n_screened++;
    f->counts.n_whole += whole;
    f->counts.n_computed += n_computed;
    f->counts.n_bytes_saved += whole ? 0 : saved;
    f->n_paid += !whole;
    f->debt = whole ? f->debt + WHOLE_COSTS : f->debt ? f->debt - 1 : 0;
    if (f->debt >= DEBT_MOST) {
        f->debt = 0;
        f->pause = PAUSE;
    }
}

void few_done(const exec *e)
{
    screen_few *f = e->prog->few;
    if (e->few.learns && ++f->n_learnt == LEARN_PASSES) {
        few_squares(f->sums, few_weight(e->prog)->n_in, f->squares);
    }
    uint64_t n_bytes;
    few_work work = few_place(e, e->few_memory, &n_bytes);
    if (e->few.screens) {
        count_screened(e, &work);
    }
    if (e->few.reads && (f->embeds || f->n_made < few_weight(e->prog)->n_out)) {
        give_back(e, 0, f->n_made);
    }
    if (e->few.n_make) {
        made(e, &work);
    }
}

few_counts few_count(const program *prog)
{
    few_counts counts = prog->few ? prog->few->counts : (few_counts){0};
    if (prog->few && !prog->few->off) {
        counts.n_made = prog->few->n_made;
        counts.prepares = counts.n_made < few_weight(prog)->n_out;
        counts.n_bytes_kept = prog->few->memory ? prog->few->room : 0;
    }
    return counts;
}

/* ---- reading them ---- */

static uint32_t strip_rows(const linear_weight *w)
{
    uint32_t n = (uint32_t)(STRIP_BYTES / w->row_bytes / LINEAR_ROW_GRAIN * LINEAR_ROW_GRAIN);
    return n ? n : LINEAR_ROW_GRAIN;
}

size_t few_strip_bytes(const program *prog)
{
    if (!prog->few) {
        return 0;
    }
    const linear_weight *w = few_weight(prog);
    size_t joined = strip_rows(w) * w->row_bytes, input = halves_input_bytes(w->n_in);
    return aligned(joined > input ? joined : input);
}

/* Rows [begin, end) as they are in the file, then multiplied as those are. */
static void join_rows(const screen_few *f, const linear_kernels *k, const linear_weight *weight,
                      const linear_input *input, const linear_output *output, uint32_t begin, uint32_t end,
                      uint8_t *strip, void *scratch)
{
    size_t upper = halves_upper_bytes(weight->n_in), lower = halves_lower_bytes(weight->n_in);
    for (uint32_t first = begin, last; first < end; first = last) {
        last = end - first < strip_rows(weight) ? end : first + strip_rows(weight);
        for (uint32_t i = first; i < last; i++) {
            f->kernels.join(f->upper + i * upper, f->lower + i * lower, weight->n_in,
                            strip + (i - first) * weight->row_bytes);
        }
        linear_weight w = *weight;
        linear_output out = *output;
        w.data = strip;
        w.n_out = last - first;
        w.soon = (linear_soon){.rows = strip, .row_bytes = w.row_bytes, .n_rows = 1}; /* nothing that must be fetched */
        out.dst += first;
        linear_rows(k, &w, input, &out, 0, w.n_out, scratch);
    }
}

void few_rows(const exec *e, const linear_kernels *k, const linear_weight *weight, const linear_input *input,
              const linear_output *output, uint32_t begin, uint32_t end, void *private)
{
    const screen_few *f = e->prog->few;
    uint32_t n_made = e->few.reads ? f->n_made : 0, made_end = end < n_made ? end : n_made;
    uint8_t *strip = (uint8_t *)private + e->private_strip;
    if (begin < made_end && input->n_tokens == 1 && input->format == LINEAR_Q16 && made_end - begin > ONE_LEAST) {
        halves_input x = halves_input_make(input, strip);
        f->kernels.wholes(f->upper + begin * halves_upper_bytes(weight->n_in),
                          f->lower + begin * halves_lower_bytes(weight->n_in), weight->n_in, made_end - begin, &x,
                          output->dst + begin);
    } else if (begin < made_end) {
        join_rows(f, k, weight, input, output, begin, made_end, strip, private);
    }
    begin = begin < made_end ? made_end : begin;
    if (begin < end) {
        linear_rows(k, weight, input, output, begin, end, private);
    }
}
