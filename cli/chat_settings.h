/*
 * What a chat can change while it runs: /set.
 * Owner: the chat. Lifetime: the call; `kept` holds the texts that options point to as long as the chat lives.
 */
#ifndef MLXR_CLI_CHAT_SETTINGS_H
#define MLXR_CLI_CHAT_SETTINGS_H

#include "answerer.h"

/* "NAME VALUE" or "NAME=VALUE" changes one setting, "" lists them all; tells what is wrong. `none` takes a grammar, a
 * schema or drafts away. What could not be done leaves everything as it was. */
void settings_change(answerer *a, options *o, text_list *kept, const char *argument);

#endif
