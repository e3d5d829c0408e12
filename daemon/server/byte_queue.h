/*
 * Bytes that grow at the end and are taken from the front.
 * Owner: whoever declares one; {0} is empty. Lifetime: until byte_queue_free.
 */
#ifndef MLXR_SERVER_BYTE_QUEUE_H
#define MLXR_SERVER_BYTE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct byte_queue {
    char *data;
    size_t n, cap;
} byte_queue;

/* Room for n more bytes at data + n. False, and nothing has changed: no memory. */
bool byte_queue_reserve(byte_queue *b, size_t n);
bool byte_queue_add(byte_queue *b, const void *data, size_t n);
bool byte_queue_add_text(byte_queue *b, const char *text);
bool byte_queue_format(byte_queue *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void byte_queue_drop(byte_queue *b, size_t n); /* the first n bytes */
/* Forgets the contents; keeps the memory unless it is more than an idle connection should hold. */
void byte_queue_clear(byte_queue *b);
void byte_queue_free(byte_queue *b);

#endif
