/*
 * How far a model reads.
 * Owner: none. Lifetime: the call.
 */
#include "context.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

static const char *const rope_options[] = {"rope-scaling",   "rope-scale",     "rope-base",       "rope-original",
                                           "yarn-beta-fast", "yarn-beta-slow", "yarn-attn-factor"};
#define N_ROPE_OPTIONS (sizeof rope_options / sizeof *rope_options)

bool context_is_rope(const option_spec *spec)
{
    return strncmp(spec->name, "rope-", 5) == 0 || strncmp(spec->name, "yarn-", 5) == 0;
}

static bool bad(mlxr_error *error, const char *option, const char *value, const char *why)
{
    *error = (mlxr_error){.status = MLXR_ARG};
    snprintf(error->text, sizeof error->text, "--%s %.60s: %s", option, value, why);
    return false;
}

/* A scaling that could be meant is named. */
static bool needs_scaling(mlxr_error *error, const options *o)
{
    const char *name = o->rope_scale != 0 ? "rope-scale" : "rope-original";
    char value[32];
    options_format(o, options_find(name, strlen(name), GROUPS_ROPE), value, sizeof value);
    return bad(error, name, value, "it goes with a scaling, linear, ntk or yarn; add --rope-scaling yarn");
}

/* What a model was made with; 0: nothing. */
static uint32_t own_context(const registry_model *m)
{
    long long own = 0;
    for (size_t i = 0; m && i < m->parameters.n; i++) {
        own = strcmp(m->parameters.items[i].name, "num_ctx") == 0 ? strtoll(m->parameters.items[i].value, NULL, 10)
                                                                  : own;
    }
    return own > 0 && own < UINT32_MAX ? (uint32_t)own : 0;
}

bool context_is_window(const options *o)
{
    return options_given(o, options_find("ctx", 3, GROUP_PERPLEXITY | GROUP_IMATRIX));
}

/* What a model reads by itself; 0: loading it will say what is wrong. RoPE is fixed when a model is loaded and this has
 * to be known before; describing the file first costs a millisecond or two. */
static uint32_t trained_context(const char *path)
{
    mlxr_error error;
    char *text = NULL;
    if (mlxr_model_describe(path, &text, &error) != MLXR_OK) {
        return 0;
    }
    json_t *description = json_loads(text, 0, NULL);
    json_int_t n = json_integer_value(json_object_get(json_object_get(description, "context"), "trained"));
    json_decref(description);
    mlxr_free(text);
    return n > 0 && n < UINT32_MAX ? (uint32_t)n : 0;
}

/* The context of a window. The factor comes of it where none is named; where nothing is stretched, there is room for
 * BOS before the window, as there is without options. */
static uint32_t context_of_window(const options *o, const char *path)
{
    return o->rope_scale != 0 ? 0 : o->n_ctx < trained_context(path) ? o->n_ctx + 1 : o->n_ctx;
}

bool context_take(mlxr_model_options *out, const options *o, const registry_model *model, context_use use,
                  mlxr_error *error)
{
    bool rope = false, window = context_is_window(o);
    for (size_t i = 0; i < N_ROPE_OPTIONS; i++) {
        rope = rope || options_given(o, options_find(rope_options[i], strlen(rope_options[i]), GROUPS_ROPE));
    }
    bool counts = rope || use == CONTEXT_OF_MODEL || (use == CONTEXT_MEASURED && o->n_ctx && !window);
    out->n_ctx_max = !counts    ? 0
                     : window   ? context_of_window(o, model->path)
                     : o->n_ctx ? o->n_ctx
                                : own_context(model);
    if (!o->rope_scaling && (o->rope_scale != 0 || o->rope_original)) {
        return needs_scaling(error, o);
    }
    out->rope.scale = o->rope_scale;
    out->rope.base = o->rope_base;
    out->rope.n_original = o->rope_original;
    out->rope.yarn_beta_fast = o->yarn_beta_fast;
    out->rope.yarn_beta_slow = o->yarn_beta_slow;
    out->rope.yarn_attn_factor = o->yarn_attn_factor;
    if (o->rope_scaling && !mlxr_rope_scaling_find(o->rope_scaling, &out->rope.scaling)) {
        return bad(error, "rope-scaling", o->rope_scaling, "there are none, linear, ntk and yarn");
    }
    return mlxr_model_options_check(out, NULL, error) == MLXR_OK;
}

mlxr_model_options context_of_draft(const mlxr_model *model)
{
    const mlxr_model_info *info = mlxr_model_info_get(model);
    mlxr_model_options limits = {0};
    if (info->n_ctx > info->n_ctx_train) {
        limits = (mlxr_model_options){.n_ctx_max = info->n_ctx,
                                      .rope = {.scaling = MLXR_ROPE_NONE, .if_possible = true}};
        if (info->rope_changed) { /* by what a file has alone: none of the four */
            mlxr_rope_scaling_find(info->rope_scaling, &limits.rope.scaling);
        }
    }
    return limits;
}

void context_warn(const options *o, const mlxr_model_info *info)
{
    double scale = (double)o->rope_scale, of_file = scale > 1 ? (double)info->rope_factor / scale : 0;
    bool same = o->rope_scaling && strcmp(info->rope_scaling, o->rope_scaling) == 0 && !o->rope_original;
    if (same && scale > 1 && fabs(of_file - scale) <= 1e-5 * scale) {
        print_error("warning: --rope-scale %g: the model's file has %s by %g already, and both make it %g; "
                    "--rope-original replaces the file's",
                    scale, o->rope_scaling, of_file, (double)info->rope_factor);
    }
}

void context_print_rope(const mlxr_model_info *info)
{
    const char *how = info->rope_scaling;
    bool scaled = *how && strcmp(how, "none") != 0;
    if (scaled) {
        printf("; RoPE scaling %s", how);
    }
    if (scaled && info->rope_factor != 1) { /* factors of each pair have no one number */
        printf(" by %g", (double)info->rope_factor);
    }
    if (info->rope_changed) {
        printf("%s base %g", scaled ? "," : "; RoPE", (double)info->rope_base);
    } else if (scaled) {
        printf(", as its file has it");
    }
    putchar('\n');
}
