/*
 * mlxr_rerank.h: how well documents answer a query. The rules of mlxr.h about errors, threads and ownership hold here,
 * too.
 *
 * Two kinds of models can tell: those with a head that makes one number of a query and a document read together
 * (bge-reranker), and decoders, which are asked whether the document answers the query and whose "yes" is held against
 * their "no" (Qwen3-Reranker).
 */
#ifndef MLXR_RERANK_H
#define MLXR_RERANK_H

#include "mlxr_embed.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mlxr_rerank_info {
    bool possible; /* it has a head, or is a decoder with a chat template and tokens "yes" and "no", of whose output
                      matrix no adapter changes anything */
    bool intended; /* it has a head, or its name says that it ranks */
    mlxr_pooling pooling; /* what tells: the first token's hidden state, of a decoder the last, of some the mean */
    uint32_t n_tokens_max;
} mlxr_rerank_info;
MLXR_API mlxr_rerank_info mlxr_rerank_info_get(const mlxr_model *model);

typedef struct mlxr_rerank_pair {
    const char *instruction; /* what a query is to be answered for; NULL: the usual. Only decoders are told */
    const char *query, *document;
    size_t n_query, n_document;    /* bytes */
    uint32_t document_tokens_most; /* the document is cut behind so many tokens; 0: never */
} mlxr_rerank_pair;

/* The tokens that the model reads for a pair; *ids is freed with mlxr_free. *cut (may be NULL): the document was cut.
 * What is written in the texts cannot become control tokens. */
MLXR_API mlxr_status mlxr_rerank_tokenize(const mlxr_model *model, const mlxr_rerank_pair *pair, int32_t **ids,
                                          size_t *n_ids, bool *cut, mlxr_error *error);

/* scores [n_inputs], one for the tokens of each pair: 1 ÷ (1 + exp(−score)) is the probability that the document
 * answers. Computed as mlxr_embed computes.
 * Where a model is told which tokens are the document's (BERT), they are those behind the first token that ends a text.
 */
MLXR_API mlxr_status mlxr_rerank(mlxr_engine *engine, mlxr_model *model, const mlxr_embed_input *inputs,
                                 size_t n_inputs, float *scores, mlxr_error *error);
/* For a caller that computes hidden states itself: the sequence holds the tokens of one pair, all of them, and what
 * comes behind the first token that ends a text is its document. What is not marked is one text. On the engine's
 * thread. */
MLXR_API void mlxr_rerank_mark(mlxr_sequence *sequence);
/* The same as mlxr_rerank of a hidden state [n_embd] that the caller had computed and pooled as info's pooling says. */
MLXR_API mlxr_status mlxr_rerank_score(const mlxr_model *model, const double *hidden, float *score, mlxr_error *error);

#ifdef __cplusplus
}
#endif
#endif
