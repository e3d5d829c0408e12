/*
 * Random numbers of the checks of kernels.
 * Owner: the check. Lifetime: the call.
 */
#include "checkkernels.h"

#include <math.h>

uint64_t check_random(check *c)
{
    uint64_t z = (c->random += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint32_t check_below(check *c, uint32_t n)
{
    return (uint32_t)((check_random(c) >> 32) * n >> 32);
}

float check_uniform(check *c, float low, float high)
{
    return low + (high - low) * (float)(check_random(c) >> 40) * 0x1p-24f;
}

float check_normal(check *c)
{
    float sum = 0.0f;
    for (int i = 0; i < 12; i++) {
        sum += check_uniform(c, -0.5f, 0.5f);
    }
    return sum;
}
