/*
 * Tensors of single numbers become lists.
 * Owner: the source's memory. Lifetime: its own.
 */
#include "convert/xielu.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "graph/hparams.h"
#include "quant/codec.h"

static const struct {
    const char *part, *key;
} parts[] = {{"alpha_n", "xielu.alpha_n"}, {"alpha_p", "xielu.alpha_p"}, {"beta", "xielu.beta"}, {"eps", "xielu.eps"}};
#define N_PARTS (sizeof parts / sizeof *parts)

/* The numbers of all layers; FORMAT where a tensor is not there, or no finite number. */
static mlxr_status gather(source *s, const char *part, uint32_t n_layers, float *values, mlxr_error *error)
{
    for (uint32_t i = 0; i < n_layers; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.ffn_act.%s", i, part);
        const tensor *t = model_file_tensor(s->file, name);
        if (!t || !t->data || t->shape[0] != 1 || t->shape[1] != 1) {
            return error_set(error, MLXR_FORMAT, "tensor '%s' is missing, or no single number", name);
        }
        codec_decode(t->type, t->data, &values[i], 1);
        if (!isfinite(values[i])) {
            return error_set(error, MLXR_FORMAT, "tensor '%s' is %g; xIELU wants finite numbers", name,
                             (double)values[i]);
        }
    }
    return MLXR_OK;
}

mlxr_status xielu_move(source *s, mlxr_error *error)
{
    uint32_t n_layers = hparams_layers_own(s->file);
    size_t n = 0;
    if (s->file->format != MODEL_SAFETENSORS || !model_file_tensor(s->file, "blk.0.ffn_act.alpha_n")) {
        return MLXR_OK;
    }
    if (n_layers > s->file->n_tensors) {
        return error_set(error, MLXR_FORMAT, "a model of %u layers, and %llu tensors", n_layers,
                         (unsigned long long)s->file->n_tensors);
    }
    float *values = region_array(&s->memory, N_PARTS * (size_t)n_layers, sizeof *values);
    if (!values) {
        return error_nomem(error, "xIELU's numbers", N_PARTS * n_layers * sizeof *values);
    }
    for (size_t p = 0; p < N_PARTS; p++) {
        mlxr_status status = gather(s, parts[p].part, n_layers, values + p * n_layers, error);
        if (status != MLXR_OK) {
            return status;
        }
        gguf_out_array(&s->header, parts[p].key, META_F32, values + p * n_layers, n_layers);
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        if (!strstr(s->tensors[i].in->name, ".ffn_act.")) {
            s->tensors[n++] = s->tensors[i];
        }
    }
    s->n_tensors = n;
    return MLXR_OK;
}
