"""Prints the frozen hashes of test_codec.c: what PyPI `gguf` (and numpy) decode from seeded random and extreme blocks.

Usage: python3 make_codec_vectors.py        (needs numpy, gguf and torch)
Q8_K, which that package does not decode, is written out here: a float scale, 256 bytes, 16 sums that decoding skips. So are our own
formats (core/quant/codec_checkpoint.h), with torch's floats of 8 bits and bitsandbytes' table of NF4.
"""
import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

N_BLOCKS = 64
OWN = {"AFFINE4": (56, 20), "ZERO4": (57, 20), "AFFINE8": (58, 40), "NF4": (59, 36), "FP8_E4M3": (60, 36), "FP8_E5M2": (61, 36)}
NF4 = np.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
                -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
                0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0], np.float32)
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


def decode_own(name, data):
    rows = data.reshape(-1, OWN[name][1])
    pair = rows[:, :4].copy().view(np.uint16)
    nibbles = np.concatenate((rows[:, 4:] & 15, rows[:, 4:] >> 4), 1)
    scale = rows[:, :4].copy().view(np.float32)
    if name == "AFFINE4":
        scale, bias = ((pair[:, i:i + 1].astype(np.uint32) << 16).view(np.float32) for i in (0, 1))
        values = scale * nibbles.astype(np.float32) + bias
    elif name == "ZERO4":
        values = pair[:, :1].view(np.float16).astype(np.float32) * (nibbles.astype(np.int32) - pair[:, 1:]).astype(np.float32)
    elif name == "AFFINE8":
        values = scale * rows[:, 8:].astype(np.float32) + rows[:, 4:8].copy().view(np.float32)
    elif name == "NF4":
        values = NF4[nibbles] * scale
    else:
        kind = torch.float8_e4m3fn if name == "FP8_E4M3" else torch.float8_e5m2
        values = torch.from_numpy(rows[:, 4:].copy()).view(kind).float().numpy() * scale
    return values.astype(np.float32).ravel()


def decode(name, data):
    if name in OWN:
        return decode_own(name, data)
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
    for type_name in TYPES + list(OWN):
        if type_name in OWN:
            type_id, size = OWN[type_name][0], OWN[type_name][1] * N_BLOCKS
        else:
            type_id = GGMLQuantizationType[type_name].value
            size = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][1] * N_BLOCKS
        hashes = [fnv(decode(type_name, blocks(type_id, kind, size))) for kind in (0, 1)]
        print(f"    {{DTYPE_{type_name}, {{0x{hashes[0]:016x}, 0x{hashes[1]:016x}}}}},")
