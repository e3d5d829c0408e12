/*
 * Row kernels of a processor we have no vector code for: the scalar ones.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/ops.h"

void ops_table_arch(ops_table *table, cpu_features features)
{
    (void)table;
    (void)features;
}
