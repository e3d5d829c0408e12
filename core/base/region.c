/*
 * Region: memory that is freed as a whole (a model's, a request's, a step's).
 * Owner: whoever opened it. Lifetime: until region_close.
 */
#include "base/region.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)64 * 1024)
#define ALIGNMENT ((size_t)16)

struct region_block {
    region_block *next;
    size_t capacity, used;
    alignas(16) unsigned char data[];
};

void *region_alloc(region *r, size_t n_bytes)
{
    if (n_bytes > SIZE_MAX / 2) {
        return NULL;
    }
    size_t need = (n_bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    region_block *block = r->blocks;
    if (!block || block->capacity - block->used < need) {
        size_t capacity = need > BLOCK_BYTES / 4 ? need : BLOCK_BYTES;
        block = malloc(sizeof *block + capacity);
        if (!block) {
            return NULL;
        }
        block->capacity = capacity;
        block->used = 0;
        if (r->blocks && capacity == need) { /* a large piece: keep filling the block at the head */
            block->next = r->blocks->next;
            r->blocks->next = block;
        } else {
            block->next = r->blocks;
            r->blocks = block;
        }
    }
    void *memory = block->data + block->used;
    block->used += need;
    r->bytes_used += need;
    return memory;
}

void *region_array(region *r, size_t count, size_t size)
{
    size_t n_bytes;
    if (__builtin_mul_overflow(count, size, &n_bytes)) {
        return NULL;
    }
    void *memory = region_alloc(r, n_bytes);
    if (memory) {
        memset(memory, 0, n_bytes);
    }
    return memory;
}

char *region_strndup(region *r, const char *text, size_t n)
{
    char *copy = region_alloc(r, n + 1);
    if (copy) {
        if (n) {
            memcpy(copy, text, n);
        }
        copy[n] = 0;
    }
    return copy;
}

void region_close(region *r)
{
    for (region_block *block = r->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *r = (region){0};
}
