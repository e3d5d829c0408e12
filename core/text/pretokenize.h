/*
 * Splitters: the pre-tokenisation patterns of real models, as hand-written state machines over one Unicode table.
 * Owner: none; constants. Lifetime: the process. Any thread.
 */
#ifndef MLXR_TEXT_PRETOKENIZE_H
#define MLXR_TEXT_PRETOKENIZE_H

#include "text/tokenizer.h"

/* A half-open piece of a text. */
typedef struct span {
    uint32_t begin, end;
} span;

/* Finds the match that begins exactly at `at` in text[0..n), at < n: its end, or 0 if none begins there. The text is
 * all there is: look-ahead sees its end. */
typedef size_t splitter_match(const char *text, size_t at, size_t n);

typedef struct splitter {
    const char *name;    /* "gpt2", … */
    const char *pattern; /* the regular expression it equals, as tokenizer.json spells it; NULL: none */
    splitter_match *match;
} splitter;

const splitter *splitter_named(const char *name);
/* The splitter that equals a regular expression in one of its known spellings, or NULL. */
const splitter *splitter_for_pattern(const char *pattern, size_t n);

/* What pre-tokenisation a GGUF's tokenizer.ggml.pre stands for: up to SPLIT_STEPS_MAX splitters applied in turn, each
 * to the pieces of the one before. */
#define SPLIT_STEPS_MAX 6

typedef struct pre_recipe {
    const char *name;
    /* Names of splitters; "re:" and a regular expression; "alphabet": later steps see GPT-2's alphabet instead of
     * bytes, as where ByteLevel is not the last pre-tokenizer. NULL ends. */
    const char *steps[SPLIT_STEPS_MAX];
    bool ignore_merges; /* a piece that is a token as a whole is taken without merging */
    bool adds_bos;      /* unless the file says otherwise */
} pre_recipe;

const pre_recipe *pre_recipe_named(const char *name);
/* The known names, comma-separated, as far as they fit. */
void pre_recipe_names(char *out, size_t cap);

#endif
