/*
 * The KV cache against a simple model of it: random operations on sequences of several models that share one budget and
 * one directory; after each, every count, list and mapping is what the model says, every visible row is right, and what
 * the prefix cache found is what there was to be found. With MLXR_SOAK set there are millions of operations.
 * Owner: the test program. Lifetime: the process.
 *
 * The model knows for each sequence which blocks are mapped (from the windows' definition), recounts references from
 * all holders, and predicts what a prompt finds by looking at every node and at every file's bytes. Which cached block
 * an eviction picks is not predicted but judged: by the documented order.
 */
#include <inttypes.h>

#include "runtime/kv/store_file.h"
#include "support/kv_disk.h"
#include "support/kv_world.h"
#include "support/test.h"

enum { SEQUENCES = 8, BLOCKS_MAX = WORLD_TOKENS_MAX / WORLD_PAGE + 1, NODES_MAX = 2048, DRAFT_MAX = 6 };

typedef struct setup { /* one life of a world */
    const char *name;
    const plan *plans[WORLD_MODELS_MAX];
    uint32_t n_models;
    uint64_t budget_bytes, disk_bytes; /* disk_bytes 0: no store */
} setup;

static const setup setups[] = {
    {"one model, little memory", {&world_mixed}, 1, 40 * 256, 60000},
    {"memory only", {&world_mixed, &world_two_windows}, 2, 100 * 256, 0},
    {"two models", {&world_mixed, &world_full}, 2, 120 * 256, 200000},
    {"only windows", {&world_window}, 1, 60 * 256, 100000},
    {"three models, little disk", {&world_two_windows, &world_window, &world_full}, 3, 160 * 256, 30000},
    {"plenty of all", {&world_two_windows, &world_mixed}, 2, 1000 * 256, 4000000},
    {"chunks, little memory", {&world_chunks}, 1, 50 * 256, 60000},
    {"chunks and windows", {&world_chunks, &world_short_chunks, &world_mixed}, 3, 200 * 256, 400000},
    {"recurrent, little memory", {&world_full_states}, 1, 24 * 256, 60000},
    {"nothing but states", {&world_states}, 1, 6 * 256, 30000},
    {"recurrent and others", {&world_mixed_states, &world_mixed, &world_states}, 3, 160 * 256, 200000},
    {"recurrent, plenty", {&world_mixed_states, &world_full_states}, 2, 1000 * 256, 4000000},
};

typedef struct mapped { /* the model of a sequence */
    bool at[KV_GROUPS_MAX][BLOCKS_MAX];
} mapped;

typedef struct seen_node {
    kv_hash hash, parent;
    uint64_t used_at_ms;
    uint32_t model, position, n_children, n_hits, groups;
    bool removable;
} seen_node;

typedef struct seen_index {
    seen_node nodes[NODES_MAX];
    size_t n;
    uint16_t slots[2 * NODES_MAX]; /* nodes by hash: 1 + their number; 0: empty */
} seen_index;

typedef struct counts {
    uint64_t ops, rows, found_exactly, found_in_part, tokens_found, full, forks, drafts, truncations, evictions,
        evicted;
    uint64_t restarts, power_cuts, damaged, disk_hits, disk_rejected, disk_written, pages_moved;
} counts;

typedef struct bench {
    const setup *how;
    world w;
    kv_disk *disk;
    uint64_t seed, now_base;
    world_sequence all[SEQUENCES];
    mapped model[SEQUENCES];
    seen_index looks[2], *before, *now; /* the operation */
    counts n;
} bench;

static uint64_t draw(bench *b, uint64_t n)
{
    return test_random(&b->seed) % n;
}

/* ---- what is there ----------------------------------------------------------------------------------------------- */

static uint32_t groups_of(const prefix_index *x, const kv_node *node)
{
    uint32_t groups = 0;
    for (uint32_t g = 0; node && g < x->n_groups; g++) {
        groups |= (uint32_t)(node->pages[g] != KV_PAGE_NONE) << g;
    }
    return groups;
}

static bool removable(const prefix_index *x, const kv_node *node)
{
    bool alone = node->n_children == 0 && node->n_users == 0;
    for (uint32_t g = 0; g < x->n_groups; g++) {
        alone = alone && (node->pages[g] == KV_PAGE_NONE || x->pools[g]->refs[node->pages[g]] == 1);
    }
    return alone;
}

static size_t slot_of(kv_hash hash)
{
    return (hash.low >> 20) % (2 * NODES_MAX);
}

static void look_at_index(const bench *b, seen_index *out)
{
    out->n = 0;
    memset(out->slots, 0, sizeof out->slots);
    for (uint32_t m = 0; m < b->w.n_models; m++) {
        const prefix_index *x = &b->w.models[m].cache.index;
        uint32_t position = 0;
        for (const kv_node *node = x->oldest; node; node = node->newer) {
            assert_true(out->n < NODES_MAX);
            size_t at = slot_of(node->hash);
            while (out->slots[at]) {
                at = (at + 1) % (2 * NODES_MAX);
            }
            out->slots[at] = (uint16_t)(out->n + 1);
            out->nodes[out->n++] = (seen_node){.hash = node->hash,
                                               .parent = node->parent ? node->parent->hash : (kv_hash){0},
                                               .used_at_ms = node->used_at_ms,
                                               .model = m,
                                               .position = position++,
                                               .n_children = node->n_children,
                                               .n_hits = node->n_hits,
                                               .groups = groups_of(x, node),
                                               .removable = removable(x, node)};
        }
    }
}

static bool same_hash(kv_hash a, kv_hash b)
{
    return a.low == b.low && a.high == b.high;
}

static const seen_node *find_seen(const seen_index *in, uint32_t model, kv_hash hash)
{
    for (size_t at = slot_of(hash); in->slots[at]; at = (at + 1) % (2 * NODES_MAX)) {
        const seen_node *node = &in->nodes[in->slots[at] - 1];
        if (node->model == model && same_hash(node->hash, hash)) {
            return node;
        }
    }
    return NULL;
}

/* The pages that a whole file of the block tokens[n_tokens − page …] has on disk, by its bytes; *torn: there is one
 * that fails its checks. */
static uint32_t groups_on_disk(const bench *b, const world_model *m, kv_hash hash, const int32_t *tokens,
                               uint32_t n_tokens, bool *torn)
{
    char name[96];
    size_t n = 0;
    kv_hash f = m->cache.fingerprint;
    if (!b->disk) {
        return 0;
    }
    snprintf(name, sizeof name, "%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "%016" PRIx64 ".kv", f.high, f.low,
             hash.high, hash.low);
    const uint8_t *file = kv_disk_file(b->disk, name, &n);
    store_block expected = {.fingerprint = f,
                            .hash = hash,
                            .n_groups = m->layers->n_kv_groups,
                            .page_tokens = WORLD_PAGE,
                            .tokens = tokens,
                            .n_tokens = n_tokens};
    uint32_t groups = 0;
    for (uint32_t g = 0; g < expected.n_groups; g++) {
        expected.layouts[g] = m->pools[g]->layout;
    }
    if (file && store_file_check(file, n, &expected)) {
        for (uint32_t g = 0; g < expected.n_groups; g++) {
            groups |= (uint32_t)expected.present[g] << g;
        }
    }
    *torn = *torn || (file && !groups);
    return groups;
}

static bool needed(const world_model *m, uint32_t group, size_t block, size_t next)
{
    return m->layers->kv_groups[group].state_width ? (block + 1) * WORLD_PAGE == next
                                                   : (block + 1) * WORLD_PAGE > world_first_seen(m, group, next);
}

typedef struct forecast {
    size_t n_computed;   /* what there is to be found */
    uint64_t load_bytes; /* to be read from disk for it */
    bool torn;           /* a damaged file is in the way */
} forecast;

/* The longest prefix of a sequence that nodes and files together can continue. */
static forecast look_ahead(const bench *b, const world_sequence *s)
{
    const world_model *m = s->model;
    const prefix_index *x = &m->cache.index;
    size_t first = s->n_computed / WORLD_PAGE, n_wanted = s->n_tokens ? (s->n_tokens - 1) / WORLD_PAGE : 0, n_known;
    uint32_t in_memory[BLOCKS_MAX], on_disk[BLOCKS_MAX];
    forecast f = {.n_computed = s->n_computed};
    const kv_node *node = s->node;
    kv_hash hash = node ? node->hash : x->salt;
    if (s->n_computed % WORLD_PAGE) {
        return f;
    }
    for (n_known = first; n_known < n_wanted; n_known++) { /* a block that no group needs may be unknown */
        const int32_t *own = s->tokens + n_known * WORLD_PAGE;
        node = node || n_known == 0 ? prefix_index_find(x, node, own) : NULL;
        hash = prefix_index_hash(x, n_known ? &hash : NULL, own);
        in_memory[n_known] = groups_of(x, node);
        on_disk[n_known] = groups_on_disk(b, m, hash, s->tokens, (uint32_t)((n_known + 1) * WORLD_PAGE), &f.torn);
    }
    for (size_t end = n_known; end > first; end--) {
        bool whole = true;
        uint64_t load_bytes = 0;
        for (size_t block = first; block < end; block++) {
            for (uint32_t g = 0; g < x->n_groups; g++) {
                if (needed(m, g, block, end * WORLD_PAGE) && !(in_memory[block] >> g & 1)) {
                    whole = whole && (on_disk[block] >> g & 1);
                    load_bytes += x->pools[g]->layout.page_bytes;
                }
            }
        }
        if (whole) {
            f.n_computed = end * WORLD_PAGE;
            f.load_bytes = load_bytes;
            break;
        }
    }
    return f;
}

/* ---- invariants, after each operation ---------------------------------------------------------------------------- */

static uint32_t n_pages(size_t n_tokens)
{
    return (uint32_t)((n_tokens + WORLD_PAGE - 1) / WORLD_PAGE);
}

/* The tree, its counts, its order of use, and who builds on it: children before their parents, each counted at the one
 * it names. */
static void check_index(const bench *b, const world_model *m, bool hashes)
{
    static uint32_t n_children[NODES_MAX]; /* seen so far, of the node with this number in `now` */
    const prefix_index *x = &m->cache.index;
    uint32_t which = (uint32_t)(m - b->w.models);
    size_t n = 0;
    memset(n_children, 0, b->now->n * sizeof *n_children);
    for (const kv_node *node = x->oldest; node; node = node->newer, n++) {
        const seen_node *own = find_seen(b->now, which, node->hash);
        const seen_node *parent = node->parent ? find_seen(b->now, which, node->parent->hash) : NULL;
        uint32_t n_users = 0;
        for (int i = 0; i < SEQUENCES; i++) {
            n_users += b->all[i].node == node;
        }
        assert_int_equal(node->n_users, n_users);
        assert_int_equal(node->n_children, n_children[own - b->now->nodes]); /* all of them are older */
        assert_int_equal(node->depth, node->parent ? node->parent->depth + 1 : 0);
        if (node->parent) {
            assert_true(parent && parent->position > own->position);
            n_children[parent - b->now->nodes]++;
        }
        assert_true(node->newer ? node->newer->older == node && node->newer->used_at_ms >= node->used_at_ms
                                : x->newest == node);
        for (uint32_t g = 0; g < x->n_groups; g++) {
            assert_true(x->windows[g] || x->recurrent[g] || node->pages[g] != KV_PAGE_NONE);
        }
        if (hashes) {
            assert_ptr_equal(prefix_index_find(x, node->parent, node->tokens), node);
        }
    }
    assert_int_equal(x->n_nodes, n);
}

/* A sequence builds on the node of its last whole block, holds the very pages of that prefix, and maps what its model
 * says. */
static void check_sequence(const bench *b, int which)
{
    const world_sequence *s = &b->all[which];
    size_t n_blocks = s->n_computed / WORLD_PAGE;
    assert_int_equal(s->node ? s->node->depth + 1 : 0, n_blocks);
    for (const kv_node *node = s->node; node; node = node->parent) {
        assert_memory_equal(node->tokens, s->tokens + (size_t)node->depth * WORLD_PAGE, sizeof(int32_t) * WORLD_PAGE);
        for (uint32_t g = 0; g < s->pages.n_tables; g++) {
            uint32_t page = pager_page(&s->pages, g, node->depth);
            assert_true(page == KV_PAGE_NONE || node->pages[g] == KV_PAGE_NONE || page == node->pages[g]);
        }
    }
    for (uint32_t g = 0; g < s->pages.n_tables; g++) {
        if (s->pages.tables[g].recurrent) { /* which checkpoints it has depends on the room there was */
            assert_int_equal(s->pages.tables[g].state_at, s->n_computed);
            continue;
        }
        for (uint32_t block = 0; block < n_pages(s->n_computed); block++) {
            if ((pager_page(&s->pages, g, block) != KV_PAGE_NONE) != b->model[which].at[g][block]) {
                fail_msg("sequence %d, %zu computed: block %u of group %u is %smapped", which, s->n_computed, block, g,
                         b->model[which].at[g][block] ? "un" : "");
            }
        }
    }
}

/* The index gained nothing but blocks of this sequence, and lost nothing but blocks that nobody used. */
static void check_changes(bench *b, const world_sequence *s, bool may_evict)
{
    look_at_index(b, b->now);
    for (size_t i = 0; i < b->now->n; i++) {
        const seen_node *is = &b->now->nodes[i], *was = find_seen(b->before, is->model, is->hash);
        if (was && !(is->groups & ~was->groups)) {
            continue;
        }
        assert_ptr_equal(s->model, &b->w.models[is->model]);
        const kv_node *node = s->model->cache.index.oldest;
        while (!same_hash(node->hash, is->hash)) {
            node = node->newer;
        }
        for (; node; node = node->parent) {
            assert_true((node->depth + 1) * WORLD_PAGE <= s->n_tokens);
            assert_memory_equal(node->tokens, s->tokens + (size_t)node->depth * WORLD_PAGE,
                                sizeof(int32_t) * WORLD_PAGE);
        }
    }
    for (size_t i = 0; i < b->before->n; i++) {
        const seen_node *is = find_seen(b->now, b->before->nodes[i].model, b->before->nodes[i].hash);
        uint32_t lost = b->before->nodes[i].groups & ~(is ? is->groups : 0);
        const prefix_index *x = &b->w.models[b->before->nodes[i].model].cache.index;
        bool thinned = is && is->n_children <= 1 && &s->model->cache.index == x;
        for (uint32_t g = 0; g < x->n_groups && thinned; g++) { /* checkpoints make way for newer ones */
            lost &= ~((uint32_t)x->recurrent[g] << g);
        }
        if (lost || !is) {
            assert_true(may_evict);
            b->n.evicted++;
        }
    }
}

static void check_everything(bench *b, int which)
{
    world_check_pages(&b->w, b->all, SEQUENCES);
    for (int i = 0; i < SEQUENCES; i++) {
        check_sequence(b, i);
    }
    bool deep = b->n.ops % 64 == 0;
    for (uint32_t m = 0; m < b->w.n_models; m++) {
        if (deep || m == (uint32_t)(b->all[which].model - b->w.models)) {
            check_index(b, &b->w.models[m], deep);
        }
        if (deep) {
            world_check_index_rows(&b->w.models[m]);
        }
    }
    for (int i = 0; i < SEQUENCES; i++) {
        if (deep || i == which) {
            sequence_check_rows(&b->all[i]);
        }
    }
    if (b->disk) {
        assert_true(kv_disk_stats_get(b->disk).bytes_max <= b->how->disk_bytes);
    }
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

/* The model of having computed up to n: what lies behind a window is unmapped, all else is there. */
static void model_advance(bench *b, int which, size_t before, size_t n)
{
    const world_sequence *s = &b->all[which];
    for (uint32_t g = 0; g < s->pages.n_tables; g++) {
        for (uint32_t block = n_pages(before); block < n_pages(n); block++) {
            b->model[which].at[g][block] = true;
        }
        for (size_t block = 0; block < world_first_seen(s->model, g, n) / WORLD_PAGE; block++) {
            b->model[which].at[g][block] = false;
        }
    }
}

/* The nearest position up to n at which a sequence holds a state. */
static size_t last_state(const world_sequence *s, size_t n)
{
    for (; n > 0 && n != s->n_computed; n--) {
        bool all = n % WORLD_PAGE == 0;
        for (uint32_t g = 0; g < s->pages.n_tables && all; g++) {
            all = pager_page(&s->pages, g, (uint32_t)(n / WORLD_PAGE - 1)) != KV_PAGE_NONE ||
                  !s->pages.tables[g].recurrent;
        }
        if (all) {
            break;
        }
    }
    return n;
}

/* What a truncation leaves: everything up to there, back to a state where there are any, or nothing where a window has
 * moved past it. */
static size_t model_truncate(const bench *b, int which, size_t n)
{
    const world_sequence *s = &b->all[which];
    bool whole = true, recurrent = false;
    for (uint32_t g = 0; g < s->pages.n_tables; g++) {
        recurrent = recurrent || s->pages.tables[g].recurrent;
    }
    n = recurrent ? last_state(s, n) : n;
    for (uint32_t g = 0; g < s->pages.n_tables; g++) {
        size_t first = s->pages.tables[g].recurrent ? n_pages(n) : world_first_seen(s->model, g, n) / WORLD_PAGE;
        for (size_t block = first; block < n_pages(n); block++) {
            whole = whole && b->model[which].at[g][block];
        }
    }
    return whole ? n : 0;
}

static void settle(bench *b)
{
    if (b->w.store) {
        kv_store_flush(b->w.store);
    }
}

/* A prompt's continuation, or a pre-empted sequence's return. */
static void find_prefix(bench *b, int which, const int32_t *tokens, size_t n)
{
    world_sequence *s = &b->all[which];
    world_sequence asked = *s;
    size_t before = s->n_computed;
    settle(b);
    if (n) {
        memcpy(asked.tokens + asked.n_tokens, tokens, n * sizeof *tokens);
    }
    asked.n_tokens += n;
    forecast f = look_ahead(b, &asked);
    uint64_t room = b->w.arena.bytes_budget - b->w.arena.bytes_used;
    kv_miss miss = sequence_append(&b->w, s, tokens, n);
    bool exact = !f.torn && f.load_bytes <= room;
    if (exact ? s->n_computed != f.n_computed : s->n_computed > f.n_computed) {
        fail_msg("%s: found %zu of %zu tokens (%zu before); %zu were there", b->how->name, s->n_computed, s->n_tokens,
                 before, f.n_computed);
    }
    assert_true(s->n_computed >= before);
    assert_true(miss != KV_MISS_REJECTED || f.torn);
    *(exact ? &b->n.found_exactly : &b->n.found_in_part) += 1;
    b->n.tokens_found += s->n_computed - before;
    if (s->n_computed > before) {
        model_advance(b, which, before, s->n_computed);
    }
    check_changes(b, s, !exact || f.load_bytes > 0);
}

static void op_append(bench *b, int which)
{
    int32_t tokens[24];
    size_t n = 1 + draw(b, 24);
    for (size_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)(draw(b, 10) == 0 ? draw(b, 3) : 0);
    }
    if (b->all[which].n_tokens + n <= WORLD_TOKENS_MAX - DRAFT_MAX) {
        find_prefix(b, which, tokens, n);
    }
}

static void op_compute(bench *b, int which)
{
    world_sequence *s = &b->all[which];
    size_t pending = s->n_tokens - s->n_computed, before = s->n_computed, n = 1 + draw(b, 14);
    int32_t draft[DRAFT_MAX];
    size_t n_draft = 0;
    n = n < pending ? n : pending;
    if (n == 0) {
        return;
    }
    if (n == pending && draw(b, 3) == 0 && s->n_tokens + DRAFT_MAX <= WORLD_TOKENS_MAX) {
        n_draft = draw(b, DRAFT_MAX + 1);
        b->n.drafts += n_draft > 0;
    }
    for (size_t i = 0; i < n_draft; i++) {
        draft[i] = (int32_t)draw(b, 3);
    }
    size_t n_accepted = n_draft ? draw(b, n_draft + 1) : 0;
    uint64_t used = b->w.arena.bytes_used, most = 0;
    for (uint32_t g = 0; g < s->pages.n_tables; g++) { /* new pages, and copies of shared ones */
        most += (uint64_t)(n_pages(before + n + n_draft) - before / WORLD_PAGE + n_pages(DRAFT_MAX + 14) + n_draft) *
                s->pages.tables[g].pool->layout.page_bytes;
    }
    if (sequence_compute(&b->w, s, n, draft, n_draft, n_accepted)) {
        b->n.rows += s->n_computed - before;
        assert_int_equal(s->n_computed, before + n + n_accepted);
        model_advance(b, which, before, s->n_computed);
    } else { /* then nothing that could have gone is left */
        b->n.full++;
        assert_int_equal(s->n_computed, before);
        look_at_index(b, b->now);
        for (size_t i = 0; i < b->now->n; i++) {
            assert_false(b->now->nodes[i].removable);
        }
    }
    check_changes(b, s, used + most > b->w.arena.bytes_budget);
}

static void op_fork(bench *b, int from)
{
    int to = (int)draw(b, SEQUENCES);
    if (to != from) {
        sequence_close(&b->all[to]);
        assert_true(sequence_fork(&b->all[to], &b->all[from]));
        b->model[to] = b->model[from];
        b->n.forks++;
    }
    check_changes(b, &b->all[from], false);
}

static void op_truncate(bench *b, int which)
{
    world_sequence *s = &b->all[which];
    size_t length = s->n_tokens ? draw(b, s->n_tokens) : 0;
    size_t expected = length < s->n_computed ? model_truncate(b, which, length) : s->n_computed;
    sequence_truncate(s, length);
    assert_int_equal(s->n_tokens, length);
    assert_int_equal(s->n_computed, expected);
    if (expected == 0) {
        memset(&b->model[which], 0, sizeof b->model[which]);
    }
    b->n.truncations++;
    check_changes(b, s, false);
}

/* A cancelled or pre-empted sequence holds nothing. */
static void op_release(bench *b, int which)
{
    world_sequence *s = &b->all[which];
    sequence_release(s);
    memset(&b->model[which], 0, sizeof b->model[which]);
    assert_null(s->node);
    for (uint32_t g = 0; g < s->pages.n_tables; g++) {
        assert_int_equal(s->pages.tables[g].n_pages, 0);
    }
    check_changes(b, s, false);
}

static void op_close(bench *b, int which)
{
    sequence_close(&b->all[which]);
    sequence_init(&b->w, &b->all[which], (uint32_t)draw(b, b->w.n_models));
    memset(&b->model[which], 0, sizeof b->model[which]);
    check_changes(b, &b->all[which], false);
}

static int class_of(const bench *b, const seen_node *node)
{
    return b->w.now_ms - node->used_at_ms >= b->w.policy.working_set_ms ? 0 : node->n_hits == 0 ? 1 : 2;
}

/* What went was of an earlier class than, or used before, everything that could have gone and stayed. */
static void check_order(const bench *b)
{
    for (size_t i = 0; i < b->now->n; i++) {
        const seen_node *stayed = find_seen(b->before, b->now->nodes[i].model, b->now->nodes[i].hash);
        if (!stayed || !stayed->removable) {
            continue;
        }
        for (size_t k = 0; k < b->before->n; k++) {
            const seen_node *went = &b->before->nodes[k];
            if (find_seen(b->now, went->model, went->hash)) {
                continue;
            }
            int a = class_of(b, went), c = class_of(b, stayed);
            bool older = went->used_at_ms < stayed->used_at_ms ||
                         (went->used_at_ms == stayed->used_at_ms &&
                          (went->model != stayed->model || went->position < stayed->position));
            if (a > c || (a == c && !older)) {
                fail_msg("a block of class %d used at %" PRIu64 " went before one of class %d used at %" PRIu64, a,
                         went->used_at_ms, c, stayed->used_at_ms);
            }
        }
    }
}

static void op_evict(bench *b, int which)
{
    uint64_t target = draw(b, 4) == 0 ? 0 : draw(b, b->w.arena.bytes_used + 1);
    world_evict(&b->w, target);
    look_at_index(b, b->now);
    check_order(b);
    for (size_t i = 0; i < b->now->n && b->w.arena.bytes_used > target; i++) {
        assert_false(b->now->nodes[i].removable);
    }
    b->n.evictions++;
    check_changes(b, &b->all[which], true);
}

/* ---- lives of a world -------------------------------------------------------------------------------------------- */

static void open_life(bench *b)
{
    mlxr_error error;
    kv_store *store = NULL;
    if (b->disk) {
        kv_store_io io = kv_disk_io(b->disk);
        kv_store_options options = {.dir = "/disk", .bytes_budget = b->how->disk_bytes, .io = &io};
        assert_ok(kv_store_open(&store, &options, &error), &error);
        assert_int_equal(kv_disk_stats_get(b->disk).n_temporary, 0);
        assert_true(kv_disk_stats_get(b->disk).bytes <= b->how->disk_bytes);
        kv_disk_watch(b->disk);
    }
    uint64_t now_ms = b->w.now_ms;
    world_open(&b->w, b->how->plans, b->how->n_models, 100, b->how->budget_bytes, store);
    b->w.now_ms = now_ms;
    for (int i = 0; i < SEQUENCES; i++) {
        sequence_init(&b->w, &b->all[i], (uint32_t)i % b->w.n_models);
    }
    memset(b->model, 0, sizeof b->model);
}

static void close_life(bench *b)
{
    for (int i = 0; i < SEQUENCES; i++) {
        sequence_close(&b->all[i]);
    }
    if (b->w.store) {
        kv_store_flush(b->w.store);
        kv_store_stats stats = kv_store_stats_get(b->w.store);
        b->n.disk_hits += stats.n_hits;
        b->n.disk_rejected += stats.n_rejected;
        b->n.disk_written += stats.n_written;
        kv_store_close(&b->w.store);
    }
    world_close(&b->w);
}

/* A clean end with everything saved, one without, or a power cut in the middle of writing. */
static void op_restart(bench *b)
{
    uint64_t how = draw(b, 3);
    if (b->disk && how == 0) {
        kv_disk_cut_power(b->disk, 1 + draw(b, 40));
        b->n.power_cuts++;
    }
    if (how < 2) {
        world_save_all(&b->w);
    }
    close_life(b);
    if (b->disk && how == 0) {
        kv_disk_restart(b->disk, test_random(&b->seed));
    }
    b->n.restarts++;
    open_life(b);
}

/* Everything that memory holds can be found again from disk, if it fits. */
static void op_persist(bench *b, int which)
{
    world_save_all(&b->w);
    settle(b);
    if (b->w.store && b->how->disk_bytes >= 4000000) {
        for (uint32_t m = 0; m < b->w.n_models; m++) {
            const prefix_index *x = &b->w.models[m].cache.index;
            for (const kv_node *node = x->oldest; node; node = node->newer) {
                uint32_t groups = groups_of(x, node);
                kv_hash name = b->w.models[m].cache.fingerprint;
                assert_int_equal(kv_store_groups(b->w.store, name, node->hash, x->n_groups) & groups, groups);
            }
        }
    }
    check_changes(b, &b->all[which], false);
}

static void op_damage(bench *b, int which)
{
    settle(b);
    b->n.damaged += b->disk && kv_disk_damage(b->disk, test_random(&b->seed));
    if (b->disk) {
        kv_disk_watch(b->disk);
    }
    check_changes(b, &b->all[which], false);
}

static void one_operation(bench *b)
{
    int which = (int)draw(b, SEQUENCES);
    uint64_t kind = draw(b, 1000);
    b->w.now_ms += draw(b, 50);
    if (kind < 270) {
        op_append(b, which);
    } else if (kind < 760) {
        op_compute(b, which);
    } else if (kind < 810) {
        op_fork(b, which);
    } else if (kind < 870) {
        op_truncate(b, which);
    } else if (kind < 910) {
        op_close(b, which);
    } else if (kind < 930) {
        op_release(b, which);
    } else if (kind < 950) {
        find_prefix(b, which, NULL, 0);
    } else if (kind < 985) {
        op_evict(b, which);
    } else if (kind < 995) {
        op_persist(b, which);
    } else if (kind < 997) {
        op_damage(b, which);
    } else {
        op_restart(b);
    }
    b->n.ops++;
    look_at_index(b, b->now);
    check_everything(b, which);
    seen_index *last = b->before;
    b->before = b->now;
    b->now = last;
}

static void run(const setup *how, uint64_t seed, uint64_t n_ops, counts *total)
{
    static bench b;
    memset(&b, 0, sizeof b);
    b.how = how;
    b.before = &b.looks[0];
    b.now = &b.looks[1];
    b.seed = seed;
    b.disk = how->disk_bytes ? kv_disk_open() : NULL;
    open_life(&b);
    look_at_index(&b, b.before);
    for (uint64_t i = 0; i < n_ops; i++) {
        one_operation(&b);
    }
    close_life(&b);
    if (b.disk) {
        kv_disk_close(&b.disk);
    }
    print_message("%s: %" PRIu64 " rows computed, %" PRIu64 " tokens found (%" PRIu64 " prompts exactly, %" PRIu64
                  " within bounds), full %" PRIu64 " times, %" PRIu64 " blocks lost pages; disk: %" PRIu64
                  " written, %" PRIu64 " hits, %" PRIu64 " of %" PRIu64 " damaged files met, %" PRIu64 " power cuts\n",
                  how->name, b.n.rows, b.n.tokens_found, b.n.found_exactly, b.n.found_in_part, b.n.full, b.n.evicted,
                  b.n.disk_written, b.n.disk_hits, b.n.disk_rejected, b.n.damaged, b.n.power_cuts);
    uint64_t *sum = (uint64_t *)total, *own = (uint64_t *)&b.n;
    for (size_t i = 0; i < sizeof b.n / sizeof *own; i++) {
        sum[i] += own[i];
    }
}

static void random_operations_agree_with_a_simple_model(void **state)
{
    (void)state;
    counts total = {0};
    const char *ops = getenv("MLXR_KV_OPS"); /* each setup's; for looking into a failure */
    uint64_t n_setups = sizeof setups / sizeof *setups;
    uint64_t n = ops ? strtoull(ops, NULL, 10) : getenv("MLXR_SOAK") ? 400000 : 40000;
    for (uint64_t i = 0; i < n_setups; i++) {
        run(&setups[i], 1000 + i, n, &total);
    }
    assert_int_equal(total.ops, n * n_setups);
    print_message("%" PRIu64 " operations\n", total.ops);
    /* each kind of thing did happen */
    assert_true(total.found_exactly && total.found_in_part && total.tokens_found && total.full && total.forks);
    assert_true(total.drafts && total.truncations && total.evicted && total.restarts && total.power_cuts);
    assert_true(total.damaged && total.disk_hits && total.disk_rejected && total.disk_written);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_simple_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
