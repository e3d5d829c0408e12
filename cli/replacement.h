/*
 * Writing a file anew: what it had stays until the new text is whole on the disk.
 * Owner: the caller. Lifetime: replacement_open to replacement_close.
 */
#ifndef MLXR_CLI_REPLACEMENT_H
#define MLXR_CLI_REPLACEMENT_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "mlxr.h"

#define REPLACEMENT_PATH_MAX 4096

typedef struct replacement {
    FILE *to; /* the new text goes here */
    char path[REPLACEMENT_PATH_MAX], temporary[REPLACEMENT_PATH_MAX];
} replacement;

/* A link is followed; a file that is there keeps its permissions, a new one has `mode` but for the umask. MLXR_ARG for
 * what is no regular file. Only after MLXR_OK replacement_close is due. */
mlxr_status replacement_open(replacement *r, const char *path, mode_t mode, mlxr_error *error);
/* Puts the new text in the place of the old one; if `whole` is false, or something fails, the old one stays. */
mlxr_status replacement_close(replacement *r, bool whole, mlxr_error *error);

#endif
