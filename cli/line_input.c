/*
 * Line editing with libedit.
 * Owner: the chat. Lifetime: line_input_open to line_input_close.
 *
 * libedit starts a read again that a signal interrupted. So characters are read here: an interruption becomes the
 * character ^C, and that is bound to a command which gives the line up.
 */
#include "line_input.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "output.h"

#define HISTORY_ENTRIES 1000
#define CANCEL L'\003'

struct line_input {
    EditLine *editor;
    History *history;
    HistEvent event;
    volatile sig_atomic_t *interrupted;
    const char *const *words;
    bool cancelled, continued, colours;
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

/* Reads one character: 1, or 0 at the end, or −1. */
static int read_character(EditLine *editor, wchar_t *out)
{
    line_input *input = of(editor);
    mbstate_t state = {0};
    for (;;) {
        char byte;
        ssize_t n = *input->interrupted ? -1 : read(STDIN_FILENO, &byte, 1);
        if (n < 0 && (*input->interrupted || errno == EINTR)) {
            if (*input->interrupted) {
                *input->interrupted = 0;
                *out = CANCEL;
                return 1;
            }
            el_set(editor, EL_REFRESH); /* stopped and continued, or resized */
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
    el_source(input->editor, NULL); /* the user's ~/.editrc */
    el_set(input->editor, EL_BIND, "^C", "mlxr-cancel", NULL);
    el_set(input->editor, EL_BIND, "\t", "mlxr-complete", NULL);
    history(input->history, &input->event, H_SETSIZE, HISTORY_ENTRIES);
    history(input->history, &input->event, H_SETUNIQUE, 1);
    if (find_history(input->history_path, sizeof input->history_path)) {
        history(input->history, &input->event, H_LOAD, input->history_path);
    }
    el_set(input->editor, EL_HIST, history, input->history);
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
    el_set(input->editor, EL_PREP_TERM,
           1); /* before the prompt: libedit does it after, and a key pressed in between counts */
    *line = el_gets(input->editor, &count);
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
