/*
 * Check: our kernels on this device, each by itself: does it compile and run, does it give what the scalar backend gave
 * (kernel_vectors.c) and what is done without it, in every size of threadgroup that it can have, and is it faster.
 * Owner: the caller's report. Lifetime: the call. On the worker's thread only.
 *
 *   unit by unit:   small cases: kernel, fallback, sizes → FAILED, or
 *                   large cases: both in turn, sizes     → SLOWER, or OK with the best size
 *
 * Where a runner runs the kernels times say nothing: nothing is SLOWER there, and no size is the best.
 */
#ifndef MLXR_KERNELS_MLX_CHECK_H
#define MLXR_KERNELS_MLX_CHECK_H

#include "kernels/kernel_report.h"
#include "kernels/mlx/cases.h"
#include "kernels/mlx/program.h"

/* The largest (found − expected)² / the mean expected², above which a kernel is wrong. Attention over F16 and
 * BF16 pages: what is rounded to the other side. Without the kernel others round: to 11 bits, where MLX multiplies so.
 */
#define CHECK_ERROR_MOST 1e-8
#define CHECK_ERROR_MOST_F16 1e-5
#define CHECK_ERROR_MOST_BF16 1e-4
#define CHECK_ERROR_MOST_FALLBACK 1e-4
/* As much slower than what is done without it is still no reason to put a kernel aside. */
#define CHECK_SLOWER 1.05
/* A size is better than the kernel's own choice where it takes less than this part of its time. */
#define CHECK_BETTER 0.97

mlxr_status mlx_check_kernels(const program_device *device, const kernel_vector *vectors, kernel_report *out,
                              mlxr_error *error);

#endif
