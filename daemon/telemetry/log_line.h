/*
 * Lines of the log: made as JSON once, shown as JSON, for people, or for the journal.
 * Owner: the logger. Lifetime: of a record, its last reference's.
 */
#ifndef MLXR_TELEMETRY_LOG_LINE_H
#define MLXR_TELEMETRY_LOG_LINE_H

#include <stdarg.h>
#include <stdatomic.h>

#include "telemetry/logger.h"
#include "telemetry/redact.h"

typedef struct log_record {
    _Atomic uint32_t refs;
    mlxr_log_level level;
    uint64_t seq;
    size_t n;    /* of the text */
    char text[]; /* "time":…} : the members of the JSON object behind "seq" */
} log_record;

#define LOG_MESSAGE_BYTES_MAX 4096u
#define LOG_FIELD_BYTES_MAX 1024u
#define LOG_FIELDS_MAX 24u
/* Of any line in any format: a message of characters that need six bytes each fits, fields beyond are left out. */
#define LOG_LINE_BYTES_MAX 32768u

/* NULL: no memory. */
log_record *log_record_make(int64_t time_us, mlxr_log_level level, const char *part, const log_field *fields,
                            size_t n_fields, const redact_secret *secrets, size_t n_secrets, const char *format,
                            va_list args);
void log_record_unref(log_record *r);

/* The line with its line feed, at most cap bytes of it; returns its length. Allocates nothing and calls nothing that a
 * signal handler must not. */
size_t log_record_show(const log_record *r, log_format format, char *out, size_t cap);

#endif
