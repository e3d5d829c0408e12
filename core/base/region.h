/*
 * Region: memory that is freed as a whole (a model's, a request's, a step's).
 * Owner: whoever opened it. Lifetime: until region_close; pointers into it die then. One thread at a time.
 */
#ifndef MLXR_BASE_REGION_H
#define MLXR_BASE_REGION_H

#include <stddef.h>
#include <stdint.h>

typedef struct region_block region_block;

typedef struct region { /* {0} is an empty region */
    region_block *blocks;
    size_t bytes_used; /* handed out, alignment included */
} region;

/* Uninitialised, 16-byte aligned memory; NULL when the system has none (or n is absurd). n = 0 gives a valid pointer.
 */
void *region_alloc(region *r, size_t n_bytes);
/* Zeroed array; NULL also when count × size does not fit. */
void *region_array(region *r, size_t count, size_t size);
/* NUL-terminated copy. */
char *region_strndup(region *r, const char *text, size_t n);
void region_close(region *r);

#endif
