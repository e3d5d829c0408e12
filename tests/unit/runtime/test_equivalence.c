/*
 * Equivalences, with every type of KV cache: however a sequence's tokens get computed (at once, in chunks, among
 * others, on shared, forked, evicted, reloaded or released pages, with drafts, on any number of threads), logits and
 * tokens are bit for bit the same. On a backend that does not promise that (MLXR_TEST_BACKEND names it) logits are
 * close, and so are tokens up to where a difference that small decided between two. MLXR_TEST_CPU leaves instruction
 * sets out, such as "-avx512". Owner: the test program. Lifetime: the process.
 */
#include <unistd.h>

#include "base/error.h"
#include "recurrent.h"
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { PROMPT = 100, GENERATE = 40, SEQUENCES = 6 };

typedef struct run { /* what a sequence produced */
    int32_t tokens[GENERATE];
    float logits[GENERATE][TINY_N_VOCAB];
    size_t n;
    uint64_t n_ends; /* end tokens among all that were sampled, also behind the first GENERATE */
} run;

typedef struct setup {
    mlxr_engine *engine;
    mlxr_model *model;
} setup;

enum { HYBRIDS = RECURRENT_HYBRIDS };

static const tiny_model *hybrid_at(size_t index)
{
    static tiny_model made[HYBRIDS];
    if (index >= HYBRIDS) {
        return NULL;
    }
    made[index] = *tiny_model_find(recurrent_hybrids[index].base);
    made[index].name = recurrent_hybrids[index].name;
    return &made[index];
}

static const tiny_model *mixer_at(size_t index)
{
    static tiny_model made[MIXER_FAMILIES];
    made[index] = *tiny_model_find("llama"); /* whose tokens it gets */
    made[index].name = mixer_families[index].name;
    made[index].head_dim = mixer_families[index].head_dim;
    return &made[index];
}

static void make_hybrid(mlxr_model *model, const tiny_model *tiny)
{
    for (size_t i = 0; i < HYBRIDS; i++) {
        if (strcmp(tiny->name, recurrent_hybrids[i].name) == 0) {
            recurrent_make(model, recurrent_hybrids[i].layers);
        }
    }
}

/* Without and with a prefix cache; each test gets its KV type as its state. */
static mlxr_engine_options plain = {.n_threads = 2, .kv_bytes = 64 << 20, .no_prefix_cache = true};
static mlxr_engine_options cached = {.n_threads = 2, .kv_bytes = 64 << 20};

/* NMSE of a row of logits computed in two ways, on a backend whose sums have another order then: what rounding to the
 * cache's type makes of it, where an element comes to lie on the other side of a step. Seen with q8_0: 2.5e-5. */
static double rounding(void)
{
    static const struct {
        const char *type;
        double nmse;
    } limits[] = {{"f32", 1e-9}, {"f16", 1e-5}, {"bf16", 5e-4}, {"i16", 1e-5}, {"q8_0", 6.5e-3}, {"q4_0", 0.5}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (strcmp(limits[i].type, plain.kv_type) == 0) {
            return limits[i].nmse;
        }
    }
    return 0;
}

static size_t n_rows_compared, n_runs_compared, n_runs_parted;
static double worst_nmse;

static void use_type(void **state)
{
    plain.kv_type = cached.kv_type = *state;
}

static const char *model_path(const tiny_model *tiny)
{
    static char path[512];
    bool mixer = is_mixer_family(tiny->name);
    snprintf(path, sizeof path, "%s/%s%s", test_temp_dir(), tiny->name, mixer ? "" : ".gguf");
    if (access(path, F_OK) != 0 && mixer) {
        family_model_write(tiny->name, path);
    } else if (access(path, F_OK) != 0) {
        tiny_model_write_gguf(tiny, &(tiny_options){.type = DTYPE_Q8_0}, path);
    }
    return path;
}

static void open_with(setup *s, const tiny_model *tiny, const mlxr_engine_options *options)
{
    mlxr_error error;
    memset(s, 0, sizeof *s);
    assert_ok(mlxr_engine_open(&s->engine, options, &error), &error);
    mlxr_model_options with_head = {.mtp = has_mtp(tiny->name) ? MLXR_MTP_NEEDED : MLXR_MTP_OFF};
    assert_ok(mlxr_model_load(&s->model, s->engine, model_path(tiny), &with_head, &error), &error);
    make_hybrid(s->model, tiny);
}

static void close_all(setup *s)
{
    mlxr_kv_stats stats = mlxr_kv_stats_get(s->engine);
    assert_int_equal(stats.bytes_used, stats.bytes_cached); /* every sequence gave its pages back */
    mlxr_model_unref(&s->model);
    mlxr_engine_close(&s->engine);
}

static mlxr_sampling sampling_of(float temperature, uint64_t seed)
{
    mlxr_sampling sampling = mlxr_sampling_default();
    sampling.temperature = temperature;
    sampling.seed = seed;
    return sampling;
}

/* Sequence `which` has its own prompt: different tokens and another length. */
static size_t prompt_of(const tiny_model *tiny, size_t which, int32_t *ids)
{
    tiny_model_tokens(tiny, ids, PROMPT);
    for (size_t i = 0; i < which && i < PROMPT; i++) {
        ids[i * 7 % PROMPT] = (int32_t)(i * 31 % 250 + 1);
    }
    return PROMPT - 9 * which;
}

static mlxr_sequence *start(setup *s, const tiny_model *tiny, size_t which, const mlxr_sampling *sampling)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    int32_t ids[PROMPT];
    size_t n = prompt_of(tiny, which, ids);
    assert_ok(mlxr_sequence_open(&sequence, s->model, sampling, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, n, &error), &error);
    return sequence;
}

static void record(run *r, const mlxr_slice *slice)
{
    for (uint32_t i = 0; i < slice->n_sampled; i++) {
        r->n_ends += mlxr_token_is_end(slice->sequence->model, slice->sampled[i].id);
    }
    for (uint32_t i = 0; i < slice->n_sampled && r->n < GENERATE; i++, r->n++) {
        r->tokens[r->n] = slice->sampled[i].id;
        memcpy(r->logits[r->n], slice->logits + (size_t)i * TINY_N_VOCAB, sizeof r->logits[0]);
    }
}

/* Steps sequences together, at most `chunk` pending tokens of each a step, until each has GENERATE tokens. */
static void finish(setup *s, mlxr_sequence **sequences, run *runs, size_t n, uint32_t chunk)
{
    mlxr_error error;
    for (;;) {
        mlxr_slice slices[SEQUENCES] = {{0}};
        size_t at[SEQUENCES], n_slices = 0;
        for (size_t i = 0; i < n; i++) {
            if (sequences[i] && runs[i].n < GENERATE) {
                size_t pending = mlxr_sequence_pending(sequences[i]);
                at[n_slices] = i;
                slices[n_slices++] = (mlxr_slice){.sequence = sequences[i],
                                                  .n_compute = (uint32_t)(pending < chunk ? pending : chunk)};
            }
        }
        if (n_slices == 0) {
            return;
        }
        assert_ok(mlxr_step(s->engine, slices, n_slices, &error), &error);
        for (size_t i = 0; i < n_slices; i++) {
            record(&runs[at[i]], &slices[i]);
        }
    }
}

static void one_alone(setup *s, const tiny_model *tiny, size_t which, const mlxr_sampling *sampling, run *out)
{
    mlxr_sequence *sequence = start(s, tiny, which, sampling);
    out->n = 0;
    finish(s, &sequence, out, 1, 512);
    mlxr_sequence_close(&sequence);
}

static void assert_close(const run *a, const run *b, const tiny_model *tiny, const char *what)
{
    n_runs_compared++;
    for (size_t i = 0; i < GENERATE; i++) {
        double wrong = 0, all = 0;
        for (size_t j = 0; j < TINY_N_VOCAB; j++) {
            double difference = (double)b->logits[i][j] - (double)a->logits[i][j];
            wrong += difference * difference;
            all += (double)a->logits[i][j] * (double)a->logits[i][j];
        }
        if (!(wrong <= rounding() * all)) {
            fail_msg("%s, %s: token %zu: NMSE %.2e, limit %.0e", tiny->name, what, i, wrong / all, rounding());
        }
        worst_nmse = wrong / all > worst_nmse ? wrong / all : worst_nmse;
        n_rows_compared++;
        if (a->tokens[i] != b->tokens[i]) { /* from here on they tell different stories */
            n_runs_parted++;
            return;
        }
    }
}

static void assert_same(const run *a, const run *b, const tiny_model *tiny, const char *what)
{
    if (plain.backend) {
        assert_close(a, b, tiny, what);
        return;
    }
    for (size_t i = 0; i < GENERATE; i++) {
        for (size_t j = 0; j < TINY_N_VOCAB; j++) {
            if (memcmp(&a->logits[i][j], &b->logits[i][j], sizeof(float)) != 0) {
                fail_msg("%s, %s: token %zu, logit %zu: %.9g and %.9g", tiny->name, what, i, j, (double)a->logits[i][j],
                         (double)b->logits[i][j]);
            }
        }
        if (a->tokens[i] != b->tokens[i]) {
            fail_msg("%s, %s: token %zu is %d and %d", tiny->name, what, i, a->tokens[i], b->tokens[i]);
        }
    }
}

/* The models of a quick run differ in everything that matters here: RoPE order, biases, norms, windows, head sizes. All
 * of them run with MLXR_SOAK set, and those whose heads are whole blocks with a quantised cache. */
static const tiny_model *model_at(size_t index)
{
    static const char *const all[] = {"llama", "mistral", "qwen2", "gemma3"};
    const char *const *quick = plain.backend ? all + 3 : all; /* slower there; gemma3 has most of it */
    size_t n_quick = plain.backend ? 1 : 4;
    bool words = strcmp(plain.kv_type, "i16") == 0, blocks = words || plain.kv_type[0] == 'q',
         soak = getenv("MLXR_SOAK") != NULL;
    if (!blocks) {
        size_t first = plain.backend && !soak ? 2 : 0, n = plain.backend && !soak ? 1 : HYBRIDS; /* gemma3's */
        if (index < n) {
            return hybrid_at(first + index);
        }
        index -= n;
    }
    for (size_t i = 0; i < MIXER_FAMILIES; i++) {
        /* both kinds of states, behind convolutions, which are F32 whatever the cache's type is, and latent numbers */
        bool quickly = !plain.backend || soak || (i % 2 && strcmp(plain.kv_type, "f32") == 0);
        bool refused = words && keeps_latent(mixer_families[i].name);
        if (quickly && !refused && (!blocks || mixer_families[i].head_dim % 32 == 0) && index-- == 0) {
            return mixer_at(i);
        }
    }
    for (size_t i = 0; soak ? tiny_model_at(i) != NULL : i < n_quick; i++) {
        const tiny_model *tiny = soak ? tiny_model_at(i) : tiny_model_find(quick[i]);
        if ((!blocks || tiny->head_dim % 32 == 0) && index-- == 0) {
            return tiny;
        }
    }
    return NULL;
}

static void chunked_prompts_equal_whole_ones(void **state)
{
    use_type(state);
    for (size_t m = 0; model_at(m); m++) {
        const tiny_model *tiny = model_at(m);
        static const uint32_t chunks[] = {1, 7, 32, 33};
        mlxr_sampling greedy = sampling_of(0, 1);
        setup s;
        static run whole, chunked;
        open_with(&s, tiny, &plain);
        one_alone(&s, tiny, 0, &greedy, &whole);
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
            mlxr_sequence *sequence = start(&s, tiny, 0, &greedy);
            chunked.n = 0;
            finish(&s, &sequence, &chunked, 1, chunks[c]);
            mlxr_sequence_close(&sequence);
            assert_same(&whole, &chunked, tiny, "chunked");
        }
        close_all(&s);
    }
}

static void batched_sequences_equal_lone_ones(void **state)
{
    use_type(state);
    for (size_t m = 0; model_at(m); m++) {
        const tiny_model *tiny = model_at(m);
        mlxr_sampling sampled = sampling_of(0.9f, 77);
        setup s;
        static run alone, together[SEQUENCES];
        mlxr_sequence *sequences[SEQUENCES];
        open_with(&s, tiny, &plain);
        for (size_t i = 0; i < SEQUENCES; i++) {
            sequences[i] = start(&s, tiny, i, &sampled);
            together[i].n = 0;
        }
        finish(&s, sequences, together, SEQUENCES, 40);
        for (size_t i = 0; i < SEQUENCES; i++) {
            mlxr_sequence_close(&sequences[i]);
            one_alone(&s, tiny, i, &sampled, &alone);
            assert_same(&alone, &together[i], tiny, "batched");
        }
        close_all(&s);
    }
}

/* The contract of mlxr_engine_options.batch_invariant, for every set of kernels there is: alone and whole on one
 * thread, or among others, in pieces, on two. */
static void batch_invariant_engines_keep_their_promise(void **state)
{
    use_type(state);
    static const struct {
        const char *backend, *cpu_features, *activations;
    } kernels[] = {{"cpu", NULL, NULL}, {"cpu", "-avx512", NULL}, {"cpu", "scalar", NULL}, {"cpu-scalar", NULL, NULL},
                   {"cpu", NULL, "8"},  {"cpu", "-avx512", "8"},  {"cpu", "scalar", "8"},  {"cpu-scalar", NULL, "8"}};
    if (plain.backend) { /* one that cannot keep it says so */
        mlxr_error error;
        mlxr_engine *engine = NULL;
        mlxr_engine_options options = {.backend = plain.backend, .batch_invariant = true};
        assert_int_equal(mlxr_engine_open(&engine, &options, &error), MLXR_UNSUPPORTED);
        assert_non_null(strstr(error.text, plain.backend));
        return;
    }
    static const uint32_t chunks[] = {40, 5, 1}; /* all of them with the best kernels, which have the most variants */
    const tiny_model *tiny = tiny_model_find("gemma3");
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        mlxr_sampling sampled = sampling_of(0.9f, 21);
        mlxr_engine_options options = {.n_threads = 1,
                                       .kv_bytes = 64 << 20,
                                       .no_prefix_cache = true,
                                       .batch_invariant = true,
                                       .kv_type = plain.kv_type,
                                       .backend = kernels[k].backend,
                                       .cpu_features = kernels[k].cpu_features,
                                       .activations = kernels[k].activations};
        size_t n = k ? 2 : SEQUENCES;
        static run alone[SEQUENCES], together[SEQUENCES];
        mlxr_sequence *sequences[SEQUENCES];
        setup s;
        open_with(&s, tiny, &options);
        for (size_t i = 0; i < n; i++) {
            one_alone(&s, tiny, i, &sampled, &alone[i]);
        }
        close_all(&s);
        options.n_threads = 2;
        open_with(&s, tiny, &options);
        for (size_t c = 0; c < (k ? 1 : sizeof chunks / sizeof *chunks); c++) {
            for (size_t i = 0; i < n; i++) {
                sequences[i] = start(&s, tiny, i, &sampled);
                together[i].n = 0;
            }
            finish(&s, sequences, together, n, chunks[c]);
            for (size_t i = 0; i < n; i++) {
                mlxr_sequence_close(&sequences[i]);
                assert_same(&alone[i], &together[i], tiny, kernels[k].backend);
            }
        }
        close_all(&s);
    }
}

static void batch_invariant_is_refused_where_it_cannot_be_kept(void **state)
{
    use_type(state);
    const backend_ops careless = {.name = "careless"}, careful = {.name = "careful", .batch = BATCH_MAY_MATTER};
    mlxr_error error = {0};
    assert_int_equal(engine_insist(&careless, false, &error), MLXR_OK);
    assert_int_equal(engine_insist(&careful, true, &error), MLXR_OK);
    assert_int_equal(engine_insist(&careless, true, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "'careless'"));
    assert_non_null(strstr(error.text, "batch_invariant"));
}

static void threads_do_not_matter(void **state)
{
    use_type(state);
    for (size_t m = 0; model_at(m); m++) {
        const tiny_model *tiny = model_at(m);
        mlxr_sampling sampled = sampling_of(0.8f, 5);
        mlxr_engine_options options = plain;
        static run runs[3];
        static const uint32_t threads[] = {1, 2, 3};
        for (size_t i = 0; i < 3; i++) {
            setup s;
            options.n_threads = threads[i];
            open_with(&s, tiny, &options);
            one_alone(&s, tiny, 0, &sampled, &runs[i]);
            close_all(&s);
        }
        assert_same(&runs[0], &runs[1], tiny, "2 threads");
        assert_same(&runs[0], &runs[2], tiny, "3 threads");
    }
}

static void shared_prefixes_equal_own_ones(void **state)
{
    use_type(state);
    for (size_t m = 0; model_at(m); m++) {
        const tiny_model *tiny = model_at(m);
        mlxr_sampling sampled = sampling_of(0.8f, 9);
        setup s;
        static run own, shared;
        open_with(&s, tiny, &plain);
        one_alone(&s, tiny, 0, &sampled, &own);
        close_all(&s);
        open_with(&s, tiny, &cached);
        one_alone(&s, tiny, 0, &sampled, &shared);
        assert_same(&own, &shared, tiny, "first with a cache");
        mlxr_sequence *again = start(&s, tiny, 0, &sampled);
        assert_int_equal(mlxr_sequence_cached(again), 96); /* three pages of 32 */
        shared.n = 0;
        finish(&s, &again, &shared, 1, 512);
        mlxr_sequence_close(&again);
        assert_same(&own, &shared, tiny, "prefix hit");
        close_all(&s);
    }
}

static void forks_equal_recomputation(void **state)
{
    use_type(state);
    for (size_t m = 0; model_at(m); m++) {
        const tiny_model *tiny = model_at(m);
        mlxr_error error;
        mlxr_sampling one = sampling_of(0.9f, 1), two = sampling_of(0.9f, 2);
        setup s;
        static run expected, first, second;
        open_with(&s, tiny, &cached);
        mlxr_sequence *a = start(&s, tiny, 1, &one), *b = NULL;
        mlxr_slice prompt = {.sequence = a, .n_compute = (uint32_t)mlxr_sequence_pending(a) - 1};
        assert_ok(mlxr_step(s.engine, &prompt, 1, &error), &error);
        assert_ok(mlxr_sequence_fork(&b, a, &two, &error), &error);
        mlxr_sequence *both[] = {a, b};
        run *runs[] = {&first, &second};
        first.n = second.n = 0;
        static run together[2];
        together[0].n = together[1].n = 0;
        finish(&s, both, together, 2, 512);
        memcpy(runs[0], &together[0], sizeof(run));
        memcpy(runs[1], &together[1], sizeof(run));
        mlxr_sequence_close(&a);
        mlxr_sequence_close(&b);
        close_all(&s);
        open_with(&s, tiny, &plain);
        one_alone(&s, tiny, 1, &one, &expected);
        assert_same(&expected, &first, tiny, "forked from");
        one_alone(&s, tiny, 1, &two, &expected);
        assert_same(&expected, &second, tiny, "fork");
        close_all(&s);
    }
}

static void released_and_resumed_equal_undisturbed(void **state)
{
    use_type(state);
    for (size_t m = 0; model_at(m); m++) {
        const tiny_model *tiny = model_at(m);
        mlxr_error error;
        mlxr_sampling sampled = sampling_of(0.7f, 3);
        for (int with_cache = 0; with_cache < 2; with_cache++) {
            setup s;
            static run expected, disturbed;
            open_with(&s, tiny, with_cache ? &cached : &plain);
            one_alone(&s, tiny, 2, &sampled, &expected);
            mlxr_sequence *sequence = start(&s, tiny, 2, &sampled);
            disturbed.n = 0;
            while (disturbed.n < GENERATE) {
                if (disturbed.n % 10 == 5) { /* pre-empted: everything computed is gone */
                    mlxr_sequence_release(sequence);
                    assert_int_equal(mlxr_sequence_computed(sequence), 0);
                    mlxr_sequence_resume(sequence);
                }
                mlxr_slice slice = {.sequence = sequence, .n_compute = (uint32_t)mlxr_sequence_pending(sequence)};
                assert_ok(mlxr_step(s.engine, &slice, 1, &error), &error);
                record(&disturbed, &slice);
            }
            mlxr_sequence_close(&sequence);
            assert_same(&expected, &disturbed, tiny,
                        with_cache ? "released, resumed from the cache" : "released, recomputed");
            close_all(&s);
        }
    }
}

static void evicted_and_reloaded_equal_never_evicted(void **state)
{
    use_type(state);
    for (size_t m = 0; model_at(m); m++) {
        const tiny_model *tiny = model_at(m);
        mlxr_sampling sampled = sampling_of(0.8f, 21);
        char dir[512];
        snprintf(dir, sizeof dir, "%s/kv-%s-%s", test_temp_dir(), tiny->name, plain.kv_type);
        static run expected[SEQUENCES], got;
        setup s;
        open_with(&s, tiny, &plain);
        for (size_t i = 0; i < SEQUENCES; i++) {
            one_alone(&s, tiny, i, &sampled, &expected[i]);
        }
        uint64_t kv_bytes = 0;
        for (uint32_t g = 0; g < s.model->graph->plan.n_kv_groups; g++) {
            const kv_layout *l = &s.model->pools[g]->layout;
            kv_bytes += (l->state_width ? PAGER_STATES_HELD : 9) * l->page_bytes;
        }
        close_all(&s);
        mlxr_engine_options options = cached;
        options.kv_dir = dir;
        uint64_t disk_hits = 0;
        for (int process = 0; process < 2; process++) {
            open_with(&s, tiny, &options);
            s.engine->arena.bytes_budget = kv_bytes; /* one sequence and a little more */
            for (size_t i = 0; i < 2 * SEQUENCES; i++) {
                one_alone(&s, tiny, i % SEQUENCES, &sampled, &got);
                assert_same(&expected[i % SEQUENCES], &got, tiny, process ? "after a restart" : "evicted");
                mlxr_kv_flush(s.engine);
            }
            mlxr_kv_stats stats = mlxr_kv_stats_get(s.engine);
            assert_true(stats.n_evicted_bytes > 0);
            assert_int_equal(stats.disk_rejected, 0);
            disk_hits += stats.disk_hits;
            close_all(&s);
        }
        assert_true(disk_hits > 0);
    }
}

static void speculation_changes_nothing_but_the_number_of_steps(void **state)
{
    use_type(state);
    for (size_t m = 0; model_at(m); m++) {
        const tiny_model *tiny = model_at(m);
        int n_kinds = has_mtp(tiny->name) ? 6 : 4;
        for (int kind = 0; kind < n_kinds; kind++) { /* lookup, draft model or the model's head, greedy or sampled */
            mlxr_error error;
            mlxr_sampling sampling = sampling_of(kind & 1 ? 0.8f : 0, 4);
            setup s;
            static run expected[SEQUENCES], runs[SEQUENCES];
            mlxr_sequence *sequences[SEQUENCES];
            uint64_t n_drafted = 0;
            open_with(&s, tiny, &plain);
            for (size_t i = 0; i < SEQUENCES; i++) {
                one_alone(&s, tiny, i, &sampling, &expected[i]);
            }
            for (size_t i = 0; i < SEQUENCES; i++) {
                sequences[i] = start(&s, tiny, i, &sampling);
                runs[i] = (run){.n = 0};
                /* the model drafts for itself: greedy drafts are then all accepted */
                assert_ok(kind & 4 ? mlxr_sequence_draft_mtp(sequences[i], 4, &error)
                                   : mlxr_sequence_draft(sequences[i], kind & 2 ? s.model : NULL, 4, &error),
                          &error);
                sequences[i]->spec.tracker.draft_cost = 0; /* or it would see that this does not pay */
            }
            finish(&s, sequences, runs, SEQUENCES, 512);
            for (size_t i = 0; i < SEQUENCES; i++) {
                mlxr_draft_stats stats = mlxr_draft_stats_get(sequences[i]);
                n_drafted += stats.n_drafted;
                if (kind == 2) { /* a step stops at an end token, drafted or not */
                    assert_in_range(stats.n_drafted - stats.n_accepted, 0, runs[i].n_ends);
                }
                mlxr_sequence_close(&sequences[i]);
                assert_same(&expected[i], &runs[i], tiny,
                            kind & 4   ? "head"
                            : kind & 2 ? "draft model"
                                       : "prompt lookup");
            }
            assert_true(kind < 2 || n_drafted > 0);
            close_all(&s);
        }
    }
}

/* Whatever is left of a truncated sequence, what follows is computed as if nothing had been there. */
static void truncated_sequences_go_on_as_new_ones(void **state)
{
    use_type(state);
    for (size_t m = 0; model_at(m); m++) {
        const tiny_model *tiny = model_at(m);
        mlxr_sampling greedy = sampling_of(0, 1);
        static const size_t lengths[] = {PROMPT + 38, PROMPT + 30, PROMPT + 27, 97, 64};
        for (int with_cache = 0; with_cache < 2; with_cache++) {
            setup s;
            mlxr_error error;
            static run expected, got;
            open_with(&s, tiny, with_cache ? &cached : &plain);
            one_alone(&s, tiny, 0, &greedy, &expected);
            for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
                mlxr_sequence *sequence = start(&s, tiny, 0, &greedy);
                int32_t all[PROMPT + GENERATE];
                got.n = 0;
                finish(&s, &sequence, &got, 1, 50);
                memcpy(all, mlxr_sequence_tokens(sequence), sizeof all);
                assert_ok(mlxr_sequence_truncate(sequence, lengths[i], &error), &error);
                assert_true(mlxr_sequence_computed(sequence) <= lengths[i]);
                if (strstr(tiny->name, "llama") && lengths[i] > 128) { /* back by less than a page: to its beginning */
                    assert_true(mlxr_sequence_computed(sequence) >= 128);
                }
                size_t n_again = lengths[i] < PROMPT ? PROMPT - lengths[i] : 1, n_kept = lengths[i] + n_again - PROMPT;
                assert_ok(mlxr_sequence_append(sequence, all + lengths[i], n_again, &error), &error);
                got.n = n_kept;
                finish(&s, &sequence, &got, 1, 50);
                mlxr_sequence_close(&sequence);
                assert_same(&expected, &got, tiny, with_cache ? "truncated, cached" : "truncated");
            }
            close_all(&s);
        }
    }
}

static bool device_fails;
static const backend_ops *device_own;

/* A device that computes everything, and then says it could not. */
static mlxr_status run_and_fail(backend *b, program *prog, const step *laid, mlxr_error *error)
{
    mlxr_status status = device_own->run(b, prog, laid, error);
    return device_fails ? error_set(error, MLXR_DEVICE, "as the test wants it") : status;
}

static void failed_steps_change_nothing(void **state)
{
    use_type(state);
    for (size_t m = 0; model_at(m); m++) {
        const tiny_model *tiny = model_at(m);
        mlxr_sampling sampled = sampling_of(0.8f, 6);
        for (int drafting = 0; drafting < 2; drafting++) {
            setup s;
            mlxr_error error;
            static run expected, got;
            open_with(&s, tiny, &plain);
            one_alone(&s, tiny, 0, &sampled, &expected);
            backend_ops ops = *s.engine->ops;
            const backend_ops *own = device_own = s.engine->ops;
            ops.run = run_and_fail;
            s.engine->ops = &ops;
            mlxr_sequence *sequence = start(&s, tiny, 0, &sampled);
            if (drafting) {
                assert_ok(mlxr_sequence_draft(sequence, NULL, 4, &error), &error);
                sequence->spec.tracker.draft_cost = 0;
            }
            for (got.n = 0; got.n < GENERATE;) {
                size_t pending = mlxr_sequence_pending(sequence), n_computed = mlxr_sequence_computed(sequence);
                mlxr_slice slice = {.sequence = sequence, .n_compute = (uint32_t)(pending < 23 ? pending : 23)};
                device_fails = true;
                assert_int_equal(mlxr_step(s.engine, &slice, 1, &error), MLXR_DEVICE);
                device_fails = false;
                assert_int_equal(mlxr_sequence_computed(sequence), n_computed);
                assert_int_equal(mlxr_sequence_pending(sequence), pending);
                assert_ok(mlxr_step(s.engine, &slice, 1, &error), &error);
                record(&got, &slice);
            }
            mlxr_sequence_close(&sequence);
            s.engine->ops = own;
            assert_same(&expected, &got, tiny, drafting ? "failed steps with drafts" : "failed steps");
            close_all(&s);
        }
    }
}

/* A draft needs a state for each of its rows; where the budget has none, the step goes on without it. */
static void drafts_that_find_no_room_are_not_tried(void **state)
{
    (void)state;
    plain.kv_type = "f16"; /* states are F32 whatever the type is */
    mlxr_error error;
    const tiny_model *tiny = hybrid_at(HYBRIDS - 1); /* nothing but states */
    mlxr_sampling greedy = sampling_of(0, 1);
    mlxr_engine_options options = plain;
    setup s;
    static run expected, got;
    open_with(&s, tiny, &plain);
    one_alone(&s, tiny, 0, &greedy, &expected);
    uint64_t state_bytes = s.model->pools[0]->layout.page_bytes;
    close_all(&s);
    options.kv_bytes = 64 * state_bytes;
    open_with(&s, tiny, &options);
    s.engine->arena.bytes_budget = 3 * state_bytes; /* less than a model can be loaded with */
    mlxr_sequence *sequence = start(&s, tiny, 0, &greedy);
    assert_ok(mlxr_sequence_draft(sequence, NULL, 8, &error), &error);
    sequence->spec.tracker.draft_cost = 0;
    got.n = 0;
    finish(&s, &sequence, &got, 1, 512);
    assert_same(&expected, &got, tiny, "drafts without room");
    mlxr_sequence_close(&sequence);
    close_all(&s);
}

/* Blocks on disk that another KV type wrote are not even looked at; those of the own type are found. */
static void a_changed_kv_type_never_matches_what_is_on_disk(void **state)
{
    use_type(state);
    static const char *const others[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};
    const tiny_model *tiny = tiny_model_find("gemma3");
    mlxr_sampling greedy = sampling_of(0, 1);
    static run expected, got;
    setup s;
    char dir[512];
    snprintf(dir, sizeof dir, "%s/kv-types-%s", test_temp_dir(), plain.kv_type);
    open_with(&s, tiny, &plain);
    one_alone(&s, tiny, 0, &greedy, &expected);
    close_all(&s);
    mlxr_engine_options options = cached;
    options.kv_dir = dir;
    for (size_t i = 0; i <= sizeof others / sizeof *others + 1; i++) { /* all others, then itself twice */
        bool own = i >= sizeof others / sizeof *others;
        options.kv_type = own ? plain.kv_type : others[i];
        if (!own && strcmp(others[i], plain.kv_type) == 0) {
            continue;
        }
        open_with(&s, tiny, &options);
        one_alone(&s, tiny, 0, &greedy, &got);
        mlxr_kv_flush(s.engine);
        mlxr_kv_stats stats = mlxr_kv_stats_get(s.engine);
        assert_int_equal(stats.disk_rejected, 0);
        assert_true(stats.disk_files > 0);
        if (i == sizeof others / sizeof *others + 1) {
            assert_true(stats.disk_hits > 0);
        } else {
            assert_int_equal(stats.disk_hits, 0);
        }
        close_all(&s);
        if (own) {
            assert_same(&expected, &got, tiny, "beside other types' blocks");
        }
    }
}

/* argv[1]: only this type of cache. */
int main(int argc, char **argv)
{
    plain.backend = cached.backend = getenv("MLXR_TEST_BACKEND");
    plain.cpu_features = cached.cpu_features = getenv("MLXR_TEST_CPU");       /* such as "-avx512" */
    plain.activations = cached.activations = getenv("MLXR_TEST_ACTIVATIONS"); /* "8" */
    static const struct {
        const char *name;
        CMUnitTestFunction function;
    } kinds[] = {
        {"chunked_prompts_equal_whole_ones", chunked_prompts_equal_whole_ones},
        {"batched_sequences_equal_lone_ones", batched_sequences_equal_lone_ones},
        {"batch_invariant_engines_keep_their_promise", batch_invariant_engines_keep_their_promise},
        {"batch_invariant_is_refused_where_it_cannot_be_kept", batch_invariant_is_refused_where_it_cannot_be_kept},
        {"threads_do_not_matter", threads_do_not_matter},
        {"shared_prefixes_equal_own_ones", shared_prefixes_equal_own_ones},
        {"forks_equal_recomputation", forks_equal_recomputation},
        {"released_and_resumed_equal_undisturbed", released_and_resumed_equal_undisturbed},
        {"evicted_and_reloaded_equal_never_evicted", evicted_and_reloaded_equal_never_evicted},
        {"speculation_changes_nothing_but_the_number_of_steps", speculation_changes_nothing_but_the_number_of_steps},
        {"a_changed_kv_type_never_matches_what_is_on_disk", a_changed_kv_type_never_matches_what_is_on_disk},
        {"truncated_sequences_go_on_as_new_ones", truncated_sequences_go_on_as_new_ones},
        {"failed_steps_change_nothing", failed_steps_change_nothing},
        {"drafts_that_find_no_room_are_not_tried", drafts_that_find_no_room_are_not_tried},
    };
    static const char *const types[] = {"f16", "i16", "q8_0", "q4_0", "f32", "bf16"};
    enum { N_KINDS = sizeof kinds / sizeof *kinds, N_TYPES = sizeof types / sizeof *types };
    static char names[N_TYPES * N_KINDS][96];
    static struct CMUnitTest tests[N_TYPES * N_KINDS];
    size_t n = 0, n_types = getenv("MLXR_SOAK") || argc > 1 ? N_TYPES : 4; /* f32 and bf16 are read as f16 is */
    for (size_t t = 0; t < n_types; t++) {
        bool known = !plain.backend || strncmp(plain.backend, "cpu", 3) == 0 || strcmp(types[t], "i16") != 0;
        bool wanted = known && (argc < 2 || strcmp(argv[1], types[t]) == 0);
        for (size_t kind = 0; wanted && kind < N_KINDS; kind++, n++) {
            snprintf(names[n], sizeof names[n], "%s: %s", kinds[kind].name, types[t]);
            tests[n] = (struct CMUnitTest){
                .name = names[n], .test_func = kinds[kind].function, .initial_state = (void *)(uintptr_t)types[t]};
        }
    }
    int n_failed = _cmocka_run_group_tests("equivalence", tests, n, NULL, NULL);
    if (plain.backend) {
        printf("%zu rows of logits of %zu pairs of runs compared, worst NMSE %.1e; %zu runs parted at a token\n",
               n_rows_compared, n_runs_compared, worst_nmse, n_runs_parted);
        if (n_runs_parted * 10 > n_runs_compared) {
            printf("that is more than a tenth of them\n");
            return 1;
        }
    }
    return n_failed;
}
