/*
 * Ollama's templates as Jinja.
 * Owner: the caller frees what it is given. Lifetime: the call.
 *
 * A classic template is run once for each turn: what comes before {{ .Response }} is written with the turn's system
 * message and question, then the answer, then what comes after. A turn ends with an answer; a second system message or
 * question before it begins a new turn. Without {{ .Response }} the answer follows at the end.
 */
#include "registry/go_template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/fail.h"

typedef struct text {
    char *data;
    size_t n, cap;
    bool failed;
} text;

static void add(text *t, const char *bytes, size_t n)
{
    if (!t->failed && t->n + n + 1 > t->cap) {
        size_t cap = 2 * (t->n + n + 1);
        char *grown = realloc(t->data, cap);
        t->failed = !grown;
        t->data = grown ? grown : t->data;
        t->cap = grown ? cap : t->cap;
    }
    if (!t->failed) {
        memcpy(t->data + t->n, bytes, n);
        t->n += n;
        t->data[t->n] = '\0';
    }
}

static void add_text(text *t, const char *bytes)
{
    add(t, bytes, strlen(bytes));
}

/* Text of the template as a Jinja string that is written out, so that nothing in it is taken for Jinja. */
static void add_literal(text *t, const char *bytes, size_t n)
{
    if (n == 0) {
        return;
    }
    add_text(t, "{{- '");
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\n') {
            add_text(t, "\\n");
        } else if (bytes[i] == '\'' || bytes[i] == '\\') {
            add(t, "\\", 1);
            add(t, &bytes[i], 1);
        } else {
            add(t, &bytes[i], 1);
        }
    }
    add_text(t, "' -}}");
}

bool go_template_is(const char *template_text)
{
    static const char *const signs[] = {".Prompt", ".Messages", ".System", ".Response", ".Content", ".Tools"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (strstr(template_text, signs[i])) {
            return true;
        }
    }
    return false;
}

/* Whether word[0..n) is this. */
static bool is(const char *word, size_t n, const char *what)
{
    return strlen(what) == n && memcmp(word, what, n) == 0;
}

typedef struct translation {
    text before, after; /* of the answer */
    bool answered;
    unsigned depth;
    unsigned answer_depth;
} translation;

/* The Jinja variable of a field, or NULL. */
static const char *variable(const char *word, size_t n)
{
    return is(word, n, ".System") ? "turn.system" : is(word, n, ".Prompt") ? "turn.prompt" : NULL;
}

/* One action, without its braces and trims. False: not one of the classic form. */
static bool translate(translation *t, const char *action, size_t n)
{
    text *out = t->answered ? &t->after : &t->before;
    if (is(action, n, "end")) {
        add_text(out, "{%- endif -%}");
        return t->depth-- > t->answer_depth; /* a condition around the answer cannot be split in two */
    }
    if (is(action, n, "else")) {
        add_text(out, "{%- else -%}");
        return t->depth > t->answer_depth;
    }
    if (is(action, n, ".Response")) {
        bool first = !t->answered;
        t->answered = true;
        t->answer_depth = t->depth;
        return first && t->depth == 0;
    }
    if (n > 3 && memcmp(action, "if ", 3) == 0) {
        const char *what = action + 3;
        size_t n_what = n - 3;
        while (n_what && *what == ' ') {
            what++;
            n_what--;
        }
        const char *name = variable(what, n_what);
        if (!name || ++t->depth > 16) {
            return false;
        }
        add_text(out, "{%- if ");
        add_text(out, name);
        add_text(out, " -%}");
        return true;
    }
    const char *name = variable(action, n);
    if (!name) {
        return false;
    }
    add_text(out, "{{- ");
    add_text(out, name);
    add_text(out, " -}}");
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static mlxr_status translate_all(translation *t, const char *at, mlxr_error *error)
{
    bool trim = false;
    for (;;) {
        const char *open = strstr(at, "{{");
        size_t n = open ? (size_t)(open - at) : strlen(at);
        bool trim_left = open && open[2] == '-' && is_blank(open[3]);
        for (; trim && n && is_blank(*at); n--) {
            at++;
        }
        for (; trim_left && n && is_blank(at[n - 1]); n--) {
        }
        add_literal(t->answered ? &t->after : &t->before, at, n);
        if (!open) {
            break;
        }
        const char *begin = open + 2 + trim_left, *close = strstr(begin, "}}");
        if (!close) {
            return daemon_error(error, MLXR_FORMAT, "the Go template has an action without its end");
        }
        const char *end = close;
        trim = end > begin + 1 && end[-1] == '-' && is_blank(end[-2]);
        end -= trim;
        for (; begin < end && is_blank(*begin); begin++) {
        }
        for (; end > begin && is_blank(end[-1]); end--) {
        }
        bool comment = end - begin >= 4 && memcmp(begin, "/*", 2) == 0;
        if (!comment && !translate(t, begin, (size_t)(end - begin))) {
            return daemon_error(error, MLXR_UNSUPPORTED,
                                "the Go template has {{ %.*s }}, which has no equivalent here; give a "
                                "Jinja template",
                                (int)(end - begin < 60 ? end - begin : 60), begin);
        }
        at = close + 2;
    }
    return t->depth ? daemon_error(error, MLXR_FORMAT, "the Go template has a condition without its end") : MLXR_OK;
}

mlxr_status go_template_to_jinja(const char *template_text, char **jinja, mlxr_error *error)
{
    static const char head[] = "{%- set turn = namespace(system='', prompt='') -%}"
                               "{%- for message in messages -%}"
                               "{%- if message.role == 'system' -%}";
    translation t = {.answered = false};
    text out = {.data = NULL};
    mlxr_status status = translate_all(&t, template_text, error);
    add_text(&t.before, "");
    add_text(&t.after, "");
    if (status == MLXR_OK && !strstr(t.before.data ? t.before.data : "", "turn.prompt")) {
        status = daemon_error(error, MLXR_UNSUPPORTED, "the Go template does not write {{ .Prompt }}");
    }
    if (status == MLXR_OK && !t.before.failed && !t.after.failed) {
        add_text(&out, head);
        add_text(&out, "{%- if turn.system or turn.prompt -%}");
        add_text(&out, t.before.data);
        add_text(&out, t.after.data);
        add_text(&out, "{%- set turn.prompt = '' -%}{%- endif -%}{%- set turn.system = message.content -%}"
                       "{%- elif message.role == 'user' -%}{%- if turn.prompt -%}");
        add_text(&out, t.before.data);
        add_text(&out, t.after.data);
        add_text(&out, "{%- set turn.system = '' -%}{%- endif -%}{%- set turn.prompt = message.content -%}"
                       "{%- elif message.role == 'assistant' -%}");
        add_text(&out, t.before.data);
        add_text(&out, "{{- message.content -}}");
        add_text(&out, t.after.data);
        add_text(&out, "{%- set turn.system = '' -%}{%- set turn.prompt = '' -%}{%- endif -%}{%- endfor -%}"
                       "{%- if turn.system or turn.prompt -%}");
        add_text(&out, t.before.data);
        add_text(&out, "{%- endif -%}");
    }
    if (status == MLXR_OK && (out.failed || t.before.failed || t.after.failed)) {
        status = registry_fail_nomem(error);
    }
    free(t.before.data);
    free(t.after.data);
    if (status != MLXR_OK) {
        free(out.data);
        return status;
    }
    *jinja = out.data;
    return MLXR_OK;
}
