/*
 * The program that ends with hidden states instead of logits, for MLXR_SLICE_HIDDEN.
 * Owner: the model. Lifetime: from the first step that wants it to the model's end.
 *
 * It is the model's plan up to its last norm, which writes where the logits would stand: the pages it fills are the
 * same, and no backend needs to know of it.
 */
#include <string.h>

#include "base/error.h"
#include "runtime/engine.h"

/* The model's plan without what comes behind its last norm. */
static mlxr_status make_plan(mlxr_model *m, mlxr_error *error)
{
    const plan *whole = &m->graph->plan;
    uint32_t n = whole->n_ops;
    while (n > 0 && whole->ops[n - 1].kind != OP_NORM) {
        n--;
    }
    if (n == 0) {
        return error_set(error, MLXR_UNSUPPORTED, "this model has no norm behind its last layer");
    }
    op *ops = region_alloc(&m->memory, n * sizeof *ops);
    plan *made = region_alloc(&m->memory, sizeof *made);
    if (!ops || !made) {
        return error_nomem(error, "plan of hidden states", n * sizeof *ops);
    }
    memcpy(ops, whole->ops, n * sizeof *ops);
    ops[n - 1].dst = SLOT_LOGITS;
    *made = *whole;
    made->ops = ops;
    made->n_ops = n;
    made->slot_width[SLOT_LOGITS] = ops[n - 1].width;
    m->hidden_plan = made;
    return MLXR_OK;
}

mlxr_status model_hidden_plan(mlxr_model *m, mlxr_error *error)
{
    return m->hidden_plan ? MLXR_OK : make_plan(m, error);
}

mlxr_status model_hidden_program(mlxr_model *m, mlxr_error *error)
{
    mlxr_status status = model_hidden_plan(m, error);
    if (status == MLXR_OK && !m->hidden) {
        status = m->engine->ops->prepare(m->engine->device, m->hidden_plan, &m->hidden, error);
    }
    return status;
}
