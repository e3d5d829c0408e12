"""Contexts beyond the trained one (tests/oracle/contexts): a family of families.py whose RoPE is stretched by options.

What MLXR does by options transformers does by the configuration: each case has what the options are, and what has to stand
in rope_parameters for the same frequencies. Where a linear scaling goes upon another one transformers has no name for it:
there the reference is given positions that are divided.
"""
import json
import math
import os
import tempfile

import numpy as np

import families
import tiny

LONG = 300  # tokens; more than the 256 positions the families' models are "trained" for


def case(family, scaling, rope=None, *, scale=0, base=0, original=0, ctx=0, tokens=families.N_TOKENS, divide=1, turns=()):
    """rope: what changes in rope_parameters of full attention, None takes a key out; divide: positions, by this; turns: YaRN's
    betas, fast and slow, and what its factor of attention is multiplied with"""
    return dict(family=family, scaling=scaling, rope=rope or {}, scale=scale, base=base, original=original, ctx=ctx, tokens=tokens,
                divide=divide, turns=turns)


def yarn(factor, original, **more):
    return dict(rope_type="yarn", factor=float(factor), original_max_position_embeddings=original, **more)


def ntk(theta, factor, n_rot):
    """The static equation; bloc97 2023"""
    return dict(rope_type="default", rope_theta=theta * factor ** (n_rot / (n_rot - 2)))


CASES = {
    # texts that are longer than what the model's file says
    "long-linear": case("internlm3", "linear", dict(rope_type="linear", factor=2.0), ctx=512, tokens=LONG),
    "long-yarn": case("internlm3", "yarn", yarn(2, 256), ctx=512, tokens=LONG),
    # dynamic NTK of a factor 1 at its end: theta × (300 ÷ 256)^(d ÷ (d − 2))
    "long-ntk": case("internlm3", "ntk", dict(rope_type="dynamic", factor=1.0), ctx=LONG, tokens=LONG),
    "long-none": case("internlm3", "none", ctx=LONG, tokens=LONG),
    "long-base": case("internlm3", "file", dict(rope_theta=2e5), base=2e5, ctx=LONG, tokens=LONG),
    # an original context that options name
    "original-linear": case("qwen3moe", "linear", dict(rope_type="linear", factor=3.0), scale=3, original=32),
    "original-yarn": case("qwen3moe", "yarn", yarn(4, 32), original=32, ctx=128),
    "original-ntk": case("qwen3moe", "ntk", ntk(1e6, 4, 32), original=32, ctx=128),
    "base-yarn": case("qwen3moe", "yarn", yarn(4, 32, rope_theta=5e4), original=32, ctx=128, base=5e4),
    # parts of heads, pairs beside each other, sections, heads that share a latent row
    "partial-yarn": case("stablelm", "yarn", yarn(4, 32), original=32, ctx=128),
    "partial-pairs-ntk": case("glm4", "ntk", None, original=32, ctx=128),
    "sections-yarn": case("qwen2vl", "yarn", yarn(4, 32), original=32, ctx=128),
    "beside-mixers-ntk": case("falcon-h1", "ntk", None, original=32, ctx=128),
    # only layers that see everything: those with windows have RoPE of their own
    "local-yarn": case("olmo3", "yarn", yarn(8, 40, beta_fast=4.0, beta_slow=1.0), scale=2),
    "local-encoder-linear": case("modernbert", "linear", dict(rope_type="linear", factor=4.0), scale=4),
    "local-encoder-yarn": case("modernbert", "yarn", yarn(4, 32), original=32, ctx=128),
    "proportional-linear": case("gemma4", "linear", dict(factor=4.0), scale=4),
    # a scaling of the file that goes on: its factor 4 becomes 8
    "continued-yarn": case("arcee", "yarn", yarn(8, 40, beta_fast=4.0, beta_slow=1.0), ctx=512),
    "continued-windows": case("gpt-oss", "yarn", dict(factor=8.0), scale=2),
    "continued-latent": case("deepseek3", "yarn", dict(factor=8.0), scale=2),
    "continued-temperature": case("ministral3", "yarn", dict(factor=8.0), scale=2),
    # YaRN's own numbers
    "turns-yarn": case("qwen3moe", "yarn", yarn(4, 32, beta_fast=3.0, beta_slow=0.5, attention_factor=1.25 * (0.1 * math.log(4) + 1)),
                       original=32, ctx=128, turns=(3, 0.5, 1.25)),
    "turns-continued": case("arcee", "yarn", yarn(8, 40, beta_fast=6.0, beta_slow=1.0), ctx=512, turns=(6, 0, 0)),
    # a file whose context is the one that its YaRN counts from: it reads four times as far by itself, and F goes on from there
    "within-plain": case("arcee-within", "file", ctx=512, tokens=LONG),
    "within-yarn": case("arcee-within", "yarn", yarn(8, 256, beta_fast=4.0, beta_slow=1.0), ctx=2048, tokens=LONG),
    "within-none": case("arcee-within", "none", dict(rope_type="default", factor=None), ctx=512, tokens=LONG),
    # one that is taken away, or replaced
    "away-yarn": case("arcee", "none", dict(rope_type="default", factor=None), ctx=256),
    "away-latent": case("deepseek3", "none", dict(rope_type="default", factor=None, mscale=None, mscale_all_dim=None), ctx=256),
    "replaced-linear": case("arcee", "linear", dict(rope_type="linear", factor=4.0), original=64, ctx=256),
    "replaced-llama3": case("exaone", "yarn", yarn(4, 32, low_freq_factor=None, high_freq_factor=None), original=32, ctx=128),
    # linear upon another one
    "upon-longrope": case("phi3-longrope", "linear", scale=2, divide=2),
    "upon-llama3": case("exaone", "linear", scale=2, divide=2),
    "upon-yarn": case("arcee", "linear", scale=2, divide=2),
}


def change(config, c):
    text = config.get("text_config", config)
    rope = text["rope_parameters"]
    rope = rope.get("full_attention", rope)
    new = dict(c["rope"])
    if c["scaling"] == "ntk" and not new:
        head = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
        new = ntk(rope["rope_theta"], c["ctx"] / c["original"], int(head * rope.get("partial_rotary_factor", 1)))
    rope.update(new)
    for key in [key for key, value in rope.items() if value is None]:
        del rope[key]


def reference(folder, ids, c):
    """families.reference, at divided positions"""
    if c["divide"] == 1:
        return families.reference(folder, ids, c["family"])
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval().double()
    positions = torch.arange(len(ids))[None].double() / c["divide"]
    ids = torch.tensor(ids[None].astype(np.int64))
    with torch.no_grad():  # without the mask it would take positions that do not count up by 1 for several texts
        return model(input_ids=ids, position_ids=positions, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].numpy()


def make(name):
    """(options' line, ids, logits)"""
    c = CASES[name]
    first = 0 if families.auto_class(c["family"]) in families.CAUSAL else 2
    bits = tiny.stream_bits(tiny.stream_key(families.seed(c["family"]), "context"), c["tokens"])
    ids = (bits % np.uint64(tiny.N_VOCAB - first) + np.uint64(first)).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        families.write_folder(c["family"], folder)
        path = os.path.join(folder, "config.json")
        with open(path) as f:
            config = json.load(f)
        change(config, c)
        with open(path, "w") as f:
            json.dump(config, f)
        logits = reference(folder, ids, c)
    line = f"{c['family']} {c['scaling']} {c['scale']:g} {c['base']:g} {c['original']} {c['ctx']}{''.join(f' {x:g}' for x in c['turns'])}\n"
    return line, ids, logits
