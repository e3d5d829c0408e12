/*
 * The part of Metal's standard library that kernels of ours use, as C++: types, mathematics, simdgroups, simdgroup
 * matrices. Translated files include it in place of <metal_stdlib>.
 * Owner: none. Lifetime: static. README.md lists what there is.
 */
#ifndef METAL_EMULATOR_METAL_STDLIB_H
#define METAL_EMULATOR_METAL_STDLIB_H

#include "metal_types.h"

#include "metal_math.h"
#include "metal_simd.h"

#endif
