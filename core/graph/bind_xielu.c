/*
 * xIELU's numbers of a layer.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/bind_xielu.h"

#include <math.h>

#include "base/error.h"
#include "quant/codec.h"

static float softplus(float x)
{
    return x > 30 ? x : (float)log1p(exp((double)x));
}

static mlxr_status read_number(const layer_weights *w, const hparams *h, uint32_t layer, size_t i, float *out,
                               mlxr_error *error)
{
    const meta_value *value = h->xielu[i];
    const tensor *t = w->xielu[i];
    *out = 0;
    if (t && t->data) {
        codec_decode(t->type, t->data, out, 1);
    } else if (!t && value) {
        *out = (float)(value->type == META_ARRAY ? meta_array_number(&value->array, layer) : value->f);
    }
    if (isfinite(*out)) {
        return MLXR_OK;
    }
    return error_set(error, MLXR_FORMAT, "%s '%s' is %g in layer %u; xIELU wants finite numbers",
                     t ? "tensor" : "metadata", t ? t->name : value->key, (double)*out, layer);
}

mlxr_status bind_xielu(layer_weights *w, const hparams *h, uint32_t layer, mlxr_error *error)
{
    float numbers[XIELU_NUMBERS];
    for (size_t i = 0; i < XIELU_NUMBERS; i++) {
        mlxr_status status = read_number(w, h, layer, i, &numbers[i], error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    w->xielu_curve = (op_curve){.kind = CURVE_XIELU,
                                .limit = numbers[XIELU_LIMIT],
                                .rise = softplus(numbers[XIELU_RISE]),
                                .fall = numbers[XIELU_SLOPE] + softplus(numbers[XIELU_FALL]),
                                .slope = numbers[XIELU_SLOPE]};
    if (!isfinite(w->xielu_curve.fall)) {
        return error_set(error, MLXR_FORMAT, "layer %u: xIELU falls by %g + softplus(%g), which no float holds", layer,
                         (double)numbers[XIELU_SLOPE], (double)numbers[XIELU_FALL]);
    }
    return MLXR_OK;
}
