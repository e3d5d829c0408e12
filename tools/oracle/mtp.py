"""What a head for multi-token prediction gives, from its equations (DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", 2.2).

With e the embeddings of the tokens and h the hidden states of the model, the head joins what stands behind token p − 1 with
token p, and one decoder layer, here transformers' own of the family, makes of all rows up to p what predicts token p + 1:

    x[p] = M · [norm(e[p]) ; norm(h[p − 1])]      g[p] = layer(x[1 … p])[p]      logits = output · norm(g[p])

Behind a token that it has itself proposed the head goes on with g in the place of h. h and g are what the last layer leaves
in DeepSeek's and GLM's models; in Qwen's they have gone through the last norm (of the model, of the head), as their own
implementation in vLLM has it.
"""
import copy
import json
import os
import tempfile

import numpy as np

APART = 7  # positions behind which the head goes on by itself
QWEN = {"fc": "eh_proj", "pre_fc_norm_embedding": "enorm", "pre_fc_norm_hidden": "hnorm", "norm": "shared_head.norm"}


def is_qwen(cfg):
    return cfg.model_type.startswith("qwen")


def shapes(cfg, trunk, n_layers=1):
    """{name: shape} of the head's tensors beside those of the model: its layers are as the last one with attention"""
    n, template = cfg.num_hidden_layers, 0
    for key in trunk:
        if ".self_attn." in key:
            template = max(template, int(key.split(".")[2]))
    stem = f"model.layers.{template}."
    layer = "mtp.layers.0." if is_qwen(cfg) else f"model.layers.{n}."
    out = {layer + key[len(stem):]: shape for key, shape in trunk.items() if key.startswith(stem)}
    width = cfg.hidden_size
    own = {"eh_proj": (width, 2 * width), "enorm": (width,), "hnorm": (width,), "shared_head.norm": (width,)}
    if cfg.model_type == "deepseek_v3":
        own |= {"shared_head.head": (cfg.vocab_size, width), "embed_tokens": (cfg.vocab_size, width)}
    theirs = {ours: name for name, ours in QWEN.items()}
    for ours, shape in own.items():
        out[(f"mtp.{theirs[ours]}" if is_qwen(cfg) else layer + ours) + ".weight"] = shape
    for i in range(1, n_layers):
        further = f"mtp.layers.{i}." if is_qwen(cfg) else f"model.layers.{n + i}."
        out |= {further + key.removeprefix(layer): shape for key, shape in out.items() if key.startswith(layer)}
    return out


def load(folder, cfg):
    """A model of one layer more, which is the head's, and the head's other tensors by DeepSeek's names"""
    import torch
    import transformers
    from safetensors.torch import load_file, save_file

    n, state, own = cfg.num_hidden_layers, {}, {}
    for key, value in load_file(os.path.join(folder, "model.safetensors")).items():
        layer = key.removeprefix("mtp.layers." if is_qwen(cfg) else "model.layers.").split(".")[0]
        if layer.isdigit() and int(layer) > (0 if key.startswith("mtp.") else n):
            continue  # of a further layer, which is not used
        part = key.removeprefix("mtp.").removeprefix(f"model.layers.{n}.")
        stem = part.removesuffix(".weight")
        if key.startswith("mtp.layers.0."):
            state[f"model.layers.{n}." + part.removeprefix("layers.0.")] = value
        elif part != key and stem in (QWEN if is_qwen(cfg) else ("eh_proj", "enorm", "hnorm", "shared_head.norm",
                                                                 "shared_head.head", "embed_tokens")):
            own[QWEN.get(stem, stem)] = value.double()
        else:
            state[key] = value
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    config["num_hidden_layers"] += 1
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"] + ["full_attention"]
    if "mlp_layer_types" in config:
        config["mlp_layer_types"] = config["mlp_layer_types"] + [config["mlp_layer_types"][-1]]
    with tempfile.TemporaryDirectory() as longer:
        save_file(state, os.path.join(longer, "model.safetensors"), metadata={"format": "pt"})
        with open(os.path.join(longer, "config.json"), "w") as f:
            json.dump(config, f)
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            longer, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager",
            output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        raise SystemExit(f"the head's layer is not what transformers has: {info}")
    return model.eval().double(), own


def reference(folder, cfg, ids):
    """(logits [n][n_vocab] of the head at each token, those of the row behind some of them, which has g and the next
    token); zeros where there is nothing"""
    import torch

    model, own = load(folder, cfg)
    body, layer = model.model, model.model.layers[cfg.num_hidden_layers]
    seen = {}

    def remember(module, args, kwargs):
        seen["hidden"] = args[0] if args else kwargs["hidden_states"]
        seen["kwargs"] = {key: value for key, value in kwargs.items() if key != "hidden_states"}

    def normed(name, x):
        norm = copy.deepcopy(body.norm)
        norm.weight = torch.nn.Parameter(own[name])
        return norm(x)

    def run(x):
        """The head's layer over rows [n, width], in the surroundings that the model gives it"""
        model(ids[:, : len(x)], use_cache=False)
        out = layer(x[None], **seen["kwargs"])
        return (out[0] if isinstance(out, tuple) else out)[0]

    ids = torch.tensor(ids[None].astype(np.int64))
    n, qwen, head = ids.shape[1], is_qwen(cfg), own.get("shared_head.head", model.lm_head.weight)
    layer.register_forward_pre_hook(remember, with_kwargs=True)
    with torch.no_grad():
        model(ids, use_cache=False)
        h = seen["hidden"][0]
        h = body.norm(h) if qwen else h
        embedding = own.get("embed_tokens", body.embed_tokens.weight)
        e = normed("enorm", embedding[ids[0]])

        def join(e, h):
            return torch.cat([e, normed("hnorm", h)], -1) @ own["eh_proj"].T

        x = join(e[1:], h[:-1])
        g = run(x)
        handed = normed("shared_head.norm", g) if qwen else g
        first = torch.zeros(n, head.shape[0], dtype=torch.float64)
        first[1:] = normed("shared_head.norm", g) @ head.T
        second = torch.zeros_like(first)
        for p in range(1, n - 1, APART):
            rows = torch.cat([x[:p], join(e[p + 1 : p + 2], handed[p - 1 : p])])
            second[p] = normed("shared_head.norm", run(rows)[-1:])[0] @ head.T
    return first.numpy(), second.numpy()
