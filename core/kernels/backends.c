/*
 * The backends in this build.
 * Owner: none; const tables. Lifetime: static.
 */
#include <string.h>

#include "kernels/backend.h"

static const backend_ops *const backends[] = {
    &backend_cpu, &backend_cpu_scalar,
#if MLXR_MLX /* last, as long as nobody has compared the two on Apple's hardware (docs/apple.md) */
    &backend_mlx, &backend_mlx_metal,
#endif
    NULL,
};

const backend_ops *const *backend_list(void)
{
    return backends;
}

const backend_ops *backend_find(const char *name)
{
    for (const backend_ops *const *b = backends; *b; b++) {
        if (strcmp((*b)->name, name) == 0) {
            return *b;
        }
    }
    return NULL;
}
