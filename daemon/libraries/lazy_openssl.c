/*
 * OpenSSL's functions, opened at the first call.
 * Owner: OpenSSL. Lifetime: the process's.
 */
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <string.h>

#include "libraries/lazy_library.h"

static lazy_library lazy_ssl = {.name = MLXR_SSL_SONAME};
static lazy_library lazy_crypto = {.name = MLXR_CRYPTO_SONAME};

LAZY(lazy_crypto, EVP_MD_CTX *, EVP_MD_CTX_new, (void), (), NULL)
LAZY_VOID(lazy_crypto, EVP_MD_CTX_free, (EVP_MD_CTX * context), (context))
LAZY(lazy_crypto, const EVP_MD *, EVP_sha1, (void), (), NULL)
LAZY(lazy_crypto, const EVP_MD *, EVP_sha256, (void), (), NULL)
LAZY(lazy_crypto, int, EVP_DigestInit_ex, (EVP_MD_CTX * context, const EVP_MD *type, ENGINE *engine),
     (context, type, engine), 0)
LAZY(lazy_crypto, int, EVP_DigestUpdate, (EVP_MD_CTX * context, const void *data, size_t n), (context, data, n), 0)
LAZY(lazy_crypto, int, EVP_DigestFinal_ex, (EVP_MD_CTX * context, unsigned char *out, unsigned int *n),
     (context, out, n), 0)
LAZY(lazy_crypto, int, EVP_Digest,
     (const void *data, size_t n, unsigned char *out, unsigned int *n_out, const EVP_MD *type, ENGINE *engine),
     (data, n, out, n_out, type, engine), 0)
LAZY(lazy_crypto, int, EVP_EncodeBlock, (unsigned char *out, const unsigned char *data, int n), (out, data, n), -1)
LAZY(lazy_crypto, int, RAND_bytes, (unsigned char *out, int n), (out, n), 0)

LAZY(lazy_crypto, BIO *, BIO_new, (const BIO_METHOD *method), (method), NULL)
LAZY(lazy_crypto, const BIO_METHOD *, BIO_s_mem, (void), (), NULL)
LAZY(lazy_crypto, int, BIO_free, (BIO * bio), (bio), 0)
LAZY(lazy_crypto, int, BIO_read, (BIO * bio, void *data, int n), (bio, data, n), -1)
LAZY(lazy_crypto, int, BIO_write, (BIO * bio, const void *data, int n), (bio, data, n), -1)
LAZY(lazy_crypto, size_t, BIO_ctrl_pending, (BIO * bio), (bio), 0)

LAZY_VOID(lazy_crypto, ERR_clear_error, (void), ())
LAZY(lazy_crypto, unsigned long, ERR_peek_last_error, (void), (), 0)
LAZY(lazy_crypto, const char *, ERR_reason_error_string, (unsigned long error), (error), "OpenSSL is not installed")

LAZY(lazy_ssl, const SSL_METHOD *, TLS_server_method, (void), (), NULL)
LAZY(lazy_ssl, SSL_CTX *, SSL_CTX_new, (const SSL_METHOD *method), (method), NULL)
LAZY_VOID(lazy_ssl, SSL_CTX_free, (SSL_CTX * context), (context))
LAZY(lazy_ssl, long, SSL_CTX_ctrl, (SSL_CTX * context, int command, long value, void *more),
     (context, command, value, more), 0)
LAZY(lazy_ssl, uint64_t, SSL_CTX_set_options, (SSL_CTX * context, uint64_t options), (context, options), 0)
LAZY(lazy_ssl, int, SSL_CTX_use_certificate_chain_file, (SSL_CTX * context, const char *path), (context, path), 0)
LAZY(lazy_ssl, int, SSL_CTX_use_PrivateKey_file, (SSL_CTX * context, const char *path, int type), (context, path, type),
     0)
LAZY(lazy_ssl, int, SSL_CTX_check_private_key, (const SSL_CTX *context), (context), 0)
LAZY(lazy_ssl, SSL *, SSL_new, (SSL_CTX * context), (context), NULL)
LAZY_VOID(lazy_ssl, SSL_free, (SSL * ssl), (ssl))
LAZY_VOID(lazy_ssl, SSL_set_bio, (SSL * ssl, BIO *in, BIO *out), (ssl, in, out))
LAZY_VOID(lazy_ssl, SSL_set_accept_state, (SSL * ssl), (ssl))
LAZY(lazy_ssl, int, SSL_is_init_finished, (const SSL *ssl), (ssl), 0)
LAZY(lazy_ssl, int, SSL_get_error, (const SSL *ssl, int result), (ssl, result), SSL_ERROR_SSL)
LAZY(lazy_ssl, int, SSL_read, (SSL * ssl, void *data, int n), (ssl, data, n), -1)
LAZY(lazy_ssl, int, SSL_write, (SSL * ssl, const void *data, int n), (ssl, data, n), -1)
LAZY(lazy_ssl, int, SSL_shutdown, (SSL * ssl), (ssl), -1)

/* Two that must not fail: what is compared or wiped is secret. */
int CRYPTO_memcmp(const void *a, const void *b, size_t n)
{
    const volatile unsigned char *x = a, *y = b;
    unsigned char differs = 0;
    for (size_t i = 0; i < n; i++) {
        differs |= x[i] ^ y[i];
    }
    return differs;
}

void OPENSSL_cleanse(void *data, size_t n)
{
    explicit_bzero(data, n);
}
