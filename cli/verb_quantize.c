/*
 * `mlxr quantize`: a model in another type. `mlxr convert`: safetensors as GGUF.
 * Owner: main. Lifetime: the call.
 */
#include <stdlib.h>
#include <string.h>

#include "interrupt.h"
#include "mlxr_adapter.h"
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
        print_note("%u tensors have a type that GGUF has not: they became F16", r->n_encoded);
    }
    if (r->n_gave_way) {
        print_note(
            "%u tensors have rows that do not divide into the blocks of their type, and got another of about its "
            "size",
            r->n_gave_way);
    }
    if (o->type && r->n_requantised) {
        print_note("%u tensors were quantised before: what was lost then stays lost", r->n_requantised);
    }
    if (o->imatrix && r->n_weighted < r->n_encoded) {
        print_note("%u of %u tensors are not in the importance matrix: in these all weights count alike",
                   r->n_encoded - r->n_weighted, r->n_encoded);
    }
    return finish_output(EXIT_OK);
}

typedef struct merged {
    char *paths[MLXR_ADAPTERS_MAX];
    float scales[MLXR_ADAPTERS_MAX];
    size_t n;
} merged;

static void free_adapters(merged *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->paths[i]);
    }
}

static bool take_adapters(merged *m, const options *o)
{
    if (o->adapters.n > MLXR_ADAPTERS_MAX) {
        print_error("--merge: at most %d adapters at once", MLXR_ADAPTERS_MAX);
        return false;
    }
    for (; m->n < o->adapters.n; m->n++) {
        m->paths[m->n] = adapter_path(o->adapters.items[m->n], &m->scales[m->n]);
        if (!m->paths[m->n]) {
            print_error("out of memory");
            free_adapters(m);
            return false;
        }
    }
    return true;
}

static int write_model(options *o, const char *label)
{
    interrupt_state before;
    mlxr_quantize_report report;
    mlxr_error error;
    char in[MODEL_PATH_MAX];
    if (!models_find(o->args[0], in, sizeof in)) {
        return EXIT_FAILED;
    }
    merged with = {0};
    if (!take_adapters(&with, o)) {
        return EXIT_USAGE;
    }
    progress bar = progress_begin(label);
    mlxr_quantize_options how = {.type = o->type,
                                 .adapters = (const char *const *)with.paths,
                                 .adapter_scales = with.scales,
                                 .n_adapters = with.n,
                                 .imatrix = o->imatrix,
                                 .split_max_bytes = o->split_max_bytes,
                                 .n_threads = o->n_threads,
                                 .cpu_features = o->cpu_features,
                                 .progress = show,
                                 .user = &bar};
    double started = now_seconds();
    interrupt_begin(&before);
    mlxr_status status = mlxr_quantize(in, o->args[1], &how, &report, &error);
    interrupt_end(&before);
    progress_end(&bar);
    free_adapters(&with);
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
