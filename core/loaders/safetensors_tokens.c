/*
 * generation_config.json and tokenizer_config.json: special tokens and the template of a chat.
 * Owner: the model_file being filled; strings live in its region. Lifetime: its own.
 */
#include <string.h>

#include "loaders/safetensors_writer.h"

static bool is_id(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= INT32_MAX;
}

/* One id, or a list of them. */
static void write_ids(hf_writer *w, const json_t *value, const char *name, const char *one, const char *many)
{
    if (is_id(value)) {
        hf_add_u32(w, one, (uint32_t)json_integer_value(value));
        return;
    }
    size_t n = json_array_size(value);
    for (size_t i = 0; i < n; i++) {
        if (!is_id(json_array_get(value, i))) {
            n = 0;
        }
    }
    if (n == 0 || n > 1024) {
        hf_wrong(w, name, "token id or list of them");
        return;
    }
    hf_add_u32(w, one, (uint32_t)json_integer_value(json_array_get(value, 0)));
    uint8_t *ids = many ? hf_add_array(w, many, META_I32, n) : NULL;
    for (size_t i = 0; i < n && ids; i++) {
        uint32_t id = (uint32_t)json_integer_value(json_array_get(value, i));
        for (int byte = 0; byte < 4; byte++) {
            ids[4 * i + (size_t)byte] = (uint8_t)(id >> 8 * byte);
        }
    }
}

/* generation_config.json knows better than config.json which tokens end a generation. */
void hf_write_special_tokens(hf_writer *w, text_view generation_text)
{
    json_t *generation = NULL;
    if (generation_text.n && w->status == MLXR_OK) {
        w->status = safetensors_parse_json(&generation, generation_text, "generation_config.json", w->error);
    }
    static const struct {
        const char *theirs, *one, *many;
    } ids[] = {{"bos_token_id", "tokenizer.ggml.bos_token_id", NULL},
               {"eos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eos_token_ids"}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const json_t *value = hf_member(generation, ids[i].theirs);
        value = value ? value : hf_member(w->root, ids[i].theirs);
        if (value) {
            write_ids(w, value, ids[i].theirs, ids[i].one, ids[i].many);
        }
    }
    json_decref(generation);
}

/* "chat_template" is a string, or a list of {name, template} of which "default" is the one for chats. */
static const json_t *find_template(const json_t *tokenizer_config)
{
    const json_t *value = hf_member(tokenizer_config, "chat_template");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *entry = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0) {
            return json_object_get(entry, "template");
        }
    }
    return value;
}

void hf_write_template(hf_writer *w, const safetensors_texts *texts)
{
    json_t *tokenizer_config = NULL;
    if (texts->tokenizer_config.n && w->status == MLXR_OK) {
        w->status = safetensors_parse_json(&tokenizer_config, texts->tokenizer_config, "tokenizer_config.json",
                                           w->error);
    }
    if (texts->chat_template.n) { /* the newer place */
        meta_value *value = hf_add(w, "tokenizer.chat_template", META_STRING);
        if (value) {
            value->s = texts->chat_template;
        }
    } else {
        const json_t *template = find_template(tokenizer_config);
        if (json_is_string(template)) {
            hf_add_text(w, "tokenizer.chat_template", json_string_value(template), json_string_length(template));
        }
    }
    json_decref(tokenizer_config);
}
