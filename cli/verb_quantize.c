/*
 * `mlxr quantize`: a model in another type. `mlxr convert`: safetensors as GGUF.
 * Owner: main. Lifetime: the call.
 */
#include <stdlib.h>
#include <string.h>

#include "adapters.h"
#include "inputs.h"
#include "interrupt.h"
#include "mlxr_convert.h"
#include "models.h"
#include "output.h"
#include "session.h"
#include "verbs.h"

static bool show(void *user, uint64_t n_done, uint64_t n_total, const char *what)
{
    progress_show(user, (double)n_done, (double)n_total, what);
    return !interrupt_seen();
}

static int print_report(const options *o, const mlxr_quantize_report *r, double seconds)
{
    if (o->json) {
        return print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:i, s:o, s:i, s:i, s:i, s:i, s:o}", "type",
                                    o->type ? o->type : "kept", "tensors", (json_int_t)r->n_tensors, "weights",
                                    (json_int_t)r->n_weights, "bytes_in", (json_int_t)r->n_bytes_in, "bytes_out",
                                    (json_int_t)r->n_bytes_out, "files", (int)r->n_files, "bits_per_weight",
                                    json_number(r->bits_per_weight), "encoded", (int)r->n_encoded, "gave_way",
                                    (int)r->n_gave_way, "requantised", (int)r->n_requantised, "weighted",
                                    (int)r->n_weighted, "seconds", json_number(seconds)));
    }
    printf("%s → %s, %.2f bits a weight; %s weights in %.1f s\n", human_bytes(r->n_bytes_in),
           human_bytes(r->n_bytes_out), r->bits_per_weight, human_count(r->n_weights), seconds);
    if (r->n_files > 1) {
        print_note("%u files; the first, which ends in -00001-of-%05u.gguf, stands for all", r->n_files, r->n_files);
    }
    if (!o->type && r->n_encoded) {
        print_note("%u tensor%s a type that GGUF has not: F16 was written", r->n_encoded,
                   r->n_encoded == 1 ? " has" : "s have");
    }
    if (r->n_gave_way) {
        print_note("%u tensor%s rows that do not divide into the blocks of their type; another of its size was written",
                   r->n_gave_way, r->n_gave_way == 1 ? " has" : "s have");
    }
    if (o->type && r->n_requantised) {
        print_note("%u tensor%s quantised before: what was lost then stays lost", r->n_requantised,
                   r->n_requantised == 1 ? " was" : "s were");
    }
    if (o->imatrix && r->n_weighted < r->n_encoded) {
        print_note("%u of %u tensors are not in the importance matrix: in these all weights count alike",
                   r->n_encoded - r->n_weighted, r->n_encoded);
    }
    return finish_output(EXIT_OK);
}

/* Which of the model's own adapters --merge names, by path or by what they hold. */
static bool is_merged(const registry_pair *own, const adapter_list *with)
{
    char digest[REGISTRY_DIGEST_MAX];
    bool merged = false;
    for (size_t i = 0; i < with->n && !merged; i++) {
        char *given = realpath(with->items[i].path, NULL), *kept = realpath(own->name, NULL);
        merged = given && kept && strcmp(given, kept) == 0;
        free(given);
        free(kept);
        merged = merged || (registry_adapter_digest(with->items[i].path, digest, NULL) == MLXR_OK &&
                            strcmp(digest, own->value) == 0); /* what cannot be read, the merge tells */
    }
    return merged;
}

static void tell_left_out(const registry_model *model, const adapter_list *with)
{
    size_t n = 0, n_own = model->adapters.n;
    bool left[MLXR_ADAPTERS_MAX] = {false};
    for (size_t i = 0; i < n_own && i < MLXR_ADAPTERS_MAX; i++) {
        left[i] = !is_merged(&model->adapters.items[i], with);
        n += left[i];
    }
    if (n == 0) {
        return;
    }
    if (n == n_own) {
        print_note("the model has %zu adapter%s, which %s left out of the weights; --merge writes %s in:", n,
                   n == 1 ? "" : "s", n == 1 ? "is" : "are", n == 1 ? "it" : "them");
    } else {
        print_note("of the model's %zu adapters %zu %s left out of the weights; --merge writes %s in:", n_own, n,
                   n == 1 ? "is" : "are", n == 1 ? "it" : "them");
    }
    for (size_t i = 0; i < n_own && i < MLXR_ADAPTERS_MAX; i++) {
        if (left[i]) {
            print_note("    --merge %s", model->adapters.items[i].name);
        }
    }
}

/* The library lets a model take its own place; whoever types a name seldom means to lose the original. */
static bool loses_input(const registry_model *model, const options *o)
{
    inputs in = {0};
    inputs_add(&in, o->imatrix);
    inputs_add_loaded(&in, model, o);
    bool loses = inputs_lose(&in, o->args[1]) || (o->split_max_bytes && inputs_lose_parts(&in, o->args[1]));
    inputs_close(&in);
    return loses;
}

static void show_warning(void *user, mlxr_log_level level, const char *line)
{
    (void)user;
    if (level == MLXR_LOG_WARN) {
        print_error("warning: %s", line);
    }
}

/* Too many threads are told by an engine, as with other verbs; there is no other use for it here. */
static void warn_of_threads(uint32_t n_threads)
{
    mlxr_engine *engine = NULL;
    mlxr_engine_options how = {.backend = "cpu", .n_threads = n_threads, .log = show_warning};
    if (n_threads > 0 && mlxr_engine_open(&engine, &how, NULL) == MLXR_OK) {
        mlxr_engine_close(&engine);
    }
}

static int write_model(options *o, const char *label)
{
    interrupt_state before;
    mlxr_quantize_report report;
    mlxr_error error;
    registry_model model;
    if (!models_resolve(o->args[0], &model)) {
        return EXIT_FAILED;
    }
    if (loses_input(&model, o)) {
        registry_model_close(&model);
        return EXIT_USAGE;
    }
    adapter_list with;
    const char *paths[MLXR_ADAPTERS_MAX];
    float scales[MLXR_ADAPTERS_MAX];
    if (adapter_list_take(&with, o, "--merge", &error) != MLXR_OK) {
        registry_model_close(&model);
        print_error("%s", error.text);
        return error.status == MLXR_ARG ? EXIT_USAGE : EXIT_FAILED;
    }
    tell_left_out(&model, &with);
    warn_of_threads(o->n_threads);
    for (size_t i = 0; i < with.n; i++) {
        paths[i] = with.items[i].path;
        scales[i] = with.items[i].scale;
    }
    progress bar = progress_begin(label);
    mlxr_quantize_options how = {.type = o->type,
                                 .adapters = paths,
                                 .adapter_scales = scales,
                                 .n_adapters = with.n,
                                 .imatrix = o->imatrix,
                                 .split_max_bytes = o->split_max_bytes,
                                 .n_threads = o->n_threads,
                                 .cpu_features = o->cpu_features,
                                 .progress = show,
                                 .user = &bar};
    double started = now_seconds();
    interrupt_begin(&before);
    mlxr_status status = mlxr_quantize(model.path, o->args[1], &how, &report, &error);
    bool stopped = status == MLXR_IO &&
                   strcmp(error.text, "stopped") == 0; /* as mlxr_progress_fn says; else it failed */
    interrupt_end(&before);
    progress_end(&bar);
    adapter_list_free(&with);
    registry_model_close(&model);
    if (stopped) {
        print_error("stopped; nothing was written");
        return interrupt_code();
    }
    return status == MLXR_OK ? print_report(o, &report, now_seconds() - started) : print_failure(&error);
}

int verb_quantize(options *o)
{
    if (!o->type) {
        print_error("quantize needs --type, such as --type Q4_K_M");
        return EXIT_USAGE;
    }
    return write_model(o, "quantize");
}

/* The same without --type; what safetensors have otherwise than GGUF is settled in either case. */
int verb_convert(options *o)
{
    return write_model(o, "convert");
}
