#!/usr/bin/env python3
"""Reference logits of a GGUF model on a text: transformers in float32 on the decoded weights, nothing of MLXR in it.

    reference_logits.py MODEL.gguf TEXT --mlxr REF [--llama BASE] [--windows N] [--ctx N] [--skip N]

REF is what `mlxr perplexity MODEL --file TEXT --kld REF` reads (with the same --windows, --ctx and --skip;
cli/reference_logits.h describes it), BASE what llama.cpp and its forks read with --kl-divergence-base: the same
distributions at the same positions, so that all are measured against one reference. Prints its perplexity as JSON.

BASE, native byte order: "_logits_"; i32 n_ctx, n_vocab, n_chunks; i32 ids[n_chunks][n_ctx]; then for each predicted
position a row: f32 scale, f32 least, u16 q[n_vocab], a further u16 if n_vocab is odd; a log-probability is
least + scale × q, and what is 16 nats below the greatest, or farther, is the least. Those programs put BOS, where a
model has one, in place of the first id of a chunk (so a chunk here is BOS and a window), look at the predictions of
positions from n_ctx / 2 on only, and at whole chunks: --llama asks for that --skip and for --windows.
"""
import argparse
import json
import os
import sys

import numpy as np

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

MLXR_DEPTH = 32.0
LLAMA_DEPTH = 16.0


class MlxrFile:
    """cli/reference_logits.h, version 1."""

    def __init__(self, path, n_vocab, n_window, bos, ids, n_skip):
        import xxhash

        self.hash = lambda data: np.uint64(xxhash.xxh3_64_intdigest(data)).tobytes()
        self.file = open(path, "wb")
        self.shape = np.array([1, n_vocab, n_window], "<u4").tobytes() + np.int32(-1 if bos is None else bos).tobytes()
        self.ids, self.n_skip, self.n_rows = np.array(ids, "<i4"), n_skip, 0
        self.file.write(bytes(64))  # the head comes last

    def put(self, log_probs):
        """log_probs: float64 [n_vocab]"""
        greatest = np.float32(log_probs.max())
        below = (float(greatest) - log_probs) * (65535.0 / MLXR_DEPTH)
        row = greatest.tobytes() + np.clip(np.rint(below), 0, 65535).astype("<u2").tobytes()
        self.file.write(row + self.hash(row))
        self.n_rows += 1

    def close(self):
        head = (b"MLXRREF\n" + self.shape + np.array([len(self.ids), self.n_rows], "<u8").tobytes()
                + self.hash(self.ids.tobytes()) + np.array([self.n_skip, 0], "<u4").tobytes())
        self.file.seek(0)
        self.file.write(head + self.hash(head))
        self.file.close()


class LlamaFile:
    def __init__(self, path, n_vocab, n_window, bos, ids, n_skip):
        n_ctx = n_window + (bos is not None)
        if n_skip != n_ctx // 2 or len(ids) % n_window:
            raise SystemExit(f"--llama needs --skip {n_ctx // 2} and whole windows (--windows)")
        chunks = np.array(ids, np.int32).reshape(-1, n_window)
        if bos is not None:
            chunks = np.insert(chunks, 0, bos, axis=1)
        self.file = open(path, "wb")
        self.file.write(b"_logits_" + np.array([n_ctx, n_vocab, len(chunks)], np.int32).tobytes() + chunks.tobytes())
        self.padding = bytes(2 * (n_vocab % 2))

    def put(self, log_probs):
        greatest = log_probs.max()
        least = max(log_probs.min(), greatest - LLAMA_DEPTH)
        scale = np.float32((greatest - least) / 65535)
        q = np.clip(np.rint((log_probs - least) / max(float(scale), 1e-30)), 0, 65535).astype(np.uint16)
        self.file.write(np.array([scale, least], np.float32).tobytes() + q.tobytes() + self.padding)

    def close(self):
        self.file.close()


def predictions(model, tokens, n_skip):
    """Yields the position's log-probabilities [n_vocab] in float64 and the id that follows, for positions from n_skip on."""
    import torch

    with torch.no_grad():
        ids = torch.tensor(tokens)
        hidden = model.model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
        for at in range(n_skip, len(tokens) - 1, 64):  # few rows at a time: a vocabulary may have 262k entries
            end = min(at + 64, len(tokens) - 1)
            rows = torch.log_softmax(model.lm_head(hidden[at:end]).double(), -1).numpy()
            for i, row in enumerate(rows):
                yield row, tokens[at + i + 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--mlxr", metavar="REF")
    parser.add_argument("--llama", metavar="BASE")
    parser.add_argument("--windows", type=int, help="the first so many [all]")
    parser.add_argument("--ctx", type=int, default=512, help="tokens of the text in a window [512]")
    parser.add_argument("--skip", type=int, default=0, help="positions of a window whose predictions are left out [0]")
    options = parser.parse_args()
    import reference_model

    g = reference_model.Gguf(options.model)
    encode, bos = reference_model.load_tokenizer(g)
    with open(options.text, encoding="utf-8", newline="") as file:
        ids = encode(file.read())
    if options.windows:
        if len(ids) < options.windows * options.ctx:
            raise SystemExit(f"{options.text} has {len(ids)} tokens, fewer than {options.windows} windows of {options.ctx}")
        ids = ids[: options.windows * options.ctx]
    model = reference_model.load_model(g)
    n_vocab = len(g.meta("tokenizer.ggml.tokens"))
    files = [kind(path, n_vocab, options.ctx, bos, ids, options.skip)
             for kind, path in ((MlxrFile, options.mlxr), (LlamaFile, options.llama)) if path]
    surprise, n_predicted = 0.0, 0
    for at in range(0, len(ids), options.ctx):
        window = ids[at : at + options.ctx]
        if len(window) < 2:
            break
        for row, following in predictions(model, ([] if bos is None else [bos]) + window, options.skip):
            surprise -= float(row[following])
            n_predicted += 1
            for file in files:
                file.put(row)
    for file in files:
        file.close()
    print(json.dumps({"ppl": float(np.exp(surprise / n_predicted)), "n_tokens": len(ids), "n_predicted": n_predicted}))


if __name__ == "__main__":
    main()
