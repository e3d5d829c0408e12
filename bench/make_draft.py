#!/usr/bin/env python3
"""Writes a tiny random Llama model with the tokenizer of another GGUF file: a draft model that is cheap and never right.

    bench/make_draft.py MODEL.gguf OUT.gguf

For `bench_speculation MODEL --draft OUT`: speculation must notice that such a draft does not pay.
"""
import random
import struct
import sys

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY, U32, F32 = 8, 9, 4, 6
N_EMBD, N_FF, N_HEAD, N_LAYERS = 64, 128, 2, 1


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        size = struct.calcsize("<" + form)
        self.at += size
        return struct.unpack_from("<" + form, self.data, self.at - size)[0]

    def string(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n : self.at]

    def skip(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            kind, n = self.take("I"), self.take("Q")
            if kind in SIZES:
                self.at += n * SIZES[kind]
            else:
                for _ in range(n):
                    self.skip(kind)
        else:
            self.at += SIZES[kind]


def tokenizer_of(path):
    """The tokenizer's metadata as raw key-value bytes, and how many tokens it has."""
    with open(path, "rb") as file:
        r = Reader(file.read())
    r.at = 16
    kept, n_vocab = [], 0
    for _ in range(r.take("Q")):
        begin = r.at
        key = r.string()
        kind = r.take("I")
        value = r.at
        r.skip(kind)
        if key == b"tokenizer.ggml.tokens":
            n_vocab = struct.unpack_from("<Q", r.data, value + 4)[0]
        if key.startswith(b"tokenizer."):
            kept.append(r.data[begin : r.at])
    return kept, n_vocab


def text(value):
    return struct.pack("<Q", len(value)) + value


def pair(key, kind, value):
    packed = {STRING: text, U32: lambda v: struct.pack("<I", v), F32: lambda v: struct.pack("<f", v)}[kind](value)
    return text(key) + struct.pack("<I", kind) + packed


def main(source, target):
    kept, n_vocab = tokenizer_of(source)
    pairs = [
        pair(b"general.architecture", STRING, b"llama"),
        pair(b"general.name", STRING, b"useless draft"),
        pair(b"llama.block_count", U32, N_LAYERS),
        pair(b"llama.context_length", U32, 8192),
        pair(b"llama.embedding_length", U32, N_EMBD),
        pair(b"llama.feed_forward_length", U32, N_FF),
        pair(b"llama.attention.head_count", U32, N_HEAD),
        pair(b"llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
    ] + kept
    shapes = {"token_embd.weight": (N_EMBD, n_vocab), "output_norm.weight": (N_EMBD,)}
    for i in range(N_LAYERS):
        for name, shape in [
            ("attn_norm", (N_EMBD,)),
            ("attn_q", (N_EMBD, N_EMBD)),
            ("attn_k", (N_EMBD, N_EMBD)),
            ("attn_v", (N_EMBD, N_EMBD)),
            ("attn_output", (N_EMBD, N_EMBD)),
            ("ffn_norm", (N_EMBD,)),
            ("ffn_gate", (N_EMBD, N_FF)),
            ("ffn_up", (N_EMBD, N_FF)),
            ("ffn_down", (N_FF, N_EMBD)),
        ]:
            shapes[f"blk.{i}.{name}.weight"] = shape
    rng = random.Random(1)
    infos, blobs, offset = b"", [], 0
    for name, shape in shapes.items():
        n = 1
        for size in shape:
            n *= size
        spread = 0.2
        blob = struct.pack(f"<{n}f", *(rng.uniform(-spread, spread) for _ in range(n)))
        infos += text(name.encode()) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        infos += struct.pack("<IQ", 0, offset)
        blob += b"\0" * (-len(blob) % 32)
        blobs.append(blob)
        offset += len(blob)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(pairs)) + b"".join(pairs) + infos
    with open(target, "wb") as file:
        file.write(head + b"\0" * (-len(head) % 32) + b"".join(blobs))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
