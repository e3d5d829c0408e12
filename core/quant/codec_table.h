/*
 * Formats whose whole numbers stand for entries of a table: IQ4, MXFP4, NVFP4, IQ1 … IQ3, TQ; and those of checkpoints.
 * Owner: none. Lifetime: the call. Any thread.
 */
#ifndef MLXR_QUANT_CODEC_TABLE_H
#define MLXR_QUANT_CODEC_TABLE_H

#include "quant/dtype.h"

/* Whether a type is one of these. */
bool codec_table_has(dtype type);
/* One block. Every value of GGUF's formats is exact: no product there needs more than the 24 bits of a float. */
void codec_table_decode(dtype type, const uint8_t *block, float *dst);
/* The 16 entries of a table that can be written: of IQ4_NL and IQ4_XS they rise; of MXFP4 E2M1, twice. NULL: none. */
const int8_t *codec_table_values(dtype type);

#endif
