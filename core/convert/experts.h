/*
 * Experts as GGUF files have them: one tensor for those of a layer, gate and up apart.
 * Owner: the source's memory. Lifetime: the source's.
 */
#ifndef MLXR_CONVERT_EXPERTS_H
#define MLXR_CONVERT_EXPERTS_H

#include "convert/source.h"

/* Of tensors that are one expert's, blk.<i>.ffn_<part>.<expert>.weight, makes blk.<i>.ffn_<part>_exps.weight; of a
 * folder's tensors with gate and up in one, two. Rows stay where they lie: the tensors made have parts. Call it when
 * nothing changes the source's tensors any more. */
mlxr_status experts_stack(source *s, mlxr_error *error);

#define EXPERTS_NAME_BYTES 96
/* GGUF's name of the tensor that has this one as matrix *expert. False: it is no single expert's. */
bool experts_stack_name(const char *name, char out[EXPERTS_NAME_BYTES], uint32_t *expert);
/* GGUF's names of the two that have gate's and up's weights of a tensor with both. False: it is none. */
bool experts_halves_names(const char *name, char gate[EXPERTS_NAME_BYTES], char up[EXPERTS_NAME_BYTES]);

#endif
