/*
 * What the encoders share.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_QUANT_CODEC_ENCODE_H
#define MLXR_QUANT_CODEC_ENCODE_H

#include "quant/dtype.h"

/* Rounds to half, saturating, and returns what a reader will see. */
double codec_store_half(uint8_t *at, double value);

/* A block of IQ4_NL, IQ4_XS or MXFP4 into zeroed bytes: weights x with the importance w of their squared errors. */
void codec_table_encode(dtype type, const double *x, const double *w, uint8_t *dst);

#endif
