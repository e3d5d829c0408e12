/*
 * What a tokenizer is made of: vocabulary, added tokens, normaliser, splitters, merge tables; and the working memory of
 * one call. Private to core/text/.
 * Owner: the tokenizer's region. Lifetime: the tokenizer; scratch: one call. Immutable once open; any thread.
 */
#ifndef MLXR_TEXT_TOKENIZER_PARTS_H
#define MLXR_TEXT_TOKENIZER_PARTS_H

#include "base/buffer.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "text/tokenizer_added.h"
#include "text/tokenizer_vocab.h"

#define TOKENIZER_TEXT_MAX ((size_t)INT32_MAX) /* bytes of one text, before and after normalisation */

#define FIXED_IDS_MAX 16u /* ids a post-processor may add on each side */

struct tokenizer {
    region memory;
    tokenizer_kind kind;
    uint32_t n_tokens;

    text_table texts;  /* as the model matches them: byte-level BPE in raw bytes, SentencePiece with ' ' for U+2581 */
    text_table pieces; /* as they decode; often the same memory */
    uint8_t *types;    /* [n_tokens], token_type */
    uint8_t *is_end;   /* [n_tokens] */
    float *scores;     /* [n_tokens] or NULL */
    text_map map;      /* the texts that tokenisation may produce */

    added_set raw;        /* found in the text as given */
    added_set normalized; /* found after normalisation */

    /* BPE */
    pair_map pairs;
    int32_t byte_ids[256];  /* token of one byte, −1: none */
    bool byte_level;        /* every byte is a symbol; else characters are, with byte_ids as fall-back */
    bool merge_by_text;     /* SentencePiece: two symbols merge if their text is a token, best score first */
    bool ignore_merges;
    bool fuse_unknown;
    /* Bit [last byte of a character][first byte of the next]: some token holds them side by side, so that merges may
     * cross here. Where the bit is clear a long text can be cut without changing the result. */
    uint8_t joins[256][32];

    /* SentencePiece */
    bool space_prefix;             /* a text gets a space in front */
    bool space_prefix_after_added; /* and so does every piece after an added token */
    bool trim_spaces;              /* outer white space goes, inner runs become one space */
    bool escape_spaces;            /* U+2581 in the input is the same as a space */

    const splitter *steps[SPLIT_STEPS_MAX];
    uint32_t n_steps;

    int32_t bos, eos, unk;
    bool adds_bos;
    bool strip_first_space; /* decoding: the first token of a text loses one leading space */
    int32_t prefix_ids[FIXED_IDS_MAX], suffix_ids[FIXED_IDS_MAX];
    uint32_t n_prefix_ids, n_suffix_ids;
};

typedef struct span_list {
    span *items;
    size_t n, cap;
} span_list;

typedef struct symbol {
    uint32_t begin, length; /* in the word; length 0: merged away */
    int32_t id;             /* −1: not known yet (merge_by_text) */
    int32_t prev, next;     /* −1: none */
} symbol;

typedef struct merge_candidate {
    uint64_t key; /* rank, then position: the smallest is next */
    int32_t product;
    uint32_t length; /* of the merged text */
} merge_candidate;

typedef struct word_cache word_cache;

/* Working memory of one call; grows, is never shared. */
typedef struct scratch {
    buffer text;     /* normalised text */
    span_list spans[2];
    symbol *symbols;
    size_t symbols_cap;
    merge_candidate *heap;
    size_t heap_n, heap_cap;
    word_cache *cache;
} scratch;

void scratch_close(scratch *s);

/* Makes room for one more; false: out of memory. */
bool token_list_push(token_list *list, int32_t id);
bool span_list_push(span_list *list, uint32_t begin, uint32_t end);

/* Appends the ids of one word (BPE) or of a whole fragment (SentencePiece BPE, which finds its own safe cuts).
 * `cut`: cut at safe places first. */
mlxr_status bpe_encode(const tokenizer *t, scratch *s, const char *text, size_t n, bool cut, token_list *out,
                       mlxr_error *error);
/* Makes the word cache if `n` bytes of text make it worth while. */
void bpe_cache_make(scratch *s, size_t n);
/* Notes which characters stand side by side in the text of a token. */
void bpe_note_joins(tokenizer *t, token_text text);

/* The opening halves for a GGUF vocabulary; ids and types are checked already. */
mlxr_status bpe_open(tokenizer *t, const tokenizer_source *source, mlxr_error *error);
mlxr_status spm_open(tokenizer *t, const tokenizer_source *source, mlxr_error *error);

#endif
