/*
 * Tokenizer: text to token ids and back, for byte-level BPE, SentencePiece BPE, unigram and WordPiece vocabularies.
 * Owner: the model. Lifetime: tokenizer_open… to tokenizer_close. Immutable; any thread.
 */
#ifndef MLXR_TEXT_TOKENIZER_H
#define MLXR_TEXT_TOKENIZER_H

#include "base/buffer.h"
#include "mlxr_chat.h"

typedef struct tokenizer tokenizer;

typedef enum tokenizer_kind { TOKENIZER_BPE, TOKENIZER_SPM, TOKENIZER_UNIGRAM, TOKENIZER_WORDPIECE } tokenizer_kind;

typedef enum token_type { /* GGUF's numbering */
                          TOKEN_NORMAL = 1,
                          TOKEN_UNKNOWN = 2,
                          TOKEN_CONTROL = 3,
                          TOKEN_USER_DEFINED = 4,
                          TOKEN_UNUSED = 5,
                          TOKEN_BYTE = 6,
} token_type;

typedef struct token_text { /* not NUL-terminated */
    const char *data;
    size_t n;
} token_text;

/* A vocabulary as GGUF embeds it. All arrays are borrowed during tokenizer_open only. */
typedef struct tokenizer_source {
    tokenizer_kind kind;
    uint32_t n_tokens;
    const token_text *tokens; /* [n_tokens]; byte-level BPE in GPT-2's printable alphabet */
    const float *scores;      /* [n_tokens] or NULL */
    const int32_t *types;     /* [n_tokens], token_type, or NULL: all normal */
    uint32_t n_merges;
    const token_text *merges; /* [n_merges], "left right"; byte-level BPE */
    const char *pre;          /* tokenizer.ggml.pre: "smollm", "qwen2", "llama-bpe", …; NULL: "default" (gpt2) */
    int32_t bos, eos, eot, unk, pad, sep, cls, mask; /* −1: none */
    const int32_t *end_ids;                          /* further ids that end a generation */
    uint32_t n_end_ids;
    bool add_bos, add_eos;
    bool add_space_prefix; /* SentencePiece's dummy prefix */
    bool remove_extra_whitespaces;
    const uint8_t *charsmap; /* SentencePiece's precompiled normalisation map, or NULL */
    size_t n_charsmap;
} tokenizer_source;

mlxr_status tokenizer_open(tokenizer **out, const tokenizer_source *source, mlxr_error *error);
/* Hugging Face tokenizer.json; `config_json` (tokenizer_config.json) may be NULL. */
mlxr_status tokenizer_open_json(tokenizer **out, const char *json, size_t n, const char *config_json, size_t n_config,
                                mlxr_error *error);
/* SentencePiece tokenizer.model (a protobuf). */
mlxr_status tokenizer_open_spm(tokenizer **out, const void *bytes, size_t n, mlxr_error *error);
void tokenizer_close(tokenizer **t);

/* A list of ids that grows. {0} is empty; free with token_list_close. */
typedef struct token_list {
    int32_t *ids;
    size_t n, cap;
} token_list;
void token_list_close(token_list *list);

/* Appends the ids of text[0..n) to *out. flags: MLXR_TOKENIZE_…. On failure the list is as before. */
mlxr_status tokenizer_encode(const tokenizer *t, const char *text, size_t n, unsigned flags, token_list *out,
                             mlxr_error *error);

/* Appends a text to *out with a byte TOKENIZER_MARK before each place where it spells a special, or ends with the
 * beginning of one, and another one behind the first character there, so that MLXR_TOKENIZE_MARKED takes neither, nor
 * what a part of it is put together with, for a special. False: no memory. */
#define TOKENIZER_MARK '\xff'
bool tokenizer_mark_specials(const tokenizer *t, const char *text, size_t n, buffer *out);
/* Would that add anything? */
bool tokenizer_spells_special(const tokenizer *t, const char *text, size_t n);
/* Takes marks out, in place; returns the length. */
size_t tokenizer_unmark(char *text, size_t n);

/* The bytes token `id` adds to a text (already out of the vocabulary's own alphabet: spaces are spaces, byte tokens
 * are bytes). Empty for an id out of range. Borrowed. */
token_text tokenizer_piece(const tokenizer *t, int32_t id);

uint32_t tokenizer_size(const tokenizer *t);
tokenizer_kind tokenizer_kind_of(const tokenizer *t);
bool tokenizer_is_special(const tokenizer *t, int32_t id); /* control and unknown tokens: not text */
bool tokenizer_is_end(const tokenizer *t, int32_t id);
/* Marks a further id as an end of generation (a checkpoint's generation_config names such). Only by whoever opened the
 * tokenizer, before it is shared. MLXR_FORMAT for an id outside the vocabulary. */
mlxr_status tokenizer_mark_end(tokenizer *t, int32_t id, mlxr_error *error);
bool tokenizer_adds_bos(const tokenizer *t);
int32_t tokenizer_bos(const tokenizer *t); /* −1: none */
int32_t tokenizer_eos(const tokenizer *t);

/* Streaming detokenisation: whole UTF-8 characters only. Plain data, one a stream; {0} starts one. */
typedef struct detokenizer {
    char tail[8]; /* bytes of an unfinished character */
    uint32_t n_tail;
    bool started; /* the first token loses SentencePiece's dummy space */
} detokenizer;

/* Bytes needed for the next token's text: at most piece + 8 + 2 per invalid byte → cap ≥ 3 × (piece.n + 8) suffices.
 * Writes what can be shown now (invalid UTF-8 becomes U+FFFD, one per maximal subpart as in Unicode 3.9), returns its
 * length. Special tokens give text only with `with_special`. */
size_t detokenizer_push(detokenizer *d, const tokenizer *t, int32_t id, bool with_special, char *out, size_t cap);
size_t detokenizer_finish(detokenizer *d, char *out, size_t cap);

#endif
