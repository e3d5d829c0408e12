/*
 * Noting signals.
 * Owner: the process: a handler has nowhere else to write to. Lifetime: the process.
 */
#include "interrupt.h"

#include <stddef.h>

/* The signal's number, 0: none came. The one thing a handler may do is to set it. */
static volatile sig_atomic_t seen;

static void note(int number)
{
    seen = number;
}

void interrupt_begin(interrupt_state *before)
{
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESETHAND};
    seen = 0;
    sigaction(SIGINT, &action, &before->on_int);
    sigaction(SIGTERM, &action, &before->on_term);
}

void interrupt_end(const interrupt_state *before)
{
    sigaction(SIGINT, &before->on_int, NULL);
    sigaction(SIGTERM, &before->on_term, NULL);
}

bool interrupt_seen(void)
{
    return seen != 0;
}

int interrupt_code(void)
{
    return 128 + seen;
}
