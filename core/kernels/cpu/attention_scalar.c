/*
 * The definition of attention: scores of all visible keys, softmax, weighted sum of values, in double.
 * Owner: none. Lifetime: the call.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/ops.h"
#include "kernels/kv_row.h"
#include "kernels/kv_words.h"

void attend_read(const attend_view *v, uint32_t head, bool value, uint32_t position, float *dst)
{
    const kv_layout *l = v->layout;
    if (l->type == DTYPE_I16) {
        uint32_t lane = position % KV_PART;
        const uint8_t *part = value ? attend_value(v, head, position - lane) : attend_key(v, head, position - lane);
        kv_words_get(value ? KV_WORDS_VALUE : KV_WORDS_KEY, part, lane, dst, l->head_dim);
        return;
    }
    kv_row_decode(l->type, value ? attend_value(v, head, position) : attend_key(v, head, position), dst, l->head_dim);
}

void attend_scalar(const attend_view *view, const op_attend *attend, uint32_t head, uint32_t position, const float *q,
                   float *out, double *scratch)
{
    uint32_t n = attend->head_dim, kv_head = head / (attend->n_head / attend->n_head_kv);
    uint32_t first = attend_first(attend, position), end = attend_end(attend, position, view->n_positions);
    double *sum = scratch, *scores = scratch + 2 * (size_t)n;
    float *row = (float *)(scratch + n);
    double max = attend->sinks ? (double)attend->sinks[head] : -INFINITY;
    for (uint32_t p = first; p < end; p++) {
        attend_read(view, kv_head, false, p, row);
        double s = ops_dot_double(q, row, n) * attend->scale;
        if (attend->softcap > 0) {
            s = attend->softcap * tanh(s / attend->softcap);
        }
        scores[p - first] = s;
        max = s > max ? s : max;
    }
    double total = attend->sinks ? exp(attend->sinks[head] - max) : 0;
    memset(sum, 0, n * sizeof *sum);
    for (uint32_t p = first; p < end; p++) {
        double weight = exp(scores[p - first] - max);
        total += weight;
        attend_read(view, kv_head, true, p, row);
        for (uint32_t i = 0; i < n; i++) {
            sum[i] += weight * row[i];
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (float)(sum[i] / total);
    }
}
