/*
 * One cell of the matrix.
 * Owner: none. Lifetime: the call.
 *
 *   plain engine ─▶ alone_run: what is expected
 *   own engine ─▶ warm (PREFIX_MEMORY), or warm, close, open again (PREFIX_DISK)
 *              ─▶ a budget that is too small, with cached pages to evict or an urgent request that pre-empts
 *              ─▶ all requests through the scheduler ─▶ compare
 */
#include "matrix/cell.h"

#include <jansson.h>
#include <unistd.h>

#include "scheduler/scheduler.h"
#include "support/family_model.h"
#include "support/test.h"
#include "unit/runtime/recurrent.h"

#define KV_BYTES ((size_t)64 << 20)
enum { REQUESTS_MAX = 64, URGENT_PROMPT = 215, FILLER = 32, ROWS = 40, LANES = 72, HIT_LEAST = 32, DRAFT_MOST = 3 };

typedef struct world {
    mlxr_engine *engine;
    mlxr_model *model, *draft;
} world;

typedef struct run {
    const matrix_values *v;
    world own;
    scheduler *sched;
    matrix_request *requests; /* [n_requests + 1], the last one urgent */
    uint32_t n_requests, most_running;
    bool urgent_submitted;
} run;

/* ---- engines and models ---------------------------------------------------------------------------------------- */

static mlxr_model *load(const matrix_values *v, mlxr_engine *engine, dtype type, bool head)
{
    mlxr_error error;
    mlxr_model *model = NULL;
    char path[512];
    const tiny_model *tiny = &v->family->tiny;
    const char *type_name = v->family->folder ? "F32" : dtype_find((uint32_t)type)->name;
    snprintf(path, sizeof path, "%s/%s-%s%s", test_temp_dir(), tiny->name, type_name, v->family->folder ? "" : ".gguf");
    if (access(path, F_OK) != 0 && v->family->folder) {
        family_model_write(tiny->name, path);
    } else if (access(path, F_OK) != 0) {
        tiny_model_write_gguf(tiny, &(tiny_options){.type = type}, path);
    }
    mlxr_model_options with = {.mtp = head ? MLXR_MTP_NEEDED : MLXR_MTP_OFF};
    assert_ok(mlxr_model_load(&model, engine, path, &with, &error), &error);
    if (v->family->recurrent_layers) {
        recurrent_make(model, v->family->recurrent_layers);
    }
    return model;
}

static void open_world(world *w, const matrix_values *v, const mlxr_engine_options *options)
{
    mlxr_error error;
    mlxr_engine_options o = *options;
    o.backend = v->backend->name;
    o.kv_type = v->kv_type;
    o.kv_bytes = KV_BYTES;
    o.kv_high = o.kv_low = 0.95; /* evicts page by page */
    memset(w, 0, sizeof *w);
    assert_ok(mlxr_engine_open(&w->engine, &o, &error), &error);
    /* A draft model has the same weights, rounded to a fourth of the bytes: cheaper, and often right. */
    w->model = load(v, w->engine, v->draft == DRAFT_MODEL ? DTYPE_F32 : DTYPE_Q8_0,
                    v->draft == DRAFT_MTP && !o.no_prefix_cache);
    w->draft = v->draft == DRAFT_MODEL && !o.no_prefix_cache ? load(v, w->engine, DTYPE_Q8_0, false) : NULL;
}

static void close_world(world *w)
{
    mlxr_kv_stats stats = mlxr_kv_stats_get(w->engine);
    assert_int_equal(stats.bytes_used, stats.bytes_cached); /* every sequence gave its pages back */
    mlxr_model_unref(&w->draft);
    mlxr_model_unref(&w->model);
    mlxr_engine_close(&w->engine);
}

/* Computes a prompt and forgets the sequence: its pages stay in the cache. */
static void warm(const world *w, const int32_t *prompt, size_t n)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    assert_ok(mlxr_sequence_open(&sequence, w->model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, prompt, n, &error), &error);
    mlxr_slice slice = {
        .sequence = sequence, .n_compute = (uint32_t)mlxr_sequence_pending(sequence), .flags = MLXR_SLICE_NO_SAMPLE};
    assert_ok(mlxr_step(w->engine, &slice, 1, &error), &error);
    mlxr_sequence_close(&sequence);
}

/* ---- requests through the scheduler ---------------------------------------------------------------------------- */

typedef struct listener { /* of a request's events */
    run *r;
    matrix_request *request;
} listener;

static bool on_event(void *user, const scheduler_event *event)
{
    listener *l = user;
    matrix_request *q = l->request;
    if (!answer_add(&q->got[event->choice], l->r->own.model, event->sampled, event->n_sampled)) {
        snprintf(q->failure, sizeof q->failure, "choice %u has more than it should", event->choice);
    }
    bool ends = q->got[event->choice].ended;
    q->n_finishes[event->choice] += event->finish != SCHEDULER_RUNNING;
    if (event->finish != SCHEDULER_RUNNING && event->finish != (ends ? SCHEDULER_END : SCHEDULER_LENGTH)) {
        snprintf(q->failure, sizeof q->failure, "choice %u finished with %s: %s", event->choice,
                 scheduler_finish_name(event->finish), event->error ? event->error : "no error");
    }
    q->n_cached = event->n_cached;
    return true;
}

static bool ignore_event(void *user, const scheduler_event *event)
{
    (void)user;
    (void)event;
    return true;
}

static scheduler_request ask_of(const run *r, const matrix_request *q)
{
    return (scheduler_request){.model = r->own.model,
                               .tokens = q->prompt,
                               .n_tokens = q->n_prompt,
                               .sampling = &q->sampling,
                               .n_choices = q->n_choices,
                               .max_tokens = q->n_answer,
                               .grammar = q->rule,
                               .grammar_is_schema = q->rule_is_schema,
                               .draft = r->v->draft != DRAFT_OFF,
                               .draft_mtp = r->v->draft == DRAFT_MTP,
                               .draft_model = r->own.draft,
                               .n_draft_max = DRAFT_MOST,
                               .priority = q == &r->requests[r->n_requests] ? 10 : 0,
                               .on_event = ignore_event};
}

static void submit(run *r, uint32_t which, listener *l)
{
    mlxr_error error;
    *l = (listener){r, &r->requests[which]};
    scheduler_request ask = ask_of(r, l->request);
    ask.on_event = on_event;
    ask.user = l;
    mlxr_status status = scheduler_submit(r->sched, &ask, NULL, NULL, &error);
    if (status != MLXR_OK) {
        fail_msg("%s: request %u: %s", r->v->text, which, error.text);
    }
}

static void play(run *r)
{
    listener *listeners = calloc(r->n_requests + 1, sizeof *listeners);
    assert_non_null(listeners);
    for (uint32_t i = 0; i < r->n_requests; i++) {
        submit(r, i, &listeners[i]);
    }
    for (uint32_t n_steps = 0; scheduler_step(r->sched).worked; n_steps++) {
        scheduler_stats stats = scheduler_stats_get(r->sched);
        r->most_running = stats.n_running > r->most_running ? stats.n_running : r->most_running;
        if (r->v->eviction == EVICTION_PREEMPT && !r->urgent_submitted && r->requests[0].got[0].n > 0) {
            r->urgent_submitted = true;
            submit(r, r->n_requests, &listeners[r->n_requests]);
        }
        assert_true(n_steps < 20000);
    }
    assert_true(scheduler_idle(r->sched));
    free(listeners);
}

/* ---- budgets --------------------------------------------------------------------------------------------------- */

static uint64_t kv_most(const mlxr_model *model, size_t n_tokens, size_t n_rows)
{
    uint64_t most = 0;
    for (size_t end = 1; model && end <= n_tokens; end++) {
        size_t rows = end < n_rows ? end : n_rows;
        uint64_t n_bytes = mlxr_model_kv_bytes(model, end - rows, rows);
        most = n_bytes > most ? n_bytes : most;
    }
    return most;
}

/* Everything can run at once, but not beside what the cache has kept. */
static void limit_for_eviction(run *r)
{
    uint64_t n_bytes = 0, page = mlxr_model_kv_bytes(r->own.model, 0, 32);
    for (uint32_t i = 0; i < r->n_requests; i++) {
        const matrix_request *q = &r->requests[i];
        n_bytes += q->n_choices * (kv_most(r->own.model, q->n_prompt + q->n_answer, ROWS) + page +
                                   kv_most(r->own.draft, q->n_prompt + q->n_answer, 512));
    }
    assert_true(scheduler_budget_set(r->sched, n_bytes + page));
}

/* Fills the cache with pages that nobody will ask for, until it has to evict: whatever comes now costs others theirs.
 */
static void fill_cache(const run *r, uint64_t seed)
{
    uint64_t n_evicted = mlxr_kv_stats_get(r->own.engine).n_evicted_bytes;
    for (int i = 0; mlxr_kv_stats_get(r->own.engine).n_evicted_bytes == n_evicted; i++) {
        int32_t prompt[FILLER];
        for (size_t j = 0; j < FILLER; j++) {
            prompt[j] = (int32_t)(test_random(&seed) % 250 + 1);
        }
        warm(&r->own, prompt, FILLER);
        assert_true(i < 2000);
    }
}

/* The least budget that takes each request alone, so that two can hardly run. In small steps: where states are large,
 * what 32 tokens take is room for half of a request. */
static void limit_for_preemption(run *r)
{
    uint64_t piece = mlxr_model_kv_bytes(r->own.model, 0, 32) / 8 + 1;
    for (uint64_t n_bytes = piece;; n_bytes += piece) {
        bool fits = scheduler_budget_set(r->sched, n_bytes);
        for (uint32_t i = 0; i <= r->n_requests && fits; i++) {
            uint64_t id;
            scheduler_request ask = ask_of(r, &r->requests[i]);
            fits = scheduler_submit(r->sched, &ask, &id, NULL, NULL) == MLXR_OK;
            if (fits) {
                scheduler_cancel(r->sched, id);
                scheduler_step(r->sched);
            }
        }
        if (fits) {
            return;
        }
        assert_true(n_bytes < KV_BYTES);
    }
}

/* ---- a cell ---------------------------------------------------------------------------------------------------- */

static void make_requests(run *r)
{
    uint32_t n = r->v->n_batch / r->v->n_choices;
    r->n_requests = n ? n : 1;
    r->requests = calloc(r->n_requests + 1, sizeof *r->requests);
    assert_non_null(r->requests);
    for (uint32_t i = 0; i <= r->n_requests; i++) {
        matrix_request_make(&r->requests[i], r->v, i, 0);
    }
    matrix_request *urgent = &r->requests[r->n_requests];
    uint64_t seed = 99;
    urgent->n_choices = 1;
    urgent->n_prompt = URGENT_PROMPT;
    for (size_t i = 0; i < URGENT_PROMPT; i++) {
        urgent->prompt[i] = (int32_t)(test_random(&seed) % 250 + 1);
    }
}

/* The first request has to be running still when all others do, and when the urgent one comes to pre-empt it, which is
 * behind its first step: it asks something else where each of its choices could be over by then. */
static void expect_first(run *r, const world *plain)
{
    matrix_request *first = &r->requests[0];
    size_t longest = 0;
    for (uint32_t variant = 0; longest <= DRAFT_MOST + 1; variant++) {
        assert_true(variant < 50);
        matrix_request_make(first, r->v, 0, variant);
        alone_run(first, plain->engine, plain->model);
        for (uint32_t c = 0; c < first->n_choices; c++) {
            longest = first->expected[c].n > longest ? first->expected[c].n : longest;
        }
    }
}

static void expect(run *r)
{
    world plain;
    open_world(&plain, r->v, &(mlxr_engine_options){.n_threads = 1, .no_prefix_cache = true});
    expect_first(r, &plain);
    for (uint32_t i = 1; i < r->n_requests + (r->v->eviction == EVICTION_PREEMPT); i++) {
        alone_run(&r->requests[i], plain.engine, plain.model);
    }
    close_world(&plain);
}

/* The first request's prompt last, so that it is what the cache forgets last. */
static void warm_all(const run *r)
{
    for (uint32_t i = r->n_requests; r->v->prefix != PREFIX_COLD && i-- > 0;) {
        warm(&r->own, r->requests[i].prompt, r->requests[i].n_prompt);
    }
}

static void open_own(run *r)
{
    static unsigned n_dirs;
    mlxr_error error;
    char dir[512];
    snprintf(dir, sizeof dir, "%s/kv-%u", test_temp_dir(), n_dirs++);
    mlxr_engine_options options = {.n_threads = 2, .kv_dir = r->v->prefix == PREFIX_DISK ? dir : NULL};
    open_world(&r->own, r->v, &options);
    if (r->v->prefix == PREFIX_DISK) { /* all that the next one finds is in the directory */
        warm_all(r);
        close_world(&r->own);
        open_world(&r->own, r->v, &options);
    }
    scheduler_options scheduling = {
        .lanes_max = LANES, .rows_max = r->v->n_batch > ROWS ? 128 : ROWS, .lookahead = 1, .step_us = 1e6};
    assert_ok(scheduler_open(&r->sched, r->own.engine, &scheduling, &error), &error);
    if (r->v->eviction == EVICTION_BUDGET) {
        limit_for_eviction(r);
    } else if (r->v->eviction == EVICTION_PREEMPT) {
        limit_for_preemption(r);
    }
    if (r->v->eviction == EVICTION_BUDGET) {
        fill_cache(r, 4711);
    }
    if (r->v->prefix == PREFIX_MEMORY) {
        warm_all(r);
    }
    if (r->v->eviction == EVICTION_BUDGET) { /* again: of what was warmed, unfinished pages have gone */
        fill_cache(r, 815);
    }
}

/* A sentence that ended is one of its rule. */
static bool is_sentence(const run *r, const matrix_request *q, const answer *a)
{
    int32_t ids[ANSWER_MAX];
    char *text = NULL;
    size_t n = 0;
    mlxr_error error;
    for (size_t i = 0; i < a->n; i++) {
        ids[i] = a->token[i].id;
    }
    assert_ok(mlxr_detokenize(r->own.model, ids, a->n, false, &text, &n, &error), &error);
    bool good = n > 20;
    if (q->rule_is_schema) {
        json_t *json = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
        good = json_is_boolean(json_object_get(json, "b"));
        json_decref(json);
    }
    mlxr_free(text);
    return good;
}

static void compare(run *r, matrix_totals *t)
{
    bool greedy = r->v->sampling == SAMPLING_GREEDY;
    char why[512];
    for (uint32_t i = 0; i < r->n_requests + (r->v->eviction == EVICTION_PREEMPT); i++) {
        const matrix_request *q = &r->requests[i];
        if (q->failure[0]) {
            fail_msg("%s: request %u: %s", r->v->text, i, q->failure);
        }
        for (uint32_t c = 0; c < q->n_choices; c++) {
            const answer *a = &q->got[c];
            if (q->n_finishes[c] != 1) {
                fail_msg("%s: request %u, choice %u finished %u times", r->v->text, i, c, q->n_finishes[c]);
            }
            if (!answer_same(&q->expected[c], a, r->v->tolerance, greedy, &t->differences, why, sizeof why)) {
                fail_msg("%s: request %u, choice %u: %s", r->v->text, i, c, why);
            }
            if (a->ended && q->rule) {
                assert_true(is_sentence(r, q, a));
                t->n_sentences[r->v->rule]++;
            }
            t->n_choices++;
            t->n_tokens += a->n;
        }
    }
}

/* The cell must have done what it is there for. */
static void check_that(const run *r, bool did, const char *what)
{
    if (!did) {
        fail_msg("%s: %s", r->v->text, what);
    }
}

static void check_done(const run *r, const mlxr_kv_stats *before, matrix_totals *t)
{
    mlxr_kv_stats kv = mlxr_kv_stats_get(r->own.engine);
    scheduler_stats stats = scheduler_stats_get(r->sched);
    uint64_t n_evicted = kv.n_evicted_bytes - before->n_evicted_bytes;
    check_that(r, r->v->prefix == PREFIX_COLD || r->requests[0].n_cached >= HIT_LEAST, "the prefix was not found");
    check_that(r, r->v->prefix != PREFIX_DISK || kv.disk_hits > 0, "nothing was read from disk");
    check_that(r, kv.disk_rejected == 0 && kv.disk_write_errors == 0, "a block on disk was rejected");
    check_that(r, r->v->eviction != EVICTION_BUDGET || n_evicted > 0, "nothing was evicted");
    check_that(r, r->v->eviction != EVICTION_PREEMPT || (r->urgent_submitted && stats.n_preempted > 0),
               "nothing was pre-empted");
    check_that(r, stats.n_preempted == stats.n_resumed, "what was pre-empted was not resumed");
    check_that(r, stats.n_forked == (uint64_t)r->n_requests * (r->v->n_choices - 1), "choices were not forked");
    /* some may have ended with their first token */
    check_that(r, r->v->eviction != EVICTION_NONE || r->most_running * 4 >= r->n_requests * 3,
               "they did not run together");
    *(r->v->prefix == PREFIX_DISK ? &t->n_hit_disk : &t->n_hit_memory) += stats.n_cached_tokens;
    t->n_evicted_bytes += n_evicted;
    t->n_preempted += stats.n_preempted;
    t->n_forked += stats.n_forked;
    t->n_drafted[r->v->draft] += stats.drafts.n_drafted;
    t->n_accepted[r->v->draft] += stats.drafts.n_accepted;
}

void cell_run(const matrix_values *v, matrix_totals *totals)
{
    run r = {.v = v};
    make_requests(&r);
    expect(&r);
    open_own(&r);
    mlxr_kv_stats before = mlxr_kv_stats_get(r.own.engine);
    play(&r);
    compare(&r, totals);
    check_done(&r, &before, totals);
    scheduler_close(&r.sched);
    close_world(&r.own);
    free(r.requests);
    totals->n_green++;
}

void cell_refused(const matrix_values *v, matrix_totals *totals)
{
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    char path[512], heads[32];
    mlxr_engine_options options = {
        .backend = v->backend->name, .kv_type = v->kv_type, .n_threads = 1, .kv_bytes = KV_BYTES};
    snprintf(path, sizeof path, "%s/refused%s", test_temp_dir(), v->family->folder ? v->family->name : ".gguf");
    snprintf(heads, sizeof heads, "heads have %u", v->family->tiny.head_dim);
    if (v->family->tiny.head_dim % 32 == 0) {
        snprintf(heads, sizeof heads, "latent attention");
    }
    if (v->family->folder) {
        family_model_write(v->family->name, path);
    } else {
        tiny_model_write_gguf(&v->family->tiny, &(tiny_options){.type = DTYPE_Q8_0}, path);
    }
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    bool headless = v->draft == DRAFT_MTP && !matrix_has_head(v);
    mlxr_model_options with = {.mtp = v->draft == DRAFT_MTP ? MLXR_MTP_NEEDED : MLXR_MTP_OFF};
    mlxr_status status = mlxr_model_load(&model, engine, path, &with, &error);
    if (headless && (status != MLXR_UNSUPPORTED || !strstr(error.text, "multi-token-prediction head"))) {
        fail_msg("%s: %s, %s", v->text, mlxr_status_text(status), status == MLXR_OK ? "not refused" : error.text);
    }
    if (!headless && (status != MLXR_UNSUPPORTED || !strstr(error.text, v->kv_type) || !strstr(error.text, heads))) {
        fail_msg("%s: %s, %s", v->text, mlxr_status_text(status), status == MLXR_OK ? "not refused" : error.text);
    }
    assert_null(model);
    mlxr_engine_close(&engine);
    totals->n_refused++;
}
