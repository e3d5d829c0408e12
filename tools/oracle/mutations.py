#!/usr/bin/env python3
"""Shows that the reference logits would notice: each small mistake, made in transformers, and the NMSE it causes.

    mutations.py        prints a Markdown table for docs/oracle.md; exit 1 if a mistake stays below 1e-8

A mistake that this table did not notice would be one that tests/oracle/test_logits.c (limit 1e-9) cannot find either.
"""
import copy
import os
import sys

import numpy as np

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_logits  # noqa: E402
import tiny  # noqa: E402

NOTICED = 1e-8


def config_mutations(m):
    """name, changed model"""
    def changed(**fields):
        other = copy.deepcopy(m)
        for key, value in fields.items():
            setattr(other, key, value)
        return other

    yield "epsilon × 1.5", changed(eps=m.eps * 1.5)
    yield "θ × 1.05", changed(theta=m.theta * 1.05)
    if m.window:
        yield "window + 1", changed(window=m.window + 1)
        yield "window − 1", changed(window=m.window - 1)
    if m.window_every:
        yield "local θ × 1.05", changed(theta_local=m.theta_local * 1.05)
        yield "full layers one later", changed(window_every=m.window_every + 1)
        yield "q·k scaled by the other head size", changed(query_scalar=(m.query_scalar or m.head_dim) + 1)
    for key, value in m.rope.items():
        if key != "rope_type":
            yield f"{key} × 1.5", changed(rope=dict(m.rope, **{key: type(value)(value * 1.5)}))
    if m.rope["rope_type"] == "yarn" and "attention_factor" not in m.rope:
        yield "no YaRN magnitude", changed(rope=dict(m.rope, attention_factor=1.0))
    if m.rope["rope_type"] != "default":
        yield "no RoPE scaling", changed(rope={"rope_type": "default"})


def weight_mutations(m):
    """name, changed weights"""
    weights = dict(tiny.tensors(m).values())

    def replaced(part, value):
        return {n: np.full_like(v, value) if part in n else v for n, v in weights.items()}

    biases = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    for name in biases:
        if f"model.layers.0.{'mlp' if 'gate' in name or 'up' in name or 'down' in name else 'self_attn'}.{name}.bias" in weights:
            yield f"no {name} bias", replaced(f"{name}.bias", 0)
    for part in ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
                 "q_norm", "k_norm", "model.norm"):
        if any(part in n for n in weights):
            yield f"{part} of ones", replaced(part, 0 if m.gemma else 1)
    yield "Q and K rows in pairs", {n: tiny.unpermute(v, m.heads if "q_proj" in n else m.kv_heads)
                                    if "q_proj" in n or "k_proj" in n else v for n, v in weights.items()}


def module_mutations(m):
    """name, a function that changes a built model"""
    import torch

    class Exact(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.gelu(x)

    def no_scale(model):
        model.model.embed_tokens.embed_scale.fill_(1)

    def exact_gelu(model):
        for layer in model.model.layers:
            layer.mlp.act_fn = Exact()

    if m.gemma:
        yield "no embedding scale", no_scale
        yield "GELU by erf, not tanh", exact_gelu


def main():
    missed = 0
    print("| mistake | " + " | ".join(("smallest NMSE", "model")) + " |\n|---|---|---|")
    found = {}
    for m in tiny.MODELS:
        ids = tiny.prompt(m, check_logits.N_TOKENS)
        expected = tiny.logits(tiny.build(m), ids)
        mutants = [(name, tiny.build(other, dict(tiny.tensors(m).values()))) for name, other in config_mutations(m)]
        mutants += [(name, tiny.build(m, weights)) for name, weights in weight_mutations(m)]
        for name, change in module_mutations(m):
            mutants.append((name, tiny.build(m)))
            change(mutants[-1][1])
        for name, model in mutants:
            nmse = check_logits.nmse(tiny.logits(model, ids), expected)
            found.setdefault(name, []).append((nmse, m.name))
    for name, results in found.items():
        nmse, model = min(results)
        missed += nmse < NOTICED
        print(f"| {name} | {nmse:.0e} | {model} |")
    if missed:
        raise SystemExit(f"{missed} mistakes would go unnoticed")


if __name__ == "__main__":
    main()
