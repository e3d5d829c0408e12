/*
 * The registry's usual errors.
 * Owner: the caller's mlxr_error. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_FAIL_H
#define MLXR_REGISTRY_FAIL_H

#include "telemetry/daemon_error.h"

/* MLXR_NOMEM with the usual line. */
mlxr_status registry_fail_nomem(mlxr_error *error);
/* "what path: reason" of an errno. */
mlxr_status registry_fail_errno(mlxr_error *error, int code, const char *what, const char *path);

#endif
