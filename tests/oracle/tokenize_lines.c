/*
 * Reads length-prefixed strings and prints their token ids: the side of MLXR in tools/oracle/tokenizer_compare.py.
 * Owner: the process. Lifetime: the process.
 *
 * usage: tokenize_lines MODEL [special] [add] < strings > ids
 * MODEL: a GGUF or a safetensors directory, a tokenizer.json or a SentencePiece tokenizer.model. Input: for each
 * string its length (u32, little-endian) and its bytes. Output: for each string the number of its ids (u32) and the
 * ids (i32). "decode" turns it round: ids in, bytes out. "time" prints load time and MB/s instead.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mapping.h"
#include "graph/vocabulary.h"

/* Of this process on its core, so that others on a busy machine do not count. */
static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static mlxr_status open_any(tokenizer **t, const char *path, double *file_seconds, mlxr_error *error)
{
    const char *dot = strrchr(path, '.');
    bool json = dot && strcmp(dot, ".json") == 0, spm = dot && strcmp(dot, ".model") == 0;
    mlxr_status status;
    if (json || spm) {
        mapping file;
        status = mapping_open(&file, path, error);
        if (status != MLXR_OK) {
            return status;
        }
        status = json ? tokenizer_open_json(t, (const char *)file.data, file.n_bytes, NULL, 0, error)
                      : tokenizer_open_spm(t, file.data, file.n_bytes, error);
        mapping_close(&file);
        return status;
    }
    model_file *file;
    double start = seconds();
    status = model_file_open(&file, path, error);
    *file_seconds = seconds() - start;
    if (status == MLXR_OK) {
        status = vocabulary_open(t, file, error);
        model_file_close(&file);
    }
    return status;
}

/* The next length-prefixed record of `width`-byte elements, or false at the end. */
static bool read_record(char **data, uint32_t *n, size_t width)
{
    if (fread(n, sizeof *n, 1, stdin) != 1) {
        return false;
    }
    *data = realloc(*data, *n * width + 1);
    if (!*data || fread(*data, width, *n, stdin) != *n) {
        fprintf(stderr, "tokenize_lines: cut-off input\n");
        exit(1);
    }
    return true;
}

static void write_record(const void *data, uint32_t n, size_t width)
{
    fwrite(&n, sizeof n, 1, stdout);
    fwrite(data, width, n, stdout);
}

static void decode_all(const tokenizer *t, bool special)
{
    char *record = NULL, *text = NULL;
    uint32_t n;
    while (read_record(&record, &n, sizeof(int32_t))) {
        detokenizer state = {0};
        uint32_t used = 0;
        for (uint32_t i = 0; i < n; i++) {
            int32_t id;
            memcpy(&id, record + i * sizeof id, sizeof id);
            size_t cap = 3 * (tokenizer_piece(t, id).n + 8);
            text = realloc(text, used + cap + 3);
            used += (uint32_t)detokenizer_push(&state, t, id, special, text + used, cap);
        }
        text = realloc(text, used + 3);
        used += (uint32_t)detokenizer_finish(&state, text + used, 3);
        write_record(text, used, 1);
    }
    free(record);
    free(text);
}

int main(int argc, char **argv)
{
    unsigned flags = 0;
    bool decode = false, timed = false;
    for (int i = 2; i < argc; i++) {
        flags |= strcmp(argv[i], "special") == 0 ? MLXR_TOKENIZE_PARSE_SPECIAL : 0u;
        flags |= strcmp(argv[i], "add") == 0 ? MLXR_TOKENIZE_ADD_SPECIAL : 0u;
        decode = decode || strcmp(argv[i], "decode") == 0;
        timed = timed || strcmp(argv[i], "time") == 0;
    }
    mlxr_error error = {0};
    tokenizer *t = NULL;
    double file_seconds = 0, start = seconds();
    if (argc < 2 || open_any(&t, argv[1], &file_seconds, &error) != MLXR_OK) {
        fprintf(stderr, "tokenize_lines: %s\n", argc < 2 ? "MODEL is missing" : error.text);
        return 1;
    }
    double loaded = seconds(), spent = 0;
    if (decode) {
        decode_all(t, flags & MLXR_TOKENIZE_PARSE_SPECIAL);
        tokenizer_close(&t);
        return 0;
    }
    char *record = NULL;
    uint32_t n;
    uint64_t n_bytes = 0, n_ids = 0;
    token_list ids = {0};
    while (read_record(&record, &n, 1)) {
        ids.n = 0;
        double before = seconds();
        if (tokenizer_encode(t, record, n, flags, &ids, &error) != MLXR_OK) {
            fprintf(stderr, "tokenize_lines: %s\n", error.text);
            return 1;
        }
        spent += seconds() - before;
        n_bytes += n;
        n_ids += ids.n;
        if (!timed) {
            write_record(ids.ids, (uint32_t)ids.n, sizeof *ids.ids);
        }
    }
    if (timed) {
        printf("file %.1f ms, tokenizer %.1f ms; %llu bytes, %llu ids, %.1f MB/s\n", 1e3 * file_seconds,
               1e3 * (loaded - start - file_seconds), (unsigned long long)n_bytes, (unsigned long long)n_ids,
               1e-6 * (double)n_bytes / spent);
    }
    free(record);
    token_list_close(&ids);
    tokenizer_close(&t);
    return 0;
}
