/*
 * Lines typed at a terminal, with editing, history and multi-line texts.
 * Owner: the chat. Lifetime: line_input_open to line_input_close.
 */
#ifndef MLXR_CLI_LINE_INPUT_H
#define MLXR_CLI_LINE_INPUT_H

#include <signal.h>
#include <stdbool.h>

typedef struct line_input line_input;

typedef enum line_result {
    LINE_TEXT,      /* *text is what was typed; freed by the caller */
    LINE_CANCELLED, /* Ctrl-C */
    LINE_END,       /* Ctrl-D, or the terminal is gone */
} line_result;

/* `interrupted` is set by the caller's SIGINT handler, which calls line_input_wake() then and has SA_RESTART. What
 * other signals do to the terminal is taken care of until line_input_close. One at a time in a process. `words`
 * (NULL-terminated) are completed with Tab. NULL: no memory or no terminal. The history lies in
 * $XDG_STATE_HOME/mlxr/history, else ~/.local/state/mlxr/history. */
line_input *line_input_open(volatile sig_atomic_t *interrupted, const char *const *words);
void line_input_close(line_input **input);
/* Ends the wait for a key, so that `interrupted` is looked at. For handlers of signals, in any thread. */
void line_input_wake(void);
/* Reads one text: a line; lines joined by a backslash at their end; or everything between two `"""`. Several lines that
 * are pasted are a part of a line, with the quotes at their begin and the backslash at their end. */
line_result line_input_read(line_input *input, char **text);

#endif
