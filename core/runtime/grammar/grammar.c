/*
 * Grammar: rules run as an automaton over tokens.
 * Owner: reference-counted. Lifetime: until the last grammar_unref.
 *
 * Invariants
 *   1. Stack 0 is the empty stack: what lies below the root rule.
 *   2. A stack's position is an element of kind BYTES; a state is a sorted list of such stacks and a flag "may end".
 *   3. State 0 is dead, state 1 the start; next[state × n_classes + class] is a state or UNKNOWN.
 */
#include "runtime/grammar/grammar.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define UNKNOWN UINT32_MAX
#define STATES_MAX (1u << 18)
#define STACKS_MAX (1u << 21)
#define GROWN_PART 8u                      /* of these limits: beyond it a grammar is not for further texts */
#define SET_MAX 4096u                      /* stacks in one state: beyond this the grammar is hopelessly ambiguous */
#define MASK_BYTES_MAX ((size_t)128 << 20) /* of kept masks; beyond it they are forgotten and computed again */

typedef struct stack {
    uint32_t position, below;
    uint32_t bucket_next;
} stack;

typedef struct state {
    uint32_t first, n; /* in `members` */
    bool may_end;
    uint32_t bucket_next;
    uint32_t *mask; /* NULL: not computed */
} state;

struct grammar {
    atomic_uint refs;
    pthread_mutex_t lock;
    rules rules;
    const token_trie *trie;
    size_t mask_words;
    uint8_t class_of[256]; /* bytes that every element treats alike */
    uint8_t byte_of[256];  /* a byte of each class */
    uint32_t n_classes;
    stack *stacks;
    uint32_t n_stacks, cap_stacks;
    uint32_t *stack_buckets, n_stack_buckets;
    state *states;
    uint32_t n_states, cap_states;
    uint32_t *state_buckets, n_state_buckets;
    uint32_t *members;
    uint32_t n_members, cap_members;
    uint32_t *next;
    size_t cap_next;
    bool exhausted; /* a limit was met; transitions from then on may be missing */
    size_t mask_bytes;
    uint64_t n_walks;
    /* of the closure under way */
    uint32_t set[SET_MAX], n_set;
    struct {
        uint32_t position, below;
    } work[SET_MAX];
    uint32_t n_work;
    bool set_may_end;
    uint32_t *path; /* [depth_max + 1] states of the walk under way */
};

/* ---- interning -----------------------------------------------------------------------------------------------------
 */

static bool grow(void **array, uint32_t *cap, uint32_t need, size_t size)
{
    if (need <= *cap) {
        return true;
    }
    uint32_t grown_cap = *cap ? *cap * 2 : 64;
    grown_cap = grown_cap < need ? need : grown_cap;
    void *grown = realloc(*array, grown_cap * size);
    if (!grown) {
        return false;
    }
    *array = grown;
    *cap = grown_cap;
    return true;
}

static uint32_t mix(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 32);
}

static bool rehash_stacks(grammar *g)
{
    uint32_t n = g->n_stack_buckets ? g->n_stack_buckets * 2 : 256;
    uint32_t *buckets = malloc(n * sizeof *buckets);
    if (!buckets) {
        return false;
    }
    memset(buckets, 0xff, n * sizeof *buckets);
    for (uint32_t i = 1; i < g->n_stacks; i++) {
        uint32_t b = mix((uint64_t)g->stacks[i].position << 32 | g->stacks[i].below) & (n - 1);
        g->stacks[i].bucket_next = buckets[b];
        buckets[b] = i;
    }
    free(g->stack_buckets);
    g->stack_buckets = buckets;
    g->n_stack_buckets = n;
    return true;
}

static uint32_t intern_stack(grammar *g, uint32_t position, uint32_t below)
{
    if (g->n_stacks >= g->n_stack_buckets && !rehash_stacks(g)) {
        return UNKNOWN;
    }
    uint32_t b = mix((uint64_t)position << 32 | below) & (g->n_stack_buckets - 1);
    for (uint32_t i = g->stack_buckets[b]; i != UNKNOWN; i = g->stacks[i].bucket_next) {
        if (g->stacks[i].position == position && g->stacks[i].below == below) {
            return i;
        }
    }
    if (g->n_stacks >= STACKS_MAX || !grow((void **)&g->stacks, &g->cap_stacks, g->n_stacks + 1, sizeof *g->stacks)) {
        return UNKNOWN;
    }
    g->stacks[g->n_stacks] = (stack){position, below, g->stack_buckets[b]};
    g->stack_buckets[b] = g->n_stacks;
    return g->n_stacks++;
}

static uint32_t hash_set(const uint32_t *set, uint32_t n, bool may_end)
{
    uint64_t h = n * 2 + may_end;
    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ set[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return mix(h);
}

static bool rehash_states(grammar *g)
{
    uint32_t n = g->n_state_buckets ? g->n_state_buckets * 2 : 256;
    uint32_t *buckets = malloc(n * sizeof *buckets);
    if (!buckets) {
        return false;
    }
    memset(buckets, 0xff, n * sizeof *buckets);
    for (uint32_t i = 0; i < g->n_states; i++) {
        uint32_t b = hash_set(g->members + g->states[i].first, g->states[i].n, g->states[i].may_end) & (n - 1);
        g->states[i].bucket_next = buckets[b];
        buckets[b] = i;
    }
    free(g->state_buckets);
    g->state_buckets = buckets;
    g->n_state_buckets = n;
    return true;
}

static bool room_for_state(grammar *g, uint32_t n_set)
{
    size_t need = (size_t)(g->n_states + 1) * g->n_classes;
    if (g->n_states >= STATES_MAX || !grow((void **)&g->states, &g->cap_states, g->n_states + 1, sizeof *g->states) ||
        !grow((void **)&g->members, &g->cap_members, g->n_members + n_set + 1, sizeof *g->members)) {
        return false;
    }
    if (need > g->cap_next) {
        size_t cap = g->cap_next * 2 > need ? g->cap_next * 2 : need;
        uint32_t *next = realloc(g->next, cap * sizeof *next);
        if (!next) {
            return false;
        }
        g->next = next;
        g->cap_next = cap;
    }
    return g->n_states < g->n_state_buckets || rehash_states(g);
}

/* The state whose stacks are in g->set; UNKNOWN where a limit is met. */
static uint32_t intern_state(grammar *g)
{
    for (uint32_t i = 1; i < g->n_set; i++) { /* insertion sort: sets are small */
        uint32_t value = g->set[i], j = i;
        for (; j > 0 && g->set[j - 1] > value; j--) {
            g->set[j] = g->set[j - 1];
        }
        g->set[j] = value;
    }
    if (!room_for_state(g, g->n_set)) {
        return UNKNOWN;
    }
    uint32_t b = hash_set(g->set, g->n_set, g->set_may_end) & (g->n_state_buckets - 1);
    for (uint32_t i = g->state_buckets[b]; i != UNKNOWN; i = g->states[i].bucket_next) {
        const state *s = &g->states[i];
        if (s->n == g->n_set && s->may_end == g->set_may_end &&
            memcmp(g->members + s->first, g->set, g->n_set * sizeof *g->set) == 0) {
            return i;
        }
    }
    g->states[g->n_states] = (state){
        .first = g->n_members, .n = g->n_set, .may_end = g->set_may_end, .bucket_next = g->state_buckets[b]};
    memcpy(g->members + g->n_members, g->set, g->n_set * sizeof *g->set);
    g->n_members += g->n_set;
    memset(g->next + (size_t)g->n_states * g->n_classes, 0xff, g->n_classes * sizeof *g->next);
    g->state_buckets[b] = g->n_states;
    return g->n_states++;
}

/* ---- closure
 * --------------------------------------------------------------------------------------------------------- */

static bool push_work(grammar *g, uint32_t position, uint32_t below)
{
    for (uint32_t i = 0; i < g->n_work; i++) {
        if (g->work[i].position == position && g->work[i].below == below) {
            return true;
        }
    }
    if (g->n_work == SET_MAX) {
        return false;
    }
    g->work[g->n_work].position = position;
    g->work[g->n_work++].below = below;
    return true;
}

static bool add_to_set(grammar *g, uint32_t stack_index)
{
    for (uint32_t i = 0; i < g->n_set; i++) {
        if (g->set[i] == stack_index) {
            return true;
        }
    }
    if (stack_index == UNKNOWN || g->n_set == SET_MAX) {
        return false;
    }
    g->set[g->n_set++] = stack_index;
    return true;
}

/* Follows everything that consumes no byte from g->work into g->set. Items stay in the list, which so also remembers
 * what was seen and ends loops through empty rules. */
static bool close_set(grammar *g)
{
    for (uint32_t i = 0; i < g->n_work; i++) {
        uint32_t position = g->work[i].position, below = g->work[i].below;
        const element *e = &g->rules.elements[position];
        if (e->kind == ELEMENT_BYTES) {
            if (!add_to_set(g, intern_stack(g, position, below))) {
                return false;
            }
        } else if (e->kind == ELEMENT_END) {
            if (below == 0) {
                g->set_may_end = true;
            } else if (!push_work(g, g->stacks[below].position, g->stacks[below].below)) {
                return false;
            }
        } else { /* a rule: return behind it, unless nothing follows there */
            uint32_t back = below;
            if (e[1].kind != ELEMENT_END) {
                back = intern_stack(g, position + 1, below);
            }
            const rule *of = &g->rules.list[e->rule];
            for (uint32_t a = 0; a < of->n_alternatives; a++) {
                if (back == UNKNOWN || !push_work(g, of->alternatives[a], back)) {
                    return false;
                }
            }
        }
    }
    return true;
}

static void begin_set(grammar *g)
{
    g->n_set = g->n_work = 0;
    g->set_may_end = false;
}

/* next[state][class], computed on demand (lock held). */
static uint32_t step_class(grammar *g, uint32_t from, uint32_t class)
{
    size_t at = (size_t)from * g->n_classes + class;
    if (g->next[at] != UNKNOWN) {
        return g->next[at];
    }
    uint8_t byte = g->byte_of[class];
    bool ok = true;
    begin_set(g);
    for (uint32_t i = 0; i < g->states[from].n && ok; i++) {
        const stack s = g->stacks[g->members[g->states[from].first + i]];
        const element *e = &g->rules.elements[s.position];
        if (e->low <= byte && byte <= e->high) {
            ok = push_work(g, s.position + 1, s.below);
        }
    }
    ok = ok && close_set(g);
    uint32_t to = ok ? intern_state(g) : UNKNOWN;
    if (to == UNKNOWN) { /* not remembered: the caller sees `exhausted` */
        g->exhausted = true;
        return GRAMMAR_DEAD;
    }
    g->next[at] = to;
    return to;
}

/* ---- opening
 * ----------------------------------------------------------------------------------------------------------- */

/* Bytes fall into one class where every element contains both or neither. */
static void make_classes(grammar *g)
{
    bool cut[257] = {[0] = true};
    for (uint32_t i = 0; i < g->rules.n_elements; i++) {
        const element *e = &g->rules.elements[i];
        if (e->kind == ELEMENT_BYTES) {
            cut[e->low] = true;
            cut[e->high + 1] = true;
        }
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        if (cut[byte]) {
            g->byte_of[g->n_classes++] = (uint8_t)byte;
        }
        g->class_of[byte] = (uint8_t)(g->n_classes - 1);
    }
}

mlxr_status grammar_open(grammar **out, rules *taken, uint32_t root, const token_trie *trie, mlxr_error *error)
{
    mlxr_status status = rules_check(taken, error);
    grammar *g = status == MLXR_OK ? calloc(1, sizeof *g) : NULL;
    if (!g) {
        rules_close(taken);
        return status != MLXR_OK ? status : error_nomem(error, "grammar", sizeof *g);
    }
    atomic_init(&g->refs, 1);
    pthread_mutex_init(&g->lock, NULL);
    g->rules = *taken;
    g->rules.text = NULL;
    *taken = (rules){0};
    g->trie = trie;
    g->mask_words = (trie->n_vocab + 31) / 32;
    make_classes(g);
    g->path = calloc(trie->depth_max + 2u, sizeof *g->path);
    bool ok = g->path && grow((void **)&g->stacks, &g->cap_stacks, 1, sizeof *g->stacks);
    if (ok) {
        g->stacks[0] = (stack){UNKNOWN, UNKNOWN, UNKNOWN};
        g->n_stacks = 1;
        begin_set(g);
        ok = intern_state(g) == GRAMMAR_DEAD; /* the empty set */
    }
    if (ok) {
        begin_set(g);
        for (uint32_t a = 0; a < g->rules.list[root].n_alternatives && ok; a++) {
            ok = push_work(g, g->rules.list[root].alternatives[a], 0);
        }
        ok = ok && close_set(g) && intern_state(g) == GRAMMAR_START;
    }
    if (!ok) {
        grammar_unref(&g);
        return error_set(error, MLXR_LIMIT, "grammar: its start is too complex, or produces nothing at all");
    }
    *out = g;
    return MLXR_OK;
}

grammar *grammar_ref(grammar *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void grammar_unref(grammar **pointer)
{
    grammar *g = *pointer;
    *pointer = NULL;
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1) {
        return;
    }
    for (uint32_t i = 0; i < g->n_states; i++) {
        free(g->states[i].mask);
    }
    pthread_mutex_destroy(&g->lock);
    rules_close(&g->rules);
    free(g->stacks);
    free(g->stack_buckets);
    free(g->states);
    free(g->state_buckets);
    free(g->members);
    free(g->next);
    free(g->path);
    free(g);
}

/* ---- running
 * ------------------------------------------------------------------------------------------------------------- */

static uint32_t advance_bytes(grammar *g, uint32_t from, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n && from != GRAMMAR_DEAD; i++) {
        from = step_class(g, from, g->class_of[(uint8_t)bytes[i]]);
    }
    return from;
}

uint32_t grammar_advance_bytes(grammar *g, uint32_t from, const char *bytes, size_t n)
{
    pthread_mutex_lock(&g->lock);
    uint32_t to = advance_bytes(g, from, bytes, n);
    pthread_mutex_unlock(&g->lock);
    return to;
}

uint32_t grammar_advance(grammar *g, uint32_t from, int32_t token)
{
    for (uint32_t i = 0; i < g->trie->n_ends; i++) {
        if (g->trie->ends[i] == token) {
            return grammar_may_end(g, from) ? from : GRAMMAR_DEAD;
        }
    }
    token_text text = tokenizer_piece(g->trie->tokenizer, token);
    return text.n ? grammar_advance_bytes(g, from, text.data, text.n) : GRAMMAR_DEAD;
}

bool grammar_may_end(grammar *g, uint32_t at)
{
    pthread_mutex_lock(&g->lock);
    bool may_end = g->states[at].may_end;
    pthread_mutex_unlock(&g->lock);
    return may_end;
}

static void set_bit(uint32_t *mask, int32_t token)
{
    mask[token / 32] |= 1u << token % 32;
}

/* Walks the trie from a state; a subtree whose first byte leads nowhere is skipped whole. */
static void walk(grammar *g, uint32_t from, uint32_t *mask)
{
    const token_trie *trie = g->trie;
    g->path[0] = from;
    g->n_walks++;
    for (uint32_t i = 0; i < trie->n_nodes;) {
        const trie_node *node = &trie->nodes[i];
        uint32_t to = step_class(g, g->path[node->depth - 1], g->class_of[node->byte]);
        if (to == GRAMMAR_DEAD) {
            i = node->end;
            continue;
        }
        g->path[node->depth] = to;
        for (int32_t token = node->token; token >= 0; token = trie->same[token]) {
            set_bit(mask, token);
        }
        i++;
    }
    if (g->states[from].may_end) {
        for (uint32_t i = 0; i < trie->n_ends; i++) {
            set_bit(mask, trie->ends[i]);
        }
    }
}

/* Masks are a cache: when they take too much, all but the newest go. */
static void forget_masks(grammar *g)
{
    for (uint32_t i = 0; i < g->n_states; i++) {
        free(g->states[i].mask);
        g->states[i].mask = NULL;
    }
    g->mask_bytes = 0;
}

mlxr_status grammar_mask(grammar *g, uint32_t at, uint32_t *mask, mlxr_error *error)
{
    size_t n_bytes = g->mask_words * sizeof *mask;
    mlxr_status status = MLXR_OK;
    pthread_mutex_lock(&g->lock);
    if (g->states[at].mask) {
        memcpy(mask, g->states[at].mask, n_bytes);
    } else {
        memset(mask, 0, n_bytes);
        g->exhausted = false;
        walk(g, at, mask);
        if (g->exhausted) {
            status = error_set(error, MLXR_LIMIT, "grammar: more than %u states or %u stacks are needed; simplify it",
                               STATES_MAX, STACKS_MAX);
        } else {
            if (g->mask_bytes + n_bytes > MASK_BYTES_MAX) {
                forget_masks(g);
            }
            g->states[at].mask = malloc(n_bytes);
            if (g->states[at].mask) {
                memcpy(g->states[at].mask, mask, n_bytes);
                g->mask_bytes += n_bytes;
            }
        }
    }
    pthread_mutex_unlock(&g->lock);
    return status;
}

size_t grammar_bytes(grammar *g)
{
    pthread_mutex_lock(&g->lock);
    size_t n = sizeof *g + g->rules.cap_elements * sizeof *g->rules.elements +
               g->rules.cap_rules * sizeof *g->rules.list + g->cap_stacks * sizeof *g->stacks +
               g->cap_states * sizeof *g->states +
               ((size_t)g->n_stack_buckets + g->n_state_buckets + g->cap_members + g->cap_next) * sizeof *g->next +
               (g->trie->depth_max + (size_t)2) * sizeof *g->path + g->mask_bytes;
    pthread_mutex_unlock(&g->lock);
    return n;
}

bool grammar_is_grown(grammar *g)
{
    pthread_mutex_lock(&g->lock);
    bool grown = g->n_states > STATES_MAX / GROWN_PART || g->n_stacks > STACKS_MAX / GROWN_PART;
    pthread_mutex_unlock(&g->lock);
    return grown;
}

grammar_stats grammar_stats_get(grammar *g)
{
    pthread_mutex_lock(&g->lock);
    grammar_stats stats = {g->n_states, g->n_stacks, g->n_classes, (uint32_t)(g->mask_bytes / (g->mask_words * 4)),
                           g->n_walks};
    pthread_mutex_unlock(&g->lock);
    return stats;
}
