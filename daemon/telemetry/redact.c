/*
 * One pass over the text; at each place where a word may begin the rules are asked how much of it to hide.
 * Owner: none. Lifetime: the call.
 */
#include "telemetry/redact.h"

#include <string.h>
#include <strings.h>

#define NAMED_LEAST 4u /* "token: 17" is a number of tokens, no credential */
#define KEY_LEAST 12u  /* characters behind the beginning of a key */

/* How far the value behind a name reaches. */
typedef enum reach { REACH_WORD, REACH_LINE } reach;

static const struct {
    const char *name;
    reach reach;
} names[] = {
    {"authorization", REACH_LINE},    {"proxy-authorization", REACH_LINE},
    {"cookie", REACH_LINE},           {"set-cookie", REACH_LINE},
    {"x-api-key", REACH_WORD},        {"api-key", REACH_WORD},
    {"api_key", REACH_WORD},          {"apikey", REACH_WORD},
    {"access_token", REACH_WORD},     {"access_key", REACH_WORD},
    {"refresh_token", REACH_WORD},    {"auth_token", REACH_WORD},
    {"hf_token", REACH_WORD},         {"token", REACH_WORD},
    {"secret", REACH_WORD},           {"client_secret", REACH_WORD},
    {"password", REACH_WORD},         {"passwd", REACH_WORD},
    {"signature", REACH_WORD},        {"x-amz-signature", REACH_WORD},
    {"x-amz-credential", REACH_WORD}, {"x-amz-security-token", REACH_WORD},
};

static const char *const schemes[] = {"bearer", "basic", "negotiate"};

/* How keys of this and of other services begin. */
static const char *const beginnings[] = {"mlxr-", "sk-",         "hf_",    "api_org_", "ghp_",
                                         "gho_",  "github_pat_", "glpat-", "xoxb-",    "xoxp-"};

static bool word_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* Of credentials: base64, base64url, hexadecimal. */
static bool key_character(char c)
{
    return word_character(c) || c == '.' || c == '~' || c == '+' || c == '/' || c == '=' || c == '%';
}

static bool begins(const char *text, size_t n, const char *word)
{
    size_t length = strlen(word);
    return n >= length && strncasecmp(text, word, length) == 0;
}

bool redact_name(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i].name) == n && strncasecmp(name, names[i].name, n) == 0) {
            return true;
        }
    }
    return false;
}

static bool digits_only(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && text[i] >= '0' && text[i] <= '9') {
        i++;
    }
    return i == n;
}

/* A piece to hide, by its place within the text it was looked for in. */
typedef struct piece {
    size_t at, n; /* n 0: none */
} piece;

/* `name: value`, `"name": "value"`, `name=value`. */
static piece after_name(const char *text, size_t n)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t at = strlen(names[i].name);
        if (!begins(text, n, names[i].name) || (at < n && word_character(text[at]))) {
            continue;
        }
        at += at < n && text[at] == '\\'; /* JSON within JSON */
        at += at < n && (text[at] == '"' || text[at] == '\'');
        while (at < n && text[at] == ' ') {
            at++;
        }
        if (at == n || (text[at] != ':' && text[at] != '=')) {
            continue;
        }
        at++;
        bool quoted = false;
        for (; at < n && strchr(" \"'\\", text[at]) && text[at]; at++) {
            quoted |= text[at] != ' ';
        }
        size_t end = at;
        const char *ends = quoted ? "\"'\\\r\n" : names[i].reach == REACH_LINE ? "\r\n\"'" : " \t\r\n\"'&,;}])\\";
        while (end < n && !strchr(ends, text[end])) {
            end++;
        }
        if (end - at >= NAMED_LEAST && !digits_only(text + at, end - at)) {
            return (piece){at, end - at};
        }
    }
    return (piece){0, 0};
}

static piece after_scheme(const char *text, size_t n)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t at = strlen(schemes[i]), end;
        if (begins(text, n, schemes[i]) && at < n && text[at] == ' ') {
            for (end = ++at; end < n && key_character(text[end]); end++) {
            }
            if (end - at >= 8) {
                return (piece){at, end - at};
            }
        }
    }
    return (piece){0, 0};
}

static piece key_here(const char *text, size_t n)
{
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
        size_t least = strlen(beginnings[i]) + KEY_LEAST, end = 0;
        if (n >= least && strncmp(text, beginnings[i], strlen(beginnings[i])) == 0) {
            while (end < n && word_character(text[end])) {
                end++;
            }
            if (end >= least) {
                return (piece){0, end};
            }
        }
    }
    return (piece){0, 0};
}

/* user:password@ behind a scheme's "://". */
static piece in_url(const char *text, size_t n)
{
    size_t at = 3, end;
    if (!begins(text, n, "://")) {
        return (piece){0, 0};
    }
    for (end = at; end < n && text[end] > ' ' && !strchr("/?#\"'<>@", text[end]); end++) {
    }
    return end < n && text[end] == '@' ? (piece){at, end - at} : (piece){0, 0};
}

static piece secret_here(const char *text, size_t n, const redact_secret *secrets, size_t n_secrets)
{
    for (size_t i = 0; i < n_secrets; i++) {
        if (secrets[i].n && n >= secrets[i].n && memcmp(text, secrets[i].text, secrets[i].n) == 0) {
            return (piece){0, secrets[i].n};
        }
    }
    return (piece){0, 0};
}

static piece find(const char *text, size_t n, bool word_begins, const redact_secret *secrets, size_t n_secrets)
{
    piece p = secret_here(text, n, secrets, n_secrets);
    p = !p.n && *text == ':' ? in_url(text, n) : p;
    if (p.n || !word_begins) {
        return p;
    }
    p = after_name(text, n);
    p = p.n ? p : after_scheme(text, n);
    return p.n ? p : key_here(text, n);
}

size_t redact(const char *text, size_t n, const redact_secret *secrets, size_t n_secrets, char *out, size_t cap)
{
    size_t n_out = 0;
    for (size_t i = 0; i < n;) {
        bool word_begins = i == 0 || !word_character(text[i - 1]) || text[i - 1] == '-' || text[i - 1] == '_';
        piece p = find(text + i, n - i, word_begins, secrets, n_secrets);
        size_t plain = p.n ? p.at : 1;
        for (size_t j = 0; j < plain && n_out + 1 < cap; j++) {
            out[n_out++] = text[i + j];
        }
        for (const char *r = REDACTED; p.n && *r && n_out + 1 < cap; r++) {
            out[n_out++] = *r;
        }
        i += plain + p.n;
    }
    if (cap) {
        out[n_out] = '\0';
    }
    return n_out;
}
