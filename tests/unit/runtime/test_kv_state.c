/*
 * Recurrent groups in the KV cache: which checkpoints are taken, kept, found and let go; that drafts and failed steps
 * leave nothing behind; what a sequence takes.
 * Owner: the test program. Lifetime: the process.
 *
 * Every state is stamped with the tokens before it and compared when it is used (kv_world.h).
 */
#include "support/kv_disk.h"
#include "support/kv_world.h"
#include "support/test.h"

enum { N = 144, BUDGET = 1 << 20 };

static void fill(int32_t *tokens, int32_t first)
{
    for (int i = 0; i < N; i++) {
        tokens[i] = first + i;
    }
}

static void open_one(world *w, const plan *layers, kv_store *store)
{
    world_open(w, &layers, 1, 7, BUDGET, store);
}

/* A sequence that has computed n tokens, `chunk` a step. */
static void compute(world *w, world_sequence *s, const int32_t *tokens, size_t n, size_t chunk)
{
    sequence_init(w, s, 0);
    sequence_append(w, s, tokens, n);
    while (s->n_computed < n) {
        size_t left = n - s->n_computed;
        assert_true(sequence_compute(w, s, left < chunk ? left : chunk, NULL, 0, 0));
    }
    sequence_check_rows(s);
}

static uint32_t states_cached(const world *w, uint32_t group)
{
    uint32_t n = 0;
    for (const kv_node *node = w->models[0].cache.index.oldest; node; node = node->newer) {
        n += node->pages[group] != KV_PAGE_NONE;
    }
    return n;
}

static void a_prefix_is_gone_on_from_where_it_has_a_checkpoint(void **state)
{
    (void)state;
    static world w;
    static world_sequence a, b;
    int32_t tokens[N];
    fill(tokens, 0);
    open_one(&w, &world_full_states, NULL);
    compute(&w, &a, tokens, 70, 30); /* steps end at 30, 60, 70: checkpoints at 28, 60, 68 */
    sequence_close(&a);
    assert_int_equal(states_cached(&w, 1), 3);
    static const struct {
        size_t n, found;
    } prompts[] = {{71, 68}, {69, 68}, {68, 60}, {61, 60}, {60, 28}, {29, 28}, {28, 0}};
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        sequence_init(&w, &b, 0);
        sequence_append(&w, &b, tokens, prompts[i].n);
        assert_int_equal(b.n_computed, prompts[i].found);
        sequence_check_rows(&b);
        sequence_close(&b);
    }
    world_close(&w);
}

static void a_prefix_that_two_prompts_share_gets_a_checkpoint_for_the_third(void **state)
{
    (void)state;
    static world w;
    static world_sequence s;
    int32_t tokens[N];
    open_one(&w, &world_full_states, NULL);
    for (int32_t prompt = 0; prompt < 3; prompt++) {
        fill(tokens, 0);
        for (int i = 42; i < N; i++) { /* blocks up to position 40 are alike */
            tokens[i] = 1000 * (prompt + 1) + i;
        }
        sequence_init(&w, &s, 0);
        sequence_append(&w, &s, tokens, 100);
        assert_int_equal(s.n_computed, prompt < 2 ? 0 : 40);
        assert_true(sequence_compute(&w, &s, 100 - s.n_computed, NULL, 0, 0));
        sequence_close(&s);
    }
    world_close(&w);
}

/* Decoding passes a border every four tokens; what is kept of them grows with the logarithm, and from anywhere the next
 * checkpoint before is no further than the end is behind. */
static void checkpoints_thin_out_towards_the_beginning(void **state)
{
    (void)state;
    static world w;
    static world_sequence s;
    int32_t tokens[N];
    bool at[N / WORLD_PAGE + 1] = {true};
    fill(tokens, 0);
    open_one(&w, &world_full_states, NULL);
    compute(&w, &s, tokens, N, 1);
    for (const kv_node *node = s.node; node; node = node->parent) {
        at[node->depth + 1] = node->pages[1] != KV_PAGE_NONE;
    }
    assert_true(states_cached(&w, 1) <= 12); /* 2 · log₂(36) + 2 */
    for (size_t block = 0, last = 0; block <= N / WORLD_PAGE; block++) {
        last = at[block] ? block : last;
        assert_true(block - last <= N / WORLD_PAGE - block);
    }
    assert_true(at[N / WORLD_PAGE] && at[N / WORLD_PAGE - 1]);
    sequence_close(&s);
    world_close(&w);
}

static void a_sequence_takes_what_the_formula_says(void **state)
{
    (void)state;
    static world w;
    static world_sequence s;
    int32_t tokens[N];
    fill(tokens, 0);
    open_one(&w, &world_full_states, NULL);
    w.models[0].cache.off = true;
    size_t page = w.models[0].pools[0]->layout.page_bytes, one = w.models[0].pools[1]->layout.page_bytes;
    sequence_init(&w, &s, 0);
    memcpy(s.tokens, tokens, sizeof tokens);
    for (size_t n = 1; n <= N; n++) {
        sequence_append(&w, &s, tokens + n - 1, 1);
        assert_true(sequence_compute(&w, &s, 1, NULL, 0, 0));
        size_t n_borders = n / WORLD_PAGE, kept = n_borders < PAGER_STATES_KEPT ? n_borders : PAGER_STATES_KEPT;
        size_t n_states = kept + (n % WORLD_PAGE != 0); /* at a border the state is the newest checkpoint */
        assert_int_equal(w.arena.bytes_used, (n + WORLD_PAGE - 1) / WORLD_PAGE * page + n_states * one);
        assert_true(n_states + 1 <= PAGER_STATES_HELD); /* and one that a step makes */
    }
    sequence_close(&s);
    world_close(&w);
}

static void rejected_drafts_and_failed_steps_leave_no_states(void **state)
{
    (void)state;
    static world w;
    static world_sequence s;
    int32_t tokens[N];
    static const int32_t draft[] = {901, 902, 903, 904, 905, 906};
    fill(tokens, 0);
    open_one(&w, &world_mixed_states, NULL);
    compute(&w, &s, tokens, 21, 21);
    kv_pool *states = w.models[0].pools[1];
    for (size_t n_accepted = 0; n_accepted <= 6; n_accepted++) {
        assert_int_equal(pager_reserve_draft(&s.pages, (uint32_t)s.n_computed, (uint32_t)s.n_computed + 3,
                                             (uint32_t)s.n_computed + 9, NULL),
                         MLXR_OK); /* a step that will fail */
        sequence_append(&w, &s, tokens, 1);
        assert_true(sequence_compute(&w, &s, 1, draft, 6, n_accepted));
        sequence_check_rows(&s);
        assert_true(states->n_used <= 1 + PAGER_STATES_KEPT + states_cached(&w, 1));
        uint32_t n_own = 0;
        for (uint32_t i = 0; i < s.pages.tables[1].n_pages; i++) {
            n_own += s.pages.tables[1].pages[i] != KV_PAGE_NONE;
        }
        assert_true(n_own <= PAGER_STATES_KEPT);
    }
    world_check_pages(&w, &s, 1);
    sequence_close(&s);
    world_close(&w);
}

static void going_back_ends_at_a_checkpoint(void **state)
{
    (void)state;
    static world w;
    static world_sequence s, fork;
    int32_t tokens[N];
    fill(tokens, 0);
    open_one(&w, &world_full_states, NULL);
    compute(&w, &s, tokens, 102, 1);
    assert_true(sequence_fork(&fork, &s));
    sequence_truncate(&s, 101);
    assert_int_equal(s.n_computed, 100);
    sequence_truncate(&s, 99);
    assert_int_equal(s.n_computed, 96);
    sequence_truncate(&s, 95); /* its own are used up: nothing is left, and the index has more */
    assert_int_equal(s.n_computed, 0);
    sequence_resume(&w, &s);
    assert_true(s.n_computed >= 80);
    assert_true(sequence_compute(&w, &s, 95 - s.n_computed, NULL, 0, 0));
    sequence_check_rows(&s);
    sequence_check_rows(&fork); /* the other went nowhere */
    assert_int_equal(fork.n_computed, 102);
    sequence_close(&s);
    sequence_close(&fork);
    world_close(&w);
}

/* What no end of a prefix would go on from goes first; the checkpoint at the end stays with its block. */
static void eviction_spares_the_checkpoint_at_the_end(void **state)
{
    (void)state;
    static world w;
    static world_sequence s;
    int32_t tokens[N];
    fill(tokens, 0);
    open_one(&w, &world_full_states, NULL);
    compute(&w, &s, tokens, 100, 20); /* steps end at borders: the last checkpoint is at 100 */
    sequence_close(&s);
    uint32_t n = states_cached(&w, 1);
    assert_true(n > 2);
    size_t n_nodes = w.models[0].cache.index.n_nodes;
    world_evict(&w, w.arena.bytes_used - (n - 1) * w.models[0].pools[1]->layout.page_bytes);
    assert_int_equal(states_cached(&w, 1), 1);
    assert_int_equal(w.models[0].cache.index.n_nodes, n_nodes);
    sequence_init(&w, &s, 0);
    sequence_append(&w, &s, tokens, 101);
    assert_int_equal(s.n_computed, 100);
    sequence_check_rows(&s);
    sequence_close(&s);
    world_close(&w);
}

/* With states alone most blocks have no page at all: they need no file, and the prefix is found across them. */
static void states_are_found_on_disk_after_a_restart(void **state)
{
    (void)state;
    static const plan *const layers[] = {&world_states, &world_full_states, &world_mixed_states};
    for (size_t i = 0; i < 3; i++) {
        static world w;
        static world_sequence s;
        mlxr_error error;
        int32_t tokens[N];
        kv_disk *disk = kv_disk_open();
        fill(tokens, 0);
        for (int life = 0; life < 2; life++) {
            kv_store *store = NULL;
            kv_store_io io = kv_disk_io(disk);
            kv_store_options options = {.dir = "/disk", .bytes_budget = 1 << 20, .io = &io};
            assert_ok(kv_store_open(&store, &options, &error), &error);
            open_one(&w, layers[i], store);
            sequence_init(&w, &s, 0);
            assert_int_equal(sequence_append(&w, &s, tokens, 101), life ? KV_MISS_NONE : KV_MISS_NEW);
            assert_int_equal(s.n_computed, life ? 100 : 0);
            sequence_check_rows(&s);
            while (s.n_computed < 101) {
                size_t left = 101 - s.n_computed;
                assert_true(sequence_compute(&w, &s, left < 50 ? left : 50, NULL, 0, 0));
            }
            sequence_close(&s);
            world_save_all(&w);
            kv_store_flush(store);
            kv_store_stats stats = kv_store_stats_get(store);
            assert_int_equal(stats.n_files, i == 0 ? 2 : 25); /* states alone: at 48 and at 100 */
            kv_store_close(&store);
            world_close(&w);
        }
        kv_disk_close(&disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_is_gone_on_from_where_it_has_a_checkpoint),
        cmocka_unit_test(a_prefix_that_two_prompts_share_gets_a_checkpoint_for_the_third),
        cmocka_unit_test(checkpoints_thin_out_towards_the_beginning),
        cmocka_unit_test(a_sequence_takes_what_the_formula_says),
        cmocka_unit_test(rejected_drafts_and_failed_steps_leave_no_states),
        cmocka_unit_test(going_back_ends_at_a_checkpoint),
        cmocka_unit_test(eviction_spares_the_checkpoint_at_the_end),
        cmocka_unit_test(states_are_found_on_disk_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
