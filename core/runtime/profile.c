/*
 * Collecting spans: the backend notes into a raw list, which is read behind each step, outside of what is measured.
 * Owner: the engine. Lifetime: see profile.h.
 */
#include "runtime/profile.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/region.h"
#include "runtime/engine.h"

#define STEPS_MOST 1000000u
#define PASS_ROWS_LEAST 128u /* a backend may cut a step into passes, of no fewer rows */

/* What the caller gets, with the memory that it points to. */
typedef struct taken_profile {
    mlxr_profile public;
    const char **operations;
    mlxr_profile_step *steps;
    mlxr_profile_span *spans;
    uint32_t cap_operations, cap_steps;
    uint64_t cap_spans;
    region texts;
} taken_profile;

struct engine_profile {
    taken_profile *taken;
    step_profile raw; /* of the step under way */
    uint64_t begun_ns;
    uint32_t n_steps_max, depth;
};

/* Room for n elements in all; false: no memory. */
static bool grow(void **array, uint64_t *cap, uint64_t n, size_t size)
{
    if (n <= *cap) {
        return true;
    }
    uint64_t more = *cap * 2 > n ? *cap * 2 : n;
    void *grown = more <= SIZE_MAX / 2 / size ? realloc(*array, (size_t)more * size) : NULL;
    if (grown) {
        *array = grown;
        *cap = more;
    }
    return grown != NULL;
}

/* A copy of a text: models may be unloaded before the profile is read. UINT32_MAX: no memory. */
static uint32_t operation_of(taken_profile *t, const char *label)
{
    for (uint32_t i = 0; i < t->public.n_operations; i++) {
        if (strcmp(t->operations[i], label) == 0) {
            return i;
        }
    }
    uint64_t cap = t->cap_operations;
    void *list = t->operations;
    size_t n = strlen(label) + 1;
    char *copy = region_array(&t->texts, n, 1);
    if (!copy || !grow(&list, &cap, t->public.n_operations + 1u, sizeof *t->operations)) {
        return UINT32_MAX;
    }
    memcpy(copy, label, n);
    t->operations = list;
    t->cap_operations = (uint32_t)cap;
    t->operations[t->public.n_operations] = copy;
    return t->public.n_operations++;
}

void profile_step_begin(engine_profile *p, profile_mark *mark)
{
    *mark = (profile_mark){.begin_ns = step_profile_now_ns()};
    p->depth++;
}

step_profile *profile_run_begin(engine_profile *p, profile_mark *mark, const plan *what, const step *s)
{
    void *spans = p->raw.spans;
    uint64_t cap = p->raw.cap, n_passes = (s->n_rows + PASS_ROWS_LEAST - 1) / PASS_ROWS_LEAST;
    mark->n_rows = s->n_rows;
    mark->n_slices = s->n_slices;
    mark->n_logits = s->n_wanted;
    mark->kept = p->taken->public.n_steps < p->n_steps_max &&
                 grow(&spans, &cap, n_passes * (what->n_ops + SLOT_COUNT + 2u), sizeof *p->raw.spans);
    p->raw = (step_profile){.spans = spans, .cap = (uint32_t)cap};
    mark->run_ns = step_profile_now_ns();
    return mark->kept ? &p->raw : NULL;
}

void profile_run_end(profile_mark *mark)
{
    mark->ran_ns = step_profile_now_ns();
}

static bool keep_step(engine_profile *p, const profile_mark *mark, uint64_t end_ns)
{
    taken_profile *t = p->taken;
    uint64_t cap_steps = t->cap_steps, first = t->public.n_spans;
    void *steps = t->steps, *spans = t->spans;
    bool ok = grow(&steps, &cap_steps, t->public.n_steps + 1u, sizeof *t->steps);
    t->steps = steps;
    t->cap_steps = (uint32_t)cap_steps;
    ok = ok && grow(&spans, &t->cap_spans, first + p->raw.n, sizeof *t->spans);
    t->spans = spans;
    for (uint32_t i = 0; i < p->raw.n && ok; i++) {
        const step_span *s = &p->raw.spans[i];
        uint32_t operation = operation_of(t, s->label);
        ok = operation != UINT32_MAX;
        t->spans[first + i] = (mlxr_profile_span){.operation = operation,
                                                  .layer = s->layer == STEP_NO_LAYER ? -1 : s->layer,
                                                  .begin_ns = s->begin_ns - p->begun_ns,
                                                  .end_ns = s->end_ns - p->begun_ns,
                                                  .wait_ns = s->end_ns - s->done_ns};
    }
    if (ok) {
        t->steps[t->public.n_steps++] = (mlxr_profile_step){.begin_ns = mark->begin_ns - p->begun_ns,
                                                            .run_ns = mark->run_ns - p->begun_ns,
                                                            .ran_ns = mark->ran_ns - p->begun_ns,
                                                            .end_ns = end_ns - p->begun_ns,
                                                            .n_rows = mark->n_rows,
                                                            .n_slices = mark->n_slices,
                                                            .n_logits = mark->n_logits,
                                                            .drafting = p->depth > 0,
                                                            .first_span = first,
                                                            .n_spans = p->raw.n};
        t->public.n_spans += p->raw.n;
        t->public.n_lost += p->raw.n_lost;
    }
    return ok;
}

void profile_step_end(engine_profile *p, const profile_mark *mark, bool ok)
{
    uint64_t now = step_profile_now_ns();
    p->depth--;
    if (ok && !(mark->kept && keep_step(p, mark, now))) {
        p->taken->public.n_lost++;
    }
    p->raw.n = p->raw.n_lost = 0;
}

/* ---- what mlxr.h declares ---- */

mlxr_status mlxr_profile_begin(mlxr_engine *engine, uint32_t n_steps_max, mlxr_error *error)
{
    if (engine->profile) {
        return error_set(error, MLXR_ARG, "this engine is being profiled already");
    }
    if (n_steps_max == 0 || n_steps_max > STEPS_MOST) {
        return error_set(error, MLXR_ARG, "a profile of %u steps: 1 to %u can be taken", n_steps_max, STEPS_MOST);
    }
    engine_profile *p = calloc(1, sizeof *p);
    taken_profile *t = calloc(1, sizeof *t);
    if (!p || !t) {
        free(p);
        free(t);
        return error_nomem(error, "profile", sizeof *p + sizeof *t);
    }
    t->public.backend = engine->ops->name;
    t->public.n_threads = engine->options.n_threads;
    *p = (engine_profile){.taken = t, .n_steps_max = n_steps_max, .begun_ns = step_profile_now_ns()};
    engine->profile = p;
    return MLXR_OK;
}

mlxr_status mlxr_profile_take(mlxr_engine *engine, mlxr_profile **out, mlxr_error *error)
{
    if (!engine->profile) {
        return error_set(error, MLXR_ARG, "this engine is not being profiled");
    }
    taken_profile *t = engine->profile->taken;
    t->public.duration_ns = step_profile_now_ns() - engine->profile->begun_ns;
    t->public.operations = t->operations;
    t->public.steps = t->steps;
    t->public.spans = t->spans;
    engine->profile->taken = NULL;
    profile_close(&engine->profile);
    *out = &t->public;
    return MLXR_OK;
}

void mlxr_profile_free(mlxr_profile **profile)
{
    taken_profile *t = (taken_profile *)(void *)*profile; /* its first member */
    if (t) {
        region_close(&t->texts);
        free(t->operations);
        free(t->steps);
        free(t->spans);
        free(t);
        *profile = NULL;
    }
}

void profile_close(engine_profile **pointer)
{
    engine_profile *p = *pointer;
    if (p) {
        mlxr_profile *taken = p->taken ? &p->taken->public : NULL;
        mlxr_profile_free(&taken);
        free(p->raw.spans);
        free(p);
        *pointer = NULL;
    }
}
