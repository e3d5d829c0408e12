/*
 * Breaking between words.
 * Owner: the process's stdout. Lifetime: the process.
 *
 *   blanks ─▶ counted ─┬─ the row has room for many columns: blanks and word are written as they come
 *                      └─ near its end: the word is held ─┬─ it ends: written behind the blanks
 *                                                         └─ too wide: a new row, without the blanks
 *
 * Nothing is written that is taken back later, so nothing depends on what else the terminal makes of it. A word that is
 * longer than what is left where it began (an address, say) is broken by the terminal, which knows it as one.
 */
#include "wrap.h"

#include <stdio.h>
#include <string.h>

#include "output.h"
#include "telemetry/text_buffer.h"

/* A word is held back where the row has room for fewer columns than this: most words are shorter. */
#define HOLD_COLUMNS 24
#define CODE_INDENT 4
#define FENCE_MIN 3

/* What a line is, by how it begins. */
typedef enum line_kind { LINE_BEGINS, LINE_OF_TEXT, LINE_AS_IT_IS } line_kind;

static struct {
    int at;                           /* the column */
    int blanks;                       /* counted and not written */
    bool in_word;                     /* it is being written */
    char word[4 * HOLD_COLUMNS + 64]; /* [n_word], held back */
    size_t n_word;
    int word_columns;

    line_kind kind;
    int indent;         /* columns of the blanks that begin the line */
    char mark;          /* '`' or '~' where it begins with them, else 0 */
    int n_marks, fence; /* so many; as many as began the code that we are in, 0: in none */
    char fence_mark;
} row;

static void put(const char *bytes, size_t n)
{
    fwrite(bytes, 1, n, stdout);
}

/* ---- columns ----------------------------------------------------------------------------------------------------- */

/* The terminal goes on in the next row by itself. */
static void advance(int columns, int width)
{
    row.at = row.at + columns > width ? columns : row.at + columns;
}

static void write_blanks(int width)
{
    for (; row.blanks > 0; row.blanks--) {
        putchar(' ');
        advance(1, width);
    }
}

static void break_row(void)
{
    putchar('\n');
    row.at = row.blanks = 0;
}

/* ---- words ------------------------------------------------------------------------------------------------------- */

static void release_word(int width)
{
    if (row.n_word > 0) {
        write_blanks(width);
        put(row.word, row.n_word);
        advance(row.word_columns, width);
        row.n_word = 0;
        row.word_columns = 0;
        row.in_word = true;
    }
}

/* Is there no room for so many columns behind the blanks? The last column stays free: some terminals break behind it.
 */
static bool is_full(int columns, int width)
{
    return row.at > 0 && row.at + row.blanks + columns >= width;
}

static void take_character(const char *bytes, size_t n, int columns, int width)
{
    bool alone = columns == 2; /* Chinese, Japanese, emoji: a row may end before it and behind it */
    if (alone) {
        release_word(width);
        row.in_word = false;
    }
    int needed = columns == 0 && row.n_word == 0 && row.blanks > 0 ? 1 : columns; /* the blanks come with it */
    if (needed > 0 && !row.in_word && is_full(row.word_columns + needed, width)) {
        break_row();
        release_word(width);
    }
    bool holds = !row.in_word && !alone && is_full(HOLD_COLUMNS, width);
    if (columns == 0 && row.n_word == 0 && row.blanks == 0) { /* set upon the character before */
        put(bytes, n);
        return;
    }
    if (holds && row.n_word + n <= sizeof row.word) {
        memcpy(row.word + row.n_word, bytes, n);
        row.n_word += n;
        row.word_columns += columns;
        return;
    }
    release_word(width);
    write_blanks(width);
    put(bytes, n);
    advance(columns, width);
    row.in_word = !alone;
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static void end_line(int width)
{
    release_word(width);
    if (!is_full(0, width)) {
        write_blanks(width);
    }
    if (row.mark && row.n_marks >= FENCE_MIN) {
        bool ends = row.fence && row.mark == row.fence_mark && row.n_marks >= row.fence;
        row.fence_mark = row.fence ? row.fence_mark : row.mark;
        row.fence = ends ? 0 : row.fence ? row.fence : row.n_marks;
    }
    break_row();
    row.in_word = false;
    row.kind = LINE_BEGINS;
    row.indent = row.n_marks = 0;
    row.mark = 0;
}

/* Looks at the beginning of a line, up to what tells its kind. */
static void look(char c)
{
    bool marks = (c == '`' || c == '~') && (row.mark == 0 || row.mark == c);
    if (c == ' ' || c == '\t') {
        row.indent += row.mark ? 0 : c == ' ' ? 1 : CODE_INDENT;
    } else if (marks) {
        row.mark = c;
        row.n_marks++;
    } else {
        bool as_it_is = row.fence || row.indent >= CODE_INDENT || c == '|' || row.n_marks >= FENCE_MIN;
        row.kind = as_it_is ? LINE_AS_IT_IS : LINE_OF_TEXT;
        row.mark = row.n_marks >= FENCE_MIN && !row.fence ? row.mark : 0; /* nothing stands behind those that end it */
    }
}

static void take(const char *bytes, size_t n, int columns, int width)
{
    char c = *bytes;
    if (c == '\n') {
        end_line(width);
        return;
    }
    if (row.kind == LINE_BEGINS) {
        look(c);
    } else if (c == '`' && row.mark == '`' && !row.fence) { /* code in a line of text, which only looks like a fence */
        row.mark = 0;
        row.kind = LINE_OF_TEXT;
    }
    if (c == '\t' || row.kind != LINE_OF_TEXT) {
        release_word(width);
        write_blanks(width);
        put(bytes, n);
        advance(c == '\t' ? 8 - row.at % 8 : columns, width);
        row.in_word = c != '\t' && c != ' ';
    } else if (c == ' ') {
        release_word(width);
        row.in_word = false;
        row.blanks++;
    } else {
        take_character(bytes, n, columns, width);
    }
}

/* ---- what it does ------------------------------------------------------------------------------------------------ */

bool wrap_text(const char *text, size_t n)
{
    int width = output_columns();
    if (width == 0) {
        return write_text(text, n);
    }
    row.at = row.at > width ? row.at % width : row.at; /* a narrower terminal has broken the row anew */
    for (size_t i = 0; i < n;) {
        size_t control = text[i] == '\n' || text[i] == '\t' ? 0 : text_control(text + i, n - i);
        size_t length = control ? control : text_character(text + i, n - i);
        length = length ? length : 1;
        if (control) {
            take("?", 1, 1, width);
        } else {
            take(text + i, length, text_columns(text + i, length), width);
        }
        i += length;
    }
    return fflush(stdout) == 0;
}

void wrap_flush(void)
{
    int width = row.n_word > 0 ? output_columns() : 0;
    if (width > 0) {
        release_word(width);
        fflush(stdout);
    }
}

void wrap_end(void)
{
    wrap_flush();
    memset(&row, 0, sizeof row);
}
