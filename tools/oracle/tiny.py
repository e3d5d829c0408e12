"""Tiny random models: the same table and generator as tests/support/tiny_model.c, in numpy, for transformers.

Weight i of the tensor with GGUF name n in the model with seed s (see tests/support/tiny_model.h):
    key = mix(s ^ fnv1a64(n)); bits = mix(key + (i + 1) * 0x9e3779b97f4a7c15)
    u = (bits >> 40) * 2**-23 - 1; weight = base + scale * u        (float32)
"""
import math
from dataclasses import dataclass, field

import numpy as np

N_VOCAB = 320
N_CTX = 256
GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


@dataclass
class Tiny:
    name: str
    kind: str  # config class: llama, mistral, qwen2, qwen3, gemma3
    seed: int
    layers: int
    embd: int
    heads: int
    kv_heads: int
    head_dim: int
    ff: int
    eps: float
    theta: float
    tied: bool = False
    qkv_bias: bool = False
    other_bias: bool = False
    window: int = 0
    window_every: int = 0
    theta_local: float = 0
    query_scalar: float = 0
    rope: dict = field(default_factory=lambda: {"rope_type": "default"})

    @property
    def gemma(self):
        return self.kind == "gemma3"

    @property
    def qk_norm(self):
        return self.kind in ("gemma3", "qwen3")


MODELS = [
    Tiny("llama", "llama", 101, 4, 64, 4, 2, 16, 160, 1e-2, 10000),
    Tiny("llama-wide", "llama", 102, 2, 256, 4, 2, 64, 512, 1e-3, 10000, tied=True),
    Tiny("llama-linear", "llama", 103, 3, 64, 4, 4, 16, 96, 2e-3, 10000, qkv_bias=True, other_bias=True,
         rope={"rope_type": "linear", "factor": 4.0}),
    Tiny("llama3", "llama", 104, 3, 96, 3, 1, 32, 192, 1e-3, 5000, tied=True,
         rope={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}),
    Tiny("llama-yarn", "llama", 105, 3, 64, 2, 1, 32, 128, 1e-3, 10000,
         rope={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 48, "beta_fast": 2.0,
               "beta_slow": 0.7, "attention_factor": 1.25}),
    Tiny("mistral", "mistral", 106, 4, 96, 4, 2, 32, 160, 1e-3, 10000, window=24),
    Tiny("qwen2", "qwen2", 107, 4, 64, 4, 2, 16, 176, 3e-3, 1000000, tied=True, qkv_bias=True),
    Tiny("qwen2-yarn", "qwen2", 108, 3, 64, 2, 2, 32, 128, 1e-3, 1000000, qkv_bias=True,
         rope={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 34}),
    Tiny("qwen3", "qwen3", 109, 4, 64, 4, 2, 32, 160, 2e-3, 1000000),
    Tiny("gemma3", "gemma3", 110, 8, 64, 4, 1, 32, 128, 5e-3, 1000000, tied=True, window=16, window_every=6,
         theta_local=10000, rope={"rope_type": "linear", "factor": 8.0}),
    Tiny("gemma3-pattern", "gemma3", 111, 6, 64, 4, 2, 32, 96, 1e-3, 100000, tied=True, window=20, window_every=3,
         theta_local=2000, query_scalar=24),
]


def mix_int(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def stream_key(seed, name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return mix_int(seed ^ h)


def stream_bits(key, n):
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def random_tensor(seed, name, shape, base, scale):
    bits = stream_bits(stream_key(seed, name), int(np.prod(shape)))
    u = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return (np.float32(base) + np.float32(scale) * u).reshape(shape)


def prompt(model, n):
    return (stream_bits(stream_key(model.seed, "tokens"), n) % np.uint64(N_VOCAB)).astype(np.int32)


def tensors(m):
    """GGUF name → (Hugging Face name, values in Hugging Face's layout)."""
    out = {}

    def matrix(gguf, hf, n_in, n_out, gain):
        scale = np.float32(gain) * np.sqrt(np.float32(3) / np.float32(n_in))
        out[gguf] = (hf, random_tensor(m.seed, gguf, (n_out, n_in), 0, scale))

    def norm(gguf, hf, n, base=1.0):
        out[gguf] = (hf, random_tensor(m.seed, gguf, (n,), base - 1 if m.gemma else base, 0.5))

    def bias(gguf, hf, n):
        out[gguf] = (hf, random_tensor(m.seed, gguf, (n,), 0.125, 0.75))

    out["token_embd.weight"] = ("model.embed_tokens.weight", random_tensor(
        m.seed, "token_embd.weight", (N_VOCAB, m.embd), 0, 0.21875 if m.gemma else 0.5))
    norm("output_norm.weight", "model.norm.weight", m.embd)
    if not m.tied:
        matrix("output.weight", "lm_head.weight", m.embd, N_VOCAB, 2)
    n_q, n_kv = m.heads * m.head_dim, m.kv_heads * m.head_dim
    for i in range(m.layers):
        g, h = f"blk.{i}.", f"model.layers.{i}."
        norm(g + "attn_norm.weight", h + "input_layernorm.weight", m.embd)
        for letter, rows in (("q", n_q), ("k", n_kv), ("v", n_kv)):
            matrix(f"{g}attn_{letter}.weight", f"{h}self_attn.{letter}_proj.weight", m.embd, rows,
                   1.0 if letter == "v" else 1.6)
            if m.qkv_bias:
                bias(f"{g}attn_{letter}.bias", f"{h}self_attn.{letter}_proj.bias", rows)
        matrix(g + "attn_output.weight", h + "self_attn.o_proj.weight", n_q, m.embd, 1.5)
        if m.other_bias:
            bias(g + "attn_output.bias", h + "self_attn.o_proj.bias", m.embd)
        if m.qk_norm:
            norm(g + "attn_q_norm.weight", h + "self_attn.q_norm.weight", m.head_dim, 1.5)
            norm(g + "attn_k_norm.weight", h + "self_attn.k_norm.weight", m.head_dim, 1.5)
        if m.gemma:
            norm(g + "post_attention_norm.weight", h + "post_attention_layernorm.weight", m.embd)
            norm(g + "ffn_norm.weight", h + "pre_feedforward_layernorm.weight", m.embd)
            norm(g + "post_ffw_norm.weight", h + "post_feedforward_layernorm.weight", m.embd)
        else:
            norm(g + "ffn_norm.weight", h + "post_attention_layernorm.weight", m.embd)
        for name, n_in, n_out, gain in (("gate", m.embd, m.ff, 1.5), ("up", m.embd, m.ff, 1), ("down", m.ff, m.embd, 1)):
            matrix(f"{g}ffn_{name}.weight", f"{h}mlp.{name}_proj.weight", n_in, n_out, gain)
            if m.other_bias:
                bias(f"{g}ffn_{name}.bias", f"{h}mlp.{name}_proj.bias", n_out)
    return out


def config(m):
    """The transformers configuration, from the table above and not from any file."""
    import transformers

    common = dict(vocab_size=N_VOCAB, hidden_size=m.embd, intermediate_size=m.ff, num_hidden_layers=m.layers,
                  num_attention_heads=m.heads, num_key_value_heads=m.kv_heads, head_dim=m.head_dim,
                  max_position_embeddings=N_CTX, rms_norm_eps=float(np.float32(m.eps)), tie_word_embeddings=m.tied,
                  bos_token_id=None, eos_token_id=None, pad_token_id=None)
    rope = dict(m.rope, rope_theta=float(m.theta))
    if m.kind == "llama":
        return transformers.LlamaConfig(attention_bias=m.qkv_bias, mlp_bias=m.other_bias, rope_parameters=rope, **common)
    if m.kind == "mistral":
        return transformers.MistralConfig(sliding_window=m.window, rope_parameters=rope, **common)
    if m.kind == "qwen2":
        return transformers.Qwen2Config(use_sliding_window=False, rope_parameters=rope, **common)
    if m.kind == "qwen3":
        return transformers.Qwen3Config(rope_parameters=rope, **common)
    types = ["full_attention" if (i + 1) % m.window_every == 0 else "sliding_attention" for i in range(m.layers)]
    both = {"full_attention": rope, "sliding_attention": {"rope_type": "default", "rope_theta": float(m.theta_local)}}
    return transformers.Gemma3TextConfig(sliding_window=m.window, layer_types=types, rope_parameters=both,
                                         query_pre_attn_scalar=m.query_scalar or m.head_dim, **common)


def build(m, state=None, cfg=None):
    """A transformers model in float64 with the given (Hugging Face name → array) or the generated weights."""
    import torch
    import transformers

    cfg = cfg or config(m)
    cfg._attn_implementation = "eager"
    classes = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
               "qwen3": "Qwen3ForCausalLM", "gemma3": "Gemma3ForCausalLM"}
    model = getattr(transformers, classes[m.kind])(cfg).eval()
    state = state or dict(tensors(m).values())
    state = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in state.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not (m.tied and name == "lm_head.weight")]
    if missing or unexpected:
        raise SystemExit(f"{m.name}: transformers misses {missing} and does not know {unexpected}")
    model.tie_weights()
    return model.double()


def logits(model, ids):
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor(np.asarray(ids)[None].astype(np.int64)), use_cache=False).logits[0].numpy()


def from_gguf_layout(m, gguf_name, values):
    """Undoes what GGUF files do to a tensor: adjacent-pair rows of Llama's Q and K, 1 + w of Gemma's norms."""
    if m.kind in ("llama", "mistral") and (".attn_q." in gguf_name or ".attn_k." in gguf_name):
        return unpermute(values, m.heads if ".attn_q." in gguf_name else m.kv_heads)
    if m.gemma and gguf_name.endswith("norm.weight"):
        return values - np.float32(1)
    return values


def unpermute(values, heads):
    """Rows of each head from adjacent pairs (0, d/2, 1, d/2+1, …) back to halves."""
    d = values.shape[0] // heads
    v = values.reshape(heads, d // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(np.swapaxes(v, 1, 2)).reshape(values.shape)


def llama3_divisors(m):
    """rope_freqs.weight as the usual conversion to GGUF makes it (in double precision here)."""
    r = m.rope
    out = []
    for i in range(m.head_dim // 2):
        wavelength = 2 * math.pi * m.theta ** (2 * i / m.head_dim)
        low = r["original_max_position_embeddings"] / r["low_freq_factor"]
        high = r["original_max_position_embeddings"] / r["high_freq_factor"]
        smooth = (r["original_max_position_embeddings"] / wavelength - r["low_freq_factor"]) / (
            r["high_freq_factor"] - r["low_freq_factor"])
        out.append(1 if wavelength < high else r["factor"] if wavelength > low else 1 / ((1 - smooth) / r["factor"] + smooth))
    return np.array(out, np.float32)
