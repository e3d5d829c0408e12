/*
 * Responses that are kept, so that they can be retrieved, deleted, cancelled and gone on from.
 * Owner: the generations. Lifetime: response_store_open to response_store_close. The loop thread, except where "any
 * thread" is said. Kept in memory: a restart forgets them, and so does the bound, the oldest first.
 */
#ifndef MLXR_SERVER_RESPONSE_STORE_H
#define MLXR_SERVER_RESPONSE_STORE_H

#include <jansson.h>

#include "mlxr.h"

typedef struct response_store response_store;

mlxr_status response_store_open(response_store **out, size_t n_max, size_t bytes_max, mlxr_error *error);
void response_store_close(response_store **s);
/* Keeps references. `owner`: the key that may see it. `messages`: the conversation up to and with the answer. An id
 * that is there already gets the new values. Any thread. */
void response_store_put(response_store *s, const char *id, uint64_t owner, json_t *response, json_t *messages,
                        json_t *input);
/* Deep copies, for the caller to free; NULL where there is none, or it is somebody else's. Any thread. */
json_t *response_store_get(response_store *s, const char *id, uint64_t owner);
json_t *response_store_messages(response_store *s, const char *id, uint64_t owner);
json_t *response_store_input(response_store *s, const char *id, uint64_t owner);
bool response_store_remove(response_store *s, const char *id, uint64_t owner);

#endif
