/*
 * The text of an answer on a terminal, broken between words while it comes.
 * Owner: the process's stdout. Lifetime: the process; one answer at a time, of the main thread.
 */
#ifndef MLXR_CLI_WRAP_H
#define MLXR_CLI_WRAP_H

#include <stdbool.h>
#include <stddef.h>

/* As write_text(), which it is where stdout is no terminal. On one, a word that would not fit into the row begins the
 * next one, whatever pieces it comes in; near a row's end it is held back until that is known. Code between fences,
 * lines that are indented by four or more or begin with '|' stay as they are. An answer begins in the first column. */
bool wrap_text(const char *text, size_t n);
/* Writes what is held back: a word that has not ended. For whoever writes to the terminal in between. */
void wrap_flush(void);
/* The same at the end of an answer; the next text begins in the first column. */
void wrap_end(void);

#endif
