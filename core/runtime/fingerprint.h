/*
 * Fingerprint: the name of what computes a model's KV pages, so that pages on disk are only taken where computing them
 * again would give the same bits.
 * Owner: none; a value. Lifetime: the call.
 *
 * In the name                                        because
 *   every byte of the model's files                  weights and hyper-parameters make the pages
 *   its metadata                                     safetensors have theirs in config.json, which is no weight file
 *   KV type, tokens a page                           they say what the bytes of a page mean
 *   backend, what it computes with (instruction      the order of summation differs, and with it the last bits
 *   sets in use; a library's version, a device)
 *   RoPE, where options have changed it              keys lie in the pages as they were turned
 *   bits of activations                              8 of them round what meets the weights
 *   sources of the layers that compute, compiler     a new kernel may round differently; so may another compiler
 *
 * Not in the name: threads, batch, budgets, context limit (but which of LongRoPE's factors it chose, and how far it
 * stretches RoPE), tokenizer and chat template beside safetensors, the model's path: none of them changes a bit of a
 * page.
 */
#ifndef MLXR_RUNTIME_FINGERPRINT_H
#define MLXR_RUNTIME_FINGERPRINT_H

#include "graph/hparams.h"
#include "kernels/backend.h"
#include "loaders/model_file.h"
#include "runtime/kv/prefix_index.h"

/* Of the sources, compiler and flags; written by the build (cmake/NumericsId.cmake). */
extern const char fingerprint_numerics[];

typedef struct fingerprint_options {
    const char *backend;  /* its name */
    const char *numerics; /* what it says of its arithmetic, or NULL */
    const backend_options *device;
    dtype kv_type;
    uint32_t page_tokens;
    bool rope_is_long;   /* LongRoPE with its factors for long contexts */
    const hparams *rope; /* what options made of RoPE; NULL: nothing */
    bool ahead;          /* pages hold the keys of a head that predicts ahead, too */
} fingerprint_options;

/* Reads every byte of the model. false: no memory. */
bool fingerprint_make(const model_file *file, const fingerprint_options *options, kv_hash *out);

#endif
