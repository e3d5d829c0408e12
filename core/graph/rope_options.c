/*
 * Options of contexts and RoPE: what suits no model.
 * Owner: none. Lifetime: the call.
 */
#include "graph/rope_options.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

static const char *const names[] = {
    [MLXR_ROPE_NONE] = "none", [MLXR_ROPE_LINEAR] = "linear", [MLXR_ROPE_NTK] = "ntk", [MLXR_ROPE_YARN] = "yarn"};

bool mlxr_rope_scaling_find(const char *name, mlxr_rope_scaling *out)
{
    for (int i = MLXR_ROPE_NONE; i <= MLXR_ROPE_YARN; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (mlxr_rope_scaling)i;
            return true;
        }
    }
    return false;
}

const char *rope_options_name(mlxr_rope_scaling scaling)
{
    return names[scaling];
}

bool rope_options_stretch(const mlxr_rope_options *r)
{
    return r->scaling >= MLXR_ROPE_LINEAR;
}

bool rope_options_change(const mlxr_rope_options *r)
{
    return r->scaling != MLXR_ROPE_OF_FILE || r->base != 0;
}

static mlxr_status check_yarn(const mlxr_rope_options *r, mlxr_option_fault *fault, mlxr_error *error)
{
    const struct {
        const char *option, *words;
        float value;
    } numbers[] = {{"yarn_beta_fast", "beta-fast", r->yarn_beta_fast},
                   {"yarn_beta_slow", "beta-slow", r->yarn_beta_slow},
                   {"yarn_attn_factor", "attn-factor", r->yarn_attn_factor}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        float value = numbers[i].value;
        *fault = (mlxr_option_fault){.name = numbers[i].option};
        if (value != 0 && !(value > 0 && isfinite(value))) {
            return error_set(error, MLXR_ARG, "YaRN's %s %g: a number above 0 is needed", numbers[i].words,
                             (double)value);
        }
        if (value != 0 && r->scaling != MLXR_ROPE_YARN) {
            fault->needs = "rope_scaling";
            return error_set(error, MLXR_ARG, "YaRN's %s %g goes with RoPE scaling yarn", numbers[i].words,
                             (double)value);
        }
    }
    if (r->yarn_beta_fast != 0 && r->yarn_beta_fast <= r->yarn_beta_slow) {
        *fault = (mlxr_option_fault){.name = "yarn_beta_fast", .against = "yarn_beta_slow"};
        return error_set(error, MLXR_ARG, "YaRN's beta-fast %g must be more than its beta-slow %g",
                         (double)r->yarn_beta_fast, (double)r->yarn_beta_slow);
    }
    return MLXR_OK;
}

/* Numbers that are wrong whatever stands beside them, and what means nothing without a scaling. */
static mlxr_status check_scaling(const mlxr_rope_options *r, mlxr_option_fault *fault, mlxr_error *error)
{
    *fault = (mlxr_option_fault){.name = "rope_scaling"};
    if ((unsigned)r->scaling > MLXR_ROPE_YARN) {
        return error_set(error, MLXR_ARG, "RoPE scaling %d: there are none, linear, ntk and yarn", (int)r->scaling);
    }
    fault->name = "rope_scale";
    if (r->scale != 0 && !(r->scale >= 1 && r->scale <= CONTEXT_TOKENS_MAX)) {
        return error_set(error, MLXR_ARG,
                         "RoPE scale %g: it is how many times as far as it was trained for a model is to read, 1 to %u",
                         (double)r->scale, CONTEXT_TOKENS_MAX);
    }
    fault->name = "rope_base";
    if (r->base != 0 && !(r->base > 1 && isfinite(r->base))) {
        return error_set(error, MLXR_ARG, "RoPE base %g: it is a number above 1, such as 10000", (double)r->base);
    }
    if (!rope_options_stretch(r) && (r->scale != 0 || r->n_original != 0)) {
        *fault = (mlxr_option_fault){.name = r->scale != 0 ? "rope_scale" : "rope_original", .needs = "rope_scaling"};
        return error_set(error, MLXR_ARG, "%s goes with a scaling: linear, ntk or yarn",
                         r->scale != 0 ? "a RoPE scale" : "an original context");
    }
    return MLXR_OK;
}

/* How far a model is to read. */
static mlxr_status check_reach(const mlxr_model_options *o, mlxr_option_fault *fault, mlxr_error *error)
{
    const mlxr_rope_options *r = &o->rope;
    if (rope_options_stretch(r) && r->scale == 0 && o->n_ctx_max == 0) {
        *fault = (mlxr_option_fault){.name = "rope_scaling", .needs = "ctx"};
        return error_set(error, MLXR_ARG, "RoPE scaling %s: a context or a scale has to say how far",
                         names[r->scaling]);
    }
    if (rope_options_change(r) && o->n_ctx_max > CONTEXT_TOKENS_MAX) {
        *fault = (mlxr_option_fault){.name = "ctx"};
        return error_set(error, MLXR_LIMIT, "context of %u tokens: at most %u are possible", o->n_ctx_max,
                         CONTEXT_TOKENS_MAX);
    }
    return MLXR_OK;
}

mlxr_status mlxr_model_options_check(const mlxr_model_options *o, mlxr_option_fault *fault, mlxr_error *error)
{
    mlxr_option_fault found = {0};
    mlxr_status status = o ? check_scaling(&o->rope, &found, error) : MLXR_OK;
    if (o && status == MLXR_OK) {
        status = check_yarn(&o->rope, &found, error);
    }
    if (o && status == MLXR_OK) {
        status = check_reach(o, &found, error);
    }
    if (fault) {
        *fault = status == MLXR_OK ? (mlxr_option_fault){0} : found;
    }
    return status;
}
