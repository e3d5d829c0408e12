/*
 * Logger: lines of JSON with levels and fields, from any thread, to a file or a terminal; the newest stay in memory.
 * Owner: whoever opened it. Lifetime: logger_open to logger_close, longer than all who log.
 *
 *   logger_write ─▶ redacted, formatted ─▶ ring of the newest lines ─▶ subscribers, logger_tail
 *    any thread                        └─▶ bounded queue ─▶ writer thread ─▶ file (rotated), terminal, journal
 *                                            │ full: counted, and told when there is room again
 *
 * Nobody who logs waits for a disk: the one lock is held for copies only. A line is at most some KiB; what is longer is
 * cut and says so. What the kernel was given survives a crash of this process, and logger_guard_crashes gives it the
 * rest.
 *
 * No credentials: every text passes redact(). No prompts, no answers: who has to mention one gives it as log_prompt, of
 * which only the length is written. This holds at every level.
 */
#ifndef MLXR_TELEMETRY_LOGGER_H
#define MLXR_TELEMETRY_LOGGER_H

#include "mlxr.h"

typedef struct logger logger;

typedef enum log_format {
    LOG_FORMAT_AUTO,   /* JSON to a file by its path; else for the journal under systemd, coloured on a terminal, pretty
                        */
    LOG_FORMAT_JSON,   /* {"seq":1,"time":"…","level":"info","part":"server","message":"…", fields} */
    LOG_FORMAT_PRETTY, /* 19:04:45.123 info  server: message field=value */
    LOG_FORMAT_COLOUR, /* the same for a terminal */
    LOG_FORMAT_JOURNAL, /* <6>server: message field=value */
} log_format;

typedef struct logger_options { /* {0} is a valid default */
    const char *level;          /* "error", "warn", "info", "debug"; NULL: info */
    const char *path;           /* a file, made with mode 0600; NULL: stderr */
    int fd;                     /* without a path: where to; 0: stderr */
    log_format format;
    uint64_t rotate_bytes;         /* a file gets no larger; 0: 64 MiB */
    uint32_t rotate_count;         /* old files path.1 (newest) … that are kept; 0: 4 */
    size_t queue_bytes;            /* lines that may wait for the writer; 0: 1 MiB */
    size_t tail_bytes;             /* the newest lines in memory; 0: 512 KiB */
    uint32_t tail_lines;           /* … and so many; 0: 2,000 */
    int64_t (*now_us)(void *user); /* NULL: the system's; microseconds since 1970 */
    void *now_user;
} logger_options;

mlxr_status logger_open(logger **out, const logger_options *options, mlxr_error *error);
/* Writes what waits, for two seconds at most where the reader of a pipe does not read. */
void logger_close(logger **l);

/* False: no such level. */
bool log_level_find(const char *name, mlxr_log_level *level);
const char *log_level_name(mlxr_log_level level);
void logger_level_set(logger *l, mlxr_log_level level);
/* Is this level written? For what would be costly to prepare. */
bool logger_wants(const logger *l, mlxr_log_level level);

/* Texts that are never written, such as a token from the environment. Copied; at most 32 of 8 bytes or more. */
mlxr_status logger_secret_add(logger *l, const char *text, mlxr_error *error);

/* ---- writing ------------------------------------------------------------------------------------------------------
 */

typedef enum log_kind { LOG_TEXT, LOG_INTEGER, LOG_REAL, LOG_FLAG, LOG_PROMPT, LOG_SECRET } log_kind;

typedef struct log_field {
    const char *name; /* a plain word; one that says "authorization" or the like hides its value */
    log_kind kind;
    union {
        const char *text; /* NULL: the field is left out */
        int64_t integer;
        double real;
        bool flag;
        size_t n_bytes; /* PROMPT */
    };
} log_field;

static inline log_field log_text(const char *name, const char *text)
{
    return (log_field){.name = name, .kind = LOG_TEXT, .text = text};
}
static inline log_field log_integer(const char *name, int64_t value)
{
    return (log_field){.name = name, .kind = LOG_INTEGER, .integer = value};
}
static inline log_field log_real(const char *name, double value)
{
    return (log_field){.name = name, .kind = LOG_REAL, .real = value};
}
static inline log_field log_flag(const char *name, bool value)
{
    return (log_field){.name = name, .kind = LOG_FLAG, .flag = value};
}
/* Text of a user or of a model: only its length is written. */
static inline log_field log_prompt(const char *name, size_t n_bytes)
{
    return (log_field){.name = name, .kind = LOG_PROMPT, .n_bytes = n_bytes};
}
/* Says that there was one. */
static inline log_field log_secret(const char *name)
{
    return (log_field){.name = name, .kind = LOG_SECRET};
}

/* Any thread. `part` is a plain word: "server", "engine". The request's id is a field called "request". `l` NULL:
 * nothing. */
void logger_write(logger *l, mlxr_log_level level, const char *part, const log_field *fields, size_t n_fields,
                  const char *format, ...) __attribute__((format(printf, 6, 7)));

/* For mlxr_engine_options.log and the like: `user` is a log_part. */
typedef struct log_part {
    logger *l;
    const char *part;
} log_part;
void log_part_line(void *user, mlxr_log_level level, const char *line);

/* ---- reading ------------------------------------------------------------------------------------------------------
 */

/* One line of JSON without its line feed, borrowed for the call. False: no more. */
typedef bool (*logger_seen)(void *user, uint64_t seq, mlxr_log_level level, const char *json, size_t n);
/* Shows lines that are still in memory and have a number above `after`, oldest first, to at most max_lines. Returns how
 * many lines behind `after` are no longer there. Any thread; `seen` may log. */
uint64_t logger_tail(logger *l, uint64_t after, size_t max_lines, logger_seen seen, void *user);
/* Calls fn after each line, from the thread that logged it: fn must be quick (post to a loop) and must not log. 0:
 * there are 64 already. After logger_unsubscribe has returned it is not called again. */
uint64_t logger_subscribe(logger *l, void (*fn)(void *user), void *user);
void logger_unsubscribe(logger *l, uint64_t id);

typedef struct logger_stats {
    uint64_t n_lines[4];     /* by level */
    uint64_t n_dropped;      /* not written: the queue was full, or there was no memory */
    uint64_t n_write_errors; /* lines lost to errors of the file */
    uint64_t n_rotations;
    uint64_t newest; /* number of the newest line */
    size_t queued_bytes;
} logger_stats;
logger_stats logger_stats_get(logger *l);

/* ---- files --------------------------------------------------------------------------------------------------------
 */

/* Waits until all lines logged before are with the kernel; false: not within this time. */
bool logger_flush(logger *l, uint32_t timeout_ms);
/* Opens the file by its name again, before the next line: somebody else has moved it (SIGHUP). */
void logger_reopen(logger *l);
/* From now on a deadly signal (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT) writes what waits in the queue, and a line
 * that names it, before the process dies of it. One logger a process, until it is closed. */
mlxr_status logger_guard_crashes(logger *l, mlxr_error *error);

#endif
