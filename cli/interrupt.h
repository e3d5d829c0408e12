/*
 * SIGINT and SIGTERM as a wish to stop, for verbs that then leave nothing behind.
 * Owner: the verb. Lifetime: interrupt_begin to interrupt_end.
 */
#ifndef MLXR_CLI_INTERRUPT_H
#define MLXR_CLI_INTERRUPT_H

#include <signal.h>
#include <stdbool.h>

typedef struct interrupt_state { /* what was there before */
    struct sigaction on_int, on_term;
} interrupt_state;

/* The first signal is noted, a second one ends the process. */
void interrupt_begin(interrupt_state *before);
void interrupt_end(const interrupt_state *before);
bool interrupt_seen(void);
/* What a verb exits with that the signal seen has stopped: 130 or 143, as shells have it. */
int interrupt_code(void);

#endif
