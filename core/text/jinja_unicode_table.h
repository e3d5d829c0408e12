/*
 * The generated tables behind jinja_unicode.h.
 * Owner: none; constants. Lifetime: the process.
 */
#ifndef MLXR_TEXT_JINJA_UNICODE_TABLE_H
#define MLXR_TEXT_JINJA_UNICODE_TABLE_H

#include <stdint.h>

struct junicode_range { /* first … last */
    uint32_t first, last;
};

struct junicode_shift { /* first, first + step … last map to themselves + delta */
    uint32_t first, last, step;
    int32_t delta;
};

struct junicode_special { /* maps to up to three characters, 0 after the last */
    uint32_t code, to[3];
};

/* Sorted by code point. `title` and `fold` hold only what differs from `upper` and `lower`. */
#define JUNICODE_TABLE(type, name)                                                                                     \
    extern const struct type name[];                                                                                   \
    extern const unsigned name##_n;

JUNICODE_TABLE(junicode_shift, junicode_upper)
JUNICODE_TABLE(junicode_shift, junicode_lower)
JUNICODE_TABLE(junicode_shift, junicode_title)
JUNICODE_TABLE(junicode_shift, junicode_fold)
JUNICODE_TABLE(junicode_special, junicode_upper_special)
JUNICODE_TABLE(junicode_special, junicode_lower_special)
JUNICODE_TABLE(junicode_special, junicode_title_special)
JUNICODE_TABLE(junicode_special, junicode_fold_special)
JUNICODE_TABLE(junicode_range, junicode_digit_not_decimal)
JUNICODE_TABLE(junicode_range, junicode_numeric_not_number)
JUNICODE_TABLE(junicode_range, junicode_lower_not_ll)
JUNICODE_TABLE(junicode_range, junicode_upper_not_lu)
JUNICODE_TABLE(junicode_range, junicode_case_ignorable)

#endif
