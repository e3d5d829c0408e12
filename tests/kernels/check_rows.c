/*
 * Row kernels (norm, RoPE, activations, additions, caps, KV conversion) against plain loops in double, between guard
 * pages, at every length and alignment.
 * Owner: none. Lifetime: the program.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkkernels.h"
#include "kernels/cpu/ops.h"
#include "kernels/kv_row.h"
#include "kernels/rope_angles.h"
#include "quant/codec.h"

#define EPS 0x1p-23
#define N_MAX 1100u

/* A row between guard pages, and what was in it. */
typedef struct row {
    check_memory memory;
    float *x;
    float before[N_MAX];
} row;

static row row_make(check *c, uint32_t n, float spread)
{
    row r = {.memory = check_alloc(n * sizeof(float), check_below(c, 2))};
    r.x = (float *)(void *)r.memory.bytes;
    for (uint32_t i = 0; i < n; i++) {
        r.x[i] = r.before[i] = check_normal(c) * spread;
    }
    return r;
}

static uint32_t any_length(check *c)
{
    static const uint32_t usual[] = {64, 80, 128, 256, 576, 640, 1024};
    return check_below(c, 2) ? 1 + check_below(c, 130) : usual[check_below(c, sizeof usual / sizeof *usual)];
}

static void check_norm_row(check *c, const ops_table *t)
{
    uint32_t n = any_length(c);
    norm_kind kind = check_below(c, 2) ? NORM_RMS : NORM_LAYER;
    bool weighted = check_below(c, 4), biased = check_below(c, 2), in_place = check_below(c, 2);
    float spread = check_below(c, 3) ? 1.0f : 1e-12f, eps = 1e-6f;
    row src = row_make(c, n, spread), weight = row_make(c, n, 1.0f), bias = row_make(c, n, 0.5f),
        dst = row_make(c, n, 1.0f);
    float *out = in_place ? src.x : dst.x;
    t->norm(kind, src.x, out, weighted ? weight.x : NULL, biased ? bias.x : NULL, n, eps);
    double mean = 0, square = 0, worst = 0;
    for (uint32_t i = 0; i < n && kind == NORM_LAYER; i++) {
        mean += (double)src.before[i] / n;
    }
    for (uint32_t i = 0; i < n; i++) {
        square += ((double)src.before[i] - mean) * ((double)src.before[i] - mean) / n;
    }
    for (uint32_t i = 0; i < n; i++) {
        double w = weighted ? (double)weight.x[i] : 1, b = biased ? (double)bias.x[i] : 0,
               f = 1 / sqrt(square + (double)eps);
        double y = ((double)src.before[i] - mean) * f * w + b;
        double terms = (fabs((double)src.before[i]) + (kind == NORM_LAYER ? 4 * spread : 0)) * f * fabs(w) + fabs(b);
        worst = check_worse(worst, fabs(out[i] - y) / ((8 + sqrt(n)) * EPS * terms + 1e-30));
    }
    check_result(c, worst <= 1, "norm %d, n %u, spread %g: %.3g × the bound", (int)kind, n, (double)spread, worst);
    check_free(&src.memory);
    check_free(&weight.memory);
    check_free(&bias.memory);
    check_free(&dst.memory);
}

static void check_rope_row(check *c, const ops_table *t)
{
    uint32_t n_heads = 1 + check_below(c, 4), head_dim = 2 + check_below(c, 129),
             n_rot = check_below(c, head_dim / 2 + 1) * 2;
    if (check_below(c, 2)) {
        n_rot = head_dim = 64;
    }
    rope_kind kind = check_below(c, 2) ? ROPE_HALVES : ROPE_PAIRS;
    float inv_freq[128];
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        inv_freq[i] = powf(10000.0f, -2.0f * (float)i / (float)n_rot);
    }
    op_rope rope = {.kind = kind, .head_dim = head_dim, .n_rot = n_rot, .inv_freq = inv_freq, .magnitude = 1.25f};
    int32_t position = (int32_t)check_below(c, 100000);
    row x = row_make(c, n_heads * head_dim, 1.0f), cosines = row_make(c, n_rot / 2, 1.0f),
        sines = row_make(c, n_rot / 2, 1.0f);
    rope_angles_fill(&rope, position, 0, n_rot / 4, cosines.x, sines.x);
    rope_angles_fill(&rope, position, n_rot / 4, n_rot / 2, cosines.x, sines.x);
    t->rope(kind, x.x, n_heads, head_dim, n_rot, cosines.x, sines.x);
    double worst = 0;
    for (uint32_t h = 0; h < n_heads; h++) {
        for (uint32_t i = 0; i < head_dim; i++) {
            uint32_t pair = kind == ROPE_PAIRS ? i / 2 : i % (n_rot / 2 ? n_rot / 2 : 1);
            bool second = kind == ROPE_PAIRS ? i % 2 : i >= n_rot / 2;
            size_t ia = (size_t)h * head_dim + (kind == ROPE_PAIRS ? 2 * pair : pair),
                   ib = ia + (kind == ROPE_PAIRS ? 1 : n_rot / 2);
            double y = x.before[h * head_dim + i], terms = 0;
            if (i < n_rot) {
                double angle = position * (double)inv_freq[pair], a = x.before[ia], b = x.before[ib];
                double co = cos(angle) * 1.25, si = sin(angle) * 1.25;
                y = second ? a * si + b * co : a * co - b * si;
                terms = 1.25 * (fabs(a) + fabs(b));
            }
            worst = check_worse(worst, fabs(x.x[h * head_dim + i] - y) / (2 * EPS * terms + 1e-30));
        }
    }
    check_result(c, worst <= 1, "rope %d, %u heads of %u, %u turned: %.3g × the bound", (int)kind, n_heads, head_dim,
                 n_rot, worst);
    check_free(&x.memory);
    check_free(&cosines.memory);
    check_free(&sines.memory);
}

static double activate(activation act, double x, double *steepness)
{
    double u = act == ACT_GELU_TANH ? 2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x) : x;
    *steepness = fabs(u);
    switch (act) {
    case ACT_SILU:
    case ACT_GELU_TANH:
        return x / (1 + exp(-u));
    case ACT_GELU_ERF:
        return x / 2 * erfc(-x / sqrt(2.0));
    case ACT_RELU_SQUARED:
        return x > 0 ? x * x : 0;
    case ACT_NONE:
        return x;
    case ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case ACT_SWIGLU_CLAMPED:
        *steepness *= 1.702;
        return fmin(x, 7) / (1 + exp(-1.702 * fmin(x, 7)));
    default:
        return fmax(x, 0);
    }
}

static void check_gated_row(check *c, const ops_table *t)
{
    uint32_t n = any_length(c);
    activation act = (activation)check_below(c, ACT_COUNT);
    bool alone = act != ACT_SWIGLU_CLAMPED && check_below(c, 4) == 0;
    row gate = row_make(c, n, check_below(c, 2) ? 2.0f : 40.0f), up = row_make(c, n, 1.0f);
    t->gated(act, gate.x, alone ? NULL : up.x, n);
    double worst = 0;
    for (uint32_t i = 0; i < n; i++) {
        double u = alone ? 1 : act == ACT_SWIGLU_CLAMPED ? fmin(fmax(up.x[i], -7), 7) + 1 : (double)up.x[i];
        double steepness, y = activate(act, gate.before[i], &steepness) * u;
        double bound = (16 + 4 * steepness) * EPS * fabs(y) + 1e-33 * fabs(u) + 1e-38;
        worst = check_worse(worst, fabs(gate.x[i] - y) / bound);
    }
    check_result(c, worst <= 1, "gated %d, n %u: %.3g × the bound", (int)act, n, worst);
    check_free(&gate.memory);
    check_free(&up.memory);
}

static void check_curve_row(check *c, const ops_table *t)
{
    uint32_t n = any_length(c);
    op_curve curve = {.kind = check_below(c, 2) ? CURVE_XIELU : CURVE_CLAMP, .limit = check_uniform(c, 0.1f, 3.0f)};
    if (curve.kind == CURVE_XIELU) {
        curve = (op_curve){.kind = CURVE_XIELU,
                           .limit = check_below(c, 2) ? -1e-6f : -check_uniform(c, 0, 0.5f),
                           .rise = check_uniform(c, 0, 2.0f),
                           .fall = check_uniform(c, 0, 2.0f),
                           .slope = check_uniform(c, 0, 1.0f)};
    }
    row x = row_make(c, n, check_below(c, 2) ? 2.0f : 40.0f);
    x.x[0] = x.before[0] = check_below(c, 2) ? 0.0f : x.x[0];
    t->curve(&curve, x.x, n);
    double worst = 0;
    for (uint32_t i = 0; i < n; i++) {
        double v = x.before[i], y, terms;
        if (curve.kind == CURVE_CLAMP) {
            y = fmin(fmax(v, -(double)curve.limit), (double)curve.limit);
            terms = 0;
        } else {
            double e = v > 0 ? 0 : exp(fmin(v, (double)curve.limit));
            y = (double)curve.slope * v + (v > 0 ? (double)curve.rise * v * v : (double)curve.fall * (e - 1 - v));
            terms = fabs((double)curve.slope * v) +
                    (v > 0 ? (double)curve.rise * v * v : (double)curve.fall * (e + 1 + fabs(v)));
        }
        worst = check_worse(worst, fabs(x.x[i] - y) / (4 * EPS * terms + 1e-38));
    }
    check_result(c, worst <= 1, "curve %d, n %u: %.3g × the bound", (int)curve.kind, n, worst);
    check_free(&x.memory);
}

/* One row of a head of linear attention; the state may stay in its place. */
static void check_recur_row(check *c, const ops_table *t)
{
    uint32_t n_k = 1 + check_below(c, 24), n_v = 1 + check_below(c, N_MAX / 24 - 1);
    bool delta = check_below(c, 2), fresh = check_below(c, 4) == 0, in_place = check_below(c, 2);
    row state = row_make(c, n_k * n_v, 1.0f), next = row_make(c, n_k * n_v, 1.0f), q = row_make(c, n_k, 1.0f),
        k = row_make(c, n_k, 1.0f), v = row_make(c, n_v, 1.0f), out = row_make(c, n_v, 1.0f);
    recur_row r = {.before = fresh ? NULL : state.x,
                   .after = in_place ? state.x : next.x,
                   .before_stride = n_v,
                   .after_stride = n_v,
                   .q = q.x,
                   .k = k.x,
                   .v = v.x,
                   .out = out.x,
                   .n_k = n_k,
                   .n_v = n_v,
                   .fade = check_uniform(c, 0.0f, 1.0f),
                   .learn = check_uniform(c, 0.0f, 2.0f),
                   .delta = delta};
    t->recur(&r);
    double worst = 0;
    for (uint32_t i = 0; i < n_v; i++) {
        double known = 0, known_terms = 0, sum = 0, terms = 0;
        for (uint32_t j = 0; j < n_k && delta && !fresh; j++) {
            known += (double)state.before[j * n_v + i] * (double)k.x[j];
            known_terms += fabs((double)state.before[j * n_v + i] * (double)k.x[j]);
        }
        double learned = (double)r.learn * ((double)v.x[i] - (double)r.fade * known);
        double learned_terms = (double)r.learn * (fabs((double)v.x[i]) + (double)r.fade * known_terms);
        for (uint32_t j = 0; j < n_k; j++) {
            double s = fresh ? 0 : (double)r.fade * state.before[j * n_v + i];
            double y = s + (double)k.x[j] * learned, y_terms = fabs(s) + fabs((double)k.x[j]) * learned_terms;
            worst = check_worse(worst, fabs(r.after[j * n_v + i] - y) / ((8 + 2 * n_k) * EPS * y_terms + 1e-38));
            sum += y * (double)q.x[j];
            terms += y_terms * fabs((double)q.x[j]);
        }
        worst = check_worse(worst, fabs(out.x[i] - sum) / ((8 + 2 * n_k) * EPS * terms + 1e-38));
    }
    check_result(c, worst <= 1, "recur, state of %u × %u%s: %.3g × the bound", n_k, n_v, delta ? ", delta" : "", worst);
    check_free(&state.memory);
    check_free(&next.memory);
    check_free(&q.memory);
    check_free(&k.memory);
    check_free(&v.memory);
    check_free(&out.memory);
}

static void check_plain_rows(check *c, const ops_table *t)
{
    uint32_t n = any_length(c);
    float factor = check_uniform(c, -2.0f, 2.0f), cap = check_uniform(c, 1.0f, 60.0f);
    row a = row_make(c, n, 1.0f), b = row_make(c, n, 1.0f), s = row_make(c, n, 1.0f), k = row_make(c, n, cap),
        d = row_make(c, n, 1.0f), f = row_make(c, n, 1.0f);
    t->add(a.x, b.x, factor, n);
    t->scale(s.x, factor, n);
    t->softcap(k.x, cap, n);
    t->decay(d.x, b.x, f.x, n);
    double worst_decay = 0, worst_add = 0, worst_scale = 0, worst_cap = 0, product = 0, size = 0;
    float dot = t->dot(b.x, f.x, n);
    for (uint32_t i = 0; i < n; i++) {
        product += (double)b.x[i] * (double)f.x[i];
        size += fabs((double)b.x[i] * (double)f.x[i]);
        double sum = a.before[i] + (double)b.x[i] * (double)factor,
               terms = fabs((double)a.before[i]) + fabs((double)b.x[i] * (double)factor);
        worst_add = check_worse(worst_add, fabs(a.x[i] - sum) / (EPS * terms + 1e-38));
        double decayed = d.before[i] + (double)b.x[i] * (double)f.x[i];
        terms = fabs((double)d.before[i]) + fabs((double)b.x[i] * (double)f.x[i]);
        worst_decay = check_worse(worst_decay, fabs(d.x[i] - decayed) / (EPS * terms + 1e-38));
        worst_scale = check_worse(worst_scale, fabs(s.x[i] - s.before[i] * (double)factor) /
                                                   (EPS * fabs((double)s.before[i] * (double)factor) + 1e-38));
        worst_cap = check_worse(worst_cap, fabs(k.x[i] - (double)cap * tanh((double)k.before[i] / (double)cap)) /
                                               (8 * EPS * (double)cap));
    }
    check_result(c, worst_add <= 1, "add, n %u: %.3g × the bound", n, worst_add);
    check_result(c, fabs((double)dot - product) <= (n / 8.0 + 2) * EPS * size + 1e-38, "dot, n %u: %g instead of %g", n,
                 (double)dot, product);
    check_result(c, worst_decay <= 1, "decay, n %u: %.3g × the bound", n, worst_decay);
    check_result(c, worst_scale <= 1, "scale, n %u: %.3g × the bound", n, worst_scale);
    check_result(c, worst_cap <= 1, "softcap %g, n %u: %.3g × the bound", (double)cap, n, worst_cap);
    check_free(&a.memory);
    check_free(&b.memory);
    check_free(&s.memory);
    check_free(&k.memory);
    check_free(&d.memory);
    check_free(&f.memory);
}

/* Bounds of blocks, of rows that end anywhere; NaN counts for nothing. */
static void check_upper(check *c, const ops_table *t)
{
    uint32_t n = any_length(c);
    row values = row_make(c, n, 20.0f), lengths = row_make(c, n, 4.0f), out = row_make(c, n, 1.0f);
    float reach = check_uniform(c, -1.0f, 1.0f);
    values.x[n / 3] = NAN;
    t->upper(values.x, lengths.x, reach, n, out.x);
    double worst = 0;
    for (uint32_t i = 0; i < n; i += OPS_UPPER_BLOCK) {
        double most = -INFINITY, size = 0;
        for (uint32_t j = i; j < n && j < i + OPS_UPPER_BLOCK; j++) {
            if (j != n / 3) {
                double one = (double)values.x[j] + (double)lengths.x[j] * (double)reach;
                most = fmax(most, one);
                size = fmax(size, fabs((double)values.x[j]) + fabs((double)lengths.x[j] * (double)reach));
            }
        }
        double error = fabs(out.x[i / OPS_UPPER_BLOCK] - most);
        double ratio = out.x[i / OPS_UPPER_BLOCK] == (float)most ? 0 : error / (EPS * size + 1e-38);
        worst = check_worse(worst, ratio);
    }
    check_result(c, worst <= 1, "upper, n %u: %.3g × the bound", n, worst);
    check_free(&values.memory);
    check_free(&lengths.memory);
    check_free(&out.memory);
}

static void check_kv_row(check *c, const ops_table *t)
{
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const uint32_t odd[] = {0x7f800000, 0xff800000, 0x7fc12345, 0x00000001, 0x80000000, 0x477fefff, 0x477ff000,
                                   0xc7800000, 0x33000000, 0x33000001, 0x387fc000, 0x38800000, 0x7f7fffff, 0x3f808000};
    dtype type = types[check_below(c, 3)];
    uint32_t n = any_length(c), wrong = 0;
    row src = row_make(c, n, check_below(c, 2) ? 1.0f : 1e-5f);
    for (uint32_t i = 0; i < n; i += 1 + check_below(c, 9)) {
        src.x[i] = float_from_bits(odd[check_below(c, sizeof odd / sizeof *odd)]);
    }
    check_memory dst = check_alloc(dtype_row_bytes(type, n), check_below(c, 2));
    t->to_kv(type, src.x, dst.bytes, n);
    for (uint32_t i = 0; i < n; i++) {
        float x = src.x[i], y;
        uint16_t word, want = type == DTYPE_BF16 ? bf16_from_float(x)
                                                 : half_from_float(x > 65504    ? 65504
                                                                   : x < -65504 ? -65504
                                                                                : x);
        memcpy(type == DTYPE_F32 ? (void *)&y : (void *)&word, dst.bytes + i * dtype_row_bytes(type, 1),
               dtype_row_bytes(type, 1));
        if (type == DTYPE_F32) {
            wrong += float_to_bits(x) != float_to_bits(y);
        } else if (isnan(x)) {
            wrong += !isnan(type == DTYPE_BF16 ? bf16_to_float(word) : half_to_float(word));
        } else {
            wrong += word != want;
        }
    }
    check_result(c, wrong == 0, "to_kv %s, n %u: %u elements wrong", dtype_name(type), n, wrong);
    check_free(&src.memory);
    check_free(&dst);
}

/* What a block loses: Q8_0 half a step of a scale that half precision rounds, Q4_0 (whose scale is searched for) a
 * share of its energy. `x` is the block turned, `found` what is read of it. */
static double block_loss(dtype type, const float *x, const float *found)
{
    double most = 0, wrong = 0, all = 0, worst = 0;
    for (uint32_t i = 0; i < KV_BLOCK; i++) {
        double e = fabs((double)x[i] - (double)found[i]);
        most = fmax(most, fabs((double)x[i]));
        worst = check_worse(worst, e);
        wrong += e * e;
        all += (double)x[i] * (double)x[i];
    }
    if (type == DTYPE_Q8_0) {
        return worst / (most / 254 * (1 + 0x1p-9) + 0x1p-25 * 128);
    }
    double step = most / 7 * (1 + 0x1p-9); /* of the coarsest scale that cuts nothing off: errors up to half of it */
    return wrong / fmin(32 * (step / 2) * (step / 2) + 0x1p-40, all * 1.001 + 0x1p-40);
}

/* A row of blocks: the bits of the definition; what is read is near what was written; NaN and infinity stay visible. */
static void check_block_row(check *c, const ops_table *t)
{
    dtype type = check_below(c, 2) ? DTYPE_Q8_0 : DTYPE_Q4_0;
    uint32_t n = 32 * (1 + check_below(c, 16)), length = kv_turn_length(type, n), n_bad = check_below(c, 8) == 0;
    size_t n_bytes = dtype_row_bytes(type, n);
    row src = row_make(c, n, check_below(c, 4) ? 1.0f : check_below(c, 2) ? 1e-7f : 2e4f);
    for (uint32_t i = check_below(c, 40); i < n; i += 1 + check_below(c, 40)) { /* outliers, whole numbers */
        src.x[i] = check_below(c, 3) ? rintf(src.x[i] * 4) : src.x[i] * 30;
    }
    uint32_t bad = check_below(c, n);
    if (n_bad) {
        src.x[bad] = check_below(c, 2) ? NAN : -INFINITY;
    }
    check_memory dst = check_alloc(n_bytes, check_below(c, 2)), want = check_alloc(n_bytes, true);
    float *turned = malloc(n * sizeof *turned), *blocks = malloc(n * sizeof *blocks);
    memcpy(turned, src.x, n * sizeof *turned);
    kv_turn_scalar(turned, n, length, kv_turn_factor(length));
    t->to_kv(type, src.x, dst.bytes, n);
    kv_row_encode_scalar(type, src.x, want.bytes, n);
    check_result(c, memcmp(dst.bytes, want.bytes, n_bytes) == 0, "to_kv %s, n %u: other bits than the definition's",
                 dtype_name(type), n);
    codec_decode(type, dst.bytes, blocks, n);
    double worst = 0;
    bool marked = true;
    for (uint32_t i = 0; i < n; i += KV_BLOCK) {
        if (n_bad && i / length == bad / length) {
            for (uint32_t j = 0; j < KV_BLOCK; j++) {
                marked = marked && isnan(blocks[i + j]);
            }
        } else {
            worst = check_worse(worst, block_loss(type, turned + i, blocks + i));
        }
    }
    check_result(c, worst <= 1 && marked, "to_kv %s, n %u: %.3g × the bound%s", dtype_name(type), n, worst,
                 marked ? "" : ", a NaN is lost");
    free(turned);
    free(blocks);
    check_free(&src.memory);
    check_free(&dst);
    check_free(&want);
}

/* A row of words: the bits of the definition; what is read is near what was written; products of the longest rows fit
 * 32 bits; NaN and infinity stay visible. */
static void check_words(check *c, const ops_table *t)
{
    kv_words_kind kind = check_below(c, 2) ? KV_WORDS_KEY : KV_WORDS_VALUE;
    uint32_t n = 32 * (1 + check_below(c, 32)), n_bad = check_below(c, 8) == 0;
    row src = row_make(c, n, check_below(c, 4) ? 1.0f : check_below(c, 2) ? 1e-35f : 1e30f);
    int16_t words[KV_WORDS_MAX], want[KV_WORDS_MAX];
    for (uint32_t i = check_below(c, 40); i < n && check_below(c, 2); i += 1 + check_below(c, 40)) {
        src.x[i] *= 30;
    }
    for (uint32_t i = 0; i < n && check_below(c, 16) == 0; i++) {
        src.x[i] = i ? 0 : src.x[0];
    }
    if (n_bad) {
        src.x[check_below(c, n)] = check_below(c, 2) ? NAN : -INFINITY;
    }
    float scale = t->to_words(kind, src.x, n, words), expected = kv_words_encode_scalar(kind, src.x, n, want);
    bool same = memcmp(words, want, n * sizeof *words) == 0 && memcmp(&scale, &expected, sizeof scale) == 0;
    same = same || (n_bad && isnan(scale) && isnan(expected) && memcmp(words, want, n * sizeof *words) == 0);
    check_result(c, same && isnan(scale) == n_bad, "to_words, n %u: other bits than the definition's", n);
    double squares = 0, worst = 0, most = 0, length = 0;
    for (uint32_t i = 0; i < n && !n_bad; i++) {
        squares += (double)words[i] * words[i];
        most = fmax(most, fabs((double)src.x[i]));
        length += (double)src.x[i] * (double)src.x[i];
        worst = check_worse(worst, fabs((double)src.x[i] - (double)scale * words[i]));
    }
    double step = kind == KV_WORDS_VALUE ? most / (double)KV_VALUES_TOP
                                         : fmax(most / (double)KV_WORDS_TOP, sqrt(length) / (double)KV_WORDS_LENGTH);
    bool fits = kind == KV_WORDS_VALUE ? true : squares < 0x1p31;
    check_result(c, fits && worst <= step * 0.51 + (double)KV_WORDS_LEAST,
                 "to_words, n %u: off by %.3g steps, length² %g", n, worst / step, squares);
    check_free(&src.memory);
}

/* Turning: the bits of the definition; twice is the identity, but for rounding. */
static void check_turn(check *c, const ops_table *t)
{
    uint32_t length = 32u << check_below(c, 4), n = length * (1 + check_below(c, 3));
    row src = row_make(c, n, 1.0f);
    float *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
    memcpy(a, src.x, n * sizeof *a);
    memcpy(b, src.x, n * sizeof *b);
    kv_turn_scalar(b, n, length, kv_turn_factor(length));
    bool same = true;
    if (t->attend.turn) {
        t->attend.turn(a, n, length, kv_turn_factor(length));
        same = memcmp(a, b, n * sizeof *a) == 0;
    }
    kv_turn_scalar(b, n, length, kv_turn_back_factor(length));
    double worst = 0;
    for (uint32_t i = 0; i < n; i++) {
        worst = check_worse(worst, fabs((double)b[i] - (double)src.x[i]));
    }
    check_result(c, same && worst < 20 * EPS * 4, "turn %u of %u: %s, off by %.3g", length, n,
                 same ? "same bits" : "other bits", worst);
    free(a);
    free(b);
    check_free(&src.memory);
}

/* NaN must come out as NaN, not as some number. */
static void check_nan_rows(check *c, const ops_table *t)
{
    uint32_t n = any_length(c), at = check_below(c, n);
    row x = row_make(c, n, 1.0f), y = row_make(c, n, 1.0f), z = row_make(c, n, 1.0f);
    activation act = (activation)check_below(c, 3);
    x.x[at] = y.x[at] = z.x[at] = NAN;
    t->norm(NORM_RMS, x.x, x.x, NULL, NULL, n, 1e-6f);
    t->gated(act, y.x, z.before, n);
    t->softcap(z.x, 30.0f, n);
    bool norm = true;
    for (uint32_t i = 0; i < n; i++) {
        norm = norm && isnan(x.x[i]);
    }
    check_result(c, norm && isnan(y.x[at]) && isnan(z.x[at]), "NaN at %u of %u is lost (activation %d)", at, n,
                 (int)act);
    check_free(&x.memory);
    check_free(&y.memory);
    check_free(&z.memory);
}

static void run(check *c)
{
    ops_table t = ops_table_make(c->features);
    uint32_t n = c->quick ? 300 : 5000;
    for (uint32_t i = 0; i < n; i++) {
        check_norm_row(c, &t);
        check_rope_row(c, &t);
        check_gated_row(c, &t);
        check_curve_row(c, &t);
        check_plain_rows(c, &t);
        check_recur_row(c, &t);
        check_kv_row(c, &t);
        check_block_row(c, &t);
        check_turn(c, &t);
        check_words(c, &t);
        check_nan_rows(c, &t);
        check_upper(c, &t);
    }
}

/* ---- speed ---- */

static void report(check *c, const char *name, uint32_t n, double seconds, double scalar)
{
    printf("%-16s n %5u  %-11s %8.1f ns  %6.2f ns/16  %6.1f × scalar\n", name, n, c->set, seconds * 1e9,
           seconds * 1e9 * 16 / n, scalar / seconds);
}

static double time_row(const ops_table *t, int which, float *x, float *y, uint32_t n)
{
    double best = 1;
    for (int r = 0; r < 50; r++) {
        double begin = check_seconds();
        for (int i = 0; i < 20; i++) {
            switch (which) {
            case 0:
                t->norm(NORM_RMS, x, y, x, NULL, n, 1e-6f);
                break;
            case 1:
                t->gated(ACT_SILU, y, x, n);
                break;
            case 2:
                t->gated(ACT_GELU_TANH, y, x, n);
                break;
            case 3:
                t->rope(ROPE_PAIRS, y, n / 64, 64, 64, x, x + 32);
                break;
            case 4:
                t->rope(ROPE_HALVES, y, n / 64, 64, 64, x, x + 32);
                break;
            case 5:
                t->softcap(y, 30.0f, n);
                break;
            case 6:
                t->to_kv(DTYPE_F16, x, y, n);
                break;
            default: /* heads of 64 */
                for (uint32_t h = 0; h < n; h += 64) {
                    t->to_kv(which == 7 ? DTYPE_Q8_0 : DTYPE_Q4_0, x + h, y + h, 64);
                }
                break;
            }
        }
        best = fmin(best, (check_seconds() - begin) / 20);
    }
    return best;
}

static void bench(check *c)
{
    static const char *const names[] = {"norm rms", "silu",   "gelu tanh", "rope pairs", "rope halves",
                                        "softcap",  "to f16", "to q8_0",   "to q4_0"};
    static float x[4096], y[4096];
    ops_table fast = ops_table_make(c->features), scalar = ops_table_scalar();
    for (uint32_t i = 0; i < 4096; i++) {
        x[i] = check_uniform(c, -1.0f, 1.0f);
        y[i] = 1.0f;
    }
    for (int i = 0; i < 9; i++) {
        for (uint32_t n = 576; n <= 2304; n *= 4) {
            report(c, names[i], n, time_row(&fast, i, x, y, n), time_row(&scalar, i, x, y, n));
        }
    }
}

const check_suite check_rows = {.name = "rows", .run = run, .bench = bench};
