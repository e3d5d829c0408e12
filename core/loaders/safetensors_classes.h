/*
 * The tables of Hugging Face classes, one for each kind of model.
 * Owner: none; const tables. Lifetime: static.
 */
#ifndef MLXR_LOADERS_SAFETENSORS_CLASSES_H
#define MLXR_LOADERS_SAFETENSORS_CLASSES_H

#include "loaders/safetensors.h"

typedef struct hf_class_list {
    const hf_class *rows; /* [n]; defaults as in transformers' configuration_*.py */
    size_t n;
} hf_class_list;

extern const hf_class_list hf_classes_dense, hf_classes_experts, hf_classes_mixers, hf_classes_encoders;

#endif
