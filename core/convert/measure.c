/*
 * Measuring importance: squares of inputs, added up beside the products of a step.
 * Owner: the caller; the engine borrows the observer. Lifetime: mlxr_importance_begin to mlxr_importance_end.
 *
 * Written as GGUF (general.type "imatrix"): NAME.in_sum2, the sums [matrices][inputs], and NAME.counts, how many rows
 * each matrix met. Sums are kept in double. Inputs of a folder's matrices are written in GGUF's order (heads.h), which
 * is what other programs, and our own quantiser, encode.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
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

uint32_t mlxr_importance_count(const mlxr_importance *imp)
{
    uint32_t n = 0;
    for (size_t i = 0; i < imp->n; i++) {
        n += met(&imp->tensors[i]);
    }
    return n;
}

/* ---- writing ---- */

/* Which of a tensor's sums is written as number `at`. */
static size_t sum_source(const head_order *order, size_t n_in, size_t at)
{
    return order ? at - at % n_in + (size_t)head_order_source(order, at % n_in) : at;
}

/* "NAME.in_sum2" or "NAME.counts" with the given numbers, as float32. */
static mlxr_status add_tensor(out_tensor *out, const measured *m, const head_order *order, const char *end, bool counts,
                              region *memory, mlxr_error *error)
{
    size_t n_matrices = (size_t)(m->t->shape[2] * m->t->shape[3]), n_in = counts ? 1 : (size_t)m->t->shape[0];
    size_t n = n_in * n_matrices, n_name = strlen(m->t->name) + strlen(end) + 1;
    tensor *t = region_alloc(memory, sizeof *t);
    float *values = region_alloc(memory, n * sizeof *values);
    char *name = region_alloc(memory, n_name);
    if (!t || !values || !name) {
        return error_nomem(error, m->t->name, n * sizeof *values);
    }
    snprintf(name, n_name, "%s%s", m->t->name, end);
    for (size_t i = 0; i < n; i++) {
        values[i] = counts ? (float)m->counts[i] : (float)m->sums[sum_source(order, n_in, i)];
        if (!isfinite(values[i])) {
            return error_set(error, MLXR_FORMAT, "what tensor '%s' met is no finite number: the model is damaged",
                             m->t->name);
        }
    }
    *t = (tensor){.name = name,
                  .type = DTYPE_F32,
                  .n_dims = 2,
                  .shape = {n_in, n_matrices, 1, 1},
                  .data = values,
                  .row_bytes = n_in * sizeof *values,
                  .n_bytes = n * sizeof *values};
    *out = (out_tensor){.in = t, .type = DTYPE_F32};
    return MLXR_OK;
}

static mlxr_status write_all(const mlxr_importance *imp, const char *path, const gguf_out *header, region *memory,
                             mlxr_error *error)
{
    const write_options options = {.n_threads = 1};
    write_result written;
    size_t n = 0;
    mlxr_status status = MLXR_OK;
    out_tensor *out = region_array(memory, 2 * imp->n + 1, sizeof *out);
    if (!out) {
        return error_nomem(error, "an importance matrix", 2 * imp->n * sizeof *out);
    }
    for (size_t i = 0; i < imp->n && status == MLXR_OK; i++) {
        const measured *m = &imp->tensors[i];
        head_order order;
        bool other = imp->folder && head_order_find(&order, imp->folder, m->t->name) && order.columns;
        if (met(m)) {
            status = add_tensor(&out[n++], m, other ? &order : NULL, ".in_sum2", false, memory, error);
            status = status == MLXR_OK ? add_tensor(&out[n++], m, NULL, ".counts", true, memory, error) : status;
        }
    }
    if (status == MLXR_OK && n == 0) {
        status = error_set(error, MLXR_ARG, "nothing was measured");
    }
    return status == MLXR_OK ? write_model(path, header, out, n, &options, &written, error) : status;
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
