/*
 * Filling caller-owned errors.
 * Owner: the caller's mlxr_error. Lifetime: the call.
 */
#include "telemetry/daemon_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

mlxr_status daemon_error(mlxr_error *error, mlxr_status status, const char *format, ...)
{
    if (error) {
        char text[sizeof error->text];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        for (char *c = text; *c; c++) {
            *c = (unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c;
        }
        error->status = status;
        memcpy(error->text, text, sizeof text);
    }
    return status;
}
