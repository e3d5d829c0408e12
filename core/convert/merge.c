/*
 * Adapters merged into weights.
 * Owner: what is added lies in the source's memory. Lifetime: the source's.
 */
#include "convert/merge.h"

#include "base/error.h"
#include "graph/adapter.h"
#include "quant/codec.h"

/* The source's tensors begin with the file's, in its order. */
static out_tensor *find(source *s, const char *name)
{
    const tensor *t = model_file_tensor(s->file, name);
    return t ? &s->tensors[t - s->file->tensors] : NULL;
}

static mlxr_status merge_target(source *s, const hparams *h, const adapter_file *file, const adapter_target *target,
                                float scale, mlxr_error *error)
{
    out_tensor *t = find(s, target->name);
    if (!t) {
        return error_set(error, MLXR_UNSUPPORTED, "the adapter changes '%s', which the model does not have",
                         target->name);
    }
    uint64_t n_in = t->in->shape[0], n_rows = t->in->shape[1];
    if (target->a->shape[0] != n_in || target->b->shape[1] != n_rows || t->in->shape[2] != 1) {
        return error_set(error, MLXR_FORMAT, "the adapter changes '%s' as [%llu, %llu]; the model has [%llu, %llu]",
                         target->name, (unsigned long long)target->a->shape[0], (unsigned long long)target->b->shape[1],
                         (unsigned long long)n_in, (unsigned long long)n_rows);
    }
    merge_part *part = region_array(&s->memory, 1, sizeof *part);
    float *a = region_array(&s->memory, (size_t)n_in * target->rank, sizeof *a);
    float *b = region_array(&s->memory, (size_t)n_rows * target->rank, sizeof *b);
    if (!part || !a || !b) {
        return error_nomem(error, "adapter", (size_t)(n_in + n_rows) * target->rank * sizeof *a);
    }
    for (uint32_t r = 0; r < target->rank; r++) {
        codec_decode(target->a->type, (const uint8_t *)target->a->data + r * target->a->row_bytes, a + r * n_in,
                     (size_t)n_in);
    }
    for (uint64_t row = 0; row < n_rows; row++) {
        uint64_t from = graph_adapter_row(h, s->file->rope_halves, file->halves, target->name, row);
        if (from >= n_rows) {
            return error_set(error, MLXR_FORMAT, "the adapter changes '%s', whose %llu rows are no whole heads",
                             target->name, (unsigned long long)n_rows);
        }
        float *out = b + row * target->rank;
        codec_decode(target->b->type, (const uint8_t *)target->b->data + from * target->b->row_bytes, out,
                     target->rank);
        for (uint32_t r = 0; r < target->rank; r++) {
            out[r] *= target->scale * scale;
        }
    }
    *part = (merge_part){.rank = target->rank, .n_in = (uint32_t)n_in, .a = a, .b = b, .next = t->merged};
    t->merged = part;
    return MLXR_OK;
}

mlxr_status merge_adapters(source *s, const char *const *paths, const float *scales, size_t n, mlxr_error *error)
{
    hparams *h = region_array(&s->memory, 1, sizeof *h);
    mlxr_status status = h ? hparams_read(h, s->file, error) : error_nomem(error, "hyper-parameters", sizeof *h);
    for (size_t i = 0; i < n && status == MLXR_OK; i++) {
        adapter_file *file = NULL;
        status = adapter_file_open(&file, paths[i], h->fam->name, h->n_layers, error);
        for (uint32_t k = 0; status == MLXR_OK && k < file->n_targets; k++) {
            status = merge_target(s, h, file, &file->targets[k], scales ? scales[i] : 1, error);
            status = status == MLXR_OK ? status : error_prefix(error, status, "%s", paths[i]);
        }
        adapter_file_close(&file);
    }
    return status;
}

void merge_row(const merge_part *part, uint64_t row, float *x)
{
    for (; part; part = part->next) {
        for (uint32_t r = 0; r < part->rank; r++) {
            const float *a = part->a + (size_t)r * part->n_in;
            float factor = part->b[row * part->rank + r];
            for (uint32_t k = 0; k < part->n_in; k++) {
                x[k] += factor * a[k];
            }
        }
    }
}
