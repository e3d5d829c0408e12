/*
 * The methods of built-in types, and what filters share with them. All are `jnative`; which parameters they take stands
 * in the table of attributes (jinja_attr_table.c).
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_TEXT_JINJA_METHODS_H
#define MLXR_TEXT_JINJA_METHODS_H

#include "text/jinja_run.h"

#define JNATIVE(name) bool name(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)

JNATIVE(jstr_convert);
JNATIVE(jstr_recase);
JNATIVE(jstr_strip);
JNATIVE(jstr_remove);
JNATIVE(jstr_find);
JNATIVE(jstr_count);
JNATIVE(jstr_affix);
JNATIVE(jstr_replace);
JNATIVE(jstr_split);
JNATIVE(jstr_splitlines);
JNATIVE(jstr_partition);
JNATIVE(jstr_join);
JNATIVE(jstr_pad);
JNATIVE(jstr_zfill);
JNATIVE(jstr_expandtabs);
JNATIVE(jstr_is);
JNATIVE(jstr_format);
JNATIVE(jstr_format_map);

JNATIVE(jlist_count);
JNATIVE(jlist_index);
JNATIVE(jlist_duplicate);
JNATIVE(jrange_count);
JNATIVE(jdict_get_method);
JNATIVE(jdict_view);
JNATIVE(jdict_duplicate);
JNATIVE(jcycler_method);

/* Cuts characters of `set` (white space when NULL) off the left (1) and right (2). */
bool jstr_strip_text(jrun *r, const jtext *t, const jtext *set, int sides, const jtext **out);
const jtext *jstr_replace_text(jrun *r, const jtext *t, const jtext *old, const jtext *new, int64_t count);
bool jstr_split_lines(jrun *r, jvalue self, bool keep_ends, jlist *l);
/* how: 0 centre, 1 left, 2 right */
const jtext *jstr_pad_text(jrun *r, const jtext *t, int64_t width, const jtext *fill, int how);
bool jstr_is_cased(const jtext *t, char which); /* 'u', 'l' or 't' */

#endif
