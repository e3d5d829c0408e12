"""A GGUF file as a transformers model in float32, and its tokenizer from the embedded vocabulary: nothing of MLXR in it.

Only the `gguf` package (which reads the file and decodes the weights), `transformers`, `tokenizers` and `sentencepiece`
are used. Families: llama and gemma3, which is what the real models here are.
"""
import numpy as np


def permuted_rows_back(values, heads):
    """GGUF keeps Llama's Q and K rows as adjacent RoPE pairs; transformers wants halves."""
    d = values.shape[0] // heads
    v = values.reshape(heads, d // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(np.swapaxes(v, 1, 2)).reshape(values.shape)


class Gguf:
    def __init__(self, path):
        from gguf import GGUFReader

        self.reader = GGUFReader(path)
        self.arch = self.meta("general.architecture")

    def meta(self, key, default=None):
        field = self.reader.fields.get(key)
        return default if field is None else field.contents()

    def arch_meta(self, suffix, default=None):
        return self.meta(f"{self.arch}.{suffix}", default)

    def tensors(self):
        """name, float32 values in [out][in] order"""
        from gguf import dequantize

        for t in self.reader.tensors:
            shape = [int(n) for n in reversed(t.shape)]
            yield t.name, np.ascontiguousarray(dequantize(t.data, t.tensor_type).reshape(shape), dtype=np.float32)


LLAMA_NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
               "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
               "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
GEMMA_NAMES = dict(LLAMA_NAMES, ffn_norm="pre_feedforward_layernorm", post_attention_norm="post_attention_layernorm",
                   post_ffw_norm="post_feedforward_layernorm", attn_q_norm="self_attn.q_norm",
                   attn_k_norm="self_attn.k_norm")


def model_config(g):
    import transformers

    heads, embd = g.arch_meta("attention.head_count"), g.arch_meta("embedding_length")
    common = dict(vocab_size=len(g.meta("tokenizer.ggml.tokens")), hidden_size=embd,
                  intermediate_size=g.arch_meta("feed_forward_length"), num_hidden_layers=g.arch_meta("block_count"),
                  num_attention_heads=heads, num_key_value_heads=g.arch_meta("attention.head_count_kv"),
                  head_dim=g.arch_meta("attention.key_length", embd // heads),
                  max_position_embeddings=g.arch_meta("context_length"),
                  rms_norm_eps=g.arch_meta("attention.layer_norm_rms_epsilon"),
                  tie_word_embeddings=all(t.name != "output.weight" for t in g.reader.tensors),
                  bos_token_id=None, eos_token_id=None, pad_token_id=None)
    theta = g.arch_meta("rope.freq_base")
    if g.arch_meta("rope.scaling.type") is not None:
        raise SystemExit("this reference knows no RoPE scaling")
    if g.arch == "llama":
        return transformers.LlamaConfig(rope_parameters={"rope_type": "default", "rope_theta": theta}, **common)
    if g.arch == "gemma3":
        layers = ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(common["num_hidden_layers"])]
        rope = {"full_attention": {"rope_type": "default", "rope_theta": theta},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
        return transformers.Gemma3TextConfig(sliding_window=g.arch_meta("attention.sliding_window"), layer_types=layers,
                                             rope_parameters=rope, query_pre_attn_scalar=common["head_dim"], **common)
    raise SystemExit(f"this reference knows no family {g.arch}")


def load_model(g):
    """float32, eager attention"""
    import torch
    import transformers

    config = model_config(g)
    config._attn_implementation = "eager"
    model = (transformers.LlamaForCausalLM if g.arch == "llama" else transformers.Gemma3ForCausalLM)(config).eval()
    names = LLAMA_NAMES if g.arch == "llama" else GEMMA_NAMES
    state = {}
    for name, values in g.tensors():
        if g.arch == "llama" and ".attn_q." in name:
            values = permuted_rows_back(values, config.num_attention_heads)
        elif g.arch == "llama" and ".attn_k." in name:
            values = permuted_rows_back(values, config.num_key_value_heads)
        elif g.arch == "gemma3" and name.endswith("norm.weight"):
            values = values - np.float32(1)
        if name.startswith("blk."):
            _, layer, kind, end = name.split(".")
            hf = f"model.layers.{layer}.{names[kind]}.{end}"
        else:
            hf = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
                  "output.weight": "lm_head.weight"}[name]
        state[hf] = torch.from_numpy(values)
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [n for n in missing if not (config.tie_word_embeddings and n == "lm_head.weight")]
    if missing or unexpected:
        raise SystemExit(f"transformers misses {missing} and does not know {unexpected}")
    model.tie_weights()
    return model


def load_tokenizer(g):
    """A function from text to ids, without special tokens, and the id of BOS where one is added, else None."""
    tokens, types = g.meta("tokenizer.ggml.tokens"), g.meta("tokenizer.ggml.token_type")
    bos = g.meta("tokenizer.ggml.bos_token_id") if g.meta("tokenizer.ggml.add_bos_token") else None
    kind, pre = g.meta("tokenizer.ggml.model"), g.meta("tokenizer.ggml.pre")
    if kind == "gpt2" and pre == "smollm":
        from tokenizers import Tokenizer, models, pre_tokenizers

        merges = [tuple(m.split(" ")) for m in g.meta("tokenizer.ggml.merges")]
        tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
        return lambda text: tokenizer.encode(text).ids, bos
    if kind == "llama":
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2 as pb

        piece = pb.ModelProto.SentencePiece
        kinds = {1: piece.NORMAL, 2: piece.UNKNOWN, 3: piece.CONTROL, 4: piece.USER_DEFINED, 5: piece.UNUSED, 6: piece.BYTE}
        proto = pb.ModelProto()
        for text, score, type_ in zip(tokens, g.meta("tokenizer.ggml.scores"), types):
            if type_ == 4:
                text = text.replace(" ", "\u2581")
            proto.pieces.add(piece=text, score=score, type=kinds[2 if text == "<unk>" else type_])
        proto.trainer_spec.model_type = pb.TrainerSpec.BPE
        proto.trainer_spec.byte_fallback = True
        proto.trainer_spec.unk_id = tokens.index("<unk>")
        proto.normalizer_spec.name = "identity"
        proto.normalizer_spec.add_dummy_prefix = bool(g.meta("tokenizer.ggml.add_space_prefix", True))
        proto.normalizer_spec.remove_extra_whitespaces = False
        processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        return processor.encode, bos
    raise SystemExit(f"this reference knows no tokenizer {kind}/{pre}")
