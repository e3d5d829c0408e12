/*
 * The service for models within a process: jobs that several watch, that end with the last of them, or go on; what is
 * asked and answered at once. What is pulled comes from a server of this test that gives as much as it is told to.
 * Owner: the test program. Lifetime: the process.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/model_jobs.h"
#include "support/test.h"
#include "support/tiny_model.h"

#define FILE_BYTES (1u << 20)

static void sleep_ms(unsigned ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* ---- a server of files ------------------------------------------------------------------------------------------- */

typedef struct source {
    int fd;
    uint16_t port;
    atomic_bool open; /* the second half is given, too */
    atomic_bool end;
    atomic_uint n_asked;
    pthread_t thread;
} source;

static void serve_one(source *s, int fd)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\nConnection: close\r\n\r\n";
    char request[4096], *file = calloc(1, FILE_BYTES);
    assert_non_null(file);
    memcpy(file, "GGUF", 4);
    ssize_t got = recv(fd, request, sizeof request, 0);
    if (got > 0 && send(fd, head, sizeof head - 1, MSG_NOSIGNAL) > 0 &&
        send(fd, file, FILE_BYTES / 2, MSG_NOSIGNAL) > 0) {
        while (!atomic_load(&s->open) && !atomic_load(&s->end)) {
            sleep_ms(5);
        }
        if (atomic_load(&s->open)) {
            send(fd, file + FILE_BYTES / 2, FILE_BYTES / 2, MSG_NOSIGNAL);
        }
    }
    free(file);
    close(fd);
}

static void *serve(void *user)
{
    source *s = user;
    while (!atomic_load(&s->end)) {
        int fd = accept(s->fd, NULL, NULL);
        if (fd >= 0 && !atomic_load(&s->end)) {
            atomic_fetch_add(&s->n_asked, 1);
            serve_one(s, fd);
        } else if (fd >= 0) {
            close(fd);
        }
    }
    return NULL;
}

static void source_open(source *s)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t n = sizeof address;
    *s = (source){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(s->fd, 16), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&address, &n), 0);
    s->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void source_close(source *s)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(s->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    atomic_store(&s->end, true);
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* wakes it */
    connect(fd, (struct sockaddr *)&address, sizeof address);
    pthread_join(s->thread, NULL);
    close(fd);
    close(s->fd);
}

/* ---- a daemon, and its loop -------------------------------------------------------------------------------------- */

typedef struct call {
    void (*fn)(void *user);
    void *user;
    atomic_bool done;
} call;

static void run_call(void *user)
{
    call *c = user;
    c->fn(c->user);
    atomic_store(&c->done, true);
}

static void on_loop(struct daemon *d, void (*fn)(void *user), void *user)
{
    call c = {.fn = fn, .user = user};
    assert_true(http_post(d->http, run_call, &c));
    while (!atomic_load(&c.done)) {
        sleep_ms(1);
    }
}

static struct daemon *start(void)
{
    struct daemon *d = NULL;
    mlxr_error error;
    static char folder[512];
    static unsigned n;
    snprintf(folder, sizeof folder, "%s/models-%u", test_temp_dir(), n++);
    daemon_options options = {.any_port = true, .directory = folder, .engine = {.kv_bytes = 16u << 20}};
    mkdir(folder, 0700);
    assert_ok(daemon_start(&d, &options, &error), &error);
    return d;
}

/* ---- watching ---------------------------------------------------------------------------------------------------- */

typedef struct watching {
    struct daemon *d;
    model_pull ask;
    uint64_t id, after, last, first; /* numbers of events */
    model_watch *watch;
    mlxr_status started;
    mlxr_error error;
    uint64_t file_done, file_total;
    char name[REGISTRY_NAME_MAX + 1], message[sizeof((mlxr_error *)0)->text];
    bool cancelled;
    mlxr_status status;
    atomic_uint n_events, n_ends;
} watching;

static void on_event(void *user, const model_job_event *event)
{
    watching *w = user;
    assert_true(event->number > w->last);
    assert_int_equal(atomic_load(&w->n_ends), 0);
    w->first = w->first ? w->first : event->number;
    w->last = event->number;
    w->file_done = event->file_done;
    w->file_total = event->file_total;
    atomic_fetch_add(&w->n_events, 1);
}

static void on_end(void *user, const model_job_end *end)
{
    watching *w = user;
    w->watch = NULL;
    w->status = end->status;
    w->cancelled = end->cancelled;
    snprintf(w->name, sizeof w->name, "%s", end->name);
    snprintf(w->message, sizeof w->message, "%s", end->message);
    atomic_fetch_add(&w->n_ends, 1);
}

static void pull(void *user)
{
    watching *w = user;
    model_watcher watcher = {on_event, on_end, w};
    w->started = model_jobs_pull(w->d->jobs, &w->ask, &watcher, &w->watch, &w->error);
    w->id = w->started == MLXR_OK ? model_watch_job(w->watch) : 0;
}

static void watch(void *user)
{
    watching *w = user;
    model_watcher watcher = {on_event, on_end, w};
    w->last = w->after;
    w->watch = model_jobs_watch(w->d->jobs, w->id, w->after, &watcher);
}

static void leave(void *user)
{
    watching *w = user;
    model_watch_leave(w->watch);
    w->watch = NULL;
}

static void cancel(void *user)
{
    watching *w = user;
    w->started = model_jobs_cancel(w->d->jobs, w->id) ? MLXR_OK : MLXR_ARG;
}

typedef struct found {
    struct daemon *d;
    uint64_t id;
    bool there, ended, running;
    uint32_t n_watchers, n_jobs;
    mlxr_status status;
} found;

static void seen(void *user, const model_job_info *info)
{
    found *f = user;
    f->n_jobs++;
    if (info->id == f->id) {
        f->there = true;
        f->ended = info->ended;
        f->running = info->running;
        f->n_watchers = info->n_watchers;
        f->status = info->end.status;
    }
}

static void look(void *user)
{
    found *f = user;
    uint64_t id = f->id;
    *f = (found){.d = f->d, .id = id};
    model_jobs_each(f->d->jobs, seen, f);
}

static void wait_half(const watching *w)
{
    for (unsigned i = 0; w->file_done < FILE_BYTES / 2; i++) {
        assert_true(i < 2000);
        sleep_ms(5);
    }
}

/* The server gives one file at a time: to whichever of those that run asked first. */
static void wait_half_of_any(const watching *w, unsigned n)
{
    bool there = false;
    for (unsigned i = 0; !there; i++) {
        assert_true(i < 2000);
        sleep_ms(5);
        for (unsigned k = 0; k < n; k++) {
            there = there || w[k].file_done >= FILE_BYTES / 2;
        }
    }
}

static void wait_end(watching *w)
{
    for (unsigned i = 0; atomic_load(&w->n_ends) == 0; i++) {
        assert_true(i < 2000);
        sleep_ms(5);
    }
}

static found wait_job(struct daemon *d, uint64_t id)
{
    found f = {.d = d, .id = id};
    for (unsigned i = 0; !f.ended; i++) {
        assert_true(i < 2000);
        sleep_ms(5);
        on_loop(d, look, &f);
    }
    return f;
}

static const char *url_of(const source *s)
{
    static char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/tiny.gguf", s->port);
    return url;
}

/* ---- jobs -------------------------------------------------------------------------------------------------------- */

static void a_second_pull_of_the_same_joins_the_first(void **state)
{
    source s;
    struct daemon *d = start();
    (void)state;
    source_open(&s);
    watching one = {.d = d, .ask = {.source = url_of(&s)}}, two = one, other = one, late = one;
    on_loop(d, pull, &one);
    wait_half(&one);
    on_loop(d, pull, &two);
    assert_int_equal(one.id, two.id);
    wait_half(&two); /* what was there before it came, it is told, too */
    assert_int_equal(atomic_load(&s.n_asked), 1);
    on_loop(d, leave, &one);
    atomic_store(&s.open, true);
    wait_end(&two);
    assert_int_equal(two.status, MLXR_OK);
    assert_string_equal(two.name, "tiny");
    assert_int_equal(atomic_load(&one.n_ends), 0);
    assert_null(two.watch);

    late.id = two.id; /* one who comes when it is over is told so, and each thing once */
    on_loop(d, watch, &late);
    wait_end(&late);
    assert_int_equal(late.last, two.last);
    watching again = {.d = d, .id = two.id, .after = two.last};
    on_loop(d, watch, &again);
    wait_end(&again);
    assert_int_equal(atomic_load(&again.n_events), 0);
    watching nobody = {.d = d, .id = 4711};
    on_loop(d, watch, &nobody);
    assert_null(nobody.watch);

    on_loop(d, pull, &other); /* once it is over, the same is a new job */
    assert_int_not_equal(other.id, one.id);
    wait_end(&other);
    daemon_stop(&d);
    source_close(&s);
}

static void the_last_watcher_ends_a_job_unless_it_is_to_keep_going(void **state)
{
    source s;
    struct daemon *d = start();
    (void)state;
    source_open(&s);
    watching one = {.d = d, .ask = {.source = url_of(&s), .name = "one"}}, two = one;
    on_loop(d, pull, &one);
    on_loop(d, pull, &two);
    wait_half(&one);
    on_loop(d, leave, &one);
    found f = {.d = d, .id = two.id};
    on_loop(d, look, &f);
    assert_true(f.running);
    assert_int_equal(f.n_watchers, 1);
    on_loop(d, leave, &two);
    f = wait_job(d, two.id);
    assert_int_not_equal(f.status, MLXR_OK);
    assert_int_equal(atomic_load(&one.n_ends) + atomic_load(&two.n_ends), 0);
    source_close(&s);

    source_open(&s);
    watching kept = {.d = d, .ask = {.source = url_of(&s), .name = "kept", .keep_going = true}};
    on_loop(d, pull, &kept);
    wait_half(&kept);
    on_loop(d, leave, &kept);
    f = (found){.d = d, .id = kept.id};
    on_loop(d, look, &f);
    assert_true(f.running);
    assert_int_equal(f.n_watchers, 0);
    atomic_store(&s.open, true);
    f = wait_job(d, kept.id);
    assert_int_equal(f.status, MLXR_OK);
    source_close(&s);
    daemon_stop(&d);
}

static void who_watches_a_cancelled_job_is_told_so(void **state)
{
    source s;
    struct daemon *d = start();
    (void)state;
    source_open(&s);
    watching one = {.d = d, .ask = {.source = url_of(&s)}}, bad = {.d = d, .ask = {.source = "/etc/passwd"}};
    on_loop(d, pull, &one);
    wait_half(&one);
    on_loop(d, cancel, &one);
    wait_end(&one);
    assert_true(one.cancelled);
    assert_int_not_equal(one.status, MLXR_OK);
    on_loop(d, cancel, &one);
    assert_int_equal(one.started, MLXR_ARG); /* it has ended already */
    on_loop(d, pull, &bad);
    wait_end(&bad);
    assert_false(bad.cancelled);
    assert_non_null(strstr(bad.message, "no model's name")); /* files are not for who asks over a socket */
    source_close(&s);
    daemon_stop(&d);
}

/* More than run at a time, and the daemon ends in the midst of them. */
static void jobs_wait_for_their_turn_and_the_daemon_ends_them_all(void **state)
{
    enum { N = 8, RUNNING = 4 };
    source s;
    struct daemon *d = start();
    watching w[N];
    char names[N][8], urls[N][128];
    (void)state;
    source_open(&s);
    for (unsigned i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "m%u", i);
        snprintf(urls[i], sizeof urls[i], "http://127.0.0.1:%u/%u.gguf", s.port, i);
        w[i] = (watching){.d = d, .ask = {.source = urls[i], .name = names[i]}};
        on_loop(d, pull, &w[i]);
        assert_int_equal(w[i].started, MLXR_OK);
    }
    wait_half_of_any(w, RUNNING);
    found f = {.d = d, .id = w[N - 1].id};
    on_loop(d, look, &f);
    assert_true(f.there && !f.running && !f.ended);
    on_loop(d, leave, &w[N - 1]);
    assert_int_not_equal(wait_job(d, w[N - 1].id).status, MLXR_OK);
    daemon_stop(&d);
    for (unsigned i = 0; i < N - 1; i++) {
        assert_int_equal(atomic_load(&w[i].n_ends), 0);
    }
    source_close(&s);
}

/* ---- what is answered at once ------------------------------------------------------------------------------------ */

typedef struct asking {
    struct daemon *d;
    enum { LIST, SHOW, COPY, ALIAS, DELETE, RESTORE, LOADED, LOAD, UNLOAD } kind;
    const char *name, *to;
    int64_t keep_ms;
    uint32_t grace_s;
    const char *models; /* what the key may use */
    int status;
    size_t n;
    char first[REGISTRY_NAME_MAX + 1], path[512], code[40];
    int64_t expires_in_ms;
    uint64_t weight_bytes;
    bool described;
    char left[16];
    atomic_bool done;
} asking;

static void answered(void *user, const model_answer *a)
{
    asking *q = user;
    q->status = a->status;
    snprintf(q->code, sizeof q->code, "%s", a->code);
    q->n = q->kind == LOADED ? a->n_loaded : a->n_models;
    const char *first = q->n == 0 ? "" : q->kind == LOADED ? a->loaded[0].name : a->models[0].name;
    snprintf(q->first, sizeof q->first, "%s", first);
    if (q->kind == LOADED && q->n) {
        q->expires_in_ms = a->loaded[0].expires_in_ms;
        q->weight_bytes = a->loaded[0].weight_bytes;
    }
    q->described = a->description != NULL;
    snprintf(q->left, sizeof q->left, "%s", a->left);
    atomic_store(&q->done, true);
}

static void ask_now(void *user)
{
    asking *q = user;
    model_jobs *j = q->d->jobs;
    model_asker asker = {.done = answered, .user = q};
    snprintf(asker.identity.models, sizeof asker.identity.models, "%s", q->models ? q->models : "");
    bool ok = q->kind == LIST      ? model_jobs_list(j, &asker)
              : q->kind == SHOW    ? model_jobs_show(j, q->name, true, &asker)
              : q->kind == COPY    ? model_jobs_copy(j, q->name, q->to, false, &asker)
              : q->kind == ALIAS   ? model_jobs_copy(j, q->name, q->to, true, &asker)
              : q->kind == DELETE  ? model_jobs_delete(j, q->name, q->grace_s, &asker)
              : q->kind == RESTORE ? model_jobs_restore(j, q->name, &asker)
              : q->kind == LOADED  ? model_jobs_loaded(j, &asker)
              : q->kind == LOAD    ? model_jobs_load(j, q->name, q->keep_ms, &asker)
                                   : model_jobs_unload(j, q->name, &asker);
    assert_true(ok);
}

static asking answer_to(asking q)
{
    asking *kept = calloc(1, sizeof *kept);
    assert_non_null(kept);
    *kept = q;
    on_loop(q.d, ask_now, kept);
    for (unsigned i = 0; !atomic_load(&kept->done); i++) {
        assert_true(i < 4000);
        sleep_ms(5);
    }
    q = *kept;
    free(kept);
    return q;
}

static asking answer(struct daemon *d, int kind, const char *name, const char *to)
{
    return answer_to((asking){.d = d, .kind = kind, .name = name, .to = to, .keep_ms = MODEL_KEEP_DEFAULT});
}

static void models_are_listed_copied_loaded_and_deleted(void **state)
{
    struct daemon *d = start();
    char path[600];
    (void)state;
    snprintf(path, sizeof path, "%s/tiny.gguf", d->options->directory);
    tiny_model_write_gguf(tiny_model_find("llama"), NULL, path);

    assert_int_equal(answer(d, LIST, NULL, NULL).n, 1);
    assert_string_equal(answer(d, LIST, NULL, NULL).first, "tiny");
    asking q = answer(d, SHOW, "tiny", NULL);
    assert_true(q.status == 200 && q.described);
    q = answer(d, SHOW, "no-such", NULL);
    assert_int_equal(q.status, 404);
    assert_string_equal(q.code, "model_not_found");

    assert_int_equal(answer(d, COPY, "tiny", "copy").status, 200);
    assert_int_equal(answer(d, COPY, "tiny", "../bad").status, 400);
    assert_int_equal(answer(d, COPY, "no-such", "copy").status, 404);
    assert_int_equal(answer(d, ALIAS, "copy", "alias").status, 200);
    assert_int_equal(answer(d, LIST, NULL, NULL).n, 3);
    q = answer_to((asking){.d = d, .kind = LIST, .models = "copy,none"});
    assert_int_equal(q.n, 1);
    assert_int_equal(answer_to((asking){.d = d, .kind = SHOW, .name = "tiny", .models = "copy"}).status, 403);

    assert_int_equal(answer(d, LOADED, NULL, NULL).n, 0);
    assert_int_equal(answer(d, LOAD, "no-such", NULL).status, 404);
    assert_int_equal(answer(d, LOAD, "copy", NULL).status, 200);
    q = answer(d, LOADED, NULL, NULL);
    assert_int_equal(q.n, 1);
    assert_string_equal(q.first, "copy"); /* the name it was asked for by */
    assert_true(q.weight_bytes > 0);
    assert_true(q.expires_in_ms > 290000 && q.expires_in_ms <= 300000);
    assert_int_equal(answer_to((asking){.d = d, .kind = LOAD, .name = "tiny", .keep_ms = -1}).status, 200);
    q = answer(d, LOADED, NULL, NULL);
    assert_string_equal(q.first, "tiny");
    assert_true(q.expires_in_ms < 0);
    q = answer_to((asking){.d = d, .kind = LOADED, .models = "none"});
    assert_int_equal(q.n, 0);
    assert_string_equal(answer(d, UNLOAD, "tiny", NULL).left, "unloaded");
    assert_int_equal(answer(d, LOADED, NULL, NULL).n, 0);
    q = answer(d, UNLOAD, "tiny", NULL);
    assert_int_equal(q.status, 200);
    assert_string_equal(q.left, "not_loaded");

    assert_int_equal(answer(d, DELETE, "tiny", NULL).status, 400); /* a file of the user's */
    assert_int_equal(answer(d, LOAD, "alias", NULL).status, 200);
    assert_int_equal(answer(d, DELETE, "alias", NULL).status, 200); /* a name is gone, what it named stays loaded */
    assert_int_equal(answer(d, SHOW, "alias", NULL).status, 404);
    assert_int_equal(answer(d, LOADED, NULL, NULL).n, 1);
    q = answer_to((asking){.d = d, .kind = DELETE, .name = "copy", .grace_s = 60});
    assert_int_equal(q.status, 200);
    assert_int_equal(answer(d, LOADED, NULL, NULL).n, 0);
    assert_int_equal(answer(d, SHOW, "copy", NULL).status, 404);
    assert_int_equal(answer(d, RESTORE, "copy", NULL).status, 200);
    assert_int_equal(answer(d, SHOW, "copy", NULL).status, 200);
    assert_int_equal(answer(d, DELETE, "copy", NULL).status, 200);
    assert_int_equal(answer(d, DELETE, "copy", NULL).status, 404);
    daemon_stop(&d);
}

typedef struct creating {
    struct daemon *d;
    const char *name, *from;
    watching w;
} creating;

static void create(void *user)
{
    creating *c = user;
    model_watcher watcher = {on_event, on_end, &c->w};
    model_create ask = {.name = c->name, .recipe = {.from = strdup(c->from), .system = strdup("Be brief.")}};
    registry_pairs_add(&ask.recipe.parameters, "temperature", "0.5");
    c->w.started = model_jobs_create(c->d->jobs, &ask, &watcher, &c->w.watch, &c->w.error);
    assert_null(ask.recipe.from);
}

static void models_are_made_of_models(void **state)
{
    struct daemon *d = start();
    char path[600];
    (void)state;
    snprintf(path, sizeof path, "%s/tiny.gguf", d->options->directory);
    tiny_model_write_gguf(tiny_model_find("llama"), NULL, path);
    creating made = {.d = d, .name = "brief", .from = "tiny"}, none = {.d = d, .name = "x", .from = "no-such"},
             file = {.d = d, .name = "x", .from = path};
    on_loop(d, create, &made);
    wait_end(&made.w);
    assert_int_equal(made.w.status, MLXR_OK);
    assert_string_equal(made.w.name, "brief");
    assert_true(atomic_load(&made.w.n_events) >= 1);
    on_loop(d, create, &none);
    wait_end(&none.w);
    assert_int_equal(none.w.status, MLXR_ARG);
    on_loop(d, create, &file); /* paths are for who has the machine */
    wait_end(&file.w);
    assert_int_equal(file.w.status, MLXR_ARG);
    assert_non_null(strstr(file.w.message, "paths are not taken here"));
    assert_int_equal(answer(d, SHOW, "brief", NULL).status, 200);
    daemon_stop(&d);
}

int main(void)
{
    setenv("MLXR_ALLOW_PRIVATE", "127.0.0.1", 1);
    setenv("HOME", test_temp_dir(), 1);
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_pull_of_the_same_joins_the_first),
        cmocka_unit_test(the_last_watcher_ends_a_job_unless_it_is_to_keep_going),
        cmocka_unit_test(who_watches_a_cancelled_job_is_told_so),
        cmocka_unit_test(jobs_wait_for_their_turn_and_the_daemon_ends_them_all),
        cmocka_unit_test(models_are_listed_copied_loaded_and_deleted),
        cmocka_unit_test(models_are_made_of_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
