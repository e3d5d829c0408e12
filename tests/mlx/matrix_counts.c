/*
 * Did our own kernels run in the matrix's cells?
 * Owner: none. Lifetime: the call.
 */
#include "matrix/axes.h"
#include "mlx/backend_emulated.h"
#include "support/test.h"

void matrix_check_backend(void)
{
    static const char *const kernels[] = {"rms_norm",         "rope_apply",
                                          "q_gemm_vector",    "q_gemm_matrix",
                                          "swiglu_mlp_fused", "attention_decode_fused",
                                          "kv_write",         "attention_prefill_fused"};
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        print_message("%s ran %d times\n", kernels[i], (int)emulated_runs(kernels[i]));
        assert_true(emulated_runs(kernels[i]) > 0);
    }
}
