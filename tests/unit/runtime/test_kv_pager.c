/*
 * KV arena and pager: budget, reference counts, window dropping, all-or-nothing growth, and a random walk against a
 * simple model of what must be mapped.
 * Owner: the test program. Lifetime: the process.
 */
#include "runtime/kv/pager.h"
#include "support/kv_heap.h"
#include "support/test.h"

/* Two groups: full attention with pages of 128 bytes a token, a window of 10 with 64. */
static const plan two_groups = {.n_kv_groups = 2,
                                .kv_groups = {{.n_layers = 2, .n_head_kv = 1, .head_dim = 16},
                                              {.n_layers = 1, .n_head_kv = 1, .head_dim = 16, .window = 10}}};

typedef struct fixture {
    kv_arena arena;
    kv_pool *pools[KV_GROUPS_MAX];
} fixture;

static void fixture_open(fixture *f, uint64_t budget, uint32_t page_tokens)
{
    mlxr_error error;
    memset(f, 0, sizeof *f);
    kv_arena_init(&f->arena, &kv_heap, NULL, budget);
    for (uint32_t g = 0; g < two_groups.n_kv_groups; g++) {
        kv_layout layout = kv_layout_make(&two_groups.kv_groups[g], DTYPE_F16, page_tokens);
        assert_ok(kv_pool_open(&f->pools[g], &f->arena, &layout, &error), &error);
    }
}

static void fixture_close(fixture *f)
{
    assert_int_equal(f->arena.bytes_used, 0);
    for (uint32_t g = 0; g < two_groups.n_kv_groups; g++) {
        assert_int_equal(f->pools[g]->n_used, 0);
        kv_pool_close(&f->pools[g]);
    }
    assert_null(f->arena.pools);
    assert_int_equal(f->arena.bytes_touched, 0);
}

static void layout_follows_the_formula(void **state)
{
    (void)state;
    kv_layout l = kv_layout_make(&(kv_group){.n_layers = 3, .n_head_kv = 2, .head_dim = 64}, DTYPE_F16, 32);
    assert_int_equal(l.row_bytes, 128);
    assert_int_equal(l.page_bytes, 3 * 2 * 2 * 32 * 128);
    assert_int_equal(kv_layout_k(&l, 0, 1), 32 * 128);
    assert_int_equal(kv_layout_v(&l, 2, 0), 2 * l.layer_bytes + 2 * l.head_bytes);
    l = kv_layout_make(&(kv_group){.n_layers = 3, .n_head_kv = 2, .head_dim = 64}, DTYPE_Q8_0, 32);
    assert_int_equal(l.row_bytes, 2 * 34);
    assert_int_equal(l.page_bytes, 3 * 2 * 2 * 32 * 68);
    l = kv_layout_make(&(kv_group){.n_layers = 1, .n_head_kv = 1, .head_dim = 96}, DTYPE_Q4_0, 16);
    assert_int_equal(l.row_bytes, 3 * 18);
    assert_int_equal(l.page_bytes, 2 * 16 * 54);
}

static void a_budget_below_one_page_is_refused_with_numbers(void **state)
{
    (void)state;
    mlxr_error error;
    kv_arena arena;
    kv_pool *pool = NULL;
    kv_arena_init(&arena, &kv_heap, NULL, 100);
    kv_layout layout = kv_layout_make(&two_groups.kv_groups[0], DTYPE_F16, 8);
    assert_int_equal(kv_pool_open(&pool, &arena, &layout, &error), MLXR_LIMIT);
    assert_non_null(strstr(error.text, "100 bytes"));
    assert_null(pool);
}

/* A device that gathers 100 bytes at a time, and remembers up to where it was asked. */
static size_t asked_until;

static size_t gather_some(backend *b, void *memory, size_t begin, size_t end)
{
    (void)b;
    assert_non_null(memory);
    assert_true(begin < end);
    asked_until = end;
    return end - begin < 100 ? begin : begin + 100;
}

static void discard_nothing(backend *b, void *part, size_t n_bytes)
{
    (void)b, (void)part, (void)n_bytes;
}

static void touched_memory_is_gathered_but_not_what_was_given_back(void **state)
{
    (void)state;
    mlxr_error error;
    backend_ops ops = kv_heap;
    ops.kv_gather = gather_some;
    ops.kv_discard = discard_nothing;
    kv_arena arena;
    kv_pool *pool = NULL;
    kv_layout layout = kv_layout_make(&two_groups.kv_groups[1], DTYPE_F16, 8); /* pages of 512 bytes */
    assert_int_equal(layout.page_bytes, 512);
    kv_arena_init(&arena, &ops, NULL, 4 * 512);
    assert_ok(kv_pool_open(&pool, &arena, &layout, &error), &error);
    asked_until = 0;
    kv_arena_gather(&arena); /* nothing is touched */
    assert_int_equal(asked_until, 0);
    uint32_t a = kv_pool_take(pool), b = kv_pool_take(pool);
    for (int i = 0; i < 20; i++) {
        kv_arena_gather(&arena);
    }
    assert_int_equal(asked_until, 2 * 512);
    assert_int_equal(pool->n_gathered, 1000); /* in pieces, until too little is left */
    kv_pool_unref(pool, a);
    kv_arena_gather(&arena);
    assert_int_equal(pool->n_gathered, 1000);
    kv_arena_discard(&arena); /* gives `a` back: what lies in touched memory may be gone */
    asked_until = 0;
    kv_arena_gather(&arena);
    assert_int_equal(asked_until, 0);
    uint32_t c = kv_pool_take(pool), d = kv_pool_take(pool);
    kv_arena_gather(&arena);
    assert_int_equal(asked_until, 3 * 512); /* `d` is new */
    assert_int_equal(pool->n_gathered, 2 * 512 + 100);
    kv_pool_unref(pool, b);
    kv_pool_unref(pool, c);
    kv_pool_unref(pool, d);
    kv_pool_close(&pool);
}

static void pages_of_all_pools_share_one_budget(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, 4 * 128 * 8, 8); /* four pages of group 0, or eight of group 1 */
    uint32_t a = kv_pool_take(f.pools[0]), b = kv_pool_take(f.pools[0]), c = kv_pool_take(f.pools[0]);
    assert_int_equal(a + b + c, 0 + 1 + 2);
    uint32_t d = kv_pool_take(f.pools[1]), e = kv_pool_take(f.pools[1]);
    assert_int_not_equal(d, KV_PAGE_NONE);
    assert_int_not_equal(e, KV_PAGE_NONE);
    assert_int_equal(kv_pool_take(f.pools[1]), KV_PAGE_NONE);
    assert_int_equal(kv_pool_take(f.pools[0]), KV_PAGE_NONE);
    kv_pool_ref(f.pools[0], b);
    kv_pool_unref(f.pools[0], b);
    assert_int_equal(kv_pool_take(f.pools[0]), KV_PAGE_NONE); /* still one reference */
    kv_pool_unref(f.pools[0], b);
    assert_int_equal(kv_pool_take(f.pools[0]), b); /* touched memory first */
    kv_pool_unref(f.pools[0], a);
    kv_pool_unref(f.pools[0], b);
    kv_pool_unref(f.pools[0], c);
    kv_pool_unref(f.pools[1], d);
    kv_pool_unref(f.pools[1], e);
    fixture_close(&f);
}

static void reserve_is_all_or_nothing_over_groups(void **state)
{
    (void)state;
    mlxr_error error;
    fixture f;
    pager p;
    fixture_open(&f, 3 * (128 + 64) * 8, 8); /* three pages of each group */
    pager_init(&p, &two_groups, f.pools);
    assert_ok(pager_reserve(&p, 0, 17, &error), &error);
    assert_int_equal(f.arena.bytes_used, 3 * (128 + 64) * 8);
    assert_int_equal(pager_reserve(&p, 0, 25, &error), MLXR_KV_FULL);
    assert_non_null(strstr(error.text, "in use"));
    assert_int_equal(p.tables[0].n_pages, 3);
    assert_int_equal(p.tables[1].n_pages, 3);
    assert_int_equal(f.arena.bytes_used, 3 * (128 + 64) * 8);
    pager_close(&p);
    fixture_close(&f);
}

static void window_pages_nobody_can_see_are_dropped(void **state)
{
    (void)state;
    mlxr_error error;
    fixture f;
    pager p;
    fixture_open(&f, 1 << 20, 4);
    pager_init(&p, &two_groups, f.pools);
    assert_ok(pager_reserve(&p, 0, 24, &error), &error);
    pager_commit(&p, 12); /* the next query, at 12, sees 3 … 12 */
    assert_int_equal(p.tables[1].n_dropped, 0);
    pager_commit(&p, 13); /* sees 4 … 13: the page of 0 … 3 is out of sight */
    assert_int_equal(p.tables[1].n_dropped, 1);
    assert_int_equal(p.tables[1].pages[0], KV_PAGE_NONE);
    assert_int_not_equal(p.tables[0].pages[0], KV_PAGE_NONE);
    pager_commit(&p, 24);
    assert_int_equal(p.tables[1].n_dropped, 3);
    assert_int_equal(f.pools[1]->n_used, 3);
    pager_close(&p);
    fixture_close(&f);
}

static void truncation_behind_a_window_starts_over(void **state)
{
    (void)state;
    mlxr_error error;
    fixture f;
    pager p;
    fixture_open(&f, 1 << 20, 4);
    pager_init(&p, &two_groups, f.pools);
    assert_ok(pager_reserve(&p, 0, 24, &error), &error);
    pager_commit(&p, 24);
    assert_true(pager_truncate(&p, 21)); /* a query at 21 sees 12 … 21: pages 3 … 5 are there */
    assert_int_equal(p.tables[0].n_pages, 6);
    assert_false(pager_truncate(&p, 13)); /* would need 4 … 13 */
    assert_int_equal(f.arena.bytes_used, 0);
    pager_close(&p);
    fixture_close(&f);
}

static void chunks_are_dropped_where_the_next_one_begins(void **state)
{
    (void)state;
    static const plan chunks = {
        .n_kv_groups = 1,
        .kv_groups = {{.n_layers = 1, .n_head_kv = 1, .head_dim = 16, .window = 10, .chunked = true}}};
    mlxr_error error;
    fixture f;
    pager p;
    fixture_open(&f, 1 << 20, 4);
    pager_init(&p, &chunks, &f.pools[1]);
    assert_ok(pager_reserve(&p, 0, 24, &error), &error);
    pager_commit(&p, 9); /* the next query, at 9, sees 0 … 9 */
    assert_int_equal(p.tables[0].n_dropped, 0);
    assert_int_equal(pager_pages_needed(&chunks.kv_groups[0], 4, 9, 15), 6);
    pager_commit(&p, 10); /* sees 10 alone, in the page of 8 … 11 */
    assert_int_equal(p.tables[0].n_dropped, 2);
    assert_int_equal(pager_pages_needed(&chunks.kv_groups[0], 4, 10, 14), 4);
    pager_commit(&p, 19);
    assert_int_equal(p.tables[0].n_dropped, 2);
    assert_int_equal(pager_truncate(&p, 10), 10);
    assert_int_equal(pager_truncate(&p, 9), 0); /* would need 0 … 9 */
    assert_int_equal(f.arena.bytes_used, 0);
    pager_close(&p);
    fixture_close(&f);
}

/* 200,000 random operations on eight sequences against the rule "page i of a table is mapped exactly if a query at or
 * after n_computed may see it and the sequence has reserved it". */
static void random_operations_keep_counts_exact(void **state)
{
    (void)state;
    enum { SEQUENCES = 8, PAGE = 4 };
    mlxr_error error;
    fixture f;
    pager pagers[SEQUENCES];
    uint32_t computed[SEQUENCES] = {0};
    uint64_t seed = 42;
    fixture_open(&f, 100 * (128 + 64) * PAGE, PAGE);
    for (int i = 0; i < SEQUENCES; i++) {
        pager_init(&pagers[i], &two_groups, f.pools);
    }
    for (int round = 0; round < 200000; round++) {
        uint32_t i = (uint32_t)(test_random(&seed) % SEQUENCES);
        uint32_t amount = (uint32_t)(test_random(&seed) % 40);
        switch (test_random(&seed) % 4) {
        case 0:
        case 1:
            if (pager_reserve(&pagers[i], computed[i], computed[i] + amount, &error) == MLXR_OK) {
                computed[i] += amount;
                pager_commit(&pagers[i], computed[i]);
            }
            break;
        case 2: {
            uint32_t to = amount < computed[i] ? computed[i] - amount : 0;
            computed[i] = pager_truncate(&pagers[i], to) ? to : 0;
            break;
        }
        default:
            if (amount == 0) {
                pager_close(&pagers[i]);
                pager_init(&pagers[i], &two_groups, f.pools);
                computed[i] = 0;
            }
        }
        if (round % 64 == 0) {
            uint32_t n_mapped[2] = {0};
            for (int s = 0; s < SEQUENCES; s++) {
                for (uint32_t g = 0; g < 2; g++) {
                    const pager_table *t = &pagers[s].tables[g];
                    for (uint32_t page = 0; page < t->n_pages; page++) {
                        bool mapped = t->pages[page] != KV_PAGE_NONE;
                        n_mapped[g] += mapped;
                        if (mapped) {
                            assert_int_equal(f.pools[g]->refs[t->pages[page]], 1);
                        } else { /* dropped only where the window of the next query has passed */
                            assert_true(t->window && (page + 1) * PAGE + t->window <= computed[s] + 1);
                        }
                    }
                }
            }
            for (uint32_t g = 0; g < 2; g++) {
                assert_int_equal(f.pools[g]->n_used, n_mapped[g]);
                assert_int_equal(f.pools[g]->n_used + f.pools[g]->n_free, f.pools[g]->n_touched);
            }
        }
    }
    for (int i = 0; i < SEQUENCES; i++) {
        pager_close(&pagers[i]);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_follows_the_formula),
        cmocka_unit_test(a_budget_below_one_page_is_refused_with_numbers),
        cmocka_unit_test(pages_of_all_pools_share_one_budget),
        cmocka_unit_test(touched_memory_is_gathered_but_not_what_was_given_back),
        cmocka_unit_test(reserve_is_all_or_nothing_over_groups),
        cmocka_unit_test(window_pages_nobody_can_see_are_dropped),
        cmocka_unit_test(truncation_behind_a_window_starts_over),
        cmocka_unit_test(chunks_are_dropped_where_the_next_one_begins),
        cmocka_unit_test(random_operations_keep_counts_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
