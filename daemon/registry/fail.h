/*
 * Filling caller-owned errors.
 * Owner: the caller's mlxr_error. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_FAIL_H
#define MLXR_REGISTRY_FAIL_H

#include "mlxr.h"

/* Writes status and text into *error (if not NULL) and returns the status. Control characters become '?': the texts
 * hold names that come from strangers. */
mlxr_status registry_fail(mlxr_error *error, mlxr_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* MLXR_NOMEM with the usual line. */
mlxr_status registry_fail_nomem(mlxr_error *error);
/* "what path: reason" of an errno. */
mlxr_status registry_fail_errno(mlxr_error *error, int code, const char *what, const char *path);

#endif
