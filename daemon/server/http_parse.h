/*
 * Bytes to requests: a pull parser of one connection. Strict, because whoever stands before or behind us may read
 * leniently. Owner: the connection (or a test, or the fuzzer). Lifetime: {0} to http_parser_free.
 *
 *   http_parse_next ─▶ MORE* ─▶ HEAD ─▶ (MORE | BODY)* ─▶ END ─▶ http_parser_reset ─▶ the next request
 *                        └────────┴────────────┴─▶ BAD: the connection has to end
 *
 * The head is scanned byte for byte first (line ends are CRLF, no folding, no control characters, limits), then read by
 * llhttp, then what both say of the body is compared. The framing of bodies is read here: llhttp 8.1 lets bare line
 * ends pass there. Chunk extensions and trailers are refused; no client sends them.
 */
#ifndef MLXR_SERVER_HTTP_PARSE_H
#define MLXR_SERVER_HTTP_PARSE_H

#include <stdint.h>

#include "server/byte_queue.h"

#define HTTP_HEAD_MAX 32768u
#define HTTP_FIELDS_MAX 100u

typedef struct http_field {
    char *name, *value; /* name in lower case, value without blanks around it; both NUL-terminated */
} http_field;

typedef struct http_head {
    char *method;
    char *path, *marked_path; /* decoded; in the marked one encoded slashes are HTTP_ENCODED_SLASH */
    char *query;
    unsigned minor; /* HTTP/1.minor */
    http_field fields[HTTP_FIELDS_MAX];
    size_t n_fields;
    bool chunked, keep_alive, expects_continue;
    uint64_t content_length; /* 0 if none, or chunked */
} http_head;

typedef enum http_parse_event {
    HTTP_PARSE_MORE, /* all input is used */
    HTTP_PARSE_HEAD, /* `head` is filled, until http_parser_reset */
    HTTP_PARSE_BODY, /* a piece of it */
    HTTP_PARSE_END,
    HTTP_PARSE_BAD, /* `status` and `reason` say why; comes again on each call */
} http_parse_event;

typedef struct http_parser {
    http_head head;
    int status;         /* of BAD: 400, 414, 431, 501, 505, 503 (no memory) */
    const char *reason; /* one line, a constant */
    unsigned state;
    /* the head, as far as it has come */
    byte_queue text;
    char *marked;
    size_t line_begin;
    unsigned n_lines;
    bool cr, colon, skipped_line;
    /* the body */
    uint64_t left; /* of the body, or of the chunk */
    unsigned n_digits;
} http_parser;

/* Takes bytes from `data`, *used of them; *piece and *n_piece are those of BODY. Call again with the rest, even if
 * there is none, until MORE. */
http_parse_event http_parse_next(http_parser *p, const char *data, size_t n, size_t *used, const char **piece,
                                 size_t *n_piece);
bool http_parser_began(const http_parser *p); /* has anything of a request come? */
const char *http_head_field(const http_head *head, const char *name);
void http_parser_reset(http_parser *p);
void http_parser_free(http_parser *p);

#endif
