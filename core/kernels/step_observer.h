/*
 * Who watches what meets the matrices of a step: how importance is measured.
 * Owner: whoever set it in the step. Lifetime: the step.
 */
#ifndef MLXR_KERNELS_STEP_OBSERVER_H
#define MLXR_KERNELS_STEP_OBSERVER_H

#include <stddef.h>
#include <stdint.h>

/* Inputs of a product: row i is data + (order ? order[i] : i) × stride. */
typedef struct observed_rows {
    const float *data;
    size_t stride;
    const uint32_t *order;
    uint32_t n;
} observed_rows;

typedef struct step_observer {
    /* Called for each product by all members of the backend's team, who share out the columns; `weight`: the matrix's
     * data. */
    void (*see)(void *user, const void *weight, uint32_t n_in, const observed_rows *rows, uint32_t member,
                uint32_t n_members);
    void *user;
} step_observer;

#endif
