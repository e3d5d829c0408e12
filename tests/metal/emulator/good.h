/*
 * Included by good.metal, to see that includes are translated too.
 * Owner: the test. Lifetime: the program.
 */
inline float good_helper(const device float *at, uint i)
{
    return at[i] + 1.0f;
}
