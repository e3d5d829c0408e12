/*
 * xIELU's numbers of a layer, from tensors or from metadata, as its function wants them.
 * Owner: the model's graph. Lifetime: the model's.
 */
#ifndef MLXR_GRAPH_BIND_XIELU_H
#define MLXR_GRAPH_BIND_XIELU_H

#include "graph/bind.h"

/* Fills the layer's xielu_curve (Huang & Schlag 2024: rise = softplus(alpha_p), fall = beta + softplus(alpha_n));
 * FORMAT where a number, or that sum, is not finite. Of tensors without data, which are only described, it is made of
 * zeros. */
mlxr_status bind_xielu(layer_weights *w, const hparams *h, uint32_t layer, mlxr_error *error);

#endif
