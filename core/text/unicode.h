/*
 * Properties of code points, from one generated table (Unicode 16.0), and the classes splitters test for.
 * Owner: none; constants. Lifetime: the process. Any thread.
 */
#ifndef MLXR_TEXT_UNICODE_H
#define MLXR_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The order is tools/unicode/generate.py's. */
enum unicode_category {
    UNICODE_CN,
    UNICODE_CC,
    UNICODE_CF,
    UNICODE_CO,
    UNICODE_CS,
    UNICODE_LU,
    UNICODE_LL,
    UNICODE_LT,
    UNICODE_LM,
    UNICODE_LO,
    UNICODE_MN,
    UNICODE_MC,
    UNICODE_ME,
    UNICODE_ND,
    UNICODE_NL,
    UNICODE_NO,
    UNICODE_PC,
    UNICODE_PD,
    UNICODE_PS,
    UNICODE_PE,
    UNICODE_PI,
    UNICODE_PF,
    UNICODE_PO,
    UNICODE_SM,
    UNICODE_SC,
    UNICODE_SK,
    UNICODE_SO,
    UNICODE_ZS,
    UNICODE_ZL,
    UNICODE_ZP,
    UNICODE_CATEGORY_COUNT
};

/* Class bits; a code point has several. */
enum {
    CLASS_LETTER = 1 << 0,      /* \p{L} */
    CLASS_MARK = 1 << 1,        /* \p{M} */
    CLASS_NUMBER = 1 << 2,      /* \p{N} */
    CLASS_PUNCTUATION = 1 << 3, /* \p{P} */
    CLASS_SYMBOL = 1 << 4,      /* \p{S} */
    CLASS_SPACE = 1 << 5,       /* White_Space: \s */
    CLASS_UPPER = 1 << 6,       /* \p{Lu} \p{Lt} */
    CLASS_LOWER = 1 << 7,       /* \p{Ll} */
    CLASS_CASELESS = 1 << 8,    /* \p{Lm} \p{Lo} \p{M} */
    CLASS_NEWLINE = 1 << 9,     /* \r \n */
};

/* How code points are read from text that may be damaged: an invalid byte counts as one character of this value,
 * which is no letter, number, mark, punctuation or space. */
#define UNICODE_INVALID 0xfffdu

extern const uint16_t unicode_stage1[8704];
extern const uint8_t unicode_stage2[];
extern const uint16_t unicode_class_ascii[128];
extern const uint16_t unicode_class_of[64]; /* by table byte: category | 32 if White_Space */

/* code ≤ 0x10ffff */
static inline uint8_t unicode_entry(uint32_t code)
{
    return unicode_stage2[(uint32_t)unicode_stage1[code >> 7] << 7 | (code & 127)];
}

static inline enum unicode_category unicode_category_of(uint32_t code)
{
    return (enum unicode_category)(unicode_entry(code) & 31);
}

static inline unsigned unicode_class(uint32_t code)
{
    return code < 128 ? unicode_class_ascii[code] : unicode_class_of[unicode_entry(code)];
}

static inline bool unicode_is_space(uint32_t code)
{
    return (unicode_class(code) & CLASS_SPACE) != 0;
}

/* \w: letters, marks, decimal and letter numbers, connectors, and what else is alphabetic or joins. */
bool unicode_is_word(uint32_t code);

/* Numbers of Unicode 17.0 that 16.0 does not know. */
static inline bool unicode_is_number_17(uint32_t code)
{
    return (code >= 0x11de0 && code <= 0x11de9) || (code >= 0x16ff4 && code <= 0x16ff6);
}

typedef struct unicode_range {
    uint32_t first, last;
} unicode_range;

typedef struct unicode_ranges {
    const unicode_range *items; /* [n], ascending */
    size_t n;
} unicode_ranges;

typedef struct unicode_pair {
    uint32_t from, to;
} unicode_pair;

typedef struct unicode_pairs {
    const unicode_pair *items; /* [n], ascending by `from` */
    size_t n;
} unicode_pairs;

/* See tools/unicode/probe_reference.py. */
extern const unicode_ranges unicode_bert_punctuation, unicode_bert_removed, unicode_bert_accents, unicode_strip_accents,
    unicode_since_14, unicode_not_normalized;
extern const unicode_pairs unicode_lower_new;

bool unicode_in_ranges(const unicode_ranges *ranges, uint32_t code);

/* Lower case as char::to_lowercase of the reference; 1 or 2 code points (U+0130). */
size_t unicode_lower(uint32_t code, uint32_t out[2]);

/* Reads one character of text[0..n), n > 0: its length and code point; an invalid byte is UNICODE_INVALID, length 1. */
size_t unicode_read(const char *text, size_t n, uint32_t *code);

#endif
