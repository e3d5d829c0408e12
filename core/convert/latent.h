/*
 * The matrix that keys and values of latent attention are made of, written as other programs look for it: a tensor of
 * matrices of keys, turned, and one of values, and what is said of the cache's one head.
 * Owner: the source's memory. Lifetime: its own.
 */
#ifndef MLXR_CONVERT_LATENT_H
#define MLXR_CONVERT_LATENT_H

#include "convert/source.h"

/* Metadata that latent_split writes, in the one form or the other. */
bool latent_says(const char *key);

/* Writes that metadata, of a model from safetensors with latent attention, and cuts attn_kv_b of every layer in two.
 * Where one of them is quantised, or an adapter was merged into it, all stay whole, which is read as well. */
mlxr_status latent_split(source *s, mlxr_error *error);

#endif
