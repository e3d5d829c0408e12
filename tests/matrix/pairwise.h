/*
 * Covering tables: few cells of a space of values, in which any `strength` values of different axes meet.
 * Owner: the caller owns a table (free). Lifetime: until freed.
 *
 * Greedy, in the manner of AETG (Cohen et al. 1997): a cell begins with a combination that no cell has yet, and takes
 * on each further axis the value that adds most; of some such cells the best joins the table. The generator's seed is
 * fixed, so the same space gives the same table everywhere.
 */
#ifndef MLXR_TEST_PAIRWISE_H
#define MLXR_TEST_PAIRWISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAIRWISE_AXES_MAX 12u
#define PAIRWISE_VALUES_MAX 32u

typedef struct pairwise_cell {
    uint8_t value[PAIRWISE_AXES_MAX];
} pairwise_cell;

typedef struct pairwise_space {
    uint32_t n_axes, n_values[PAIRWISE_AXES_MAX];
    /* May these two values not meet (axis a < axis b)? NULL: any may. What each axis has with all others must leave a
     * way to complete any cell. */
    bool (*refused)(uint32_t axis_a, uint32_t value_a, uint32_t axis_b, uint32_t value_b);
} pairwise_space;

/* Does a cell hold two values that may not meet? */
bool pairwise_is_refused(const pairwise_space *space, const pairwise_cell *cell);

/* Cells without refused pairs in which every combination of `strength` values (1 … 3) that has no refused pair occurs,
 * then one cell for each refused pair, which has no other. NULL: no memory, or a cell that cannot be completed. */
pairwise_cell *pairwise_make(const pairwise_space *space, uint32_t strength, size_t *n_cells);

#endif
