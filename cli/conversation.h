/*
 * A conversation: its messages, and the sequence that holds them as tokens.
 * Owner: the verb `run`. Lifetime: conversation_open to conversation_close; the session must live longer.
 *
 *   messages ─ chat template ─ text ─┬─ begins with what the sequence holds: append the rest
 *                                    ├─ is the last prompt again: go back to its end
 *                                    └─ else: keep the common tokens, truncate there, append the others
 */
#ifndef MLXR_CLI_CONVERSATION_H
#define MLXR_CLI_CONVERSATION_H

#include "session.h"

typedef struct conversation {
    session *session;
    json_t *messages; /* [{"role", "content"}], the system message first */
    char *held;       /* the text whose tokens the sequence holds; NULL: not known, compare tokens */
    size_t n_prompt_bytes, n_prompt_tokens; /* of it, before the last answer */
    bool raw;                               /* no template: texts go in as they are */
} conversation;

bool conversation_open(conversation *c, session *s, bool raw, const char *system);
void conversation_close(conversation *c);
/* Forgets all messages but the system message. */
void conversation_clear(conversation *c);
/* Sets, changes or (NULL or "") removes the system message. */
bool conversation_set_system(conversation *c, const char *text);
/* Whether there is an answer to be made again. */
bool conversation_can_regenerate(const conversation *c);

/* Adds a user message, generates into *g and adds the answer. If nothing was generated, the message is taken back.
 * Returns an exit code. */
int conversation_ask(conversation *c, const char *text, generation *g);
/* Makes the last answer anew. */
int conversation_regenerate(conversation *c, generation *g);

/* The messages as a JSON file, and back. False after telling why not. */
bool conversation_save(const conversation *c, const char *path);
bool conversation_load(conversation *c, const char *path);

#endif
