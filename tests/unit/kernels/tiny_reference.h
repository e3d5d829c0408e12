/*
 * The tiny model once more as plain loops in double, written from the mathematics and not from the plan.
 * Owner: the test. Lifetime: the call.
 */
#ifndef MLXR_TINY_REFERENCE_H
#define MLXR_TINY_REFERENCE_H

#include "tiny_plan.h"

/* Walks the plan's weights in the order tiny_open made them. */
typedef struct reference {
    const tiny *t;
    uint32_t next; /* operation */
    uint32_t n;    /* tokens */
} reference;

static inline double *reference_matrix(uint32_t rows, uint32_t width)
{
    double *m = calloc((size_t)rows * width, sizeof *m);
    assert_non_null(m);
    return m;
}

static inline const op *reference_next(reference *f, op_kind kind)
{
    while (f->t->ops[f->next].kind != kind) {
        f->next++;
    }
    return &f->t->ops[f->next++];
}

static inline void reference_norm(reference *f, const double *src, double *dst, uint32_t width)
{
    const op *o = reference_next(f, OP_NORM);
    uint32_t w = o->norm.width;
    const float *weight = o->weight->data, *bias = o->bias ? o->bias->data : NULL;
    for (size_t g = 0; g < (size_t)f->n * width / w; g++) {
        double mean = 0, square = 0;
        for (uint32_t i = 0; i < w; i++) {
            mean += o->norm.kind == NORM_LAYER ? src[g * w + i] / w : 0;
        }
        for (uint32_t i = 0; i < w; i++) {
            square += pow(src[g * w + i] - mean, 2) / w;
        }
        for (uint32_t i = 0; i < w; i++) {
            dst[g * w + i] = (src[g * w + i] - mean) / sqrt(square + (double)o->norm.eps) * weight[i] +
                             (bias ? (double)bias[i] : 0);
        }
    }
}

static inline double *reference_linear(reference *f, const double *src, uint32_t n_in, uint32_t n_out)
{
    const op *o = reference_next(f, OP_LINEAR);
    double *dst = reference_matrix(f->n, n_out);
    float *row = calloc(n_in, sizeof *row);
    for (uint32_t j = 0; j < n_out; j++) {
        codec_decode(o->weight->type, (const uint8_t *)o->weight->data + j * o->weight->row_bytes, row, n_in);
        for (uint32_t r = 0; r < f->n; r++) {
            double sum = o->bias ? (double)((const float *)o->bias->data)[j] : 0;
            for (uint32_t i = 0; i < n_in; i++) {
                sum += src[(size_t)r * n_in + i] * row[i];
            }
            dst[(size_t)r * n_out + j] = sum;
        }
    }
    free(row);
    return dst;
}

static inline void reference_rope(reference *f, double *x, uint32_t n_heads)
{
    const op_rope *r = &reference_next(f, OP_ROPE)->rope;
    for (uint32_t t = 0; t < f->n; t++) {
        for (uint32_t h = 0; h < n_heads; h++) {
            double *v = x + ((size_t)t * n_heads + h) * r->head_dim;
            for (uint32_t i = 0; i < r->n_rot / 2; i++) {
                uint32_t ia = r->kind == ROPE_PAIRS ? 2 * i : i,
                         ib = r->kind == ROPE_PAIRS ? 2 * i + 1 : i + r->n_rot / 2;
                double c = cos(t * (double)r->inv_freq[i]), s = sin(t * (double)r->inv_freq[i]), a = v[ia], b = v[ib];
                v[ia] = a * c - b * s;
                v[ib] = a * s + b * c;
            }
        }
    }
}

static inline double *reference_attend(reference *f, const double *q, const double *k, const double *v)
{
    const op_attend *a = &reference_next(f, OP_ATTEND)->attend;
    uint32_t d = a->head_dim;
    double *out = reference_matrix(f->n, a->n_head * d), *p = reference_matrix(1, f->n);
    for (uint32_t t = 0; t < f->n; t++) {
        for (uint32_t h = 0; h < a->n_head; h++) {
            uint32_t hk = h * a->n_head_kv / a->n_head, first = a->window && t + 1 > a->window ? t + 1 - a->window : 0;
            double total = a->sinks ? exp(a->sinks[h]) : 0;
            for (uint32_t j = first; j <= t; j++) {
                double s = 0;
                for (uint32_t i = 0; i < d; i++) {
                    s += q[((size_t)t * a->n_head + h) * d + i] * k[((size_t)j * a->n_head_kv + hk) * d + i];
                }
                s *= a->scale;
                s = a->softcap > 0 ? a->softcap * tanh(s / a->softcap) : s;
                total += p[j] = exp(s);
            }
            for (uint32_t j = first; j <= t; j++) {
                for (uint32_t i = 0; i < d; i++) {
                    out[((size_t)t * a->n_head + h) * d + i] += p[j] / total *
                                                                v[((size_t)j * a->n_head_kv + hk) * d + i];
                }
            }
        }
    }
    free(p);
    return out;
}

static inline double reference_activate(activation act, double x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * pow(x, 3))));
    case ACT_GELU_ERF:
        return x / 2 * erfc(-x / sqrt(2.0));
    default:
        return fmax(x, 0);
    }
}

static inline void reference_join(reference *f, double *x, double *o)
{
    if (f->t->o.post_norm) {
        reference_norm(f, o, o, f->t->o.n_embd);
    }
    for (size_t i = 0; i < (size_t)f->n * f->t->o.n_embd; i++) {
        x[i] += o[i];
    }
    free(o);
}

static inline void reference_recurrent(reference *f, double *x)
{
    const tiny_options *o = &f->t->o;
    uint32_t width = o->n_head * o->head_dim;
    double *n = reference_matrix(f->n, o->n_embd);
    reference_norm(f, x, n, o->n_embd);
    double *a = reference_linear(f, n, o->n_embd, width);
    const float *decay = reference_next(f, OP_SCAN)->weight->data;
    for (size_t i = width; i < (size_t)f->n * width; i++) {
        a[i] += a[i - width] * decay[i % width];
    }
    double *gate = reference_linear(f, n, o->n_embd, width);
    for (size_t i = 0; i < (size_t)f->n * width; i++) {
        gate[i] = reference_activate(ACT_SILU, gate[i]) * a[i];
    }
    reference_join(f, x, reference_linear(f, gate, width, o->n_embd));
    free(n);
    free(a);
    free(gate);
}

static inline void reference_attention(reference *f, double *x)
{
    const tiny_options *o = &f->t->o;
    uint32_t n_q = o->n_head * o->head_dim, n_kv = o->n_head_kv * o->head_dim;
    double *n = reference_matrix(f->n, o->n_embd);
    reference_norm(f, x, n, o->n_embd);
    double *q = reference_linear(f, n, o->n_embd, n_q), *k = reference_linear(f, n, o->n_embd, n_kv);
    double *v = reference_linear(f, n, o->n_embd, n_kv);
    if (o->qk_norm) {
        reference_norm(f, q, q, n_q);
        reference_norm(f, k, k, n_kv);
    }
    reference_rope(f, q, o->n_head);
    reference_rope(f, k, o->n_head_kv);
    double *a = reference_attend(f, q, k, v);
    reference_join(f, x, reference_linear(f, a, n_q, o->n_embd));
    free(n);
    free(q);
    free(k);
    free(v);
    free(a);
}

static inline void reference_mlp(reference *f, double *x)
{
    const tiny_options *o = &f->t->o;
    double *n = reference_matrix(f->n, o->n_embd);
    reference_norm(f, x, n, o->n_embd);
    double *g = reference_linear(f, n, o->n_embd, o->n_ff), *u = reference_linear(f, n, o->n_embd, o->n_ff);
    for (size_t i = 0; i < (size_t)f->n * o->n_ff; i++) {
        g[i] = reference_activate(o->act, g[i]) * u[i];
    }
    reference_join(f, x, reference_linear(f, g, o->n_ff, o->n_embd));
    free(n);
    free(g);
    free(u);
}

/* logits[n][n_vocab] of one sequence from position 0. */
static inline void tiny_reference(const tiny *t, const int32_t *tokens, uint32_t n, float *logits)
{
    reference f = {.t = t, .n = n};
    uint32_t width = t->o.n_embd;
    double *x = reference_matrix(n, width);
    float *row = calloc(width, sizeof *row);
    const op *embed = reference_next(&f, OP_EMBED);
    for (uint32_t r = 0; r < n; r++) {
        codec_decode(embed->weight->type, (const uint8_t *)embed->weight->data + tokens[r] * embed->weight->row_bytes,
                     row, width);
        for (uint32_t i = 0; i < width; i++) {
            x[(size_t)r * width + i] = (double)row[i] * embed->scale;
        }
    }
    for (uint32_t i = 0; i < t->o.n_layers; i++) {
        if (t->o.scans && i % 3 == 1) {
            reference_recurrent(&f, x);
        } else {
            reference_attention(&f, x);
        }
        reference_mlp(&f, x);
    }
    reference_norm(&f, x, x, width);
    double *out = reference_linear(&f, x, width, t->o.n_vocab);
    for (size_t i = 0; i < (size_t)n * t->o.n_vocab; i++) {
        logits[i] = (float)(t->o.softcap > 0 ? t->o.softcap * tanh(out[i] / t->o.softcap) : out[i]);
    }
    free(out);
    free(row);
    free(x);
}

#endif
