/*
 * No kernels for upper halves: logits are computed whole.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/halves.h"

halves_kernels halves_kernels_for(cpu_features features)
{
    (void)features;
    return (halves_kernels){0};
}
