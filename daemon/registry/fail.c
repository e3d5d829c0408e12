/*
 * The registry's usual errors.
 * Owner: the caller's mlxr_error. Lifetime: the call.
 */
#include "registry/fail.h"

#include <errno.h>
#include <string.h>

mlxr_status registry_fail_nomem(mlxr_error *error)
{
    return daemon_error(error, MLXR_NOMEM, "out of memory in the registry");
}

mlxr_status registry_fail_errno(mlxr_error *error, int code, const char *what, const char *path)
{
    return daemon_error(error, code == ENOMEM ? MLXR_NOMEM : MLXR_IO, "%s %s: %s", what, path, strerror(code));
}
