/*
 * Scalar row kernels with double accumulators: the definition of each operation, and the oracle of the fast ones.
 * Owner: none. Lifetime: the call.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/ops.h"
#include "kernels/kv_row.h"
#include "quant/half.h"

static void norm(norm_kind kind, const float *src, float *dst, const float *weight, const float *bias, uint32_t n,
                 float eps)
{
    double mean = 0, sum = 0;
    if (kind == NORM_LAYER) {
        for (uint32_t i = 0; i < n; i++) {
            mean += src[i];
        }
        mean /= n;
    }
    for (uint32_t i = 0; i < n; i++) {
        double d = src[i] - mean;
        sum += d * d;
    }
    double factor = 1.0 / sqrt(sum / n + (double)eps);
    for (uint32_t i = 0; i < n; i++) {
        double y = (src[i] - mean) * factor * (weight ? (double)weight[i] : 1.0) + (bias ? (double)bias[i] : 0.0);
        dst[i] = (float)y;
    }
}

static void rope(rope_kind kind, float *heads, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot,
                 const float *cosines, const float *sines)
{
    uint32_t half = n_rot / 2;
    uint32_t step = kind == ROPE_PAIRS ? 2 : 1, other = kind == ROPE_PAIRS ? 1 : half;
    for (uint32_t h = 0; h < n_heads; h++) {
        float *x = heads + (size_t)h * head_dim;
        for (uint32_t i = 0; i < half; i++) {
            double a = x[step * i], b = x[step * i + other];
            x[step * i] = (float)(a * cosines[i] - b * sines[i]);
            x[step * i + other] = (float)(a * sines[i] + b * cosines[i]);
        }
    }
}

static double activate(activation act, double x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1.0 + exp(-x));
    case ACT_GELU_TANH: /* Hendrycks & Gimpel 2016: ½ x (1 + tanh u), u = √(2/π) (x + 0.044715 x³); as x σ(2u), which
                           keeps its digits where the tanh comes near −1 */
        return x / (1.0 + exp(-1.59576912160573071176 * (x + 0.044715 * x * x * x)));
    case ACT_GELU_ERF: /* ½ x (1 + erf(x / √2)), likewise */
        return 0.5 * x * erfc(x * -0.70710678118654752440);
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_RELU_SQUARED:
        return x > 0 ? x * x : 0;
    case ACT_SWIGLU_CLAMPED: /* the half of it that sees the gate alone */
        x = x < 7 ? x : 7;
        return x / (1.0 + exp(-1.702 * x));
    case ACT_SIGMOID:
        return 1.0 / (1.0 + exp(-x));
    case ACT_NONE:
    case ACT_COUNT:
        break;
    }
    return x;
}

static void gated(activation act, float *gate, const float *up, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        double u = up ? (double)up[i] : 1.0;
        u = act == ACT_SWIGLU_CLAMPED ? fmin(fmax(u, -7), 7) + 1 : u;
        gate[i] = (float)(activate(act, gate[i]) * u);
    }
}

static void add(float *dst, const float *src, float scale, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        dst[i] = (float)(dst[i] + (double)src[i] * scale);
    }
}

static float dot(const float *a, const float *b, uint32_t n)
{
    return (float)ops_dot_double(a, b, n);
}

static void decay(float *x, const float *before, const float *factors, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        x[i] = (float)(x[i] + (double)before[i] * factors[i]);
    }
}

static void recur(const recur_row *r)
{
    for (uint32_t i = 0; i < r->n_v; i++) {
        double known = 0, out = 0;
        for (uint32_t j = 0; j < r->n_k && r->before && r->delta; j++) {
            known += (double)r->before[j * r->before_stride + i] * r->k[j];
        }
        double learned = r->learn * ((double)r->v[i] - r->fade * known);
        for (uint32_t j = 0; j < r->n_k; j++) {
            double s = r->before ? (double)r->before[j * r->before_stride + i] * r->fade : 0;
            s += r->k[j] * learned;
            r->after[j * r->after_stride + i] = (float)s;
            out += s * r->q[j];
        }
        r->out[i] = (float)out;
    }
}

static void scale_row(float *x, float scale, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        x[i] *= scale;
    }
}

static void softcap(float *x, float cap, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        x[i] = (float)(cap * tanh((double)x[i] / cap));
    }
}

static void curve(const op_curve *c, float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        double v = x[i];
        if (c->kind == CURVE_CLAMP) {
            v = v > c->limit ? c->limit : v < -c->limit ? -c->limit : v;
        } else if (v > 0) {
            v = c->rise * v * v + c->slope * v;
        } else {
            v = c->fall * (expm1(v < c->limit ? v : c->limit) - v) + c->slope * v;
        }
        x[i] = (float)v;
    }
}

static void upper(const float *values, const float *lengths, float reach, uint32_t n, float *out)
{
    for (uint32_t i = 0; i < n; i++) {
        float most = (float)(values[i] + (double)lengths[i] * reach), *of = &out[i / OPS_UPPER_BLOCK];
        *of = i % OPS_UPPER_BLOCK == 0 ? -INFINITY : *of;
        *of = most > *of ? most : *of;
    }
}

static void to_kv(dtype type, const float *src, void *dst, uint32_t n)
{
    uint16_t *words = dst; /* pages and rows of 16-bit types are 2-byte aligned */
    switch (type) {
    case DTYPE_F16:
        for (uint32_t i = 0; i < n; i++) {
            float x = src[i] > 65504.0f ? 65504.0f : src[i] < -65504.0f ? -65504.0f : src[i];
            words[i] = half_from_float(x);
        }
        break;
    case DTYPE_BF16:
        for (uint32_t i = 0; i < n; i++) {
            words[i] = bf16_from_float(src[i]);
        }
        break;
    case DTYPE_Q8_0:
    case DTYPE_Q4_0:
        kv_row_encode_scalar(type, src, dst, n);
        break;
    default:
        memcpy(dst, src, n * sizeof *src);
        break;
    }
}

ops_table ops_table_scalar(void)
{
    return (ops_table){.norm = norm,
                       .rope = rope,
                       .gated = gated,
                       .add = add,
                       .dot = dot,
                       .decay = decay,
                       .recur = recur,
                       .scale = scale_row,
                       .softcap = softcap,
                       .curve = curve,
                       .upper = upper,
                       .to_kv = to_kv,
                       .to_words = kv_words_encode_scalar};
}

void ops_kv_write(const ops_table *ops, const attend_view *v, uint32_t head, bool value, uint32_t position,
                  const float *src)
{
    const kv_layout *l = v->layout;
    if (l->type != DTYPE_I16) {
        ops->to_kv(l->type, src, value ? attend_value(v, head, position) : attend_key(v, head, position), l->head_dim);
        return;
    }
    kv_words_kind kind = value ? KV_WORDS_VALUE : KV_WORDS_KEY;
    uint32_t lane = position % KV_PART;
    uint8_t *part = value ? attend_value(v, head, position - lane) : attend_key(v, head, position - lane);
    int16_t words[KV_WORDS_MAX];
    float scale = ops->to_words(kind, src, l->head_dim, words);
    kv_words_put(kind, words, scale, part, lane, l->head_dim);
}

ops_table ops_table_make(cpu_features features)
{
    ops_table table = ops_table_scalar();
    ops_table_arch(&table, features);
    return table;
}

double ops_dot_double(const float *a, const float *b, uint32_t n)
{
    double sums[8] = {0};
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (uint32_t j = 0; j < 8; j++) {
            sums[j] += (double)a[i + j] * b[i + j];
        }
    }
    for (; i < n; i++) {
        sums[0] += (double)a[i] * b[i];
    }
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}
