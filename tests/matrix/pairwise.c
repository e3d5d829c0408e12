/*
 * Covering tables.
 * Owner: the caller owns a table. Lifetime: until freed.
 */
#include "matrix/pairwise.h"

#include <stdlib.h>
#include <string.h>

#include "support/test.h"

enum { CANDIDATES = 24, NO_VALUE = 255 };

typedef struct axes_set { /* `strength` axes, and where their combinations begin in the bitmap */
    uint32_t axis[3];
    size_t first;
} axes_set;

typedef struct builder {
    const pairwise_space *space;
    uint32_t strength;
    axes_set sets[PAIRWISE_AXES_MAX * PAIRWISE_AXES_MAX * PAIRWISE_AXES_MAX / 6];
    uint32_t n_sets;
    bool *covered; /* [n_combinations] */
    size_t n_combinations, n_open, next_open;
    uint64_t seed;
} builder;

static bool pair_is_refused(const pairwise_space *space, uint32_t a, uint32_t value_a, uint32_t b, uint32_t value_b)
{
    return space->refused && (a < b ? space->refused(a, value_a, b, value_b) : space->refused(b, value_b, a, value_a));
}

bool pairwise_is_refused(const pairwise_space *space, const pairwise_cell *cell)
{
    for (uint32_t a = 0; a < space->n_axes; a++) {
        for (uint32_t b = a + 1; b < space->n_axes; b++) {
            if (pair_is_refused(space, a, cell->value[a], b, cell->value[b])) {
                return true;
            }
        }
    }
    return false;
}

/* May this value join what the cell has so far? */
static bool fits(const builder *b, const pairwise_cell *cell, uint32_t axis, uint32_t value)
{
    for (uint32_t other = 0; other < b->space->n_axes; other++) {
        if (other != axis && cell->value[other] != NO_VALUE &&
            pair_is_refused(b->space, axis, value, other, cell->value[other])) {
            return false;
        }
    }
    return true;
}

static void decode(const builder *b, const axes_set *set, size_t combination, pairwise_cell *cell)
{
    size_t rest = combination - set->first;
    for (uint32_t i = b->strength; i-- > 0;) {
        cell->value[set->axis[i]] = (uint8_t)(rest % b->space->n_values[set->axis[i]]);
        rest /= b->space->n_values[set->axis[i]];
    }
}

/* The combination that a cell has on these axes; SIZE_MAX where one is open. */
static size_t encode(const builder *b, const axes_set *set, const pairwise_cell *cell)
{
    size_t index = 0;
    for (uint32_t i = 0; i < b->strength; i++) {
        uint8_t value = cell->value[set->axis[i]];
        if (value == NO_VALUE) {
            return SIZE_MAX;
        }
        index = index * b->space->n_values[set->axis[i]] + value;
    }
    return set->first + index;
}

static bool has_axis(const builder *b, const axes_set *set, uint32_t axis)
{
    for (uint32_t i = 0; i < b->strength; i++) {
        if (set->axis[i] == axis) {
            return true;
        }
    }
    return false;
}

/* Combinations that the cell would be first to have; with `axis`, only those that the axis is part of. */
static size_t gain(const builder *b, const pairwise_cell *cell, uint32_t axis)
{
    size_t n = 0;
    for (uint32_t i = 0; i < b->n_sets; i++) {
        if (axis == UINT32_MAX || has_axis(b, &b->sets[i], axis)) {
            size_t index = encode(b, &b->sets[i], cell);
            n += index != SIZE_MAX && !b->covered[index];
        }
    }
    return n;
}

/* Every choice of `strength` axes, in lexicographic order. */
static void add_sets(builder *b)
{
    uint32_t k = b->strength, n = b->space->n_axes, i;
    axes_set set = {.axis = {0, 1, 2}};
    do {
        set.first = b->n_combinations;
        size_t size = 1;
        for (i = 0; i < k; i++) {
            size *= b->space->n_values[set.axis[i]];
        }
        b->n_combinations += size;
        b->sets[b->n_sets++] = set;
        while (i > 0 && set.axis[i - 1] == n - k + i - 1) { /* as far as it goes */
            i--;
        }
        if (i > 0) {
            set.axis[i - 1]++;
            for (uint32_t j = i; j < k; j++) {
                set.axis[j] = set.axis[j - 1] + 1;
            }
        }
    } while (i > 0);
}

static pairwise_cell empty_cell(void)
{
    pairwise_cell cell;
    memset(&cell, NO_VALUE, sizeof cell);
    return cell;
}

/* Combinations with a refused pair need no cell. */
static void leave_out_refused(builder *b)
{
    for (uint32_t i = 0; i < b->n_sets; i++) {
        const axes_set *set = &b->sets[i];
        size_t end = i + 1 < b->n_sets ? b->sets[i + 1].first : b->n_combinations;
        for (size_t index = set->first; index < end; index++) {
            pairwise_cell cell = empty_cell();
            decode(b, set, index, &cell);
            for (uint32_t j = 0; j < b->strength; j++) {
                b->covered[index] = b->covered[index] || !fits(b, &cell, set->axis[j], cell.value[set->axis[j]]);
            }
            b->n_open += !b->covered[index];
        }
    }
}

/* The value that adds most, of several one at random. False: none fits. */
static bool choose(builder *b, pairwise_cell *cell, uint32_t axis)
{
    size_t best = 0, n_best = 0;
    uint8_t chosen = NO_VALUE;
    for (uint32_t value = 0; value < b->space->n_values[axis]; value++) {
        if (!fits(b, cell, axis, value)) {
            continue;
        }
        cell->value[axis] = (uint8_t)value;
        size_t n = gain(b, cell, axis);
        if (n_best == 0 || n > best) {
            best = n;
            n_best = 1;
            chosen = (uint8_t)value;
        } else if (n == best && test_random(&b->seed) % ++n_best == 0) {
            chosen = (uint8_t)value;
        }
        cell->value[axis] = NO_VALUE;
    }
    cell->value[axis] = chosen;
    return chosen != NO_VALUE;
}

static bool complete(builder *b, pairwise_cell *cell)
{
    uint32_t order[PAIRWISE_AXES_MAX];
    for (uint32_t i = 0; i < b->space->n_axes; i++) { /* a shuffle that grows */
        uint32_t j = (uint32_t)(test_random(&b->seed) % (i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    for (uint32_t i = 0; i < b->space->n_axes; i++) {
        if (cell->value[order[i]] == NO_VALUE && !choose(b, cell, order[i])) {
            return false;
        }
    }
    return true;
}

/* The next combination that no cell has, as the beginning of one. */
static pairwise_cell begin(builder *b)
{
    while (b->covered[b->next_open]) {
        b->next_open++;
    }
    uint32_t i = b->n_sets - 1;
    while (b->sets[i].first > b->next_open) {
        i--;
    }
    pairwise_cell cell = empty_cell();
    decode(b, &b->sets[i], b->next_open, &cell);
    return cell;
}

static bool next_cell(builder *b, pairwise_cell *out)
{
    size_t best = 0;
    pairwise_cell start = begin(b);
    for (int i = 0; i < CANDIDATES; i++) {
        pairwise_cell cell = start;
        size_t n = complete(b, &cell) ? gain(b, &cell, UINT32_MAX) : 0;
        if (n > best) {
            best = n;
            *out = cell;
        }
    }
    for (uint32_t i = 0; i < b->n_sets && best; i++) {
        b->covered[encode(b, &b->sets[i], out)] = true;
    }
    b->n_open -= best;
    return best > 0;
}

static bool append(pairwise_cell **table, size_t *n, const pairwise_cell *cell)
{
    pairwise_cell *grown = realloc(*table, (*n + 1) * sizeof *grown);
    if (!grown) {
        return false;
    }
    *table = grown;
    grown[(*n)++] = *cell;
    return true;
}

/* A cell for each refused pair, the other values at random but without a second such pair. */
static bool append_refused(builder *b, pairwise_cell **table, size_t *n)
{
    const pairwise_space *space = b->space;
    for (uint32_t i = 0; i < space->n_axes * space->n_axes; i++) {
        uint32_t x = i / space->n_axes, y = i % space->n_axes;
        for (uint32_t v = 0; x < y && v < space->n_values[x] * space->n_values[y]; v++) {
            uint32_t value_x = v / space->n_values[y], value_y = v % space->n_values[y];
            if (!pair_is_refused(space, x, value_x, y, value_y)) {
                continue;
            }
            pairwise_cell cell = empty_cell();
            cell.value[x] = (uint8_t)value_x;
            cell.value[y] = (uint8_t)value_y;
            if (!complete(b, &cell) || !append(table, n, &cell)) {
                return false;
            }
        }
    }
    return true;
}

pairwise_cell *pairwise_make(const pairwise_space *space, uint32_t strength, size_t *n_cells)
{
    builder *b = calloc(1, sizeof *b);
    pairwise_cell *table = NULL;
    *n_cells = 0;
    if (!b || strength < 1 || strength > 3 || space->n_axes < strength || space->n_axes > PAIRWISE_AXES_MAX) {
        goto fail;
    }
    *b = (builder){.space = space, .strength = strength, .seed = 20261128};
    add_sets(b);
    b->covered = calloc(b->n_combinations, sizeof *b->covered);
    if (!b->covered) {
        goto fail;
    }
    leave_out_refused(b);
    while (b->n_open > 0) {
        pairwise_cell cell;
        if (!next_cell(b, &cell) || !append(&table, n_cells, &cell)) {
            goto fail;
        }
    }
    if (!append_refused(b, &table, n_cells)) {
        goto fail;
    }
    free(b->covered);
    free(b);
    return table;
fail:
    free(table);
    free(b ? b->covered : NULL);
    free(b);
    return NULL;
}
