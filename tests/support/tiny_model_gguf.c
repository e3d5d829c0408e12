/*
 * Tiny random models as GGUF version 3 files.
 * Owner: see tiny_model.h. Lifetime: the call.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/codec.h"
#include "quant/half.h"
#include "support/tiny_model.h"

enum { U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STRING = 8, ARRAY = 9 };

#define ALIGNMENT 32u

/* Metadata is collected in memory first: its count stands before it in the file. */
typedef struct meta_writer {
    FILE *file;
    const char *arch;
    uint64_t n;
} meta_writer;

static void put(FILE *file, const void *data, size_t n)
{
    if (n && fwrite(data, 1, n, file) != n) {
        abort();
    }
}

static void put_u32(FILE *file, uint32_t value)
{
    put(file, &value, sizeof value);
}

static void put_u64(FILE *file, uint64_t value)
{
    put(file, &value, sizeof value);
}

static void put_text(FILE *file, const char *text)
{
    put_u64(file, strlen(text));
    put(file, text, strlen(text));
}

/* A key that begins with a dot belongs to the architecture. */
static void put_key(meta_writer *w, const char *key, uint32_t type)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s", key[0] == '.' ? w->arch : "", key);
    put_text(w->file, full);
    put_u32(w->file, type);
    w->n++;
}

static void meta_u32(meta_writer *w, const char *key, uint32_t value)
{
    put_key(w, key, U32);
    put_u32(w->file, value);
}

static void meta_f32(meta_writer *w, const char *key, float value)
{
    put_key(w, key, F32);
    put_u32(w->file, float_to_bits(value));
}

static void meta_bool(meta_writer *w, const char *key, bool value)
{
    put_key(w, key, BOOL);
    put(w->file, &(uint8_t){value}, 1);
}

static void meta_text(meta_writer *w, const char *key, const char *value)
{
    put_key(w, key, STRING);
    put_text(w->file, value);
}

static void meta_array(meta_writer *w, const char *key, uint32_t type, uint64_t n)
{
    put_key(w, key, ARRAY);
    put_u32(w->file, type);
    put_u64(w->file, n);
}

static void write_shape_meta(meta_writer *w, const tiny_model *m)
{
    meta_u32(w, ".block_count", m->n_layers);
    meta_u32(w, ".context_length", TINY_N_CTX);
    meta_u32(w, ".embedding_length", m->n_embd);
    meta_u32(w, ".feed_forward_length", m->n_ff);
    meta_u32(w, ".attention.head_count", m->n_head);
    meta_u32(w, ".attention.head_count_kv", m->n_head_kv);
    meta_f32(w, ".attention.layer_norm_rms_epsilon", m->eps);
    if (m->head_dim * m->n_head != m->n_embd) { /* files of the other families often leave these out */
        meta_u32(w, ".attention.key_length", m->head_dim);
        meta_u32(w, ".attention.value_length", m->head_dim);
    }
    if (strcmp(m->arch, "llama") == 0) {
        meta_u32(w, ".vocab_size", TINY_N_VOCAB);
        meta_u32(w, ".rope.dimension_count", m->head_dim);
    }
}

static void write_rope_meta(meta_writer *w, const tiny_model *m)
{
    meta_f32(w, ".rope.freq_base", m->theta);
    if (m->theta_local != 0 && m->theta_local != 10000) {
        meta_f32(w, ".rope.freq_base_swa", m->theta_local);
    }
    if (m->window) {
        meta_u32(w, ".attention.sliding_window", m->window);
    }
    if (m->window_every && m->window_every != 6) {
        meta_u32(w, ".attention.sliding_window_pattern", m->window_every);
    }
    if (m->query_scalar != 0) {
        meta_f32(w, ".attention.scale", (float)(1 / sqrt((double)m->query_scalar)));
    }
    /* Llama 3's scaling is in rope_freqs.weight alone, as the usual conversion has it */
    if (m->scaling == TINY_SCALING_LINEAR || m->scaling == TINY_SCALING_YARN) {
        meta_text(w, ".rope.scaling.type", m->scaling == TINY_SCALING_LINEAR ? "linear" : "yarn");
        meta_f32(w, ".rope.scaling.factor", m->factor);
    }
    if (m->scaling == TINY_SCALING_YARN) {
        meta_u32(w, ".rope.scaling.original_context_length", m->n_ctx_orig);
        if (m->beta_fast != 0) {
            meta_f32(w, ".rope.scaling.yarn_beta_fast", m->beta_fast);
            meta_f32(w, ".rope.scaling.yarn_beta_slow", m->beta_slow);
        }
        if (m->attn_factor != 0) {
            meta_f32(w, ".rope.scaling.yarn_attn_factor", m->attn_factor);
        }
    }
}

static void write_vocab_meta(meta_writer *w, const tiny_model *m)
{
    tiny_token tokens[TINY_N_VOCAB];
    tiny_specials s = tiny_vocab_specials(m->vocab);
    tiny_vocab_tokens(m->vocab, tokens);
    bool bpe = m->vocab == TINY_VOCAB_BPE;
    meta_text(w, "tokenizer.ggml.model", bpe ? "gpt2" : "llama");
    meta_text(w, "tokenizer.ggml.pre", !bpe ? "default" : m->arch[0] == 'q' ? "qwen2" : "llama-bpe");
    meta_array(w, "tokenizer.ggml.tokens", STRING, TINY_N_VOCAB);
    for (size_t i = 0; i < TINY_N_VOCAB; i++) {
        put_text(w->file, tokens[i].text);
    }
    meta_array(w, "tokenizer.ggml.token_type", I32, TINY_N_VOCAB);
    for (size_t i = 0; i < TINY_N_VOCAB; i++) {
        put_u32(w->file, (uint32_t)tokens[i].type);
    }
    char merge[64];
    size_t n_merges = 0;
    if (bpe) {
        while (tiny_vocab_merge(m->vocab, n_merges, merge, sizeof merge)) {
            n_merges++;
        }
        meta_array(w, "tokenizer.ggml.merges", STRING, n_merges);
        for (size_t i = 0; tiny_vocab_merge(m->vocab, i, merge, sizeof merge); i++) {
            put_text(w->file, merge);
        }
    } else {
        meta_array(w, "tokenizer.ggml.scores", F32, TINY_N_VOCAB);
        for (size_t i = 0; i < TINY_N_VOCAB; i++) {
            put_u32(w->file, float_to_bits(tokens[i].score));
        }
    }
    const struct {
        const char *key;
        int32_t id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", s.bos},
               {"tokenizer.ggml.eos_token_id", s.eos},
               {"tokenizer.ggml.eot_token_id", s.eot},
               {"tokenizer.ggml.unknown_token_id", s.unk},
               {"tokenizer.ggml.padding_token_id", s.pad}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        if (ids[i].id >= 0) {
            meta_u32(w, ids[i].key, (uint32_t)ids[i].id);
        }
    }
    meta_bool(w, "tokenizer.ggml.add_bos_token", s.add_bos);
    meta_bool(w, "tokenizer.ggml.add_eos_token", false);
    meta_bool(w, "tokenizer.ggml.add_space_prefix", s.add_space_prefix);
    if (m->chat_template) {
        meta_text(w, "tokenizer.chat_template", m->chat_template);
    }
}

/* Rows of each head from halves (0, 1, …, d/2, …) to adjacent pairs (0, d/2, 1, d/2 + 1, …). */
static void permute_rows(float *values, const tiny_tensor *t)
{
    uint32_t n_rows = t->n_out ? t->n_out : t->n_in, n_row = t->n_out ? t->n_in : 1;
    uint32_t head_dim = n_rows / t->permute_heads;
    float *old = malloc((size_t)n_rows * n_row * sizeof *old);
    if (!old) {
        abort();
    }
    memcpy(old, values, (size_t)n_rows * n_row * sizeof *old);
    for (uint32_t row = 0; row < n_rows; row++) {
        uint32_t at = row % head_dim;
        uint32_t from = row - at + at / 2 + (at % 2) * (head_dim / 2);
        memcpy(values + (size_t)row * n_row, old + (size_t)from * n_row, n_row * sizeof *old);
    }
    free(old);
}

static size_t padding(size_t n)
{
    return (ALIGNMENT - n % ALIGNMENT) % ALIGNMENT;
}

static void write_tensor(FILE *file, const tiny_model *m, const tiny_tensor *t, const tiny_options *options)
{
    static const char zeros[ALIGNMENT];
    size_t n = (size_t)t->n_in * (t->n_out ? t->n_out : 1);
    float *values = tiny_tensor_values(m, t);
    for (size_t i = 0; t->plus_one && i < n; i++) {
        values[i] += 1.0f;
    }
    if (t->permute_heads) {
        permute_rows(values, t);
    }
    dtype type = tiny_tensor_type(t, options);
    size_t n_bytes = dtype_row_bytes(type, n);
    if (type != DTYPE_F32) {
        void *encoded = malloc(n_bytes);
        if (!encoded) {
            abort();
        }
        codec_encode(type, values, encoded, n, NULL);
        if (options->decoded) {
            codec_decode(type, encoded, values, n);
        } else {
            put(file, encoded, n_bytes);
        }
        free(encoded);
    }
    if (type == DTYPE_F32 || options->decoded) {
        n_bytes = n * sizeof *values;
        put(file, values, n_bytes);
    }
    put(file, zeros, padding(n_bytes));
    free(values);
}

static void write_tensor_table(FILE *file, const tiny_tensor *tensors, size_t n, const tiny_options *options)
{
    uint64_t offset = 0;
    for (size_t i = 0; i < n; i++) {
        const tiny_tensor *t = &tensors[i];
        dtype type = options->decoded ? DTYPE_F32 : tiny_tensor_type(t, options);
        put_text(file, t->gguf_name);
        put_u32(file, t->n_out ? 2 : 1);
        put_u64(file, t->n_in);
        if (t->n_out) {
            put_u64(file, t->n_out);
        }
        put_u32(file, (uint32_t)type);
        put_u64(file, offset);
        size_t n_bytes = dtype_row_bytes(type, (size_t)t->n_in * (t->n_out ? t->n_out : 1));
        offset += n_bytes + padding(n_bytes);
    }
}

void tiny_model_write_gguf(const tiny_model *model, const tiny_options *options, const char *path)
{
    tiny_tensor tensors[TINY_TENSORS_MAX];
    tiny_options plain = {0};
    options = options ? options : &plain;
    size_t n_tensors = tiny_model_tensors(model, tensors);
    char *meta = NULL;
    size_t n_meta = 0;
    meta_writer w = {.file = open_memstream(&meta, &n_meta), .arch = model->arch};
    if (!w.file) {
        abort();
    }
    meta_text(&w, "general.architecture", model->arch);
    meta_text(&w, "general.name", model->name);
    meta_u32(&w, "general.alignment", ALIGNMENT);
    write_shape_meta(&w, model);
    write_rope_meta(&w, model);
    write_vocab_meta(&w, model);
    tiny_close(w.file, "memory");

    FILE *file = tiny_open(path);
    put(file, "GGUF", 4);
    put_u32(file, 3);
    put_u64(file, n_tensors);
    put_u64(file, w.n);
    put(file, meta, n_meta);
    free(meta);
    write_tensor_table(file, tensors, n_tensors, options);
    long end = ftell(file);
    for (size_t i = padding((size_t)end); i > 0; i--) {
        fputc(0, file);
    }
    for (size_t i = 0; i < n_tensors; i++) {
        write_tensor(file, model, &tensors[i], options);
    }
    tiny_close(file, path);
}
