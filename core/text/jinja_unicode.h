/*
 * What Python's str knows about characters: classes, case mappings, white space.
 * Owner: none (constant tables). Lifetime: the program.
 */
#ifndef MLXR_TEXT_JINJA_UNICODE_H
#define MLXR_TEXT_JINJA_UNICODE_H

#include "text/jinja_run.h"

bool junicode_is_space(uint32_t code);    /* str.isspace, and \s of a regular expression */
bool junicode_is_line_end(uint32_t code); /* where str.splitlines splits */
bool junicode_is_alpha(uint32_t code);
bool junicode_is_decimal(uint32_t code);
bool junicode_is_digit(uint32_t code);
bool junicode_is_numeric(uint32_t code);
bool junicode_is_alnum(uint32_t code);
bool junicode_is_word(uint32_t code); /* \w of a regular expression */
bool junicode_is_upper(uint32_t code);
bool junicode_is_lower(uint32_t code);
bool junicode_is_title(uint32_t code);
bool junicode_is_printable(uint32_t code);
bool junicode_is_identifier(uint32_t code, bool first);

typedef enum jcase { JCASE_UPPER, JCASE_LOWER, JCASE_TITLE, JCASE_FOLD } jcase;

/* Full case mapping of one character: up to 3 characters. Returns how many. */
size_t junicode_map(uint32_t code, jcase to, uint32_t out[3]);

/* str.upper(), lower(), casefold() (JCASE_FOLD). */
jtext *junicode_convert(jrun *r, const jtext *t, jcase to);
jtext *junicode_capitalize(jrun *r, const jtext *t);
jtext *junicode_titlecase(jrun *r, const jtext *t);
jtext *junicode_swapcase(jrun *r, const jtext *t);

/* Byte range that is left when white space is taken off both ends. */
void junicode_trim(const jtext *t, size_t *from, size_t *to);
/* The length of the white-space character that ends at bytes[0..n), or begins there; 0 if there is none. */
size_t junicode_space_at(const char *bytes, size_t n, size_t at);
size_t junicode_space_before(const char *bytes, size_t n);

#endif
