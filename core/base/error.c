/*
 * Filling caller-owned errors.
 * Owner: the caller's mlxr_error. Lifetime: the call.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static const char *const status_texts[] = {
#define STATUS_TEXT(name, text) text,
    MLXR_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
};

const char *mlxr_status_text(mlxr_status status)
{
    size_t index = (size_t)status;
    return index < sizeof status_texts / sizeof *status_texts ? status_texts[index] : "unknown status";
}

/* Names in hostile files may hold escape sequences; an error line must be safe to print. */
static void sanitise(char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n;) {
        uint32_t code = 0;
        size_t used = utf8_decode(text + i, n - i, &code);
        if (used == 0) {
            text[i++] = '?';
        } else {
            if (code < 0x20 || code == 0x7f || (code >= 0x80 && code < 0xa0)) {
                memset(text + i, '?', used);
            }
            i += used;
        }
    }
}

mlxr_status error_set(mlxr_error *error, mlxr_status status, const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        error->status = status;
        vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
        sanitise(error->text);
    }
    return status;
}

mlxr_status error_prefix(mlxr_error *error, mlxr_status status, const char *format, ...)
{
    if (error) {
        char inner[sizeof error->text];
        memcpy(inner, error->text, sizeof inner);
        va_list args;
        va_start(args, format);
        int n = vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
        size_t used = n < 0 ? 0 : (size_t)n;
        if (used + 2 < sizeof error->text) { /* a text too long loses its end */
            size_t n_inner = strlen(inner), room = sizeof error->text - used - 3;
            memcpy(error->text + used, ": ", 2);
            n_inner = n_inner < room ? n_inner : room;
            memcpy(error->text + used + 2, inner, n_inner);
            error->text[used + 2 + n_inner] = 0;
        }
        error->status = status;
        sanitise(error->text);
    }
    return status;
}

mlxr_status error_nomem(mlxr_error *error, const char *what, size_t n_bytes)
{
    return error_set(error, MLXR_NOMEM, "out of memory: %s needs %zu bytes", what, n_bytes);
}
