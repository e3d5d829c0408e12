/*
 * A conversation: its messages, and who answers them.
 * Owner: the verb `run`. Lifetime: conversation_open to conversation_close; the answerer must live longer.
 */
#ifndef MLXR_CLI_CONVERSATION_H
#define MLXR_CLI_CONVERSATION_H

#include "answerer.h"

typedef struct conversation {
    answerer *answerer;
    json_t *messages; /* [{"role", "content"}], the system message first */
    json_t *others;   /* further answers to the last question, each as a message: what conversation_exchange takes */
    bool raw;         /* no template: texts go in as they are */
} conversation;

bool conversation_open(conversation *c, answerer *a, bool raw, const char *system);
void conversation_close(conversation *c);
/* Forgets all messages but the system message. */
void conversation_clear(conversation *c);
/* Sets, changes or (NULL or "") removes the system message. */
bool conversation_set_system(conversation *c, const char *text);
/* Whether there is an answer to be made again. */
bool conversation_can_regenerate(const conversation *c);

/* Adds a user message, generates into *g and adds the answer, or what came of it before an error. If nothing was
 * generated, the message is taken back. Returns an exit code. */
int conversation_ask(conversation *c, const options *o, const char *text, generation *g);
/* Makes the last answer anew. The old one stays unless the new one came to its end; whichever does not is one of the
 * others. */
int conversation_regenerate(conversation *c, const options *o, generation *g);
/* Puts the next of the others in the place of the last answer, which becomes the last of them. Returns its text, the
 * conversation's; NULL: there is none. */
const char *conversation_exchange(conversation *c);

/* The messages as a JSON file, and back. A file with anything else in it is not written over. False after telling why
 * not. */
bool conversation_save(const conversation *c, const char *path);
bool conversation_load(conversation *c, const char *path);

#endif
