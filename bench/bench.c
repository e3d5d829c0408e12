/*
 * What the benchmarks share.
 * Owner: the program. Lifetime: its main.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void usage(const char *program, const bench_option *options)
{
    fprintf(stderr, "usage: %s MODEL [options]\n", program);
    for (const bench_option *o = options; o->name; o++) {
        fprintf(stderr, "  --%-12s %s", o->name, o->help);
        if (o->number) {
            fprintf(stderr, " (%g)\n", *o->number);
        } else {
            fprintf(stderr, "%s%s%s\n", *o->text ? " (" : "", *o->text ? *o->text : "", *o->text ? ")" : "");
        }
    }
    exit(2);
}

const char *bench_arguments(int argc, char **argv, const bench_option *options)
{
    const char *model = NULL;
    for (int i = 1; i < argc; i++) {
        const bench_option *o = options;
        if (strncmp(argv[i], "--", 2) != 0) {
            model = argv[i];
            continue;
        }
        while (o->name && strcmp(o->name, argv[i] + 2) != 0) {
            o++;
        }
        if (!o->name || i + 1 == argc) {
            usage(argv[0], options);
        }
        i++;
        if (o->text) {
            *o->text = argv[i];
        } else {
            char *end;
            *o->number = strtod(argv[i], &end);
            if (end == argv[i] || *end) {
                usage(argv[0], options);
            }
        }
    }
    if (!model) {
        usage(argv[0], options);
    }
    return model;
}

double bench_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

void bench_check(mlxr_status status, const mlxr_error *error)
{
    if (status != MLXR_OK) {
        fprintf(stderr, "%s\n", error->text);
        exit(1);
    }
}

static char *read_file(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    size_t cap = 0;
    *n = 0;
    while (file && !feof(file) && !ferror(file)) {
        if (*n == cap) {
            cap = cap ? cap * 2 : 1 << 16;
            char *grown = realloc(data, cap);
            if (!grown) {
                break;
            }
            data = grown;
        }
        *n += fread(data + *n, 1, cap - *n, file);
    }
    if (!file || !feof(file)) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    fclose(file);
    return data;
}

bench_text bench_text_open(const mlxr_model *model, const char *path, size_t n_least)
{
    mlxr_error error;
    size_t n_bytes;
    char *bytes = read_file(path, &n_bytes);
    bench_text text = {.ids = calloc(n_bytes + 2, sizeof *text.ids)};
    if (!text.ids) {
        fprintf(stderr, "no memory for the tokens of %s\n", path);
        exit(1);
    }
    bench_check(mlxr_tokenize(model, bytes, n_bytes, MLXR_TOKENIZE_ADD_SPECIAL, text.ids, n_bytes + 2, &text.n, &error),
                &error);
    free(bytes);
    if (text.n < n_least) {
        fprintf(stderr, "%s has %zu tokens, %zu are needed\n", path, text.n, n_least);
        exit(1);
    }
    return text;
}

void bench_text_close(bench_text *text)
{
    free(text->ids);
    *text = (bench_text){0};
}
