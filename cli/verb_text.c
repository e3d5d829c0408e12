/*
 * `mlxr tokenize` and `mlxr detokenize`.
 * Owner: main. Lifetime: the call.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output.h"
#include "session.h"
#include "verbs.h"

/* A token's text in quotes, with what cannot be seen as \n, \t or \xNN. */
static void print_quoted(const char *text, size_t n)
{
    putchar('"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n' || c == '\t' || c == '"' || c == '\\') {
            printf("\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : c);
        } else if (c < ' ' || c >= 127) {
            printf("\\x%02x", c);
        } else {
            putchar(c);
        }
    }
    putchar('"');
}

/* A token whose bytes are whole printable characters is shown as it is. */
static void print_token(const char *text, size_t n)
{
    json_t *whole = json_stringn(text, n);
    bool plain = whole != NULL;
    json_decref(whole);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        plain = plain && c >= ' ' && c != 127 && c != '"' && c != '\\' &&
                !(c == 0xc2 && i + 1 < n && (unsigned char)text[i + 1] < 0xa0);
    }
    if (plain) {
        printf("\"%.*s\"", (int)n, text);
    } else {
        print_quoted(text, n);
    }
}

static int print_tokens(const options *o, const session *s, const int32_t *ids, size_t n)
{
    if (o->json) {
        json_t *list = json_array(), *texts = json_array();
        for (size_t i = 0; i < n; i++) {
            size_t n_text = 0;
            const char *text = mlxr_token_text(s->model, ids[i], &n_text);
            json_array_append_new(list, json_integer(ids[i]));
            json_array_append_new(texts, json_text(text ? text : "", n_text));
        }
        return print_json(json_pack("{s:I, s:o, s:o}", "n_tokens", (json_int_t)n, "ids", list, "texts", texts));
    }
    for (size_t i = 0; i < n; i++) {
        if (o->ids_only) {
            printf("%s%d", i ? " " : "", ids[i]);
            continue;
        }
        size_t n_text = 0;
        const char *text = mlxr_token_text(s->model, ids[i], &n_text);
        printf("%8d  ", ids[i]);
        print_token(text ? text : "", n_text);
        putchar('\n');
    }
    if (o->ids_only) {
        putchar('\n');
    }
    return finish_output(EXIT_OK);
}

int verb_tokenize(options *o)
{
    session s;
    size_t n_text = 0, n = 0;
    char *read = NULL;
    const char *text = o->n_args == 2 ? o->args[1] : NULL;
    unsigned flags = (o->add_special ? MLXR_TOKENIZE_ADD_SPECIAL : 0u) |
                     (o->parse_special ? MLXR_TOKENIZE_PARSE_SPECIAL : 0u);
    if (text && o->file) {
        print_error("give a text or --file, not both");
        return EXIT_USAGE;
    }
    if (!text || strcmp(text, "-") == 0) {
        read = read_all(o->file ? o->file : "-", &n_text);
        if (!read) {
            return EXIT_FAILED;
        }
        text = read;
    } else {
        n_text = strlen(text);
    }
    int code = session_open(&s, o, o->args[0], true);
    if (code == EXIT_OK) {
        int32_t *ids = session_tokenize(&s, text, n_text, flags, &n);
        code = ids ? print_tokens(o, &s, ids, n) : EXIT_FAILED;
        free(ids);
    }
    session_close(&s);
    free(read);
    return code;
}

/* ---- detokenize -------------------------------------------------------------------------------------------------- */

typedef struct id_list {
    int32_t *ids;
    size_t n, cap;
} id_list;

/* Reads numbers between blanks, commas and brackets: a JSON array does as well as a plain list. */
static bool read_ids(const char *text, id_list *list)
{
    for (const char *at = text;;) {
        at += strspn(at, " \t\r\n,[]");
        if (!*at) {
            return true;
        }
        char *end;
        errno = 0;
        long long id = strtoll(at, &end, 10);
        if (end == at || errno || id < 0 || id > INT32_MAX || !strchr(" \t\r\n,[]", *end)) {
            print_error("'%.*s' is no token id", (int)strcspn(at, " \t\r\n,[]"), at);
            return false;
        }
        if (list->n == list->cap) {
            size_t cap = list->cap ? list->cap * 2 : 256;
            int32_t *grown = realloc(list->ids, cap * sizeof *grown);
            if (!grown) {
                print_error("out of memory");
                return false;
            }
            list->ids = grown;
            list->cap = cap;
        }
        list->ids[list->n++] = (int32_t)id;
        at = end;
    }
}

static int print_text(const options *o, const session *s, const id_list *list)
{
    mlxr_error error;
    char *text = NULL;
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        if (!mlxr_token_text(s->model, list->ids[i], &n)) {
            print_error("there is no token %d; the vocabulary has %u", list->ids[i],
                        mlxr_model_info_get(s->model)->n_vocab);
            return EXIT_FAILED;
        }
    }
    if (mlxr_detokenize(s->model, list->ids, list->n, o->with_special, &text, &n, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    int code = EXIT_OK;
    if (o->json) {
        code = print_json(json_pack("{s:o}", "text", json_text(text, n)));
    } else {
        write_text(text, n);
        if (isatty(STDOUT_FILENO) && (n == 0 || text[n - 1] != '\n')) {
            putchar('\n');
        }
        code = finish_output(EXIT_OK);
    }
    mlxr_free(text);
    return code;
}

int verb_detokenize(options *o)
{
    session s = {0};
    id_list list = {0};
    bool ok = true;
    if (o->n_args == 1 || (o->n_args == 2 && strcmp(o->args[1], "-") == 0)) {
        size_t n;
        char *text = read_all("-", &n);
        ok = text && read_ids(text, &list);
        free(text);
    }
    for (size_t i = 1; ok && i < o->n_args && strcmp(o->args[i], "-") != 0; i++) {
        ok = read_ids(o->args[i], &list);
    }
    int code = ok ? session_open(&s, o, o->args[0], true) : EXIT_USAGE;
    if (code == EXIT_OK) {
        code = print_text(o, &s, &list);
    }
    session_close(&s);
    free(list.ids);
    return code;
}
