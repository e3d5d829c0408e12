"""What the tensors of the tiny families are drawn from: a seed by the family's name, a base and a scale by a tensor's name.

Values follow from (seed, name, index), see tiny.py. They are spread so that no bias is zero, no norm is one and few positions
get most of the attention. Python's standard library is enough: tests/tools/test_oracle_listings.py asks, in each run of the
tests, whether the listings in tests/oracle/families are what this makes. What is changed here for a new family must leave those
of the others as they are, or they have to be written anew (check_families.py --write).
"""
import math
import struct

GAINS = {"query": 1.6, "key": 1.6, "q_proj": 1.6, "k_proj": 1.6, "qkv_proj": 1.4, "o_proj": 1.5, "gate_proj": 1.5, "gate_up_proj": 1.3,
         "lm_head": 2.0, "score": 2.0, "out_proj": 2.0}
INPUTS_FIRST = ("gpt_oss", "qwen3_vl_moe", "llama4_text")  # stacks of experts are stored the other way


def f32(x):
    """x, rounded to float32"""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def seed(name):
    return 1000 + sum(name.encode()) * 31 % 9000


def spread(model_type, name, shape):
    """(base, scale) of a tensor's values, both float32, by what its name says it is"""
    last = name.split(".")[-2] if name.endswith((".weight", ".bias")) else name.split(".")[-1]
    gemma, gemma4 = model_type.startswith("gemma"), model_type.startswith("gemma4")
    if ".act_fn." in name:  # xIELU's
        return tuple(map(f32, {"beta": (0.5, 0.2), "eps": (-0.02, 0.01)}.get(last, (0.3, 0.6))))
    if last in ("layer_scalar", "scale", "per_expert_scale"):
        return 1.0, 0.5
    if "norm" in last.lower() and name.endswith("weight"):
        turned = last[:2] in ("q_", "k_")
        return (0.5 if turned else 0.0) + (0.0 if gemma and not gemma4 or gemma4 and turned else 1.0), 0.5
    if "sinks" in name:
        return 0.5, 1.5
    if last in ("router", "gate") and name.endswith("bias") or "correction_bias" in name or last == "expert_bias":
        return 0.0, f32(0.4)
    if last == "A_log":
        return -2.5, 1.5  # a state that lasts
    if name.endswith("bias") or len(shape) == 1:
        return 0.125, 0.75
    if "experts" in name and "bias" in name:
        return 0.125, 0.75
    if "embed" in name:
        return 0.0, 0.21875 if gemma else 0.5
    n_in = shape[-2] if len(shape) == 3 and model_type in INPUTS_FIRST else shape[-1]
    return 0.0, f32(f32(GAINS.get(last, 1.0)) * unit(n_in))


def unit(n_in):
    """The scale that keeps the spread of a product with n_in inputs, in steps of float32: NumPy's answer, bit by bit"""
    return f32(math.sqrt(f32(3 / n_in)))


def line(name, shape, base, scale):
    return f"{name} {base:.9g} {scale:.9g} {' '.join(map(str, shape))}"
