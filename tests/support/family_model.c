/*
 * Models of tests/oracle/families as directories with config.json, tokenizer.json and safetensors.
 * Owner: see family_model.h. Lifetime: the call.
 */
#include "support/family_model.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/tiny_model.h"

#define FOLDER "tests/oracle/families"
#define TENSORS_MAX 1024

typedef struct listed {
    char name[128];
    float base, scale;
    unsigned long shape[4];
    int n_dims;
    size_t n;
} listed;

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

size_t family_model_list(char (*names)[FAMILY_NAME_MAX], size_t cap)
{
    size_t n = 0;
    DIR *folder = opendir(FOLDER);
    if (!folder) {
        fprintf(stderr, "cannot read %s\n", FOLDER);
        abort();
    }
    for (struct dirent *e = readdir(folder); e; e = readdir(folder)) {
        char *end = strstr(e->d_name, ".tensors");
        if (end && end - e->d_name < FAMILY_NAME_MAX) {
            if (n < cap) {
                snprintf(names[n], FAMILY_NAME_MAX, "%.*s", (int)(end - e->d_name), e->d_name);
            }
            n++;
        }
    }
    closedir(folder);
    qsort(names, n < cap ? n : cap, sizeof *names, by_name);
    return n;
}

static void copy_file(const char *from, const char *to)
{
    char bytes[4096];
    FILE *in = fopen(from, "rb"), *out = tiny_open(to);
    if (!in) {
        fprintf(stderr, "cannot read %s\n", from);
        abort();
    }
    for (size_t n = fread(bytes, 1, sizeof bytes, in); n > 0; n = fread(bytes, 1, sizeof bytes, in)) {
        fwrite(bytes, 1, n, out);
    }
    fclose(in);
    tiny_close(out, to);
}

static bool has_word(const char *name, const char *const *words)
{
    while (*words && !strstr(name, *words)) {
        words++;
    }
    return *words != NULL;
}

/* Returns the number of tensors, of which those with one of the words in their names are not. */
static size_t read_list(const char *path, const char *const *words, unsigned long *seed, listed *out)
{
    char line[512];
    size_t n = 0;
    FILE *f = fopen(path, "r");
    if (!f || fscanf(f, "seed %lu\n", seed) != 1) {
        fprintf(stderr, "cannot read %s\n", path);
        abort();
    }
    while (fgets(line, sizeof line, f)) {
        listed *t = &out[n++];
        *t = (listed){.n = 1};
        t->n_dims = sscanf(line, "%127s %g %g %lu %lu %lu %lu", t->name, &t->base, &t->scale, &t->shape[0],
                           &t->shape[1], &t->shape[2], &t->shape[3]) -
                    3;
        if (t->n_dims < 0 || n == TENSORS_MAX) { /* a number has none */
            abort();
        }
        for (int i = 0; i < t->n_dims; i++) {
            t->n *= t->shape[i];
        }
        n -= has_word(t->name, words);
    }
    fclose(f);
    return n;
}

static family_change *changing; /* of the model being written; NULL: none */

static void write_weights(const listed *tensors, size_t n, unsigned long seed, const char *folder, const char *path)
{
    char *text = NULL;
    size_t n_text = 0, offset = 0;
    FILE *header = open_memstream(&text, &n_text), *f = tiny_open(path);
    for (size_t i = 0; i < n; i++) {
        const listed *t = &tensors[i];
        fprintf(header, "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [", i ? ", " : "{", t->name + strlen(folder));
        for (int d = 0; d < t->n_dims; d++) {
            fprintf(header, "%s%lu", d ? ", " : "", t->shape[d]);
        }
        fprintf(header, "], \"data_offsets\": [%zu, %zu]}", offset, offset + 4 * t->n);
        offset += 4 * t->n;
    }
    fprintf(header, "}");
    tiny_close(header, "memory");
    uint64_t length = (n_text + 7) / 8 * 8;
    fwrite(&length, sizeof length, 1, f);
    fprintf(f, "%-*s", (int)length, text);
    free(text);
    for (size_t i = 0; i < n; i++) {
        float *values = malloc(tensors[i].n * sizeof *values);
        if (!values) {
            abort();
        }
        tiny_random_fill(seed, tensors[i].name, tensors[i].base, tensors[i].scale, values, tensors[i].n);
        if (changing) {
            changing(tensors[i].name, values, tensors[i].n);
        }
        fwrite(values, sizeof *values, tensors[i].n, f);
        free(values);
    }
    tiny_close(f, path);
}

/* Folders of their own: sentence-transformers' modules and adapters, whose tensors are listed with their folder before
 * their names. Returns how many tensors they take, which are the first ones. */
static size_t write_folders(const char *model, const listed *tensors, unsigned long seed, const char *dir)
{
    size_t n = 0;
    for (const char *slash = strchr(tensors[0].name, '/'); slash; slash = strchr(tensors[n].name, '/')) {
        char folder[40], from[512], path[1024];
        size_t first = n;
        snprintf(folder, sizeof folder, "%.*s/", (int)(slash - tensors[n].name), tensors[n].name);
        while (strncmp(tensors[n].name, folder, strlen(folder)) == 0) {
            n++;
        }
        bool adapter = strcmp(folder, "adapter/") == 0;
        snprintf(path, sizeof path, "%s/%s", dir, folder);
        mkdir(path, 0777);
        snprintf(path, sizeof path, "%s/%s%sconfig.json", dir, folder, adapter ? "adapter_" : "");
        if (adapter) {
            snprintf(from, sizeof from, FOLDER "/%s.adapter", model);
            copy_file(from, path);
        } else {
            FILE *f = tiny_open(path);
            fprintf(f, "{\"activation_function\": \"torch.nn.modules.linear.Identity\"}");
            tiny_close(f, path);
        }
        snprintf(path, sizeof path, "%s/%s%smodel.safetensors", dir, folder, adapter ? "adapter_" : "");
        write_weights(tensors + first, n - first, seed, folder, path);
    }
    return n;
}

void family_model_write(const char *name, const char *dir)
{
    family_model_write_without(name, dir, (const char *const[]){NULL});
}

void family_model_write_changed(const char *name, const char *dir, family_change *change)
{
    changing = change;
    family_model_write(name, dir);
    changing = NULL;
}

void family_model_write_without(const char *name, const char *dir, const char *const *words)
{
    static listed tensors[TENSORS_MAX];
    char from[512], to[1024];
    unsigned long seed;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "cannot make %s\n", dir);
        abort();
    }
    snprintf(from, sizeof from, FOLDER "/%s.json", name);
    snprintf(to, sizeof to, "%s/config.json", dir);
    copy_file(from, to);
    snprintf(from, sizeof from, FOLDER "/%s.pooling", name);
    if (access(from, R_OK) == 0) {
        snprintf(to, sizeof to, "%s/1_Pooling", dir);
        mkdir(to, 0777);
        snprintf(to, sizeof to, "%s/1_Pooling/config.json", dir);
        copy_file(from, to);
    }
    tiny_model_write_tokenizer(&(tiny_model){.name = name, .arch = "llama", .vocab = TINY_VOCAB_BPE}, dir);
    snprintf(from, sizeof from, FOLDER "/%s.tensors", name);
    snprintf(to, sizeof to, "%s/model.safetensors", dir);
    size_t n = read_list(from, words, &seed, tensors);
    size_t first = write_folders(name, tensors, seed, dir);
    write_weights(tensors + first, n - first, seed, "", to);
}

void family_model_exchange(const char *path, const char *from, const char *to)
{
    size_t n = strlen(from), n_bytes = 0, n_found = 0;
    FILE *f = fopen(path, "r+b");
    char *bytes = f && fseek(f, 0, SEEK_END) == 0 ? malloc(n_bytes = (size_t)ftell(f)) : NULL;
    if (!bytes || fseek(f, 0, SEEK_SET) != 0 || fread(bytes, 1, n_bytes, f) != n_bytes || strlen(to) != n) {
        fprintf(stderr, "cannot change %s\n", path);
        abort();
    }
    for (size_t i = 0; i + n <= n_bytes; i++) {
        if (memcmp(bytes + i, from, n) == 0) {
            memcpy(bytes + i, to, n);
            n_found++;
        }
    }
    if (n_found == 0 || fseek(f, 0, SEEK_SET) != 0 || fwrite(bytes, 1, n_bytes, f) != n_bytes) {
        fprintf(stderr, "%s has no %s\n", path, from);
        abort();
    }
    tiny_close(f, path);
    free(bytes);
}
