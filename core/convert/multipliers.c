/*
 * Which rows are multiplied by what.
 * Owner: the source's memory. Lifetime: its own.
 */
#include "convert/multipliers.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "quant/codec.h"

#define PARTS_MAX 5u

bool multipliers_are_there(const hparams *h)
{
    return h->fam->mixer_beside;
}

static bool is_untied(const source *s)
{
    return model_file_tensor(s->file, "output.weight") != NULL;
}

bool multipliers_say(const source *s, const char *key)
{
    bool ends = text_ends_with(key, ".embedding_scale") || text_ends_with(key, ".logit_scale");
    return text_ends_with(key, ".multipliers") || (ends && is_untied(s));
}

/* A copy of the vector, of which each part is multiplied, in the tensor's place. */
static mlxr_status fold_vector(source *s, out_tensor *t, mlxr_error *error)
{
    size_t n = (size_t)t->in->shape[0];
    tensor *copy = region_array(&s->memory, 1, sizeof *copy);
    float *values = region_array(&s->memory, n, sizeof *values);
    if (!copy || !values) {
        return error_nomem(error, t->in->name, n * sizeof *values);
    }
    if (t->packed || !t->in->data) {
        return error_set(error, MLXR_UNSUPPORTED, "tensor '%s' is quantised, which it cannot be", t->in->name);
    }
    codec_decode(t->in->type, t->in->data, values, n);
    for (size_t i = 0; i < n; i++) {
        float was = values[i], factor = row_scale_of(t, i);
        values[i] *= factor;
        if (!isfinite(values[i])) {
            return error_set(error, MLXR_FORMAT, "tensor '%s': number %zu, %g, × its multiplier %g is no finite number",
                             t->in->name, i, (double)was, (double)factor);
        }
    }
    *copy = *t->in;
    copy->type = DTYPE_F32;
    copy->data = values;
    copy->row_bytes = copy->n_bytes = n * sizeof *values;
    t->in = copy;
    t->type = DTYPE_F32;
    t->scales = NULL;
    t->n_scales = 0;
    return MLXR_OK;
}

/* The parts of all that a mixer reads: its gate, values, keys, queries, steps. */
static mlxr_status fold_mixer(source *s, out_tensor *t, const hparams *h, float all, mlxr_error *error)
{
    const uint32_t width = hparams_mixer_width(h), keys = hparams_mixer_keys(h);
    const uint64_t sizes[PARTS_MAX] = {width, width, keys, keys, h->n_mixer_heads};
    row_scale *parts = region_array(&s->memory, PARTS_MAX, sizeof *parts);
    if (!parts) {
        return error_nomem(error, t->in->name, PARTS_MAX * sizeof *parts);
    }
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        parts[i] = (row_scale){.n_rows = sizes[i], .factor = all * h->times[TIMES_Z + i]};
    }
    t->scales = parts;
    t->n_scales = PARTS_MAX;
    return MLXR_OK;
}

static mlxr_status fold(source *s, out_tensor *t, const hparams *h, mlxr_error *error)
{
    const float *x = h->times, in = x[TIMES_ATTN_IN];
    const struct {
        const char *end;
        float factor;
    } wholes[] = {{".attn_q.weight", in},
                  {".attn_k.weight", in * x[TIMES_KEY]},
                  {".attn_k.bias", x[TIMES_KEY]},
                  {".attn_v.weight", in},
                  {".attn_output.weight", x[TIMES_ATTN_OUT]},
                  {".attn_output.bias", x[TIMES_ATTN_OUT]},
                  {".ssm_out.weight", x[TIMES_MIXER_OUT]},
                  {".ssm_out.bias", x[TIMES_MIXER_OUT]},
                  {".ffn_gate.weight", x[TIMES_GATE]},
                  {".ffn_gate.bias", x[TIMES_GATE]},
                  {".ffn_down.weight", x[TIMES_DOWN]},
                  {".ffn_down.bias", x[TIMES_DOWN]},
                  {"token_embd.weight", is_untied(s) ? h->embedding_scale : 1},
                  {"output.weight", is_untied(s) && strcmp(t->in->name, "output.weight") == 0 ? h->logit_scale : 1}};
    mlxr_status status = MLXR_OK;
    float factor = 1;
    if (text_ends_with(t->in->name, ".ssm_in.weight")) {
        status = fold_mixer(s, t, h, x[TIMES_MIXER_IN], error);
    } else if (text_ends_with(t->in->name, ".ssm_in.bias")) {
        status = fold_mixer(s, t, h, 1, error);
    }
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        factor *= text_ends_with(t->in->name, wholes[i].end) ? wholes[i].factor : 1;
    }
    if (status == MLXR_OK && factor != 1) {
        row_scale *one = region_array(&s->memory, 1, sizeof *one);
        if (!one) {
            return error_nomem(error, t->in->name, sizeof *one);
        }
        *one = (row_scale){.n_rows = UINT64_MAX, .factor = factor};
        t->scales = one;
        t->n_scales = 1;
    }
    return status == MLXR_OK && t->scales && t->in->n_dims == 1 ? fold_vector(s, t, error) : status;
}

mlxr_status multipliers_fold(source *s, const hparams *h, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < s->n_tensors && status == MLXR_OK; i++) {
        status = fold(s, &s->tensors[i], h, error);
    }
    s->folds_multipliers = true;
    return status;
}
