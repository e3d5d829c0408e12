/*
 * OpenSSL's two libraries, opened at the first call of their functions: those that somebody uses.
 * Owner: the process. Lifetime: the process's.
 */
#ifndef MLXR_LIBRARIES_LAZY_OPENSSL_H
#define MLXR_LIBRARIES_LAZY_OPENSSL_H

#include "libraries/lazy_library.h"

extern lazy_library lazy_ssl, lazy_crypto;

#endif
