/*
 * Properties of code points: classes by category, and reading characters from text that may be damaged.
 * Owner: none; constants. Lifetime: the process.
 */
#include "text/unicode.h"

#include <utf8proc.h>

#include "base/utf8.h"

#define LETTER_OTHER (CLASS_LETTER | CLASS_CASELESS)
#define MARK (CLASS_MARK | CLASS_CASELESS)

#define ROW(space)                                                                                                     \
    [UNICODE_LU | (space)] = CLASS_LETTER | CLASS_UPPER, [UNICODE_LL | (space)] = CLASS_LETTER | CLASS_LOWER,          \
                  [UNICODE_LT | (space)] = CLASS_LETTER | CLASS_UPPER, [UNICODE_LM | (space)] = LETTER_OTHER,          \
                  [UNICODE_LO | (space)] = LETTER_OTHER, [UNICODE_MN | (space)] = MARK, [UNICODE_MC | (space)] = MARK, \
                  [UNICODE_ME | (space)] = MARK, [UNICODE_ND | (space)] = CLASS_NUMBER,                                \
                  [UNICODE_NL | (space)] = CLASS_NUMBER, [UNICODE_NO | (space)] = CLASS_NUMBER,                        \
                  [UNICODE_PC | (space)] = CLASS_PUNCTUATION, [UNICODE_PD | (space)] = CLASS_PUNCTUATION,              \
                  [UNICODE_PS | (space)] = CLASS_PUNCTUATION, [UNICODE_PE | (space)] = CLASS_PUNCTUATION,              \
                  [UNICODE_PI | (space)] = CLASS_PUNCTUATION, [UNICODE_PF | (space)] = CLASS_PUNCTUATION,              \
                  [UNICODE_PO | (space)] = CLASS_PUNCTUATION, [UNICODE_SM | (space)] = CLASS_SYMBOL,                   \
                  [UNICODE_SC | (space)] = CLASS_SYMBOL, [UNICODE_SK | (space)] = CLASS_SYMBOL,                        \
                  [UNICODE_SO | (space)] = CLASS_SYMBOL

/* White_Space code points are all of the categories Cc, Zs, Zl and Zp. */
const uint16_t unicode_class_of[64] = {
    ROW(0),
    [UNICODE_CC | 32] = CLASS_SPACE,
    [UNICODE_ZS | 32] = CLASS_SPACE,
    [UNICODE_ZL | 32] = CLASS_SPACE,
    [UNICODE_ZP | 32] = CLASS_SPACE,
};

#define L4(c) L1(c), L1(c), L1(c), L1(c)
#define L1(c) (c)
#define UP (CLASS_LETTER | CLASS_UPPER)
#define LO (CLASS_LETTER | CLASS_LOWER)
#define SP CLASS_SPACE
#define NL (CLASS_SPACE | CLASS_NEWLINE)
#define NU CLASS_NUMBER
#define PU CLASS_PUNCTUATION
#define SY CLASS_SYMBOL

const uint16_t unicode_class_ascii[128] = {
    L4(0),
    L4(0),
    0,
    SP,
    NL,
    SP,
    SP,
    NL,
    0,
    0,
    L4(0),
    L4(0),
    L4(0),
    L4(0),
    /* space ! " # $ % & ' ( ) * + , - . / */
    SP,
    PU,
    PU,
    PU,
    SY,
    PU,
    PU,
    PU,
    PU,
    PU,
    PU,
    SY,
    PU,
    PU,
    PU,
    PU,
    /* 0-9 : ; < = > ? */
    L4(NU),
    L4(NU),
    NU,
    NU,
    PU,
    PU,
    SY,
    SY,
    SY,
    PU,
    /* @ A-Z [ \ ] ^ _ */
    PU,
    L4(UP),
    L4(UP),
    L4(UP),
    L4(UP),
    L4(UP),
    L4(UP),
    UP,
    UP,
    PU,
    PU,
    PU,
    SY,
    PU,
    /* ` a-z { | } ~ DEL */
    SY,
    L4(LO),
    L4(LO),
    L4(LO),
    L4(LO),
    L4(LO),
    L4(LO),
    LO,
    LO,
    PU,
    SY,
    PU,
    SY,
    0,
};

size_t unicode_read(const char *text, size_t n, uint32_t *code)
{
    size_t used = utf8_decode(text, n, code);
    if (used == 0) {
        *code = UNICODE_INVALID;
        return 1;
    }
    return used;
}

bool unicode_is_word(uint32_t code)
{
    enum unicode_category category = unicode_category_of(code);
    if ((category >= UNICODE_LU && category <= UNICODE_NL) || category == UNICODE_PC) {
        return true;
    }
    return (code >= 0x24b6 && code <= 0x24e9) || (code >= 0x1f130 && code <= 0x1f149) ||
           (code >= 0x1f150 && code <= 0x1f169) || (code >= 0x1f170 && code <= 0x1f189) || code == 0x200c ||
           code == 0x200d;
}

bool unicode_in_ranges(const unicode_ranges *ranges, uint32_t code)
{
    size_t low = 0, high = ranges->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > ranges->items[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < ranges->n && code >= ranges->items[low].first;
}

size_t unicode_lower(uint32_t code, uint32_t out[2])
{
    if (code < 128) {
        out[0] = code >= 'A' && code <= 'Z' ? code + 32 : code;
        return 1;
    }
    if (code == 0x130) { /* the one letter whose lower case is two */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    size_t low = 0, high = unicode_lower_new.n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > unicode_lower_new.items[middle].from) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low < unicode_lower_new.n && unicode_lower_new.items[low].from == code;
    out[0] = found ? unicode_lower_new.items[low].to : (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
    return 1;
}
