/*
 * MLX's wheel for Linux brings the reference BLAS, 1.4 · 10⁹ products a second. This is the one function that MLX's
 * matrix product in F32 calls, found before the wheel's and done by OpenBLAS (40 times as fast), whose wheel has other
 * names. Owner: the test program. Lifetime: the process.
 */

void scipy_cblas_sgemm(int order, int turn_a, int turn_b, int m, int n, int k, float alpha, const float *a,
                       int a_stride, const float *b, int b_stride, float beta, float *c, int c_stride);

__attribute__((visibility("default"))) void cblas_sgemm(int order, int turn_a, int turn_b, int m, int n, int k,
                                                        float alpha, const float *a, int a_stride, const float *b,
                                                        int b_stride, float beta, float *c, int c_stride);

void cblas_sgemm(int order, int turn_a, int turn_b, int m, int n, int k, float alpha, const float *a, int a_stride,
                 const float *b, int b_stride, float beta, float *c, int c_stride)
{
    scipy_cblas_sgemm(order, turn_a, turn_b, m, n, k, alpha, a, a_stride, b, b_stride, beta, c, c_stride);
}
