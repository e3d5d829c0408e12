/*
 * Texts in HTTP headers.
 * Owner: the caller's buffers. Lifetime: the call.
 */
#include "registry/http_text.h"

#include <string.h>
#include <strings.h>

/* Digits at *at; moves behind them. */
static bool read_number(const char **at, uint64_t *out)
{
    uint64_t number = 0;
    const char *c = *at;
    for (; *c >= '0' && *c <= '9'; c++) {
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*c - '0'), &number)) {
            return false;
        }
    }
    bool any = c != *at;
    *at = c;
    *out = number;
    return any;
}

bool http_number(const char *value, uint64_t *out)
{
    return read_number(&value, out) && *value == '\0';
}

bool http_content_range(const char *value, uint64_t *first, uint64_t *last, uint64_t *total)
{
    if (strncasecmp(value, "bytes ", 6) != 0) {
        return false;
    }
    value += 6;
    if (!read_number(&value, first) || *value++ != '-' || !read_number(&value, last) || *value++ != '/') {
        return false;
    }
    if (strcmp(value, "*") == 0) {
        *total = UINT64_MAX;
    } else if (!http_number(value, total)) {
        return false;
    }
    return *first <= *last && *last < *total;
}

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t");
}

/* token = value, with value a token or a quoted string, at *at; moves behind it. value: HTTP_CHALLENGE_MAX bytes. */
static bool read_parameter(const char **at, const char **name, size_t *n_name, char *value)
{
    const char *c = skip_blanks(*at);
    *name = c;
    *n_name = strcspn(c, "=, \t\"");
    c = skip_blanks(c + *n_name);
    if (*n_name == 0 || *c != '=') {
        return false;
    }
    c = skip_blanks(c + 1);
    size_t n = 0;
    if (*c == '"') {
        for (c++; *c && *c != '"'; c++) {
            c += *c == '\\' && c[1];
            if (n + 1 >= HTTP_CHALLENGE_MAX) {
                return false;
            }
            value[n++] = *c;
        }
        if (*c++ != '"') {
            return false;
        }
    } else {
        n = strcspn(c, ", \t\"");
        if (n == 0 || n + 1 > HTTP_CHALLENGE_MAX) {
            return false;
        }
        memcpy(value, c, n);
        c += n;
    }
    value[n] = '\0';
    *at = c;
    return true;
}

bool http_bearer_challenge(const char *value, http_challenge *out)
{
    *out = (http_challenge){.realm = ""};
    value = skip_blanks(value);
    if (strncasecmp(value, "Bearer", 6) != 0 || (value[6] != ' ' && value[6] != '\t')) {
        return false;
    }
    for (const char *at = value + 6;;) {
        const char *name;
        size_t n;
        char text[HTTP_CHALLENGE_MAX];
        if (!read_parameter(&at, &name, &n, text)) {
            return false;
        }
        char *to = n == 5 && strncasecmp(name, "realm", n) == 0     ? out->realm
                   : n == 7 && strncasecmp(name, "service", n) == 0 ? out->service
                   : n == 5 && strncasecmp(name, "scope", n) == 0   ? out->scope
                                                                    : NULL;
        if (to && *to) { /* twice: whoever reads the other one would think otherwise */
            return false;
        }
        if (to) {
            memcpy(to, text, sizeof text);
        }
        at = skip_blanks(at);
        if (*at == '\0') {
            return out->realm[0] != '\0';
        }
        if (*at++ != ',') {
            return false;
        }
    }
}

bool http_link_next(const char *value, char *out, size_t cap)
{
    for (const char *at = value; (at = strchr(at, '<')) != NULL;) {
        const char *end = strchr(at, '>');
        if (!end) {
            return false;
        }
        const char *next = strchr(end, '<'), *rel = strstr(end, "rel=\"next\"");
        if (rel && (!next || rel < next)) {
            size_t n = (size_t)(end - at - 1);
            if (n == 0 || n >= cap) {
                return false;
            }
            memcpy(out, at + 1, n);
            out[n] = '\0';
            return true;
        }
        at = end;
    }
    return false;
}

unsigned http_retry_after_s(const char *value, unsigned most, unsigned otherwise)
{
    uint64_t seconds;
    if (!http_number(value, &seconds)) {
        return otherwise;
    }
    return seconds < most ? (unsigned)seconds : most;
}
