/*
 * Bytes to requests.
 * Owner: the connection. Lifetime: {0} to http_parser_free.
 */
#include "server/http_parse.h"

#include <ctype.h>
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/http_target.h"

enum {
    IN_HEAD, /* 0: where a parser begins */
    HEAD_READ,
    IN_BODY,
    CHUNK_SIZE,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    LAST_CR, /* behind the chunk of size 0 */
    LAST_LF,
    ENDED,
    FAILED
};

static http_parse_event fail(http_parser *p, int status, const char *reason)
{
    p->state = FAILED;
    p->status = status;
    p->reason = reason;
    return HTTP_PARSE_BAD;
}

/* ---- the head, byte for byte ------------------------------------------------------------------------------------- */

static bool is_token(unsigned char c)
{
    return isalnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* What is wrong with a byte of a line, or NULL. */
static const char *check_byte(http_parser *p, unsigned char c)
{
    if (c == '\n') {
        return "a line ends without a carriage return";
    }
    if ((c < 0x20 && c != '\t') || c == 0x7f) {
        return "control character in the head";
    }
    if (p->n_lines == 0) {
        return c > 0x20 || (c == ' ' && p->text.n > p->line_begin) ? NULL : "bad request line";
    }
    if (p->text.n == p->line_begin && (c == ' ' || c == '\t')) {
        return "folded header lines are not accepted";
    }
    if (!p->colon) {
        if (c == ':' && p->text.n > p->line_begin) {
            p->colon = true;
        } else if (!is_token(c)) {
            return "bad header name";
        }
    }
    return NULL;
}

/* A CRLF has come. True if it ends the head. */
static bool end_line(http_parser *p)
{
    bool empty = p->text.n - p->line_begin == 2; /* CR and LF themselves */
    if (empty && p->n_lines == 0 && !p->skipped_line) {
        p->skipped_line = true; /* old clients put one behind a body */
        p->text.n = 0;
        return false;
    }
    if (!empty && p->n_lines > 0 && !p->colon) {
        fail(p, 400, "a header line without a colon");
    } else if (!empty && ++p->n_lines > HTTP_FIELDS_MAX + 1) {
        fail(p, 431, "more than 100 header fields");
    } else if (empty && p->n_lines == 0) {
        fail(p, 400, "empty request");
    }
    p->line_begin = p->text.n;
    p->colon = false;
    return empty;
}

/* Takes bytes up to the head's end. */
static bool scan_head(http_parser *p, const char *data, size_t n, size_t *used)
{
    if (!byte_queue_reserve(&p->text, n < HTTP_HEAD_MAX ? n + 1 : HTTP_HEAD_MAX + 1)) {
        fail(p, 503, "out of memory");
        return false;
    }
    while (*used < n && p->state == IN_HEAD) {
        unsigned char c = (unsigned char)data[(*used)++];
        const char *wrong = p->cr       ? (c == '\n' ? NULL : "a carriage return without a line feed")
                            : c == '\r' ? NULL
                                        : check_byte(p, c);
        if (wrong) {
            fail(p, 400, wrong);
        } else if (p->text.n >= HTTP_HEAD_MAX) {
            fail(p, 431, "the head is longer than 32 KiB");
        } else if (p->n_lines == 0 && p->text.n >= HTTP_TARGET_MAX) {
            fail(p, 414, "the request line is longer than 8 KiB");
        } else {
            bool line_ends = p->cr;
            p->text.data[p->text.n++] = (char)c;
            p->cr = !p->cr && c == '\r';
            if (line_ends && end_line(p)) {
                return p->state == IN_HEAD;
            }
        }
    }
    return false;
}

/* ---- the head, read by llhttp ------------------------------------------------------------------------------------ */

typedef struct reading {
    char *url, *url_end;
    http_head *head;
    size_t n_names, n_values;
    char *name_ends[HTTP_FIELDS_MAX], *value_ends[HTTP_FIELDS_MAX];
    bool wrong, complete;
    unsigned flags;
    uint64_t content_length;
    bool keep_alive;
} reading;

/* The text is one piece and ours, so that each span comes once and may be changed. */
static int on_url(llhttp_t *l, const char *at, size_t n)
{
    reading *r = l->data;
    r->wrong |= r->url != NULL;
    r->url = (char *)at;
    r->url_end = (char *)at + n;
    return 0;
}

static int on_name(llhttp_t *l, const char *at, size_t n)
{
    reading *r = l->data;
    if (r->n_names >= HTTP_FIELDS_MAX || r->n_names != r->n_values) {
        r->wrong = true;
        return 0;
    }
    r->head->fields[r->n_names].name = (char *)at;
    r->name_ends[r->n_names++] = (char *)at + n;
    return 0;
}

static int on_value(llhttp_t *l, const char *at, size_t n)
{
    reading *r = l->data;
    if (r->n_values + 1 != r->n_names) {
        r->wrong = true;
        return 0;
    }
    /* An empty value is told where the next line begins, which is not ours to end: the name's end serves as well. */
    char *value = n ? (char *)at : r->name_ends[r->n_values];
    r->head->fields[r->n_values].value = value;
    r->value_ends[r->n_values++] = value + n;
    return 0;
}

static int on_headers_complete(llhttp_t *l)
{
    reading *r = l->data;
    r->complete = true;
    r->flags = l->flags;
    r->content_length = l->content_length;
    r->keep_alive = llhttp_should_keep_alive(l);
    return HPE_PAUSED;
}

static void trim_field(http_field *field, char *name_end, char *value_end)
{
    *name_end = '\0';
    for (char *c = field->name; *c; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    while (*field->value == ' ' || *field->value == '\t') {
        field->value++;
    }
    while (value_end > field->value && (value_end[-1] == ' ' || value_end[-1] == '\t')) {
        value_end--;
    }
    *(value_end > field->value ? value_end : field->value) = '\0';
}

/* "METHOD TARGET HTTP/1.x": by the text, since versions of llhttp differ in what else they take. */
static http_parse_event check_request_line(http_parser *p)
{
    const char *line = p->text.data, *end = strstr(line, "\r\n");
    const char *first = memchr(line, ' ', (size_t)(end - line));
    const char *second = first ? memchr(first + 1, ' ', (size_t)(end - first - 1)) : NULL;
    if (!second || end - second != 9 || memcmp(second, " HTTP/", 6) != 0 || !isdigit((unsigned char)end[-3]) ||
        end[-2] != '.' || !isdigit((unsigned char)end[-1])) {
        return fail(p, 400, "bad request line");
    }
    if (end[-3] != '1' || (end[-1] != '0' && end[-1] != '1')) {
        return fail(p, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    }
    p->head.minor = end[-1] == '1';
    return HTTP_PARSE_HEAD;
}

/* How long the body is. One length or one coding, both said once and plainly: anything else could be read in two ways.
 */
static http_parse_event read_framing(http_parser *p, const reading *r)
{
    http_head *head = &p->head;
    const char *length = NULL, *coding = NULL;
    for (size_t i = 0; i < head->n_fields; i++) {
        const http_field *field = &head->fields[i];
        const char **which = strcmp(field->name, "content-length") == 0      ? &length
                             : strcmp(field->name, "transfer-encoding") == 0 ? &coding
                                                                             : NULL;
        if (which && *which) {
            return fail(p, 400, "Content-Length or Transfer-Encoding is given twice");
        }
        if (which) {
            *which = field->value;
        }
    }
    if (length && coding) {
        return fail(p, 400, "Content-Length and Transfer-Encoding exclude each other");
    }
    if (coding && strcasecmp(coding, "chunked") != 0) {
        return fail(p, 501, "the only transfer coding taken is chunked");
    }
    if (coding && head->minor == 0) {
        return fail(p, 400, "HTTP/1.0 has no transfer codings");
    }
    if (length) {
        size_t n = strspn(length, "0123456789");
        if (n == 0 || n > 18 || length[n]) {
            return fail(p, 400, "bad Content-Length");
        }
        head->content_length = strtoull(length, NULL, 10);
    }
    head->chunked = coding != NULL;
    if (head->chunked != !!(r->flags & F_CHUNKED) || head->content_length != (coding ? 0 : r->content_length)) {
        return fail(p, 400, "the length of the body is unclear");
    }
    return HTTP_PARSE_HEAD;
}

static http_parse_event read_target(http_parser *p, char *target)
{
    http_head *head = &p->head;
    if (!http_target_read(target, &head->path, &head->query, &p->reason)) {
        return fail(p, 400, p->reason);
    }
    head->marked_path = head->path;
    if (strchr(head->path, HTTP_ENCODED_SLASH)) {
        p->marked = strdup(head->path);
        if (!p->marked) {
            return fail(p, 503, "out of memory");
        }
        head->marked_path = p->marked;
        for (char *c = head->path; *c; c++) {
            *c = *c == HTTP_ENCODED_SLASH ? '/' : *c;
        }
    }
    return HTTP_PARSE_HEAD;
}

static http_parse_event read_head(http_parser *p)
{
    static const llhttp_settings_t settings = {.on_url = on_url,
                                               .on_header_field = on_name,
                                               .on_header_value = on_value,
                                               .on_headers_complete = on_headers_complete};
    llhttp_t parser;
    reading r = {.head = &p->head};
    p->text.data[p->text.n] = '\0'; /* scan_head reserved it */
    if (check_request_line(p) != HTTP_PARSE_HEAD) {
        return HTTP_PARSE_BAD;
    }
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = &r;
    enum llhttp_errno code = llhttp_execute(&parser, p->text.data, p->text.n);
    if (code == HPE_INVALID_METHOD) {
        return fail(p, 405, "unknown method"); /* not 501: nothing is wrong with the server */
    }
    char *blank = strchr(p->text.data, ' ');
    if (code != HPE_PAUSED || !r.complete || r.wrong || r.url != blank + 1 || *r.url_end != ' ' ||
        r.n_names != r.n_values) {
        return fail(p, 400, "malformed request head");
    }
    *blank = '\0';
    *r.url_end = '\0';
    p->head.method = p->text.data;
    p->head.n_fields = r.n_names;
    for (size_t i = 0; i < r.n_names; i++) {
        trim_field(&p->head.fields[i], r.name_ends[i], r.value_ends[i]);
    }
    p->head.keep_alive = r.keep_alive;
    const char *expect = http_head_field(&p->head, "expect");
    p->head.expects_continue = expect && strcasecmp(expect, "100-continue") == 0 && p->head.minor == 1;
    http_parse_event event = read_framing(p, &r);
    return event == HTTP_PARSE_HEAD ? read_target(p, r.url) : event;
}

/* ---- the body ---------------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One byte of the framing of chunks. */
static void chunk_byte(http_parser *p, char c)
{
    int digit = hex_digit(c);
    switch (p->state) {
    case CHUNK_SIZE:
        if (digit >= 0 && p->n_digits < 15) {
            p->left = p->left << 4 | (unsigned)digit;
            p->n_digits++;
        } else if (c == '\r' && p->n_digits > 0) {
            p->state = CHUNK_SIZE_LF;
        } else {
            fail(p, 400, c == ';' ? "chunk extensions are not accepted" : "bad chunk size");
        }
        return;
    case CHUNK_SIZE_LF:
        p->state = p->left ? CHUNK_DATA : LAST_CR;
        break;
    case CHUNK_DATA_CR:
    case LAST_CR:
        if (c != '\r') {
            fail(p, 400, p->state == LAST_CR ? "trailer fields are not accepted" : "a chunk is longer than it says");
            return;
        }
        p->state = p->state == LAST_CR ? LAST_LF : CHUNK_DATA_LF;
        return;
    case CHUNK_DATA_LF:
        p->state = CHUNK_SIZE;
        p->n_digits = 0;
        p->left = 0;
        break;
    case LAST_LF:
        p->state = ENDED;
        break;
    default:
        break;
    }
    if (c != '\n') { /* all that are left end a line */
        fail(p, 400, "a carriage return without a line feed");
    }
}

static http_parse_event take_piece(http_parser *p, const char *data, size_t n, size_t *used, const char **piece,
                                   size_t *n_piece)
{
    size_t taken = p->left < n - *used ? (size_t)p->left : n - *used;
    *piece = data + *used;
    *n_piece = taken;
    *used += taken;
    p->left -= taken;
    if (p->left == 0) {
        p->state = p->state == CHUNK_DATA ? CHUNK_DATA_CR : ENDED;
    }
    return HTTP_PARSE_BODY;
}

http_parse_event http_parse_next(http_parser *p, const char *data, size_t n, size_t *used, const char **piece,
                                 size_t *n_piece)
{
    *used = 0;
    *piece = NULL;
    *n_piece = 0;
    if (p->state == IN_HEAD && scan_head(p, data, n, used) && read_head(p) == HTTP_PARSE_HEAD) {
        p->state = HEAD_READ;
        return HTTP_PARSE_HEAD;
    }
    if (p->state == HEAD_READ) {
        p->left = p->head.content_length;
        p->state = p->head.chunked ? CHUNK_SIZE : p->left ? IN_BODY : ENDED;
    }
    while (*used < n && p->state != FAILED && p->state != ENDED && p->state != IN_HEAD) {
        if (p->state == IN_BODY || p->state == CHUNK_DATA) {
            return take_piece(p, data, n, used, piece, n_piece);
        }
        chunk_byte(p, data[(*used)++]);
    }
    return p->state == FAILED ? HTTP_PARSE_BAD : p->state == ENDED ? HTTP_PARSE_END : HTTP_PARSE_MORE;
}

bool http_parser_began(const http_parser *p)
{
    return p->state != IN_HEAD || p->text.n > 0;
}

const char *http_head_field(const http_head *head, const char *name)
{
    for (size_t i = 0; i < head->n_fields; i++) {
        if (strcmp(head->fields[i].name, name) == 0) {
            return head->fields[i].value;
        }
    }
    return NULL;
}

void http_parser_reset(http_parser *p)
{
    byte_queue text = p->text;
    free(p->marked);
    byte_queue_clear(&text);
    *p = (http_parser){.text = text};
}

void http_parser_free(http_parser *p)
{
    free(p->marked);
    byte_queue_free(&p->text);
    *p = (http_parser){0};
}
