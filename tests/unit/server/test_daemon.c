/*
 * The daemon within a process: what /health and /ready say while the engine hangs, loads, ends.
 * Owner: the test program. Lifetime: the process.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "server/daemon_private.h"
#include "support/test.h"

static _Atomic uint64_t clock_ms = 1000; /* the watchdog's */

static uint64_t fake_now(void *user)
{
    (void)user;
    return atomic_load(&clock_ms);
}

static void sleep_ms(unsigned ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* The status of GET `path`; 0: nobody listens. */
static int ask(uint16_t port, const char *path)
{
    char text[512] = "";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        int n = snprintf(text, sizeof text, "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n", path);
        assert_int_equal(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
        ssize_t got = recv(fd, text, sizeof text - 1, MSG_WAITALL);
        text[got > 0 ? got : 0] = '\0';
    }
    close(fd);
    return strncmp(text, "HTTP/1.1 ", 9) == 0 ? atoi(text + 9) : 0;
}

static struct daemon *start(daemon_options options)
{
    struct daemon *d = NULL;
    mlxr_error error;
    static char folder[512];
    snprintf(folder, sizeof folder, "%s/models", test_temp_dir());
    options.any_port = true;
    options.directory = folder;
    options.engine.kv_bytes = 16u << 20;
    mkdir(folder, 0700);
    assert_ok(daemon_start(&d, &options, &error), &error);
    return d;
}

typedef struct hanging {
    struct daemon *d;
    int n_beats;        /* it hangs until so many signs of life have come */
    int notify_fd;      /* there; */
    atomic_bool let_go; /* and until it is let go */
    atomic_bool begun, ended;
} hanging;

static void hang(mlxr_engine *engine, void *user)
{
    hanging *h = user;
    char text[64];
    (void)engine;
    while (h->n_beats > 0 && recv(h->notify_fd, text, sizeof text, MSG_DONTWAIT) > 0) {
    }
    atomic_store(&h->begun, true);
    struct pollfd told = {.fd = h->notify_fd, .events = POLLIN};
    while (h->n_beats > 0 && poll(&told, 1, 60000) == 1) {
        ssize_t got = recv(h->notify_fd, text, sizeof text, 0);
        h->n_beats -= got == 10 && memcmp(text, "WATCHDOG=1", 10) == 0;
    }
    while (!atomic_load(&h->let_go)) {
        sleep_ms(1);
    }
    atomic_store(&h->ended, true);
}

static void *hang_engine(void *user)
{
    hanging *h = user;
    worker_call(h->d->worker, hang, h);
    return NULL;
}

/* What a restart from the page does to a daemon of systemd's: the KV cache is written, and nobody asks the engine. */
static void a_daemon_that_takes_long_to_close_goes_on_telling_of_its_life(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)state;
    snprintf(address.sun_path, sizeof address.sun_path, "%.90s/notify", test_temp_dir());
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    setenv("WATCHDOG_USEC", "400000", 1);
    struct daemon *d = start((daemon_options){0});
    hanging h = {.d = d, .n_beats = 6, .notify_fd = fd, .let_go = true}; /* of them one may be the watchdog's last */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, hang_engine, &h), 0);
    while (!atomic_load(&h.begun)) {
        sleep_ms(1);
    }
    daemon_stop(&d);
    assert_true(atomic_load(&h.ended));
    pthread_join(thread, NULL);
    assert_int_equal(h.n_beats, 0);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    close(fd);
}

static void an_engine_that_hangs_shows_after_seven_seconds(void **state)
{
    struct daemon *d = start((daemon_options){.now_ms = fake_now});
    hanging h = {.d = d};
    pthread_t thread;
    (void)state;
    assert_int_equal(ask(daemon_port(d), "/health"), 200);
    assert_int_equal(ask(daemon_port(d), "/ready"), 200);
    assert_int_equal(pthread_create(&thread, NULL, hang_engine, &h), 0);
    while (!atomic_load(&h.begun)) {
        sleep_ms(1);
    }
    atomic_store(&clock_ms, 2000);
    while (atomic_load(&d->own->asked_ms) != 2000) { /* it is asked once a second of real time */
        sleep_ms(1);
    }
    atomic_store(&clock_ms, 2000 + 6999); /* a long step is none */
    assert_int_equal(ask(daemon_port(d), "/health"), 200);
    atomic_store(&clock_ms, 2000 + 7000);
    assert_int_equal(ask(daemon_port(d), "/health"), 503);
    assert_int_equal(ask(daemon_port(d), "/ready"), 503);
    atomic_store(&h.let_go, true);
    pthread_join(thread, NULL);
    while (ask(daemon_port(d), "/health") != 200) { /* and it recovers */
        sleep_ms(1);
    }
    assert_int_equal(ask(daemon_port(d), "/ready"), 200);
    daemon_stop(&d);
}

static void it_ends_and_starts_again_many_times(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        struct daemon *d = start((daemon_options){0});
        uint16_t port = daemon_port(d);
        assert_int_equal(ask(port, "/health"), 200);
        assert_int_equal(ask(port, "/no-such-thing"), 404);
        daemon_drain(d, i % 2);
        daemon_stop(&d);
        assert_null(d);
        assert_int_equal(ask(port, "/health"), 0);
    }
    daemon_stop(&(struct daemon *){NULL});
}

static void what_cannot_be_served_is_refused_before_anything_is_opened(void **state)
{
    struct daemon *d = NULL;
    mlxr_error error;
    char folder[512];
    (void)state;
    snprintf(folder, sizeof folder, "%s/models", test_temp_dir());
    static const daemon_options bad[] = {
        {.host = "0.0.0.0", .any_port = true},
        {.any_port = true, .tls_key = "/nonexistent"},
        {.any_port = true, .tls_cert = "/nonexistent", .tls_key = "/nonexistent"},
        {.any_port = true, .engine = {.backend = "nonsense"}},
        {.any_port = true, .socket_path = "/nonexistent/socket"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        daemon_options options = bad[i];
        options.directory = folder;
        error.text[0] = '\0';
        assert_int_not_equal(daemon_start(&d, &options, &error), MLXR_OK);
        assert_null(d);
        assert_true(error.text[0] != '\0');
    }
}

static void every_route_declares_who_may_use_it(void **state)
{
    json_t *routes = daemon_routes_json(), *row;
    size_t i;
    (void)state;
    assert_true(json_array_size(routes) > 0);
    json_array_foreach(routes, i, row)
    {
        assert_string_not_equal(json_string_value(json_object_get(row, "policy")), "none");
    }
    json_decref(routes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_declares_who_may_use_it),
        cmocka_unit_test(what_cannot_be_served_is_refused_before_anything_is_opened),
        cmocka_unit_test(it_ends_and_starts_again_many_times),
        cmocka_unit_test(a_daemon_that_takes_long_to_close_goes_on_telling_of_its_life),
        cmocka_unit_test(an_engine_that_hangs_shows_after_seven_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
