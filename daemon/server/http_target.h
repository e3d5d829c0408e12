/*
 * Request targets: the path decoded once, refused where two readers could see two paths in it.
 * Owner: the caller. Lifetime: the call.
 */
#ifndef MLXR_SERVER_HTTP_TARGET_H
#define MLXR_SERVER_HTTP_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_TARGET_MAX 8192u
/* Stands for an encoded slash: within a segment for the route table, "/" for everybody else. */
#define HTTP_ENCODED_SLASH '\1'

/* Cuts `target` (NUL-terminated, changed in place) into a decoded path and a raw query. False, with *reason in words:
 * not origin-form, not ASCII, a fragment, a backslash, a bad escape, an escaped NUL or control character or backslash,
 * not UTF-8 when decoded, an empty segment, or a "." or ".." segment, encoded or not, encoded slashes counting as
 * slashes. */
bool http_target_read(char *target, char **path, char **query, const char **reason);
/* Decodes %XX and '+' of a query's value in place. False: a bad escape or a NUL. */
bool http_query_decode(char *text);

#endif
