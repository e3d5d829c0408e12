/*
 * One row of a model's head for multi-token prediction, past the engine: what it makes of a token and of what was
 * carried to it. Owner: nobody. Lifetime: the call. Any failure ends the test program.
 */
#ifndef MLXR_TEST_HEAD_ROW_H
#define MLXR_TEST_HEAD_ROW_H

#include "runtime/engine.h"
#include "support/test.h"

/* Row `at` of the sequence, which has room reserved there: hidden [n_embd] goes in and what is handed on comes out. */
static inline void head_row(mlxr_engine *engine, mlxr_model *model, mlxr_sequence *sequence, int32_t token, uint32_t at,
                            float *hidden, float *logits)
{
    static const uint32_t no_states[2] = {KV_PAGE_NONE, KV_PAGE_NONE}, wanted[1] = {0};
    mlxr_error error;
    int32_t position = (int32_t)at;
    step_slice slice = {.n_rows = 1, .start = at};
    for (uint32_t g = 0; g < sequence->pages.n_tables; g++) {
        slice.pages[g] = sequence->pages.tables[g].recurrent ? no_states : pager_step_pages(&sequence->pages, g);
    }
    step laid = {.n_rows = 1,
                 .tokens = &token,
                 .positions = &position,
                 .slices = &slice,
                 .n_slices = 1,
                 .wanted = wanted,
                 .n_wanted = 1,
                 .kv = model_kv_memory(model),
                 .carried = hidden,
                 .logits = logits};
    assert_ok(engine->ops->run(engine->device, model->ahead, &laid, &error), &error);
}

#endif
