/*
 * Sandbox: the kernel keeps this process to the files it needs, and from starting programs.
 * Owner: daemon_run. Lifetime: from sandbox_enter to the end of the process; nothing lifts it.
 *
 * Linux: Landlock for files, seccomp for system calls. A parser that was taken over by a model file then finds no keys
 * to read, no program to start and no other process to look into. Elsewhere there is none, and it says so.
 */
#ifndef MLXR_SERVER_SANDBOX_H
#define MLXR_SERVER_SANDBOX_H

#include "mlxr.h"

typedef struct sandbox sandbox; /* the rules, while they are collected */

mlxr_status sandbox_open(sandbox **out, mlxr_error *error);
void sandbox_close(sandbox **s);
/* False: this kernel keeps nobody from files, whatever is allowed. */
bool sandbox_keeps_files(const sandbox *s);
/* What lies under a path may be read, or changed, too. A path that is not there is left out. */
void sandbox_allow(sandbox *s, const char *path, bool write);
/* What folders under a path hold may be listed; no file of them can be opened. */
void sandbox_allow_names(sandbox *s, const char *path);
/* From now on, for this thread and all that it starts; call it before there are others. *what (static text) is in
 * force. MLXR_UNSUPPORTED: this system has none of it. */
mlxr_status sandbox_enter(sandbox *s, const char **what, mlxr_error *error);

#endif
