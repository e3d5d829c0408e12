/*
 * Request targets.
 * Owner: the caller. Lifetime: the call.
 */
#include "server/http_target.h"

#include <string.h>

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The byte of "%XX", −1 if it is none. */
static int escaped(const char *at)
{
    int high = hex(at[1]);
    int low = high < 0 ? -1 : hex(at[2]);
    return low < 0 ? -1 : high * 16 + low;
}

/* Length of the UTF-8 character at `at`, 0 if it is none: overlong forms, surrogates and what lies above U+10FFFF. */
static size_t utf8_length(const unsigned char *at)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = at[0] < 0x80 ? 1 : at[0] >> 5 == 6 ? 2 : at[0] >> 4 == 14 ? 3 : at[0] >> 3 == 30 ? 4 : 0;
    if (n < 2) {
        return n;
    }
    unsigned code = at[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if (at[i] >> 6 != 2) {
            return 0; /* a NUL ends the text here, too */
        }
        code = code << 6 | (at[i] & 0x3fu);
    }
    return code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : n;
}

static bool is_utf8(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        size_t n = utf8_length(at);
        if (n == 0) {
            return false;
        }
        at += n;
    }
    return true;
}

static bool is_slash(char c)
{
    return c == '/' || c == HTTP_ENCODED_SLASH;
}

/* Neither empty segments (but the last) nor "." nor "..". */
static const char *check_segments(const char *path)
{
    for (const char *at = path; *at;) {
        const char *begin = at + 1; /* at is a slash */
        size_t n = 0;
        while (begin[n] && !is_slash(begin[n])) {
            n++;
        }
        if (n == 0 && begin[0]) {
            return "the path has an empty segment";
        }
        if ((n == 1 && begin[0] == '.') || (n == 2 && begin[0] == '.' && begin[1] == '.')) {
            return "the path has a dot segment";
        }
        at = begin + n;
    }
    return NULL;
}

static const char *decode_path(char *path)
{
    char *out = path;
    for (const char *at = path; *at; at++) {
        int c = (unsigned char)*at;
        if (c <= 0x20 || c >= 0x7f || strchr("\\\"<>^`{|}#", c)) {
            return "the path has a character that must be escaped";
        }
        if (c == '%') {
            c = escaped(at);
            if (c < 0) {
                return "the path has a bad escape";
            }
            if (c < 0x20 || c == 0x7f || c == '\\') {
                return "the path has an escaped control character or backslash";
            }
            c = c == '/' ? HTTP_ENCODED_SLASH : c;
            at += 2;
        }
        *out++ = (char)c;
    }
    *out = '\0';
    return is_utf8(path) ? check_segments(path) : "the path is not UTF-8";
}

bool http_target_read(char *target, char **path, char **query, const char **reason)
{
    if (target[0] != '/') {
        *reason = "the request target must be a path";
        return false;
    }
    char *mark = strchr(target, '?');
    *query = mark ? mark + 1 : target + strlen(target);
    if (mark) {
        *mark = '\0';
    }
    *path = target;
    *reason = decode_path(target);
    for (const char *at = *query; !*reason && *at; at++) {
        if ((unsigned char)*at <= 0x20 || (unsigned char)*at >= 0x7f || *at == '#') {
            *reason = "the query has a character that must be escaped";
        }
    }
    return !*reason;
}

bool http_query_decode(char *text)
{
    char *out = text;
    for (const char *at = text; *at; at++) {
        int c = (unsigned char)*at;
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            c = escaped(at);
            if (c <= 0) {
                return false;
            }
            at += 2;
        }
        *out++ = (char)c;
    }
    *out = '\0';
    return true;
}
