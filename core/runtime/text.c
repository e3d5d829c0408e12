/*
 * Text: tokenisation, detokenisation and chat rendering behind the public interface.
 * Owner: results belong to the caller. Lifetime: the call. Any thread.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/error.h"
#include "runtime/engine.h"
#include "text/json_text.h"

#define DETOKENIZE_BYTES_MAX ((size_t)1 << 30)
#define CHAT_JSON_BYTES_MAX ((size_t)64 << 20)

mlxr_status mlxr_tokenize(const mlxr_model *model, const char *text, size_t n_bytes, unsigned flags, int32_t *ids,
                          size_t cap, size_t *n_ids, mlxr_error *error)
{
    token_list list = {0};
    mlxr_status status = tokenizer_encode(model->tokenizer, text, n_bytes, flags, &list, error);
    if (status == MLXR_OK) {
        size_t n = list.n < cap ? list.n : cap;
        if (n) {
            memcpy(ids, list.ids, n * sizeof *ids);
        }
        *n_ids = list.n;
    }
    token_list_close(&list);
    return status;
}

mlxr_status mlxr_detokenize(const mlxr_model *model, const int32_t *ids, size_t n_ids, bool with_special, char **text,
                            size_t *n_bytes, mlxr_error *error)
{
    buffer b = buffer_make(DETOKENIZE_BYTES_MAX);
    detokenizer d = {0};
    char *piece = NULL;
    size_t cap = 0;
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i <= n_ids && status == MLXR_OK; i++) { /* one round more for what is unfinished */
        size_t need = 3 * ((i < n_ids ? tokenizer_piece(model->tokenizer, ids[i]).n : 0) + sizeof d.tail);
        if (need > cap) {
            char *grown = realloc(piece, need);
            if (!grown) {
                status = error_nomem(error, "text of a token", need);
                break;
            }
            piece = grown;
            cap = need;
        }
        size_t n = i < n_ids ? detokenizer_push(&d, model->tokenizer, ids[i], with_special, piece, cap)
                             : detokenizer_finish(&d, piece, cap);
        if (!buffer_append(&b, piece, n)) {
            status = error_nomem(error, "text", b.n + n);
        }
    }
    free(piece);
    *n_bytes = b.n;
    if (status == MLXR_OK) {
        *text = buffer_take(&b);
        status = *text ? MLXR_OK : error_nomem(error, "text", 1);
    }
    buffer_close(&b);
    return status;
}

const char *mlxr_token_text(const mlxr_model *model, int32_t id, size_t *n_bytes)
{
    if (id < 0 || (uint32_t)id >= tokenizer_size(model->tokenizer)) {
        *n_bytes = 0;
        return NULL;
    }
    token_text piece = tokenizer_piece(model->tokenizer, id);
    *n_bytes = piece.n;
    return piece.data;
}

bool mlxr_token_is_end(const mlxr_model *model, int32_t id)
{
    return tokenizer_is_end(model->tokenizer, id);
}

bool mlxr_token_is_special(const mlxr_model *model, int32_t id)
{
    return tokenizer_is_special(model->tokenizer, id);
}

/* Parses one JSON argument and puts it under `key`; NULL text leaves the key out. */
static mlxr_status set_json(json_t *variables, const char *key, const char *text, json_type type, mlxr_error *error)
{
    json_t *value = NULL;
    if (!text) {
        return MLXR_OK;
    }
    mlxr_status status = json_text_parse(&value, text, strlen(text), CHAT_JSON_BYTES_MAX, error);
    if (status != MLXR_OK) {
        return error_prefix(error, status, "%s", key);
    }
    if (json_typeof(value) != type) {
        json_decref(value);
        return error_set(error, MLXR_ARG, "%s must be a JSON %s", key, type == JSON_ARRAY ? "array" : "object");
    }
    int failed = type == JSON_ARRAY ? json_object_set_new(variables, key, value) : json_object_update(variables, value);
    if (type != JSON_ARRAY) {
        json_decref(value);
    }
    return failed ? error_nomem(error, key, strlen(text)) : MLXR_OK;
}

/* bos_token and eos_token, as the text of their pieces. */
static mlxr_status set_token(json_t *variables, const char *key, const mlxr_model *model, int32_t id, mlxr_error *error)
{
    token_text piece = {"", 0};
    if (id >= 0) {
        piece = tokenizer_piece(model->tokenizer, id);
    }
    json_t *text = json_stringn(piece.data, piece.n);
    return json_object_set_new(variables, key, text ? text : json_string("")) ? error_nomem(error, key, piece.n)
                                                                              : MLXR_OK;
}

mlxr_status mlxr_chat_render(const mlxr_model *model, const char *messages_json, const char *tools_json,
                             const char *extra_json, bool add_generation_prompt, char **text, mlxr_error *error)
{
    if (!model->chat) {
        return error_set(error, MLXR_UNSUPPORTED, "%s", model->chat_error.text);
    }
    json_t *variables = json_object();
    buffer out = buffer_make((size_t)64 << 20);
    mlxr_status status = variables ? MLXR_OK : error_nomem(error, "template variables", 1);
    if (status == MLXR_OK) {
        status = set_token(variables, "bos_token", model, tokenizer_bos(model->tokenizer), error);
    }
    if (status == MLXR_OK) {
        status = set_token(variables, "eos_token", model, tokenizer_eos(model->tokenizer), error);
    }
    if (status == MLXR_OK) {
        status = set_json(variables, "extra", extra_json, JSON_OBJECT, error);
    }
    if (status == MLXR_OK) {
        status = set_json(variables, "messages", messages_json ? messages_json : "[]", JSON_ARRAY, error);
    }
    if (status == MLXR_OK) {
        status = set_json(variables, "tools", tools_json, JSON_ARRAY, error);
    }
    if (status == MLXR_OK &&
        json_object_set_new(variables, "add_generation_prompt", json_boolean(add_generation_prompt))) {
        status = error_nomem(error, "template variables", 1);
    }
    if (status == MLXR_OK) {
        status = chat_variables_complete(variables, error);
    }
    if (status == MLXR_OK) {
        static const chat_limits limits = {0};
        status = chat_template_render(model->chat, variables, &limits, &out, error);
    }
    if (status == MLXR_OK) {
        *text = buffer_take(&out);
        status = *text ? MLXR_OK : error_nomem(error, "rendered chat", out.n);
    }
    buffer_close(&out);
    json_decref(variables);
    return status;
}
