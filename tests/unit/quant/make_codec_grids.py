"""Prints the tables of core/quant/codec_grids.c from PyPI `gguf`: the points that the IQ formats' indexes stand for.

Usage: python3 make_codec_grids.py        (needs numpy and gguf)
A point has eight coordinates of two bits, or four of three: a number each, the first coordinate in the lowest bits.
"""
from gguf import quants

for name, bits in (("IQ2_XXS", 2), ("IQ2_XS", 2), ("IQ2_S", 2), ("IQ1_S", 2), ("IQ3_XXS", 3), ("IQ3_S", 3)):
    codec = getattr(quants, name)
    codec.init_grid()
    values = list(codec.grid_map)
    points = codec.grid.reshape(codec.grid_shape)
    packed = [sum(values.index(int(v)) << bits * i for i, v in enumerate(point)) for point in points]
    print(f"const uint16_t codec_grid_{name.lower()}[{len(packed)}] = {{")
    for at in range(0, len(packed), 14):
        print("    " + " ".join(f"0x{n:04x}," for n in packed[at : at + 14]))
    print("};\n")
