/*
 * Places: counting lines, and following a path through a JSON text.
 * Owner: none. Lifetime: the call.
 */
#include "runtime/grammar/place.h"

#include <stdbool.h>
#include <string.h>

place place_of(const char *text, size_t offset)
{
    place p = {1, 1};
    for (size_t i = 0; i < offset; i++) {
        p.column = text[i] == '\n' ? 1 : p.column + 1;
        p.line += text[i] == '\n';
    }
    return p;
}

typedef struct cursor {
    const char *at, *end;
} cursor;

static char peek(const cursor *c)
{
    return c->at < c->end ? *c->at : '\0';
}

static void skip_space(cursor *c)
{
    while (c->at < c->end && strchr(" \t\r\n", *c->at) && *c->at) {
        c->at++;
    }
}

/* From a quote to behind the other. */
static void skip_string(cursor *c)
{
    for (c->at++; c->at < c->end && *c->at != '"'; c->at++) {
        c->at += *c->at == '\\' && c->at + 1 < c->end;
    }
    c->at += c->at < c->end;
}

/* To what follows a value: a comma or the end of what it is in. */
static void skip_value(cursor *c)
{
    for (size_t depth = 0; c->at < c->end;) {
        char byte = *c->at;
        if (depth == 0 && (byte == ',' || byte == ']' || byte == '}')) {
            return;
        }
        if (byte == '"') {
            skip_string(c);
            continue;
        }
        depth += byte == '[' || byte == '{';
        depth -= byte == ']' || byte == '}';
        c->at++;
    }
}

/* From a container to the value that the step names. */
static bool enter(cursor *c, const char *step, size_t n)
{
    bool object = peek(c) == '{';
    size_t index = 0;
    if (!object && peek(c) != '[') {
        return false;
    }
    for (size_t i = 0; !object && i < n; i++) {
        if (step[i] < '0' || step[i] > '9' || index > (size_t)1 << 30) {
            return false;
        }
        index = index * 10 + (size_t)(step[i] - '0');
    }
    for (size_t i = 0;; i++) {
        c->at++; /* behind the bracket or a comma */
        skip_space(c);
        if (c->at >= c->end || *c->at == ']' || *c->at == '}') {
            return false;
        }
        bool found = !object && i == index;
        if (object) {
            const char *key = c->at + 1;
            skip_string(c);
            found = c->at > key && (size_t)(c->at - 1 - key) == n && memcmp(key, step, n) == 0;
            skip_space(c);
            c->at += peek(c) == ':';
            skip_space(c);
        }
        if (found) {
            return true;
        }
        skip_value(c);
        if (peek(c) != ',') {
            return false;
        }
    }
}

size_t place_in_json(const char *text, size_t n, const char *path)
{
    cursor c = {text, text + n};
    skip_space(&c);
    const char *found = c.at;
    while (*path == '/') {
        size_t length = strcspn(path + 1, "/");
        if (!enter(&c, path + 1, length)) {
            break;
        }
        found = c.at;
        path += 1 + length;
    }
    return (size_t)(found - text);
}
