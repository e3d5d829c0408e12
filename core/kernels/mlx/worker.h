/*
 * Worker: the one thread that makes all calls of MLX. MLX's streams belong to the thread that made them, and an engine
 * may be opened by one thread and run by another.
 * Owner: the backend. Lifetime: mlx_worker_open to mlx_worker_close. One caller at a time.
 */
#ifndef MLXR_KERNELS_MLX_WORKER_H
#define MLXR_KERNELS_MLX_WORKER_H

#include "mlxr.h"

typedef struct mlx_worker mlx_worker;

mlxr_status mlx_worker_open(mlx_worker **out, mlxr_error *error);
void mlx_worker_close(mlx_worker **worker);
/* Runs fn(context) on the worker's thread and waits for it. */
void mlx_worker_run(mlx_worker *worker, void (*fn)(void *context), void *context);

#endif
