/*
 * Responses that are kept, so that they can be retrieved, deleted and gone on from, by this process and those after it.
 * Owner: the generations. Lifetime: response_store_open to response_store_close. Any thread; each call may wait for the
 * disk.
 *
 * A SQLite database beside the registry's, opened at the first call that needs it. What was put is on the disk when the
 * call returns; what was removed is overwritten. Bounded: the oldest go. One that a process left unfinished is told as
 * failed by the next.
 */
#ifndef MLXR_SERVER_RESPONSE_STORE_H
#define MLXR_SERVER_RESPONSE_STORE_H

#include <jansson.h>

#include "mlxr.h"

typedef struct response_store response_store;

/* directory: NULL keeps them in memory. */
mlxr_status response_store_open(response_store **out, const char *directory, size_t n_max, size_t bytes_max,
                                mlxr_error *error);
void response_store_close(response_store **s);

typedef struct kept_response { /* borrowed */
    const char *id;
    uint64_t owner;  /* the key that may see it */
    int64_t version; /* a smaller one than what is kept is dropped */
    const json_t *response;
    const json_t *messages; /* the conversation up to and with the answer */
    const json_t *input;
} kept_response;
mlxr_status response_store_put(response_store *s, const kept_response *kept, mlxr_error *error);

typedef enum response_part { RESPONSE_WHOLE, RESPONSE_MESSAGES, RESPONSE_INPUT } response_part;
/* *out is the caller's; NULL with MLXR_OK: there is none, or it is somebody else's. */
mlxr_status response_store_get(response_store *s, const char *id, uint64_t owner, response_part part, json_t **out,
                               mlxr_error *error);
mlxr_status response_store_remove(response_store *s, const char *id, uint64_t owner, bool *removed, mlxr_error *error);

#endif
