/*
 * The list of backends with one more: MLX whose Metal kernels the emulator runs.
 * Owner: none; the counts are the test process's. Lifetime: the process.
 */
#include "mlx/backend_emulated.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/mlx/backend_mlx.h"

enum { KERNELS_MAX = 512 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* runs come from a thread of MLX */
static struct {
    char name[64];
    size_t n;
} counts[KERNELS_MAX];
static const char *failing, *spoilt;

/* Does a run of this kernel go on, and is its result to be a wrong one? */
static bool count(const char *kernel, bool *spoil)
{
    pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i + 1 < KERNELS_MAX && counts[i].name[0] && strcmp(counts[i].name, kernel) != 0) {
        i++;
    }
    snprintf(counts[i].name, sizeof counts[i].name, "%s", kernel);
    counts[i].n++;
    bool fails = failing && strcmp(failing, kernel) == 0;
    *spoil = spoilt && strncmp(spoilt, kernel, strlen(spoilt)) == 0;
    pthread_mutex_unlock(&lock);
    return !fails;
}

size_t emulated_runs(const char *kernel)
{
    pthread_mutex_lock(&lock);
    size_t n = 0;
    for (size_t i = 0; i < KERNELS_MAX && counts[i].name[0]; i++) {
        n += strncmp(counts[i].name, kernel, strlen(kernel)) == 0 ? counts[i].n : 0;
    }
    pthread_mutex_unlock(&lock);
    return n;
}

void emulated_fail(const char *kernel)
{
    pthread_mutex_lock(&lock);
    failing = kernel;
    pthread_mutex_unlock(&lock);
}

void emulated_spoil(const char *kernel)
{
    pthread_mutex_lock(&lock);
    spoilt = kernel;
    pthread_mutex_unlock(&lock);
}

static int run(void *context, const char *kernel, const metal_emulator_argument *arguments, size_t n_arguments,
               const metal_emulator_launch *launch, char *error, size_t error_bytes)
{
    (void)context;
    bool spoil = false;
    if (!count(kernel, &spoil)) {
        snprintf(error, error_bytes, "as the test wants it");
        return -1;
    }
    int status = metal_emulator_run(&metal_kernels_emulated, kernel, arguments, n_arguments, launch, NULL, error,
                                    error_bytes);
    float *last = arguments[n_arguments - 1].data; /* an output, of floats in all kernels that are spoilt */
    if (spoil && status == 0) {
        last[0] += 1.0f;
    }
    return status;
}

static mlxr_status open_emulated(backend **out, const backend_options *options, mlxr_error *error)
{
    const kernel_runner runner = {.run = run};
    return backend_mlx_open_with_runner(out, options, &runner, error);
}

const backend_ops *const *backend_list(void)
{
    static backend_ops emulated;
    static const backend_ops *const list[] = {&backend_cpu,       &backend_cpu_scalar, &backend_mlx,
                                              &backend_mlx_metal, &emulated,           NULL};
    const char *wrong = getenv("MLXR_TEST_SPOIL"); /* for tests of the program */
    pthread_mutex_lock(&lock);
    spoilt = spoilt ? spoilt : wrong;
    emulated = backend_mlx;
    emulated.name = "mlx-emulated";
    emulated.open = open_emulated;
    emulated.check_kernels = backend_mlx_metal.check_kernels;
    pthread_mutex_unlock(&lock);
    return list;
}

const backend_ops *backend_find(const char *name)
{
    for (const backend_ops *const *b = backend_list(); *b; b++) {
        if (strcmp((*b)->name, name) == 0) {
            return *b;
        }
    }
    return NULL;
}
