/*
 * Safetensors from texts: a configuration and a header.
 * Owner: the caller frees the bytes. Lifetime: the call.
 */
#ifndef MLXR_TEST_SAFETENSORS_TEXT_H
#define MLXR_TEST_SAFETENSORS_TEXT_H

#include <stdio.h>
#include <sys/stat.h>

#include "loaders/safetensors.h"
#include "support/test.h"

/* config.json with what a Llama must say, and more members. */
#define LLAMA(more)                                                                                                    \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 8, \"intermediate_size\": 16, "                      \
    "\"num_hidden_layers\": 2,"                                                                                        \
    " \"num_attention_heads\": 2, \"tie_word_embeddings\": true" more "}"
#define CLASS(class, more)                                                                                             \
    "{\"architectures\": [\"" class "\"], \"hidden_size\": 8, \"intermediate_size\": 16, \"num_hidden_layers\": 2,"    \
                                    " \"num_attention_heads\": 2, \"tie_word_embeddings\": true" more "}"
/* A header entry. */
#define E(name, dtype, shape, begin, end)                                                                              \
    "\"" name "\": {\"dtype\": \"" dtype "\", \"shape\": " shape ", \"data_offsets\": [" #begin ", " #end "]}"

static inline text_view view(const char *text)
{
    return text ? (text_view){text, strlen(text)} : (text_view){0};
}

/* A weight file: header length, header, n_data bytes that count 0, 1, 2…; malloc'd exactly. */
static inline uint8_t *weights(const char *header, size_t n_data, size_t *n)
{
    size_t n_header = strlen(header);
    uint8_t *bytes = malloc(8 + n_header + n_data);
    for (size_t i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)((uint64_t)n_header >> 8 * i);
    }
    memcpy(bytes + 8, header, n_header);
    for (size_t i = 0; i < n_data; i++) {
        bytes[8 + n_header + i] = (uint8_t)i;
    }
    *n = 8 + n_header + n_data;
    return bytes;
}

/* A file of a folder, or of a folder in it, which is made. */
static inline void write_bytes(const char *folder, const char *name, const void *bytes, size_t n)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *slash = strrchr(path, '/');
    *slash = 0;
    mkdir(path, 0777);
    *slash = '/';
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

/* The same of a weight file. */
static inline void write_weights(const char *folder, const char *name, const char *header, size_t n_data)
{
    size_t n;
    uint8_t *bytes = weights(header, n_data, &n);
    write_bytes(folder, name, bytes, n);
    free(bytes);
}

static inline mlxr_status open_texts(model_file **file, const safetensors_texts *texts, const char *header,
                                     size_t n_data, uint8_t **bytes, mlxr_error *error)
{
    size_t n;
    *bytes = weights(header, n_data, &n);
    return safetensors_open_memory(file, texts, *bytes, n, error);
}

#endif
