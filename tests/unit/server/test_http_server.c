/*
 * The HTTP server over real sockets: a server on a thread of its own, a plain client in the test.
 * Owner: the test program. Lifetime: the process.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "server/byte_queue.h"
#include "server/http.h"
#include "support/test.h"

/* ---- a server to talk to ----------------------------------------------------------------------------------------- */

typedef struct world {
    http_server *s;
    pthread_t thread;
    uint16_t port;
    _Atomic unsigned n_gone, n_started, n_drained, n_errors;
    _Atomic uint64_t gone_ms;
    _Atomic size_t most_buffered;
} world;

typedef struct job { /* of one exchange that takes its time */
    world *w;
    http_exchange *x; /* NULL: gone */
    size_t n, n_sent; /* bytes to stream */
    uint64_t timer;
    byte_queue body;
    bool pausing;
    bool exact; /* stops when HTTP_BUFFER_MAX bytes wait, not one more */
} job;

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void on_gone(void *user)
{
    job *j = user;
    j->x = NULL;
    atomic_store(&j->w->gone_ms, clock_ms());
    atomic_fetch_add(&j->w->n_gone, 1);
    http_timer_cancel(j->w->s, j->timer);
    byte_queue_free(&j->body);
    free(j);
}

/* Byte i of a stream, so that a lost, doubled or foreign piece is seen. */
static char stream_byte(size_t i)
{
    return (char)('a' + (i * 7 + i / 251) % 26);
}

static void produce(void *user)
{
    job *j = user;
    char piece[1000];
    const size_t most = HTTP_BUFFER_MAX - j->exact;
    while (j->n_sent < j->n && http_stream_buffered(j->x) <= most) {
        size_t n = j->n - j->n_sent < sizeof piece ? j->n - j->n_sent : sizeof piece;
        size_t room = HTTP_BUFFER_MAX - http_stream_buffered(j->x);
        n = j->exact && room < n ? room : n;
        for (size_t i = 0; i < n; i++) {
            piece[i] = stream_byte(j->n_sent + i);
        }
        if (!http_stream_write(j->x, piece, n)) {
            return;
        }
        j->n_sent += n;
        size_t buffered = http_stream_buffered(j->x);
        if (buffered > atomic_load(&j->w->most_buffered)) {
            atomic_store(&j->w->most_buffered, buffered);
        }
    }
    if (j->n_sent == j->n) {
        http_stream_end(j->x);
    }
}

static void on_drain(void *user)
{
    atomic_fetch_add(&((job *)user)->w->n_drained, 1);
    produce(user);
}

static void answer_late(void *user)
{
    job *j = user;
    j->timer = 0;
    http_respond(j->x, 200, "text/plain", "late", 4);
}

static void on_body(void *user, const void *data, size_t n, bool last);

static void resume_body(void *user)
{
    job *j = user;
    j->timer = 0;
    http_body_resume(j->x);
}

static void on_body(void *user, const void *data, size_t n, bool last)
{
    job *j = user;
    assert_true(byte_queue_add(&j->body, data, n));
    if (last) {
        http_respond(j->x, 200, "application/octet-stream", j->body.data, j->body.n);
    } else if (j->pausing) {
        http_body_pause(j->x);
        j->timer = http_timer(j->w->s, 3, resume_body, j);
    }
}

static job *new_job(world *w, http_exchange *x)
{
    job *j = calloc(1, sizeof *j);
    *j = (job){.w = w, .x = x};
    http_on_gone(x, on_gone, j);
    atomic_fetch_add(&w->n_started, 1);
    return j;
}

static http_body_plan on_head(void *user, http_exchange *x)
{
    const char *path = http_request_of(x)->path;
    (void)user;
    if (strcmp(path, "/refuse") == 0) {
        http_respond(x, 401, "text/plain", "no", 2);
    }
    return (http_body_plan){.stream = strncmp(path, "/body", 5) == 0,
                            .bytes_max = strcmp(path, "/small") == 0 ? 10 : 64 << 20};
}

static void on_request(void *user, http_exchange *x)
{
    world *w = user;
    const http_request *q = http_request_of(x);
    char text[64];
    if (strcmp(q->path, "/echo") == 0 || strcmp(q->path, "/small") == 0) {
        http_header_add(x, "X-Evil", "a\r\nb: c"); /* dropped */
        http_header_add(x, "X-Method", q->method);
        http_respond(x, 200, "application/octet-stream", q->body, q->n_body);
    } else if (strcmp(q->path, "/stream") == 0) {
        job *j = new_job(w, x);
        j->n = http_query_read(x, "n", text, sizeof text) == HTTP_QUERY_GIVEN ? strtoul(text, NULL, 10) : 0;
        j->exact = http_query_read(x, "exact", text, sizeof text) == HTTP_QUERY_GIVEN;
        http_on_drain(x, on_drain, j);
        http_stream_begin(x, 200, "text/plain");
        produce(j);
    } else if (strcmp(q->path, "/late") == 0) {
        job *j = new_job(w, x);
        j->timer = http_timer(
            w->s, http_query_read(x, "ms", text, sizeof text) == HTTP_QUERY_GIVEN ? strtoul(text, NULL, 10) : 100000,
            answer_late, j);
    } else if (strcmp(q->path, "/abort") == 0) {
        http_stream_begin(x, 200, "text/plain");
        http_stream_write(x, "half", 4);
        http_abort(x);
    } else if (strncmp(q->path, "/body", 5) == 0) {
        job *j = new_job(w, x);
        j->pausing = strcmp(q->path, "/body-slow") == 0;
        http_on_body(x, on_body, j);
    } else {
        http_respond(x, 404, "text/plain", "none", 4);
    }
}

static void on_error(void *user, http_exchange *x, int status, const char *message)
{
    atomic_fetch_add(&((world *)user)->n_errors, 1);
    http_respond(x, status, "text/plain", message, strlen(message));
}

static void *serve(void *user)
{
    http_run(((world *)user)->s);
    return NULL;
}

static void open_world(world *w, http_options options)
{
    mlxr_error error;
    *w = (world){.port = 0};
    options.app = (http_app){.user = w, .on_head = on_head, .on_request = on_request, .on_error = on_error};
    assert_ok(http_open(&w->s, &options, &error), &error);
    assert_ok(http_listen_tcp(w->s, "127.0.0.1", 0, &w->port, &error), &error);
    assert_int_not_equal(w->port, 0);
    assert_int_equal(pthread_create(&w->thread, NULL, serve, w), 0);
}

static void close_world(world *w)
{
    http_stop(w->s);
    pthread_join(w->thread, NULL);
    http_close(&w->s);
    assert_int_equal(atomic_load(&w->n_gone), atomic_load(&w->n_started)); /* each exactly once */
}

/* ---- a client ---------------------------------------------------------------------------------------------------- */

static int dial(const world *w)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);
        assert_true(sent > 0);
        data += sent;
        n -= (size_t)sent;
    }
}

static void say_text(int fd, const char *text)
{
    say(fd, text, strlen(text));
}

/* Everything up to the end of the connection, or until nothing has come for a while. */
static byte_queue hear(int fd, int quiet_ms)
{
    byte_queue all = {0};
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (poll(&ready, 1, quiet_ms) > 0) {
        assert_true(byte_queue_reserve(&all, 65537));
        ssize_t n = recv(fd, all.data + all.n, 65536, 0);
        if (n <= 0) {
            break;
        }
        all.n += (size_t)n;
    }
    assert_true(byte_queue_reserve(&all, 1));
    all.data[all.n] = '\0';
    return all;
}

/* The same by one who takes 64 KiB every 10 ms until `ms` have passed, and then whatever comes. */
static byte_queue hear_slowly(int fd, uint64_t ms)
{
    byte_queue all = {0};
    for (uint64_t began = clock_ms(); clock_ms() - began < ms;) {
        assert_true(byte_queue_reserve(&all, 65536));
        ssize_t n = recv(fd, all.data + all.n, 65536, 0);
        assert_true(n > 0);
        all.n += (size_t)n;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    byte_queue rest = hear(fd, 5000);
    assert_true(byte_queue_add(&all, rest.data, rest.n + 1)); /* its NUL, too */
    all.n--;
    byte_queue_free(&rest);
    return all;
}

static byte_queue ask(const world *w, const char *text)
{
    int fd = dial(w);
    say_text(fd, text);
    byte_queue heard = hear(fd, 5000);
    close(fd);
    return heard;
}

static unsigned n_of(const byte_queue *all, const char *what)
{
    unsigned n = 0;
    for (const char *at = all->data; (at = strstr(at, what)); at++) {
        n++;
    }
    return n;
}

static void assert_answer(byte_queue heard, const char *begin, const char *holds, const char *end)
{
    size_t n = strlen(end);
    if (strncmp(heard.data, begin, strlen(begin)) != 0 || !strstr(heard.data, holds) || heard.n < n ||
        memcmp(heard.data + heard.n - n, end, n) != 0) {
        fail_msg("expected %s … %s … %s, heard:\n%s", begin, holds, end, heard.data);
    }
    byte_queue_free(&heard);
}

static void wait_for(_Atomic unsigned *counter, unsigned value)
{
    for (unsigned i = 0; i < 5000 && atomic_load(counter) < value; i++) {
        struct timespec ms = {0, 1000000};
        nanosleep(&ms, NULL);
    }
    assert_int_equal(atomic_load(counter), value);
}

/* The body of a chunked answer, which must be whole. */
static byte_queue unchunk(const byte_queue *heard)
{
    byte_queue body = {0};
    const char *at = strstr(heard->data, "\r\n\r\n");
    assert_non_null(at);
    for (at += 4;;) {
        char *end;
        size_t n = strtoul(at, &end, 16);
        assert_true(end > at && memcmp(end, "\r\n", 2) == 0);
        at = end + 2;
        assert_true(at + n + 2 <= heard->data + heard->n);
        assert_true(byte_queue_add(&body, at, n));
        at += n;
        assert_memory_equal(at, "\r\n", 2);
        at += 2;
        if (n == 0) {
            return body;
        }
    }
}

static void assert_stream(const char *data, size_t n, size_t expected)
{
    assert_int_equal(n, expected);
    for (size_t i = 0; i < n; i++) {
        if (data[i] != stream_byte(i)) {
            fail_msg("byte %zu of the stream is wrong", i);
        }
    }
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

#define HOST "Host: localhost\r\n"
#define CLOSE HOST "Connection: close\r\n"

static void requests_on_one_connection_are_answered_in_order(void **state)
{
    world w;
    (void)state;
    open_world(&w, (http_options){0});
    int fd = dial(&w);
    say_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\noneGET /late?ms=30 HTTP/1.1\r\n" HOST
                 "\r\nPOST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n2\r\n--\r\n0\r\n\r\n"
                 "GET /echo HTTP/1.0\r\n\r\n");
    byte_queue heard = hear(fd, 5000);
    close(fd);
    assert_int_equal(n_of(&heard, "HTTP/1.1 200 OK"), 4);
    const char *one = strstr(heard.data, "\r\n\r\none"), *late = strstr(heard.data, "\r\n\r\nlate"),
               *two = strstr(heard.data, "\r\n\r\ntwo--"), *end = strstr(heard.data, "Connection: close");
    assert_true(one && one < late && late < two && two < end);
    assert_int_equal(n_of(&heard, "X-Evil"), 0);
    byte_queue_free(&heard);
    assert_answer(ask(&w, "HEAD /echo HTTP/1.1\r\n" CLOSE "\r\n"), "HTTP/1.1 200 OK\r\n", "Content-Length: 0",
                  "\r\n\r\n");
    assert_answer(ask(&w, "HEAD /stream?n=5000 HTTP/1.1\r\n" CLOSE "\r\n"), "HTTP/1.1 200 OK\r\n", "chunked",
                  "\r\n\r\n");
    fd = dial(&w); /* a client that closes its half behind a request that is answered at once */
    say_text(fd, "GET /echo HTTP/1.1\r\n" HOST "\r\n");
    shutdown(fd, SHUT_WR);
    assert_answer(hear(fd, 5000), "HTTP/1.1 200", "", "\r\n\r\n");
    close(fd);
    close_world(&w);
}

static void bodies_arrive_whole_or_are_refused(void **state)
{
    static char text[4 << 20];
    world w;
    (void)state;
    open_world(&w, (http_options){0});
    int fd = dial(&w);
    size_t n = (size_t)sprintf(text, "POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 3000000\r\n\r\n");
    for (size_t i = 0; i < 3000000; i++) {
        text[n + i] = stream_byte(i);
    }
    say(fd, text, n + 3000000);
    byte_queue heard = hear(fd, 5000);
    close(fd);
    const char *body = strstr(heard.data, "\r\n\r\n") + 4;
    assert_stream(body, (size_t)(heard.data + heard.n - body), 3000000);
    byte_queue_free(&heard);
    assert_answer(
        ask(&w, "POST /small HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n0123456789GET /x HTTP/1.0\r\n\r\n"),
        "HTTP/1.1 200", "0123456789", "none");
    assert_answer(ask(&w, "POST /small HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\n01234567890"), "HTTP/1.1 413",
                  "Connection: close", "takes");
    assert_answer(
        ask(&w, "POST /small HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n3\r\n890"),
        "HTTP/1.1 413", "Connection: close", "takes");
    assert_answer(ask(&w, "POST /refuse HTTP/1.1\r\n" HOST "Content-Length: 1000000000\r\n\r\n"), "HTTP/1.1 401",
                  "Connection: close", "no");
    assert_answer(ask(&w, "POST /refuse HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n"),
                  "HTTP/1.1 401", "Connection: close", "no"); /* and nothing behind it is answered */
    assert_answer(ask(&w, "GET /refuse HTTP/1.1\r\n" HOST "\r\nGET / HTTP/1.0\r\n\r\n"), "HTTP/1.1 401", "no", "none");
    fd = dial(&w);
    say_text(fd, "POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_answer(hear(fd, 200), "HTTP/1.1 100 Continue\r\n\r\n", "", "\r\n\r\n");
    say_text(fd, "ok");
    assert_answer(hear(fd, 5000), "HTTP/1.1 200", "", "ok");
    close(fd);
    close_world(&w);
}

static void bodies_in_pieces_can_be_paused(void **state)
{
    static char text[1 << 20];
    world w;
    (void)state;
    open_world(&w, (http_options){0});
    for (unsigned slow = 0; slow < 2; slow++) {
        int fd = dial(&w);
        size_t n = (size_t)sprintf(text, "PUT /body%s HTTP/1.1\r\n" CLOSE "Content-Length: 1000000\r\n\r\n",
                                   slow ? "-slow" : "");
        for (size_t i = 0; i < 1000000; i++) {
            text[n + i] = stream_byte(i);
        }
        say(fd, text, n + 1000000);
        byte_queue heard = hear(fd, 5000);
        close(fd);
        const char *body = strstr(heard.data, "\r\n\r\n");
        if (!body) {
            fail_msg("slow %u, heard %zu: %s", slow, heard.n, heard.data);
        }
        body += 4;
        assert_stream(body, (size_t)(heard.data + heard.n - body), 1000000);
        byte_queue_free(&heard);
    }
    int fd = dial(&w); /* leaves in the middle */
    say_text(fd, "PUT /body HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\nabc");
    wait_for(&w.n_started, 3);
    close(fd);
    wait_for(&w.n_gone, 3);
    close_world(&w);
}

static void streams_come_whole_through_readers_of_any_speed(void **state)
{
    world w;
    char text[128];
    const size_t n = 8u << 20;
    (void)state;
    open_world(&w, (http_options){0});
    snprintf(text, sizeof text, "GET /stream?n=%zu HTTP/1.1\r\n" CLOSE "\r\n", n);
    for (unsigned slow = 0; slow < 2; slow++) {
        int fd = dial(&w);
        say_text(fd, text);
        if (slow) { /* nobody reads: the producer has to stop, and goes on later */
            struct timespec ms = {0, 300000000};
            nanosleep(&ms, NULL);
        }
        byte_queue heard = hear(fd, 5000), body = unchunk(&heard);
        assert_stream(body.data, body.n, n);
        byte_queue_free(&heard);
        byte_queue_free(&body);
        close(fd);
    }
    assert_true(atomic_load(&w.n_drained) > 0);
    assert_in_range(atomic_load(&w.most_buffered), HTTP_BUFFER_MAX, HTTP_BUFFER_MAX + 4096);
    byte_queue heard = ask(&w, "GET /stream?n=100000 HTTP/1.0\r\n\r\n"); /* no chunks: until the connection closes */
    const char *body = strstr(heard.data, "\r\n\r\n") + 4;
    assert_stream(body, (size_t)(heard.data + heard.n - body), 100000);
    byte_queue_free(&heard);
    close_world(&w);
}

static void a_producer_that_stops_at_the_bound_itself_goes_on_too(void **state)
{
    world w;
    (void)state;
    open_world(&w, (http_options){0});
    byte_queue heard = ask(&w, "GET /stream?n=1000000&exact=1 HTTP/1.0\r\n\r\n"); /* without chunks a byte is a byte */
    const char *body = strstr(heard.data, "\r\n\r\n") + 4;
    assert_stream(body, (size_t)(heard.data + heard.n - body), 1000000);
    assert_int_equal(atomic_load(&w.most_buffered), HTTP_BUFFER_MAX);
    byte_queue_free(&heard);
    close_world(&w);
}

/* Milliseconds from a client's departure until the producer of its answer knows. */
static uint64_t leave(world *w, bool streams, bool reset)
{
    unsigned n = atomic_load(&w->n_started) + 1;
    int fd = dial(w);
    say_text(fd, streams ? "GET /stream?n=100000000 HTTP/1.1\r\n" HOST "\r\n" : "GET /late HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&w->n_started, n);
    if (reset) { /* instead of an end */
        struct linger none = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    }
    uint64_t left_ms = clock_ms();
    close(fd);
    wait_for(&w->n_gone, n);
    return atomic_load(&w->gone_ms) - left_ms;
}

static void a_client_that_leaves_is_seen_at_once(void **state)
{
    world w;
    const uint64_t most_ms = TEST_SLOW_BUILD ? 1000 : 200;
    (void)state;
    open_world(&w, (http_options){0});
    for (unsigned kind = 0; kind < 4; kind++) {
        uint64_t least_ms = UINT64_MAX; /* of some: other tests run beside this one */
        for (unsigned i = 0; i < 10 && least_ms >= most_ms; i++) {
            uint64_t took_ms = leave(&w, kind & 1, kind & 2);
            least_ms = took_ms < least_ms ? took_ms : least_ms;
        }
        print_message("gone after %llu ms\n", (unsigned long long)least_ms);
        assert_true(least_ms < most_ms);
    }
    close_world(&w);
}

static void a_reader_that_stalls_is_dropped(void **state)
{
    world w;
    (void)state;
    const unsigned stall_ms = 1000; /* for so long the machine may be busy with others */
    open_world(&w, (http_options){.stall_ms = stall_ms});
    int fd = dial(&w), trickling = dial(&w);
    say_text(fd, "GET /stream?n=100000000 HTTP/1.1\r\n" HOST "\r\n");
    say_text(trickling, "GET /stream?n=100000000 HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&w.n_started, 2);
    for (unsigned i = 0; i < 10000 && atomic_load(&w.n_gone) < 2; i++) { /* a byte now and then does not help */
        char byte;
        struct timespec ms = {0, 1000000};
        nanosleep(&ms, NULL);
        recv(trickling, &byte, 1, MSG_DONTWAIT);
    }
    wait_for(&w.n_gone, 2);
    byte_queue heard = hear(fd, 2000);
    assert_false(heard.n >= 5 && memcmp(heard.data + heard.n - 5, "0\r\n\r\n", 5) == 0); /* it does not look whole */
    byte_queue_free(&heard);
    close(fd);
    close(trickling);
    fd = dial(&w); /* one that reads all the time takes as long as it wants */
    say_text(fd, "GET /stream?n=30000000 HTTP/1.1\r\n" CLOSE "\r\n");
    heard = hear_slowly(fd, 2 * stall_ms);
    byte_queue body = unchunk(&heard);
    assert_stream(body.data, body.n, 30000000);
    byte_queue_free(&heard);
    byte_queue_free(&body);
    close(fd);
    close_world(&w);
}

static void an_aborted_answer_does_not_look_whole(void **state)
{
    world w;
    (void)state;
    open_world(&w, (http_options){0});
    byte_queue heard = ask(&w, "GET /abort HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(n_of(&heard, "0\r\n\r\n"), 0);
    byte_queue_free(&heard);
    close_world(&w);
}

static void who_is_slow_to_ask_is_answered_408(void **state)
{
    world w;
    (void)state;
    open_world(&w, (http_options){.head_ms = 150, .body_idle_ms = 150, .keep_alive_ms = 300});
    uint64_t began = clock_ms();
    assert_answer(ask(&w, "GET / HTTP/1.1\r\nHost: loc"), "HTTP/1.1 408", "Connection: close", "in time");
    assert_true(clock_ms() - began >= 150);
    int fd = dial(&w); /* a byte now and then does not help either */
    began = clock_ms();
    byte_queue heard = {0};
    while (heard.n == 0) {
        send(fd, "x", 1, MSG_NOSIGNAL);
        byte_queue_free(&heard);
        heard = hear(fd, 20);
    }
    assert_answer(heard, "HTTP/1.1 408", "", "in time");
    assert_true(clock_ms() - began >= 150);
    close(fd);
    assert_answer(ask(&w, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe"), "HTTP/1.1 408",
                  "Connection: close", "in time");
    fd = dial(&w); /* says nothing at all: closed without a word */
    heard = hear(fd, 5000);
    assert_int_equal(heard.n, 0);
    byte_queue_free(&heard);
    close(fd);
    assert_answer(ask(&w, "GET /late?ms=700 HTTP/1.1\r\n" HOST "\r\n"), "HTTP/1.1 200", "",
                  "late"); /* waiting is fine */
    close_world(&w);
}

typedef struct sleep {
    http_server *s;
    uint64_t n_bytes; /* before so many have come it does not fall asleep */
    atomic_bool fell, woken;
} sleep_of_loop;

static void fall_asleep(void *user)
{
    sleep_of_loop *sleep = user;
    if (http_stats_get(sleep->s).bytes_in < sleep->n_bytes) {
        http_post(sleep->s, fall_asleep, sleep);
        return;
    }
    atomic_store(&sleep->fell, true);
    while (!atomic_load(&sleep->woken)) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

/* A process that was stopped, or a machine that slept: what came meanwhile is read before anybody is called slow. */
static void the_time_in_which_nothing_ran_is_nobodys_fault(void **state)
{
    static const char begun[] = "GET / HT";
    static const char head[] = "POST /echo HTTP/1.1\r\n" HOST "Connection: close\r\nContent-Length: 5\r\n\r\nhe";
    world w;
    (void)state;
    open_world(&w, (http_options){.head_ms = 1000, .body_idle_ms = 1000, .keep_alive_ms = 1000, .stall_ms = 1000});
    sleep_of_loop sleep = {.s = w.s, .n_bytes = sizeof begun - 1 + sizeof head - 1};
    int half = dial(&w), idle = dial(&w), body = dial(&w);
    say_text(half, begun);
    say_text(body, head);
    assert_true(http_post(w.s, fall_asleep, &sleep));
    while (!atomic_load(&sleep.fell)) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    nanosleep(&(struct timespec){.tv_sec = 2, .tv_nsec = 500000000}, NULL);
    say_text(half, "TP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    say_text(idle, "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    say_text(body, "llo");
    atomic_store(&sleep.woken, true);
    assert_answer(hear(half, 5000), "HTTP/1.1 404", "", "none");
    assert_answer(hear(idle, 5000), "HTTP/1.1 404", "", "none");
    assert_answer(hear(body, 2000), "HTTP/1.1 200", "", "hello");
    close(half);
    close(idle);
    close(body);
    close_world(&w);
}

static void connections_beyond_the_limit_are_told_to_come_back(void **state)
{
    enum { MOST = 8, MORE = 4 };
    world w;
    int fds[MOST];
    (void)state;
    open_world(&w, (http_options){.connections_max = MOST});
    for (unsigned i = 0; i < MOST; i++) {
        fds[i] = dial(&w);
        say_text(fds[i], "GET /late HTTP/1.1\r\n" HOST "\r\n");
    }
    wait_for(&w.n_started, MOST);
    for (unsigned i = 0; i < MORE; i++) {
        int fd = dial(&w);
        assert_answer(hear(fd, 5000), "HTTP/1.1 503", "Retry-After: 1", "}");
        close(fd);
    }
    close(fds[0]);
    wait_for(&w.n_gone, 1);
    byte_queue heard = {0};
    for (unsigned i = 0; i < 200 && !(heard.data && strstr(heard.data, " 200 ")); i++) { /* those refused go, too */
        byte_queue_free(&heard);
        int fd = dial(&w);
        send(fd, "GET /echo HTTP/1.1\r\n" CLOSE "\r\n", strlen("GET /echo HTTP/1.1\r\n" CLOSE "\r\n"), MSG_NOSIGNAL);
        heard = hear(fd, 5000);
        close(fd);
    }
    assert_answer(heard, "HTTP/1.1 200", "", "\r\n\r\n");
    for (unsigned i = 1; i < MOST; i++) {
        close(fds[i]);
    }
    close_world(&w);
}

static void what_is_sent_far_ahead_has_to_be_sent_again(void **state)
{
    static char flood[300000];
    world w;
    (void)state;
    open_world(&w, (http_options){0});
    int fd = dial(&w);
    say_text(fd, "GET /late?ms=300 HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&w.n_started, 1);
    for (size_t i = 0; i + 40 < sizeof flood; i += 40) {
        memcpy(flood + i, "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n ", 40);
    }
    say(fd, flood, sizeof flood);
    byte_queue heard = hear(fd, 5000);
    assert_int_equal(n_of(&heard, "HTTP/1.1 "), 1);
    assert_non_null(strstr(heard.data, "late"));
    byte_queue_free(&heard);
    close(fd);
    close_world(&w);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

enum { N_THREADS = 4, N_POSTS = 2000 };

typedef struct poster {
    world *w;
    unsigned thread, last;
    _Atomic unsigned *n_ran;
} poster;

typedef struct note {
    poster *from;
    unsigned number;
} note;

static void take_note(void *user)
{
    note *n = user;
    assert_int_equal(n->number, n->from->last + 1); /* in order, for each thread */
    n->from->last = n->number;
    atomic_fetch_add(n->from->n_ran, 1);
    free(n);
}

static void *post_notes(void *user)
{
    poster *p = user;
    for (unsigned i = 1; i <= N_POSTS; i++) {
        note *n = malloc(sizeof *n);
        *n = (note){p, i};
        assert_true(http_post(p->w->s, take_note, n));
    }
    return NULL;
}

typedef struct errand {
    world *w;
    _Atomic unsigned n_worked, n_done, n_rang;
    pthread_t loop;
} errand;

static void work(void *user)
{
    errand *e = user;
    assert_false(pthread_equal(pthread_self(), e->loop));
    atomic_fetch_add(&e->n_worked, 1);
}

static void done(void *user)
{
    errand *e = user;
    assert_true(pthread_equal(pthread_self(), e->loop));
    atomic_fetch_add(&e->n_done, 1);
}

static void ring(void *user)
{
    atomic_fetch_add(&((errand *)user)->n_rang, 1);
}

static void start_errands(void *user)
{
    errand *e = user;
    e->loop = pthread_self();
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(http_work(e->w->s, work, done, e), 0);
    }
    uint64_t cancelled = http_timer(e->w->s, 5, ring, e);
    http_timer(e->w->s, 5, ring, e);
    http_timer(e->w->s, 1000000, ring, e); /* never, and is freed all the same */
    http_timer_cancel(e->w->s, cancelled);
    http_timer_cancel(e->w->s, 0);
    http_timer_cancel(e->w->s, 12345);
}

static void other_threads_post_and_the_pool_works(void **state)
{
    world w;
    pthread_t threads[N_THREADS];
    poster posters[N_THREADS];
    _Atomic unsigned n_ran = 0;
    (void)state;
    open_world(&w, (http_options){0});
    for (unsigned i = 0; i < N_THREADS; i++) {
        posters[i] = (poster){.w = &w, .thread = i, .n_ran = &n_ran};
        pthread_create(&threads[i], NULL, post_notes, &posters[i]);
    }
    errand e = {.w = &w};
    http_task task = {.fn = start_errands, .user = &e};
    assert_true(http_post_task(w.s, &task));
    for (unsigned i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    wait_for(&n_ran, N_THREADS * N_POSTS);
    wait_for(&e.n_done, 100);
    wait_for(&e.n_rang, 1);
    assert_int_equal(atomic_load(&e.n_worked), 100);
    close_world(&w);
}

#define N_LANE_JOBS 12u

typedef struct lane_jobs { /* jobs that hold their thread until they are let go */
    errand e;
    pthread_mutex_t held;
    _Atomic unsigned n_ended, n_running, n_crowded;
} lane_jobs;

static void hold_thread(void *user)
{
    lane_jobs *all = user;
    atomic_fetch_add(&all->n_crowded, atomic_fetch_add(&all->n_running, 1) >= 2);
    pthread_mutex_lock(&all->held);
    pthread_mutex_unlock(&all->held);
    atomic_fetch_sub(&all->n_running, 1);
}

static void end_lane_job(void *user)
{
    lane_jobs *all = user;
    atomic_fetch_add(&all->n_ended, 1);
}

static void start_lane_jobs(void *user)
{
    lane_jobs *all = user;
    all->e.loop = pthread_self();
    for (unsigned i = 0; i < N_LANE_JOBS; i++) {
        assert_int_equal(http_work_in(all->e.w->s, HTTP_LANE_ENGINE, hold_thread, end_lane_job, all), 0);
    }
    assert_int_equal(http_work(all->e.w->s, work, done, &all->e), 0);
}

static void jobs_that_wait_in_a_lane_leave_threads_to_the_others(void **state)
{
    world w;
    (void)state;
    open_world(&w, (http_options){0});
    lane_jobs all = {.e = {.w = &w}, .held = PTHREAD_MUTEX_INITIALIZER};
    http_task task = {.fn = start_lane_jobs, .user = &all};
    pthread_mutex_lock(&all.held);
    assert_true(http_post_task(w.s, &task));
    wait_for(&all.e.n_done, 1); /* while none of the lane's can end */
    assert_int_equal(atomic_load(&all.n_ended), 0);
    pthread_mutex_unlock(&all.held);
    wait_for(&all.n_ended, N_LANE_JOBS);
    assert_int_equal(atomic_load(&all.n_crowded), 0);
    close_world(&w);
}

static void stopping_ends_every_exchange_once(void **state)
{
    world w;
    int fds[20];
    (void)state;
    open_world(&w, (http_options){0});
    for (unsigned i = 0; i < 20; i++) {
        fds[i] = dial(&w);
        say_text(fds[i],
                 i % 2 ? "GET /late HTTP/1.1\r\n" HOST "\r\n" : "GET /stream?n=100000000 HTTP/1.1\r\n" HOST "\r\n");
    }
    wait_for(&w.n_started, 20);
    close_world(&w);
    for (unsigned i = 0; i < 20; i++) {
        close(fds[i]);
    }
}

/* ---- other sockets ----------------------------------------------------------------------------------------------- */

static void a_unix_socket_is_private_and_replaces_a_dead_one(void **state)
{
    world w;
    mlxr_error error;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat info;
    (void)state;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", test_temp_dir());
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof address), 0);
    close(dead); /* its file stays */
    http_options options = {.app = {.user = &w, .on_head = on_head, .on_request = on_request, .on_error = on_error}};
    w = (world){.port = 0};
    assert_ok(http_open(&w.s, &options, &error), &error);
    assert_ok(http_listen_unix(w.s, address.sun_path, &error), &error);
    assert_int_equal(pthread_create(&w.thread, NULL, serve, &w), 0);
    assert_int_equal(stat(address.sun_path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    say_text(fd, "GET /echo HTTP/1.1\r\n" CLOSE "\r\n");
    assert_answer(hear(fd, 5000), "HTTP/1.1 200", "", "\r\n\r\n");
    close(fd);
    http_server *second;
    assert_ok(http_open(&second, &options, &error), &error);
    assert_int_not_equal(http_listen_unix(second, address.sun_path, &error), MLXR_OK); /* a living one stays */
    http_close(&second);
    close_world(&w);
    assert_int_not_equal(stat(address.sun_path, &info), 0);
}

static void write_certificate(char *cert_path, char *key_path, size_t cap)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    snprintf(cert_path, cap, "%s/cert.pem", test_temp_dir());
    snprintf(key_path, cap, "%s/key.pem", test_temp_dir());
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    FILE *file = fopen(cert_path, "w");
    assert_true(PEM_write_X509(file, cert));
    fclose(file);
    file = fopen(key_path, "w");
    assert_true(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL));
    fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void tls_carries_the_same(void **state)
{
    world w;
    char cert[512], key[512];
    mlxr_error error;
    (void)state;
    write_certificate(cert, key, sizeof cert);
    open_world(&w, (http_options){.tls_cert = cert, .tls_key = key});
    int fd = dial(&w);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    assert_int_equal(SSL_connect(ssl), 1);
    static const char request[] = "GET /stream?n=3000000 HTTP/1.1\r\n" CLOSE "\r\n";
    assert_true(SSL_write(ssl, request, sizeof request - 1) > 0);
    byte_queue heard = {0};
    for (;;) {
        assert_true(byte_queue_reserve(&heard, 20000));
        int n = SSL_read(ssl, heard.data + heard.n, 16384);
        if (n <= 0) {
            assert_int_equal(SSL_get_error(ssl, n), SSL_ERROR_ZERO_RETURN); /* a proper end */
            break;
        }
        heard.n += (size_t)n;
    }
    heard.data[heard.n] = '\0';
    byte_queue body = unchunk(&heard);
    assert_stream(body.data, body.n, 3000000);
    byte_queue_free(&heard);
    byte_queue_free(&body);
    SSL_free(ssl);
    close(fd);
    fd = dial(&w); /* speaks no TLS */
    say_text(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    heard = hear(fd, 5000);
    assert_int_equal(n_of(&heard, "HTTP/"), 0);
    byte_queue_free(&heard);
    close(fd);
    fd = dial(&w); /* leaves while an answer is computed */
    ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    assert_int_equal(SSL_connect(ssl), 1);
    unsigned n = atomic_load(&w.n_started);
    static const char late[] = "GET /late HTTP/1.1\r\n" HOST "\r\n";
    assert_true(SSL_write(ssl, late, sizeof late - 1) > 0);
    wait_for(&w.n_started, n + 1);
    close(fd);
    wait_for(&w.n_gone, n + 1);
    SSL_free(ssl);
    SSL_CTX_free(context);
    close_world(&w);
    http_server *s;
    http_options wrong = {.tls_cert = key, .tls_key = key};
    assert_int_equal(http_open(&s, &wrong, &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "key.pem: no certificate"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_on_one_connection_are_answered_in_order),
        cmocka_unit_test(bodies_arrive_whole_or_are_refused),
        cmocka_unit_test(bodies_in_pieces_can_be_paused),
        cmocka_unit_test(streams_come_whole_through_readers_of_any_speed),
        cmocka_unit_test(a_producer_that_stops_at_the_bound_itself_goes_on_too),
        cmocka_unit_test(a_client_that_leaves_is_seen_at_once),
        cmocka_unit_test(a_reader_that_stalls_is_dropped),
        cmocka_unit_test(an_aborted_answer_does_not_look_whole),
        cmocka_unit_test(who_is_slow_to_ask_is_answered_408),
        cmocka_unit_test(the_time_in_which_nothing_ran_is_nobodys_fault),
        cmocka_unit_test(connections_beyond_the_limit_are_told_to_come_back),
        cmocka_unit_test(what_is_sent_far_ahead_has_to_be_sent_again),
        cmocka_unit_test(other_threads_post_and_the_pool_works),
        cmocka_unit_test(jobs_that_wait_in_a_lane_leave_threads_to_the_others),
        cmocka_unit_test(stopping_ends_every_exchange_once),
        cmocka_unit_test(a_unix_socket_is_private_and_replaces_a_dead_one),
        cmocka_unit_test(tls_carries_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
