/*
 * Adapters bound to a model's plan.
 * Owner: see adapter.h. Lifetime: the adapter's.
 */
#include "graph/adapter.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

typedef struct binding {
    const graph *g;
    const model_file *model;
    const adapter_file *file;
    region *memory;
    graph_adapter *out;
    bool **seen;                  /* [n_products][n_expert] whose part is there; NULL: nobody's */
    uint64_t n_numbers, n_room;   /* of experts' matrices: what the file has, and what they get room for */
    const adapter_target *widest; /* the one that asked for the most more room */
    uint64_t most;
    mlxr_error *error;
} binding;

adapter_model graph_adapter_model(const hparams *h)
{
    return (adapter_model){.arch = h->fam->name,
                           .n_layers = h->n_layers,
                           .n_expert = h->n_expert,
                           .n_expert_in = hparams_expert_in(h),
                           .n_ff_expert = h->n_ff_expert,
                           .ungated = h->fam->ungated};
}

/* ---- names and rows ---- */

/* A number of one to six digits, and nothing else than those; what is behind it. NULL: there is none. */
static const char *read_digits(const char *text, uint32_t *out)
{
    size_t n = strspn(text, "0123456789");
    *out = 0;
    for (size_t i = 0; i < n && n <= 6; i++) {
        *out = 10 * *out + (uint32_t)(text[i] - '0');
    }
    return n >= 1 && n <= 6 ? text + n : NULL;
}

bool graph_adapter_experts(const char *name, adapter_experts *out)
{
    static const struct {
        const char *part;
        bool of[3];
    } parts[] = {{"gate_up", {true, true, false}},
                 {"gate", {true, false, false}},
                 {"up", {false, true, false}},
                 {"down", {false, false, true}}};
    static const char block[] = "blk.", mlp[] = ".ffn_";
    const char *at = strncmp(name, block, sizeof block - 1) == 0 ? read_digits(name + sizeof block - 1, &out->layer)
                                                                 : NULL;
    if (!at || strncmp(at, mlp, sizeof mlp - 1) != 0) {
        return false;
    }
    at += sizeof mlp - 1;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t n = strlen(parts[i].part);
        if (strncmp(at, parts[i].part, n) != 0) {
            continue;
        }
        const char *end = at + n, *behind = *end == '.' ? read_digits(end + 1, &out->expert) : NULL;
        bool one = behind && strcmp(behind, ".weight") == 0;
        if (one || strcmp(end, "_exps.weight") == 0) {
            out->expert = one ? out->expert : UINT32_MAX;
            memcpy(out->of, parts[i].of, sizeof out->of);
            return true;
        }
    }
    return false;
}

uint64_t graph_adapter_expert_row(const adapter_target *t, const adapter_experts *x, uint32_t part, uint64_t row)
{
    if (!x->of[0] || !x->of[1]) {
        return row;
    }
    return t->zipped ? 2 * row + part : part * (t->n_out / 2) + row;
}

bool graph_adapter_fits(const adapter_target *t, const adapter_experts *x, uint32_t n_expert, uint64_t n_in,
                        uint64_t n_ff)
{
    uint64_t wide = x->of[0] && x->of[1] ? 2 * n_ff : n_ff;
    bool all = x->expert == UINT32_MAX;
    return (all || x->expert < n_expert) && t->n == (all ? n_expert : 1) && t->n_in == (x->of[2] ? n_ff : n_in) &&
           t->n_out == (x->of[2] ? n_in : wide);
}

uint64_t graph_adapter_row(const hparams *h, bool model_halves, bool adapter_halves, const char *name, uint64_t row)
{
    if (h->fam->qkv_by_heads && text_ends_with(name, ".attn_qkv.weight") && model_halves != adapter_halves) {
        /* rows of one head's Q, K and V side by side, or all of Q first: two orders of the same heads */
        uint64_t size = h->head_dim, head = row / size, n_inner = adapter_halves ? h->n_head : 3,
                 n_outer = adapter_halves ? 3 : h->n_head;
        return (head % n_inner * n_outer + head / n_inner) * size + row % size;
    }
    bool q = text_ends_with(name, ".attn_q.weight"), k = text_ends_with(name, ".attn_k.weight");
    bool differ = h->fam->gguf_rope == ROPE_PAIRS && !h->fam->safetensors_keep_pairs;
    if ((!q && !k) || !differ || model_halves == adapter_halves) {
        return row;
    }
    uint64_t head = row / h->head_dim * h->head_dim, at = row % h->head_dim, half = h->n_rot / 2;
    if (at >= h->n_rot) {
        return row;
    }
    return head + (adapter_halves ? at / 2 + at % 2 * half : at % half * 2 + at / half);
}

/* One that is not would reach sequences that do not have the adapter, where a backend computes their rows together. */
static bool all_finite(const float *x, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
    }
    return finite;
}

static mlxr_status check_finite(const binding *b, const adapter_target *t, const float *x, size_t n)
{
    return all_finite(x, n) ? MLXR_OK
                            : error_set(b->error, MLXR_FORMAT,
                                        "the adapter's matrices for '%s' hold numbers that are not finite", t->name);
}

/* Makes room for n matrices of a product. */
static mlxr_status open_product(const binding *b, adapter_product *p, uint32_t rank, uint64_t n_in, uint64_t n_out,
                                uint64_t n, float **a, float **down)
{
    *a = region_array(b->memory, (size_t)(n * n_in) * rank, sizeof **a);
    *down = region_array(b->memory, (size_t)(n * n_out) * rank, sizeof **down);
    if (!*a || !*down) {
        return error_nomem(b->error, "adapter", (size_t)(n * (n_in + n_out)) * rank * sizeof **a);
    }
    *p = (adapter_product){.rank = rank, .a = *a, .b = *down};
    b->out->n_bytes += n * (n_in + n_out) * rank * sizeof **a;
    return MLXR_OK;
}

/* The product's part of a target; `first`: its first row in the whole matrix. */
static mlxr_status bind_product(const binding *b, const adapter_target *t, uint64_t first, uint64_t n_out,
                                adapter_product *p)
{
    float *a = NULL, *down = NULL, *row = region_array(b->memory, t->rank, sizeof *row);
    mlxr_status status = row ? open_product(b, p, t->rank, t->n_in, n_out, 1, &a, &down)
                             : error_nomem(b->error, "adapter", t->rank * sizeof *row);
    if (status != MLXR_OK) {
        return status;
    }
    adapter_target_a(t, 0, a);
    for (uint64_t i = 0; i < n_out; i++) {
        uint64_t from = graph_adapter_row(&b->g->h, b->model->rope_halves, b->file->halves, t->name, first + i);
        if (from >= t->n_out) {
            return error_set(b->error, MLXR_FORMAT, "the adapter changes '%s', whose %llu rows are no whole heads",
                             t->name, (unsigned long long)t->n_out);
        }
        adapter_target_b(t, 0, from, row);
        for (uint32_t r = 0; r < t->rank; r++) {
            down[r * n_out + i] = row[r] * t->scale;
        }
    }
    status = check_finite(b, t, a, (size_t)t->n_in * t->rank);
    return status == MLXR_OK ? check_finite(b, t, down, (size_t)n_out * t->rank) : status;
}

static mlxr_status refuse_twice(const binding *b, const adapter_target *t)
{
    return error_set(b->error, MLXR_FORMAT, "the adapter changes '%s' twice", t->name);
}

static mlxr_status refuse_unknown(const binding *b, const adapter_target *t)
{
    return error_set(b->error, MLXR_UNSUPPORTED,
                     "the adapter changes '%s', which no matrix product of this model is made with", t->name);
}

/* How many products of the plan with adapters an operation stands for. */
static uint32_t products_of(const op *o)
{
    return o->kind == OP_EXPERTS ? 3 : o->kind == OP_LINEAR || o->kind == OP_EMBED;
}

/* ---- matrices ---- */

/* The matrix of the model that a target changes: an output matrix that is the embedding is known by the name it would
 * have by itself, and has an adapter of its own. */
static const tensor *matrix_of(const binding *b, const adapter_target *t, op_kind *kind)
{
    const model_weights *w = &b->g->weights;
    const tensor *whole = model_file_tensor(b->model, t->name);
    *kind = whole && (whole == w->embedding || whole == w->layer_embedding) ? OP_EMBED : OP_LINEAR;
    return !whole && w->output == w->embedding && strcmp(t->name, "output.weight") == 0 ? w->output : whole;
}

static mlxr_status bind_matrix(const binding *b, const adapter_target *t)
{
    const plan *p = &b->g->plan;
    op_kind kind;
    const tensor *whole = matrix_of(b, t, &kind);
    uint32_t number = 0, n_found = 0;
    uint64_t n_in = !whole ? 0 : whole->shape[kind == OP_EMBED], n_out = !whole ? 0 : whole->shape[kind != OP_EMBED];
    if (whole && (t->n_in != n_in || t->n_out != n_out || t->n != 1)) {
        return error_set(b->error, MLXR_FORMAT, "the adapter changes '%s' as [%llu, %llu]; the model has [%llu, %llu]",
                         t->name, (unsigned long long)t->n_in, (unsigned long long)t->n_out, (unsigned long long)n_in,
                         (unsigned long long)n_out);
    }
    for (uint32_t i = 0; whole && i < p->n_ops; number += products_of(&p->ops[i++])) {
        const op *o = &p->ops[i];
        adapter_product *product = &b->out->products[number];
        if (o->kind != kind || strcmp(o->weight->name, whole->name) != 0) {
            continue;
        }
        uint64_t first = (uint64_t)((const uint8_t *)o->weight->data - (const uint8_t *)whole->data) / whole->row_bytes;
        mlxr_status status = product->rank ? refuse_twice(b, t) : bind_product(b, t, first, o->width, product);
        if (status != MLXR_OK) {
            return status;
        }
        n_found++;
    }
    return n_found ? MLXR_OK : refuse_unknown(b, t);
}

/* ---- experts ---- */

/* A target's operation, and the number of its gate's product. NULL: there is none. */
static const op *experts_op(const binding *b, uint32_t layer, uint32_t *number)
{
    const plan *p = &b->g->plan;
    *number = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_EXPERTS && p->ops[i].layer == layer) {
            return &p->ops[i];
        }
        *number += products_of(&p->ops[i]);
    }
    return NULL;
}

/* Every expert has room for a product's largest rank; a file of few and high ones must not fill the memory. */
#define ROOM_TIMES 8
#define ROOM_FREE ((uint64_t)256 << 20) /* bytes; what is less does no harm */

static void measure_part(binding *b, const adapter_target *t, adapter_product *p, uint64_t n_out, uint32_t n_expert)
{
    uint64_t each = t->n_in + n_out, own = each * t->rank * t->n;
    uint64_t more = t->rank > p->rank ? each * (t->rank - p->rank) * n_expert : 0;
    b->n_numbers += own;
    b->n_room += more;
    if (more > own && more - own > b->most) {
        b->most = more - own;
        b->widest = t;
    }
    p->rank = t->rank > p->rank ? t->rank : p->rank;
}

static mlxr_status check_room(const binding *b)
{
    uint64_t wanted = b->n_room * sizeof(float), held = b->n_numbers * sizeof(float);
    if (wanted <= ROOM_FREE || wanted / ROOM_TIMES <= held) {
        return MLXR_OK;
    }
    return error_set(b->error, MLXR_UNSUPPORTED,
                     "the adapter changes '%s' with a rank of %u: with that for every expert its %llu MiB would be "
                     "%llu MiB; merge it into the model instead",
                     b->widest->name, b->widest->rank, (unsigned long long)(held >> 20),
                     (unsigned long long)(wanted >> 20));
}

/* Notes the largest rank of each product: experts may have different ones, and what is missing stays 0. */
static mlxr_status measure_experts(binding *b, const adapter_target *t, const adapter_experts *x)
{
    uint32_t number;
    const op *o = experts_op(b, x->layer, &number);
    if (!o || (x->of[0] && !o->experts->gate)) {
        return refuse_unknown(b, t);
    }
    const op_experts *e = o->experts;
    if (!graph_adapter_fits(t, x, e->n_expert, e->n_in, e->n_ff)) {
        return error_set(b->error, MLXR_FORMAT,
                         "the adapter changes '%s' as %u of [%llu, %llu]; the model has %u experts of [%u, %u]",
                         t->name, t->n, (unsigned long long)t->n_in, (unsigned long long)t->n_out, e->n_expert, e->n_in,
                         e->n_ff);
    }
    uint64_t n_out = x->of[0] && x->of[1] ? t->n_out / 2 : t->n_out;
    for (uint32_t part = 0; part < 3; part++) {
        if (x->of[part]) {
            measure_part(b, t, &b->out->products[number + part], n_out, e->n_expert);
        }
    }
    return MLXR_OK;
}

/* One expert's factors of a product that has n of them. */
static mlxr_status bind_expert(const binding *b, const adapter_target *t, const adapter_experts *x, uint32_t part,
                               uint32_t expert, const adapter_product *p, uint64_t n_out)
{
    float *a = (float *)(uintptr_t)p->a + (size_t)expert * p->rank * t->n_in, row[ADAPTER_RANK_MAX];
    float *down = (float *)(uintptr_t)p->b + (size_t)expert * p->rank * n_out;
    adapter_target_a(t, x->expert == UINT32_MAX ? expert : 0, a);
    for (uint64_t i = 0; i < n_out; i++) {
        adapter_target_b(t, x->expert == UINT32_MAX ? expert : 0, graph_adapter_expert_row(t, x, part, i), row);
        for (uint32_t r = 0; r < t->rank; r++) {
            down[r * n_out + i] = row[r] * t->scale;
        }
    }
    mlxr_status status = check_finite(b, t, a, (size_t)t->n_in * t->rank);
    return status == MLXR_OK ? check_finite(b, t, down, (size_t)n_out * t->rank) : status;
}

static mlxr_status bind_part(const binding *b, const adapter_target *t, const adapter_experts *x, uint32_t part,
                             uint32_t number, uint32_t n_expert)
{
    adapter_product *p = &b->out->products[number];
    uint64_t n_out = x->of[0] && x->of[1] ? t->n_out / 2 : t->n_out;
    mlxr_status status = MLXR_OK;
    if (!b->seen[number]) {
        float *a = NULL, *down = NULL;
        b->seen[number] = region_array(b->memory, n_expert, sizeof *b->seen[number]);
        status = b->seen[number] ? open_product(b, p, p->rank, t->n_in, n_out, n_expert, &a, &down)
                                 : error_nomem(b->error, "adapter", n_expert);
    }
    bool all = x->expert == UINT32_MAX;
    for (uint32_t e = all ? 0 : x->expert; status == MLXR_OK && e < (all ? n_expert : x->expert + 1); e++) {
        bool *seen = &b->seen[number][e];
        status = *seen ? refuse_twice(b, t) : bind_expert(b, t, x, part, e, p, n_out);
        *seen = true;
    }
    return status;
}

static mlxr_status bind_experts_target(const binding *b, const adapter_target *t, const adapter_experts *x)
{
    uint32_t number;
    const op *o = experts_op(b, x->layer, &number);
    mlxr_status status = MLXR_OK;
    for (uint32_t part = 0; part < 3 && status == MLXR_OK; part++) {
        status = x->of[part] ? bind_part(b, t, x, part, number + part, o->experts->n_expert) : MLXR_OK;
    }
    return status;
}

mlxr_status graph_adapter_form_fits(const hparams *h, bool model_halves, bool adapter_halves, mlxr_error *error)
{
    if (!h->fam->mixer_beside || model_halves == adapter_halves) {
        return MLXR_OK;
    }
    return error_set(error, MLXR_UNSUPPORTED,
                     "an adapter %s for a %s model %s: weights in GGUF are multiplied by the model's multipliers; use "
                     "the model in the adapter's form",
                     adapter_halves ? "in PEFT's form" : "in GGUF", h->fam->name,
                     model_halves ? "in safetensors" : "in GGUF");
}

mlxr_status graph_adapter_bind(graph_adapter *out, const graph *g, const model_file *model, const adapter_file *file,
                               region *memory, mlxr_error *error)
{
    graph_adapter made = {0};
    binding b = {.g = g, .model = model, .file = file, .memory = memory, .out = &made, .error = error};
    for (uint32_t i = 0; i < g->plan.n_ops; i++) {
        made.n_products += products_of(&g->plan.ops[i]);
    }
    made.products = region_array(memory, made.n_products, sizeof *made.products);
    b.seen = region_array(memory, made.n_products, sizeof *b.seen);
    if (!made.products || !b.seen) {
        return error_nomem(error, "adapter", made.n_products * sizeof *made.products);
    }
    mlxr_status status = graph_adapter_form_fits(&g->h, model->rope_halves, file->halves, error);
    for (uint32_t i = 0; i < 2 * file->n_targets && status == MLXR_OK; i++) {
        const adapter_target *t = &file->targets[i % file->n_targets];
        adapter_experts x;
        bool experts = graph_adapter_experts(t->name, &x), first = i < file->n_targets;
        if (i == file->n_targets) {
            status = check_room(&b);
        }
        if (status != MLXR_OK) {
            break;
        }
        if (experts) {
            status = first ? measure_experts(&b, t, &x) : bind_experts_target(&b, t, &x);
        } else if (first) {
            status = bind_matrix(&b, t);
        }
    }
    if (status == MLXR_OK) {
        *out = made;
    }
    return status;
}

static op adapt_behind(const op *o, uint32_t product)
{
    bool embeds = o->kind == OP_EMBED;
    return (op){.kind = OP_ADAPT,
                .layer = o->layer,
                .dst = o->dst,
                .src = embeds ? SLOT_NONE : o->src,
                .width = o->width,
                .weight = o->weight,
                .scale = embeds ? o->scale : 1,
                .product = product};
}

const plan *graph_adapted_plan(const plan *p, region *memory)
{
    plan *made = region_array(memory, 1, sizeof *made);
    op *ops = region_array(memory, 2 * (size_t)p->n_ops, sizeof *ops);
    uint32_t n = 0, number = 0;
    if (!made || !ops) {
        return NULL;
    }
    for (uint32_t i = 0; i < p->n_ops; number += products_of(&p->ops[i++])) {
        const op *o = &p->ops[i];
        ops[n++] = *o;
        if (o->kind == OP_EXPERTS) {
            op_experts *x = region_array(memory, 1, sizeof *x);
            if (!x) {
                return NULL;
            }
            *x = *o->experts;
            x->adapts = true;
            x->product = number;
            ops[n - 1].experts = x;
        } else if (products_of(o)) {
            ops[n++] = adapt_behind(o, number);
        }
    }
    *made = *p;
    made->n_mapped = 0; /* the weights' own plan may lay them; twice would be a second copy */
    made->ops = ops;
    made->n_ops = n;
    return made;
}
