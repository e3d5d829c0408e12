/*
 * Stacks of matrices.
 * Owner: none. Lifetime: the call.
 */
#include "graph/bind_stack.h"

mlxr_status stack_check(const tensor *t, uint64_t n_in, uint64_t n_out, uint64_t n, mlxr_error *error)
{
    if (t->shape[0] == n_in && t->shape[1] == n_out && t->shape[2] == n && t->shape[3] == 1) {
        return MLXR_OK;
    }
    return error_set(error, MLXR_FORMAT, "tensor '%s' has shape [%llu, %llu, %llu, %llu]; expected [%llu, %llu, %llu]",
                     t->name, (unsigned long long)t->shape[0], (unsigned long long)t->shape[1],
                     (unsigned long long)t->shape[2], (unsigned long long)t->shape[3], (unsigned long long)n_in,
                     (unsigned long long)n_out, (unsigned long long)n);
}

void stack_cut(const tensor *all, uint64_t first, uint64_t apart, uint64_t n_out, uint32_t n, tensor *out)
{
    for (uint32_t i = 0; i < n; i++) {
        out[i] = *all;
        out[i].n_dims = 2;
        out[i].shape[1] = n_out;
        out[i].shape[2] = 1;
        out[i].n_bytes = (size_t)n_out * all->row_bytes;
        if (all->data) { /* a packed tensor that is only described has none */
            out[i].data = (const uint8_t *)all->data + (first + i * apart) * all->row_bytes;
        }
    }
}
