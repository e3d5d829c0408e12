/*
 * The KV cache without memory: each allocation of appending, computing, forking, loading and saving fails once. Nothing
 * is lost or leaked, no count is off, no row wrong, and the same call works afterwards.
 * Owner: the test program. Lifetime: the process.
 */
#include <unistd.h>

#include "runtime/engine.h"
#include "support/fail_alloc.h"
#include "support/kv_world.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { TOKENS = 75 }; /* more pages than a table's first size, more nodes than an index's */

static void fill(int32_t *tokens, int32_t first)
{
    for (int i = 0; i < TOKENS; i++) {
        tokens[i] = first + i;
    }
}

static kv_store *store_in(const char *name, mlxr_status expected)
{
    mlxr_error error;
    char dir[512];
    kv_store *store = NULL;
    snprintf(dir, sizeof dir, "%s/%s", test_temp_dir(), name);
    kv_store_options options = {.dir = dir, .bytes_budget = 1 << 20};
    assert_int_equal(kv_store_open(&store, &options, &error), expected);
    return store;
}

static void open_one(world *w, kv_store *store)
{
    const plan *plans[] = {&world_two_windows};
    world_open(w, plans, 1, 5, 1 << 20, store);
}

/* One prompt computed, saved and closed. */
static void prepare(world *w, int32_t first)
{
    static world_sequence s;
    int32_t tokens[TOKENS];
    fill(tokens, first);
    sequence_init(w, &s, 0);
    sequence_append(w, &s, tokens, TOKENS);
    assert_true(sequence_compute(w, &s, s.n_tokens - s.n_computed, NULL, 0, 0));
    sequence_close(&s);
}

static void a_prompt_that_finds_its_prefix_in_memory(void **state)
{
    (void)state;
    static world w;
    static world_sequence s;
    int32_t tokens[TOKENS];
    fill(tokens, 0);
    open_one(&w, NULL);
    prepare(&w, 0);
    for (long n = 1;; n++) {
        sequence_init(&w, &s, 0);
        fail_alloc_at(n);
        sequence_append(&w, &s, tokens, TOKENS);
        bool failed = fail_alloc_stop();
        assert_true(failed ? s.n_computed < 72 : s.n_computed == 72);
        sequence_check_rows(&s);
        world_check_pages(&w, &s, 1);
        sequence_resume(&w, &s);
        assert_int_equal(s.n_computed, 72);
        sequence_check_rows(&s);
        sequence_close(&s);
        world_check_pages(&w, NULL, 0);
        if (!failed) {
            assert_true(n > 1);
            break;
        }
    }
    world_close(&w);
}

static void a_prompt_that_finds_its_prefix_on_disk(void **state)
{
    (void)state;
    static world w;
    static world_sequence s;
    int32_t tokens[TOKENS];
    fill(tokens, 0);
    kv_store *store = store_in("load", MLXR_OK);
    open_one(&w, store);
    prepare(&w, 0);
    world_save_all(&w);
    kv_store_flush(store);
    for (long n = 1;; n++) {
        world_evict(&w, 0); /* everything is on disk alone */
        assert_int_equal(w.arena.bytes_used, 0);
        sequence_init(&w, &s, 0);
        fail_alloc_at(n);
        sequence_append(&w, &s, tokens, TOKENS);
        bool failed = fail_alloc_stop();
        world_check_pages(&w, &s, 1);
        sequence_check_rows(&s);
        sequence_resume(&w, &s); /* no file was taken for damaged */
        assert_int_equal(s.n_computed, 72);
        sequence_check_rows(&s);
        sequence_close(&s);
        world_check_pages(&w, NULL, 0);
        if (!failed) {
            assert_true(n > 30);
            break;
        }
    }
    assert_int_equal(kv_store_stats_get(store).n_rejected, 0);
    kv_store_close(&store);
    w.models[0].cache.store = NULL;
    world_close(&w);
}

static void computing(void **state)
{
    (void)state;
    static world w;
    static world_sequence s;
    int32_t tokens[TOKENS];
    for (long n = 1;; n++) {
        open_one(&w, NULL);
        fill(tokens, 0);
        sequence_init(&w, &s, 0);
        sequence_append(&w, &s, tokens, TOKENS);
        fail_alloc_at(n);
        bool done = sequence_compute(&w, &s, TOKENS, NULL, 0, 0);
        bool failed = fail_alloc_stop();
        assert_int_equal(s.n_computed, done ? TOKENS : 0);
        assert_true(done || failed); /* without a node only finding again suffers */
        world_check_pages(&w, &s, 1);
        if (!done) {
            assert_true(sequence_compute(&w, &s, TOKENS, NULL, 0, 0));
        }
        sequence_check_rows(&s);
        tokens[0] = 9;
        sequence_append(&w, &s, tokens, 8);
        assert_true(sequence_compute(&w, &s, 8, NULL, 0, 0)); /* names the blocks it could not name before */
        sequence_check_rows(&s);
        assert_int_equal(s.node->depth + 1, s.n_computed / WORLD_PAGE);
        sequence_close(&s);
        world_check_pages(&w, NULL, 0);
        world_check_index_rows(&w.models[0]);
        world_close(&w);
        if (!failed) {
            assert_true(n > 20);
            break;
        }
    }
}

static void forking(void **state)
{
    (void)state;
    static world w;
    static world_sequence all[2];
    int32_t tokens[TOKENS];
    fill(tokens, 0);
    open_one(&w, NULL);
    sequence_init(&w, &all[0], 0);
    sequence_append(&w, &all[0], tokens, TOKENS);
    assert_true(sequence_compute(&w, &all[0], TOKENS, NULL, 0, 0));
    for (long n = 1;; n++) {
        fail_alloc_at(n);
        bool forked = sequence_fork(&all[1], &all[0]);
        bool failed = fail_alloc_stop();
        assert_true(forked == !failed);
        world_check_pages(&w, all, forked ? 2 : 1);
        sequence_check_rows(&all[0]);
        if (forked) {
            sequence_check_rows(&all[1]);
            sequence_close(&all[1]);
            break;
        }
        assert_true(n <= 3); /* a table a group */
    }
    sequence_close(&all[0]);
    world_close(&w);
}

static void saving(void **state)
{
    (void)state;
    static world w;
    kv_store *store = store_in("save", MLXR_OK);
    for (long n = 1;; n++) {
        open_one(&w, store);
        prepare(&w, (int32_t)(1000 * n));
        uint64_t n_files = kv_store_stats_get(store).n_files;
        fail_alloc_at(n);
        world_save_all(&w);
        kv_store_flush(store);
        bool failed = fail_alloc_stop();
        assert_int_equal(kv_store_stats_get(store).n_files, n_files + TOKENS / WORLD_PAGE - failed);
        world_save_all(&w);
        kv_store_flush(store);
        assert_int_equal(kv_store_stats_get(store).n_files, n_files + TOKENS / WORLD_PAGE);
        world_close(&w);
        if (!failed) {
            assert_true(n > 30);
            break;
        }
    }
    kv_store_close(&store);
}

static void opening_a_directory(void **state)
{
    (void)state;
    static world w;
    kv_store *store = store_in("open", MLXR_OK);
    open_one(&w, store);
    for (int32_t prompt = 0; prompt < 5; prompt++) {
        prepare(&w, 1000 * prompt);
    }
    world_save_all(&w);
    uint64_t n_files = 5 * (TOKENS / WORLD_PAGE);
    kv_store_close(&store);
    w.models[0].cache.store = NULL;
    world_close(&w);
    for (long n = 1;; n++) {
        mlxr_error error;
        char dir[512];
        snprintf(dir, sizeof dir, "%s/open", test_temp_dir());
        kv_store_options options = {.dir = dir, .bytes_budget = 1 << 20};
        fail_alloc_at(n);
        mlxr_status status = kv_store_open(&store, &options, &error);
        bool failed = fail_alloc_stop();
        if (status == MLXR_OK) { /* or found the memory at its second try, as a reader that will take over */
            assert_int_equal(kv_store_stats_get(store).n_files, n_files);
            kv_store_close(&store);
        } else {
            assert_int_equal(status, MLXR_NOMEM);
            assert_null(store);
        }
        if (!failed) {
            assert_true(n > 60);
            break;
        }
    }
}

/* ---- the same through the public interface ----------------------------------------------------------------------- */

enum { MODEL_TOKENS = 100 };

typedef struct service {
    mlxr_engine *engine;
    mlxr_model *model;
} service;

static void service_open(service *v)
{
    mlxr_error error;
    char path[512], dir[512];
    snprintf(path, sizeof path, "%s/llama.gguf", test_temp_dir());
    snprintf(dir, sizeof dir, "%s/engine", test_temp_dir());
    tiny_model_write_gguf(tiny_model_find("llama"), &(tiny_options){.type = DTYPE_Q8_0}, path);
    mlxr_engine_options options = {.n_threads = 1, .kv_bytes = 4 << 20, .kv_dir = dir};
    assert_ok(mlxr_engine_open(&v->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&v->model, v->engine, path, NULL, &error), &error);
}

static void service_close(service *v)
{
    mlxr_kv_stats stats = mlxr_kv_stats_get(v->engine);
    assert_int_equal(stats.bytes_used, stats.bytes_cached);
    mlxr_model_unref(&v->model);
    mlxr_engine_close(&v->engine);
}

static mlxr_sequence *sequence_of(service *v, size_t n_compute)
{
    mlxr_error error;
    mlxr_sequence *s = NULL;
    mlxr_sampling greedy = mlxr_sampling_default();
    int32_t ids[MODEL_TOKENS];
    greedy.temperature = 0;
    tiny_model_tokens(tiny_model_find("llama"), ids, MODEL_TOKENS);
    assert_ok(mlxr_sequence_open(&s, v->model, &greedy, &error), &error);
    assert_ok(mlxr_sequence_append(s, ids, MODEL_TOKENS, &error), &error);
    if (n_compute) {
        mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)n_compute};
        assert_ok(mlxr_step(v->engine, &slice, 1, &error), &error);
    }
    return s;
}

static void a_fork_without_memory_leaves_its_origin_as_it_was(void **state)
{
    (void)state;
    mlxr_error error;
    service v;
    service_open(&v);
    mlxr_sequence *a = sequence_of(&v, 70), *b = NULL;
    uint64_t used = mlxr_kv_stats_get(v.engine).bytes_used;
    for (long n = 1;; n++) {
        fail_alloc_at(n);
        mlxr_status status = mlxr_sequence_fork(&b, a, NULL, &error);
        bool failed = fail_alloc_stop();
        assert_int_equal(status, failed ? MLXR_NOMEM : MLXR_OK);
        assert_int_equal(mlxr_sequence_computed(a), 70);
        assert_int_equal(mlxr_kv_stats_get(v.engine).bytes_used, used);
        if (!failed) {
            assert_true(n > 4);
            break;
        }
        assert_null(b);
    }
    mlxr_slice slices[] = {{.sequence = a, .n_compute = 30}, {.sequence = b, .n_compute = 30}};
    assert_ok(mlxr_step(v.engine, slices, 2, &error), &error);
    assert_memory_equal(slices[0].logits, slices[1].logits, TINY_N_VOCAB * sizeof(float));
    mlxr_sequence_close(&b);
    mlxr_sequence_close(&a);
    service_close(&v);
}

/* A step that fails can be tried again, and gives what it would have given. */
static void a_step_without_memory_changes_nothing(void **state)
{
    (void)state;
    mlxr_error error;
    static float expected[TINY_N_VOCAB];
    for (long n = 0;; n++) { /* n = 0: nothing fails */
        service v;
        service_open(&v);
        v.engine->no_prefix_cache = true;
        mlxr_sequence *s = sequence_of(&v, 0);
        mlxr_slice slice = {.sequence = s, .n_compute = MODEL_TOKENS - (uint32_t)mlxr_sequence_computed(s)};
        bool failed = false;
        if (n) {
            size_t computed = mlxr_sequence_computed(s);
            fail_alloc_at(n);
            mlxr_status status = mlxr_step(v.engine, &slice, 1, &error);
            failed = fail_alloc_stop();
            if (status != MLXR_OK) {
                assert_int_equal(status, MLXR_NOMEM);
                assert_int_equal(mlxr_sequence_computed(s), computed);
                assert_int_equal(mlxr_sequence_length(s), MODEL_TOKENS);
                assert_ok(mlxr_step(v.engine, &slice, 1, &error), &error);
            }
        } else {
            assert_ok(mlxr_step(v.engine, &slice, 1, &error), &error);
            memcpy(expected, slice.logits, sizeof expected);
        }
        assert_memory_equal(slice.logits, expected, sizeof expected);
        mlxr_sequence_close(&s);
        service_close(&v);
        if (n && !failed) {
            assert_true(n > 5);
            break;
        }
    }
}

/* A request that ends between chunks, however far it came. */
static void a_cancelled_sequence_gives_everything_back(void **state)
{
    (void)state;
    service v;
    service_open(&v);
    for (size_t n = 0; n < MODEL_TOKENS; n += 9) {
        mlxr_sequence *s = sequence_of(&v, 0);
        size_t pending = mlxr_sequence_pending(s), n_compute = n < pending ? n : pending;
        if (n_compute) {
            mlxr_error error;
            mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)n_compute};
            assert_ok(mlxr_step(v.engine, &slice, 1, &error), &error);
        }
        if (n % 2) {
            mlxr_sequence_release(s);
        }
        mlxr_sequence_close(&s);
        mlxr_kv_stats stats = mlxr_kv_stats_get(v.engine);
        assert_int_equal(stats.bytes_used, stats.bytes_cached);
    }
    service_close(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_that_finds_its_prefix_in_memory),
        cmocka_unit_test(a_prompt_that_finds_its_prefix_on_disk),
        cmocka_unit_test(computing),
        cmocka_unit_test(forking),
        cmocka_unit_test(saving),
        cmocka_unit_test(opening_a_directory),
        cmocka_unit_test(a_fork_without_memory_leaves_its_origin_as_it_was),
        cmocka_unit_test(a_step_without_memory_changes_nothing),
        cmocka_unit_test(a_cancelled_sequence_gives_everything_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
