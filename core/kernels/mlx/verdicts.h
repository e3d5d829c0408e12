/*
 * Verdicts: what a check (check.h) found out about our kernels on a device, kept in a file of the user's.
 * Owner: the caller's struct. Lifetime: the call; the file's is the user's.
 *
 * The file is text, a line for each unit on each device that was checked, its fields parted by tabs, and a last line
 * with the digest of all before it:
 *
 *   mlxr kernels 1
 *   Apple M4 <tab> 0.32.4 <tab> q_gemm_dequant/q4_0 <tab> <digest of its source> <tab> slower <tab> 0 <tab> <why>
 *   sum <tab> <digest>
 *
 * A verdict holds for that device, that MLX and that source; others are kept in the file and mean nothing here. A file
 * that is not as it was written is ignored as a whole: what it says could be wrong in either direction.
 */
#ifndef MLXR_KERNELS_MLX_VERDICTS_H
#define MLXR_KERNELS_MLX_VERDICTS_H

#include "kernels/kernel_report.h"
#include "kernels/mlx/units.h"
#include "mlxr.h"

/* What verdicts of a device are filed under; no tabs or line ends. */
typedef struct verdicts_key {
    const char *device, *mlx;
} verdicts_key;

/* Sets what is off and the threads of the units that have a verdict. A file that is not there says nothing; one that is
 * damaged or cannot be read sets nothing and gives its reason in `warning` (else ""). */
void verdicts_read(const char *path, const verdicts_key *key, unit_choices *out, char *warning, size_t warning_bytes);
/* Puts a report's verdicts in the place of those the file has for the same device and MLX. The file is there whole or
 * as before. A damaged one is written anew. */
mlxr_status verdicts_write(const char *path, const verdicts_key *key, const kernel_report *report, mlxr_error *error);

#endif
