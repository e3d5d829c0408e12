/*
 * Fuzz target: HTTP from the network. The same requests come out whole, in two pieces and byte by byte; what comes out
 * keeps the promises that routes and checks build on. Owner: the fuzzer. Lifetime: the process.
 *
 * The first two bytes say where the cut is; the rest is what a client sends.
 */
/* links: server */
#include <stdlib.h>
#include <string.h>

#include "server/access.h"
#include "server/http_parse.h"
#include "server/http_target.h"

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

static int is_plain(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if ((*c < 0x20 && *c != '\t') || *c == 0x7f) {
            return 0;
        }
    }
    return 1;
}

/* What is promised of every head. */
static void check_head(const http_head *head)
{
    const char *path = head->path;
    require(path && path[0] == '/' && is_plain(path) && is_plain(head->query) && is_plain(head->method));
    require(!strstr(path, "//") && !strstr(path, "/./") && !strstr(path, "/../") && !strchr(path, '\\'));
    size_t n = strlen(path);
    require(n < 2 || strcmp(path + n - 2, "/.") != 0);
    require(n < 3 || strcmp(path + n - 3, "/..") != 0);
    require(head->n_fields <= HTTP_FIELDS_MAX && (!head->chunked || head->content_length == 0));
    unsigned n_framing = 0;
    for (size_t i = 0; i < head->n_fields; i++) {
        const char *name = head->fields[i].name;
        require(name[0] && is_plain(name) && !strpbrk(name, " \t:") && is_plain(head->fields[i].value));
        n_framing += strcmp(name, "content-length") == 0 || strcmp(name, "transfer-encoding") == 0;
    }
    require(n_framing <= 1);
    /* The checks of headers must get along with whatever passes the parser. */
    access_request r = {.host = http_head_field(head, "host"),
                        .n_hosts = http_head_field(head, "host") != NULL,
                        .origin = http_head_field(head, "origin"),
                        .n_origins = http_head_field(head, "origin") != NULL,
                        .content_type = http_head_field(head, "content-type"),
                        .n_content_types = http_head_field(head, "content-type") != NULL,
                        .local = "127.0.0.1",
                        .has_body = true};
    static const access_rules rules = {0};
    if (access_check_host(&rules, &r).status == 0) {
        access_check_origin(&rules, &r, NULL);
    }
    access_check_json(&r);
    char query[HTTP_TARGET_MAX];
    require(strlen(head->query) < sizeof query);
    strcpy(query, head->query);
    http_query_decode(query);
}

static void hash(uint64_t *state, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < n; i++) {
        *state = (*state ^ bytes[i]) * 0x100000001b3u;
    }
}

/* False: the connection has to end. */
static int feed(http_parser *p, const uint8_t *data, size_t n, uint64_t *events)
{
    for (;;) {
        const char *piece;
        size_t used, n_piece;
        char *copy = malloc(n ? n : 1);
        require(copy != NULL);
        if (n) {
            memcpy(copy, data, n);
        }
        http_parse_event event = http_parse_next(p, copy, n, &used, &piece, &n_piece);
        require(used <= n && (event == HTTP_PARSE_BODY || n_piece == 0));
        if (event == HTTP_PARSE_BODY) {
            require(piece >= copy && piece + n_piece <= copy + used);
            hash(events, piece, n_piece);
        } else if (event != HTTP_PARSE_MORE) {
            hash(events, &event, sizeof event);
        }
        free(copy);
        data += used;
        n -= used;
        if (event == HTTP_PARSE_HEAD) {
            check_head(&p->head);
            hash(events, p->head.marked_path, strlen(p->head.marked_path) + 1);
            hash(events, &p->head.content_length, sizeof p->head.content_length);
        } else if (event == HTTP_PARSE_END) {
            http_parser_reset(p);
        } else if (event == HTTP_PARSE_BAD) {
            require(p->status >= 400 && p->status < 600 && p->reason && p->reason[0]);
            hash(events, &p->status, sizeof p->status);
            return 0;
        } else if (event == HTTP_PARSE_MORE) {
            require(n == 0);
            return 1;
        }
    }
}

static uint64_t run(const uint8_t *data, size_t n, size_t cut, size_t step)
{
    http_parser p = {0};
    uint64_t events = 0xcbf29ce484222325u;
    int ok = feed(&p, data, cut, &events);
    while (ok && cut < n) {
        size_t more = step < n - cut ? step : n - cut;
        ok = feed(&p, data + cut, more, &events);
        cut += more;
    }
    http_parser_free(&p);
    return events;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2) {
        return 0;
    }
    size_t cut = (size_t)(data[0] << 8 | data[1]);
    data += 2;
    n -= 2;
    uint64_t whole = run(data, n, n, 1);
    require(run(data, n, n ? cut % (n + 1) : 0, n) == whole);
    if (n <= 4096) {
        require(run(data, n, 0, 1) == whole);
    }
    return 0;
}
