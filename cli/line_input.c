/*
 * Line editing with libedit.
 * Owner: the chat. Lifetime: line_input_open to line_input_close.
 *
 * libedit starts a read again that a signal interrupted. So characters are read here: an interruption becomes the
 * character ^C, and that is bound to a command which gives the line up.
 *
 * While the chat goes on the terminal marks what is pasted ("bracketed paste"), so that several pasted lines are one
 * text that Enter sends, and not as many messages.
 */
#include "line_input.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "output.h"

#define HISTORY_ENTRIES 1000
#define CANCEL L'\003'
#define PASTE_MARKS_ON "\033[?2004h"
#define PASTE_MARKS_OFF "\033[?2004l"
#define PROMPT_COLUMNS 4

struct line_input {
    EditLine *editor;
    History *history;
    HistEvent event;
    volatile sig_atomic_t *interrupted;
    const char *const *words;
    bool cancelled, continued, colours;
    bool marks;       /* the terminal can be told to mark what is pasted */
    unsigned columns; /* of the terminal when the line was last drawn */
    char history_path[1024];
};

static line_input *of(EditLine *editor)
{
    line_input *input = NULL;
    el_get(editor, EL_CLIENTDATA, &input);
    return input;
}

static const char *prompt(EditLine *editor)
{
    const line_input *input = of(editor);
    if (input->continued) {
        return input->colours ? "\1\033[2m\1... \1\033[0m\1" : "... ";
    }
    return input->colours ? "\1\033[1m\1>>> \1\033[0m\1" : ">>> ";
}

/* Set by the handler of SIGWINCH, which ends a read: draw_again() comes of it. */
static volatile sig_atomic_t resize_seen;

static void note_resize(int signal_number)
{
    (void)signal_number;
    resize_seen = 1;
}

/* Of the terminal; 80 where it does not say. */
static unsigned terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

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

/* Draws the line again behind a signal. libedit begins where the cursor is: behind another size of the terminal that
 * is put where the line begins; behind a pause it is on a row of its own. */
static void draw_again(EditLine *editor)
{
    line_input *input = of(editor);
    unsigned columns = terminal_columns();
    if (resize_seen || columns != input->columns) {
        resize_seen = 0;
        unsigned rows = rows_above_cursor(editor, columns);
        printf(rows > 0 ? "\r\033[%uA\033[J" : "\r\033[J", rows);
        el_resize(editor);
        input->columns = columns;
    }
    if (input->marks) {
        fputs(PASTE_MARKS_ON, stdout); /* a shell in between has turned them off */
    }
    fflush(stdout);
    el_set(editor, EL_REFRESH);
}

/* Reads one character: 1, or 0 at the end, or −1. */
static int read_character(EditLine *editor, wchar_t *out)
{
    line_input *input = of(editor);
    mbstate_t state = {0};
    for (;;) {
        char byte;
        if (resize_seen || terminal_columns() != input->columns) { /* while nothing was read */
            draw_again(editor);
        }
        ssize_t n = *input->interrupted ? -1 : read(STDIN_FILENO, &byte, 1);
        if (n < 0 && (*input->interrupted || errno == EINTR)) {
            if (*input->interrupted) {
                *input->interrupted = 0;
                *out = CANCEL;
                return 1;
            }
            draw_again(editor); /* stopped and continued, or resized */
            continue;
        }
        if (n <= 0) {
            return (int)n;
        }
        size_t length = mbrtowc(out, &byte, 1, &state);
        if (length == (size_t)-2) {
            continue;
        }
        if (length == (size_t)-1) {
            *out = L'\xfffd';
        }
        return 1;
    }
}

static unsigned char cancel_line(EditLine *editor, int c)
{
    (void)c;
    of(editor)->cancelled = true;
    return CC_EOF;
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

/* Puts what is pasted into the line, up to the mark of its end. Ends of lines may be CR or LF, and those at its
 * end are not meant; of control characters, which would steer the terminal, tabs are kept. */
static unsigned char paste(EditLine *editor, int c)
{
    static const wchar_t end[] = L"\033[201~";
    const size_t n_end = sizeof end / sizeof *end - 1;
    line_input *input = of(editor);
    pasted_text text = {0};
    wchar_t next;
    size_t matched = 0;
    bool kept = true;
    (void)c;
    while (matched < n_end) {
        if (el_wgetc(editor, &next) != 1 || next == CANCEL) {
            free(text.data);
            input->cancelled = next == CANCEL;
            return CC_EOF;
        }
        matched = next == end[matched] ? matched + 1 : next == end[0] ? 1 : 0;
        bool break_seen = next == L'\r' || next == L'\n';
        if (break_seen || next == L'\t' || (next >= L' ' && next != 0x7f && !(next >= 0x80 && next < 0xa0))) {
            kept = kept && add_pasted(&text, break_seen ? L'\n' : next);
        }
    }
    text.n -= text.n >= n_end - 1 ? n_end - 1 : text.n; /* the mark without its ESC, which was not kept */
    while (text.n > 0 && text.data[text.n - 1] == L'\n') {
        text.n--;
    }
    if (text.data) {
        text.data[text.n] = L'\0';
    }
    bool inserted = kept && (text.n == 0 || el_winsertstr(editor, text.data) == 0);
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

/* Makes the directories of a path, for this user only. */
static void make_directories(char *path)
{
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
}

static bool find_history(char *path, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state && *state == '/') {
        n = snprintf(path, cap, "%s/mlxr/history", state);
    } else if (home && *home) {
        n = snprintf(path, cap, "%s/.local/state/mlxr/history", home);
    }
    if (n < 0 || (size_t)n >= cap) {
        *path = '\0';
        return false;
    }
    make_directories(path);
    return true;
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
    input->editor = el_init("mlxr", stdin, stdout, stderr);
    input->history = history_init();
    if (!input->editor || !input->history) {
        line_input_close(&input);
        return NULL;
    }
    el_set(input->editor, EL_CLIENTDATA, input);
    el_set(input->editor, EL_PROMPT_ESC, prompt, '\1');
    el_set(input->editor, EL_EDITOR, "emacs");
    el_set(input->editor, EL_SIGNAL, 1);
    el_set(input->editor, EL_GETCFN, read_character);
    el_wset(input->editor, EL_ADDFN, L"mlxr-cancel", L"give the line up",
            cancel_line); /* el_set would leak the names */
    el_wset(input->editor, EL_ADDFN, L"mlxr-complete", L"complete a command", complete_word);
    el_wset(input->editor, EL_ADDFN, L"mlxr-paste", L"take what is pasted as one text", paste);
    el_source(input->editor, NULL); /* the user's ~/.editrc */
    el_set(input->editor, EL_BIND, "^C", "mlxr-cancel", NULL);
    el_set(input->editor, EL_BIND, "\\e[200~", "mlxr-paste", NULL);
    el_set(input->editor, EL_BIND, "\t", "mlxr-complete", NULL);
    history(input->history, &input->event, H_SETSIZE, HISTORY_ENTRIES);
    history(input->history, &input->event, H_SETUNIQUE, 1);
    if (find_history(input->history_path, sizeof input->history_path)) {
        history(input->history, &input->event, H_LOAD, input->history_path);
    }
    el_set(input->editor, EL_HIST, history, input->history);
    const char *term = getenv("TERM");
    input->marks = isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
    if (input->marks) {
        fputs(PASTE_MARKS_ON, stdout);
    }
    return input;
}

static void save_history(line_input *input)
{
    if (*input->history_path) {
        mode_t mask = umask(0077); /* it may hold private things */
        history(input->history, &input->event, H_SAVE, input->history_path);
        umask(mask);
    }
}

void line_input_close(line_input **pointer)
{
    line_input *input = *pointer;
    if (!input) {
        return;
    }
    if (input->marks) {
        fputs(PASTE_MARKS_OFF, stdout);
        fflush(stdout);
    }
    if (input->history) {
        save_history(input);
        history_end(input->history);
    }
    if (input->editor) {
        el_end(input->editor);
    }
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

static line_result read_line(line_input *input, const char **line, size_t *n)
{
    int count = 0;
    input->cancelled = false;
    input->columns = terminal_columns();
    el_set(input->editor, EL_PREP_TERM,
           1); /* before the prompt: libedit does it after, and a key pressed in between counts */
    /* libedit takes a line's first change of size only, and then puts back who had the signal before. */
    struct sigaction resized = {.sa_handler = note_resize}, before;
    sigaction(SIGWINCH, &resized, &before);
    *line = el_gets(input->editor, &count);
    sigaction(SIGWINCH, &before, NULL);
    if (!*line || count <= 0) {
        putchar('\n');
        fflush(stdout);
        return input->cancelled ? LINE_CANCELLED : LINE_END;
    }
    *n = (size_t)count;
    if ((*line)[*n - 1] == '\n') {
        --*n;
    }
    return LINE_TEXT;
}

/* Adds a line to the text; false if it was the last one. */
static bool add_line(text_buffer *text, const char *line, size_t n, bool *quoted, bool *failed)
{
    static const char quotes[] = "\"\"\"";
    bool first = text->n == 0 && !*quoted;
    if (first && n >= 3 && memcmp(line, quotes, 3) == 0) {
        *quoted = true;
        line += 3;
        n -= 3;
        if (n == 0) {
            return true;
        }
    }
    if (*quoted) {
        bool last = n >= 3 && memcmp(line + n - 3, quotes, 3) == 0;
        *failed = !add(text, line, last ? n - 3 : n) || (!last && !add(text, "\n", 1));
        if (last && text->n > 0 && text->data[text->n - 1] == '\n') {
            text->data[--text->n] = '\0';
        }
        return !last && !*failed;
    }
    bool more = n > 0 && line[n - 1] == '\\';
    *failed = !add(text, line, more ? n - 1 : n) || (more && !add(text, "\n", 1));
    return more && !*failed;
}

line_result line_input_read(line_input *input, char **out)
{
    text_buffer text = {0};
    bool quoted = false, failed = false, more = true;
    input->continued = false;
    while (more) {
        const char *line;
        size_t n = 0;
        line_result result = read_line(input, &line, &n);
        if (result != LINE_TEXT) {
            free(text.data);
            return result;
        }
        more = add_line(&text, line, n, &quoted, &failed);
        input->continued = true;
    }
    if (failed) {
        print_error("out of memory");
        free(text.data);
        return LINE_END;
    }
    if (text.n > 0 && text.data[strspn(text.data, " \t\n")]) {
        history(input->history, &input->event, H_ENTER, text.data);
        save_history(input);
    }
    *out = text.data;
    return LINE_TEXT;
}
