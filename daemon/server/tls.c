/*
 * TLS over memory.
 * Owner: the server, its connections. Lifetime: open to close.
 */
#include "server/tls.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "server/http_internal.h"
#include "telemetry/daemon_error.h"

struct tls_context {
    SSL_CTX *ssl;
};

struct tls_stream {
    SSL *ssl;
    BIO *in, *out; /* the SSL object's */
};

static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return text ? text : "cannot be read";
}

mlxr_status tls_context_open(tls_context **out, const char *cert_path, const char *key_path, mlxr_error *error)
{
    tls_context *context = calloc(1, sizeof *context);
    ERR_clear_error();
    if (!context || !(context->ssl = SSL_CTX_new(TLS_server_method()))) {
        free(context);
        return daemon_error(error, MLXR_NOMEM, "no memory for TLS");
    }
    SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION);
    SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_options(context->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                          SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    mlxr_status status = MLXR_OK;
    if (SSL_CTX_use_certificate_chain_file(context->ssl, cert_path) != 1) {
        status = daemon_error(error, MLXR_ARG, "%s: no certificate: %s", cert_path, reason());
    } else if (SSL_CTX_use_PrivateKey_file(context->ssl, key_path, SSL_FILETYPE_PEM) != 1) {
        status = daemon_error(error, MLXR_ARG, "%s: no private key: %s", key_path, reason());
    } else if (SSL_CTX_check_private_key(context->ssl) != 1) {
        status = daemon_error(error, MLXR_ARG, "%s is not the key of %s", key_path, cert_path);
    }
    if (status != MLXR_OK) {
        tls_context_close(&context);
        return status;
    }
    *out = context;
    return MLXR_OK;
}

void tls_context_close(tls_context **pointer)
{
    if (*pointer) {
        SSL_CTX_free((*pointer)->ssl);
        free(*pointer);
        *pointer = NULL;
    }
}

tls_stream *tls_stream_open(tls_context *context)
{
    tls_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        return NULL;
    }
    stream->ssl = SSL_new(context->ssl);
    stream->in = BIO_new(BIO_s_mem());
    stream->out = BIO_new(BIO_s_mem());
    if (!stream->ssl || !stream->in || !stream->out) {
        BIO_free(stream->in);
        BIO_free(stream->out);
        SSL_free(stream->ssl);
        free(stream);
        return NULL;
    }
    SSL_set_bio(stream->ssl, stream->in, stream->out);
    SSL_set_accept_state(stream->ssl);
    return stream;
}

void tls_stream_close(tls_stream **pointer)
{
    if (*pointer) {
        SSL_free((*pointer)->ssl);
        free(*pointer);
        *pointer = NULL;
    }
}

bool tls_stream_feed(tls_stream *stream, const void *data, size_t n)
{
    return n <= INT_MAX && BIO_write(stream->in, data, (int)n) == (int)n;
}

int tls_stream_read(tls_stream *stream, void *out, size_t cap)
{
    ERR_clear_error();
    int n = SSL_read(stream->ssl, out, cap < INT_MAX ? (int)cap : INT_MAX);
    if (n > 0) {
        return n;
    }
    int why = SSL_get_error(stream->ssl, n);
    ERR_clear_error();
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

bool tls_stream_write(tls_stream *stream, const void *data, size_t n)
{
    const char *at = data;
    ERR_clear_error();
    while (n > 0) {
        int written = SSL_write(stream->ssl, at, n < 16384 ? (int)n : 16384);
        if (written <= 0) {
            ERR_clear_error();
            return false;
        }
        at += written;
        n -= (size_t)written;
    }
    return true;
}

bool tls_stream_ready(const tls_stream *stream)
{
    return SSL_is_init_finished(stream->ssl);
}

void tls_stream_end(tls_stream *stream)
{
    ERR_clear_error();
    if (tls_stream_ready(stream)) {
        SSL_shutdown(stream->ssl);
    }
    ERR_clear_error();
}

bool tls_stream_take(tls_stream *stream, byte_queue *out)
{
    size_t n = BIO_ctrl_pending(stream->out);
    if (n == 0) {
        return true;
    }
    if (n > INT_MAX || !byte_queue_reserve(out, n)) {
        return false;
    }
    int got = BIO_read(stream->out, out->data + out->n, (int)n);
    out->n += got > 0 ? (size_t)got : 0;
    return got == (int)n;
}
