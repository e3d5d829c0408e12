/*
 * Angles of a rotation: cosines and sines of one position, in double before they are rounded, the same on every
 * backend. Owner: none. Lifetime: the call. Any thread.
 */
#ifndef MLXR_KERNELS_ROPE_ANGLES_H
#define MLXR_KERNELS_ROPE_ANGLES_H

#include "kernels/plan.h"

/* cos and sin of position × inv_freq[i], × magnitude, for i in [begin, end) of n_rot / 2 pairs. Computed in double:
 * at position 100,000 a float angle is already off by 0.004. */
void rope_angles_fill(const op_rope *rope, int32_t position, uint32_t begin, uint32_t end, float *cosines,
                      float *sines);

/* Layers whose angles are equal may share a table of them. */
bool rope_angles_same(const op_rope *a, const op_rope *b);

#endif
