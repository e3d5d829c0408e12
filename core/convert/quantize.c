/*
 * mlxr_quantize: a model in other types.
 * Owner: the caller. Lifetime: the call.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "convert/experts.h"
#include "convert/importance.h"
#include "convert/latent.h"
#include "convert/merge.h"
#include "convert/mix.h"
#include "convert/source.h"
#include "convert/write.h"
#include "convert/xielu.h"
#include "quant/codec.h"

typedef struct job {
    const mlxr_quantize_options *options;
    const mix *mix;
    source source;
    importance importance;
    bool weighted;
    mlxr_quantize_report report;
} job;

static bool quantised(dtype type)
{
    return dtype_find((uint32_t)type)->block_size > 1;
}

static mlxr_status bad_importance(const job *j, const importance_entry *e, const tensor *t, mlxr_error *error)
{
    return error_set(error, MLXR_FORMAT,
                     "%s: importance of '%s' has %llu values in %u matrices, the tensor's rows have %llu weights "
                     "in %llu matrices; it was made with another model",
                     j->options->imatrix, t->name, (unsigned long long)e->n, e->n_matrices,
                     (unsigned long long)t->shape[0], (unsigned long long)(t->shape[2] * t->shape[3]));
}

/* The importance of each matrix by the names that the parts have in the folder, where it may have been measured. A
 * matrix without: everything counts alike. */
static mlxr_status find_parts_importance(job *j, out_tensor *t, mlxr_error *error)
{
    size_t n_in = (size_t)t->in->shape[0], n = (size_t)t->in->shape[2];
    float *values = region_array(&j->source.memory, n_in * n, sizeof *values);
    bool found = false;
    if (!values) {
        return error_nomem(error, t->in->name, n_in * n * sizeof *values);
    }
    for (size_t i = 0; i < n; i++) {
        const tensor *from = t->parts[i].from->in;
        const importance_entry *e = importance_find(&j->importance, from->name);
        size_t matrix = (size_t)(t->parts[i].first_row / from->shape[1]);
        if (e && e->n != n_in * from->shape[2]) {
            return bad_importance(j, e, from, error);
        }
        for (size_t k = 0; k < n_in; k++) {
            values[i * n_in + k] = e ? e->values[matrix * n_in + k] : 1.0f;
        }
        found = found || e;
    }
    if (found) {
        t->importance = values;
        t->n_matrices = (uint32_t)n;
        j->report.n_weighted++;
    }
    return MLXR_OK;
}

/* The tensor's entry, or NULL. Values of latent attention meet what the matrix of keys and values meets that a folder
 * has; of keys' matrices, which are turned, that has the rows. */
static const importance_entry *entry_of(const job *j, const char *name)
{
    static const char part[] = ".attn_v_b.weight";
    const importance_entry *e = importance_find(&j->importance, name);
    if (!e && text_ends_with(name, part)) {
        char whole[128];
        snprintf(whole, sizeof whole, "%.*s.attn_kv_b.weight", (int)(strlen(name) - strlen(part)), name);
        e = importance_find(&j->importance, whole);
    }
    return e;
}

/* The tensor's entry in the importance matrix, if there is one: it must have the tensor's shape. */
static mlxr_status find_importance(job *j, out_tensor *t, mlxr_error *error)
{
    if (!j->weighted || !quantised(t->type)) {
        return MLXR_OK;
    }
    const importance_entry *e = entry_of(j, t->in->name);
    if (!e) {
        return t->parts ? find_parts_importance(j, t, error) : MLXR_OK;
    }
    uint64_t n_matrices = e->n / t->in->shape[0];
    if (e->n % t->in->shape[0] != 0 || (n_matrices != 1 && n_matrices != t->in->shape[2] * t->in->shape[3]) ||
        (e->n_matrices != n_matrices && e->n_matrices != 1)) {
        return bad_importance(j, e, t->in, error);
    }
    t->importance = e->values;
    t->n_matrices = (uint32_t)n_matrices;
    j->report.n_weighted++;
    return MLXR_OK;
}

static bool is_merged(const out_tensor *t)
{
    bool merged = t->merged != NULL;
    for (uint64_t i = 0; t->parts && i < t->in->shape[2] && !merged; i++) {
        merged = t->parts[i].from->merged != NULL;
    }
    return merged;
}

static mlxr_status choose_types(job *j, mlxr_error *error)
{
    mix_model model = mix_model_of(j->source.file, j->weighted);
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < j->source.n_tensors && status == MLXR_OK; i++) {
        out_tensor *t = &j->source.tensors[i];
        bool gave_way = false;
        t->type = j->mix ? mix_type(j->mix, &model, t->in, &gave_way) : t->in->type;
        if (t->type >= DTYPE_OWN) { /* GGUF has no such type */
            t->type = DTYPE_F16;
        }
        if (is_merged(t) && !codec_encodes(t->type)) {
            return error_set(error, MLXR_UNSUPPORTED, "tensor '%s' is %s, which is not written here; give a type",
                             t->in->name, dtype_name(t->type));
        }
        uint64_t n = t->in->shape[0] * t->in->shape[1] * t->in->shape[2] * t->in->shape[3];
        j->report.n_weights += n;
        j->report.n_bytes_in += t->in->n_bytes;
        j->report.n_tensors++;
        if (t->type != t->in->type) {
            j->report.n_encoded++;
            j->report.n_gave_way += gave_way;
            j->report.n_requantised += quantised(t->in->type) && quantised(t->type);
            status = find_importance(j, t, error);
        }
    }
    return status;
}

/* general.file_type of a model whose types are kept: what the file says of itself, else that of the type that most of
 * the weights have. */
static uint32_t kept_file_type(const job *j)
{
    uint64_t n_of[MIX_TYPES] = {0};
    uint32_t file_type = 0, most = DTYPE_F32;
    if (model_file_meta(j->source.file, "general.file_type") &&
        model_file_u32(j->source.file, "general.file_type", &file_type, NULL) == MLXR_OK) {
        return file_type;
    }
    for (size_t i = 0; i < j->source.n_tensors; i++) {
        const tensor *t = j->source.tensors[i].in;
        uint32_t type = (uint32_t)j->source.tensors[i].type;
        n_of[type] += t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3];
        most = n_of[type] > n_of[most] ? type : most;
    }
    return mix_file_type_of((dtype)most);
}

static void put_metadata(job *j)
{
    gguf_out *header = &j->source.header;
    gguf_out_u32(header, "general.file_type", j->mix ? mix_file_type(j->mix) : kept_file_type(j));
    gguf_out_u32(header, "general.quantization_version", 2);
    if (j->weighted) {
        const char *path = j->options->imatrix;
        gguf_out_text(header, "quantize.imatrix.file", path, strlen(path));
        gguf_out_text(header, "quantize.imatrix.dataset", j->importance.dataset, strlen(j->importance.dataset));
        gguf_out_u32(header, "quantize.imatrix.entries_count", (uint32_t)j->importance.n);
        gguf_out_u32(header, "quantize.imatrix.chunks_count", j->importance.n_chunks);
    }
}

static mlxr_status write_out(job *j, const char *out, mlxr_error *error)
{
    const mlxr_quantize_options *o = j->options;
    write_result written = {0};
    write_options options = {.n_threads = o->n_threads,
                             .features = cpu_detect(),
                             .progress = o->progress,
                             .user = o->user,
                             .most_bytes = o->split_max_bytes};
    mlxr_status status = o->cpu_features ? cpu_mask(&options.features, o->cpu_features, error) : MLXR_OK;
    if (status == MLXR_OK) {
        status = write_model(out, &j->source.header, j->source.tensors, j->source.n_tensors, &options, &written, error);
    }
    j->report.n_bytes_out = written.n_bytes;
    j->report.n_files = written.n_files;
    return status;
}

mlxr_status mlxr_quantize(const char *in, const char *out, const mlxr_quantize_options *options,
                          mlxr_quantize_report *report, mlxr_error *error)
{
    job j = {.options = options, .mix = options->type ? mix_find(options->type) : NULL};
    if (options->type && !j.mix) {
        return error_set(error, MLXR_ARG, "type '%s' is unknown; known: %s", options->type, mix_names());
    }
    if (options->imatrix && (!j.mix || !mix_weighs(j.mix))) {
        return error_set(error, MLXR_ARG, "importance matrix '%s' would change nothing: %s%s%s", options->imatrix,
                         options->type ? "type '" : "without a type weights stay as they are",
                         options->type ? options->type : "", options->type ? "' rounds each weight by itself" : "");
    }
    mlxr_status status = source_open(&j.source, in, error);
    if (status == MLXR_OK && options->n_adapters) {
        status = merge_adapters(&j.source, options->adapters, options->adapter_scales, options->n_adapters, error);
    }
    if (status == MLXR_OK) {
        status = experts_stack(&j.source, error);
    }
    if (status == MLXR_OK) {
        status = xielu_move(&j.source, error);
    }
    if (status == MLXR_OK) { /* the last: the others know tensors by their number in the file */
        status = latent_split(&j.source, error);
    }
    if (status == MLXR_OK && options->imatrix) {
        status = importance_open(&j.importance, options->imatrix, error);
        j.weighted = status == MLXR_OK;
    }
    if (status == MLXR_OK) {
        status = choose_types(&j, error);
    }
    if (status == MLXR_OK) {
        put_metadata(&j);
        status = write_out(&j, out, error);
    }
    if (status == MLXR_OK && report) {
        j.report.bits_per_weight = j.report.n_weights ? 8 * (double)j.report.n_bytes_out / (double)j.report.n_weights
                                                      : 0;
        *report = j.report;
    }
    importance_close(&j.importance);
    source_close(&j.source);
    return status;
}
