/*
 * A KV cache without a model behind it.
 * Owner: the test. Lifetime: world_open to world_close.
 */
#include "support/kv_world.h"

#include "support/kv_heap.h"
#include "support/test.h"

const plan world_full = {.n_kv_groups = 1, .kv_groups = {{.n_layers = 2, .n_head_kv = 1, .head_dim = 4}}};
const plan world_window = {.n_kv_groups = 1,
                           .kv_groups = {{.n_layers = 1, .n_head_kv = 2, .head_dim = 4, .window = 9}}};
const plan world_mixed = {.n_kv_groups = 2,
                          .kv_groups = {{.n_layers = 1, .n_head_kv = 1, .head_dim = 8},
                                        {.n_layers = 1, .n_head_kv = 1, .head_dim = 4, .window = 6}}};
const plan world_two_windows = {.n_kv_groups = 3,
                                .kv_groups = {{.n_layers = 1, .n_head_kv = 1, .head_dim = 4},
                                              {.n_layers = 1, .n_head_kv = 1, .head_dim = 4, .window = 3},
                                              {.n_layers = 1, .n_head_kv = 1, .head_dim = 8, .window = 16}}};

/* Chunks of some pages, of no whole number of them, and shorter than one. */
const plan world_chunks = {
    .n_kv_groups = 3,
    .kv_groups = {{.n_layers = 1, .n_head_kv = 1, .head_dim = 4},
                  {.n_layers = 1, .n_head_kv = 1, .head_dim = 4, .window = 4 * WORLD_PAGE, .chunked = true},
                  {.n_layers = 1, .n_head_kv = 1, .head_dim = 8, .window = 3 * WORLD_PAGE + 1, .chunked = true}}};
const plan world_short_chunks = {
    .n_kv_groups = 1,
    .kv_groups = {{.n_layers = 1, .n_head_kv = 1, .head_dim = 4, .window = WORLD_PAGE - 1, .chunked = true}}};

const plan world_full_states = {
    .n_kv_groups = 2,
    .kv_groups = {{.n_layers = 1, .n_head_kv = 1, .head_dim = 4}, {.n_layers = 2, .state_width = 10}}};
const plan world_mixed_states = {.n_kv_groups = 3,
                                 .kv_groups = {{.n_layers = 1, .n_head_kv = 1, .head_dim = 4},
                                               {.n_layers = 1, .state_width = 16},
                                               {.n_layers = 1, .n_head_kv = 1, .head_dim = 4, .window = 9}}};
const plan world_states = {.n_kv_groups = 1, .kv_groups = {{.n_layers = 1, .state_width = 20}}};

/* ---- the world --------------------------------------------------------------------------------------------------- */

static void save(void *context, prefix_index *index, const kv_node *node)
{
    world *w = context;
    for (uint32_t i = 0; i < w->n_models; i++) {
        if (&w->models[i].cache.index == index && w->models[i].cache.store) {
            kv_store_put(w->models[i].cache.store, w->models[i].cache.fingerprint, index, node);
        }
    }
}

void world_evict(world *w, uint64_t target_bytes)
{
    prefix_index *indexes[WORLD_MODELS_MAX];
    for (uint32_t i = 0; i < w->n_models; i++) {
        indexes[i] = &w->models[i].cache.index;
    }
    eviction_run(&w->arena, indexes, w->n_models, target_bytes, &w->policy, w->now_ms, save, w);
}

static void reclaim(void *context, uint64_t n_bytes)
{
    world *w = context;
    world_evict(w, w->arena.bytes_budget - n_bytes);
}

void world_open(world *w, const plan *const *plans, uint32_t n_models, uint64_t first_name, uint64_t budget_bytes,
                kv_store *store)
{
    mlxr_error error;
    *w = (world){.n_models = n_models, .store = store, .policy = {.high = 1, .low = 1, .working_set_ms = 1000}};
    kv_arena_init(&w->arena, &kv_heap, NULL, budget_bytes);
    w->arena.reclaim = reclaim;
    w->arena.reclaim_context = w;
    for (uint32_t i = 0; i < n_models; i++) {
        world_model *m = &w->models[i];
        m->layers = plans[i];
        m->name = first_name + i;
        for (uint32_t g = 0; g < m->layers->n_kv_groups; g++) {
            kv_layout layout = kv_layout_make(&m->layers->kv_groups[g], DTYPE_F32, WORLD_PAGE);
            assert_ok(kv_pool_open(&m->pools[g], &w->arena, &layout, &error), &error);
        }
        m->cache.fingerprint = (kv_hash){m->name, ~m->name};
        m->cache.store = store;
        assert_ok(prefix_index_open(&m->cache.index, m->layers, m->pools, m->cache.fingerprint, &error), &error);
    }
}

void world_close(world *w)
{
    for (uint32_t i = 0; i < w->n_models; i++) {
        prefix_index_close(&w->models[i].cache.index);
    }
    assert_int_equal(w->arena.bytes_used, 0);
    for (uint32_t i = 0; i < w->n_models; i++) {
        for (uint32_t g = 0; g < w->models[i].layers->n_kv_groups; g++) {
            assert_int_equal(w->models[i].pools[g]->n_used, 0);
            kv_pool_close(&w->models[i].pools[g]);
        }
    }
    assert_int_equal(w->arena.bytes_touched, 0);
}

void world_save_all(world *w)
{
    for (uint32_t i = 0; i < w->n_models; i++) {
        kv_cache_save_all(&w->models[i].cache);
    }
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t stamp_next(uint64_t before, int32_t token)
{
    return mix(before + ((uint64_t)(uint32_t)token + 1) * 0x9e3779b97f4a7c15u);
}

static uint64_t stamp_first(const world_model *m)
{
    return mix(m->name ^ 0x5bf0a8b1457695d3u);
}

static void stamp_tokens(world_sequence *s, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        s->stamps[i] = stamp_next(i ? s->stamps[i - 1] : stamp_first(s->model), s->tokens[i]);
    }
}

typedef enum row_work { ROW_WRITE, ROW_CHECK } row_work;

/* A whole page of a recurrent group. false: a word differs. */
static bool state_visit(const kv_pool *pool, uint32_t group, uint32_t page, uint64_t stamp, row_work work)
{
    size_t n = pool->layout.page_bytes / sizeof(uint64_t);
    uint64_t *words = (uint64_t *)(void *)((char *)pool->memory + page * pool->layout.page_bytes);
    for (size_t i = 0; i < n; i++) {
        uint64_t word = (stamp ^ group) + i * 0x9e3779b97f4a7c15u;
        if (work == ROW_WRITE) {
            words[i] = word;
        } else if (words[i] != word) {
            return false;
        }
    }
    return true;
}

static void check_state(const world_sequence *s, uint32_t group, uint32_t page, size_t position)
{
    if (page != KV_PAGE_NONE && position == 0) {
        fail_msg("group %u: a state before the first position", group);
    }
    if (position && (page == KV_PAGE_NONE ||
                     !state_visit(s->model->pools[group], group, page, s->stamps[position - 1], ROW_CHECK))) {
        fail_msg("group %u: no or a wrong state at position %zu of %zu computed", group, position, s->n_computed);
    }
}

/* The state a sequence has, and its checkpoints. */
static void check_states(const world_sequence *s, uint32_t group)
{
    const pager_table *t = &s->pages.tables[group];
    uint32_t n = 0;
    check_state(s, group, t->states ? t->states[0] : KV_PAGE_NONE, s->n_computed);
    for (uint32_t block = 0; block < t->n_pages; block++) {
        if (t->pages[block] != KV_PAGE_NONE && (block + 1) * WORLD_PAGE <= s->n_computed) {
            check_state(s, group, t->pages[block], (size_t)(block + 1) * WORLD_PAGE);
            n++;
        }
    }
    assert_true(n <= PAGER_STATES_KEPT);
}

/* All rows (every layer and head, K and V) of one position in a page. false: a word differs. */
static bool row_visit(const kv_pool *pool, uint32_t group, uint32_t page, uint32_t at, uint64_t stamp, row_work work)
{
    const kv_layout *l = &pool->layout;
    uint64_t *words = (uint64_t *)(void *)((char *)pool->memory + page * l->page_bytes);
    size_t row_words = l->row_bytes / sizeof *words;
    for (uint32_t row = 0; row < 2 * l->n_layers * l->n_head_kv; row++) {
        size_t first = (row * l->head_bytes + at * l->row_bytes) / sizeof *words;
        for (size_t i = first; i < first + row_words; i++) {
            uint64_t word = (stamp ^ group) + i * 0x9e3779b97f4a7c15u;
            if (work == ROW_WRITE) {
                words[i] = word;
            } else if (words[i] != word) {
                return false;
            }
        }
    }
    return true;
}

size_t world_first_seen(const world_model *m, uint32_t group, size_t position)
{
    size_t window = m->layers->kv_groups[group].window;
    if (window && m->layers->kv_groups[group].chunked) {
        return position / window * window;
    }
    return window && position + 1 > window ? position + 1 - window : 0;
}

static void visit_rows(const world_sequence *s, uint32_t group, size_t from, size_t to, row_work work)
{
    for (size_t i = from; i < to; i++) {
        uint32_t page = pager_page(&s->pages, group, (uint32_t)(i / WORLD_PAGE));
        if (page == KV_PAGE_NONE) {
            fail_msg("group %u: no page for position %zu of %zu computed", group, i, s->n_computed);
        }
        if (!row_visit(s->model->pools[group], group, page, i % WORLD_PAGE, s->stamps[i], work)) {
            fail_msg("group %u: a wrong row at position %zu of %zu computed", group, i, s->n_computed);
        }
    }
}

void sequence_check_rows(const world_sequence *s)
{
    for (uint32_t g = 0; g < s->pages.n_tables; g++) {
        if (s->pages.tables[g].recurrent) {
            check_states(s, g);
        } else {
            visit_rows(s, g, world_first_seen(s->model, g, s->n_computed), s->n_computed, ROW_CHECK);
        }
    }
}

static uint64_t node_stamps(const world_model *m, const kv_node *node, uint64_t out[WORLD_PAGE])
{
    uint64_t stamp = node->parent ? node_stamps(m, node->parent, out) : stamp_first(m); /* depth: tokens ÷ page */
    for (uint32_t i = 0; i < WORLD_PAGE; i++) {
        stamp = out[i] = stamp_next(stamp, node->tokens[i]);
    }
    return stamp;
}

void world_check_index_rows(const world_model *m)
{
    const prefix_index *x = &m->cache.index;
    for (const kv_node *node = x->oldest; node; node = node->newer) {
        uint64_t stamps[WORLD_PAGE];
        node_stamps(m, node, stamps);
        for (uint32_t g = 0; g < x->n_groups; g++) {
            if (x->recurrent[g] && node->pages[g] != KV_PAGE_NONE &&
                !state_visit(x->pools[g], g, node->pages[g], stamps[WORLD_PAGE - 1], ROW_CHECK)) {
                fail_msg("group %u: the index holds a wrong state behind block %u", g, node->depth);
            }
            for (uint32_t i = 0; i < WORLD_PAGE && !x->recurrent[g] && node->pages[g] != KV_PAGE_NONE; i++) {
                if (!row_visit(x->pools[g], g, node->pages[g], i, stamps[i], ROW_CHECK)) {
                    fail_msg("group %u: the index holds a wrong row, block %u, row %u", g, node->depth, i);
                }
            }
        }
    }
}

static void count_holders(const world_model *m, uint32_t g, const world_sequence *all, size_t n, uint32_t *refs)
{
    for (size_t i = 0; i < n; i++) {
        for (uint32_t block = 0; all[i].model == m && block < all[i].pages.tables[g].n_pages; block++) {
            uint32_t page = pager_page(&all[i].pages, g, block);
            if (page != KV_PAGE_NONE) {
                refs[page]++;
            }
        }
        const pager_table *t = &all[i].pages.tables[g];
        for (uint32_t k = 0; all[i].model == m && t->states && k <= t->n_marked; k++) {
            if (t->states[k] != KV_PAGE_NONE) {
                refs[t->states[k]]++;
            }
        }
    }
    for (const kv_node *node = m->cache.index.oldest; node; node = node->newer) {
        if (node->pages[g] != KV_PAGE_NONE) {
            refs[node->pages[g]]++;
        }
    }
}

static void check_alone(const world_model *m, uint32_t g, const uint32_t *refs)
{
    uint32_t n_alone = 0;
    for (const kv_node *node = m->cache.index.oldest; node; node = node->newer) {
        n_alone += node->pages[g] != KV_PAGE_NONE && refs[node->pages[g]] == 1;
    }
    assert_int_equal(m->pools[g]->n_alone, n_alone);
}

static void check_pool(const kv_pool *pool, uint32_t refs[WORLD_PAGES_MAX])
{
    uint32_t n_used = 0;
    for (uint32_t page = 0; page < pool->n_touched; page++) {
        if (pool->refs[page] != refs[page]) {
            fail_msg("page %u: %u references counted, %u held", page, pool->refs[page], refs[page]);
        }
        n_used += refs[page] > 0;
    }
    assert_int_equal(pool->n_used, n_used);
    assert_int_equal(pool->n_free, pool->n_touched - n_used);
    for (uint32_t k = 0; k < pool->n_free; k++) {
        assert_true(pool->free_list[k] < pool->n_touched);
        assert_int_equal(refs[pool->free_list[k]]++, 0); /* else in use, or free twice */
    }
}

void world_check_pages(const world *w, const world_sequence *all, size_t n)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < w->n_models; i++) {
        const world_model *m = &w->models[i];
        for (uint32_t g = 0; g < m->layers->n_kv_groups; g++) {
            uint32_t refs[WORLD_PAGES_MAX] = {0};
            assert_true(m->pools[g]->n_touched <= WORLD_PAGES_MAX);
            count_holders(m, g, all, n, refs);
            check_alone(m, g, refs);
            check_pool(m->pools[g], refs);
            bytes += (uint64_t)m->pools[g]->n_used * m->pools[g]->layout.page_bytes;
        }
    }
    assert_int_equal(w->arena.bytes_used, bytes);
    assert_true(bytes <= w->arena.bytes_budget);
}

/* ---- sequences --------------------------------------------------------------------------------------------------- */

void sequence_init(world *w, world_sequence *s, uint32_t model)
{
    memset(s, 0, sizeof *s);
    s->model = &w->models[model];
    pager_init(&s->pages, s->model->layers, s->model->pools);
}

void sequence_close(world_sequence *s)
{
    kv_cache_release(&s->model->cache, &s->node, 0);
    pager_close(&s->pages);
}

kv_miss sequence_resume(world *w, world_sequence *s)
{
    kv_miss miss;
    s->n_computed = kv_cache_attach(&s->model->cache, &s->pages, s->tokens, s->n_tokens, s->n_computed, &s->node,
                                    w->now_ms, &miss);
    return miss;
}

kv_miss sequence_append(world *w, world_sequence *s, const int32_t *tokens, size_t n)
{
    assert_true(n <= WORLD_TOKENS_MAX - s->n_tokens);
    if (n) {
        memcpy(s->tokens + s->n_tokens, tokens, n * sizeof *tokens);
    }
    stamp_tokens(s, s->n_tokens, s->n_tokens + n);
    s->n_tokens += n;
    return sequence_resume(w, s);
}

/* Writes what the step must leave of states; where it may be committed there must be one. */
static void write_states(const world_sequence *s, uint32_t group, size_t n, size_t n_draft)
{
    const uint32_t *states = pager_step_pages(&s->pages, group);
    check_state(s, group, states[0], s->n_computed);
    for (size_t i = 1; i <= n + n_draft; i++) {
        if (states[i] != KV_PAGE_NONE) {
            assert_int_not_equal(states[i], states[0]);
            state_visit(s->model->pools[group], group, states[i], s->stamps[s->n_computed + i - 1], ROW_WRITE);
        } else {
            assert_true(i < n);
        }
    }
}

bool sequence_compute(world *w, world_sequence *s, size_t n, const int32_t *draft, size_t n_draft, size_t n_accepted)
{
    size_t end = s->n_computed + n + n_draft;
    assert_true(end <= WORLD_TOKENS_MAX && n <= s->n_tokens - s->n_computed);
    assert_true(n_draft == 0 || n == s->n_tokens - s->n_computed);
    if (pager_reserve_draft(&s->pages, (uint32_t)s->n_computed, (uint32_t)(s->n_computed + n), (uint32_t)end, NULL) !=
        MLXR_OK) {
        return false;
    }
    if (n_draft) {
        memcpy(s->tokens + s->n_tokens, draft, n_draft * sizeof *draft);
        stamp_tokens(s, s->n_tokens, s->n_tokens + n_draft);
    }
    for (uint32_t g = 0; g < s->pages.n_tables; g++) {
        if (s->pages.tables[g].recurrent) {
            write_states(s, g, n, n_draft);
            continue;
        }
        visit_rows(s, g, s->n_computed, end, ROW_WRITE);
        visit_rows(s, g, world_first_seen(s->model, g, s->n_computed), end, ROW_CHECK);
    }
    s->n_tokens += n_accepted;
    s->n_computed += n + n_accepted;
    kv_cache_register(&s->model->cache, &s->pages, s->tokens, s->n_computed, &s->node, w->now_ms);
    pager_commit(&s->pages, (uint32_t)s->n_computed);
    return true;
}

bool sequence_fork(world_sequence *to, const world_sequence *from)
{
    pager pages;
    if (pager_fork(&pages, &from->pages, NULL) != MLXR_OK) {
        return false;
    }
    *to = *from;
    to->pages = pages;
    if (to->node) {
        prefix_index_pin(to->node);
    }
    return true;
}

void sequence_truncate(world_sequence *s, size_t n_tokens)
{
    s->n_tokens = n_tokens;
    if (n_tokens < s->n_computed) {
        s->n_computed = pager_truncate(&s->pages, (uint32_t)n_tokens);
        kv_cache_release(&s->model->cache, &s->node, s->n_computed);
    }
}

void sequence_release(world_sequence *s)
{
    kv_cache_release(&s->model->cache, &s->node, 0);
    pager_truncate(&s->pages, 0);
    s->n_computed = 0;
}
