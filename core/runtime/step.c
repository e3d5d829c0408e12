/*
 * Step: computes pending tokens of some sequences in one pass over the weights, and samples.
 * Owner: the engine. Lifetime: the call; results in the slices until the next step.
 *
 *   check_slices → speculation_propose → reserve_pages → lay_out → backend run → sample (speculation_verify) → commit
 *
 * Everything up to `commit` can fail and leaves the sequences as they were: pages reserved for a failed step stay
 * mapped past n_computed, where the next step overwrites them.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/mapping.h"
#include "runtime/engine.h"

static mlxr_status grow(void **array, size_t n, size_t size, mlxr_error *error)
{
    void *grown = realloc(*array, n * size);
    if (!grown) {
        return error_nomem(error, "step", n * size);
    }
    *array = grown;
    return MLXR_OK;
}

static mlxr_status reserve_rows(step_scratch *s, uint32_t n_rows, mlxr_error *error)
{
    if (n_rows <= s->cap_rows) {
        return MLXR_OK;
    }
    mlxr_status status = grow((void **)&s->tokens, n_rows, sizeof *s->tokens, error);
    if (status == MLXR_OK) {
        status = grow((void **)&s->positions, n_rows, sizeof *s->positions, error);
    }
    if (status == MLXR_OK) {
        status = grow((void **)&s->wanted, n_rows, sizeof *s->wanted, error);
    }
    if (status == MLXR_OK) {
        status = grow((void **)&s->greatest, n_rows, sizeof *s->greatest, error);
    }
    if (status == MLXR_OK) {
        s->cap_rows = n_rows;
    }
    return status;
}

static mlxr_status reserve_slices(step_scratch *s, size_t n_slices, mlxr_error *error)
{
    if (n_slices <= s->cap_slices) {
        return MLXR_OK;
    }
    mlxr_status status = grow((void **)&s->slices, n_slices, sizeof *s->slices, error);
    if (status == MLXR_OK) {
        status = grow((void **)&s->n_sampled, n_slices, sizeof *s->n_sampled, error);
    }
    if (status == MLXR_OK) {
        status = grow((void **)&s->errors, n_slices, sizeof *s->errors, error);
    }
    if (status == MLXR_OK) {
        s->cap_slices = (uint32_t)n_slices;
    }
    return status;
}

static mlxr_status check_slices(const mlxr_engine *e, const mlxr_slice *slices, size_t n_slices, uint32_t *n_rows_out,
                                mlxr_error *error)
{
    size_t n_rows = 0;
    for (size_t i = 0; i < n_slices; i++) {
        const mlxr_sequence *s = slices[i].sequence;
        if (!s || s->model->engine != e) {
            return error_set(error, MLXR_ARG, "slice %zu: its sequence does not belong to this engine", i);
        }
        if (model_base(s->model) != model_base(slices[0].sequence->model)) {
            return error_set(error, MLXR_UNSUPPORTED, "slice %zu: a step computes sequences of one model", i);
        }
        if ((slices[i].flags ^ slices[0].flags) & MLXR_SLICE_HIDDEN) {
            return error_set(error, MLXR_ARG, "slice %zu: all slices of a step give hidden states, or none", i);
        }
        for (size_t j = 0; j < i; j++) {
            if (slices[j].sequence == s) {
                return error_set(error, MLXR_ARG, "slices %zu and %zu: the same sequence twice in a step", j, i);
            }
        }
        if (s->model->graph->h.headless && !(slices[i].flags & MLXR_SLICE_HIDDEN)) {
            return error_set(error, MLXR_UNSUPPORTED,
                             "slice %zu: this model has no output matrix; it gives hidden states, for embeddings or "
                             "ranking",
                             i);
        }
        if (slices[i].flags & MLXR_SLICE_LOGITS_ALL && slices[i].flags & MLXR_SLICE_NO_LOGITS) {
            return error_set(error, MLXR_ARG, "slice %zu: all logits, or none; its flags ask for both", i);
        }
        size_t pending = mlxr_sequence_pending(s);
        if (s->model->graph->plan.both_ways &&
            (!(slices[i].flags & MLXR_SLICE_HIDDEN) || s->n_computed || slices[i].n_compute != pending)) {
            return error_set(error, MLXR_UNSUPPORTED,
                             "slice %zu: this model is an encoder; a step takes whole sequences of it and gives hidden "
                             "states",
                             i);
        }
        if (slices[i].n_compute == 0 || slices[i].n_compute > pending) {
            return error_set(error, MLXR_ARG, "slice %zu: %u tokens to compute, %zu pending", i, slices[i].n_compute,
                             pending);
        }
        n_rows += slices[i].n_compute;
    }
    /* a text longer than a step, from both ends: a step of its own */
    bool alone = n_slices == 1 && slices[0].sequence->model->graph->plan.both_ways;
    if (n_slices == 0 || (n_rows > ENGINE_STEP_TOKENS_MAX && !alone)) {
        return error_set(error, MLXR_LIMIT, "a step takes 1 to %u tokens, not %zu", ENGINE_STEP_TOKENS_MAX, n_rows);
    }
    *n_rows_out = (uint32_t)n_rows;
    return MLXR_OK;
}

/* Rows of a slice: its pending tokens and what was drafted behind them. */
static uint32_t rows_of(const mlxr_slice *slice)
{
    return slice->n_compute + slice->sequence->spec.n_tokens;
}

static bool is_last(const mlxr_slice *slice)
{
    return slice->n_compute == mlxr_sequence_pending(slice->sequence);
}

/* How many rows of logits a slice wants: all, or those of its last pending token and its draft, which nobody has where
 * nothing is sampled (drafts belong to samples). */
static uint32_t wanted_of(const mlxr_slice *slice)
{
    if (slice->flags & (MLXR_SLICE_LOGITS_ALL | MLXR_SLICE_HIDDEN)) {
        return slice->n_compute;
    }
    bool read = !(slice->flags & MLXR_SLICE_NO_SAMPLE && slice->flags & MLXR_SLICE_NO_LOGITS);
    return is_last(slice) && read ? 1 + slice->sequence->spec.n_tokens : 0;
}

/* A draft that finds no room is not tried: it can never fail a step. */
static mlxr_status reserve_sequence(const mlxr_slice *slice, mlxr_error *error)
{
    mlxr_sequence *s = slice->sequence;
    uint32_t begin = (uint32_t)s->n_computed, sure = begin + slice->n_compute;
    mlxr_status status = pager_reserve_draft(&s->pages, begin, sure, begin + rows_of(slice), error);
    if (status != MLXR_OK && s->spec.n_tokens) {
        s->spec.n_tokens = 0;
        status = pager_reserve(&s->pages, begin, sure, error);
    }
    return status;
}

static mlxr_status reserve_all(const mlxr_slice *slices, size_t n_slices, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < n_slices && status == MLXR_OK; i++) {
        status = reserve_sequence(&slices[i], error);
    }
    return status;
}

/* Drafts, and what is mapped for them and for the step. */
static void give_back(const mlxr_slice *slices, size_t n_slices)
{
    for (size_t i = 0; i < n_slices; i++) {
        mlxr_sequence *s = slices[i].sequence;
        s->spec.n_tokens = 0;
        pager_truncate(&s->pages, (uint32_t)s->n_computed);
    }
}

/* Drafts take pages before every slice has those that it needs: where these are missing then, nobody drafts. */
static mlxr_status reserve_pages(const mlxr_slice *slices, size_t n_slices, mlxr_error *error)
{
    mlxr_status status = reserve_all(slices, n_slices, error);
    if (status != MLXR_OK) {
        give_back(slices, n_slices);
        status = reserve_all(slices, n_slices, error);
    }
    if (status != MLXR_OK) { /* pages taken for a step that will not happen would starve others */
        give_back(slices, n_slices);
    }
    return status;
}

/* Fills tokens, positions, slices and the wanted rows; returns how many rows of logits are wanted. */
static uint32_t lay_out(step_scratch *scratch, const mlxr_slice *slices, size_t n_slices, step *out)
{
    uint32_t row = 0, n_wanted = 0;
    for (size_t i = 0; i < n_slices; i++) {
        const mlxr_sequence *s = slices[i].sequence;
        uint32_t n = rows_of(&slices[i]), n_unwanted = n - wanted_of(&slices[i]);
        step_slice *laid = &scratch->slices[i];
        *laid = (step_slice){.first_row = row, .n_rows = n, .start = (uint32_t)s->n_computed};
        laid->second = model_base(s->model)->graph->plan.two_texts ? s->second : 0;
        laid->adapters = model_adapters_of(s->model, &laid->n_adapters);
        for (uint32_t g = 0; g < s->pages.n_tables; g++) {
            laid->pages[g] = pager_step_pages(&s->pages, g);
        }
        for (uint32_t j = 0; j < n; j++, row++) {
            bool drafted = j >= slices[i].n_compute;
            scratch->tokens[row] = drafted ? s->spec.tokens[j - slices[i].n_compute] : s->tokens[s->n_computed + j];
            scratch->positions[row] = (int32_t)(s->n_computed + j);
            if (j >= n_unwanted) {
                scratch->wanted[n_wanted++] = row;
            }
        }
    }
    *out = (step){.n_rows = row,
                  .tokens = scratch->tokens,
                  .positions = scratch->positions,
                  .slices = scratch->slices,
                  .n_slices = (uint32_t)n_slices,
                  .wanted = scratch->wanted,
                  .n_wanted = n_wanted};
    return n_wanted;
}

mlxr_status step_reserve(step_scratch *s, uint32_t n_rows, size_t n_slices, mlxr_error *error)
{
    mlxr_status status = reserve_rows(s, n_rows, error);
    return status != MLXR_OK ? status : reserve_slices(s, n_slices, error);
}

kv_memory model_kv_memory(const mlxr_model *model)
{
    kv_memory kv = {0};
    for (uint32_t g = 0; g < model->graph->plan.n_kv_groups; g++) {
        kv.base[g] = model->pools[g]->memory;
        kv.layout[g] = model->pools[g]->layout;
    }
    return kv;
}

mlxr_status step_reserve_logits(step_scratch *s, uint32_t n_wanted, uint32_t width, mlxr_error *error)
{
    size_t n = (size_t)n_wanted * width;
    if (n > s->cap_logits) {
        free(s->logits); /* nothing in it needs to be kept, so do not let realloc copy */
        s->cap_logits = 0;
        s->logits = malloc(n * sizeof *s->logits);
        if (!s->logits) {
            return error_nomem(error, "logits", n * sizeof *s->logits);
        }
        memory_in_large_pages(s->logits, n * sizeof *s->logits);
        s->cap_logits = n;
    }
    return MLXR_OK;
}

typedef struct sampling_job {
    mlxr_slice *slices;
    size_t n_slices;
    step_scratch *scratch;
    const int32_t *greatest; /* of each row of logits, or NULL */
    uint32_t n_vocab;
} sampling_job;

static bool wants_sample(const mlxr_slice *slice)
{
    return is_last(slice) && !(slice->flags & (MLXR_SLICE_NO_SAMPLE | MLXR_SLICE_HIDDEN));
}

/* Member `index` of n samples every n-th slice. */
static void sample_share(void *context, uint32_t index, uint32_t n)
{
    sampling_job *job = context;
    for (size_t i = index; i < job->n_slices; i += n) {
        mlxr_slice *slice = &job->slices[i];
        job->scratch->errors[i].status = MLXR_OK;
        job->scratch->n_sampled[i] = 0;
        if (wants_sample(slice)) {
            const float *row = slice->logits +
                               (size_t)(slice->n_logits - 1 - slice->sequence->spec.n_tokens) * job->n_vocab;
            ptrdiff_t at = (row - job->scratch->logits) / (ptrdiff_t)job->n_vocab;
            const int32_t *greatest = job->greatest ? job->greatest + at : NULL;
            job->scratch->errors[i].status = speculation_verify(slice->sequence, row, greatest, job->n_vocab,
                                                                &job->scratch->n_sampled[i], &job->scratch->errors[i]);
        }
    }
}

/* Will nobody read more of the step's logits than which is the greatest of each row? */
static bool wants_greatest(const mlxr_slice *slices, size_t n_slices)
{
    for (size_t i = 0; i < n_slices; i++) {
        const mlxr_sequence *s = slices[i].sequence;
        bool greedy = !wants_sample(&slices[i]) || (sampler_is_greedy(s->sampler) && !s->rule.g);
        if (wanted_of(&slices[i]) && !(slices[i].flags & MLXR_SLICE_NO_LOGITS && greedy)) {
            return false;
        }
    }
    return true;
}

/* What of each row of the step's logits anybody reads. */
static step_reads reads_of(const mlxr_slice *slices, size_t n_slices)
{
    step_reads all = {0}, reads = {0};
    for (size_t i = 0; i < n_slices; i++) {
        const mlxr_sequence *s = slices[i].sequence;
        if (!wanted_of(&slices[i])) {
            continue;
        }
        sampler_reads own = {.n = 1};
        if (wants_sample(&slices[i])) {
            own = s->rule.g ? (sampler_reads){0} : sampler_reads_of(s->sampler);
        }
        if (!(slices[i].flags & MLXR_SLICE_NO_LOGITS) || own.n == 0) {
            return all;
        }
        reads.n = own.n > reads.n ? own.n : reads.n;
        reads.near = own.near > reads.near ? own.near : reads.near;
    }
    return reads;
}

/* Samplers that had accepted tokens forget them: the step failed. */
static void undo_samples(mlxr_slice *slices, size_t n_slices)
{
    for (size_t i = 0; i < n_slices; i++) {
        sampler_truncate(slices[i].sequence->sampler, slices[i].sequence->n_tokens);
        constraint_truncate(&slices[i].sequence->rule, slices[i].sequence->n_tokens);
    }
}

static mlxr_status sample(mlxr_engine *e, mlxr_slice *slices, size_t n_slices, const step *laid, uint32_t n_vocab,
                          mlxr_error *error)
{
    sampling_job job = {slices, n_slices, &e->scratch, laid->greatest, n_vocab};
    if (n_slices > 1 && e->ops->parallel) {
        e->ops->parallel(e->device, sample_share, &job);
    } else {
        sample_share(&job, 0, 1);
    }
    for (size_t i = 0; i < n_slices; i++) {
        if (e->scratch.errors[i].status != MLXR_OK) {
            undo_samples(slices, n_slices);
            return error_set(error, e->scratch.errors[i].status, "slice %zu: %s", i, e->scratch.errors[i].text);
        }
    }
    return MLXR_OK;
}

/* The step happened: positions are computed, sampled tokens join their sequences. */
static void commit(mlxr_engine *e, mlxr_slice *slices, size_t n_slices)
{
    for (size_t i = 0; i < n_slices; i++) {
        mlxr_slice *slice = &slices[i];
        mlxr_sequence *s = slice->sequence;
        uint32_t n_sampled = e->scratch.n_sampled[i], n_accepted = n_sampled ? n_sampled - 1 : 0;
        for (uint32_t j = 0; j < n_sampled && s->n_tokens < s->model->n_ctx; j++) {
            s->tokens[s->n_tokens++] = s->sampled[j].id; /* in a full context the last token is told but has no place */
        }
        s->n_computed += slice->n_compute + n_accepted;
        kv_cache_register(&s->model->cache, &s->pages, s->tokens, s->n_computed, &s->node, e->now_ms(e->now_user));
        pager_commit(&s->pages, (uint32_t)s->n_computed);
        if (s->spec.n_tokens) {
            acceptance_tracker_update(&s->spec.tracker, s->spec.n_tokens, n_accepted);
        }
        const mlxr_sampled *last = n_sampled ? &s->sampled[n_sampled - 1] : NULL;
        slice->sampled = n_sampled ? s->sampled : NULL;
        slice->n_sampled = n_sampled;
        slice->token = last ? last->id : -1;
        slice->logprob = last ? last->logprob : 0;
        slice->top = last ? last->top : NULL;
        slice->n_top = last ? last->n_top : 0;
        if (slice->flags & MLXR_SLICE_NO_LOGITS) {
            slice->logits = NULL;
            slice->n_logits = 0;
        }
    }
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#define PLAIN_MEMORY 0.75

/* What drafting costs is learned from how long steps take: this model's own, and not those of its draft model that ran
 * inside propose_s. */
static void learn_costs(step_times *times, const mlxr_slice *slices, size_t n_slices, double propose_s, double step_s)
{
    uint32_t n_drafted = 0, n_by_model = 0, n_pending = 0;
    for (size_t i = 0; i < n_slices; i++) {
        const speculation *spec = &slices[i].sequence->spec;
        n_drafted += spec->n_tokens;
        n_by_model += speculation_computes(spec) ? spec->n_tokens : 0;
        n_pending += slices[i].n_compute;
    }
    if (n_pending != n_slices) { /* a prompt in the batch: tells nothing about decoding */
        return;
    }
    if (n_drafted == 0) {
        bool known = times->n_slices == n_slices && times->plain_s > 0;
        times->plain_s = known ? PLAIN_MEMORY * times->plain_s + (1 - PLAIN_MEMORY) * step_s : step_s;
        times->n_slices = n_slices;
        return;
    }
    if (times->n_slices != n_slices || !(times->plain_s > 0)) {
        return;
    }
    double each = (double)n_slices / n_drafted, row_cost = (step_s / times->plain_s - 1) * each;
    double draft_cost = n_by_model ? propose_s / times->plain_s * (double)n_slices / n_by_model : 0;
    for (size_t i = 0; i < n_slices; i++) {
        speculation *spec = &slices[i].sequence->spec;
        if (spec->n_tokens) {
            acceptance_tracker_costs(&spec->tracker, row_cost, speculation_computes(spec) ? draft_cost : 0);
            times->row_cost = spec->tracker.row_cost; /* where the next sequence starts from */
        }
    }
}

/* Behind learn_costs, which trues what the step was charged. */
static void keep_head_account(step_times *times, const mlxr_slice *slices, size_t n_slices)
{
    for (size_t i = 0; i < n_slices; i++) {
        const speculation *spec = &slices[i].sequence->spec;
        if (spec->kind == SPECULATION_HEAD) {
            times->head_loss = spec->tracker.loss;
        }
    }
}

/* Room in the token arrays before anything runs, so that commit cannot fail. */
static mlxr_status reserve_sampled(const mlxr_slice *slices, size_t n_slices, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < n_slices && status == MLXR_OK; i++) {
        status = sequence_reserve(slices[i].sequence, slices[i].sequence->n_tokens + SPEC_DRAFT_MAX + 1, error);
    }
    return status;
}

/* Each slice's rows of what the step gave: logits, or hidden states. */
static void hand_out(mlxr_slice *slices, size_t n_slices, const float *rows, uint32_t width, bool hidden)
{
    for (size_t i = 0; i < n_slices; i++) {
        uint32_t n = wanted_of(&slices[i]);
        slices[i].n_logits = hidden ? 0 : n;
        slices[i].logits = slices[i].n_logits ? rows : NULL;
        slices[i].n_hidden = hidden ? n : 0;
        slices[i].hidden = slices[i].n_hidden ? rows : NULL;
        rows = n ? rows + (size_t)n * width : rows; /* NULL where nothing was wanted */
    }
}

/* What the step's grammars have learned takes memory, and the model's cache keeps them. */
static void trim_grammars(mlxr_model *model, const mlxr_slice *slices, size_t n_slices)
{
    for (size_t i = 0; i < n_slices; i++) {
        if (slices[i].sequence->rule.g) {
            grammar_cache_trim(&model->grammars);
            return;
        }
    }
}

/* One that applies adapters only where a slice has some: it fuses less. */
static mlxr_status choose_program(mlxr_model *base, const mlxr_slice *slices, size_t n_slices, bool hidden,
                                  program **out, mlxr_error *error)
{
    bool adapted = false;
    for (size_t i = 0; i < n_slices; i++) {
        adapted = adapted || slices[i].sequence->model->adapters;
    }
    if (adapted) {
        return model_adapted_program(base, hidden, out, error);
    }
    mlxr_status status = hidden ? model_hidden_program(base, error) : MLXR_OK;
    *out = hidden ? base->hidden : base->program;
    return status;
}

/* `mark` is NULL where nobody wants a profile. */
static mlxr_status compute(mlxr_engine *e, mlxr_slice *slices, size_t n_slices, profile_mark *mark, mlxr_error *error)
{
    uint32_t n_rows = 0;
    mlxr_status status = check_slices(e, slices, n_slices, &n_rows, error);
    if (status != MLXR_OK) {
        return status;
    }
    bool hidden = slices[0].flags & MLXR_SLICE_HIDDEN;
    mlxr_model *model = model_base_of(slices[0].sequence->model);
    program *run = NULL;
    status = choose_program(model, slices, n_slices, hidden, &run, error);
    if (status != MLXR_OK) {
        return status;
    }
    kv_arena_gather(&e->arena); /* here, so that a first token does not wait for it */
    double propose_begin = seconds();
    speculation_propose(e, slices, n_slices, hidden ? 0 : ENGINE_STEP_TOKENS_MAX - n_rows);
    double begin = seconds();
    uint32_t n_vocab = model->graph->h.n_vocab, width = hidden ? model->graph->h.n_embd : n_vocab;
    status = step_reserve(&e->scratch, n_rows > ENGINE_STEP_TOKENS_MAX ? n_rows : ENGINE_STEP_TOKENS_MAX, n_slices,
                          error);
    if (status == MLXR_OK) {
        status = reserve_sampled(slices, n_slices, error);
    }
    if (status == MLXR_OK) {
        status = reserve_pages(slices, n_slices, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    step laid;
    uint32_t n_wanted = lay_out(&e->scratch, slices, n_slices, &laid);
    status = step_reserve_logits(&e->scratch, n_wanted, width, error);
    if (status != MLXR_OK) {
        return status;
    }
    laid.logits = e->scratch.logits;
    if (!hidden && wants_greatest(slices, n_slices)) {
        laid.greatest = e->scratch.greatest;
        memset(laid.greatest, 0xff, n_wanted * sizeof *laid.greatest); /* −1: not known */
    }
    laid.reads = hidden ? (step_reads){0} : reads_of(slices, n_slices);
    laid.kv = model_kv_memory(model);
    laid.observer = e->observer;
    laid.experts = expert_cache_hook(model->experts);
    laid.profile = mark ? profile_run_begin(e->profile, mark, &model->graph->plan, &laid) : NULL;
    status = e->ops->run(e->device, run, &laid, error);
    if (status != MLXR_OK) {
        return status;
    }
    if (mark) {
        profile_run_end(mark);
    }
    hand_out(slices, n_slices, e->scratch.logits, width, hidden);
    status = sample(e, slices, n_slices, &laid, n_vocab, error);
    if (status == MLXR_OK) {
        commit(e, slices, n_slices);
        learn_costs(&model->times, slices, n_slices, begin - propose_begin, seconds() - begin);
        keep_head_account(&model->times, slices, n_slices);
        trim_grammars(model, slices, n_slices);
        engine_trim(e);
    }
    return status;
}

mlxr_status mlxr_step(mlxr_engine *e, mlxr_slice *slices, size_t n_slices, mlxr_error *error)
{
    if (!e->profile) {
        return compute(e, slices, n_slices, NULL, error);
    }
    profile_mark mark;
    profile_step_begin(e->profile, &mark);
    mlxr_status status = compute(e, slices, n_slices, &mark, error);
    profile_step_end(e->profile, &mark, status == MLXR_OK);
    return status;
}
