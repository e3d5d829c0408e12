/*
 * Request: copies and checks.
 * Owner: the scheduler. Lifetime: from submission to the last event.
 */
#include "scheduler/request.h"

#include <stdlib.h>
#include <string.h>

#include "telemetry/daemon_error.h"

static mlxr_status check(const scheduler_request *ask, mlxr_error *error)
{
    if (!ask->model || !ask->on_event) {
        return daemon_error(error, MLXR_ARG, "a request needs a model and on_event");
    }
    if (!ask->tokens || ask->n_tokens == 0) {
        return daemon_error(error, MLXR_ARG, "a request needs at least one token");
    }
    if (ask->priority < -100 || ask->priority > 100) {
        return daemon_error(error, MLXR_ARG, "priority %d is not within -100 and 100", ask->priority);
    }
    uint32_t n_vocab = mlxr_model_info_get(ask->model)->n_vocab;
    for (size_t i = 0; i < ask->n_tokens; i++) {
        if (ask->tokens[i] < 0 || (uint32_t)ask->tokens[i] >= n_vocab) {
            return daemon_error(error, MLXR_ARG, "token %zu has id %d; the vocabulary has 0 to %u", i + 1,
                                ask->tokens[i], n_vocab - 1);
        }
    }
    return MLXR_OK;
}

/* False: no memory. A length of 0 copies to NULL. */
static bool copy_array(const void **array, size_t n, size_t size)
{
    const void *from = *array;
    *array = NULL;
    if (!from || n == 0) {
        return true;
    }
    if (n > SIZE_MAX / size) {
        return false;
    }
    void *copy = malloc(n * size);
    if (copy) {
        memcpy(copy, from, n * size);
    }
    *array = copy;
    return copy != NULL;
}

/* NULL breakers mean the default ones; an empty list of them none, which must stay different. */
static bool copy_breakers(mlxr_sampling *sampling)
{
    const char *const *from = sampling->dry_breakers;
    size_t n = sampling->n_dry_breakers;
    sampling->dry_breakers = NULL;
    sampling->n_dry_breakers = 0;
    if (!from) {
        return true;
    }
    char **copy = calloc(n + 1, sizeof *copy);
    sampling->dry_breakers = (const char *const *)copy;
    for (size_t i = 0; copy && i < n; i++) {
        copy[i] = strdup(from[i]);
        if (!copy[i]) {
            return false;
        }
        sampling->n_dry_breakers = i + 1;
    }
    return copy != NULL;
}

mlxr_status request_open(request **out, const scheduler_request *ask, mlxr_error *error)
{
    mlxr_status status = check(ask, error);
    if (status != MLXR_OK) {
        return status;
    }
    request *r = calloc(1, sizeof *r);
    if (!r) {
        return daemon_error(error, MLXR_NOMEM, "no memory for a request");
    }
    r->ask = *ask;
    r->ask.n_choices = ask->n_choices ? ask->n_choices : 1;
    r->sampling = ask->sampling ? *ask->sampling : mlxr_sampling_default();
    r->n_open = r->ask.n_choices;
    r->miss = "";
    atomic_init(&r->cancelled, false);
    atomic_init(&r->stalled, false);
    /* Every pointer becomes a copy or NULL, whatever fails, so that request_close frees no one else's. */
    bool copied = copy_array((const void **)&r->ask.tokens, ask->n_tokens, sizeof *ask->tokens);
    copied = copy_array((const void **)&r->ask.adapters, ask->n_adapters, sizeof *ask->adapters) && copied;
    copied = copy_array((const void **)&r->ask.grammar, ask->grammar ? strlen(ask->grammar) + 1 : 0, 1) && copied;
    copied = copy_array((const void **)&r->ask.name, ask->name ? strlen(ask->name) + 1 : 0, 1) && copied;
    r->choices = calloc(r->ask.n_choices, sizeof *r->choices);
    copied = copied && r->choices;
    copied = copy_array((const void **)&r->sampling.logit_bias, r->sampling.n_logit_bias,
                        sizeof *r->sampling.logit_bias) &&
             copied;
    copied = copy_breakers(&r->sampling) && copied;
    r->ask.sampling = &r->sampling;
    if (!copied) {
        request_close(&r);
        return daemon_error(error, MLXR_NOMEM, "no memory for a request of %zu tokens", ask->n_tokens);
    }
    *out = r;
    return MLXR_OK;
}

void request_close(request **pointer)
{
    request *r = *pointer;
    if (!r) {
        return;
    }
    for (size_t i = 0; i < r->sampling.n_dry_breakers; i++) {
        free((void *)(uintptr_t)r->sampling.dry_breakers[i]);
    }
    free((void *)(uintptr_t)r->sampling.dry_breakers);
    free((void *)(uintptr_t)r->sampling.logit_bias);
    free((void *)(uintptr_t)r->ask.grammar);
    free((void *)(uintptr_t)r->ask.name);
    free(r->choices);
    free((void *)(uintptr_t)r->ask.tokens);
    free(r);
    *pointer = NULL;
}
