/*
 * Giving the terminal back.
 * Owner: line_input. Lifetime: terminal_hold to terminal_release.
 *
 *   SIGTERM, SIGHUP, SIGQUIT ─▶ give_back ─▶ the signal's own end
 *   SIGTSTP ─▶ give_back ─▶ stopped ─▶ SIGCONT ─▶ note_continue: whoever reads a line sets the modes again
 *
 * Handlers change nothing on a terminal that is another job's at that time: its modes are that job's. They write to a
 * descriptor of their own that never waits, as Ctrl-S may have stopped the terminal.
 */
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define MARKS_ON "\033[?2004h"
#define MARKS_OFF "\033[?2004l"

static const int signals[] = {SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
#define N_SIGNALS (sizeof signals / sizeof *signals)

/* Handlers have nowhere else to look. Set while none of them is there, but for the flags. */
static struct {
    int fd; /* opened anew, so that a write does not wait; else stdout */
    bool known;
    struct termios original; /* if known */
    struct sigaction before[N_SIGNALS];
    void (*wake)(void);
    volatile sig_atomic_t marks, resized, continued, left;
} held;

static bool is_ours(void)
{
    return tcgetpgrp(held.fd) == getpgrp();
}

static void tell(const char *sequence)
{
    if (write(held.fd, sequence, strlen(sequence)) < 0) { /* it is gone, or takes nothing */
    }
}

static void give_back(void)
{
    if (!is_ours()) {
        return;
    }
    if (held.marks) {
        tell(MARKS_OFF);
    }
    if (held.known) {
        tcsetattr(held.fd, TCSANOW, &held.original);
    }
}

/* ---- handlers ---------------------------------------------------------------------------------------------------- */

static void end(int signal_number)
{
    give_back();
    raise(signal_number); /* SA_RESETHAND, SA_NODEFER: its own action */
}

static void note_continue(int signal_number)
{
    int before = errno;
    (void)signal_number;
    if (held.marks && is_ours()) {
        tell(MARKS_ON);
    }
    held.continued = 1;
    held.wake();
    errno = before;
}

static void stop(int signal_number)
{
    int before = errno;
    struct sigaction usual = {.sa_handler = SIG_DFL}, mine;
    sigemptyset(&usual.sa_mask);
    give_back();
    held.left = 1;
    sigaction(signal_number, &usual, &mine);
    raise(signal_number); /* does nothing where nobody is there to let it go on; or SIGCONT comes, in any thread */
    sigaction(signal_number, &mine, NULL);
    note_continue(signal_number);
    errno = before;
}

static void note_resize(int signal_number)
{
    (void)signal_number;
    held.resized = 1;
    held.wake();
}

/* No write that they come in ends: stdout that failed once has failed for good. */
static struct sigaction action_of(int signal_number)
{
    struct sigaction action = {.sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (signal_number == SIGTSTP) {
        action.sa_handler = stop;
        action.sa_flags |= SA_NODEFER;
    } else if (signal_number == SIGCONT || signal_number == SIGWINCH) {
        action.sa_handler = signal_number == SIGCONT ? note_continue : note_resize;
    } else {
        action.sa_handler = end;
        action.sa_flags |= SA_NODEFER | (int)SA_RESETHAND;
    }
    return action;
}

/* ---- beginning and end ------------------------------------------------------------------------------------------- */

void terminal_hold(void (*wake)(void))
{
    const char *name = ttyname(STDOUT_FILENO);
    int fd = name ? open(name, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC) : -1;
    held.fd = fd >= 0 ? fd : STDOUT_FILENO;
    held.known = tcgetattr(held.fd, &held.original) == 0;
    held.wake = wake;
    held.marks = held.resized = held.continued = held.left = 0;
    for (size_t i = 0; i < N_SIGNALS; i++) {
        struct sigaction action = action_of(signals[i]);
        sigaction(signals[i], NULL, &held.before[i]);
        if (held.before[i].sa_handler != SIG_IGN) {
            sigaction(signals[i], &action, NULL);
        }
    }
}

void terminal_release(void)
{
    for (size_t i = 0; i < N_SIGNALS; i++) {
        sigaction(signals[i], &held.before[i], NULL);
    }
    if (held.fd != STDOUT_FILENO) {
        close(held.fd);
    }
}

void terminal_mark_pastes(bool on)
{
    held.marks = on;
    tell(on ? MARKS_ON : MARKS_OFF);
}

terminal_news terminal_ask(void)
{
    terminal_news news = {0};
    if (held.resized) { /* nothing is taken that was not seen: a signal may come between any two of these */
        held.resized = 0;
        news.resized = true;
    }
    if (held.continued) {
        held.continued = 0;
        news.continued = true;
        news.left = held.left;
        held.left = 0;
    }
    return news;
}

unsigned terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}
