/*
 * How much memory this process may still use, and how much it uses.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_BASE_MEMORY_SIZE_H
#define MLXR_BASE_MEMORY_SIZE_H

#include <stdint.h>

uint64_t memory_total(void);     /* bytes of RAM, or of the cgroup's limit where that is lower */
uint64_t memory_available(void); /* bytes that can be used without swapping; at least 256 MiB is claimed */
uint64_t memory_spare(void);     /* the same, and not more than there is */
/* Bytes that weights in mapped files can have and stay: what is available, pages of files included; three quarters of
 * all memory where the system does not tell. */
uint64_t memory_for_weights(void);

typedef struct memory_sizes {
    uint64_t physical, total, available; /* bytes; the latter two within the limits of control groups */
} memory_sizes;

/* The same by the files below a folder: <root>/proc/self/cgroup, /proc/meminfo, /sys/fs/cgroup. For tests; Linux. */
memory_sizes memory_sizes_below(const char *root, uint64_t physical);

#endif
