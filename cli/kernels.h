/*
 * MLXR's own kernels on this device: the file that says what is known of them, and `mlxr doctor --metal`.
 * Owner: main. Lifetime: the call.
 */
#ifndef MLXR_CLI_KERNELS_H
#define MLXR_CLI_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "options.h"

#define KERNELS_PATH_MAX 4096u

/* $XDG_CACHE_HOME/mlxr/kernels, else ~/.cache/mlxr/kernels. NULL: neither is set, or it is too long. */
const char *kernels_file(char out[KERNELS_PATH_MAX]);

/* The engine that the options ask for; its strings are theirs and `kernels`. */
mlxr_engine_options kernels_engine(const options *o, char kernels[KERNELS_PATH_MAX]);

int doctor_metal(const options *o);

#endif
