/*
 * Products of rows in two parts, the same for each instruction set. Include after these definitions:
 *     void multiply(bool whole, const uint8_t *const upper[ROWS], const uint8_t *const lower[ROWS], uint32_t n_in,
 *                   const halves_input *x, bool ahead, float out[ROWS])
 *     The products of whole rows, or of upper parts alone. `ahead`: rows lie one after the other, and what lies
 *     FAR behind them is fetched.
 * Owner: const tables. Lifetime: static.
 */

/* n ≤ ROWS rows from the first on; those that do not exist repeat the last one. */
static inline void find_rows(const uint8_t *first, size_t row_bytes, uint32_t n, const uint8_t *rows[ROWS])
{
    for (uint32_t r = 0; r < ROWS; r++) {
        rows[r] = first + (r < n ? r : n - 1) * row_bytes;
    }
}

INLINE void in_order(bool whole, const uint8_t *upper, const uint8_t *lower, uint32_t n_in, uint32_t n_rows,
                     const halves_input *x, float *out)
{
    const size_t upper_bytes = halves_upper_bytes(n_in), lower_bytes = halves_lower_bytes(n_in);
    const uint8_t *up[ROWS] = {0}, *low[ROWS] = {0};
    for (uint32_t i = 0; i < n_rows; i += ROWS) {
        uint32_t n = n_rows - i < ROWS ? n_rows - i : ROWS;
        float four[ROWS];
        find_rows(upper + i * upper_bytes, upper_bytes, n, up);
        if (whole) {
            find_rows(lower + i * lower_bytes, lower_bytes, n, low);
        }
        multiply(whole, up, low, n_in, x, true, four);
        memcpy(out + i, four, n * sizeof *four);
    }
}

static void products(const uint8_t *upper, uint32_t n_in, uint32_t n_rows, const halves_input *x, float *out)
{
    in_order(false, upper, NULL, n_in, n_rows, x, out);
}

static void wholes(const uint8_t *upper, const uint8_t *lower, uint32_t n_in, uint32_t n_rows, const halves_input *x,
                   float *out)
{
    in_order(true, upper, lower, n_in, n_rows, x, out);
}

static void some(const uint8_t *const upper[ROWS], const uint8_t *const lower[ROWS], uint32_t n_in,
                 const halves_input *x, float out[ROWS])
{
    multiply(true, upper, lower, n_in, x, false, out);
}
