/*
 * Fuzz target: any bytes as text, for small vocabularies of every kind. The first byte chooses the vocabulary, the
 * second the flags. Byte-level vocabularies must give back every byte.
 * Owner: the fuzzer. Lifetime: one input.
 */
/* links: text */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/exercise_tokenizer.inc"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define N_BYTES 256
#define N_TOKENS 300

static const char *const recipes[] = {"default", "smollm", "llama-bpe",   "qwen2",    "qwen35",
                                      "gpt-4o",  "tekken", "deepseek-v3", "starcoder"};
#define N_RECIPES (sizeof recipes / sizeof *recipes)

/* The letter of GPT-2's alphabet for a byte, as UTF-8. */
static size_t put_letter(unsigned byte, char *out)
{
    unsigned next = 256;
    for (unsigned b = 0; b < 256; b++) {
        bool prints = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
        unsigned code = prints ? b : next++;
        if (b == byte) {
            return utf8_encode(code, out);
        }
    }
    return 0;
}

static const char *const words[] = {"he", "ll",   "hell", "th", "in",  "ing",     "aa", "aaaa",
                                    "12", "\n\n", "  ",   " t", " th", "<|end|>", "a b"};
#define N_WORDS (sizeof words / sizeof *words)

/* A vocabulary with all bytes and some words; merges where two parts of a word are tokens. */
static tokenizer *open_small(unsigned choice)
{
    static char texts[N_TOKENS][64], merges[N_WORDS][64];
    token_text tokens[N_TOKENS], merge_texts[N_WORDS];
    int32_t types[N_TOKENS];
    float scores[N_TOKENS];
    uint32_t n = 0, n_merges = 0;
    bool spm = choice >= N_RECIPES;
    for (unsigned byte = 0; byte < N_BYTES; byte++, n++) {
        tokens[n] = (token_text){texts[n],
                                 spm ? (size_t)snprintf(texts[n], 64, "<0x%02X>", byte) : put_letter(byte, texts[n])};
        types[n] = spm ? TOKEN_BYTE : TOKEN_NORMAL;
        scores[n] = 0;
    }
    for (unsigned i = 0; spm && i < 20; i++, n++) {
        texts[n][0] = " abehilnt12<>|ed\n\t-x"[i];
        tokens[n] = (token_text){texts[n], 1};
        types[n] = TOKEN_NORMAL;
        scores[n] = -10;
    }
    for (unsigned i = 0; i < N_WORDS; i++, n++) {
        const char *word = words[i];
        size_t used = 0, cut = 0;
        for (size_t k = 0; word[k]; k++) {
            used += spm ? (texts[n][used] = word[k], 1) : put_letter((unsigned char)word[k], texts[n] + used);
            cut = k == 0 || (i == 2 && k == 1) || (i == 5 && k == 1) || (i == 7 && k == 1) ? used : cut;
        }
        tokens[n] = (token_text){texts[n], used};
        types[n] = i == 13 ? TOKEN_CONTROL : i == 14 ? TOKEN_USER_DEFINED : i == 3 && spm ? TOKEN_UNUSED : TOKEN_NORMAL;
        scores[n] = -(float)i;
        if (i < 13 && i != 12 && !spm) {
            int length = snprintf(merges[n_merges], 64, "%.*s %.*s", (int)cut, texts[n], (int)(used - cut),
                                  texts[n] + cut);
            merge_texts[n_merges] = (token_text){merges[n_merges], (size_t)length};
            n_merges++;
        }
    }
    tokenizer_source source = {.kind = !spm                  ? TOKENIZER_BPE
                                       : choice == N_RECIPES ? TOKENIZER_SPM
                                                             : TOKENIZER_UNIGRAM,
                               .n_tokens = n,
                               .tokens = tokens,
                               .types = types,
                               .scores = scores,
                               .n_merges = n_merges,
                               .merges = merge_texts,
                               .pre = spm ? NULL : recipes[choice],
                               .bos = -1,
                               .eos = -1,
                               .eot = -1,
                               .unk = -1,
                               .pad = -1,
                               .sep = -1,
                               .cls = -1,
                               .mask = -1,
                               .add_space_prefix = choice == N_RECIPES + 1};
    tokenizer *t = NULL;
    mlxr_error error = {0};
    if (tokenizer_open(&t, &source, &error) != MLXR_OK) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
    return t;
}

/* The bytes of all pieces, one after the other, are the text. */
static void check_bytes(const tokenizer *t, const char *text, size_t n, unsigned flags)
{
    token_list ids = {0};
    mlxr_error error = {0};
    REQUIRE(tokenizer_encode(t, text, n, flags, &ids, &error) == MLXR_OK);
    size_t at = 0;
    for (size_t i = 0; i < ids.n; i++) {
        token_text piece = tokenizer_piece(t, ids.ids[i]);
        REQUIRE(piece.n <= n - at && memcmp(piece.data, text + at, piece.n) == 0);
        at += piece.n;
    }
    REQUIRE(at == n);
    token_list_close(&ids);
}

/* Marked, a text has no control token, and gives back its bytes all the same. */
static void check_marked(const tokenizer *t, const char *text, size_t n)
{
    token_list ids = {0};
    mlxr_error error = {0};
    buffer marked = buffer_make((size_t)1 << 24);
    REQUIRE(tokenizer_mark_specials(t, text, n, &marked));
    unsigned flags = MLXR_TOKENIZE_PARSE_SPECIAL | MLXR_TOKENIZE_MARKED;
    REQUIRE(tokenizer_encode(t, marked.data ? marked.data : "", marked.n, flags, &ids, &error) == MLXR_OK);
    size_t at = 0;
    for (size_t i = 0; i < ids.n; i++) {
        token_text piece = tokenizer_piece(t, ids.ids[i]);
        REQUIRE(!tokenizer_is_special(t, ids.ids[i]));
        REQUIRE(piece.n <= n - at && memcmp(piece.data, text + at, piece.n) == 0);
        at += piece.n;
    }
    REQUIRE(at == n);
    token_list_close(&ids);
    buffer_close(&marked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static tokenizer *small[N_RECIPES + 2]; /* kept for the whole run */
    if (n < 2) {
        return 0;
    }
    unsigned choice = data[0] % (N_RECIPES + 2);
    if (!small[choice]) {
        small[choice] = open_small(choice);
    }
    const char *text = (const char *)data + 2;
    exercise_text(small[choice], text, n - 2, data[1] & 7u);
    if (choice < N_RECIPES) {
        check_bytes(small[choice], text, n - 2, data[1] & 3u);
        if (!memchr(text, TOKENIZER_MARK, n - 2)) { /* no text has that byte */
            check_marked(small[choice], text, n - 2);
        }
    }
    return 0;
}
