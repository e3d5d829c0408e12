/*
 * The KV store's directory: its budget under many models, two stores on it at once, and what becomes of a running
 * engine when the directory is read-only, full, failing, removed or taken by another process: a warning, and on it
 * goes. Owner: the test program. Lifetime: the process.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/engine.h"
#include "runtime/kv/store_io.h"
#include "support/kv_disk.h"
#include "support/kv_world.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { PROMPT_TOKENS = 17, BLOCKS = 4 };

/* ---- with a world ------------------------------------------------------------------------------------------------ */

static kv_store *store_on(kv_disk *disk, uint64_t budget)
{
    mlxr_error error;
    kv_store *store = NULL;
    kv_store_io io = kv_disk_io(disk);
    kv_store_options options = {.dir = "/disk", .bytes_budget = budget, .io = &io};
    assert_ok(kv_store_open(&store, &options, &error), &error);
    return store;
}

/* Runs prompt `which` of the model called `name` on a store, in a world of its own. Returns the tokens found. */
static size_t run_prompt(kv_store *store, uint64_t name, int which)
{
    static world w;
    static world_sequence s;
    const plan *plans[] = {&world_mixed};
    int32_t tokens[PROMPT_TOKENS];
    for (int i = 0; i < PROMPT_TOKENS; i++) {
        tokens[i] = 1000 * which + i;
    }
    world_open(&w, plans, 1, name, 1 << 20, store);
    sequence_init(&w, &s, 0);
    sequence_append(&w, &s, tokens, PROMPT_TOKENS);
    size_t n_found = s.n_computed;
    assert_true(sequence_compute(&w, &s, s.n_tokens - s.n_computed, NULL, 0, 0));
    sequence_check_rows(&s);
    sequence_close(&s);
    world_save_all(&w);
    kv_store_flush(store);
    world_close(&w);
    return n_found;
}

/* The only warning waiting, or "". */
static const char *warning(kv_store *store)
{
    static char line[1024], second[1024];
    if (!kv_store_warning(store, line, sizeof line)) {
        return "";
    }
    if (kv_store_warning(store, second, sizeof second)) {
        fail_msg("two warnings: %s; %s", line, second);
    }
    return line;
}

#define assert_warns(store, part)                                                                                      \
    do {                                                                                                               \
        const char *line_ = warning(store);                                                                            \
        if (!strstr(line_, part)) {                                                                                    \
            fail_msg("warning '%s' does not say '%s'", line_, part);                                                   \
        }                                                                                                              \
    } while (0)

static void the_budget_holds_over_many_models(void **state)
{
    (void)state;
    kv_disk *disk = kv_disk_open();
    kv_store *store = store_on(disk, 40000);
    kv_disk_watch(disk);
    for (uint64_t round = 0; round < 20; round++) {
        for (uint64_t model = 0; model < 50; model++) { /* each fingerprint has its own four blocks */
            size_t n_found = run_prompt(store, 1 + model, 1);
            assert_int_equal(n_found, 0); /* 49 others came in between, and they do not fit together */
            assert_true(kv_disk_stats_get(disk).bytes_max <= 40000);
            assert_int_equal(kv_store_stats_get(store).bytes, kv_disk_stats_get(disk).bytes);
            assert_int_equal(kv_store_stats_get(store).n_files, kv_disk_stats_get(disk).n_files);
        }
        assert_int_equal(run_prompt(store, 50, 1), 16); /* used last: still there */
    }
    assert_int_equal(kv_store_stats_get(store).n_written, 20 * 50 * BLOCKS);
    assert_string_equal(warning(store), "");
    kv_store_close(&store);
    kv_disk_close(&disk);
}

static void what_was_found_again_outlives_what_was_not(void **state)
{
    (void)state;
    kv_disk *disk = kv_disk_open();
    kv_store *store = store_on(disk, 40000);
    run_prompt(store, 1, 1);
    uint64_t one = kv_store_stats_get(store).bytes;
    for (int which = 2; one * (uint64_t)(which + 1) < 40000; which++) {
        run_prompt(store, 1, which);
        assert_int_equal(run_prompt(store, 1, 1), 16);
    }
    for (int which = 100; which < 104; which++) {
        run_prompt(store, 1, which);
    }
    assert_int_equal(run_prompt(store, 1, 1), 16); /* the oldest file, but not the one used longest ago */
    assert_int_equal(run_prompt(store, 1, 2), 0);
    kv_store_close(&store);
    kv_disk_close(&disk);
}

static void a_smaller_budget_is_met_when_the_directory_is_opened(void **state)
{
    (void)state;
    kv_disk *disk = kv_disk_open();
    kv_store *store = store_on(disk, 100000);
    for (int which = 0; which < 20; which++) {
        run_prompt(store, 1, which);
    }
    kv_store_close(&store);
    assert_true(kv_disk_stats_get(disk).bytes > 20000);
    store = store_on(disk, 20000);
    assert_true(kv_disk_stats_get(disk).bytes <= 20000);
    assert_true(run_prompt(store, 1, 19) > 0); /* the newest stay */
    assert_int_equal(run_prompt(store, 1, 0), 0);
    kv_store_close(&store);
    kv_disk_close(&disk);
}

static void a_second_store_reads_and_takes_over_when_the_first_is_gone(void **state)
{
    (void)state;
    kv_disk *disk = kv_disk_open();
    kv_store *first = store_on(disk, 100000);
    run_prompt(first, 1, 1);
    kv_store *second = store_on(disk, 100000);
    assert_warns(second, "another process writes to it");
    assert_false(kv_store_stats_get(second).writes);
    uint64_t n_changes = kv_disk_stats_get(disk).n_changes;
    assert_int_equal(run_prompt(second, 1, 1), 16); /* finds what is there */
    assert_int_equal(run_prompt(second, 1, 2), 0);
    assert_int_equal(run_prompt(second, 1, 2), 0);                  /* and keeps nothing */
    assert_int_equal(kv_disk_stats_get(disk).n_changes, n_changes); /* nor changes anything */
    assert_string_equal(warning(second), "");                       /* nor says it again */
    assert_int_equal(run_prompt(first, 1, 3), 0);
    kv_store_close(&first);
    assert_int_equal(run_prompt(second, 1, 4), 0); /* has something to keep: now it may */
    assert_true(kv_store_stats_get(second).writes);
    assert_int_equal(run_prompt(second, 1, 4), 16);
    assert_int_equal(run_prompt(second, 1, 3), 16); /* and knows what the first one wrote meanwhile */
    kv_store_close(&second);
    kv_disk_close(&disk);
}

static void a_reader_leaves_damaged_files_to_the_writer(void **state)
{
    (void)state;
    kv_disk *disk = kv_disk_open();
    kv_store *first = store_on(disk, 100000);
    run_prompt(first, 1, 1);
    kv_store *second = store_on(disk, 100000);
    assert_warns(second, "another process");
    for (uint64_t seed = 0; seed < 50; seed++) { /* all four, whichever they are */
        kv_disk_damage(disk, seed);
    }
    uint64_t n_changes = kv_disk_stats_get(disk).n_changes;
    assert_int_equal(run_prompt(second, 1, 1), 0);
    assert_warns(second, "1 damaged files");
    assert_int_equal(kv_disk_stats_get(disk).n_changes, n_changes);
    assert_int_equal(run_prompt(first, 1, 1), 0);
    assert_warns(first, "1 damaged files");
    assert_int_equal(run_prompt(first, 1, 1), 4); /* the first block was written anew; the others lie damaged still */
    assert_warns(first, "2 damaged files");
    assert_int_equal(run_prompt(first, 1, 1), 8);
    kv_store_close(&second);
    kv_store_close(&first);
    kv_disk_close(&disk);
}

static void a_full_disk_is_told_once_and_the_store_goes_on(void **state)
{
    (void)state;
    static const int codes[] = {ENOSPC, EDQUOT, EROFS, EIO};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        kv_disk *disk = kv_disk_open();
        kv_store *store = store_on(disk, 100000);
        run_prompt(store, 1, 1);
        kv_disk_fail_all(disk, codes[i]);
        assert_int_equal(run_prompt(store, 1, 1), 16); /* reading works */
        assert_string_equal(warning(store), "");
        for (int which = 2; which < 6; which++) {
            assert_int_equal(run_prompt(store, 1, which), 0);
        }
        assert_warns(store, strerror(codes[i]));
        assert_int_equal(kv_store_stats_get(store).n_write_errors, 4 * BLOCKS);
        kv_disk_fail_all(disk, 0);
        run_prompt(store, 1, 2);
        assert_int_equal(run_prompt(store, 1, 2), 16);
        kv_disk_fail_all(disk, codes[i]);
        run_prompt(store, 1, 3);
        assert_warns(store, strerror(codes[i])); /* a new trouble */
        kv_disk_fail_all(disk, 0);
        kv_store_close(&store);
        kv_disk_close(&disk);
    }
}

static void a_directory_removed_underneath_is_made_again(void **state)
{
    (void)state;
    kv_disk *disk = kv_disk_open();
    kv_store *store = store_on(disk, 100000);
    run_prompt(store, 1, 1);
    kv_disk_remove_dir(disk, false);
    assert_int_equal(run_prompt(store, 1, 1), 0); /* its blocks are gone; noticed while writing them again */
    assert_warns(store, "was removed or replaced");
    run_prompt(store, 1, 1);
    assert_int_equal(run_prompt(store, 1, 1), 16);
    kv_disk_remove_dir(disk, true);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(run_prompt(store, 1, 1), 0);
    }
    char line[1024];
    assert_true(kv_store_warning(store, line, sizeof line));
    assert_non_null(strstr(line, "was removed or replaced"));
    assert_warns(store, strerror(EACCES));
    assert_int_equal(kv_store_stats_get(store).bytes, 0);
    kv_store_close(&store);
    kv_disk_close(&disk);
}

static void a_queue_that_is_full_drops_blocks_and_says_so(void **state)
{
    (void)state;
    mlxr_error error;
    kv_store *store = NULL;
    kv_disk *disk = kv_disk_open();
    kv_store_io io = kv_disk_io(disk);
    kv_store_options options = {.dir = "/disk", .bytes_budget = 100000, .queue_bytes_max = 10, .io = &io};
    assert_ok(kv_store_open(&store, &options, &error), &error);
    run_prompt(store, 1, 1);
    assert_int_equal(kv_store_stats_get(store).n_dropped, BLOCKS);
    assert_warns(store, "4 blocks were not written");
    run_prompt(store, 1, 1);
    assert_warns(store, "8 blocks were not written");
    kv_store_close(&store);
    kv_disk_close(&disk);
}

/* ---- with an engine and a real directory ------------------------------------------------------------------------- */

enum { MODEL_TOKENS = 100, GENERATE = 2, LOG_LINES = 32 };

typedef struct answer {
    float logits[GENERATE][TINY_N_VOCAB];
} answer;

typedef struct journal { /* warnings of an engine */
    char lines[LOG_LINES][256];
    int n;
} journal;

static void note(void *user, mlxr_log_level level, const char *line)
{
    journal *j = user;
    if (level <= MLXR_LOG_WARN && j->n < LOG_LINES) {
        snprintf(j->lines[j->n++], sizeof j->lines[0], "%s", line);
    }
}

static bool noted(const journal *j, const char *part)
{
    for (int i = 0; i < j->n; i++) {
        if (strstr(j->lines[i], part)) {
            return true;
        }
    }
    return false;
}

static const char *model_path(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/qwen2.gguf", test_temp_dir());
    if (access(path, F_OK) != 0) {
        tiny_model_write_gguf(tiny_model_find("qwen2"), &(tiny_options){.type = DTYPE_Q8_0}, path);
    }
    return path;
}

typedef struct service {
    mlxr_engine *engine;
    mlxr_model *model;
    journal log;
} service;

static bool service_open(service *v, const char *dir)
{
    mlxr_error error;
    memset(v, 0, sizeof *v);
    mlxr_engine_options options = {
        .n_threads = 1, .kv_bytes = 1 << 20, .kv_dir = dir, .kv_disk_bytes = 1 << 20, .log = note, .log_user = &v->log};
    return mlxr_engine_open(&v->engine, &options, &error) == MLXR_OK &&
           mlxr_model_load(&v->model, v->engine, model_path(), NULL, &error) == MLXR_OK;
}

static void service_close(service *v)
{
    mlxr_model_unref(&v->model);
    mlxr_engine_close(&v->engine);
}

/* Asks prompt `which`; a process of its own must not use cmocka. */
static bool ask(service *v, int which, answer *out)
{
    mlxr_error error;
    mlxr_sequence *s = NULL;
    mlxr_sampling greedy = mlxr_sampling_default();
    int32_t ids[MODEL_TOKENS];
    greedy.temperature = 0;
    tiny_model_tokens(tiny_model_find("qwen2"), ids, MODEL_TOKENS);
    for (int i = 0; i < MODEL_TOKENS; i++) {
        ids[i] = (ids[i] + which) % 250 + 1;
    }
    bool ok = mlxr_sequence_open(&s, v->model, &greedy, &error) == MLXR_OK &&
              mlxr_sequence_append(s, ids, MODEL_TOKENS, &error) == MLXR_OK;
    for (int i = 0; i < GENERATE && ok; i++) {
        mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)mlxr_sequence_pending(s)};
        ok = mlxr_step(v->engine, &slice, 1, &error) == MLXR_OK;
        if (ok) {
            memcpy(out->logits[i], slice.logits, sizeof out->logits[i]);
        }
    }
    mlxr_sequence_close(&s);
    mlxr_kv_flush(v->engine);
    return ok;
}

enum { PROMPTS = 4 };

static answer cold[PROMPTS];

static void compute_cold(void)
{
    service v;
    for (int which = 0; which < PROMPTS; which++) {
        assert_true(service_open(&v, NULL));
        assert_true(ask(&v, which, &cold[which]));
        service_close(&v);
    }
}

static bool serve_all(service *v)
{
    bool same = true;
    for (int which = 0; which < PROMPTS; which++) {
        static answer got;
        same = ask(v, which, &got) && memcmp(&got, &cold[which], sizeof got) == 0 && same;
    }
    return same;
}

typedef struct dir_stats {
    unsigned n_files, n_temporary;
    uint64_t bytes;
} dir_stats;

static dir_stats look_at(const char *dir, bool remove_all)
{
    dir_stats stats = {0};
    DIR *listing = opendir(dir);
    for (struct dirent *d; listing && (d = readdir(listing)) != NULL;) {
        char path[1024];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", dir, d->d_name);
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
            stats.n_files += strcmp(d->d_name, "lock") != 0;
            stats.n_temporary += strstr(d->d_name, ".tmp") != NULL;
            stats.bytes += (uint64_t)info.st_size;
            if (remove_all) {
                unlink(path);
            }
        }
    }
    if (listing) {
        closedir(listing);
    }
    return stats;
}

static char *named_dir(const char *name)
{
    static char dir[512];
    snprintf(dir, sizeof dir, "%s/%s", test_temp_dir(), name);
    return dir;
}

static void an_engine_goes_on_when_its_directory_is_removed(void **state)
{
    (void)state;
    const char *dir = named_dir("removed");
    service v;
    assert_true(service_open(&v, dir));
    assert_true(serve_all(&v));
    assert_true(look_at(dir, true).n_files > 0);
    assert_int_equal(rmdir(dir), 0);
    mlxr_model_unref(&v.model); /* what memory held goes to disk */
    mlxr_error error;
    assert_ok(mlxr_model_load(&v.model, v.engine, model_path(), NULL, &error), &error);
    assert_true(serve_all(&v));
    assert_true(noted(&v.log, "was removed or replaced"));
    assert_int_equal(v.log.n, 1);
    assert_true(look_at(dir, false).n_files > 0); /* made again */
    service_close(&v);
    assert_true(service_open(&v, dir));
    assert_true(serve_all(&v));
    assert_true(mlxr_kv_stats_get(v.engine).disk_hits > 0);
    service_close(&v);
}

/* Runs `work` in a process of its own, as an ordinary user; returns its exit code. */
static int in_a_process(int (*work)(const char *dir), const char *dir)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) {
            _exit(100);
        }
        _exit(work(dir));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int use_read_only(const char *dir)
{
    service v;
    if (!service_open(&v, dir)) {
        return 1;
    }
    if (!noted(&v.log, "cannot be written to (Permission denied)")) {
        return 2;
    }
    if (!serve_all(&v)) {
        return 3;
    }
    mlxr_kv_stats stats = mlxr_kv_stats_get(v.engine);
    int code = stats.disk_hits == 0 ? 4 : stats.disk_write_errors ? 5 : v.log.n != 1 ? 6 : 0;
    service_close(&v);
    return code;
}

static void a_read_only_directory_is_read(void **state)
{
    (void)state;
    const char *dir = named_dir("read-only");
    service v;
    assert_true(service_open(&v, dir));
    assert_true(serve_all(&v));
    service_close(&v);
    dir_stats before = look_at(dir, false);
    DIR *listing = opendir(dir); /* for whichever user the process below is */
    for (struct dirent *d; (d = readdir(listing)) != NULL;) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", dir, d->d_name);
        if (d->d_name[0] != '.') {
            assert_int_equal(chmod(path, 0444), 0);
        }
    }
    closedir(listing);
    assert_int_equal(chmod(test_temp_dir(), 0755), 0);
    assert_int_equal(chmod(dir, 0555), 0);
    assert_int_equal(in_a_process(use_read_only, dir), 0);
    assert_int_equal(chmod(dir, 0755), 0);
    dir_stats after = look_at(dir, false);
    assert_int_equal(after.n_files, before.n_files);
    assert_int_equal(after.bytes, before.bytes);
}

/* The kernel cuts writes at the limit and refuses the rest. */
static int use_with_small_files(const char *dir)
{
    service v;
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &(struct rlimit){2000, 2000}) != 0) {
        return 1;
    }
    if (!service_open(&v, dir)) {
        return 2;
    }
    if (!serve_all(&v)) {
        return 3;
    }
    mlxr_kv_stats stats = mlxr_kv_stats_get(v.engine);
    int code = !noted(&v.log, "File too large") ? 4 : v.log.n != 1 ? 5 : stats.disk_write_errors == 0 ? 6 : 0;
    service_close(&v);
    return code;
}

static void a_write_cut_short_leaves_nothing(void **state)
{
    (void)state;
    const char *dir = named_dir("short");
    assert_int_equal(mkdir(dir, 0777), 0);
    assert_int_equal(chmod(dir, 0777), 0);
    assert_int_equal(chmod(test_temp_dir(), 0755), 0);
    assert_int_equal(in_a_process(use_with_small_files, dir), 0);
    assert_int_equal(look_at(dir, false).n_files, 0);
}

static void a_directory_that_cannot_be_made_is_an_error_with_its_reason(void **state)
{
    (void)state;
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_engine_options options = {.n_threads = 1, .kv_bytes = 1 << 20, .kv_dir = "/proc/nowhere/kv"};
    assert_int_equal(mlxr_engine_open(&engine, &options, &error), MLXR_IO);
    assert_non_null(strstr(error.text, "/proc/nowhere/kv"));
    assert_non_null(strstr(error.text, strerror(ENOENT)));
    options.kv_dir = test_write_file("a-file", "x", 1);
    assert_int_equal(mlxr_engine_open(&engine, &options, &error), MLXR_IO);
    assert_non_null(strstr(error.text, strerror(ENOTDIR)));
    assert_null(engine);
}

static int use_for_a_while(const char *dir)
{
    for (int round = 0; round < 6; round++) { /* each opens it anew: now it writes, now it reads */
        service v;
        if (!service_open(&v, dir) || !serve_all(&v) || mlxr_kv_stats_get(v.engine).disk_rejected) {
            return 1;
        }
        service_close(&v);
    }
    return 0;
}

static void two_processes_share_a_directory(void **state)
{
    (void)state;
    const char *dir = named_dir("shared");
    pid_t children[3];
    fflush(NULL);
    for (int i = 0; i < 3; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            _exit(use_for_a_while(dir));
        }
    }
    for (int i = 0; i < 3; i++) {
        int status = 0;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    dir_stats stats = look_at(dir, false);
    assert_true(stats.n_files > 0);
    assert_int_equal(stats.n_temporary, 0);
    assert_true(stats.bytes <= 1 << 20);
}

/* A process that holds the directory is killed: its lock goes with it. */
static void a_killed_process_leaves_no_lock(void **state)
{
    (void)state;
    const char *dir = named_dir("lock");
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        service v;
        bool ok = service_open(&v, dir) && serve_all(&v);
        if (write(pipes[1], &ok, sizeof ok) != sizeof ok) {
            _exit(1);
        }
        pause();
    }
    bool ok = false;
    assert_int_equal(read(pipes[0], &ok, sizeof ok), sizeof ok);
    assert_true(ok);
    service v;
    assert_true(service_open(&v, dir));
    assert_true(noted(&v.log, "another process writes to it"));
    assert_true(serve_all(&v));
    assert_true(mlxr_kv_stats_get(v.engine).disk_hits > 0);
    service_close(&v);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_true(service_open(&v, dir));
    assert_int_equal(v.log.n, 0);
    assert_true(kv_store_stats_get(v.engine->store).writes);
    service_close(&v);
    close(pipes[0]);
    close(pipes[1]);
}

/* A device takes no syncs, which is how it is seen that one was asked for. */
static void what_the_store_syncs_is_synced(void **state)
{
    (void)state;
    assert_int_equal(store_io_system.sync_file(NULL, test_write_file("synced", "x", 1)), 0);
    assert_int_equal(store_io_system.sync_dir(NULL, test_temp_dir()), 0);
    assert_int_not_equal(store_io_system.sync_file(NULL, "/dev/null"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_store_syncs_is_synced),
        cmocka_unit_test(the_budget_holds_over_many_models),
        cmocka_unit_test(what_was_found_again_outlives_what_was_not),
        cmocka_unit_test(a_smaller_budget_is_met_when_the_directory_is_opened),
        cmocka_unit_test(a_second_store_reads_and_takes_over_when_the_first_is_gone),
        cmocka_unit_test(a_reader_leaves_damaged_files_to_the_writer),
        cmocka_unit_test(a_full_disk_is_told_once_and_the_store_goes_on),
        cmocka_unit_test(a_directory_removed_underneath_is_made_again),
        cmocka_unit_test(a_queue_that_is_full_drops_blocks_and_says_so),
        cmocka_unit_test(an_engine_goes_on_when_its_directory_is_removed),
        cmocka_unit_test(a_read_only_directory_is_read),
        cmocka_unit_test(a_write_cut_short_leaves_nothing),
        cmocka_unit_test(a_directory_that_cannot_be_made_is_an_error_with_its_reason),
        cmocka_unit_test(two_processes_share_a_directory),
        cmocka_unit_test(a_killed_process_leaves_no_lock),
    };
    compute_cold();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
