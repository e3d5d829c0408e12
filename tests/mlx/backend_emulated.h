/*
 * The MLX backend whose Metal kernels tools/metal-emulator runs, under the name "mlx-emulated", and how often it ran
 * each. Owner: none; the counts are the test process's. Lifetime: the process.
 */
#ifndef MLXR_BACKEND_EMULATED_H
#define MLXR_BACKEND_EMULATED_H

#include <stddef.h>

/* Runs so far of kernels whose names begin so. */
size_t emulated_runs(const char *kernel);
/* A kernel of this name fails from now on; NULL: none does. */
void emulated_fail(const char *kernel);
/* The first number that kernels whose names begin so give is wrong from now on; NULL: none is. */
void emulated_spoil(const char *kernel);

#endif
