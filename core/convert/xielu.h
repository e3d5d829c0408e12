/*
 * xIELU's numbers: of folders tensors of each layer, of GGUF lists among the metadata.
 * Owner: the source's memory. Lifetime: its own.
 */
#ifndef MLXR_CONVERT_XIELU_H
#define MLXR_CONVERT_XIELU_H

#include "convert/source.h"

/* Writes those of a folder as metadata and drops their tensors; of other models it changes nothing. */
mlxr_status xielu_move(source *s, mlxr_error *error);

#endif
