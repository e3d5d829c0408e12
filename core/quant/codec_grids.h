/*
 * The points that indexes of the IQ formats stand for: eight coordinates of two bits each, or four of three, the first
 * in the lowest bits (tests/unit/quant/make_codec_grids.py prints them). Owner: none; const tables. Lifetime: static.
 */
#ifndef MLXR_QUANT_CODEC_GRIDS_H
#define MLXR_QUANT_CODEC_GRIDS_H

#include <stdint.h>

extern const uint16_t codec_grid_iq2_xxs[256], codec_grid_iq2_xs[512], codec_grid_iq2_s[1024]; /* of 8, 25, 43 */
extern const uint16_t codec_grid_iq1_s[2048];                                                  /* of −1, 0, 1 */
extern const uint16_t codec_grid_iq3_xxs[256]; /* of 4, 12, 20, 28, 36, 44, 52, 62 */
extern const uint16_t codec_grid_iq3_s[512];   /* of 1, 3, 5, 7, 9, 11, 13, 15 */

#endif
