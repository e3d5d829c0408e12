/*
 * Binding of one tensor.
 * Owner: none. Lifetime: the call.
 */
#include "graph/bind_tensor.h"

mlxr_status bind_tensor(const tensor **out, const model_file *file, const char *name, uint64_t in, uint64_t n_out,
                        bool required, bool any_shape, mlxr_error *error)
{
    const tensor *t = model_file_tensor(file, name);
    bool vector = n_out == 0;
    n_out = vector ? 1 : n_out;
    *out = NULL;
    if (!t) {
        return required ? error_set(error, MLXR_FORMAT, "tensor '%s' is missing", name) : MLXR_OK;
    }
    bool fits = t->shape[0] == in && t->shape[1] == n_out && t->shape[2] == 1 && t->shape[3] == 1;
    fits = fits || (vector && any_shape && t->n_dims == 2 && in % t->shape[0] == 0 && in / t->shape[0] == t->shape[1]);
    if (!fits) {
        return error_set(error, MLXR_FORMAT, "tensor '%s' has shape [%llu, %llu, %llu, %llu]; expected [%llu, %llu]",
                         name, (unsigned long long)t->shape[0], (unsigned long long)t->shape[1],
                         (unsigned long long)t->shape[2], (unsigned long long)t->shape[3], (unsigned long long)in,
                         (unsigned long long)n_out);
    }
    if (vector && t->type != DTYPE_F32) {
        return error_set(error, MLXR_UNSUPPORTED, "tensor '%s' is %s; norms and biases must be F32", name,
                         dtype_name(t->type));
    }
    *out = t;
    return MLXR_OK;
}
