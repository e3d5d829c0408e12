/*
 * Characters from the terminal, one at a time, and a wait for them that any handler of a signal can end.
 * Owner: line_input. Lifetime: line_keys_open to line_keys_close; one at a time in a process.
 */
#ifndef MLXR_CLI_LINE_KEYS_H
#define MLXR_CLI_LINE_KEYS_H

#include <stdbool.h>
#include <wchar.h>

typedef struct line_keys {
    int fd;          /* the terminal, opened anew so that a read of it does not wait; else stdin */
    int held;        /* a byte that was read behind a character cut short; -1: none */
    bool partial;    /* a character has begun */
    mbstate_t state; /* of it */
} line_keys;

/* False: no pipe. line_keys_close() is due all the same. */
bool line_keys_open(line_keys *keys);
void line_keys_close(line_keys *keys);
/* Ends the wait. For handlers of signals, behind the flag that they set; in any thread. */
void line_keys_wake(void);
/* Reads one character: 1, or 0 at the end, or −1: with EAGAIN it was woken, with EINTR the program was stopped and goes
 * on, or a handler ran; then flags are to be looked at, and the next call goes on in the same character. What is not
 * UTF-8 is U+FFFD. */
int line_keys_read(line_keys *keys, wchar_t *out);
/* Forgets what it has read in part. */
void line_keys_drop(line_keys *keys);

#endif
