/*
 * Making and showing lines. What people read is made of the JSON text, whose strings hold no control characters:
 * nothing that comes from outside can begin a line of its own or steer a terminal. Owner: the logger. Lifetime: see
 * log_line.h.
 */
#include "telemetry/log_line.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "telemetry/text_buffer.h"

static const char *const level_names[] = {"error", "warn", "info", "debug"};

const char *log_level_name(mlxr_log_level level)
{
    return (size_t)level < 4 ? level_names[level] : "debug";
}

bool log_level_find(const char *name, mlxr_log_level *level)
{
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *level = (mlxr_log_level)i;
            return true;
        }
    }
    return false;
}

/* ---- making ---- */

/* n without an unfinished character at the end. */
static size_t whole_characters(const char *text, size_t n)
{
    size_t back = 0;
    while (back < 3 && back < n && ((unsigned char)text[n - 1 - back] & 0xc0) == 0x80) {
        back++;
    }
    bool leads = back < n && ((unsigned char)text[n - 1 - back] & 0xc0) == 0xc0;
    return leads && text_character(text + n - 1 - back, back + 1) == 0 ? n - 1 - back : n;
}

/* Redacted, then cut to n_max bytes, as a JSON string. In this order: half a key is a key, too. Of a longer text 512
 * bytes more than that are needed, for a key that begins before the cut. */
static void add_text(text_buffer *t, const char *text, size_t n, size_t n_max, const redact_secret *secrets,
                     size_t n_secrets)
{
    char clean[LOG_MESSAGE_BYTES_MAX + 640];
    size_t n_looked = n < n_max + 512 ? n : n_max + 512;
    size_t n_clean = redact(text, n_looked, secrets, n_secrets, clean, sizeof clean);
    if (n_clean > n_max || n > n_looked) {
        n_clean = whole_characters(clean, n_clean < n_max ? n_clean : n_max);
        n_clean += (size_t)snprintf(clean + n_clean, sizeof clean - n_clean, " (cut: it had %zu bytes)", n);
    }
    text_add_json(t, clean, n_clean);
}

static void add_time(text_buffer *t, int64_t time_us)
{
    time_t seconds = (time_t)(time_us / 1000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    text_print(t, "\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ\"", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
               utc.tm_hour, utc.tm_min, utc.tm_sec, (int)(time_us % 1000000));
}

static void add_field(text_buffer *t, const log_field *f, const redact_secret *secrets, size_t n_secrets)
{
    if (f->kind == LOG_TEXT && !f->text) {
        return;
    }
    text_add_string(t, ",");
    text_add_json(t, f->name, strlen(f->name));
    text_add_string(t, ":");
    if (f->kind == LOG_SECRET || (f->kind == LOG_TEXT && redact_name(f->name, strlen(f->name)))) {
        text_add_string(t, "\"" REDACTED "\"");
    } else if (f->kind == LOG_TEXT) {
        add_text(t, f->text, strlen(f->text), LOG_FIELD_BYTES_MAX, secrets, n_secrets);
    } else if (f->kind == LOG_INTEGER) {
        text_print(t, "%lld", (long long)f->integer);
    } else if (f->kind == LOG_REAL && isfinite(f->real)) {
        text_print(t, "%.6g", f->real);
    } else if (f->kind == LOG_REAL) {
        text_add_string(t, "null");
    } else if (f->kind == LOG_FLAG) {
        text_add_string(t, f->flag ? "true" : "false");
    } else {
        text_print(t, "\"[%zu bytes]\"", f->n_bytes);
    }
}

log_record *log_record_make(int64_t time_us, mlxr_log_level level, const char *part, const log_field *fields,
                            size_t n_fields, const redact_secret *secrets, size_t n_secrets, const char *format,
                            va_list args)
{
    char message[LOG_MESSAGE_BYTES_MAX + 1024];
    static const log_record head = {0};
    text_buffer t = {0};
    int n = vsnprintf(message, sizeof message, format, args);
    text_add(&t, (const char *)&head, offsetof(log_record, text)); /* the record is the buffer */
    add_time(&t, time_us);
    text_print(&t, ",\"level\":\"%s\",\"part\":", log_level_name(level));
    text_add_json(&t, part, strlen(part));
    text_add_string(&t, ",\"message\":");
    add_text(&t, message, n < 0 ? 0 : (size_t)n, LOG_MESSAGE_BYTES_MAX, secrets, n_secrets);
    for (size_t i = 0; i < n_fields && i < LOG_FIELDS_MAX; i++) {
        size_t before = t.n;
        add_field(&t, &fields[i], secrets, n_secrets);
        if (t.n > LOG_LINE_BYTES_MAX - 256) { /* escapes made it too long */
            t.n = before;
            text_add_string(&t, ",\"fields_left_out\":true");
            break;
        }
    }
    text_add_string(&t, "}");
    if (t.failed) {
        text_buffer_close(&t);
        return NULL;
    }
    log_record *r = (log_record *)(void *)t.data;
    atomic_init(&r->refs, 1);
    r->level = level;
    r->n = t.n - offsetof(log_record, text);
    return r;
}

void log_record_unref(log_record *r)
{
    if (atomic_fetch_sub(&r->refs, 1) == 1) {
        free(r);
    }
}

/* ---- showing ---- */

typedef struct line { /* text of bounded length */
    char *out;
    size_t n, cap;
} line;

static void put(line *l, const char *text, size_t n)
{
    size_t room = l->cap - l->n;
    n = n < room ? n : room;
    memcpy(l->out + l->n, text, n);
    l->n += n;
}

static void put_string(line *l, const char *text)
{
    put(l, text, strlen(text));
}

static void put_unsigned(line *l, uint64_t value)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[sizeof digits - ++n] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    put(l, digits + sizeof digits - n, n);
}

/* What is between the quotes of a JSON string, quotes and backslashes as they are, the rest still escaped. */
static void put_unquoted(line *l, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        i += text[i] == '\\' && i + 1 < n && (text[i + 1] == '"' || text[i + 1] == '\\');
        put(l, text + i, 1);
    }
}

typedef struct member { /* "name":value */
    const char *name, *value;
    size_t n_name, n_value; /* the value with its quotes */
} member;

/* The member at `at`, which follows a comma, a brace or nothing; false at the end. */
static bool next_member(const log_record *r, size_t *at, member *m)
{
    const char *t = r->text;
    size_t i = *at;
    if (i >= r->n || t[i] != '"') {
        return false;
    }
    m->name = t + i + 1;
    for (i++; i < r->n && t[i] != '"'; i++) {
    }
    m->n_name = (size_t)(t + i - m->name);
    i += 2; /* ": */
    m->value = t + i;
    if (i < r->n && t[i] == '"') {
        for (i++; i < r->n && t[i] != '"'; i++) {
            i += t[i] == '\\';
        }
        i++;
    } else {
        while (i < r->n && t[i] != ',' && t[i] != '}') {
            i++;
        }
    }
    m->n_value = (size_t)(t + i - m->value);
    *at = i + 1; /* the comma */
    return true;
}

static const char *colour_of(mlxr_log_level level)
{
    static const char *const colours[] = {"\x1b[31;1m", "\x1b[33m", "\x1b[32m", "\x1b[2m"};
    return colours[level <= MLXR_LOG_DEBUG ? level : MLXR_LOG_DEBUG];
}

static void put_head(line *l, const log_record *r, log_format format, const member *time)
{
    const char *name = log_level_name(r->level);
    if (format == LOG_FORMAT_JOURNAL) {
        static const char *const priorities[] = {"<3>", "<4>", "<6>", "<7>"};
        put_string(l, priorities[r->level <= MLXR_LOG_DEBUG ? r->level : MLXR_LOG_DEBUG]);
        return;
    }
    if (time->n_value > 24) {
        put(l, time->value + 12, 12); /* 19:04:45.123 */
    }
    put_string(l, " ");
    put_string(l, format == LOG_FORMAT_COLOUR ? colour_of(r->level) : "");
    put_string(l, name);
    put_string(l, format == LOG_FORMAT_COLOUR ? "\x1b[0m" : "");
    put(l, "     ", 6 - strlen(name));
}

static void show_for_people(line *l, const log_record *r, log_format format)
{
    member m = {0};
    size_t at = 0;
    next_member(r, &at, &m);
    put_head(l, r, format, &m);
    next_member(r, &at, &m); /* the level */
    for (unsigned i = 0; next_member(r, &at, &m); i++) {
        bool text = *m.value == '"', blank = memchr(m.value, ' ', m.n_value) || m.n_value == 2;
        if (i >= 2) {
            put_string(l, format == LOG_FORMAT_COLOUR ? " \x1b[2m" : " ");
            put(l, m.name, m.n_name);
            put_string(l, format == LOG_FORMAT_COLOUR ? "=\x1b[0m" : "=");
        }
        if (text && (i < 2 || !blank)) {
            put_unquoted(l, m.value + 1, m.n_value - 2);
        } else {
            put(l, m.value, m.n_value);
        }
        put_string(l, i == 0 ? ": " : "");
    }
}

size_t log_record_show(const log_record *r, log_format format, char *out, size_t cap)
{
    line l = {.out = out, .cap = cap - 1};
    if (format == LOG_FORMAT_JSON || format == LOG_FORMAT_AUTO) {
        put_string(&l, "{\"seq\":");
        put_unsigned(&l, r->seq);
        put_string(&l, ",");
        put(&l, r->text, r->n);
    } else {
        show_for_people(&l, r, format);
    }
    out[l.n++] = '\n';
    return l.n;
}
