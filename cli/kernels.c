/*
 * `mlxr doctor --metal`: checks the kernels on this device, and tells what came of it in a text to paste.
 * Owner: main. Lifetime: the call.
 */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

const char *kernels_file(char out[KERNELS_PATH_MAX])
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool own = cache && *cache == '/'; /* the specification ignores relative ones */
    if (!own && !(home && *home)) {
        return NULL;
    }
    int n = snprintf(out, KERNELS_PATH_MAX, "%s%s/mlxr/kernels", own ? cache : home, own ? "" : "/.cache");
    return n > 0 && (size_t)n < KERNELS_PATH_MAX ? out : NULL;
}

mlxr_engine_options kernels_engine(const options *o, char kernels[KERNELS_PATH_MAX])
{
    return (mlxr_engine_options){.backend = o->backend,
                                 .n_threads = o->n_threads,
                                 .kv_bytes = (size_t)o->kv_bytes,
                                 .expert_bytes = o->expert_bytes == UINT64_MAX ? 0
                                                 : o->expert_bytes == 0        ? MLXR_EXPERTS_UNBOUND
                                                                               : o->expert_bytes,
                                 .kv_type = o->kv_type,
                                 .activations = o->activations,
                                 .cpu_features = o->cpu_features,
                                 .batch_invariant = o->batch_invariant,
                                 .kernel_file = kernels_file(kernels),
                                 .kv_dir = o->kv_dir,
                                 .kv_disk_bytes = o->kv_disk_bytes};
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

/* A number in a column, or a dash. */
static const char *column(char out[16], const json_t *object, const char *name, const char *format)
{
    const json_t *value = json_object_get(object, name);
    if (json_is_number(value)) {
        snprintf(out, 16, format, json_number_value(value));
    } else {
        snprintf(out, 16, "-");
    }
    return out;
}

/* "64 in 1.20, 128 in 1.18, 256 wrong" */
static void print_sizes(const json_t *kernel)
{
    const json_t *sizes = json_object_get(kernel, "sizes");
    if (json_array_size(sizes) == 0) {
        return;
    }
    printf("    threads:");
    for (size_t i = 0; i < json_array_size(sizes); i++) {
        const json_t *size = json_array_get(sizes, i), *ms = json_object_get(size, "ms");
        printf("%s %lld", i ? "," : "", (long long)json_integer_value(json_object_get(size, "threads")));
        if (!json_is_true(json_object_get(size, "right"))) {
            printf(" wrong");
        } else if (json_is_number(ms)) {
            printf(" in %.3f", json_number_value(ms));
        } else {
            printf(" right");
        }
    }
    const json_t *best = json_object_get(kernel, "threads");
    if (json_is_integer(best)) {
        printf("; %lld from now on", (long long)json_integer_value(best));
    }
    printf("\n");
}

static void print_kernel(const json_t *kernel)
{
    char recorded[16], fallback[16], first[16], with[16], without[16], ratio[16];
    printf("%-25s %-7s %8s %8s %8s %8s %8s %6s\n", text_of(kernel, "kernel"), text_of(kernel, "verdict"),
           column(recorded, kernel, "error_recorded", "%.1e"), column(fallback, kernel, "error_fallback", "%.1e"),
           column(first, kernel, "first_ms", "%.1f"), column(with, kernel, "kernel_ms", "%.3f"),
           column(without, kernel, "fallback_ms", "%.3f"), column(ratio, kernel, "ratio", "%.2f"));
    if (*text_of(kernel, "why")) {
        printf("    %s\n", text_of(kernel, "why"));
    }
    print_sizes(kernel);
}

static size_t count(const json_t *report, const char *verdict)
{
    const json_t *kernels = json_object_get(report, "kernels");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(kernels); i++) {
        n += strcmp(text_of(json_array_get(kernels, i), "verdict"), verdict) == 0;
    }
    return n;
}

static void print_report(const json_t *report)
{
    const json_t *kernels = json_object_get(report, "kernels");
    printf("mlxr %s, Metal kernels\ndevice %s; %s; MLX %s; backend %s\n", text_of(report, "version"),
           text_of(report, "device"), text_of(report, "system"), text_of(report, "mlx"), text_of(report, "backend"));
    if (json_is_true(json_object_get(report, "emulated"))) {
        printf("There is no Metal here: the kernels run in an emulator on the CPU, which shows what they compute.\n"
               "Times would say nothing; nothing is put aside for them.\n");
    }
    printf("\n%-25s %-7s %8s %8s %8s %8s %8s %6s\n", "kernel", "verdict", "recorded", "without", "first ms", "ms",
           "without", "ratio");
    for (size_t i = 0; i < json_array_size(kernels); i++) {
        print_kernel(json_array_get(kernels, i));
    }
    printf(
        "\nrecorded, without: the largest squared difference from what was recorded and from what is done without the\n"
        "kernel, over the mean square. first ms: of the run that compiles it. ms, ratio: of large cases, with and\n"
        "without.\n");
}

int doctor_metal(const options *o)
{
    char path[KERNELS_PATH_MAX], *text = NULL;
    const char *file = kernels_file(path);
    mlxr_error error;
    if (mlxr_kernels_check(NULL, file, &text, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    json_t *report = json_loads(text, 0, NULL);
    mlxr_free(text);
    json_object_set_new(report, "file", file ? json_text(file, strlen(file)) : json_null());
    size_t n_failed = count(report, "failed"), n_aside = n_failed + count(report, "slower");
    if (o->json) {
        int code = print_json(report);
        return code == EXIT_OK && n_failed ? EXIT_FAILED : code;
    }
    print_report(report);
    json_decref(report);
    if (!file) {
        printf("HOME is not set: this is not kept, and mlxr uses all kernels.\n");
    } else if (n_aside) {
        printf("%zu kernels are put aside; MLX's operations do their work. Kept in %s.\n"
               "To undo that: rm '%s'\n",
               n_aside, file, file);
    } else {
        printf("All kernels are used with --backend mlx-metal. Kept in %s.\n", file);
    }
    int code = finish_output(EXIT_OK);
    return code == EXIT_OK && n_failed ? EXIT_FAILED : code;
}
