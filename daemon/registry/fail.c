/*
 * Filling caller-owned errors.
 * Owner: the caller's mlxr_error. Lifetime: the call.
 */
#include "registry/fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

mlxr_status registry_fail(mlxr_error *error, mlxr_status status, const char *format, ...)
{
    if (error) {
        char text[sizeof error->text]; /* the old text may be among the arguments */
        va_list values;
        va_start(values, format);
        vsnprintf(text, sizeof text, format, values);
        va_end(values);
        for (char *c = text; *c; c++) {
            *c = (unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c;
        }
        error->status = status;
        memcpy(error->text, text, sizeof text);
    }
    return status;
}

mlxr_status registry_fail_nomem(mlxr_error *error)
{
    return registry_fail(error, MLXR_NOMEM, "out of memory in the registry");
}

mlxr_status registry_fail_errno(mlxr_error *error, int code, const char *what, const char *path)
{
    return registry_fail(error, code == ENOMEM ? MLXR_NOMEM : MLXR_IO, "%s %s: %s", what, path, strerror(code));
}
