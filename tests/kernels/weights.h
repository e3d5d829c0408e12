/*
 * Random weights in every file format, without going through an encoder.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_TESTS_WEIGHTS_H
#define MLXR_TESTS_WEIGHTS_H

#include "checkkernels.h"
#include "quant/dtype.h"

typedef enum weights_kind {
    WEIGHTS_RANDOM,  /* any bits for the integers, scales of usual size and either sign */
    WEIGHTS_ZERO,    /* all bytes zero */
    WEIGHTS_LOWEST,  /* integer bits all clear */
    WEIGHTS_HIGHEST, /* integer bits all set */
    WEIGHTS_SPARSE,  /* random, most blocks zero */
    WEIGHTS_KIND_COUNT,
} weights_kind;

/* n elements (a multiple of the block size) of `type` at dst. */
void weights_fill(check *c, dtype type, weights_kind kind, uint8_t *dst, size_t n);

/* magnitude[n]: for each element, a bound on every term that its block's formula adds up: of scale × integer and of the
 * minimum, which may cancel in the value itself. */
void weights_magnitude(dtype type, const uint8_t *src, float *magnitude, size_t n);

#endif
