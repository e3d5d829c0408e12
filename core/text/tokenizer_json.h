/*
 * Reading tokenizer.json: a bounded reader for its two large members, and its parts as operations.
 * Private to core/text/.
 * Owner: the call that opens a tokenizer. Lifetime: the call; views point into the JSON text or the call's memory.
 */
#ifndef MLXR_TEXT_TOKENIZER_JSON_H
#define MLXR_TEXT_TOKENIZER_JSON_H

#include <jansson.h>

#include "text/tokenizer_parts.h"

/* ---- tokenizer_json_reader.c: JSON text value by value, without a tree ---- */

typedef struct json_reader {
    const char *text;
    size_t n, at;
    buffer *strings;   /* unescaped strings, one after the other */
    const char *where; /* what is being read, for errors */
    mlxr_error *error;
    mlxr_status status; /* the first failure sticks */
} json_reader;

#define JSON_DEPTH_MAX 64u

/* The next character that is no white space, not taken; 0 at the end. */
char scan_peek(json_reader *r);
/* Takes `c` or fails. */
bool scan_take(json_reader *r, char c);
/* Takes a string; *begin is where its bytes start in r->strings, *n their number. */
bool scan_string(json_reader *r, size_t *begin, size_t *n);
bool scan_number(json_reader *r, double *value);
/* Takes any value; *begin and *end are its place in the text. */
bool scan_skip(json_reader *r, size_t *begin, size_t *end);
/* Loops over an object or array: `while (scan_more(r, close, &first)) { …one member… }`. */
bool scan_more(json_reader *r, char close, bool *first);
bool scan_fail(json_reader *r, mlxr_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- tokenizer_json_parts.c: normalizer, pre_tokenizer, decoder, post_processor ---- */

mlxr_status json_open_normalizer(tokenizer *t, const json_t *value, mlxr_error *error);
mlxr_status json_open_pre_tokenizer(tokenizer *t, const json_t *value, mlxr_error *error);
mlxr_status json_open_post_processor(tokenizer *t, const json_t *value, mlxr_error *error);

typedef struct piece_rules {   /* how tokens decode */
    token_text from[4], to[4]; /* replacements, in turn */
    uint32_t n_replacements;
    bool byte_level, byte_fallback, strip_first;
    token_text word_prefix; /* WordPiece: absent means a space in front */
    bool has_word_prefix;
    token_text suffix; /* BPE: becomes a space */
} piece_rules;

mlxr_status json_read_decoder(tokenizer *t, const json_t *value, piece_rules *rules, mlxr_error *error);

/* Whether a pre-tokenizer (or normaliser) tree holds a ByteLevel. */
bool json_has_byte_level(const json_t *value);

#endif
