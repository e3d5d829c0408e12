/*
 * Fuzz target: what a GGUF file says of a model, and its table of tensors, as a plan. The input is the file's
 * beginning; zeros follow it, so that an input is small and its tensors are there. What builds has every tensor in its
 * place. Owner: the fuzzer. Lifetime: one input.
 */
/* links: graph */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "loaders/readers.h"

enum { HEADER_MAX = 1 << 16, FILE_BYTES = 8 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void build(const model_file *file, const mlxr_model_options *options, bool ahead)
{
    graph *g = NULL;
    mlxr_error error = {0};
    mlxr_status status = graph_build(&g, file, options, ahead, &error);
    if ((status == MLXR_OK) != (g != NULL) || (status != MLXR_OK && (error.text[0] == 0 || strchr(error.text, '\n')))) {
        abort();
    }
    if (g && (g->n_params == 0 || g->h.n_ctx == 0 || (!options && g->h.n_ctx != g->h.n_ctx_train))) {
        abort();
    }
    graph_close(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t *bytes;
    model_file *file = NULL;
    mlxr_error error = {0};
    bytes = bytes ? bytes : calloc(1, FILE_BYTES);
    n = n < HEADER_MAX ? n : HEADER_MAX;
    if (!bytes || n == 0) {
        return 0;
    }
    memcpy(bytes, data, n);
    if (gguf_open_memory(&file, bytes, FILE_BYTES, &error) == MLXR_OK) {
        build(file, NULL, false);
        build(file, NULL, true);
        for (int scaling = MLXR_ROPE_NONE; scaling <= MLXR_ROPE_YARN; scaling++) {
            bool factor = scaling != MLXR_ROPE_NONE;
            mlxr_model_options options = {.n_ctx_max = factor ? 0 : 1 << 20,
                                          .rope = {.scaling = (mlxr_rope_scaling)scaling, .scale = factor ? 4 : 0}};
            build(file, &options, false);
            options.rope.n_original = factor ? 64 : 0;
            build(file, &options, false);
        }
        model_file_close(&file);
    }
    memset(bytes, 0, n);
    return 0;
}
