/*
 * Angles of a rotation.
 * Owner: none. Lifetime: the call. Any thread.
 */
#include "kernels/rope_angles.h"

#include <math.h>
#include <string.h>

void rope_angles_fill(const op_rope *r, int32_t position, uint32_t begin, uint32_t end, float *cosines, float *sines)
{
    double factor = r->magnitude;
    if (r->temperature != 0) { /* Meta 2025: attention of far queries is sharpened */
        factor *= 1 + (double)r->temperature *
                          log(1 + floor(((double)position + r->temperature_from) / r->temperature_span));
    }
    for (uint32_t i = begin; i < end; i++) {
        double angle = (double)position * (double)r->inv_freq[i];
        cosines[i] = (float)(cos(angle) * factor);
        sines[i] = (float)(sin(angle) * factor);
    }
}

bool rope_angles_same(const op_rope *a, const op_rope *b)
{
    return a->n_rot == b->n_rot && a->magnitude == b->magnitude && a->temperature == b->temperature &&
           a->temperature_span == b->temperature_span && a->temperature_from == b->temperature_from &&
           memcmp(a->inv_freq, b->inv_freq, a->n_rot / 2 * sizeof *a->inv_freq) == 0;
}
