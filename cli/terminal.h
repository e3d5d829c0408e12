/*
 * The terminal of a chat, given back as it was when a signal ends or stops the program; and what signals tell of it.
 * Owner: line_input. Lifetime: terminal_hold to terminal_release; one at a time in a process.
 */
#ifndef MLXR_CLI_TERMINAL_H
#define MLXR_CLI_TERMINAL_H

#include <stdbool.h>

/* From now on SIGTERM, SIGHUP, SIGQUIT and SIGTSTP give the terminal back and then do what they do by themselves,
 * unless they were ignored before. `wake` is called by handlers, in any thread, behind what the functions below tell.
 */
void terminal_hold(void (*wake)(void));
void terminal_release(void);
/* The terminal is to mark what is pasted ("bracketed paste"), or no more. */
void terminal_mark_pastes(bool on);

typedef struct terminal_news {
    bool resized;
    bool continued; /* the program goes on behind a stop: the terminal's modes are somebody else's. May be told twice */
    bool left;      /* told once of these: the cursor is where a shell has left it, on a new row */
} terminal_news;

/* What has come since this was asked last. */
terminal_news terminal_ask(void);
/* Of the terminal that stdout is; 80 where it does not say. */
unsigned terminal_columns(void);

#endif
