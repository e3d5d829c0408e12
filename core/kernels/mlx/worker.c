/*
 * The one thread that makes all calls of MLX.
 * Owner: the backend. Lifetime: mlx_worker_open to mlx_worker_close.
 *
 *   idle ── mlx_worker_run: fn set ──> busy ── fn returned: fn NULL ──> idle ── mlx_worker_close: stop ──> gone
 */
#include "kernels/mlx/worker.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/error.h"

struct mlx_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*fn)(void *context);
    void *context;
    bool stop;
};

static void *work(void *argument)
{
    mlx_worker *w = argument;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->fn && !w->stop) {
            pthread_cond_wait(&w->changed, &w->lock);
        }
        if (!w->fn) {
            break;
        }
        void (*fn)(void *context) = w->fn;
        pthread_mutex_unlock(&w->lock);
        fn(w->context);
        pthread_mutex_lock(&w->lock);
        w->fn = NULL;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

mlxr_status mlx_worker_open(mlx_worker **out, mlxr_error *error)
{
    mlx_worker *w = calloc(1, sizeof *w);
    if (!w) {
        return error_nomem(error, "MLX thread", sizeof *w);
    }
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    int failed = pthread_create(&w->thread, NULL, work, w);
    if (failed) {
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return error_set(error, MLXR_NOMEM, "no thread for MLX can be started (error %d)", failed);
    }
    *out = w;
    return MLXR_OK;
}

void mlx_worker_close(mlx_worker **pointer)
{
    mlx_worker *w = *pointer;
    if (w) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_cond_broadcast(&w->changed);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        free(w);
        *pointer = NULL;
    }
}

void mlx_worker_run(mlx_worker *w, void (*fn)(void *context), void *context)
{
    pthread_mutex_lock(&w->lock);
    w->fn = fn;
    w->context = context;
    pthread_cond_broadcast(&w->changed);
    while (w->fn) {
        pthread_cond_wait(&w->changed, &w->lock);
    }
    pthread_mutex_unlock(&w->lock);
}
