/*
 * Crash safety of the KV store: every change of the disk fails, is the last one before a power cut, or is the one at
 * which the process is killed. Afterwards the directory opens without repair, holds no temporary file and no more than
 * its budget, and a model that uses it gives bit for bit the logits of a cold run.
 * Owner: the test program. Lifetime: the process. With MLXR_SOAK set each power cut comes back in many more ways.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/engine.h"
#include "runtime/kv/store_io.h"
#include "support/kv_disk.h"
#include "support/kv_world.h"
#include "support/test.h"
#include "support/tiny_model.h"

/* ---- each change fails ------------------------------------------------------------------------------------------- */

enum { PROMPTS = 4, PROMPT_TOKENS = 17, FILE_BUDGET = 9000 };

/* Prompt `which`: four blocks; the first two are the same for all. */
static void prompt_of(int32_t *tokens, int which)
{
    for (int i = 0; i < PROMPT_TOKENS; i++) {
        tokens[i] = i < 8 ? i : 100 * which + i;
    }
}

/* Opens a world on the disk, runs all prompts (each row that is seen is checked) and saves everything. Returns the
 * tokens found. */
static size_t work(kv_disk *disk, kv_store_stats *stats)
{
    mlxr_error error;
    kv_store *store = NULL;
    kv_store_io io = kv_disk_io(disk);
    kv_store_options options = {.dir = "/disk", .bytes_budget = FILE_BUDGET, .io = &io};
    const plan *plans[] = {&world_mixed};
    static world w;
    static world_sequence s;
    size_t n_found = 0;
    assert_ok(kv_store_open(&store, &options, &error), &error);
    world_open(&w, plans, 1, 7, 1 << 20, store);
    for (int which = 0; which < PROMPTS; which++) {
        int32_t tokens[PROMPT_TOKENS];
        prompt_of(tokens, which);
        sequence_init(&w, &s, 0);
        sequence_append(&w, &s, tokens, PROMPT_TOKENS);
        n_found += s.n_computed;
        assert_true(sequence_compute(&w, &s, s.n_tokens - s.n_computed, NULL, 0, 0));
        sequence_check_rows(&s);
        sequence_close(&s);
        world_save_all(&w);
        kv_store_flush(store);
    }
    *stats = kv_store_stats_get(store);
    kv_store_close(&store);
    world_close(&w);
    return n_found;
}

static void a_change_that_fails_costs_no_more_than_its_block(void **state)
{
    (void)state;
    static const int codes[] = {ENOSPC, EIO, EDQUOT, EROFS, EACCES, ENOENT};
    unsigned n_faults = 0;
    for (size_t c = 0; c < sizeof codes / sizeof *codes; c++) {
        for (uint64_t n = 1;; n++) {
            kv_disk *disk = kv_disk_open();
            kv_store_stats stats;
            kv_disk_fail_at(disk, n, codes[c]);
            work(disk, &stats);
            kv_disk_stats after = kv_disk_stats_get(disk);
            bool done = after.n_changes < n;
            assert_true(after.bytes_max <= FILE_BUDGET + FILE_BUDGET / 8); /* a block that could not be removed */
            if (!done) {
                n_faults++;
                assert_true(stats.n_write_errors <= 1);
                assert_true(stats.n_write_errors == 0 || stats.last_errno == codes[c]);
                assert_true(stats.n_files >= after.n_files - after.n_temporary - 1);
            }
            kv_disk_fail_at(disk, UINT64_MAX / 2, 0);
            size_t n_found = work(disk, &stats); /* the next process: as if nothing had happened */
            assert_true(n_found >= PROMPTS * 8 - 8);
            assert_int_equal(stats.n_write_errors, 0);
            assert_int_equal(kv_disk_stats_get(disk).n_temporary, 0);
            assert_true(kv_disk_stats_get(disk).bytes <= FILE_BUDGET);
            kv_disk_close(&disk);
            if (done) {
                break;
            }
        }
    }
    print_message("%u changes of the disk failed\n", n_faults);
    assert_true(n_faults >= 200);
}

/* What kv_store_flush has waited for is there after a power cut, whatever becomes of the rest. */
static void a_flushed_block_survives_any_power_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        kv_disk *disk = kv_disk_open();
        kv_store_stats stats, again;
        work(disk, &stats); /* flushes behind each prompt */
        kv_disk_stats before = kv_disk_stats_get(disk);
        kv_disk_cut_power(disk, 1);
        kv_disk_restart(disk, seed);
        assert_int_equal(kv_disk_stats_get(disk).n_temporary, 0);
        assert_true(kv_disk_stats_get(disk).n_files >= before.n_files); /* a removed file may come back */
        work(disk, &again);
        assert_int_equal(again.n_rejected, 0);
        kv_disk_close(&disk);
    }
}

/* ---- a model on a disk that fails -------------------------------------------------------------------------------- */

enum { MODEL_PROMPTS = 3, MODEL_TOKENS = 100, GENERATE = 3 };

typedef struct answer {
    float logits[GENERATE][TINY_N_VOCAB];
} answer;

static const char *model_path(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/gemma3.gguf", test_temp_dir());
    if (access(path, F_OK) != 0) {
        tiny_model_write_gguf(tiny_model_find("gemma3"), &(tiny_options){.type = DTYPE_Q8_0}, path);
    }
    return path;
}

/* Three prompts of three blocks; the first two share a block. */
static void model_prompt(int32_t *ids, int which)
{
    tiny_model_tokens(tiny_model_find("gemma3"), ids, MODEL_TOKENS);
    for (int i = which == 2 ? 0 : 40; which && i < MODEL_TOKENS; i++) {
        ids[i] = (ids[i] + 7 * which) % 250 + 1;
    }
}

static void ask(mlxr_model *model, int which, answer *out)
{
    mlxr_error error;
    mlxr_sequence *s = NULL;
    mlxr_sampling greedy = mlxr_sampling_default();
    int32_t ids[MODEL_TOKENS];
    greedy.temperature = 0;
    model_prompt(ids, which);
    assert_ok(mlxr_sequence_open(&s, model, &greedy, &error), &error);
    assert_ok(mlxr_sequence_append(s, ids, MODEL_TOKENS, &error), &error);
    for (int i = 0; i < GENERATE; i++) {
        mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)mlxr_sequence_pending(s)};
        assert_ok(mlxr_step(model->engine, &slice, 1, &error), &error);
        memcpy(out->logits[i], slice.logits, sizeof out->logits[i]);
    }
    mlxr_sequence_close(&s);
}

/* Memory for one prompt and a little more, so that blocks leave it; files for two. */
static void budgets(uint64_t *kv_bytes, uint64_t *disk_bytes)
{
    static uint64_t per_token;
    if (!per_token) {
        mlxr_error error;
        mlxr_engine *engine = NULL;
        mlxr_model *model = NULL;
        assert_ok(mlxr_engine_open(&engine, &(mlxr_engine_options){.n_threads = 1, .kv_bytes = 64 << 20}, &error),
                  &error);
        assert_ok(mlxr_model_load(&model, engine, model_path(), NULL, &error), &error);
        per_token = mlxr_model_info_get(model)->kv_bytes_per_token;
        mlxr_model_unref(&model);
        mlxr_engine_close(&engine);
    }
    *kv_bytes = per_token * 32 * 5;
    *disk_bytes = per_token * 32 * 6;
}

typedef struct service {
    mlxr_engine *engine;
    mlxr_model *model;
} service;

/* An engine whose store works through `io` in `dir`. */
static void service_open(service *v, const kv_store_io *io, const char *dir)
{
    mlxr_error error;
    uint64_t kv_bytes, disk_bytes;
    budgets(&kv_bytes, &disk_bytes);
    assert_ok(mlxr_engine_open(&v->engine, &(mlxr_engine_options){.n_threads = 1, .kv_bytes = kv_bytes}, &error),
              &error);
    if (io) {
        kv_store_options options = {.dir = dir, .bytes_budget = disk_bytes, .io = io};
        assert_ok(kv_store_open(&v->engine->store, &options, &error), &error);
    }
    assert_ok(mlxr_model_load(&v->model, v->engine, model_path(), NULL, &error), &error);
}

static void service_close(service *v)
{
    mlxr_model_unref(&v->model);
    mlxr_engine_close(&v->engine);
}

/* All prompts twice, each with what the store holds of the ones before. */
static void serve(service *v, answer answers[MODEL_PROMPTS])
{
    for (int round = 0; round < 2; round++) {
        for (int which = 0; which < MODEL_PROMPTS; which++) {
            ask(v->model, which, &answers[which]);
            mlxr_kv_flush(v->engine);
        }
    }
}

static const answer *cold(void)
{
    static answer answers[MODEL_PROMPTS];
    static bool done;
    if (!done) {
        for (int which = 0; which < MODEL_PROMPTS; which++) {
            service v;
            service_open(&v, NULL, NULL);
            ask(v.model, which, &answers[which]);
            service_close(&v);
        }
        done = true;
    }
    return answers;
}

static void assert_as_cold(const answer *answers, const char *what, uint64_t n)
{
    for (int which = 0; which < MODEL_PROMPTS; which++) {
        if (memcmp(&answers[which], &cold()[which], sizeof(answer)) != 0) {
            fail_msg("%s %llu: prompt %d has other logits than a cold run", what, (unsigned long long)n, which);
        }
    }
}

static uint64_t disk_budget(void)
{
    uint64_t kv_bytes, disk_bytes;
    budgets(&kv_bytes, &disk_bytes);
    return disk_bytes;
}

typedef struct images {
    unsigned n, n_found, n_refused;
} images;

/* One power cut at the n-th change, and the disk that comes back of it. Returns false where there were fewer changes.
 */
static bool cut_and_restart(uint64_t n, uint64_t seed, bool lying, images *seen)
{
    static answer answers[MODEL_PROMPTS];
    service v;
    kv_disk *disk = kv_disk_open();
    kv_store_io io = kv_disk_io(disk);
    if (lying) {
        kv_disk_lie(disk);
    }
    kv_disk_cut_power(disk, n);
    service_open(&v, &io, "/disk");
    serve(&v, answers); /* the answers are right without a disk, too */
    assert_as_cold(answers, "before the power cut at change", n);
    service_close(&v);
    bool cut = kv_disk_stats_get(disk).n_changes >= n;
    kv_disk_restart(disk, seed);
    service_open(&v, &io, "/disk");
    assert_int_equal(kv_disk_stats_get(disk).n_temporary, 0);
    assert_true(kv_disk_stats_get(disk).bytes <= disk_budget());
    kv_disk_watch(disk);
    serve(&v, answers);
    assert_as_cold(answers, "after the power cut at change", n);
    mlxr_kv_stats stats = mlxr_kv_stats_get(v.engine);
    seen->n++;
    seen->n_found += stats.disk_hits > 0;
    seen->n_refused += stats.disk_rejected > 0;
    assert_int_equal(stats.disk_write_errors, 0);
    service_close(&v);
    assert_int_equal(kv_disk_stats_get(disk).n_temporary, 0);
    assert_true(kv_disk_stats_get(disk).bytes_max <= disk_budget());
    kv_disk_close(&disk);
    return cut;
}

static void a_power_cut_at_any_change_leaves_a_usable_directory(void **state)
{
    (void)state;
    unsigned n_ways = getenv("MLXR_SOAK") ? 40 : 1;
    for (int lying = 0; lying < 2; lying++) {
        images seen = {0};
        bool cut = true;
        for (uint64_t n = 1; cut; n++) {
            for (unsigned way = 0; way < n_ways && cut; way++) {
                cut = cut_and_restart(n, n * 1000 + way, lying, &seen);
            }
        }
        print_message("%s: %u disk images, %u with blocks that were found, %u with blocks that were refused\n",
                      lying ? "a disk that lies about syncs" : "an honest disk", seen.n, seen.n_found, seen.n_refused);
        assert_true(seen.n >= 50 && seen.n_found > 0);
        assert_true(lying ? seen.n_refused > 0 : seen.n_refused == 0); /* what is under its name was synced before */
    }
}

/* ---- the process is killed --------------------------------------------------------------------------------------- */

typedef struct killer { /* kills its own process at the n-th change */
    uint64_t n, at;
} killer;

static void strike(killer *k)
{
    if (++k->n == k->at) {
        kill(getpid(), SIGKILL);
        pause();
    }
}

static int killing_write(void *context, const char *path, const void *head, size_t n_head, const void *body,
                         size_t n_body)
{
    killer *k = context;
    strike(k); /* before anything is written */
    if (k->n + 1 == k->at) {
        store_io_system.write_file(NULL, path, head, n_head, body, n_body / 2);
    }
    strike(k); /* in the middle */
    return store_io_system.write_file(NULL, path, head, n_head, body, n_body);
}

static int killing_sync(void *context, const char *path)
{
    strike(context);
    return store_io_system.sync_file(NULL, path);
}

static int killing_rename(void *context, const char *from, const char *to)
{
    strike(context);
    int failed = store_io_system.rename(NULL, from, to);
    strike(context);
    return failed;
}

static int killing_sync_dir(void *context, const char *dir)
{
    strike(context);
    return store_io_system.sync_dir(NULL, dir);
}

static int killing_unlink(void *context, const char *path)
{
    strike(context);
    return store_io_system.unlink(NULL, path);
}

/* Returns whether the child was killed at its n-th change; false: it did not make so many. */
static bool run_and_kill(const char *dir, uint64_t n)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        killer k = {.at = n};
        kv_store_io io = store_io_system;
        io.context = &k;
        io.write_file = killing_write;
        io.sync_file = killing_sync;
        io.rename = killing_rename;
        io.sync_dir = killing_sync_dir;
        io.unlink = killing_unlink;
        static answer answers[MODEL_PROMPTS];
        service v;
        service_open(&v, &io, dir);
        serve(&v, answers);
        service_close(&v);
        _exit(memcmp(answers, cold(), sizeof answers) == 0 ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

/* Counts and sizes of a real directory's files; removes them if asked. */
static void look_at_dir(const char *dir, unsigned *n_temporary, uint64_t *bytes, bool remove_them)
{
    DIR *listing = opendir(dir);
    *n_temporary = 0;
    *bytes = 0;
    for (struct dirent *d; listing && (d = readdir(listing)) != NULL;) {
        char path[1024];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", dir, d->d_name);
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
            *n_temporary += strstr(d->d_name, ".tmp") != NULL;
            *bytes += (uint64_t)info.st_size;
            if (remove_them) {
                unlink(path);
            }
        }
    }
    if (listing) {
        closedir(listing);
    }
}

static void a_process_killed_at_any_change_leaves_a_usable_directory(void **state)
{
    (void)state;
    char dir[512];
    unsigned n_kills = 0, n_temporary, n_left = 0;
    uint64_t bytes, n_hits = 0;
    snprintf(dir, sizeof dir, "%s/killed", test_temp_dir());
    cold(); /* and no engine is open when the process forks */
    for (uint64_t n = 1; run_and_kill(dir, n); n++, n_kills++) {
        static answer answers[MODEL_PROMPTS];
        service v;
        look_at_dir(dir, &n_temporary, &bytes, false);
        n_left += n_temporary;
        service_open(&v, &store_io_system, dir);
        look_at_dir(dir, &n_temporary, &bytes, false);
        assert_int_equal(n_temporary, 0);
        assert_true(bytes <= disk_budget());
        serve(&v, answers);
        assert_as_cold(answers, "after the kill at change", n);
        mlxr_kv_stats stats = mlxr_kv_stats_get(v.engine);
        assert_int_equal(stats.disk_rejected, 0); /* the kernel loses nothing of what a process wrote */
        assert_int_equal(stats.disk_write_errors, 0);
        n_hits += stats.disk_hits;
        service_close(&v);
        look_at_dir(dir, &n_temporary, &bytes, true);
        assert_int_equal(n_temporary, 0);
        assert_true(bytes <= disk_budget());
    }
    print_message("%u kills; %u left a temporary file; %llu blocks found afterwards\n", n_kills, n_left,
                  (unsigned long long)n_hits);
    assert_true(n_kills >= 50 && n_left > 0 && n_hits > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_that_fails_costs_no_more_than_its_block),
        cmocka_unit_test(a_flushed_block_survives_any_power_cut),
        cmocka_unit_test(a_power_cut_at_any_change_leaves_a_usable_directory),
        cmocka_unit_test(a_process_killed_at_any_change_leaves_a_usable_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
