/*
 * Registry: names, models in place, blobs, copies, aliases, removal, keys, usage, migration.
 * Owner: the test program. Lifetime: the process.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "registry/db.h"
#include "registry/disk.h"
#include "registry/inside.h"
#include "registry/registry.h"
#include "support/test.h"
#include "support/tiny_model.h"

typedef struct world {
    registry *r;
    char dir[512];
    mlxr_error error;
} world;

static int n_worlds;

static world open_world(void)
{
    world w;
    snprintf(w.dir, sizeof w.dir, "%s/w%d", test_temp_dir(), n_worlds++);
    assert_ok(registry_open(&w.r, w.dir, &(registry_options){.no_foreign = true}, &w.error), &w.error);
    return w;
}

static void reopen(world *w)
{
    registry_close(&w->r);
    assert_ok(registry_open(&w->r, w->dir, &(registry_options){.no_foreign = true}, &w->error), &w->error);
}

/* A tiny model as a file; returns its path (static). */
static const char *tiny_file(const char *dir, const char *family, const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s.gguf", dir, name);
    tiny_model_write_gguf(tiny_model_find(family), NULL, path);
    return path;
}

static void put_blob(world *w, const void *data, size_t n, char *digest)
{
    registry_blob *b;
    assert_ok(registry_blob_begin(&b, w->r, NULL, UINT64_MAX, &w->error), &w->error);
    for (size_t i = 0; i < n; i += 1000) {
        assert_ok(registry_blob_write(b, (const char *)data + i, n - i < 1000 ? n - i : 1000, &w->error), &w->error);
    }
    assert_ok(registry_blob_commit(&b, digest, &w->error), &w->error);
}

/* A stored model of the tiny one of this family. */
static void put_model(world *w, const char *name, const char *family, char *digest)
{
    char *data;
    size_t n;
    assert_ok(disk_read_file(tiny_file(test_temp_dir(), family, "to-store"), 1 << 26, &data, &n, &w->error), &w->error);
    put_blob(w, data, n, digest);
    free(data);
    stored_file file = {.role = "weights", .name = "model.gguf"};
    snprintf(file.digest, sizeof file.digest, "%s", digest);
    registry_pairs parameters = {0};
    assert_true(registry_pairs_add(&parameters, "temperature", "0.5") && registry_pairs_add(&parameters, "stop", "A") &&
                registry_pairs_add(&parameters, "stop", "B"));
    stored_model m = {.name = name,
                      .path = "",
                      .origin = "test",
                      .system = "Be brief.",
                      .files = &file,
                      .n_files = 1,
                      .parameters = &parameters};
    assert_ok(rows_put(w->r, &m, &w->error), &w->error);
    registry_pairs_close(&parameters);
}

typedef struct copying {
    registry *r;
    mlxr_status status;
    mlxr_error error;
} copying;

static void *copy_model(void *user)
{
    copying *c = user;
    c->status = registry_alias(c->r, "alias", "one", &c->error);
    return NULL;
}

static void who_reads_does_not_wait_for_another_process(void **unused)
{
    char path[600], digest[REGISTRY_DIGEST_MAX];
    world w = open_world();
    copying c = {.r = w.r};
    pthread_t thread;
    (void)unused;
    put_model(&w, "one", "llama", digest);
    snprintf(path, sizeof path, "%s/.mlxr/lock", w.dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0); /* as another process would have it */
    assert_int_equal(pthread_create(&thread, NULL, copy_model, &c), 0);
    while (pthread_mutex_trylock(&w.r->changing) == 0) { /* until the other thread has it, and waits for the file */
        pthread_mutex_unlock(&w.r->changing);
    }
    for (int i = 0; i < 1000; i++) { /* it gives up after ten seconds, which one that had to wait for it would take */
        bool any = true;
        assert_ok(registry_key_any(w.r, &any, &w.error), &w.error);
    }
    close(fd);
    pthread_join(thread, NULL);
    assert_ok(c.status, &c.error);
    registry_close(&w.r);
}

static void small_files_are_written_beside_what_others_have(void **unused)
{
    char path[600], other[700], *data;
    mlxr_error error;
    size_t n;
    (void)unused;
    snprintf(path, sizeof path, "%s/small.json", test_temp_dir());
    snprintf(other, sizeof other, "%s", test_write_file("small.json.tmp", "mine", 4));
    assert_ok(disk_write_file(path, "one", 3, &error), &error);
    assert_ok(disk_read_file(other, 100, &data, &n, &error), &error);
    assert_string_equal(data, "mine");
    free(data);
    for (int child = 0; child < 4; child++) { /* each its own length: what two wrote together would show */
        if (fork() == 0) {
            char text[5000];
            memset(text, 'a' + child, sizeof text);
            for (int i = 0; i < 50; i++) {
                if (disk_write_file(path, text, (size_t)(child + 1) * 1000, NULL) != MLXR_OK) {
                    _exit(1);
                }
            }
            _exit(0);
        }
    }
    for (int child = 0, status; child < 4; child++) {
        assert_true(wait(&status) > 0 && status == 0);
    }
    assert_ok(disk_read_file(path, 5000, &data, &n, &error), &error);
    assert_int_equal(n, (size_t)(data[0] - 'a' + 1) * 1000);
    assert_int_equal(strspn(data, (char[]){data[0], '\0'}), n);
    free(data);
}

static void set_file_age(const char *path, time_t seconds)
{
    struct timespec times[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void what_processes_left_that_died_while_they_wrote_is_tidied(void **unused)
{
    static const struct {
        const char *name;
        time_t age;
        bool stays;
    } files[] = {{"left.json.12-3.tmp", 7200, false}, {"left.json.12-4.tmp", 60, true},
                 {"left.json.tmp", 7200, true},       {"left.json.12.tmp", 7200, true},
                 {"left.json.a-3.tmp", 7200, true},   {"other.json.12-3.tmp", 7200, true}};
    char path[600];
    mlxr_error error;
    (void)unused;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        set_file_age(test_write_file(files[i].name, "", 0), files[i].age);
    }
    snprintf(path, sizeof path, "%s/left.json", test_temp_dir());
    assert_ok(disk_write_file(path, "one", 3, &error), &error);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", test_temp_dir(), files[i].name);
        assert_int_equal(access(path, F_OK) == 0, files[i].stays);
    }
}

static bool blob_file_exists(world *w, const char *digest)
{
    char path[REGISTRY_PATH_MAX];
    struct stat info;
    return blob_path(w->r, digest, path) && stat(path, &info) == 0;
}

static void expect_gone(world *w, const char *name)
{
    registry_model m;
    assert_int_equal(registry_resolve(w->r, name, &m, &w->error), MLXR_ARG);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static void names_that_may_be_and_names_that_may_not(void **unused)
{
    (void)unused;
    static const char *const good[] = {"a",
                                       "llama3.2",
                                       "llama3.2:1b",
                                       "owner/repo",
                                       "owner/repo:Q4_K_M",
                                       "a.b-c_d+e",
                                       "host.example:5000/owner/repo:tag",
                                       "SmolLM2-135M-Instruct.Q4_1"};
    static const char *const bad[] = {"",     ".",         "..",        "a/..",  "../a", "a//b", "/a",   "a/",   "-a",
                                      "a b",  "a:",        ":a",        "a:b:c", "a\\b", "a\nb", "a%2e", "a*",   "~a",
                                      "a..b", "a/b/c/d/e", "sha256:ab", "a\x80", "a/.b", "a/:b", "$a",   "a\"b", "a'b"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(registry_name_valid(good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(registry_name_valid(bad[i]));
    }
    char longest[300];
    memset(longest, 'a', sizeof longest);
    longest[128] = '\0';
    assert_true(registry_name_valid(longest));
    longest[128] = 'a';
    longest[129] = '\0';
    assert_false(registry_name_valid(longest));
}

static void digests_are_hexadecimal_or_nothing(void **unused)
{
    (void)unused;
    char out[REGISTRY_DIGEST_MAX], text[128] = "sha256-";
    memset(text + 7, 'a', 64);
    assert_true(registry_digest_parse(text, out));
    assert_memory_equal(out, "sha256:aaaa", 11);
    text[70] = 'A';
    assert_false(registry_digest_parse(text, out));
    text[70] = '/';
    assert_false(registry_digest_parse(text, out));
    text[70] = '\0';
    assert_false(registry_digest_parse(text, out));
    assert_false(registry_digest_parse("sha256:../../../etc/passwd", out));
    assert_false(registry_digest_parse("md5:aa", out));
}

/* ---- finding ----------------------------------------------------------------------------------------------------- */

static void files_of_the_model_directory_are_found_by_name(void **unused)
{
    (void)unused;
    world w = open_world();
    registry_model m;
    const char *path = tiny_file(w.dir, "llama", "Tiny Llama.F32");
    static const char *const names[] = {"Tiny Llama.F32", "tiny llama.f32", "Tiny Llama.F32.gguf"};
    for (size_t i = 0; i < 3; i++) {
        assert_ok(registry_resolve(w.r, names[i], &m, &w.error), &w.error);
        assert_string_equal(m.path, path);
        assert_string_equal(m.family, "llama");
        assert_string_equal(m.unusable, "");
        assert_int_equal(m.source, REGISTRY_DIRECTORY);
        assert_int_equal(strlen(m.id), 64);
        assert_string_equal(m.digest, "");
        assert_true(m.n_params > 0 && m.n_bytes > 0 && m.n_ctx_train > 0);
        registry_model_close(&m);
    }
    assert_int_equal(registry_resolve(w.r, "tiny lama.f32", &m, &w.error), MLXR_ARG);
    assert_non_null(strstr(w.error.text, "did you mean Tiny Llama.F32?"));
    registry_close(&w.r);
}

static void a_model_given_by_path_hides_others_and_is_not_kept(void **unused)
{
    (void)unused;
    world w = open_world();
    registry_model m;
    char elsewhere[1024];
    tiny_file(w.dir, "llama", "same");
    snprintf(elsewhere, sizeof elsewhere, "%s", tiny_file(test_temp_dir(), "qwen2", "same"));
    assert_ok(registry_register_path(w.r, elsewhere, NULL, false, &w.error), &w.error);
    assert_ok(registry_resolve(w.r, "same", &m, &w.error), &w.error);
    assert_string_equal(m.family, "qwen2");
    registry_model_close(&m);
    assert_ok(registry_resolve(w.r, "same:latest", &m, &w.error), &w.error);
    registry_model_close(&m);
    reopen(&w);
    assert_ok(registry_resolve(w.r, "same", &m, &w.error), &w.error);
    assert_string_equal(m.family, "llama");
    registry_model_close(&m);
    assert_ok(registry_register_path(w.r, elsewhere, "kept:1", true, &w.error), &w.error);
    reopen(&w);
    assert_ok(registry_resolve(w.r, "kept:1", &m, &w.error), &w.error);
    assert_string_equal(m.family, "qwen2");
    assert_int_equal(m.source, REGISTRY_IN_PLACE);
    registry_model_close(&m);
    assert_int_equal(registry_register_path(w.r, "/nowhere/at/all.gguf", NULL, false, &w.error), MLXR_IO);
    registry_close(&w.r);
}

static mlxr_status count_model(void *user, const registry_model *m, mlxr_error *error)
{
    (void)error;
    char *names = user;
    strcat(names, m->name);
    strcat(names, m->alias_of ? "@ " : " ");
    json_t *json = registry_model_json(m);
    assert_string_equal(json_string_value(json_object_get(json, "name")), m->name);
    assert_true(json_is_string(json_object_get(json, "id")));
    json_decref(json);
    return MLXR_OK;
}

static void a_stored_model_has_its_overrides_and_copies_share_its_blobs(void **unused)
{
    (void)unused;
    world w = open_world();
    registry_model m, copy;
    char digest[REGISTRY_DIGEST_MAX], names[256] = "";
    put_model(&w, "stored", "gemma3", digest);
    assert_ok(registry_copy(w.r, "stored:latest", "copy:1", &w.error), &w.error);
    assert_ok(registry_alias(w.r, "other", "stored", &w.error), &w.error);
    assert_int_equal(registry_alias(w.r, "copy:1", "stored", &w.error), MLXR_ARG);
    reopen(&w);
    assert_ok(registry_resolve(w.r, "STORED", &m, &w.error), &w.error);
    assert_ok(registry_resolve(w.r, "copy:1", &copy, &w.error), &w.error);
    assert_string_equal(m.system, "Be brief.");
    assert_string_equal(m.digest, digest);
    assert_string_equal(m.family, "gemma3");
    assert_string_equal(m.path, copy.path);
    assert_string_equal(m.id, copy.id);
    assert_int_equal(m.parameters.n, 3);
    assert_string_equal(m.parameters.items[2].value, "B");
    assert_string_equal(copy.parameters.items[0].name, "temperature");
    registry_model_close(&m);
    registry_model_close(&copy);
    assert_ok(registry_resolve(w.r, "other", &m, &w.error), &w.error);
    registry_model_close(&m);
    assert_ok(registry_resolve(w.r, digest, &m, &w.error), &w.error);
    registry_model_close(&m);
    tiny_file(w.dir, "llama", "in-directory");
    assert_ok(registry_each(w.r, count_model, names, &w.error), &w.error);
    assert_string_equal(names, "copy:1 in-directory other@ stored ");
    assert_ok(registry_alias(w.r, "short", "in-directory", &w.error), &w.error); /* of a file that is not the store's */
    *names = '\0';
    assert_ok(registry_each(w.r, count_model, names, &w.error), &w.error);
    assert_string_equal(names, "copy:1 in-directory other@ short@ stored ");
    assert_ok(registry_resolve(w.r, "short", &m, &w.error), &w.error);
    registry_model_close(&m);
    assert_ok(registry_remove(w.r, "short", 0, &w.error), &w.error);
    expect_gone(&w, "short");

    assert_ok(registry_remove(w.r, "stored", 0, &w.error), &w.error);
    assert_true(blob_file_exists(&w, digest));
    expect_gone(&w, "stored");
    expect_gone(&w, "other");
    assert_ok(registry_remove(w.r, "copy:1", 0, &w.error), &w.error);
    assert_false(blob_file_exists(&w, digest));
    assert_false(registry_blob_exists(w.r, digest, NULL));
    assert_int_equal(registry_remove(w.r, "copy:1", 0, &w.error), MLXR_ARG);
    registry_close(&w.r);
}

static void a_removed_model_can_be_restored_within_its_grace(void **unused)
{
    (void)unused;
    world w = open_world();
    registry_model m;
    char digest[REGISTRY_DIGEST_MAX];
    put_model(&w, "m", "llama", digest);
    assert_ok(registry_remove(w.r, "m", 60, &w.error), &w.error);
    expect_gone(&w, "m");
    assert_true(blob_file_exists(&w, digest));
    assert_ok(registry_restore(w.r, "m", &w.error), &w.error);
    assert_ok(registry_resolve(w.r, "m", &m, &w.error), &w.error);
    registry_model_close(&m);
    assert_int_equal(registry_restore(w.r, "m", &w.error), MLXR_ARG);

    assert_ok(registry_remove(w.r, "m", 1, &w.error), &w.error);
    usleep(1100000);
    assert_int_equal(registry_restore(w.r, "m", &w.error), MLXR_ARG);
    put_model(&w, "other", "qwen2", digest);
    char other[REGISTRY_DIGEST_MAX];
    put_blob(&w, "x", 1, other);
    assert_ok(registry_remove(w.r, "other", 0, &w.error), &w.error);
    int64_t n = -1;
    assert_ok(db_number(w.r->db, &n, -1, &w.error, "SELECT count(*) FROM models", ""), &w.error);
    assert_int_equal(n, 0);
    assert_true(blob_file_exists(&w, other)); /* an upload is kept for a day */
    registry_close(&w.r);
}

static void a_model_of_several_files_is_a_folder_of_links(void **unused)
{
    (void)unused;
    world w = open_world();
    registry_model m;
    stored_file files[2] = {{.role = "weights", .name = "big-00001-of-00002.gguf"},
                            {.role = "part", .name = "big-00002-of-00002.gguf"}};
    put_blob(&w, "first", 5, files[0].digest);
    put_blob(&w, "second", 6, files[1].digest);
    stored_model s = {.name = "big", .path = "", .origin = "", .files = files, .n_files = 2};
    assert_ok(rows_put(w.r, &s, &w.error), &w.error);
    assert_ok(registry_resolve(w.r, "big", &m, &w.error), &w.error);
    assert_non_null(strstr(m.path, "/sets/"));
    assert_non_null(strstr(m.path, "/big-00001-of-00002.gguf"));
    char *data;
    size_t n;
    assert_int_not_equal(disk_read_file(m.path, 100, &data, &n, &w.error), MLXR_OK); /* a link is not followed there */
    assert_int_equal(access(m.path, R_OK), 0);
    char folder[REGISTRY_PATH_MAX];
    snprintf(folder, sizeof folder, "%s", m.path);
    *strrchr(folder, '/') = '\0';
    registry_model_close(&m);
    files[1].name = "../../../escape.gguf";
    assert_int_equal(rows_put(w.r, &s, &w.error), MLXR_ARG);
    assert_ok(registry_resolve(w.r, "big", &m, &w.error), &w.error); /* as it was */
    registry_model_close(&m);
    assert_ok(registry_remove(w.r, "big", 0, &w.error), &w.error);
    assert_int_not_equal(access(folder, F_OK), 0);
    registry_close(&w.r);
}

/* The folder of the model "big" of two files, of which the first has this content, and which there are of sets. */
static void put_big(world *w, const char *first, char *folder)
{
    registry_model m;
    stored_file files[2] = {{.role = "weights", .name = "big-00001-of-00002.gguf"},
                            {.role = "part", .name = "big-00002-of-00002.gguf"}};
    put_blob(w, first, strlen(first), files[0].digest);
    put_blob(w, "second", 6, files[1].digest);
    stored_model s = {.name = "big", .path = "", .origin = "", .files = files, .n_files = 2};
    assert_ok(rows_put(w->r, &s, &w->error), &w->error);
    assert_ok(registry_resolve(w->r, "big", &m, &w->error), &w->error);
    assert_true(disk_parent(m.path, folder, REGISTRY_PATH_MAX));
    registry_model_close(&m);
}

static void a_set_that_is_replaced_goes_and_one_of_an_older_store_stays(void **unused)
{
    (void)unused;
    world w = open_world();
    registry_model m;
    char folder[REGISTRY_PATH_MAX], other[REGISTRY_PATH_MAX], old[600];
    int64_t id = 0;
    put_big(&w, "first", folder);
    put_big(&w, "first, changed", other);
    assert_string_not_equal(folder, other);
    assert_int_not_equal(access(folder, F_OK), 0);
    assert_int_equal(access(other, F_OK), 0);
    assert_ok(db_number(w.r->db, &id, 0, &w.error, "SELECT id FROM models WHERE name = 'big'", ""), &w.error);
    snprintf(old, sizeof old, "%s/.mlxr/sets/%lld", w.dir, (long long)id);
    assert_int_equal(rename(other, old), 0);
    set_file_age(old, 3 * 86400);
    reopen(&w);
    assert_ok(registry_resolve(w.r, "big", &m, &w.error), &w.error);
    assert_memory_equal(m.path, old, strlen(old));
    assert_int_equal(access(m.path, R_OK), 0);
    registry_model_close(&m);
    put_big(&w, "first, once more", folder);
    assert_int_not_equal(access(old, F_OK), 0);
    assert_int_equal(access(folder, F_OK), 0);
    registry_close(&w.r);
}

static void sets_that_no_row_names_go_after_a_day(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        bool stays;
    } cases[] = {{"%lld-1", false}, {"999-7", false}, {"999", false},  {"%lld", false},  {"try-abcdef", false},
                 {"%lld-x", true},  {"notes", true},  {"007-7", true}, {"999-7-8", true}};
    world w = open_world();
    char folder[REGISTRY_PATH_MAX], path[700], name[64];
    int64_t id = 0;
    put_big(&w, "first", folder);
    set_file_age(folder, 3 * 86400);
    assert_ok(db_number(w.r->db, &id, 0, &w.error, "SELECT id FROM models WHERE name = 'big'", ""), &w.error);
    for (int aged = 0; aged < 2; aged++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            snprintf(name, sizeof name, cases[i].name, (long long)id);
            snprintf(path, sizeof path, "%s/.mlxr/sets/%s", w.dir, name);
            assert_true(mkdir(path, 0700) == 0 || aged);
            set_file_age(path, aged ? 3 * 86400 : 3600);
        }
        reopen(&w);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            snprintf(name, sizeof name, cases[i].name, (long long)id);
            snprintf(path, sizeof path, "%s/.mlxr/sets/%s", w.dir, name);
            if ((access(path, F_OK) == 0) != (!aged || cases[i].stays)) {
                fail_msg("%s: %s", name, aged && cases[i].stays ? "gone" : "there, or gone too early");
            }
        }
        assert_int_equal(access(folder, F_OK), 0);
    }
    registry_close(&w.r);
}

/* ---- blobs ------------------------------------------------------------------------------------------------------- */

static void a_blob_with_a_wrong_digest_or_too_many_bytes_is_not_there(void **unused)
{
    (void)unused;
    world w = open_world();
    registry_blob *b;
    char digest[REGISTRY_DIGEST_MAX];
    uint64_t n = 0;
    put_blob(&w, "hello", 5, digest);
    assert_string_equal(digest, "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_true(registry_blob_exists(w.r, digest, &n));
    assert_int_equal(n, 5);
    put_blob(&w, "hello", 5, digest); /* again */
    assert_ok(registry_blob_begin(&b, w.r, digest, 100, &w.error), &w.error);
    assert_ok(registry_blob_write(b, "hellO", 5, &w.error), &w.error);
    assert_int_equal(registry_blob_commit(&b, NULL, &w.error), MLXR_FORMAT);
    assert_null(b);
    assert_ok(registry_blob_begin(&b, w.r, NULL, 4, &w.error), &w.error);
    assert_int_equal(registry_blob_write(b, "hello", 5, &w.error), MLXR_LIMIT);
    registry_blob_abort(&b);
    assert_int_equal(registry_blob_begin(&b, w.r, "sha256:x", 4, &w.error), MLXR_ARG);
    char partial[600];
    snprintf(partial, sizeof partial, "%s/.mlxr/partial", w.dir);
    assert_int_equal(rmdir(partial), 0); /* nothing is left in it */
    registry_close(&w.r);
}

/* One who brings a blob and takes it back does not take it from another who has brought the same bytes. */
static void a_blob_is_taken_back_by_who_made_it_unless_others_count_on_it(void **unused)
{
    (void)unused;
    enum { NOBODY, BEFORE, BEHIND, TOLD, N_OTHERS }; /* TOLD: that it is there, so that they did not bring it */
    for (int others = 0; others < N_OTHERS; others++) {
        world w = open_world();
        char digest[REGISTRY_DIGEST_MAX], path[700];
        int64_t made_us = -1;
        registry_blob *b;
        if (others == BEFORE) {
            put_blob(&w, "hello", 5, digest);
        }
        assert_ok(registry_blob_begin(&b, w.r, NULL, 5, &w.error), &w.error);
        assert_ok(registry_blob_write(b, "hello", 5, &w.error), &w.error);
        assert_ok(registry_blob_commit_marked(&b, digest, &made_us, &w.error), &w.error);
        assert_true(others == BEFORE ? made_us == 0 : made_us > 0);
        if (others == BEHIND) {
            put_blob(&w, "hello", 5, digest);
        } else if (others == TOLD) {
            bool there = false;
            assert_ok(registry_blob_renew(w.r, digest, &there, NULL, &w.error), &w.error);
            assert_true(there);
        }
        assert_ok(registry_blob_forget(w.r, digest, made_us, &w.error), &w.error);
        assert_int_equal(registry_blob_exists(w.r, digest, NULL), others != NOBODY);
        snprintf(path, sizeof path, "%s/.mlxr/blobs/sha256-%s", w.dir, digest + 7);
        assert_int_equal(access(path, F_OK) == 0, others != NOBODY);
        registry_close(&w.r);
    }
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static void a_key_is_valid_until_revoked_and_only_as_it_is(void **unused)
{
    (void)unused;
    world w = open_world();
    registry_key key = {
        .label = "laptop", .models = "llama*,gemma:1b", .requests_per_minute = 60, .tokens_per_day = 1000};
    registry_key found;
    char text[REGISTRY_KEY_TEXT_MAX], other[REGISTRY_KEY_TEXT_MAX];
    bool any = true;
    assert_ok(registry_key_any(w.r, &any, &w.error), &w.error);
    assert_false(any);
    assert_ok(registry_key_create(w.r, &key, text, &w.error), &w.error);
    reopen(&w);
    assert_ok(registry_key_any(w.r, &any, &w.error), &w.error);
    assert_true(any);
    size_t n = strlen(text);
    assert_ok(registry_key_verify(w.r, text, n, &found, &w.error), &w.error);
    assert_string_equal(found.label, "laptop");
    assert_int_equal(found.scopes, REGISTRY_SCOPE_INFERENCE | REGISTRY_SCOPE_READ);
    assert_int_equal(found.requests_per_minute, 60);
    assert_int_equal(found.tokens_per_day, 1000);
    assert_true(registry_key_allows(&found, "llama3") && registry_key_allows(&found, "gemma:1b"));
    assert_false(registry_key_allows(&found, "gemma:2b") || registry_key_allows(&found, "x"));
    for (size_t i = 0; i < n; i++) { /* any other digit */
        memcpy(other, text, n + 1);
        other[i] = other[i] == 'a' ? 'b' : 'a';
        assert_int_equal(registry_key_verify(w.r, other, n, &found, &w.error), MLXR_ARG);
    }
    assert_int_equal(registry_key_verify(w.r, text, n - 1, &found, &w.error), MLXR_ARG);
    assert_int_equal(registry_key_verify(w.r, "", 0, &found, &w.error), MLXR_ARG);
    registry_key late = {.label = "late", .expires_us = 1};
    assert_ok(registry_key_create(w.r, &late, other, &w.error), &w.error);
    assert_int_equal(registry_key_verify(w.r, other, strlen(other), &found, &w.error), MLXR_ARG);
    assert_ok(registry_key_revoke(w.r, key.id, &w.error), &w.error);
    assert_int_equal(registry_key_revoke(w.r, key.id, &w.error), MLXR_ARG);
    assert_int_equal(registry_key_verify(w.r, text, n, &found, &w.error), MLXR_ARG);
    assert_ok(registry_key_any(w.r, &any, &w.error), &w.error);
    assert_false(any);
    registry_close(&w.r);
}

static void the_text_of_a_key_is_not_in_the_store(void **unused)
{
    (void)unused;
    world w = open_world();
    registry_key key = {.label = "x"};
    char text[REGISTRY_KEY_TEXT_MAX], path[600], *data;
    size_t n;
    assert_ok(registry_key_create(w.r, &key, text, &w.error), &w.error);
    snprintf(path, sizeof path, "%s/.mlxr/registry.db", w.dir);
    assert_ok(disk_read_file(path, 1 << 24, &data, &n, &w.error), &w.error);
    assert_null(memmem(data, n, text + 22, 64)); /* the secret part */
    assert_non_null(memmem(data, n, key.id, 16));
    free(data);
    registry_close(&w.r);
}

static void usage_adds_up_over_flushes_and_restarts(void **unused)
{
    (void)unused;
    world w = open_world();
    registry_usage one = {1, 10, 4, 20}, sum;
    for (int i = 0; i < 3; i++) {
        assert_ok(registry_usage_add(w.r, "k", i ? "a" : "b", &one, &w.error), &w.error);
    }
    assert_ok(registry_usage_flush(w.r, false, &w.error), &w.error);
    assert_ok(registry_usage_add(w.r, "k", "a", &one, &w.error), &w.error);
    assert_ok(registry_usage_add(w.r, "", "a", &one, &w.error), &w.error);
    assert_ok(registry_usage_today(w.r, "k", &sum, &w.error), &w.error);
    assert_int_equal(sum.n_requests, 4);
    reopen(&w);
    assert_ok(registry_usage_today(w.r, "k", &sum, &w.error), &w.error);
    assert_int_equal(sum.n_requests, 4);
    assert_int_equal(sum.prompt_tokens, 40);
    assert_int_equal(sum.cached_tokens, 16);
    assert_int_equal(sum.answer_tokens, 80);
    registry_close(&w.r);
}

/* ---- several openers --------------------------------------------------------------------------------------------- */

static void two_registries_on_one_store_see_each_other_and_take_turns(void **unused)
{
    (void)unused;
    world w = open_world();
    registry *reader, *second;
    registry_model m;
    registry_options reading = {.read_only = true, .no_foreign = true},
                     short_wait = {.lock_timeout_ms = 50, .no_foreign = true};
    char digest[REGISTRY_DIGEST_MAX];
    assert_ok(registry_open(&reader, w.dir, &reading, &w.error), &w.error);
    assert_ok(registry_open(&second, w.dir, &short_wait, &w.error), &w.error);
    put_model(&w, "m", "llama", digest);
    assert_ok(registry_resolve(reader, "m", &m, &w.error), &w.error);
    registry_model_close(&m);
    assert_int_equal(registry_remove(reader, "m", 0, &w.error), MLXR_UNSUPPORTED);
    assert_ok(inside_begin(w.r, &w.error), &w.error);
    assert_int_equal(registry_remove(second, "m", 0, &w.error), MLXR_IO);
    assert_non_null(strstr(w.error.text, "another process"));
    assert_ok(inside_end(w.r, MLXR_OK, &w.error), &w.error);
    assert_ok(registry_remove(second, "m", 0, &w.error), &w.error);
    assert_int_equal(registry_resolve(reader, "m", &m, &w.error), MLXR_ARG);
    registry_close(&reader);
    registry_close(&second);
    registry_close(&w.r);
}

static void reading_without_a_store_makes_none(void **unused)
{
    (void)unused;
    mlxr_error error;
    registry *r;
    char names[64] = "", dir[600];
    snprintf(dir, sizeof dir, "%s/never", test_temp_dir());
    assert_ok(registry_open(&r, dir, &(registry_options){.read_only = true, .no_foreign = true}, &error), &error);
    assert_ok(registry_each(r, count_model, names, &error), &error);
    assert_string_equal(names, "");
    registry_close(&r);
    assert_int_not_equal(access(dir, F_OK), 0);
}

static void a_newer_database_is_refused(void **unused)
{
    (void)unused;
    world w = open_world();
    assert_ok(db_run(w.r->db, &w.error, "PRAGMA user_version = 1000", ""), &w.error);
    registry_close(&w.r);
    assert_int_equal(registry_open(&w.r, w.dir, NULL, &w.error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(w.error.text, "version 1000"));
}

static void a_damaged_database_is_told(void **unused)
{
    (void)unused;
    world w = open_world();
    char path[600];
    registry_close(&w.r);
    snprintf(path, sizeof path, "%s/.mlxr/registry.db", w.dir);
    FILE *file = fopen(path, "r+b");
    fwrite("this is not a database at all", 1, 29, file);
    fclose(file);
    assert_int_equal(registry_open(&w.r, w.dir, NULL, &w.error), MLXR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_may_be_and_names_that_may_not),
        cmocka_unit_test(digests_are_hexadecimal_or_nothing),
        cmocka_unit_test(files_of_the_model_directory_are_found_by_name),
        cmocka_unit_test(a_model_given_by_path_hides_others_and_is_not_kept),
        cmocka_unit_test(a_stored_model_has_its_overrides_and_copies_share_its_blobs),
        cmocka_unit_test(who_reads_does_not_wait_for_another_process),
        cmocka_unit_test(small_files_are_written_beside_what_others_have),
        cmocka_unit_test(what_processes_left_that_died_while_they_wrote_is_tidied),
        cmocka_unit_test(a_removed_model_can_be_restored_within_its_grace),
        cmocka_unit_test(a_model_of_several_files_is_a_folder_of_links),
        cmocka_unit_test(a_set_that_is_replaced_goes_and_one_of_an_older_store_stays),
        cmocka_unit_test(sets_that_no_row_names_go_after_a_day),
        cmocka_unit_test(a_blob_with_a_wrong_digest_or_too_many_bytes_is_not_there),
        cmocka_unit_test(a_blob_is_taken_back_by_who_made_it_unless_others_count_on_it),
        cmocka_unit_test(a_key_is_valid_until_revoked_and_only_as_it_is),
        cmocka_unit_test(the_text_of_a_key_is_not_in_the_store),
        cmocka_unit_test(usage_adds_up_over_flushes_and_restarts),
        cmocka_unit_test(two_registries_on_one_store_see_each_other_and_take_turns),
        cmocka_unit_test(reading_without_a_store_makes_none),
        cmocka_unit_test(a_newer_database_is_refused),
        cmocka_unit_test(a_damaged_database_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
