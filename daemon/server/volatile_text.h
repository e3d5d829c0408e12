/*
 * Lines that programs put before system messages and change with every request: taken out, so that a conversation's
 * prompt begins as it did the last time and its KV pages are found.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_SERVER_VOLATILE_TEXT_H
#define MLXR_SERVER_VOLATILE_TEXT_H

#include "server/chat_request.h"

/* Changes the system messages of the list. What was taken out is told in the warnings of `r` (NULL: it is not). */
void volatile_text_remove(json_t *messages, chat_request *r);

#endif
