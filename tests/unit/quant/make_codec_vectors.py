"""Prints the frozen hashes of test_codec.c: what PyPI `gguf` (and numpy) decode from seeded random and extreme blocks.

Usage: python3 make_codec_vectors.py        (needs numpy and gguf)
Q8_K, which that package does not decode, is written out here: a float scale, 256 bytes, 16 sums that decoding skips.
"""
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

N_BLOCKS = 64
TYPES = ("F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S "
         "IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4").split()
MASK = (1 << 64) - 1


def splitmix(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def blocks(type_id, kind, n_bytes):
    """kind 0: random bytes; 1: bytes from a few extremes."""
    extremes = [0x00, 0xFF, 0x7F, 0x80, 0x01, 0x7C, 0xFC, 0x3C]
    stream = splitmix(1000 * type_id + kind)
    values = ((z >> 32) & 0xFF for z in stream)
    return np.array([next(values) if kind == 0 else extremes[next(values) % 8] for _ in range(n_bytes)], np.uint8)


def decode(name, data):
    qtype = GGMLQuantizationType[name]
    if name == "Q8_K":
        rows = data.reshape(-1, 292)
        return (rows[:, :4].copy().view(np.float32) * rows[:, 4:260].view(np.int8).astype(np.float32)).ravel()
    return quants.dequantize(data.reshape(1, -1), qtype).ravel().astype(np.float32)


def fnv(values):
    bits = values.view(np.uint32).copy()
    bits[np.isnan(values)] = 0x7FC00000
    h = 0xCBF29CE484222325
    for word in bits.tolist():
        for shift in (0, 8, 16, 24):
            h = ((h ^ (word >> shift & 0xFF)) * 0x100000001B3) & MASK
    return h


with np.errstate(all="ignore"):
    for type_name in TYPES:
        type_id = GGMLQuantizationType[type_name].value
        size = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][1] * N_BLOCKS
        hashes = [fnv(decode(type_name, blocks(type_id, kind, size))) for kind in (0, 1)]
        print(f"    {{DTYPE_{type_name}, {{0x{hashes[0]:016x}, 0x{hashes[1]:016x}}}}},")
