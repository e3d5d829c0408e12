/*
 * How far a model reads.
 * Owner: none. Lifetime: the call.
 */
#include "context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

static const char *const rope_options[] = {"rope-scaling", "rope-scale", "rope-base", "rope-original"};
#define N_ROPE_OPTIONS (sizeof rope_options / sizeof *rope_options)

bool context_is_rope(const option_spec *spec)
{
    return strncmp(spec->name, "rope-", 5) == 0;
}

/* The value that a model was made with, or NULL; of several the last. */
static const char *parameter_of(const registry_model *m, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; m && i < m->parameters.n; i++) {
        const char *one = m->parameters.items[i].name;
        size_t k = 0; /* rope_scale is --rope-scale */
        while (name[k] && (one[k] == name[k] || (one[k] == '_' && name[k] == '-'))) {
            k++;
        }
        value = !name[k] && !one[k] ? m->parameters.items[i].value : value;
    }
    return value;
}

static bool bad(mlxr_error *error, const char *format, const char *a, const char *b)
{
    *error = (mlxr_error){.status = MLXR_ARG};
    snprintf(error->text, sizeof error->text, format, a, b);
    return false;
}

/* A 0 would be taken for "not given". */
static bool is_zero(const options *o, const option_spec *spec)
{
    const void *field = (const char *)o + spec->offset;
    return spec->kind == OPTION_FLOAT ? *(const float *)field == 0
                                      : spec->kind == OPTION_U32 && *(const uint32_t *)field == 0;
}

/* Puts what the model was made with where the command line says nothing of the same. */
static bool merge_rope(options *o, const registry_model *model, mlxr_error *error)
{
    for (size_t i = 0; i < N_ROPE_OPTIONS; i++) {
        const option_spec *spec = options_find(rope_options[i], strlen(rope_options[i]), GROUPS_ROPE);
        const char *own = options_given(o, spec) ? NULL : parameter_of(model, spec->name);
        if (own && !options_set(o, spec, own)) { /* which has said what is wrong with it */
            return bad(error, "%s cannot be loaded as it was made%s", model->name, "");
        }
        if ((own || options_given(o, spec)) && is_zero(o, spec)) {
            return bad(error, "--%s %s: a number above 0 is needed", spec->name, "0");
        }
    }
    return true;
}

bool context_take(mlxr_model_options *out, const options *given, const registry_model *model, bool measuring,
                  mlxr_error *error)
{
    options o = *given; /* scalars of it change */
    if (!merge_rope(&o, model, error)) {
        return false;
    }
    const char *made = parameter_of(model, "num-ctx");
    long long own = made ? strtoll(made, NULL, 10) : 0;
    bool rope = o.rope_scaling || o.rope_scale != 0 || o.rope_base != 0 || o.rope_original;
    out->n_ctx_max = measuring && !rope ? 0 : o.n_ctx ? o.n_ctx : own > 0 && own < UINT32_MAX ? (uint32_t)own : 0;
    out->rope.scale = o.rope_scale;
    out->rope.base = o.rope_base;
    out->rope.n_original = o.rope_original;
    if (o.rope_scaling && !mlxr_rope_scaling_find(o.rope_scaling, &out->rope.scaling)) {
        return bad(error, "--rope-scaling %.40s: there are none, linear, ntk and yarn%s", o.rope_scaling, "");
    }
    return mlxr_model_options_check(out, error) == MLXR_OK;
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

void context_print_rope(const mlxr_model_info *info)
{
    const char *how = info->rope_scaling;
    if (*how && strcmp(how, "none") != 0) {
        printf("; RoPE scaling %s by %g%s", how, (double)info->rope_factor,
               info->rope_changed ? "" : ", as its file has it");
    }
    putchar('\n');
}
