/*
 * Models that other programs downloaded, used where they lie.
 * Owner: the caller's list. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_FOREIGN_H
#define MLXR_REGISTRY_FOREIGN_H

#include "registry/inside.h"

/* Hugging Face's cache ($HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub), Ollama's models ($OLLAMA_MODELS,
 * ~/.ollama/models, /usr/share/ollama/.ollama/models) and LM Studio's (~/.lmstudio/models, ~/.cache/lm-studio/models).
 * What cannot be read there is passed over: it is not ours. */
mlxr_status foreign_scan(found_list *out, mlxr_error *error);

#endif
