/*
 * Generations within a daemon: what is so once a client hears of an answer's end.
 * Owner: each test. Lifetime: the test.
 */
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#include "server/generation_parts.h"
#include "support/test.h"
#include "support/tiny_model.h"

typedef struct asked { /* one request; all but `ended` is the loop's until that is set */
    struct daemon *d;
    generation *g;
    size_t n_kept;       /* texts whose tokens are known, when on_done came */
    registry_usage used; /* of today, then */
    bool done;
    void (*wakes)(generation *g); /* behind its last event */
    uint32_t n_uses;              /* of the model, when the loop turned to what came behind on_done */
    atomic_bool ended;
} asked;

static void sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){0, (long)ms * 1000000}, NULL);
}

static struct daemon *start(void)
{
    static char folder[512], path[512];
    const char *models[] = {path};
    mlxr_error error;
    struct daemon *d = NULL;
    snprintf(folder, sizeof folder, "%s/models", test_temp_dir());
    snprintf(path, sizeof path, "%s/qwen2.gguf", test_temp_dir());
    mkdir(folder, 0700);
    tiny_model_write_gguf(tiny_model_find("qwen2"), NULL, path);
    daemon_options options = {.any_port = true,
                              .directory = folder,
                              .models = {models, 1},
                              .engine = {.kv_bytes = 16u << 20, .n_threads = 1}};
    assert_ok(daemon_start(&d, &options, &error), &error);
    while (daemon_state_of(d) == DAEMON_LOADING) {
        sleep_ms(1);
    }
    assert_int_equal(daemon_state_of(d), DAEMON_READY);
    return d;
}

static bool parse(void *user, chat_request *r)
{
    (void)user;
    r->f.max_tokens = 8;
    return chat_messages_read(r, "messages", json_object_get(r->body, "messages"));
}

static void on_delta(void *user, const generation_delta *delta)
{
    (void)user;
    (void)delta;
}

/* The loop's next task: the client reads on, or leaves; meanwhile the pool has remembered the answer. */
static void wake(void *user)
{
    asked *a = user;
    if (a->done) {
        return;
    }
    a->wakes(a->g);
    sleep_ms(20);
    if (a->wakes == generation_cancel) { /* nothing more is told */
        atomic_store(&a->ended, true);
    }
}

static void on_finish(void *user, uint32_t choice, generation_finish reason, const char *stop)
{
    asked *a = user;
    (void)choice;
    (void)reason;
    (void)stop;
    if (a->wakes) { /* a client that does not read */
        generation_pause(a->g);
        http_post(a->d->http, wake, a);
    }
}

static void note_uses(void *user, const model_table_item *item)
{
    *(uint32_t *)user += item->n_uses;
}

static void next_turn(void *user)
{
    asked *a = user;
    model_table_each(a->d->models, note_uses, &a->n_uses);
    atomic_store(&a->ended, true);
}

static void on_done(void *user, const generation_usage *usage)
{
    asked *a = user;
    mlxr_error error;
    (void)usage;
    a->done = true;
    a->n_kept = token_store_stats_get(a->d->generations->store).n_texts;
    registry_usage_today(a->d->registry, "", &a->used, &error);
    http_post(a->d->http, next_turn, a);
}

static void on_error(void *user, int status, const char *code, const char *message, const char *param, unsigned retry_s)
{
    asked *a = user;
    (void)param;
    (void)retry_s;
    print_message("%d %s: %s\n", status, code, message);
    atomic_store(&a->ended, true);
}

static void ask(void *user)
{
    static const generation_callbacks callbacks = {NULL, on_delta, on_finish, on_done, on_error};
    asked *a = user;
    generation_job job = {.json = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", "Hello"),
                          .parse = parse,
                          .callbacks = &callbacks,
                          .user = a,
                          .default_model = true};
    a->g = generation_start(a->d, &job);
}

/* A client that has its answer asks on: the next turn must find the tokens of the last one, or it is read from text
 * again, and less of it is found in the KV cache; what it used is counted; the model is no longer in use. */
static void an_answer_is_remembered_before_its_end_is_told(void **state)
{
    struct daemon *d = start();
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        size_t n_before = token_store_stats_get(d->generations->store).n_texts;
        asked a = {.d = d};
        assert_true(http_post(d->http, ask, &a));
        while (!atomic_load(&a.ended)) {
            sleep_ms(1);
        }
        assert_true(a.done);
        assert_true(a.n_kept > 0 && a.n_kept >= n_before);
        assert_int_equal(a.used.n_requests, i + 1);
        assert_true(a.used.answer_tokens >= i + 1);
        assert_int_equal(a.n_uses, 1); /* the daemon's own */
    }
    daemon_stop(&d);
}

/* AddressSanitizer sees whether it is used once it is gone. */
static void one_that_is_woken_behind_its_last_event_is_not_drained_again(void **state)
{
    void (*const wakes[])(generation *) = {generation_resume, generation_cancel};
    struct daemon *d = start();
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        asked a = {.d = d, .wakes = wakes[i % 2]};
        assert_true(http_post(d->http, ask, &a));
        while (!atomic_load(&a.ended)) {
            sleep_ms(1);
        }
    }
    daemon_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_remembered_before_its_end_is_told),
        cmocka_unit_test(one_that_is_woken_behind_its_last_event_is_not_drained_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
