/*
 * Tiny random models: every family and RoPE scaling in a few hundred kilobytes, with weights from a counter-based
 * generator, so that a test needs no file and a reference in another language has the same numbers.
 * Owner: the caller owns the files written. Lifetime: the table is static. Any failure ends the test program.
 *
 * Weight i of the tensor named n in the model with seed s:
 *     key = mix(s xor fnv1a64(n))        bits = mix(key + (i + 1) · 0x9e3779b97f4a7c15)
 *     u = (bits >> 40) · 2⁻²³ − 1        weight = base + scale · u          (float32, each operation rounded)
 * where mix is the finaliser of splitmix64, n is the tensor's GGUF name and i counts row-major in [out][in] order with
 * Q/K rows in halves. tools/oracle/tiny.py says the same in Python; `make oracle` compares both bit by bit.
 */
#ifndef MLXR_TEST_TINY_MODEL_H
#define MLXR_TEST_TINY_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/dtype.h"

typedef enum tiny_scaling {
    TINY_SCALING_NONE,
    TINY_SCALING_LINEAR,
    TINY_SCALING_YARN,
    TINY_SCALING_LLAMA3
} tiny_scaling;

typedef enum tiny_vocab { TINY_VOCAB_BPE, TINY_VOCAB_SPM, TINY_VOCAB_GEMMA } tiny_vocab;

/* The number of tokens of every vocabulary here. */
#define TINY_N_VOCAB 320u
/* max_position_embeddings of every model here. */
#define TINY_N_CTX 256u

typedef struct tiny_model {
    const char *name;
    const char *arch;       /* GGUF's general.architecture */
    const char *model_type; /* config.json's */
    const char *class_name; /* config.json's architectures[0] */
    uint64_t seed;
    uint32_t n_layers, n_embd, n_head, n_head_kv, head_dim, n_ff;
    float eps, theta, theta_local;
    uint32_t window, window_every; /* every n-th layer is full; 0: no layer is */
    float query_scalar;            /* q·k ÷ √this; 0: head_dim */
    tiny_scaling scaling;
    float factor, low_freq, high_freq, beta_fast, beta_slow, attn_factor; /* 0: not written */
    uint32_t n_ctx_orig;
    bool tied, qkv_bias, other_bias, qk_norm, post_norms;
    bool new_config; /* config.json as transformers 5 writes it: rope_parameters, layer_types */
    tiny_vocab vocab;
    const char *chat_template; /* or NULL */
} tiny_model;

typedef struct tiny_options { /* {0}: F32 */
    dtype type;      /* of the matrices; where rows are no multiple of its block they become Q8_0, failing that F16 */
    bool decoded;    /* write the values as rounded to `type`, but as F32: the reference for a quantised model */
    uint32_t shards; /* safetensors: > 1 writes an index and this many files */
} tiny_options;

const tiny_model *tiny_model_at(size_t index); /* NULL past the end */
const tiny_model *tiny_model_find(const char *name);

/* `options` NULL: F32. */
void tiny_model_write_gguf(const tiny_model *model, const tiny_options *options, const char *path);
/* Makes the directory `dir` with config.json, tokenizer.json, tokenizer_config.json and weights: F32, F16 or BF16. */
void tiny_model_write_safetensors(const tiny_model *model, const tiny_options *options, const char *dir);

/* A prompt for the model: ids[n] over the whole vocabulary, the same on every run. */
void tiny_model_tokens(const tiny_model *model, int32_t *ids, size_t n);

/* ---- for the writers ---------------------------------------------------------------------------------------- */

typedef struct tiny_tensor {
    char gguf_name[64], hf_name[96];
    uint32_t n_in, n_out; /* a vector has n_out = 0 */
    float base, scale;
    uint32_t permute_heads; /* GGUF keeps the rows of so many heads as adjacent RoPE pairs; 0: as they are */
    bool plus_one;          /* GGUF stores 1 + weight */
    bool gguf_only;         /* rope_freqs.weight: computed, not random */
} tiny_tensor;

#define TINY_TENSORS_MAX 160

/* All tensors of a model; returns how many. */
size_t tiny_model_tensors(const tiny_model *model, tiny_tensor *out);
/* The values in Hugging Face's layout, malloc'ed. */
float *tiny_tensor_values(const tiny_model *model, const tiny_tensor *t);
/* The generator itself: values[n] of the tensor `name`. */
void tiny_random_fill(uint64_t seed, const char *name, float base, float scale, float *values, size_t n);
/* tokenizer.json and tokenizer_config.json in a folder that is there. */
void tiny_model_write_tokenizer(const tiny_model *model, const char *dir);
/* The type a tensor gets under these options. */
dtype tiny_tensor_type(const tiny_tensor *t, const tiny_options *options);

typedef struct tiny_token {
    char text[24]; /* as the vocabulary spells it, NUL-terminated */
    float score;
    int32_t type; /* GGUF's token types */
} tiny_token;

/* tokens[TINY_N_VOCAB] */
void tiny_vocab_tokens(tiny_vocab kind, tiny_token *tokens);
/* The i-th merge as "left right", false past the end. */
bool tiny_vocab_merge(tiny_vocab kind, size_t i, char *out, size_t cap);
typedef struct tiny_specials {
    int32_t bos, eos, eot, unk, pad; /* −1: none */
    bool add_bos, add_space_prefix;
} tiny_specials;
tiny_specials tiny_vocab_specials(tiny_vocab kind);

/* fopen and fclose that end the program when they fail. */
void *tiny_open(const char *path);
void tiny_close(void *file, const char *path);
/* Text as a JSON string with its quotes. */
void tiny_json_string(void *file, const char *text);

#endif
