/*
 * What the two styles of formatting, "%d" and "{:d}", share.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_TEXT_JINJA_FORMAT_H
#define MLXR_TEXT_JINJA_FORMAT_H

#include "text/jinja_run.h"

/* Appends sign and body in a field of `width` characters: '<', '>', '^', or '=' (fill between sign and body). */
bool jformat_pad(jbuild *b, const jtext *fill, char align, int64_t width, const jtext *sign, const jtext *body);
/* The digits of value in a base up to 16; returns how many. */
size_t jformat_integer(uint64_t value, unsigned base, bool upper, char out[72]);

#endif
