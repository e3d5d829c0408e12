/*
 * Filling caller-owned errors.
 * Owner: the caller's mlxr_error. Lifetime: the call.
 */
#ifndef MLXR_BASE_ERROR_H
#define MLXR_BASE_ERROR_H

#include "mlxr.h"

#if defined(__GNUC__)
#define ERROR_PRINTF(fmt_index, arg_index) __attribute__((format(printf, fmt_index, arg_index)))
#else
#define ERROR_PRINTF(fmt_index, arg_index)
#endif

/* Writes `status` and the text into *error (if not NULL) and returns status, so that callers can write
 * `return error_set(error, MLXR_FORMAT, "…", …);`. Control characters and invalid UTF-8 that come from untrusted
 * files are replaced by '?', so that an error line can be printed to a terminal as it is. */
mlxr_status error_set(mlxr_error *error, mlxr_status status, const char *format, ...) ERROR_PRINTF(3, 4);

/* Puts `context: ` before the text an inner call left; keeps its status. */
mlxr_status error_prefix(mlxr_error *error, mlxr_status status, const char *format, ...) ERROR_PRINTF(3, 4);

/* The usual out-of-memory line. */
mlxr_status error_nomem(mlxr_error *error, const char *what, size_t n_bytes);

#endif
