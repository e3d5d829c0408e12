/*
 * The table of attributes that built-in types have.
 * Owner: none; constant. Lifetime: the program.
 */
#ifndef MLXR_TEXT_JINJA_ATTR_H
#define MLXR_TEXT_JINJA_ATTR_H

#include "text/jinja_run.h"

#define JATTR_OF(kind) (UINT32_C(1) << (kind))

struct jattr {
    jfunction function; /* its name is the attribute's; native NULL: not supported */
    uint32_t kinds;     /* JATTR_OF of every kind that has it */
    bool unsafe;        /* changes its object: undefined in templates */
    bool (*get)(jrun *r, const jattr *row, jvalue v, jvalue *out); /* not NULL: a plain value, no method */
};

extern const jattr jattr_table[]; /* sorted by name */
extern const size_t jattr_table_n;

#endif
