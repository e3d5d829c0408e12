/*
 * Files of reference logits.
 * Owner: the verb. Lifetime: open to close.
 */
#include "reference_logits.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "output.h"
#include "registry/disk.h"

#define HEAD_BYTES 64u
#define VERSION 1u

static const char magic[8] = {'M', 'L', 'X', 'R', 'R', 'E', 'F', '\n'};

static void put_number(uint8_t *at, uint64_t value, unsigned n_bytes)
{
    for (unsigned i = 0; i < n_bytes; i++) {
        at[i] = (uint8_t)(value >> 8 * i);
    }
}

static uint64_t get_number(const uint8_t *at, unsigned n_bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < n_bytes; i++) {
        value |= (uint64_t)at[i] << 8 * i;
    }
    return value;
}

static size_t row_bytes(uint32_t n_vocab)
{
    return 4 + (size_t)n_vocab * 2 + 8;
}

static uint64_t digest_ids(const reference_text *text)
{
    XXH3_state_t *state = XXH3_createState();
    uint64_t digest = 0;
    if (state) {
        XXH3_64bits_reset(state);
        for (size_t i = 0; i < text->n_tokens; i++) {
            uint8_t id[4];
            put_number(id, (uint32_t)text->ids[i], 4);
            XXH3_64bits_update(state, id, sizeof id);
        }
        digest = XXH3_64bits_digest(state);
        XXH3_freeState(state);
    }
    return digest;
}

static void make_head(const reference_file *f, uint64_t n_rows, uint8_t *head)
{
    const reference_text *t = &f->text;
    memset(head, 0, HEAD_BYTES);
    memcpy(head, magic, sizeof magic);
    put_number(head + 8, VERSION, 4);
    put_number(head + 12, t->n_vocab, 4);
    put_number(head + 16, t->n_window, 4);
    put_number(head + 20, (uint32_t)t->bos, 4);
    put_number(head + 24, t->n_tokens, 8);
    put_number(head + 32, n_rows, 8);
    put_number(head + 40, digest_ids(t), 8);
    put_number(head + 48, t->n_skip, 4);
    put_number(head + 56, XXH3_64bits(head, 56), 8);
}

static bool broken(const reference_file *f, const char *what)
{
    print_error("%s: %s", f->path, what);
    return false;
}

static bool start(reference_file *f, const char *path, const reference_text *text)
{
    *f = (reference_file){.path = path, .n_vocab = text->n_vocab, .text = *text};
    f->bytes = malloc(row_bytes(text->n_vocab));
    if (!f->bytes) {
        return broken(f, "out of memory");
    }
    return true;
}

bool reference_create(reference_file *f, const char *path, const reference_text *text)
{
    uint8_t head[HEAD_BYTES] = {0}; /* the real one comes last */
    if (!start(f, path, text)) {
        return false;
    }
    if ((size_t)snprintf(f->partial, sizeof f->partial, "%s.partial", path) >= sizeof f->partial) {
        *f->partial = '\0';
        return broken(f, "the path is too long");
    }
    f->writing = true;
    f->file = fopen(f->partial, "wb");
    if (!f->file || fwrite(head, sizeof head, 1, f->file) != 1) {
        return broken(f, strerror(errno));
    }
    return true;
}

/* Compares a number of the head with what this run has. */
static bool agrees(const reference_file *f, const char *what, int64_t there, int64_t here)
{
    if (there != here) {
        print_error("%s: its %s is %lld, here it is %lld: it was made from another text, model --ctx or --windows",
                    f->path, what, (long long)there, (long long)here);
    }
    return there == here;
}

bool reference_open(reference_file *f, const char *path, const reference_text *text)
{
    uint8_t head[HEAD_BYTES];
    if (!start(f, path, text)) {
        return false;
    }
    f->file = fopen(path, "rb");
    if (!f->file) {
        return broken(f, strerror(errno));
    }
    if (fread(head, sizeof head, 1, f->file) != 1 || memcmp(head, magic, sizeof magic) != 0) {
        return broken(f, "not a file of reference logits (perplexity --save-logits makes them)");
    }
    if (get_number(head + 8, 4) != VERSION) {
        print_error("%s: version %u of reference logits; this build reads version %u", path,
                    (unsigned)get_number(head + 8, 4), VERSION);
        return false;
    }
    if (get_number(head + 56, 8) != XXH3_64bits(head, 56)) {
        return broken(f, "damaged: the checksum of its head is wrong");
    }
    f->n_rows = get_number(head + 32, 8);
    return agrees(f, "vocabulary", (int64_t)get_number(head + 12, 4), text->n_vocab) &&
           agrees(f, "window", (int64_t)get_number(head + 16, 4), text->n_window) &&
           agrees(f, "--skip", (int64_t)get_number(head + 48, 4), text->n_skip) &&
           agrees(f, "BOS", (int32_t)(uint32_t)get_number(head + 20, 4), text->bos) &&
           agrees(f, "number of tokens", (int64_t)get_number(head + 24, 8), (int64_t)text->n_tokens) &&
           (get_number(head + 40, 8) == digest_ids(text) ||
            broken(f, "its text has other tokens: it was made from another text or tokenizer"));
}

bool reference_put(reference_file *f, const float *log_probs)
{
    uint8_t *q = f->bytes + 4;
    float max = log_probs[0];
    for (uint32_t i = 1; i < f->n_vocab; i++) {
        max = log_probs[i] > max ? log_probs[i] : max;
    }
    uint32_t bits;
    memcpy(&bits, &max, sizeof bits);
    put_number(f->bytes, bits, 4);
    for (uint32_t i = 0; i < f->n_vocab; i++) {
        float below = (max - log_probs[i]) * (65535.0f / REFERENCE_DEPTH);
        uint32_t rounded = below < 65535.0f ? (uint32_t)(below + 0.5f) : 65535; /* NaN, too */
        put_number(q + 2 * (size_t)i, rounded < 65535 ? rounded : 65535, 2);
    }
    size_t n = row_bytes(f->n_vocab);
    put_number(f->bytes + n - 8, XXH3_64bits(f->bytes, n - 8), 8);
    if (fwrite(f->bytes, n, 1, f->file) != 1) {
        return broken(f, strerror(errno));
    }
    f->row++;
    return true;
}

bool reference_get(reference_file *f, float *log_probs)
{
    const uint8_t *q = f->bytes + 4;
    size_t n = row_bytes(f->n_vocab);
    if (f->row >= f->n_rows || fread(f->bytes, n, 1, f->file) != 1) {
        print_error("%s: ends after %llu of %llu rows", f->path, (unsigned long long)f->row,
                    (unsigned long long)f->n_rows);
        return false;
    }
    if (get_number(f->bytes + n - 8, 8) != XXH3_64bits(f->bytes, n - 8)) {
        print_error("%s: damaged: the checksum of row %llu is wrong", f->path, (unsigned long long)f->row);
        return false;
    }
    uint32_t bits = (uint32_t)get_number(f->bytes, 4);
    float max;
    memcpy(&max, &bits, sizeof max);
    for (uint32_t i = 0; i < f->n_vocab; i++) {
        log_probs[i] = max - (float)get_number(q + 2 * (size_t)i, 2) * (REFERENCE_DEPTH / 65535.0f);
    }
    f->row++;
    return true;
}

static bool finish_writing(reference_file *f)
{
    uint8_t head[HEAD_BYTES];
    make_head(f, f->row, head);
    bool ok = fseek(f->file, 0, SEEK_SET) == 0 && fwrite(head, sizeof head, 1, f->file) == 1 && fflush(f->file) == 0 &&
              disk_sync(fileno(f->file), f->partial, NULL) == MLXR_OK;
    ok = fclose(f->file) == 0 && ok;
    f->file = NULL;
    if (!ok || rename(f->partial, f->path) != 0) {
        return broken(f, strerror(errno));
    }
    *f->partial = '\0';
    return true;
}

bool reference_finish(reference_file *f)
{
    if (f->writing) {
        return finish_writing(f);
    }
    if (f->row != f->n_rows || getc(f->file) != EOF) {
        print_error("%s: has %llu rows and %s; %llu were needed", f->path, (unsigned long long)f->n_rows,
                    f->row == f->n_rows ? "bytes behind them" : "no more", (unsigned long long)f->row);
        return false;
    }
    return true;
}

void reference_close(reference_file *f)
{
    if (f->file) {
        fclose(f->file);
    }
    if (f->writing && *f->partial) {
        unlink(f->partial);
    }
    free(f->bytes);
    *f = (reference_file){0};
}
