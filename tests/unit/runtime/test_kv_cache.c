/*
 * Prefix cache: equal prefixes are found and shared, pages carry what was computed, eviction respects use, the disk
 * tier brings blocks back and treats every damaged file as a miss.
 * Owner: the test program. Lifetime: the process.
 *
 * A "computed" page is stamped with the hash of its prefix, so that a wrong page is always seen.
 */
#include "runtime/kv/cache.h"

#include <dirent.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "runtime/kv/eviction.h"
#include "runtime/kv/store_file.h"
#include "runtime/kv/store_io.h"
#include "support/kv_heap.h"
#include "support/test.h"

enum { PAGE = 4 };

static const plan two_groups = {.n_kv_groups = 2,
                                .kv_groups = {{.n_layers = 1, .n_head_kv = 1, .head_dim = 8},
                                              {.n_layers = 1, .n_head_kv = 1, .head_dim = 8, .window = 6}}};

/* The second group attends within chunks of five blocks. */
static const plan in_chunks = {
    .n_kv_groups = 2,
    .kv_groups = {{.n_layers = 1, .n_head_kv = 1, .head_dim = 8},
                  {.n_layers = 1, .n_head_kv = 1, .head_dim = 8, .window = 20, .chunked = true}}};

static const plan *shape = &two_groups;

typedef struct world {
    kv_arena arena;
    kv_pool *pools[KV_GROUPS_MAX];
    kv_cache cache;
    uint64_t now_ms;
    eviction_policy policy;
} world;

static void save(void *context, prefix_index *index, const kv_node *node)
{
    world *w = context;
    if (w->cache.store) {
        kv_store_put(w->cache.store, w->cache.fingerprint, index, node);
    }
}

static void reclaim(void *context, uint64_t n_bytes)
{
    world *w = context;
    prefix_index *index = &w->cache.index;
    eviction_run(&w->arena, &index, 1, w->arena.bytes_budget - n_bytes, &w->policy, w->now_ms, save, w);
}

static void world_open(world *w, uint64_t budget, kv_store *store, uint64_t model)
{
    mlxr_error error;
    memset(w, 0, sizeof *w);
    w->policy = (eviction_policy){.high = 1, .low = 1, .working_set_ms = 1000};
    kv_arena_init(&w->arena, &kv_heap, NULL, budget);
    w->arena.reclaim = reclaim;
    w->arena.reclaim_context = w;
    for (uint32_t g = 0; g < shape->n_kv_groups; g++) {
        kv_layout layout = kv_layout_make(&shape->kv_groups[g], DTYPE_F32, PAGE);
        assert_ok(kv_pool_open(&w->pools[g], &w->arena, &layout, &error), &error);
    }
    w->cache.fingerprint = (kv_hash){model, model};
    w->cache.store = store;
    assert_ok(prefix_index_open(&w->cache.index, shape, w->pools, w->cache.fingerprint, &error), &error);
}

static void world_close(world *w)
{
    prefix_index_close(&w->cache.index);
    assert_int_equal(w->arena.bytes_used, 0);
    for (uint32_t g = 0; g < shape->n_kv_groups; g++) {
        kv_pool_close(&w->pools[g]);
    }
}

typedef struct seq {
    int32_t tokens[512];
    size_t n_tokens, n_computed;
    pager pages;
    kv_node *node;
} seq;

static void seq_open(world *w, seq *s)
{
    memset(s, 0, sizeof *s);
    pager_init(&s->pages, shape, w->pools);
}

static void seq_close(world *w, seq *s)
{
    kv_cache_release(&w->cache, &s->node, 0);
    pager_close(&s->pages);
}

/* What position i of a sequence must hold: depends on all tokens up to it. */
static uint64_t stamp_at(const seq *s, size_t i)
{
    return XXH3_64bits(s->tokens, (i + 1) * sizeof *s->tokens);
}

static uint64_t *row_at(world *w, const seq *s, uint32_t g, size_t i)
{
    uint32_t page = pager_page(&s->pages, g, (uint32_t)(i / PAGE));
    assert_int_not_equal(page, KV_PAGE_NONE);
    char *base = (char *)w->pools[g]->memory + page * w->pools[g]->layout.page_bytes;
    return (uint64_t *)(void *)(base + i % PAGE * w->pools[g]->layout.row_bytes);
}

static kv_miss seq_append(world *w, seq *s, const int32_t *tokens, size_t n)
{
    kv_miss miss;
    memcpy(s->tokens + s->n_tokens, tokens, n * sizeof *tokens);
    s->n_tokens += n;
    s->n_computed = kv_cache_attach(&w->cache, &s->pages, s->tokens, s->n_tokens, s->n_computed, &s->node, w->now_ms,
                                    &miss);
    return miss;
}

/* Computes up to n pending tokens; checks on the way that everything a query sees is what it must be. */
static bool seq_compute(world *w, seq *s, size_t n)
{
    size_t end = s->n_computed + n < s->n_tokens ? s->n_computed + n : s->n_tokens;
    if (pager_reserve(&s->pages, (uint32_t)s->n_computed, (uint32_t)end, NULL) != MLXR_OK) {
        return false;
    }
    for (size_t i = s->n_computed; i < end; i++) {
        for (uint32_t g = 0; g < 2; g++) {
            *row_at(w, s, g, i) = stamp_at(s, i);
            const kv_group *group = &shape->kv_groups[g];
            for (size_t seen = plan_first_seen(group->window, group->chunked, i); seen <= i; seen++) {
                if (*row_at(w, s, g, seen) != stamp_at(s, seen)) {
                    fail_msg("group %u: a query at %zu sees a wrong row at %zu", g, i, seen);
                }
            }
        }
    }
    s->n_computed = end;
    kv_cache_register(&w->cache, &s->pages, s->tokens, s->n_computed, &s->node, w->now_ms);
    pager_commit(&s->pages, (uint32_t)s->n_computed);
    return true;
}

/* A sequence of these tokens, all of them computed. */
static void seq_run(world *w, seq *s, const int32_t *tokens, size_t n)
{
    seq_open(w, s);
    seq_append(w, s, tokens, n);
    assert_true(seq_compute(w, s, n));
}

static void count_up(int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)i;
    }
}

static void an_equal_prefix_is_shared_and_the_rest_is_not(void **state)
{
    (void)state;
    world w;
    seq a, b;
    int32_t tokens[40];
    world_open(&w, 1 << 20, NULL, 1);
    count_up(tokens, 40);
    seq_open(&w, &a);
    assert_int_equal(seq_append(&w, &a, tokens, 40), KV_MISS_NEW);
    assert_true(seq_compute(&w, &a, 40));
    uint64_t used = w.arena.bytes_used;
    tokens[21] = 99; /* in block 5 */
    seq_open(&w, &b);
    assert_int_equal(seq_append(&w, &b, tokens, 40), KV_MISS_NEW);
    assert_int_equal(b.n_computed, 20);
    assert_true(seq_compute(&w, &b, 40));
    for (uint32_t block = 0; block < 5; block++) {
        assert_int_equal(pager_page(&a.pages, 0, block), pager_page(&b.pages, 0, block));
    }
    assert_int_not_equal(pager_page(&a.pages, 0, 5), pager_page(&b.pages, 0, 5));
    assert_true(w.arena.bytes_used > used);
    seq_close(&w, &a);
    seq_close(&w, &b);
    world_close(&w);
}

static void a_prefix_computed_twice_at_once_is_kept_once(void **state)
{
    (void)state;
    world w;
    seq a, b;
    int32_t tokens[24];
    world_open(&w, 1 << 20, NULL, 1);
    count_up(tokens, 24);
    seq_open(&w, &a);
    seq_open(&w, &b);
    seq_append(&w, &a, tokens, 24);
    seq_append(&w, &b, tokens, 24); /* nothing to find yet */
    assert_true(seq_compute(&w, &a, 22));
    assert_true(seq_compute(&w, &b, 22));
    for (uint32_t block = 0; block < 5; block++) {
        assert_int_equal(pager_page(&a.pages, 0, block), pager_page(&b.pages, 0, block));
    }
    assert_true(seq_compute(&w, &b, 2));
    seq_close(&w, &a);
    seq_close(&w, &b);
    world_close(&w);
}

static void a_finished_prompt_is_found_again_at_its_end(void **state)
{
    (void)state;
    world w;
    seq a, b;
    int32_t tokens[41];
    world_open(&w, 1 << 20, NULL, 1);
    count_up(tokens, 41);
    seq_run(&w, &a, tokens, 40);
    seq_close(&w, &a);
    seq_open(&w, &b);
    assert_int_equal(seq_append(&w, &b, tokens, 41), KV_MISS_NONE);
    assert_int_equal(b.n_computed, 40);
    assert_true(seq_compute(&w, &b, 1));
    seq_close(&w, &b);
    seq_open(&w, &b); /* one token must be left to compute, so the last block does not count */
    seq_append(&w, &b, tokens, 40);
    assert_true(b.n_computed < 40);
    assert_true(seq_compute(&w, &b, 40));
    seq_close(&w, &b);
    world_close(&w);
}

static void writing_into_a_shared_page_copies_it_first(void **state)
{
    (void)state;
    world w;
    seq a, b;
    int32_t tokens[40];
    world_open(&w, 1 << 20, NULL, 1);
    count_up(tokens, 40);
    seq_run(&w, &a, tokens, 18); /* 4 blocks and 2 tokens */
    b = a;
    assert_int_equal(pager_fork(&b.pages, &a.pages, NULL), MLXR_OK);
    prefix_index_pin(b.node);
    assert_int_equal(pager_page(&a.pages, 0, 4), pager_page(&b.pages, 0, 4));
    a.tokens[18] = 7;
    b.tokens[18] = 8;
    a.n_tokens = b.n_tokens = 19;
    assert_true(seq_compute(&w, &a, 1));
    assert_true(seq_compute(&w, &b, 1));
    assert_int_not_equal(pager_page(&a.pages, 0, 4), pager_page(&b.pages, 0, 4));
    assert_int_equal(pager_page(&a.pages, 0, 3), pager_page(&b.pages, 0, 3));
    seq_close(&w, &a);
    seq_close(&w, &b);
    world_close(&w);
}

static void the_least_useful_prefix_goes_first(void **state)
{
    (void)state;
    world w;
    seq s;
    int32_t tokens[17];
    world_open(&w, 1 << 20, NULL, 1);
    for (int prompt = 0; prompt < 3; prompt++) { /* three prompts of four blocks */
        count_up(tokens, 17);
        tokens[0] = 100 + prompt;
        w.now_ms = 10 * (uint64_t)prompt;
        seq_run(&w, &s, tokens, 17);
        seq_close(&w, &s);
    }
    tokens[0] = 100; /* the oldest is found again: it now counts as part of the working set */
    w.now_ms = 100;
    seq_open(&w, &s);
    seq_append(&w, &s, tokens, 17);
    assert_int_equal(s.n_computed, 16);
    seq_close(&w, &s);
    prefix_index *index = &w.cache.index;
    size_t n_before = index->n_nodes;
    /* the four window pages that no continuation of the other two prompts sees, then a block of two pages */
    uint64_t target = w.arena.bytes_used - 6 * w.pools[0]->layout.page_bytes;
    assert_true(eviction_run(&w.arena, &index, 1, target, &w.policy, w.now_ms, NULL, NULL) > 0);
    assert_true(index->n_nodes < n_before);
    seq_open(&w, &s);
    seq_append(&w, &s, tokens, 17);
    assert_int_equal(s.n_computed, 16); /* untouched */
    seq_close(&w, &s);
    tokens[0] = 101; /* the one used longest ago lost its end */
    seq_open(&w, &s);
    seq_append(&w, &s, tokens, 17);
    assert_true(s.n_computed < 16);
    seq_close(&w, &s);
    world_close(&w);
}

static void pages_in_use_are_never_evicted(void **state)
{
    (void)state;
    world w;
    seq s;
    int32_t tokens[32];
    world_open(&w, 1 << 20, NULL, 1);
    count_up(tokens, 32);
    seq_run(&w, &s, tokens, 32);
    prefix_index *index = &w.cache.index;
    w.now_ms = 1000000;
    eviction_run(&w.arena, &index, 1, 0, &w.policy, w.now_ms, NULL, NULL);
    s.tokens[32] = 1;
    s.n_tokens = 33;
    assert_true(seq_compute(&w, &s, 1)); /* sees all rows */
    seq_close(&w, &s);
    world_close(&w);
}

/* Removes every file of a store's directory. */
static void clean_dir(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        unlink(path);
    }
    if (d) {
        closedir(d);
    }
}

static int no_sync(void *context, const char *path)
{
    (void)context, (void)path;
    return 0;
}

/* Tens of thousands of files: that they outlast a power failure is not what these tests are about. */
static kv_store *store_open(const char *name, uint64_t budget)
{
    static char dir[512];
    mlxr_error error;
    kv_store *store = NULL;
    kv_store_io io = store_io_system;
    io.sync_file = io.sync_dir = no_sync;
    snprintf(dir, sizeof dir, "%s/%s", test_temp_dir(), name);
    kv_store_options options = {.dir = dir, .bytes_budget = budget, .io = &io};
    assert_ok(kv_store_open(&store, &options, &error), &error);
    return store;
}

static void blocks_survive_a_restart_and_match_only_their_model(void **state)
{
    (void)state;
    world w;
    seq s;
    int32_t tokens[41];
    count_up(tokens, 41);
    kv_store *store = store_open("restart", 1 << 20);
    world_open(&w, 1 << 20, store, 1);
    seq_run(&w, &s, tokens, 40);
    seq_close(&w, &s);
    kv_cache_save_all(&w.cache);
    kv_store_close(&store);
    w.cache.store = NULL;
    world_close(&w);

    store = store_open("restart", 1 << 20);
    assert_true(kv_store_stats_get(store).n_files >= 10);
    world_open(&w, 1 << 20, store, 2); /* another model */
    seq_open(&w, &s);
    assert_int_equal(seq_append(&w, &s, tokens, 41), KV_MISS_NEW);
    assert_int_equal(s.n_computed, 0);
    seq_close(&w, &s);
    world_close(&w);

    world_open(&w, 1 << 20, store, 1);
    seq_open(&w, &s);
    assert_int_equal(seq_append(&w, &s, tokens, 41), KV_MISS_NONE);
    assert_int_equal(s.n_computed, 40);
    assert_true(seq_compute(&w, &s, 1)); /* checks every row it sees */
    seq_close(&w, &s);
    w.cache.store = NULL;
    world_close(&w);
    kv_store_close(&store);
}

static void the_disk_budget_holds_and_the_oldest_files_go(void **state)
{
    (void)state;
    world w;
    seq s;
    int32_t tokens[33];
    kv_store *store = store_open("budget", 20000);
    world_open(&w, 1 << 20, store, 1);
    for (int prompt = 0; prompt < 20; prompt++) {
        count_up(tokens, 33);
        tokens[0] = 1000 + prompt;
        seq_run(&w, &s, tokens, 33);
        seq_close(&w, &s);
        kv_cache_save_all(&w.cache);
        kv_store_flush(store);
        assert_true(kv_store_stats_get(store).bytes <= 20000);
    }
    assert_true(kv_store_stats_get(store).n_files > 0);
    w.cache.store = NULL;
    world_close(&w);
    kv_store_close(&store);
}

/* 10,000 random bit flips and truncations of real files: each must be a miss, none an error or a wrong page. */
static void every_damaged_file_is_a_miss(void **state)
{
    (void)state;
    world w;
    seq s;
    int32_t tokens[9];
    char dir[512], path[1024] = "";
    count_up(tokens, 9);
    kv_store *store = store_open("damage", 1 << 20);
    snprintf(dir, sizeof dir, "%s/damage", test_temp_dir());
    world_open(&w, 1 << 20, store, 1);
    seq_run(&w, &s, tokens, 4);
    seq_close(&w, &s);
    kv_cache_save_all(&w.cache);
    kv_store_close(&store);
    w.cache.store = NULL;
    prefix_index_close(&w.cache.index);
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strstr(e->d_name, ".kv")) {
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        }
    }
    closedir(d);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    static uint8_t good[65536], bad[65536];
    size_t n = fread(good, 1, sizeof good, file);
    fclose(file);
    assert_true(n > 100 && n < sizeof good);
    uint64_t seed = 7;
    for (int round = 0; round < 10000; round++) {
        size_t n_bad = n;
        memcpy(bad, good, n);
        if (round % 4 == 0) {
            n_bad = test_random(&seed) % n;
        } else if (round % 4 == 1) {
            n_bad = n + 1 + test_random(&seed) % 100;
        } else {
            size_t at = test_random(&seed) % n;
            bad[at] ^= (uint8_t)(1u << test_random(&seed) % 8);
        }
        store_block expected = {
            .fingerprint = {1, 1},
            .n_groups = 2,
            .page_tokens = PAGE,
            .tokens = tokens,
            .n_tokens = 4,
            .hash = prefix_index_hash(&(prefix_index){.page_tokens = PAGE, .salt = {1, 1}}, NULL, tokens),
            .layouts = {w.pools[0]->layout, w.pools[1]->layout}};
        uint8_t *exact = malloc(n_bad ? n_bad : 1); /* so that a read past the end is seen */
        memcpy(exact, bad, n_bad < sizeof bad ? n_bad : sizeof bad);
        bool accepted = store_file_check(exact, n_bad, &expected);
        free(exact);
        if (accepted) {
            fail_msg("round %d: a damaged file was accepted", round);
        }
        if (round % 500 == 0) { /* the same through the store: a miss, the file removed, the directory usable */
            file = fopen(path, "wb");
            fwrite(bad, 1, n_bad < sizeof bad ? n_bad : sizeof bad, file);
            fclose(file);
            mlxr_error error;
            store = store_open("damage", 1 << 20);
            assert_ok(prefix_index_open(&w.cache.index, &two_groups, w.pools, w.cache.fingerprint, &error), &error);
            w.cache.store = store;
            seq_open(&w, &s);
            assert_int_equal(seq_append(&w, &s, tokens, 9), KV_MISS_REJECTED);
            assert_int_equal(s.n_computed, 0);
            assert_int_not_equal(access(path, F_OK), 0);
            seq_close(&w, &s);
            kv_store_close(&store);
            w.cache.store = NULL;
            prefix_index_close(&w.cache.index);
        }
    }
    mlxr_error error;
    assert_ok(prefix_index_open(&w.cache.index, &two_groups, w.pools, w.cache.fingerprint, &error), &error);
    world_close(&w);
    clean_dir(dir);
}

/* Evicts everything that can go at this moment. */
static void evict_all(world *w)
{
    prefix_index *index = &w->cache.index;
    eviction_run(&w->arena, &index, 1, 0, &w->policy, w->now_ms, save, w);
}

/* A sequence longer than its window leaves a trail of window pages in the cache that nobody but a prompt branching off
 * in the middle could use: they must not starve it, however young they are. */
static void a_long_sequence_does_not_starve_on_the_window_pages_behind_it(void **state)
{
    (void)state;
    enum { N = 400 };
    world w;
    seq s;
    int32_t tokens[N];
    size_t page_bytes = kv_layout_make(&two_groups.kv_groups[0], DTYPE_F32, PAGE).page_bytes;
    /* all full-attention pages, the window's, the one being written, and one to spare */
    world_open(&w, (N / PAGE + 5) * page_bytes, NULL, 1);
    count_up(tokens, N);
    seq_open(&w, &s);
    seq_append(&w, &s, tokens, N);
    for (int i = 0; i < N; i++) {
        assert_true(seq_compute(&w, &s, 1));
    }
    seq_close(&w, &s);
    world_close(&w);
}

/* Of two prompts that were used at the same time, one loses unseen window pages; both can still be continued. */
static void window_pages_that_no_continuation_sees_go_first(void **state)
{
    (void)state;
    world w;
    seq s;
    int32_t tokens[41];
    world_open(&w, 1 << 20, NULL, 1);
    for (int prompt = 0; prompt < 2; prompt++) {
        count_up(tokens, 41);
        tokens[0] = 100 + prompt;
        seq_run(&w, &s, tokens, 40);
        seq_close(&w, &s);
    }
    prefix_index *index = &w.cache.index;
    size_t n_nodes = index->n_nodes, page_bytes = w.pools[0]->layout.page_bytes;
    /* 10 blocks each, of which a query at 40 sees the last two (35 … 40 with it) */
    uint64_t target = w.arena.bytes_used - 2 * 8 * page_bytes;
    assert_int_equal(eviction_run(&w.arena, &index, 1, target, &w.policy, w.now_ms, NULL, NULL), 2 * 8 * page_bytes);
    assert_int_equal(index->n_nodes, n_nodes);
    for (int prompt = 0; prompt < 2; prompt++) {
        tokens[0] = 100 + prompt;
        seq_open(&w, &s);
        assert_int_equal(seq_append(&w, &s, tokens, 41), KV_MISS_NONE);
        assert_int_equal(s.n_computed, 40);
        assert_true(seq_compute(&w, &s, 1));
        seq_close(&w, &s);
        seq_open(&w, &s); /* in the middle the window's pages are gone */
        assert_int_equal(seq_append(&w, &s, tokens, 25), KV_MISS_EVICTED);
        assert_int_equal(s.n_computed, 0);
        seq_close(&w, &s);
    }
    world_close(&w);
}

/* A prompt that ends where a chunk does: one that goes on needs nothing of the chunk, but the same prompt again, whose
 * last token is always computed, sees all of it. */
static void the_chunk_before_an_end_on_its_border_stays(void **state)
{
    (void)state;
    world w;
    seq s;
    int32_t tokens[41];
    shape = &in_chunks;
    world_open(&w, 1 << 20, NULL, 1);
    for (int prompt = 0; prompt < 2; prompt++) {
        count_up(tokens, 41);
        tokens[0] = 100 + prompt;
        seq_run(&w, &s, tokens, 40);
        seq_close(&w, &s);
    }
    prefix_index *index = &w.cache.index;
    size_t page_bytes = w.pools[0]->layout.page_bytes;
    uint64_t target = w.arena.bytes_used - 2 * 5 * page_bytes; /* the first chunk of each */
    assert_int_equal(eviction_run(&w.arena, &index, 1, target, &w.policy, w.now_ms, NULL, NULL), 2 * 5 * page_bytes);
    for (int prompt = 0; prompt < 2; prompt++) {
        tokens[0] = 100 + prompt;
        seq_open(&w, &s);
        assert_int_equal(seq_append(&w, &s, tokens, 40), KV_MISS_NONE);
        assert_int_equal(s.n_computed, 36);
        assert_true(seq_compute(&w, &s, 4));
        seq_close(&w, &s);
        seq_open(&w, &s);
        assert_int_equal(seq_append(&w, &s, tokens, 41), KV_MISS_NONE);
        assert_int_equal(s.n_computed, 40);
        assert_true(seq_compute(&w, &s, 1));
        seq_close(&w, &s);
    }
    world_close(&w);
    shape = &two_groups;
}

/* A block written without its window page is written again once it has one. */
static void a_block_that_gained_a_page_is_written_again(void **state)
{
    (void)state;
    world w;
    seq s;
    int32_t tokens[9];
    count_up(tokens, 9);
    kv_store *store = store_open("gained", 1 << 20);
    for (int round = 0; round < 2; round++) {
        world_open(&w, 1 << 20, store, 1);
        w.cache.store = NULL;
        seq_run(&w, &s, tokens, 8);
        seq_close(&w, &s);
        w.cache.store = store;
        if (round == 0) {
            for (kv_node *node = w.cache.index.oldest; node; node = node->newer) {
                prefix_index_drop_page(&w.cache.index, node, 1);
            }
        }
        kv_cache_save_all(&w.cache);
        kv_store_flush(store);
        assert_int_equal(kv_store_stats_get(store).n_written, round == 0 ? 2 : 4);
        assert_int_equal(kv_store_stats_get(store).n_files, 2);
        kv_cache_save_all(&w.cache); /* nothing new */
        kv_store_flush(store);
        assert_int_equal(kv_store_stats_get(store).n_written, round == 0 ? 2 : 4);
        evict_all(&w);
        seq_open(&w, &s);
        assert_int_equal(seq_append(&w, &s, tokens, 9), round == 0 ? KV_MISS_EVICTED : KV_MISS_NONE);
        assert_int_equal(s.n_computed, round == 0 ? 0 : 8);
        assert_true(seq_compute(&w, &s, 9));
        seq_close(&w, &s);
        w.cache.store = NULL;
        world_close(&w);
    }
    kv_store_close(&store);
}

/* 20,000 blocks that are in use and have not been touched for longest, 20,000 that can go: each is looked at a few
 * times, not once for each page freed. */
static void eviction_takes_time_in_proportion_to_the_cache(void **state)
{
    (void)state;
    enum { N = 20000 };
    world w;
    struct timespec begin, end;
    int32_t tokens[PAGE] = {0};
    size_t page_bytes = kv_layout_make(&two_groups.kv_groups[0], DTYPE_F32, PAGE).page_bytes;
    world_open(&w, 2 * N * page_bytes, NULL, 1);
    for (int i = 0; i < 2 * N; i++) {
        kv_node *node = NULL;
        uint32_t pages[KV_GROUPS_MAX] = {kv_pool_take(w.pools[0]), KV_PAGE_NONE};
        tokens[0] = i;
        assert_int_equal(prefix_index_insert(&w.cache.index, NULL, tokens, pages, w.now_ms, &node, NULL), MLXR_OK);
        if (i < N) {
            prefix_index_pin(node);
        }
        kv_pool_unref(w.pools[0], pages[0]);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin); /* other tests run beside this one */
    evict_all(&w);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    assert_int_equal(w.cache.index.n_nodes, N);
    double ms = (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) * 1e-6;
    print_message("%d pages evicted past %d in use in %.1f ms\n", N, N, ms);
    assert_true(ms < 500);
    for (kv_node *node = w.cache.index.oldest; node; node = node->newer) {
        prefix_index_unpin(node);
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_equal_prefix_is_shared_and_the_rest_is_not),
        cmocka_unit_test(a_prefix_computed_twice_at_once_is_kept_once),
        cmocka_unit_test(a_finished_prompt_is_found_again_at_its_end),
        cmocka_unit_test(writing_into_a_shared_page_copies_it_first),
        cmocka_unit_test(the_least_useful_prefix_goes_first),
        cmocka_unit_test(pages_in_use_are_never_evicted),
        cmocka_unit_test(blocks_survive_a_restart_and_match_only_their_model),
        cmocka_unit_test(the_disk_budget_holds_and_the_oldest_files_go),
        cmocka_unit_test(every_damaged_file_is_a_miss),
        cmocka_unit_test(a_long_sequence_does_not_starve_on_the_window_pages_behind_it),
        cmocka_unit_test(window_pages_that_no_continuation_sees_go_first),
        cmocka_unit_test(the_chunk_before_an_end_on_its_border_stays),
        cmocka_unit_test(a_block_that_gained_a_page_is_written_again),
        cmocka_unit_test(eviction_takes_time_in_proportion_to_the_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
