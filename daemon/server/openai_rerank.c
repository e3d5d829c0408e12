/*
 * /v1/rerank, as Jina, Cohere and vLLM have it.
 * Owner: the service. Lifetime: as in embeddings.h.
 */
#include <math.h>
#include <stdlib.h>

#include "server/embeddings.h"
#include "server/openai_parts.h"

static bool parse(request_fields *f, const json_t *body, embeddings_ask *ask)
{
    openai_text_options o = {0};
    if (!openai_text_parse(f, "/v1/rerank", body, &o)) {
        return false;
    }
    if (!o.query) {
        return request_fields_bad(f, "query", "query is missing: a text");
    }
    ask->model = o.model;
    ask->query = o.query;
    ask->instruction = o.instruction;
    ask->field = "documents";
    ask->input = o.input;
    ask->lora = o.lora;
    ask->top_n = o.top_n;
    ask->document_tokens_most = o.max_tokens_per_doc;
    ask->return_documents = o.return_documents;
    ask->raw_scores = o.raw_scores;
    return true;
}

typedef struct result {
    size_t index;
    double score; /* log-odds */
} result;

static int best_first(const void *left, const void *right)
{
    const result *a = left, *b = right;
    if (a->score != b->score) {
        return a->score > b->score ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
}

static json_t *answer(const embeddings_found *found)
{
    const embeddings_ask *ask = found->ask;
    size_t n = ask->top_n && ask->top_n < found->n ? ask->top_n : found->n;
    result *results = malloc((found->n + 1) * sizeof *results);
    json_t *list = json_array();
    for (size_t i = 0; results && i < found->n; i++) {
        results[i] = (result){.index = i, .score = (double)found->vectors[i][0]};
    }
    if (results) {
        qsort(results, found->n, sizeof *results, best_first);
    }
    for (size_t i = 0; results && i < n; i++) {
        double score = ask->raw_scores ? results[i].score : 1 / (1 + exp(-results[i].score));
        json_t *one = json_pack("{s:I, s:f}", "index", (json_int_t)results[i].index, "relevance_score", score);
        if (ask->return_documents) {
            size_t n_bytes;
            const char *text = embeddings_document(json_array_get(ask->input, results[i].index), &n_bytes);
            json_object_set_new(one, "document", json_pack("{s:s%}", "text", text, n_bytes));
        }
        json_array_append_new(list, one);
    }
    json_t *made = results ? json_pack("{s:s, s:s, s:O, s:{s:I, s:I}, s:O*}", "object", "list", "model", found->model,
                                       "results", list, "usage", "prompt_tokens", (json_int_t)found->n_tokens,
                                       "total_tokens", (json_int_t)found->n_tokens, "warnings", found->warnings)
                           : NULL;
    json_decref(list);
    free(results);
    return made;
}

void openai_rerank(void *service, http_exchange *x)
{
    static const embeddings_dialect dialect = {.parse = parse, .answer = answer, .ranks = true};
    embeddings_start(service, x, &dialect);
}
