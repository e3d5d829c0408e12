"""Quantised safetensors: small checkpoints in every layout that MLXR reads, and what their own programs make of them.

    check_checkpoints.py            compares with what is committed in tests/data/checkpoints
    check_checkpoints.py --write    writes it anew

MLX packs and unpacks MLX's, bitsandbytes its NF4, transformers gpt-oss's MXFP4; GPTQ's, AWQ's and FP8's layouts are written out
here with torch, from the formats' definitions. Each folder has a config.json, a model.safetensors with a few matrices, and
expected.txt: GGUF's name of each, the type of MLXR's blocks, and a hash (FNV-1a, 64 bits) of the weights as float32.
"""
import json
import os
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file, save_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "tests", "data", "checkpoints")
MASK = (1 << 64) - 1
Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.0.mlp.down_proj"
OURS = {Q: "blk.0.attn_q.weight", DOWN: "blk.0.ffn_down.weight"}
SHAPES = {Q: (64, 64), DOWN: (64, 192)}
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 192,
          "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 32,
          "tie_word_embeddings": True}


def fnv(values):
    h = 0xCBF29CE484222325
    for byte in (np.ascontiguousarray(values, np.float32) + np.float32(0)).tobytes():  # no -0
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def weights(name):
    """Random, with a group whose weights all lie on one side and one of zeros."""
    rows, columns = SHAPES[name]
    generator = torch.Generator().manual_seed(len(name))
    w = torch.randn(rows, columns, generator=generator) * 0.05
    w[0, :64] = w[0, :64].abs() + 0.1
    w[1, :64] = 0
    return w


# ---- GPTQ, AWQ ----

def affine(w, group, symmetric, dtype):
    """q in 0…15, scales and zero points of each group: [groups, rows] as both formats keep them."""
    rows, columns = w.shape
    g = w.reshape(rows, columns // group, group)
    if symmetric:
        scale = (g.abs().amax(-1) / 7).clamp(min=1e-4).to(dtype)
        zero = torch.full_like(scale, 8, dtype=torch.int32)
    else:
        low, high = g.amin(-1).clamp(max=0), g.amax(-1).clamp(min=0)
        scale = ((high - low) / 15).clamp(min=1e-4).to(dtype)
        zero = (-low / scale.float()).round().clamp(1, 15).to(torch.int32)
    q = (g / scale.float()[..., None] + zero[..., None]).round().clamp(0, 15).to(torch.int32).reshape(rows, columns)
    return q, scale.T.contiguous(), zero.T.contiguous()


def pack_words(values, order=range(8)):
    """Eight numbers of the last dimension in an int32; place i holds order[i]."""
    parts = values.to(torch.int64).reshape(*values.shape[:-1], -1, 8)
    words = sum(parts[..., j] << 4 * i for i, j in enumerate(order))
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def gptq(name, group, symmetric, dtype=torch.float16, order=None, v2=False):
    w = weights(name)
    if order is not None:
        w = w[:, order]  # groups are made of inputs in this order
    q, scales, zeros = affine(w, group, symmetric, dtype)
    g_idx = torch.arange(w.shape[1], dtype=torch.int32) // group
    if order is not None:
        back = torch.argsort(order)
        q, g_idx = q[:, back], g_idx[back].to(torch.int32)
    tensors = {name + ".qweight": pack_words(q).T.contiguous(), name + ".qzeros": pack_words(zeros - (0 if v2 else 1)),
               name + ".scales": scales, name + ".g_idx": g_idx}
    exact = scales.float()[g_idx.long()].T * (q - zeros[g_idx.long()].T).float()
    return tensors, exact.half().float() if order is not None else exact


def awq(name, group, dtype=torch.float16):
    q, scales, zeros = affine(weights(name), group, False, dtype)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    tensors = {name + ".qweight": pack_words(q.T.contiguous(), order), name + ".qzeros": pack_words(zeros, order),
               name + ".scales": scales}
    exact = scales.float().repeat_interleave(group, 0).T * (q - zeros.repeat_interleave(group, 0).T).float()
    return tensors, exact


# ---- MLX ----

def mlx(name, bits, group, dtype, mode="affine"):
    import mlx.core as mx
    w = mx.array(weights(name).numpy()).astype(getattr(mx, dtype))
    parts = mx.quantize(w, group_size=group, bits=bits, mode=mode)
    floats = [p if p.dtype == mx.uint8 else p.astype(mx.float32) for p in parts[1:]]
    exact = mx.dequantize(parts[0], *floats, group_size=group, bits=bits, mode=mode).astype(mx.float32)
    tensors = {}
    for part, end in zip(parts, (".weight", ".scales", ".biases")):
        if part.dtype in (mx.uint32, mx.uint8):
            tensors[name + end] = torch.from_numpy(np.array(part))
        else:
            tensors[name + end] = torch.from_numpy(np.array(part.astype(mx.float32))).to(getattr(torch, dtype))
    return tensors, torch.from_numpy(np.array(exact))


# ---- bitsandbytes ----

def nf4(name, nested, block=64):
    import bitsandbytes.functional as F
    packed, state = F.quantize_4bit(weights(name), blocksize=block, compress_statistics=nested, quant_type="nf4")
    tensors = {name + ".weight": packed}
    for key, value in state.as_dict(packed=True).items():
        tensors[name + ".weight." + key] = value
    # bitsandbytes' own, in float32: the table's entry times the block's scale
    scales = state.absmax
    if nested:
        scales = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
    nibbles = torch.stack((packed.flatten() >> 4, packed.flatten() & 15), -1).flatten().long()
    exact = (state.code[nibbles] * scales.float().repeat_interleave(block)).reshape(SHAPES[name])
    theirs = F.dequantize_4bit(packed, state)
    assert torch.allclose(theirs.float(), exact, rtol=1e-6, atol=0), (theirs.float() - exact).abs().max()
    return tensors, exact


# ---- FP8 ----

def fp8(name, dtype, scheme, scale_name, block=(32, 64), scale_dtype=torch.float32):
    w = weights(name)
    rows, columns = w.shape
    top = torch.finfo(dtype).max
    if scheme == "tensor":
        b = (rows, columns)
    elif scheme == "channel":
        b = (1, columns)
    else:
        b = block
    g = w.reshape(rows // b[0], b[0], columns // b[1], b[1])
    scale = (g.abs().amax((1, 3)) / top).clamp(min=1e-8).to(scale_dtype)
    q = (g / scale.float()[:, None, :, None]).to(dtype)
    exact = (q.float() * scale.float()[:, None, :, None]).reshape(rows, columns)
    scale = scale.reshape(()) if scheme == "tensor" else scale
    return {name + ".weight": q.reshape(rows, columns), name + scale_name: scale.contiguous(),
            name + ".input_scale": torch.ones(())}, exact


# ---- gpt-oss ----

def gpt_oss():
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    generator = torch.Generator().manual_seed(7)
    tensors, expected = {}, {}
    for name, rows, n_in, ours in (("gate_up_proj", 64, 96, "ffn_gate_up_exps"), ("down_proj", 96, 32, "ffn_down_exps")):
        blocks = torch.randint(0, 256, (3, rows, n_in // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(110, 130, (3, rows, n_in // 32), generator=generator, dtype=torch.uint8)
        stem = "model.layers.0.mlp.experts." + name
        tensors[stem + "_blocks"], tensors[stem + "_scales"] = blocks, scales
        w = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).transpose(1, 2)  # [experts, rows, n_in]
        if name == "gate_up_proj":
            w = torch.cat((w[:, ::2], w[:, 1::2]), 1)
        expected["blk.0.%s.weight" % ours] = ("MXFP4", w)
    config = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_size": 96, "intermediate_size": 32,
              "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 32,
              "num_local_experts": 3, "num_experts_per_tok": 1, "tie_word_embeddings": True,
              "quantization_config": {"quant_method": "mxfp4"}}
    return config, tensors, expected


def cases():
    def of(quant, make, type_name, key="quantization_config"):
        tensors, expected = {}, {}
        for name in (Q, DOWN):
            parts, exact = make(name)
            tensors.update(parts)
            expected[OURS[name]] = (type_name, exact)
        return dict(CONFIG, **{key: quant}), tensors, expected

    def order(name):
        return torch.randperm(SHAPES[name][1], generator=torch.Generator().manual_seed(3))

    def gptq_config(group, **more):
        return dict({"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": False, "sym": True}, **more)

    bf16 = torch.bfloat16
    yield "gptq-symmetric", of(gptq_config(32), lambda n: gptq(n, 32, True), "Q4_0")
    yield "gptq", of(gptq_config(64, sym=False), lambda n: gptq(n, 64, False), "ZERO4")
    yield "gptq-v2", of(gptq_config(64, checkpoint_format="gptq_v2"), lambda n: gptq(n, 64, False, v2=True), "ZERO4")
    yield "gptq-bf16", of(gptq_config(32), lambda n: gptq(n, 32, True, bf16), "AFFINE4")
    yield "gptq-bf16-zeros", of(gptq_config(32), lambda n: gptq(n, 32, False, bf16), "AFFINE8")
    yield "gptq-row", of(gptq_config(-1), lambda n: gptq(n, SHAPES[n][1], True), "Q4_0")
    yield "gptq-ordered", of(gptq_config(32, desc_act=True), lambda n: gptq(n, 32, False, order=order(n)), "F16")
    yield "awq", of({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": True},
                    lambda n: awq(n, 64), "ZERO4")
    for bits, dtype, group, ours in ((2, "float16", 64, "Q4_1"), (3, "bfloat16", 32, "AFFINE4"), (4, "float16", 64, "Q4_1"),
                                     (4, "bfloat16", 64, "AFFINE4"), (5, "float16", 32, "Q5_1"),
                                     (6, "bfloat16", 64, "AFFINE8"), (8, "float16", 64, "AFFINE8")):
        yield "mlx-%d-%s" % (bits, dtype), of({"group_size": group, "bits": bits},
                                              lambda n, b=bits, d=dtype, g=group: mlx(n, b, g, d), ours, "quantization")
    yield "mlx-mxfp4", of({"group_size": 32, "bits": 4, "mode": "mxfp4"},
                          lambda n: mlx(n, 4, 32, "bfloat16", "mxfp4"), "MXFP4", "quantization")
    bnb = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    yield "bnb-nf4", of(bnb, lambda n: nf4(n, False), "NF4")
    yield "bnb-nf4-nested", of(bnb, lambda n: nf4(n, True), "NF4")
    e4m3, e5m2 = torch.float8_e4m3fn, torch.float8_e5m2
    compressed = {"quant_method": "compressed-tensors", "format": "float-quantized",
                  "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "tensor"}}}}
    yield "compressed-tensor", of(compressed, lambda n: fp8(n, e4m3, "tensor", ".weight_scale"), "FP8_E4M3")
    yield "compressed-channel", of(compressed, lambda n: fp8(n, e4m3, "channel", ".weight_scale", scale_dtype=bf16), "FP8_E4M3")
    yield "fp8-e5m2", of({"quant_method": "fp8"}, lambda n: fp8(n, e5m2, "tensor", ".weight_scale_inv"), "FP8_E5M2")
    yield "fp8-blocks", of({"quant_method": "fp8", "weight_block_size": [32, 64]},
                           lambda n: fp8(n, e4m3, "block", ".weight_scale_inv"), "FP8_E4M3")
    yield "gpt-oss-mxfp4", gpt_oss()


def lines_of(expected):
    return "".join("%s %s %016x\n" % (name, kind, fnv(w.numpy())) for name, (kind, w) in sorted(expected.items()))


def main():
    write, failures, n = "--write" in sys.argv, 0, 0
    for name, (config, tensors, expected) in cases():
        folder = os.path.join(OUT, name)
        n += 1
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        if write:
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, "config.json"), "w") as file:
                json.dump(config, file, indent=1)
                file.write("\n")
            save_file(tensors, os.path.join(folder, "model.safetensors"))
            with open(os.path.join(folder, "expected.txt"), "w") as file:
                file.write(lines_of(expected))
            continue
        committed = load_file(os.path.join(folder, "model.safetensors"))
        with open(os.path.join(folder, "expected.txt")) as file:
            same = file.read() == lines_of(expected)
        for key, value in tensors.items():
            same = same and torch.equal(committed[key].reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))
        if not same:
            failures += 1
            print("%s: not what is committed" % name)
    print("check_checkpoints: %d checkpoints, %d differ" % (n, failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
