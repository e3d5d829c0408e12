/*
 * Adapters bound to a model's plan.
 * Owner: see adapter.h. Lifetime: the adapter's.
 */
#include "graph/adapter.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "quant/codec.h"

typedef struct binding {
    const graph *g;
    const model_file *model;
    const adapter_file *file;
    region *memory;
    graph_adapter *out;
    mlxr_error *error;
} binding;

uint64_t graph_adapter_row(const hparams *h, bool model_halves, bool adapter_halves, const char *name, uint64_t row)
{
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

/* The product's part of a target; `first`: its first row in the whole matrix. */
static mlxr_status bind_product(const binding *b, const adapter_target *t, const op *o, uint64_t first,
                                adapter_product *p)
{
    uint64_t n_in = o->weight->shape[0], n_out = o->weight->shape[1];
    float *a = region_array(b->memory, (size_t)n_in * t->rank, sizeof *a);
    float *down = region_array(b->memory, (size_t)n_out * t->rank, sizeof *down);
    float *row = region_array(b->memory, t->rank, sizeof *row);
    if (!a || !down || !row) {
        return error_nomem(b->error, "adapter", (size_t)(n_in + n_out) * t->rank * sizeof *a);
    }
    for (uint32_t r = 0; r < t->rank; r++) {
        codec_decode(t->a->type, (const uint8_t *)t->a->data + r * t->a->row_bytes, a + r * n_in, (size_t)n_in);
    }
    for (uint64_t i = 0; i < n_out; i++) {
        uint64_t from = graph_adapter_row(&b->g->h, b->model->rope_halves, b->file->halves, t->name, first + i);
        codec_decode(t->b->type, (const uint8_t *)t->b->data + from * t->b->row_bytes, row, t->rank);
        for (uint32_t r = 0; r < t->rank; r++) {
            down[r * n_out + i] = row[r] * t->scale;
        }
    }
    if (!all_finite(a, (size_t)n_in * t->rank) || !all_finite(down, (size_t)n_out * t->rank)) {
        return error_set(b->error, MLXR_FORMAT, "the adapter's matrices for '%s' hold numbers that are not finite",
                         t->name);
    }
    *p = (adapter_product){.rank = t->rank, .a = a, .b = down};
    b->out->n_bytes += (n_in + n_out) * t->rank * sizeof *a;
    return MLXR_OK;
}

static mlxr_status bind_target(const binding *b, const adapter_target *t)
{
    const plan *p = &b->g->plan;
    const tensor *whole = model_file_tensor(b->model, t->name);
    uint32_t number = 0, n_found = 0;
    bool embeds = whole && whole == b->g->weights.embedding;
    if (whole && (t->a->shape[0] != whole->shape[0] || t->b->shape[1] != whole->shape[1])) {
        return error_set(b->error, MLXR_FORMAT, "the adapter changes '%s' as [%llu, %llu]; the model has [%llu, %llu]",
                         t->name, (unsigned long long)t->a->shape[0], (unsigned long long)t->b->shape[1],
                         (unsigned long long)whole->shape[0], (unsigned long long)whole->shape[1]);
    }
    for (uint32_t i = 0; whole && !embeds && i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        if (o->kind != OP_LINEAR) {
            continue;
        }
        adapter_product *product = &b->out->products[number++];
        if (strcmp(o->weight->name, t->name) != 0) {
            continue;
        }
        uint64_t first = (uint64_t)((const uint8_t *)o->weight->data - (const uint8_t *)whole->data) / whole->row_bytes;
        if (product->rank) {
            return error_set(b->error, MLXR_FORMAT, "the adapter changes '%s' twice", t->name);
        }
        mlxr_status status = bind_product(b, t, o, first, product);
        if (status != MLXR_OK) {
            return status;
        }
        n_found++;
    }
    return n_found ? MLXR_OK
                   : error_set(b->error, MLXR_UNSUPPORTED,
                               "the adapter changes '%s', which no matrix product of this model is made with", t->name);
}

mlxr_status graph_adapter_bind(graph_adapter *out, const graph *g, const model_file *model, const adapter_file *file,
                               region *memory, mlxr_error *error)
{
    graph_adapter made = {0};
    binding b = {.g = g, .model = model, .file = file, .memory = memory, .out = &made, .error = error};
    for (uint32_t i = 0; i < g->plan.n_ops; i++) {
        made.n_products += g->plan.ops[i].kind == OP_LINEAR;
    }
    made.products = region_array(memory, made.n_products, sizeof *made.products);
    if (!made.products) {
        return error_nomem(error, "adapter", made.n_products * sizeof *made.products);
    }
    for (uint32_t i = 0; i < file->n_targets; i++) {
        mlxr_status status = bind_target(&b, &file->targets[i]);
        if (status != MLXR_OK) {
            return status;
        }
    }
    *out = made;
    return MLXR_OK;
}

const plan *graph_adapted_plan(const plan *p, region *memory)
{
    plan *made = region_array(memory, 1, sizeof *made);
    op *ops = region_array(memory, 2 * (size_t)p->n_ops, sizeof *ops);
    uint32_t n = 0, number = 0;
    if (!made || !ops) {
        return NULL;
    }
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        ops[n++] = *o;
        if (o->kind == OP_LINEAR) {
            ops[n++] = (op){.kind = OP_ADAPT,
                            .layer = o->layer,
                            .dst = o->dst,
                            .src = o->src,
                            .width = o->width,
                            .weight = o->weight,
                            .scale = 1,
                            .product = number++};
        }
    }
    *made = *p;
    made->ops = ops;
    made->n_ops = n;
    return made;
}
