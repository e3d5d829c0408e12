/*
 * The real models that some tests need.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_TEST_MODELS_H
#define MLXR_TEST_MODELS_H

#include <stdbool.h>
#include <stddef.h>

/* Where the model directory has NAME.gguf. False, after saying so, if it is not there. */
bool test_model_path(const char *name, char *path, size_t cap);

#endif
