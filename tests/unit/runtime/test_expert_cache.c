/*
 * Experts that are read as they are needed: how many there are, and when a cache is opened for them.
 * Owner: the test program. Lifetime: the process.
 */
#include "runtime/expert_cache.h"
#include "support/family_model.h"
#include "support/test.h"

static mlxr_error error;

typedef struct mixture {
    model_file *file;
    graph *graph;
} mixture;

static mixture mixture_open(const char *name, bool with_head)
{
    mixture m = {0};
    mlxr_model_options options = {.mtp = with_head ? MLXR_MTP_NEEDED : MLXR_MTP_OFF};
    char path[256];
    snprintf(path, sizeof path, "%s/%s", test_temp_dir(), name);
    family_model_write(name, path);
    assert_ok(model_file_open(&m.file, path, &error), &error);
    assert_ok(graph_build(&m.graph, m.file, &options, with_head, &error), &error);
    return m;
}

static void mixture_close(mixture *m)
{
    graph_close(&m->graph);
    model_file_close(&m->file);
}

/* What a cache of this budget says that there is; 0: none was opened. Either way that is foretold. */
static uint64_t bytes_that_a_cache_has(const mixture *m, uint64_t n_bytes_max)
{
    expert_cache *c;
    expert_cache_options o = {.n_bytes_max = n_bytes_max};
    assert_ok(expert_cache_open(&c, m->graph, m->file, &o, &error), &error);
    uint64_t n_bytes = c ? expert_cache_stats(c).bytes_all : 0;
    assert_int_equal(expert_cache_serves(m->graph, m->file, &o), c != NULL);
    expert_cache_close(&c);
    return n_bytes;
}

static void the_experts_of_a_head_count_among_those_that_may_be_read_as_needed(void **state)
{
    (void)state;
    mixture without = mixture_open("glm4moe-mtp", false), with = mixture_open("glm4moe-mtp", true);
    uint64_t own = expert_cache_streamable(without.graph, without.file);
    uint64_t all = expert_cache_streamable(with.graph, with.file);
    assert_true(own > 0 && all > own);
    assert_int_equal(bytes_that_a_cache_has(&without, own - 1), own);
    assert_int_equal(bytes_that_a_cache_has(&with, all - 1), all);
    mixture_close(&without);
    mixture_close(&with);
}

static void a_cache_is_told_beforehand_for_any_budget(void **state)
{
    (void)state;
    for (int with_head = 0; with_head < 2; with_head++) {
        mixture m = mixture_open("glm4moe-mtp", with_head);
        uint64_t all = expert_cache_streamable(m.graph, m.file);
        for (uint64_t budget = all / 8; budget <= all + all / 8; budget += all / 8) {
            assert_int_equal(bytes_that_a_cache_has(&m, budget), budget < all ? all : 0);
        }
        mixture_close(&m);
    }
}

static void a_model_without_experts_has_no_cache(void **state)
{
    (void)state;
    mixture m = mixture_open("olmo2", false);
    assert_int_equal(expert_cache_streamable(m.graph, m.file), 0);
    assert_int_equal(bytes_that_a_cache_has(&m, 1), 0);
    mixture_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_experts_of_a_head_count_among_those_that_may_be_read_as_needed),
        cmocka_unit_test(a_cache_is_told_beforehand_for_any_budget),
        cmocka_unit_test(a_model_without_experts_has_no_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
