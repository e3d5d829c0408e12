/*
 * `mlxr batch`: every line of a file is a request; results are appended to another as they come.
 * Owner: main. Lifetime: the call.
 *
 *   next line ─┬─ has a result ───────────▶ skipped
 *              ├─ is wrong ───────────────▶ its error is the result
 *              └─ goes to the scheduler, many at a time ─▶ result ─▶ a line of the output
 *   SIGINT, SIGTERM: what has ended is written, what has not is left to the next run. A second one ends at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "batch_output.h"
#include "batch_reader.h"
#include "batch_result.h"
#include "context.h"
#include "inputs.h"
#include "models.h"
#include "output.h"
#include "verbs.h"

/* The signal that asked for an end; 0: none. */
static volatile sig_atomic_t stop_signal;

static void note_signal(int signal_number)
{
    stop_signal = signal_number;
}

typedef struct batch {
    options *o;
    session s;
    batch_run run;
    batch_reader in;
    batch_output out;
    const char *file;              /* of the requests */
    uint64_t context_hash;         /* of the model and of what the command line decides about results */
    uint64_t context_hash_named;   /* as it was where --kv-type f16 was said, once */
    bool at_end, stopping, broken; /* nothing more to read; cancelled; it cannot go on */
    bool unwritable;               /* results cannot be written: then it is broken, too */
    uint64_t n_lines, n_total;     /* requests read; lines of the file if it can be counted, else 0 */
    uint64_t n_done, n_failed, n_skipped, n_conflicts;
    uint64_t prompt_tokens, cached_tokens, answer_tokens;
    double started;
    progress bar;
} batch;

/* ---- what results depend on -------------------------------------------------------------------------------------- */

static void feed(XXH3_state_t *state, const char *text)
{
    XXH3_64bits_update(state, text, strlen(text) + 1);
}

static void feed_list(XXH3_state_t *state, const text_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        feed(state, list->items[i]);
    }
}

/* Options that change what is computed or taken for the default; where a file is named, its text is fed. */
static bool decides(const option_spec *spec)
{
    static const char *const names[] = {"tokens", "raw", "system", "ctx", "kv-type", "activations", NULL};
    bool named = (spec->groups & GROUP_SAMPLING) || context_is_rope(spec);
    for (const char *const *name = names; *name && !named; name++) {
        named = strcmp(spec->name, *name) == 0;
    }
    return named;
}

/* A result is found again only for the same model and the same defaults. Of the KV cache the type that the model has is
 * one of them, however it came to it; `f16` is how that one is fed. */
static bool hash_context(const batch *b, const char *f16, uint64_t *hash)
{
    const mlxr_model_info *info = mlxr_model_info_get(b->s.model);
    const options *o = b->o;
    XXH3_state_t *state = XXH3_createState();
    char value[512];
    if (!state) {
        print_error("out of memory");
        return false;
    }
    XXH3_64bits_reset(state);
    snprintf(value, sizeof value, "%s %s %s %" PRIu64 " %" PRIu64, info->family, info->name, info->weight_types,
             info->n_params, info->file_bytes);
    feed(state, value);
    for (size_t i = 0; i < n_option_table; i++) {
        if (decides(&option_table[i])) {
            const char *fed = value;
            options_format(o, &option_table[i], value, sizeof value);
            if (strcmp(option_table[i].name, "kv-type") == 0) {
                fed = strcmp(info->kv_type, "f16") == 0 ? f16 : info->kv_type;
            }
            feed(state, fed);
        }
    }
    feed(state, o->system ? o->system : "");
    if (b->s.entry.template_text) { /* without one it reads as before there were any */
        feed(state, b->s.entry.template_text);
    }
    for (size_t i = 0; i < b->s.entry.messages.n; i++) {
        feed(state, b->s.entry.messages.items[i].name);
        feed(state, b->s.entry.messages.items[i].value);
    }
    feed(state, o->schema ? "schema" : "grammar");
    feed(state, b->run.grammar ? b->run.grammar : "");
    feed_list(state, &o->stops);
    feed_list(state, &o->breakers);
    if (o->sampling.n_logit_bias) {
        XXH3_64bits_update(state, o->bias, o->sampling.n_logit_bias * sizeof *o->bias);
    }
    *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return true;
}

/* F16 was what nothing said stood for, and is fed as that; files of before have its name where it was said. */
static bool hash_contexts(batch *b)
{
    return hash_context(b, "", &b->context_hash) && hash_context(b, "f16", &b->context_hash_named);
}

static uint64_t hash_of(const batch *b, const batch_request *r)
{
    return r->hash ^ b->context_hash;
}

static batch_state find_result(const batch *b, const batch_request *r)
{
    batch_state state = batch_output_find(&b->out, r->key, hash_of(b, r));
    return state == BATCH_TAKEN ? batch_output_find(&b->out, r->key, r->hash ^ b->context_hash_named) : state;
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static void write_result(batch *b, json_t *result, const batch_request *r)
{
    if (!batch_output_add(&b->out, result, r->key, hash_of(b, r))) {
        b->broken = b->unwritable = true;
    }
}

static void refuse(batch *b, batch_request *r)
{
    b->n_failed++;
    write_result(b, batch_result_bad_json(r, hash_of(b, r)), r);
}

static void take_request(batch *b, batch_request *r)
{
    switch (find_result(b, r)) {
    case BATCH_DONE:
        b->n_skipped++;
        break;
    case BATCH_TAKEN:
        b->n_conflicts++;
        progress_end(&b->bar);
        print_error("line %" PRIu64
                    ": %.100s has a result already, of another request, model or options; it is left out "
                    "(another id, or another -o)",
                    r->line, r->key);
        break;
    case BATCH_NEW:
        if (r->f.bad || !batch_run_submit(&b->run, r)) {
            refuse(b, r);
        }
        break;
    }
    batch_request_close(r);
}

/* Is there another line, or the end, without holding up results that have come meanwhile? */
static bool may_read(batch *b)
{
    bool wanted = !b->at_end && !b->broken && !stop_signal && b->run.n_flying < b->run.n_flying_max;
    return wanted && batch_reader_wait(&b->in, b->run.n_flying == 0 ? 100 : 0);
}

/* Another request with this id is in flight. */
static bool is_flying(const batch *b, const batch_request *r)
{
    for (const batch_job *job = b->run.flying; job; job = job->next) {
        if (strcmp(job->request.key, r->key) == 0) {
            return true;
        }
    }
    return false;
}

static void take_done(batch *b, double seconds);

static void read_line(batch *b)
{
    batch_request r = {0};
    bool failed = false;
    if (!batch_reader_next(&b->in, &failed)) {
        b->at_end = true;
        if (failed) {
            progress_end(&b->bar);
            print_error("%s: %s", b->file, strerror(errno));
            b->broken = true;
        }
        return;
    }
    if (batch_reader_blank(&b->in)) {
        return;
    }
    b->n_lines++;
    bool ok = b->in.too_long ? batch_request_too_long(&r, b->in.number)
                             : batch_request_read(&r, b->o, b->in.number, b->in.line, b->in.n_line);
    if (!ok) {
        batch_request_close(&r);
        print_error("line %" PRIu64 ": out of memory", b->in.number);
        b->broken = true;
        return;
    }
    while (is_flying(b, &r) &&
           !stop_signal) { /* an id given twice: the second is looked at when the first has its result */
        take_done(b, 0.1);
    }
    if (stop_signal) { /* or it could end beside the other one */
        batch_request_close(&r);
        return;
    }
    take_request(b, &r);
}

static void take_done(batch *b, double seconds)
{
    batch_job *job = batch_run_wait(&b->run, seconds);
    if (!job) {
        return;
    }
    const batch_request *r = &job->request;
    if (!batch_job_unfinished(job) && !b->unwritable) {
        bool failed = batch_result_failed(job);
        write_result(b, batch_result_json(job, b->s.model, b->o->model, hash_of(b, r)), r);
        b->n_failed += failed && !b->unwritable;
        b->n_done += !failed && !b->unwritable;
        b->prompt_tokens += job->n_prompt;
        b->cached_tokens += job->n_cached;
        b->answer_tokens += batch_result_tokens(job);
    }
    batch_job_close(&job);
}

static void show_progress(batch *b)
{
    char note[128];
    uint64_t n = b->n_done + b->n_failed + b->n_skipped + b->n_conflicts;
    double seconds = now_seconds() - b->started;
    snprintf(note, sizeof note, "%" PRIu64 " of %" PRIu64 "%s, %" PRIu64 " failed, %.0f tokens/s", n,
             b->n_total ? b->n_total : b->n_lines, b->n_total ? "" : " so far", b->n_failed,
             (double)b->answer_tokens / seconds);
    progress_show(&b->bar, (double)n, (double)(b->n_total ? b->n_total : b->n_lines), note);
}

static void run_all(batch *b)
{
    b->started = now_seconds();
    b->bar = progress_begin("batch");
    for (;;) {
        while (may_read(b)) {
            read_line(b);
        }
        if ((stop_signal || b->broken) && !b->stopping) {
            b->stopping = true;
            batch_run_cancel(&b->run);
        }
        if (b->run.n_flying > 0) {
            take_done(b, 0.1);
        } else if (b->at_end || b->stopping) {
            break;
        }
        show_progress(b);
    }
    progress_end(&b->bar);
    batch_output_sync(&b->out, true);
}

/* ---- beginning and end ------------------------------------------------------------------------------------------- */

/* Lines that are not blank, so that there is something to measure progress by; 0 if this is no file. */
static uint64_t count_lines(int fd)
{
    uint64_t n = 0;
    bool failed = false;
    struct stat info;
    off_t begin = lseek(fd, 0, SEEK_CUR);
    int copy = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && begin >= 0 ? dup(fd) : -1;
    batch_reader all;
    if (copy < 0) {
        return 0;
    }
    for (batch_reader_open(&all, copy); batch_reader_next(&all, &failed);) {
        n += !batch_reader_blank(&all);
    }
    batch_reader_close(&all);
    return lseek(fd, begin, SEEK_SET) == begin ? n : 0;
}

/* Results are appended behind the last whole one, and what stands there is cut off: not in what is read. */
static int check_output(const batch *b, const char *model)
{
    const options *o = b->o;
    registry_model entry;
    inputs in = {0};
    if (!o->output) {
        return EXIT_OK;
    }
    if (!models_resolve(model, &entry)) {
        return EXIT_FAILED;
    }
    inputs_add(&in, o->grammar);
    inputs_add(&in, o->schema);
    int code = inputs_add_loaded(&in, &entry, o) ? EXIT_OK : EXIT_FAILED;
    code = code == EXIT_OK && inputs_lose(&in, o->output) ? EXIT_USAGE : code;
    inputs_close(&in);
    registry_model_close(&entry);
    return code;
}

/* Opens both files. */
static int open_files(batch *b, const char *model)
{
    const char *path = b->file;
    struct stat in, out;
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        print_error("%s: %s", path, strerror(errno));
        return EXIT_FAILED;
    }
    batch_reader_open(&b->in, fd);
    if (fstat(fd, &in) == 0 && S_ISDIR(in.st_mode)) {
        print_error("%s: %s", path, strerror(EISDIR));
        return EXIT_FAILED;
    }
    if (b->o->output && stat(b->o->output, &out) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
        print_error("-o %s: this is the file the requests come from", b->o->output);
        return EXIT_USAGE;
    }
    b->n_total = count_lines(fd);
    int code = check_output(b, model);
    return code == EXIT_OK ? batch_output_open(&b->out, b->o->output, b->o->retry_errors) : code;
}

static json_t *summary_json(const batch *b, const scheduler_stats *stats, double seconds)
{
    json_t *root = json_object();
    json_object_set_new(root, "lines", json_integer((json_int_t)b->n_lines));
    json_object_set_new(root, "done", json_integer((json_int_t)b->n_done));
    json_object_set_new(root, "failed", json_integer((json_int_t)b->n_failed));
    json_object_set_new(root, "skipped", json_integer((json_int_t)b->n_skipped));
    json_object_set_new(root, "conflicts", json_integer((json_int_t)b->n_conflicts));
    json_object_set_new(root, "interrupted", json_boolean(stop_signal != 0));
    json_object_set_new(root, "prompt_tokens", json_integer((json_int_t)b->prompt_tokens));
    json_object_set_new(root, "cached_tokens", json_integer((json_int_t)b->cached_tokens));
    json_object_set_new(root, "completion_tokens", json_integer((json_int_t)b->answer_tokens));
    json_object_set_new(root, "seconds", json_number(seconds));
    json_object_set_new(root, "tokens_per_s", json_number((double)b->answer_tokens / seconds));
    json_object_set_new(root, "steps", json_integer((json_int_t)stats->n_steps));
    json_object_set_new(root, "preempted", json_integer((json_int_t)stats->n_preempted));
    json_object_set_new(root, "batch_invariant", json_boolean(mlxr_engine_info_get(b->s.engine)->batch_invariant));
    json_object_set_new(root, "activations", json_integer(mlxr_engine_info_get(b->s.engine)->activation_bits));
    json_t *draft = session_draft_json(b->o, stats->drafts);
    if (draft) {
        json_object_set_new(root, "draft", draft);
    }
    return root;
}

static void do_nothing(mlxr_engine *engine, void *user)
{
    (void)engine;
    (void)user;
}

static int report(const batch *b)
{
    worker_call(b->run.worker, do_nothing, NULL); /* the step that gave the last result has been counted */
    scheduler_stats stats = scheduler_stats_get(worker_scheduler(b->run.worker));
    double seconds = now_seconds() - b->started;
    int code = b->broken || b->n_failed || b->n_conflicts ? EXIT_FAILED : EXIT_OK;
    if (b->o->json) {
        int printed = print_json(summary_json(b, &stats, seconds));
        code = code == EXIT_OK ? printed : code;
    } else {
        print_note("%" PRIu64 " done, %" PRIu64 " failed, %" PRIu64 " done before, %" PRIu64 " left out; %" PRIu64
                   " prompt tokens (%" PRIu64 " from the cache), %" PRIu64 " generated, %.1f tokens/s",
                   b->n_done, b->n_failed, b->n_skipped, b->n_conflicts, b->prompt_tokens, b->cached_tokens,
                   b->answer_tokens, (double)b->answer_tokens / seconds);
    }
    if (b->o->verbose) {
        print_note("%" PRIu64 " steps of %.1f rows, %" PRIu64 " pre-emptions", stats.n_steps,
                   stats.n_steps ? (double)stats.n_rows / (double)stats.n_steps : 0.0, stats.n_preempted);
        session_draft_note(b->o, stats.drafts);
    }
    if (stop_signal) {
        print_note("stopped; %s", b->o->output ? "the same command goes on from here" : "with -o it could be resumed");
        return 128 + stop_signal;
    }
    return code;
}

static bool check_options(const options *o)
{
    if (o->json && !o->output) {
        print_error("--json tells a summary on stdout; the results need a file: -o FILE");
    } else if (o->retry_errors && !o->output) {
        print_error("--retry-errors needs the file of results: -o FILE");
    } else if (o->n_predict == 0) {
        print_error("-n 0: there is nothing to generate");
    } else {
        return true;
    }
    return false;
}

static void watch_signals(bool on)
{
    static const int signals[] = {SIGINT, SIGTERM};
    struct sigaction action = {.sa_handler = on ? note_signal : SIG_DFL, .sa_flags = SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        sigaction(signals[i], &action, NULL);
    }
}

/* The model and the file of a command line: with one argument the model is --model, or the only one there is. */
static bool find_arguments(batch *b, model_list *models, const char **model)
{
    options *o = b->o;
    b->file = o->args[o->n_args - 1];
    *model = o->n_args == 2 ? o->args[0] : o->model;
    if (o->n_args == 2 && o->model) {
        print_error("the model is named twice: %s and --model %s", o->args[0], o->model);
        return false;
    }
    if (!*model) {
        if (!models_list(models) || models->n != 1) {
            print_error("which model? mlxr batch MODEL FILE (the model directory has %zu)", models->n);
            return false;
        }
        *model = models->items[0].name;
    }
    const char *slash = strrchr(*model, '/');
    o->model = slash ? slash + 1 : *model; /* from here on: what it is called */
    return true;
}

static int run_batch(batch *b, const char *model)
{
    options *o = b->o;
    int code = open_files(b, model);
    code = code == EXIT_OK ? session_open(&b->s, o, model, false) : code;
    code = code == EXIT_OK ? session_apply_entry(&b->s, o) : code;
    if (code != EXIT_OK) {
        return code;
    }
    mlxr_error error;
    if (mlxr_sampling_check(b->s.model, &o->sampling, &error) != MLXR_OK) { /* before lines are answered one by one */
        return print_failure(&error);
    }
    if (!o->raw && !mlxr_model_info_get(b->s.model)->has_chat_template && !b->s.entry.template_text) {
        print_note("mlxr: this model has no chat template; prompts are taken as they are (--raw says so)");
        o->raw = true;
    }
    code = batch_run_open(&b->run, &b->s, o);
    if (code != EXIT_OK) {
        return code;
    }
    if (hash_contexts(b)) {
        watch_signals(true);
        run_all(b);
        watch_signals(false);
        code = report(b);
    } else {
        code = EXIT_FAILED;
    }
    batch_run_close(&b->run);
    return code;
}

int verb_batch(options *o)
{
    batch b = {.o = o, .in = {.fd = -1}, .out = {.fd = -1}};
    model_list models = {0};
    const char *model = NULL;
    int code = EXIT_USAGE;
    if (check_options(o) && find_arguments(&b, &models, &model)) {
        code = run_batch(&b, model);
    }
    session_close(&b.s);
    batch_reader_close(&b.in);
    batch_output_close(&b.out);
    models_list_close(&models);
    return code;
}
