/*
 * Angles of a rotation.
 * Owner: none. Lifetime: the call. Any thread.
 */
#include "kernels/rope_angles.h"

#include <math.h>
#include <string.h>

void rope_angles_fill(const op_rope *r, int32_t position, uint32_t begin, uint32_t end, float *cosines, float *sines)
{
    for (uint32_t i = begin; i < end; i++) {
        double angle = (double)position * (double)r->inv_freq[i];
        cosines[i] = (float)(cos(angle) * r->magnitude);
        sines[i] = (float)(sin(angle) * r->magnitude);
    }
}

bool rope_angles_same(const op_rope *a, const op_rope *b)
{
    return a->n_rot == b->n_rot && a->magnitude == b->magnitude &&
           memcmp(a->inv_freq, b->inv_freq, a->n_rot / 2 * sizeof *a->inv_freq) == 0;
}
