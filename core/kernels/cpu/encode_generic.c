/*
 * Architectures without an encoder of their own.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/encode.h"

encode_fn *encode_find_arch(cpu_features features)
{
    (void)features;
    return NULL;
}
