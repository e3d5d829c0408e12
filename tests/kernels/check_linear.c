/*
 * Linear layers: every type × instruction set against plain loops in double on the same packed input; bitwise
 * independence of batch and row range; nothing written or read outside; NaN kept.
 * Owner: none. Lifetime: the program.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkkernels.h"
#include "kernels/cpu/linear_panels.h"
#include "quant/codec.h"
#include "quant/codec_table.h"
#include "quant/half.h"
#include "weights.h"

void check_linear_bench(check *c);

/* |error| ≤ (bound_fixed + bound_steps × float operations in the chain) × eps × Σ |terms|: rounding of the scales'
 * product and of each addition, as a worst case; half an eps each. */
static const double bound_fixed = 4.0, bound_steps = 0.5;

typedef struct problem {
    dtype type;
    uint32_t n_in, n_out, n_tokens;
    size_t row_bytes;
    check_memory weights, input, output, scratch;
    float *x;      /* [n_tokens][n_in] */
    float *bias;   /* [n_out] or NULL */
    float *before; /* the output's memory before */
    size_t stride;
    linear_weight weight;
    linear_input packed;
} problem;

static void *get(size_t n_bytes)
{
    void *p = malloc(n_bytes ? n_bytes : 1);
    if (!p) {
        fprintf(stderr, "checkkernels: out of memory\n");
        exit(1);
    }
    return p;
}

static void pack_all(problem *p, const linear_kernels *kernels)
{
    for (uint32_t t = 0; t < p->n_tokens; t++) {
        linear_pack(kernels, &p->packed, t, p->x + (size_t)t * p->n_in);
    }
}

/* x[n], each ±1: all words of a block are then as great as they get. */
typedef enum signs { SIGNS_PLUS, SIGNS_MINUS, SIGNS_ALTERNATE, SIGNS_OF_PAIRS, SIGNS_COUNT } signs;

static void fill_signs(signs kind, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool minus = kind == SIGNS_MINUS || (kind == SIGNS_ALTERNATE && i % 2) || (kind == SIGNS_OF_PAIRS && i / 2 % 2);
        x[i] = minus ? -1.0f : 1.0f;
    }
}

static problem problem_make(check *c, const linear_kernels *kernels, dtype type, uint32_t n_in, uint32_t n_out,
                            uint32_t n_tokens, weights_kind kind)
{
    problem p = {.type = type, .n_in = n_in, .n_out = n_out, .n_tokens = n_tokens};
    p.row_bytes = dtype_row_bytes(type, n_in);
    p.weights = check_alloc(p.row_bytes * n_out, check_below(c, 2));
    weights_fill(c, type, kind, p.weights.bytes, (size_t)n_in * n_out);
    p.weight = (linear_weight){
        .data = p.weights.bytes, .row_bytes = p.row_bytes, .type = type, .n_in = n_in, .n_out = n_out};
    p.x = get((size_t)n_tokens * n_in * sizeof(float));
    bool spiky = check_below(c, 4) == 0, holes = check_below(c, 4) == 0;
    for (size_t i = 0; i < (size_t)n_tokens * n_in; i++) {
        p.x[i] = check_normal(c) * (spiky && check_below(c, 50) == 0 ? 300.0f : 1.0f);
        p.x[i] = holes && (i / 32 % 3) ? 0.0f : p.x[i];
    }
    linear_format format = linear_format_for(kernels, type, n_tokens);
    p.input = check_alloc(linear_input_bytes(format, n_tokens, n_in), false);
    p.packed = linear_input_make(format, n_tokens, n_in, p.input.bytes);
    p.stride = n_out + check_below(c, 3);
    p.output = check_alloc(((size_t)(n_tokens - 1) * p.stride + n_out) * sizeof(float), true);
    p.before = get(p.output.n_bytes);
    p.scratch = check_alloc(linear_scratch_bytes(n_in), false);
    memset(p.scratch.bytes, 0xff, p.scratch.n_bytes); /* floats from here would be NaN */
    if (check_below(c, 2)) {
        p.bias = get(n_out * sizeof(float));
        for (uint32_t i = 0; i < n_out; i++) {
            p.bias[i] = check_normal(c);
        }
    }
    pack_all(&p, kernels);
    return p;
}

static void problem_close(problem *p)
{
    check_free(&p->weights);
    check_free(&p->input);
    check_free(&p->output);
    check_free(&p->scratch);
    free(p->x);
    free(p->bias);
    free(p->before);
}

/* What the packed input stands for. */
static void unpack_token(const linear_input *in, uint32_t token, double *x)
{
    for (uint32_t k = 0; k < in->n_in; k++) {
        if (in->format == LINEAR_F32) {
            x[k] = (double)((const float *)in->data)[token * in->stride + k];
        } else if (in->format == LINEAR_BF16) {
            x[k] = (double)bf16_to_float(((const uint16_t *)in->data)[token * in->stride + k]);
        } else {
            static const uint32_t place[4] = {0, 2, 1, 3}; /* of words */
            q16_place at = q16_find(in, token);
            float unit;
            int16_t word = 0;
            const uint8_t *of_block = at.q + k / Q16_BLOCK * at.record, *digits = of_block + k % Q16_BLOCK;
            memcpy(&unit, at.words + k / Q16_BLOCK * at.record + Q16_UNIT * at.word, sizeof unit);
            if (in->format == LINEAR_Q16) {
                word = (int16_t)(256 * (int8_t)digits[0] + (int8_t)digits[Q16_BLOCK]);
            } else if (in->format == LINEAR_Q8) {
                word = (int8_t)digits[0];
            } else {
                memcpy(&word, of_block + 2 * (k % Q16_BLOCK / 4 * 4 + place[k % 4]), sizeof word);
            }
            x[k] = (double)unit * word;
        }
    }
}

/* By how much rounding 32 weights to words can change their sum with x: half a unit each. The unit lets magnitudes add
 * up to 131,000, the largest be 32,767. */
static double word_error(const float *w, const double *x)
{
    double largest = 0, weights = 0, inputs = 0;
    for (uint32_t k = 0; k < Q16_BLOCK; k++) {
        largest = fmax(largest, fabs((double)w[k]));
        weights += fabs((double)w[k]);
        inputs += fabs(x[k]);
    }
    return 0.5 * inputs * fmax(largest / 32767, weights / 131000);
}

static void fill_output(check *c, problem *p, bool add, uint32_t begin, uint32_t end)
{
    float *dst = (float *)(void *)p->output.bytes;
    for (size_t i = 0; i < p->output.n_bytes / sizeof(float); i++) {
        uint32_t column = (uint32_t)(i % p->stride);
        dst[i] = add && column >= begin && column < end ? check_normal(c) : check_canary();
    }
    memcpy(p->before, dst, p->output.n_bytes);
}

static void compare(check *c, const problem *p, bool add, uint32_t begin, uint32_t end)
{
    const float *dst = (const float *)(const void *)p->output.bytes;
    double *x = get((size_t)p->n_tokens * p->n_in * sizeof(double));
    float *w = get(p->n_in * sizeof(float)), *magnitude = get(p->n_in * sizeof(float));
    double worst = 0.0;
    bool inside = true;
    for (uint32_t t = 0; t < p->n_tokens; t++) {
        unpack_token(&p->packed, t, x + (size_t)t * p->n_in);
    }
    for (uint32_t row = 0; row < p->n_out; row++) {
        codec_decode(p->type, p->weights.bytes + row * p->row_bytes, w, p->n_in);
        weights_magnitude(p->type, p->weights.bytes + row * p->row_bytes, magnitude, p->n_in);
        for (uint32_t t = 0; t < p->n_tokens; t++) {
            float value = dst[t * p->stride + row], old = p->before[t * p->stride + row];
            if (row < begin || row >= end) {
                inside = inside && check_is_canary(value);
                continue;
            }
            double sum = p->bias ? (double)p->bias[row] : 0.0;
            sum += add ? (double)old : 0.0;
            double terms = fabs(sum) + (add && p->bias ? fabs((double)old) + fabs((double)p->bias[row]) : 0.0);
            for (uint32_t k = 0; k < p->n_in; k++) {
                sum += (double)w[k] * x[(size_t)t * p->n_in + k];
                terms += (double)magnitude[k] * fabs(x[(size_t)t * p->n_in + k]);
            }
            bool floats = dtype_find(p->type)->block_size == 1 ||
                          (codec_table_has(p->type) && p->packed.format == LINEAR_F32);
            double steps = floats ? (double)p->n_in : (double)p->n_in / 8;
            double bound = (bound_fixed + bound_steps * steps) * 0x1p-23 * terms + 1e-30;
            for (uint32_t k = 0; k < p->n_in && p->packed.format == LINEAR_W15; k += Q16_BLOCK) {
                bound += word_error(w + k, x + (size_t)t * p->n_in + k);
            }
            double ratio = fabs((double)value - sum) / bound;
            worst = check_worse(worst, ratio);
        }
    }
    check_result(c, worst <= 1.0, "%s %u → %u, %u tokens, rows %u … %u%s%s: error %.3g × the bound",
                 dtype_name(p->type), p->n_in, p->n_out, p->n_tokens, begin, end, p->bias ? ", bias" : "",
                 add ? ", add" : "", worst);
    check_result(c, inside, "%s %u → %u, %u tokens: wrote outside rows %u … %u", dtype_name(p->type), p->n_in, p->n_out,
                 p->n_tokens, begin, end);
    free(x);
    free(w);
    free(magnitude);
}

static linear_output output_of(problem *p, bool add)
{
    return (linear_output){.dst = (float *)(void *)p->output.bytes, .stride = p->stride, .bias = p->bias, .add = add};
}

static void matches_plain_loops(check *c, const linear_kernels *kernels, problem *p)
{
    bool add = check_below(c, 2);
    uint32_t begin = check_below(c, 3) ? 0 : check_below(c, p->n_out);
    uint32_t end = check_below(c, 3) ? p->n_out : begin + check_below(c, p->n_out - begin + 1);
    fill_output(c, p, add, begin, end);
    linear_output out = output_of(p, add);
    linear_rows(kernels, &p->weight, &p->packed, &out, begin, end, p->scratch.bytes);
    compare(c, p, add, begin, end);
}

/* What is fetched meanwhile changes no bit, wherever it lies: rows of another length, none, the last before a page that
 * nobody may read, bytes that do not exist. */
static void same_bits_whatever_comes_soon(check *c, const linear_kernels *kernels, problem *p)
{
    const size_t row_bytes = 1 + check_below(c, 3000);
    const uint32_t n_rows = check_below(c, 70), least = n_rows ? n_rows : 1;
    check_memory rows = check_alloc(row_bytes * least, true);
    const linear_soon soons[] = {
        {.rows = rows.bytes, .row_bytes = row_bytes, .n_rows = n_rows},
        {.rows = NULL, .row_bytes = row_bytes, .n_rows = n_rows},
        {.rows = rows.bytes + rows.n_bytes - 1, .row_bytes = row_bytes, .n_rows = n_rows},
        {.rows = rows.bytes, .row_bytes = p->row_bytes, .n_rows = UINT32_MAX},
    };
    fill_output(c, p, false, 0, p->n_out);
    linear_output out = output_of(p, false);
    linear_rows(kernels, &p->weight, &p->packed, &out, 0, p->n_out, p->scratch.bytes);
    float *first = get(p->output.n_bytes);
    memcpy(first, p->output.bytes, p->output.n_bytes);
    linear_weight weight = p->weight;
    weight.soon = soons[check_below(c, sizeof soons / sizeof *soons)];
    memcpy(p->output.bytes, p->before, p->output.n_bytes);
    linear_rows(kernels, &weight, &p->packed, &out, 0, p->n_out, p->scratch.bytes);
    check_result(c, memcmp(first, p->output.bytes, p->output.n_bytes) == 0,
                 "%s %u → %u, %u tokens: differs with %u rows of %zu bytes to come", dtype_name(p->type), p->n_in,
                 p->n_out, p->n_tokens, weight.soon.n_rows, weight.soon.row_bytes);
    check_free(&rows);
    free(first);
}

/* No token: nothing is written. */
static void none_gives_nothing(check *c, const linear_kernels *kernels, problem *p)
{
    linear_format format = linear_format_for(kernels, p->type, 0);
    linear_input none = linear_input_make(format, 0, p->n_in, p->input.bytes);
    fill_output(c, p, false, 0, p->n_out);
    linear_output out = output_of(p, false);
    linear_rows(kernels, &p->weight, &none, &out, 0, p->n_out, p->scratch.bytes);
    check_result(c, memcmp(p->before, p->output.bytes, p->output.n_bytes) == 0, "%s %u → %u: no token, but results",
                 dtype_name(p->type), p->n_in, p->n_out);
}

/* Every token alone, and the rows in two parts, give the same bits as all at once. */
static void same_bits_alone(check *c, const linear_kernels *kernels, problem *p)
{
    uint32_t cut = check_below(c, p->n_out + 1);
    fill_output(c, p, false, 0, p->n_out);
    linear_output out = output_of(p, false);
    linear_rows(kernels, &p->weight, &p->packed, &out, 0, p->n_out, p->scratch.bytes);
    float *alone = get(p->n_out * sizeof(float));
    linear_format format = linear_format_for(kernels, p->type, 1);
    check_memory input = check_alloc(linear_input_bytes(format, 1, p->n_in), false);
    bool same = true;
    for (uint32_t t = 0; t < p->n_tokens; t++) {
        linear_input one = linear_input_make(format, 1, p->n_in, input.bytes);
        linear_output to = {.dst = alone, .stride = p->n_out, .bias = p->bias};
        linear_pack(kernels, &one, 0, p->x + (size_t)t * p->n_in);
        linear_rows(kernels, &p->weight, &one, &to, 0, cut, p->scratch.bytes);
        linear_rows(kernels, &p->weight, &one, &to, cut, p->n_out, p->scratch.bytes);
        same = same && memcmp(alone, out.dst + t * p->stride, p->n_out * sizeof(float)) == 0;
    }
    check_result(c, same, "%s %u → %u: %u tokens differ from each alone, cut at row %u", dtype_name(p->type), p->n_in,
                 p->n_out, p->n_tokens, cut);
    check_free(&input);
    free(alone);
}

/* The products with int8 inputs are exact and their sums have one order: all instruction sets agree to the bit. */
static void same_bits_as_least_set(check *c, const linear_kernels *kernels, problem *p, bool rounded)
{
    linear_kernels least;
    linear_init(&least, c->features & (CPU_AVX2 | CPU_NEON));
    if (rounded) {
        linear_round(&least);
    }
    linear_format format = linear_format_for(&least, p->type, p->n_tokens);
    if (format < LINEAR_Q16 || least.rows[p->type] == kernels->rows[p->type]) {
        return;
    }
    fill_output(c, p, false, 0, p->n_out);
    linear_output out = output_of(p, false);
    linear_rows(kernels, &p->weight, &p->packed, &out, 0, p->n_out, p->scratch.bytes);
    float *first = get(p->output.n_bytes);
    memcpy(first, p->output.bytes, p->output.n_bytes);
    linear_input packed = p->packed;
    check_memory input = check_alloc(linear_input_bytes(format, p->n_tokens, p->n_in), false);
    p->packed = linear_input_make(format, p->n_tokens, p->n_in, input.bytes);
    pack_all(p, &least);
    linear_rows(&least, &p->weight, &p->packed, &out, 0, p->n_out, p->scratch.bytes);
    p->packed = packed;
    check_free(&input);
    check_result(c, memcmp(first, p->output.bytes, p->output.n_bytes) == 0, "%s %u → %u, %u tokens: differs from %s",
                 dtype_name(p->type), p->n_in, p->n_out, p->n_tokens, least.isa[p->type]);
    free(first);
}

/* Panels that are laid give the same bits, whatever their range, and nothing is read beyond them. */
static void same_bits_when_laid(check *c, const linear_kernels *kernels, problem *p)
{
    const uint32_t grain = LINEAR_ROW_GRAIN, n_panels = p->n_out / grain;
    if (!kernels->laid_rows[p->type] || p->n_out % grain) {
        return;
    }
    check_memory laid = check_alloc(p->weights.n_bytes, false);
    for (uint32_t row = 0; row < p->n_out; row += grain) {
        kernels->lay(p->type, p->weights.bytes + row * p->row_bytes, p->row_bytes, p->n_in,
                     laid.bytes + row * p->row_bytes);
    }
    uint32_t first_panel = check_below(c, n_panels), n_less = check_below(c, n_panels - first_panel);
    uint32_t begin = first_panel * grain, end = p->n_out - n_less * grain;
    fill_output(c, p, true, begin, end);
    linear_output out = output_of(p, true);
    linear_rows(kernels, &p->weight, &p->packed, &out, begin, end, p->scratch.bytes);
    float *first = get(p->output.n_bytes);
    memcpy(first, p->output.bytes, p->output.n_bytes);
    linear_weight weight = p->weight;
    weight.data = laid.bytes;
    weight.laid = true;
    memcpy(p->output.bytes, p->before, p->output.n_bytes);
    linear_rows(kernels, &weight, &p->packed, &out, begin, end, p->scratch.bytes);
    check_result(c, memcmp(first, p->output.bytes, p->output.n_bytes) == 0,
                 "%s %u → %u, %u tokens: laid rows %u … %u differ", dtype_name(p->type), p->n_in, p->n_out, p->n_tokens,
                 begin, end);
    check_free(&laid);
    free(first);
}

/* A NaN or infinity in one token makes all its results non-finite and leaves the other tokens alone. */
static void keeps_nan(check *c, const linear_kernels *kernels, problem *p)
{
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    uint32_t token = check_below(c, p->n_tokens);
    float *x = p->x + (size_t)token * p->n_in + check_below(c, p->n_in), old = *x;
    *x = bad[check_below(c, 4)];
    pack_all(p, kernels);
    fill_output(c, p, false, 0, p->n_out);
    linear_output out = output_of(p, false);
    linear_rows(kernels, &p->weight, &p->packed, &out, 0, p->n_out, p->scratch.bytes);
    bool kept = true, apart = true;
    for (uint32_t t = 0; t < p->n_tokens; t++) {
        for (uint32_t row = 0; row < p->n_out; row++) {
            bool finite = isfinite(out.dst[t * p->stride + row]);
            kept = kept && (t != token || !finite);
            apart = apart && (t == token || finite);
        }
    }
    check_result(c, kept, "%s %u → %u, %u tokens: NaN in token %u became finite", dtype_name(p->type), p->n_in,
                 p->n_out, p->n_tokens, token);
    check_result(c, apart, "%s %u → %u, %u tokens: NaN of token %u reached others", dtype_name(p->type), p->n_in,
                 p->n_out, p->n_tokens, token);
    *x = old;
    pack_all(p, kernels);
}

/* Integers as great as they get, of both signs: in every block crossed products (linear_words.h) leave 32 bits on their
 * way, as Σ x[2i] x[2i + 1] = ±16 × 32512² does, and no other sum may. Each number of tokens of a last tile in turn. */
static void greatest_words(check *c, const linear_kernels *kernels, dtype type, uint32_t grain, bool rounded)
{
    static const weights_kind kinds[] = {WEIGHTS_LOWEST, WEIGHTS_HIGHEST};
    for (uint32_t n_tokens = 1; n_tokens <= 16; n_tokens++) {
        for (uint32_t i = 0; i < 4 * SIGNS_COUNT; i++) {
            if (c->quick && (n_tokens + i / 4) % 4) {
                continue;
            }
            uint32_t n_out = i / 2 % 2 ? 33 : 48; /* the latter laid, too */
            problem p = problem_make(c, kernels, type, 3 * grain, n_out, n_tokens, kinds[i % 2]);
            fill_signs((signs)(i / 4), p.x, (size_t)n_tokens * p.n_in);
            pack_all(&p, kernels);
            matches_plain_loops(c, kernels, &p);
            same_bits_alone(c, kernels, &p);
            same_bits_as_least_set(c, kernels, &p, rounded);
            same_bits_when_laid(c, kernels, &p);
            problem_close(&p);
        }
    }
}

/* All checks of one type, whose rows have multiples of `grain` elements; `rounded`: the table is linear_round's. */
static void run_type(check *c, const linear_kernels *kernels, dtype id, uint32_t grain, bool rounded)
{
    /* Beyond eight, where some kernels begin, every number of tokens that a last tile can have. */
    static const uint32_t tokens[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                      13, 14, 15, 16, 18, 22, 24, 31, 32, 33, 65, 77};
    bool vector = strcmp(kernels->isa[id], "scalar") != 0, single = dtype_find(id)->block_size == 1;
    int n = c->quick ? (vector ? 24 : 3) : (vector ? 300 : 10);
    for (int i = 0; i < n; i++) {
        uint32_t n_blocks = 1 + check_below(c, grain == 1 ? 200 : grain != 32 ? 6 : check_below(c, 4) ? 40 : 100);
        uint32_t n_out = check_below(c, 4) ? 1 + check_below(c, 70) : 16 * (1 + check_below(c, 12));
        weights_kind kind = check_below(c, 2) ? WEIGHTS_RANDOM : (weights_kind)check_below(c, WEIGHTS_KIND_COUNT);
        problem p = problem_make(c, kernels, id, n_blocks * grain, n_out,
                                 tokens[check_below(c, sizeof tokens / sizeof *tokens)], kind);
        matches_plain_loops(c, kernels, &p);
        same_bits_alone(c, kernels, &p);
        same_bits_whatever_comes_soon(c, kernels, &p);
        none_gives_nothing(c, kernels, &p);
        same_bits_as_least_set(c, kernels, &p, rounded);
        same_bits_when_laid(c, kernels, &p);
        keeps_nan(c, kernels, &p);
        problem_close(&p);
    }
    if (!single) {
        greatest_words(c, kernels, id, grain, rounded);
    }
    if (vector && single) { /* several groups of rows, parts of k and tiles of many tokens */
        problem p = problem_make(c, kernels, id, 1120, 203, 29, WEIGHTS_RANDOM);
        matches_plain_loops(c, kernels, &p);
        same_bits_alone(c, kernels, &p);
        problem_close(&p);
    }
    if (vector && !c->quick) { /* several groups of panels, and one panel larger than the scratch of a group */
        problem p = problem_make(c, kernels, id, 2048, 200, 9, WEIGHTS_RANDOM);
        matches_plain_loops(c, kernels, &p);
        problem_close(&p);
        p = problem_make(c, kernels, id, 2048, 200, 77, WEIGHTS_RANDOM); /* which as many tokens meet in groups */
        matches_plain_loops(c, kernels, &p);
        same_bits_alone(c, kernels, &p);
        problem_close(&p);
        p = problem_make(c, kernels, id, 16384, 33, 9, WEIGHTS_RANDOM);
        matches_plain_loops(c, kernels, &p);
        same_bits_alone(c, kernels, &p);
        problem_close(&p);
    }
}

static void run_table(check *c, const linear_kernels *kernels, bool rounded)
{
    for (uint32_t id = 0; id < LINEAR_TYPES; id++) {
        const dtype_info *info = dtype_find(id);
        if (info && (!c->type || strcmp(c->type, info->name) == 0) &&
            strcmp(kernels->isa[id], c->set) == 0 && /* checked with the set it is from */
            (!rounded || kernels->rounded[id] != LINEAR_F32)) {
            run_type(c, kernels, (dtype)id, (uint32_t)info->block_size, rounded);
        }
    }
}

static void run_words(check *c)
{
    static const dtype types[] = {DTYPE_F32, DTYPE_F16};
    linear_kernels kernels;
    linear_init(&kernels, c->features);
    if (!linear_use_words(&kernels) || strcmp(kernels.word_isa, c->set) != 0) {
        return;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!c->type || strcmp(c->type, dtype_find(types[i])->name) == 0) {
            run_type(c, &kernels, types[i], Q16_BLOCK, false);
        }
    }
}

static const panel_kernel *panels_of(const char *set)
{
    static const struct {
        const char *set;
        const panel_kernel *panels;
    } all[] = {
#if defined(__x86_64__)
        {"avx2", linear_panels_avx2},
        {"avx-vnni", linear_panels_avxvnni},
        {"avx512-vnni", linear_panels_avx512vnni},
        {"avx512-adds", linear_panels_crossed_avx512vnni},
        {"amx", linear_panels_amx},
#elif defined(__aarch64__)
        {"neon", linear_panels_neon},
        {"dotprod", linear_panels_dotprod},
        {"i8mm", linear_panels_i8mm},
#endif
        {NULL, NULL}};
    size_t i = 0;
    while (all[i].set && strcmp(all[i].set, set) != 0) {
        i++;
    }
    return all[i].panels;
}

/* By which of its ways, a bit each, a kernel multiplies n tokens of this format. */
static uint32_t way_of(const panel_kernel *k, linear_format format, uint32_t n)
{
    if (n <= PANEL_DIRECT && format == LINEAR_Q16 && k->direct[n]) {
        return 1u << n;
    }
    if (n <= PANEL_DIRECT && format == LINEAR_Q8 && k->direct_rounded[n]) {
        return 1u << (8 + n);
    }
    return format == LINEAR_Q16 ? 1u << 16 : format == LINEAR_W16 || format == LINEAR_C16 ? 1u << 17 : 1u << 18;
}

static uint32_t ways_there(const panel_kernel *k)
{
    uint32_t ways = (k->digits.unpack ? 1u << 16 : 0) | (k->words.unpack ? 1u << 17 : 0) |
                    (k->digit.unpack ? 1u << 18 : 0);
    for (uint32_t n = 1; n <= PANEL_DIRECT; n++) {
        ways |= (k->direct[n] ? 1u << n : 0) | (k->direct_rounded[n] ? 1u << (8 + n) : 0);
    }
    return ways;
}

/* Another set's array serves few tokens, and all formats but LINEAR_C16 where many tokens meet that. */
static bool of_another(const linear_kernels *kernels, const panel_kernel *k, linear_format format, uint32_t type,
                       uint32_t n)
{
    return !k->direct[1] && (n <= LINEAR_FEW || (kernels->many[type] == LINEAR_C16 && format != LINEAR_C16));
}

/* Some number of tokens takes each function that a set has, in 16 bits or in 8, and none takes one that it has not. */
static void every_function_is_reached(check *c, const linear_kernels *exact, const linear_kernels *rounded)
{
    const panel_kernel *panels = panels_of(c->set);
    for (uint32_t type = 0; panels && type < LINEAR_TYPES; type++) {
        if (panels[type].rows && strcmp(exact->isa[type], c->set) == 0) {
            const panel_kernel *k = &panels[type];
            uint32_t there = ways_there(k), taken = 0;
            for (uint32_t n = 1; n <= 2 * LINEAR_FEW; n++) {
                linear_format a = linear_format_for(exact, (dtype)type, n);
                linear_format b = linear_format_for(rounded, (dtype)type, n);
                taken |= of_another(exact, k, a, type, n) ? 0 : way_of(k, a, n);
                taken |= of_another(exact, k, b, type, n) ? 0 : way_of(k, b, n);
            }
            check_result(c, taken == there, "%s: has functions %x, of which %x are reached, and takes %x it has not",
                         dtype_name((dtype)type), there, there & taken, taken & ~there);
        }
    }
}

static void run(check *c)
{
    linear_kernels kernels, rounded;
    linear_init(&kernels, c->features);
    run_table(c, &kernels, false);
    rounded = kernels;
    linear_round(&rounded);
    run_table(c, &rounded, true);
    every_function_is_reached(c, &kernels, &rounded);
    run_words(c);
}

const check_suite check_linear = {"linear", run, check_linear_bench, true};
