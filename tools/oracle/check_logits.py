#!/usr/bin/env python3
"""Regenerates the reference logits of the tiny models with transformers and compares them with the committed ones.

    check_logits.py              compare; exit 1 on a difference
    check_logits.py --write      write tests/oracle/logits/*.bin anew
    check_logits.py --models DIR where write_tiny_models put its files (else it is run into a temporary folder)

For each model, three routes must lead to the same logits: our generator in Python with a configuration made here; the
GGUF file the C code writes, read with the `gguf` package; the safetensors folder the C code writes, loaded by
transformers itself with its config.json. Weights are compared bit by bit, logits with NMSE (Σ(a−b)² ÷ Σb²).

A .bin file: "MLXRLOG1", then little-endian u32 n_tokens, n_vocab, stride, kind (0); i32 ids[n_tokens]; then for each position
p the f32 logits of the ids v with v % stride == p % stride, in order.
"""
import argparse
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOGITS = os.path.join(ROOT, "tests", "oracle", "logits")
N_TOKENS = 160
STRIDE = 5
TOLERANCE = 1e-10
MAGIC = b"MLXRLOG1"


def nmse(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(((a - b) ** 2).sum() / (b**2).sum())


def pack(ids, logits, kind=0):
    """kind: what the rows are (families.KINDS)"""
    n_tokens, n_vocab = logits.shape
    stride = 1 if n_vocab % STRIDE else STRIDE
    rows = [logits[p, p % stride :: stride].astype("<f4") for p in range(n_tokens)]
    return (MAGIC + np.array([n_tokens, n_vocab, stride, kind], "<u4").tobytes() + ids.astype("<i4").tobytes()
            + np.concatenate(rows).tobytes())


def is_packed(data):
    return data.startswith(MAGIC)


def kept(data):
    """ids and kept logits of a .bin file"""
    n_tokens, _, _, _ = np.frombuffer(data, "<u4", 4, 8)
    return np.frombuffer(data, "<i4", n_tokens, 24), np.frombuffer(data, "<f4", -1, 24 + 4 * n_tokens)


def read_gguf(path):
    from gguf import GGUFReader

    return {t.name: np.array(t.data) for t in GGUFReader(path).tensors}


def check_gguf(m, path):
    """The file holds the generator's weights, in GGUF's layout."""
    ours, theirs = tiny.tensors(m), read_gguf(path)
    if m.rope["rope_type"] == "llama3":
        divisors = theirs.pop("rope_freqs.weight")
        if not np.allclose(divisors, tiny.llama3_divisors(m), rtol=1e-6, atol=0):
            raise SystemExit(f"{m.name}: rope_freqs.weight differs")
    if set(ours) != set(theirs):
        raise SystemExit(f"{m.name}: tensors differ: {sorted(set(ours) ^ set(theirs))}")
    for name, (_, values) in ours.items():
        expected = values + np.float32(1) if m.gemma and name.endswith("norm.weight") else values
        found = theirs[name] if m.gemma else tiny.from_gguf_layout(m, name, theirs[name])
        if found.shape != expected.shape or not np.array_equal(found.view(np.uint32), expected.view(np.uint32)):
            raise SystemExit(f"{m.name}: {name} differs between {path} and tiny.py")


def safetensors_logits(m, folder, ids):
    """What transformers makes of the folder by itself."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    state = model.state_dict()
    for name, values in tiny.tensors(m).values():
        if not np.array_equal(state[name].numpy().view(np.uint32), values.view(np.uint32)):
            raise SystemExit(f"{m.name}: {name} differs between {folder} and tiny.py")
    return tiny.logits(model.double(), ids)


def check_tokenizers(m, folder):
    """tokenizer.json loads, has every id once, and gives back what it tokenised."""
    from tokenizers import Tokenizer

    t = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    if t.get_vocab_size() != tiny.N_VOCAB:
        raise SystemExit(f"{m.name}: tokenizer.json has {t.get_vocab_size()} tokens, not {tiny.N_VOCAB}")
    text = "the rain in the inn, and\tto 中文 of (it) = {42}!"
    if t.decode(t.encode(text).ids) != text:
        raise SystemExit(f"{m.name}: tokenizer.json does not round-trip: {t.decode(t.encode(text).ids)!r}")


def write_models(folder):
    found = [p for p in glob.glob(os.path.join(ROOT, "build", "**", "write_tiny_models"), recursive=True)
             if os.access(p, os.X_OK) and os.path.isfile(p)]
    if not found:
        raise SystemExit("build/**/write_tiny_models is missing; run `make oracle`, which builds it")
    subprocess.run([max(found, key=os.path.getmtime), folder], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--models")
    options = parser.parse_args()
    temporary = None
    if not options.models:
        temporary = tempfile.TemporaryDirectory()
        options.models = temporary.name
        write_models(options.models)
    failed = False
    print(f"{'model':16} {'logit σ':>8} {'safetensors':>12} {'committed':>12}")
    for m in tiny.MODELS:
        ids = tiny.prompt(m, N_TOKENS)
        check_gguf(m, os.path.join(options.models, m.name + ".gguf"))
        check_tokenizers(m, os.path.join(options.models, m.name))
        logits = tiny.logits(tiny.build(m), ids)
        folder = nmse(safetensors_logits(m, os.path.join(options.models, m.name), ids), logits)
        data = pack(ids, logits)
        path = os.path.join(LOGITS, m.name + ".bin")
        if options.write:
            os.makedirs(LOGITS, exist_ok=True)
            with open(path, "wb") as f:
                f.write(data)
        with open(path, "rb") as f:
            old_ids, old = kept(f.read())
        committed = nmse(old, kept(data)[1]) if np.array_equal(old_ids, ids) else float("inf")
        failed |= not (folder < TOLERANCE and committed < TOLERANCE)
        print(f"{m.name:16} {logits.std():8.3f} {folder:12.2e} {committed:12.2e}")
    if failed:
        raise SystemExit(f"the reference logits differ (NMSE above {TOLERANCE:g})")


if __name__ == "__main__":
    main()
