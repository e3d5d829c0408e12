/*
 * TLS over bytes: OpenSSL between a connection's plain and encrypted bytes, without sockets of its own.
 * Owner: the server (context), a connection (stream). Lifetime: open to close; streams end before their context.
 */
#ifndef MLXR_SERVER_TLS_H
#define MLXR_SERVER_TLS_H

#include "mlxr.h"
#include "server/byte_queue.h"

typedef struct tls_context tls_context;
typedef struct tls_stream tls_stream;

/* TLS 1.2 and 1.3; the files are PEM, the key must belong to the certificate. */
mlxr_status tls_context_open(tls_context **out, const char *cert_path, const char *key_path, mlxr_error *error);
void tls_context_close(tls_context **context);

tls_stream *tls_stream_open(tls_context *context); /* NULL: no memory */
void tls_stream_close(tls_stream **stream);
/* Takes bytes from the network. False: no memory. */
bool tls_stream_feed(tls_stream *stream, const void *data, size_t n);
/* Plain bytes, up to cap of them; 0: no more yet, −1: the peer has ended the stream or broken it. What there is to send
 * comes through tls_stream_take. */
int tls_stream_read(tls_stream *stream, void *out, size_t cap);
/* Encrypts. False: not before the handshake is over, or it broke. */
bool tls_stream_write(tls_stream *stream, const void *data, size_t n);
bool tls_stream_ready(const tls_stream *stream); /* the handshake is over */
void tls_stream_end(tls_stream *stream);         /* says that nothing more will come */
/* Appends encrypted bytes that have to be sent. False: no memory. */
bool tls_stream_take(tls_stream *stream, byte_queue *out);

#endif
