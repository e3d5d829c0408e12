/*
 * Measuring importance: squares of inputs, added up beside the products of a step.
 * Owner: the caller; the engine borrows the observer. Lifetime: mlxr_importance_begin to mlxr_importance_end.
 *
 * Written as GGUF (general.type "imatrix"): NAME.in_sum2, the sums [matrices][inputs], and NAME.counts, how many rows
 * each matrix met. Sums are kept in double. A folder's matrices are written under the names and with inputs in the
 * order that its GGUF file has (experts.h, heads.h): what other programs, and our own quantiser, encode.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "convert/experts.h"
#include "convert/heads.h"
#include "convert/write.h"
#include "mlxr_importance.h"
#include "runtime/engine.h"

typedef struct measured {
    const tensor *t;
    const uint8_t *end; /* of its data */
    size_t matrix_bytes;
    double *sums;     /* [n_matrices][n_in] */
    uint64_t *counts; /* [n_matrices] */
} measured;

struct mlxr_importance {
    mlxr_engine *engine;
    const hparams *folder; /* NULL: the model is a GGUF file */
    step_observer observer;
    measured *tensors; /* [n] by address */
    size_t n;
    region memory;
};

static const uint8_t *begin_of(const measured *m)
{
    return m->t->data;
}

static int compare_addresses(const void *a, const void *b)
{
    const uint8_t *x = begin_of(a), *y = begin_of(b);
    return (x > y) - (x < y);
}

/* The matrix that begins at `weight`; several views of one count as one: the first. */
static const measured *find(const mlxr_importance *imp, const uint8_t *weight, size_t *matrix)
{
    size_t low = 0, high = imp->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (begin_of(&imp->tensors[middle]) <= weight) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const measured *m = low ? &imp->tensors[low - 1] : NULL;
    if (!m || weight >= m->end || (size_t)(weight - begin_of(m)) % m->matrix_bytes != 0) {
        return NULL;
    }
    *matrix = (size_t)(weight - begin_of(m)) / m->matrix_bytes;
    return m;
}

static void see(void *user, const void *weight, uint32_t n_in, const observed_rows *rows, uint32_t member,
                uint32_t n_members)
{
    size_t matrix = 0, first = (size_t)n_in * member / n_members, last = (size_t)n_in * (member + 1) / n_members;
    const measured *m = find(user, weight, &matrix);
    if (!m || m->t->shape[0] != n_in) {
        return;
    }
    double *sums = m->sums + matrix * n_in;
    for (uint32_t i = 0; i < rows->n; i++) {
        const float *row = rows->data + (rows->order ? rows->order[i] : i) * rows->stride;
        for (size_t k = first; k < last; k++) {
            sums[k] += (double)row[k] * (double)row[k];
        }
    }
    if (member == 0) {
        m->counts[matrix] += rows->n;
    }
}

static bool wanted(const tensor *t)
{
    return t->n_dims >= 2 && strcmp(t->name, "output.weight") != 0 && strcmp(t->name, "token_embd.weight") != 0;
}

static mlxr_status list_tensors(mlxr_importance *imp, const model_file *file, mlxr_error *error)
{
    imp->tensors = region_array(&imp->memory, (size_t)file->n_tensors, sizeof *imp->tensors);
    if (!imp->tensors) {
        return error_nomem(error, "an importance matrix", (size_t)file->n_tensors * sizeof *imp->tensors);
    }
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        const tensor *t = &file->tensors[i];
        size_t n_matrices = (size_t)(t->shape[2] * t->shape[3]);
        if (!wanted(t)) {
            continue;
        }
        measured *m = &imp->tensors[imp->n++];
        *m = (measured){.t = t,
                        .end = (const uint8_t *)t->data + t->n_bytes,
                        .matrix_bytes = t->n_bytes / n_matrices,
                        .sums = region_array(&imp->memory, n_matrices * (size_t)t->shape[0], sizeof *m->sums),
                        .counts = region_array(&imp->memory, n_matrices, sizeof *m->counts)};
        if (!m->sums || !m->counts) {
            return error_nomem(error, t->name, n_matrices * (size_t)t->shape[0] * sizeof *m->sums);
        }
    }
    qsort(imp->tensors, imp->n, sizeof *imp->tensors, compare_addresses);
    return MLXR_OK;
}

mlxr_status mlxr_importance_begin(mlxr_importance **out, mlxr_engine *engine, mlxr_model *model, mlxr_error *error)
{
    const char *name = engine->ops->name;
    if (strcmp(name, backend_cpu.name) != 0 && strcmp(name, backend_cpu_scalar.name) != 0) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "importance is measured on the CPU; the backend '%s' does not show what its matrices meet",
                         name);
    }
    if (engine->observer) {
        return error_set(error, MLXR_ARG, "this engine measures importance already");
    }
    mlxr_importance *imp = calloc(1, sizeof *imp);
    if (!imp) {
        return error_nomem(error, "an importance matrix", sizeof *imp);
    }
    mlxr_status status = list_tensors(imp, model->file, error);
    if (status != MLXR_OK) {
        region_close(&imp->memory);
        free(imp);
        return status;
    }
    imp->engine = engine;
    imp->folder = model->file->rope_halves ? &model->graph->h : NULL;
    imp->observer = (step_observer){.see = see, .user = imp};
    engine->observer = &imp->observer;
    *out = imp;
    return MLXR_OK;
}

void mlxr_importance_end(mlxr_importance **pointer)
{
    mlxr_importance *imp = *pointer;
    if (imp) {
        imp->engine->observer = NULL;
        region_close(&imp->memory);
        free(imp);
        *pointer = NULL;
    }
}

static bool met(const measured *m)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < m->t->shape[2] * m->t->shape[3]; i++) {
        n += m->counts[i];
    }
    return n > 0;
}

/* Was any of the experts of one part of a layer met? */
static bool met_experts(const mlxr_importance *imp, const char *stack)
{
    char other[EXPERTS_NAME_BYTES];
    uint32_t expert;
    bool any = false;
    for (size_t i = 0; i < imp->n && !any; i++) {
        const measured *m = &imp->tensors[i];
        any = met(m) && experts_stack_name(m->t->name, other, &expert) && strcmp(other, stack) == 0;
    }
    return any;
}

uint32_t mlxr_importance_count(const mlxr_importance *imp)
{
    uint32_t n = 0, expert;
    for (size_t i = 0; i < imp->n; i++) {
        char name[EXPERTS_NAME_BYTES], second[EXPERTS_NAME_BYTES];
        const measured *m = &imp->tensors[i];
        if (experts_stack_name(m->t->name, name, &expert)) {
            n += expert == 0 && met_experts(imp, name);
        } else {
            n += met(m) * (imp->folder && experts_halves_names(m->t->name, name, second) ? 2u : 1u);
        }
    }
    return n;
}

/* ---- writing ---- */

/* What is written as one: a tensor, or each expert's. */
typedef struct entry {
    const char *name;
    const measured *const *parts; /* [n_parts] of as many inputs, one behind the other */
    size_t n_parts;
    const head_order *order; /* of the inputs, or NULL */
} entry;

typedef struct writer {
    const mlxr_importance *imp;
    out_tensor *out; /* [n] */
    size_t n;
    region *memory;
    mlxr_error *error;
} writer;

static size_t matrices_of(const measured *m)
{
    return (size_t)(m->t->shape[2] * m->t->shape[3]);
}

/* A part's numbers, as float32: its counts, or its sums in the order of the inputs that is written. */
static void put_numbers(const measured *m, const head_order *order, bool counts, float *to)
{
    size_t n_in = (size_t)m->t->shape[0], n = matrices_of(m);
    for (size_t i = 0; i < (counts ? n : n * n_in); i++) {
        size_t from = order ? i - i % n_in + (size_t)head_order_source(order, i % n_in) : i;
        to[i] = counts ? (float)m->counts[i] : (float)m->sums[from];
    }
}

/* "NAME.in_sum2" or "NAME.counts". */
static mlxr_status add_tensor(writer *w, const entry *e, const char *end, bool counts)
{
    size_t n_in = counts ? 1 : (size_t)e->parts[0]->t->shape[0], n_matrices = 0, at = 0;
    for (size_t i = 0; i < e->n_parts; i++) {
        n_matrices += matrices_of(e->parts[i]);
    }
    size_t n = n_in * n_matrices, n_name = strlen(e->name) + strlen(end) + 1;
    tensor *t = region_alloc(w->memory, sizeof *t);
    float *values = region_alloc(w->memory, n * sizeof *values);
    char *name = region_alloc(w->memory, n_name);
    if (!t || !values || !name) {
        return error_nomem(w->error, e->name, n * sizeof *values);
    }
    snprintf(name, n_name, "%s%s", e->name, end);
    for (size_t i = 0; i < e->n_parts; at += n_in * matrices_of(e->parts[i]), i++) {
        put_numbers(e->parts[i], e->order, counts, values + at);
    }
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) {
            return error_set(w->error, MLXR_FORMAT, "what tensor '%s' met is no finite number: the model is damaged",
                             e->name);
        }
    }
    *t = (tensor){.name = name,
                  .type = DTYPE_F32,
                  .n_dims = 2,
                  .shape = {n_in, n_matrices, 1, 1},
                  .data = values,
                  .row_bytes = n_in * sizeof *values,
                  .n_bytes = n * sizeof *values};
    w->out[w->n++] = (out_tensor){.in = t, .type = DTYPE_F32};
    return MLXR_OK;
}

static mlxr_status add_entry(writer *w, const entry *e)
{
    bool any = false;
    for (size_t i = 0; i < e->n_parts; i++) {
        any = any || met(e->parts[i]);
    }
    mlxr_status status = any ? add_tensor(w, e, ".in_sum2", false) : MLXR_OK;
    return any && status == MLXR_OK ? add_tensor(w, e, ".counts", true) : status;
}

/* The experts of one part of a layer, of which `name` is the stack's. */
static mlxr_status add_experts(writer *w, const char *name)
{
    const measured **parts = region_array(w->memory, w->imp->n, sizeof *parts);
    entry e = {.name = name, .parts = parts};
    if (!parts) {
        return error_nomem(w->error, name, w->imp->n * sizeof *parts);
    }
    for (size_t i = 0; i < w->imp->n; i++) {
        char other[EXPERTS_NAME_BYTES];
        uint32_t expert;
        const measured *m = &w->imp->tensors[i];
        if (experts_stack_name(m->t->name, other, &expert) && strcmp(other, name) == 0 && expert < w->imp->n) {
            parts[expert] = m; /* the model has bound 0 to n - 1 */
            e.n_parts++;
        }
    }
    return add_entry(w, &e);
}

static mlxr_status add_measured(writer *w, const measured *m)
{
    head_order order;
    char name[EXPERTS_NAME_BYTES], second[EXPERTS_NAME_BYTES];
    uint32_t expert;
    bool other = w->imp->folder && head_order_find(&order, w->imp->folder, m->t->name) && order.columns;
    entry e = {.name = m->t->name, .parts = &m, .n_parts = 1, .order = other ? &order : NULL};
    if (experts_stack_name(m->t->name, name, &expert)) {
        return expert == 0 ? add_experts(w, name) : MLXR_OK;
    }
    if (w->imp->folder && experts_halves_names(m->t->name, name, second)) { /* both meet the same */
        e.name = name;
        mlxr_status status = add_entry(w, &e);
        e.name = second;
        return status == MLXR_OK ? add_entry(w, &e) : status;
    }
    return add_entry(w, &e);
}

static mlxr_status write_all(const mlxr_importance *imp, const char *path, const gguf_out *header, region *memory,
                             mlxr_error *error)
{
    const write_options options = {.n_threads = 1};
    write_result written;
    writer w = {.imp = imp, .memory = memory, .error = error};
    w.out = region_array(memory, 4 * imp->n + 1, sizeof *w.out);
    mlxr_status status = w.out ? MLXR_OK : error_nomem(error, "an importance matrix", 4 * imp->n * sizeof *w.out);
    for (size_t i = 0; i < imp->n && status == MLXR_OK; i++) {
        status = add_measured(&w, &imp->tensors[i]);
    }
    if (status == MLXR_OK && w.n == 0) {
        status = error_set(error, MLXR_ARG, "nothing was measured");
    }
    return status == MLXR_OK ? write_model(path, header, w.out, w.n, &options, &written, error) : status;
}

mlxr_status mlxr_importance_write(const mlxr_importance *imp, const char *path, const char *dataset, uint32_t n_chunks,
                                  uint32_t chunk_tokens, mlxr_error *error)
{
    region memory = {0};
    gguf_out header = gguf_out_make();
    const text_view datasets[] = {{dataset, strlen(dataset)}};
    gguf_out_text(&header, "general.type", "imatrix", 7);
    gguf_out_texts(&header, "imatrix.datasets", datasets, 1);
    gguf_out_u32(&header, "imatrix.chunk_count", n_chunks);
    gguf_out_u32(&header, "imatrix.chunk_size", chunk_tokens);
    mlxr_status status = write_all(imp, path, &header, &memory, error);
    gguf_out_close(&header);
    region_close(&memory);
    return status;
}
