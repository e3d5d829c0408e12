/*
 * HTTP from bytes: what is taken, what is refused and why, whole and cut at every place.
 * Owner: the test program. Lifetime: the process.
 */
#include "server/http_parse.h"
#include "support/test.h"

typedef struct outcome {
    char text[65536]; /* events as text */
    size_t n;
    int status;
} outcome;

static void note(outcome *o, const char *text, size_t n)
{
    assert_true(o->n + n < sizeof o->text);
    memcpy(o->text + o->n, text, n);
    o->n += n;
    o->text[o->n] = '\0';
}

static void note_head(outcome *o, const http_head *head)
{
    char line[256];
    int n = snprintf(line, sizeof line, "HEAD 1.%u %s%s%s %llu ", head->minor, head->keep_alive ? "keep" : "close",
                     head->chunked ? " chunked" : "", head->expects_continue ? " continue" : "",
                     (unsigned long long)head->content_length);
    note(o, line, (size_t)n);
    note(o, head->method, strlen(head->method));
    note(o, " ", 1);
    note(o, head->marked_path, strlen(head->marked_path));
    note(o, "?", 1);
    note(o, head->query, strlen(head->query));
    for (size_t i = 0; i < head->n_fields; i++) {
        note(o, "|", 1);
        note(o, head->fields[i].name, strlen(head->fields[i].name));
        note(o, "=", 1);
        note(o, head->fields[i].value, strlen(head->fields[i].value));
    }
    note(o, "\n", 1);
}

/* Feeds a piece; false: it has failed. */
static bool feed(http_parser *p, outcome *o, const char *data, size_t n)
{
    for (;;) {
        size_t used, n_piece;
        const char *piece;
        char *copy = malloc(n ? n : 1); /* so that a sanitizer sees a byte read behind it */
        memcpy(copy, data, n);
        http_parse_event event = http_parse_next(p, copy, n, &used, &piece, &n_piece);
        assert_true(used <= n);
        if (event == HTTP_PARSE_BODY) {
            assert_true(piece >= copy && piece + n_piece <= copy + used);
            note(o, piece, n_piece);
        }
        free(copy);
        data += used;
        n -= used;
        switch (event) {
        case HTTP_PARSE_MORE:
            assert_int_equal(n, 0);
            return true;
        case HTTP_PARSE_HEAD:
            note_head(o, &p->head);
            break;
        case HTTP_PARSE_BODY:
            break;
        case HTTP_PARSE_END:
            note(o, "\nEND\n", 5);
            http_parser_reset(p);
            break;
        case HTTP_PARSE_BAD:
            o->status = p->status;
            assert_non_null(p->reason);
            return false;
        }
    }
}

static void run(outcome *o, const char *data, size_t n, size_t cut, size_t step)
{
    http_parser p = {0};
    o->n = 0;
    o->text[0] = '\0';
    o->status = 0;
    bool ok = feed(&p, o, data, cut);
    while (ok && cut < n) {
        size_t more = step < n - cut ? step : n - cut;
        ok = feed(&p, o, data + cut, more);
        cut += more;
    }
    http_parser_free(&p);
}

/* Bodies come in pieces that depend on the cuts, their bytes and everything else do not. */
static void check(const char *data, size_t n, int status, const char *expected)
{
    static outcome whole, cut;
    run(&whole, data, n, n, n);
    if (whole.status != status || (expected && strcmp(whole.text, expected) != 0)) {
        fail_msg("status %d for\n%.*s\nevents:\n%s\nexpected %d:\n%s", whole.status, (int)n, data, whole.text, status,
                 expected ? expected : "");
    }
    for (size_t at = 0; at <= n; at++) {
        run(&cut, data, n, at, n);
        assert_int_equal(cut.status, status);
        assert_string_equal(cut.text, whole.text);
    }
    run(&cut, data, n, 0, 1);
    assert_int_equal(cut.status, status);
    assert_string_equal(cut.text, whole.text);
}

static void check_text(const char *text, int status, const char *expected)
{
    check(text, strlen(text), status, expected);
}

static void requests_come_out_whole_wherever_they_are_cut(void **state)
{
    (void)state;
    check_text("GET /a/b?c=d HTTP/1.1\r\nHost: h\r\nX-One:  two three \t\r\n\r\n", 0,
               "HEAD 1.1 keep 0 GET /a/b?c=d|host=h|x-one=two three\n\nEND\n");
    check_text("POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 0,
               "HEAD 1.1 keep 5 POST /x?|content-length=5\nhello\nEND\n");
    check_text("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\n", 0,
               "HEAD 1.1 keep chunked 0 POST /x?|transfer-encoding=chunked\nhello0123456789\nEND\n");
    check_text("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.0\r\n\r\n\r\nGET /3 HTTP/1.1\r\nConnection: close\r\n\r\n", 0,
               "HEAD 1.1 keep 0 GET /1?\n\nEND\nHEAD 1.0 close 0 GET /2?\n\nEND\nHEAD 1.1 close 0 GET "
               "/3?|connection=close\n\nEND\n");
    check_text("PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", 0,
               "HEAD 1.1 keep continue 1 PUT /x?|expect=100-continue|content-length=1\nx\nEND\n");
    check_text("GET /x HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nEmpty:\r\n\r\n", 0,
               "HEAD 1.1 keep 0 GET /x?|upgrade=h2c|connection=Upgrade|empty=\n\nEND\n");
    check_text("POST /x HTTP/1.1\r\nEmpty:\r\nHost: h\r\nBlank: \t \r\nContent-Length: 2\r\n\r\nab", 0,
               "HEAD 1.1 keep 2 POST /x?|empty=|host=h|blank=|content-length=2\nab\nEND\n");
}

static void whatever_two_readers_could_read_in_two_ways_is_refused(void **state)
{
    static const struct {
        int status;
        const char *text;
    } cases[] = {
        /* line ends */
        {400, "GET / HTTP/1.1\nHost: h\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: h\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: h\r\n\n"},
        {400, "GET / HTTP/1.1\rHost: h\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nDummy:\rContent-Length: 5\r\n\r\nhello"},
        {400, "GET / HTTP/1.1\r\nDummy: x\rContent-Length: 5\r\n\r\nhello"},
        {400, "GET / HTTP/1.1\r\nDummy: x\r\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n Host: h\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n"},
        {400, "\r\n\r\nGET / HTTP/1.1\r\n\r\n"},
        {400, "\nGET / HTTP/1.1\r\n\r\n"},
        /* names and values */
        {400, "GET / HTTP/1.1\r\nHost : h\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nContent-Length\t: 5\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n: h\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHo st: h\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHo\x80st: h\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: h\x01\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: h\x7f\r\n\r\n"},
        /* lengths */
        {400, "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nContent-Length: 5 5\r\n\r\nhello"},
        {400, "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        /* chunks */
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nhello\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n"},
        {501, "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nTransfer-Encoding: \x0b"
              "chunked\r\n\r\n0\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n"},
        /* request lines */
        {400, "GET  / HTTP/1.1\r\n\r\n"},
        {400, "GET / HTTP/1.1 \r\n\r\n"},
        {400, " GET / HTTP/1.1\r\n\r\n"},
        {400, "GET\t/\tHTTP/1.1\r\n\r\n"},
        {400, "GET /\r\n\r\n"},
        {400, "GET / http/1.1\r\n\r\n"},
        {400, "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n"},
        {400, "GET evil.example HTTP/1.1\r\n\r\n"},
        {400, "OPTIONS * HTTP/1.1\r\n\r\n"},
        {400, "CONNECT evil.example:80 HTTP/1.1\r\n\r\n"},
        {505, "GET / HTTP/2.0\r\n\r\n"},
        {505, "GET / HTTP/0.9\r\n\r\n"},
        {505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
        {405, "GTE / HTTP/1.1\r\n\r\n"},
        {400, "\x16\x03\x01\x02\x01\x01\x01\xfc\x03\x03"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static outcome o;
        run(&o, cases[i].text, strlen(cases[i].text), strlen(cases[i].text), 1);
        if (o.status != cases[i].status) {
            fail_msg("status %d, expected %d:\n%s\nevents:\n%s", o.status, cases[i].status, cases[i].text, o.text);
        }
        check_text(cases[i].text, o.status, NULL);
        assert_null(strstr(o.text, "END"));
    }
    check("GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 27, 400, "");
    check("GET /\0 HTTP/1.1\r\n\r\n", 20, 400, "");
    check("\0", 1, 400, "");
}

static void paths_have_one_reading(void **state)
{
    static const struct {
        const char *target, *path; /* NULL: refused; \1: an encoded slash */
    } cases[] = {
        {"/", "/"},
        {"/v1/models/", "/v1/models/"},
        {"/v1/%6dodels", "/v1/models"},
        {"/a/owner%2Frepo", "/a/owner\1repo"},
        {"/a/%E2%82%AC", "/a/\xe2\x82\xac"},
        {"/a.b/..c/d..", "/a.b/..c/d.."},
        {"/a;b=c", "/a;b=c"},
        {"//", NULL},
        {"//v1/models", NULL},
        {"/v1//models", NULL},
        {"/v1/./models", NULL},
        {"/v1/../models", NULL},
        {"/..", NULL},
        {"/.", NULL},
        {"/a/..", NULL},
        {"/%2e%2e/a", NULL},
        {"/%2E/a", NULL},
        {"/.%2e/a", NULL},
        {"/a%2f..%2fb", NULL},
        {"/a/..%2f", NULL},
        {"/a%2F%2Fb", NULL},
        {"/a/%2Fb", NULL},
        {"/a%2F/b", NULL},
        {"/a\\b", NULL},
        {"/a%5cb", NULL},
        {"/a%5C..%5Cb", NULL},
        {"/a%00b", NULL},
        {"/a%0d%0ab", NULL},
        {"/a%7f", NULL},
        {"/a%", NULL},
        {"/a%2", NULL},
        {"/a%zz", NULL},
        {"/a%u002f", NULL},
        {"/a%c0%af", NULL},
        {"/a%ff", NULL},
        {"/a%ed%a0%80", NULL},
        {"/a%f5%80%80%80", NULL},
        {"/a%e2%82", NULL},
        {"/a\xe2\x82\xac", NULL},
        {"/a#b", NULL},
        {"/a?b#c", NULL},
        {"/a<b", NULL},
        {"/a\"b", NULL},
        {"a", NULL},
        {"*", NULL},
        {"http://localhost/", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256], expected[256];
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n\r\n", cases[i].target);
        snprintf(expected, sizeof expected, "HEAD 1.1 keep 0 GET %s?\n\nEND\n", cases[i].path ? cases[i].path : "");
        check_text(text, cases[i].path ? 0 : 400, cases[i].path ? expected : "");
    }
}

static void limits_hold_at_their_edge(void **state)
{
    static char text[200000];
    static outcome o;
    (void)state;
    for (int n = HTTP_FIELDS_MAX - 1; n <= (int)HTTP_FIELDS_MAX + 1; n++) {
        size_t at = (size_t)sprintf(text, "GET / HTTP/1.1\r\n");
        for (int i = 0; i < n; i++) {
            at += (size_t)sprintf(text + at, "a%d: b\r\n", i);
        }
        at += (size_t)sprintf(text + at, "\r\n");
        run(&o, text, at, at, 1);
        assert_int_equal(o.status, n <= (int)HTTP_FIELDS_MAX ? 0 : 431);
    }
    for (int more = -1; more <= 1; more++) { /* a head of exactly 32 KiB passes */
        size_t n_value = HTTP_HEAD_MAX - strlen("GET / HTTP/1.1\r\na: \r\n\r\n") + (size_t)more;
        size_t at = (size_t)sprintf(text, "GET / HTTP/1.1\r\na: ");
        memset(text + at, 'x', n_value);
        at += n_value + (size_t)sprintf(text + at + n_value, "\r\n\r\n");
        run(&o, text, at, at, 1);
        assert_int_equal(o.status, more <= 0 ? 0 : 431);
    }
    size_t at = (size_t)sprintf(text, "GET /");
    memset(text + at, 'x', 9000);
    at += 9000 + (size_t)sprintf(text + at + 9000, " HTTP/1.1\r\n\r\n");
    run(&o, text, at, at, 1);
    assert_int_equal(o.status, 414);
    memset(text, 'a', 100000); /* no line end ever */
    run(&o, text, 100000, 1000, 1000);
    assert_int_equal(o.status, 414);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_out_whole_wherever_they_are_cut),
        cmocka_unit_test(whatever_two_readers_could_read_in_two_ways_is_refused),
        cmocka_unit_test(paths_have_one_reading),
        cmocka_unit_test(limits_hold_at_their_edge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
