/*
 * The log's last lines when the process dies of a signal: written by the handler, with write(2) and nothing else that
 * it may not do. Owner: the process, which has one set of handlers and so one guarded logger. Lifetime:
 * logger_guard_crashes to logger_close.
 *
 * The line that the writer was at may appear twice: better than not at all.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "telemetry/daemon_error.h"
#include "telemetry/logger_inside.h"
#include "telemetry/text_buffer.h"

#define STACK_BYTES (128u << 10) /* for a handler that runs because the stack is full */

static _Atomic(const logger *) guarded;
static char stack_memory[STACK_BYTES];
static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

static void write_fully(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, text, n);
        if (written <= 0) {
            return;
        }
        text += written;
        n -= (size_t)written;
    }
}

static const char *name_of(int number)
{
    switch (number) {
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGFPE:
        return "SIGFPE";
    case SIGILL:
        return "SIGILL";
    default:
        return "SIGABRT";
    }
}

static void on_deadly_signal(int number)
{
    const logger *l = atomic_exchange(&guarded, NULL); /* a second crash, here, ends at once */
    if (l) {
        char line[LOG_LINE_BYTES_MAX];
        uint64_t end = atomic_load(&l->queued);
        for (uint64_t i = atomic_load(&l->written); i < end; i++) {
            const log_record *r = atomic_load(&l->queue[i % LOGGER_QUEUE_LINES]);
            write_fully(l->file.fd, line, log_record_show(r, l->format, line, sizeof line));
        }
        const char *last[] = {
            l->format == LOG_FORMAT_JSON ? "{\"level\":\"error\",\"part\":\"log\",\"message\":\"died of " : "",
            l->format == LOG_FORMAT_JOURNAL ? "<2>log: died of " : "",
            l->format == LOG_FORMAT_PRETTY || l->format == LOG_FORMAT_COLOUR ? "log: died of " : "", name_of(number),
            l->format == LOG_FORMAT_JSON ? "\"}\n" : "\n"};
        for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
            write_fully(l->file.fd, last[i], strlen(last[i]));
        }
    }
    raise(number); /* its own effect, now that SA_RESETHAND has brought it back */
}

mlxr_status logger_guard_crashes(logger *l, mlxr_error *error)
{
    const logger *nobody = NULL;
    stack_t stack = {.ss_sp = stack_memory, .ss_size = STACK_BYTES};
    if (!atomic_compare_exchange_strong(&guarded, &nobody, l)) {
        return daemon_error(error, MLXR_ARG, "another logger of this process is guarded already");
    }
    sigaltstack(&stack, NULL); /* of this thread; others have theirs, or none */
    struct sigaction action = {.sa_handler = on_deadly_signal, .sa_flags = (int)(SA_ONSTACK | SA_RESETHAND)};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) {
        sigaction(deadly[i], &action, NULL);
    }
    return MLXR_OK;
}

void logger_unguard(const logger *l)
{
    const logger *mine = l;
    if (atomic_compare_exchange_strong(&guarded, &mine, NULL)) {
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigemptyset(&action.sa_mask);
        for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) {
            sigaction(deadly[i], &action, NULL);
        }
    }
}
