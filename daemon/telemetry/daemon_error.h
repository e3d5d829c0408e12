/*
 * Filling caller-owned errors, for every part of the daemon: they see mlxr.h and not the core's base/error.h.
 * Owner: the caller's mlxr_error. Lifetime: the call.
 */
#ifndef MLXR_TELEMETRY_DAEMON_ERROR_H
#define MLXR_TELEMETRY_DAEMON_ERROR_H

#include "mlxr.h"

/* Writes status and text into *error (if not NULL) and returns the status. The error's old text may be among the
 * arguments. Control characters become '?': texts hold names that come from strangers. Any thread. */
mlxr_status daemon_error(mlxr_error *error, mlxr_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
