/*
 * An engine with one model of a path, for tests that rank with it.
 * Owner: the caller closes it. Lifetime: until then. Any failure ends the test program.
 */
#ifndef MLXR_TEST_RANKER_H
#define MLXR_TEST_RANKER_H

#include "mlxr.h"
#include "support/test.h"

typedef struct ranker {
    mlxr_engine *engine;
    mlxr_model *model;
} ranker;

static inline void ranker_open(ranker *r, const char *backend, const char *path)
{
    mlxr_error error;
    mlxr_engine_options options = {.n_threads = 1, .kv_bytes = 16 << 20, .backend = backend};
    assert_ok(mlxr_engine_open(&r->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&r->model, r->engine, path, NULL, &error), &error);
}

static inline void ranker_close(ranker *r)
{
    mlxr_model_unref(&r->model);
    mlxr_engine_close(&r->engine);
}

#endif
