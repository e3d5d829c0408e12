/*
 * Errors, notes, JSON, bars.
 * Owner: the process's streams. Lifetime: the process.
 */
#include "output.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

#include "telemetry/text_buffer.h"
#include "wrap.h"

double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

bool use_colours(int fd)
{
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    return !(no_colour && *no_colour) && isatty(fd) && !(term && strcmp(term, "dumb") == 0);
}

/* ---- text from outside ------------------------------------------------------------------------------------------- */

/* Controls are U+0000 to U+001F and U+007F to U+009F; ends of lines U+2028 and U+2029; embeddings, overrides and
 * isolates of directions U+202A to U+202E and U+2066 to U+2069 (Unicode Standard Annex 9). */
size_t text_control(const char *text, size_t n)
{
    const unsigned char *c = (const unsigned char *)text;
    if (c[0] == 0xc2) {
        return n > 1 && c[1] >= 0x80 && c[1] < 0xa0 ? 2 : 0;
    }
    if (c[0] == 0xe2) {
        bool lines = n > 2 && c[1] == 0x80 && c[2] >= 0xa8 && c[2] <= 0xae;
        bool isolates = n > 2 && c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9;
        return lines || isolates ? 3 : 0;
    }
    return c[0] < ' ' || c[0] == 127 ? 1 : 0;
}

const char *plain_line(const char *text)
{
    static char out[4][4200];
    static unsigned next;
    char *line = out[next++ % 4];
    size_t n = strlen(text), used = 0;
    for (size_t i = 0; i < n && used + 1 < sizeof out[0];) {
        size_t control = text_control(text + i, n - i);
        line[used++] = control ? '?' : text[i];
        i += control ? control : 1;
    }
    line[used] = '\0';
    return line;
}

/* ---- lines of a terminal ----------------------------------------------------------------------------------------- */

#define TEXT_WIDTH 112 /* of what is no terminal */

static int terminal_width(int fd)
{
    struct winsize size = {0};
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

/* As print_wrapped(), without the end of the line; for a line of `width` columns. */
static void write_wrapped(FILE *to, int width, const char *text, int indent, int at)
{
    while (*text) {
        int n_blanks = (int)strspn(text, " "), n_word = (int)strcspn(text + n_blanks, " ");
        if (at > indent && at + n_blanks + n_word >= width) { /* some terminals break behind a full line */
            fprintf(to, "\n%*s", indent, "");
            text += n_blanks;
            at = indent;
            n_blanks = 0;
        }
        fprintf(to, "%.*s", n_blanks + n_word, text);
        at += n_blanks + n_word;
        text += n_blanks + n_word;
    }
}

/* ---- lines on stderr --------------------------------------------------------------------------------------------- */

static void print_remark(const char *before, const char *after, const char *format, va_list args)
{
    char line[2048];
    vsnprintf(line, sizeof line, format, args);
    wrap_flush();
    fflush(stdout);
    const char *plain = plain_line(line); /* arguments and names in files may hold anything */
    fputs(before, stderr);
    if (isatty(STDERR_FILENO)) {
        write_wrapped(stderr, terminal_width(STDERR_FILENO), plain, 0, before[0] == '\033' ? 0 : (int)strlen(before));
    } else {
        fputs(plain, stderr);
    }
    fprintf(stderr, "%s\n", after);
}

void print_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_remark("mlxr: ", "", format, args);
    va_end(args);
}

int print_failure(const mlxr_error *error)
{
    print_error("%s", error->text);
    return error->status == MLXR_ARG ? EXIT_USAGE : EXIT_FAILED;
}

void print_note(const char *format, ...)
{
    bool colours = use_colours(STDERR_FILENO);
    va_list args;
    va_start(args, format);
    print_remark(colours ? "\033[2m" : "", colours ? "\033[0m" : "", format, args);
    va_end(args);
}

/* ---- data on stdout ---------------------------------------------------------------------------------------------- */

int print_json(json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (!text) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    puts(text);
    free(text);
    return finish_output(EXIT_OK);
}

json_t *json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *json_text(const char *text, size_t n)
{
    json_t *value = json_stringn(text, n);
    char *fixed = value ? NULL : malloc(3 * n + 1);
    if (!fixed) {
        return value;
    }
    size_t used = 0;
    for (size_t i = 0; i < n;) {
        size_t length = text_character(text + i, n - i);
        memcpy(fixed + used, length ? text + i : "\xef\xbf\xbd", length ? length : 3);
        used += length ? length : 3;
        i += length ? length : 1;
    }
    value = json_stringn(fixed, used);
    free(fixed);
    return value;
}

bool write_text(const char *text, size_t n)
{
    if (!isatty(STDOUT_FILENO)) {
        fwrite(text, 1, n, stdout);
    } else {
        for (size_t i = 0; i < n;) {
            size_t control = text[i] == '\n' || text[i] == '\t' ? 0 : text_control(text + i, n - i);
            putchar(control ? '?' : text[i]);
            i += control ? control : 1;
        }
    }
    return fflush(stdout) == 0;
}

int finish_output(int exit_code)
{
    static bool told;
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return exit_code;
    }
    int reason = errno;
    if (!reason && write(STDOUT_FILENO, "\n", 1) < 0) { /* the stream forgot why one before failed; the file knows */
        reason = errno;
    }
    if (reason != EPIPE && !told) {
        told = true;
        print_error("cannot write the output%s%s", reason ? ": " : "", reason ? strerror(reason) : "");
    }
    return EXIT_FAILED;
}

/* ---- numbers for people ------------------------------------------------------------------------------------------ */

static char *next_buffer(void)
{
    static char buffers[4][32];
    static unsigned next;
    return buffers[next++ % 4];
}

const char *human_bytes(uint64_t n_bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    char *out = next_buffer();
    unsigned unit = 0;
    double value = (double)n_bytes;
    for (; value >= 1024 && unit < 4; unit++) {
        value /= 1024;
    }
    snprintf(out, 32,
             unit == 0     ? "%.0f %s"
             : value < 10  ? "%.2f %s"
             : value < 100 ? "%.1f %s"
                           : "%.0f %s",
             value, units[unit]);
    return out;
}

const char *human_count(uint64_t n)
{
    static const char *const units[] = {"", "K", "M", "B", "T"};
    char *out = next_buffer();
    unsigned unit = 0;
    double value = (double)n;
    for (; value >= 1000 && unit < 4; unit++) {
        value /= 1000;
    }
    snprintf(out, 32, unit == 0 ? "%.0f%s" : value < 10 ? "%.2f%s" : "%.1f%s", value, units[unit]);
    return out;
}

/* ---- columns ----------------------------------------------------------------------------------------------------- */

/* (locale_t)0 where there is none. */
static locale_t utf8_locale(void)
{
    static locale_t found;
    static bool asked;
    if (!asked) {
        asked = true;
        found = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
        found = found ? found : newlocale(LC_CTYPE_MASK, "UTF-8", (locale_t)0); /* macOS */
    }
    return found;
}

int text_columns(const char *text, size_t n)
{
    wchar_t character = 0;
    mbstate_t state = {0};
    locale_t utf8 = utf8_locale(), before = uselocale(utf8); /* (locale_t)0 changes nothing */
    bool known = utf8 && mbrtowc(&character, text, n, &state) <= n;
    int columns = known ? wcwidth(character) : ((unsigned char)*text & 0xc0) != 0x80;
    uselocale(before);
    return columns >= 0 ? columns : 1;
}

static size_t n_columns_of(const char *text)
{
    size_t columns = 0;
    for (size_t left = strlen(text); left > 0;) {
        size_t n = text_character(text, left);
        n = n ? n : 1;
        columns += (size_t)text_columns(text, n);
        text += n;
        left -= n;
    }
    return columns;
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

void table_print(const json_t *rows, const char *const *head, size_t n_columns)
{
    size_t width[6] = {0};
    for (size_t c = 0; c < n_columns; c++) {
        width[c] = strlen(head[c]);
        for (size_t i = 0; i < json_array_size(rows); i++) {
            size_t n = n_columns_of(json_string_value(json_array_get(json_array_get(rows, i), c)));
            width[c] = n > width[c] ? n : width[c];
        }
    }
    for (size_t i = 0; i <= json_array_size(rows); i++) {
        for (size_t c = 0; c < n_columns; c++) {
            const char *text = i == 0 ? head[c] : json_string_value(json_array_get(json_array_get(rows, i - 1), c));
            bool last = c + 1 == n_columns;
            printf("%s%*s", text, last ? 0 : (int)(width[c] + 2 - n_columns_of(text)), "");
        }
        putchar('\n');
    }
}

void table_add(json_t *rows, const char *const *texts, size_t n)
{
    json_t *row = json_array();
    for (size_t i = 0; i < n; i++) {
        const char *line = plain_line(texts[i]);
        json_array_append_new(row, json_text(line, strlen(line)));
    }
    json_array_append_new(rows, row);
}

/* ---- texts on a terminal ----------------------------------------------------------------------------------------- */

#define NARROW_INDENT 8

int output_columns(void)
{
    return isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 0;
}

void print_wrapped(const char *text, int indent, int at)
{
    int width = isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : TEXT_WIDTH;
    write_wrapped(stdout, width, text, indent, at);
    putchar('\n');
}

void print_entry(const char *left, int indent, const char *text)
{
    if (isatty(STDOUT_FILENO) && terminal_width(STDOUT_FILENO) < indent + 24) {
        printf("%s\n%*s", left, NARROW_INDENT, "");
        print_wrapped(text, NARROW_INDENT, NARROW_INDENT);
    } else if (strlen(left) + 2 > (size_t)indent) { /* would touch its text */
        printf("%s\n%*s", left, indent, "");
        print_wrapped(text, indent, indent);
    } else {
        print_wrapped(text, indent, printf("%-*s ", indent - 1, left));
    }
}

/* ---- bars -------------------------------------------------------------------------------------------------------- */

progress progress_begin(const char *label)
{
    return (progress){.label = label, .started = now_seconds()};
}

void progress_show(progress *p, double done, double total, const char *note)
{
    double now = now_seconds(), share = total > 0 ? done / total : 0;
    if (now - p->started < 1 || now - p->drawn < 0.1 || !isatty(STDERR_FILENO)) {
        return;
    }
    double left = share > 0 ? (now - p->started) * (1 - share) / share : 0;
    char text[256], bar[25];
    int filled = (int)(share * 24 + 0.5);
    for (int i = 0; i < 24; i++) {
        bar[i] = i < filled ? '#' : '.';
    }
    bar[24] = '\0';
    int n = snprintf(text, sizeof text, "%s [%s] %3.0f%%  %.0f s left  %s", plain_line(p->label), bar, share * 100,
                     left, note ? plain_line(note) : "");
    int width = terminal_width(STDERR_FILENO) - 1;
    fprintf(stderr, "\r\033[K%.*s", n < width ? n : width, text);
    fflush(stderr);
    p->drawn = now;
    p->visible = true;
}

void progress_end(progress *p)
{
    if (p->visible) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        p->visible = false;
    }
}
