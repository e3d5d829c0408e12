/*
 * The MLX backend with its kernels in somebody else's hands, for tests where there is no Metal.
 * Owner: as backend.h says; the runner is copied, its context must outlive the backend. Lifetime: open to close.
 */
#ifndef MLXR_KERNELS_MLX_BACKEND_MLX_H
#define MLXR_KERNELS_MLX_BACKEND_MLX_H

#include "kernels/backend.h"
#include "kernels/mlx/bridge_kernel.h"
#include "kernels/mlx/cases.h"

mlxr_status backend_mlx_open_with_runner(backend **out, const backend_options *options, const kernel_runner *runner,
                                         mlxr_error *error);
/* backend_ops.check_kernels with recorded vectors of the caller's. */
mlxr_status backend_mlx_check(backend *b, const kernel_vector *vectors, const char *file, kernel_report *out,
                              mlxr_error *error);

#endif
