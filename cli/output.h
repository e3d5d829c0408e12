/*
 * What the program writes: errors and notes to stderr, data to stdout, progress bars on a terminal.
 * Owner: the process's streams. Lifetime: the process.
 */
#ifndef MLXR_CLI_OUTPUT_H
#define MLXR_CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mlxr.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_STOPPED = 130 /* by Ctrl-C, as shells have it */ };

/* One line "mlxr: …" on stderr. */
void print_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for what a library call says; returns the exit code: EXIT_USAGE for a bad argument, else EXIT_FAILED. */
int print_failure(const mlxr_error *error);
/* A remark on stderr, dim on a terminal. */
void print_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints the value as one line and frees it. */
int print_json(json_t *value);
/* A number for JSON: null if it is not finite. */
json_t *json_number(double value);
/* Text with what is not UTF-8 replaced by U+FFFD. */
json_t *json_text(const char *text, size_t n);

/* How many bytes at `text` are a character that steers a terminal or the order of what it shows; 0: none. */
size_t text_control(const char *text, size_t n);
/* Columns of a terminal that a character has: two for most of Chinese, Japanese and Korean and for emoji, none for what
 * is set upon the one before. Of the main thread. */
int text_columns(const char *text, size_t n);

/* Writes bytes to stdout and flushes. On a terminal, what plain_line replaces becomes '?' except line feeds and tabs,
 * so that nothing a model says can steer the terminal. False if the output is gone. */
bool write_text(const char *text, size_t n);
/* A text from outside, such as a file's name, as one line for people: control characters, ends of lines and what turns
 * the direction of text are '?'. In a static buffer of the last four calls, of 4,199 bytes at most. */
const char *plain_line(const char *text);
/* Flushes stdout; tells what went wrong, once, unless the reader has just gone. Returns the exit code to end with. */
int finish_output(int exit_code);

/* Whether text for people may have colours. */
bool use_colours(int fd);
/* "1.5 GiB" in a static buffer of the last four calls. */
const char *human_bytes(uint64_t n_bytes);
/* "134.5M" likewise. */
const char *human_count(uint64_t n);

/* Columns of the terminal that stdout is; 0: it is none. */
int output_columns(void);

/* A text of one line on stdout, broken between words at the width of the terminal, else at 112 columns. It begins in
 * column `at`; further lines begin in column `indent`. */
void print_wrapped(const char *text, int indent, int at);
/* The same behind `left`, which has the columns before `indent`, two of them blank; where it is longer, and on a narrow
 * terminal, the text begins on a line of its own. */
void print_entry(const char *left, int indent, const char *text);

/* A table: an array of rows, which are arrays of n texts (6 at most), printed in columns as wide as their longest. */
void table_add(json_t *rows, const char *const *texts, size_t n);
void table_print(const json_t *rows, const char *const *head, size_t n);

double now_seconds(void);

/* A bar on stderr for what takes over a second, on a terminal only. */
typedef struct progress {
    const char *label;
    double started, drawn;
    bool visible;
} progress;
progress progress_begin(const char *label);
/* `note` may be NULL. */
void progress_show(progress *p, double done, double total, const char *note);
/* Removes the bar. */
void progress_end(progress *p);

#endif
