#!/usr/bin/env python3
"""Compares MLXR's distributions with float32 ones, position by position, and the two forms of a reference with each other.

    check_reference.py [--build build/dev] [--models DIR] [--windows N]

For both real models reference_logits.py writes a reference of the text's first windows; `mlxr perplexity --kld` must be
within 0.5 % of its perplexity and 1e-5 of its distributions, and BASE must hold what REF does, read as llama.cpp reads it.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_perplexity import MODELS, ROOT, TEXT, models_folder

N_WINDOW = 512


def read_mlxr(path, n_vocab):
    with open(path, "rb") as file:
        file.seek(64)
        for row in iter(lambda: file.read(4 + 2 * n_vocab + 8), b""):
            greatest = np.frombuffer(row, "<f4", 1)[0]
            yield float(greatest) - np.frombuffer(row, "<u2", n_vocab, 4) * (32 / 65535)


def read_llama(path):
    """Yields (n_vocab, ids [n_chunks][n_ctx]), then rows."""
    with open(path, "rb") as file:
        assert file.read(8) == b"_logits_"
        n_ctx, n_vocab, n_chunks = np.frombuffer(file.read(12), np.int32).tolist()
        yield n_vocab, np.frombuffer(file.read(4 * n_ctx * n_chunks), np.int32).reshape(n_chunks, n_ctx)
        n_halves = 4 + n_vocab + n_vocab % 2
        for _ in range(n_chunks * (n_ctx - 1 - n_ctx // 2)):
            row = file.read(2 * n_halves)
            scale, least = np.frombuffer(row, np.float32, 2)
            yield float(least) + float(scale) * np.frombuffer(row, np.uint16, n_vocab, 8)
        assert file.read() == b""


def check(model, options, folder):
    ref, base = os.path.join(folder, "ref"), os.path.join(folder, "base")
    windows = ["--windows", str(options.windows), "--ctx", str(N_WINDOW), "--skip", str(N_WINDOW // 2)]
    path = os.path.join(options.models, model + ".gguf")
    script = os.path.join(ROOT, "tools", "oracle", "reference_logits.py")
    made = json.loads(subprocess.run([sys.executable, script, path, TEXT, "--mlxr", ref, "--llama", base, *windows], check=True,
                                     stdout=subprocess.PIPE, text=True).stdout)
    mlxr = os.path.join(ROOT, options.build, "bin", "mlxr")
    found = json.loads(subprocess.run([mlxr, "perplexity", path, "--file", TEXT, "--kld", ref, "--json", *windows], check=True,
                                      stdout=subprocess.PIPE, text=True).stdout)
    llama = read_llama(base)
    n_vocab, chunks = next(llama)
    worst, n_rows = 0.0, 0
    for ours, theirs in zip(read_mlxr(ref, n_vocab), llama, strict=True):
        seen = ours > ours.max() - 15.9  # what lies lower is cut off there
        worst = float(np.maximum(worst, np.abs(ours - theirs)[seen].max()))  # NaN stays, unlike with Python's max
        n_rows += 1
    change = found["ppl"] / made["ppl"] - 1
    print(f"{model}: {n_rows} positions, perplexity {found['ppl']:.5f} and {made['ppl']:.5f} ({100 * change:+.4f} %), KL "
          f"divergence {found['kld_mean']:.1e}, 99 % below {found['kld_p99']:.1e}, the same favourite at "
          f"{100 * found['top1_agreement']:.2f} %; the forms differ by {worst:.1e} at most")
    return (n_rows == found["n_predicted"] == made["n_predicted"] and chunks.shape[0] == options.windows and abs(change) < 0.005
            and found["kld_mean"] < 1e-5 and worst < 5e-4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/dev")
    parser.add_argument("--models", default=models_folder())
    parser.add_argument("--windows", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlxr-reference-") as folder:
        return 0 if all([check(model, options, folder) for model in MODELS]) else 1


if __name__ == "__main__":
    sys.exit(main())
