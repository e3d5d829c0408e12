#!/usr/bin/env python3
"""Regenerates the reference perplexities with transformers in float32 and compares them with the committed ones.

    check_perplexity.py                 compare; exit 1 on a difference
    check_perplexity.py --write         write tests/oracle/reference/*.bin anew
    check_perplexity.py --models DIR    instead of the model directory
    check_perplexity.py --step N        only every N-th window (with compare)

The weights are those of the GGUF file, decoded by the `gguf` package; ids come from the `tokenizers` and
`sentencepiece` packages with the vocabulary in the file. The text's tokens are cut into windows of 512, the last one
shorter (dropped if a single token is left); BOS stands before each window where the model's tokenizer adds one; every
position but the first is predicted.

A .bin file, little-endian: "MLXRPPL1"; u32 n_ctx, n_tokens, n_windows, bos + 1 (0: none); f64 negative log-likelihood
of each window; i32 ids[n_tokens]; for each predicted position a u32: the greedy id in the low 18 bits, above them the
gap between the two largest logits in thousandths, at most 16383.
"""
import argparse
import math
import os
import sys

import numpy as np

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TEXT = os.path.join(ROOT, "tests", "data", "text", "languages-and-code.text")
REFERENCE = os.path.join(ROOT, "tests", "oracle", "reference")
MODELS = ("SmolLM2-135M-Instruct.Q4_1", "gemma-3-270m-Q4_K_M")
N_CTX = 512


def models_folder():
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.environ.get("MLXR_MODELS") or os.path.join(data, "mlxr", "models")


def windows_of(ids):
    out = [ids[i : i + N_CTX] for i in range(0, len(ids), N_CTX)]
    return out if len(out[-1]) > 1 else out[:-1]


def run_window(model, window, bos):
    """negative log-likelihood, packed greedy ids and gaps"""
    import torch

    tokens = torch.tensor(([] if bos is None else [bos]) + window)
    with torch.no_grad():
        logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1]
        nll = (torch.logsumexp(logits.double(), -1) - logits.gather(1, tokens[1:, None])[:, 0].double()).sum().item()
        top = logits.topk(2)
    gap = ((top.values[:, 0] - top.values[:, 1]) * 1000).floor().clamp(0, 16383).to(torch.int64)
    return nll, (top.indices[:, 0] + (gap << 18)).numpy().astype("<u4")


class Reference:
    """What one .bin file holds."""

    def __init__(self, ids, bos, nll, packed):
        self.ids, self.bos, self.nll, self.packed = ids, bos, nll, packed

    @property
    def n_predicted(self):
        return len(self.packed)

    @property
    def ppl(self):
        return math.exp(sum(self.nll) / self.n_predicted)

    def pack(self):
        head = np.array([N_CTX, len(self.ids), len(self.nll), 0 if self.bos is None else self.bos + 1], "<u4")
        return (b"MLXRPPL1" + head.tobytes() + np.array(self.nll, "<f8").tobytes()
                + np.array(self.ids, "<i4").tobytes() + self.packed.tobytes())

    @classmethod
    def read(cls, path):
        with open(path, "rb") as f:
            data = f.read()
        if data[:8] != b"MLXRPPL1":
            raise SystemExit(f"{path} is no reference file")
        n_ctx, n_tokens, n_windows, bos = (int(n) for n in np.frombuffer(data, "<u4", 4, 8))
        if n_ctx != N_CTX:
            raise SystemExit(f"{path} is for windows of {n_ctx}")
        at = 24 + 8 * n_windows
        return cls(np.frombuffer(data, "<i4", n_tokens, at).tolist(), bos - 1 if bos else None,
                   np.frombuffer(data, "<f8", n_windows, 24).tolist(), np.frombuffer(data, "<u4", -1, at + 4 * n_tokens))


def compute(path, step):
    """The reference for a GGUF file; windows left out have a nll of None and no packed part."""
    import reference_model

    g = reference_model.Gguf(path)
    encode, bos = reference_model.load_tokenizer(g)
    with open(TEXT, encoding="utf-8", newline="") as f:
        ids = encode(f.read())
    model = reference_model.load_model(g)
    nll, packed = [], []
    windows = windows_of(ids)
    for i, window in enumerate(windows):
        done = run_window(model, window, bos) if i % step == 0 else (None, None)
        nll.append(done[0])
        packed.append(done[1])
        if sys.stderr.isatty():
            print(f"\r{os.path.basename(path)}: window {i + 1} of {len(windows)}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return ids, bos, nll, packed


def compare(name, old, new):
    ids, bos, nll, packed = new
    if ids != old.ids or bos != old.bos:
        print(f"{name}: the ids differ from the committed ones")
        return False
    worst, differ, at = 0.0, 0, 0
    for i, window in enumerate(windows_of(ids)):
        n = len(window) - (bos is None)
        if nll[i] is not None:
            worst = float(np.maximum(worst, abs(nll[i] - old.nll[i]) / n))  # NaN stays, unlike with Python's max
            before = old.packed[at : at + n]
            clear = (before >> 18) > 2  # below two thousandths the order of a sum may decide
            differ += int(((before ^ packed[i]) & 0x3FFFF)[clear].astype(bool).sum())
        at += n
    print(f"{name}: {len(ids)} tokens, {old.n_predicted} predicted, perplexity {old.ppl:.5f}; "
          f"largest difference of a window's mean log-likelihood {worst:.1e}, {differ} greedy ids differ")
    return worst < 1e-4 and differ == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--models", default=models_folder())
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--only", choices=MODELS)
    options = parser.parse_args()
    same = True
    for name in [options.only] if options.only else MODELS:
        new = compute(os.path.join(options.models, name + ".gguf"), 1 if options.write else options.step)
        path = os.path.join(REFERENCE, name + ".bin")
        if options.write:
            os.makedirs(REFERENCE, exist_ok=True)
            with open(path, "wb") as f:
                f.write(Reference(new[0], new[1], new[2], np.concatenate(new[3])).pack())
        same &= compare(name, Reference.read(path), new)
    if not same:
        raise SystemExit("the reference perplexities differ")


if __name__ == "__main__":
    main()
