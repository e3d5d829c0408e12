/*
 * SHA-256 of what comes in pieces.
 * Owner: the caller. Lifetime: digest_begin to digest_end.
 */
#include "registry/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/registry.h"

struct digest_state {
    EVP_MD_CTX *context;
    bool failed;
};

digest_state *digest_begin(void)
{
    digest_state *d = malloc(sizeof *d);
    EVP_MD_CTX *context = d ? EVP_MD_CTX_new() : NULL;
    if (!context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(context);
        free(d);
        return NULL;
    }
    *d = (digest_state){.context = context};
    return d;
}

bool digest_add(digest_state *d, const void *data, size_t n)
{
    d->failed = d->failed || EVP_DigestUpdate(d->context, data, n) != 1;
    return !d->failed;
}

bool digest_end(digest_state **pointer, char *text)
{
    digest_state *d = *pointer;
    uint8_t bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (!d) {
        return false;
    }
    bool ok = !d->failed && EVP_DigestFinal_ex(d->context, bytes, &n) == 1 && n == 32;
    if (ok && text) {
        memcpy(text, "sha256:", 7);
        digest_hex(bytes, 32, text + 7);
    }
    EVP_MD_CTX_free(d->context);
    free(d);
    *pointer = NULL;
    return ok;
}

bool digest_raw(const void *data, size_t n, uint8_t out[32])
{
    unsigned length = 0;
    return EVP_Digest(data, n, out, &length, EVP_sha256(), NULL) == 1 && length == 32;
}

bool digest_git_blob(const void *data, size_t n, char out[41])
{
    char head[48];
    uint8_t bytes[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    int n_head = snprintf(head, sizeof head, "blob %zu", n) + 1; /* with its NUL */
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestInit_ex(context, EVP_sha1(), NULL) == 1 &&
              EVP_DigestUpdate(context, head, (size_t)n_head) == 1 && EVP_DigestUpdate(context, data, n) == 1 &&
              EVP_DigestFinal_ex(context, bytes, &length) == 1 && length == 20;
    EVP_MD_CTX_free(context);
    if (ok) {
        digest_hex(bytes, 20, out);
    }
    return ok;
}

void digest_hex(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

bool digest_random(uint8_t *out, size_t n)
{
    return RAND_bytes(out, (int)n) == 1;
}

bool digest_same(const void *a, const void *b, size_t n)
{
    return CRYPTO_memcmp(a, b, n) == 0;
}

bool registry_digest_parse(const char *text, char *out)
{
    if (strncmp(text, "sha256:", 7) != 0 && strncmp(text, "sha256-", 7) != 0) {
        return false;
    }
    size_t n = strspn(text + 7, "0123456789abcdef");
    if (n != 64 || text[7 + 64] != '\0') {
        return false;
    }
    memcpy(out, "sha256:", 7);
    memcpy(out + 7, text + 7, 65);
    return true;
}
