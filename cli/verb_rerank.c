/*
 * `mlxr rerank`: lines in the order in which they answer a query.
 * Owner: main. Lifetime: the call.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlxr_rerank.h"
#include "output.h"
#include "session.h"
#include "verbs.h"

typedef struct document {
    const char *text; /* [n_bytes] */
    size_t n_bytes, index;
    double relevance;
} document;

typedef struct ranked {
    document *documents;      /* [n] */
    mlxr_embed_input *inputs; /* [n] */
    size_t n, n_tokens;
} ranked;

static void free_ranked(ranked *r)
{
    for (size_t i = 0; i < r->n; i++) {
        mlxr_free((void *)(uintptr_t)r->inputs[i].ids);
    }
    free(r->inputs);
    free(r->documents);
}

/* Tokens of the query with each line. False after telling why not. */
static bool read_documents(ranked *r, const session *s, const options *o, const char *text, size_t n_bytes)
{
    size_t n_line, cap = 1;
    for (size_t i = 0; i < n_bytes; i++) {
        cap += text[i] == '\n';
    }
    r->documents = calloc(cap, sizeof *r->documents);
    r->inputs = calloc(cap, sizeof *r->inputs);
    if (!r->documents || !r->inputs) {
        print_error("out of memory");
        return false;
    }
    for (const char *line = next_line(&text, &n_bytes, &n_line); line; line = next_line(&text, &n_bytes, &n_line)) {
        mlxr_error error;
        int32_t *ids = NULL;
        size_t n_ids = 0;
        mlxr_rerank_pair pair = {.instruction = o->instruction,
                                 .query = o->args[1],
                                 .n_query = strlen(o->args[1]),
                                 .document = line,
                                 .n_document = n_line};
        if (mlxr_rerank_tokenize(s->model, &pair, &ids, &n_ids, NULL, &error) != MLXR_OK) {
            print_error("%s", error.text);
            return false;
        }
        r->documents[r->n] = (document){.text = line, .n_bytes = n_line, .index = r->n};
        r->inputs[r->n++] = (mlxr_embed_input){.ids = ids, .n_ids = n_ids};
        r->n_tokens += n_ids;
    }
    return true;
}

static int best_first(const void *left, const void *right)
{
    const document *a = left, *b = right;
    if (a->relevance != b->relevance) {
        return a->relevance > b->relevance ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
}

static int print_ranked(const options *o, const ranked *r)
{
    size_t n = o->n_top && o->n_top < r->n ? o->n_top : r->n;
    json_t *results = json_array();
    for (size_t i = 0; i < n; i++) {
        const document *d = &r->documents[i];
        if (o->json) {
            json_t *text = json_stringn(d->text, d->n_bytes);
            json_array_append_new(results, json_pack("{s:I, s:f, s:o*}", "index", (json_int_t)d->index,
                                                     "relevance_score", d->relevance, "document", text));
        } else {
            printf("%.6f  %.*s\n", d->relevance, (int)d->n_bytes, d->text);
        }
    }
    if (!o->json) {
        json_decref(results);
        return finish_output(EXIT_OK);
    }
    return print_json(json_pack("{s:o, s:I}", "results", results, "n_tokens", (json_int_t)r->n_tokens));
}

static int rank(const options *o, const session *s, ranked *r)
{
    mlxr_error error;
    float *scores = malloc((r->n + 1) * sizeof *scores);
    if (!scores) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    if (!mlxr_rerank_info_get(s->model).intended) {
        print_note("this model was not made for ranking: what counts is its \"yes\" against its \"no\"");
    }
    double begin = now_seconds();
    mlxr_status status = mlxr_rerank(s->engine, s->model, r->inputs, r->n, scores, &error);
    double took = now_seconds() - begin;
    int exit_code = EXIT_FAILED;
    if (status == MLXR_OK) {
        for (size_t i = 0; i < r->n; i++) {
            r->documents[i].relevance = 1 / (1 + exp(-(double)scores[i]));
        }
        qsort(r->documents, r->n, sizeof *r->documents, best_first);
        exit_code = print_ranked(o, r);
        if (o->verbose) {
            print_note("%zu texts of %zu tokens in %.3f s: %.0f texts/s", r->n, r->n_tokens, took, (double)r->n / took);
        }
    } else {
        print_error("%s", error.text);
    }
    free(scores);
    return exit_code;
}

int verb_rerank(options *o)
{
    session s;
    ranked r = {0};
    size_t n_text = 0;
    char *text = read_all(o->file ? o->file : "-", &n_text);
    if (!text) {
        return EXIT_FAILED;
    }
    int code = session_open(&s, o, o->args[0], false);
    if (code == EXIT_OK) {
        code = read_documents(&r, &s, o, text, n_text) ? rank(o, &s, &r) : EXIT_FAILED;
    }
    free_ranked(&r);
    session_close(&s);
    free(text);
    return code;
}
