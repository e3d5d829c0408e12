/*
 * The logger: lines as JSON, for people and for the journal; levels, cutting, the tail, files that are rotated, readers
 * that do not read, crashes, and canaries that must not be seen.
 * Owner: the test program. Lifetime: the process.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support/test.h"
#include "telemetry/access_log.h"
#include "telemetry/logger.h"
#include "telemetry/metric_table.h"

static int64_t some_time(void *user)
{
    (void)user;
    return 1764356685123456; /* 2025-11-28T19:04:45.123456Z */
}

static const char *path_of(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_temp_dir(), name);
    return path;
}

static logger *open_logger(logger_options o)
{
    logger *l = NULL;
    mlxr_error error;
    o.now_us = some_time;
    assert_ok(logger_open(&l, &o, &error), &error);
    return l;
}

/* A file's text in a static buffer; "" if there is none. */
static const char *read_file(const char *path)
{
    static char text[1 << 22];
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[n] = '\0';
    if (file) {
        fclose(file);
    }
    return text;
}

/* What one line looks like in a format. */
static const char *written(log_format format, mlxr_log_level level, const log_field *fields, size_t n,
                           const char *message)
{
    const char *path = path_of("one.log");
    unlink(path);
    logger *l = open_logger((logger_options){.path = path, .format = format, .level = "debug"});
    logger_write(l, level, "server", fields, n, "%s", message);
    logger_close(&l);
    assert_null(l);
    return read_file(path);
}

static void a_line_is_one_json_object(void **unused)
{
    (void)unused;
    const log_field fields[] = {log_text("request", "r-1"), log_integer("status", -200), log_real("ms", 1.25),
                                log_flag("stream", true),   log_text("none", NULL),      log_prompt("prompt", 999),
                                log_secret("api"),          log_text("x-api-key", "k")};
    assert_string_equal(written(LOG_FORMAT_JSON, MLXR_LOG_INFO, fields, 8, "a \"b\"\n\x1b[31m\xff"),
                        "{\"seq\":1,\"time\":\"2025-11-28T19:04:45.123456Z\",\"level\":\"info\",\"part\":\"server\","
                        "\"message\":\"a \\\"b\\\"\\n\\u001b[31m\xef\xbf\xbd\",\"request\":\"r-1\",\"status\":-200,"
                        "\"ms\":1.25,\"stream\":true,\"prompt\":\"[999 bytes]\",\"api\":\"[redacted]\","
                        "\"x-api-key\":\"[redacted]\"}\n");
}

static void people_get_no_control_characters(void **unused)
{
    (void)unused;
    const log_field fields[] = {log_text("path", "a b"), log_integer("n", 3), log_text("empty", ""),
                                log_text("id", "x\"y")};
    assert_string_equal(written(LOG_FORMAT_PRETTY, MLXR_LOG_WARN, fields, 4, "one\ntwo \"three\" \x1b[2J"),
                        "19:04:45.123 warn  server: one\\ntwo \"three\" \\u001b[2J path=\"a b\" n=3 empty=\"\" "
                        "id=x\"y\n");
    assert_string_equal(written(LOG_FORMAT_COLOUR, MLXR_LOG_ERROR, fields, 1, "bad"),
                        "19:04:45.123 \x1b[31;1merror\x1b[0m server: bad \x1b[2mpath=\x1b[0m\"a b\"\n");
}

static void the_journal_gets_priorities(void **unused)
{
    (void)unused;
    assert_string_equal(written(LOG_FORMAT_JOURNAL, MLXR_LOG_ERROR, NULL, 0, "bad"), "<3>server: bad\n");
    assert_string_equal(written(LOG_FORMAT_JOURNAL, MLXR_LOG_WARN, NULL, 0, "odd"), "<4>server: odd\n");
    assert_string_equal(written(LOG_FORMAT_JOURNAL, MLXR_LOG_INFO, NULL, 0, "so"), "<6>server: so\n");
    assert_string_equal(written(LOG_FORMAT_JOURNAL, MLXR_LOG_DEBUG, NULL, 0, "deep"), "<7>server: deep\n");
}

static void stderr_given_by_systemd_is_the_journal(void **unused)
{
    (void)unused;
    const char *path = path_of("journal");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct stat status;
    char stream[64];
    assert_int_equal(fstat(fd, &status), 0);
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    logger *l = open_logger((logger_options){.fd = fd});
    logger_write(l, MLXR_LOG_INFO, "a", NULL, 0, "b");
    logger_close(&l);
    unsetenv("JOURNAL_STREAM");
    l = open_logger((logger_options){.fd = fd}); /* no terminal, no journal */
    logger_write(l, MLXR_LOG_INFO, "a", NULL, 0, "c");
    logger_close(&l);
    close(fd);
    assert_non_null(strstr(read_file(path), "<6>a: b\n19:04:45.123 info  a: c\n"));
}

static void lines_below_the_level_are_not_made(void **unused)
{
    (void)unused;
    const char *path = path_of("level.log");
    logger *l = open_logger((logger_options){.path = path});
    log_part part = {l, "engine"};
    log_part_line(&part, MLXR_LOG_DEBUG, "hidden");
    log_part_line(&part, MLXR_LOG_INFO, "shown %s");
    logger_level_set(l, MLXR_LOG_ERROR);
    log_part_line(&part, MLXR_LOG_WARN, "hidden");
    assert_false(logger_wants(l, MLXR_LOG_WARN));
    logger_write(NULL, MLXR_LOG_ERROR, "nobody", NULL, 0, "hears it");
    logger_stats stats = logger_stats_get(l);
    logger_close(&l);
    assert_int_equal(stats.newest, 1);
    assert_int_equal(stats.n_lines[MLXR_LOG_INFO], 1);
    assert_non_null(strstr(read_file(path), "\"part\":\"engine\",\"message\":\"shown %s\"}\n"));
    mlxr_error error;
    assert_int_equal(logger_open(&l, &(logger_options){.level = "loud"}, &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "loud"));
}

static void long_texts_are_cut_and_say_so(void **unused)
{
    (void)unused;
    char *text = malloc(100001);
    memset(text, 'x', 100000);
    text[100000] = '\0';
    memcpy(text + 1023, "\xe2\x82\xac", 3); /* a character across the cut of a field */
    const log_field fields[] = {log_text("long", text)};
    const char *line = written(LOG_FORMAT_JSON, MLXR_LOG_INFO, fields, 1, text);
    assert_in_range(strlen(line), 5000, 6000);
    assert_non_null(strstr(line, "x (cut: it had 100000 bytes)\",\"long\":\"xxx"));
    assert_non_null(strstr(line, "x (cut: it had 100000 bytes)\"}\n"));
    assert_null(strstr(line, "\xef\xbf\xbd"));
    memset(text, 1, 100000); /* each needs six bytes */
    log_field many[24];
    for (unsigned i = 0; i < 24; i++) {
        many[i] = log_text("field", text);
    }
    line = written(LOG_FORMAT_JSON, MLXR_LOG_INFO, many, 24, text);
    assert_in_range(strlen(line), 25000, 32768);
    assert_string_equal(strrchr(line, ','), ",\"fields_left_out\":true}\n");
    free(text);
}

static void a_key_across_the_cut_is_hidden_whole(void **unused)
{
    (void)unused;
    char text[2000];
    memset(text, ' ', sizeof text);
    memcpy(text + 1010, "sk-CANARYCANARYCANARYCANARYCANARY", 33);
    text[sizeof text - 1] = '\0';
    const log_field fields[] = {log_text("long", text)};
    assert_null(strstr(written(LOG_FORMAT_JSON, MLXR_LOG_INFO, fields, 1, ""), "CANARY"));
}

/* ---- the tail ---- */

typedef struct seen {
    uint64_t first, last, n;
    size_t n_max;
    char json[512];
} seen;

static bool see(void *user, uint64_t seq, mlxr_log_level level, const char *json, size_t n)
{
    seen *s = user;
    (void)level;
    assert_int_equal(strlen(json), n);
    assert_true(s->n == 0 || seq == s->last + 1);
    s->first = s->n == 0 ? seq : s->first;
    s->last = seq;
    snprintf(s->json, sizeof s->json, "%s", json);
    return ++s->n != s->n_max;
}

static void the_tail_has_the_newest_lines_and_counts_what_is_gone(void **unused)
{
    (void)unused;
    logger *l = open_logger((logger_options){.path = path_of("tail.log"), .tail_lines = 10});
    seen s = {0};
    assert_int_equal(logger_tail(l, 0, 100, see, &s), 0);
    assert_int_equal(s.n, 0);
    for (int i = 1; i <= 25; i++) {
        logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "line %d", i);
    }
    assert_int_equal(logger_tail(l, 0, 100, see, &s), 15);
    assert_true(s.first == 16 && s.last == 25);
    assert_non_null(strstr(s.json, "{\"seq\":25,"));
    assert_non_null(strstr(s.json, "line 25"));
    s = (seen){0};
    assert_int_equal(logger_tail(l, 20, 3, see, &s), 0);
    assert_true(s.first == 21 && s.last == 23);
    s = (seen){.n_max = 2};
    logger_tail(l, 20, 100, see, &s);
    assert_int_equal(s.n, 2);
    s = (seen){0};
    assert_int_equal(logger_tail(l, 25, 100, see, &s), 0);
    assert_int_equal(logger_tail(l, 1000, 100, see, &s), 0);
    assert_int_equal(s.n, 0);
    logger_close(&l);
}

static void the_tail_is_bounded_in_bytes_too(void **unused)
{
    (void)unused;
    logger *l = open_logger((logger_options){.path = path_of("tail2.log"), .tail_lines = 1000, .tail_bytes = 2000});
    for (int i = 0; i < 100; i++) {
        logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "line %d", i);
    }
    seen s = {0};
    logger_tail(l, 0, 1000, see, &s);
    assert_in_range(s.n, 10, 25);
    assert_int_equal(s.last, 100);
    logger_close(&l);
}

static void count_call(void *user)
{
    atomic_fetch_add((atomic_int *)user, 1);
}

static void subscribers_hear_of_each_line_until_they_leave(void **unused)
{
    (void)unused;
    logger *l = open_logger((logger_options){.path = path_of("subscribe.log")});
    atomic_int a = 0, b = 0;
    uint64_t first = logger_subscribe(l, count_call, &a), second = logger_subscribe(l, count_call, &b);
    logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "1");
    logger_unsubscribe(l, first);
    logger_unsubscribe(l, 0);
    logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "2");
    logger_write(l, MLXR_LOG_DEBUG, "t", NULL, 0, "below the level");
    assert_int_equal(atomic_load(&a), 1);
    assert_int_equal(atomic_load(&b), 2);
    logger_unsubscribe(l, second);
    unsigned n = 0;
    while (logger_subscribe(l, count_call, &a)) {
        n++;
    }
    assert_int_equal(n, 64);
    logger_close(&l);
}

/* ---- files ---- */

static unsigned count_lines(const char *text)
{
    unsigned n = 0;
    for (; (text = strchr(text, '\n')); text++) {
        n++;
    }
    return n;
}

static const char *numbered(const char *path, int i)
{
    static char name[600];
    snprintf(name, sizeof name, "%s.%d", path, i);
    return name;
}

static void put_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* Until the oldest has gone several times. */
static void write_many(const char *path)
{
    logger *l = open_logger((logger_options){.path = path, .rotate_bytes = 1000, .rotate_count = 3});
    for (int i = 0; i < 100; i++) {
        logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "line %03d of a file that is rotated", i);
    }
    logger_close(&l);
}

static void what_has_the_name_of_an_old_file_and_is_no_log_stays(void **unused)
{
    (void)unused;
    const char *path = path_of("beside.log");
    static const char *const texts[] = {"my own text", "<b>bold</b>", "19:04: tea", "{\"seq\":\"\"}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put_file(numbered(path, 1), texts[i]);
        put_file(numbered(path, 2), "{\"seq\":1,\"message\":\"of before\"}\n");
        write_many(path);
        assert_string_equal(read_file(numbered(path, 1)), texts[i]);
    }
    assert_non_null(strstr(read_file(numbered(path, 2)), "of a file that is rotated"));
    assert_non_null(strstr(read_file(numbered(path, 3)), "of a file that is rotated"));
    for (int i = 2; i <= 3; i++) {
        put_file(numbered(path, i), "mine, too");
    }
    write_many(path); /* no name is left: it grows on */
    assert_string_equal(read_file(numbered(path, 2)), "mine, too");
    assert_string_equal(read_file(numbered(path, 3)), "mine, too");
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_true(status.st_size > 3000);
}

static void what_comes_while_the_log_is_written_stays_too(void **unused)
{
    (void)unused;
    const char *path = path_of("later.log");
    logger *l = open_logger((logger_options){.path = path, .rotate_bytes = 1000, .rotate_count = 3});
    for (int i = 0; i < 100; i++) {
        logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "line %03d of a file that is rotated", i);
        if (i == 50) {
            assert_true(logger_flush(l, 5000));
            put_file(numbered(path, 1), "my own text");
        }
    }
    logger_close(&l);
    assert_string_equal(read_file(numbered(path, 1)), "my own text");
    assert_non_null(strstr(read_file(numbered(path, 2)), "of a file that is rotated"));
}

static void logs_that_cannot_be_read_are_rotated_out(void **unused)
{
    (void)unused;
    const char *path = path_of("unread.log");
    struct stat status;
    for (int i = 1; i <= 3; i++) {
        put_file(numbered(path, i), "<6>of before\n");
        assert_int_equal(chmod(numbered(path, i), 0), 0);
    }
    write_many(path);
    assert_int_equal(stat(path, &status), 0);
    assert_true(status.st_size <= 1000);
    for (int i = 1; i <= 3; i++) {
        assert_non_null(strstr(read_file(numbered(path, i)), "of a file that is rotated"));
    }
}

static void files_are_rotated_by_size_and_only_so_many_kept(void **unused)
{
    (void)unused;
    const char *path = path_of("rotated.log");
    logger *l = open_logger((logger_options){.path = path, .rotate_bytes = 1000, .rotate_count = 3});
    for (int i = 0; i < 100; i++) {
        logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "line %03d of a file that is rotated", i);
    }
    logger_close(&l);
    unsigned n = 0;
    int newest = 100;
    for (int i = 0; i <= 4; i++) {
        char name[600];
        snprintf(name, sizeof name, i ? "%s.%d" : "%s", path, i);
        struct stat status;
        if (i == 4) {
            assert_int_not_equal(stat(name, &status), 0);
            break;
        }
        assert_int_equal(stat(name, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
        assert_in_range(status.st_size, 100, 1000);
        const char *text = read_file(name);
        assert_int_equal(text[strlen(text) - 1], '\n');
        unsigned here = count_lines(text);
        char last[32];
        snprintf(last, sizeof last, "line %03d", --newest);
        assert_non_null(strstr(text, last)); /* files follow each other without a gap */
        newest -= (int)here - 1;
        n += here;
    }
    assert_in_range(n, 20, 32);
}

static void a_file_that_was_moved_is_opened_anew(void **unused)
{
    (void)unused;
    const char *path = path_of("moved.log"), *away = path_of("away.log");
    logger *l = open_logger((logger_options){.path = path});
    logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "before");
    assert_true(logger_flush(l, 5000));
    assert_int_equal(rename(path, away), 0);
    logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "still there");
    assert_true(logger_flush(l, 5000));
    logger_reopen(l);
    logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "after");
    logger_close(&l);
    assert_int_equal(count_lines(read_file(away)) + count_lines(read_file(path)), 3);
    assert_non_null(strstr(read_file(path), "after"));
    assert_non_null(strstr(read_file(away), "still there"));
}

static void a_name_that_cannot_be_opened_is_an_error_that_tells_it(void **unused)
{
    (void)unused;
    logger *l = NULL;
    mlxr_error error;
    assert_int_equal(logger_open(&l, &(logger_options){.path = "/nowhere/at/all.log"}, &error), MLXR_IO);
    assert_non_null(strstr(error.text, "/nowhere/at/all.log"));
    assert_null(l);
}

static void a_full_disk_costs_lines_and_tells_how_many(void **unused)
{
    (void)unused;
    const char *path = path_of("full.log");
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = (struct rlimit){.rlim_cur = 500, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    logger *l = open_logger((logger_options){.path = path});
    for (int i = 0; i < 20; i++) {
        logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "line %d", i);
        logger_flush(l, 5000);
    }
    logger_stats full = logger_stats_get(l);
    setrlimit(RLIMIT_FSIZE, &before);
    logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "there is room again");
    logger_flush(l, 5000);
    logger_close(&l);
    assert_in_range(full.n_write_errors, 10, 19);
    const char *text = read_file(path);
    char told[64];
    snprintf(told, sizeof told, "\"dropped\":%d,\"problem\":\"File too large\"}\n", (int)full.n_write_errors);
    assert_non_null(strstr(text, told));
    assert_non_null(strstr(text, "\n{\"seq\":21,")); /* behind the torn line, on one of its own */
}

static void a_reader_that_does_not_read_stops_nobody(void **unused)
{
    (void)unused;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    logger *l = open_logger((logger_options){.fd = ends[1], .queue_bytes = 100000});
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < 20000; i++) {
        logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "line %d", i);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9;
    logger_stats stats = logger_stats_get(l);
    assert_true(stats.n_dropped > 15000);
    assert_true(stats.queued_bytes <= 100000);
    assert_false(logger_flush(l, 10));
    assert_true(seconds < 300); /* it takes a tenth of a second; the pipe would take for ever */
    seen s = {0};
    logger_tail(l, 0, 100000, see, &s);
    assert_in_range(s.last, 20000, 20001); /* the tail needs no disk */
    clock_gettime(CLOCK_MONOTONIC, &begin);
    logger_close(&l);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(end.tv_sec - begin.tv_sec >= 1); /* and not for ever */
    close(ends[0]);
    close(ends[1]);
}

static void a_reader_that_reads_again_is_told_what_it_missed(void **unused)
{
    (void)unused;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    logger *l = open_logger((logger_options){.fd = ends[1], .queue_bytes = 50000, .format = LOG_FORMAT_JSON});
    for (int i = 0; i < 5000; i++) {
        logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "line %d", i);
    }
    uint64_t n_dropped = logger_stats_get(l).n_dropped, n_told = 0, n_tellings = 0;
    static char text[1 << 20];
    size_t n = 0;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 4000 && n_told < n_dropped; i++) {
        ssize_t got = read(ends[0], text + n, sizeof text - 1 - n);
        n += got > 0 ? (size_t)got : 0;
        text[n] = '\0';
        n_told = n_tellings = 0;
        for (const char *at = text; (at = strstr(at, "\"dropped\":")); at++) {
            n_told += strtoull(at + 10, NULL, 10);
            n_tellings++;
        }
        if (got <= 0) {
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        }
    }
    assert_int_equal(n_told, n_dropped);
    assert_int_equal(count_lines(text), 5000 - n_dropped + n_tellings);
    logger_close(&l);
    close(ends[0]);
    close(ends[1]);
}

/* ---- threads ---- */

enum { THREADS = 4, LINES = 500 };

static void *log_lines(void *user)
{
    for (int i = 0; i < LINES; i++) {
        logger_write(user, MLXR_LOG_INFO, "t", NULL, 0, "line %d", i);
    }
    return NULL;
}

static void lines_of_many_threads_are_whole_and_in_order(void **unused)
{
    (void)unused;
    const char *path = path_of("threads.log");
    logger *l = open_logger((logger_options){.path = path, .tail_lines = 100, .queue_bytes = 10 << 20});
    pthread_t threads[THREADS];
    atomic_int calls = 0;
    uint64_t id = logger_subscribe(l, count_call, &calls);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, l), 0);
    }
    for (int i = 0; i < 20; i++) {
        seen s = {0};
        logger_tail(l, logger_stats_get(l).newest, 50, see, &s);
        mlxr_error error;
        char secret[32];
        snprintf(secret, sizeof secret, "secret-%d-secret", i);
        assert_ok(logger_secret_add(l, secret, &error), &error);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    logger_unsubscribe(l, id);
    logger_close(&l);
    assert_int_equal(atomic_load(&calls), THREADS * LINES);
    const char *at = read_file(path);
    for (int i = 1; i <= THREADS * LINES; i++) {
        char head[32];
        int n = snprintf(head, sizeof head, "{\"seq\":%d,", i);
        assert_memory_equal(at, head, n);
        at = strchr(at, '\n') + 1;
    }
    assert_int_equal(*at, '\0');
}

/* ---- crashes ---- */

/* What a child's log holds that logged 200 lines and then died by `end`. */
static const char *after_death(void (*end)(void), const char *name)
{
    const char *path = path_of(name);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        logger *l = open_logger((logger_options){.path = path});
        mlxr_error error;
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        logger_guard_crashes(l, &error);
        for (int i = 0; i < 200; i++) {
            logger_write(l, MLXR_LOG_INFO, "t", NULL, 0, "line %d", i);
        }
        end();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    return read_file(path);
}

static void assert_all_there(const char *text, const char *signal_name)
{
    for (int i = 0; i < 200; i++) {
        char line[64];
        snprintf(line, sizeof line, "\"message\":\"line %d\"}\n", i);
        assert_non_null(strstr(text, line));
    }
    char last[96];
    int n = snprintf(last, sizeof last, "{\"level\":\"error\",\"part\":\"log\",\"message\":\"died of %s\"}\n",
                     signal_name);
    assert_string_equal(text + strlen(text) - n, last);
}

static void end_by_segv(void)
{
    raise(SIGSEGV);
}

static void a_crash_loses_no_line(void **unused)
{
    (void)unused;
    assert_all_there(after_death(end_by_segv, "segv.log"), "SIGSEGV");
    assert_all_there(after_death(abort, "abort.log"), "SIGABRT");
}

static void one_logger_of_a_process_is_guarded(void **unused)
{
    (void)unused;
    mlxr_error error;
    logger *a = open_logger((logger_options){.path = path_of("a.log")});
    logger *b = open_logger((logger_options){.path = path_of("b.log")});
    assert_ok(logger_guard_crashes(a, &error), &error);
    assert_int_equal(logger_guard_crashes(b, &error), MLXR_ARG);
    logger_close(&a);
    assert_ok(logger_guard_crashes(b, &error), &error);
    logger_close(&b);
}

/* ---- access log and canaries ---- */

static void an_answer_is_one_line_and_counted(void **unused)
{
    (void)unused;
    const char *path = path_of("access.log");
    metrics *m = NULL;
    mlxr_error error;
    assert_ok(metrics_open(&m, metric_table, METRIC_COUNT, &error), &error);
    logger *l = open_logger((logger_options){.path = path});
    access_entry e = {.method = "POST",
                      .route = "/v1/chat/completions",
                      .request_id = "r1",
                      .key = "k7",
                      .model = "m",
                      .status = 200,
                      .duration_us = 1500,
                      .bytes_out = 10,
                      .n_prompt = 5,
                      .n_cached = 3,
                      .n_generated = 2};
    access_log(l, m, &e);
    e = (access_entry){.method = "BREW\n", .status = 405, .gone = true};
    access_log(l, m, &e);
    e = (access_entry){.method = "GET", .route = "/health", .status = 200, .quiet = true};
    access_log(l, m, &e);
    e.status = 503;
    access_log(l, NULL, &e);
    access_log(NULL, m, &e);
    logger_close(&l);
    const char *text = read_file(path);
    assert_non_null(strstr(text, "\"level\":\"info\",\"part\":\"http\",\"message\":\"answered\",\"request\":\"r1\","
                                 "\"method\":\"POST\",\"route\":\"/v1/chat/completions\",\"status\":200,\"ms\":1.5,"
                                 "\"bytes\":10,\"key\":\"k7\",\"model\":\"m\",\"prompt_tokens\":5,\"cached_tokens\":3,"
                                 "\"generated_tokens\":2}\n"));
    assert_non_null(
        strstr(text, "\"message\":\"client left\",\"method\":\"other\",\"route\":\"none\",\"status\":405,"));
    assert_int_equal(count_lines(text), 3);
    assert_non_null(strstr(text, "\"level\":\"warn\""));
    const char *const labels[] = {"GET", "/health", "200"};
    assert_true(metric_value(metrics_series(m, METRIC_HTTP_REQUESTS, labels)) == 1);
    metrics_close(&m);
}

static void three_canaries_are_not_seen_at_any_level(void **unused)
{
    (void)unused;
    static const char key[] = "mlxr-00c0ffee00c0ffee-CANARY1CANARY1CANARY1", token[] = "CANARY2-of-the-environment",
                      prompt[] = "CANARY3 tell me a story";
    const char *path = path_of("canaries.log");
    logger *l = open_logger((logger_options){.path = path, .level = "debug"});
    mlxr_error error;
    assert_ok(logger_secret_add(l, token, &error), &error);
    char longest[6000];
    for (unsigned i = 0; i < 5000; i += 7) { /* at every place, at the cuts among them */
        memset(longest, i % 2 ? ' ' : '/', sizeof longest);
        memcpy(longest + i, i % 3 ? key : token, strlen(i % 3 ? key : token));
        longest[sizeof longest - 1] = '\0';
        const log_field fields[] = {log_text("error", longest), log_text("Authorization", prompt),
                                    log_prompt("prompt", sizeof prompt)};
        logger_write(l, MLXR_LOG_DEBUG, "server", fields, 3, "%s", longest);
    }
    const log_field all[] = {log_secret("key"), log_text("token", key), log_text("url", "https://x:CANARY1@h/")};
    logger_write(l, MLXR_LOG_DEBUG, "server", all, 3, "Authorization: Bearer CANARY1CANARY1 and %s", token);
    logger_close(&l);
    const char *text = read_file(path);
    assert_true(strlen(text) > 1000000);
    assert_null(strstr(text, "CANARY"));
    assert_non_null(strstr(text, "[redacted]"));
    logger *small = open_logger((logger_options){.path = path});
    assert_int_equal(logger_secret_add(small, "short", &error), MLXR_ARG);
    for (int i = 0; i < 32; i++) {
        assert_ok(logger_secret_add(small, token, &error), &error);
    }
    assert_int_equal(logger_secret_add(small, token, &error), MLXR_LIMIT);
    logger_close(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_one_json_object),
        cmocka_unit_test(people_get_no_control_characters),
        cmocka_unit_test(the_journal_gets_priorities),
        cmocka_unit_test(stderr_given_by_systemd_is_the_journal),
        cmocka_unit_test(lines_below_the_level_are_not_made),
        cmocka_unit_test(long_texts_are_cut_and_say_so),
        cmocka_unit_test(a_key_across_the_cut_is_hidden_whole),
        cmocka_unit_test(the_tail_has_the_newest_lines_and_counts_what_is_gone),
        cmocka_unit_test(the_tail_is_bounded_in_bytes_too),
        cmocka_unit_test(subscribers_hear_of_each_line_until_they_leave),
        cmocka_unit_test(what_has_the_name_of_an_old_file_and_is_no_log_stays),
        cmocka_unit_test(what_comes_while_the_log_is_written_stays_too),
        cmocka_unit_test(logs_that_cannot_be_read_are_rotated_out),
        cmocka_unit_test(files_are_rotated_by_size_and_only_so_many_kept),
        cmocka_unit_test(a_file_that_was_moved_is_opened_anew),
        cmocka_unit_test(a_name_that_cannot_be_opened_is_an_error_that_tells_it),
        cmocka_unit_test(a_full_disk_costs_lines_and_tells_how_many),
        cmocka_unit_test(a_reader_that_does_not_read_stops_nobody),
        cmocka_unit_test(a_reader_that_reads_again_is_told_what_it_missed),
        cmocka_unit_test(lines_of_many_threads_are_whole_and_in_order),
        cmocka_unit_test(a_crash_loses_no_line),
        cmocka_unit_test(one_logger_of_a_process_is_guarded),
        cmocka_unit_test(an_answer_is_one_line_and_counted),
        cmocka_unit_test(three_canaries_are_not_seen_at_any_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
