/*
 * Contexts beyond the one a model was trained for.
 * Owner: none. Lifetime: the call.
 */
#include "graph/rope_extend.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "base/error.h"

static const char *kind_name(rope_scaling_kind kind)
{
    static const char *const names[] = {
        [ROPE_SCALING_NONE] = "none",     [ROPE_SCALING_LINEAR] = "linear",     [ROPE_SCALING_YARN] = "yarn",
        [ROPE_SCALING_LLAMA3] = "llama3", [ROPE_SCALING_LONGROPE] = "longrope", [ROPE_SCALING_NTK] = "ntk"};
    return names[kind];
}

/* ---- what the model has ------------------------------------------------------------------------------------------ */

/* Layers that options can change: how far back the one that sees most sees; 0: no layer turns with the theta of those.
 */
static uint32_t turned_reach(const hparams *h)
{
    uint32_t reach = 0;
    for (uint32_t i = 0; i < h->n_layers && !h->fam->positions && h->n_rot; i++) {
        bool own_theta = h->layer_has_window[i] && h->rope_theta_local > 0;
        if (h->layer_kinds[i] == LAYER_ATTENTION && !h->layer_is_unturned[i] && !own_theta) {
            uint32_t sees = h->layer_has_window[i] ? h->window : UINT32_MAX;
            reach = sees > reach ? sees : reach;
        }
    }
    return reach;
}

/* `n` tokens, `factor` times; a factor is a float, and does not quite say what was meant. */
static double tokens_times(uint32_t n, double factor)
{
    double all = n * factor, whole = round(all);
    return fabs(all - whole) <= all * (double)FLT_EPSILON / 2 ? whole : floor(all);
}

/* What the model reads as its file has it. A YaRN's factor is not always in the context that the file names. */
static uint32_t own_reach(const hparams *h)
{
    const rope_scaling *s = &h->scaling;
    double reach = s->kind == ROPE_SCALING_YARN ? tokens_times(s->n_ctx_orig, (double)s->factor) : 0;
    return reach > h->n_ctx_train ? (uint32_t)fmin(reach, CONTEXT_TOKENS_MAX) : h->n_ctx_train;
}

bool rope_turns(const hparams *h)
{
    return turned_reach(h) >= h->n_ctx_train;
}

static mlxr_status refuse_unturned(const hparams *h, mlxr_error *error)
{
    uint32_t reach = turned_reach(h);
    if (h->fam->positions) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "%s models learn each position and have no RoPE to stretch: this one has %u positions, and "
                         "texts have to be cut to them",
                         h->fam->name, h->n_ctx_train);
    }
    if (reach) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "layers of this %s model that turn see %u tokens back in any context, so that there is no "
                         "RoPE to stretch; scaling none reads further",
                         h->fam->name, reach);
    }
    return error_set(error, MLXR_UNSUPPORTED,
                     "layers of this %s model that see everything have no RoPE to stretch; scaling none reads further",
                     h->fam->name);
}

/* Factors of pairs that turn belong to one base, and to no other scaling. */
static void look_at_factors(hparams *h, const float *factors)
{
    h->rope_factored = false;
    h->n_pairs_still = 0;
    for (uint32_t i = 0; factors && i < h->n_rot / 2; i++) {
        h->n_pairs_still += factors[i] >= ROPE_FACTOR_STILL;
        h->rope_factored = h->rope_factored || (factors[i] != 1 && factors[i] < ROPE_FACTOR_STILL);
    }
}

/* What the file has, in a word. */
static const char *own_name(const hparams *h)
{
    return h->scaling.kind == ROPE_SCALING_NONE && h->rope_factored ? "factors" : kind_name(h->scaling.kind);
}

/* Was the model trained with that? YaRN is what a file may have without. */
static bool trained_with_own(const hparams *h)
{
    return h->rope_factored || (h->scaling.kind != ROPE_SCALING_NONE && h->scaling.kind != ROPE_SCALING_YARN);
}

static rope_scaling_kind kind_of(mlxr_rope_scaling asked)
{
    return asked == MLXR_ROPE_NTK ? ROPE_SCALING_NTK : ROPE_SCALING_YARN;
}

/* Does a scaling go with the file's own? Linear goes with any: it divides what that gives. */
static bool goes_with_own(const hparams *h, mlxr_rope_scaling asked)
{
    rope_scaling_kind own = h->scaling.kind;
    return asked == MLXR_ROPE_LINEAR || (!h->rope_factored && (own == ROPE_SCALING_NONE || own == kind_of(asked)));
}

/* NTK's exponent and YaRN's ramp are quotients of the first two. Where a share of a proportional head turns, its
 * slowest pair is a fast one: NTK would not divide it by the factor, and YaRN leave all of them and change magnitudes
 * alone. */
static bool turns_enough(const hparams *h, mlxr_rope_scaling asked)
{
    return asked == MLXR_ROPE_LINEAR || (h->n_rot > 2 && h->rope_theta > 1 && h->n_pairs_still == 0);
}

const char *rope_advice(const hparams *h)
{
    static const struct {
        mlxr_rope_scaling scaling;
        const char *words;
    } best_first[] = {{MLXR_ROPE_YARN, "--rope-scaling yarn reads further, if somewhat worse"},
                      {MLXR_ROPE_NTK, "--rope-scaling ntk reads further, if somewhat worse"},
                      {MLXR_ROPE_LINEAR, "--rope-scaling linear reads further, if clearly worse"}};
    if (h->fam->positions) {
        return NULL;
    }
    if (!rope_turns(h)) {
        return "--rope-scaling none reads further: none of its positions is new to the model";
    }
    size_t i = 0;
    while (!goes_with_own(h, best_first[i].scaling) || !turns_enough(h, best_first[i].scaling)) {
        i++;
    }
    return best_first[i].words;
}

/* ---- changing it ------------------------------------------------------------------------------------------------- */

/* What YaRN multiplies cos and sin with, of a file whose number there is one for `factor` (write_attention_factor). */
static double yarn_magnitude(const hparams *h, double factor)
{
    double paper = 0.1 * log(factor);
    return (1 + paper) / (1 + (h->fam->latent ? 0 : h->yarn_log_multiplier) * paper);
}

/* DeepSeek's scale on q·k has YaRN's factor in it. */
static void rescale_latent(hparams *h, double was, double now)
{
    if (h->fam->latent && h->yarn_log_multiplier != 0) {
        double more = (1 + h->yarn_log_multiplier * log(now)) / (1 + h->yarn_log_multiplier * log(was));
        h->attn_scale = (float)(h->attn_scale * more * more);
        h->rope_changed = h->rope_changed || more != 1;
    }
}

/* The factor that attention has in it: files with a scaling of another name may have one, too. */
static double factor_in_attention(const rope_scaling *s)
{
    return s->factor > 1 ? s->factor : 1;
}

static void take_scaling_away(hparams *h)
{
    rope_scaling *s = &h->scaling;
    if (s->kind != ROPE_SCALING_NONE || h->rope_factored) {
        h->rope_lost = own_name(h);
        h->rope_lost_factor = rope_factor(h);
        h->rope_unfactored = h->rope_factored;
        h->rope_factored = false;
        h->rope_changed = true;
    }
    rescale_latent(h, factor_in_attention(s), 1);
    s->kind = ROPE_SCALING_NONE;
    s->factor = 1;
    s->attn_factor = 0;
}

/* The numbers of YaRN that options have for a file's, or for the paper's. */
static mlxr_status set_yarn_numbers(hparams *h, const mlxr_rope_options *r, mlxr_error *error)
{
    rope_scaling *s = &h->scaling;
    s->beta_fast = r->yarn_beta_fast != 0 ? r->yarn_beta_fast : s->beta_fast;
    s->beta_slow = r->yarn_beta_slow != 0 ? r->yarn_beta_slow : s->beta_slow;
    if (r->yarn_attn_factor != 0) {
        float own = s->attn_factor > 0 ? s->attn_factor : (float)(0.1 * log(s->factor) + 1);
        s->attn_factor = own * r->yarn_attn_factor;
    }
    if ((r->yarn_beta_fast != 0 || r->yarn_beta_slow != 0) && s->beta_fast <= s->beta_slow) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "YaRN's beta-fast %g must be more than its beta-slow %g, of which one is this model's own, or "
                         "the usual",
                         (double)s->beta_fast, (double)s->beta_slow);
    }
    return MLXR_OK;
}

/* YaRN's factor is `factor` from now on. A number that the file has for its own factor keeps its proportion to the
 * paper's. */
static void set_yarn(hparams *h, double factor)
{
    rope_scaling *s = &h->scaling;
    double was = factor_in_attention(s);
    if (h->fam->latent && h->yarn_log_multiplier != 0) {
        s->attn_factor = s->attn_factor > 0 ? s->attn_factor : 1;
    } else if (s->attn_factor > 0) {
        s->attn_factor = (float)(s->attn_factor * yarn_magnitude(h, factor) / yarn_magnitude(h, was));
    }
    rescale_latent(h, was, factor);
    s->kind = ROPE_SCALING_YARN;
    s->factor = (float)factor;
}

static mlxr_status refuse_beside_own(const hparams *h, mlxr_rope_scaling asked, mlxr_error *error)
{
    char before[32] = "", instead[128] = "linear reads further";
    if (h->scaling.n_ctx_orig < h->n_ctx_train) {
        snprintf(before, sizeof before, "%u ", h->scaling.n_ctx_orig);
    }
    if (asked != MLXR_ROPE_NONE) {
        snprintf(instead, sizeof instead,
                 "linear goes with it, and an original context, the %stokens from before it, replaces it", before);
    }
    return error_set(error, MLXR_UNSUPPORTED,
                     "RoPE scaling %s: the file's own is %s, which the model was trained with; %s",
                     rope_options_name(asked), own_name(h), instead);
}

static mlxr_status check_scaling(const hparams *h, mlxr_rope_scaling asked, mlxr_error *error)
{
    if (!goes_with_own(h, asked)) {
        return refuse_beside_own(h, asked, error);
    }
    if (turns_enough(h, asked)) {
        return MLXR_OK;
    }
    if (h->n_pairs_still) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "RoPE scaling %s: of proportional RoPE, %u of %u pairs turn, with the frequencies of a whole "
                         "head; linear reads further",
                         rope_options_name(asked), h->n_rot / 2 - h->n_pairs_still, h->n_rot / 2);
    }
    return error_set(error, MLXR_UNSUPPORTED,
                     "RoPE scaling %s: a head has %u turning elements and theta %g; more than 2 and above 1 are needed",
                     rope_options_name(asked), h->n_rot, (double)h->rope_theta);
}

/* The frequencies, for contexts `factor` times as long. */
static mlxr_status stretch(hparams *h, const mlxr_rope_options *r, double factor, mlxr_error *error)
{
    rope_scaling *s = &h->scaling;
    mlxr_rope_scaling asked = r->scaling;
    rope_scaling_kind kind = kind_of(asked);
    mlxr_status status = check_scaling(h, asked, error);
    if (status != MLXR_OK) {
        return status;
    }
    h->rope_changed = true;
    if (asked == MLXR_ROPE_LINEAR) {
        h->rope_stretch = (float)factor;
        return MLXR_OK;
    }
    double all = s->kind == kind ? factor * s->factor : factor;
    if (!(all < FLT_MAX)) {
        return error_set(error, MLXR_UNSUPPORTED, "RoPE scaling %s by %g times the file's %g is beyond any number",
                         rope_options_name(asked), factor, (double)s->factor);
    }
    if (kind == ROPE_SCALING_YARN) {
        s->n_ctx_orig = s->kind == kind ? s->n_ctx_orig : h->n_ctx_from;
        set_yarn(h, all);
        return set_yarn_numbers(h, r, error);
    }
    s->kind = kind;
    s->factor = (float)all;
    return MLXR_OK;
}

/* A context that is asked for with the frequencies of the file, or with those of another theta. */
static mlxr_status extend_plainly(hparams *h, const mlxr_model_options *o, mlxr_error *error)
{
    bool none = o->rope.scaling == MLXR_ROPE_NONE;
    if (none && trained_with_own(h) && rope_turns(h) && o->n_ctx_max > h->n_ctx_from) {
        return refuse_beside_own(h, MLXR_ROPE_NONE, error);
    }
    if (none && h->scaling.kind == ROPE_SCALING_YARN) {
        h->n_ctx = h->n_ctx_from = h->scaling.n_ctx_orig;
        take_scaling_away(h);
    }
    if (o->n_ctx_max) {
        h->n_ctx = h->rope_slower || none || o->n_ctx_max < h->n_ctx_from ? o->n_ctx_max : h->n_ctx_from;
    }
    return MLXR_OK;
}

static mlxr_status extend_by_factor(hparams *h, const mlxr_model_options *o, mlxr_error *error)
{
    const mlxr_rope_options *r = &o->rope;
    if (r->n_original) {
        h->n_ctx_from = r->n_original;
        h->n_ctx_from_named = true;
        take_scaling_away(h);
    }
    double factor = r->scale != 0 ? (double)r->scale : (double)o->n_ctx_max / h->n_ctx_from;
    if (factor <= 1) { /* it reads as many anyway */
        h->n_ctx = o->n_ctx_max && o->n_ctx_max < h->n_ctx_from ? o->n_ctx_max : h->n_ctx_from;
        return MLXR_OK;
    }
    double limit = r->scale != 0 ? tokens_times(h->n_ctx_from, factor) : o->n_ctx_max;
    if (limit > CONTEXT_TOKENS_MAX) {
        return error_set(error, MLXR_UNSUPPORTED, "RoPE scale %g of %u tokens: a context has at most %u", factor,
                         h->n_ctx_from, CONTEXT_TOKENS_MAX);
    }
    h->n_ctx = o->n_ctx_max && o->n_ctx_max < limit ? o->n_ctx_max : (uint32_t)limit;
    return stretch(h, r, factor, error);
}

/* What of the options this model has no answer to. */
static mlxr_status check_model(const hparams *h, const mlxr_rope_options *r, mlxr_error *error)
{
    const rope_scaling *s = &h->scaling;
    if (h->fam->positions || ((rope_options_stretch(r) || r->base != 0) && !rope_turns(h))) {
        return refuse_unturned(h, error);
    }
    if (r->n_original > h->n_ctx_from) {
        return error_set(error, MLXR_UNSUPPORTED, "RoPE original context %u: the model's context is %u", r->n_original,
                         h->n_ctx_from);
    }
    bool belongs = s->kind == ROPE_SCALING_LLAMA3 || s->kind == ROPE_SCALING_LONGROPE || h->rope_factored;
    if (r->base != 0 && r->n_original == 0 && belongs) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "RoPE base %g: the file's scaling belongs to its own base, %g; an original context in the "
                         "options replaces both",
                         (double)r->base, (double)h->rope_theta);
    }
    return MLXR_OK;
}

mlxr_status rope_extend(hparams *h, const float *factors, const mlxr_model_options *o, mlxr_error *error)
{
    h->rope_stretch = 1;
    look_at_factors(h, factors);
    h->n_ctx_from = own_reach(h);
    h->n_ctx = o && o->n_ctx_max ? (uint32_t)fmin(o->n_ctx_max, h->n_ctx_from) : h->n_ctx_train;
    mlxr_status status = mlxr_model_options_check(o, NULL, error);
    if (status != MLXR_OK || !o || !rope_options_change(&o->rope)) {
        return status;
    }
    const mlxr_rope_options *r = &o->rope;
    bool within = r->base == 0 && r->scale <= 1 && r->n_original == 0 && o->n_ctx_max <= h->n_ctx_from;
    bool unscales = r->scaling == MLXR_ROPE_NONE && h->scaling.kind == ROPE_SCALING_YARN && !r->if_possible;
    if (within && !unscales) {
        return MLXR_OK; /* it reads as many anyway */
    }
    status = check_model(h, r, error);
    if (status != MLXR_OK) {
        return status;
    }
    if (r->base != 0) {
        h->rope_changed = r->base != h->rope_theta;
        h->rope_slower = r->base > h->rope_theta;
        h->rope_theta = r->base;
    }
    return rope_options_stretch(r) ? extend_by_factor(h, o, error) : extend_plainly(h, o, error);
}

const char *rope_name(const hparams *h)
{
    return !rope_turns(h) ? "" : h->rope_stretch != 1 ? "linear" : own_name(h);
}

float rope_factor(const hparams *h)
{
    rope_scaling_kind kind = h->scaling.kind;
    bool own = h->rope_stretch == 1 ? kind != ROPE_SCALING_NONE : kind == ROPE_SCALING_LINEAR; /* it goes on */
    return own ? h->rope_stretch * h->scaling.factor : h->rope_stretch;
}
