/*
 * The registry when disks and memory fail: pull, delete, a model registered, migration, a key made, with the n-th
 * operation on files failing or being the one at which the process is killed, for every n; with the n-th allocation
 * failing; and with the power lost after any operation. After each: the store opens at once, is whole, has everything
 * that was acknowledged, and the same operation then succeeds. Owner: the test program. Lifetime: the process.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry/digest.h"
#include "registry/disk.h"
#include "registry/inside.h"
#include "registry/rows.h"
#include "support/fail_alloc.h"
#include "support/fault_store.h"
#include "support/test.h"

enum { PARTS = 3, PART_BYTES = 20000 };

static char base[256]; /* a directory in memory, if there is one */
static char part_data[PARTS][PART_BYTES];
static char kept_key[REGISTRY_KEY_TEXT_MAX];
static const registry_options quick = {.no_foreign = true, .lock_timeout_ms = 2000};

/* ---- a hub on loopback, that allocates nothing ------------------------------------------------------------------- */

static int listener;
static char list_json[4096];

static void send_all(int to, const char *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t sent = send(to, data + done, n - done, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        done += (size_t)sent;
    }
}

/* Of a push; the body has been read. Blobs are never there: each attempt sends all of them. */
static bool answer_push(int to, const char *request)
{
    const char *head = strncmp(request, "HEAD ", 5) == 0   ? "HTTP/1.1 404 No"
                       : strncmp(request, "POST ", 5) == 0 ? "HTTP/1.1 202 Accepted\r\nLocation: /v2/upload/1"
                       : strncmp(request, "PUT ", 4) == 0  ? "HTTP/1.1 201 Created"
                                                           : NULL;
    if (head) {
        send_all(to, head, strlen(head));
        send_all(to, "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 42);
    }
    return head != NULL;
}

/* What a client sends behind its head; `had` bytes of it have come. */
static void read_body(int from, const char *request, size_t had)
{
    static char rest[8192];
    size_t n = 0;
    const char *field = strstr(request, "Content-Length: ");
    if (strstr(request, "Expect: 100-continue")) {
        send_all(from, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
    if (field && sscanf(field, "Content-Length: %zu", &n) == 1) {
        for (ssize_t got; had < n && (got = recv(from, rest, sizeof rest, 0)) > 0;) {
            had += (size_t)got;
        }
    }
}

static void answer(int to, const char *request)
{
    char head[256];
    const char *body = "", *range = strstr(request, "Range: bytes=");
    size_t n = 0, first = 0, last;
    int part = -1;
    if (answer_push(to, request)) {
        return;
    }
    if (strstr(request, "GET /api/models/o/r/revision/main ")) {
        body = "{\"sha\": \"0123456789abcdef0123456789abcdef01234567\"}";
    } else if (strstr(request, "GET /api/models/o/r/tree/")) {
        body = list_json;
    } else if (sscanf(request, "GET /o/r/resolve/%*[0-9a-f]/m-Q8_0-%d-of-", &part) == 1 && part >= 1 && part <= PARTS) {
        body = part_data[part - 1];
        n = PART_BYTES;
    }
    n = n ? n : strlen(body);
    last = n - 1;
    if (range && part > 0 && sscanf(range, "Range: bytes=%zu-%zu", &first, &last) == 2) {
        last = last < n - 1 ? last : n - 1;
        snprintf(
            head, sizeof head,
            "HTTP/1.1 206 OK\r\nConnection: close\r\nContent-Range: bytes %zu-%zu/%zu\r\nContent-Length: %zu\r\n\r\n",
            first, last, n, last - first + 1);
        send_all(to, head, strlen(head));
        send_all(to, body + first, last - first + 1);
        return;
    }
    snprintf(head, sizeof head, "HTTP/1.1 %d OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", n ? 200 : 404, n);
    send_all(to, head, strlen(head));
    send_all(to, body, n);
}

static void *serve(void *unused)
{
    static char request[8192];
    (void)unused;
    for (int to; (to = accept(listener, NULL, NULL)) >= 0; close(to)) {
        size_t n = 0;
        for (ssize_t got; n + 1 < sizeof request && (got = recv(to, request + n, sizeof request - 1 - n, 0)) > 0;) {
            n += (size_t)got;
            request[n] = '\0';
            const char *body = strstr(request, "\r\n\r\n");
            if (body) {
                read_body(to, request, n - (size_t)(body + 4 - request));
                answer(to, request);
                break;
            }
        }
    }
    return NULL;
}

static void start_hub(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    char url[64];
    size_t used = 0;
    pthread_t thread;
    for (int i = 0; i < PARTS; i++) {
        uint8_t hash[32];
        char hex[65];
        uint64_t seed = (uint64_t)i + 1;
        for (size_t k = 0; k < PART_BYTES; k++) {
            part_data[i][k] = (char)test_random(&seed);
        }
        memcpy(part_data[i], "GGUF", 4);
        assert_true(digest_raw(part_data[i], PART_BYTES, hash));
        digest_hex(hash, 32, hex);
        used += (size_t)snprintf(list_json + used, sizeof list_json - used,
                                 "%s{\"type\": \"file\", \"path\": \"m-Q8_0-%05d-of-%05d.gguf\", \"size\": %d, "
                                 "\"lfs\": {\"oid\": \"%s\", \"size\": %d}}%s",
                                 i ? ", " : "[", i + 1, PARTS, PART_BYTES, hex, PART_BYTES, i + 1 == PARTS ? "]" : "");
    }
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &n), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(address.sin_port));
    setenv("HF_ENDPOINT", url, 1);
    setenv("MLXR_OLLAMA_REGISTRY", url, 1);
    setenv("MLXR_ALLOW_PRIVATE", "127.0.0.1", 1);
    setenv("MLXR_PULL_RETRY_MS", "1", 1);
    setenv("MLXR_PULL_PARALLEL", "1", 1);
    setenv("MLXR_PULL_PIECE_BYTES", "8000", 1);
    unsetenv("HF_TOKEN");
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
}

/* ---- stores ------------------------------------------------------------------------------------------------------ */

static void put_model(registry *r, const char *name, const char *content)
{
    mlxr_error error;
    registry_blob *b;
    stored_file file = {.role = "weights", .name = "model.gguf"};
    assert_ok(registry_blob_begin(&b, r, NULL, 1 << 20, &error), &error);
    assert_ok(registry_blob_write(b, content, strlen(content), &error), &error);
    assert_ok(registry_blob_commit(&b, file.digest, &error), &error);
    stored_model m = {.name = name, .path = "", .origin = "", .system = "x", .files = &file, .n_files = 1};
    assert_ok(rows_put(r, &m, &error), &error);
}

/* A model of two files, as links to them. */
static mlxr_status put_set(registry *r, const char *const contents[2], mlxr_error *error)
{
    stored_file files[2] = {{.role = "weights", .name = "big-00001-of-00002.gguf"},
                            {.role = "part", .name = "big-00002-of-00002.gguf"}};
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < 2 && status == MLXR_OK; i++) {
        registry_blob *b = NULL;
        status = registry_blob_begin(&b, r, NULL, 1 << 20, error);
        if (status == MLXR_OK) {
            status = registry_blob_write(b, contents[i], strlen(contents[i]), error);
            if (status != MLXR_OK) {
                registry_blob_abort(&b);
            }
        }
        status = status == MLXR_OK ? registry_blob_commit(&b, files[i].digest, error) : status;
    }
    stored_model m = {.name = "big", .path = "", .origin = "", .files = files, .n_files = 2};
    return status == MLXR_OK ? rows_put(r, &m, error) : status;
}

/* What every store holds before: two models of one blob, one that will be removed, one of two files, a key. */
static void make_templates(void)
{
    char path[512], file[600];
    mlxr_error error;
    registry *r;
    registry_key key = {.label = "kept"};
    snprintf(path, sizeof path, "%s/new", base);
    assert_ok(registry_open(&r, path, &quick, &error), &error);
    put_model(r, "keep", "the model that is there already");
    assert_ok(registry_copy(r, "keep", "shared", &error), &error);
    put_model(r, "victim", "the model that goes");
    assert_ok(put_set(r, (const char *const[]){"the first half", "the second half"}, &error), &error);
    assert_ok(registry_key_create(r, &key, kept_key, &error), &error);
    registry_close(&r);
    /* The same store with a database of version 1. */
    snprintf(file, sizeof file, "%s/old", base);
    fault_copy_tree(path, file);
    sqlite3 *db;
    snprintf(file, sizeof file, "%s/old/.mlxr/registry.db", base);
    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db, "ALTER TABLE keys DROP COLUMN tokens_per_minute; PRAGMA user_version = 1", NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

static mlxr_status do_register(registry *r, mlxr_error *error)
{
    static const char content[] = "GGUF and something that is no model";
    registry_blob *b;
    stored_file file = {.role = "weights", .name = "model.gguf"};
    mlxr_status status = registry_blob_begin(&b, r, NULL, 1 << 20, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = registry_blob_write(b, content, sizeof content, error);
    if (status != MLXR_OK) {
        registry_blob_abort(&b);
        return status;
    }
    status = registry_blob_commit(&b, file.digest, error);
    if (status != MLXR_OK) {
        return status;
    }
    registry_pairs parameters = {0};
    bool ok = registry_pairs_add(&parameters, "temperature", "0.5");
    stored_model m = {
        .name = "made", .path = "", .origin = "", .files = &file, .n_files = 1, .parameters = &parameters};
    status = ok ? rows_put(r, &m, error) : MLXR_NOMEM;
    registry_pairs_close(&parameters);
    return status;
}

static mlxr_status do_remove(registry *r, mlxr_error *error)
{
    mlxr_status status = registry_remove(r, "victim", 0, error);
    int64_t n = 1;
    if (status == MLXR_ARG) { /* an attempt before, which could not tell whether it had worked, had */
        db_number(r->db, &n, 1, NULL, "SELECT count(*) FROM models WHERE name = 'victim'", "");
    }
    return n == 0 ? MLXR_OK : status;
}

/* One file is another, the other stays. */
static mlxr_status do_replace(registry *r, mlxr_error *error)
{
    return put_set(r, (const char *const[]){"another first half", "the second half"}, error);
}

static char made_key[REGISTRY_KEY_TEXT_MAX];

static mlxr_status do_key(registry *r, mlxr_error *error)
{
    registry_key key = {.label = "made", .tokens_per_day = 5};
    return registry_key_create(r, &key, made_key, error);
}

static mlxr_status do_pull(registry *r, mlxr_error *error)
{
    return registry_pull(r, "hf:o/r:Q8_0", NULL, NULL, error);
}

/* Reads the store and changes nothing in it. */
static mlxr_status do_push(registry *r, mlxr_error *error)
{
    return registry_push(r, "keep", "me/kept", NULL, error);
}

static mlxr_status do_nothing(registry *r, mlxr_error *error)
{
    (void)r;
    (void)error;
    return MLXR_OK;
}

typedef struct workload {
    const char *name, *template, *adds; /* the model that is there afterwards, or NULL */
    const char *removes;
    mlxr_status (*run)(registry *r, mlxr_error *error);
} workload;

static const workload workloads[] = {
    {"register", "new", "made", NULL, do_register}, {"replace", "new", "big", NULL, do_replace},
    {"remove", "new", NULL, "victim", do_remove},   {"key", "new", NULL, NULL, do_key},
    {"migrate", "old", NULL, NULL, do_nothing},     {"pull", "new", "o/r:Q8_0", NULL, do_pull},
    {"push", "new", NULL, NULL, do_push},
};
enum { N_WORKLOADS = sizeof workloads / sizeof *workloads };

/* Opens the store if need be, and does it. */
static mlxr_status attempt(const workload *w, const char *dir, registry **r, mlxr_error *error)
{
    mlxr_status status = *r ? MLXR_OK : registry_open(r, dir, &quick, error);
    return status == MLXR_OK ? w->run(*r, error) : status;
}

/* ---- what must hold ---------------------------------------------------------------------------------------------- */

/* The links of a model of several files are to those that its rows name. */
static void check_links(registry *r, const char *name, const char *path)
{
    file_rows files = {0};
    mlxr_error error;
    assert_ok(file_rows_read(r, name, &files, &error), &error);
    for (size_t i = 0; i < files.n; i++) {
        char link[REGISTRY_PATH_MAX], blob[REGISTRY_PATH_MAX];
        struct stat a, b;
        check(disk_parent(path, link, sizeof link - 300));
        size_t n = strlen(link);
        snprintf(link + n, sizeof link - n, "/%s", files.items[i].name);
        check(blob_path(r, files.items[i].digest, blob));
        if (stat(link, &a) != 0 || stat(blob, &b) != 0 || a.st_ino != b.st_ino) {
            fail_msg("%s: %s is not %s", fault_context, link, files.items[i].digest);
        }
    }
    file_rows_close(&files);
}

static mlxr_status check_model(void *user, const registry_model *m, mlxr_error *error)
{
    char digest[REGISTRY_DIGEST_MAX];
    registry *r = user;
    uint64_t n_bytes;
    if (m->source == REGISTRY_STORED && strstr(m->path, "/sets/")) {
        check_links(r, m->name, m->path);
    } else if (m->source == REGISTRY_STORED) {
        mlxr_status status = disk_digest(m->path, digest, &n_bytes, error);
        if (status != MLXR_OK || strcmp(digest, m->digest) != 0) {
            fail_msg("%s: the bytes of %s are not those of %s", fault_context, m->name, m->digest);
        }
    }
    return MLXR_OK;
}

static bool has(registry *r, const char *name)
{
    registry_model m;
    mlxr_error error;
    bool found = registry_resolve(r, name, &m, &error) == MLXR_OK;
    registry_model_close(&m);
    return found;
}

/* Every row of blobs has its file, of this size. */
static void check_blobs(registry *r)
{
    sqlite3_stmt *s;
    char path[REGISTRY_PATH_MAX];
    struct stat info;
    check(sqlite3_prepare_v2(r->db, "SELECT digest, n_bytes FROM blobs", -1, &s, NULL) == SQLITE_OK);
    while (sqlite3_step(s) == SQLITE_ROW) {
        check(blob_path(r, db_text(s, 0), path));
        check(stat(path, &info) == 0 && info.st_size == sqlite3_column_int64(s, 1));
    }
    sqlite3_finalize(s);
}

static void check_store(const workload *w, const char *dir, bool acknowledged)
{
    registry *r;
    mlxr_error error;
    registry_key key;
    sqlite3_stmt *s;
    fault_clock began = fault_clock_begin();
    if (registry_open(&r, dir, &quick, &error) != MLXR_OK) {
        fail_msg("%s: the store does not open: %s", fault_context, error.text);
    }
    check(fault_was_quick(began));
    check(sqlite3_prepare_v2(r->db, "PRAGMA integrity_check", -1, &s, NULL) == SQLITE_OK);
    check(sqlite3_step(s) == SQLITE_ROW && strcmp(db_text(s, 0), "ok") == 0);
    sqlite3_finalize(s);
    check(sqlite3_prepare_v2(r->db, "PRAGMA foreign_key_check", -1, &s, NULL) == SQLITE_OK);
    check(sqlite3_step(s) == SQLITE_DONE);
    sqlite3_finalize(s);
    check(has(r, "keep") && has(r, "shared") && has(r, "big"));
    check(registry_key_verify(r, kept_key, strlen(kept_key), &key, &error) == MLXR_OK);
    if (registry_each(r, check_model, r, &error) != MLXR_OK) {
        fail_msg("%s: %s", fault_context, error.text);
    }
    check_blobs(r);
    if (!w->removes) {
        check(has(r, "victim"));
    }
    if (acknowledged) {
        check(!w->adds || has(r, w->adds));
        check(!w->removes || !has(r, w->removes));
        check(w->run != do_key || registry_key_verify(r, made_key, strlen(made_key), &key, &error) == MLXR_OK);
    }
    registry_close(&r);
}

/* A fresh copy of the workload's store. */
static void fresh(const workload *w, char *dir, size_t cap)
{
    fault_fresh(base, w->template, dir, cap);
}

/* ---- the n-th operation ------------------------------------------------------------------------------------------ */

static bool fail_once(const workload *w, uint64_t n, fault_mode mode)
{
    char dir[512];
    registry *r = NULL;
    mlxr_error error;
    fresh(w, dir, sizeof dir);
    fault_at(n, mode);
    mlxr_status status = attempt(w, dir, &r, &error);
    bool fired = fault_stop();
    check(fired || status == MLXR_OK);
    check(status == MLXR_OK || error.text[0]);
    if (!fired) {
        registry_close(&r);
        return false;
    }
    bool was_open = r != NULL;
    if (status == MLXR_OK) {
        registry_close(&r);
    }
    check_store(w, dir, status == MLXR_OK);
    status = attempt(w, dir, &r, &error); /* without a restart, if it was open */
    if (status != MLXR_OK) {
        fail_msg("%s: not the second time either (%s): %s", fault_context, was_open ? "open" : "opened", error.text);
    }
    registry_close(&r);
    check_store(w, dir, true);
    return true;
}

static bool kill_once(const workload *w, uint64_t n)
{
    char dir[512];
    registry *r = NULL;
    mlxr_error error;
    fresh(w, dir, sizeof dir);
    pid_t child = fork();
    if (child == 0) {
        fault_at(n, FAULT_KILL);
        if (attempt(w, dir, &r, &error) != MLXR_OK) {
            fprintf(stderr, "%s: %s\n", fault_context, error.text);
            _exit(1);
        }
        _exit(0);
    }
    bool killed = fault_was_killed(child);
    made_key[0] = '\0';
    check_store(&(workload){.run = do_nothing, .removes = w->removes}, dir, false);
    check(attempt(w, dir, &r, &error) == MLXR_OK);
    registry_close(&r);
    check_store(w, dir, true);
    return killed;
}

static bool fail_or_kill(size_t i, uint64_t n, fault_mode mode)
{
    return mode == FAULT_KILL ? kill_once(&workloads[i], n) : fail_once(&workloads[i], n, mode);
}

/* ---- the n-th allocation ----------------------------------------------------------------------------------------- */

static void starve_once(size_t i, long n)
{
    const workload *w = &workloads[i];
    char dir[512];
    registry *r = NULL;
    mlxr_error error;
    fresh(w, dir, sizeof dir);
    fail_alloc_at(n);
    mlxr_status status = attempt(w, dir, &r, &error);
    bool fired = fail_alloc_stop();
    check(fired || status == MLXR_OK);
    if (fired) {
        if (status == MLXR_OK) {
            registry_close(&r);
        }
        check_store(w, dir, status == MLXR_OK);
        status = attempt(w, dir, &r, &error);
        if (status != MLXR_OK) {
            fail_msg("%s: not the second time either: %s", fault_context, error.text);
        }
        check_store(w, dir, true);
    }
    registry_close(&r);
}

static long count_allocations(size_t i)
{
    const workload *w = &workloads[i];
    char dir[512];
    registry *r = NULL;
    mlxr_error error;
    fresh(w, dir, sizeof dir);
    fail_alloc_at(0x7fffffff);
    assert_int_equal(attempt(w, dir, &r, &error), MLXR_OK);
    fail_alloc_stop();
    registry_close(&r);
    return fail_alloc_count();
}

static const char *name_of(size_t i)
{
    return workloads[i].name;
}

static const fault_workloads all = {N_WORKLOADS, name_of, fail_or_kill, count_allocations, starve_once};

static void every_operation_fails_or_kills(void **unused)
{
    (void)unused;
    fault_every_operation(&all);
}

static void allocations_fail(void **unused)
{
    (void)unused;
    fault_allocations(&all, 200);
}

/* ---- power ------------------------------------------------------------------------------------------------------- */

static void power_is_lost_after_any_operation(void **unused)
{
    char from[512], dir[512];
    uint64_t n_images = 0, rounds = getenv("MLXR_SOAK") ? 50 : 3;
    (void)unused;
    for (size_t i = 0; i < N_WORKLOADS; i++) {
        const workload *w = &workloads[i];
        registry *r = NULL;
        mlxr_error error;
        fresh(w, dir, sizeof dir);
        snprintf(from, sizeof from, "%s/%s", base, w->template);
        fault_record(dir);
        assert_ok(attempt(w, dir, &r, &error), &error);
        uint64_t n_all = fault_record_count();
        char recorded_key[REGISTRY_KEY_TEXT_MAX];
        memcpy(recorded_key, made_key, sizeof recorded_key);
        fault_record_stop();
        registry_close(&r);
        for (uint64_t n = 0; n <= n_all; n++) {
            for (uint64_t round = 0; round < rounds; round++) {
                snprintf(fault_context, sizeof fault_context, "%s, power lost after %llu of %llu, image %llu", w->name,
                         (unsigned long long)n, (unsigned long long)n_all, (unsigned long long)round);
                fault_remove_tree(dir);
                mkdir(dir, 0700);
                fault_replay(from, dir, n, n * 1000 + round);
                if (n == n_all) { /* it was acknowledged */
                    memcpy(made_key, recorded_key, sizeof made_key);
                    check_store(w, dir, true);
                } else {
                    check_store(&(workload){.run = do_nothing, .removes = w->removes}, dir, false);
                }
                r = NULL;
                if (attempt(w, dir, &r, &error) != MLXR_OK) {
                    fail_msg("%s: then it fails: %s", fault_context, error.text);
                }
                registry_close(&r);
                n_images++;
            }
        }
        print_message("%s: %llu changes\n", w->name, (unsigned long long)n_all);
    }
    print_message("%llu images\n", (unsigned long long)n_images);
}

static int set_up(void **unused)
{
    (void)unused;
    fault_set_up();
    fault_make_base(base, sizeof base, "fault");
    start_hub();
    make_templates();
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    fault_remove_tree(base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_fails_or_kills),
        cmocka_unit_test(allocations_fail),
        cmocka_unit_test(power_is_lost_after_any_operation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
