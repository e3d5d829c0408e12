/*
 * Opening what is quantised or converted.
 * Owner: the caller. Lifetime: source_open to source_close.
 */
#include "convert/source.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "convert/heads.h"
#include "convert/latent.h"
#include "convert/multipliers.h"
#include "graph/rope.h"
#include "graph/vocabulary.h"
#include "quant/codec.h"
#include "text/tokenizer_export.h"

/* gguf_out_texts takes a vocabulary's texts as they are. */
_Static_assert(sizeof(token_text) == sizeof(text_view), "two views of texts");

/* Keys that are written anew or say what will no longer be true. */
static bool is_ours(const char *key)
{
    static const char *const ours[] = {"general.file_type", "general.quantization_version", "general.alignment",
                                       "split.", "quantize.imatrix."};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        size_t n = strlen(ours[i]);
        if (strncmp(key, ours[i], n) == 0 && (ours[i][n - 1] == '.' || key[n] == 0)) {
            return true;
        }
    }
    return false;
}

/* What a tensor says instead. */
static bool is_scaling(const char *key)
{
    return strstr(key, ".rope.scaling.") != NULL;
}

/* Ids that config.json did not give already. */
static void put_token_ids(source *s, const tokenizer_source *v)
{
    const struct {
        const char *key;
        int32_t id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", v->bos},     {"tokenizer.ggml.eos_token_id", v->eos},
               {"tokenizer.ggml.unknown_token_id", v->unk}, {"tokenizer.ggml.padding_token_id", v->pad},
               {"tokenizer.ggml.cls_token_id", v->cls},     {"tokenizer.ggml.seperator_token_id", v->sep},
               {"tokenizer.ggml.mask_token_id", v->mask}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        if (ids[i].id >= 0 && !model_file_meta(s->file, ids[i].key)) {
            gguf_out_u32(&s->header, ids[i].key, (uint32_t)ids[i].id);
        }
    }
}

/* Embeddings are often padded to a round number of rows. Other programs want a token for each: one that is never used.
 */
static mlxr_status pad_tokens(source *s, tokenizer_source *v, mlxr_error *error)
{
    enum { NAME_CAP = 20 };
    const tensor *embedding = model_file_tensor(s->file, "token_embd.weight");
    size_t n = embedding ? (size_t)embedding->shape[1] : 0, n_had = v->n_tokens;
    if (n <= n_had) {
        return MLXR_OK;
    }
    token_text *tokens = region_array(&s->memory, n, sizeof *tokens);
    int32_t *types = region_array(&s->memory, n, sizeof *types);
    float *scores = region_array(&s->memory, v->scores ? n : 0, sizeof *scores);
    char *names = region_array(&s->memory, n - n_had, NAME_CAP);
    if (n > UINT32_MAX || !tokens || !types || !names || !scores) {
        return error_nomem(error, "a vocabulary", n * sizeof *tokens);
    }
    memcpy(tokens, v->tokens, n_had * sizeof *tokens);
    memcpy(types, v->types, n_had * sizeof *types);
    for (size_t i = n_had; i < n; i++, names += NAME_CAP) {
        int length = snprintf(names, NAME_CAP, "[PAD%u]", (uint32_t)i);
        tokens[i] = (token_text){names, (uint32_t)length};
        types[i] = TOKEN_UNUSED;
    }
    if (v->scores) {
        memcpy(scores, v->scores, n_had * sizeof *scores);
        for (size_t i = n_had; i < n; i++) {
            scores[i] = -10000.0f; /* what others write, too */
        }
        v->scores = scores;
    }
    v->tokens = tokens;
    v->types = types;
    v->n_tokens = (uint32_t)n;
    return MLXR_OK;
}

/* Metadata that safetensors have in their tokenizer's files. */
static mlxr_status put_tokenizer(source *s, mlxr_error *error)
{
    tokenizer *t = NULL;
    tokenizer_export e;
    mlxr_status status = vocabulary_open(&t, s->file, error);
    if (status == MLXR_OK) {
        status = tokenizer_export_make(&e, t, &s->memory, error);
    }
    if (status == MLXR_OK) {
        status = pad_tokens(s, &e.source, error);
    }
    if (status == MLXR_OK) {
        const tokenizer_source *v = &e.source;
        gguf_out *h = &s->header;
        gguf_out_text(h, "tokenizer.ggml.model", e.model, strlen(e.model));
        if (v->pre) {
            gguf_out_text(h, "tokenizer.ggml.pre", v->pre, strlen(v->pre));
        }
        gguf_out_texts(h, "tokenizer.ggml.tokens", (const text_view *)(const void *)v->tokens, v->n_tokens);
        gguf_out_array(h, "tokenizer.ggml.token_type", META_I32, v->types, v->n_tokens);
        if (v->scores) {
            gguf_out_array(h, "tokenizer.ggml.scores", META_F32, v->scores, v->n_tokens);
        }
        if (v->merges) {
            gguf_out_texts(h, "tokenizer.ggml.merges", (const text_view *)(const void *)v->merges, v->n_merges);
        }
        if (v->kind == TOKENIZER_SPM || v->kind == TOKENIZER_UNIGRAM) {
            gguf_out_bool(h, "tokenizer.ggml.add_space_prefix", v->add_space_prefix);
        }
        if (v->kind == TOKENIZER_UNIGRAM) {
            gguf_out_bool(h, "tokenizer.ggml.remove_extra_whitespaces", v->remove_extra_whitespaces);
        }
        if (v->charsmap) {
            gguf_out_array(h, "tokenizer.ggml.precompiled_charsmap", META_U8, v->charsmap, v->n_charsmap);
        }
        put_token_ids(s, v);
        gguf_out_bool(h, "tokenizer.ggml.add_bos_token", v->add_bos);
        if (v->kind == TOKENIZER_UNIGRAM || v->kind == TOKENIZER_WORDPIECE) {
            gguf_out_bool(h, "tokenizer.ggml.add_eos_token", v->add_eos);
        }
    }
    tokenizer_close(&t);
    return status;
}

mlxr_status source_reorder(source *s, out_tensor *t, source_index *from, const void *order, mlxr_error *error)
{
    size_t n = (size_t)t->in->shape[0];
    tensor *copy = region_array(&s->memory, 1, sizeof *copy);
    float *values = region_array(&s->memory, n, sizeof *values), *plain = region_array(&s->memory, n, sizeof *plain);
    if (!copy || !values || !plain) {
        return error_nomem(error, t->in->name, 2 * n * sizeof *values);
    }
    codec_decode(t->in->type, t->in->data, plain, n);
    for (size_t i = 0; i < n; i++) {
        values[i] = plain[from(order, i)];
    }
    *copy = *t->in;
    copy->type = DTYPE_F32;
    copy->data = values;
    copy->row_bytes = copy->n_bytes = n * sizeof *values;
    t->in = copy;
    t->type = DTYPE_F32;
    return MLXR_OK;
}

/* Heads of rows that RoPE turns, the first n_rot of each. */
typedef struct pair_order {
    uint64_t n_head, n_rot;
} pair_order;

static uint64_t pair_source(const void *order, uint64_t i)
{
    const pair_order *o = order;
    uint64_t at = i % o->n_head;
    return at < o->n_rot ? i - at + at % 2 * (o->n_rot / 2) + at / 2 : i;
}

/* A bias in the order of its matrix's rows. */
static mlxr_status pair_bias(source *s, out_tensor *t, uint32_t n_heads, uint32_t n_rot, mlxr_error *error)
{
    if (t->packed) {
        return error_set(error, MLXR_UNSUPPORTED, "bias '%s' is quantised, which a bias cannot be", t->in->name);
    }
    const pair_order order = {.n_head = t->in->shape[0] / n_heads, .n_rot = n_rot};
    return source_reorder(s, t, pair_source, &order, error);
}

/* GGUF keeps the rows of Q and K that RoPE turns as adjacent pairs in some families, safetensors as halves. */
static mlxr_status pair_rows(source *s, const hparams *h, mlxr_error *error)
{
    static const char *const ends[] = {".attn_q.weight", ".attn_q.bias", ".attn_k.weight", ".attn_k.bias"};
    mlxr_status status = MLXR_OK;
    if (h->fam->gguf_rope != ROPE_PAIRS || h->fam->safetensors_keep_pairs) {
        return MLXR_OK;
    }
    for (size_t i = 0; i < s->n_tensors && status == MLXR_OK; i++) {
        out_tensor *t = &s->tensors[i];
        int which = 0;
        while (which < 4 && !text_ends_with(t->in->name, ends[which])) {
            which++;
        }
        if (text_ends_with(t->in->name, ".attn_qkv.weight")) {
            return error_set(error, MLXR_UNSUPPORTED,
                             "tensor '%s': GGUF has its rows in another order, which is not known here", t->in->name);
        }
        if (which == 4) {
            continue;
        }
        uint32_t n_heads = which < 2 ? h->n_head : h->n_head_kv;
        uint64_t n_rows = t->in->shape[which % 2 ? 0 : 1];
        if (n_rows % n_heads != 0 || n_rows / n_heads < h->n_rot) {
            return error_set(error, MLXR_FORMAT, "tensor '%s': %llu rows are not %u heads of %u pairs", t->in->name,
                             (unsigned long long)n_rows, n_heads, h->n_rot / 2);
        }
        if (which % 2) {
            status = pair_bias(s, t, n_heads, h->n_rot, error);
        } else {
            t->n_pair_heads = n_heads;
            t->n_pair_rows = h->n_rot;
        }
    }
    return status;
}

/* Llama 3's scaling is no metadata in GGUF but a tensor of what divides each frequency. */
static mlxr_status add_frequencies(source *s, const hparams *h, mlxr_error *error)
{
    if (h->scaling.kind != ROPE_SCALING_LLAMA3 || model_file_tensor(s->file, "rope_freqs.weight")) {
        return MLXR_OK;
    }
    uint32_t n = h->n_rot / 2;
    const rope_scaling none = {.kind = ROPE_SCALING_NONE, .factor = 1};
    float magnitude, *plain = region_array(&s->memory, n, sizeof *plain);
    float *scaled = region_array(&s->memory, n, sizeof *scaled);
    tensor *t = region_array(&s->memory, 1, sizeof *t);
    if (!plain || !scaled || !t) {
        return error_nomem(error, "rope_freqs.weight", 2 * n * sizeof *plain);
    }
    rope_frequencies(h->n_rot, h->rope_theta, &none, NULL, plain, &magnitude);
    rope_frequencies(h->n_rot, h->rope_theta, &h->scaling, NULL, scaled, &magnitude);
    for (uint32_t i = 0; i < n; i++) {
        plain[i] /= scaled[i];
    }
    *t = tensor_of_floats("rope_freqs.weight", plain, n);
    s->tensors[s->n_tensors++] = (out_tensor){.in = t, .type = DTYPE_F32};
    s->scaling_is_tensor = true;
    return MLXR_OK;
}

/* What safetensors have otherwise than GGUF. */
static mlxr_status from_safetensors(source *s, mlxr_error *error)
{
    hparams *h = region_array(&s->memory, 1, sizeof *h);
    if (!h) {
        return error_nomem(error, "hyper-parameters", sizeof *h);
    }
    mlxr_status status = hparams_read(h, s->file, error);
    s->is_latent = status == MLXR_OK && h->fam->latent && !h->fam->latent_whole;
    if (status == MLXR_OK) {
        status = pair_rows(s, h, error);
    }
    if (status == MLXR_OK) {
        status = heads_in_turn(s, h, error);
    }
    if (status == MLXR_OK && multipliers_are_there(h)) {
        status = multipliers_fold(s, h, error);
    }
    if (status == MLXR_OK) {
        status = add_frequencies(s, h, error);
    }
    return status;
}

static mlxr_status take_tensors(source *s, mlxr_error *error)
{
    s->n_tensors = (size_t)s->file->n_tensors;
    s->tensors = region_array(&s->memory, s->n_tensors + 2, sizeof *s->tensors); /* frequencies, and an output matrix */
    if (!s->tensors) {
        return error_nomem(error, "the tensor table", s->n_tensors * sizeof *s->tensors);
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        const tensor *t = &s->file->tensors[i];
        s->tensors[i] = (out_tensor){.in = t, .packed = model_file_packed(s->file, t), .type = t->type};
    }
    return MLXR_OK;
}

mlxr_status source_open(source *out, const char *path, mlxr_error *error)
{
    source s = {.header = gguf_out_make()};
    mlxr_status status = model_file_open(&s.file, path, error);
    if (status == MLXR_OK) {
        status = take_tensors(&s, error);
    }
    if (status == MLXR_OK && s.file->format == MODEL_SAFETENSORS) {
        status = from_safetensors(&s, error);
    }
    for (uint64_t i = 0; status == MLXR_OK && i < s.file->n_meta; i++) {
        const char *key = s.file->meta[i].key;
        if (!is_ours(key) && !(s.scaling_is_tensor && is_scaling(key)) && !(s.is_latent && latent_says(key)) &&
            !(s.folds_multipliers && multipliers_say(&s, key))) {
            gguf_out_put(&s.header, key, &s.file->meta[i]);
        }
    }
    if (status == MLXR_OK && s.file->format == MODEL_SAFETENSORS) {
        status = put_tokenizer(&s, error);
    }
    if (status == MLXR_OK) {
        *out = s;
    } else {
        source_close(&s);
    }
    return status;
}

void source_close(source *s)
{
    gguf_out_close(&s->header);
    model_file_close(&s->file);
    region_close(&s->memory);
    *s = (source){0};
}
