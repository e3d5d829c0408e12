/*
 * Equivalences with a real model, as tests/unit/runtime/test_equivalence.c has them for tiny ones: however the tokens
 * of a sequence get computed, its logits and its tokens are bit for bit those of the sequence alone. Owner: the test
 * program. Lifetime: the process; what the sequences give alone is computed once a KV type.
 *
 *   oracle_test_equivalence_real MODEL        a share of it; with MLXR_SOAK longer answers, more batches, all KV types
 *
 * 64 passages of tests/data/text of many lengths; the first is longer than any window of the models.
 */
#include <time.h>

#include "base/mapping.h"
#include "runtime/engine.h"
#include "support/models.h"
#include "support/test.h"

#define TEXT_PATH "tests/data/text/languages-and-code.text"
enum { SEQUENCES = 64, LONGEST = 620, ANSWER_MAX = 24, TEXT_IDS = 40000 };

typedef struct run { /* what a sequence gave */
    int32_t tokens[ANSWER_MAX];
    uint64_t logits[ANSWER_MAX]; /* hashes of whole rows */
    size_t n;
} run;

typedef struct subject {
    const char *name, *kv_type;
    char path[1024];
    int32_t *ids; /* [n_ids] of the text */
    size_t n_ids, n_answer;
    uint32_t n_vocab, n_alone;
    run alone[SEQUENCES];
    mlxr_engine *engine;
    mlxr_model *model;
} subject;

static subject s;

static bool is_soak(void)
{
    return getenv("MLXR_SOAK") != NULL;
}

static void open_with(const mlxr_engine_options *options)
{
    mlxr_error error;
    mlxr_engine_options o = *options;
    o.kv_type = s.kv_type;
    o.n_threads = o.n_threads ? o.n_threads : 2;
    o.kv_bytes = o.kv_bytes ? o.kv_bytes : (size_t)512 << 20;
    assert_ok(mlxr_engine_open(&s.engine, &o, &error), &error);
    assert_ok(mlxr_model_load(&s.model, s.engine, s.path, NULL, &error), &error);
    s.n_vocab = mlxr_model_info_get(s.model)->n_vocab;
}

static void close_all(void)
{
    mlxr_kv_stats stats = mlxr_kv_stats_get(s.engine);
    assert_int_equal(stats.bytes_used, stats.bytes_cached);
    mlxr_model_unref(&s.model);
    mlxr_engine_close(&s.engine);
}

/* Plain: nothing shared, nothing kept. */
static void open_plain(void)
{
    open_with(&(mlxr_engine_options){.no_prefix_cache = true});
}

static void read_text(void)
{
    mlxr_error error;
    mapping text;
    assert_ok(mapping_open(&text, TEXT_PATH, &error), &error);
    s.ids = malloc(TEXT_IDS * sizeof *s.ids);
    assert_non_null(s.ids);
    assert_ok(mlxr_tokenize(s.model, (const char *)text.data, text.n_bytes, 0, s.ids, TEXT_IDS, &s.n_ids, &error),
              &error);
    s.n_ids = s.n_ids < TEXT_IDS ? s.n_ids : TEXT_IDS;
    mapping_close(&text);
}

/* Every second sequence is greedy, the others draw. */
static mlxr_sampling sampling_of(size_t which)
{
    mlxr_sampling sampling = mlxr_sampling_default();
    sampling.temperature = which % 2 ? 0.8f : 0;
    sampling.seed = 100 + which;
    return sampling;
}

static size_t prompt_length(size_t which)
{
    static const size_t lengths[] = {LONGEST, 33, 1, 64, 17, 5, 48, 96, 2, 31};
    return which < sizeof lengths / sizeof *lengths ? lengths[which] : 3 + which * 13 % 37;
}

static mlxr_sequence *start(size_t which)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    mlxr_sampling sampling = sampling_of(which);
    size_t n = prompt_length(which), at = which * 331 % (s.n_ids - LONGEST);
    assert_ok(mlxr_sequence_open(&sequence, s.model, &sampling, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, s.ids + at, n, &error), &error);
    return sequence;
}

static uint64_t hash_row(const float *row, size_t n)
{
    uint64_t hash = n;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &row[i], sizeof bits);
        hash = (hash ^ bits) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return hash;
}

static void record(run *r, const mlxr_slice *slice)
{
    for (uint32_t i = 0; i < slice->n_sampled && r->n < s.n_answer; i++, r->n++) {
        r->tokens[r->n] = slice->sampled[i].id;
        r->logits[r->n] = hash_row(slice->logits + (size_t)i * s.n_vocab, s.n_vocab);
    }
}

/* Steps sequences together, at most `chunk` pending tokens of each and a whole step's, until each has its answer. */
static void finish(mlxr_sequence **sequences, run *runs, size_t n, uint32_t chunk)
{
    mlxr_error error;
    for (;;) {
        mlxr_slice slices[SEQUENCES] = {{0}};
        size_t at[SEQUENCES], n_slices = 0;
        uint32_t left = mlxr_step_tokens_max(s.engine);
        for (size_t i = 0; i < n && left; i++) {
            size_t pending = mlxr_sequence_pending(sequences[i]);
            if (runs[i].n < s.n_answer) {
                uint32_t n_compute = (uint32_t)(pending < chunk ? pending : chunk);
                n_compute = n_compute < left ? n_compute : left;
                left -= n_compute;
                at[n_slices] = i;
                slices[n_slices++] = (mlxr_slice){.sequence = sequences[i], .n_compute = n_compute};
            }
        }
        if (n_slices == 0) {
            return;
        }
        assert_ok(mlxr_step(s.engine, slices, n_slices, &error), &error);
        for (size_t i = 0; i < n_slices; i++) {
            record(&runs[at[i]], &slices[i]);
        }
    }
}

static void check(size_t which, const run *r, const char *what)
{
    const run *alone = &s.alone[which];
    assert_int_equal(r->n, s.n_answer);
    for (size_t i = 0; i < s.n_answer; i++) {
        if (r->tokens[i] != alone->tokens[i] || r->logits[i] != alone->logits[i]) {
            fail_msg("%s, %s, %s: sequence %zu, token %zu is %d, alone %d; logits %s", s.name, s.kv_type, what, which,
                     i, r->tokens[i], alone->tokens[i], r->logits[i] == alone->logits[i] ? "equal" : "differ");
        }
    }
}

/* One sequence whose prompt is read in steps of `chunk`; returns how many of its tokens the cache had. */
static size_t run_one(size_t which, uint32_t chunk, const char *what)
{
    run got = {.n = 0};
    mlxr_sequence *sequence = start(which);
    size_t n_cached = mlxr_sequence_cached(sequence);
    finish(&sequence, &got, 1, chunk);
    mlxr_sequence_close(&sequence);
    check(which, &got, what);
    return n_cached;
}

/* ---- the reference ------------------------------------------------------------------------------------------- */

static int open_subject(void **state)
{
    s.kv_type = *state;
    s.n_answer = is_soak() ? ANSWER_MAX : 6;
    s.n_alone = is_soak() || strcmp(s.kv_type, "f16") == 0 ? SEQUENCES : 8;
    open_plain();
    if (!s.ids) {
        read_text();
    }
    for (size_t i = 0; i < s.n_alone; i++) {
        mlxr_sequence *sequence = start(i);
        s.alone[i].n = 0;
        finish(&sequence, &s.alone[i], 1, 512);
        mlxr_sequence_close(&sequence);
    }
    close_all();
    return 0;
}

/* ---- the equivalences ---------------------------------------------------------------------------------------- */

static void chunked_prompts_equal_whole_ones(void **unused)
{
    (void)unused;
    static const uint32_t chunks[] = {256, 33, 7, 1};
    open_plain();
    for (size_t c = 0; c < (is_soak() ? 4u : 3u); c++) {
        run_one(0, chunks[c], "chunked");
        run_one(7, chunks[c], "chunked");
    }
    close_all();
}

static void batched_sequences_equal_lone_ones(void **unused)
{
    (void)unused;
    static const size_t batches[] = {64, 8, 2, 3, 5, 16, 32, 63};
    static run together[SEQUENCES];
    mlxr_sequence *sequences[SEQUENCES];
    open_plain();
    for (size_t b = 0; b < (is_soak() ? sizeof batches / sizeof *batches : 2); b++) {
        size_t n = batches[b] < s.n_alone ? batches[b] : s.n_alone;
        for (size_t i = 0; i < n; i++) {
            sequences[i] = start(i);
            together[i].n = 0;
        }
        finish(sequences, together, n, 40);
        for (size_t i = 0; i < n; i++) {
            mlxr_sequence_close(&sequences[i]);
            check(i, &together[i], "batched");
        }
    }
    close_all();
}

static void threads_do_not_matter(void **unused)
{
    (void)unused;
    open_with(&(mlxr_engine_options){.no_prefix_cache = true, .n_threads = 1});
    run_one(1, 512, "one thread");
    close_all();
    open_with(&(mlxr_engine_options){.no_prefix_cache = true, .n_threads = 3});
    run_one(3, 512, "three threads");
    close_all();
}

static void shared_prefixes_equal_own_ones(void **unused)
{
    (void)unused;
    open_with(&(mlxr_engine_options){0});
    assert_int_equal(run_one(0, 512, "first with a cache"), 0);
    assert_true(run_one(0, 512, "prefix hit") >= LONGEST - 32);
    run_one(7, 512, "first with a cache");
    assert_int_equal(run_one(7, 512, "prefix hit"), 64); /* of 96: one token stays to be computed */
    close_all();
}

static void evicted_and_reloaded_equal_never_evicted(void **unused)
{
    (void)unused;
    static const size_t turns[] = {0, 3, 7, 6};
    char dir[512];
    uint64_t n_evicted = 0, n_disk = 0;
    snprintf(dir, sizeof dir, "%s/kv-%s", test_temp_dir(), s.kv_type);
    for (int process = 0; process < 2; process++) {
        open_with(&(mlxr_engine_options){.kv_dir = dir});
        uint64_t n_bytes = 0;
        for (size_t end = 1; end <= LONGEST + ANSWER_MAX; end++) { /* room for the longest and little else */
            size_t rows = end < 512 ? end : 512;
            uint64_t needed = mlxr_model_kv_bytes(s.model, end - rows, rows);
            n_bytes = needed > n_bytes ? needed : n_bytes;
        }
        mlxr_kv_budget_set(s.engine, n_bytes);
        for (size_t i = 0; i < 8; i++) {
            run_one(turns[i % 4], 512, process ? "after a restart" : "evicted");
            mlxr_kv_flush(s.engine);
        }
        mlxr_kv_stats stats = mlxr_kv_stats_get(s.engine);
        assert_int_equal(stats.disk_rejected, 0);
        n_evicted += stats.n_evicted_bytes;
        n_disk += stats.disk_hits;
        close_all();
    }
    assert_true(n_evicted > 0 && n_disk > 0);
}

static void forks_equal_recomputation(void **unused)
{
    (void)unused;
    static run runs[3];
    mlxr_error error;
    mlxr_sequence *both[3] = {NULL};
    mlxr_sampling sampling = sampling_of(3);
    open_with(&(mlxr_engine_options){0});
    both[0] = start(3);
    mlxr_slice prompt = {.sequence = both[0], .n_compute = (uint32_t)mlxr_sequence_pending(both[0]) - 1};
    assert_ok(mlxr_step(s.engine, &prompt, 1, &error), &error);
    sampling.seed = 777;
    assert_ok(mlxr_sequence_fork(&both[1], both[0], &sampling, &error), &error);
    assert_ok(mlxr_sequence_fork(&both[2], both[0], NULL, &error), &error); /* goes on as the original does */
    for (size_t i = 0; i < 3; i++) {
        runs[i].n = 0;
    }
    finish(both, runs, 3, 512);
    for (size_t i = 0; i < 3; i++) {
        mlxr_sequence_close(&both[i]);
    }
    close_all();
    check(3, &runs[0], "forked from");
    check(3, &runs[2], "fork that goes on");
    open_plain();
    run own = {.n = 0};
    mlxr_sequence *sequence = NULL;
    assert_ok(mlxr_sequence_open(&sequence, s.model, &sampling, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, s.ids + 3 * 331, prompt_length(3), &error), &error);
    finish(&sequence, &own, 1, 512);
    mlxr_sequence_close(&sequence);
    close_all();
    assert_memory_equal(&own, &runs[1], sizeof own);
}

static void preempted_sequences_equal_undisturbed_ones(void **unused)
{
    (void)unused;
    for (int with_cache = 0; with_cache < 2; with_cache++) {
        open_with(&(mlxr_engine_options){.no_prefix_cache = !with_cache});
        for (size_t which = 6; which < 8; which++) { /* one greedy, one that draws */
            run got = {.n = 0};
            mlxr_sequence *sequence = start(which);
            for (unsigned n_steps = 0; got.n < s.n_answer; n_steps++) {
                if (n_steps % 3 == 2) { /* in the prompt and in the answer */
                    mlxr_sequence_release(sequence);
                    assert_int_equal(mlxr_sequence_computed(sequence), 0);
                    mlxr_sequence_resume(sequence);
                    assert_true(with_cache == (mlxr_sequence_computed(sequence) > 0) ||
                                mlxr_sequence_length(sequence) < 33);
                }
                size_t pending = mlxr_sequence_pending(sequence);
                mlxr_error error;
                mlxr_slice slice = {.sequence = sequence, .n_compute = (uint32_t)(pending < 50 ? pending : 50)};
                assert_ok(mlxr_step(s.engine, &slice, 1, &error), &error);
                record(&got, &slice);
            }
            mlxr_sequence_close(&sequence);
            check(which, &got, with_cache ? "pre-empted, resumed" : "pre-empted, recomputed");
        }
        close_all();
    }
}

static void speculation_changes_nothing_but_the_number_of_steps(void **unused)
{
    (void)unused;
    static run runs[8];
    mlxr_sequence *sequences[8];
    for (int kind = 0; kind < 2; kind++) { /* prompt lookup, draft model */
        uint64_t n_drafted = 0, n_accepted = 0;
        mlxr_error error;
        open_plain();
        for (size_t i = 0; i < 8; i++) {
            sequences[i] = start(i);
            runs[i].n = 0;
            /* it drafts for itself, and must not see that this does not pay */
            assert_ok(mlxr_sequence_draft(sequences[i], kind ? s.model : NULL, 4, &error), &error);
            sequences[i]->spec.tracker.draft_cost = 0;
        }
        finish(sequences, runs, 8, 512);
        for (size_t i = 0; i < 8; i++) {
            mlxr_draft_stats stats = mlxr_draft_stats_get(sequences[i]);
            n_drafted += stats.n_drafted;
            n_accepted += stats.n_accepted;
            mlxr_sequence_close(&sequences[i]);
            check(i, &runs[i], kind ? "draft model" : "prompt lookup");
        }
        close_all();
        print_message("  %s: %d drafted, %d right\n", kind ? "draft model" : "prompt lookup", (int)n_drafted,
                      (int)n_accepted);
        assert_true(kind == 0 || n_accepted > 0);
    }
}

int main(int argc, char **argv)
{
    static const char *const types[] = {"f16", "i16", "q8_0", "q4_0", "f32", "bf16"};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunked_prompts_equal_whole_ones),
        cmocka_unit_test(batched_sequences_equal_lone_ones),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(shared_prefixes_equal_own_ones),
        cmocka_unit_test(evicted_and_reloaded_equal_never_evicted),
        cmocka_unit_test(forks_equal_recomputation),
        cmocka_unit_test(preempted_sequences_equal_undisturbed_ones),
        cmocka_unit_test(speculation_changes_nothing_but_the_number_of_steps),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: oracle_test_equivalence_real MODEL\n");
        return 2;
    }
    s.name = argv[1];
    if (!test_model_path(s.name, s.path, sizeof s.path)) {
        return 77; /* ctest: not run */
    }
    int n_failed = 0;
    for (size_t t = 0; t < (is_soak() ? 5u : 1u); t++) {
        void *type = (void *)(uintptr_t)types[t];
        print_message("%s, %s\n", s.name, types[t]);
        open_subject(&type);
        n_failed += cmocka_run_group_tests_name(types[t], tests, NULL, NULL);
    }
    free(s.ids);
    return n_failed;
}
