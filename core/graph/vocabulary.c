/*
 * Vocabulary: the tokenizer.ggml.* metadata of a model file as a tokenizer_source.
 * Owner: arrays made here live in a region of the call. Lifetime: vocabulary_open.
 */
#include "graph/vocabulary.h"

#include <string.h>

#include "base/error.h"
#include "text/pretokenize.h"

#define KEY(name) "tokenizer.ggml." name

static bool text_is(text_view text, const char *word)
{
    return text.n == strlen(word) && memcmp(text.data, word, text.n) == 0;
}

/* The array under `key` with elements of `type`, or *out = NULL if there is none. n_tokens 0: any length. */
static mlxr_status find_array(const model_file *file, const char *key, meta_type type, uint32_t n_tokens,
                              const meta_array **out, mlxr_error *error)
{
    const meta_value *value = model_file_meta(file, key);
    *out = NULL;
    if (!value) {
        return MLXR_OK;
    }
    if (value->type != META_ARRAY || value->array.type != type) {
        return error_set(error, MLXR_FORMAT, "%s: not an array of the expected type (found %d, expected %d)", key,
                         (int)(value->type == META_ARRAY ? value->array.type : value->type), (int)type);
    }
    if (value->array.n > INT32_MAX - 1) {
        return error_set(error, MLXR_LIMIT, "%s: %llu elements", key, (unsigned long long)value->array.n);
    }
    if (n_tokens && value->array.n != n_tokens) {
        return error_set(error, MLXR_FORMAT, "%s: %llu elements for %u tokens", key, (unsigned long long)value->array.n,
                         n_tokens);
    }
    *out = &value->array;
    return MLXR_OK;
}

/* Copies an array of strings into the region; *n and *out stay as they are if the key is absent. */
static mlxr_status read_texts(const model_file *file, const char *key, region *memory, uint32_t *n,
                              const token_text **out, mlxr_error *error)
{
    const meta_array *array;
    mlxr_status status = find_array(file, key, META_STRING, 0, &array, error);
    if (status != MLXR_OK || !array) {
        return status;
    }
    size_t n_bytes = (size_t)array->n * sizeof(token_text);
    token_text *texts = region_alloc(memory, n_bytes);
    if (!texts) {
        return error_nomem(error, key, n_bytes);
    }
    for (uint64_t i = 0; i < array->n; i++) {
        texts[i] = (token_text){array->strings[i].data, array->strings[i].n};
    }
    *n = (uint32_t)array->n;
    *out = texts;
    return MLXR_OK;
}

/* Copies the four-byte elements of an array with one for each token; *out stays NULL if the key is absent. */
static mlxr_status read_words(const model_file *file, const char *key, meta_type type, uint32_t n_tokens,
                              region *memory, void *out, mlxr_error *error)
{
    const meta_array *array;
    mlxr_status status = find_array(file, key, type, n_tokens, &array, error);
    if (status != MLXR_OK || !array) {
        return status;
    }
    size_t n_bytes = (size_t)n_tokens * 4;
    void *copy = region_alloc(memory, n_bytes);
    if (!copy) {
        return error_nomem(error, key, n_bytes);
    }
    memcpy(copy, array->data, n_bytes);
    memcpy(out, &copy, sizeof copy);
    return MLXR_OK;
}

static mlxr_status read_id(const model_file *file, const char *key, int32_t *id, mlxr_error *error)
{
    uint32_t value = UINT32_MAX;
    mlxr_status status = model_file_u32(file, key, &value, error);
    if (status == MLXR_OK && value != UINT32_MAX) {
        if (value > INT32_MAX) {
            return error_set(error, MLXR_FORMAT, "%s: %u is no token", key, value);
        }
        *id = (int32_t)value;
    }
    return status;
}

static mlxr_status read_ids(const model_file *file, tokenizer_source *source, mlxr_error *error)
{
    const struct {
        const char *key;
        int32_t *id;
    } ids[] = {{KEY("bos_token_id"), &source->bos},     {KEY("eos_token_id"), &source->eos},
               {KEY("eot_token_id"), &source->eot},     {KEY("unknown_token_id"), &source->unk},
               {KEY("padding_token_id"), &source->pad}, {KEY("seperator_token_id"), &source->sep},
               {KEY("cls_token_id"), &source->cls},     {KEY("mask_token_id"), &source->mask}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        mlxr_status status = read_id(file, ids[i].key, ids[i].id, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    return MLXR_OK;
}

/* Which kind a tokenizer.ggml.model names, and its defaults. */
static mlxr_status set_kind(tokenizer_source *source, text_view model, mlxr_error *error)
{
    source->bos = source->eos = source->eot = source->unk = source->pad = source->sep = source->cls = source->mask = -1;
    if (text_is(model, "gpt2")) {
        source->kind = TOKENIZER_BPE;
    } else if (text_is(model, "gemma4")) {
        source->kind = TOKENIZER_BPE;
        source->pre = "gemma4";
        source->add_bos = true;
    } else if (text_is(model, "llama")) {
        source->kind = TOKENIZER_SPM;
        source->bos = 1;
        source->eos = 2;
        source->unk = 0;
        source->add_bos = true;
        source->add_space_prefix = true;
    } else if (text_is(model, "t5")) {
        source->kind = TOKENIZER_UNIGRAM;
        source->eos = 1;
        source->unk = 2;
        source->pad = 0;
        source->add_eos = true;
        source->add_space_prefix = true;
    } else if (text_is(model, "bert")) {
        source->kind = TOKENIZER_WORDPIECE;
        source->cls = 101;
        source->sep = 102;
        source->unk = 100;
        source->pad = 0;
        source->mask = 103;
        source->add_bos = source->add_eos = true;
    } else {
        return error_set(error, MLXR_UNSUPPORTED,
                         "tokenizer model \"%.*s\" is not known; known: gpt2, llama, gemma4, t5, bert",
                         (int)(model.n < 60 ? model.n : 60), model.data);
    }
    return MLXR_OK;
}

static mlxr_status read_source(const model_file *file, region *memory, tokenizer_source *source, mlxr_error *error)
{
    text_view model = {0}, pre = {0};
    mlxr_status status = model_file_text(file, KEY("model"), &model, error);
    if (status == MLXR_OK && !model.data) {
        return file->format == MODEL_SAFETENSORS
                   ? error_set(error, MLXR_FORMAT, "there is no tokenizer.json or tokenizer.model beside the weights")
                   : error_set(error, MLXR_FORMAT, KEY("model") ": absent; the file has no tokenizer");
    }
    if (status == MLXR_OK) {
        status = set_kind(source, model, error);
    }
    if (status == MLXR_OK) {
        status = model_file_text(file, KEY("pre"), &pre, error);
    }
    if (status == MLXR_OK && pre.data && !source->pre) {
        source->pre = region_strndup(memory, pre.data, pre.n);
        const pre_recipe *recipe = source->pre ? pre_recipe_named(source->pre) : NULL;
        source->add_bos = source->add_bos || (source->kind == TOKENIZER_BPE && recipe && recipe->adds_bos);
        status = source->pre ? MLXR_OK : error_nomem(error, KEY("pre"), pre.n + 1);
    }
    if (status == MLXR_OK) {
        status = read_texts(file, KEY("tokens"), memory, &source->n_tokens, &source->tokens, error);
    }
    if (status == MLXR_OK && source->n_tokens == 0) {
        return error_set(error, MLXR_FORMAT, KEY("tokens") ": no tokens");
    }
    if (status == MLXR_OK) {
        status = read_texts(file, KEY("merges"), memory, &source->n_merges, &source->merges, error);
    }
    if (status == MLXR_OK) {
        status = read_words(file, KEY("scores"), META_F32, source->n_tokens, memory, &source->scores, error);
    }
    if (status == MLXR_OK) {
        status = read_words(file, KEY("token_type"), META_I32, source->n_tokens, memory, &source->types, error);
    }
    return status;
}

static mlxr_status read_switches(const model_file *file, tokenizer_source *source, mlxr_error *error)
{
    const struct {
        const char *key;
        bool *value;
    } switches[] = {{KEY("add_bos_token"), &source->add_bos},
                    {KEY("add_eos_token"), &source->add_eos},
                    {KEY("add_space_prefix"), &source->add_space_prefix},
                    {KEY("remove_extra_whitespaces"), &source->remove_extra_whitespaces}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        mlxr_status status = model_file_bool(file, switches[i].key, switches[i].value, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    const meta_array *map;
    mlxr_status status = find_array(file, KEY("precompiled_charsmap"), META_U8, 0, &map, error);
    if (status == MLXR_OK && map) {
        source->charsmap = map->data;
        source->n_charsmap = (size_t)map->n;
    }
    return status;
}

/* Marks what the file names as ends: one id, and the list that generation_config.json may give. */
static mlxr_status mark_ends(tokenizer *t, const model_file *file, mlxr_error *error)
{
    int32_t eos = -1;
    const meta_array *list;
    mlxr_status status = read_id(file, KEY("eos_token_id"), &eos, error);
    if (status == MLXR_OK && eos >= 0) {
        status = tokenizer_mark_end(t, eos, error);
    }
    if (status == MLXR_OK) {
        status = find_array(file, KEY("eos_token_ids"), META_I32, 0, &list, error);
    }
    for (uint64_t i = 0; status == MLXR_OK && list && i < list->n; i++) {
        status = tokenizer_mark_end(t, (int32_t)meta_array_number(list, i), error);
    }
    return status;
}

/* The tokenizer files beside safetensors. */
static mlxr_status open_beside(tokenizer **out, const model_file *file, mlxr_error *error)
{
    tokenizer *t = NULL;
    mlxr_status status = file->tokenizer_json.n
                             ? tokenizer_open_json(&t, file->tokenizer_json.data, file->tokenizer_json.n,
                                                   file->tokenizer_config.data, file->tokenizer_config.n, error)
                             : tokenizer_open_spm(&t, file->tokenizer_model.data, file->tokenizer_model.n, error);
    if (status == MLXR_OK) {
        status = mark_ends(t, file, error);
    }
    if (status == MLXR_OK) {
        *out = t;
    } else {
        tokenizer_close(&t);
    }
    return status;
}

mlxr_status vocabulary_open(tokenizer **out, const model_file *file, mlxr_error *error)
{
    if (file->tokenizer_json.n || file->tokenizer_model.n) {
        return open_beside(out, file, error);
    }
    region memory = {0};
    tokenizer_source source = {0};
    tokenizer *t = NULL;
    mlxr_status status = read_source(file, &memory, &source, error);
    if (status == MLXR_OK) {
        status = read_ids(file, &source, error);
    }
    if (status == MLXR_OK) {
        status = read_switches(file, &source, error);
    }
    if (status == MLXR_OK) {
        if (source.kind == TOKENIZER_WORDPIECE) { /* [CLS] text [SEP] */
            source.bos = source.cls;
            source.eos = source.sep;
        }
        source.add_bos = source.add_bos && source.bos >= 0;
        status = tokenizer_open(&t, &source, error);
    }
    if (status == MLXR_OK) {
        status = mark_ends(t, file, error);
    }
    if (status == MLXR_OK) {
        *out = t;
    } else {
        tokenizer_close(&t);
    }
    region_close(&memory);
    return status;
}
