/*
 * The chat on a terminal.
 * Owner: the verb `run`. Lifetime: the call.
 */
#ifndef MLXR_CLI_CHAT_H
#define MLXR_CLI_CHAT_H

#include "conversation.h"

/* Whether somebody sits at this terminal. */
bool chat_possible(void);
/* Asks `first` (NULL: nothing) and goes on with what is typed until Ctrl-D or /exit. Returns an exit code. */
int chat_run(options *o, conversation *c, const char *first);
/* A generation with the options' limits. `chatting`: somebody can stop it. */
generation chat_generation(const options *o, const conversation *c, bool chatting);
/* Timings of an answer, and what drafts did for it, as notes. */
void chat_print_timings(const answerer *a, const options *o, const generation *g);

#endif
