/*
 * Rules: a context-free grammar over bytes.
 * Owner: whoever opened it. Lifetime: rules_open to rules_close.
 */
#include "runtime/grammar/rules.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"
#include "runtime/grammar/place.h"

void rules_close(rules *r)
{
    for (uint32_t i = 0; i < r->n_rules; i++) {
        free(r->list[i].name);
        free(r->list[i].alternatives);
    }
    free(r->list);
    free(r->elements);
    *r = (rules){0};
}

static bool reserve(rules *r, void **array, uint32_t *cap, uint32_t need, size_t size)
{
    if (r->failed || need > RULES_ELEMENTS_MAX) {
        r->failed = true;
        return false;
    }
    if (need > *cap) {
        uint32_t grown_cap = *cap ? *cap * 2 : 16;
        grown_cap = grown_cap < need ? need : grown_cap;
        void *grown = realloc(*array, grown_cap * size);
        if (!grown) {
            r->failed = true;
            return false;
        }
        *array = grown;
        *cap = grown_cap;
    }
    return true;
}

uint32_t rules_add(rules *r, const char *name, size_t n_name)
{
    if (!reserve(r, (void **)&r->list, &r->cap_rules, r->n_rules + 1, sizeof *r->list)) {
        return RULES_NONE;
    }
    rule *added = &r->list[r->n_rules];
    *added = (rule){0};
    if (name) {
        added->name = strndup(name, n_name);
        if (!added->name) {
            r->failed = true;
            return RULES_NONE;
        }
    }
    return r->n_rules++;
}

uint32_t rules_find(const rules *r, const char *name, size_t n_name)
{
    for (uint32_t i = 0; i < r->n_rules; i++) {
        const char *own = r->list[i].name;
        if (own && strlen(own) == n_name && memcmp(own, name, n_name) == 0) {
            return i;
        }
    }
    return RULES_NONE;
}

void rules_alternative(rules *r, uint32_t rule_index, const element *sequence, uint32_t n)
{
    if (r->failed || rule_index >= r->n_rules ||
        !reserve(r, (void **)&r->elements, &r->cap_elements, r->n_elements + n + 1, sizeof *r->elements)) {
        r->failed = true;
        return;
    }
    rule *to = &r->list[rule_index];
    if (!reserve(r, (void **)&to->alternatives, &to->cap, to->n_alternatives + 1, sizeof *to->alternatives)) {
        return;
    }
    to->alternatives[to->n_alternatives++] = r->n_elements;
    for (uint32_t i = 0; i < n; i++) {
        if (sequence[i].kind == ELEMENT_RULE && sequence[i].rule == RULES_NONE) {
            r->failed = true;
        }
        r->elements[r->n_elements++] = sequence[i];
    }
    r->elements[r->n_elements++] = (element){.kind = ELEMENT_END};
}

uint32_t rules_literal(rules *r, const char *bytes, size_t n)
{
    uint32_t made = rules_add(r, NULL, 0);
    element *sequence = n < RULES_ELEMENTS_MAX ? calloc(n + 1, sizeof *sequence) : NULL;
    if (!sequence) {
        r->failed = true;
        return made;
    }
    for (size_t i = 0; i < n; i++) {
        sequence[i] = (element){.kind = ELEMENT_BYTES, .low = (uint8_t)bytes[i], .high = (uint8_t)bytes[i]};
    }
    rules_alternative(r, made, sequence, (uint32_t)n);
    free(sequence);
    return made;
}

/* Adds the UTF-8 forms of [low, high], all of one length, as alternatives of byte ranges: where the leading bytes
 * differ, the range is split so that the trailing bytes of each part are free. */
static void add_utf8(rules *r, uint32_t made, uint32_t low, uint32_t high)
{
    char a[4], b[4];
    size_t n = utf8_encode(low, a);
    utf8_encode(high, b);
    for (size_t i = 0; i + 1 < n; i++) {
        uint32_t free_bits = 6 * (uint32_t)(n - 1 - i), mask = (1u << free_bits) - 1;
        if (a[i] == b[i]) {
            continue;
        }
        if (low & mask) {
            add_utf8(r, made, low, low | mask);
            add_utf8(r, made, (low | mask) + 1, high);
            return;
        }
        if ((high & mask) != mask) {
            add_utf8(r, made, low, (high & ~mask) - 1);
            add_utf8(r, made, high & ~mask, high);
            return;
        }
        break;
    }
    element sequence[4];
    for (size_t i = 0; i < n; i++) {
        sequence[i] = (element){.kind = ELEMENT_BYTES, .low = (uint8_t)a[i], .high = (uint8_t)b[i]};
    }
    rules_alternative(r, made, sequence, (uint32_t)n);
}

/* One range of scalar values, cut where the length of UTF-8 changes and around the surrogates. */
static void add_range(rules *r, uint32_t made, uint32_t low, uint32_t high)
{
    static const code_range pieces[] = {
        {0, 0x7f}, {0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, 0x10ffff}};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        uint32_t from = low > pieces[i].low ? low : pieces[i].low;
        uint32_t to = high < pieces[i].high ? high : pieces[i].high;
        if (from <= to) {
            add_utf8(r, made, from, to);
        }
    }
}

static int by_low(const void *a, const void *b)
{
    const code_range *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

uint32_t rules_class(rules *r, const code_range *ranges, size_t n, bool negated)
{
    uint32_t made = rules_add(r, NULL, 0);
    code_range *sorted = n < RULES_ELEMENTS_MAX ? calloc(n + 1, sizeof *sorted) : NULL;
    if (!sorted) {
        r->failed = true;
        return made;
    }
    if (n) {
        memcpy(sorted, ranges, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, by_low);
    }
    uint32_t next = 0; /* the first code point not dealt with yet */
    for (size_t i = 0; i < n; i++) {
        uint32_t from = sorted[i].low > next ? sorted[i].low : next;
        if (negated && sorted[i].low > next) {
            add_range(r, made, next, sorted[i].low - 1);
        }
        if (!negated && from <= sorted[i].high) {
            add_range(r, made, from, sorted[i].high);
        }
        next = sorted[i].high + 1 > next ? sorted[i].high + 1 : next;
    }
    if (negated && next <= 0x10ffff) {
        add_range(r, made, next, 0x10ffff);
    }
    free(sorted);
    return made;
}

uint32_t rules_sequence(rules *r, const uint32_t *items, size_t n)
{
    uint32_t made = rules_add(r, NULL, 0);
    element *sequence = n < RULES_ELEMENTS_MAX ? calloc(n + 1, sizeof *sequence) : NULL;
    if (!sequence) {
        r->failed = true;
        return made;
    }
    for (size_t i = 0; i < n; i++) {
        sequence[i] = rules_use(items[i]);
    }
    rules_alternative(r, made, sequence, (uint32_t)n);
    free(sequence);
    return made;
}

uint32_t rules_choice(rules *r, const uint32_t *items, size_t n)
{
    uint32_t made = rules_add(r, NULL, 0);
    for (size_t i = 0; i < n; i++) {
        element use = rules_use(items[i]);
        rules_alternative(r, made, &use, 1);
    }
    return made;
}

uint32_t rules_optional(rules *r, uint32_t item)
{
    uint32_t made = rules_add(r, NULL, 0);
    element use = rules_use(item);
    rules_alternative(r, made, &use, 1);
    rules_alternative(r, made, NULL, 0);
    return made;
}

/* item{0,n} as n nested options: (item (item (…)?)?)?, so that each count is one state. */
static uint32_t up_to(rules *r, uint32_t item, uint32_t n)
{
    uint32_t inner = RULES_NONE;
    for (uint32_t i = 0; i < n && !r->failed; i++) {
        uint32_t made = rules_add(r, NULL, 0);
        element sequence[2] = {rules_use(item)};
        if (inner != RULES_NONE) {
            sequence[1] = rules_use(inner);
        }
        rules_alternative(r, made, sequence, inner == RULES_NONE ? 1 : 2);
        rules_alternative(r, made, NULL, 0);
        inner = made;
    }
    return inner == RULES_NONE ? rules_sequence(r, NULL, 0) : inner;
}

uint32_t rules_repeat(rules *r, uint32_t item, uint32_t least, uint32_t most)
{
    uint32_t rest;
    if (least > RULES_REPEAT_MAX || (most != RULES_NONE && (most > RULES_REPEAT_MAX || most < least))) {
        r->failed = true;
        return RULES_NONE;
    }
    if (most == RULES_NONE) { /* rest = item rest | nothing: a tail call, so it needs no stack */
        rest = rules_add(r, NULL, 0);
        element sequence[2] = {rules_use(item), rules_use(rest)};
        rules_alternative(r, rest, sequence, 2);
        rules_alternative(r, rest, NULL, 0);
    } else {
        rest = up_to(r, item, most - least);
    }
    uint32_t made = rules_add(r, NULL, 0);
    element *sequence = calloc(least + 1u, sizeof *sequence);
    if (!sequence) {
        r->failed = true;
        return made;
    }
    for (uint32_t i = 0; i < least; i++) {
        sequence[i] = rules_use(item);
    }
    sequence[least] = rules_use(rest);
    rules_alternative(r, made, sequence, least + 1);
    free(sequence);
    return made;
}

/* ---- checking ------------------------------------------------------------------------------------------------------
 */

/* Marks the rules that have an alternative of which every element is marked; bytes count as `bytes_count`. With false
 * that is "can produce nothing", with true "can produce something finite". A fixed point. */
static void mark_rules(const rules *r, bool bytes_count, bool *marked)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 0; i < r->n_rules; i++) {
            for (uint32_t a = 0; a < r->list[i].n_alternatives && !marked[i]; a++) {
                const element *e = &r->elements[r->list[i].alternatives[a]];
                while (e->kind == ELEMENT_BYTES ? bytes_count : e->kind == ELEMENT_RULE && marked[e->rule]) {
                    e++;
                }
                if (e->kind == ELEMENT_END) {
                    marked[i] = true;
                    changed = true;
                }
            }
        }
    }
}

/* Strongly connected components of the graph "rule may begin with rule" (Tarjan 1972), iterative because rules nest as
 * deep as a hostile grammar likes. */
typedef struct visit {
    uint32_t rule, alternative;
    const element *at; /* NULL: take the next alternative */
} visit;

typedef struct components {
    uint32_t *number, *low, *component, *open; /* [n_rules]; number 0: not visited */
    visit *path;
    uint32_t n_visited, n_open, n_components;
} components;

/* The next rule that v's rule may begin with; NULL: there are no more. */
static const element *next_edge(const rules *r, const bool *nullable, visit *v)
{
    const rule *of = &r->list[v->rule];
    for (;;) {
        if (!v->at) {
            if (v->alternative == of->n_alternatives) {
                return NULL;
            }
            v->at = &r->elements[of->alternatives[v->alternative++]];
        }
        const element *e = v->at;
        v->at = e->kind == ELEMENT_RULE && nullable[e->rule] ? e + 1 : NULL;
        if (e->kind == ELEMENT_RULE) {
            return e;
        }
    }
}

static void enter(components *c, uint32_t depth, uint32_t rule_index)
{
    c->path[depth] = (visit){.rule = rule_index};
    c->number[rule_index] = c->low[rule_index] = ++c->n_visited;
    c->open[c->n_open++] = rule_index;
}

static void find_components(const rules *r, const bool *nullable, components *c)
{
    for (uint32_t root = 0; root < r->n_rules; root++) {
        uint32_t depth = 0;
        if (c->number[root] == 0) {
            enter(c, depth++, root);
        }
        while (depth > 0) {
            uint32_t from = c->path[depth - 1].rule;
            const element *edge = next_edge(r, nullable, &c->path[depth - 1]);
            if (edge && c->number[edge->rule] == 0) {
                enter(c, depth++, edge->rule);
            } else if (edge) {
                bool on_stack = c->component[edge->rule] == 0;
                c->low[from] = on_stack && c->number[edge->rule] < c->low[from] ? c->number[edge->rule] : c->low[from];
            } else {
                if (c->low[from] == c->number[from]) { /* everything opened since belongs together */
                    c->n_components++;
                    uint32_t member;
                    do {
                        member = c->open[--c->n_open];
                        c->component[member] = c->n_components;
                    } while (member != from);
                }
                if (--depth > 0) {
                    uint32_t parent = c->path[depth - 1].rule;
                    c->low[parent] = c->low[from] < c->low[parent] ? c->low[from] : c->low[parent];
                }
            }
        }
    }
}

/* A rule that begins with itself and has something behind that (it would need an endless stack); RULES_NONE: none. A
 * beginning with nothing behind it, as in a repetition of something empty, is a tail call and harmless. */
static uint32_t find_left_recursion(const rules *r, const bool *nullable, const components *c)
{
    for (uint32_t i = 0; i < r->n_rules; i++) {
        visit v = {.rule = i};
        for (const element *edge; (edge = next_edge(r, nullable, &v)) != NULL;) {
            if (edge[1].kind != ELEMENT_END && c->component[edge->rule] == c->component[i]) {
                return i;
            }
        }
    }
    return RULES_NONE;
}

/* "grammar, line 3, column 1: rule 'x' …" */
static mlxr_status bad_rule(const rules *r, uint32_t index, const char *what, mlxr_error *error)
{
    const rule *bad = &r->list[index];
    const char *name = bad->name ? bad->name : "(made of others)";
    if (!r->text || !bad->name) {
        return error_set(error, MLXR_FORMAT, "grammar rule '%.80s' %s", name, what);
    }
    place at = place_of(r->text, bad->at);
    return error_set(error, MLXR_FORMAT, "grammar, line %zu, column %zu: rule '%.80s' %s", at.line, at.column, name,
                     what);
}

static mlxr_status check_recursion(const rules *r, bool *marks, components *c, mlxr_error *error)
{
    mark_rules(r, true, marks);
    for (uint32_t i = 0; i < r->n_rules; i++) {
        if (!marks[i]) {
            return bad_rule(r, i, "can never be finished", error);
        }
    }
    memset(marks, 0, r->n_rules * sizeof *marks);
    mark_rules(r, false, marks);
    find_components(r, marks, c);
    uint32_t bad = find_left_recursion(r, marks, c);
    return bad == RULES_NONE ? MLXR_OK : bad_rule(r, bad, "is left-recursive: it can begin with itself", error);
}

mlxr_status rules_check(const rules *r, mlxr_error *error)
{
    if (r->failed) {
        return error_set(error, MLXR_LIMIT, "grammar is too large: at most %u elements, and repetitions up to %u",
                         RULES_ELEMENTS_MAX, RULES_REPEAT_MAX);
    }
    for (uint32_t i = 0; i < r->n_rules; i++) {
        if (r->list[i].n_alternatives == 0) {
            return bad_rule(r, i, "is used but not defined", error);
        }
    }
    size_t n = r->n_rules + (size_t)1;
    uint32_t *numbers = calloc(4 * n, sizeof *numbers);
    bool *marks = calloc(n, sizeof *marks);
    visit *path = calloc(n, sizeof *path);
    mlxr_status status;
    if (!numbers || !marks || !path) {
        status = error_nomem(error, "grammar check", n * (sizeof *path + 4 * sizeof *numbers + 1));
    } else {
        components c = {
            .number = numbers, .low = numbers + n, .component = numbers + 2 * n, .open = numbers + 3 * n, .path = path};
        status = check_recursion(r, marks, &c, error);
    }
    free(numbers);
    free(marks);
    free(path);
    return status;
}
