/*
 * Texts of tool calls, in the forms that models write.
 * Owner: the caller. Lifetime: the call.
 *
 *   {"name": …, "arguments" | "parameters": {…}}        one, several behind each other, or a list of them
 *   name{…}   name[ARGS]{…}   function<sep>name\n```json\n{…}\n```   name<sep>{…}
 *   <function=name><parameter=key>value</parameter></function>
 *   name\n<arg_key>key</arg_key><arg_value>value</arg_value>
 *   call:name{key:<escape>text<escape>,other:1}          name(key="text", other=1)
 */
#include "server/tool_call_text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64u
#define CALLS_MAX 128u

typedef struct cursor {
    const char *at, *end;
} cursor;

static void skip_space(cursor *c)
{
    while (c->at < c->end && strchr(" \t\r\n", *c->at) && *c->at) {
        c->at++;
    }
}

static bool take(cursor *c, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, text, n) != 0) {
        return false;
    }
    c->at += n;
    return true;
}

/* Moves behind `text`; what was before it is [*from, *to). */
static bool take_until(cursor *c, const char *text, const char **from, const char **to)
{
    size_t n = strlen(text);
    for (const char *p = c->at; (size_t)(c->end - p) >= n; p++) {
        if (memcmp(p, text, n) == 0) {
            *from = c->at;
            *to = p;
            c->at = p + n;
            return true;
        }
    }
    return false;
}

static char *copy_trimmed(const char *from, const char *to)
{
    while (from < to && isspace((unsigned char)*from)) {
        from++;
    }
    while (to > from && isspace((unsigned char)to[-1])) {
        to--;
    }
    return strndup(from, (size_t)(to - from));
}

/* Moves behind a JSON value, without judging it: the extent of texts, brackets and words. */
static bool skip_value(cursor *c)
{
    unsigned depth = 0;
    const char *begin = c->at;
    while (c->at < c->end) {
        char ch = *c->at;
        if (ch == '"') {
            for (c->at++; c->at < c->end && *c->at != '"'; c->at++) {
                c->at += *c->at == '\\' && c->at + 1 < c->end;
            }
            if (c->at >= c->end) {
                return false;
            }
            c->at++;
        } else if (ch == '{' || ch == '[') {
            depth++;
            c->at++;
        } else if (ch == '}' || ch == ']') {
            if (depth == 0) {
                return c->at > begin;
            }
            depth--;
            c->at++;
        } else if (depth == 0 && (ch == ',' || ch == ';' || isspace((unsigned char)ch))) {
            return c->at > begin;
        } else {
            c->at++;
            continue;
        }
        if (depth == 0) {
            return true;
        }
    }
    return depth == 0 && c->at > begin;
}

static json_t *load(const char *from, const char *to)
{
    return json_loadb(from, (size_t)(to - from), JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
}

/* Adds a call; takes both texts. */
static bool add(tool_calls *out, char *name, char *arguments)
{
    if (name && *name && arguments && out->n < CALLS_MAX) {
        if (out->n == out->cap) {
            size_t cap = out->cap ? out->cap * 2 : 4;
            tool_call *grown = realloc(out->items, cap * sizeof *grown);
            if (!grown) {
                free(name);
                free(arguments);
                return false;
            }
            out->items = grown;
            out->cap = cap;
        }
        out->items[out->n++] = (tool_call){name, arguments};
        return true;
    }
    free(name);
    free(arguments);
    return false;
}

/* The text of arguments that must be an object: written as one, as a text that holds one, or left out. */
static char *arguments_text(const char *from, const char *to)
{
    if (!from) {
        return strdup("{}");
    }
    char *text = NULL;
    json_t *value = load(from, to);
    if (json_is_object(value)) {
        text = strndup(from, (size_t)(to - from));
    } else if (json_is_null(value)) {
        text = strdup("{}");
    } else if (json_is_string(value)) {
        json_t *inner = json_loads(json_string_value(value), JSON_REJECT_DUPLICATES, NULL);
        text = json_is_object(inner) ? strdup(json_string_value(value)) : NULL;
        json_decref(inner);
    }
    json_decref(value);
    return text;
}

/* {"name": …, "arguments": {…}}, also inside {"type": "function", "function": {…}}. */
static bool read_object(tool_calls *out, const char *from, const char *to, unsigned depth)
{
    cursor c = {from + 1, to - 1};
    const char *arguments = NULL, *arguments_end = NULL, *inner = NULL, *inner_end = NULL;
    json_t *whole = load(from, to);
    const char *name = json_string_value(json_object_get(whole, "name"));
    char *named = name ? strdup(name) : NULL;
    json_decref(whole);
    if (!whole) {
        return false;
    }
    while (skip_space(&c), c.at < c.end) { /* it is valid JSON: keys and values alternate */
        const char *key = c.at;
        skip_value(&c);
        size_t n_key = (size_t)(c.at - key);
        skip_space(&c);
        take(&c, ":");
        skip_space(&c);
        const char *value = c.at;
        skip_value(&c);
        if ((n_key == 11 && memcmp(key, "\"arguments\"", 11) == 0) ||
            (n_key == 12 && memcmp(key, "\"parameters\"", 12) == 0)) {
            arguments = value;
            arguments_end = c.at;
        } else if (n_key == 10 && memcmp(key, "\"function\"", 10) == 0) {
            inner = value;
            inner_end = c.at;
        }
        skip_space(&c);
        take(&c, ",");
    }
    if (!named && inner && *inner == '{' && depth == 0) {
        return read_object(out, inner, inner_end, depth + 1);
    }
    return add(out, named, arguments_text(arguments, arguments_end));
}

static bool read_objects(tool_calls *out, cursor c)
{
    skip_space(&c);
    if (c.at < c.end && *c.at == '[') {
        const char *from = c.at++;
        cursor rest = {from, c.end};
        if (!skip_value(&rest)) {
            return false;
        }
        const char *list_end = rest.at;
        skip_space(&rest);
        if (rest.at < rest.end) {
            return false;
        }
        c.end = list_end - 1;
    }
    bool any = false;
    while (skip_space(&c), c.at < c.end) {
        const char *from = c.at;
        if (*from != '{' || !skip_value(&c) || !read_object(out, from, c.at, 0)) {
            return false;
        }
        any = true;
        skip_space(&c);
        if (c.at < c.end && (*c.at == ',' || *c.at == ';')) {
            c.at++;
        }
    }
    return any;
}

/* ---- tags -------------------------------------------------------------------------------------------------------- */

const json_t *tool_find(const json_t *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i), *inner = json_object_get(tool, "function");
        const json_t *function = inner ? inner : tool;
        const char *own = json_string_value(json_object_get(function, "name"));
        if (own && strcmp(own, name) == 0) {
            return function;
        }
    }
    return NULL;
}

/* A value written without quotes: JSON, unless its schema says that it is a text, or it is none. */
static json_t *bare_value(const json_t *tools, const char *name, const char *key, const char *from, const char *to)
{
    const json_t *function = tool_find(tools, name);
    const json_t *properties = json_object_get(json_object_get(function, "parameters"), "properties");
    const char *type = json_string_value(json_object_get(json_object_get(properties, key), "type"));
    json_t *value = type && strcmp(type, "string") == 0 ? NULL : load(from, to);
    return value ? value : json_stringn(from, (size_t)(to - from));
}

/* One line feed on each side belongs to the tags, not to the value. */
static void trim_lines(const char **from, const char **to)
{
    *from += *from < *to && **from == '\n';
    *to -= *to > *from && (*to)[-1] == '\n';
}

static bool add_object(tool_calls *out, char *name, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(object);
    return add(out, name, text);
}

/* <parameter=key>value</parameter>… up to </function> or the end. */
static bool read_function_tag(tool_calls *out, cursor *c, const json_t *tools)
{
    const char *from, *to, *value, *value_end;
    if (!take(c, "<function=") || !take_until(c, ">", &from, &to)) {
        return false;
    }
    char *name = copy_trimmed(from, to);
    json_t *object = json_object();
    while (name && (skip_space(c), take(c, "<parameter="))) {
        char *key = take_until(c, ">", &from, &to) ? copy_trimmed(from, to) : NULL;
        bool ok = key && take_until(c, "</parameter>", &value, &value_end);
        if (ok) {
            trim_lines(&value, &value_end);
            ok = json_object_set_new(object, key, bare_value(tools, name, key, value, value_end)) == 0;
        }
        free(key);
        if (!ok) {
            free(name);
            json_decref(object);
            return false;
        }
    }
    take(c, "</function>");
    skip_space(c);
    return add_object(out, name, object);
}

/* name\n<arg_key>key</arg_key>\n<arg_value>value</arg_value>… */
static bool read_arg_tags(tool_calls *out, cursor c, const json_t *tools)
{
    const char *from = c.at, *to = c.at, *value, *value_end;
    while (to < c.end && *to != '<' && *to != '\n') {
        to++;
    }
    char *name = copy_trimmed(from, to);
    json_t *object = json_object();
    c.at = to;
    bool ok = name && *name;
    while (ok && (skip_space(&c), take(&c, "<arg_key>"))) {
        char *key = take_until(&c, "</arg_key>", &from, &to) ? copy_trimmed(from, to) : NULL;
        skip_space(&c);
        ok = key && take(&c, "<arg_value>") && take_until(&c, "</arg_value>", &value, &value_end) &&
             json_object_set_new(object, key, bare_value(tools, name, key, value, value_end)) == 0;
        free(key);
    }
    if (!ok || c.at < c.end) {
        free(name);
        json_decref(object);
        return false;
    }
    return add_object(out, name, object);
}

static bool read_hermes(tool_calls *out, cursor c, const json_t *tools)
{
    skip_space(&c);
    if (c.at < c.end && (*c.at == '{' || *c.at == '[')) {
        return read_objects(out, c);
    }
    if ((size_t)(c.end - c.at) >= 10 && memcmp(c.at, "<function=", 10) == 0) {
        bool ok = true;
        while (ok && c.at < c.end) {
            ok = read_function_tag(out, &c, tools);
        }
        return ok;
    }
    return read_arg_tags(out, c, tools);
}

/* ---- name, then JSON --------------------------------------------------------------------------------------------- */

/* The name stands before the first brace; marks between them are no part of it. */
static bool read_named(tool_calls *out, cursor c, const char *const *marks)
{
    const char *brace = c.at < c.end ? memchr(c.at, '{', (size_t)(c.end - c.at)) : NULL;
    if (!brace) {
        return false;
    }
    const char *name_end = brace;
    for (; *marks; marks++) {
        cursor before = {c.at, brace};
        const char *from, *to;
        if (take_until(&before, *marks, &from, &to)) {
            name_end = to < name_end ? to : name_end;
        }
    }
    cursor value = {brace, c.end};
    if (!skip_value(&value)) {
        return false;
    }
    const char *value_end = value.at;
    skip_space(&value);
    take(&value, "```");
    skip_space(&value);
    if (value.at < value.end) {
        return false;
    }
    char *name = copy_trimmed(c.at, name_end);
    for (const char *p = name; p && *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("_-.:/", *p)) {
            free(name);
            return false;
        }
    }
    return add(out, name, arguments_text(brace, value_end));
}

static bool read_mistral(tool_calls *out, cursor c)
{
    static const char *const marks[] = {"[ARGS]", "[CALL_ID]", NULL};
    skip_space(&c);
    return c.at < c.end && (*c.at == '[' || *c.at == '{') ? read_objects(out, c) : read_named(out, c, marks);
}

static bool read_deepseek(tool_calls *out, cursor c)
{
    static const char *const marks[] = {"\n```json", "```json", "<｜tool▁sep｜>", NULL};
    skip_space(&c);
    take(&c, "function<｜tool▁sep｜>");
    return read_named(out, c, marks);
}

/* ---- Gemma ------------------------------------------------------------------------------------------------------- */

static json_t *loose_value(cursor *c, unsigned depth);

static const char *word_end(const cursor *c)
{
    const char *p = c->at;
    while (p < c->end && (isalnum((unsigned char)*p) || strchr("_-.$", *p))) {
        p++;
    }
    return p;
}

/* Pairs up to the closing bracket, `equals` between key and value. */
static json_t *loose_pairs(cursor *c, char equals, char close, unsigned depth)
{
    json_t *object = json_object();
    while (skip_space(c), c->at < c->end && *c->at != close) {
        char quote = *c->at == '"' || *c->at == '\'' ? *c->at : 0;
        c->at += quote != 0;
        const char *from = c->at, *to = word_end(c);
        c->at = to;
        bool ok = to > from && (!quote || (c->at < c->end && *c->at++ == quote));
        skip_space(c);
        ok = ok && c->at < c->end && *c->at == equals;
        c->at += ok;
        json_t *value = ok ? loose_value(c, depth + 1) : NULL;
        char *key = value ? strndup(from, (size_t)(to - from)) : NULL;
        ok = key && json_object_set_new(object, key, value) == 0;
        free(key);
        skip_space(c);
        if (ok && c->at < c->end && *c->at == ',') {
            c->at++;
        } else if (!ok || c->at >= c->end || *c->at != close) {
            json_decref(object);
            return NULL;
        }
    }
    if (c->at >= c->end) {
        json_decref(object);
        return NULL;
    }
    c->at++;
    return object;
}

static json_t *loose_list(cursor *c, unsigned depth)
{
    json_t *list = json_array();
    while (skip_space(c), c->at < c->end && *c->at != ']') {
        json_t *value = loose_value(c, depth + 1);
        if (!value || json_array_append_new(list, value) != 0) {
            json_decref(list);
            return NULL;
        }
        skip_space(c);
        if (c->at < c->end && *c->at == ',') {
            c->at++;
        }
    }
    if (c->at >= c->end) {
        json_decref(list);
        return NULL;
    }
    c->at++;
    return list;
}

/* 'text' or "text" with the escapes that Python and JSON share. */
static json_t *loose_text(cursor *c)
{
    char quote = *c->at++, *text = malloc((size_t)(c->end - c->at) + 1);
    size_t n = 0;
    while (text && c->at < c->end && *c->at != quote) {
        char ch = *c->at++;
        if (ch == '\\' && c->at < c->end) {
            ch = *c->at++;
            ch = ch == 'n' ? '\n' : ch == 't' ? '\t' : ch == 'r' ? '\r' : ch;
        }
        text[n++] = ch;
    }
    json_t *made = text && c->at < c->end ? json_stringn(text, n) : NULL;
    c->at += c->at < c->end;
    free(text);
    return made;
}

static json_t *loose_value(cursor *c, unsigned depth)
{
    const char *from, *to;
    skip_space(c);
    if (c->at >= c->end || depth > DEPTH_MAX) {
        return NULL;
    }
    if (take(c, "<escape>")) {
        return take_until(c, "<escape>", &from, &to) ? json_stringn(from, (size_t)(to - from)) : NULL;
    }
    if (*c->at == '"' || *c->at == '\'') {
        return loose_text(c);
    }
    if (*c->at == '{' || *c->at == '[') {
        char open = *c->at++;
        return open == '{' ? loose_pairs(c, ':', '}', depth) : loose_list(c, depth);
    }
    from = c->at;
    to = *from == '-' || *from == '+' ? (c->at++, word_end(c)) : word_end(c);
    c->at = to;
    size_t n = (size_t)(to - from);
    if (n == 4 && memcmp(from, "True", 4) == 0) {
        return json_true();
    }
    if (n == 5 && memcmp(from, "False", 5) == 0) {
        return json_false();
    }
    if (n == 4 && memcmp(from, "None", 4) == 0) {
        return json_null();
    }
    return n ? load(from, to) : NULL;
}

/* call:name{…}, or Python: name(key=value), print(name(…)), one a line. */
static bool read_gemma(tool_calls *out, cursor c)
{
    bool any = false;
    while (skip_space(&c), c.at < c.end) {
        bool called = take(&c, "call:"), printed = !called && take(&c, "print(");
        const char *from = c.at, *to = word_end(&c);
        c.at = to;
        skip_space(&c);
        char open = c.at < c.end ? *c.at : 0;
        if (to == from || (open != '{' && open != '(')) {
            return false;
        }
        c.at++;
        json_t *object = open == '{' ? loose_pairs(&c, ':', '}', 0) : loose_pairs(&c, '=', ')', 0);
        if (!object || !add_object(out, strndup(from, (size_t)(to - from)), object)) {
            return false;
        }
        if (printed && !take(&c, ")")) {
            return false;
        }
        any = true;
    }
    return any;
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

void tool_calls_close(tool_calls *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->items[i].name);
        free(c->items[i].arguments);
    }
    free(c->items);
    *c = (tool_calls){0};
}

bool tool_calls_read(tool_calls *out, tool_style style, const char *text, size_t n, const json_t *tools)
{
    cursor c = {text, text + n};
    bool ok = false;
    *out = (tool_calls){0};
    switch (style) {
    case TOOLS_HERMES:
        ok = read_hermes(out, c, tools);
        break;
    case TOOLS_LLAMA3:
        ok = read_objects(out, c);
        break;
    case TOOLS_MISTRAL:
        ok = read_mistral(out, c);
        break;
    case TOOLS_DEEPSEEK:
        ok = read_deepseek(out, c);
        break;
    case TOOLS_GEMMA:
        ok = read_gemma(out, c);
        break;
    case TOOLS_HARMONY: /* its name stands in the header: the caller puts it before the JSON */
        ok = read_named(out, c, (const char *const[]){NULL});
        break;
    case TOOLS_N_STYLES:
        break;
    }
    if (!ok || out->n == 0) {
        tool_calls_close(out);
        return false;
    }
    return true;
}
