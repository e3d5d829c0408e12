/*
 * Reranking: the tokens of a query with a document, and the number that a model makes of them.
 * Owner: results belong to the caller. Lifetime: the call.
 */
#include "mlxr_rerank.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "mlxr_chat.h"
#include "quant/codec.h"
#include "runtime/engine.h"
#include "runtime/head.h"
#include "runtime/pool.h"

/* What Qwen3-Reranker was trained with; other decoders understand it, too. */
static const char judge[] = "Judge whether the Document meets the requirements based on the Query and the Instruct "
                            "provided. Note that the answer can only be \"yes\" or \"no\".";
static const char usual_instruction[] = "Given a web search query, retrieve relevant passages that answer the query";

/* ---- what a model can ----------------------------------------------------------------------------------------------
 */

/* The word's one token; −1 where it has several. */
static int32_t token_of(const mlxr_model *model, const char *word)
{
    token_list list = {0};
    int32_t id = -1;
    if (tokenizer_encode(model->tokenizer, word, strlen(word), 0, &list, NULL) == MLXR_OK && list.n == 1) {
        id = list.ids[0];
    }
    token_list_close(&list);
    return id;
}

static bool name_ranks(const char *name)
{
    static const char word[] = "rerank";
    for (; *name; name++) {
        size_t n = 0;
        while (word[n] && tolower((unsigned char)name[n]) == word[n]) {
            n++;
        }
        if (!word[n]) {
            return true;
        }
    }
    return false;
}

mlxr_rerank_info mlxr_rerank_info_get(const mlxr_model *model)
{
    bool encoder = model->graph->plan.both_ways, head = model->graph->h.ranks;
    bool asked = !encoder && !model->graph->h.headless && model->chat && token_of(model, "yes") >= 0 &&
                 token_of(model, "no") >= 0 && !model_adapts_output(model);
    return (mlxr_rerank_info){.possible = head || asked,
                              .intended = head || (asked && name_ranks(model->info.name)),
                              .pooling = head ? pool_kind(&model->graph->h) : MLXR_POOLING_LAST,
                              .n_tokens_max = model->n_ctx};
}

static mlxr_status check_possible(const mlxr_model *model, mlxr_error *error)
{
    if (mlxr_rerank_info_get(model).possible) {
        return MLXR_OK;
    }
    if (model_adapts_output(model)) { /* a score is made of its rows as they are in the file */
        return error_set(error, MLXR_UNSUPPORTED, "a model cannot rank with an adapter that changes its output matrix");
    }
    return error_set(error, MLXR_UNSUPPORTED,
                     "%s cannot rank: that takes an encoder with a head for it (bge-reranker, ms-marco-MiniLM), or a "
                     "decoder with a chat template and tokens \"yes\" and \"no\" (Qwen3-Reranker)",
                     model->info.name[0] ? model->info.name : model->info.path);
}

/* ---- tokens of a pair ----------------------------------------------------------------------------------------------
 */

static mlxr_status add_ids(token_list *list, const int32_t *ids, size_t n, mlxr_error *error)
{
    int32_t *grown = realloc(list->ids, (list->n + n + 1) * sizeof *grown);
    if (!grown) {
        return error_nomem(error, "tokens", (list->n + n) * sizeof *grown);
    }
    if (n) {
        memcpy(grown + list->n, ids, n * sizeof *ids);
    }
    *list = (token_list){.ids = grown, .n = list->n + n, .cap = list->n + n + 1};
    return MLXR_OK;
}

/* An encoder's: <s> query </s> </s> document </s> where pieces are SentencePiece's, [CLS] query [SEP] document [SEP]
 * where they are words. */
static mlxr_status encoder_ids(const mlxr_model *model, const mlxr_rerank_pair *pair, token_list *out, bool *cut,
                               mlxr_error *error)
{
    const tokenizer *t = model->tokenizer;
    int32_t end = tokenizer_eos(t), between[2] = {end, end};
    token_list document = {0};
    if (end < 0) {
        return error_set(error, MLXR_UNSUPPORTED, "%s: its tokenizer has no token behind a text", model->info.path);
    }
    mlxr_status status = tokenizer_encode(t, pair->query, pair->n_query, MLXR_TOKENIZE_ADD_SPECIAL, out, error);
    if (status == MLXR_OK) {
        status = tokenizer_encode(t, pair->document, pair->n_document, 0, &document, error);
    }
    if (status == MLXR_OK && pair->document_tokens_most && document.n > pair->document_tokens_most) {
        document.n = pair->document_tokens_most;
        *cut = true;
    }
    if (status == MLXR_OK) {
        size_t has = out->n > 0 && out->ids[out->n - 1] == end;
        status = add_ids(out, between, 1 - has + (tokenizer_kind_of(t) == TOKENIZER_UNIGRAM), error);
    }
    if (status == MLXR_OK) {
        status = add_ids(out, document.ids, document.n, error);
    }
    if (status == MLXR_OK) {
        status = add_ids(out, between, 1, error);
    }
    token_list_close(&document);
    return status;
}

/* The document, or what its first tokens spell; *own is to be freed. */
static mlxr_status cut_document(const mlxr_model *model, const mlxr_rerank_pair *pair, const char **text, size_t *n,
                                char **own, bool *cut, mlxr_error *error)
{
    token_list list = {0};
    *text = pair->document;
    *n = pair->n_document;
    if (pair->document_tokens_most == 0) {
        return MLXR_OK;
    }
    mlxr_status status = tokenizer_encode(model->tokenizer, pair->document, pair->n_document, 0, &list, error);
    if (status == MLXR_OK && list.n > pair->document_tokens_most) {
        status = mlxr_detokenize(model, list.ids, pair->document_tokens_most, true, own, n, error);
        *text = *own;
        *cut = true;
    }
    token_list_close(&list);
    return status;
}

/* A decoder's: what it is asked, as its chat template writes it. Texts become no control tokens. */
static mlxr_status decoder_ids(const mlxr_model *model, const mlxr_rerank_pair *pair, token_list *out, bool *cut,
                               mlxr_error *error)
{
    char *own = NULL, *json = NULL, *prompt = NULL;
    const char *document = NULL;
    size_t n_document = 0;
    mlxr_status status = cut_document(model, pair, &document, &n_document, &own, cut, error);
    if (status == MLXR_OK) {
        json_t *asked = json_sprintf("<Instruct>: %s\n<Query>: %.*s\n<Document>: %.*s",
                                     pair->instruction ? pair->instruction : usual_instruction, (int)pair->n_query,
                                     pair->query, (int)n_document, document);
        json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:o}]", "role", "system", "content", judge, "role", "user",
                                     "content", asked);
        json = messages ? json_dumps(messages, JSON_COMPACT) : NULL;
        json_decref(messages);
        status = json ? MLXR_OK : error_set(error, MLXR_ARG, "the query, document or instruction is no UTF-8 text");
    }
    if (status == MLXR_OK) {
        status = mlxr_chat_render_marked(model, json, NULL, "{\"enable_thinking\": false}", true, &prompt, error);
    }
    if (status == MLXR_OK) {
        status = tokenizer_encode(model->tokenizer, prompt, strlen(prompt),
                                  MLXR_TOKENIZE_PARSE_SPECIAL | MLXR_TOKENIZE_MARKED, out, error);
    }
    mlxr_free(prompt);
    mlxr_free(own);
    free(json);
    return status;
}

mlxr_status mlxr_rerank_tokenize(const mlxr_model *model, const mlxr_rerank_pair *pair, int32_t **ids, size_t *n_ids,
                                 bool *cut, mlxr_error *error)
{
    token_list list = {0};
    bool was_cut = false;
    mlxr_status status = check_possible(model, error);
    if (status == MLXR_OK && (pair->n_query > INT32_MAX || pair->n_document > INT32_MAX)) {
        status = error_set(error, MLXR_LIMIT, "a text of more than 2 GiB");
    }
    if (status == MLXR_OK) {
        status = model->graph->plan.both_ways ? encoder_ids(model, pair, &list, &was_cut, error)
                                              : decoder_ids(model, pair, &list, &was_cut, error);
    }
    if (status != MLXR_OK) {
        token_list_close(&list);
        return status;
    }
    *ids = list.ids;
    *n_ids = list.n;
    if (cut) {
        *cut = was_cut;
    }
    return MLXR_OK;
}

void mlxr_rerank_mark(mlxr_sequence *s)
{
    int32_t end = tokenizer_eos(s->model->tokenizer);
    s->second = 0;
    for (uint32_t i = 0; i + 1 < s->n_tokens && !s->second; i++) {
        s->second = s->tokens[i] == end ? i + 1 : 0;
    }
}

/* ---- scores --------------------------------------------------------------------------------------------------------
 */

/* The logit of one token behind a hidden state; row [n_embd] is room. */
static double logit_of(const mlxr_model *model, int32_t id, const double *hidden, float *row)
{
    const hparams *h = &model->graph->h;
    const tensor *w = model->graph->weights.output;
    double sum = 0;
    codec_decode(w->type, (const uint8_t *)w->data + (size_t)id * w->row_bytes, row, h->n_embd);
    for (uint32_t k = 0; k < h->n_embd; k++) {
        sum += (double)row[k] * hidden[k];
    }
    const tensor *bias = model->graph->weights.output_bias;
    sum += bias ? (double)((const float *)bias->data)[id] : 0;
    sum *= (double)h->logit_scale;
    return h->final_softcap > 0 ? (double)h->final_softcap * tanh(sum / (double)h->final_softcap) : sum;
}

mlxr_status mlxr_rerank_score(const mlxr_model *model, const double *hidden, float *score, mlxr_error *error)
{
    const graph *g = model->graph;
    if (g->h.ranks) {
        double *made = NULL;
        mlxr_status status = head_apply(&made, &g->head, hidden, g->h.n_embd, error);
        if (status == MLXR_OK) { /* of two numbers the first is "yes" */
            *score = (float)(head_width(&g->head, g->h.n_embd) == 2 ? made[0] - made[1] : made[0]);
        }
        free(made);
        return status;
    }
    mlxr_status status = check_possible(model, error);
    float *row = status == MLXR_OK ? malloc(g->h.n_embd * sizeof *row) : NULL;
    if (status == MLXR_OK && !row) {
        status = error_nomem(error, "a row of the output matrix", g->h.n_embd * sizeof *row);
    }
    if (status == MLXR_OK) {
        *score = (float)(logit_of(model, token_of(model, "yes"), hidden, row) -
                         logit_of(model, token_of(model, "no"), hidden, row));
    }
    free(row);
    return status;
}

typedef struct ranking {
    const mlxr_model *model;
    float *scores;
} ranking;

static mlxr_status take_score(void *user, size_t index, const double *pooled, mlxr_error *error)
{
    const ranking *r = user;
    return mlxr_rerank_score(r->model, pooled, &r->scores[index], error);
}

mlxr_status mlxr_rerank(mlxr_engine *engine, mlxr_model *model, const mlxr_embed_input *inputs, size_t n_inputs,
                        float *scores, mlxr_error *error)
{
    ranking r = {.model = model, .scores = scores};
    mlxr_status status = check_possible(model, error);
    return status != MLXR_OK ? status
                             : pool_texts(engine, model, inputs, n_inputs, mlxr_rerank_info_get(model).pooling,
                                          mlxr_rerank_mark, take_score, &r, error);
}
