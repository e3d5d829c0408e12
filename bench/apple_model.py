#!/usr/bin/env python3
"""What decoding should reach on Apple's processors: the tables of docs/apple.md.

    bench/apple_model.py            prints them
    bench/apple_model.py --write    puts them into docs/apple.md

Nothing here was measured by us. A token reads every weight but the embedding's and the keys and values of CONTEXT
positions, at STREAM of the memory's bandwidth, and each layer costs some time more (launches, waiting, unpacking), which
grows with the model's width: published figures of small and large models on one generation leave the same time for a
layer and column. The median of a generation is taken. One sequence, no speculation.
"""
import os
import statistics
import sys

STREAM = 0.85  # of the nominal bandwidth, which the best published figures come to
CONTEXT = 128  # positions, as in llama-bench's tg128; F16
BEGIN, END = "<!-- printed by bench/apple_model.py -->", "<!-- end of what it printed -->"

# Apple's nominal figures, GB/s.
CHIPS = {
    "M1": 68, "M1 Pro": 200, "M1 Max": 400, "M1 Ultra": 800,
    "M2": 100, "M2 Pro": 200, "M2 Max": 400, "M2 Ultra": 800,
    "M3": 100, "M3 Pro": 150, "M3 Max": 400, "M3 Ultra": 819,
    "M4": 120, "M4 Pro": 273, "M4 Max": 546, "M5": 153,
}  # fmt: skip

# Layers, width, width of keys, width of the MLP, vocabulary, width of queries; whether the output has a matrix of its own.
MODELS = {
    "TinyLlama-1.1B": (22, 2048, 256, 5632, 32000, 2048, True),
    "Llama-3-8B": (32, 4096, 1024, 14336, 128256, 4096, True),
    "Mistral-7B": (32, 4096, 1024, 14336, 32000, 4096, True),
    "Qwen3-4B": (36, 2560, 1024, 9728, 151936, 4096, False),
}

# Bytes of a weight. MLX's groups of 64 have a scale and a bias of 16 bits.
BYTES = {"Q4_0": 18 / 32, "Q4_K": 144 / 256, "Q6_K": 210 / 256, "Q8_0": 34 / 32, "F16": 2,
         "MLX 4-bit": 4.5 / 8, "MLX 8-bit": 8.5 / 8, "BF16": 2}  # fmt: skip
FORMATS = ["Q4_0", "Q4_K_M", "Q8_0", "F16"]

# Decoding speeds that these projects and their users published, tokens/s. Of two of one machine the older is not used.
PUBLISHED = [
    ("M1", "Llama-3-8B", "Q4_K_M", "llama.cpp", 10.2),
    ("M1 Max", "Llama-3-8B", "Q4_K_M", "llama.cpp, 2024", 35.7),
    ("M1 Max", "Llama-3-8B", "Q4_K_M", "llama.cpp, 2026", 46.2),
    ("M1 Ultra", "TinyLlama-1.1B", "Q4_K_M", "llama.cpp", 243),
    ("M2 Ultra", "Llama-3-8B", "Q4_K_M", "llama.cpp", 78.8),
    ("M2 Ultra", "Llama-3-8B", "F16", "llama.cpp", 36.9),
    ("M3 Max", "Llama-3-8B", "Q4_K_M", "llama.cpp", 50.7),
    ("M4", "Llama-3-8B", "Q4_K_M", "llama.cpp", 20.9),
    ("M4 Max", "Qwen3-4B", "BF16", "MLX", 52.5),
    ("M4 Max", "Qwen3-4B", "MLX 8-bit", "MLX", 86.9),
    ("M4 Max", "Qwen3-4B", "MLX 4-bit", "MLX", 134.5),
    ("M5", "TinyLlama-1.1B", "Q4_0", "llama.cpp", 149.7),
    ("M5", "Mistral-7B", "Q4_0", "llama.cpp", 26.6),
]


def more_bits(layer, n_layers):
    """Q4_K_M keeps values and the MLP's last matrix of these layers in Q6_K."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def matrices(model, file_format):
    """[(weights, type)] that a token is multiplied with."""
    n_layers, width, width_kv, width_mlp, n_vocab, width_q, _ = MODELS[model]
    mixed = file_format == "Q4_K_M"
    usual = "Q4_K" if mixed else file_format
    result = []
    for layer in range(n_layers):
        better = "Q6_K" if mixed and more_bits(layer, n_layers) else usual
        result += [(2 * width * width_q + width * width_kv, usual), (width * width_kv, better)]
        result += [(2 * width * width_mlp, usual), (width * width_mlp, better)]
    return result + [(n_vocab * width, "Q6_K" if file_format in ("Q4_0", "Q4_K_M") else usual)]


def file_bytes(model, file_format):
    """The matrices of a file, the embedding's among them: to compare with files."""
    n_vocab, width, own = MODELS[model][4], MODELS[model][1], MODELS[model][6]
    embedding = n_vocab * width * BYTES["Q4_K" if file_format == "Q4_K_M" else file_format] if own else 0
    return sum(n * BYTES[t] for n, t in matrices(model, file_format)) + embedding


def token_bytes(model, file_format):
    n_layers, _, width_kv = MODELS[model][:3]
    return sum(n * BYTES[t] for n, t in matrices(model, file_format)) + CONTEXT * n_layers * 2 * width_kv * 2


def bound(chip, model, file_format):
    """Tokens/s at the nominal bandwidth, which nothing can pass."""
    return CHIPS[chip] * 1e9 / token_bytes(model, file_format)


def layer_costs():
    """{generation: seconds a layer costs for each column, beside its bytes}"""
    left = {}
    for chip, model, file_format, engine, speed in PUBLISHED:
        if "2024" in engine:
            continue
        n_layers, width = MODELS[model][:2]
        seconds = 1 / speed - 1 / (STREAM * bound(chip, model, file_format))
        left.setdefault(chip.split()[0], []).append(max(seconds, 0) / (n_layers * width))
    return {generation: statistics.median(costs) for generation, costs in left.items()}


def expected(chip, model, file_format, costs):
    n_layers, width = MODELS[model][:2]
    cost = costs[chip.split()[0]] * n_layers * width
    return 1 / (1 / (STREAM * bound(chip, model, file_format)) + cost)


def show(speed):
    return f"{speed:.1f}" if speed < 20 else f"{speed:.0f}"


def tables():
    costs = layer_costs()
    models = ["TinyLlama-1.1B", "Llama-3-8B"]
    yield "| GB a token | " + " | ".join(FORMATS) + " |"
    yield "|---|" + "---|" * len(FORMATS)
    for model in models:
        yield f"| {model} | " + " | ".join(f"{token_bytes(model, f) / 1e9:.2f}" for f in FORMATS) + " |"
    for model in models:
        yield ""
        yield f"{model}, tokens/s expected (and the bound of the bandwidth):"
        yield ""
        yield "| chip | GB/s | " + " | ".join(FORMATS) + " |"
        yield "|---|---|" + "---|" * len(FORMATS)
        for chip, bandwidth in CHIPS.items():
            cells = (f"{show(expected(chip, model, f, costs))} ({show(bound(chip, model, f))})" for f in FORMATS)
            yield f"| {chip} | {bandwidth} | " + " | ".join(cells) + " |"
    yield ""
    yield "Published by others, beside the model:"
    yield ""
    yield "| chip | model | format | engine | published | of the bandwidth | model |"
    yield "|---|---|---|---|---|---|---|"
    for chip, model, file_format, engine, speed in PUBLISHED:
        share = speed / bound(chip, model, file_format)
        told = show(expected(chip, model, file_format, costs))
        yield f"| {chip} | {model} | {file_format} | {engine} | {speed} | {share:.0%} | {told} |"
    yield ""
    told = ", ".join(f"{generation} {cost * 1e9:.0f}" for generation, cost in costs.items())
    yield f"Time of a layer beside its bytes, from these, in ns for each column: {told}."


def main(arguments):
    text = "\n".join(tables())
    if arguments != ["--write"]:
        print(text)
        return 0
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs", "apple.md")
    with open(path, encoding="utf-8") as file:
        document = file.read()
    before, rest = document.split(BEGIN)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
