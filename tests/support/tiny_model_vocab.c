/*
 * Vocabularies of the tiny models: byte-level BPE and SentencePiece BPE, complete enough to tokenise any bytes.
 * Owner: see tiny_model.h. Lifetime: the tables are static.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/tiny_model.h"

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6 };

/* ---- byte-level BPE: 256 bytes, 56 merges, 8 control tokens ------------------------------------------------------ */

/* "_" stands for GPT-2's letter for the space. Each merge makes the token after the bytes at its own place. */
static const char *const bpe_merges[] = {
    "_ t", "h e",  "i n",  "_ a", "r e",  "o n", "_t he", "e r",  "_ s", "a t",  "_ w",  "e n", "_ o",   "i t",
    "_ c", "o r",  "i s",  "_ b", "e s",  "_ f", "a n",   "in g", "_ p", "o u",  "_a n", "a l", "_an d", "_t o",
    "a r", "_o f", "_ m",  "e d", "_ in", "_ d", "_ h",   "l e",  "_ {", "i c",  "_ re", "a s", "_ =",   "_ (",
    "o m", "r o",  "i on", "l l", "v e",  "_ n", "_ l",   "s t",  "_ i", "_i s", "_ g",  "_ e", "n t",   "t ion",
};

static const char *const bpe_specials[] = {
    "<|endoftext|>", "<|begin|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|pad|>",
};

#define N_BPE_MERGES (sizeof bpe_merges / sizeof *bpe_merges)
#define N_BPE_SPECIALS (sizeof bpe_specials / sizeof *bpe_specials)
_Static_assert(256 + N_BPE_MERGES + N_BPE_SPECIALS == TINY_N_VOCAB, "byte-level vocabulary");

static size_t put_utf8(char *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

/* GPT-2's printable letter for a byte: itself where printable in Latin-1, else 256 and up in order. */
static uint32_t byte_letter(unsigned byte)
{
    uint32_t next = 256;
    for (unsigned b = 0; b < 256; b++) {
        bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte) {
            return printable ? b : next;
        }
        next += !printable;
    }
    return 0;
}

/* Replaces "_" by the letter for the space, and drops or keeps the separating space. */
static void spell(const char *merge, bool joined, char *out, size_t cap)
{
    size_t n = 0;
    for (; *merge && n + 3 < cap; merge++) {
        if (*merge == '_') {
            n += put_utf8(out + n, byte_letter(' '));
        } else if (*merge != ' ' || !joined) {
            out[n++] = *merge;
        }
    }
    out[n] = 0;
}

static void bpe_tokens(tiny_token *tokens)
{
    for (unsigned b = 0; b < 256; b++) {
        tokens[b] = (tiny_token){.type = NORMAL};
        tokens[b].text[put_utf8(tokens[b].text, byte_letter(b))] = 0;
    }
    for (size_t i = 0; i < N_BPE_MERGES; i++) {
        tokens[256 + i] = (tiny_token){.type = NORMAL};
        spell(bpe_merges[i], true, tokens[256 + i].text, sizeof tokens->text);
    }
    for (size_t i = 0; i < N_BPE_SPECIALS; i++) {
        tiny_token *t = &tokens[256 + N_BPE_MERGES + i];
        *t = (tiny_token){.type = CONTROL};
        snprintf(t->text, sizeof t->text, "%s", bpe_specials[i]);
    }
}

/* ---- SentencePiece: control tokens, 256 byte tokens, pieces in the order of their scores ------------------------ */

/* "_" stands for SentencePiece's space, U+2581. Every piece is made of two others; the first ones are best. The
 * Gemma-like vocabulary has three control tokens more and the last three pieces less. */
static const char *const pieces[] = {
    "_t",  "he",   "in",  "_a",  "re", "on",  "_the", "er", "_s", "at", "_w", "en", "_o", "it", "or", "an",
    "ing", "_and", "_to", "_of", "ou", "_in", "es",   "ed", "_",  "e",  "t",  "a",  "o",  "i",  "n",  "s",
    "r",   "h",    "l",   "d",   "u",  "c",   "m",    "f",  "p",  "g",  "w",  "y",  "b",  "v",  "k",  "x",
    "j",   "q",    "z",   ".",   ",",  "nd",  "to",   "of", "ng", "th", "(",  ")",  "=",
};

static const char *const spm_controls[] = {"<unk>", "<s>", "</s>"};
static const char *const gemma_controls[] = {"<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"};

#define N_PIECES (sizeof pieces / sizeof *pieces)
_Static_assert(3 + 256 + N_PIECES == TINY_N_VOCAB, "SentencePiece vocabulary");

static void spell_piece(const char *piece, char *out, size_t cap)
{
    size_t n = 0;
    for (; *piece && n + 4 < cap; piece++) {
        if (*piece == '_') {
            memcpy(out + n, "\xe2\x96\x81", 3);
            n += 3;
        } else {
            out[n++] = *piece;
        }
    }
    out[n] = 0;
}

static void spm_tokens(tiny_vocab kind, tiny_token *tokens)
{
    size_t n_controls = kind == TINY_VOCAB_GEMMA ? 6 : 3, n = 0;
    const char *const *controls = kind == TINY_VOCAB_GEMMA ? gemma_controls : spm_controls;
    for (size_t i = 0; i < n_controls; i++, n++) {
        tokens[n] = (tiny_token){.type = strcmp(controls[i], "<unk>") == 0 ? UNKNOWN : CONTROL};
        snprintf(tokens[n].text, sizeof tokens[n].text, "%s", controls[i]);
    }
    for (unsigned b = 0; b < 256; b++, n++) {
        tokens[n] = (tiny_token){.type = BYTE};
        snprintf(tokens[n].text, sizeof tokens[n].text, "<0x%02X>", b);
    }
    for (size_t i = 0; n < TINY_N_VOCAB; i++, n++) {
        tokens[n] = (tiny_token){.type = NORMAL, .score = -(float)i};
        spell_piece(pieces[i], tokens[n].text, sizeof tokens[n].text);
    }
}

static bool has_piece(const tiny_token *tokens, const char *text, size_t n)
{
    for (size_t i = 0; i < TINY_N_VOCAB; i++) {
        if (tokens[i].type == NORMAL && strlen(tokens[i].text) == n && memcmp(tokens[i].text, text, n) == 0) {
            return true;
        }
    }
    return false;
}

/* Every way to cut a piece into two pieces is a merge, the best piece first. */
static bool spm_merge(tiny_vocab kind, size_t wanted, char *out, size_t cap)
{
    tiny_token tokens[TINY_N_VOCAB];
    spm_tokens(kind, tokens);
    for (size_t i = 0; i < TINY_N_VOCAB; i++) {
        const char *text = tokens[i].text;
        size_t n = strlen(text);
        for (size_t cut = 1; tokens[i].type == NORMAL && cut < n; cut++) {
            if (has_piece(tokens, text, cut) && has_piece(tokens, text + cut, n - cut) && wanted-- == 0) {
                snprintf(out, cap, "%.*s %s", (int)cut, text, text + cut);
                return true;
            }
        }
    }
    return false;
}

/* ---- either ----------------------------------------------------------------------------------------------------- */

void tiny_vocab_tokens(tiny_vocab kind, tiny_token *tokens)
{
    if (kind == TINY_VOCAB_BPE) {
        bpe_tokens(tokens);
    } else {
        spm_tokens(kind, tokens);
    }
}

bool tiny_vocab_merge(tiny_vocab kind, size_t i, char *out, size_t cap)
{
    if (kind != TINY_VOCAB_BPE) {
        return spm_merge(kind, i, out, cap);
    }
    if (i >= N_BPE_MERGES) {
        return false;
    }
    spell(bpe_merges[i], false, out, cap);
    return true;
}

tiny_specials tiny_vocab_specials(tiny_vocab kind)
{
    int32_t first = 256 + (int32_t)N_BPE_MERGES;
    switch (kind) {
    case TINY_VOCAB_BPE:
        break;
    case TINY_VOCAB_SPM:
        return (tiny_specials){
            .bos = 1, .eos = 2, .eot = -1, .unk = 0, .pad = -1, .add_bos = true, .add_space_prefix = true};
    case TINY_VOCAB_GEMMA:
        return (tiny_specials){.bos = 2, .eos = 1, .eot = 5, .unk = 3, .pad = 0, .add_bos = true};
    }
    return (tiny_specials){.bos = first + 1, .eos = first + 3, .eot = -1, .unk = -1, .pad = first + 7};
}

void tiny_json_string(void *file, const char *text)
{
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            fprintf(file, "\\%c", *text);
        } else if ((unsigned char)*text < 0x20) {
            fprintf(file, "\\u%04x", (unsigned)*text);
        } else {
            fputc(*text, file);
        }
    }
    fputc('"', file);
}
