/*
 * The real models that some tests need.
 * Owner: none. Lifetime: the call.
 */
#include "support/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool test_model_path(const char *name, char *path, size_t cap)
{
    const char *folder = getenv("MLXR_MODELS"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (folder && *folder) {
        snprintf(path, cap, "%s/%s.gguf", folder, name);
    } else if (data && *data) {
        snprintf(path, cap, "%s/mlxr/models/%s.gguf", data, name);
    } else {
        snprintf(path, cap, "%s/.local/share/mlxr/models/%s.gguf", home ? home : "", name);
    }
    if (access(path, R_OK) != 0) {
        printf("%s is not there; make models fetches it\n", path);
        return false;
    }
    return true;
}
