/*
 * Models of tests/oracle/families: a config.json as transformers wrote it, and a list of tensors that the generator of
 * tiny_model.h fills. Two files make a family's model; nothing here knows of any family.
 * Owner: the caller owns the files written. Lifetime: the call. Any failure ends the test program.
 *
 * A .tensors file: "seed N", then a line "name base scale dimension…" for each tensor, outermost dimension first.
 */
#ifndef MLXR_TEST_FAMILY_MODEL_H
#define MLXR_TEST_FAMILY_MODEL_H

#include <stddef.h>
#include <stdint.h>

#define FAMILY_NAME_MAX 64

/* Names of all families in order of the alphabet; returns how many there are, of which `cap` are written. */
size_t family_model_list(char (*names)[FAMILY_NAME_MAX], size_t cap);
/* Makes the directory `dir` with config.json, tokenizer.json and model.safetensors (F32). */
void family_model_write(const char *name, const char *dir);
/* The same without the tensors whose names have one of the words in them; the last word is NULL. */
void family_model_write_without(const char *name, const char *dir, const char *const *words);
/* Changes what the generator made of a tensor [n], or leaves it. */
typedef void family_change(const char *name, float *values, size_t n);
/* The same as family_model_write, with some tensors changed. */
void family_model_write_changed(const char *name, const char *dir, family_change *change);
/* Exchanges every `from` in a file for `to`, which is as long: names of tensors in safetensors, words in JSON. */
void family_model_exchange(const char *path, const char *from, const char *to);

#endif
