/*
 * Adapters merged into weights.
 * Owner: what is added lies in the source's memory. Lifetime: the source's.
 */
#include "convert/merge.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "graph/adapter.h"

typedef struct merging {
    source *s;
    const hparams *h;
    const adapter_file *file;
    uint32_t adapter;   /* its number */
    out_tensor *output; /* the one that was made of the embedding; NULL: none */
    float scale;
    mlxr_error *error;
} merging;

/* The source's tensors begin with the file's, in its order. */
static out_tensor *find(const source *s, const char *name)
{
    const tensor *t = model_file_tensor(s->file, name);
    return t ? &s->tensors[t - s->file->tensors] : NULL;
}

/* A target's part that one matrix of the file has: of experts one expert's gate, up or down. */
typedef struct piece {
    const adapter_target *target;
    const adapter_experts *x; /* NULL: it is of no experts */
    uint32_t part, expert;
    out_tensor *to;
    uint64_t first, n_rows; /* of its rows */
} piece;

/* The row of B that belongs to row `row` of what a piece changes. */
static uint64_t source_of(const merging *m, const piece *p, uint64_t row)
{
    return p->x ? graph_adapter_expert_row(p->target, p->x, p->part, row)
                : graph_adapter_row(m->h, m->s->file->rope_halves, m->file->halves, p->target->name, row);
}

static mlxr_status fill_matrix(const merging *m, const piece *p, float *a, float *b)
{
    const adapter_target *t = p->target;
    uint32_t expert = t->n > 1 ? p->expert : 0;
    adapter_target_a(t, expert, a);
    for (uint64_t row = 0; row < p->n_rows; row++) {
        uint64_t from = source_of(m, p, row);
        if (from >= t->n_out) {
            return error_set(m->error, MLXR_FORMAT, "the adapter changes '%s', whose %llu rows are no whole heads",
                             t->name, (unsigned long long)p->n_rows);
        }
        adapter_target_b(t, expert, from, b + row * t->rank);
    }
    return MLXR_OK;
}

/* Rows of an embedding are tokens: A and B change places. */
static mlxr_status fill_table(const merging *m, const piece *p, float *a, float *b)
{
    const adapter_target *t = p->target;
    float *turned = region_array(&m->s->memory, (size_t)t->n_in * t->rank, sizeof *turned), row[ADAPTER_RANK_MAX];
    if (!turned) {
        return error_nomem(m->error, "adapter", (size_t)t->n_in * t->rank * sizeof *turned);
    }
    adapter_target_a(t, 0, turned);
    for (uint64_t i = 0; i < t->n_out; i++) {
        adapter_target_b(t, 0, i, row);
        for (uint32_t r = 0; r < t->rank; r++) {
            a[r * t->n_out + i] = row[r];
        }
    }
    for (uint64_t token = 0; token < t->n_in; token++) {
        for (uint32_t r = 0; r < t->rank; r++) {
            b[token * t->rank + r] = turned[r * t->n_in + token];
        }
    }
    return MLXR_OK;
}

/* Has this adapter changed these rows already? One expert may have a pair of its own, and a part of a stack. */
static bool is_merged(const merging *m, const piece *p)
{
    for (const merge_part *part = p->to->merged; part && part->adapter == m->adapter; part = part->next) {
        if (part->first == p->first) {
            return true;
        }
    }
    return false;
}

static mlxr_status add_piece(const merging *m, const piece *p)
{
    const adapter_target *t = p->target;
    if (is_merged(m, p)) {
        return error_set(m->error, MLXR_FORMAT, "the adapter changes '%s' twice", t->name);
    }
    region *memory = &m->s->memory;
    uint64_t n_in = p->to->in->shape[0];
    merge_part *part = region_array(memory, 1, sizeof *part);
    float *a = region_array(memory, (size_t)n_in * t->rank, sizeof *a);
    float *b = region_array(memory, (size_t)p->n_rows * t->rank, sizeof *b);
    if (!part || !a || !b) {
        return error_nomem(m->error, "adapter", (size_t)(n_in + p->n_rows) * t->rank * sizeof *a);
    }
    mlxr_status status = adapter_is_table(t->name) ? fill_table(m, p, a, b) : fill_matrix(m, p, a, b);
    for (uint64_t i = 0; i < p->n_rows * t->rank; i++) {
        b[i] *= t->scale * m->scale;
    }
    *part = (merge_part){.rank = t->rank,
                         .n_in = (uint32_t)n_in,
                         .adapter = m->adapter,
                         .first = p->first,
                         .n_rows = p->n_rows,
                         .a = a,
                         .b = b,
                         .next = p->to->merged};
    p->to->merged = part;
    return status;
}

static mlxr_status refuse_missing(const merging *m, const char *name)
{
    return error_set(m->error, MLXR_UNSUPPORTED, "the adapter changes '%s', which the model does not have", name);
}

/* ---- experts ---- */

/* Where the file has an expert's gate, up or down: in a stack, in one of gates and ups, or by itself. */
static bool find_expert(const merging *m, piece *p, uint64_t n_rows)
{
    static const char *const parts[] = {"gate", "up", "down"};
    char name[96];
    snprintf(name, sizeof name, "blk.%u.ffn_%s_exps.weight", p->x->layer, parts[p->part]);
    p->n_rows = n_rows;
    p->first = p->expert * n_rows;
    p->to = find(m->s, name);
    if (!p->to && p->part < 2) {
        snprintf(name, sizeof name, "blk.%u.ffn_gate_up_exps.weight", p->x->layer);
        p->to = find(m->s, name);
        p->first = (2 * (uint64_t)p->expert + p->part) * n_rows;
    }
    if (!p->to) {
        snprintf(name, sizeof name, "blk.%u.ffn_%s.%u.weight", p->x->layer, parts[p->part], p->expert);
        p->to = find(m->s, name);
        p->first = 0;
    }
    const tensor *in = p->to ? p->to->in : NULL;
    uint64_t n_in = p->part == 2 ? m->h->n_ff_expert : hparams_expert_in(m->h);
    return in && in->shape[0] == n_in && p->first + n_rows <= in->shape[1] * in->shape[2];
}

static mlxr_status merge_experts(const merging *m, const adapter_target *t, const adapter_experts *x)
{
    uint32_t n_expert = m->h->n_expert;
    uint64_t n_in = hparams_expert_in(m->h), n_ff = m->h->n_ff_expert;
    if (!graph_adapter_fits(t, x, n_expert, n_in, n_ff)) {
        return error_set(m->error, MLXR_FORMAT,
                         "the adapter changes '%s' as %u of [%llu, %llu]; the model has %u experts of [%llu, %llu]",
                         t->name, t->n, (unsigned long long)t->n_in, (unsigned long long)t->n_out, n_expert,
                         (unsigned long long)n_in, (unsigned long long)n_ff);
    }
    bool all = x->expert == UINT32_MAX;
    mlxr_status status = MLXR_OK;
    for (uint32_t part = 0; part < 3; part++) {
        for (uint32_t e = all ? 0 : x->expert; x->of[part] && e < (all ? n_expert : x->expert + 1); e++) {
            piece p = {.target = t, .x = x, .part = part, .expert = e};
            status = find_expert(m, &p, part == 2 ? n_in : n_ff) ? add_piece(m, &p) : refuse_missing(m, t->name);
            if (status != MLXR_OK) {
                return status;
            }
        }
    }
    return MLXR_OK;
}

/* ---- matrices ---- */

/* The output matrix of a model whose embedding is that, too: from now on one of its own. */
static mlxr_status untie(merging *m)
{
    source *s = m->s;
    out_tensor *embedding = find(s, "token_embd.weight");
    bool has_output = embedding && !find(s, "output.weight") && !m->h->headless && !m->h->fam->encoder;
    if (m->output || !has_output) {
        return MLXR_OK;
    }
    tensor *t = region_array(&s->memory, 1, sizeof *t);
    if (!t) {
        return error_nomem(m->error, "output.weight", sizeof *t);
    }
    *t = *embedding->in;
    t->name = "output.weight";
    m->output = &s->tensors[s->n_tensors++];
    *m->output = *embedding;
    m->output->in = t;
    return MLXR_OK;
}

static mlxr_status merge_matrix(merging *m, const adapter_target *t)
{
    bool table = adapter_is_table(t->name), output = strcmp(t->name, "output.weight") == 0;
    mlxr_status status = output || strcmp(t->name, "token_embd.weight") == 0 ? untie(m) : MLXR_OK;
    piece p = {.target = t, .to = output && m->output ? m->output : find(m->s, t->name)};
    if (status != MLXR_OK || !p.to) {
        return status != MLXR_OK ? status : refuse_missing(m, t->name);
    }
    uint64_t n_in = p.to->in->shape[table], n_out = p.to->in->shape[!table];
    if (t->n_in != n_in || t->n_out != n_out || t->n != 1 || p.to->in->shape[2] != 1) {
        return error_set(m->error, MLXR_FORMAT, "the adapter changes '%s' as [%llu, %llu]; the model has [%llu, %llu]",
                         t->name, (unsigned long long)t->n_in, (unsigned long long)t->n_out, (unsigned long long)n_in,
                         (unsigned long long)n_out);
    }
    p.n_rows = p.to->in->shape[1];
    return add_piece(m, &p);
}

mlxr_status merge_adapters(source *s, const char *const *paths, const float *scales, size_t n, mlxr_error *error)
{
    hparams *h = region_array(&s->memory, 1, sizeof *h);
    mlxr_status status = h ? hparams_read(h, s->file, error) : error_nomem(error, "hyper-parameters", sizeof *h);
    merging m = {.s = s, .h = h, .error = error};
    for (size_t i = 0; i < n && status == MLXR_OK; i++) {
        adapter_file *file = NULL;
        const adapter_model of = graph_adapter_model(h);
        status = adapter_file_open(&file, paths[i], &of, error);
        status = status != MLXR_OK ? status : graph_adapter_form_fits(h, s->file->rope_halves, file->halves, error);
        m.file = file;
        m.adapter = (uint32_t)i;
        m.scale = scales ? scales[i] : 1;
        for (uint32_t k = 0; status == MLXR_OK && k < file->n_targets; k++) {
            adapter_experts x;
            const adapter_target *t = &file->targets[k];
            status = graph_adapter_experts(t->name, &x) ? merge_experts(&m, t, &x) : merge_matrix(&m, t);
            status = status == MLXR_OK ? status : error_prefix(error, status, "%s", paths[i]);
        }
        adapter_file_close(&file);
    }
    return status;
}

void merge_row(const merge_part *part, uint64_t row, float *x)
{
    for (; part; part = part->next) {
        bool changes = row >= part->first && row - part->first < part->n_rows;
        for (uint32_t r = 0; changes && r < part->rank; r++) {
            const float *a = part->a + (size_t)r * part->n_in;
            float factor = part->b[(row - part->first) * part->rank + r];
            for (uint32_t k = 0; k < part->n_in; k++) {
                x[k] += factor * a[k];
            }
        }
    }
}
