/*
 * Line editing with libedit.
 * Owner: the chat. Lifetime: line_input_open to line_input_close.
 *
 * libedit starts a read again that a signal interrupted. So characters are read here: an interruption becomes the
 * character ^C, and that is bound to a command which gives the line up. The other signals are the terminal's
 * (terminal.h): libedit's own handlers allocate, send signals to the whole process group, and serve once in a line.
 *
 * While the chat goes on the terminal marks what is pasted ("bracketed paste"), so that several pasted lines are one
 * text that Enter sends, and not as many messages.
 */
#include "line_input.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "line_history.h"
#include "line_keys.h"
#include "output.h"
#include "terminal.h"

#define CANCEL L'\003'
#define PROMPT_COLUMNS 4
#define QUOTES "\"\"\""
#define N_QUOTES (sizeof QUOTES - 1)

static const wchar_t paste_begin[] = L"\033[200~", paste_end[] = L"\033[201~";
#define N_MARK (sizeof paste_begin / sizeof *paste_begin - 1)

struct line_input {
    EditLine *editor;
    line_history history;
    volatile sig_atomic_t *interrupted;
    const char *const *words;
    bool cancelled, continued, colours;
    bool cancel_given; /* libedit was given ^C, and no command took it so far */
    bool marks;        /* the terminal can be told to mark what is pasted */
    bool quotes_typed; /* the line begins with quotes that are not a part of what is pasted behind them */
    size_t pasted_end; /* characters of the line up to the end of several pasted lines; 0: there are none */
    size_t n_mark;     /* characters of paste_begin that were read last */
    line_keys keys;
    unsigned columns; /* of the terminal when the line was last drawn */
};

static line_input *of(EditLine *editor)
{
    line_input *input = NULL;
    el_get(editor, EL_CLIENTDATA, &input);
    return input;
}

void line_input_wake(void)
{
    line_keys_wake();
}

static const char *prompt(EditLine *editor)
{
    const line_input *input = of(editor);
    if (input->continued) {
        return input->colours ? "\1\033[2m\1... \1\033[0m\1" : "... ";
    }
    return input->colours ? "\1\033[1m\1>>> \1\033[0m\1" : ">>> ";
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

/* Rows between the first one of the line and the cursor, on a terminal that broke it anew at `columns`. */
static unsigned rows_above_cursor(EditLine *editor, unsigned columns)
{
    const LineInfoW *line = el_wline(editor);
    unsigned row = 0, column = PROMPT_COLUMNS;
    for (const wchar_t *c = line->buffer; c < line->cursor; c++) {
        int width = wcwidth(*c);
        unsigned n = *c == L'\t' ? 8 - column % 8 : width > 0 ? (unsigned)width : 0;
        bool full = *c == L'\n' || column + n > columns;
        row += full;
        column = *c == L'\n' ? 0 : full ? n : column + n;
    }
    return row + (column >= columns); /* a full row has the cursor below it */
}

/* Draws the line again. libedit begins where the cursor is, which is put where the line begins; behind a stop it is on
 * a new row. */
static void draw_again(EditLine *editor, terminal_news news)
{
    line_input *input = of(editor);
    unsigned columns = terminal_columns(), rows = news.left ? 0 : rows_above_cursor(editor, columns);
    if (news.continued) {
        el_set(editor, EL_PREP_TERM, 0); /* the modes are the shell's, and libedit takes them for its own still */
        el_set(editor, EL_PREP_TERM, 1);
    }
    printf(rows > 0 ? "\r\033[%uA\033[J" : "\r\033[J", rows);
    el_resize(editor);
    input->columns = columns;
    fflush(stdout);
    el_set(editor, EL_REFRESH);
}

/* Gives ^C, and once more if it was swallowed: by a sequence of keys that an ESC had begun. Without editing there are
 * no commands, and libedit itself gives the line up when a read was interrupted. */
static int read_cancel(EditLine *editor, wchar_t *out)
{
    line_input *input = of(editor);
    int edits = 1;
    input->cancel_given = *input->interrupted;
    *input->interrupted = 0;
    input->n_mark = 0;
    line_keys_drop(&input->keys);
    el_get(editor, EL_EDITMODE, &edits);
    if (!edits) {
        input->cancelled = true;
        input->cancel_given = false;
        errno = EINTR;
        return -1;
    }
    *out = CANCEL;
    return 1;
}

/* A search in the history ends with the ESC of the mark before what is pasted, and the rest of the mark became text.
 * True: it is a key again, behind the ESC. */
static bool take_mark_back(EditLine *editor)
{
    line_input *input = of(editor);
    const LineInfoW *line = el_wline(editor);
    const size_t n = N_MARK - 1;
    if (input->n_mark < N_MARK) {
        return false;
    }
    input->n_mark = 0;
    if ((size_t)(line->cursor - line->buffer) < n || wmemcmp(line->cursor - n, paste_begin + 1, n) != 0) {
        return false;
    }
    el_deletestr(editor, (int)n);
    el_wpush(editor, paste_begin + 1);
    return true;
}

/* Reads one character: 1, or 0 at the end, or −1. */
static int read_character(EditLine *editor, wchar_t *out)
{
    line_input *input = of(editor);
    if (take_mark_back(editor)) {
        *out = paste_begin[0];
        return 1;
    }
    for (;;) {
        if (*input->interrupted || input->cancel_given) {
            return read_cancel(editor, out);
        }
        terminal_news news = terminal_ask();
        if (news.resized || news.continued) {
            draw_again(editor, news);
        }
        int n = line_keys_read(&input->keys, out);
        if (n == 1) {
            input->n_mark = *out == paste_begin[input->n_mark] ? input->n_mark + 1 : *out == paste_begin[0];
        }
        if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
            return n;
        }
    }
}

static unsigned char cancel_line(EditLine *editor, int c)
{
    line_input *input = of(editor);
    (void)c;
    input->cancelled = true;
    input->cancel_given = false;
    return CC_EOF;
}

static size_t line_length(const LineInfoW *line)
{
    return (size_t)(line->lastchar - line->buffer);
}

typedef struct pasted_text {
    wchar_t *data;
    size_t n, cap;
} pasted_text;

static bool add_pasted(pasted_text *text, wchar_t c)
{
    if (text->n + 1 >= text->cap) {
        size_t cap = text->cap ? 2 * text->cap : 1024;
        wchar_t *grown = realloc(text->data, cap * sizeof *grown);
        if (!grown) {
            return false;
        }
        text->data = grown;
        text->cap = cap;
    }
    text->data[text->n++] = c;
    text->data[text->n] = L'\0';
    return true;
}

/* False: no memory. Where the line has an end of a line already, what begins it was pasted, too, or is of the history.
 */
static bool insert_pasted(EditLine *editor, const pasted_text *text)
{
    line_input *input = of(editor);
    const LineInfoW *line = el_wline(editor);
    bool quoted = line->cursor - line->buffer >= (ptrdiff_t)N_QUOTES &&
                  wmemcmp(line->buffer, L"" QUOTES, N_QUOTES) == 0;
    input->quotes_typed = input->quotes_typed || (quoted && !wmemchr(line->buffer, L'\n', line_length(line)));
    if (el_winsertstr(editor, text->data) != 0) {
        return false;
    }
    line = el_wline(editor);
    if (wmemchr(text->data, L'\n', text->n)) {
        input->pasted_end = (size_t)(line->cursor - line->buffer);
    }
    return true;
}

/* Puts what is pasted into the line, up to the mark of its end. Ends of lines may be CR or LF, and those at its
 * end are not meant; of control characters, which would steer the terminal, tabs are kept. */
static unsigned char paste(EditLine *editor, int c)
{
    line_input *input = of(editor);
    pasted_text text = {0};
    wchar_t next = 0;
    size_t matched = 0;
    bool kept = true;
    input->n_mark = 0;
    while (matched < N_MARK) {
        if (el_wgetc(editor, &next) != 1 || next == CANCEL) {
            free(text.data);
            return next == CANCEL ? cancel_line(editor, c) : CC_EOF;
        }
        matched = next == paste_end[matched] ? matched + 1 : next == paste_end[0] ? 1 : 0;
        bool break_seen = next == L'\r' || next == L'\n';
        if (break_seen || next == L'\t' || (next >= L' ' && next != 0x7f && !(next >= 0x80 && next < 0xa0))) {
            kept = kept && add_pasted(&text, break_seen ? L'\n' : next);
        }
    }
    text.n -= text.n >= N_MARK - 1 ? N_MARK - 1 : text.n; /* the mark without its ESC, which was not kept */
    while (text.n > 0 && text.data[text.n - 1] == L'\n') {
        text.n--;
    }
    if (text.data) {
        text.data[text.n] = L'\0';
    }
    bool inserted = kept && (text.n == 0 || insert_pasted(editor, &text));
    free(text.data);
    return inserted ? CC_REFRESH : CC_ERROR;
}

/* Completes a word that begins the line: the chat's commands. */
static unsigned char complete_word(EditLine *editor, int c)
{
    (void)c;
    const line_input *input = of(editor);
    const LineInfo *line = el_line(editor);
    size_t n = (size_t)(line->cursor - line->buffer), n_common = 0;
    const char *found = NULL;
    unsigned n_found = 0;
    for (const char *const *word = input->words; n > 0 && *word; word++) {
        if (strncmp(*word, line->buffer, n) != 0) {
            continue;
        }
        size_t length = strlen(*word);
        if (n_found++ == 0) {
            found = *word;
            n_common = length;
        }
        for (size_t i = 0; i < n_common; i++) {
            n_common = i < length && (*word)[i] == found[i] ? n_common : i;
        }
    }
    char rest[64];
    if (n_found == 0 || n_common < n || n_common - n + 2 > sizeof rest) {
        return CC_ERROR;
    }
    memcpy(rest, found + n, n_common - n);
    strcpy(rest + n_common - n, n_found == 1 ? " " : "");
    return *rest && el_insertstr(editor, rest) == 0 ? CC_REFRESH : CC_ERROR;
}

line_input *line_input_open(volatile sig_atomic_t *interrupted, const char *const *words)
{
    line_input *input = calloc(1, sizeof *input);
    if (!input) {
        return NULL;
    }
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) { /* a bare container: texts are UTF-8 all the same */
        if (!setlocale(LC_CTYPE, "C.UTF-8")) {
            setlocale(LC_CTYPE, "UTF-8"); /* macOS */
        }
    }
    input->interrupted = interrupted;
    input->words = words;
    input->colours = use_colours(STDOUT_FILENO);
    bool waits = line_keys_open(&input->keys);
    terminal_hold(line_keys_wake);
    input->editor = el_init("mlxr", stdin, stdout, stderr);
    bool remembers = line_history_open(&input->history);
    if (!waits || !input->editor || !remembers) {
        line_input_close(&input);
        return NULL;
    }
    el_set(input->editor, EL_CLIENTDATA, input);
    el_set(input->editor, EL_PROMPT_ESC, prompt, '\1');
    el_set(input->editor, EL_EDITOR, "emacs");
    el_set(input->editor, EL_GETCFN, read_character);
    el_wset(input->editor, EL_ADDFN, L"mlxr-cancel", L"give the line up",
            cancel_line); /* el_set would leak the names */
    el_wset(input->editor, EL_ADDFN, L"mlxr-complete", L"complete a command", complete_word);
    el_wset(input->editor, EL_ADDFN, L"mlxr-paste", L"take what is pasted as one text", paste);
    el_source(input->editor, NULL); /* the user's ~/.editrc */
    el_set(input->editor, EL_BIND, "^C", "mlxr-cancel", NULL);
    el_set(input->editor, EL_BIND, "\\e[200~", "mlxr-paste", NULL);
    el_set(input->editor, EL_BIND, "\t", "mlxr-complete", NULL);
    el_set(input->editor, EL_HIST, history, input->history.list);
    const char *term = getenv("TERM");
    int edits = 1; /* not where ~/.editrc says so: then nothing takes the marks away */
    el_get(input->editor, EL_EDITMODE, &edits);
    input->marks = edits && isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
    if (input->marks) {
        terminal_mark_pastes(true);
    }
    return input;
}

void line_input_close(line_input **pointer)
{
    line_input *input = *pointer;
    if (!input) {
        return;
    }
    if (input->marks) {
        fflush(stdout);
        terminal_mark_pastes(false);
    }
    if (input->editor) {
        el_end(input->editor);
    }
    line_history_close(&input->history);
    terminal_release();
    line_keys_close(&input->keys);
    free(input);
    *pointer = NULL;
}

/* ---- texts of several lines -------------------------------------------------------------------------------------- */

typedef struct text_buffer {
    char *data;
    size_t n;
} text_buffer;

static bool add(text_buffer *text, const char *bytes, size_t n)
{
    char *grown = realloc(text->data, text->n + n + 1);
    if (!grown) {
        return false;
    }
    memcpy(grown + text->n, bytes, n);
    text->data = grown;
    text->n += n;
    grown[text->n] = '\0';
    return true;
}

/* A line as it was typed. Lines that were pasted, or come from the history, are in one of these. */
typedef struct typed_line {
    const char *data;
    size_t n;
    bool quotes_meant, backslash_meant; /* at its begin, at its end: they are not a part of what was pasted */
} typed_line;

/* What el_gets() has left. */
static typed_line describe_line(const line_input *input, const char *data, size_t n)
{
    size_t n_wide = line_length(el_wline(input->editor));
    if (data[n - 1] == '\n') {
        n--;
        n_wide--;
    }
    return (typed_line){.data = data,
                        .n = n,
                        .quotes_meant = input->quotes_typed || !memchr(data, '\n', n),
                        .backslash_meant = input->pasted_end == 0 || input->pasted_end != n_wide};
}

static line_result read_line(line_input *input, typed_line *line)
{
    int count = 0;
    input->cancelled = input->cancel_given = input->quotes_typed = false;
    input->pasted_end = input->n_mark = 0;
    input->columns = terminal_columns();
    if (terminal_ask().continued && input->marks) {
        terminal_mark_pastes(true); /* it may have gone on as another job than the terminal's */
    }
    /* Before the prompt: libedit does it after, and a key pressed in between counts. Behind the question above: a stop
     * from here on is for read_character, which sets the modes again. */
    el_set(input->editor, EL_PREP_TERM, 1);
    const char *data = el_gets(input->editor, &count);
    if (!data || count <= 0) {
        putchar('\n');
        fflush(stdout);
        return input->cancelled ? LINE_CANCELLED : LINE_END;
    }
    *line = describe_line(input, data, (size_t)count);
    return LINE_TEXT;
}

/* Adds a line to the text; false if it was the last one. */
static bool add_line(text_buffer *text, typed_line line, bool *quoted, bool *failed)
{
    bool first = text->n == 0 && !*quoted;
    if (first && line.quotes_meant && line.n >= N_QUOTES && memcmp(line.data, QUOTES, N_QUOTES) == 0) {
        *quoted = true;
        line.data += N_QUOTES;
        line.n -= N_QUOTES;
        if (line.n == 0) {
            return true;
        }
    }
    if (*quoted) {
        bool last = line.n >= N_QUOTES && memcmp(line.data + line.n - N_QUOTES, QUOTES, N_QUOTES) == 0;
        *failed = !add(text, line.data, last ? line.n - N_QUOTES : line.n) || (!last && !add(text, "\n", 1));
        if (last && text->n > 0 && text->data[text->n - 1] == '\n') {
            text->data[--text->n] = '\0';
        }
        return !last && !*failed;
    }
    bool more = line.backslash_meant && line.n > 0 && line.data[line.n - 1] == '\\';
    *failed = !add(text, line.data, more ? line.n - 1 : line.n) || (more && !add(text, "\n", 1));
    return more && !*failed;
}

line_result line_input_read(line_input *input, char **out)
{
    text_buffer text = {0};
    bool quoted = false, failed = false, more = true;
    input->continued = false;
    while (more) {
        typed_line line;
        line_result result = read_line(input, &line);
        if (result != LINE_TEXT) {
            free(text.data);
            return result;
        }
        more = add_line(&text, line, &quoted, &failed);
        input->continued = true;
    }
    if (failed) {
        print_error("out of memory");
        free(text.data);
        return LINE_END;
    }
    if (text.n > 0 && text.data[strspn(text.data, " \t\n")]) {
        line_history_add(&input->history, text.data);
    }
    *out = text.data;
    return LINE_TEXT;
}
