/*
 * What was typed in chats, this one and earlier ones.
 * Owner: line_input. Lifetime: line_history_open to line_history_close.
 */
#ifndef MLXR_CLI_LINE_HISTORY_H
#define MLXR_CLI_LINE_HISTORY_H

#include <histedit.h>
#include <stdbool.h>

typedef struct line_history {
    History *list;   /* of this chat: what was there when it began, and its own */
    char path[1024]; /* empty: it is not kept */
    bool told;       /* that it cannot be written */
} line_history;

/* The file is $XDG_STATE_HOME/mlxr/history, else ~/.local/state/mlxr/history. False: no memory. */
bool line_history_open(line_history *h);
void line_history_close(line_history *h);
/* Adds a text, to the file as well: behind what other chats have put there. */
void line_history_add(line_history *h, const char *text);

#endif
