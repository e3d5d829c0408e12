/*
 * The bridge to MLX, second part: Metal kernels of our own (kernels/metal_kernels.h) as operations of a graph. On Metal
 * a call is mx::fast::metal_kernel's, which compiles the source when it first runs; elsewhere it is a primitive that
 * gives the same arguments to a runner, such as tools/metal-emulator. Owner, lifetime, threads: as bridge.h says. A
 * runner must outlive the arrays that need it.
 */
#ifndef MLXR_KERNELS_MLX_BRIDGE_KERNEL_H
#define MLXR_KERNELS_MLX_BRIDGE_KERNEL_H

#include "kernels/metal_emulator.h"
#include "kernels/metal_kernels.h"
#include "kernels/mlx/bridge.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs a kernel where there is no Metal; called from a thread of MLX. 0, or −1 and what was wrong. */
typedef struct kernel_runner {
    int (*run)(void *context, const char *kernel, const metal_emulator_argument *arguments, size_t n_arguments,
               const metal_emulator_launch *launch, char *error, size_t error_bytes);
    void *context;
} kernel_runner;

/* What failed runs said, until it is asked for. */
typedef struct kernel_failures kernel_failures;

#define KERNEL_INPUTS_MAX 10
#define KERNEL_OUTPUTS_MAX 2
#define KERNEL_DIMS_MAX 4

typedef struct kernel_output {
    mlx_type type;
    size_t n_dims;
    int32_t shape[KERNEL_DIMS_MAX];
} kernel_output;

/* One call. Inputs that are no contiguous rows are copied to such ones first, by MLX or by the primitive. */
typedef struct kernel_call {
    const char *source;                         /* name in metal_kernel_sources */
    const char *instance;                       /* its host name, such as rms_norm_f32 */
    const int *template_values;                 /* in the order of the source's parameters; for a type an mlx_type */
    const mlx_value *inputs[KERNEL_INPUTS_MAX]; /* all but `params`, which comes last among the inputs */
    size_t n_inputs;
    const metal_dispatch *dispatch;
    const mlx_value *after; /* another call's output that this one must come after, or NULL */
    kernel_output outputs[KERNEL_OUTPUTS_MAX];
    size_t n_outputs;
} kernel_call;

/* NULL: no memory. `runner` is copied. */
kernel_failures *bridge_failures_open(const kernel_runner *runner);
void bridge_failures_close(kernel_failures **failures);
/* MLXR_DEVICE and what the first failed run said; forgets it. */
mlxr_status bridge_failures_take(kernel_failures *failures, mlxr_error *error);

/* `failures` NULL: on Metal. Outputs go to out[n_outputs]; false after an error, which is the arena's. */
bool bridge_kernel_call(mlx_arena *arena, kernel_failures *failures, const kernel_call *call, mlx_value **out);

#ifdef __cplusplus
}
#endif

#endif
