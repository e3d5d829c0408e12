/*
 * `mlxr embed`: texts as vectors.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlxr_embed.h"
#include "output.h"
#include "session.h"
#include "verbs.h"

typedef struct texts {
    mlxr_embed_input *inputs; /* [n] */
    size_t n, cap, n_tokens;
} texts;

static void free_texts(texts *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free((void *)(uintptr_t)t->inputs[i].ids);
    }
    free(t->inputs);
}

/* False after telling why not. */
static bool add_text(texts *t, const session *s, const char *text, size_t n_bytes)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 256;
        mlxr_embed_input *grown = realloc(t->inputs, cap * sizeof *grown);
        if (!grown) {
            print_error("out of memory");
            return false;
        }
        t->inputs = grown;
        t->cap = cap;
    }
    size_t n = 0;
    int32_t *ids = session_tokenize(s, text, n_bytes, MLXR_TOKENIZE_ADD_SPECIAL, &n);
    if (!ids) {
        return false;
    }
    t->inputs[t->n++] = (mlxr_embed_input){.ids = ids, .n_ids = n};
    t->n_tokens += n;
    return true;
}

/* One text, or each line of a file. */
static bool read_texts(texts *t, const session *s, const char *text, size_t n_bytes, bool lines)
{
    if (!lines) {
        return add_text(t, s, text, n_bytes);
    }
    size_t n_line;
    for (const char *line = next_line(&text, &n_bytes, &n_line); line; line = next_line(&text, &n_bytes, &n_line)) {
        if (!add_text(t, s, line, n_line)) {
            return false;
        }
    }
    return true;
}

static int print_lines(const float *vectors, size_t n, uint32_t n_dims)
{
    for (size_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < n_dims; k++) {
            printf("%s%.9g", k ? " " : "", (double)vectors[i * n_dims + k]);
        }
        putchar('\n');
    }
    return finish_output(EXIT_OK);
}

static int print_object(const float *vectors, size_t n, uint32_t n_dims, size_t n_tokens)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *vector = json_array();
        for (uint32_t k = 0; k < n_dims; k++) {
            json_array_append_new(vector, json_real((double)vectors[i * n_dims + k]));
        }
        json_array_append_new(list, vector);
    }
    return print_json(json_pack("{s:o, s:I, s:I}", "embeddings", list, "n_dims", (json_int_t)n_dims, "n_tokens",
                                (json_int_t)n_tokens));
}

/* began: before the texts were tokenised, which is counted as theirs */
static int embed(const options *o, const session *s, const texts *t, double began)
{
    mlxr_error error;
    mlxr_embed_info info = mlxr_embed_info_get(s->model);
    float *vectors = malloc((t->n + 1) * info.n_dims * sizeof *vectors);
    if (!vectors) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    if (!info.intended) {
        print_note("this model was not made for embeddings: they are the mean of its last hidden states");
    }
    mlxr_status status = mlxr_embed(s->engine, s->model, t->inputs, t->n, 0, vectors, &error);
    double took = now_seconds() - began;
    int exit_code = EXIT_FAILED;
    if (status == MLXR_OK) {
        exit_code = o->json ? print_object(vectors, t->n, info.n_dims, t->n_tokens)
                            : print_lines(vectors, t->n, info.n_dims);
        if (o->verbose) {
            print_note("%zu texts of %zu tokens in %.3f s: %.0f texts/s", t->n, t->n_tokens, took, (double)t->n / took);
        }
    } else {
        print_error("%s", error.text);
    }
    free(vectors);
    return exit_code;
}

int verb_embed(options *o)
{
    session s;
    texts t = {0};
    size_t n_text = 0;
    char *read = NULL;
    const char *text = o->n_args == 2 ? o->args[1] : NULL;
    bool lines = !text || strcmp(text, "-") == 0;
    if (text && o->file) {
        print_error("give a text or --file, not both");
        return EXIT_USAGE;
    }
    if (lines) {
        read = read_all(o->file ? o->file : "-", &n_text);
        if (!read) {
            return EXIT_FAILED;
        }
        text = read;
    } else {
        n_text = strlen(text);
    }
    int code = session_open(&s, o, o->args[0], true);
    double begin = now_seconds();
    if (code == EXIT_OK) {
        code = read_texts(&t, &s, text, n_text, lines) ? embed(o, &s, &t, begin) : EXIT_FAILED;
    }
    free_texts(&t);
    session_close(&s);
    free(read);
    return code;
}
