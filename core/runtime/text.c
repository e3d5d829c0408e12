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

/* ---- marks ------------------------------------------------------------------------------------------------------- */

static json_t *mark_text(const tokenizer *t, const char *text, size_t n)
{
    buffer b = buffer_make(2 * CHAT_JSON_BYTES_MAX);
    json_t *made = tokenizer_mark_specials(t, text, n, &b) ? json_stringn_nocheck(b.data ? b.data : "", b.n) : NULL;
    buffer_close(&b);
    return made;
}

/* Does anything in it spell a special? */
static bool needs_marks(const tokenizer *t, const json_t *value)
{
    bool any = false;
    if (json_is_string(value)) {
        return tokenizer_spells_special(t, json_string_value(value), json_string_length(value));
    }
    for (size_t i = 0; i < json_array_size(value) && !any; i++) {
        any = needs_marks(t, json_array_get(value, i));
    }
    void *it = json_object_iter((json_t *)value);
    for (; it && !any; it = json_object_iter_next((json_t *)value, it)) {
        any = tokenizer_spells_special(t, json_object_iter_key(it), json_object_iter_key_len(it)) ||
              needs_marks(t, json_object_iter_value(it));
    }
    return any;
}

/* A copy of a value with all its texts marked; NULL: no memory. The JSON parser has bounded the depth. */
static json_t *mark_value(const tokenizer *t, json_t *value)
{
    if (json_is_string(value)) {
        return mark_text(t, json_string_value(value), json_string_length(value));
    }
    if (!json_is_array(value) && !json_is_object(value)) {
        return json_incref(value);
    }
    json_t *made = json_is_array(value) ? json_array() : json_object();
    bool ok = made != NULL;
    for (size_t i = 0; ok && i < json_array_size(value); i++) {
        ok = json_array_append_new(made, mark_value(t, json_array_get(value, i))) == 0;
    }
    void *it = json_object_iter(value);
    for (; it && ok; it = json_object_iter_next(value, it)) {
        json_t *key = mark_text(t, json_object_iter_key(it), json_object_iter_key_len(it));
        ok = key && json_object_setn_new_nocheck(made, json_string_value(key), json_string_length(key),
                                                 mark_value(t, json_object_iter_value(it))) == 0;
        json_decref(key);
    }
    if (!ok) {
        json_decref(made);
    }
    return ok ? made : NULL;
}

/* Parses one JSON argument and puts it under `key`, its texts marked unless `marks` is NULL; NULL text leaves the key
 * out. */
static mlxr_status set_json(json_t *variables, const char *key, const char *text, json_type type,
                            const tokenizer *marks, mlxr_error *error)
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
    if (marks && needs_marks(marks, value)) {
        json_t *marked = mark_value(marks, value);
        json_decref(value);
        if (!marked) {
            return error_nomem(error, key, strlen(text));
        }
        value = marked;
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

mlxr_status mlxr_chat_mark(const mlxr_model *model, const char *text, size_t n_bytes, char **out, size_t *n_out,
                           mlxr_error *error)
{
    buffer b = buffer_make(2 * CHAT_JSON_BYTES_MAX);
    bool ok = tokenizer_mark_specials(model->tokenizer, text, n_bytes, &b);
    *n_out = b.n;
    *out = ok ? buffer_take(&b) : NULL;
    buffer_close(&b);
    return *out ? MLXR_OK : error_nomem(error, "a marked text", n_bytes);
}

size_t mlxr_chat_unmark(char *text, size_t n_bytes)
{
    size_t n = tokenizer_unmark(text, n_bytes);
    text[n] = 0;
    return n;
}

/* ---- rendering --------------------------------------------------------------------------------------------------- */

/* chat NULL: the model's. */
static mlxr_status render(const mlxr_model *model, const chat_template *chat, const char *messages_json,
                          const char *tools_json, const char *extra_json, bool add_generation_prompt, bool mark,
                          char **text, mlxr_error *error)
{
    chat = chat ? chat : model->chat;
    if (!chat) {
        return error_set(error, MLXR_UNSUPPORTED, "%s", model->chat_error.text);
    }
    json_t *variables = json_object();
    const tokenizer *marks = mark ? model->tokenizer : NULL;
    buffer out = buffer_make((size_t)64 << 20);
    mlxr_status status = variables ? MLXR_OK : error_nomem(error, "template variables", 1);
    if (status == MLXR_OK) {
        status = set_token(variables, "bos_token", model, tokenizer_bos(model->tokenizer), error);
    }
    if (status == MLXR_OK) {
        status = set_token(variables, "eos_token", model, tokenizer_eos(model->tokenizer), error);
    }
    if (status == MLXR_OK) {
        status = set_json(variables, "extra", extra_json, JSON_OBJECT, marks, error);
    }
    if (status == MLXR_OK) {
        status = set_json(variables, "messages", messages_json ? messages_json : "[]", JSON_ARRAY, marks, error);
    }
    if (status == MLXR_OK) {
        status = set_json(variables, "tools", tools_json, JSON_ARRAY, marks, error);
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
        status = chat_template_render(chat, variables, &limits, &out, error);
    }
    if (status == MLXR_OK) {
        *text = buffer_take(&out);
        status = *text ? MLXR_OK : error_nomem(error, "rendered chat", out.n);
    }
    buffer_close(&out);
    json_decref(variables);
    return status;
}

mlxr_status mlxr_chat_render(const mlxr_model *model, const char *messages_json, const char *tools_json,
                             const char *extra_json, bool add_generation_prompt, char **text, mlxr_error *error)
{
    return render(model, NULL, messages_json, tools_json, extra_json, add_generation_prompt, false, text, error);
}

mlxr_status mlxr_chat_render_marked(const mlxr_model *model, const char *messages_json, const char *tools_json,
                                    const char *extra_json, bool add_generation_prompt, char **text, mlxr_error *error)
{
    return render(model, NULL, messages_json, tools_json, extra_json, add_generation_prompt, true, text, error);
}

mlxr_status mlxr_chat_render_with(const mlxr_model *model, const char *template_text, const char *messages_json,
                                  const char *tools_json, const char *extra_json, bool add_generation_prompt,
                                  bool marked, char **text, mlxr_error *error)
{
    chat_template *chat = NULL;
    mlxr_status status = template_text ? chat_template_open(&chat, template_text, strlen(template_text), error)
                                       : MLXR_OK;
    if (status != MLXR_OK) {
        return error_prefix(error, status, "the template given for this model");
    }
    status = render(model, chat, messages_json, tools_json, extra_json, add_generation_prompt, marked, text, error);
    chat_template_close(&chat);
    return status;
}
