/*
 * Who used how much, written within seconds of being counted: what a killed daemon had counted before that is not lost.
 * Owner: the daemon. Lifetime: the daemon's. Loop thread only; while nothing is counted it does nothing.
 */
#ifndef MLXR_SERVER_USAGE_SAVE_H
#define MLXR_SERVER_USAGE_SAVE_H

#include <stdbool.h>
#include <stdint.h>

#include "mlxr.h"

struct daemon;

typedef struct usage_save {
    uint64_t timer;    /* 0: none */
    bool writing;      /* on the pool */
    bool more;         /* was counted meanwhile */
    unsigned n_failed; /* in a row */
    mlxr_status status;
    mlxr_error error;
} usage_save;

/* Something was counted (registry_usage_add). */
void usage_save_soon(struct daemon *d);

#endif
