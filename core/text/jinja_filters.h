/*
 * The built-in filters, in three files; the table with their parameters is in jinja_tables.c.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_TEXT_JINJA_FILTERS_H
#define MLXR_TEXT_JINJA_FILTERS_H

#include "text/jinja_methods.h"

/* texts and numbers (jinja_filter_text.c, jinja_filter_number.c) */
JNATIVE(jfilter_convert);
JNATIVE(jfilter_capitalize);
JNATIVE(jfilter_title);
JNATIVE(jfilter_trim);
JNATIVE(jfilter_center);
JNATIVE(jfilter_replace);
JNATIVE(jfilter_indent);
JNATIVE(jfilter_truncate);
JNATIVE(jfilter_wordcount);
JNATIVE(jfilter_string);
JNATIVE(jfilter_safe);
JNATIVE(jfilter_escape);
JNATIVE(jfilter_format);
JNATIVE(jfilter_tojson);
JNATIVE(jfilter_urlencode);
JNATIVE(jfilter_xmlattr);
JNATIVE(jfilter_int);
JNATIVE(jfilter_float);
JNATIVE(jfilter_abs);
JNATIVE(jfilter_round);
JNATIVE(jfilter_filesizeformat);

/* sequences (jinja_filter_list.c, jinja_filter_lazy.c) */
JNATIVE(jfilter_length);
JNATIVE(jfilter_default);
JNATIVE(jfilter_attr);
JNATIVE(jfilter_first);
JNATIVE(jfilter_last);
JNATIVE(jfilter_list);
JNATIVE(jfilter_join);
JNATIVE(jfilter_reverse);
JNATIVE(jfilter_sort);
JNATIVE(jfilter_dictsort);
JNATIVE(jfilter_groupby);
JNATIVE(jfilter_extreme);
JNATIVE(jfilter_sum);
JNATIVE(jfilter_items);
JNATIVE(jfilter_map);
JNATIVE(jfilter_select);
JNATIVE(jfilter_unique);
JNATIVE(jfilter_batch);
JNATIVE(jfilter_slice);

/* Reads "a.b.0" (or an index, or none at all) off items, as the `attribute` of many filters does. */
typedef struct jgetter {
    const jlist *parts;
    jvalue otherwise; /* stands in for what is undefined; JNONE: nothing does */
    bool lower;       /* strings are lowered, for comparing without case */
} jgetter;

bool jgetter_make(jrun *r, jvalue attribute, jgetter *out);
bool jgetter_get(jrun *r, const jgetter *g, jvalue item, jvalue *out);

#endif
