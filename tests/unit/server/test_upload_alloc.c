/*
 * Uploads that lose a piece of their body for want of memory, while the pool writes what came before it.
 * Owner: the test program. Lifetime: the process.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "registry/registry.h"
#include "server/blob_upload.h"
#include "support/fail_alloc.h"
#include "support/test.h"

typedef struct world {
    struct daemon d;
    pthread_t thread;
    uint16_t port;
    _Atomic bool checking, go_on, stored, answered, ended;
    _Atomic int status;
} world;

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){0, ms * 1000000}, NULL);
}

static void wait_for(const _Atomic bool *flag)
{
    for (unsigned i = 0; i < 20000 && !atomic_load(flag); i++) {
        pause_ms(1);
    }
    assert_true(atomic_load(flag));
}

/* The pool is held here, so that what comes meanwhile comes while it works. */
static mlxr_status check(void *user, mlxr_error *error)
{
    world *w = user;
    (void)error;
    atomic_store(&w->checking, true);
    wait_for(&w->go_on);
    return MLXR_OK;
}

static mlxr_status stored(void *user, const char *digest, mlxr_error *error)
{
    (void)digest;
    (void)error;
    atomic_store(&((world *)user)->stored, true);
    return MLXR_OK;
}

static void answer(void *user, http_exchange *x, const blob_upload_result *result)
{
    world *w = user;
    atomic_store(&w->status, result->status);
    atomic_store(&w->answered, true);
    http_respond(x, result->status == MLXR_OK ? 200 : 503, "text/plain", "", 0);
}

static void end(void *user)
{
    atomic_store(&((world *)user)->ended, true);
}

static http_body_plan on_head(void *user, http_exchange *x)
{
    (void)user;
    (void)x;
    return (http_body_plan){.stream = true, .bytes_max = 1 << 20};
}

static void on_request(void *user, http_exchange *x)
{
    world *w = user;
    blob_upload_begin(&w->d, x,
                      &(blob_upload_plan){.check = check, .stored = stored, .answer = answer, .end = end, .user = w});
}

static void on_error(void *user, http_exchange *x, int status, const char *message)
{
    (void)user;
    http_respond(x, status, "text/plain", message, strlen(message));
}

static void *serve(void *user)
{
    http_run(((world *)user)->d.http);
    return NULL;
}

static int dial(const world *w)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void a_piece_that_is_lost_while_the_pool_works_is_no_success(void **unused)
{
    (void)unused;
    world w = {.port = 0};
    mlxr_error error;
    assert_ok(registry_open(&w.d.registry, test_temp_dir(), &(registry_options){.no_foreign = true}, &error), &error);
    http_options options = {.app = {.user = &w, .on_head = on_head, .on_request = on_request, .on_error = on_error}};
    assert_ok(http_open(&w.d.http, &options, &error), &error);
    assert_ok(http_listen_tcp(w.d.http, "127.0.0.1", 0, &w.port, &error), &error);
    assert_int_equal(pthread_create(&w.thread, NULL, serve, &w), 0);

    int fd = dial(&w);
    say(fd, "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\nfirst ");
    wait_for(&w.checking);
    fail_alloc_from(1);
    say(fd, "second ");
    for (unsigned i = 0; i < 20000 && fail_alloc_count() == 0; i++) {
        pause_ms(1);
    }
    pause_ms(20);
    assert_true(fail_alloc_stop());
    atomic_store(&w.go_on, true);
    pause_ms(20);
    send(fd, "end", 3, MSG_NOSIGNAL); /* it may have been answered by then */
    wait_for(&w.answered);
    close(fd);
    wait_for(&w.ended);
    assert_int_equal(atomic_load(&w.status), MLXR_NOMEM);
    assert_false(atomic_load(&w.stored));

    http_stop(w.d.http);
    pthread_join(w.thread, NULL);
    http_close(&w.d.http);
    registry_close(&w.d.registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_piece_that_is_lost_while_the_pool_works_is_no_success),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
