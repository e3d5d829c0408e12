/*
 * What a tokenizer is made of: vocabulary, added tokens, normalisers, pre-tokenizers, merge tables; and the working
 * memory of one call. Private to core/text/.
 * Owner: the tokenizer's region. Lifetime: the tokenizer; scratch: one call. Immutable once open; any thread.
 */
#ifndef MLXR_TEXT_TOKENIZER_PARTS_H
#define MLXR_TEXT_TOKENIZER_PARTS_H

#include "base/buffer.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "text/tokenizer_added.h"
#include "text/tokenizer_charsmap.h"
#include "text/tokenizer_vocab.h"

#define TOKENIZER_TEXT_MAX ((size_t)INT32_MAX) /* bytes of one text, before and after normalisation */
#define FIXED_IDS_MAX 16u                      /* ids a post-processor may add on each side */
#define SPACE_MARK "\xe2\x96\x81"              /* U+2581, SentencePiece's space */

/* ---- operations on text ---- */

typedef struct pattern pattern; /* a compiled regular expression; see pretokenize_regex.c */

typedef enum text_op_kind {
    /* normalisers: one text to another */
    OP_SENTENCEPIECE,
    OP_NORMAL_FORM,
    OP_LOWERCASE,
    OP_STRIP_ACCENTS,
    OP_STRIP,
    OP_PREPEND,
    OP_REPLACE,
    OP_NMT,
    OP_CHARSMAP,
    OP_BERT,
    OP_BYTE_ALPHABET,
    /* pre-tokenizers: a text in pieces to one in more pieces */
    OP_SPLIT,
    OP_BYTE_LEVEL,
    OP_METASPACE,
    OP_FIXED_LENGTH,
} text_op_kind;

typedef enum split_behavior {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS,
} split_behavior;

enum { /* text_op.flags; the meaning hangs on the kind */
       OP_COMPOSE = 1 << 0,
       OP_COMPATIBILITY = 1 << 1, /* normal form: C or D, K */
       OP_LEFT = 1 << 0,
       OP_RIGHT = 1 << 1, /* strip */
       OP_CLEAN = 1 << 0,
       OP_CHINESE = 1 << 1,
       OP_UNACCENT = 1 << 2,
       OP_LOWER = 1 << 3,        /* Bert */
       OP_PREFIX = 1 << 0,       /* byte level, metaspace: a space in front */
       OP_PREFIX_FIRST = 1 << 1, /* … only at the start of the whole text */
       OP_CUT = 1 << 2,          /* metaspace: split before each mark */
       OP_TO_ALPHABET = 1 << 3,  /* byte level, not the last: later steps see GPT-2's alphabet, not bytes */
};

typedef struct text_op {
    text_op_kind kind;
    split_behavior behavior;
    bool invert; /* what lies between matches counts as the match */
    unsigned flags;
    /* what to find, for SPLIT and REPLACE: the first that is not NULL */
    const splitter *splitter;
    pattern *pattern;
    token_text literal;
    token_text content; /* replacement, or what to prepend, or the metaspace character */
    uint32_t length;    /* FIXED_LENGTH, in characters */
} text_op;

/* ---- the tokenizer ---- */

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
    added_set verbatim;   /* SentencePiece's normalisation leaves these alone */

    text_op *normalizers;    /* [n_normalizers] */
    text_op *pre_tokenizers; /* [n_pre_tokenizers] */
    uint32_t n_normalizers, n_pre_tokenizers;
    charsmap charsmap; /* of OP_SENTENCEPIECE and OP_CHARSMAP */

    /* BPE */
    pair_map pairs;
    int32_t byte_ids[256]; /* token of one byte, −1: none */
    bool byte_level;       /* every byte is a symbol; else characters are, with byte_ids as fall-back */
    bool from_alphabet;    /* words come in GPT-2's alphabet and are put back into bytes */
    bool merge_by_text;    /* SentencePiece: two symbols merge if their text is a token, best score first */
    bool ignore_merges;
    bool fuse_unknown;
    bool has_unused;                        /* some tokens may be steps of merging but not results */
    token_text subword_prefix, word_suffix; /* "##", "</w>"; empty: none */
    /* Bit [last byte of a character][first byte of the next]: some token holds them side by side, so that merges may
     * cross here. Where the bit is clear a long text can be cut without changing the result. */
    uint8_t joins[256][32];

    /* SentencePiece's own normalisation */
    bool space_prefix;             /* a text gets a space in front */
    bool space_suffix;             /* or behind */
    bool space_prefix_after_added; /* and so does every piece after an added token */
    bool plain_spaces;             /* a space in a token's text stands for itself */
    bool trim_spaces;              /* outer white space goes, inner runs become one space */

    /* unigram */
    double *logprobs;      /* [n_tokens] */
    double unknown_score;  /* of a character no token covers */
    bool single_precision; /* sums are rounded to float, as SentencePiece does */
    bool all_scores_count; /* for unknown_score; else those of normal tokens only */
    uint32_t *sorted;      /* [n_sorted] ids by text */
    uint32_t n_sorted;
    uint32_t sorted_first[257]; /* where the texts with a first byte begin */

    /* WordPiece */
    uint32_t longest;        /* bytes of the longest text in `map` */
    uint32_t word_chars_max; /* longer words are unknown */

    int32_t bos, eos, unk;
    bool adds_bos;
    bool strip_first_space; /* decoding: the first token of a text loses one leading space */
    int32_t prefix_ids[FIXED_IDS_MAX], suffix_ids[FIXED_IDS_MAX];
    uint32_t n_prefix_ids, n_suffix_ids;
};

/* ---- working memory of one call ---- */

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

typedef struct path_node {
    double score;
    uint32_t begin; /* of the best token that ends here */
    int32_t id;     /* −2: not reached */
} path_node;

typedef struct word_cache word_cache;

typedef struct scratch { /* grows, is never shared; {0} is empty */
    buffer text[2];      /* normalised text */
    buffer pieces[2];    /* text in pieces, where a pre-tokenizer changes it */
    buffer word;
    span_list spans[2];
    symbol *symbols;
    size_t symbols_cap;
    merge_candidate *heap;
    size_t heap_n, heap_cap;
    uint32_t whole; /* merges that give a text this long are not made; 0: all are */
    path_node *path;
    size_t path_cap;
    word_cache *cache;
    void *match_data; /* of regular expressions */
    bool failed;      /* out of memory where it could not be said at once */
} scratch;

scratch scratch_make(void);
void scratch_close(scratch *s);

/* Makes room for one more; false: out of memory. */
bool token_list_push(token_list *list, int32_t id);
mlxr_status token_list_nomem(const token_list *list, mlxr_error *error);
bool span_list_push(span_list *list, uint32_t begin, uint32_t end);

/* A text on its way through the operations; borrowed. */
typedef struct text_in {
    const char *data;
    size_t n;
    bool first;       /* begins where the whole text begins */
    bool after_added; /* follows an added token */
} text_in;

/* tokenizer_normalize.c: runs all normalisers; *text then points into scratch, or is as before. */
mlxr_status normalize_text(const tokenizer *t, scratch *s, text_in *text, mlxr_error *error);

/* pretokenize_run.c: splits; *text may move to scratch, *pieces (in scratch) are spans of it. */
mlxr_status pretokenize_text(const tokenizer *t, scratch *s, text_in *text, const span_list **pieces,
                             mlxr_error *error);
/* A walk through the matches of an operation's pattern in a text; begin with {0}. */
typedef struct op_match {
    size_t at;         /* where to look on */
    size_t gap;        /* end of the match before; text[gap, begin) belongs to none */
    size_t begin, end; /* of this one; an empty match is possible */
} op_match;

/* *found false: none left, and text[gap, n) remains. */
mlxr_status op_next(const text_op *op, scratch *s, const char *text, size_t n, op_match *m, bool *found,
                    mlxr_error *error);

/* pretokenize_regex.c: regular expressions as the reference's engine (Oniguruma) reads them, on PCRE2. */
mlxr_status pattern_open(pattern **out, const char *source, size_t n, mlxr_error *error);
void pattern_close(pattern **p);
mlxr_status pattern_find(const pattern *p, scratch *s, const char *text, size_t at, size_t n, size_t *begin,
                         size_t *end, bool *found, mlxr_error *error);
void pattern_scratch_close(scratch *s);

/* GPT-2's alphabet. decode: out[0..text.n) receives the bytes, SIZE_MAX if a character is not of it. encode: out
 * receives at most two bytes for each byte. */
size_t alphabet_decode(token_text text, char *out);
size_t alphabet_encode(const char *bytes, size_t n, char *out);

/* ---- models; each appends the ids of one word ---- */

/* `cut`: cut at safe places first. */
mlxr_status bpe_encode(const tokenizer *t, scratch *s, const char *text, size_t n, bool cut, token_list *out,
                       mlxr_error *error);
/* Makes the word cache if `n` bytes of text make it worth while. */
void bpe_cache_make(scratch *s, size_t n);
/* Notes which characters stand side by side in the text of a token. */
void bpe_note_joins(tokenizer *t, token_text text);
mlxr_status unigram_encode(const tokenizer *t, scratch *s, const char *text, size_t n, token_list *out,
                           mlxr_error *error);
mlxr_status wordpiece_encode(const tokenizer *t, scratch *s, const char *text, size_t n, token_list *out,
                             mlxr_error *error);

/* ---- opening ---- */

typedef struct merge_text {
    token_text left, right;
} merge_text;

/* Copies what all kinds share out of a checked source. */
mlxr_status tokenizer_open_common(tokenizer **out, const tokenizer_source *source, mlxr_error *error);

/* Byte-level BPE: texts, index and merges; added tokens are the caller's. */
mlxr_status bpe_open_vocabulary(tokenizer *t, const tokenizer_source *source, mlxr_error *error);
mlxr_status bpe_open_merges(tokenizer *t, const merge_text *merges, uint32_t n_merges, mlxr_error *error);
mlxr_status bpe_open(tokenizer *t, const tokenizer_source *source, mlxr_error *error);
/* SentencePiece: BPE or unigram. */
/* `plain_spaces`: user-defined symbols are written with spaces, not with U+2581. */
mlxr_status spm_open(tokenizer *t, const tokenizer_source *source, bool plain_spaces, mlxr_error *error);
mlxr_status wordpiece_open(tokenizer *t, const tokenizer_source *source, mlxr_error *error);
/* Puts tokens by their types into t->raw: control and unknown ones as specials, user-defined ones not. */
mlxr_status added_open(tokenizer *t, bool user_defined, mlxr_error *error);
/* After map and logprobs. Tokens from n_scored on have no score: added ones. `written` (or NULL): the texts as the
 * file has them, by whose length user-defined symbols are scored. */
mlxr_status unigram_open(tokenizer *t, const token_text *written, uint32_t n_scored, mlxr_error *error);
/* After texts. */
mlxr_status wordpiece_index(tokenizer *t, mlxr_error *error);

/* <0x0A>: 10; −1 for what is not of this form. */
int byte_token_value(token_text text);

#endif
